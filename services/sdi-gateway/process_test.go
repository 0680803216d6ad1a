package sdigateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	pecgateway "ceralacca.dev/services/pec-gateway"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
	sdigateway "ceralacca.dev/services/sdi-gateway"
	"ceralacca.dev/services/tenancy"
)

// gatewayEnv tells this program that it is a gateway and not a test: a process of its own that can be killed.
const gatewayEnv = "CERALACCA_TEST_GATEWAY"

// processSpec is what such a process is told.
type processSpec struct {
	Config            string
	URL, Schema, Role string
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(gatewayEnv); spec != "" {
		err := serveGateway(spec)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	sideBySide()
	code := m.Run()
	closeStrongbox()
	os.Exit(code)
}

// sideBySide lets more tests run at a time than there are processors, unless the command says how many: each has a
// gateway, a schema and an exchange of its own, and waits most of its time.
func sideBySide() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", "6")
	}
}

func serveGateway(text string) error {
	var spec processSpec
	err := json.Unmarshal([]byte(text), &spec)
	if err != nil {
		return err
	}
	file, err := run.ParseFile("gateway.yaml", []byte(spec.Config), []string{sdigateway.Target.Name}, nil)
	if err != nil {
		return err
	}
	return run.Serve(context.Background(), run.ServeOptions{
		Config: file, Targets: []run.Target{sdigateway.Target},
		OpenDB: func(ctx context.Context, _ string) (*pg.DB, error) {
			return pg.Open(ctx, pg.Config{URL: spec.URL, Schema: spec.Schema, Role: spec.Role, MaxConns: 12})
		},
		Keys: auth.ResolverFunc(func(context.Context, string) (auth.Caller, error) {
			return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "this process serves no keys")
		}),
		Ready: func(r run.Running) { fmt.Println(r.Admin) },
	})
}

// ward is gateways in processes of their own, between a sandbox SdI and a process that hosts the other services.
type ward struct {
	*receiver
	db    *pg.DB
	admin *pgx.Conn
	nats  string
	gates []*gateway
	post  *pecv1.Mailbox // of the company, when certified mail is the channel
}

// gateway is one such process.
type gateway struct {
	spec    string
	cmd     *exec.Cmd
	log     *os.File
	address string // of its callback listener
	ftp     string // of its SFTP server
	metrics string
}

// newWard starts everything but the gateways. ways are the channels; SDIFTP makes the companies' codes the node's.
func newWard(t *testing.T, ways string, gateways int) *ward {
	t.Helper()
	world := sandboxtest.Start(t, sandbox.Config{ECDSAReceipts: true, LaxSignatures: true})
	w := &ward{receiver: &receiver{bundle: &bundle{sandbox: client.New(world.Endpoints().ControlURL), certs: t.TempDir(), heard: make(chan proto.Message, 10_000)}}}
	w.nats = natsServer(t)
	w.db = pgtest.Schema(t, "sdi-gateway")
	w.admin = pgtest.Admin(t, w.db)
	key, err := auth.NewKey(false)
	require.NoError(t, err)
	w.write(t, map[string]string{"operator.key": key})
	dir := t.TempDir()
	hosted, section := []run.Target{tenancy.Target, w.everything()}, fmt.Sprintf("tenancy: {bootstrap_operator_key_file: %q}\n", filepath.Join(w.certs, "operator.key"))
	if ways == "PEC" {
		w.write(t, map[string]string{"ca.crt": string(world.CAPEM())})
		hosted, section = append(hosted, pecgateway.Target), section+w.postSection(t, world.Endpoints().PEC)
	}
	w.Process = runtest.Start(t, runtest.Options{Dir: dir, NATS: w.nats, Targets: hosted, Config: section})
	companies := tenancyv1.NewTenancyServiceClient(w.DialKey("tenancy", key))
	w.makeCompanies(t, companies)
	files, err := rpc.DevCertificates(filepath.Join(dir, "tls"), sdigateway.Target.Name)
	require.NoError(t, err)
	for range gateways {
		g := &gateway{}
		g.address, _, err = devenv.FreeAddress()
		require.NoError(t, err)
		g.ftp, _, err = devenv.FreeAddress()
		require.NoError(t, err)
		w.gates = append(w.gates, g)
	}
	section = w.accredit(t, ways)
	if ways == "PEC" {
		section = "  pec: {enabled: true, retry_failed: 200ms}\n"
		w.givePost(t, companies, key, string(world.CAPEM()))
	}
	for i, g := range w.gates {
		g.spec = w.describe(t, fmt.Sprintf(`log: {level: warn, format: text}
nats: {url: %q}
blob: {fs: {dir: %q}}
admin: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
rpc:
  listen: 127.0.0.1:0
  tls: {cert_file: %q, key_file: %q, ca_file: %q}
  peers: {tenancy: %[6]q, pec-gateway: %[6]q}
sdi-gateway:
  transmitter: IT%[7]s
  endpoint: %[8]s
  callback: {listen: %[9]q, cert_file: %[10]s/server.crt, key_file: %[10]s/server.key}
  client_cert_file: %[10]s/client.crt
  client_key_file: %[10]s/client.key
  ca_file: %[10]s/ca.crt
  inbound: {path: /ricezione, notify_endpoint: %[11]q}
  call_timeout: 2s
  resend_after: 15s
  retry_every: 200ms
%[12]sbreaker: {open: 100ms}
`, w.nats, filepath.Join(dir, "blobs"), files.Cert, files.Key, files.CA, w.RPC, fiscalID, world.Endpoints().SdIURL, g.address, w.certs,
			world.Endpoints().NotifyURL, strings.ReplaceAll(section, "%FTP%", g.ftp)))
		g.log, err = os.CreateTemp(dir, fmt.Sprintf("gateway%d-*.log", i))
		require.NoError(t, err)
		w.start(t, g)
	}
	t.Cleanup(func() {
		for _, g := range w.gates {
			w.kill(t, g)
			if t.Failed() {
				said, _ := os.ReadFile(g.log.Name())
				t.Logf("a gateway said:\n%s", said)
			}
		}
	})
	return w
}

