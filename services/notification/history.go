package notification

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/notification/internal/db"
)

// GetDelivery reads one delivery with its attempts.
func (s *Service) GetDelivery(ctx context.Context, req *notificationv1.GetDeliveryRequest) (*notificationv1.Delivery, error) {
	tenant, id, err := resource(req.GetName(), "DELIVERY_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	var resp *notificationv1.Delivery
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).GetDelivery(ctx, db.GetDeliveryParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "DELIVERY_NOT_FOUND", req.GetName())
		}
		resp, err = presentDelivery(&row)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListDeliveries reads deliveries newest first.
func (s *Service) ListDeliveries(ctx context.Context, req *notificationv1.ListDeliveriesRequest) (*notificationv1.ListDeliveriesResponse, error) {
	p := db.ListDeliveriesParams{TenantID: strings.TrimPrefix(req.GetParent(), "tenants/"), PageSize: pageSize(req.GetPageSize()) + 1}
	if req.GetInvoice() != "" {
		invoice := req.GetInvoice()
		p.Invoice = &invoice
	}
	if req.GetTarget() != "" {
		id, err := targetID(req.GetTarget(), p.TenantID)
		if err != nil {
			return nil, err
		}
		p.TargetID = &id
	}
	if req.GetState() != notificationv1.DeliveryState_DELIVERY_STATE_UNSPECIFIED {
		state := int16(req.GetState())
		p.State = &state
	}
	hash := pg.FilterHash("deliveries", p.TenantID, req.GetInvoice(), req.GetTarget(), req.GetState().String())
	before, err := afterToken(req.GetPageToken(), hash)
	if err != nil {
		return nil, err
	}
	p.BeforeID = before
	resp := &notificationv1.ListDeliveriesResponse{}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListDeliveries(ctx, p)
		if err != nil {
			return fmt.Errorf("notification: list deliveries: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.Delivery) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for i := range rows {
			d, err := presentDelivery(&rows[i])
			if err != nil {
				return err
			}
			resp.Deliveries = append(resp.Deliveries, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func targetID(name, tenant string) (uuid.UUID, error) {
	p := strings.Split(name, "/")
	if len(p) == 4 && p[0] == "tenants" && p[1] == tenant && (p[2] == "webhookEndpoints" || p[2] == "emailSubscriptions") {
		if id, err := uuid.Parse(p[3]); err == nil {
			return id, nil
		}
	}
	return uuid.Nil, fault.Invalid("TARGET_INVALID", "target: %q is neither an endpoint nor a subscription of tenants/%s", name, tenant).
		WithField("target", "TARGET_INVALID", "is no name of a target")
}

func presentDelivery(row *db.Delivery) (*notificationv1.Delivery, error) {
	d := &notificationv1.Delivery{
		Name: "tenants/" + row.TenantID + "/deliveries/" + row.ID.String(), Target: targetName(row.TenantID, row.Channel, row.TargetID),
		Event: "tenants/" + row.TenantID + "/events/" + row.EventID.String(), EventType: row.EventType, Invoice: row.Invoice,
		State: notificationv1.DeliveryState(row.State), CreateTime: timestamppb.New(row.CreateTime),
	}
	if row.Channel == byNotice || row.Channel == byForward {
		d.Target = row.Invoice // the mailbox or the message whose owner wanted it
	}
	if row.Channel == byParticipant {
		d.Target = row.Invoice + "/participants/" + row.TargetID.String()
	}
	if row.NextAttemptTime != nil && row.State == pending {
		d.NextAttemptTime = timestamppb.New(*row.NextAttemptTime)
	}
	var list []attempt
	if err := json.Unmarshal(row.Attempts, &list); err != nil {
		return nil, fmt.Errorf("notification: attempts of %s: %w", row.ID, err)
	}
	for _, a := range list {
		d.Attempts = append(d.Attempts, &notificationv1.Attempt{Time: timestamppb.New(a.Time), StatusCode: int32(a.Status), Error: a.Error, DurationMs: a.Millis})
	}
	return d, nil
}
