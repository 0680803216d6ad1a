package sdigateway_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	pecgateway "ceralacca.dev/services/pec-gateway"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/tenancy"
)

// The mailbox of the company of the tests, at another provider than SdI's.
const (
	companyBox = "fatture@alfa.test"
	postman    = "tenants/t1/companies/c1"
)

// post is a gateway whose company has a mailbox, with the real pec-gateway and tenancy beside it.
type post struct {
	*bundle
	channel sdiv1.SdiPecServiceClient // as an operator
	mail    pecv1.PecServiceClient    // as the tenant
	way     pecv1.PecDeliveryServiceClient
	inbound sdiv1.InboundServiceClient
	box     *pecv1.Mailbox
	conn    *grpc.ClientConn // to the gateway, as an operator
	trust   func()           // the providers of the sandbox
}

// strongbox is the Vault of the package: starting one for each test would be most of their time.
var strongbox struct {
	once   sync.Once
	server *vault.Server
	login  vault.Credentials
	dir    string
	err    error
}

func openStrongbox() {
	strongbox.dir, strongbox.err = os.MkdirTemp("", "sdi-gateway-vault-")
	if strongbox.err != nil {
		return
	}
	strongbox.server, strongbox.err = vault.Start(context.Background(), vault.Options{Private: true, Dir: strongbox.dir})
	if strongbox.err != nil {
		return
	}
	root, err := devenv.Root()
	if err != nil {
		strongbox.err = err
		return
	}
	roles, err := strongbox.server.Provision(context.Background(), filepath.Join(root, "deploy", "vault"))
	strongbox.login, strongbox.err = roles[vault.PECRole], err
}

// closeStrongbox ends it after all tests.
func closeStrongbox() {
	if strongbox.server != nil {
		err := strongbox.server.Stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = os.RemoveAll(strongbox.dir)
	}
}

// postSection is the pec-gateway's section between the sandbox's providers; the authority of their servers is ca.crt.
func (b *bundle) postSection(t *testing.T, at client.PEC) string {
	t.Helper()
	strongbox.once.Do(openStrongbox)
	require.NoError(t, strongbox.err)
	b.write(t, map[string]string{"role": strongbox.login.RoleID, "secret": strongbox.login.SecretID})
	return fmt.Sprintf(`pec-gateway:
  vault: {address: %q, role_id_file: "%[2]s/role", secret_id_file: "%[2]s/secret"}
  ca_file: %[2]s/ca.crt
  sandbox: {imap: %[3]q, pop3: %[4]q, smtp: %[5]q}
  allow_networks: [127.0.0.0/8]
  poll_every: 100ms
  retry_every: 100ms
  retry_most: 400ms
  sending: {retry_every: 100ms, retry_most: 400ms}
`, strongbox.server.Addr, b.certs, at.IMAPSAddr, at.POP3SAddr, at.SMTPSAddr)
}

// setupPost starts everything; more are lines of the gateway's section, indented by two. No mailbox is set yet.
func setupPost(t *testing.T, more string) *post {
	t.Helper()
	p := startPost(t, more)
	p.trust()
	return p
}

// startPost is the same while no provider is trusted.
func startPost(t *testing.T, more string) *post {
	t.Helper()
	world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
	at := world.Endpoints()
	p := &post{bundle: &bundle{sandbox: client.New(at.ControlURL), heard: make(chan proto.Message, 1000), certs: t.TempDir()}}
	var err error
	p.callback, _, err = devenv.FreeAddress()
	require.NoError(t, err)
	granted, err := p.sandbox.Accredit(t.Context(), client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: "https://" + p.callback + "/"})
	require.NoError(t, err)
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	p.write(t, map[string]string{
		"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM, "server.crt": granted.ServerCertPEM,
		"server.key": granted.ServerKeyPEM, "ca.crt": granted.CAPEM, "operator.key": key,
	})
	p.Process = runtest.Start(t, runtest.Options{
		Targets: []run.Target{tenancy.Target, pecgateway.Target, sdigateway.Target, p.postListener()},
		Config: fmt.Sprintf(`tenancy: {bootstrap_operator_key_file: "%[3]s/operator.key"}
%[5]ssdi-gateway:
  transmitter: IT%[1]s
  endpoint: %[2]s
  client_cert_file: %[3]s/client.crt
  client_key_file: %[3]s/client.key
  ca_file: %[3]s/ca.crt
  callback: {listen: "%[4]s", cert_file: %[3]s/server.crt, key_file: %[3]s/server.key}
  call_timeout: 5s
  resend_after: 1s
  retry_every: 200ms
%[6]sbreaker: {open: 100ms}
`, fiscalID, at.SdIURL, p.certs, p.callback, p.postSection(t, at.PEC), more),
	})
	p.makeMailbox(t, key, granted.CAPEM)
	return p
}

