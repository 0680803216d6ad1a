package notification

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/notification/internal/db"
)

const (
	pending   = int16(notificationv1.DeliveryState_DELIVERY_STATE_PENDING)
	delivered = int16(notificationv1.DeliveryState_DELIVERY_STATE_DELIVERED)
	failed    = int16(notificationv1.DeliveryState_DELIVERY_STATE_FAILED)
)

// Ways to tell somebody.
const (
	byWebhook = "webhook"
	byEmail   = "email"
)

// deliverArgs is the job of one attempt. A job whose try is not the row's is stale and does nothing.
type deliverArgs struct {
	Tenant   string    `json:"tenant"`
	Delivery uuid.UUID `json:"delivery"`
	Try      int32     `json:"try"`
}

// Kind names the job.
func (deliverArgs) Kind() string { return "deliver" }

// round gathers what one transaction tells: the targets of the tenant are read once, and deliveries
// and jobs of the whole batch are two statements.
type round struct {
	targets []db.ListTargetsRow
	rows    db.InsertDeliveriesParams
	meta    map[uuid.UUID]json.RawMessage // of the job of each delivery
}

type roundKey struct{}

// tell makes a delivery for each target of the tenant that wants events of this type. Who subscribes
// later is told of later events only.
func (s *Service) tell(ctx context.Context, tx pgx.Tx, ev proto.Message) error {
	notice, ok := catalog.NoticeOf(ev)
	if !ok {
		return nil
	}
	r, err := s.roundOf(ctx, tx)
	if err != nil || len(r.targets) == 0 {
		return err
	}
	var payload []byte
	meta := bus.Meta(ctx)
	eventID, err := uuid.Parse(meta.ID)
	if err != nil {
		return fault.Invalid("EVENT_MALFORMED", "event id %q is no UUID", meta.ID).With(err)
	}
	for _, t := range r.targets {
		if !wants(t.EventTypes, notice.Type) {
			continue
		}
		if payload == nil {
			if payload, err = payloadOf(notice, meta.Time); err != nil {
				return err
			}
		}
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		p := &r.rows
		p.Ids, p.Channels, p.TargetIds = append(p.Ids, id), append(p.Channels, t.Channel), append(p.TargetIds, t.ID)
		p.EventIds, p.EventTypes, p.EventTimes = append(p.EventIds, eventID), append(p.EventTypes, notice.Type), append(p.EventTimes, pg.Time(meta.Time))
		p.Invoices, p.Payloads = append(p.Invoices, notice.Invoice), append(p.Payloads, payload)
		// What run keeps of the context of an insert, for a job inserted with those of other events.
		r.meta[id], err = json.Marshal(map[string]string{"traceparent": meta.Trace, "correlation": meta.Correlation, "causation": meta.ID})
		if err != nil {
			return fmt.Errorf("notification: job metadata: %w", err)
		}
	}
	return nil
}

func (s *Service) roundOf(ctx context.Context, tx pgx.Tx) (*round, error) {
	unit := pg.UnitOf(ctx, tx)
	if unit == nil {
		return nil, fault.Internal("NOT_IN_UNIT", "events are told inside a transaction of pg only")
	}
	fresh := false
	r, _ := unit.Value(roundKey{}, func() any {
		fresh = true
		r := &round{meta: map[uuid.UUID]json.RawMessage{}}
		unit.Before(func(ctx context.Context, tx pgx.Tx) error { return s.promise(ctx, tx, r) })
		return r
	}).(*round)
	if !fresh {
		return r, nil
	}
	var err error
	r.targets, err = q(tx).ListTargets(ctx, pg.Tenant(ctx))
	if err != nil {
		return nil, fmt.Errorf("notification: targets of %s: %w", pg.Tenant(ctx), err)
	}
	return r, nil
}

// promise writes the deliveries of a round and the jobs that make them.
func (s *Service) promise(ctx context.Context, tx pgx.Tx, r *round) error {
	if len(r.rows.Ids) == 0 {
		return nil
	}
	r.rows.TenantID, r.rows.State, r.rows.CreateTime = pg.Tenant(ctx), pending, pg.Time(s.now())
	fresh, err := q(tx).InsertDeliveries(ctx, r.rows)
	if err != nil {
		return fmt.Errorf("notification: insert deliveries: %w", err)
	}
	jobs := make([]river.InsertManyParams, len(fresh))
	for i, id := range fresh {
		jobs[i] = river.InsertManyParams{Args: deliverArgs{Tenant: r.rows.TenantID, Delivery: id},
			InsertOpts: &river.InsertOpts{Metadata: r.meta[id]}}
	}
	if len(jobs) == 0 {
		return nil
	}
	return s.jobs.InsertManyTx(ctx, tx, jobs)
}

// wants tells whether a list of types, empty for all, selects one; invoice.* selects a family.
func wants(types []string, typ string) bool {
	if len(types) == 0 {
		return true
	}
	for _, t := range types {
		family, star := strings.CutSuffix(t, "*")
		if t == typ || (star && strings.HasPrefix(typ, family)) {
			return true
		}
	}
	return false
}

// payloadOf is the body of a notice: thin, without document content.
//
// spec: Standard Webhooks "Payload structure"
func payloadOf(n catalog.Notice, at time.Time) ([]byte, error) {
	data := maps.Clone(n.Data)
	if data == nil {
		data = map[string]any{}
	}
	about := "invoice"
	if strings.HasPrefix(n.Type, "pec.") || strings.HasPrefix(n.Type, "credential.") || strings.HasPrefix(n.Type, "signature_request.") {
		about = "subject" // a message, a mailbox, a credential or a signature request
	}
	data[about] = n.Invoice
	raw, err := json.Marshal(struct {
		Type      string         `json:"type"`
		Timestamp string         `json:"timestamp"`
		Data      map[string]any `json:"data"`
	}{n.Type, at.UTC().Format(time.RFC3339Nano), data})
	if err != nil {
		return nil, fmt.Errorf("notification: payload of %s: %w", n.Type, err)
	}
	return raw, nil
}
