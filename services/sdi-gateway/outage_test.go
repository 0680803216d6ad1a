package sdigateway_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
)

// testClock is real time that can be put forward.
type testClock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *testClock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += by
}

// document is an invoice as the invoice service would tell of it.
type document struct {
	company, corrects string
	signed            bool // in a p7m, as public bodies want it
	fatturapatest.Options
}

func (b *bundle) acceptDocument(t *testing.T, d document) string {
	t.Helper()
	if d.company == "" {
		d.company = "c1"
	}
	if d.Formato == "" {
		d.Formato = "FPR12"
	}
	name := "tenants/t1/companies/" + d.company + "/invoices/" + uuid.NewString()
	content, media := fatturapatest.Invoice(d.Options), "application/xml"
	if d.signed {
		content, media = envelope(t, content), "application/pkcs7-mime"
	}
	ref, err := b.Host("invoice").Blobs.Put(context.Background(), "t1", content)
	require.NoError(t, err)
	b.emit(t, &invoicev1.InvoiceAccepted{
		Invoice: name, Format: d.Formato, RecipientCode: d.CodiceDestinatario, Corrects: d.corrects,
		Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: media},
	})
	return name
}

func (b *bundle) operations() sdiv1.SdiOperationsServiceClient {
	return sdiv1.NewSdiOperationsServiceClient(b.Operator("sdi-gateway"))
}

func (b *bundle) pending(t *testing.T, reason string) []*sdiv1.Transmission {
	t.Helper()
	list, err := b.operations().ListPending(context.Background(), &sdiv1.ListPendingRequest{Parent: "tenants/-", Reason: reason})
	require.NoError(t, err)
	return list.GetTransmissions()
}

func (b *bundle) awaitPending(t *testing.T, reason string, n int) []*sdiv1.Transmission {
	t.Helper()
	var list []*sdiv1.Transmission
	eventually(t, fmt.Sprintf("%d files that wait for %q", n, reason), func() (bool, string) {
		list = b.pending(t, reason)
		return len(list) == n, fmt.Sprintf("%d: %v", len(list), list)
	})
	return list
}

func (b *bundle) audited(t *testing.T, action string) int {
	t.Helper()
	return b.count(t, "SELECT count(*) FROM audit_entry WHERE action = '"+action+"'")
}

// SdI goes away: what was promised waits and says why, one file at a time tries again, and once SdI answers all of
// it leaves, each file once.
func TestOutage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	_, err := b.sandbox.AddFault(ctx, client.Fault{Kind: client.FaultHTTP503, Count: 100000})
	require.NoError(t, err)
	const files = 24
	for n := range files {
		b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: fmt.Sprint(n), CodiceDestinatario: "SBXRC00"}})
	}
	var health *sdiv1.SendingHealth
	eventually(t, "the outage", func() (bool, string) {
		health, err = b.operations().GetSendingHealth(ctx, &sdiv1.GetSendingHealthRequest{})
		require.NoError(t, err)
		return health.GetState() == sdiv1.SendingHealth_STATE_OUTAGE && health.GetFailures() >= 2, health.String()
	})
	require.NotNil(t, health.GetOutageSinceTime())
	require.NotEmpty(t, health.GetLastError())
	invoice := b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: "later", CodiceDestinatario: "SBXRC00", Data: "2026-11-20"}})
	var late *sdiv1.Transmission
	eventually(t, "a new file that waits", func() (bool, string) {
		list := b.pending(t, "OUTAGE")
		for _, each := range list {
			if each.GetInvoice() == invoice {
				late = each
			}
		}
		return late != nil, fmt.Sprint(list)
	})
	require.Contains(t, late.GetHeld(), "SdI has not answered since")
	require.Equal(t, "2026-12-02T22:59:59Z", late.GetSendByTime().AsTime().Format(time.RFC3339), "twelve days after the invoice's date, in Italy")
	require.Equal(t, sdiv1.TrafficLight_TRAFFIC_LIGHT_BLACK, late.GetLight())
	require.NoError(t, b.sandbox.ClearFaults(ctx))
	b.awaitAllCount(t, 2*(files+1))
	b.once(t, files+1)
	require.Empty(t, b.pending(t, ""))
	eventually(t, "the end of the outage", func() (bool, string) {
		health, err = b.operations().GetSendingHealth(ctx, &sdiv1.GetSendingHealthRequest{})
		require.NoError(t, err)
		return health.GetState() == sdiv1.SendingHealth_STATE_OPEN, health.String()
	})
	require.Zero(t, b.count(t, "SELECT count(*) FROM parked_event"))
	require.NotNil(t, health.GetLastSuccessTime())
}

