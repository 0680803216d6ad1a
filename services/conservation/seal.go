package conservation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// result is the stored output of a step.
type result struct {
	ref    blob.Ref
	time   time.Time // that the stamp attests
	object *object   // of the archive; nil: in the platform's store

	displaced []spooled // by the object; until it is known that the record names none of it
}

// step leads from one state of a package to the next: an act whose output bytes are stored, then a
// transaction that keeps them and moves the state. A crash between the two repeats the act; the
// transaction takes the first output and no other.
type step struct {
	name  string
	alone bool // its output has one name, whoever makes it: one process at a time
	act   func(s *Service, ctx context.Context, p db.Package) (result, error)
	keep  func(s *Service, ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error)
}

// steps by the state they start from. There is no other way for a package to move.
var steps = map[string]step{
	"CLOSED":  {"index", false, (*Service).writeIndex, (*Service).keepIndex},
	"INDEXED": {"sign", false, (*Service).signIndex, (*Service).keepSignature},
	"SIGNED":  {"stamp", false, (*Service).stampIndex, (*Service).keepStamp},
	"STAMPED": {"archive", true, (*Service).writeArchive, (*Service).keepArchive},
}

// stepFrom is the step that leads on from a state; false: the package is sealed.
func stepFrom(state string) (step, bool) {
	next, ok := steps[state]
	return next, ok
}

const (
	sealTime = 10 * time.Minute // of one turn of sealing a package
	noteTime = 10 * time.Second // to write down that it was over

	sealElection = time.Second // between two looks at whether another process still does a step
)

// seal brings a package from wherever it stands to SEALED.
func (s *Service) seal(ctx context.Context, job *river.Job[SealArgs]) error {
	for {
		p, err := s.pack(ctx, job.Args.Tenant, job.Args)
		if err != nil {
			return err
		}
		next, ok := s.steps(p.State)
		if !ok {
			return nil // sealed
		}
		err = s.mayBegin(ctx, p.TenantID)
		if err == nil {
			err = s.take(ctx, p, next)
		}
		if err != nil {
			return s.trouble(ctx, p, next, err)
		}
	}
}

func (s *Service) pack(ctx context.Context, tenant string, args SealArgs) (db.Package, error) {
	var p db.Package
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		p, err = db.New(tx).GetPackage(ctx, args.Package)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return p, noPackage(packageName(tenant, args.Package))
	}
	return p, err
}

// take does one step.
func (s *Service) take(ctx context.Context, p db.Package, next step) error {
	ctx, span := telemetry.Tracer().Start(ctx, "conservation."+next.name,
		trace.WithAttributes(attribute.String("package", p.ID.String()), attribute.Int("units", int(p.UnitCount))))
	defer span.End()
	err := s.takeAlone(ctx, p, next)
	if err != nil {
		span.SetStatus(codes.Error, fault.Of(err).Code)
	}
	return err
}

// takeAlone does a step while nobody else does it, where it has to be so: two processes of different releases may write the same package
// with other bytes, and each would replace what the other has stored.
func (s *Service) takeAlone(ctx context.Context, p db.Package, next step) error {
	if !next.alone || s.replicas == nil {
		return s.actAndKeep(ctx, p, next)
	}
	key := lockKey("seal", s.db.Schema(), p.ID.String())
	tied, t, err := tie(ctx, s.db, key)
	for err == nil && t == nil { // another process does it
		pause(ctx, sealElection)
		err = ctx.Err()
		if err == nil {
			tied, t, err = tie(ctx, s.db, key)
		}
	}
	if err != nil {
		return err
	}
	defer t.cut(ctx)
	now, err := s.pack(tied, p.TenantID, SealArgs{Tenant: p.TenantID, Package: p.ID})
	if err == nil && now.State == p.State {
		err = s.actAndKeep(tied, p, next)
	}
	return tornBy(tied, err)
}

func (s *Service) actAndKeep(ctx context.Context, p db.Package, next step) error {
	r, err := next.act(s, ctx, p)
	for _, d := range r.displaced {
		defer drop(d.file)
	}
	kept := int64(0)
	if err == nil {
		err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			kept, err = next.keep(s, ctx, tx, p, r)
			if err == nil && kept == 0 {
				s.log.InfoContext(ctx, "another run was first: this output is not used", "package", p.ID, "step", next.name)
			}
			return err
		})
	}
	if len(r.displaced) == 0 || err == nil && kept > 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sealTime) // also when its turn is over
	defer cancel()
	back := s.putBack(ctx, p, r.displaced)
	if back != nil && err != nil {
		return fmt.Errorf("%w (%w)", err, back)
	}
	return cmp.Or(err, back)
}

