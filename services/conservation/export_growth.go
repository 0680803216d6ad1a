package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/blob"
)

// exportGrowth has the proofs that the log of the last checkpoint grew out of what it was at each other size that the export shows.
const exportGrowth = "data/log/growth.jsonl"

// exportStatements has the proofs of reports of destructions. They are not beside the reports, where tools of before take each file for a report.
const exportStatements = "data/log/disposals/"

// growthPage is how many proofs are made in one transaction.
const growthPage = 1000

// growth writes a proof for each size at which a file of the export shows the log. Without it two histories that differ in the leaves of others
// alone would pass: nothing of this owner's is in them.
func (b *exporter) growth(ctx context.Context, last db.LogCheckpoint) error {
	signed, err := tlog.OpenCheckpoint(last.Note, b.s.book.policy)
	if err != nil {
		return err
	}
	err = b.provenInReceipts(ctx)
	if err != nil {
		return err
	}
	sizes := slices.Sorted(maps.Keys(b.sizes))
	end, _ := slices.BinarySearch(sizes, signed.Size)
	sizes = sizes[:end]
	if len(sizes) == 0 {
		return nil
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(b.writeGrowth(ctx, write, signed.Tree, sizes)) }()
	ref, err := b.s.blobs.PutReader(ctx, b.row.TenantID, read)
	_ = read.Close() // ends the writer when the store gave up first
	if err != nil {
		return err
	}
	return b.add(ctx, db.AddExportFileParams{Path: exportGrowth, Sha256: ref.SHA256[:], Size: ref.Size})
}

func (b *exporter) writeGrowth(ctx context.Context, to io.Writer, tree tlog.Tree, sizes []int64) error {
	tiles := &tileStore{}
	prover := tlog.NewProver(tiles, tree)
	for page := range slices.Chunk(sizes, growthPage) {
		var lines bytes.Buffer
		err := b.s.db.Tx(ctx, b.row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			tiles.q = db.New(tx)
			lines.Reset()
			for _, size := range page {
				proof, err := prover.Consistency(ctx, size)
				if err == nil {
					err = custody.WriteGrowth(&lines, size, proof)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil {
			_, err = to.Write(lines.Bytes())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// provenInReceipts notes the sizes at which the receipts that the export has show the log, also those that an earlier round wrote.
func (b *exporter) provenInReceipts(ctx context.Context) error {
	return b.files(ctx, func(f db.ExportFile) error {
		if !strings.HasPrefix(f.Path, "data/receipts/") {
			return nil
		}
		raw, err := b.s.blobs.Get(ctx, blob.Ref{Tenant: b.row.TenantID, SHA256: [32]byte(f.Sha256), Size: f.Size})
		if err != nil {
			return err
		}
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return fmt.Errorf("conservation: export: %s: %w", f.Path, err)
		}
		for _, e := range z.File {
			err = b.provenInReceipt(e)
			if err != nil {
				return fmt.Errorf("conservation: export: %s: %s: %w", f.Path, e.Name, err)
			}
		}
		return nil
	})
}

func (b *exporter) provenInReceipt(e *zip.File) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	text, err := io.ReadAll(r)
	if closed := r.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	receipt, err := tlog.ParseReceipt(text)
	if err != nil {
		return err
	}
	size, err := receipt.Size()
	b.sizes[size] = true
	return err
}

// provenInReport notes the size at which a report of what was taken in charge shows the log.
func (b *exporter) provenInReport(p7m []byte) error {
	sd, err := cms.Parse(p7m)
	if err != nil {
		return fmt.Errorf("conservation: export: %w", err)
	}
	size, err := custody.SubmissionSize(sd.Content())
	if err == nil && size > 0 {
		b.sizes[size] = true
	}
	return err
}

// statement writes the proof that the log states the report of a destruction, with the time stamp at which its signer is judged.
func (b *exporter) statement(ctx context.Context, disposal, report uuid.UUID) error {
	if b.s.book == nil {
		return nil
	}
	r, err := evidence{s: b.s}.receipt(ctx, b.row.TenantID, "", report, 0, false, func(context.Context, *db.Queries) error { return nil })
	if err != nil {
		return err
	}
	b.sizes[r.GetCheckpointSize()] = true
	return b.content(ctx, exportStatements+disposal.String()+".tlog-proof", r.GetReceipt())
}
