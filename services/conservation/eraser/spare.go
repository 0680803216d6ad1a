package eraser

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// underWay is for how long what is noted may not be stored yet.
const underWay = time.Hour

// expire ends distributions that are older than they are kept. Who is downloading one has an hour to end: its bytes go with a later run.
func (e *Eraser) expire(ctx context.Context, done *Done) error {
	if e.KeepDistributions == 0 {
		return nil
	}
	for {
		now := pg.Time(e.Now())
		var list []db.AgedDistributionsRow
		err := e.DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			list, err = db.New(tx).AgedDistributions(ctx, db.AgedDistributionsParams{Before: now.Add(-e.KeepDistributions), Page: atOnce})
			return err
		})
		if err != nil {
			return fmt.Errorf("distributions at the end of their term: %w", err)
		}
		for _, d := range list {
			var n int64
			err = e.DB.Tx(ctx, d.TenantID, func(ctx context.Context, tx pgx.Tx) error {
				q := db.New(tx)
				var err error
				n, err = q.ExpireDistribution(ctx, d.ID)
				if err != nil || n == 0 { // its documents were destroyed in the meantime
					return err
				}
				err = q.NoteDistributionBlob(ctx, db.NoteDistributionBlobParams{Distribution: d.ID, Sha256: d.Sha256, TenantID: d.TenantID, Size: *d.Size, At: now})
				if err != nil {
					return err
				}
				return telemetry.Audit(ctx, tx, telemetry.Act{
					Action: "distribution.expired", Resource: fmt.Sprintf("tenants/%s/distributions/%s", d.TenantID, d.ID), Detail: map[string]string{"sha256": hex.EncodeToString(d.Sha256)},
				})
			})
			if err != nil {
				return fmt.Errorf("distribution %s: %w", d.ID, err)
			}
			done.Expired += int(n)
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

// spare erases what was stored on the way to distributions (as they were before their signature and time stamp, and what attempts left that died)
// and those whose term is over. The documents in it are in the archive.
func (e *Eraser) spare(ctx context.Context, done *Done) error {
	next := db.SpareBlobsParams{Before: pg.Time(e.Now()).Add(-underWay), After: []byte{}, Page: atOnce}
	for {
		var list []db.SpareBlobsRow
		err := e.DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			list, err = db.New(tx).SpareBlobs(ctx, next)
			return err
		})
		if err != nil {
			return fmt.Errorf("what distributions left: %w", err)
		}
		for _, b := range list {
			err = e.spareOne(ctx, b)
			switch {
			case err == nil:
				done.Spare++
			case ctx.Err() != nil || fault.Of(err).Kind != fault.KindUnavailable:
				return fmt.Errorf("what distribution %s left: %w", b.DistributionID, err)
			default:
				done.Kept++
				e.Log.WarnContext(ctx, "what a distribution left could not be erased", "distribution", b.DistributionID, "reason", fault.Of(err).Error())
			}
			next.Distribution, next.After = b.DistributionID, b.Sha256
		}
		if len(list) < atOnce {
			return nil
		}
	}
}

func (e *Eraser) spareOne(ctx context.Context, b db.SpareBlobsRow) error {
	wanted := false
	err := e.DB.Tx(ctx, b.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).StandingBytes(ctx, db.StandingBytesParams{TenantID: b.TenantID, Sums: [][]byte{b.Sha256}})
		wanted = len(rows) > 0 && rows[0].Others > 1 // itself
		return err
	})
	if err == nil && !wanted {
		err = e.Blobs.Destroy(ctx, b.TenantID+"/"+hex.EncodeToString(b.Sha256))
	}
	if err == nil {
		err = e.step("spared")
	}
	if err != nil {
		return err
	}
	return e.DB.Tx(ctx, b.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).DropSpareBlob(ctx, db.DropSpareBlobParams{Distribution: b.DistributionID, Sha256: b.Sha256})
	})
}
