package tenancy

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/tenancy/internal/db"
)

// CreateTenant adds a tenant to a reseller: any for operators, its own for a reseller. Conflict
// TENANT_EXISTS; Precondition RESELLER_NOT_FOUND.
func (s *Service) CreateTenant(ctx context.Context, req *tenancyv1.CreateTenantRequest) (*tenancyv1.Tenant, error) {
	reseller := segment(req.GetTenant().GetReseller(), 1)
	if err := mayActAs(ctx, reseller); err != nil {
		return nil, err
	}
	resp := &tenancyv1.Tenant{}
	err := s.db.Tx(ctx, req.GetTenantId(), func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, tenancyv1.TenancyService_CreateTenant_FullMethodName, req.GetRequestId(), req, resp, func() error {
			of, err := q(tx).GetReseller(ctx, reseller)
			if isNoRows(err) {
				return fault.Precondition("RESELLER_NOT_FOUND", "tenant.reseller: there is no reseller resellers/%s: create it first", reseller).
					WithField("tenant.reseller", "RESELLER_NOT_FOUND", "does not exist")
			}
			if err != nil {
				return fmt.Errorf("tenancy: read reseller %s: %w", reseller, err)
			}
			if err := open(ctx, holds(db.Tenant{}, of)); err != nil {
				return err
			}
			row := db.Tenant{TenantID: req.GetTenantId(), ResellerID: reseller, DisplayName: req.GetTenant().GetDisplayName(),
				Version: 1, CreateTime: pg.Time(s.now())}
			err = q(tx).InsertTenant(ctx, db.InsertTenantParams{TenantID: row.TenantID, ResellerID: row.ResellerID,
				DisplayName: row.DisplayName, CreateTime: row.CreateTime})
			if err != nil {
				return existing(err, "TENANT_EXISTS", "tenant_id", "tenants/"+row.TenantID)
			}
			fillTenant(ctx, resp, db.GetTenantRow{Tenant: row, Reseller: of})
			return audit(ctx, tx, "tenant.create", resp.GetName(), map[string]string{"reseller": resp.GetReseller()})
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetTenant reads one tenant: the caller's own, one of its reseller's, or any for operators and services.
func (s *Service) GetTenant(ctx context.Context, req *tenancyv1.GetTenantRequest) (*tenancyv1.Tenant, error) {
	resp, id := &tenancyv1.Tenant{}, segment(req.GetName(), 1)
	err := s.db.Tx(ctx, id, func(ctx context.Context, tx pgx.Tx) error {
		row, err := s.mayActFor(ctx, tx, id)
		if err != nil {
			return err
		}
		fillTenant(ctx, resp, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListTenants reads the tenants of a reseller, or all for operators, by id; with a state only those in it.
func (s *Service) ListTenants(ctx context.Context, req *tenancyv1.ListTenantsRequest) (*tenancyv1.ListTenantsResponse, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	reseller := segment(req.GetParent(), 1)
	if c.Role == auth.RoleReseller && reseller == "" {
		return nil, fault.Invalid("PARENT_REQUIRED", "parent: name your reseller, resellers/%s", c.Reseller).
			WithField("parent", "REQUIRED", "only operators list the tenants of all resellers")
	}
	if reseller != "" {
		if err := mayActAs(ctx, reseller); err != nil {
			return nil, err
		}
	}
	hash, after := pg.FilterHash("tenants", reseller, req.GetState().String()), ""
	_, err = pg.DecodePageToken(req.GetPageToken(), hash, &after)
	if err != nil {
		return nil, err
	}
	resp := &tenancyv1.ListTenantsResponse{}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		size := pageSize(req.GetPageSize())
		rows, err := q(tx).ListTenants(ctx, db.ListTenantsParams{After: after, ResellerID: reseller, State: int32(req.GetState()), PageSize: size + 1})
		if err != nil {
			return fmt.Errorf("tenancy: list tenants: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, hash, func(r db.ListTenantsRow) []any { return []any{r.Tenant.TenantID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			t := &tenancyv1.Tenant{}
			fillTenant(ctx, t, db.GetTenantRow(row))
			resp.Tenants = append(resp.Tenants, t)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func fillTenant(ctx context.Context, t *tenancyv1.Tenant, of db.GetTenantRow) {
	row, in := of.Tenant, holds(of.Tenant, of.Reseller)
	t.Name, t.Reseller, t.DisplayName = "tenants/"+row.TenantID, "resellers/"+row.ResellerID, row.DisplayName
	t.CreateTime, t.Etag, t.State = timestamppb.New(row.CreateTime), etag(row.Version), stateOf(len(in) > 0)
	for _, h := range in {
		t.Suspensions = append(t.Suspensions, h.shown(ctx))
	}
}

// etag names a version of a resource. spec: AIP-154
func etag(version int32) string { return strconv.Quote(strconv.Itoa(int(version))) }
