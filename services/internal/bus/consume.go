package bus

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/proto/catalog"
	"ceralacca.dev/services/internal/fault"
)

const (
	attachTimeout  = 5 * time.Second
	releaseTimeout = 2 * time.Second
)

// consumer is one durable consumer of this service.
type consumer struct {
	b       *Bus
	name    string // as given to On; also the inbox's key
	entry   catalog.Entry
	decode  func([]byte) (proto.Message, error)
	handler func(ctx context.Context, tx pgx.Tx, ev proto.Message) error
	metrics *consumerMetrics
	// concerned is nil when events of every tenant are handled; see Concerning.
	concerned func(ctx context.Context, tenants []string) ([]string, error)
	// weigh is nil when events are counted alone; see Weighing.
	weigh func(ev proto.Message) int64
	most  int64

	attached atomic.Bool
	held     held
}

// delivery is one message as JetStream handed it over, decoded.
type delivery struct {
	msg      jetstream.Msg
	env      Envelope
	id       uuid.UUID
	sequence uint64
	ev       proto.Message
	fault    *fault.Fault // of the message itself: it cannot be handled, whoever tries
}

// On makes h the handler of event E for the durable consumer name, unique in the service and never
// changed: it is the name under which what was handled is remembered. It is called before Run;
// what is wrong with it (E is no event, name taken) comes out of Run.
//
// h sees and writes the rows of the event's tenant (all rows, as System, for events without one), in one
// transaction with the record that the event was handled: if h commits, the event is not handled again.
// Several events share a transaction, in order of tenant and correlation, so that consumers that touch
// the same rows lock them in one order; when one fails, the others are handled without it. So h may run
// again for an event whose transaction was rolled back, and it does nothing outside tx.
//
// h's error decides: fault.Permanent parks the event at once; any other is tried again with growing
// pauses, and parked after Config.MaxAttempts deliveries. Events come in any order.
func On[E proto.Message](b *Bus, name string, h func(ctx context.Context, tx pgx.Tx, ev E) error, options ...Option) {
	var zero E
	b.add(name, zero, func(ctx context.Context, tx pgx.Tx, ev proto.Message) error {
		e, ok := ev.(E)
		if !ok {
			return fault.Internal("EVENT_TYPE", "consumer %s got %T", name, ev)
		}
		return h(ctx, tx, e)
	}, options...)
}

// Option is a choice about one consumer.
type Option func(*consumer)

// Concerning keeps events of tenants to whom the handler would do nothing away from it, and from the
// inbox: they are acknowledged at once. Of a batch's tenants (bare ids, each once) concerned gives those
// whose events are to be handled; it is asked anew for each batch, outside of any transaction, and when it
// fails all are handled. Events without a tenant always are.
func Concerning(concerned func(ctx context.Context, tenants []string) ([]string, error)) Option {
	return func(c *consumer) { c.concerned = concerned }
}

// Weighing bounds what the handler takes on in one transaction: no further event joins it once those in it weigh most together. It is
// for handlers that hold what events refer to until the commit; Config.MaxBatch alone bounds their number.
func Weighing[E proto.Message](most int64, weigh func(ev E) int64) Option {
	return func(c *consumer) {
		c.most = most
		c.weigh = func(ev proto.Message) int64 {
			e, ok := ev.(E)
			if !ok {
				return 0 // it could not be decoded
			}
			return weigh(e)
		}
	}
}

