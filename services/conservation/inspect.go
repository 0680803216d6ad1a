package conservation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// An inspector's token opens InspectionService and nothing else. It is the archive's own credential: keys of the tenancy
// service, and what becomes of them, have no part in it.
const (
	inspectorHeader = "inspector-token"
	inspectorPrefix = "ci_"
	// longestInspection bounds a grant: an inspection that goes on gets a new one.
	longestInspection = 366 * aDay
)

// inspectors answers InspectorService, the tenant's side.
type inspectors struct {
	conservationv1.UnimplementedInspectorServiceServer

	s *Service
}

func noInspector(name string) *fault.Fault {
	return fault.NotFound("INSPECTOR_NOT_FOUND", "there is no inspector %s", name)
}

func inspectorName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/inspectors/" + id.String()
}

// CreateInspector lets a person look until a time.
func (a inspectors) CreateInspector(ctx context.Context, req *conservationv1.CreateInspectorRequest) (*conservationv1.CreateInspectorResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	row, err := a.s.granted(req.GetInspector())
	if err != nil {
		return nil, err
	}
	row.TenantID, row.GrantedBy = tenant, actor(ctx)
	row.ID, err = pg.NewID()
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	token := inspectorPrefix + base64.RawURLEncoding.EncodeToString(secret)
	row.Token = tokenHash(token)
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).InsertInspector(ctx, db.InsertInspectorParams{
			ID: row.ID, TenantID: tenant, FullName: row.FullName, Body: row.Body, Reason: row.Reason, Filter: row.Filter, Token: row.Token,
			GrantedBy: row.GrantedBy, GrantedAt: row.GrantedAt, BeginsAt: row.BeginsAt, EndsAt: row.EndsAt,
		})
		if err != nil {
			return fmt.Errorf("conservation: insert inspector: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "inspector.create", Resource: inspectorName(tenant, row.ID), Detail: map[string]string{"ends": row.EndsAt.Format(time.RFC3339)}})
	})
	if err != nil {
		return nil, err
	}
	m, err := inspectorMessage(row)
	if err != nil {
		return nil, err
	}
	return &conservationv1.CreateInspectorResponse{Inspector: m, Token: token}, nil
}

// granted reads what is asked for.
func (s *Service) granted(m *conservationv1.Inspector) (db.Inspector, error) {
	now := pg.Time(s.now())
	row := db.Inspector{FullName: plain(m.GetFullName()), Body: plain(m.GetBody()), Reason: plain(m.GetReason()), GrantedAt: now, BeginsAt: now}
	if m.GetBeginTime() != nil {
		row.BeginsAt = pg.Time(m.GetBeginTime().AsTime())
	}
	if m.GetExpireTime() == nil {
		return row, fault.Invalid("INSPECTOR_TERM", "inspector.expire_time: is missing: access ends by itself").WithField("inspector.expire_time", "INSPECTOR_TERM", "is missing")
	}
	row.EndsAt = pg.Time(m.GetExpireTime().AsTime())
	if !row.EndsAt.After(now) || !row.EndsAt.After(row.BeginsAt) || row.EndsAt.Sub(row.BeginsAt) > longestInspection {
		return row, fault.Invalid("INSPECTOR_TERM", "inspector.expire_time: %s is not in the future, or not within a year of the beginning", row.EndsAt.Format(time.RFC3339)).
			WithField("inspector.expire_time", "INSPECTOR_TERM", "must be in the future and at most a year after the beginning")
	}
	q, err := readQuery(m.GetFilter())
	if err != nil {
		return row, err
	}
	if len(q) > mostAlternatives/8 {
		return row, fault.Invalid("SEARCH_TOO_WIDE", "inspector.filter: at most %d alternatives", mostAlternatives/8)
	}
	row.Filter, err = proto.Marshal(m.GetFilter())
	if row.Filter == nil {
		row.Filter = []byte{}
	}
	return row, err
}

func tokenHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

func inspectorMessage(row db.Inspector) (*conservationv1.Inspector, error) {
	m := &conservationv1.Inspector{
		Name: inspectorName(row.TenantID, row.ID), FullName: row.FullName, Body: row.Body, Reason: row.Reason, Filter: &conservationv1.SearchQuery{},
		BeginTime: timestamppb.New(row.BeginsAt), ExpireTime: timestamppb.New(row.EndsAt), RevokeTime: timeMessage(row.RevokedAt),
		CreateTime: timestamppb.New(row.GrantedAt), CreatedBy: row.GrantedBy,
	}
	err := proto.Unmarshal(row.Filter, m.GetFilter())
	if err != nil {
		return nil, fault.Internal("INSPECTOR_FILTER", "the filter of inspector %s cannot be read", row.ID).With(err)
	}
	return m, nil
}

// ListInspectors lists a tenant's inspectors, newest first.
func (a inspectors) ListInspectors(ctx context.Context, req *conservationv1.ListInspectorsRequest) (*conservationv1.ListInspectorsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("inspectors", tenant)
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Inspector
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListInspectors(ctx, db.ListInspectorsParams{TenantID: tenant, Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListInspectorsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Inspector) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		m, err := inspectorMessage(row)
		if err != nil {
			return nil, err
		}
		resp.Inspectors = append(resp.Inspectors, m)
	}
	return resp, nil
}

