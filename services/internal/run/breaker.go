package run

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
)

// Breaker guards the calls to one outside system. After some failures in a row
// it refuses calls for a while, then lets one through to see.
type Breaker struct {
	service, name string
	wait          time.Duration
	cb            *gobreaker.CircuitBreaker[struct{}]
	now           func() time.Time

	mu        sync.Mutex
	changed   time.Time
	requests  int64
	failures  int64
	lastError string
}

// BreakerState is what operators see of a breaker.
type BreakerState struct {
	Service   string    `json:"service"`
	Name      string    `json:"breaker"`
	State     string    `json:"state"` // closed, half-open or open
	Changed   time.Time `json:"change_time"`
	Requests  int64     `json:"requests"`
	Failures  int64     `json:"failures"`
	LastError string    `json:"last_error,omitempty"`
}

// Breaker returns the breaker of that name, made at first use. Its state is a
// metric and is shown on the admin port and by the operations RPC.
func (h *Host) Breaker(name string) *Breaker {
	h.mu.Lock()
	defer h.mu.Unlock()
	if b, ok := h.breakers[name]; ok {
		return b
	}
	b := newBreaker(h.Name, name, h.process.cfg.Breaker, h.Now, h.Log.WarnContext)
	h.breakers[name] = b
	return b
}

// NewBreaker is a breaker of no process, which nobody sees: what is used outside of a target, and tests of
// what takes one.
func NewBreaker(name string, cfg BreakerConfig, now func() time.Time) *Breaker {
	return newBreaker("", name, cfg, now, func(context.Context, string, ...any) {})
}

func newBreaker(service, name string, cfg BreakerConfig, now func() time.Time,
	warn func(ctx context.Context, msg string, args ...any)) *Breaker {
	b := &Breaker{service: service, name: name, wait: cfg.Open, now: now, changed: now()}
	b.cb = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:        name,
		Timeout:     cfg.Open,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= cfg.Failures },
		// A refusal by the other side proves that it is there; only its
		// absence counts. A caller that went away proves nothing.
		IsSuccessful: func(err error) bool { return err == nil || fault.Of(err).Kind != fault.KindUnavailable },
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			b.mu.Lock()
			b.changed = now()
			last := b.lastError
			b.mu.Unlock()
			warn(context.Background(), "breaker changed", "breaker", name, "from", from.String(), "to", to.String(), "last_error", last)
		},
	})
	return b
}

// Do calls fn unless the breaker is open; then it returns Unavailable
// BREAKER_OPEN with RetryAfter at once. Only errors of kind Unavailable open
// the breaker.
func (b *Breaker) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	_, err := b.cb.Execute(func() (struct{}, error) {
		err := fn(ctx)
		b.count(err)
		return struct{}{}, err
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return fault.Unavailable("BREAKER_OPEN",
			"%s does not answer; calls are held back for up to %s", b.name, b.wait).WithRetryAfter(b.wait)
	}
	return err
}

func (b *Breaker) count(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	if err != nil && fault.Of(err).Kind == fault.KindUnavailable && !errors.Is(err, context.Canceled) {
		b.failures++
		b.lastError = fault.Of(err).Error()
	}
}

// State is a snapshot.
func (b *Breaker) State() BreakerState {
	state := b.cb.State().String() // takes the breaker's lock, which OnStateChange holds when it takes ours
	b.mu.Lock()
	defer b.mu.Unlock()
	return BreakerState{
		Service: b.service, Name: b.name, State: state, Changed: b.changed,
		Requests: b.requests, Failures: b.failures, LastError: b.lastError,
	}
}

// breakerStates lists the breakers of all hosts, or of one service.
func (p *process) breakerStates(service string) []BreakerState {
	var states []BreakerState
	for _, h := range p.hosts {
		if service != "" && h.Name != service {
			continue
		}
		h.mu.Lock()
		all := make([]*Breaker, 0, len(h.breakers))
		for _, b := range h.breakers {
			all = append(all, b)
		}
		h.mu.Unlock()
		for _, b := range all {
			states = append(states, b.State())
		}
	}
	slices.SortFunc(states, func(a, b BreakerState) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	return states
}

// observeBreakers publishes ceralacca_breaker_state: 0 closed, 1 half-open, 2 open.
func (p *process) observeBreakers() error {
	number := map[string]int64{"closed": 0, "half-open": 1, "open": 2}
	_, err := telemetry.Meter().Int64ObservableGauge("ceralacca.breaker.state",
		metric.WithDescription("circuit breaker: 0 closed, 1 half-open, 2 open"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			for _, s := range p.breakerStates("") {
				o.Observe(number[s.State], metric.WithAttributes(
					attribute.String("target", s.Service), attribute.String("breaker", s.Name)))
			}
			return nil
		}))
	return err
}
