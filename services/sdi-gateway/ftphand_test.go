package sdigateway_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/tenancy"
)

// setupFTPReceiver is setupReceiver with SDIFTP as the only way from SdI: what is received comes in supports.
func setupFTPReceiver(t *testing.T) *receiver {
	t.Helper()
	world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
	r := &receiver{bundle: &bundle{sandbox: client.New(world.Endpoints().ControlURL), certs: t.TempDir(), heard: make(chan proto.Message, 1000)}}
	var err error
	r.callback, _, err = devenv.FreeAddress()
	require.NoError(t, err)
	granted, err := r.sandbox.Accredit(t.Context(), client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: "https://" + r.callback + "/"})
	require.NoError(t, err)
	address, _, err := devenv.FreeAddress()
	require.NoError(t, err)
	node, err := r.sandbox.AccreditFTP(t.Context(), client.FTPAccreditationRequest{
		FiscalID: fiscalID, Address: address, HostKey: r.sshKey(t, "host.key"), VisitMS: 100, RecipientCodes: []string{sharedCode, ownCode, officeCode},
	})
	require.NoError(t, err)
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	r.write(t, map[string]string{
		"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM, "server.crt": granted.ServerCertPEM, "server.key": granted.ServerKeyPEM,
		"ca.crt": granted.CAPEM, "operator.key": key, "authorized_keys": node.ClientKey + "\n", "sign.crt": node.SignCertPEM, "sign.key": node.SignKeyPEM,
		"decrypt.crt": node.DecryptCertPEM, "decrypt.key": node.DecryptKeyPEM, "sdi.crt": node.SdICertPEM,
	})
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
  callback: {listen: "%[4]s", cert_file: %[3]s/server.crt, key_file: %[3]s/server.key}
  call_timeout: 5s
  resend_after: 300ms
  retry_every: 200ms
