package conservation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// evidenceKey is what keepEvidence names a record: beside its package, with its number and the beginning of its digest.
var evidenceKey = regexp.MustCompile(`^tenants/([^/]+)/packages/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.evidence-([0-9]{4,9})-([0-9a-f]{8})\.ers$`)

// adoptEvidence makes the rows of the objects of evidence records that no row knows. Without its records the renewal of a package
// would begin anew, with a stamp that comes too late.
func (s *Service) adoptEvidence(ctx context.Context, f *findings, from *replica, prefix string) error {
	adopted := 0
	for e, err := range s.strangers(ctx, from, prefix, func(db.ObjectsByKeyRow, *vault.Entry) error { return nil }) {
		if err != nil {
			return err
		}
		name := evidenceKey.FindStringSubmatch(e.Key)
		if name == nil {
			continue
		}
		ok, err := s.adoptRecord(ctx, f, from, e, name)
		if err != nil {
			return err
		}
		adopted += boolInt(ok)
	}
	f.note("%d evidence records of the second replica had no row and have one now", adopted)
	return nil
}

// adoptRecord makes the row of one record's object, when its package has one.
func (s *Service) adoptRecord(ctx context.Context, f *findings, x *replica, e vault.Entry, name []string) (bool, error) {
	tenant, pkg := name[1], uuid.MustParse(name[2])
	condemned, err := s.condemned(ctx, f, x, e)
	if err != nil || condemned {
		return false, err
	}
	o, err := s.object(ctx, tenant, uuid.NewSHA1(objectSpace, pkg[:]))
	if err != nil {
		if fault.Of(err).Kind == fault.KindUnavailable {
			return false, err
		}
		f.bad(e.Key, "no row is made of it: its package has none")
		return false, nil
	}
	file, sum, err := s.borrow(ctx, x, e)
	if err != nil {
		return false, err
	}
	drop(file)
	if hex.EncodeToString(sum[:4]) != name[4] {
		f.bad(e.Key, "no row is made of it: its SHA-256 is %x", sum)
		return false, nil
	}
	f.Checked++
	f.Bytes += e.Size
	record := &object{
		id: uuid.NewSHA1(evidenceSpace, append(pkg[:], sum[:]...)), kind: kindEvidence, retain: o.RetainUntil,
		Object: vault.Object{Key: e.Key, Size: e.Size, SHA256: sum}, to: []*replica{x},
	}
	return s.adoptRow(ctx, tenant, record)
}

// restoreRecords goes through the records of a tenant that have an object and of which no package knows.
func (s *Service) restoreRecords(ctx context.Context, f *findings, tenant string, from *replica) error {
	made := 0
	for after := uuid.Nil; ; {
		var page []db.EvidenceWithoutRowRow
		err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			page, err = db.New(tx).EvidenceWithoutRow(ctx, db.EvidenceWithoutRowParams{Tenant: tenant, After: after, Page: completePage})
			return err
		})
		if err != nil {
			return err
		}
		for _, row := range page {
			after = row.ID
			o := db.ArchiveObject{ID: row.ID, TenantID: tenant, Kind: kindEvidence, Key: row.Key, Sha256: row.Sha256, Size: row.Size, RetainUntil: row.RetainUntil, CreatedAt: row.CreatedAt}
			err = s.restoreRecord(ctx, o, from)
			if err != nil && (fault.Of(err).Kind == fault.KindUnavailable || ctx.Err() != nil) {
				return err
			}
			if err != nil {
				f.bad(o.Key, "its row is not made again: %v", err)
				continue
			}
			made++
		}
		if len(page) < completePage {
			break
		}
	}
	f.note("tenant %s: %d evidence records had no row and have one now", tenant, made)
	return nil
}

// restoreRecord judges a record against its package, and says again how it came to be and until when it holds.
func (s *Service) restoreRecord(ctx context.Context, o db.ArchiveObject, from *replica) error {
	name := evidenceKey.FindStringSubmatch(o.Key)
	if name == nil {
		return errors.New("it has no name of ours")
	}
	pkg := uuid.MustParse(name[2])
	number, err := strconv.ParseInt(name[3], 10, 32)
	if err != nil {
		return err
	}
	raw, err := s.replicas.read(ctx, o)
	if err != nil {
		return err
	}
	record, err := ers.Parse(raw)
	if err != nil {
		return err
	}
	whole, err := s.object(ctx, o.TenantID, uuid.NewSHA1(objectSpace, pkg[:]))
	if err != nil {
		return err
	}
	file, err := s.replicas.fetch(ctx, whole, from)
	if err != nil {
		return err
	}
	defer drop(file)
	err = covers(record, file, whole.Size)
	if err != nil {
		return err
	}
	chain := record.Chains[len(record.Chains)-1]
	last := chain.Stamps[len(chain.Stamps)-1]
	kind := renewStamp
	switch {
	case len(chain.Stamps) == 1 && len(record.Chains) == 1:
		kind = renewInitial
	case len(chain.Stamps) == 1:
		kind = renewTree
	}
	until, err := s.cfg.Renewal.lasts(last.Token, last.Hash)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.InsertEvidence(ctx, db.InsertEvidenceParams{
			Package: pkg, Number: int32(number), TenantID: o.TenantID, Object: o.ID, Renewal: kind, Hash: last.Hash.String(),
			StampedAt: pg.Time(last.Token.Info.Time), UntilAt: pg.Time(until),
		})
		if err != nil {
			return fmt.Errorf("conservation: evidence of %s: %w", pkg, err)
		}
		newest, err := q.EvidenceOf(ctx, db.EvidenceOfParams{Package: pkg})
		if err != nil {
			return err
		}
		return q.SetEvidenceUntil(ctx, db.SetEvidenceUntilParams{ID: pkg, TenantID: o.TenantID, Until: newest.UntilAt})
	})
}

// covers wants a record that is about these bytes. Whether it held all the time is the deep check's matter: one that did not is
// evidence of that.
func covers(record *ers.Record, file *os.File, size int64) error {
	whole := ers.Reader(func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, size)), nil })
	report, err := record.Verify([]ers.Object{whole}, ers.VerifyOptions{})
	if report == nil {
		return err
	}
	for _, x := range report.Faults {
		if x.Fault == ers.FaultData || x.Fault == ers.FaultGroup {
			return x
		}
	}
	return nil
}
