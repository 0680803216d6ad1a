package bus

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics of one bus. Attribute sets are made once: they are the costly part of a measurement.
type metrics struct {
	out     metric.Int64Counter
	relayed metric.Int64Counter
	in      metric.Int64Counter
	seconds metric.Float64Histogram
	service attribute.KeyValue
	own     metric.MeasurementOption

	waiting atomic.Int64 // rows in the batch in hand
	age     atomic.Int64 // of the oldest of them, ns
}

func newMetrics(m metric.Meter, service string) (*metrics, error) {
	x := &metrics{service: attribute.String("service", service)}
	x.own = metric.WithAttributeSet(attribute.NewSet(x.service))
	var errs [6]error
	x.out, errs[0] = m.Int64Counter("ceralacca_bus_emitted", metric.WithDescription("events committed to the outbox"))
	x.relayed, errs[1] = m.Int64Counter("ceralacca_bus_published", metric.WithDescription("events confirmed by JetStream"))
	x.in, errs[2] = m.Int64Counter("ceralacca_bus_handled", metric.WithDescription("deliveries by consumer and outcome"))
	x.seconds, errs[3] = m.Float64Histogram("ceralacca_bus_batch_seconds", metric.WithUnit("s"),
		metric.WithDescription("time of one transaction of handlers"),
		metric.WithExplicitBucketBoundaries(.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 5))
	backlog, err := m.Int64ObservableGauge("ceralacca_bus_outbox_batch", metric.WithDescription("outbox rows the relay has in hand"))
	errs[4] = err
	oldest, err := m.Float64ObservableGauge("ceralacca_bus_outbox_age_seconds", metric.WithUnit("s"),
		metric.WithDescription("age of the oldest outbox row in hand: how late the relay is"))
	errs[5] = err
	err = errors.Join(errs[:]...)
	if err != nil {
		return nil, fmt.Errorf("bus: metrics: %w", err)
	}
	_, err = m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(backlog, x.waiting.Load(), x.own)
		o.ObserveFloat64(oldest, time.Duration(x.age.Load()).Seconds(), x.own)
		return nil
	}, backlog, oldest)
	if err != nil {
		return nil, fmt.Errorf("bus: metrics: %w", err)
	}
	return x, nil
}

func (x *metrics) emitted(ctx context.Context, n int)   { x.out.Add(ctx, int64(n), x.own) }
func (x *metrics) published(ctx context.Context, n int) { x.relayed.Add(ctx, int64(n), x.own) }

func (x *metrics) setBacklog(n int, age time.Duration) {
	x.waiting.Store(int64(n))
	x.age.Store(int64(age))
}

// consumerMetrics are the ready-made attribute sets of one consumer.
type consumerMetrics struct {
	x                                  *metrics
	handled, duplicate, retried, aside metric.MeasurementOption
	batch                              metric.MeasurementOption
}

func (x *metrics) forConsumer(name string) *consumerMetrics {
	set := func(outcome string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(x.service,
			attribute.String("consumer", name), attribute.String("outcome", outcome)))
	}
	return &consumerMetrics{
		x: x, handled: set("handled"), duplicate: set("duplicate"), retried: set("retried"), aside: set("parked"),
		batch: metric.WithAttributeSet(attribute.NewSet(x.service, attribute.String("consumer", name))),
	}
}

func (m *consumerMetrics) count(ctx context.Context, outcome metric.MeasurementOption, n int) {
	if n > 0 {
		m.x.in.Add(ctx, int64(n), outcome)
	}
}

func (m *consumerMetrics) took(ctx context.Context, d time.Duration) {
	m.x.seconds.Record(ctx, d.Seconds(), m.batch)
}