// givePost makes certified mail the only channel of the company that documents are accepted for. The gateways serve no
// keys, so what SetPecChannel writes is written here.
func (w *ward) givePost(t *testing.T, companies tenancyv1.TenancyServiceClient, key, authority string) {
	t.Helper()
	own, err := companies.CreateApiKey(t.Context(), &tenancyv1.CreateApiKeyRequest{Parent: "tenants/t1", ApiKey: &tenancyv1.ApiKey{Scopes: []string{"*"}}})
	require.NoError(t, err)
	w.trustProviders(t, pecv1.NewPecTrustServiceClient(w.DialKey("pec-gateway", key)), authority)
	w.post = w.openMailbox(t, pecv1.NewPecServiceClient(w.DialKey("pec-gateway", own.GetSecret())), companyBox)
	for _, statement := range []string{
		"INSERT INTO pec_mailbox (tenant_id, mailbox) VALUES ('t1', $1)",
		"INSERT INTO pec_channel (tenant_id, company, mailbox, preference, updated_at, updated_by) VALUES ('t1', '" + postman + "', $1, 'ONLY', now(), 'test')",
	} {
		_, err = w.admin.Exec(t.Context(), statement, w.post.GetName())
		require.NoError(t, err)
	}
}

func natsServer(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true})
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(20*time.Second))
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	return "nats://" + srv.Addr().String()
}

// accredit enables the transmitter, whose callbacks go to the first gateway, and gives the lines of its channels.
func (w *ward) accredit(t *testing.T, ways string) string {
	t.Helper()
	codes := []string{sharedCode, ownCode, officeCode}
	w.callback = w.gates[0].address
	w.url = "https://" + w.callback + "/ricezione"
	byFTP := strings.Contains(ways, "SDIFTP")
	request := client.AccreditationRequest{FiscalID: fiscalID, CallbackURL: "https://" + w.callback + "/"}
	if !byFTP {
		request.ReceptionURL, request.RecipientCodes = w.url, codes
	}
	granted, err := w.sandbox.Accredit(t.Context(), request)
	require.NoError(t, err)
	w.write(t, map[string]string{"client.crt": granted.ClientCertPEM, "client.key": granted.ClientKeyPEM, "server.crt": granted.ServerCertPEM,
		"server.key": granted.ServerKeyPEM, "ca.crt": granted.CAPEM})
	if !byFTP {
		return ""
	}
	node, err := w.sandbox.AccreditFTP(t.Context(), client.FTPAccreditationRequest{
		FiscalID: fiscalID, Address: w.gates[0].ftp, HostKey: w.sshKey(t, "host.key"), VisitMS: 100, RecipientCodes: codes,
	})
	require.NoError(t, err)
	w.write(t, map[string]string{"authorized_keys": node.ClientKey + "\n", "sign.crt": node.SignCertPEM, "sign.key": node.SignKeyPEM,
		"decrypt.crt": node.DecryptCertPEM, "decrypt.key": node.DecryptKeyPEM, "sdi.crt": node.SdICertPEM})
	return w.ftpYAML(ways, "%FTP%", "retry_refused: 1s, receive: true")
}

func (w *ward) describe(t *testing.T, config string) string {
	t.Helper()
	c := w.db.Config()
	raw, err := json.Marshal(processSpec{Config: config, URL: c.URL, Schema: c.Schema, Role: c.Role})
	require.NoError(t, err)
	return string(raw)
}

