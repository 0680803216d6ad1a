package conservation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// DisposalConfig is how destruction reaches what other services have.
type DisposalConfig struct {
	// Holders are the services that may have copies of documents in the platform's store. After a package was destroyed each says
	// what it has of its documents, and before any of that is erased what it still needs. One that does not run here must be taken
	// out: nothing is erased before all have answered.
	Holders []string `yaml:"holders"`
	// DeedRootsFile holds the roots (PEM) that the signers of authorisations must lead to, and a deed must be signed then. Empty: a
	// deed's signatures must hold, and the report says that nobody's identity was judged, or that a PDF bears none.
	DeedRootsFile string `yaml:"deed_roots_file"`
	// Quiet is for how long bytes must lie untouched before they are asked for: what was stored a moment ago may belong to
	// something that its service has not written down yet.
	Quiet time.Duration `yaml:"quiet"`
}

func defaultDisposal() DisposalConfig {
	return DisposalConfig{Holders: []string{"invoice", "notification", "pec-gateway", "sdi-gateway", "signer"}, Quiet: time.Hour}
}

func (c DisposalConfig) check(bad func(when bool, path, format string, a ...any)) {
	seen := map[string]bool{}
	for i, h := range c.Holders {
		path := fmt.Sprintf("disposal.holders[%d]", i)
		bad(h == "" || h == holderSelf, path, "%q is no other service", h)
		bad(seen[h], path, "%q is named twice", h)
		seen[h] = true
	}
	bad(c.Quiet < 0, "disposal.quiet", "must not be negative")
}

// over refuses to be quiet for too short a time over the platform's store: in a bucket, bytes that are stored again soon after the first
// time keep their mark, and an eraser that was told before that nobody needs them would take them from whoever stored them.
func (c DisposalConfig) over(store blob.Store) error {
	if least := blob.Fresh(store); c.Quiet < least {
		return run.BadField("disposal.quiet", "%s is too short: the platform's store is a bucket, where bytes that are stored again within %s look as if nobody had: use %s or more", c.Quiet, least, least)
	}
	return nil
}

// holderSelf is the archive itself, which is asked within its own transaction.
const holderSelf = "conservation"

// How far the copies of a destroyed package are; see migration 0080.
const (
	copiesFinding = "FINDING"
	copiesFound   = "FOUND"
	copiesAsking  = "ASKING"
	copiesCleared = "CLEARED"
	copiesDone    = "DONE"
)

// askedTogether is how many bytes one event asks for.
const askedTogether = 2000

// copyKey names bytes as the eraser does: tenant/SHA-256.
func copyKey(ref blob.Ref) string { return ref.Tenant + "/" + ref.Hex() }

func copyRef(o db.DisposalObject) (blob.Ref, error) {
	tenant, _, ok := strings.Cut(o.Key, "/")
	if !ok || len(o.Sha256) != 32 {
		return blob.Ref{}, fault.Internal("COPY_KEY", "%q is no key of the platform's store", o.Key)
	}
	return blob.Ref{Tenant: tenant, SHA256: [32]byte(o.Sha256), Size: o.Size}, nil
}

// answered locks the place on a list that an answer is about. ok: it is awaited.
func (s *Service) answered(ctx context.Context, tx pgx.Tx, disposal, pkg, state string, round int32) (d, p uuid.UUID, ok bool, err error) {
	tenant := pg.Tenant(ctx)
	of, d, err := parseName("disposal", disposal, "disposals", noDisposal(disposal))
	if err == nil {
		_, p, err = parseName("package", pkg, "packages", noPackage(pkg))
	}
	if err != nil || of != tenant {
		return d, p, false, err
	}
	item, err := db.New(tx).LockDisposalItem(ctx, db.LockDisposalItemParams{Disposal: d, Package: p})
	if errors.Is(err, pgx.ErrNoRows) {
		return d, p, false, nil
	}
	return d, p, err == nil && item.Copies == state && item.Round == round, err
}

// onCopiesFound notes what a service has of documents that were destroyed. An answer that is not awaited, or came before, changes nothing.
func (s *Service) onCopiesFound(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesFound) error {
	disposal, pkg, ok, err := s.answered(ctx, tx, ev.GetDisposal(), ev.GetPackage(), copiesFinding, 0)
	if err != nil || !ok {
		return err
	}
	q, tenant := db.New(tx), pg.Tenant(ctx)
	n, err := q.InsertAnswer(ctx, db.InsertAnswerParams{Disposal: disposal, Package: pkg, TenantID: tenant, Part: ev.GetPart(), Service: ev.GetService(), At: pg.Time(s.now())})
	if err != nil || n == 0 {
		return err
	}
	in := db.InsertFoundCopiesParams{Disposal: disposal, Package: pkg, TenantID: tenant, Service: ev.GetService()}
	seen := map[string]bool{}
	for _, c := range ev.GetCopies() {
		ref, err := blob.ParseURI(c.GetUri())
		if err != nil {
			return err
		}
		key := copyKey(ref)
		if seen[key] {
			continue
		}
		seen[key] = true
		in.Keys, in.Sums, in.Sizes, in.Whats = append(in.Keys, key), append(in.Sums, ref.SHA256[:]), append(in.Sizes, ref.Size), append(in.Whats, c.GetWhat())
	}
	if len(in.Keys) == 0 {
		return nil
	}
	return q.InsertFoundCopies(ctx, in)
}

