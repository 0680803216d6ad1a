package run

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// operations answers operators for all targets of this process.
type operations struct {
	operationsv1.UnimplementedOperationsServiceServer
	process *process
}

// stateful lists the hosts with a schema, or the one of that name.
func (o *operations) stateful(service string) ([]*Host, error) {
	var hosts []*Host
	for _, h := range o.process.hosts {
		if h.DB != nil && (service == "" || service == h.Name) {
			hosts = append(hosts, h)
		}
	}
	if service != "" && len(hosts) == 0 {
		return nil, fault.NotFound("SERVICE_NOT_HERE", "this process does not host service %q; it hosts %s",
			service, strings.Join(o.process.targetNames(), ", ")).
			WithField("service", "NOT_HERE", "ask the process that hosts it")
	}
	return hosts, nil
}

// ListParkedEvents lists what was set aside, newest first per service.
func (o *operations) ListParkedEvents(ctx context.Context, req *operationsv1.ListParkedEventsRequest) (*operationsv1.ListParkedEventsResponse, error) {
	hosts, err := o.stateful(req.GetService())
	if err != nil {
		return nil, err
	}
	// One page walks the services in order: the token says in which one to go
	// on, and where in it.
	hash := pg.FilterHash("parked-services", req.GetService())
	var at, inner string
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &at, &inner); err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = 50
	}
	resp := &operationsv1.ListParkedEventsResponse{}
	for i, h := range hosts {
		if at != "" && h.Name != at {
			continue
		}
		list, next, err := h.Bus.ListParked(ctx, bus.Filter{PageSize: size - len(resp.ParkedEvents), PageToken: inner})
		if err != nil {
			return nil, err
		}
		at, inner = "", ""
		for _, p := range list {
			resp.ParkedEvents = append(resp.ParkedEvents, parkedProto(h.Name, p))
		}
		if next == "" && len(resp.ParkedEvents) < size {
			continue
		}
		if next == "" && i+1 < len(hosts) {
			resp.NextPageToken, err = pg.EncodePageToken(hash, hosts[i+1].Name, "")
		} else if next != "" {
			resp.NextPageToken, err = pg.EncodePageToken(hash, h.Name, next)
		}
		return resp, err
	}
	return resp, nil
}

// GetParkedEvent shows one, with its payload.
func (o *operations) GetParkedEvent(ctx context.Context, req *operationsv1.GetParkedEventRequest) (*operationsv1.ParkedEvent, error) {
	h, id, err := o.parked(req.GetName())
	if err != nil {
		return nil, err
	}
	p, err := h.Bus.GetParked(ctx, id)
	if err != nil {
		return nil, err
	}
	return withPayload(h.Name, p), nil
}

