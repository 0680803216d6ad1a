package conservation

import (
	"archive/zip"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const kindEvidence = "evidence"

// How a record came to be.
const (
	renewInitial = "INITIAL"
	renewStamp   = "TIME_STAMP"
	renewTree    = "HASH_TREE"
)

// termPage is how many packages' stamps are read at a time.
const termPage = 200

// renew keeps the proof of time alive: before the certificate of a package's last time stamp ends, or an algorithm
// in it, its evidence record gets a new stamp, or a new hash tree with a stronger hash over the package as it is. One
// stamp serves many packages. spec: RFC4998 §5
func (s *Service) renew(ctx context.Context, f *findings) error {
	f.What = "time stamps of packages, and evidence records whose certificate or algorithm ends within " + s.cfg.Renewal.Ahead.String()
	err := s.mayBegin(ctx, s.keeper())
	if err == nil {
		err = s.findTerms(ctx, f)
	}
	if err != nil {
		return err
	}
	end, skip := s.now().Add(roundTime), []uuid.UUID{}
	for renewed := 0; ; {
		var due []db.PackagesToRenewRow
		before := pg.Time(s.now().Add(s.cfg.Renewal.Ahead))
		err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			due, err = db.New(tx).PackagesToRenew(ctx, db.PackagesToRenewParams{Before: before, Skip: skip, Tenant: f.Tenant, Page: int32(s.cfg.Renewal.Packages)}) //nolint:gosec // a setting
			return err
		})
		if err != nil {
			return err
		}
		if len(due) == 0 || s.now().After(end) {
			f.note("%d records were renewed", renewed)
			return nil
		}
		batches := map[crypto.Hash][]*renewal{}
		for _, row := range due {
			skip = append(skip, row.ID) // each once in a round, whatever becomes of it
			r, err := s.planRenewal(ctx, row)
			if err != nil && permanent(err) {
				f.bad(packageName(row.TenantID, row.ID), "%v", fault.Of(err).Error())
				continue
			}
			if err != nil {
				return err
			}
			batches[r.hash] = append(batches[r.hash], r)
		}
		for h, batch := range batches {
			err = s.renewBatch(ctx, h, batch)
			if err != nil {
				return err
			}
			renewed += len(batch)
			f.Checked += int64(len(batch))
		}
	}
}

// permanent says that an error is of one package and not of the moment.
func permanent(err error) bool {
	var evidence *ers.EvidenceError
	return errors.As(err, &evidence) || vault.Damaged(err) || fault.Permanent(err) || fault.Of(err).Code == "EVIDENCE_BAD"
}

// findTerms reads until when the stamps of newly sealed packages last.
func (s *Service) findTerms(ctx context.Context, f *findings) error {
	for after := uuid.Nil; ; {
		var rows []db.PackagesWithoutTermRow
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = db.New(tx).PackagesWithoutTerm(ctx, db.PackagesWithoutTermParams{After: after, Tenant: f.Tenant, Page: termPage})
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			after = row.ID
			until, err := s.stampTerm(ctx, row.TenantID, row.ID)
			if err != nil && permanent(err) {
				f.bad(packageName(row.TenantID, row.ID), "%v", fault.Of(err).Error())
				continue
			}
			if err != nil {
				return err
			}
			f.Checked++
			err = s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
				return db.New(tx).SetEvidenceUntil(ctx, db.SetEvidenceUntilParams{ID: row.ID, TenantID: row.TenantID, Until: until})
			})
			if err != nil {
				return err
			}
		}
	}
}

// stampTerm reads the time stamp out of the package itself.
func (s *Service) stampTerm(ctx context.Context, tenant string, id uuid.UUID) (until time.Time, err error) {
	p, err := s.pack(ctx, tenant, SealArgs{Tenant: tenant, Package: id})
	if err != nil {
		return until, err
	}
	raw, err := s.fromPackage(ctx, p, stampFile)
	if err != nil {
		return until, err
	}
	token, err := tsp.ParseToken(raw)
	if err == nil {
		until, err = s.cfg.Renewal.lasts(token, crypto.SHA256)
	}
	if err != nil {
		return until, fault.Internal("EVIDENCE_BAD", "the time stamp of the package cannot be kept alive: %v", err)
	}
	return pg.Time(until), nil
}

