package conservation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// watch looks at the replicas until ctx ends: declares one of them out that has been away for too long, takes
// it back when it answers, and copies what it owes.
func (s *Service) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		err := errors.Join(s.replicas.look(ctx), s.adopt(ctx))
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "the archive's replicas could not be looked after", "error", err)
		}
		pause(ctx, s.cfg.Storage.Probe)
	}
	return nil
}

// look is one round.
func (r *replicas) look(ctx context.Context) error {
	for _, x := range r.all {
		probe, cancel := context.WithTimeout(ctx, max(r.cfg.Probe, time.Second))
		err := x.Check(probe)
		if probe.Err() != nil && ctx.Err() == nil {
			err = fault.Unavailable("VAULT_UNAVAILABLE", "%s does not answer", x)
		}
		cancel()
		x.saw(err, r.now())
	}
	err := r.agree(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, x := range r.all {
		if x.isOut() {
			continue
		}
		_, _, err = r.settleDebt(ctx, x, r.now().Add(debtTurn))
		if err != nil {
			errs = append(errs, fmt.Errorf("conservation: copy what the %s replica owes: %w", x.name, err))
		}
	}
	return errors.Join(errs...)
}

// agree brings what this process sees and what all processes know together: a replica that is out is so in
// the database, from where the event tells it, before the first document is taken in without it.
func (r *replicas) agree(ctx context.Context) error {
	var out []db.ArchiveOutage
	err := r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		out, err = db.New(tx).Outages(ctx)
		return err
	})
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, o := range out {
		known[o.Replica] = true
	}
	now := r.now()
	for i, x := range r.all {
		other := r.all[1-i]
		x.mu.Lock()
		since, why := x.failing, x.why
		x.mu.Unlock()
		other.mu.Lock()
		otherFails := !other.failing.IsZero()
		other.mu.Unlock()
		switch {
		case known[x.name] && since.IsZero():
			err = r.restore(ctx, x)
		case !known[x.name] && !since.IsZero() && now.Sub(since) >= r.cfg.DegradeAfter && !otherFails && !known[other.name]:
			err = r.degrade(ctx, x, since, why)
			known[x.name] = err == nil
		default:
			x.setOut(known[x.name])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *replicas) degrade(ctx context.Context, x *replica, since time.Time, why string) error {
	ctx = telemetry.WithActor(ctx, "service:conservation")
	err := r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).InsertOutage(ctx, db.InsertOutageParams{Replica: x.name, Since: pg.Time(since), Reason: why})
		if err != nil || n == 0 {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "storage.degrade", Resource: "storage/" + x.name, Detail: map[string]string{"reason": why}})
		if err != nil {
			return err
		}
		return r.bus.Emit(ctx, tx, &conservationv1.StorageDegraded{Replica: x.name, Since: timestamppb.New(since), Reason: why})
	})
	if err != nil {
		return fmt.Errorf("conservation: declare the %s replica out: %w", x.name, err)
	}
	x.setOut(true)
	r.log.ErrorContext(ctx, "a replica is away: documents are taken in with one copy", "replica", x.name, "place", x.String(), "since", since, "reason", why)
	return nil
}

func (r *replicas) restore(ctx context.Context, x *replica) error {
	ctx = telemetry.WithActor(ctx, "service:conservation")
	err := r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		since, err := q.EndOutage(ctx, x.name)
		if err != nil || len(since) == 0 {
			return err
		}
		counts, err := q.CountCopies(ctx)
		if err != nil {
			return err
		}
		ev := &conservationv1.StorageRestored{Replica: x.name, Since: timestamppb.New(since[0])}
		for _, c := range counts {
			if c.Replica == x.name && c.State == copyOwed {
				ev.OwedCopies = c.Copies
			}
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "storage.restore", Resource: "storage/" + x.name})
		if err != nil {
			return err
		}
		return r.bus.Emit(ctx, tx, ev)
	})
	if err != nil {
		return fmt.Errorf("conservation: take the %s replica back: %w", x.name, err)
	}
	x.setOut(false)
	r.log.WarnContext(ctx, "a replica is back: documents are taken in with two copies again", "replica", x.name, "place", x.String())
	return nil
}

const (
	debtTurn  = time.Minute      // that one replica's debts take before others, and the replicas themselves, are looked at again
	debtAgain = 10 * time.Minute // that a copy which could not be made is passed over
)

