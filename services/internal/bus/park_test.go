package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

func (w *world) parked(p *process, n int) []bus.Parked {
	w.t.Helper()
	var list []bus.Parked
	require.Eventually(w.t, func() bool {
		var err error
		list, _, err = p.ListParked(context.Background(), bus.Filter{})
		require.NoError(w.t, err)
		return len(list) >= n
	}, soon, 5*time.Millisecond)
	require.Len(w.t, list, n)
	return list
}

// A tenant whose batch cannot be finished, for a reason that no single handler gives, holds up no other
// tenant of the same transaction, and of its own events only the one at fault.
func TestTenantsShareTransactionsAndNotTheirTroubles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gathered := make(chan struct{})
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			<-gathered
			if ev.GetInvoice() == "bruno-7" {
				pg.UnitOf(ctx, tx).Before(func(context.Context, pgx.Tx) error { return fault.Invalid("INVOICE_ODD", "odd") })
			}
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	})
	var want []string
	for n := range 40 {
		for _, tenant := range []string{"anna", "bruno", "carla"} {
			name := fmt.Sprintf("%s-%d", tenant, n)
			p.emit(t, tenant, name)
			if name != "bruno-7" {
				want = append(want, name)
			}
		}
	}
	time.Sleep(300 * time.Millisecond) // the rest gathers behind what came first
	close(gathered)
	w.eventuallyNoted("c", want...)
	require.Equal(t, "bruno", w.parked(p, 1)[0].Tenant)
	w.settled(p)
	w.eventuallyNoted("c", want...)
}

// A poison event in the middle of a full batch is parked; nobody else waits for it. An operator
// repeats it in vain, then with success, and what he did is on record.
func TestPoisonIsParkedAndRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fill := w.start(t, nil)
	want := names("inv", 100)
	for _, name := range want {
		fill.emit(t, "anna", name)
	}
	w.settled(fill)
	var cured atomic.Bool
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			if ev.GetInvoice() == want[42] && !cured.Load() {
				return fault.Invalid("INVOICE_ODD", "invoice %s is odd", ev.GetInvoice())
			}
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	})
	healthy := append(append([]string{}, want[:42]...), want[43:]...)
	w.eventuallyNoted("c", healthy...)
	poison := w.parked(p, 1)[0]
	w.settled(p)
	require.Equal(t, bus.KindEvent, poison.Kind)
	require.Equal(t, "c", poison.Consumer)
	require.Equal(t, "anna", poison.Tenant)
	require.Equal(t, want[42], poison.Correlation)
	require.Equal(t, "INVOICE_ODD", poison.Code)
	require.Contains(t, poison.Reason, "is odd")
	require.Equal(t, 1, poison.Attempts)
	body, err := poison.JSON()
	require.NoError(t, err)
	require.JSONEq(t, fmt.Sprintf(`{"invoice":%q}`, want[42]), body)

	ctx := telemetry.WithActor(t.Context(), "oidc:marta")
	err = p.RetryParked(ctx, poison.ID)
	require.Equal(t, "INVOICE_ODD", fault.Of(err).Code, "%v", err)
	again, err := p.GetParked(ctx, poison.ID)
	require.NoError(t, err)
	require.Equal(t, 2, again.Attempts)
	require.NotNil(t, again.RetriedAt)

	cured.Store(true)
	require.ErrorContains(t, p.RetryParked(t.Context(), poison.ID), "no actor", "an act without a name is refused")
	require.NoError(t, p.RetryParked(ctx, poison.ID))
	w.eventuallyNoted("c", want...)
	err = p.RetryParked(ctx, poison.ID)
	require.Equal(t, "PARKED_NOT_FOUND", fault.Of(err).Code)
	_, err = p.GetParked(ctx, poison.ID)
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
	require.Equal(t, 1, w.scalar(`SELECT count(*) FROM audit_entry
		WHERE actor = 'oidc:marta' AND action = 'parked.retry' AND tenant_id = 'anna' AND detail->>'event' = $1`, poison.EventID.String()))
}

func TestADroppedEventStaysOnRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(context.Context, pgx.Tx, *invoicev1.InvoiceAccepted) error {
			return fault.NotFound("NO_SUCH", "no such thing")
		})
	})
	p.emit(t, "anna", "inv")
	row := w.parked(p, 1)[0]
	require.Error(t, p.DropParked(t.Context(), row.ID, "no actor"))
	ctx := telemetry.WithActor(t.Context(), "oidc:marta")
	require.NoError(t, p.DropParked(ctx, row.ID, "test invoice"))
	require.Equal(t, "PARKED_NOT_FOUND", fault.Of(p.DropParked(ctx, row.ID, "twice")).Code)
	w.parked(p, 0)
	require.Equal(t, 1, w.scalar(`SELECT count(*) FROM audit_entry
		WHERE action = 'parked.drop' AND tenant_id = 'anna' AND detail->>'reason' = 'test invoice' AND detail->>'code' = 'NO_SUCH'`))
}

func TestATransientErrorIsTriedAgainThenParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var calls atomic.Int64
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			switch ev.GetInvoice() {
			case "never":
				calls.Add(1)
				return fault.Unavailable("VAULT_AWAY", "vault does not answer")
			case "later":
				if bus.Meta(ctx).Delivery < 4 {
					return errors.New("not yet")
				}
			}
			return note(ctx, tx, "c", fmt.Sprintf("%s:%d", ev.GetInvoice(), bus.Meta(ctx).Delivery))
		})
	}, func(c *bus.Config) { c.MaxAttempts = 5 })
	for _, name := range []string{"never", "later", "now"} {
		p.emit(t, "anna", name)
	}
	row := w.parked(p, 1)[0]
	require.Equal(t, "VAULT_AWAY", row.Code)
	require.Equal(t, 5, row.Attempts)
	w.eventuallyNoted("c", "later:4", "now:1")
	w.settled(p)
	require.GreaterOrEqual(t, calls.Load(), int64(5))
}

func TestAPanicIsAnErrorOfItsEventOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) {
		bus.On(b, "c", func(ctx context.Context, tx pgx.Tx, ev *invoicev1.InvoiceAccepted) error {
			if ev.GetInvoice() == "bad" {
				var none *invoicev1.Receipt
				none.FileName = "nil pointer"
			}
			return note(ctx, tx, "c", ev.GetInvoice())
		})
	}, func(c *bus.Config) { c.MaxAttempts = 2 })
	for _, name := range []string{"one", "bad", "two"} {
		p.emit(t, "anna", name)
	}
	require.Equal(t, "HANDLER_PANIC", w.parked(p, 1)[0].Code)
	w.eventuallyNoted("c", "one", "two")
}

// Whatever somebody publishes under our subjects is kept and shown, and stops nobody.
func TestWhatIsNotOursIsParked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, func(b *bus.Bus) { bus.On(b, "c", noting("c")) })
	js, err := jetstream.New(p.nc)
	require.NoError(t, err)
	subject := "ceralacca.invoice.accepted.v1"
	id := uuid.Must(pg.NewID())
	for _, m := range []*nats.Msg{
		{Subject: subject, Data: []byte("no headers")},
		{Subject: subject, Data: []byte("no headers")},
		{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {"not a uuid"}}},
		{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {id.String()}, "Ceralacca-Tenant": {"anna"}}, Data: []byte{0xff, 0xff, 0xff}},
		{Subject: subject, Header: nats.Header{"Nats-Msg-Id": {uuid.NewString()}, "Ceralacca-Tenant": {`an\na`}}},
	} {
		_, err = js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	p.emit(t, "anna", "good")
	w.eventuallyNoted("c", "good")
	codes := map[string]int{}
	for _, row := range w.parked(p, 5) {
		codes[row.Code]++
		_, err := row.JSON()
		if row.Code == "EVENT_UNDECODABLE" {
			require.Equal(t, id, row.EventID)
			require.Equal(t, "EVENT_UNDECODABLE", fault.Of(err).Code)
			err = p.RetryParked(telemetry.WithActor(t.Context(), "test:t"), row.ID)
			require.Equal(t, "EVENT_UNDECODABLE", fault.Of(err).Code)
		}
	}
	require.Equal(t, map[string]int{"EVENT_FOREIGN": 3, "EVENT_UNDECODABLE": 1, "TENANT_INVALID": 1}, codes)
	w.settled(p)
}

func TestListParkedPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	require.NoError(t, p.db.System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		for i := range 25 {
			err := p.Park(ctx, tx, bus.Parked{
				Kind: bus.KindJob, Consumer: fmt.Sprintf("job%d", i%2), EventID: uuid.New(), Tenant: fmt.Sprintf("t%d", i%5),
				Subject: "queue", EventTime: time.Now(), Correlation: fmt.Sprint(i), Payload: []byte(`{"n":1}`),
				Code: "X", Reason: "broken \x00 text \xff", Attempts: 3,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	seen := map[uuid.UUID]bool{}
	f := bus.Filter{PageSize: 10}
	var last uuid.UUID
	for pages := 1; ; pages++ {
		list, next, err := p.ListParked(t.Context(), f)
		require.NoError(t, err)
		for _, row := range list {
			require.False(t, seen[row.ID])
			seen[row.ID] = true
			require.True(t, last == uuid.Nil || row.ID.String() < last.String(), "newest first")
			last = row.ID
			body, err := row.JSON()
			require.NoError(t, err)
			require.JSONEq(t, `{"n":1}`, body)
		}
		f.PageToken = next
		if next == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Len(t, seen, 25)
	for want, f := range map[int]bus.Filter{5: {Tenant: "t1"}, 13: {Consumer: "job0"}, 1: {Correlation: "7"}, 25: {Kind: bus.KindJob}, 0: {Kind: bus.KindEvent}} {
		list, _, err := p.ListParked(t.Context(), f)
		require.NoError(t, err)
		require.Len(t, list, want)
	}
	_, next, err := p.ListParked(t.Context(), bus.Filter{PageSize: 1})
	require.NoError(t, err)
	_, _, err = p.ListParked(t.Context(), bus.Filter{Tenant: "t1", PageToken: next})
	require.Equal(t, pg.CodePageToken, fault.Of(err).Code)
}

func TestParkedJobsAreRepeatedByTheirKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.open(t)
	job := bus.Parked{
		ID: uuid.Must(pg.NewID()), Kind: bus.KindJob, Consumer: "send", EventID: uuid.New(), Tenant: "anna", Subject: "default",
		EventTime: time.Now(), Correlation: "inv", Causation: "cause", Payload: []byte(`{}`), Code: "X", Reason: "x", Attempts: 12,
	}
	park := func(ctx context.Context, tx pgx.Tx) error { return p.Park(ctx, tx, job) }
	require.NoError(t, p.db.Tx(t.Context(), "anna", park))
	require.NoError(t, p.db.Tx(t.Context(), "anna", park), "parking again renews the row")
	ctx := telemetry.WithActor(t.Context(), "oidc:marta")
	require.Equal(t, "PARKED_NO_RETRIER", fault.Of(p.RetryParked(ctx, job.ID)).Code)
	p.HandleRetry(bus.KindJob, func(ctx context.Context, tx pgx.Tx, got bus.Parked) error {
		require.Equal(t, job.EventID, got.EventID)
		require.Equal(t, "inv", bus.Correlation(ctx))
		return note(ctx, tx, "send", "sent")
	})
	require.NoError(t, p.RetryParked(ctx, job.ID))
	require.Equal(t, map[string]int{"sent": 1}, w.noted("send"))

	gone := bus.Parked{ID: uuid.Must(pg.NewID()), Kind: bus.KindEvent, Consumer: "removed", EventID: uuid.New(), Tenant: "anna", Code: "X", Correlation: "c"}
	gone.Payload = []byte{}
	require.NoError(t, p.db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error { return p.Park(ctx, tx, gone) }))
	require.Equal(t, "PARKED_NO_CONSUMER", fault.Of(p.RetryParked(ctx, gone.ID)).Code)
}