// fromPackage reads one file of a sealed package.
func (s *Service) fromPackage(ctx context.Context, p db.Package, name string) ([]byte, error) {
	o, err := s.object(ctx, p.TenantID, *p.ObjectID)
	if err != nil {
		return nil, err
	}
	body, err := s.replicas.open(ctx, o)
	if err != nil {
		return nil, err
	}
	file, size, err := spool(body)
	_ = body.Close()
	if err != nil {
		return nil, err
	}
	defer drop(file)
	z, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fault.Internal("PACKAGE_UNREADABLE", "package %s is no ZIP", p.ID).With(err)
	}
	r, err := z.Open(p.ID.String() + "/" + name)
	if err != nil {
		return nil, fault.Internal("PACKAGE_UNREADABLE", "package %s has no %s", p.ID, name).With(err)
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, 1<<30))
}

// renewal is what is to be done for one package.
type renewal struct {
	p       db.Package
	o       db.ArchiveObject
	kind    string
	number  int32
	hash    crypto.Hash
	subject ers.Subject
}

// planRenewal decides between a new stamp and a new hash tree, by the end of the hash in use.
func (s *Service) planRenewal(ctx context.Context, row db.PackagesToRenewRow) (*renewal, error) {
	p, err := s.pack(ctx, row.TenantID, SealArgs{Tenant: row.TenantID, Package: row.ID})
	if err != nil {
		return nil, err
	}
	r := &renewal{p: p, kind: renewInitial, number: 1, hash: crypto.SHA256}
	r.o, err = s.object(ctx, p.TenantID, *p.ObjectID)
	if err != nil {
		return nil, err
	}
	record, last, err := s.evidence(ctx, p.TenantID, p.ID, 0)
	if err != nil && fault.Of(err).Code != evidenceMissing {
		return nil, err
	}
	if record != nil {
		chain := record.Chains[len(record.Chains)-1]
		r.kind, r.number, r.hash = renewStamp, last.Number+1, chain.Stamps[0].Hash
	}
	enough := s.now().Add(s.cfg.Renewal.Ahead)
	if end, ok := s.cfg.Renewal.end(r.hash.String()); ok && end.Before(enough) {
		if record != nil {
			r.kind = renewTree
		}
		r.hash = treeHashes[s.cfg.Renewal.Hash]
		if end, ok := s.cfg.Renewal.end(s.cfg.Renewal.Hash); ok && end.Before(enough) {
			return nil, fault.Precondition("ALGORITHM_ENDS", "%s, which new hash trees are to have, ends on %s itself: set renewal.hash to a stronger one", s.cfg.Renewal.Hash, end.Format(time.DateOnly))
		}
	}
	if r.kind == renewStamp {
		r.subject = ers.Restamp(record) // the data are not read
		return r, nil
	}
	known, err := s.digestsOf(ctx, r.o, record, r.hash)
	if err != nil {
		return nil, err
	}
	if r.kind == renewInitial {
		r.subject = ers.Initial(ers.Digests(known))
	} else {
		r.subject = ers.Rehash(record, ers.Digests(known))
	}
	return r, nil
}

// digestsOf reads an object once and gives its digests by the hashes of a record and by a further one.
func (s *Service) digestsOf(ctx context.Context, o db.ArchiveObject, record *ers.Record, more crypto.Hash) (map[crypto.Hash][]byte, error) {
	states := map[crypto.Hash]hash.Hash{more: more.New()}
	if record != nil {
		for _, c := range record.Chains {
			states[c.Stamps[0].Hash] = c.Stamps[0].Hash.New()
		}
	}
	var all []io.Writer
	for _, h := range states {
		all = append(all, h)
	}
	body, err := s.replicas.open(ctx, o)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.MultiWriter(all...), body)
	_ = body.Close()
	if err != nil {
		return nil, err
	}
	known := map[crypto.Hash][]byte{}
	for h, state := range states {
		known[h] = state.Sum(nil)
	}
	return known, nil
}

