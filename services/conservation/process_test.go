package conservation

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv/nats"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/signer"
)

// archiveEnv tells this program that it is an archive and not a test: a process of its own that can be killed.
const archiveEnv = "CERALACCA_TEST_ARCHIVE"

// processSpec is what such a process is told.
type processSpec struct {
	Config            string
	Key, Operator     string
	URL, Schema, Role string
}

// serveArchive is that process.
func serveArchive(text string) error {
	var spec processSpec
	err := json.Unmarshal([]byte(text), &spec)
	if err != nil {
		return err
	}
	file, err := run.ParseFile("archive.yaml", []byte(spec.Config), []string{Target.Name}, nil)
	if err != nil {
		return err
	}
	return run.Serve(context.Background(), run.ServeOptions{
		Config: file, Targets: []run.Target{Target}, LogOutput: os.Stderr,
		OpenDB: func(ctx context.Context, _ string) (*pg.DB, error) {
			return pg.Open(ctx, pg.Config{URL: spec.URL, Schema: spec.Schema, Role: spec.Role, MaxConns: 12})
		},
		Keys: auth.ResolverFunc(func(_ context.Context, bearer string) (auth.Caller, error) {
			switch bearer {
			case spec.Key:
			case spec.Operator:
				return auth.Caller{Kind: auth.KindKey, ID: "operator", Role: auth.RoleOperator, Scopes: []string{"*"}}, nil
			default:
				return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "this process knows two keys")
			}
			return auth.Caller{Kind: auth.KindKey, ID: "tenant", Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}}, nil
		}),
		Ready: func(r run.Running) { fmt.Println(r.RPC) },
	})
}

// ward is an archive in a process of its own; the process of the test has its signer, and hears what it tells.
type ward struct {
	*house

	t     *testing.T
	db    *pg.DB
	admin *pgx.Conn
	spec  processSpec
	tls   rpc.Files
	cmd   *exec.Cmd
	conn  *grpc.ClientConn
	nats  string

	operator *grpc.ClientConn
	log      *os.File
}

// newWard starts one; more goes into the section of its log.
func newWard(t *testing.T, more ...string) *ward {
	t.Helper()
	server, err := nats.Start(t.Context(), nats.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	text, err := x509.MarshalPKCS8PrivateKey(logSeed())
	require.NoError(t, err)
	key := filepath.Join(t.TempDir(), "log.key")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	h, config := prepare(t, fmt.Sprintf("  log: {origin: %s, key_file: %q, every: 20ms%s}\n  deposits: {event_reports: 20ms}\n", origin, key, strings.Join(more, "")))
	w := &ward{house: h, t: t, db: pgtest.Schema(t, "conservation"), nats: server.URL()}
	w.admin = pgtest.Admin(t, w.db)
	dir := filepath.Join(h.dir, "process")
	h.Process = runtest.Start(t, runtest.Options{Dir: dir, NATS: server.URL(), Targets: []run.Target{signer.Target, h.probeTarget(), h.books()}, Config: config.signer})
	h.sign = signv1.NewSignServiceClient(h.Operator("signer"))
	h.certify(t)
	w.tls, err = rpc.DevCertificates(filepath.Join(dir, "tls"), Target.Name)
	require.NoError(t, err)
	c := w.db.Config()
	w.spec = processSpec{URL: c.URL, Schema: c.Schema, Role: c.Role}
	w.spec.Key, err = auth.NewKey(false)
	require.NoError(t, err)
	w.spec.Operator, err = auth.NewKey(false)
	require.NoError(t, err)
	w.spec.Config = fmt.Sprintf(`log: {level: info, format: text}
nats: {url: %q}
blob: {fs: {dir: %q}}
admin: {listen: '127.0.0.1:0'}
http: {listen: '127.0.0.1:0'}
rpc:
  listen: 127.0.0.1:0
  tls: {cert_file: %q, key_file: %q, ca_file: %q}
  peers: {signer: %q, invoice: %q}
%s`, server.URL(), filepath.Join(dir, "blobs"), w.tls.Cert, w.tls.Key, w.tls.CA, h.RPC, h.RPC, config.archive)
	w.log, err = os.CreateTemp(h.dir, "archive-*.log")
	require.NoError(t, err)
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			said, _ := os.ReadFile(w.log.Name())
			t.Logf("the archive said:\n%s", said)
		}
	})
	w.run()
	return w
}

