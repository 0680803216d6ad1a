package sdigateway_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/tenancy"
)

// receiver is a gateway that receives from a sandbox SdI, for companies that a real tenancy knows.
type receiver struct {
	*bundle
	inbound sdiv1.InboundServiceClient // as an operator
	later   atomic.Int64               // the gateway's clock is ahead by so much
	url     string
}

// The companies of the tests. A channel's code is shared, an office has a code of its own.
const (
	sharedCode = "CANALE1"
	ownCode    = "ROSSI01"
	officeCode = "UFFIC1"
	rossi      = "tenants/t1/companies/rossi"
	bianchi    = "tenants/t1/companies/bianchi"
	office     = "tenants/t2/companies/office"
)

func setupReceiver(t *testing.T) *receiver {
	t.Helper()
	world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
	r := &receiver{bundle: &bundle{sandbox: client.New(world.Endpoints().ControlURL), certs: t.TempDir()}}
	var err error
	r.callback, _, err = devenv.FreeAddress()
	require.NoError(t, err)
	r.url = "https://" + r.callback + "/ricezione"
	granted, err := r.sandbox.Accredit(context.Background(), client.AccreditationRequest{
		FiscalID: fiscalID, CallbackURL: "https://" + r.callback + "/", ReceptionURL: r.url, RecipientCodes: []string{sharedCode, ownCode, officeCode},
	})
	require.NoError(t, err)
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	for name, content := range map[string]string{
		"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM, "server.crt": granted.ServerCertPEM,
		"server.key": granted.ServerKeyPEM, "ca.crt": granted.CAPEM, "operator.key": key,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(r.certs, name), []byte(content), 0o600))
	}
	r.bundle.heard = make(chan proto.Message, 1000)
	r.Process = runtest.Start(t, runtest.Options{
		Targets: []run.Target{tenancy.Target, sdigateway.Target, r.inboundListener()},
		Now:     func() time.Time { return time.Now().Add(time.Duration(r.later.Load())) },
		Config: fmt.Sprintf(`tenancy: {bootstrap_operator_key_file: "%[3]s/operator.key"}
sdi-gateway:
  transmitter: IT%[1]s
  endpoint: %[2]s
  client_cert_file: %[3]s/client.crt
  client_key_file: %[3]s/client.key
  ca_file: %[3]s/ca.crt
  callback: {listen: "%[4]s", cert_file: %[3]s/server.crt, key_file: %[3]s/server.key, client_names: [SDI-SANDBOX-CALLER]}
  inbound: {path: /ricezione, notify_endpoint: "%[5]s"}
  call_timeout: 5s
  resend_after: 300ms
  retry_every: 200ms
breaker: {open: 100ms}
`, fiscalID, world.Endpoints().SdIURL, r.certs, r.callback, world.Endpoints().NotifyURL),
	})
	r.inbound = sdiv1.NewInboundServiceClient(r.DialKey("sdi-gateway", key))
	r.makeCompanies(t, tenancyv1.NewTenancyServiceClient(r.DialKey("tenancy", key)))
	return r
}

func (r *receiver) inboundListener() run.Target {
	return run.Target{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
		hear(h.Bus, r.bundle, &sdiv1.InboundInvoiceReceived{})
		hear(h.Bus, r.bundle, &sdiv1.InboundOutcomeSettled{})
		hear(h.Bus, r.bundle, &sdiv1.InboundTermExpired{})
		hear(h.Bus, r.bundle, &sdiv1.InboundDeadlineReached{})
		return nil
	}}
}