%[5]sbreaker: {open: 100ms}
`, fiscalID, world.Endpoints().SdIURL, r.certs, r.callback, r.ftpYAML("SDIFTP", address, "retry_refused: 1s, receive: true")),
	})
	r.inbound = sdiv1.NewInboundServiceClient(r.DialKey("sdi-gateway", key))
	r.makeCompanies(t, tenancyv1.NewTenancyServiceClient(r.DialKey("tenancy", key)))
	return r
}

// waiting lists the documents of supports that nobody has taken.
func (r *receiver) waiting(t *testing.T) int {
	t.Helper()
	return r.count(t, "SELECT count(*) FROM support_document WHERE handed_at IS NULL")
}

// allHanded waits until somebody has taken each: what is taken is marked after it is told.
func (r *receiver) allHanded(t *testing.T) {
	t.Helper()
	eventually(t, "all documents of supports being handed on", func() (bool, string) { n := r.waiting(t); return n == 0, fmt.Sprint(n) })
}

// What supports bring is received as what callbacks bring: routed, kept, answered, each once. Outcomes go back in
// supports, and refusals come in others.
func TestReceptionBySupports(t *testing.T) {
	t.Parallel()
	r := setupFTPReceiver(t)
	t.Run("invoice with metadata", func(t *testing.T) {
		d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "P1"}})
		f := r.file(t, d.ID, 1)
		require.True(t, strings.HasPrefix(f.GetName(), rossi+"/inboundInvoices/"), f.GetName())
		require.Equal(t, sdiv1.InboundState_INBOUND_STATE_RECEIVED, f.GetState())
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
	})
	t.Run("metadata apart", func(t *testing.T) {
		_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDeliverApart})
		require.NoError(t, err)
		d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "P2"}})
		require.Len(t, r.file(t, d.ID, 1).GetDeliveries(), 1)
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
	})
	t.Run("delivered twice", func(t *testing.T) {
		_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDeliverTwice})
		require.NoError(t, err)
		d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "P3"}})
		f := r.file(t, d.ID, 2)
		require.Contains(t, f.GetDeliveries()[0].GetProblem()+f.GetDeliveries()[1].GetProblem(), "SDI_ATTEMPT_REPEATED")
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
		require.NoError(t, r.sandbox.Redeliver(t.Context(), d.ID))
		require.Equal(t, int32(2), r.file(t, d.ID, 3).GetDeliveries()[2].GetAttempt())
	})
	t.Run("the same support twice", func(t *testing.T) {
		_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultFTPDuplicate, Type: "FO"})
		require.NoError(t, err)
		d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "P4"}})
		require.Len(t, r.file(t, d.ID, 1).GetDeliveries(), 1)
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
	})
	t.Run("metadata that cannot be read", func(t *testing.T) {
		_, err := r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultDeliverBadMT})
		require.NoError(t, err)
		d := r.deliver(t, client.DeliveryRequest{RecipientCode: ownCode, Invoice: &client.Small{Number: "P5"}})
		eventually(t, "the quarantine", func() (bool, string) { q := r.quarantine(t); return len(q) == 1, fmt.Sprint(q) })
		require.Equal(t, "METADATA_UNREADABLE", r.quarantine(t)[0].GetReasonCode())
		require.NoError(t, r.sandbox.Redeliver(t.Context(), d.ID))
		eventually(t, "good metadata place the same file", func() (bool, string) {
			mended := r.file(t, d.ID, 2) // it is there before it is read
			return mended.GetState() == sdiv1.InboundState_INBOUND_STATE_RECEIVED, mended.String()
		})
		require.Empty(t, r.quarantine(t))
		require.IsType(t, &sdiv1.InboundInvoiceReceived{}, r.await(t))
	})
	r.allHanded(t)
	t.Run("outcomes", func(t *testing.T) { r.answersBySupport(t) })
	r.allHanded(t)
	require.Zero(t, r.count(t, "SELECT count(*) FROM parked_event"))
	require.Zero(t, r.count(t, "SELECT count(*) FROM inbound_file WHERE channel <> 'SDIFTP'"))
}

// answersBySupport answers as a public body whose invoices come in supports.
func (r *receiver) answersBySupport(t *testing.T) {
	name, id := r.received(t, "O1", 1)
	_, err := r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: accepted, Position: 1})
	require.NoError(t, err)
	f := r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState())
	require.Len(t, r.sdiSide(t, id).Outcomes, 1)
	require.Equal(t, 1, r.count(t, "SELECT count(*) FROM support_outcome"))

	// SdI refuses it: the support is accepted, and the SE comes with a later one.
	name, id = r.received(t, "O2", 1)
	_, err = r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultOutcomeES00})
	require.NoError(t, err)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused, Cause: cigCup})
	require.NoError(t, err)
	eventually(t, "the refusal of the outcome", func() (bool, string) {
		f = r.settled(t, name)
		return len(f.GetOutcomes()) == 1 && f.GetOutcomes()[0].GetCode() == "EN00", f.String()
	})
	require.Equal(t, sdiv1.InboundOutcomeState_INBOUND_OUTCOME_STATE_REFUSED, f.GetOutcomes()[0].GetState())
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_AWAITING_OUTCOME, f.GetState(), "another may be given")
	require.Empty(t, r.sdiSide(t, id).Outcomes)

	// A support that SdI refuses left nothing there: the outcome goes with the next one, under its own name.
	_, err = r.sandbox.AddFault(t.Context(), client.Fault{Kind: client.FaultFTPER})
	require.NoError(t, err)
	_, err = r.answer(t, &sdiv1.SendOutcomeRequest{Name: name, Kind: refused, Cause: cigCup})
	require.NoError(t, err)
	f = r.settled(t, name)
	require.Equal(t, sdiv1.InboundState_INBOUND_STATE_ANSWERED, f.GetState())
	require.Len(t, r.sdiSide(t, id).Outcomes, 1)
	require.Equal(t, 1, r.sdiSide(t, id).Refusals)
	require.GreaterOrEqual(t, r.count(t, "SELECT count(*) FROM support_outcome"), 4)

	// The term ends by SdI's notice, in a support as well.
	late, _ := r.received(t, "O3", 1)
	r.advance(t, 15*24*time.Hour+time.Minute)
	eventually(t, "DT", func() (bool, string) {
		f = r.settled(t, late)
		return f.GetState() == sdiv1.InboundState_INBOUND_STATE_TERM_EXPIRED, f.String()
	})
}

// A file whose metadata never come goes to quarantine after a day, where a person claims it; nothing is lost.
func TestSupportWithoutMetadata(t *testing.T) {
	t.Parallel()
	r := setupFTPReceiver(t)
	content := fatturapatest.Invoice(fatturapatest.Options{Numero: "alone", CodiceDestinatario: ownCode})
	require.NoError(t, r.sandbox.PassiveFTP(t.Context(), fiscalID, client.FTPFile{Name: "IT09876543217_00001.xml", Data: content}))
	eventually(t, "the file that waits", func() (bool, string) {
		n := r.count(t, "SELECT count(*) FROM support_difference WHERE problem LIKE 'SDIFTP_NO_METADATA%'")
		return n == 1, fmt.Sprint(n)
	})
	require.Equal(t, 1, r.waiting(t))
	require.Empty(t, r.quarantine(t))
	r.later.Store(int64(25 * time.Hour))
	require.NoError(t, r.sandbox.PassiveFTP(t.Context(), fiscalID, client.FTPFile{Name: "IT09876543217_00002_MT_001.xml", Data: []byte("<b/>")}))
	eventually(t, "the quarantine", func() (bool, string) {
		require.NoError(t, r.hurry(t, "sdi_hand_documents"))
		q := r.quarantine(t)
		return len(q) == 1, fmt.Sprint(q)
	})
	require.Equal(t, "METADATA_UNREADABLE", r.quarantine(t)[0].GetReasonCode())
}

// hurry makes jobs that wait for their time run now.
func (b *bundle) hurry(t *testing.T, kind string) error {
	t.Helper()
	return b.Host("sdi-gateway").DB.System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE river_job SET scheduled_at = now() - interval '1 second' WHERE kind = $1 AND state = 'scheduled'", kind)
		return err
	})
}
