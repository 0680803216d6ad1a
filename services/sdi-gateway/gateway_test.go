package sdigateway_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	sdigateway "ceralacca.dev/services/sdi-gateway"
)

const fiscalID = "01234567897"

// bundle is a gateway between a sandbox SdI and a listener for its events.
type bundle struct {
	*runtest.Process
	sandbox  *client.Client
	api      sdiv1.SdiServiceClient
	ear      bustest.Ear
	heard    chan proto.Message
	callback string
	certs    string
	deaf     bool
	begun    *submissions // calls of the backlog, when they are watched
}

// options of a bundle.
type options struct {
	now         func() time.Time // default: real time
	config      string           // further lines of the gateway's section
	resendAfter string           // default 1s
	sandbox     client.Endpoints // one that runs already; default: one in this process
	db          *pg.DB           // of the gateway; default: a schema of the tests' server
	callback    string           // further keys of the callback
	quiet       bool             // logs errors only, and nobody listens to events
	watch       bool             // notes when calls begin; no other test may run meanwhile

	lines []func(*bundle) string // the same as config, of what is there only then
}

// setup starts both; more adds lines to the gateway's configuration, indented by two.
func setup(t *testing.T, more ...func(*bundle) string) *bundle {
	t.Helper()
	return setupWith(t, options{lines: more})
}

func setupWith(t testing.TB, o options) *bundle {
	t.Helper()
	endpoints := o.sandbox
	if endpoints.SdIURL == "" {
		world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
		endpoints = world.Endpoints()
	}
	b := &bundle{sandbox: client.New(endpoints.ControlURL), deaf: o.quiet, heard: make(chan proto.Message, 1000), certs: t.TempDir()}
	callback, _, err := devenv.FreeAddress()
	require.NoError(t, err)
	b.callback = callback
	granted, err := b.sandbox.Accredit(context.Background(), client.AccreditationRequest{
		FiscalID: fiscalID, CallbackURL: "https://" + b.callback + "/",
	})
	require.NoError(t, err)
	for name, pem := range map[string]string{
		"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM,
		"server.crt": granted.ServerCertPEM, "server.key": granted.ServerKeyPEM, "ca.crt": granted.CAPEM,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(b.certs, name), []byte(pem), 0o600))
	}
	for _, more := range o.lines {
		o.config += more(b)
	}
	var spans []sdktrace.SpanProcessor
	if o.watch {
		b.begun = &submissions{}
		spans = append(spans, b.begun)
	}
	level := ""
	if o.quiet {
		level = "error"
	}
	b.Process = runtest.Start(t, runtest.Options{
		Targets: []run.Target{sdigateway.Target, b.listener()},
		Config: fmt.Sprintf(`sdi-gateway:
  transmitter: IT%s
  endpoint: %s
  client_cert_file: %[3]s/client.crt
  client_key_file: %[3]s/client.key
  ca_file: %[3]s/ca.crt
  callback: {listen: "%[4]s", cert_file: %[3]s/server.crt, key_file: %[3]s/server.key%[7]s}
  call_timeout: 5s
  resend_after: %[5]s
  retry_every: 200ms
  retry_most: 1s
%[6]sbreaker: {open: 100ms}
`, fiscalID, endpoints.SdIURL, b.certs, b.callback, cmp.Or(o.resendAfter, "1s"), o.config, o.callback),
		Now: o.now, DB: map[string]*pg.DB{"sdi-gateway": o.db}, LogLevel: level, SpanProcessors: spans,
	})
	b.api = sdiv1.NewSdiServiceClient(b.Operator("sdi-gateway"))
	return b
}

// listener plays the invoice service: it owns InvoiceAccepted and hears what the gateway says.
func (b *bundle) listener() run.Target {
	return run.Target{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
		if b.deaf {
			return nil
		}
		hear(h.Bus, b, &sdiv1.InvoiceTransmitted{})
		hear(h.Bus, b, &sdiv1.InvoiceDelivered{})
		hear(h.Bus, b, &sdiv1.InvoiceNotDelivered{})
		hear(h.Bus, b, &sdiv1.InvoiceDiscarded{})
		hear(h.Bus, b, &sdiv1.InvoiceOutcomeReceived{})
		hear(h.Bus, b, &sdiv1.InvoiceTermExpired{})
		hear(h.Bus, b, &sdiv1.InvoiceAttested{})
		hear(h.Bus, b, &sdiv1.TransmissionFailed{})
		hear(h.Bus, b, &sdiv1.DeadlineReached{})
		hear(h.Bus, b, &sdiv1.StatementDiffered{})
		hear(h.Bus, b, &conservationv1.CopiesFound{})
		hear(h.Bus, b, &conservationv1.CopiesNeeded{})
		return nil
	}}
}

