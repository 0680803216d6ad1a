package pecgateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
)

// mendInALook bounds what is fetched again for the archive in one look: a mailbox is not held up for long.
const mendInALook = 20

// damagesHere are damaged messages of the mailbox that its provider may still have, each where it stands there. That they are
// asked for is written down first: one that cuts the connection does not do so at each visit.
func (v *visit) damagesHere(ctx context.Context) ([]db.DamagesAtProviderRow, error) {
	var list []db.DamagesAtProviderRow
	err := v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(v.s.now())
		var err error
		list, err = q(tx).DamagesAtProvider(ctx, db.DamagesAtProviderParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Before: now.Add(-v.s.cfg.Archive.AskEvery), Most: mendInALook})
		if err != nil || len(list) == 0 {
			return err
		}
		err = v.hold(ctx, tx)
		if err != nil {
			return err
		}
		p := db.AskForDamagesParams{TenantID: v.box.TenantID, MailboxID: v.box.ID, Now: now}
		for _, d := range list {
			p.MessageIds = append(p.MessageIds, d.MessageID)
		}
		return q(tx).AskForDamages(ctx, p)
	})
	return list, err
}

// mend fetches messages once more that the archive does not give back as they came, and puts them in their place there.
func (v *visit) mend(ctx context.Context, c *imap.Client) error {
	list, err := v.damagesHere(ctx)
	if err != nil {
		return err
	}
	opened, is := "", imap.Status{}
	for _, d := range list {
		if opened != d.Folder {
			opened = d.Folder
			is, err = c.Examine(d.Folder)
			if err != nil && !imap.Refused(err) {
				return err
			}
			if err != nil {
				is = imap.Status{} // it is not there any more
			}
		}
		if int64(is.UIDValidity) != d.UidValidity || is.UIDValidity == 0 {
			continue
		}
		got, err := collect(c, []uint32{number(d.Uid)}, nil)
		if err == nil && len(got.items) == 1 {
			err = v.putBack(ctx, d, got.items[0].sp)
		}
		batch{items: got.items}.close()
		if err != nil && !imap.Refused(err) {
			return err
		}
	}
	return nil
}

// mendOverPOP3 does the same where messages are known by their unique ids.
func (v *visit) mendOverPOP3(ctx context.Context, c *pop3.Client, list []pop3.Entry) error {
	damaged, err := v.damagesHere(ctx)
	if err != nil {
		return err
	}
	for _, d := range damaged {
		at := slices.IndexFunc(list, func(e pop3.Entry) bool { return e.UID == d.Uid })
		if at < 0 {
			continue
		}
		var sp *spool
		err = c.Retrieve(list[at].Number, func(r io.Reader) (err error) {
			sp, err = newSpool(r, list[at].Size)
			return err
		})
		if err == nil {
			err = v.putBack(ctx, d, sp)
		}
		sp.close()
		var refused *pop3.ServerError
		if err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

// putBack puts the bytes of a message into the archive when they are those that came.
func (v *visit) putBack(ctx context.Context, d db.DamagesAtProviderRow, sp *spool) error {
	sum, err := sp.sum()
	if err != nil {
		return err
	}
	if !bytes.Equal(sum, d.Sha256) {
		v.s.log.WarnContext(ctx, "a damaged message is not the same at its provider either", "message", messageName(v.box.TenantID, v.box.ID, d.MessageID))
		return nil
	}
	ref, err := blob.ParseURI(d.ContentUri)
	if err != nil {
		return err
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: v.box.TenantID, ID: d.MessageID})
		if err != nil || row.DestroyedBy != "" {
			return err // what was destroyed by the rules does not come back
		}
		err = v.s.blobs.Mend(ctx, ref, io.NewSectionReader(sp, 0, sp.size))
		if err != nil {
			return err
		}
		return v.s.endDamage(ctx, tx, v.box.TenantID, v.box.ID, d.MessageID, repairedFromProvider)
	})
}