// run starts the archive and returns once it is ready.
func (w *ward) run() {
	w.t.Helper()
	raw, err := json.Marshal(w.spec)
	require.NoError(w.t, err)
	self, err := os.Executable()
	require.NoError(w.t, err)
	w.cmd = exec.Command(self)
	w.cmd.Env = append(os.Environ(), archiveEnv+"="+string(raw))
	w.cmd.Stderr = w.log
	out, err := w.cmd.StdoutPipe()
	require.NoError(w.t, err)
	require.NoError(w.t, w.cmd.Start())
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(w.log.Name())
		w.t.Fatalf("the archive did not start: %v\n%s", err, said)
	}
	tls, err := rpc.ClientTLS(w.tls, "", Target.Name)
	require.NoError(w.t, err)
	dial := func(key string) *grpc.ClientConn {
		conn, err := rpc.Dial(context.Background(), rpc.DialConfig{Address: strings.TrimSpace(address), TLS: tls, Agent: "test",
			Bearer: func(context.Context) (string, error) { return key, nil }})
		require.NoError(w.t, err)
		return conn
	}
	w.conn, w.operator = dial(w.spec.Key), dial(w.spec.Operator)
	w.client = conservationv1.NewConservationServiceClient(w.conn)
}

// kill ends the archive as a power cut would.
func (w *ward) kill() {
	w.t.Helper()
	if w.cmd == nil {
		return
	}
	require.NoError(w.t, w.cmd.Process.Kill())
	_ = w.cmd.Wait()
	w.cmd = nil
	_ = w.conn.Close()
	_ = w.operator.Close()
}

// said is what the archive wrote to its log so far.
func (w *ward) said() string {
	w.t.Helper()
	raw, err := os.ReadFile(w.log.Name())
	require.NoError(w.t, err)
	return string(raw)
}

func (w *ward) sql(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		_, err := w.admin.Exec(context.Background(), s)
		require.NoError(w.t, err, s)
	}
}

func (w *ward) count(query string) (n int) {
	w.t.Helper()
	require.NoError(w.t, w.admin.QueryRow(context.Background(), query).Scan(&n))
	return n
}

// boundary is a statement at which the process can be stopped: it waits there, in its transaction, for a lock that the
// test holds.
type boundary struct {
	name, table, event, when string
}

// boundaries are the moments between two acts: from the event to what is told of the sealed package.
var boundaries = []boundary{
	// The first of all: one checkpoint of a day is stamped, and that is the first.
	{"the checkpoint is stamped", "log_checkpoint", "UPDATE", "NEW.stamp IS NOT NULL AND OLD.stamp IS NULL"},
	{"both replicas have the documents, no row tells of them", "archive_object", "INSERT", "NEW.kind = 'intake'"},
	{"the unit is being written", "unit", "INSERT", ""},
	{"the unit gets its place in the log", "log_leaf", "INSERT", ""},
	{"the log states it", "log_checkpoint", "INSERT", ""},
	{"its submission is made", "submission", "INSERT", ""},
	{"its report was signed, stamped and stored", "submission", "UPDATE", "NEW.report IS NOT NULL"},
	{"the package is closed", "package", "INSERT", ""},
	{"the index was written", "package", "UPDATE", "NEW.state = 'INDEXED' AND OLD.state = 'CLOSED'"},
	{"the index was signed", "package", "UPDATE", "NEW.state = 'SIGNED' AND OLD.state = 'INDEXED'"},
	{"the signature was stamped", "package", "UPDATE", "NEW.state = 'STAMPED' AND OLD.state = 'SIGNED'"},
	{"both replicas have the package", "package", "UPDATE", "NEW.state = 'SEALED' AND OLD.state = 'STAMPED'"},
	{"the package is told and its event not taken from the outbox", "outbox", "DELETE", "OLD.subject = 'ceralacca.conservation.package_sealed.v1'"},
}

func (w *ward) key() int64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(w.db.Schema()))
	return int64(h.Sum32())
}

func (w *ward) stopAt(b boundary) {
	w.t.Helper()
	when := ""
	if b.when != "" {
		when = "WHEN (" + b.when + ")"
	}
	w.sql(fmt.Sprintf("SELECT pg_advisory_lock(%d)", w.key()),
		fmt.Sprintf(`CREATE FUNCTION test_boundary() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN COALESCE(NEW, OLD); END $$`, w.key()),
		fmt.Sprintf("CREATE TRIGGER test_boundary BEFORE %s ON %s FOR EACH ROW %s EXECUTE FUNCTION test_boundary()", b.event, b.table, when))
}

// reached says whether the process waits at a boundary.
func (w *ward) reached() bool { return w.count("SELECT count(*) "+w.waiting()) > 0 }

func (w *ward) waiting() string {
	return fmt.Sprintf("FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d", w.key())
}

// die kills the process where it waits, and starts it again.
func (w *ward) die(b boundary) {
	w.t.Helper()
	w.kill()
	w.sql("SELECT pg_terminate_backend(pid) " + w.waiting())
	w.await(w.t, "the end of who waited", func() bool { return !w.reached() })
	w.sql("DROP TRIGGER test_boundary ON "+b.table, "DROP FUNCTION test_boundary()", fmt.Sprintf("SELECT pg_advisory_unlock(%d)", w.key()))
	w.run()
}