func (r *receiver) makeCompanies(t *testing.T, api tenancyv1.TenancyServiceClient) {
	t.Helper()
	_, err := api.CreateReseller(t.Context(), &tenancyv1.CreateResellerRequest{ResellerId: "north", Reseller: &tenancyv1.Reseller{DisplayName: "North"}})
	require.NoError(t, err)
	for _, id := range []string{"t1", "t2"} {
		_, err = api.CreateTenant(t.Context(), &tenancyv1.CreateTenantRequest{TenantId: id, Tenant: &tenancyv1.Tenant{Reseller: "resellers/north", DisplayName: id}})
		require.NoError(t, err)
	}
	for name, c := range map[string]*tenancyv1.Company{
		rossi:   {VatNumber: vat(1), RecipientCode: ownCode, RecipientCodes: []string{sharedCode}},
		bianchi: {VatNumber: vat(2), RecipientCode: sharedCode, PecAddresses: []string{"fatture@pec.bianchi.example"}},
		office:  {TaxCode: fatturapatest.VATNumber(3), RecipientCode: officeCode},
	} {
		parts := strings.Split(name, "/")
		c.DisplayName, c.SignaturePolicy = parts[3], tenancyv1.SignaturePolicy_SIGNATURE_POLICY_AUTO
		_, err = api.CreateCompany(t.Context(), &tenancyv1.CreateCompanyRequest{Parent: "tenants/" + parts[1], CompanyId: parts[3], Company: c})
		require.NoError(t, err)
	}
}

func vat(n int) string { return "IT" + fatturapatest.VATNumber(n) }

// deliver orders a passive invoice and waits until SdI has an answer.
func (r *receiver) deliver(t *testing.T, req client.DeliveryRequest) client.Delivery {
	t.Helper()
	d, err := r.sandbox.Deliver(t.Context(), req)
	require.NoError(t, err)
	before := d
	eventually(t, "the delivery", func() (bool, string) {
		list, err := r.sandbox.Deliveries(t.Context(), d.ID)
		require.NoError(t, err)
		before = list[len(list)-1]
		return before.DeliveredAt != nil || before.LastError != "", fmt.Sprintf("%+v", before)
	})
	return before
}

// file waits until a delivered file was read, and returns it wherever it is.
func (r *receiver) file(t *testing.T, sdiID string, deliveries int) *sdiv1.InboundInvoice {
	t.Helper()
	var found *sdiv1.InboundInvoice
	find := func() (found *sdiv1.InboundInvoice) {
		for _, tenant := range []string{"t1", "t2"} {
			list, err := r.inbound.ListInboundInvoices(t.Context(), &sdiv1.ListInboundInvoicesRequest{Parent: "tenants/" + tenant + "/companies/-", SdiId: sdiID})
			require.NoError(t, err)
			if len(list.GetInboundInvoices()) > 0 {
				found = list.GetInboundInvoices()[0]
			}
		}
		if found != nil {
			return found
		}
		for _, f := range r.quarantine(t) {
			if f.GetSdiId() == sdiID {
				found = f
			}
		}
		return found
	}
	eventually(t, "the file "+sdiID, func() (bool, string) {
		found = find()
		read := found != nil && len(found.GetDeliveries()) >= deliveries
		for _, d := range found.GetDeliveries() {
			read = read && (d.GetAttempt() > 0 || d.GetProblem() != "")
		}
		return read, fmt.Sprint(found)
	})
	return found
}

// advance moves SdI's clock, not ours.
func (r *receiver) advance(t *testing.T, by time.Duration) {
	t.Helper()
	_, err := r.sandbox.Advance(t.Context(), by)
	require.NoError(t, err)
}

func (r *receiver) quarantine(t *testing.T) []*sdiv1.InboundInvoice {
	t.Helper()
	list, err := r.inbound.ListQuarantine(t.Context(), &sdiv1.ListQuarantineRequest{})
	require.NoError(t, err)
	return list.GetInboundFiles()
}

func (r *receiver) document(t *testing.T, name string, kind sdiv1.InboundDocumentKind) []byte {
	t.Helper()
	doc, err := r.inbound.GetInboundDocument(t.Context(), &sdiv1.GetInboundDocumentRequest{Name: name, Kind: kind})
	require.NoError(t, err)
	return doc.GetContent()
}

