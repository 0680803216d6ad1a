package signer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

// answering is how this service signs its answers to the archive.
const answering = "signer"

// onUnitsDestroyed says what the platform's store has of documents that the archive has destroyed because it was signed here: both
// forms, unsigned and signed, of what was signed for them by name (invoices, packages, the archive's reports), and of what is known by its bytes alone
// (documents of persons, requests), with the bundles of requests. Of all that the rows keep digests and times; they name nobody
// whom the documents named.
func (s *Service) onUnitsDestroyed(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
	if ev.GetPart() == 0 {
		return nil
	}
	q, tenant := db.New(tx), pg.Tenant(ctx)
	c := &copies{tenant: tenant, seen: map[[32]byte]bool{},
		answer: &conservationv1.CopiesFound{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart(), Service: answering}}
	subjects := slices.Concat(ev.GetSubjects(), ev.GetMade(), []string{ev.GetPackage()})
	err := q.BurySignatures(ctx, db.BurySignaturesParams{TenantID: tenant, Subjects: subjects, DestroyedBy: ev.GetDisposal()})
	if err != nil {
		return fmt.Errorf("signer: signatures of what was destroyed: %w", err)
	}
	named, err := q.SignaturesOf(ctx, db.SignaturesOfParams{TenantID: tenant, Subjects: subjects})
	if err != nil {
		return fmt.Errorf("signer: signatures of what was destroyed: %w", err)
	}
	sums := ev.GetFileSha256()
	for _, r := range named {
		sums = append(sums, r.OriginalSha256)
		c.add("original", r.OriginalSha256, r.OriginalSize)
		if r.SignedSha256 != nil && r.SignedSize != nil {
			sums = append(sums, r.SignedSha256)
			c.add("signed", r.SignedSha256, *r.SignedSize)
		}
	}
	pairs, err := q.SignedOf(ctx, db.SignedOfParams{TenantID: tenant, Sums: sums})
	if err != nil {
		return fmt.Errorf("signer: documents that were destroyed: %w", err)
	}
	for _, p := range pairs {
		err = s.addSized(ctx, c, "original", p.OriginalSha256, p.OriginalSize)
		if err == nil && p.SignedSha256 != nil {
			err = s.addSized(ctx, c, "signed", p.SignedSha256, p.SignedSize)
		}
		if err != nil {
			return err
		}
		sums = append(sums, p.OriginalSha256, p.SignedSha256)
	}
	sums = slices.DeleteFunc(sums, func(sum []byte) bool { return len(sum) != 32 })
	bundles, err := q.BundlesOf(ctx, db.BundlesOfParams{TenantID: tenant, Sums: sums})
	if err != nil {
		return fmt.Errorf("signer: bundles of what was destroyed: %w", err)
	}
	for _, b := range bundles {
		c.add("bundle", b.BundleSha256, b.BundleSize)
	}
	err = q.NoteDestroyedBytes(ctx, db.NoteDestroyedBytesParams{TenantID: tenant, Sums: distinct(sums), DestroyedBy: ev.GetDisposal(), At: pg.Time(s.now())})
	if err != nil {
		return fmt.Errorf("signer: note what was destroyed: %w", err)
	}
	return s.bus.Emit(ctx, tx, c.answer)
}

// copies gathers an answer.
type copies struct {
	tenant string
	seen   map[[32]byte]bool
	answer *conservationv1.CopiesFound
}

func (c *copies) add(what string, sum []byte, size int64) {
	if len(sum) != 32 || c.seen[[32]byte(sum)] {
		return
	}
	ref := blob.Ref{Tenant: c.tenant, SHA256: [32]byte(sum), Size: size}
	c.seen[ref.SHA256] = true
	c.answer.Copies = append(c.answer.Copies, &conservationv1.FoundCopy{Uri: ref.URI(), What: what})
}

// addSized asks the store for the size of bytes of which only the digest was kept. What is not there is nobody's copy.
func (s *Service) addSized(ctx context.Context, c *copies, what string, sum []byte, size int64) error {
	if size == 0 && len(sum) == 32 && !c.seen[[32]byte(sum)] {
		mark, err := s.blobs.Mark(ctx, blob.Ref{Tenant: c.tenant, SHA256: [32]byte(sum)})
		if errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")) {
			return nil
		}
		if err != nil {
			return err
		}
		size = mark.Size
	}
	c.add(what, sum, size)
	return nil
}

func distinct(sums [][]byte) [][]byte {
	seen, out := map[[32]byte]bool{}, [][]byte{}
	for _, sum := range sums {
		if !seen[[32]byte(sum)] {
			seen[[32]byte(sum)] = true
			out = append(out, sum)
		}
	}
	return out
}

// onCopiesCondemned says which of these bytes something here needs that stands.
func (s *Service) onCopiesCondemned(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
	tenant := pg.Tenant(ctx)
	uris, sums := map[[32]byte]string{}, [][]byte{}
	for _, uri := range ev.GetUris() {
		ref, err := blob.ParseURI(uri)
		if err != nil {
			return err
		}
		if ref.Tenant == tenant {
			uris[ref.SHA256] = uri
			sums = append(sums, ref.SHA256[:])
		}
	}
	rows, err := db.New(tx).NeedsOf(ctx, db.NeedsOfParams{TenantID: tenant, Sums: sums, Now: pg.Time(s.now()), BegunAfter: pg.Time(s.now().Add(-resumeFor))})
	if err != nil {
		return fmt.Errorf("signer: who needs copies: %w", err)
	}
	answer := &conservationv1.CopiesNeeded{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart(), Service: answering}
	for _, r := range rows {
		answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: uris[[32]byte(r.Sha256)], Others: r.Others})
	}
	return s.bus.Emit(ctx, tx, answer)
}
