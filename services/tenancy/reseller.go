package tenancy

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/tenancy/internal/db"
)

// defaultPage is the size of a page whose request says 0.
const defaultPage = 50

func isNoRows(err error) bool { return errors.Is(err, pgx.ErrNoRows) }

func pageSize(asked int32) int32 {
	if asked == 0 {
		return defaultPage
	}
	return asked
}

// CreateReseller adds a reseller. Conflict RESELLER_EXISTS.
func (s *Service) CreateReseller(ctx context.Context, req *tenancyv1.CreateResellerRequest) (*tenancyv1.Reseller, error) {
	resp := &tenancyv1.Reseller{}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, tenancyv1.TenancyService_CreateReseller_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row := db.Reseller{ID: req.GetResellerId(), DisplayName: req.GetReseller().GetDisplayName(), CreateTime: pg.Time(s.now()), Version: 1}
			err := q(tx).InsertReseller(ctx, db.InsertResellerParams{ID: row.ID, DisplayName: row.DisplayName, CreateTime: row.CreateTime})
			if err != nil {
				return existing(err, "RESELLER_EXISTS", "reseller_id", "resellers/"+row.ID)
			}
			fillReseller(ctx, resp, row)
			return audit(ctx, tx, "reseller.create", resp.GetName(), nil)
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetReseller reads one reseller; a reseller reads itself only (rpc compares the name).
func (s *Service) GetReseller(ctx context.Context, req *tenancyv1.GetResellerRequest) (*tenancyv1.Reseller, error) {
	resp := &tenancyv1.Reseller{}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).GetReseller(ctx, segment(req.GetName(), 1))
		if isNoRows(err) {
			return fault.NotFound("RESELLER_NOT_FOUND", "there is no reseller %s", req.GetName())
		}
		if err != nil {
			return fmt.Errorf("tenancy: read %s: %w", req.GetName(), err)
		}
		fillReseller(ctx, resp, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListResellers reads all resellers by id.
func (s *Service) ListResellers(ctx context.Context, req *tenancyv1.ListResellersRequest) (*tenancyv1.ListResellersResponse, error) {
	hash, after := pg.FilterHash("resellers"), ""
	_, err := pg.DecodePageToken(req.GetPageToken(), hash, &after)
	if err != nil {
		return nil, err
	}
	resp := &tenancyv1.ListResellersResponse{}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		size := pageSize(req.GetPageSize())
		rows, err := q(tx).ListResellers(ctx, db.ListResellersParams{After: after, PageSize: size + 1})
		if err != nil {
			return fmt.Errorf("tenancy: list resellers: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, hash, func(r db.Reseller) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			r := &tenancyv1.Reseller{}
			fillReseller(ctx, r, row)
			resp.Resellers = append(resp.Resellers, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func fillReseller(ctx context.Context, r *tenancyv1.Reseller, row db.Reseller) {
	in := holds(db.Tenant{}, row)
	r.Name, r.DisplayName, r.CreateTime = "resellers/"+row.ID, row.DisplayName, timestamppb.New(row.CreateTime)
	r.Etag, r.State = etag(row.Version), stateOf(len(in) > 0)
	for _, h := range in {
		r.Suspension = h.shown(ctx)
	}
}

// existing turns a unique violation into a Conflict that names the resource.
func existing(err error, code, field, name string) error {
	mapped := pg.Error(err)
	if fault.Of(mapped).Kind != fault.KindConflict {
		return fmt.Errorf("tenancy: insert %s: %w", name, mapped)
	}
	return fault.Conflict(code, "%s exists already: choose another %s", name, field).
		WithField(field, code, "is taken").With(err)
}

// mayActAs checks that the reseller is the caller's own; operators act for all.
func mayActAs(ctx context.Context, reseller string) error {
	c, err := caller(ctx)
	if err != nil {
		return err
	}
	if c.Role == auth.RoleOperator || (c.Role == auth.RoleReseller && reseller != "" && c.Reseller == reseller) {
		return nil
	}
	return fault.Denied("FOREIGN_RESELLER", "resellers/%s is not yours", reseller)
}