// A file finds its company by code, by code and buyer, by certified address, by the buyer's ids; what finds
// none waits, and a poisoned file among good ones costs nothing but itself.
func TestInboundFindsItsCompany(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)
	bomb := []byte(strings.Repeat("\x30\x84\x7f\xff\xff\xff", 2000))
	for name, tc := range map[string]struct {
		order client.DeliveryRequest
		where string // company, or the reason of the quarantine
		by    string
	}{
		"own code":         {client.DeliveryRequest{RecipientCode: ownCode}, rossi, "RECIPIENT_CODE"},
		"shared code":      {client.DeliveryRequest{RecipientCode: sharedCode, Invoice: &client.Small{BuyerVAT: vat(2)}}, bianchi, "RECIPIENT_CODE_AND_BUYER"},
		"self-billed":      {client.DeliveryRequest{RecipientCode: sharedCode, Invoice: &client.Small{DocumentType: "TD17", SellerVAT: "DE123456789", BuyerVAT: vat(1)}}, rossi, "RECIPIENT_CODE_AND_BUYER"},
		"office":           {client.DeliveryRequest{RecipientCode: officeCode}, office, "RECIPIENT_CODE"},
		"ambiguous":        {client.DeliveryRequest{RecipientCode: sharedCode, Invoice: &client.Small{BuyerVAT: vat(99)}}, "RECIPIENT_AMBIGUOUS", ""},
		"contradiction":    {client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{BuyerVAT: vat(2)}}, "RECIPIENT_CONTRADICTION", ""},
		"not XML":          {client.DeliveryRequest{RecipientCode: ownCode, File: []byte("%PDF-1.7")}, "FILE_UNREADABLE", ""},
		"bomb":             {client.DeliveryRequest{RecipientCode: ownCode, Name: "IT01234567890_BOMB1.xml.p7m", File: bomb}, "FILE_UNREADABLE", ""},
		"entities":         {client.DeliveryRequest{RecipientCode: ownCode, File: []byte(`<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>`)}, "FILE_UNREADABLE", ""},
		"empty":            {client.DeliveryRequest{RecipientCode: ownCode, File: []byte(" ")}, "FILE_UNREADABLE", ""},
		"good among these": {client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{BuyerVAT: vat(1), Bodies: 3, Number: "L1"}}, rossi, "RECIPIENT_CODE"},
	} {
		d := r.deliver(t, tc.order)
		require.Equal(t, "delivered", d.State, name)
		got := r.file(t, d.ID, 1)
		require.Equal(t, tc.by, got.GetRoutedBy(), "%s: %s", name, got.GetReason())
		if strings.HasPrefix(tc.where, "tenants/") {
			require.True(t, strings.HasPrefix(got.GetName(), tc.where+"/inboundInvoices/"), "%s: %s", name, got)
			require.Empty(t, got.GetReasonCode(), name)
		} else {
			require.Equal(t, tc.where, got.GetReasonCode(), name)
			require.Equal(t, sdiv1.InboundState_INBOUND_STATE_QUARANTINED, got.GetState(), name)
			require.NotEmpty(t, got.GetReason(), name)
		}
		if tc.order.File != nil {
			require.Equal(t, tc.order.File, r.document(t, got.GetName(), 0), "%s: kept byte by byte", name)
		}
		if name == "good among these" {
			require.Len(t, got.GetBodies(), 3)
			require.Equal(t, "L1/2", got.GetBodies()[1].GetNumber())
			require.Equal(t, vat(1), got.GetBuyer().GetVatNumber())
			require.Contains(t, string(r.document(t, got.GetName(), sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_METADATA)), "<TentativiInvio>1<")
			require.Contains(t, string(r.document(t, got.GetName(), sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_CONTENT)), "FatturaElettronica")
		}
	}
	require.Len(t, r.quarantine(t), 6)
	r.claims(t)
}

