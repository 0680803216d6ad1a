package pecgateway

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// unfetchedMost is the longest pause before a message that the provider did not hand out is asked for again.
const unfetchedMost = 24 * time.Hour

// leaveBehind goes on without a message that the provider does not hand out. It is told once, and tried again later
// at growing intervals.
func (v *visit) leaveBehind(ctx context.Context, at place, uid string) error {
	v.s.log.ErrorContext(ctx, "a message cannot be fetched and is left behind", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "folder", at.shown, "uid", uid)
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		times, err := v.postpone(ctx, tx, at, uid)
		if err != nil || times > 1 {
			return err
		}
		return v.tell(ctx, tx, "MESSAGE_UNFETCHABLE", "the provider does not hand out message "+uid+" of folder "+at.shown+": it is tried again at growing intervals")
	})
}

// postpone counts an attempt at a message and sets the time of the next.
func (v *visit) postpone(ctx context.Context, tx pgx.Tx, at place, uid string) (int32, error) {
	err := v.hold(ctx, tx)
	if err != nil {
		return 0, err
	}
	key := unfetchedKey{at.folder, int64(at.validity), uid}
	times := v.behind[key].Times + 1
	next := pg.Time(v.s.now().Add(min(v.s.cfg.RetryMost<<min(times-1, 10), unfetchedMost)))
	n, err := q(tx).LeaveUnfetched(ctx, db.LeaveUnfetchedParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: at.folder,
		UidValidity: int64(at.validity), Uid: uid, NextTime: next})
	if err == nil {
		if v.behind == nil {
			v.behind = map[unfetchedKey]db.ListUnfetchedRow{}
		}
		v.behind[key] = db.ListUnfetchedRow{Folder: at.folder, UidValidity: int64(at.validity), Uid: uid, Times: n, NextTime: next}
	}
	return n, err
}

type unfetchedKey struct {
	folder   string
	validity int64
	uid      string
}

// lookBehind reads what was left behind, and whether everything is to be compared.
func (v *visit) lookBehind(ctx context.Context) error {
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListUnfetched(ctx, db.ListUnfetchedParams{TenantID: v.box.TenantID, MailboxID: v.box.ID})
		v.behind = make(map[unfetchedKey]db.ListUnfetchedRow, len(rows))
		for _, r := range rows {
			v.behind[unfetchedKey{r.Folder, r.UidValidity, r.Uid}] = r
		}
		if err != nil {
			return err
		}
		owed, err := q(tx).WholeOwed(ctx, db.WholeOwedParams{TenantID: v.box.TenantID, MailboxID: v.box.ID})
		v.whole = nil
		if len(owed) > 0 {
			v.whole = &owed[0]
		}
		return err
	})
}

// waiting says whether a message was left behind and is not to be tried yet.
func (v *visit) waiting(at place, uid string) bool {
	r, ok := v.behind[unfetchedKey{at.folder, int64(at.validity), uid}]
	return ok && v.s.now().Before(r.NextTime)
}

// due are the messages of a folder that were left behind and are to be tried now.
func (v *visit) due(folder string) []db.ListUnfetchedRow {
	var out []db.ListUnfetchedRow
	for _, r := range v.behind {
		if r.Folder == folder && !v.s.now().Before(r.NextTime) {
			out = append(out, r)
		}
	}
	return out
}

// caughtUp forgets that messages were left behind: they came, or they are gone.
func (v *visit) caughtUp(ctx context.Context, folder string, validity int64, uids ...string) error {
	var behind []string
	for _, uid := range uids {
		key := unfetchedKey{folder, validity, uid}
		if _, ok := v.behind[key]; ok {
			behind = append(behind, uid)
			delete(v.behind, key)
		}
	}
	if len(behind) == 0 {
		return nil
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).DropUnfetched(ctx, db.DropUnfetchedParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: folder, UidValidity: validity, Uids: behind})
	})
}
