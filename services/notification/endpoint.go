package notification

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"ceralacca.dev/proto/catalog"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/notification/internal/db"
)

const (
	// maxTargets bounds endpoints, and subscriptions, of one tenant: each event costs one delivery each.
	maxTargets = 50
	// overlap is how long the secret before signs too. The contract says so.
	overlap     = 24 * time.Hour
	defaultPage = 50
)

func pageSize(asked int32) int32 {
	if asked == 0 {
		return defaultPage
	}
	return asked
}

// resource reads tenants/{tenant}/{collection}/{uuid}; the pattern was checked before. NotFound with
// the code when the last part is no id of ours.
func resource(name, code string) (tenant string, id uuid.UUID, err error) {
	p := strings.Split(name, "/")
	if len(p) == 4 {
		id, err = uuid.Parse(p[3])
		if err == nil && id.String() == p[3] {
			return p[1], id, nil
		}
	}
	return "", uuid.Nil, fault.NotFound(code, "there is no %s", name)
}

func missing(err error, code, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.NotFound(code, "there is no %s", name)
	}
	return fmt.Errorf("notification: read %s: %w", name, err)
}

// targetName is the resource that deliveries of a channel go to.
func targetName(tenant, channel string, id uuid.UUID) string {
	collection := "webhookEndpoints"
	if channel == byEmail {
		collection = "emailSubscriptions"
	}
	return "tenants/" + tenant + "/" + collection + "/" + id.String()
}

// checkTypes refuses types that no event has: a subscription to nothing is a mistake.
func checkTypes(field string, types []string) error {
	for i, t := range types {
		if !slices.ContainsFunc(catalog.NoticeTypes(), func(known string) bool { return wants([]string{t}, known) }) {
			path := fmt.Sprintf("%s[%d]", field, i)
			return fault.Invalid("EVENT_TYPE_UNKNOWN", "%s: there is no event type %q; there are %s", path, t, strings.Join(catalog.NoticeTypes(), ", ")).
				WithField(path, "EVENT_TYPE_UNKNOWN", "no event has it")
		}
	}
	return nil
}

func tooMany(count int64, what string) error {
	if count < maxTargets {
		return nil
	}
	return fault.Precondition("TARGET_LIMIT", "the tenant has %d %s, the most that there can be: delete one first", count, what)
}