// settleDebt makes copies that a replica owes, one after the other, each outside of any transaction, until none is left that can be
// tried now, or the time is over (more). What cannot be made is told, and nothing waits for it. An error means that a replica is
// away, or the database.
func (r *replicas) settleDebt(ctx context.Context, x *replica, until time.Time) (unpaid []problem, more bool, err error) {
	owes := false
	err = r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := dropDeadClaims(ctx, q)
		if err == nil {
			owes, err = q.OwesCopies(ctx, db.OwesCopiesParams{Replica: x.name, Before: pg.Time(r.now()).Add(-debtAgain)})
		}
		return err
	})
	if err != nil || !owes {
		return nil, false, err
	}
	tied, t, err := r.tie(ctx)
	if err != nil {
		return nil, false, err
	}
	defer t.cut(ctx)
	for !r.now().After(until) {
		var claimed []db.ArchiveObject
		err = r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			now := pg.Time(r.now())
			var err error
			claimed, err = db.New(tx).ClaimDebt(ctx, db.ClaimDebtParams{Replica: x.name, Now: now, Before: now.Add(-debtAgain), ClaimedBy: t.key})
			return err
		})
		if err != nil || len(claimed) == 0 {
			return unpaid, false, err
		}
		o := claimed[0]
		_, err = r.remake(tied, o, x)
		switch {
		case err == nil:
			err = r.setGood(tied, o, x, t.key)
		case tied.Err() != nil || r.away(tied) != nil:
			return unpaid, false, errors.Join(tornBy(tied, err), r.letGo(ctx, o, x, t.key, nil))
		default:
			r.log.ErrorContext(ctx, "a copy that a replica owes could not be made", "object", o.Key, "replica", x.name, "error", err)
			unpaid = append(unpaid, problem{o.Key, "the " + x.name + " replica owes it: " + fault.Of(err).Error()})
			now := pg.Time(r.now())
			err = r.letGo(ctx, o, x, t.key, &now)
		}
		if err != nil {
			return unpaid, false, err
		}
	}
	return unpaid, true, nil
}

// tie lets it be seen that this process is at work with copies, for as long as it is.
func (r *replicas) tie(ctx context.Context) (context.Context, *tether, error) {
	id, err := pg.NewID()
	if err != nil {
		return nil, nil, err
	}
	tied, t, err := tie(ctx, r.db, lockKey("copies", id.String()))
	if err == nil && t == nil {
		err = fault.Aborted("LOCK_TAKEN", "another work has the same number: it is begun anew")
	}
	return tied, t, err
}

// dropDeadClaims frees copies that a process was making which is no more.
func dropDeadClaims(ctx context.Context, q *db.Queries) error {
	list, err := q.Claimants(ctx)
	for i := 0; err == nil && i < len(list); i++ {
		var gone bool
		gone, err = q.ClaimantGone(ctx, list[i])
		if err == nil && gone {
			err = q.DropClaimsOf(ctx, list[i])
		}
	}
	return err
}

// away says whether a replica cannot be used now.
func (r *replicas) away(ctx context.Context) error {
	for _, x := range r.all {
		err := x.Check(ctx)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *replicas) setGood(ctx context.Context, o db.ArchiveObject, x *replica, by int64) error {
	return r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error { return r.made(ctx, db.New(tx), o, x, by) })
}

// made notes a copy that was made under a claim. Without the claim others may have gone on: the eraser, or who makes the copy too.
func (r *replicas) made(ctx context.Context, q *db.Queries, o db.ArchiveObject, x *replica, by int64) error {
	now := pg.Time(r.now())
	n, err := q.SetCopyMade(ctx, db.SetCopyMadeParams{Object: o.ID, Replica: x.name, At: now, Due: now.Add(firstCheck), ClaimedBy: by})
	if err == nil && n == 0 {
		err = fault.Aborted("LOCK_LOST", "the copy of %s in the %s replica was made without a claim to it: check inventory says whether it may be there", o.Key, x.name)
	}
	return err
}

// letGo ends the work with a copy that was not made. failed: when that was its own fault.
func (r *replicas) letGo(ctx context.Context, o db.ArchiveObject, x *replica, by int64, failed *time.Time) error {
	return r.db.Tx(context.WithoutCancel(ctx), o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).LetGoOfCopy(ctx, db.LetGoOfCopyParams{Object: o.ID, Replica: x.name, ClaimedBy: by, TriedAt: failed})
	})
}

