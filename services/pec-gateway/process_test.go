package pecgateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	pecgateway "ceralacca.dev/services/pec-gateway"
)

// gatewayEnv tells this program that it is a gateway and not a test: a process of its own that can be killed.
const gatewayEnv = "CERALACCA_TEST_GATEWAY"

// processSpec is what such a process is told.
type processSpec struct {
	Config            string
	URL, Schema, Role string
	TenantKey         string
	OperatorKey       string
}

// serveGateway is what such a process does.
func serveGateway(text string) error {
	var spec processSpec
	err := json.Unmarshal([]byte(text), &spec)
	if err != nil {
		return err
	}
	file, err := run.ParseFile("gateway.yaml", []byte(spec.Config), []string{pecgateway.Target.Name}, nil)
	if err != nil {
		return err
	}
	return run.Serve(context.Background(), run.ServeOptions{
		Config: file, Targets: []run.Target{pecgateway.Target}, LogOutput: os.Stderr,
		OpenDB: func(ctx context.Context, _ string) (*pg.DB, error) {
			return pg.Open(ctx, pg.Config{URL: spec.URL, Schema: spec.Schema, Role: spec.Role, MaxConns: 12})
		},
		Keys: auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) {
			switch bearer {
			case spec.TenantKey:
				return auth.Caller{Kind: auth.KindKey, ID: "tenant", Role: auth.RoleTenant, Tenant: tenant, Scopes: []string{"*"}}, nil
			case spec.OperatorKey:
				return auth.Caller{Kind: auth.KindKey, ID: "operator", Role: auth.RoleOperator, Scopes: []string{"*"}}, nil
			}
			return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "this API key is not known")
		}),
		Ready: func(r run.Running) { fmt.Println(r.RPC) },
	})
}

// ward is a gateway in a process of its own; a process of the test hears what it says.
type ward struct {
	*post
	admin *pgx.Conn
	spec  processSpec
	line  *line // to the server for sending
	cmd   *exec.Cmd
	conns []*grpc.ClientConn
	tls   rpc.Files
}

// newWard starts one; front may put something else than a line before the server for sending.
func newWard(t *testing.T, front ...func(h *house) string) *ward {
	t.Helper()
	server, err := nats.Start(t.Context(), nats.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	h := prepare(t, "")
	at := h.world.Endpoints().PEC
	w := &ward{post: &post{house: h}, line: newLine(t, at.SMTPSAddr)}
	smtp := w.line.address
	for _, f := range front {
		smtp = f(h)
	}
	h.opts.Config = strings.Replace(h.opts.Config, at.SMTPSAddr, smtp, 1) + quickly
	h.outside = pgtest.Schema(t, "pec-gateway")
	w.admin = pgtest.Admin(t, h.outside)
	h.Process = runtest.Start(t, runtest.Options{Dir: h.opts.Dir, NATS: server.URL(), Targets: []run.Target{h.heard.target()}})
	w.tls, err = rpc.DevCertificates(filepath.Join(h.opts.Dir, "tls"), pecgateway.Target.Name)
	require.NoError(t, err)
	c := h.outside.Config()
	w.spec = processSpec{URL: c.URL, Schema: c.Schema, Role: c.Role}
	w.spec.TenantKey, err = auth.NewKey(false)
	require.NoError(t, err)
	w.spec.OperatorKey, err = auth.NewKey(false)
	require.NoError(t, err)
	w.spec.Config = fmt.Sprintf(`log: {level: debug, format: text}
nats: {url: %q}
blob: {fs: {dir: %q}}
admin: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
rpc:
  listen: 127.0.0.1:0
  tls: {cert_file: %q, key_file: %q, ca_file: %q}
%s`, server.URL(), filepath.Join(h.opts.Dir, "blobs"), w.tls.Cert, w.tls.Key, w.tls.CA, h.opts.Config)
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			for line := range strings.Lines(h.log.String()) {
				if !strings.Contains(line, "level=INFO") && !strings.Contains(line, "level=DEBUG") {
					t.Log(strings.TrimSpace(line))
				}
			}
		}
	})
	w.run()
	return w
}