func hear[E proto.Message](on *bus.Bus, b *bundle, _ E) {
	var zero E
	bustest.Hear(&b.ear, on, strings.ReplaceAll(string(zero.ProtoReflect().Descriptor().Name()), ".", "_"), func(_ context.Context, ev E) { b.heard <- ev })
}

// accept stores an invoice as the invoice service would and emits its acceptance.
func (b *bundle) accept(t *testing.T, format, code, number string) string {
	t.Helper()
	name := "tenants/t1/companies/c1/invoices/" + uuid.NewString()
	content := fatturapatest.Invoice(fatturapatest.Options{Formato: format, CodiceDestinatario: code, Numero: number})
	ref, err := b.Host("invoice").Blobs.Put(context.Background(), "t1", content)
	require.NoError(t, err)
	b.emit(t, &invoicev1.InvoiceAccepted{
		Invoice: name, Format: format, RecipientCode: code,
		Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"},
	})
	return name
}

func (b *bundle) emit(t *testing.T, ev *invoicev1.InvoiceAccepted) {
	t.Helper()
	owner := b.Host("invoice")
	ctx := bus.WithCorrelation(context.Background(), path.Base(ev.GetInvoice()))
	require.NoError(t, owner.DB.Tx(ctx, "t1", func(ctx context.Context, tx pgx.Tx) error {
		return owner.Bus.Emit(ctx, tx, ev)
	}))
}

// count runs a query over all tenants of the gateway's schema.
func (b *bundle) count(t testing.TB, query string) int {
	t.Helper()
	var n int
	require.NoError(t, b.Host("sdi-gateway").DB.System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, query).Scan(&n)
	}))
	return n
}

// eventually polls until ok says yes; what it last saw is in the failure.
func eventually(t *testing.T, what string, ok func() (done bool, state string)) {
	t.Helper()
	var state string
	for range 9000 {
		var done bool
		done, state = ok()
		if done {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not happen within 90 s; last seen: %s", what, state)
}

// await returns the next event that the gateway emits.
func (b *bundle) await(t *testing.T) proto.Message {
	t.Helper()
	select {
	case ev := <-b.heard:
		return ev
	case <-time.After(90 * time.Second):
		t.Fatal("the gateway emitted nothing within 90 s")
		return nil
	}
}

// awaitAll collects n events by their names.
func (b *bundle) awaitAll(t *testing.T, n int) map[string]proto.Message {
	t.Helper()
	got := map[string]proto.Message{}
	for range n {
		ev := b.await(t)
		got[string(ev.ProtoReflect().Descriptor().Name())] = ev
	}
	return got
}

func (b *bundle) transmission(t *testing.T, invoice string) *sdiv1.Transmission {
	t.Helper()
	list, err := b.api.ListTransmissions(context.Background(), &sdiv1.ListTransmissionsRequest{Parent: "tenants/t1", Invoice: invoice})
	require.NoError(t, err)
	require.Len(t, list.GetTransmissions(), 1)
	return list.GetTransmissions()[0]
}

// once asserts that SdI took each document once and no name twice.
func (b *bundle) once(t *testing.T, files int) {
	t.Helper()
	counts, err := b.sandbox.Counts(context.Background())
	require.NoError(t, err)
	require.Equal(t, files, counts.Accepted)
	require.Zero(t, counts.RepeatedNames)
	require.Zero(t, counts.RepeatedContents)
	require.Zero(t, counts.RepeatedInvoices)
}

// repeats lets the time pass after which the one call of unknown outcome that is waited for is repeated: it is an hour.
func (b *bundle) repeats(t *testing.T, clock *testClock) {
	t.Helper()
	b.awaitPending(t, "RETRY", 1)
	clock.advance(2 * time.Hour)
}

func TestPrivateOutcomes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, c := range []struct {
		code, event string
		state       sdiv1.TransmissionState
	}{
		{"SBXRC00", "InvoiceDelivered", sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED},
		{"SBXMC00", "InvoiceNotDelivered", sdiv1.TransmissionState_TRANSMISSION_STATE_AVAILABLE},
		{"SB00423", "InvoiceDiscarded", sdiv1.TransmissionState_TRANSMISSION_STATE_REJECTED},
	} {
		t.Run(c.code, func(t *testing.T) {
			invoice := b.accept(t, "FPR12", c.code, c.code)
			got := b.awaitAll(t, 2)
			require.Contains(t, got, "InvoiceTransmitted")
			require.Contains(t, got, c.event)
			sent := got["InvoiceTransmitted"].(*sdiv1.InvoiceTransmitted)
			require.Equal(t, invoice, sent.GetInvoice())
			require.NotEmpty(t, sent.GetSdiId())
			transmission := b.transmission(t, invoice)
			require.Equal(t, c.state, transmission.GetState())
			require.Equal(t, sent.GetFileName(), transmission.GetFileName())
			require.Len(t, transmission.GetMessages(), 1)
			require.Empty(t, transmission.GetMessages()[0].GetProblem())
			if c.event == "InvoiceDiscarded" {
				require.Equal(t, "00423", got[c.event].(*sdiv1.InvoiceDiscarded).GetErrors()[0].GetCode())
			}
		})
	}
	b.once(t, 3)
}

// The same acceptance twice, and an invoice accepted again under another event, are one transmission.
func TestDuplicateEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.accept(t, "FPR12", "SBXRC00", "1")
	b.awaitAll(t, 2)
	first := b.transmission(t, invoice)
	ref, err := b.Host("invoice").Blobs.Put(context.Background(), "t1", fatturapatest.Invoice(fatturapatest.Options{Numero: "1", CodiceDestinatario: "SBXRC00"}))
	require.NoError(t, err)
	b.emit(t, &invoicev1.InvoiceAccepted{Invoice: invoice, Format: "FPR12", Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size}})
	b.accept(t, "FPR12", "SBXRC00", "2")
	b.awaitAll(t, 2)
	require.True(t, proto.Equal(first, b.transmission(t, invoice)))
	b.once(t, 2)
}