// remake writes a copy from another replica that holds the object as it must be.
func (r *replicas) remake(ctx context.Context, o db.ArchiveObject, to *replica) (quarantine string, err error) {
	var said []string
	for _, from := range r.all {
		if from == to {
			continue
		}
		var good *os.File
		good, err = r.fetch(ctx, o, from)
		if err != nil {
			said = append(said, from.name+": "+fault.Of(err).Error())
			noted := r.rotted(ctx, o, from, err)
			if noted != nil {
				return "", noted
			}
			continue
		}
		lock := (&object{kind: o.Kind, retain: o.RetainUntil}).lock()
		quarantine, err = to.Replace(ctx, nameOf(o), good, lock)
		to.saw(err, r.now())
		drop(good)
		return quarantine, err
	}
	if vault.Damaged(err) {
		return "", fault.Precondition("NO_GOOD_COPY", "object %s has no good copy (%s): look for its bytes elsewhere, its SHA-256 is %x", o.Key, strings.Join(said, "; "), o.Sha256)
	}
	return "", err
}

// rotted notes that the copy from which another was to be made is damaged itself, where it counted as good.
func (r *replicas) rotted(ctx context.Context, o db.ArchiveObject, from *replica, cause error) error {
	if !vault.Damaged(cause) {
		return nil
	}
	copies, err := r.copies(ctx, o)
	if err != nil || copies[from.name] != copyGood {
		return err
	}
	return r.damaged(ctx, o, from.name, fault.Of(cause).Message)
}

// fetch reads a copy to a temporary file, verified.
func (r *replicas) fetch(ctx context.Context, o db.ArchiveObject, from *replica) (*os.File, error) {
	file, err := r.spoolCopy(ctx, o, from)
	if err != nil {
		err = vault.Judge(ctx, from, nameOf(o), err)
		if err == nil {
			file, err = r.spoolCopy(ctx, o, from)
		}
	}
	if !errors.Is(err, fault.Unavailable(spoolUnavailable, "")) { // that is no word of the replica
		from.saw(err, r.now())
	}
	return file, err
}

func (r *replicas) spoolCopy(ctx context.Context, o db.ArchiveObject, from *replica) (*os.File, error) {
	body, err := from.Open(ctx, nameOf(o))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	file, _, err := spool(body)
	return file, err
}

// mendArgs asks for the repair of an object's damaged copies.
type mendArgs struct {
	Tenant string    `json:"tenant"`
	Object uuid.UUID `json:"object"`
}

// Kind names the job.
func (mendArgs) Kind() string { return "mend" }

// damaged notes that a copy is not what it must be, tells it, and asks for its repair; once.
func (r *replicas) damaged(ctx context.Context, o db.ArchiveObject, name, problem string) error {
	r.log.ErrorContext(ctx, "a copy of the archive is damaged", "object", o.Key, "replica", name, "problem", problem)
	ctx = telemetry.WithActor(ctx, "service:conservation")
	return r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		n, err := q.InsertDamage(ctx, db.InsertDamageParams{
			ID: id, Object: o.ID, TenantID: o.TenantID, Replica: name, Problem: problem, At: pg.Time(r.now()),
		})
		if err != nil || n == 0 {
			return err
		}
		err = q.SetCopy(ctx, db.SetCopyParams{Object: o.ID, Replica: name, State: copyDamaged})
		if err != nil {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "copy.damaged", Resource: o.Key, Detail: map[string]string{"replica": name, "problem": problem}})
		if err != nil {
			return err
		}
		err = r.bus.Emit(ctx, tx, &conservationv1.CopyDamaged{Object: o.Key, Replica: name, Problem: problem})
		if err != nil {
			return err
		}
		return r.jobs.InsertTx(ctx, tx, mendArgs{Tenant: o.TenantID, Object: o.ID}, nil)
	})
}

// mend makes the damaged copies of an object again from the good one. With no good copy nothing is touched:
// the job is set aside for a person, who may put good bytes in the place of either copy.
func (s *Service) mend(ctx context.Context, job *river.Job[mendArgs]) error {
	o, err := s.object(ctx, job.Args.Tenant, job.Args.Object)
	if err != nil {
		return err
	}
	copies, err := s.replicas.copies(ctx, o)
	if err != nil {
		return err
	}
	var errs []error
	for _, x := range s.replicas.all {
		if copies[x.name] == copyDamaged {
			errs = append(errs, s.replicas.mendCopy(ctx, o, x))
		}
	}
	return errors.Join(errs...)
}

func (r *replicas) mendCopy(ctx context.Context, o db.ArchiveObject, x *replica) error {
	tied, t, err := r.tie(ctx)
	if err != nil {
		return err
	}
	defer t.cut(ctx)
	there := false
	err = r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		there, err = r.claim(ctx, db.New(tx), o, x, t.key)
		return err
	})
	if err != nil || !there { // the eraser has begun with it
		return err
	}
	quarantine := ""
	if vault.Verify(tied, x, nameOf(o)) != nil {
		quarantine, err = r.remake(tied, o, x)
	}
	if err != nil {
		return errors.Join(tornBy(tied, err), r.letGo(ctx, o, x, t.key, nil))
	}
	return r.repaired(tied, o, x, t.key, quarantine)
}