// CreateWebhookEndpoint adds an endpoint with a secret of its own, which the answer shows and, after
// that, only RotateWebhookSecret replaces. Invalid WEBHOOK_URL_INVALID, EVENT_TYPE_UNKNOWN.
func (s *Service) CreateWebhookEndpoint(ctx context.Context, req *notificationv1.CreateWebhookEndpointRequest) (*notificationv1.WebhookEndpoint, error) {
	in := req.GetWebhookEndpoint()
	if err := checkURL(s.guard, in.GetUrl()); err != nil {
		return nil, err
	}
	if err := checkTypes("webhook_endpoint.event_types", in.GetEventTypes()); err != nil {
		return nil, err
	}
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	secret, err := newSecret()
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealer.seal(secret, secretLabel(tenant, id))
	if err != nil {
		return nil, err
	}
	row := db.WebhookEndpoint{TenantID: tenant, ID: id, Url: in.GetUrl(), EventTypes: typesOf(in.GetEventTypes()), Disabled: in.GetDisabled(),
		Secret: sealed, Version: 1, CreateTime: pg.Time(s.now()), UpdateTime: pg.Time(s.now())}
	resp := &notificationv1.WebhookEndpoint{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := rpc.Once(ctx, tx, notificationv1.NotificationService_CreateWebhookEndpoint_FullMethodName, req.GetRequestId(), req, resp, func() error {
			count, err := q(tx).CountEndpoints(ctx, tenant)
			if err != nil {
				return fmt.Errorf("notification: count endpoints: %w", err)
			}
			if err := tooMany(count, "webhook endpoints"); err != nil {
				return err
			}
			err = q(tx).InsertEndpoint(ctx, db.InsertEndpointParams{TenantID: tenant, ID: id, Url: row.Url, EventTypes: row.EventTypes,
				Disabled: row.Disabled, Secret: sealed, CreateTime: row.CreateTime})
			if err != nil {
				return fmt.Errorf("notification: insert endpoint: %w", err)
			}
			fillEndpoint(resp, &row)
			return telemetry.Audit(ctx, tx, telemetry.Act{Action: "webhook.create", Resource: resp.GetName()})
		})
		if err != nil {
			return err
		}
		// Once keeps the answer, so the secret is added after it: it is never stored in the clear, and
		// a repeat shows it all the same.
		return s.revealSecret(ctx, tx, resp)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Service) revealSecret(ctx context.Context, tx pgx.Tx, e *notificationv1.WebhookEndpoint) error {
	tenant, id, err := resource(e.GetName(), "WEBHOOK_ENDPOINT_NOT_FOUND")
	if err != nil {
		return err
	}
	row, err := q(tx).GetEndpoint(ctx, db.GetEndpointParams{TenantID: tenant, ID: id})
	if err != nil {
		return missing(err, "WEBHOOK_ENDPOINT_NOT_FOUND", e.GetName())
	}
	secret, err := s.sealer.open(row.Secret, secretLabel(tenant, id))
	if err != nil {
		return err
	}
	e.Secret = showSecret(secret)
	return nil
}

func typesOf(types []string) []string { return append([]string{}, types...) }

// GetWebhookEndpoint reads one endpoint, without its secret.
func (s *Service) GetWebhookEndpoint(ctx context.Context, req *notificationv1.GetWebhookEndpointRequest) (*notificationv1.WebhookEndpoint, error) {
	return s.onEndpoint(ctx, req.GetName(), func(context.Context, pgx.Tx, *db.WebhookEndpoint) error { return nil })
}

// onEndpoint reads an endpoint for update, lets change do its work and answers with what it became.
func (s *Service) onEndpoint(ctx context.Context, name string, change func(context.Context, pgx.Tx, *db.WebhookEndpoint) error) (*notificationv1.WebhookEndpoint, error) {
	tenant, id, err := resource(name, "WEBHOOK_ENDPOINT_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	resp := &notificationv1.WebhookEndpoint{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockEndpoint(ctx, db.LockEndpointParams{TenantID: tenant, ID: id})
		if err != nil {
			return missing(err, "WEBHOOK_ENDPOINT_NOT_FOUND", name)
		}
		if err := change(ctx, tx, &row); err != nil {
			return err
		}
		fillEndpoint(resp, &row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListWebhookEndpoints reads the endpoints of a tenant, oldest first.
func (s *Service) ListWebhookEndpoints(ctx context.Context, req *notificationv1.ListWebhookEndpointsRequest) (*notificationv1.ListWebhookEndpointsResponse, error) {
	p := db.ListEndpointsParams{TenantID: strings.TrimPrefix(req.GetParent(), "tenants/"), PageSize: pageSize(req.GetPageSize()) + 1}
	hash := pg.FilterHash("webhookEndpoints", p.TenantID)
	after, err := afterToken(req.GetPageToken(), hash)
	if err != nil {
		return nil, err
	}
	p.After = after
	resp := &notificationv1.ListWebhookEndpointsResponse{}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListEndpoints(ctx, p)
		if err != nil {
			return fmt.Errorf("notification: list endpoints: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.WebhookEndpoint) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for i := range rows {
			e := &notificationv1.WebhookEndpoint{}
			fillEndpoint(e, &rows[i])
			resp.WebhookEndpoints = append(resp.WebhookEndpoints, e)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func afterToken(token, hash string) (*uuid.UUID, error) {
	var after uuid.UUID
	found, err := pg.DecodePageToken(token, hash, &after)
	if err != nil || !found {
		return nil, err
	}
	return &after, nil
}

// UpdateWebhookEndpoint changes url, event_types and disabled: what the mask names, or url and
// event_types as far as they are set without one. Enabling forgets past failures. Aborted ETAG_MISMATCH.
func (s *Service) UpdateWebhookEndpoint(ctx context.Context, req *notificationv1.UpdateWebhookEndpointRequest) (*notificationv1.WebhookEndpoint, error) {
	in := req.GetWebhookEndpoint()
	paths, err := endpointPaths(in, req.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	if slices.Contains(paths, "url") {
		if err := checkURL(s.guard, in.GetUrl()); err != nil {
			return nil, err
		}
	}
	if err := checkTypes("webhook_endpoint.event_types", in.GetEventTypes()); err != nil {
		return nil, err
	}
	return s.onEndpoint(ctx, in.GetName(), func(ctx context.Context, tx pgx.Tx, row *db.WebhookEndpoint) error {
		if in.GetEtag() != "" && in.GetEtag() != etag(row.Version) {
			return fault.Aborted("ETAG_MISMATCH", "%s was changed meanwhile: read it again and repeat the change", in.GetName()).
				WithField("webhook_endpoint.etag", "ETAG_MISMATCH", "is not the current one")
		}
		for _, p := range paths {
			switch p {
			case "url":
				row.Url = in.GetUrl()
			case "event_types":
				row.EventTypes = typesOf(in.GetEventTypes())
			case "disabled":
				row.Disabled, row.DisableReason, row.FailingSince = in.GetDisabled(), "", nil
			}
		}
		row.UpdateTime = pg.Time(s.now())
		err := q(tx).UpdateEndpoint(ctx, db.UpdateEndpointParams{Url: row.Url, EventTypes: row.EventTypes, Disabled: row.Disabled,
			DisableReason: row.DisableReason, FailingSince: row.FailingSince, UpdateTime: row.UpdateTime, TenantID: row.TenantID, ID: row.ID})
		if err != nil {
			return fmt.Errorf("notification: update endpoint: %w", err)
		}
		row.Version++
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "webhook.update", Resource: in.GetName(), Detail: map[string]string{"fields": strings.Join(paths, ",")}})
	})
}

func endpointPaths(in *notificationv1.WebhookEndpoint, mask []string) ([]string, error) {
	all := []string{"url", "event_types", "disabled"}
	if len(mask) == 1 && mask[0] == "*" {
		return all, nil
	}
	if len(mask) == 0 {
		paths := []string{"url"} // never empty: its rule in the contract
		if len(in.GetEventTypes()) > 0 {
			paths = append(paths, "event_types")
		}
		if in.GetDisabled() {
			paths = append(paths, "disabled")
		}
		return paths, nil
	}
	for _, p := range mask {
		if !slices.Contains(all, p) {
			return nil, fault.Invalid("UPDATE_MASK_INVALID", "update_mask: %q cannot be changed; these can: %s", p, strings.Join(all, ", ")).
				WithField("update_mask", "UPDATE_MASK_INVALID", p+" cannot be changed")
		}
	}
	return mask, nil
}

// DeleteWebhookEndpoint removes an endpoint; its history stays, what is under way fails.
func (s *Service) DeleteWebhookEndpoint(ctx context.Context, req *notificationv1.DeleteWebhookEndpointRequest) (*emptypb.Empty, error) {
	tenant, id, err := resource(req.GetName(), "WEBHOOK_ENDPOINT_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := q(tx).DeleteEndpoint(ctx, db.DeleteEndpointParams{TenantID: tenant, ID: id})
		if err != nil {
			return fmt.Errorf("notification: delete endpoint: %w", err)
		}
		if n == 0 {
			return fault.NotFound("WEBHOOK_ENDPOINT_NOT_FOUND", "there is no %s", req.GetName())
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "webhook.delete", Resource: req.GetName()})
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// RotateWebhookSecret gives the endpoint a new secret; for a day deliveries carry signatures by both.
func (s *Service) RotateWebhookSecret(ctx context.Context, req *notificationv1.RotateWebhookSecretRequest) (*notificationv1.WebhookEndpoint, error) {
	secret, err := newSecret()
	if err != nil {
		return nil, err
	}
	resp, err := s.onEndpoint(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, row *db.WebhookEndpoint) error {
		sealed, err := s.sealer.seal(secret, secretLabel(row.TenantID, row.ID))
		if err != nil {
			return err
		}
		now := pg.Time(s.now())
		until := now.Add(overlap)
		err = q(tx).RotateSecret(ctx, db.RotateSecretParams{Secret: sealed, PreviousSecret: row.Secret, PreviousUntil: &until,
			UpdateTime: now, TenantID: row.TenantID, ID: row.ID})
		if err != nil {
			return fmt.Errorf("notification: rotate secret: %w", err)
		}
		row.Version++
		row.UpdateTime = now
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "webhook.rotate", Resource: req.GetName()})
	})
	if err != nil {
		return nil, err
	}
	resp.Secret = showSecret(secret)
	return resp, nil
}

// etag names a version of a resource. spec: AIP-154
func etag(version int32) string { return strconv.Quote(strconv.Itoa(int(version))) }

func fillEndpoint(e *notificationv1.WebhookEndpoint, row *db.WebhookEndpoint) {
	e.Name, e.Url, e.EventTypes = targetName(row.TenantID, byWebhook, row.ID), row.Url, typesOf(row.EventTypes)
	e.Disabled, e.DisableReason, e.Etag = row.Disabled, row.DisableReason, etag(row.Version)
	e.CreateTime, e.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
}
