package signer_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/otp"
	"ceralacca.dev/services/signer"
)

// signerEnv tells this program that it is a signer and not a test: a process of its own that can be killed.
const signerEnv = "CERALACCA_TEST_SIGNER"

// processSpec is what such a process is told.
type processSpec struct {
	Config, Tenant, Operator string // the file, and the two keys that it knows
	URL, Schema, Role        string
}

// serveSigner is that process.
func serveSigner(text string) error {
	var spec processSpec
	err := json.Unmarshal([]byte(text), &spec)
	if err != nil {
		return err
	}
	file, err := run.ParseFile("signer.yaml", []byte(spec.Config), []string{signer.Target.Name}, nil)
	if err != nil {
		return err
	}
	return run.Serve(context.Background(), run.ServeOptions{
		Config: file, Targets: []run.Target{signer.Target},
		OpenDB: func(ctx context.Context, _ string) (*pg.DB, error) {
			return pg.Open(ctx, pg.Config{URL: spec.URL, Schema: spec.Schema, Role: spec.Role, MaxConns: 12})
		},
		Keys: auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) {
			switch bearer {
			case spec.Tenant:
				return auth.Caller{Kind: auth.KindKey, ID: "product", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}, nil
			case spec.Operator:
				return auth.Caller{Kind: auth.KindKey, ID: "operator", Role: auth.RoleOperator, Scopes: []string{"*"}}, nil
			}
			return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "this process knows two keys")
		}),
		Ready: func(r run.Running) { fmt.Println(r.RPC) },
	})
}

// ward is a signer in a process of its own, and a process beside it that hears what it tells.
type ward struct {
	*house
	spec   processSpec
	admin  *pgx.Conn
	db     *pg.DB
	mail   *otp.Provider
	files  rpc.Files
	store  string // the folder of the blobs
	cmd    *exec.Cmd
	log    *os.File
	conns  []*grpc.ClientConn
	auth   signv1.AuthorizationServiceClient
	docs   signv1.DocumentServiceClient
	remote signv1.ProviderServiceClient
	asks   signv1.SignatureRequestServiceClient
	others signv1.SignServiceClient // as conservation has it
}

// newWard starts everything. extra are further lines of the signer's section.
func newWard(t *testing.T, extra string) *ward {
	t.Helper()
	safe, dir := vaultOf(t), t.TempDir()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	w := &ward{house: &house{vault: safe.Server, audit: safe.audit, ca: authority, probe: &probe{}}, mail: otp.New(messagesToken, nil)}
	web := httptest.NewServer(w.mail)
	t.Cleanup(web.Close)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		return path
	}
	nats := natsServer(t)
	w.Process = runtest.Start(t, runtest.Options{Dir: dir, NATS: nats, Targets: []run.Target{w.probe.target()}})
	w.files, err = rpc.DevCertificates(filepath.Join(dir, "tls"), signer.Target.Name, "conservation")
	require.NoError(t, err)
	w.db = pgtest.Schema(t, signer.Target.Name)
	w.admin = pgtest.Admin(t, w.db)
	w.store = filepath.Join(dir, "blobs")
	c := w.db.Config()
	w.spec = processSpec{URL: c.URL, Schema: c.Schema, Role: c.Role, Config: fmt.Sprintf(`log: {level: warn, format: text}
nats: {url: %q}
blob: {fs: {dir: %q}}
admin: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
rpc:
  listen: 127.0.0.1:0
  tls: {cert_file: %q, key_file: %q, ca_file: %q}
breaker: {open: 100ms}
signer:
  vault: {address: %q, role_id_file: %q, secret_id_file: %q, timeout: %s}
  authorization: {sms: {url: %q, token_file: %q}}
%s`, nats, w.store, w.files.Cert, w.files.Key, w.files.CA, safe.Addr, write("role", safe.role.RoleID), write("secret", safe.role.SecretID), safe.patience,
		web.URL, write("token", messagesToken), extra)}
	w.spec.Tenant, err = auth.NewKey(false)
	require.NoError(t, err)
	w.spec.Operator, err = auth.NewKey(false)
	require.NoError(t, err)
	w.log, err = os.CreateTemp(dir, "signer-*.log")
	require.NoError(t, err)
	t.Cleanup(func() {
		w.kill(t)
		if t.Failed() {
			said, _ := os.ReadFile(w.log.Name())
			t.Logf("the signer said:\n%s", said)
		}
	})
	w.start(t)
	return w
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

