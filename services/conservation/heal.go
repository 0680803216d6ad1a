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
		err := s.replicas.look(ctx)
		if err == nil {
			err = s.adopt(ctx)
		}
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
	for _, x := range r.all {
		for more := !x.isOut(); more; {
			more, err = r.settleDebt(ctx, x)
			if err != nil {
				return fmt.Errorf("conservation: copy what the %s replica owes: %w", x.name, err)
			}
		}
	}
	return nil
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

const debtPage = 20

// settleDebt copies some of what a replica owes. More says that there may be more. The rows are locked while
// it copies: another process takes others.
func (r *replicas) settleDebt(ctx context.Context, x *replica) (more bool, err error) {
	err = r.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		owed, err := q.OwedCopies(ctx, db.OwedCopiesParams{Replica: x.name, Page: debtPage})
		if err != nil {
			return err
		}
		for _, c := range owed {
			o, err := q.GetObject(ctx, c.ObjectID)
			if err != nil {
				return err
			}
			_, err = r.remake(ctx, o, x)
			if err != nil {
				return err
			}
			now := pg.Time(r.now())
			due := now.Add(firstCheck)
			err = q.SetCopy(ctx, db.SetCopyParams{Object: o.ID, Replica: x.name, State: copyGood, CheckedAt: &now, CheckDue: &due})
			if err != nil {
				return err
			}
		}
		more = len(owed) == debtPage
		return nil
	})
	return more, err
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

// fetch reads a copy to a temporary file, verified.
func (r *replicas) fetch(ctx context.Context, o db.ArchiveObject, from *replica) (*os.File, error) {
	body, err := from.Open(ctx, nameOf(o))
	from.saw(err, r.now())
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
// the job is set aside for a person.
func (s *Service) mend(ctx context.Context, job *river.Job[mendArgs]) error {
	o, err := s.object(ctx, job.Args.Tenant, job.Args.Object)
	if err != nil {
		return err
	}
	copies, err := s.replicas.copies(ctx, o)
	if err != nil {
		return err
	}
	for _, x := range s.replicas.all {
		if copies[x.name] != copyDamaged {
			continue
		}
		quarantine, err := s.replicas.remake(ctx, o, x)
		if err != nil {
			return err
		}
		err = s.replicas.repaired(ctx, o, x, quarantine)
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *replicas) repaired(ctx context.Context, o db.ArchiveObject, x *replica, quarantine string) error {
	return r.db.Tx(ctx, o.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q, now := db.New(tx), pg.Time(r.now())
		due := now.Add(firstCheck)
		err := q.SetCopy(ctx, db.SetCopyParams{Object: o.ID, Replica: x.name, State: copyGood, CheckedAt: &now, CheckDue: &due})
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

// adopt brings packages that were sealed before there were replicas into them.
func (s *Service) adopt(ctx context.Context) error {
	const page = 10
	var rows []db.PackagesWithoutObjectRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = db.New(tx).PackagesWithoutObject(ctx, page)
		return err
	})
	for i := 0; err == nil && i < len(rows); i++ {
		err = s.adoptPackage(ctx, rows[i].TenantID, rows[i].ID)
	}
	return err
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
		err := s.replicas.record(ctx, tx, tenant, []*object{o})
		if err != nil {
			return err
		}
		_, err = db.New(tx).AdoptPackage(ctx, db.AdoptPackageParams{Object: &o.id, ID: id})
		return err
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
