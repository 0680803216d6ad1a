package pecgateway

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
)

// codeReadOnly: the provider lets nothing be changed in a mailbox, as some do for a while when its contract has ended.
const codeReadOnly = "MAILBOX_READ_ONLY"

const readOnlyText = "the provider lets nothing be changed in the mailbox, as when its contract has ended: renew it; providers delete such mailboxes with all that is in them. What is there is fetched"

// restricted looks whether the provider lets anything be changed in the mailbox. When it does not any more, somebody is told, and
// everything that is there is fetched.
func (v *visit) restricted(ctx context.Context, c *imap.Client) error {
	readOnly, known, err := c.ReadOnly()
	if err != nil || !known || readOnly == v.box.ReadOnly {
		return err
	}
	err = v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := q(tx).RecordReadOnly(ctx, db.RecordReadOnlyParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, ReadOnly: readOnly})
		if err == nil && n == 0 {
			err = errFenced
		}
		if err != nil || !readOnly {
			return err
		}
		err = askWhole(ctx, tx, v.box.ID, codeReadOnly, pg.Time(v.s.now()))
		if err != nil {
			return err
		}
		return v.tell(ctx, tx, codeReadOnly, readOnlyText)
	})
	if err == nil {
		v.box.ReadOnly = readOnly
	}
	return err
}

// askWhole has everything that a provider has compared with what is here at the next look, and what it did not give asked for once
// more then.
func askWhole(ctx context.Context, tx pgx.Tx, mailbox uuid.UUID, why string, now time.Time) error {
	tenant := pg.Tenant(ctx)
	err := q(tx).AskWhole(ctx, db.AskWholeParams{TenantID: tenant, MailboxID: mailbox, Reason: why, AskTime: now})
	if err != nil {
		return err
	}
	return q(tx).HurryUnfetched(ctx, db.HurryUnfetchedParams{TenantID: tenant, MailboxID: mailbox, Now: now})
}

// fetchMissed takes in what the open folder has before the number that is read next and that stands nowhere here: no more than
// what was left behind should. It is looked for where a provider may soon delete everything.
func (v *visit) fetchMissed(ctx context.Context, c *imap.Client, in *intake, at place, next uint32) error {
	uids, err := c.Search(1)
	if err != nil {
		return err
	}
	var located []string
	err = v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		located, err = q(tx).LocatedUids(ctx, db.LocatedUidsParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: at.folder, UidValidity: int64(at.validity)})
		return err
	})
	if err != nil {
		return err
	}
	here := make(map[string]bool, len(located))
	for _, uid := range located {
		here[uid] = true
	}
	uids = slices.DeleteFunc(uids, func(u uint32) bool {
		uid := strconv.FormatUint(uint64(u), 10)
		_, behind := v.behind[unfetchedKey{at.folder, int64(at.validity), uid}]
		return u >= next || here[uid] || behind
	})
	if len(uids) > 0 {
		v.s.log.ErrorContext(ctx, "messages were passed over and are fetched now", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "folder", at.shown, "messages", len(uids))
		still := at
		still.still = true
		err = v.fetchEach(ctx, c, in, still, uids)
	}
	return err
}

// readWhole notes that everything which the provider has was compared with what is here.
func (v *visit) readWhole(ctx context.Context) error {
	if v.whole == nil {
		return nil
	}
	p := db.EndWholeParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, AskTime: *v.whole, Now: pg.Time(v.s.now())}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err != nil {
			return err
		}
		return q(tx).EndWhole(ctx, p)
	})
}

// suspend shows a mailbox that is read well as what it is when its provider has suspended it.
func suspend(out *pecv1.Mailbox, r db.Mailbox, s db.StandingsRow) {
	if out.GetState() != pecv1.MailboxState_MAILBOX_STATE_ACTIVE {
		return
	}
	switch {
	case r.ReadOnly:
		out.ProblemCode, out.Problem = codeReadOnly, readOnlyText
	case s.HeldCode == heldSuspended:
		out.ProblemCode, out.Problem, out.ProblemTime = heldSuspended, s.Held, stamp(s.HeldAt)
	default:
		return
	}
	out.State = pecv1.MailboxState_MAILBOX_STATE_SUSPENDED
}