// onCopiesNeeded notes what a service still needs of what it was asked for.
func (s *Service) onCopiesNeeded(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesNeeded) error {
	disposal, pkg, ok, err := s.answered(ctx, tx, ev.GetDisposal(), ev.GetPackage(), copiesAsking, ev.GetRound())
	if err != nil || !ok {
		return err
	}
	q, tenant := db.New(tx), pg.Tenant(ctx)
	n, err := q.InsertAnswer(ctx, db.InsertAnswerParams{Disposal: disposal, Package: pkg, TenantID: tenant, Round: ev.GetRound(), Part: ev.GetPart(), Service: ev.GetService(), At: pg.Time(s.now())})
	if err != nil || n == 0 || len(ev.GetCopies()) == 0 {
		return err
	}
	in := db.InsertNeedsParams{Disposal: disposal, Package: pkg, TenantID: tenant, Round: ev.GetRound(), Service: ev.GetService()}
	for _, c := range ev.GetCopies() {
		ref, err := blob.ParseURI(c.GetUri())
		if err != nil {
			return err
		}
		in.Keys, in.Others = append(in.Keys, copyKey(ref)), append(in.Others, max(c.GetOthers(), 1))
	}
	return q.InsertNeeds(ctx, in)
}

// tendCopies does what is next for the copies of a destroyed package. open: it is not done with.
func (s *Service) tendCopies(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow) (open bool, err error) {
	switch item.Copies {
	case "", copiesDone:
		return false, nil
	case copiesFinding:
		missing, err := s.silent(ctx, tenant, disposal, item, 0)
		if err != nil || len(missing) > 0 {
			return true, s.copiesWait(ctx, tenant, disposal, item, missing, err)
		}
		return true, s.condemn(ctx, tenant, disposal, item)
	case copiesFound:
		return true, s.condemn(ctx, tenant, disposal, item)
	case copiesAsking:
		missing, err := s.silent(ctx, tenant, disposal, item, item.Round)
		if err != nil || len(missing) > 0 {
			return true, s.copiesWait(ctx, tenant, disposal, item, missing, err)
		}
		return true, s.clear(ctx, tenant, disposal, item)
	}
	return true, nil // the eraser's turn
}

// silent names the services that have not given all their answers.
func (s *Service) silent(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow, round int32) ([]string, error) {
	var missing []string
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).Answers(ctx, db.AnswersParams{Disposal: disposal, Package: item.PackageID, Round: round, Parts: item.Parts})
		given := map[string]int64{}
		for _, r := range rows {
			given[r.Service] = r.Parts
		}
		for _, h := range s.cfg.Disposal.Holders {
			if given[h] < int64(item.Parts) {
				missing = append(missing, h)
			}
		}
		return err
	})
	return missing, err
}

func (s *Service) copiesWait(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow, missing []string, err error) error {
	if err != nil {
		return err
	}
	return s.copiesTrouble(ctx, tenant, disposal, item, "copies in the platform's store wait for the answer of "+strings.Join(missing, ", "))
}

func (s *Service) copiesTrouble(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow, said string) error {
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetDisposalTrouble(ctx, db.SetDisposalTroubleParams{ID: disposal, LastError: item.PackageID.String() + ": " + said})
	})
}

// condemn asks every service whether it needs what was found. How the bytes lie is noted before: what is stored again afterwards is
// asked for again, and never erased by this answer.
func (s *Service) condemn(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow) error {
	var list []db.DisposalObject
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		list, err = db.New(tx).CopiesToAskFor(ctx, db.CopiesToAskForParams{Disposal: disposal, Package: item.PackageID})
		return err
	})
	if err != nil {
		return err
	}
	var uris, keys, marks, absent []string
	for _, o := range list {
		ref, err := copyRef(o)
		if err != nil {
			return err
		}
		mark, err := s.blobs.Mark(ctx, ref)
		switch {
		case errors.Is(err, fault.NotFound("BLOB_NOT_FOUND", "")):
			absent = append(absent, o.Key)
			continue
		case err != nil:
			return err
		case mark.Age < s.cfg.Disposal.Quiet:
			return s.copiesTrouble(ctx, tenant, disposal, item, fmt.Sprintf("%s was stored in the platform's store %s ago: it is asked for after %s", o.Key, mark.Age.Round(time.Second), s.cfg.Disposal.Quiet))
		}
		uris, keys, marks = append(uris, ref.URI()), append(keys, o.Key), append(marks, mark.Text)
	}
	return s.db.Tx(bus.WithCorrelation(ctx, disposal.String()), tenant, func(ctx context.Context, tx pgx.Tx) error {
		q, next, parts := db.New(tx), copiesAsking, (len(uris)+askedTogether-1)/askedTogether
		if parts == 0 {
			next = copiesDone
		}
		n, err := q.AskForCopies(ctx, db.AskForCopiesParams{Disposal: disposal, Package: item.PackageID, Copies: next, Round: item.Round, Parts: int32(parts)}) //nolint:gosec // a few
		if err != nil || n == 0 {                                                                                                                               // another replica of this service did
			return err
		}
		err = q.SetCopiesAbsent(ctx, db.SetCopiesAbsentParams{Disposal: disposal, Package: item.PackageID, Keys: absent})
		if err == nil {
			err = q.SetCopyMarks(ctx, db.SetCopyMarksParams{Disposal: disposal, Package: item.PackageID, Keys: keys, Marks: marks})
		}
		part := int32(0)
		for some := range slices.Chunk(uris, askedTogether) {
			part++
			if err == nil {
				err = s.bus.Emit(ctx, tx, &conservationv1.CopiesCondemned{Disposal: disposalName(tenant, disposal), Package: packageName(tenant, item.PackageID), Round: item.Round + 1, Part: part, Uris: some})
			}
		}
		return err
	})
}

