package invoice

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

// neighbours stands where the other services are: it answers GetCompany over gRPC as tenancy would,
// and consumes what invoice states.
type neighbours struct {
	tenancyv1.UnimplementedTenancyServiceServer

	ear       bustest.Ear
	mu        sync.Mutex
	companies map[string]*tenancyv1.Company
	asked     int
	accepted  map[string]*invoicev1.InvoiceAccepted
	settled   map[string][]*invoicev1.InvoiceSettled
	envelopes map[string]bus.Envelope // of accepted
}

func (n *neighbours) GetCompany(_ context.Context, req *tenancyv1.GetCompanyRequest) (*tenancyv1.Company, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	c, ok := n.companies[req.GetName()]
	if !ok {
		return nil, fault.NotFound("COMPANY_NOT_FOUND", "there is no company %s", req.GetName())
	}
	return c, nil
}

func (n *neighbours) target() run.Target {
	return run.Target{Name: "tenancy", Start: func(_ context.Context, h *run.Host) error {
		tenancyv1.RegisterTenancyServiceServer(h.RPC, n)
		bustest.Hear(&n.ear, h.Bus, "accepted", func(ctx context.Context, ev *invoicev1.InvoiceAccepted) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.accepted[ev.GetInvoice()], n.envelopes[ev.GetInvoice()] = ev, bus.Meta(ctx)
		})
		bustest.Hear(&n.ear, h.Bus, "settled", func(_ context.Context, ev *invoicev1.InvoiceSettled) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.settled[ev.GetInvoice()] = append(n.settled[ev.GetInvoice()], ev)
		})
		return nil
	}}
}

// world is a running invoice service with two tenants, each with a company "main".
type world struct {
	*runtest.Process
	t   testing.TB
	n   *neighbours
	s   *Service
	api invoicev1.InvoiceServiceClient // of tenant acme
}

const (
	acmeMain = "tenants/acme/companies/main"
	brioMain = "tenants/brio/companies/main"
)

func acmeVAT() string { return fatturapatest.VATNumber(1) }

func start(t *testing.T) *world {
	t.Helper()
	return startBeating(t, 200*time.Millisecond)
}

func startBeating(t testing.TB, heartbeat time.Duration) *world {
	t.Helper()
	n := &neighbours{companies: map[string]*tenancyv1.Company{}, accepted: map[string]*invoicev1.InvoiceAccepted{},
		settled: map[string][]*invoicev1.InvoiceSettled{}, envelopes: map[string]bus.Envelope{}}
	add := func(name, vat string, policy tenancyv1.SignaturePolicy) {
		n.companies[name] = &tenancyv1.Company{Name: name, DisplayName: "Acme S.r.l.", VatNumber: "IT" + vat, SignaturePolicy: policy}
	}
	add(acmeMain, acmeVAT(), tenancyv1.SignaturePolicy_SIGNATURE_POLICY_AUTO)
	add("tenants/acme/companies/unsigned", fatturapatest.VATNumber(2), tenancyv1.SignaturePolicy_SIGNATURE_POLICY_NONE)
	add("tenants/acme/companies/twin", acmeVAT(), tenancyv1.SignaturePolicy_SIGNATURE_POLICY_ALWAYS)
	add(brioMain, fatturapatest.VATNumber(3), tenancyv1.SignaturePolicy_SIGNATURE_POLICY_AUTO)
	w := &world{t: t, n: n}
	target := run.Target{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
		w.s = newService(h, Config{CompanyTTL: time.Minute, Heartbeat: heartbeat})
		w.s.sequencer.poll = max(w.s.sequencer.poll, heartbeat) // who is told so rarely that all is well is to be told of the rest by wakes
		w.s.register(h)
		return nil
	}}
	w.Process = runtest.Start(t, runtest.Options{Targets: []run.Target{n.target(), target}})
	w.api = invoicev1.NewInvoiceServiceClient(w.Tenant("invoice", "acme"))
	return w
}

// file writes a valid invoice of acme with this number.
func file(number string) []byte { return fileOf(fatturapatest.Options{Numero: number}) }

func fileOf(o fatturapatest.Options) []byte {
	if o.Cedente == (fatturapatest.Party{}) {
		o.Cedente = fatturapatest.Party{Paese: "IT", Codice: acmeVAT(), Denominazione: "Acme S.r.l."}
	}
	return fatturapatest.Invoice(o)
}

func (w *world) create(content []byte) *invoicev1.Invoice {
	w.t.Helper()
	inv, err := w.api.CreateInvoice(w.t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Content: content})
	require.NoError(w.t, err)
	return inv
}

func (w *world) get(name string) *invoicev1.Invoice {
	w.t.Helper()
	inv, err := w.api.GetInvoice(w.t.Context(), &invoicev1.GetInvoiceRequest{Name: name})
	require.NoError(w.t, err)
	return inv
}

func (w *world) count(sql string, args ...any) (n int) {
	w.t.Helper()
	err := w.DB("invoice").System(w.t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, args...).Scan(&n)
	})
	require.NoError(w.t, err)
	return n
}

// state publishes facts as the other services would: through the bus.
func (w *world) state(tenant string, events ...proto.Message) {
	w.t.Helper()
	err := w.DB("invoice").Tx(w.t.Context(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		for _, ev := range events {
			if err := w.s.bus.Emit(ctx, tx, ev); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(w.t, err)
}

func (w *world) eventually(cond func() bool, what string, a ...any) {
	w.t.Helper()
	require.Eventually(w.t, cond, 20*time.Second, 10*time.Millisecond, fmt.Sprintf(what, a...))
}

func (w *world) becomes(name string, state invoicev1.InvoiceState) *invoicev1.Invoice {
	w.t.Helper()
	var inv *invoicev1.Invoice
	w.eventually(func() bool { inv = w.get(name); return inv.GetState() == state }, "%s becomes %s", name, state)
	return inv
}

func (w *world) settledOf(name string) []*invoicev1.InvoiceSettled {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	return w.n.settled[name]
}

// stored puts bytes of a tenant into the blob store, as the service that made them would.
func (w *world) stored(tenant, text string) blob.Ref {
	w.t.Helper()
	ref, err := w.s.blobs.Put(w.t.Context(), tenant, []byte(text))
	require.NoError(w.t, err)
	return ref
}

func requireFault(t *testing.T, err error, code, field, reason string) {
	t.Helper()
	f := fault.Of(err)
	require.NotNil(t, f, "want %s", code)
	require.Equal(t, code, f.Code, "%v", err)
	if field != "" {
		require.NotEmpty(t, f.Fields, "%v", err)
		require.Equal(t, field+" "+reason, f.Fields[0].Path+" "+f.Fields[0].Code, "%v", err)
	}
}
