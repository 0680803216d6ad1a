package chaos

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/tests/harness"
)

// trouble is something that SdI, or the way to it, does to the next files.
type trouble struct {
	name   string
	faults []client.Fault
	flow   flow
	// lost says that the answer to a call was lost after SdI took the file, so that a repeat under the same
	// name is right when no receipt comes in time; due that none comes before it was made, so that it must be.
	lost, due bool
	// parked and unmatched are what is left for a person.
	parked, unmatched int
}

// The impatient gateway waits two seconds for receipts before it repeats a call whose outcome it does not
// know, and five for an answer.
var troubles = []trouble{
	{name: "receipts come twice", flow: private, faults: faults(3, client.FaultDuplicate, "RC")},
	{name: "receipts come in another order", flow: public, faults: faults(2, client.FaultReorder, "RC")},
	{name: "receipts come late", flow: private, faults: late(2, 1500)},
	{name: "a receipt has an IdentificativoSdI that was never given out", flow: private, faults: faults(1, client.FaultUnknownID, "RC")},
	{name: "a receipt cannot be read", flow: public.without("invoice.delivered"), faults: faults(1, client.FaultMalformed, "RC"), parked: 1, unmatched: 1},
	{name: "the connection is cut before the file is taken", flow: private, faults: faults(2, client.FaultCutBefore, "")},
	{name: "the connection is cut after the file was taken", flow: private, faults: faults(2, client.FaultCutAfterAccept, ""), lost: true},
	{name: "the connection is cut after the file was taken and receipts are late", flow: private,
		faults: append(faults(1, client.FaultCutAfterAccept, ""), faults(1, client.FaultDrop, "RC")...), lost: true, due: true},
	{name: "EI02 for a file that was not taken", flow: private, faults: faults(2, client.FaultEI02, "")},
	{name: "EI02 for a file that was taken", flow: private, faults: faults(2, client.FaultEI02Accepted, ""), lost: true},
	{name: "EI02 for a file that was taken and receipts are late", flow: private,
		faults: append(faults(1, client.FaultEI02Accepted, ""), faults(1, client.FaultDrop, "RC")...), lost: true, due: true},
	{name: "HTTP 503", flow: private, faults: faults(3, client.FaultHTTP503, "")},
	{name: "a SOAP fault", flow: private, faults: faults(2, client.FaultSOAP, "")},
	{name: "no answer in time", flow: private, faults: []client.Fault{{Kind: client.FaultDelay, Count: 1, DelayMS: 5500}}, lost: true},
}

func faults(n int, kind, receipt string) []client.Fault {
	return []client.Fault{{Kind: kind, Count: n, Type: receipt}}
}

func late(n, millis int) []client.Fault {
	return []client.Fault{{Kind: client.FaultSlowNotice, Count: n, DelayMS: millis, Type: "RC"}}
}

// TestExchangeMisbehaves has SdI fail in every way that its documents, or any network, allow.
func TestExchangeMisbehaves(t *testing.T) {
	t.Parallel()
	for _, mode := range exchangeModes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			s := newScene(t, mode)
			var left leftovers
			for _, tr := range troubles {
				t.Run(tr.name, func(t *testing.T) { s.suffer(t, tr, &left) })
			}
			t.Run("the transmitter is not enabled until somebody mends it", s.mendAccreditation)
			t.Run("a receipt for a file that was never ours", s.foreignReceipt)
			left.unmatched++
			s.settle(t, left)
		})
	}
}

// suffer orders the faults, submits as many invoices as there are faults of the first kind, and one more
// that must not notice.
func (s *scene) suffer(t *testing.T, tr trouble, left *leftovers) {
	before, err := s.p.Sandbox.Counts(s.ctx)
	require.NoError(t, err)
	n := tr.faults[0].Count
	for _, f := range tr.faults {
		_, err = s.p.Sandbox.AddFault(s.ctx, f)
		require.NoError(t, err)
	}
	names := s.submitMany(t, tr.flow, n)
	played := s.awaitPlayed(t)
	if tr.due {
		s.bringLate(t, before.RepeatedNames+n)
	}
	healthy := tr.flow
	if healthy.format == public.format {
		healthy = public
	}
	names = append(names, s.submitMany(t, healthy, 1)...)
	s.arrive(t, names...)
	require.NoError(t, s.p.Sandbox.ClearFaults(s.ctx))

	after, err := s.p.Sandbox.Counts(s.ctx)
	require.NoError(t, err)
	repeats := after.RepeatedNames - before.RepeatedNames
	switch {
	case tr.due:
		require.Equal(t, n, repeats, "without an answer and a receipt each file is sent again, under its name")
	case tr.lost:
		require.LessOrEqual(t, repeats, n)
	default:
		require.Zero(t, repeats, "no answer was lost: nothing may be sent twice")
	}
	t.Logf("%d faults played on %d invoices, %d calls repeated after SdI had the file", played, n, repeats)
	left.repeats += repeats
	left.parked += tr.parked
	left.unmatched += tr.unmatched
}

