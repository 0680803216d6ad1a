package notification

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/notification/internal/db"
)

// CreateEmailSubscription adds an address that is told by e-mail. Precondition EMAIL_NOT_CONFIGURED
// when this installation sends none.
func (s *Service) CreateEmailSubscription(ctx context.Context, req *notificationv1.CreateEmailSubscriptionRequest) (*notificationv1.EmailSubscription, error) {
	in := req.GetEmailSubscription()
	if s.mail == nil {
		return nil, fault.Precondition("EMAIL_NOT_CONFIGURED", "this installation sends no e-mail: its operator sets notification.smtp.address")
	}
	if err := checkTypes("email_subscription.event_types", in.GetEventTypes()); err != nil {
		return nil, err
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	row := db.EmailSubscription{TenantID: strings.TrimPrefix(req.GetParent(), "tenants/"), ID: id, Address: in.GetAddress(),
		EventTypes: typesOf(in.GetEventTypes()), Language: cmp.Or(in.GetLanguage(), italian), CreateTime: pg.Time(s.now())}
	resp := &notificationv1.EmailSubscription{}
	err = s.db.Tx(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, notificationv1.NotificationService_CreateEmailSubscription_FullMethodName, req.GetRequestId(), req, resp, func() error {
			count, err := q(tx).CountSubscriptions(ctx, row.TenantID)
			if err != nil {
				return fmt.Errorf("notification: count subscriptions: %w", err)
			}
			if err := tooMany(count, "e-mail subscriptions"); err != nil {
				return err
			}
			if err := q(tx).InsertSubscription(ctx, db.InsertSubscriptionParams(row)); err != nil {
				return fmt.Errorf("notification: insert subscription: %w", err)
			}
			fillSubscription(resp, &row)
			return telemetry.Audit(ctx, tx, telemetry.Act{Action: "email.create", Resource: resp.GetName()})
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListEmailSubscriptions reads the subscriptions of a tenant, oldest first.
func (s *Service) ListEmailSubscriptions(ctx context.Context, req *notificationv1.ListEmailSubscriptionsRequest) (*notificationv1.ListEmailSubscriptionsResponse, error) {
	p := db.ListSubscriptionsParams{TenantID: strings.TrimPrefix(req.GetParent(), "tenants/"), PageSize: pageSize(req.GetPageSize()) + 1}
	hash := pg.FilterHash("emailSubscriptions", p.TenantID)
	after, err := afterToken(req.GetPageToken(), hash)
	if err != nil {
		return nil, err
	}
	p.After = after
	resp := &notificationv1.ListEmailSubscriptionsResponse{}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListSubscriptions(ctx, p)
		if err != nil {
			return fmt.Errorf("notification: list subscriptions: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.EmailSubscription) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for i := range rows {
			e := &notificationv1.EmailSubscription{}
			fillSubscription(e, &rows[i])
			resp.EmailSubscriptions = append(resp.EmailSubscriptions, e)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// DeleteEmailSubscription ends a subscription; its history stays, what is under way fails.
func (s *Service) DeleteEmailSubscription(ctx context.Context, req *notificationv1.DeleteEmailSubscriptionRequest) (*emptypb.Empty, error) {
	tenant, id, err := resource(req.GetName(), "EMAIL_SUBSCRIPTION_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := q(tx).DeleteSubscription(ctx, db.DeleteSubscriptionParams{TenantID: tenant, ID: id})
		if err != nil {
			return fmt.Errorf("notification: delete subscription: %w", err)
		}
		if n == 0 {
			return fault.NotFound("EMAIL_SUBSCRIPTION_NOT_FOUND", "there is no %s", req.GetName())
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "email.delete", Resource: req.GetName()})
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func fillSubscription(e *notificationv1.EmailSubscription, row *db.EmailSubscription) {
	e.Name, e.Address = targetName(row.TenantID, byEmail, row.ID), row.Address
	e.EventTypes, e.Language, e.CreateTime = typesOf(row.EventTypes), row.Language, timestamppb.New(row.CreateTime)
}