func (p *post) postListener() run.Target {
	outside := p.listener()
	return run.Target{Name: "invoice", Start: func(ctx context.Context, h *run.Host) error {
		hear(h.Bus, p.bundle, &sdiv1.InboundInvoiceReceived{})
		hear(h.Bus, p.bundle, &sdiv1.InboundOutcomeSettled{})
		return outside.Start(ctx, h)
	}}
}

// makeMailbox registers the company, trusts the providers and takes the mailbox into keeping.
func (p *post) makeMailbox(t *testing.T, key, authority string) {
	t.Helper()
	ctx := t.Context()
	api := tenancyv1.NewTenancyServiceClient(p.DialKey("tenancy", key))
	_, err := api.CreateReseller(ctx, &tenancyv1.CreateResellerRequest{ResellerId: "north", Reseller: &tenancyv1.Reseller{DisplayName: "North"}})
	require.NoError(t, err)
	_, err = api.CreateTenant(ctx, &tenancyv1.CreateTenantRequest{TenantId: "t1", Tenant: &tenancyv1.Tenant{Reseller: "resellers/north", DisplayName: "t1"}})
	require.NoError(t, err)
	_, err = api.CreateCompany(ctx, &tenancyv1.CreateCompanyRequest{Parent: "tenants/t1", CompanyId: "c1", Company: &tenancyv1.Company{
		DisplayName: "c1", VatNumber: vat(1), RecipientCode: officeCode, PecAddresses: []string{companyBox}, SignaturePolicy: tenancyv1.SignaturePolicy_SIGNATURE_POLICY_AUTO,
	}})
	require.NoError(t, err)
	own, err := api.CreateApiKey(ctx, &tenancyv1.CreateApiKeyRequest{Parent: "tenants/t1", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	require.NoError(t, err)
	p.conn = p.DialKey("sdi-gateway", key)
	p.api, p.channel = sdiv1.NewSdiServiceClient(p.conn), sdiv1.NewSdiPecServiceClient(p.conn)
	p.inbound = sdiv1.NewInboundServiceClient(p.DialKey("sdi-gateway", own.GetSecret()))
	mail := p.DialKey("pec-gateway", own.GetSecret())
	p.mail, p.way = pecv1.NewPecServiceClient(mail), pecv1.NewPecDeliveryServiceClient(mail)

	p.trust = func() { p.trustProviders(t, pecv1.NewPecTrustServiceClient(p.DialKey("pec-gateway", key)), authority) }
	p.box = p.openMailbox(t, p.mail, companyBox)
}

// trustProviders has the pec-gateway trust the sandbox's providers.
func (b *bundle) trustProviders(t *testing.T, trust pecv1.PecTrustServiceClient, authority string) {
	t.Helper()
	ctx := t.Context()
	index, err := b.sandbox.PECIndex(ctx)
	require.NoError(t, err)
	providers, err := b.sandbox.PECProviders(ctx)
	require.NoError(t, err)
	var authorities strings.Builder
	for _, g := range providers {
		authorities.WriteString(g.CAPEM)
	}
	_, err = trust.ImportTrustList(ctx, &pecv1.ImportTrustListRequest{Index: index, IndexAuthorityPem: authority, AuthoritiesPem: authorities.String()})
	require.NoError(t, err)
}

// openMailbox takes a mailbox into keeping.
func (b *bundle) openMailbox(t *testing.T, mail pecv1.PecServiceClient, address string) *pecv1.Mailbox {
	t.Helper()
	ctx := t.Context()
	_, err := b.sandbox.SetPECMailbox(ctx, client.PECMailbox{Address: address, Password: "segreta"})
	require.NoError(t, err)
	box, err := mail.CreateMailbox(ctx, &pecv1.CreateMailboxRequest{Parent: "tenants/t1", Mailbox: &pecv1.Mailbox{Address: address, Provider: "sandbox"},
		Password: "segreta", RequestId: uuid.NewString()})
	require.NoError(t, err)
	return box
}

// prefer gives the company its mailbox.
func (p *post) prefer(t *testing.T, preference sdiv1.PecPreference) *sdiv1.PecChannel {
	t.Helper()
	got, err := p.channel.SetPecChannel(t.Context(), &sdiv1.SetPecChannelRequest{Company: postman, Mailbox: p.box.GetName(), Preference: preference, Reason: "test"})
	require.NoError(t, err)
	return got
}

func (p *post) mailings(t *testing.T) []*sdiv1.PecMailing {
	t.Helper()
	list, err := p.channel.ListPecMailings(t.Context(), &sdiv1.ListPecMailingsRequest{Parent: "tenants/t1"})
	require.NoError(t, err)
	return list.GetMailings()
}

func (p *post) arrivals(t *testing.T, state string) []*sdiv1.PecArrival {
	t.Helper()
	list, err := p.channel.ListPecArrivals(t.Context(), &sdiv1.ListPecArrivalsRequest{Parent: "tenants/t1", State: state})
	require.NoError(t, err)
	return list.GetArrivals()
}

// setupPostOnly is the channel as the conformance suite wants it.
func setupPostOnly(t *testing.T) *bundle {
	t.Helper()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	return p.bundle
}

// The first message goes to the first address, alone; the answer of SdI assigns another, and everything that
// waited goes there together. Only a proven answer counts.
func TestAssignedAddress(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	got := p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	require.Equal(t, "sdi01@pec.fatturapa.it", got.GetAddress())
	require.True(t, got.GetHealthy(), got.GetReason())
	p.order(t, client.FaultLetterForged)
	const many = 5
	for i := range many {
		p.accept(t, "FPR12", "SBXRC00", fmt.Sprintf("A%d", i))
	}
	p.awaitAllCount(t, 2*many)
	channel, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
	require.NoError(t, err)
	require.Len(t, channel.GetAssigned(), 1, "the forged answer assigned nothing")
	require.NotContains(t, []string{"sdi01@pec.fatturapa.it", "sdi66@pec.fatturapa.it"}, channel.GetAddress())
	require.Equal(t, channel.GetAddress(), channel.GetAssigned()[0].GetAddress())
	mailings := p.mailings(t)
	require.GreaterOrEqual(t, len(mailings), 2)
	first := mailings[len(mailings)-1]
	require.Equal(t, "sdi01@pec.fatturapa.it", first.GetAddress())
	require.Len(t, first.GetFileNames(), 1)
	eventually(t, "all messages being delivered, for the provider too", func() (bool, string) {
		n := p.count(t, "SELECT count(*) FROM pec_mailing WHERE state <> 'DELIVERED'")
		return n == 0, fmt.Sprint(n)
	})
	for _, m := range mailings {
		if m != first {
			require.Equal(t, channel.GetAddress(), m.GetAddress())
		}
	}
	p.once(t, many)
	counts, err := p.sandbox.Counts(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(mailings), counts.Letters)
	require.Zero(t, counts.LettersAstray)
	kept := p.awaitArrivals(t, "QUARANTINED", 1)
	require.Contains(t, kept[0].GetProblem(), "PEC_NOT_PROVEN")
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'pec_address.assign'"))
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM audit_entry WHERE action = 'pec_channel.set'"))

	// A letter of last year that is read today moves nothing back.
	require.NoError(t, p.Host("sdi-gateway").DB.System(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO pec_address (id, tenant_id, mailbox, address, assigned_at, message, learned_at)
			VALUES (gen_random_uuid(), 't1', $1, 'sdi03@pec.fatturapa.it', now() - interval '1 year', 'old', now())`, p.box.GetName())
		return err
	}))
	same, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
	require.NoError(t, err)
	require.Equal(t, channel.GetAddress(), same.GetAddress())
	require.Len(t, same.GetAssigned(), 2)

	_, err = p.channel.SetPecChannel(t.Context(), &sdiv1.SetPecChannelRequest{Company: postman, Mailbox: "tenants/t1/mailboxes/" + uuid.NewString(),
		Preference: sdiv1.PecPreference_PEC_PREFERENCE_ONLY})
	require.Equal(t, "MAILBOX_NOT_FOUND", fault.Of(err).Code)
	_, err = p.channel.SetPecChannel(t.Context(), &sdiv1.SetPecChannelRequest{Company: postman, Mailbox: "tenants/t2/mailboxes/" + uuid.NewString(),
		Preference: sdiv1.PecPreference_PEC_PREFERENCE_ONLY})
	require.Equal(t, "PEC_MAILBOX_FOREIGN", fault.Of(err).Code)
}

// An answer that assigns no address of SdI assigns nothing: what follows waits until another letter does.
func TestAddressThatIsNotSdI(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms, answer_after: 300ms}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_ONLY)
	p.order(t, client.FaultLetterAstray)
	p.awaitOf(t, p.accept(t, "FPR12", "SBXRC00", "first"), "InvoiceTransmitted", "InvoiceDelivered")
	next := p.accept(t, "FPR12", "SBXRC00", "next")
	eventually(t, "the channel's saying what it waits for", func() (bool, string) {
		got, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
		require.NoError(t, err)
		return got.GetWaiting() == 1 && strings.Contains(got.GetReason(), "has assigned no address"), got.String()
	})
	require.Len(t, p.mailings(t), 1)
	_, err := p.sandbox.Deliver(t.Context(), client.DeliveryRequest{ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	got := p.awaitAll(t, 3)
	require.Contains(t, got, "InboundInvoiceReceived")
	require.Contains(t, got, "InvoiceDelivered")
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_DELIVERED, p.transmission(t, next).GetState())
	p.once(t, 2)
}

// A letter whose provider nobody trusts waits in quarantine, with its bytes; once the trust list is mended and the
// message read again it counts.
func TestLetterFromQuarantine(t *testing.T) {
	t.Parallel()
	p := startPost(t, "  pec: {enabled: true}\n")
	ctx := t.Context()
	d, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	eventually(t, "the letter in quarantine", func() (bool, string) {
		list := p.arrivals(t, "QUARANTINED")
		return len(list) == 1 && strings.Contains(list[0].GetProblem(), "PEC_NOT_PROVEN"), fmt.Sprint(list)
	})
	require.Zero(t, p.count(t, "SELECT count(*) FROM inbound_file"))
	p.trust()
	_, err = p.mail.ReadMessageAgain(ctx, &pecv1.ReadMessageAgainRequest{Name: p.arrivals(t, "QUARANTINED")[0].GetMessage()})
	require.NoError(t, err)
	came, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, d.ID, came.GetSdiId())
	eventually(t, "the letter being read", func() (bool, string) { return len(p.arrivals(t, "READ")) == 1, "" })
}

// A message whose outcome nobody knows keeps its document; new ones take the other channel, and what surely
// reached nobody goes there too.
func TestPostFailover(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 1h, answer_after: 300ms}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_FIRST)
	eventually(t, "the channel being healthy", func() (bool, string) {
		got, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
		require.NoError(t, err)
		return got.GetHealthy(), got.String()
	})
	p.order(t, client.FaultPECCutBefore) // after the final dot: not taken, and we cannot know it
	unknown := p.accept(t, "FPR12", "SBXRC00", "unknown")
	eventually(t, "the message being of unknown outcome", func() (bool, string) {
		m := p.mailings(t)
		return len(m) == 1 && m[0].GetState() == "UNKNOWN", fmt.Sprint(m)
	})
	eventually(t, "the channel being unhealthy", func() (bool, string) {
		got, err := p.channel.GetPecChannel(t.Context(), &sdiv1.GetPecChannelRequest{Company: postman})
		require.NoError(t, err)
		return !got.GetHealthy(), got.String()
	})
	next := p.accept(t, "FPR12", "SBXRC00", "next")
	p.awaitOf(t, next, "InvoiceTransmitted", "InvoiceDelivered")
	require.Equal(t, sdiv1.TransmissionState_TRANSMISSION_STATE_RESERVED, p.transmission(t, unknown).GetState())
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM transmission WHERE channel = 'PEC' AND mailing_id IS NOT NULL"), "it stays where it is")
	_, err := sdiv1.NewSdiOperationsServiceClient(p.conn).ResendTransmission(t.Context(), &sdiv1.ResendTransmissionRequest{
		Name: p.transmission(t, unknown).GetName(), Reason: "test"})
	require.Equal(t, "SDI_MESSAGE_UNDER_WAY", fault.Of(err).Code)
	p.once(t, 1)
}

// What surely reached nobody goes again under its own name, by another channel when there is one.
func TestPostRefused(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 1h}\n")
	p.prefer(t, sdiv1.PecPreference_PEC_PREFERENCE_FIRST)
	p.order(t, client.FaultPECReject)
	invoice := p.accept(t, "FPR12", "SBXRC00", "refused")
	p.awaitOf(t, invoice, "InvoiceTransmitted", "InvoiceDelivered")
	require.Equal(t, 1, p.count(t, "SELECT count(*) FROM transmission WHERE channel = 'SDICOOP' AND state = 'DELIVERED'"))
	require.Equal(t, "FAILED", p.mailings(t)[0].GetState())
	require.Equal(t, p.mailings(t)[0].GetFileNames()[0], p.transmission(t, invoice).GetFileName(), "its name goes with it")
	p.once(t, 1)
}

// A public body's invoice comes by certified mail with its metadata; the answer goes back to where it came from,
// and SdI's refusal of a second one is heard.
func TestPostInbound(t *testing.T) {
	t.Parallel()
	p := setupPost(t, "  pec: {enabled: true, retry_failed: 200ms}\n")
	ctx := t.Context()
	p.order(t, client.FaultDeliverTwice)
	d, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{RecipientCode: officeCode, ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1)}})
	require.NoError(t, err)
	came, ok := p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, d.ID, came.GetSdiId())
	require.Equal(t, "FPA12", came.GetFormat())
	require.Contains(t, came.GetInboundInvoice(), postman)
	eventually(t, "both deliveries", func() (bool, string) {
		got, err := p.inbound.GetInboundInvoice(ctx, &sdiv1.GetInboundInvoiceRequest{Name: came.GetInboundInvoice()})
		require.NoError(t, err)
		return len(got.GetDeliveries()) == 2, got.String()
	})
	_, err = p.inbound.SendOutcome(ctx, &sdiv1.SendOutcomeRequest{Name: came.GetInboundInvoice(), Kind: sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED,
		RequestId: uuid.NewString()})
	require.NoError(t, err)
	settled, ok := p.await(t).(*sdiv1.InboundOutcomeSettled)
	require.True(t, ok)
	require.True(t, settled.GetTaken(), settled.String())
	eventually(t, "SdI's having the outcome", func() (bool, string) {
		list, err := p.sandbox.Deliveries(ctx, d.ID)
		require.NoError(t, err)
		return len(list[0].Outcomes) == 1 && list[0].Calls == 1, fmt.Sprintf("%+v", list)
	})
	mailing := p.mailings(t)[0]
	require.Equal(t, []string{strings.TrimSuffix(d.Name, ".xml") + "_EC_001.xml"}, mailing.GetFileNames())

	// One that SdI does not admit: its mailbox has it, and only an SE tells.
	second, err := p.sandbox.Deliver(ctx, client.DeliveryRequest{RecipientCode: officeCode, ToPEC: companyBox, Invoice: &client.Small{BuyerVAT: vat(1), Number: "2"}})
	require.NoError(t, err)
	came, ok = p.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, second.ID, came.GetSdiId())
	p.order(t, client.FaultOutcomeES00)
	_, err = p.inbound.SendOutcome(ctx, &sdiv1.SendOutcomeRequest{Name: came.GetInboundInvoice(), Kind: sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED,
		RequestId: uuid.NewString()})
	require.NoError(t, err)
	for taken := 0; ; taken++ { // the receipt of delivery may be quicker, once
		settled, ok = p.await(t).(*sdiv1.InboundOutcomeSettled)
		require.True(t, ok)
		if !settled.GetTaken() {
			break
		}
		require.Zero(t, taken)
		require.Equal(t, "OUTCOME_DELIVERED_BY_PEC", settled.GetCode())
	}
	require.Equal(t, "EN01", settled.GetCode())
}
