package conservation

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
)

// SealArgs asks for the sealing of a package.
type SealArgs struct {
	Tenant  string    `json:"tenant"`
	Package uuid.UUID `json:"package"`
}

// Kind names the job.
func (SealArgs) Kind() string { return "seal" }

// ClosePackage fixes a package over the units that wait and starts its sealing. The line of
// (tenant, year, class) is locked: of many that close at once, one takes the units and the others
// find none. From then on membership, order, times and terms never change.
func (s *Service) ClosePackage(ctx context.Context, req *conservationv1.ClosePackageRequest) (*conservationv1.Package, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	class := cmp.Or(req.GetClass(), classPrivate)
	if _, ok := findClass(class); !ok {
		return nil, unknownClass(class)
	}
	resp := &conservationv1.Package{}
	err := s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, conservationv1.ConservationService_ClosePackage_FullMethodName, req.GetRequestId(), req, resp, func() error {
			closed, err := s.close(ctx, tx, ids[0], req.GetFiscalYear(), class)
			if err != nil {
				return err
			}
			proto.Merge(resp, closed)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Service) close(ctx context.Context, tx pgx.Tx, tenant string, year int32, class string) (*conservationv1.Package, error) {
	q := db.New(tx)
	err := s.bearings.mayBegin(ctx, q)
	if err != nil {
		return nil, err
	}
	number, err := q.NextNumber(ctx, db.NextNumberParams{TenantID: tenant, FiscalYear: year, Class: class})
	if err != nil {
		return nil, fmt.Errorf("conservation: lock line: %w", err)
	}
	members, err := q.WaitingUnits(ctx, db.WaitingUnitsParams{
		TenantID: tenant, FiscalYear: year, Class: class, Ceiling: int32(s.cfg.MaxUnits), //nolint:gosec // at most 50000
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: waiting units: %w", err)
	}
	members, err = s.underCeiling(ctx, q, members)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, fault.Precondition("NO_UNITS_WAITING", "no document of class %s and fiscal year %d waits for a package", class, year)
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	fixed, err := s.terms()
	if err != nil {
		return nil, err
	}
	keep, err := retentionOf(ctx, q, tenant, year, class)
	if err != nil {
		return nil, err
	}
	err = q.InsertPackage(ctx, db.InsertPackageParams{
		ID: id, TenantID: tenant, FiscalYear: year, Class: class, Number: number, UnitCount: int32(len(members)), //nolint:gosec // see above
		Terms: fixed, ClosedAt: pg.Time(s.now()), Correlation: id.String(), Traceparent: telemetry.Inject(ctx), RetainUntil: &keep,
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: insert package: %w", err)
	}
	positions := make([]int32, len(members))
	for i := range positions {
		positions[i] = int32(i + 1) //nolint:gosec // see above
	}
	n, err := q.AssignUnits(ctx, db.AssignUnitsParams{PackageID: &id, Ids: members, Positions: positions})
	if err != nil {
		return nil, fmt.Errorf("conservation: assign units: %w", err)
	}
	if n != int64(len(members)) {
		return nil, fault.Internal("UNITS_MOVED", "%d of %d units were assigned", n, len(members))
	}
	err = telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "package.close", Resource: packageName(tenant, id),
		Detail: map[string]string{"class": class, "fiscal_year": strconv.Itoa(int(year)), "units": strconv.Itoa(len(members))},
	})
	if err != nil {
		return nil, err
	}
	err = s.jobs.InsertTx(ctx, tx, SealArgs{Tenant: tenant, Package: id}, nil)
	if err != nil {
		return nil, err
	}
	p, err := q.GetPackage(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("conservation: read package: %w", err)
	}
	return packageMessage(p), nil
}