// claim takes a copy into work that nobody is making. there: it has a row.
func (r *replicas) claim(ctx context.Context, q *db.Queries, o db.ArchiveObject, x *replica, by int64) (there bool, err error) {
	copies, err := q.LockCopiesOf(ctx, []uuid.UUID{o.ID})
	if err != nil {
		return false, err
	}
	for _, c := range copies {
		if c.Replica != x.name {
			continue
		}
		if c.ClaimedBy != nil {
			gone, err := q.ClaimantGone(ctx, *c.ClaimedBy)
			if err != nil {
				return false, err
			}
			if !gone {
				return false, fault.Unavailable("COPY_BUSY", "somebody is making the copy of %s in the %s replica", o.Key, x.name)
			}
		}
		return true, q.ClaimCopy(ctx, db.ClaimCopyParams{Object: o.ID, Replica: x.name, Now: pg.Time(r.now()), ClaimedBy: by})
	}
	return false, nil
}

func (r *replicas) repaired(ctx context.Context, o db.ArchiveObject, x *replica, by int64, quarantine string) error {
	return r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(r.now())
		err := r.made(ctx, q, o, x, by)
		if err != nil {
			return err
		}
		err = q.SetRepaired(ctx, db.SetRepairedParams{Object: o.ID, Replica: x.name, At: &now, Quarantine: quarantine})
		if err != nil {
			return err
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "copy.repair", Resource: o.Key, Detail: map[string]string{"replica": x.name, "quarantine": quarantine}})
		if err != nil {
			return err
		}
		return r.bus.Emit(ctx, tx, &conservationv1.CopyRepaired{Object: o.Key, Replica: x.name, Quarantine: quarantine})
	})
}

// adopt brings packages that were sealed before there were replicas into them, some at a time. One that cannot be brought keeps no
// other waiting.
func (s *Service) adopt(ctx context.Context) error {
	const page = 10
	var errs []error
	for after, done := uuid.Nil, 0; done < page; {
		var rows []db.PackagesWithoutObjectRow
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			rows, err = db.New(tx).PackagesWithoutObject(ctx, db.PackagesWithoutObjectParams{After: after, Page: page})
			return err
		})
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, row := range rows {
			after = row.ID
			err = s.adoptPackage(ctx, row.TenantID, row.ID)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil && s.replicas.away(ctx) != nil:
				return err
			case err != nil:
				errs = append(errs, err)
			default:
				done++
			}
		}
		if len(rows) < page {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *Service) adoptPackage(ctx context.Context, tenant string, id uuid.UUID) error {
	p, err := s.pack(ctx, tenant, SealArgs{Tenant: tenant, Package: id})
	if err != nil || p.ObjectID != nil {
		return err
	}
	ref := refOf(tenant, p.ArchiveSha256, p.ArchiveSize)
	file, err := s.spoolBlob(ctx, ref)
	if err != nil {
		return fmt.Errorf("conservation: bring package %s into the replicas: %w", id, err)
	}
	defer drop(file)
	o := packageObject(p, ref.SHA256, ref.Size)
	s.replicas.place(o)
	err = s.replicas.write(ctx, o, file)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		n, err := q.AdoptPackage(ctx, db.AdoptPackageParams{Object: &o.id, ID: id})
		if err == nil && n == 0 {
			return s.tooLate(ctx, tx, p.ID, o)
		}
		if err != nil {
			return err
		}
		return s.replicas.record(ctx, tx, tenant, []*object{o})
	})
}

// tooLate: another process has brought the package into the replicas, or the eraser began with it while it was written there; then what was
// written goes too.
func (s *Service) tooLate(ctx context.Context, tx pgx.Tx, id uuid.UUID, o *object) error {
	q := db.New(tx)
	p, err := q.GetPackage(ctx, id)
	if err != nil || p.DisposalID == nil || (p.State != "ERASING" && p.State != "DESTROYED") {
		return err
	}
	return q.CondemnObject(ctx, db.CondemnObjectParams{
		Disposal: *p.DisposalID, Package: id, TenantID: p.TenantID, Key: o.Key, Sha256: o.SHA256[:], Size: o.Size, What: "brought into the replicas while it was being destroyed",
	})
}

func (s *Service) spoolBlob(ctx context.Context, ref blob.Ref) (*os.File, error) {
	body, err := s.blobs.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	file, _, err := spool(body)
	if closeErr := body.Close(); err == nil && closeErr != nil && !errors.Is(closeErr, io.EOF) {
		drop(file)
		return nil, closeErr
	}
	return file, err
}