func (b *Bus) add(name string, zero proto.Message, h func(ctx context.Context, tx pgx.Tx, ev proto.Message) error, options ...Option) {
	b.mu.Lock()
	defer b.mu.Unlock()
	refuse := func(format string, a ...any) {
		b.misuse = append(b.misuse, fmt.Errorf("bus: On(%q): %s", name, fmt.Sprintf(format, a...)))
	}
	if zero == nil || reflect.TypeOf(zero).Kind() != reflect.Pointer {
		refuse("the event type must be a generated message, such as *invoicev1.InvoiceAccepted")
		return
	}
	mt := zero.ProtoReflect().Type()
	entry, ok := catalog.ByMessage(mt.Descriptor().FullName())
	switch {
	case !ok:
		refuse("%s is no event: its message has no option (ceralacca.event.v1.event)", mt.Descriptor().FullName())
	case !namePattern.MatchString(name):
		refuse("want a name of letters, digits, - and _")
	case b.consumers[name] != nil:
		refuse("the name is taken by the consumer of %s", b.consumers[name].entry.Subject)
	case b.running:
		refuse("the bus runs already")
	default:
		b.consumers[name] = &consumer{
			b: b, name: name, entry: entry, handler: h, metrics: b.metrics.forConsumer(name),
			decode: func(raw []byte) (proto.Message, error) {
				ev := mt.New().Interface()
				return ev, proto.Unmarshal(raw, ev)
			},
		}
		for _, o := range options {
			o(b.consumers[name])
		}
	}
}

// run consumes until ctx ends, and attaches again whenever the consumer or its server went away.
func (c *consumer) run(ctx context.Context, js jetstream.JetStream) error {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		began := time.Now()
		err := c.session(ctx, js)
		c.attached.Store(false)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 10*time.Second {
			attempt = 1
		}
		c.b.log.WarnContext(ctx, "consumer interrupted", "consumer", c.name, "error", err, "attempt", attempt)
		_ = sleep(ctx, backoff(100*time.Millisecond, attempt, 2*time.Second)) // ends early with ctx only
	}
	return nil
}

// session is one attachment to the durable consumer.
func (c *consumer) session(ctx context.Context, js jetstream.JetStream) error {
	if !c.b.cfg.NATS.IsConnected() {
		return fmt.Errorf("bus: consumer %s: nats is %s", c.name, c.b.cfg.NATS.Status())
	}
	actx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	cons, err := js.CreateOrUpdateConsumer(actx, c.entry.Stream, jetstream.ConsumerConfig{
		Durable:       c.b.cfg.Service + "_" + c.name,
		Description:   "events for " + c.b.cfg.Service,
		FilterSubject: c.entry.Subject,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.b.cfg.AckWait,
		MaxDeliver:    -1, // attempts are counted here, where the event can be parked
		MaxAckPending: 16 * c.b.cfg.MaxBatch,
	})
	if err != nil {
		return fmt.Errorf("bus: consumer %s: %w", c.name, err)
	}
	arrived := make(chan jetstream.Msg, 2*c.b.cfg.MaxBatch)
	broken := make(chan error, 1)
	cc, err := cons.Consume(func(m jetstream.Msg) {
		c.held.add(m, time.Now())
		select {
		case arrived <- m:
		case <-ctx.Done():
			c.held.drop(m)
			_ = m.Nak() // the server may be gone too; then AckWait gives the message back
		}
	},
		jetstream.PullMaxMessages(2*c.b.cfg.MaxBatch),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { c.interrupted(ctx, err, broken) }),
	)
	if err != nil {
		return fmt.Errorf("bus: consumer %s: %w", c.name, err)
	}
	c.attached.Store(true)
	quit := make(chan struct{})
	go c.held.keep(quit, c.b.cfg.AckWait/3)
	err = c.loop(ctx, arrived, broken, cc.Closed())
	c.release(cc, arrived)
	close(quit)
	c.held.clear()
	return err
}

// release ends the subscription and gives back what was not begun, for whoever is there now. What
// does not get through in time, AckWait gives back.
func (c *consumer) release(cc jetstream.ConsumeContext, arrived <-chan jetstream.Msg) {
	cc.Drain() // unlike Stop, it hands over what is buffered inside the client
	limit := time.NewTimer(releaseTimeout)
	defer limit.Stop()
	for closed := false; !closed; {
		select {
		case m := <-arrived:
			_ = m.Nak()
		case <-cc.Closed():
			closed = true
		case <-limit.C:
			cc.Stop()
			return
		}
	}
	for len(arrived) > 0 {
		_ = (<-arrived).Nak()
	}
	_ = c.b.cfg.NATS.FlushTimeout(releaseTimeout)
}

