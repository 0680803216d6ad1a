package pecgateway_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/dovecot"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	pecgateway "ceralacca.dev/services/pec-gateway"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/sandboxtest"
)

const (
	tenant    = "acme"
	parent    = "tenants/" + tenant
	sender    = "mittente@alfa.test"
	recipient = "destinatario@beta.test"

	within = time.Minute // longest wait for what has to happen
	tick   = 10 * time.Millisecond
)

// shared is the Vault of the package: starting one for each test would be most of their time.
var shared struct {
	once   sync.Once
	server *vault.Server
	login  vault.Credentials
	dir    string
	err    error
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(gatewayEnv); spec != "" {
		if err := serveGateway(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	sideBySide()
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// sideBySide lets six tests run at a time unless the command line says otherwise: they wait much and calculate little.
func sideBySide() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", "6")
	}
}

func vaultOf(t testing.TB) (*vault.Server, vault.Credentials) {
	t.Helper()
	shared.once.Do(func() {
		shared.dir, shared.err = os.MkdirTemp("", "pec-gateway-vault-")
		if shared.err != nil {
			return
		}
		shared.server, shared.err = vault.Start(context.Background(), vault.Options{Private: true, Dir: shared.dir})
		if shared.err != nil {
			return
		}
		root, err := devenv.Root()
		if err != nil {
			shared.err = err
			return
		}
		roles, err := shared.server.Provision(context.Background(), filepath.Join(root, "deploy", "vault"))
		shared.login, shared.err = roles[vault.PECRole], err
	})
	require.NoError(t, shared.err)
	return shared.server, shared.login
}

// house is a gateway with a real Vault between two simulated providers and a listener for its events.
type house struct {
	*runtest.Process
	t       testing.TB
	vault   *vault.Server
	world   *sandbox.Server
	sandbox *client.Client
	dovecot *dovecot.Server             // where openDovecot has the mailboxes
	api     pecv1.PecServiceClient      // of the tenant
	trust   pecv1.PecTrustServiceClient // of an operator
	heard   *ear
	log     *lockedBuffer
	opts    runtest.Options
	secrets map[string]string // passwords by address
	next    int
	others  map[string]bool // Message-IDs of what another program of the owner sent
	ahead   atomic.Int64    // of the gateway's clock, in nanoseconds
	outside *pg.DB          // of a gateway in a process of its own
}

type ear struct {
	bustest.Ear
	mu     sync.Mutex
	events []proto.Message
}

func (e *ear) all() []proto.Message {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]proto.Message(nil), e.events...)
}

