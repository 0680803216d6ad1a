// Package chaos breaks a running platform while invoices are under way - its processes, its servers, SdI,
// the customer's endpoint - and then counts: every accepted invoice has reached its final state, SdI has each
// one once, the customer's log and webhooks are complete and say everything once, and nothing is left over.
//
// It refuses to look inside: like the harness it drives programs and speaks to them over their public wire.
// With the build tag soak the same scenarios run for more rounds and in more shapes.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// flow is a way through the platform: what is sent, where it ends, and what the customer is told on the way,
// each once. Custody and a sealed package follow unless it is incomplete: while a receipt is missing that the
// invoice must be kept with, it waits.
type flow struct {
	format, code string
	end          invoicev1.InvoiceState
	told         []string
	incomplete   bool
}

// kept are the events of preservation.
var kept = []string{"preservation.taken_in_charge", "preservation.sealed"}

// events are all that the customer is told.
func (f flow) events() []string {
	if f.incomplete {
		return f.told
	}
	return append(append([]string(nil), f.told...), kept...)
}

var (
	private = flow{format: "FPR12", code: "SBXRC00", end: invoicev1.InvoiceState_INVOICE_STATE_DELIVERED,
		told: []string{"invoice.accepted", "invoice.signed", "invoice.transmitted", "invoice.delivered"}}
	public = flow{format: "FPA12", code: "SBXEC1", end: invoicev1.InvoiceState_INVOICE_STATE_PA_ACCEPTED,
		told: []string{"invoice.accepted", "invoice.signed", "invoice.transmitted", "invoice.delivered", "invoice.pa_accepted"}}
)

// without is a flow whose receipt of that step can never be used.
func (f flow) without(kind string) flow {
	f.incomplete = true
	var told []string
	for _, t := range f.told {
		if t != kind {
			told = append(told, t)
		}
	}
	f.told = told
	return f
}

// with is a flow in which the customer is told something more.
func (f flow) with(kind string) flow {
	f.told = append(append([]string(nil), f.told...), kind)
	return f
}

// scene is a platform with one customer.
type scene struct {
	p    *harness.Platform
	c    *harness.Customer
	hook *harness.Receiver
	log  *watch
	ctx  context.Context

	mu       sync.Mutex
	number   int
	sent     map[string]flow // by invoice name
	packages map[string]bool
	foreign  int // files of other transmitters that SdI took
}

// newScene starts a platform and onboards the customer. SdI's second attempts begin with it: the real one
// tries again after hours, the scene after half a second.
func newScene(t *testing.T, mode harness.Mode) *scene {
	t.Helper()
	s := &scene{sent: map[string]flow{}, packages: map[string]bool{}}
	s.p = harness.T(t, harness.Options{Mode: mode, Impatient: true})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.ctx = ctx
	t.Cleanup(cancel)
	require.NoError(t, s.p.Prepare(ctx))
	var err error
	s.c, err = s.p.Onboard(ctx, 1)
	require.NoError(t, err)
	s.hook, err = harness.NewReceiver()
	require.NoError(t, err)
	t.Cleanup(s.hook.Close)
	endpoint, err := s.c.Notification.CreateWebhookEndpoint(s.c.Ctx(ctx), &notificationv1.CreateWebhookEndpointRequest{
		Parent: s.c.Tenant, WebhookEndpoint: &notificationv1.WebhookEndpoint{Url: s.hook.URL},
	})
	require.NoError(t, err)
	s.hook.SetSecret(endpoint.GetSecret())
	s.log = newWatch(ctx, s.c)
	var background sync.WaitGroup
	background.Go(s.log.follow)
	background.Go(s.redeliver)
	t.Cleanup(func() { cancel(); background.Wait() })
	return s
}

// submit has one invoice accepted.
func (s *scene) submit(f flow) (string, error) {
	s.mu.Lock()
	s.number++
	number := fmt.Sprintf("C-%d", s.number)
	s.mu.Unlock()
	name, err := s.c.Submit(s.ctx, f.format, f.code, number)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	s.sent[name] = f
	s.mu.Unlock()
	return name, nil
}

// submitMany has n invoices accepted.
func (s *scene) submitMany(t *testing.T, f flow, n int) []string {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		var err error
		names[i], err = s.submit(f)
		require.NoError(t, err)
	}
	return names
}

// traffic submits invoices all the time until the returned function is called.
func (s *scene) traffic(t *testing.T, pause time.Duration) (stop func()) {
	quit := make(chan struct{})
	var flowing sync.WaitGroup
	flowing.Go(func() {
		for {
			select {
			case <-quit:
				return
			case <-time.After(pause):
			}
			_, err := s.submit(private)
			if err != nil {
				t.Errorf("traffic: %v", err)
				return
			}
		}
	})
	var once sync.Once
	stop = func() { once.Do(func() { close(quit); flowing.Wait() }) }
	t.Cleanup(stop)
	return stop
}