// trouble notes why a step failed where everybody can read it, and says when to try again. What
// others have to mend (a TSA that is down, a credential to be renewed) is tried for ever, with
// growing pauses; a defect counts attempts and is parked in the end.
func (s *Service) trouble(ctx context.Context, p db.Package, next step, cause error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return cause // the process drains: nothing is wrong with the package
	}
	f := fault.Of(cause)
	if ctx.Err() != nil { // whatever the step said, it was cut off: to say so takes a time of its own
		f = fault.Unavailable("STEP_TOO_LONG", "it was not done in the %s that a turn has, and begins anew (%s)", sealTime, f.Message).With(cause)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), noteTime)
		defer cancel()
	}
	said := next.name + ": " + f.Code + ": " + f.Message
	err := s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).SetTrouble(ctx, db.SetTroubleParams{ID: p.ID, LastError: said})
	})
	if err != nil {
		return fmt.Errorf("conservation: note trouble (%w): %w", cause, err)
	}
	switch f.Kind {
	case fault.KindUnavailable, fault.KindExhausted, fault.KindPrecondition, fault.KindAborted:
		s.log.WarnContext(ctx, "package waits", "package", p.ID, "step", next.name, "code", f.Code, "error", cause.Error())
		const first, longest = time.Second, 5 * time.Minute
		pause := longest
		if p.Attempts < 9 {
			pause = min(first<<p.Attempts, longest)
		}
		return river.JobSnooze(max(pause, f.RetryAfter))
	}
	return cause
}

func (s *Service) keepIndex(ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error) {
	return db.New(tx).SetIndexed(ctx, db.SetIndexedParams{ID: p.ID, Sha256: r.ref.SHA256[:], Size: &r.ref.Size})
}

func (s *Service) keepSignature(ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error) {
	return db.New(tx).SetSigned(ctx, db.SetSignedParams{ID: p.ID, Sha256: r.ref.SHA256[:], Size: &r.ref.Size})
}

func (s *Service) keepStamp(ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error) {
	at := pg.Time(r.time)
	return db.New(tx).SetStamped(ctx, db.SetStampedParams{ID: p.ID, Sha256: r.ref.SHA256[:], Size: &r.ref.Size, StampTime: &at})
}

// keepArchive ends the story: the package is sealed, its units are preserved, and everybody is told,
// all in one transaction. Each unit's event continues the unit's own trace.
func (s *Service) keepArchive(ctx context.Context, tx pgx.Tx, p db.Package, r result) (int64, error) {
	q := db.New(tx)
	at := pg.Time(s.now())
	sealed := db.SetSealedParams{ID: p.ID, Sha256: r.ref.SHA256[:], Size: &r.ref.Size, At: &at}
	copies := int32(0)
	if r.object != nil {
		sealed.Object, copies = &r.object.id, int32(len(r.object.to)) //nolint:gosec // two
	}
	n, err := q.SetSealed(ctx, sealed)
	if err != nil || n == 0 {
		return n, err
	}
	if r.object != nil {
		err = s.replicas.record(ctx, tx, p.TenantID, []*object{r.object})
		if err != nil {
			return 0, err
		}
	}
	members, err := q.PreserveMembers(ctx, p.ID)
	if err != nil {
		return 0, err
	}
	if len(members) != int(p.UnitCount) {
		return 0, fault.Internal("UNITS_MOVED", "package %s was closed with %d units and has %d", p.ID, p.UnitCount, len(members))
	}
	name, stamped := packageName(p.TenantID, p.ID), timestamppb.New(*p.StampTime)
	link := trace.LinkFromContext(ctx)
	for _, u := range members {
		uctx := bus.WithMeta(telemetry.Extract(ctx, u.Traceparent), bus.Envelope{ID: u.Causation, Tenant: p.TenantID, Correlation: u.Correlation})
		uctx, span := telemetry.Tracer().Start(uctx, "conservation.seal", trace.WithLinks(link),
			trace.WithAttributes(attribute.String("package", p.ID.String())))
		span.End()
		err = s.bus.Emit(uctx, tx, &conservationv1.UnitPreserved{
			Unit: unitName(p.TenantID, u.ID), Subject: u.Subject, Package: name, StampTime: stamped,
		})
		if err != nil {
			return 0, err
		}
	}
	err = s.bus.Emit(bus.WithCorrelation(ctx, p.Correlation), tx, &conservationv1.PackageSealed{
		Package: name, UnitCount: p.UnitCount, StampTime: stamped, ArchiveSha256: r.ref.SHA256[:], Copies: copies,
	})
	if err != nil {
		return 0, err
	}
	return n, telemetry.Audit(ctx, tx, telemetry.Act{Action: "package.seal", Resource: name, Detail: map[string]string{"archive_sha256": r.ref.Hex()}})
}