// run starts the gateway and returns once it is ready.
func (w *ward) run() {
	w.t.Helper()
	raw, err := json.Marshal(w.spec)
	require.NoError(w.t, err)
	self, err := os.Executable()
	require.NoError(w.t, err)
	w.cmd = exec.Command(self)
	w.cmd.Env = append(os.Environ(), gatewayEnv+"="+string(raw))
	w.cmd.Stderr = w.log
	out, err := w.cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, w.cmd.Start())
	address, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(w.t, err, "the gateway did not start: %s", w.log.String())
	for _, key := range []string{w.spec.TenantKey, w.spec.OperatorKey} {
		tls, err := rpc.ClientTLS(w.tls, "", pecgateway.Target.Name)
		require.NoError(w.t, err)
		conn, err := rpc.Dial(context.Background(), rpc.DialConfig{Address: strings.TrimSpace(address), TLS: tls, Agent: "test",
			Bearer: func(context.Context) (string, error) { return key, nil }})
		require.NoError(w.t, err)
		w.conns = append(w.conns, conn)
	}
	n := len(w.conns)
	w.api, w.delivery = pecv1.NewPecServiceClient(w.conns[n-2]), pecv1.NewPecDeliveryServiceClient(w.conns[n-2])
	w.trust = pecv1.NewPecTrustServiceClient(w.conns[n-1])
}

// kill ends the gateway as a power cut would.
func (w *ward) kill() {
	w.t.Helper()
	if w.cmd == nil {
		return
	}
	require.NoError(w.t, w.cmd.Process.Kill())
	_ = w.cmd.Wait()
	w.cmd = nil
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
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
	_, _ = h.Write([]byte(w.outside.Schema()))
	return int64(h.Sum32())
}

func (w *ward) sql(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		_, err := w.admin.Exec(w.t.Context(), s)
		require.NoError(w.t, err, s)
	}
}

// stopAt makes the process wait at a boundary.
func (w *ward) stopAt(b boundary) {
	w.t.Helper()
	when := ""
	if b.when != "" {
		when = "WHEN (" + b.when + ")"
	}
	w.sql(fmt.Sprintf("SELECT pg_advisory_lock(%d)", w.lockKey()),
		fmt.Sprintf(`CREATE OR REPLACE FUNCTION test_boundary() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN NEW; END $$`, w.lockKey()),
		fmt.Sprintf("CREATE TRIGGER test_boundary BEFORE %s ON %s FOR EACH ROW %s EXECUTE FUNCTION test_boundary()", b.event, b.table, when))
}

func (w *ward) waiting() int {
	w.t.Helper()
	var n int
	require.NoError(w.t, w.admin.QueryRow(w.t.Context(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = $1", w.lockKey()).Scan(&n))
	return n
}

func (w *ward) reached(b boundary) {
	w.t.Helper()
	w.eventually("a process at the boundary: "+b.name, func() bool { return w.waiting() > 0 })
}

// letGo ends the waiting; of a process that was killed there the transaction is rolled back first.
func (w *ward) letGo(b boundary, killed bool) {
	w.t.Helper()
	if killed {
		w.sql(fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d", w.lockKey()))
		w.eventually("the end of who waited", func() bool { return w.waiting() == 0 })
		w.sql("DROP TRIGGER test_boundary ON "+b.table, "DROP FUNCTION test_boundary()", fmt.Sprintf("SELECT pg_advisory_unlock(%d)", w.lockKey()))
		return
	}
	w.sql(fmt.Sprintf("SELECT pg_advisory_unlock(%d)", w.lockKey()))
	w.eventually("the end of who waited", func() bool { return w.waiting() == 0 })
	w.sql("DROP TRIGGER test_boundary ON "+b.table, "DROP FUNCTION test_boundary()")
}

// killAt kills the gateway while it waits at a boundary.
func (w *ward) killAt(b boundary) {
	w.t.Helper()
	w.reached(b)
	w.kill()
	w.letGo(b, true)
}

// line is a way to a server that can be held: what is sent back, or what is sent in either direction, then waits, and
// is lost when the line is cut.
type line struct {
	address string
	mu      sync.Mutex
	free    sync.Cond
	answers bool // held
	all     bool
	conns   []net.Conn
}

func newLine(t *testing.T, behind string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	out := &line{address: l.Addr().String()}
	out.free.L = &out.mu
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", behind)
			if err != nil {
				_ = c.Close()
				continue
			}
			out.mu.Lock()
			out.conns = append(out.conns, c, b)
			out.mu.Unlock()
			go out.carry(b, c, func() bool { return out.all })
			go out.carry(c, b, func() bool { return out.all || out.answers })
		}
	}()
	return out
}

func (l *line) carry(to, from net.Conn, held func() bool) {
	defer func() { _ = errors.Join(to.Close(), from.Close()) }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		for held() {
			l.free.Wait()
		}
		l.mu.Unlock()
		if _, werr := to.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (l *line) hold(all bool) {
	l.mu.Lock()
	l.answers, l.all = true, all
	l.mu.Unlock()
}

// cut closes every connection, with what was held in it, and lets new ones through.
func (l *line) cut() {
	l.mu.Lock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns, l.answers, l.all = nil, false, false
	l.free.Broadcast()
	l.mu.Unlock()
}