// claims gives what is in quarantine to companies: once, audited, and not by tenants.
func (r *receiver) claims(t *testing.T) {
	t.Helper()
	var ambiguous, pdf *sdiv1.InboundInvoice
	for _, f := range r.quarantine(t) {
		switch {
		case f.GetReasonCode() == "RECIPIENT_AMBIGUOUS":
			ambiguous = f
		case string(r.document(t, f.GetName(), 0)) == "%PDF-1.7":
			pdf = f
		}
	}
	claim := func(f *sdiv1.InboundInvoice, company string) (*sdiv1.InboundInvoice, error) {
		return r.inbound.ClaimInboundDocument(t.Context(), &sdiv1.ClaimInboundDocumentRequest{Name: f.GetName(), Company: company, Reason: "the customer said so"})
	}
	_, err := claim(ambiguous, "tenants/t1/companies/nobody")
	require.Equal(t, "COMPANY_NOT_FOUND", fault.Of(err).Code)
	claimed, err := claim(ambiguous, bianchi)
	require.NoError(t, err)
	require.Equal(t, "CLAIM", claimed.GetRoutedBy())
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_RECEIVED, claimed.GetState())
	require.Equal(t, "RECIPIENT_AMBIGUOUS", claimed.GetReasonCode(), "why it waited stays written")
	require.Len(t, claimed.GetBodies(), 1)
	_, err = claim(ambiguous, rossi)
	require.Equal(t, "INBOUND_HAS_COMPANY", fault.Of(err).Code)
	unreadable, err := claim(pdf, rossi)
	require.NoError(t, err, "what nobody can read has an owner all the same")
	require.Equal(t, "%PDF-1.7", string(r.document(t, unreadable.GetName(), 0)))
	require.Len(t, r.quarantine(t), 4)
	require.Equal(t, 2, r.count(t, `SELECT count(*) FROM audit_entry WHERE action = 'inbound.claim' AND detail->>'reason' = 'the customer said so'`))
	received := 0
	for range 7 { // five found their company, two were claimed
		ev, ok := r.await(t).(*sdiv1.InboundInvoiceReceived)
		require.True(t, ok)
		listed, err := r.inbound.GetInboundInvoice(t.Context(), &sdiv1.GetInboundInvoiceRequest{Name: ev.GetInboundInvoice()})
		require.NoError(t, err)
		require.True(t, proto.Equal(ev.GetOriginal(), listed.GetOriginal()) && proto.Equal(ev.GetMetadata(), listed.GetMetadata()), "who was not told finds the same bytes in the list: %s, told %s", listed, ev)
		require.True(t, proto.Equal(ev.GetReceiveTime(), listed.GetReceiveTime()))
		require.Equal(t, ev.GetFileName(), listed.GetFileName())
		received++
	}
	require.Equal(t, 7, received)

	tenant := sdiv1.NewInboundServiceClient(r.DialAs("sdi-gateway", runtest.Client))
	_, err = tenant.ListQuarantine(t.Context(), &sdiv1.ListQuarantineRequest{})
	require.Error(t, err, "a stranger sees no quarantine")
}

// A file comes again when its answer was lost, when SdI repeats itself, with other metadata, with other
// bytes under its identifier: one document, every delivery written down, a conflict kept for a person.
func TestInboundComesAgain(t *testing.T) {
	t.Parallel()
	r := setupReceiver(t)
	_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDeliverCut})
	require.NoError(t, err)
	d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode})
	require.Equal(t, "pending", d.State, "SdI has no answer")
	first := r.file(t, d.ID, 1)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_RECEIVED, first.GetState(), "we have it all the same")
	r.advance(t, 6*time.Hour)
	again := r.file(t, d.ID, 2)
	require.Equal(t, first.GetName(), again.GetName())
	require.Equal(t, []int32{1, 2}, attempts(again))
	require.Empty(t, again.GetDeliveries()[1].GetProblem(), "a higher TentativiInvio is an ordinary repeat")

	_, err = r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDeliverTwice})
	require.NoError(t, err)
	d = r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "2"}})
	twice := r.file(t, d.ID, 2)
	require.Equal(t, []int32{1, 1}, attempts(twice))
	require.Contains(t, twice.GetDeliveries()[0].GetProblem()+twice.GetDeliveries()[1].GetProblem(), "SDI_ATTEMPT_REPEATED")

	for _, kind := range []string{client.FaultDeliverBadMT, client.FaultDeliverOtherMT} {
		_, err = r.sandbox.AddFault(t.Context(), client.Fault{Kind: kind})
		require.NoError(t, err)
		d = r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: kind}})
		kept := r.file(t, d.ID, 1)
		require.Equal(t, sdiv1.InboundState_INBOUND_STATE_QUARANTINED, kept.GetState())
		require.Contains(t, kept.GetReasonCode(), "METADATA_")
		require.Equal(t, kind, kept.GetBodies()[0].GetNumber(), "the invoice itself is readable")
		require.NoError(t, r.sandbox.Redeliver(t.Context(), d.ID))
		eventually(t, "good metadata with the next delivery", func() (bool, string) {
			mended := r.file(t, d.ID, 2) // it is there before it is read
			return mended.GetState() == sdiv1.InboundState_INBOUND_STATE_RECEIVED, mended.String()
		})
	}

	other := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, ID: d.ID, Name: d.Name, Invoice: &client.Small{Number: "other bytes"}})
	require.Equal(t, "delivered", other.State, "the bytes are taken before anything is judged")
	eventually(t, "the conflict", func() (bool, string) {
		list := r.quarantine(t)
		return len(list) == 1 && list[0].GetReasonCode() == "SDI_ID_CONFLICT" && list[0].GetSdiId() == d.ID, fmt.Sprint(list)
	})
	require.Equal(t, 5, r.count(t, `SELECT count(*) FROM inbound_file`))
	for range 4 {
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t), "each document is told once")
	}
	r.crash(t)
	r.strangers(t)
}