// RevokeInspector ends the access at once.
func (a inspectors) RevokeInspector(ctx context.Context, req *conservationv1.RevokeInspectorRequest) (*conservationv1.Inspector, error) {
	tenant, id, err := parseName("name", req.GetName(), "inspectors", noInspector(req.GetName()))
	if err != nil {
		return nil, err
	}
	var row db.Inspector
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q, at := db.New(tx), pg.Time(a.s.now())
		n, err := q.RevokeInspector(ctx, db.RevokeInspectorParams{ID: id, TenantID: tenant, At: &at})
		if err != nil {
			return err
		}
		row, err = q.GetInspector(ctx, db.GetInspectorParams{ID: id, TenantID: tenant})
		if errors.Is(err, pgx.ErrNoRows) {
			return noInspector(req.GetName())
		}
		if err != nil || n == 0 {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "inspector.revoke", Resource: req.GetName()})
	})
	if err != nil {
		return nil, err
	}
	return inspectorMessage(row)
}

// ListInspections lists what inspectors did, newest first.
func (a inspectors) ListInspections(ctx context.Context, req *conservationv1.ListInspectionsRequest) (*conservationv1.ListInspectionsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	p := db.ListInspectionsParams{TenantID: tenant, Before: lastID}
	if req.GetInspector() != "" {
		of, id, err := parseName("inspector", req.GetInspector(), "inspectors", noInspector(req.GetInspector()))
		if err != nil {
			return nil, err
		}
		if of != tenant {
			return nil, noInspector(req.GetInspector())
		}
		p.Inspector = &id
	}
	size, filter := pageSize(req.GetPageSize()), pg.FilterHash("inspections", tenant, req.GetInspector())
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &p.Before)
	if err != nil {
		return nil, err
	}
	p.Page = int32(size + 1) //nolint:gosec // at most 1001
	var rows []db.ListInspectionsRow
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListInspections(ctx, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListInspectionsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListInspectionsRow) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		resp.Inspections = append(resp.Inspections, &conservationv1.Inspection{
			Inspector: inspectorName(tenant, row.Inspector), FullName: row.FullName, Body: row.Body, Time: timestamppb.New(row.At),
			Action: row.Action, Resource: row.Resource, Detail: row.Detail,
		})
	}
	return resp, nil
}

// visit is one call of an inspector, admitted.
type visit struct {
	s      *Service
	who    db.Inspector
	grant  *conservationv1.Inspector
	filter query
}

// admitInspector tells who calls by the token. A call that comes too late is written down too.
func (s *Service) admitInspector(ctx context.Context) (context.Context, *visit, error) {
	values := metadata.ValueFromIncomingContext(ctx, inspectorHeader)
	if len(values) != 1 {
		return ctx, nil, auth.Unauthenticated("INSPECTOR_UNKNOWN", "send the inspector's token in the metadata %s", inspectorHeader)
	}
	v := &visit{s: s}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		v.who, err = db.New(tx).InspectorByToken(ctx, tokenHash(values[0]))
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return ctx, nil, auth.Unauthenticated("INSPECTOR_UNKNOWN", "the inspector's token is not known")
	}
	if err != nil {
		return ctx, nil, err
	}
	ctx = telemetry.WithActor(ctx, "inspector:"+v.who.ID.String())
	var refused *fault.Fault
	switch now := s.now(); {
	case v.who.RevokedAt != nil:
		refused = auth.Unauthenticated("INSPECTOR_REVOKED", "the access was revoked")
	case !now.Before(v.who.EndsAt):
		refused = auth.Unauthenticated("INSPECTOR_ENDED", "the access ended on %s", v.who.EndsAt.UTC().Format(time.RFC3339))
	case now.Before(v.who.BeginsAt):
		refused = auth.Unauthenticated("INSPECTOR_NOT_BEGUN", "the access begins on %s", v.who.BeginsAt.UTC().Format(time.RFC3339))
	}
	if refused != nil {
		err = v.note(ctx, "denied", "", refused.Code)
		if err != nil {
			return ctx, nil, err
		}
		return ctx, nil, refused
	}
	v.grant, err = inspectorMessage(v.who)
	if err == nil {
		v.filter, err = readQuery(v.grant.GetFilter())
	}
	return ctx, v, err
}

// note writes down what the inspector does, before it is shown.
func (v *visit) note(ctx context.Context, action, resource, detail string) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	err = v.s.db.Tx(ctx, v.who.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return db.New(tx).InsertInspection(ctx, db.InsertInspectionParams{
			ID: id, TenantID: v.who.TenantID, Inspector: v.who.ID, At: pg.Time(v.s.now()), Action: action, Resource: resource, Detail: detail,
		})
	})
	if err != nil {
		return fmt.Errorf("conservation: note an inspection: %w", err)
	}
	return nil
}

// refuse writes down what the inspector asked for in vain, and gives the refusal.
func (v *visit) refuse(ctx context.Context, resource string, cause error) error {
	err := v.note(ctx, "denied", resource, fault.Of(cause).Code)
	if err != nil {
		return err
	}
	return cause
}

// unit gives the id of a unit that the filter lets through; any other is not there.
func (v *visit) unit(ctx context.Context, name string) (uuid.UUID, error) {
	tenant, id, err := parseName("unit", name, "units", noUnit(name))
	if err != nil {
		return id, err
	}
	if tenant != v.who.TenantID {
		return id, noUnit(name)
	}
	q, err := v.filter.and(query{{unitCondition(id)}})
	if err != nil {
		return id, err
	}
	return id, v.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		found, err := find(ctx, tx, tenant, q, nil, 1)
		if err == nil && len(found) == 0 {
			err = noUnit(name)
		}
		return err
	})
}