// everything plays the invoice service and hears all that gateways say.
func (w *ward) everything() run.Target {
	return run.Target{Name: "invoice", Start: func(ctx context.Context, h *run.Host) error {
		return errors.Join(w.listener().Start(ctx, h), w.inboundListener().Start(ctx, h))
	}}
}

// start runs a gateway and returns once it is ready: it has printed the address of its admin port then.
func (w *ward) start(t *testing.T, g *gateway) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	g.cmd = exec.Command(self)
	g.cmd.Env = append(os.Environ(), gatewayEnv+"="+g.spec)
	g.cmd.Stderr = g.log
	out, err := g.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, g.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(g.log.Name())
		t.Fatalf("the gateway did not start: %v\n%s", err, said)
	}
	g.metrics = "http://" + strings.TrimSpace(line) + "/metrics"
}

// kill ends a gateway as a power cut would.
func (w *ward) kill(t *testing.T, g *gateway) {
	t.Helper()
	if g.cmd == nil {
		return
	}
	require.NoError(t, g.cmd.Process.Kill())
	_ = g.cmd.Wait()
	g.cmd = nil
}

// counted runs a query over all tenants of the gateways' schema.
func (w *ward) counted(t *testing.T, query string) int {
	t.Helper()
	var n int
	require.NoError(t, w.admin.QueryRow(t.Context(), query).Scan(&n))
	return n
}

// boundary is a statement at which a process can be stopped: it waits there, in its transaction, for a lock that the
// test holds.
type boundary struct {
	name  string
	table string
	event string // INSERT or UPDATE
	when  string // about NEW and OLD; empty: always
}

func (w *ward) lockKey() int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.db.Schema()))
	return int64(h.Sum32())
}

// stopAt makes processes wait at a boundary.
func (w *ward) stopAt(t *testing.T, b boundary) {
	t.Helper()
	when := ""
	if b.when != "" {
		when = "WHEN (" + b.when + ")"
	}
	for _, statement := range []string{
		fmt.Sprintf("SELECT pg_advisory_lock(%d)", w.lockKey()),
		fmt.Sprintf(`CREATE OR REPLACE FUNCTION test_boundary() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN NEW; END $$`, w.lockKey()),
		fmt.Sprintf("CREATE TRIGGER test_boundary BEFORE %s ON %s FOR EACH ROW %s EXECUTE FUNCTION test_boundary()", b.event, b.table, when),
	} {
		_, err := w.admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

const waitingThere = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d"

// killAt kills a gateway that waits at a boundary; what it was doing there is rolled back.
func (w *ward) killAt(t *testing.T, b boundary, g *gateway) {
	t.Helper()
	eventually(t, "a process at the boundary "+b.name, func() (bool, string) {
		n := w.counted(t, fmt.Sprintf(waitingThere, w.lockKey()))
		return n > 0, fmt.Sprint(n)
	})
	w.kill(t, g)
	_, err := w.admin.Exec(t.Context(), fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d", w.lockKey()))
	require.NoError(t, err)
	w.letGo(t, b)
}

func (w *ward) letGo(t *testing.T, b boundary) {
	t.Helper()
	eventually(t, "the end of who waited", func() (bool, string) {
		n := w.counted(t, fmt.Sprintf(waitingThere, w.lockKey()))
		return n == 0, fmt.Sprint(n)
	})
	for _, statement := range []string{
		fmt.Sprintf("DROP TRIGGER test_boundary ON %s", b.table), "DROP FUNCTION test_boundary()", fmt.Sprintf("SELECT pg_advisory_unlock(%d)", w.lockKey()),
	} {
		_, err := w.admin.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
}

// settledOnce asserts what must hold when everything is over: each document once at SdI, nothing parked, nothing more
// told than was awaited.
func (w *ward) settledOnce(t *testing.T, files int) {
	t.Helper()
	w.once(t, files)
	require.Zero(t, w.counted(t, "SELECT count(*) FROM parked_event"))
	require.Zero(t, w.counted(t, "SELECT count(*) FROM transmission WHERE state = 'RESERVED'"))
	require.Zero(t, w.counted(t, "SELECT count(*) FROM (SELECT 1 FROM inbound_file GROUP BY sdi_id HAVING count(*) > 1) d"))
	require.Empty(t, w.heard, "nothing is told twice")
}

// awaitInbound collects the one event about a received invoice.
func (w *ward) awaitInbound(t *testing.T, sdiID string) *sdiv1.InboundInvoiceReceived {
	t.Helper()
	ev, ok := w.await(t).(*sdiv1.InboundInvoiceReceived)
	require.True(t, ok)
	require.Equal(t, sdiID, ev.GetSdiId())
	return ev
}