// bringLate waits until so many names came to SdI more than once, and has SdI bring the receipts then that it has not brought.
func (s *scene) bringLate(t *testing.T, repeats int) {
	t.Helper()
	for {
		counts, err := s.p.Sandbox.Counts(s.ctx)
		require.NoError(t, err)
		if counts.RepeatedNames >= repeats {
			break
		}
		require.NoError(t, s.ctx.Err(), "%d names were repeated", counts.RepeatedNames)
		time.Sleep(20 * time.Millisecond)
	}
	page, err := s.p.Sandbox.Received(s.ctx, client.Query{Limit: 100_000})
	require.NoError(t, err)
	for _, file := range page.Files {
		if slices.ContainsFunc(file.Receipts, func(r client.Receipt) bool { return r.Fault == client.FaultDrop && r.DeliveredAt == nil }) {
			require.NoError(t, s.p.Sandbox.Resend(s.ctx, file.ID))
		}
	}
}

// awaitPlayed waits until every fault that was ordered has happened.
func (s *scene) awaitPlayed(t *testing.T) (hits int) {
	t.Helper()
	for {
		list, err := s.p.Sandbox.Faults(s.ctx)
		require.NoError(t, err)
		waiting := 0
		hits = 0
		for _, f := range list {
			waiting += f.Count
			hits += f.Hits
		}
		if waiting == 0 {
			return hits
		}
		require.NoError(t, s.ctx.Err(), "%d faults were not played: %v", waiting, list)
		time.Sleep(20 * time.Millisecond)
	}
}

// mendAccreditation: EI03 is no outage. The job is parked, the customer knows, and once somebody has mended
// the accreditation and retries, the same file goes out under the same name.
func (s *scene) mendAccreditation(t *testing.T) {
	before, err := s.p.Parked(s.ctx)
	require.NoError(t, err)
	_, err = s.p.Sandbox.AddFault(s.ctx, client.Fault{Kind: client.FaultEI03, Count: 1})
	require.NoError(t, err)
	name, err := s.submit(private.with("invoice.transmission_failed"))
	require.NoError(t, err)
	require.NoError(t, s.log.await(name, "invoice.transmission_failed"))
	operations, err := s.p.Operations("sdi-gateway")
	require.NoError(t, err)
	known := map[string]bool{}
	for _, e := range before {
		known[e.GetName()] = true
	}
	for retried := false; !retried; time.Sleep(20 * time.Millisecond) {
		require.NoError(t, s.ctx.Err(), "the job was not parked")
		parked, err := s.p.Parked(s.ctx)
		require.NoError(t, err)
		for _, e := range parked {
			if known[e.GetName()] {
				continue
			}
			require.Equal(t, "SDI_EI03", e.GetCode())
			_, err = operations.RetryParkedEvent(harness.As(s.ctx, s.p.OperatorKey), &operationsv1.RetryParkedEventRequest{Name: e.GetName()})
			require.NoError(t, err)
			retried = true
		}
	}
	s.arrive(t, name)
}

// foreignReceipt has SdI deliver to us what belongs to another transmitter.
func (s *scene) foreignReceipt(t *testing.T) {
	const other = "03456789013"
	granted, err := s.p.Sandbox.Accredit(s.ctx, client.AccreditationRequest{FiscalID: other, CallbackURL: s.p.SdI.Callback})
	require.NoError(t, err)
	cert, err := tls.X509KeyPair([]byte(granted.ClientCertPEM), []byte(granted.ClientKeyPEM))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM([]byte(granted.CAPEM)))
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	endpoints, err := s.p.Sandbox.Endpoints(s.ctx)
	require.NoError(t, err)
	before, err := s.p.Unmatched(s.ctx)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	exchange := &sdi.Client{HTTP: &http.Client{Transport: transport}, URL: endpoints.SdIURL}
	answer, err := exchange.RiceviFile(ctx, sdi.FileSdIBase{NomeFile: "IT" + other + "_00001.xml", File: fatturapatest.Invoice(fatturapatest.Options{
		Formato: "FPR12", CodiceDestinatario: "SBXRC00", Numero: "F-1", Data: time.Now().Format(time.DateOnly),
		Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(77), Denominazione: "Somebody else"},
	})})
	require.NoError(t, err)
	require.True(t, answer.Accepted())
	for {
		unmatched, err := s.p.Unmatched(s.ctx)
		require.NoError(t, err)
		if len(unmatched) == len(before)+1 && unmatched[0].GetProblem() != "" {
			require.Equal(t, answer.IdentificativoSdI, unmatched[0].GetSdiId())
			require.Contains(t, unmatched[0].GetProblem(), "SDI_UNKNOWN_FILE")
			break
		}
		require.NoError(t, ctx.Err(), "the receipt is not shown: %v", unmatched)
		time.Sleep(20 * time.Millisecond)
	}
	s.mu.Lock()
	s.foreign++
	s.mu.Unlock()
}