// need is why bytes stay.
type need struct {
	others   int64
	services []string
}

func (n *need) add(service string, others int64) {
	n.others += others
	n.services = append(n.services, service)
}

func (n *need) String() string {
	return fmt.Sprintf("needed by %d others that stand, in %s: erased when the last of them is destroyed", n.others, strings.Join(n.services, ", "))
}

// clear decides what the eraser may take: what no service needs, and nothing here that stands.
func (s *Service) clear(ctx context.Context, tenant string, disposal uuid.UUID, item db.DisposalItemsRow) error {
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		needs := map[string]*need{}
		add := func(key, service string, others int64) {
			if needs[key] == nil {
				needs[key] = &need{}
			}
			needs[key].add(service, others)
		}
		list, err := q.CopiesToAskFor(ctx, db.CopiesToAskForParams{Disposal: disposal, Package: item.PackageID})
		if err != nil {
			return err
		}
		var sums [][]byte
		for _, o := range list {
			if strings.HasPrefix(o.Key, tenant+"/") {
				sums = append(sums, o.Sha256)
			}
		}
		own, err := q.StandingBytes(ctx, db.StandingBytesParams{TenantID: tenant, Sums: sums})
		if err != nil {
			return err
		}
		for _, o := range own {
			add(tenant+"/"+hex.EncodeToString(o.Sha256), holderSelf, o.Others)
		}
		rows, err := q.Needs(ctx, db.NeedsParams{Disposal: disposal, Package: item.PackageID, Round: item.Round})
		if err != nil {
			return err
		}
		for _, r := range rows {
			add(r.Key, r.Service, r.Others)
		}
		var keys, notes []string
		for key, n := range needs {
			keys, notes = append(keys, key), append(notes, n.String())
		}
		err = q.SetCopyNeeded(ctx, db.SetCopyNeededParams{Disposal: disposal, Package: item.PackageID, Keys: keys, Notes: notes})
		if err != nil {
			return err
		}
		left, err := q.ClearCopies(ctx, db.ClearCopiesParams{Disposal: disposal, Package: item.PackageID})
		if err != nil {
			return err
		}
		next := copiesCleared
		if left == 0 {
			next = copiesDone
		}
		_, err = q.SetCopies(ctx, db.SetCopiesParams{Disposal: disposal, Package: item.PackageID, Copies: next, Was: copiesAsking})
		return err
	})
}

// tellOf tells the other services what was destroyed, and awaits what each has of it. made are the names of what was made of the
// package's documents, beside the reports on each.
func (s *Service) tellOf(ctx context.Context, tx pgx.Tx, tenant string, disposal, pkg uuid.UUID, at time.Time, made []string) error {
	q := db.New(tx)
	units, err := q.UnitsToTellOf(ctx, pkg)
	if err != nil {
		return err
	}
	parts := int32(0)
	ctx = bus.WithCorrelation(ctx, disposal.String())
	for part := range slices.Chunk(units, unitsOfEvent) {
		parts++
		ev := &conservationv1.UnitsDestroyed{Disposal: disposalName(tenant, disposal), Package: packageName(tenant, pkg), Time: timeMessage(&at), Part: parts, Made: made}
		made = nil // once
		for _, u := range part {
			ev.Made = append(ev.Made, unitName(tenant, u.ID))
			if !u.Stands {
				ev.Subjects = append(ev.Subjects, u.Subject)
			}
		}
		ev.FileSha256, err = q.DestroyedDigests(ctx, db.DestroyedDigestsParams{Package: pkg, Subjects: ev.GetSubjects()})
		if err == nil {
			err = s.bus.Emit(ctx, tx, ev)
		}
		if err != nil {
			return err
		}
	}
	_, err = q.SeekCopies(ctx, db.SeekCopiesParams{Disposal: disposal, Package: pkg, Copies: copiesFinding, Parts: parts})
	return err
}
