package pecgateway

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
)

const (
	batchMessages = 32      // messages of one fetch and one transaction
	batchBytes    = 4 << 20 // after so many bytes the batch is recorded although it is not full
	stuckTimes    = 3       // a message that cuts the connection so often is left behind, and told
)

// overIMAP reads all folders, waits for news and reads again.
func (v *visit) overIMAP(ctx context.Context, address, password string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	c, err := imap.Dial(ctx, v.s.dialer, address, v.s.tlsFor(host), v.s.cfg.Timeout)
	if err != nil {
		return err
	}
	defer c.Close()
	err = c.Login(v.box.Username, password)
	if err != nil {
		return err
	}
	for {
		err = v.sync(ctx, c)
		if err != nil {
			return err
		}
		err = v.good(ctx)
		if err != nil {
			return err
		}
		if !v.stay() {
			return c.Logout()
		}
		err = v.await(ctx, c)
		if err != nil {
			return err
		}
	}
}

// await waits for announcements in the INBOX, no longer than the pause between two looks: a connection
// that died in silence is found out then. spec: RFC2177 §3
func (v *visit) await(ctx context.Context, c *imap.Client) error {
	if c.Has("IDLE") {
		_, err := c.Idle(ctx, min(v.s.cfg.PollEvery, v.s.cfg.IdleFor))
		return err
	}
	timer := time.NewTimer(v.s.cfg.PollEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// skipped are uses of folders that show messages of other folders again, or are not sent yet.
var skipped = []string{`\All`, `\Flagged`, `\Drafts`}

// sync reads what is new in every folder; the INBOX comes last, so that it stays open for waiting.
func (v *visit) sync(ctx context.Context, c *imap.Client) error {
	list, err := c.List()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(f imap.Folder) bool { return slices.ContainsFunc(skipped, f.Is) })
	slices.SortStableFunc(list, func(a, b imap.Folder) int { return inboxLast(a) - inboxLast(b) })
	status := make([]imap.Status, len(list))
	total := int64(0)
	for i, f := range list {
		status[i], err = c.Status(f.Name)
		if imap.Refused(err) {
			v.s.log.WarnContext(ctx, "a folder is refused", "mailbox", v.box.ID, "folder", f.Shown, "error", err)
			continue // it may have gone in between
		}
		if err != nil {
			return err
		}
		total += status[i].Messages
	}
	if v.box.SyncEndTime == nil {
		err = v.foundSoMany(ctx, total)
		if err != nil {
			return err
		}
	}
	for i, f := range list {
		err = v.syncFolder(ctx, c, f, status[i])
		if imap.Refused(err) {
			v.s.log.WarnContext(ctx, "a folder is not read", "mailbox", v.box.ID, "folder", f.Shown, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return v.quota(ctx, c)
}

func inboxLast(f imap.Folder) int {
	if f.Name == "INBOX" {
		return 1
	}
	return 0
}

// foundSoMany begins the first reading of everything, or goes on with it.
func (v *visit) foundSoMany(ctx context.Context, total int64) error {
	return v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).RecordSync(ctx, db.RecordSyncParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, Total: total, Now: pg.Time(v.s.now())})
	})
}

// syncFolder reads a folder from where it was left. Another UIDVALIDITY means that all numbers are new:
// everything is read again, and what is known by its bytes is not received twice. spec: RFC3501 §2.3.1.1
func (v *visit) syncFolder(ctx context.Context, c *imap.Client, f imap.Folder, st imap.Status) error {
	next, err := v.cursor(ctx, f.Name, st.UIDValidity)
	if err != nil {
		return err
	}
	inbox := f.Name == "INBOX"
	unchanged := st.UIDNext != 0 && st.UIDNext <= next || st.Messages == 0 && st.UIDNext == 0
	if unchanged && !inbox {
		return nil
	}
	opened, err := c.Examine(f.Name)
	if err != nil {
		return err
	}
	if opened.UIDValidity != st.UIDValidity { // changed in between
		next, err = v.cursor(ctx, f.Name, opened.UIDValidity)
		if err != nil {
			return err
		}
	}
	at := place{folder: f.Name, shown: f.Shown, validity: opened.UIDValidity, sent: f.Is(`\Sent`)}
	if opened.UIDNext != 0 && opened.UIDNext <= next {
		return nil
	}
	uids, err := c.Search(next)
	if err != nil {
		return err
	}
	size := batchMessages
	if v.box.Failures > 0 {
		size = 1 // something went wrong: find out at which message
	}
	for batch := range slices.Chunk(uids, size) {
		err = v.fetch(ctx, c, at, batch)
		if err != nil {
			return err
		}
	}
	return nil
}

// cursor is the first number that was not read yet.
func (v *visit) cursor(ctx context.Context, folder string, validity uint32) (uint32, error) {
	next := uint32(1)
	err := v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).GetFolder(ctx, db.GetFolderParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Name: folder})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err == nil && row.UidValidity == int64(validity) {
			next = uint32(row.NextUid)
		}
		return err
	})
	return next, err
}

// fetch takes some messages in and moves the cursor behind them. Numbers that are gone by now bring
// nothing and are passed.
func (v *visit) fetch(ctx context.Context, c *imap.Client, at place, uids []uint32) error {
	first := uids[0]
	if len(uids) == 1 && v.s.stuck.left(v.box.ID, at, first) {
		err := v.leaveBehind(ctx, at, first)
		if err != nil {
			return err
		}
		return v.move(ctx, at, first+1)
	}
	items, size := []*found{}, int64(0)
	defer func() {
		for _, f := range items {
			f.sp.close()
		}
	}()
	flush := func() error {
		err := v.receive(ctx, at, items)
		for _, f := range items {
			f.sp.close()
		}
		items, size = items[:0], 0
		return err
	}
	var last *spool
	var inner error
	err := c.Fetch(uids, func(_ int64, r io.Reader) error {
		last.close()
		last, inner = newSpool(r)
		return inner
	}, func(m imap.Message) error {
		items = append(items, &found{uid: strconv.FormatUint(uint64(m.UID), 10), date: m.Date, sp: last})
		size += last.size
		last = nil
		if size < batchBytes {
			return nil
		}
		inner = flush()
		return inner
	})
	last.close()
	if err != nil && ctx.Err() == nil && inner == nil && !imap.Refused(err) {
		v.s.stuck.count(v.box.ID, at, first, len(uids))
	}
	if imap.Refused(err) && len(uids) > 1 { // one of them is odd: each alone
		for i := range uids {
			err = v.fetch(ctx, c, at, uids[i:i+1])
			if err != nil {
				return err
			}
		}
		return nil
	}
	if imap.Refused(err) {
		err = v.leaveBehind(ctx, at, first)
	}
	if err != nil {
		return err
	}
	err = flush()
	if err != nil {
		return err
	}
	return v.move(ctx, at, uids[len(uids)-1]+1)
}

// leaveBehind tells that a message cannot be fetched: the mailbox goes on without it.
func (v *visit) leaveBehind(ctx context.Context, at place, uid uint32) error {
	v.s.log.ErrorContext(ctx, "a message cannot be fetched and is left behind", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "folder", at.shown, "uid", uid)
	return v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return v.tell(ctx, tx, "MESSAGE_UNFETCHABLE", "the provider does not hand out message "+strconv.FormatUint(uint64(uid), 10)+" of folder "+at.shown)
	})
}

func (v *visit) move(ctx context.Context, at place, next uint32) error {
	return v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err != nil {
			return err
		}
		return q(tx).PutFolder(ctx, db.PutFolderParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Name: at.folder,
			UidValidity: int64(at.validity), NextUid: int64(next)})
	})
}
