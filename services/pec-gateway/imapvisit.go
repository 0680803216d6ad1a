package pecgateway

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
)

const (
	batchMessages = 256     // messages of one fetch and one transaction
	batchBytes    = 4 << 20 // after so many bytes the batch is recorded although it is not full
)

// overIMAP reads all folders, waits for news and reads again.
func (v *visit) overIMAP(ctx context.Context, address, password string) error {
	host, _, err := net.SplitHostPort(address)
	for again := true; again && err == nil; {
		again, err = v.session(ctx, host, address, password)
	}
	return err
}

// session is one connection. again: it has lasted for long enough, and another is to follow at once.
func (v *visit) session(ctx context.Context, host, address, password string) (again bool, err error) {
	c, err := imap.Dial(ctx, v.s.dialer, address, v.s.tlsFor(host), v.s.cfg.Timeout)
	if err != nil {
		return false, err
	}
	defer c.Close()
	err = c.Login(v.box.Username, password)
	if err != nil {
		return false, err
	}
	begin := time.Now()
	for {
		err = v.sync(ctx, c)
		if err != nil {
			return false, err
		}
		err = v.good(ctx)
		if err != nil {
			return false, err
		}
		if !v.stay() {
			takeLeave(c)
			return false, nil
		}
		err = v.await(ctx, c)
		if err != nil {
			return false, err
		}
		if time.Since(begin) >= v.s.cfg.SessionFor {
			takeLeave(c)
			return true, nil
		}
	}
}

// takeLeave ends a session of which everything is recorded: how the server says goodbye, or whether it just hangs up, is no trouble of the
// mailbox.
func takeLeave(c *imap.Client) { _ = c.Logout() }

// leastAnswer is how long a server may take at least to end a wait: shorter pauses between looks are for tests.
const leastAnswer = 5 * time.Second

// waits are how long one wait for announcements lasts and how long the server may then take to end it: together no more than the
// pause between two looks, so that a connection which died in silence is found out within it.
func (c *Config) waits() (most, answer time.Duration) {
	most = min(c.PollEvery, c.IdleFor)
	answer = min(c.Timeout, max(most/4, leastAnswer))
	if most >= 2*answer {
		most -= answer
	}
	return most, answer
}

// await waits for announcements in the INBOX, no longer than the pause between two looks. spec: RFC2177 §3
func (v *visit) await(ctx context.Context, c *imap.Client) error {
	if c.Has("IDLE") {
		most, answer := v.s.cfg.waits()
		_, err := c.Idle(ctx, most, answer)
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
	markSent(list, v.s.cfg.SentFolders)
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
	err = v.restricted(ctx, c)
	if err != nil {
		return err
	}
	err = v.lookBehind(ctx)
	if err != nil {
		return err
	}
	err = v.mend(ctx, c)
	if err != nil {
		return err
	}
	in := v.openIntake(ctx)
	err = v.syncFolders(ctx, c, in, list, status)
	err = errors.Join(in.finish(), err)
	if err != nil {
		return err
	}
	err = v.readWhole(ctx)
	if err != nil {
		return err
	}
	err = v.quota(ctx, c)
	if err != nil {
		return err
	}
	return v.makeRoom(ctx, c)
}

func (v *visit) syncFolders(ctx context.Context, c *imap.Client, in *intake, list []imap.Folder, status []imap.Status) error {
	for i, f := range list {
		err := v.syncFolder(ctx, c, in, f, status[i])
		if imap.Refused(err) {
			v.s.log.WarnContext(ctx, "a folder is not read", "mailbox", v.box.ID, "folder", f.Shown, "error", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// markSent says which folders hold what was sent, where the server says it of none: those with one of the names, at the top or in the
// INBOX. A folder of that name further down is its owner's own.
func markSent(list []imap.Folder, names []string) {
	const use = `\Sent`
	if slices.ContainsFunc(list, func(f imap.Folder) bool { return f.Is(use) }) {
		return
	}
	for i, f := range list {
		name := f.Shown
		if len(name) > len("INBOX.") && strings.EqualFold(name[:len("INBOX")], "INBOX") && strings.ContainsRune("./", rune(name[len("INBOX")])) {
			name = name[len("INBOX."):]
		}
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) }) {
			list[i].Use = append(slices.Clone(f.Use), use)
		}
	}
}

func inboxLast(f imap.Folder) int {
	if f.Name == "INBOX" {
		return 1
	}
	return 0
}

// foundSoMany begins the first reading of everything, or goes on with it.
func (v *visit) foundSoMany(ctx context.Context, total int64) error {
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).RecordSync(ctx, db.RecordSyncParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, Total: total, Now: pg.Time(v.s.now())})
	})
}