// heard gives the events of one type.
func heard[E proto.Message](h *house) []E {
	var out []E
	for _, ev := range h.heard.all() {
		if e, ok := ev.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

func (e *ear) target() run.Target {
	return run.Target{Name: "probe", Start: func(_ context.Context, h *run.Host) error {
		hear[*pecv1.MessageReceived](h.Bus, e, "received")
		hear[*pecv1.MessageJudged](h.Bus, e, "judged")
		hear[*pecv1.ReceiptVerified](h.Bus, e, "verified")
		hear[*pecv1.DeliveryStateChanged](h.Bus, e, "state")
		hear[*pecv1.MailboxDegraded](h.Bus, e, "degraded")
		hear[*pecv1.MessageQueued](h.Bus, e, "queued")
		hear[*pecv1.MessageRequestRefused](h.Bus, e, "refused")
		hear[*pecv1.DeliveryDecisionNeeded](h.Bus, e, "decision")
		hear[*pecv1.ForwardDue](h.Bus, e, "forward")
		hear[*pecv1.IncomingNoticeDue](h.Bus, e, "notice")
		hear[*pecv1.MessageHandedOver](h.Bus, e, "handed")
		hear[*pecv1.MailboxDayClosed](h.Bus, e, "day")
		hear[*pecv1.DeliveryStalled](h.Bus, e, "stalled")
		hear[*conservationv1.CopiesFound](h.Bus, e, "found")
		hear[*conservationv1.CopiesNeeded](h.Bus, e, "needed")
		hear[*pecv1.DeliveredContentDiffers](h.Bus, e, "content")
		hear[*pecv1.DeliveryDoubted](h.Bus, e, "doubted")
		hear[*pecv1.ClaimNotProven](h.Bus, e, "claims")
		return nil
	}}
}

func hear[E proto.Message](b *bus.Bus, e *ear, name string) {
	bustest.Hear(&e.Ear, b, name, func(_ context.Context, ev E) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.events = append(e.events, ev)
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// open starts the sandbox and the gateway. extra are further lines of its section.
func open(t testing.TB, extra string, change ...func(*runtest.Options)) *house {
	t.Helper()
	h := prepare(t, extra)
	for _, fn := range change {
		fn(&h.opts)
	}
	h.start()
	return h
}

// prepare starts the sandbox and says how a gateway is to be started beside it.
func prepare(t testing.TB, extra string) *house {
	t.Helper()
	server, login := vaultOf(t)
	world := sandboxtest.Start(t, sandbox.Config{})
	dir := t.TempDir()
	roleFile, secretFile, caFile := filepath.Join(dir, "role"), filepath.Join(dir, "secret"), filepath.Join(dir, "ca.pem")
	for name, text := range map[string]string{roleFile: login.RoleID, secretFile: login.SecretID, caFile: string(world.CAPEM())} {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	h := &house{t: t, vault: server, world: world, sandbox: client.New(world.Endpoints().ControlURL), heard: &ear{}, log: &lockedBuffer{}, secrets: map[string]string{}}
	at := world.Endpoints().PEC
	h.opts = runtest.Options{
		Now:     func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) },
		Targets: []run.Target{pecgateway.Target, h.heard.target()}, LogOutput: h.log, LogLevel: "debug", Dir: dir,
		Config: fmt.Sprintf(`pec-gateway:
  vault: {address: %q, role_id_file: %q, secret_id_file: %q}
  ca_file: %q
  sandbox: {imap: %q, pop3: %q, smtp: %q}
  allow_networks: [127.0.0.0/8]
  poll_every: 100ms
  retry_every: 100ms
  retry_most: 400ms
  login_retry: 400ms
  timeout: 5s
  lease: 2s
%s`, server.Addr, roleFile, secretFile, caFile, at.IMAPSAddr, at.POP3SAddr, at.SMTPSAddr, extra),
	}
	return h
}

// DB is the schema of a target, wherever it runs.
func (h *house) DB(target string) *pg.DB {
	if target == "pec-gateway" && h.outside != nil {
		return h.outside
	}
	return h.Process.DB(target)
}

// start runs the gateway; after Stop it runs again on the same schema.
func (h *house) start() {
	h.t.Helper()
	h.Process = runtest.Start(h.t, h.opts)
	h.opts.DB = map[string]*pg.DB{} // a process closes its pools when it ends
	for _, name := range []string{"pec-gateway", "probe"} {
		if db := h.DB(name); db != nil { // a benchmark does without the probe
			h.opts.DB[name] = pgtest.Again(h.t, db)
		}
	}
	h.api = pecv1.NewPecServiceClient(h.Tenant("pec-gateway", tenant))
	h.trust = pecv1.NewPecTrustServiceClient(h.Operator("pec-gateway"))
}

// password gives a mailbox of the sandbox a password of its own, so that it can be looked for.
func (h *house) password(address string) string {
	h.t.Helper()
	secret := "Pw-" + uuid.NewString()
	_, err := h.sandbox.SetPECMailbox(h.t.Context(), client.PECMailbox{Address: address, Password: secret})
	require.NoError(h.t, err)
	h.secrets[address] = secret
	return secret
}

// add takes a mailbox of the sandbox into keeping.
func (h *house) add(address string, change ...func(*pecv1.Mailbox)) *pecv1.Mailbox {
	h.t.Helper()
	in := &pecv1.Mailbox{Address: address, Provider: "sandbox"}
	for _, fn := range change {
		fn(in)
	}
	m, err := h.api.CreateMailbox(h.t.Context(), &pecv1.CreateMailboxRequest{
		Parent: parent, Mailbox: in, Password: h.password(address), RequestId: uuid.NewString(),
	})
	require.NoError(h.t, err)
	return m
}

// eventually waits for what has to become true.
func (h *house) eventually(what string, fn func() bool) {
	h.t.Helper()
	require.Eventually(h.t, fn, within, tick, what)
}

// query asks the gateway's schema for one number, over all tenants.
func (h *house) query(sql string, args ...any) int {
	h.t.Helper()
	var n int
	require.NoError(h.t, h.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, sql, args...).Scan(&n)
	}))
	return n
}

func requireFault(t testing.TB, err error, code string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.Of(err).Code, "%v", err)
}

// dump is every value of every table of the schema as text.
func (h *house) dump() string {
	h.t.Helper()
	var b bytes.Buffer
	require.NoError(h.t, h.DB("pec-gateway").System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()`)
		if err != nil {
			return err
		}
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, table := range tables {
			rows, err := tx.Query(ctx, `SELECT t::text FROM `+pgx.Identifier{table}.Sanitize()+` t`)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return err
			}
			for _, line := range lines {
				fmt.Fprintln(&b, table, line)
			}
		}
		return nil
	}))
	require.NotZero(h.t, b.Len())
	return b.String()
}