// renewBatch builds the tree over the packages, has its root stamped, and keeps a record beside each.
func (s *Service) renewBatch(ctx context.Context, h crypto.Hash, batch []*renewal) error {
	subjects := make([]ers.Subject, len(batch))
	for i, r := range batch {
		subjects[i] = r.subject
	}
	tree, err := ers.NewBatch(h, subjects)
	if err != nil {
		return fault.Internal("EVIDENCE_BAD", "the hash tree cannot be built: %v", err).With(err)
	}
	token, err := s.stampRoot(ctx, h, tree.Root())
	if err != nil {
		return err
	}
	sealed, err := tree.Seal(token.Raw)
	if err != nil {
		return fault.Internal("EVIDENCE_BAD", "the stamp does not fit the tree: %v", err).With(err)
	}
	until, err := s.cfg.Renewal.lasts(token, h)
	if err != nil {
		return fault.Internal("EVIDENCE_BAD", "%v", err)
	}
	for i, r := range batch {
		record, err := sealed.Record(i)
		if err == nil {
			err = s.keepEvidence(ctx, r, record, token.Info.Time, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stampRoot has the first authority stamp a digest that does it well.
func (s *Service) stampRoot(ctx context.Context, h crypto.Hash, digest []byte) (*tsp.Token, error) {
	var said []string
	for _, a := range s.stamps {
		token, err := a.stampHash(ctx, h, digest)
		if err == nil {
			return token, nil
		}
		said = append(said, fault.Of(err).Message)
	}
	return nil, fault.Unavailable("TSA_UNAVAILABLE", "no authority stamped: %s", strings.Join(said, "; "))
}

// evidenceSpace makes the id of a record's object from what it is.
var evidenceSpace = uuid.MustParse("8a5bd3f4-7c64-4f0e-9d3c-1e6f5b0a9c27")

// keepEvidence stores a record in every replica, beside its package, and reads it back before the row says so.
func (s *Service) keepEvidence(ctx context.Context, r *renewal, record []byte, at, until time.Time) error {
	sum := sha256.Sum256(record)
	o := &object{
		id: uuid.NewSHA1(evidenceSpace, append(r.p.ID[:], sum[:]...)), kind: kindEvidence, retain: r.o.RetainUntil,
		Object: vault.Object{
			Key:  fmt.Sprintf("%s.evidence-%04d-%s.ers", strings.TrimSuffix(r.o.Key, ".zip"), r.number, hex.EncodeToString(sum[:4])),
			Size: int64(len(record)), SHA256: sum,
		},
	}
	s.replicas.place(o)
	err := s.replicas.write(ctx, o, strings.NewReader(string(record)))
	if err != nil {
		return err
	}
	until = pg.Time(until)
	return s.db.Tx(ctx, r.p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := s.replicas.record(ctx, tx, r.p.TenantID, []*object{o})
		if err != nil {
			return err
		}
		q := db.New(tx)
		err = q.InsertEvidence(ctx, db.InsertEvidenceParams{
			Package: r.p.ID, Number: r.number, TenantID: r.p.TenantID, Object: o.id, Renewal: r.kind, Hash: r.hash.String(),
			StampedAt: pg.Time(at), UntilAt: until,
		})
		if err != nil {
			return fmt.Errorf("conservation: evidence of %s: %w", r.p.ID, err)
		}
		return q.SetEvidenceUntil(ctx, db.SetEvidenceUntilParams{ID: r.p.ID, TenantID: r.p.TenantID, Until: until})
	})
}

const evidenceMissing = "EVIDENCE_NOT_FOUND"

// evidence reads a record of a package; the last one for number 0.
func (s *Service) evidence(ctx context.Context, tenant string, id uuid.UUID, number int32) (*ers.Record, db.PackageEvidence, error) {
	raw, row, err := s.evidenceBytes(ctx, tenant, id, number)
	if err != nil {
		return nil, row, err
	}
	record, err := ers.Parse(raw)
	if err != nil {
		return nil, row, fault.Internal("EVIDENCE_BAD", "evidence record %d of package %s cannot be read: %v", row.Number, id, err)
	}
	return record, row, nil
}

func (s *Service) evidenceBytes(ctx context.Context, tenant string, id uuid.UUID, number int32) (raw []byte, row db.PackageEvidence, err error) {
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).EvidenceOf(ctx, db.EvidenceOfParams{Package: id, Number: number})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, row, fault.NotFound(evidenceMissing, "package %s has no such evidence record: the time stamp inside it proves it still, and a record is made %d days before that ends", id, int(s.cfg.Renewal.Ahead.Hours()/24))
	}
	if err != nil {
		return nil, row, err
	}
	o, err := s.object(ctx, tenant, row.ObjectID)
	if err != nil {
		return nil, row, err
	}
	raw, err = s.replicas.read(ctx, o)
	return raw, row, err
}