// TestKilledAtEachBoundary takes documents from their event to a sealed package and kills the archive on the way, with SIGKILL,
// once at each boundary. Afterwards there is one unit of each document, each in one sealed package that others find good, each in
// one report, and a log without gaps; nothing was told twice under two names. A quick run kills at two boundaries.
func TestKilledAtEachBoundary(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	chosen := boundaries
	if quickly {
		chosen = []boundary{boundaries[1], boundaries[11]}
	}
	const each = 3
	total := 0
	for _, b := range chosen {
		var events []*invoicev1.InvoiceSettled
		for range each {
			total++
			events = append(events, w.invoice(t, total))
		}
		w.stopAt(b)
		w.settleAll(t, events)
		w.throughDeath(b, total)
	}
	w.whole(t, total)
}

// throughDeath closes packages until everything is sealed, whatever happens to the process at the boundary.
func (w *ward) throughDeath(b boundary, total int) {
	w.t.Helper()
	const taken = "SELECT count(*) FROM unit WHERE state <> 'REFUSED'"
	dead, closed := false, false
	w.await(w.t, "sealed after a death at: "+b.name, func() bool {
		switch {
		case !dead && w.reached():
			w.die(b)
			dead = true
		case !dead && !closed && w.count(taken) == total:
			closed = true
			client := w.client
			go func() { _, _ = client.ClosePackage(context.Background(), closing()) }() // it may wait at the boundary, and be told nothing
		case dead && w.count(taken) == total && w.count("SELECT count(*) FROM unit WHERE state = 'TAKEN_IN_CHARGE'") > 0:
			_, err := w.client.ClosePackage(context.Background(), closing())
			if code(err) != "NO_UNITS_WAITING" { // the one that was told nothing came through
				require.NoError(w.t, err)
			}
		}
		return dead && w.count("SELECT count(*) FROM unit WHERE state = 'PRESERVED'") == total
	})
}

func closing() *conservationv1.ClosePackageRequest {
	return &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year}
}

// whole looks at what is left of all those deaths.
func (w *ward) whole(t *testing.T, total int) {
	t.Helper()
	require.Equal(t, total, w.count("SELECT count(*) FROM unit"), "one unit of each document")
	require.Equal(t, total, w.count("SELECT count(DISTINCT unit_key) FROM unit"))
	require.Zero(t, w.count("SELECT count(*) FROM package WHERE state <> 'SEALED'"))
	require.Equal(t, total, w.count("SELECT sum(unit_count)::int FROM package"), "each in one package")
	w.await(t, "each is in one report", func() bool {
		return w.count("SELECT COALESCE(sum(unit_count), 0)::int FROM submission WHERE report IS NOT NULL") == total
	})
	require.Equal(t, total, w.count("SELECT sum(unit_count)::int FROM submission"))
	w.await(t, "everything is told", func() bool {
		taken, preserved, sealed := w.counts()
		return taken >= total && preserved >= total && sealed >= w.count("SELECT count(*) FROM package")
	})
	told := map[string]bool{}
	w.mu.Lock()
	for _, ev := range w.preserved {
		require.False(t, told[ev.GetUnit()], "told once")
		told[ev.GetUnit()] = true
	}
	w.mu.Unlock()
	require.Zero(t, w.count("SELECT count(*) FROM parked_event"))
	w.await(t, "the log has all of it", func() bool {
		return w.count("SELECT count(*) FROM log_pending") == 0 && w.count("SELECT count(*) FROM log_leaf") == w.count("SELECT count(*) FROM unit")+w.count("SELECT count(*) FROM package")
	})
	w.await(t, "and states it", func() bool {
		return w.count("SELECT max(size) FROM log_checkpoint") == w.count("SELECT count(*) FROM log_leaf")
	})
	checkLog(t, w.db, w.count("SELECT count(*) FROM log_leaf"))
	list, err := w.client.ListPackages(context.Background(), &conservationv1.ListPackagesRequest{Parent: "tenants/acme", PageSize: 1000})
	require.NoError(t, err)
	require.NotEmpty(t, list.GetPackages())
	for _, p := range list.GetPackages() {
		raw, err := fetchPackage(w.client, p.GetName())
		require.NoError(t, err)
		w.judgeBytes(t, p, raw)
	}
}

// fetchPackage downloads a package.
func fetchPackage(client conservationv1.ConservationServiceClient, name string) ([]byte, error) {
	stream, err := client.DownloadPackageFile(context.Background(), &conservationv1.DownloadPackageFileRequest{Name: name, File: archiveFile})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		out.Write(msg.GetChunk())
	}
}