// SdI takes the file and the answer is lost: the receipts tell, and nothing is sent again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{client.FaultCutAfterAccept, client.FaultEI02Accepted} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			clock := &testClock{}
			b := setupWith(t, options{now: clock.now, resendAfter: "1h"})
			b.order(t, kind)
			invoice := b.accept(t, "FPR12", "SBXRC00", "1")
			got := b.awaitAll(t, 2)
			require.Contains(t, got, "InvoiceTransmitted")
			require.Contains(t, got, "InvoiceDelivered")
			b.order(t, client.FaultEI02) // one that did not arrive is repeated: the first would be, too
			b.accept(t, "FPR12", "SBXRC00", "2")
			b.repeats(t, clock)
			b.awaitAll(t, 2)
			require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, b.transmission(t, invoice).GetState())
			b.once(t, 2)
		})
	}
}

// The answer is lost and the receipt is slow: the repeat goes under the same name, SdI discards it as
// its own file's double, and the real receipt decides.
func TestRepeatOfOurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: client.FaultCutAfterAccept, Count: 1})
	require.NoError(t, err)
	invoice := b.accept(t, "FPR12", "SBXSLOW", "1")
	require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	eventually(t, "the discard of the repeat", func() (bool, string) {
		transmission := b.transmission(t, invoice)
		return len(transmission.GetMessages()) == 1 && strings.HasPrefix(transmission.GetMessages()[0].GetProblem(), "SDI_REPEAT_OF_OURS"),
			transmission.String()
	})
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_SENT, b.transmission(t, invoice).GetState())
	_, err = b.sandbox.Advance(context.Background(), 2*time.Hour)
	require.NoError(t, err)
	require.IsType(t, &sdiv1.InvoiceDelivered{}, b.await(t))
	page, err := b.sandbox.Received(context.Background(), client.Query{})
	require.NoError(t, err)
	require.Len(t, page.Files, 2)
	require.Equal(t, page.Files[0].Name, page.Files[1].Name, "a repeat keeps its name")
	require.Equal(t, page.Files[0].ID, b.transmission(t, invoice).GetSdiId())
}

// What surely did not arrive is sent again until it does, and refusals that need a person are told.
func TestRefusedCalls(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{client.FaultCutBefore, client.FaultEI02, client.FaultSOAP, client.FaultHTTP503} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: kind, Count: 2})
			require.NoError(t, err)
			b.accept(t, "FPR12", "SBXRC00", "1")
			got := b.awaitAll(t, 2)
			require.Contains(t, got, "InvoiceDelivered")
			b.once(t, 1)
		})
	}
	t.Run(client.FaultEI03, func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: client.FaultEI03, Count: 1})
		require.NoError(t, err)
		invoice := b.accept(t, "FPR12", "SBXRC00", "1")
		failed := b.await(t).(*sdiv1.TransmissionFailed)
		require.Equal(t, "SDI_EI03", failed.GetCode())
		eventually(t, "the parked job", func() (bool, string) {
			return b.count(t, "SELECT count(*) FROM parked_event WHERE code = 'SDI_EI03'") == 1, "none parked"
		})
		require.Contains(t, b.transmission(t, invoice).GetLastError(), "SDI_EI03")
	})
}

func TestMessagesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, kind := range []string{client.FaultUnknownID, client.FaultMalformed, client.FaultWrongHash} {
		_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: kind, Count: 1})
		require.NoError(t, err)
		b.accept(t, "FPR12", "SBXRC00", kind)
		if kind == client.FaultUnknownID {
			// The identifier is strange, the name inside is ours: the name decides.
			got := b.awaitAll(t, 2) // in any order
			require.Contains(t, got, "InvoiceTransmitted")
			require.Contains(t, got, "InvoiceDelivered")
			continue
		}
		require.IsType(t, &sdiv1.InvoiceTransmitted{}, b.await(t))
	}
	// A message about a file that was never ours.
	b.deliver(t, "99999999999", "IT99999999990_ZZZZZ_RC_001.xml", []byte(strings.ReplaceAll(privateRC, "%FILE%", "IT99999999990_ZZZZZ.xml")))
	eventually(t, "three messages kept aside with their reasons", func() (bool, string) {
		list, err := b.api.ListUnmatchedMessages(context.Background(), &sdiv1.ListUnmatchedMessagesRequest{})
		require.NoError(t, err)
		var problems []string
		for _, m := range list.GetMessages() {
			code, _, _ := strings.Cut(m.GetProblem(), ":")
			problems = append(problems, code)
		}
		all := strings.Join(problems, " ")
		return strings.Contains(all, "SDI_MESSAGE_UNREADABLE") && strings.Contains(all, "SDI_HASH_MISMATCH") && strings.Contains(all, "SDI_UNKNOWN_FILE"), all
	})
	list, err := b.api.ListUnmatchedMessages(context.Background(), &sdiv1.ListUnmatchedMessagesRequest{})
	require.NoError(t, err)
	for _, m := range list.GetMessages() {
		got, err := b.api.GetUnmatchedMessage(context.Background(), &sdiv1.GetUnmatchedMessageRequest{Name: m.GetName()})
		require.NoError(t, err)
		require.NotEmpty(t, got.GetContent(), "the bytes are kept as received")
	}
	_, err = b.api.GetUnmatchedMessage(context.Background(), &sdiv1.GetUnmatchedMessageRequest{Name: "messages/" + uuid.NewString()})
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
}

const privateRC = `<?xml version="1.0" encoding="UTF-8"?>
<ns2:RicevutaConsegna xmlns:ns2="http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fattura/messaggi/v1.0" versione="1.0">
<IdentificativoSdI>99999999999</IdentificativoSdI><NomeFile>%FILE%</NomeFile><DataOraRicezione>2026-11-21T10:00:00.000+01:00</DataOraRicezione>
<DataOraConsegna>2026-11-21T10:00:01.000+01:00</DataOraConsegna><Destinatario><Codice>ABC1234</Codice><Descrizione>X</Descrizione></Destinatario>
<MessageId>1</MessageId></ns2:RicevutaConsegna>`

// deliver calls the gateway as SdI does; any certificate of the sandbox authority will do.
func (b *bundle) deliver(t *testing.T, id, name string, content []byte) {
	t.Helper()
	caller := &sdi.Client{HTTP: b.httpClient(t, true), URL: "https://" + b.callback + "/"}
	require.NoError(t, caller.Notifica(context.Background(), sdi.OpRicevutaConsegna, sdi.FileSdI{IdentificativoSdI: id, NomeFile: name, File: content}))
}

func (b *bundle) httpClient(t testing.TB, withCertificate bool) *http.Client {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the server's certificate is not what is tested
	if withCertificate {
		cert, err := tls.LoadX509KeyPair(filepath.Join(b.certs, "client.crt"), filepath.Join(b.certs, "client.key"))
		require.NoError(t, err)
		cfg.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}, Timeout: 10 * time.Second}
}

func TestCallbackIsGuarded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.httpClient(t, false).Post("https://"+b.callback+"/", "text/xml", strings.NewReader("<x/>"))
	require.Error(t, err, "no client certificate, no connection")
	resp, err := b.httpClient(t, true).Post("https://"+b.callback+"/", "text/xml", strings.NewReader("<x/>"))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	require.NoError(t, err)
	require.Contains(t, body.String(), "Fault")
	require.Zero(t, b.count(t, "SELECT count(*) FROM message"))
}