// syncFolder reads a folder from where it was left. Another UIDVALIDITY means that all numbers are new:
// everything is read again, and what is known by its bytes is not received twice. spec: RFC3501 §2.3.1.1
func (v *visit) syncFolder(ctx context.Context, c *imap.Client, in *intake, f imap.Folder, st imap.Status) error {
	next, err := v.cursor(ctx, f.Name, st.UIDValidity)
	if err != nil {
		return err
	}
	inbox := f.Name == "INBOX"
	unchanged := st.UIDNext != 0 && st.UIDNext == next || st.Messages == 0 && st.UIDNext == 0
	behind := v.due(f.Name)
	if unchanged && !inbox && len(behind) == 0 && v.whole == nil {
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
	next, err = v.givenAgain(ctx, c, in, at, next, opened.UIDNext)
	if err != nil {
		return err
	}
	if opened.UIDNext == 0 || opened.UIDNext != next {
		err = v.fetchFrom(ctx, c, in, at, next)
	}
	if err == nil && v.whole != nil {
		err = v.fetchMissed(ctx, c, in, at, next)
	}
	for _, b := range behind { // after what is new: it may cut the connection once more
		if err != nil {
			return err
		}
		err = v.retry(ctx, c, at, b)
	}
	return err
}

// anewPause is how long a folder is not read anew because its numbers are given again.
const anewPause = 24 * time.Hour

// givenAgain is the number from which a folder is read. A server that was put back to an earlier day, or does not keep the highest number
// that it gave, gives numbers again under the same UIDVALIDITY: then everything is read again. One that merely says too low a number has
// the message that was read last; one of several machines that lags behind the others may not, and would have a large folder read again
// and again: that is done once a day, and what is new to it is read all the same. spec: RFC3501 §2.3.1.1
func (v *visit) givenAgain(ctx context.Context, c *imap.Client, in *intake, at place, next, uidNext uint32) (uint32, error) {
	if uidNext == 0 || uidNext >= next {
		return next, nil
	}
	held, err := c.Held([]uint32{next - 1})
	if err != nil || len(held) > 0 {
		return next, err
	}
	from, key, now := uint32(1), place{folder: v.box.ID.String() + at.folder, validity: at.validity}, v.s.now()
	if last, done := v.s.anew.Load(key); done && now.Sub(last.(time.Time)) < anewPause { //nolint:forcetypeassert // ours
		from = uidNext
	} else {
		v.s.anew.Store(key, now)
	}
	v.s.log.WarnContext(ctx, "a server gives numbers again: a folder is read anew", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "folder", at.shown,
		"read_to", next, "next", uidNext, "from", from)
	return from, in.put(batch{at: at, next: from})
}

// fetchFrom takes in everything from a number on.
func (v *visit) fetchFrom(ctx context.Context, c *imap.Client, in *intake, at place, next uint32) error {
	uids, err := c.Search(next)
	if err != nil {
		return err
	}
	err = v.passedBy(ctx, at, next, uids)
	if err != nil {
		return err
	}
	return v.fetchEach(ctx, c, in, at, uids)
}

// fetchEach takes messages in, a batch at a time.
func (v *visit) fetchEach(ctx context.Context, c *imap.Client, in *intake, at place, uids []uint32) error {
	size := batchMessages
	if v.box.Failures > 0 {
		size = 1 // something went wrong: find out at which message
	}
	for batch := range slices.Chunk(uids, size) {
		err := v.fetch(ctx, c, in, at, batch)
		if err != nil {
			return err
		}
	}
	return nil
}

// cursor is the first number that was not read yet.
func (v *visit) cursor(ctx context.Context, folder string, validity uint32) (uint32, error) {
	next := uint32(1)
	err := v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
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