// RetryParkedEvent hands it to its consumer, or its queue, again.
func (o *operations) RetryParkedEvent(ctx context.Context, req *operationsv1.RetryParkedEventRequest) (*operationsv1.ParkedEvent, error) {
	h, id, err := o.parked(req.GetName())
	if err != nil {
		return nil, err
	}
	p, err := h.Bus.GetParked(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := h.Bus.RetryParked(ctx, id); err != nil {
		return nil, err
	}
	return withPayload(h.Name, p), nil
}

// DropParkedEvent gives up on it; the audit record keeps what it was and why.
func (o *operations) DropParkedEvent(ctx context.Context, req *operationsv1.DropParkedEventRequest) (*emptypb.Empty, error) {
	h, id, err := o.parked(req.GetName())
	if err != nil {
		return nil, err
	}
	if err := h.Bus.DropParked(ctx, id, req.GetReason()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// parked reads services/{service}/parkedEvents/{id}.
func (o *operations) parked(name string) (*Host, uuid.UUID, error) {
	parts := strings.Split(name, "/")
	if len(parts) != 4 || parts[0] != "services" || parts[2] != "parkedEvents" {
		return nil, uuid.Nil, badName(name)
	}
	id, err := uuid.Parse(parts[3])
	if err != nil {
		return nil, uuid.Nil, badName(name)
	}
	hosts, err := o.stateful(parts[1])
	if err != nil {
		return nil, uuid.Nil, err
	}
	return hosts[0], id, nil
}

func badName(name string) error {
	return fault.Invalid("NAME_INVALID", "name %q is not services/{service}/parkedEvents/{id}", name).
		WithField("name", "INVALID", "copy it from the list")
}

func parkedProto(service string, p bus.Parked) *operationsv1.ParkedEvent {
	return &operationsv1.ParkedEvent{
		Name: "services/" + service + "/parkedEvents/" + p.ID.String(),
		Kind: p.Kind, Service: service, Handler: p.Consumer, Subject: p.Subject, EventId: p.EventID.String(),
		Tenant: p.Tenant, Correlation: p.Correlation, Code: p.Code, Message: p.Reason,
		Attempts:  int32(min(p.Attempts, 1<<30)),
		EventTime: timestamppb.New(p.EventTime), ParkTime: timestamppb.New(p.ParkedAt),
		TraceId: telemetry.TraceID(p.Trace),
	}
}

func withPayload(service string, p bus.Parked) *operationsv1.ParkedEvent {
	out := parkedProto(service, p)
	payload, err := p.JSON()
	if err != nil {
		payload = "" // the row itself is still worth showing
		out.Message += " (the payload cannot be shown: " + fault.Of(err).Message + ")"
	}
	out.PayloadJson = payload
	return out
}

// ListBreakers shows the circuit breakers.
func (o *operations) ListBreakers(_ context.Context, req *operationsv1.ListBreakersRequest) (*operationsv1.ListBreakersResponse, error) {
	resp := &operationsv1.ListBreakersResponse{}
	for _, s := range o.process.breakerStates(req.GetService()) {
		resp.Breakers = append(resp.Breakers, &operationsv1.Breaker{
			Service: s.Service, Breaker: s.Name, State: s.State, ChangeTime: timestamppb.New(s.Changed),
			Requests: s.Requests, Failures: s.Failures, LastError: s.LastError,
		})
	}
	return resp, nil
}

const auditSelect = `SELECT id, at, actor, tenant_id, action, resource, outcome, detail, trace_id
FROM audit_entry WHERE id < $1 AND ($2 = '' OR resource = $2) ORDER BY id DESC LIMIT $3`

// ListAuditEntries shows who did what in one service, newest first.
func (o *operations) ListAuditEntries(ctx context.Context, req *operationsv1.ListAuditEntriesRequest) (*operationsv1.ListAuditEntriesResponse, error) {
	hosts, err := o.stateful(req.GetService())
	if err != nil {
		return nil, err
	}
	hash, before := pg.FilterHash("audit", req.GetService(), req.GetResource()), uuid.Max
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &before); err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = 50
	}
	resp, ids := &operationsv1.ListAuditEntriesResponse{}, []uuid.UUID{}
	err = hosts[0].DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, auditSelect, before, req.GetResource(), size+1)
		if err != nil {
			return err
		}
		resp.AuditEntries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*operationsv1.AuditEntry, error) {
			e, id, err := scanAudit(row, req.GetService())
			ids = append(ids, id)
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(ids) > size {
		resp.AuditEntries = slices.Delete(resp.AuditEntries, size, len(ids))
		resp.NextPageToken, err = pg.EncodePageToken(hash, ids[size-1])
	}
	return resp, err
}

func scanAudit(row pgx.CollectableRow, service string) (*operationsv1.AuditEntry, uuid.UUID, error) {
	var id uuid.UUID
	var at time.Time
	e := &operationsv1.AuditEntry{Service: service}
	err := row.Scan(&id, &at, &e.Actor, &e.Tenant, &e.Action, &e.Resource, &e.Outcome, &e.Detail, &e.TraceId)
	e.Time = timestamppb.New(at)
	return e, id, err
}

// GetEffectiveConfig shows the configuration in force, secrets masked.
func (o *operations) GetEffectiveConfig(_ context.Context, req *operationsv1.GetEffectiveConfigRequest) (*operationsv1.GetEffectiveConfigResponse, error) {
	return &operationsv1.GetEffectiveConfigResponse{Yaml: o.process.file.Effective(req.GetService())}, nil
}