// Tenants pause their own, operators everything; what is paused waits and says why.
func TestPause(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := context.Background()
	tenant := sdiv1.NewSdiOperationsServiceClient(b.Tenant("sdi-gateway", "t1", "invoices.read", "invoices.write"))
	company, err := tenant.PauseSending(ctx, &sdiv1.PauseSendingRequest{Parent: "tenants/t1/companies/c2", Reason: "stocktaking"})
	require.NoError(t, err)
	held := b.acceptDocument(t, document{company: "c2", Options: fatturapatest.Options{Numero: "1", CodiceDestinatario: "SBXRC00"}})
	b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: "2", CodiceDestinatario: "SBXRC00"}})
	b.awaitAll(t, 2) // of the company that is not paused
	waiting := b.awaitPending(t, "PAUSED", 1)
	require.Equal(t, held, waiting[0].GetInvoice())
	require.Contains(t, waiting[0].GetHeld(), "stocktaking")
	_, err = b.operations().ResendTransmission(ctx, &sdiv1.ResendTransmissionRequest{Name: waiting[0].GetName(), Reason: "try"})
	require.Equal(t, "SDI_PAUSED", fault.Of(err).Code)

	all, err := b.operations().PauseSending(ctx, &sdiv1.PauseSendingRequest{Parent: "tenants/t1", Reason: "unpaid"})
	require.NoError(t, err)
	for name, refused := range map[string]func() error{
		"another's pause": func() error {
			_, err := tenant.ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: all.GetName()})
			return err
		},
		"the transmitter": func() error {
			_, err := tenant.PauseSending(ctx, &sdiv1.PauseSendingRequest{Reason: "x"})
			return err
		},
		"another tenant": func() error {
			_, err := tenant.PauseSending(ctx, &sdiv1.PauseSendingRequest{Parent: "tenants/t2", Reason: "x"})
			return err
		},
		"all tenants' pauses": func() error {
			_, err := tenant.ListPauses(ctx, &sdiv1.ListPausesRequest{Parent: "tenants/-"})
			return err
		},
		"all tenants' terms": func() error {
			_, err := tenant.ListDeadlines(ctx, &sdiv1.ListDeadlinesRequest{Parent: "tenants/-"})
			return err
		},
		"the health of the channel": func() error {
			_, err := tenant.GetSendingHealth(ctx, &sdiv1.GetSendingHealthRequest{})
			return err
		},
	} {
		require.Equal(t, fault.KindDenied, fault.Of(refused()).Kind, name)
	}
	resumed, err := tenant.ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: company.GetName()})
	require.NoError(t, err)
	require.NotNil(t, resumed.GetResumeTime())
	b.awaitPending(t, "PAUSED", 1) // by the other pause now
	_, err = b.operations().ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: all.GetName()})
	require.NoError(t, err)
	b.awaitAll(t, 2)
	b.once(t, 2)
	list, err := tenant.ListPauses(ctx, &sdiv1.ListPausesRequest{Parent: "tenants/t1"})
	require.NoError(t, err)
	require.Len(t, list.GetPauses(), 2)
	require.Equal(t, 2, b.audited(t, "sending.pause"))
	require.Equal(t, 2, b.audited(t, "sending.resume"))
}

// A pause with a beginning and an end begins and ends by itself.
func TestScheduledPause(t *testing.T) {
	t.Parallel()
	clock := &testClock{}
	b := setupWith(t, options{now: clock.now})
	ctx := context.Background()
	begin := clock.now().Add(24 * time.Hour)
	pause, err := b.operations().PauseSending(ctx, &sdiv1.PauseSendingRequest{
		Reason: "maintenance", StartTime: timestamppb.New(begin), EndTime: timestamppb.New(begin.Add(2 * time.Hour)),
	})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(pause.GetName(), "pauses/"))
	b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: "before", CodiceDestinatario: "SBXRC00"}})
	b.awaitAll(t, 2)
	clock.advance(25 * time.Hour)
	b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: "during", CodiceDestinatario: "SBXRC00"}})
	waiting := b.awaitPending(t, "PAUSED", 1)
	require.Contains(t, waiting[0].GetHeld(), "maintenance")
	health, err := b.operations().GetSendingHealth(ctx, &sdiv1.GetSendingHealthRequest{})
	require.NoError(t, err)
	require.Equal(t, sdiv1.SendingHealth_STATE_PAUSED, health.GetState())
	require.EqualValues(t, 1, health.GetPauses()[0].GetWaiting())
	clock.advance(2 * time.Hour)
	b.awaitAll(t, 2)
	require.Equal(t, 1, b.audited(t, "sending.resume"))
	_, err = b.operations().PauseSending(ctx, &sdiv1.PauseSendingRequest{Reason: "x", EndTime: timestamppb.New(begin)})
	require.Equal(t, "SDI_PAUSE_TIMES", fault.Of(err).Code)
}

// The backlog leaves in the order of the terms: what the law wants first, then what came first.
func TestBacklogLeavesInOrderOfTerms(t *testing.T) {
	t.Parallel()
	b := setupWith(t, options{config: "  drain_rate: 2\n"}) // one token at a time
	ctx := context.Background()
	pause, err := b.operations().PauseSending(ctx, &sdiv1.PauseSendingRequest{Reason: "order"})
	require.NoError(t, err)
	var want []string
	for _, d := range []struct{ tipo, date, number string }{
		{"TD01", "2026-11-20", "third"}, {"TD24", "2026-11-02", "fourth"}, {"TD01", "2026-11-10", "second"}, {"TD01", "2026-11-20", "third-too"}, {"TD17", "2026-10-31", "first"},
	} {
		b.acceptDocument(t, document{Options: fatturapatest.Options{Numero: d.number, TipoDocumento: d.tipo, Data: d.date, CodiceDestinatario: "SBXRC00"}})
		want = append(want, d.number)
		b.awaitPending(t, "PAUSED", len(want))
	}
	_, err = b.operations().ResumeSending(ctx, &sdiv1.ResumeSendingRequest{Name: pause.GetName()})
	require.NoError(t, err)
	b.awaitAllCount(t, 2*len(want))
	page, err := b.sandbox.Received(ctx, client.Query{})
	require.NoError(t, err)
	var got []string
	for _, f := range page.Files {
		got = append(got, f.Invoices[0].Number)
	}
	require.Equal(t, []string{"first", "second", "third", "third-too", "fourth"}, got)
	require.False(t, slices.Equal(want, got))
}