// start runs the signer and connects to it once it is ready: it has printed its address then.
func (w *ward) start(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	spec, err := json.Marshal(w.spec)
	require.NoError(t, err)
	w.cmd = exec.Command(self)
	w.cmd.Env = append(os.Environ(), signerEnv+"="+string(spec))
	w.cmd.Stderr = w.log
	out, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(w.log.Name())
		t.Fatalf("the signer did not start: %v\n%s", err, said)
	}
	address := strings.TrimSpace(line)
	tenant := w.dial(t, address, "", w.spec.Tenant)
	w.auth, w.docs, w.remote = signv1.NewAuthorizationServiceClient(tenant), signv1.NewDocumentServiceClient(tenant), signv1.NewProviderServiceClient(tenant)
	w.asks = signv1.NewSignatureRequestServiceClient(tenant)
	w.client = signv1.NewSignServiceClient(w.dial(t, address, "", w.spec.Operator))
	w.others = signv1.NewSignServiceClient(w.dial(t, address, "conservation", ""))
}

// dial connects with a key, or as a service.
func (w *ward) dial(t *testing.T, address, service, key string) *grpc.ClientConn {
	t.Helper()
	tls, err := rpc.ClientTLS(w.files, service, signer.Target.Name)
	require.NoError(t, err)
	conn, err := rpc.Dial(t.Context(), rpc.DialConfig{Address: address, TLS: tls, Agent: "test", Bearer: func(context.Context) (string, error) { return key, nil }})
	require.NoError(t, err)
	w.conns = append(w.conns, conn)
	return conn
}

// kill ends the signer as a power cut would.
func (w *ward) kill(t *testing.T) {
	t.Helper()
	if w.cmd == nil {
		return
	}
	require.NoError(t, w.cmd.Process.Kill())
	_ = w.cmd.Wait()
	w.cmd = nil
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

func (w *ward) counted(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	require.NoError(t, w.admin.QueryRow(context.Background(), query, args...).Scan(&n))
	return n
}

func (w *ward) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := w.admin.Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

// boundary is a statement at which the process is stopped: it waits there, in its transaction, for a lock that the test
// holds, and is killed.
type boundary struct {
	table string
	event string // INSERT or UPDATE
	when  string // about NEW and OLD
}

// cutAt has do run into a boundary, kills the signer there, and starts it again.
func (w *ward) cutAt(t *testing.T, b boundary, do func() error) {
	t.Helper()
	w.killAt(t, b, do)
	w.start(t)
}

// killAt has do run into a boundary and kills the signer there. What do was told is an error, and what the signer was doing
// there is rolled back.
func (w *ward) killAt(t *testing.T, b boundary, do func() error) {
	t.Helper()
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.db.Schema()))
	key := int64(h.Sum32())
	w.exec(t, fmt.Sprintf("SELECT pg_advisory_lock(%d)", key))
	w.exec(t, fmt.Sprintf(`CREATE FUNCTION test_boundary() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN NEW; END $$`, key))
	w.exec(t, fmt.Sprintf("CREATE TRIGGER test_boundary BEFORE %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION test_boundary()", b.event, b.table, b.when))
	waiting := fmt.Sprintf("FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d", key)
	told := make(chan error, 1)
	go func() { told <- do() }()
	eventually(t, "the process is at the boundary", func() bool { return w.counted(t, "SELECT count(*) "+waiting) > 0 })
	w.kill(t)
	err := <-told
	require.Error(t, err, "nobody answered")
	w.exec(t, "SELECT pg_terminate_backend(pid) "+waiting)
	eventually(t, "who waited is gone", func() bool { return w.counted(t, "SELECT count(*) "+waiting) == 0 })
	w.exec(t, "DROP TRIGGER test_boundary ON "+b.table)
	w.exec(t, "DROP FUNCTION test_boundary()")
	w.exec(t, fmt.Sprintf("SELECT pg_advisory_unlock(%d)", key))
}