func attempts(f *sdiv1.InboundInvoice) (all []int32) {
	for _, d := range f.GetDeliveries() {
		all = append(all, d.GetAttempt())
	}
	return all
}

// crash fails between the blob and the row: SdI gets no ER01, and what it delivers again is one document.
func (r *receiver) crash(t *testing.T) {
	t.Helper()
	alter := func(sql string) {
		_, err := pgtest.Admin(t, r.DB("sdi-gateway")).Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	alter(`ALTER TABLE inbound_delivery RENAME TO gone`)
	d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "crash"}})
	require.Equal(t, "pending", d.State)
	require.NotContains(t, d.LastError, "relation", "the answer says nothing of the inside")
	alter(`ALTER TABLE gone RENAME TO inbound_delivery`)
	require.Equal(t, 5, r.count(t, `SELECT count(*) FROM inbound_file`), "no row without its delivery")
	r.advance(t, 6*time.Hour)
	got := r.file(t, d.ID, 1)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_RECEIVED, got.GetState())
	require.Equal(t, []int32{2}, attempts(got))
}

// strangers are turned away at the handshake and leave nothing behind. They are counted for the whole process, which this
// test shares: TestCallersWithoutTheRightCertificate looks at that by itself.
func (r *receiver) strangers(t *testing.T) {
	t.Helper()
	before := r.count(t, `SELECT count(*) FROM inbound_file`)
	ours, err := tls.LoadX509KeyPair(filepath.Join(r.certs, "client.crt"), filepath.Join(r.certs, "client.key"))
	require.NoError(t, err)
	foreign := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true})
	granted, err := client.New(foreign.Endpoints().ControlURL).Accredit(t.Context(), client.AccreditationRequest{FiscalID: fiscalID})
	require.NoError(t, err)
	theirs, err := tls.X509KeyPair([]byte(granted.ClientCertPEM), []byte(granted.ClientKeyPEM))
	require.NoError(t, err)
	for name, cert := range map[string]tls.Certificate{"none": {}, "another authority": theirs, "a transmitter, not SdI": ours} {
		// Shown whatever authorities the server names; the server's own certificate is not what is tested.
		show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, GetClientCertificate: show, MinVersion: tls.VersionTLS12}}
		caller := &sdi.Client{HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second}, URL: r.url}
		err := caller.RiceviFatture(t.Context(), sdi.FileSdIConMetadati{
			IdentificativoSdI: "1", NomeFile: "IT01234567890_00001.xml", File: []byte("x"), NomeFileMetadati: "IT01234567890_00001_MT_001.xml"})
		require.Error(t, err, name)
		transport.CloseIdleConnections()
	}
	require.Equal(t, before, r.count(t, `SELECT count(*) FROM inbound_file`))
}