// turn waits until a consumer may begin a transaction. Consumers together hold at most half of the pool:
// calls find a connection however many events there are. It ends early with ctx.
func (b *Bus) turn(ctx context.Context) (done func()) {
	select {
	case b.turns <- struct{}{}:
		return func() { <-b.turns }
	case <-ctx.Done():
		return func() {}
	}
}

// loop hands batches to at most Concurrency transactions at a time. While all are busy arrivals gather,
// and a busy consumer lingers for more; so batches grow with the load and an idle bus adds no delay.
func (c *consumer) loop(ctx context.Context, arrived <-chan jetstream.Msg, broken <-chan error, closed <-chan struct{}) error {
	slots := make(chan struct{}, c.b.cfg.Concurrency)
	var p pace
	var busy sync.WaitGroup
	defer busy.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case slots <- struct{}{}:
		}
		var first jetstream.Msg
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-broken:
			return err
		case <-closed:
			return fmt.Errorf("bus: consumer %s: the subscription was closed", c.name)
		case first = <-arrived:
		}
		if wait := p.pause(time.Now(), len(arrived)+1, c.b.cfg.Linger); wait > 0 {
			_ = sleep(ctx, wait) // ends early with ctx only: then the batch is given back
		}
		// Before the batch is gathered, so that it grows while all turns are taken.
		done := c.b.turn(ctx)
		batch := c.gather(first, arrived)
		p.count(len(batch))
		busy.Go(func() {
			defer func() { <-slots }()
			defer done()
			defer c.held.drop(messages(batch)...)
			c.handle(ctx, batch)
		})
	}
}

// gather takes what has arrived, up to MaxBatch and what the consumer's events may weigh.
func (c *consumer) gather(first jetstream.Msg, arrived <-chan jetstream.Msg) []*delivery {
	batch := []*delivery{c.read(first)}
	for weight := c.weight(batch[0]); len(batch) < c.b.cfg.MaxBatch && (c.weigh == nil || weight < c.most); weight += c.weight(batch[len(batch)-1]) {
		select {
		case next := <-arrived:
			batch = append(batch, c.read(next))
		default:
			return batch
		}
	}
	return batch
}

func (c *consumer) weight(d *delivery) int64 {
	if c.weigh == nil {
		return 0
	}
	return c.weigh(d.ev)
}

func (c *consumer) read(m jetstream.Msg) *delivery {
	d := &delivery{msg: m}
	md, err := m.Metadata()
	if err != nil { // cannot be: it came from a JetStream consumer
		md = &jetstream.MsgMetadata{Stream: c.entry.Stream, NumDelivered: 1, Timestamp: c.b.now()}
	}
	d.sequence = md.Sequence.Stream
	var ok bool
	d.env, d.id, ok = readEnvelope(m.Headers(), m.Subject(), int(md.NumDelivered), md.Stream, d.sequence, md.Timestamp) //nolint:gosec // far from overflow
	if !ok {
		d.fault = fault.Invalid("EVENT_FOREIGN", "the message carries no event id: no service of the platform published it")
		return d
	}
	d.ev, err = c.decode(m.Data())
	if err != nil {
		d.fault = fault.Invalid("EVENT_UNDECODABLE", "the payload is no %s", c.entry.Message.Descriptor().FullName()).With(err)
	}
	return d
}

// interrupted hears what Consume complains about. Most of it mends itself; a consumer that is gone
// does not.
func (c *consumer) interrupted(ctx context.Context, err error, broken chan<- error) {
	if !gone(err) {
		c.b.log.DebugContext(ctx, "consumer waits", "consumer", c.name, "error", err)
		return
	}
	select {
	case broken <- err:
	default:
	}
}
