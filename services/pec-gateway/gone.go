package pecgateway

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// gone notes that messages were at the provider and are not any more, and were never fetched. That another program deletes and moves
// is the owner's right and no fault of the mailbox, so nobody is alarmed; who looks at the mailbox sees it.
func (v *visit) gone(ctx context.Context, at place, uids []uint32) error {
	if len(uids) == 0 || at.still {
		return nil
	}
	name, numbers := mailboxName(v.box.TenantID, v.box.ID), make([]int64, len(uids))
	for i, u := range uids {
		numbers[i] = int64(u)
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err != nil {
			return err
		}
		now := pg.Time(v.s.now())
		fresh, err := q(tx).InsertGone(ctx, db.InsertGoneParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Folder: at.folder, UidValidity: int64(at.validity), Uids: numbers, Now: now})
		if err != nil || len(fresh) == 0 {
			return err
		}
		err = q(tx).CountGone(ctx, db.CountGoneParams{Gone: int64(len(fresh)), Now: now, TenantID: v.box.TenantID, ID: v.box.ID})
		if err != nil {
			return err
		}
		const most = 50
		shown := strings.Trim(fmt.Sprint(fresh[:min(most, len(fresh))]), "[]")
		if len(fresh) > most {
			shown += fmt.Sprintf(" and %d more", len(fresh)-most)
		}
		v.s.log.InfoContext(ctx, "messages went before they were fetched", "mailbox", name, "folder", at.shown, "uids", shown)
		return telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "mailbox.gone", Resource: name,
			Detail: map[string]string{"folder": trim(at.shown, 300), "uids": shown}})
	})
}

// passedBy finds numbers that were given since the last look and that nothing has now: a message came and went in between. Before the
// first reading is over a gap says nothing: what was removed years ago leaves one too. spec: RFC3501 §2.3.1.1
func (v *visit) passedBy(ctx context.Context, at place, next uint32, uids []uint32) error {
	const most = 10_000 // servers may jump; a larger gap is no removal
	if v.box.SyncEndTime == nil || next <= 1 || len(uids) == 0 {
		return nil
	}
	var missed []uint32
	for _, u := range slices.Sorted(slices.Values(uids)) {
		for ; next < u; next++ {
			missed = append(missed, next)
			if len(missed) > most {
				return nil
			}
		}
		next = u + 1
	}
	return v.gone(ctx, at, missed)
}