// The same message again is counted, not handled.
func TestDuplicateMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.sandbox.AddFault(context.Background(), client.Fault{Kind: client.FaultDuplicate, Count: 1})
	require.NoError(t, err)
	invoice := b.accept(t, "FPR12", "SBXRC00", "1")
	b.awaitAll(t, 2)
	eventually(t, "the second delivery", func() (bool, string) {
		transmission := b.transmission(t, invoice)
		return len(transmission.GetMessages()) == 1 && transmission.GetMessages()[0].GetDuplicates() == 1, transmission.String()
	})
	require.Empty(t, b.heard)
}

// Rows of one tenant are invisible to another, through SQL and through the API.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	b := setup(t)
	invoice := b.accept(t, "FPR12", "SBXRC00", "1")
	b.awaitAll(t, 2)
	mine := b.transmission(t, invoice)
	other := strings.Replace(mine.GetName(), "tenants/t1/", "tenants/t2/", 1)
	_, err := b.api.GetTransmission(context.Background(), &sdiv1.GetTransmissionRequest{Name: other})
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
	list, err := b.api.ListTransmissions(context.Background(), &sdiv1.ListTransmissionsRequest{Parent: "tenants/t2"})
	require.NoError(t, err)
	require.Empty(t, list.GetTransmissions())
	for _, table := range []string{"transmission", "message"} {
		var n int
		err := b.Host("sdi-gateway").DB.Tx(context.Background(), "t2", func(ctx context.Context, tx pgx.Tx) error {
			return tx.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n)
		})
		require.NoError(t, err)
		require.Zero(t, n, table)
	}
}

// Names taken at once are as many names.
func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = namesAtOnce
	for i := range n {
		b.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("N%d", i))
	}
	b.awaitAllCount(t, 2*n)
	b.once(t, n)
}

func (b *bundle) awaitAllCount(t *testing.T, n int) {
	t.Helper()
	for range n {
		b.await(t)
	}
}

// Files and messages that come together are handled together, and the trouble of one is not the others'.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	clock := &testClock{}
	b := setupWith(t, options{now: clock.now, resendAfter: "1h"})
	const files = 60
	// A file that goes out alone is parked when SdI refuses it for good; this one goes with others.
	amid, err := sdi.Progressivo(files / 2)
	require.NoError(t, err)
	for _, f := range []client.Fault{
		{Kind: client.FaultCutBefore}, {Kind: client.FaultEI03, Name: "IT" + fiscalID + "_" + amid + ".xml"},
		{Kind: client.FaultHTTP503}, {Kind: client.FaultCutAfterAccept},
	} {
		f.Count = 1
		_, err := b.sandbox.AddFault(context.Background(), f)
		require.NoError(t, err)
	}
	owner := b.Host("invoice")
	require.NoError(t, owner.DB.Tx(context.Background(), "t1", func(ctx context.Context, tx pgx.Tx) error {
		for n := range files {
			content := fatturapatest.Invoice(fatturapatest.Options{Formato: "FPR12", CodiceDestinatario: "SBXRC00", Numero: fmt.Sprint(n)})
			ref, err := owner.Blobs.Put(ctx, "t1", content)
			require.NoError(t, err)
			id := uuid.NewString()
			require.NoError(t, owner.Bus.Emit(bus.WithCorrelation(ctx, id), tx, &invoicev1.InvoiceAccepted{
				Invoice: "tenants/t1/companies/c1/invoices/" + id, Format: "FPR12", RecipientCode: "SBXRC00",
				Original: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"},
			}))
		}
		return nil
	}))
	transmitted, delivered := map[string]int{}, map[string]int{}
	for n := range 2 * files {
		if n == 2*(files-2) { // of the two that did not arrive nothing is heard before they go again; what arrived is told by then
			clock.advance(2 * time.Hour)
		}
		switch ev := b.await(t).(type) {
		case *sdiv1.InvoiceTransmitted:
			transmitted[ev.GetInvoice()]++
		case *sdiv1.InvoiceDelivered:
			delivered[ev.GetInvoice()]++
		default:
			t.Fatalf("unexpected %T", ev)
		}
	}
	require.Len(t, transmitted, files)
	require.Len(t, delivered, files)
	b.once(t, files)
	require.Positive(t, b.count(t, "SELECT count(*) FROM river_job WHERE kind = 'sdi_transmit_many'"))
	require.Positive(t, b.count(t, "SELECT count(*) FROM river_job WHERE kind = 'sdi_read_messages'"))
	require.Zero(t, b.count(t, "SELECT count(*) FROM parked_event"))
}