// arrive waits until invoices are at their end, custody included.
func (s *scene) arrive(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		s.mu.Lock()
		f := s.sent[name]
		s.mu.Unlock()
		_, err := s.c.AwaitState(s.ctx, name, !f.incomplete, f.end)
		require.NoError(t, err)
	}
}

// redeliver plays SdI's later attempts for the receipts that the platform could not take: hours have
// passed, so the gateway is up again. Attempts made while it is down would spend all six of them in
// seconds. What SdI has given up comes once more too, as an operator asks it to.
// spec: SDICoop-T-3.2 (six attempts, twelve hours apart)
func (s *scene) redeliver() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(500 * time.Millisecond):
		}
		counts, err := s.p.Sandbox.Counts(s.ctx)
		if err != nil || counts.ReceiptsPending+counts.ReceiptsGivenUp == 0 || counts.CallbackErrors == 0 || !s.p.Ready("sdi-gateway") {
			continue
		}
		page, err := s.p.Sandbox.Received(s.ctx, client.Query{Limit: 100_000})
		if err != nil {
			continue
		}
		for _, file := range page.Files {
			for _, r := range file.Receipts {
				if r.DeliveredAt == nil && r.Attempts > 0 {
					_ = s.p.Sandbox.Resend(s.ctx, file.ID) // the next round shows whether it helped
					break
				}
			}
		}
	}
}

// seal closes a package over what waits. It gives "" when nothing does.
func (s *scene) seal(class string) (string, error) {
	req := &conservationv1.ClosePackageRequest{
		Parent: s.c.Tenant, FiscalYear: int32(time.Now().Year()), Class: class, RequestId: uuid.NewString(),
	}
	for {
		closed, err := s.c.Archive.ClosePackage(s.c.Ctx(s.ctx), req)
		switch {
		case err == nil:
			s.mu.Lock()
			s.packages[closed.GetName()] = true
			s.mu.Unlock()
			return closed.GetName(), nil
		case status.Code(err) == codes.FailedPrecondition:
			return "", nil
		case !harness.Again(err) || s.ctx.Err() != nil:
			return "", fmt.Errorf("close a package: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// awaitSealed waits for every package that was closed.
func (s *scene) awaitSealed(t *testing.T) (units int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.packages {
		for {
			got, err := s.c.Archive.GetPackage(s.c.Ctx(s.ctx), &conservationv1.GetPackageRequest{Name: name})
			if err == nil && got.GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED {
				units += int(got.GetUnitCount())
				break
			}
			require.True(t, err == nil || harness.Again(err), "package %s: %v", name, err)
			require.NoError(t, s.ctx.Err(), "package %s is %s: %s", name, got.GetState(), got.GetLastError())
			time.Sleep(20 * time.Millisecond)
		}
	}
	return units
}

// watch follows the customer's event stream, through every break, and knows what came.
type watch struct {
	ctx context.Context
	c   *harness.Customer

	mu      sync.Mutex
	last    int64
	came    map[string]bool // invoice name and type
	changed chan struct{}   // closed and replaced at every event
	wrong   error           // what the stream did that it must not
	breaks  int
}

func newWatch(ctx context.Context, c *harness.Customer) *watch {
	return &watch{ctx: ctx, c: c, came: map[string]bool{}, changed: make(chan struct{})}
}

// follow resumes the stream where it broke, until the test ends.
func (w *watch) follow() {
	for w.ctx.Err() == nil {
		w.mu.Lock()
		last := w.last
		w.mu.Unlock()
		err := w.c.Stream(w.ctx, last, func(e *invoicev1.Event) bool { w.take(e); return false })
		w.mu.Lock()
		w.breaks++
		if err != nil && !harness.Again(err) && w.ctx.Err() == nil && status.Code(err) != codes.Canceled {
			w.wrong = errors.Join(w.wrong, fmt.Errorf("the event stream ended with %w", err))
		}
		w.mu.Unlock()
		select {
		case <-w.ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *watch) take(e *invoicev1.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.GetPosition() != w.last+1 {
		w.wrong = errors.Join(w.wrong, fmt.Errorf("the event stream went from position %d to %d", w.last, e.GetPosition()))
	}
	w.last = e.GetPosition()
	w.came[e.GetInvoice()+" "+e.GetType()] = true
	close(w.changed)
	w.changed = make(chan struct{})
}

// await returns at the moment that the customer learns of a step.
func (w *watch) await(invoice, kind string) error {
	for {
		w.mu.Lock()
		came, changed := w.came[invoice+" "+kind], w.changed
		w.mu.Unlock()
		if came {
			return nil
		}
		select {
		case <-w.ctx.Done():
			return fmt.Errorf("%s of %s did not come: %w", kind, path.Base(invoice), w.ctx.Err())
		case <-changed:
		}
	}
}

func (w *watch) state() (last int64, breaks int, wrong error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.breaks, w.wrong
}
