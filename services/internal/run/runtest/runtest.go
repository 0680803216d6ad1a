// Package runtest runs targets in a test as production runs them: on a real
// PostgreSQL (a schema of the test's own), a real NATS JetStream (embedded, on
// disk), gRPC over loopback with mutual TLS, river, blobs in a folder.
//
// It refuses shortcuts: what a test calls goes over the wire and through every
// check. It is used by tests only.
package runtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
)

// Client is the name on the certificate that Dial shows unless told otherwise.
const Client = "test-client"

// Options say what to run. Only Targets is required.
type Options struct {
	Targets []run.Target
	Config  string            // further sections of the configuration file, YAML
	Peers   map[string]string // rpc.peers: targets of other processes
	// Keys answers API keys. Default: those made with Process.Key, unless
	// Peers says where tenancy is; a target that calls Host.SetResolver comes
	// first.
	Keys auth.Resolver
	Now  func() time.Time
	// NATS is the URL of a server outside the process; default: an embedded one.
	NATS string
	// DB brings a schema, for example of a process that was stopped before.
	// Targets without one get their own.
	DB map[string]*pg.DB
	// Dir keeps NATS and blobs; default: a folder of the test.
	Dir string
	// TLSDir keeps CA and certificates; default: in Dir. Processes that share
	// it can talk to each other.
	TLSDir         string
	LogOutput      io.Writer // default: the test's log
	LogLevel       string    // default: warn
	SpanProcessors []sdktrace.SpanProcessor
}

// Process is a running process of targets.
type Process struct {
	run.Running
	t      testing.TB
	files  rpc.Files
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	mu   sync.Mutex
	keys map[string]auth.Caller
	held map[string]*auth.Suspension // by tenant
	dbs  map[string]*pg.DB
}

// Start runs the targets and returns once the process is ready. At the end of
// the test it drains; an error of the process fails the test.
func Start(t testing.TB, opts Options) *Process {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.TLSDir == "" {
		opts.TLSDir = filepath.Join(opts.Dir, "tls")
	}
	names := []string{Client}
	for _, target := range opts.Targets {
		names = append(names, target.Name)
	}
	files, err := rpc.DevCertificates(opts.TLSDir, names...)
	if err != nil {
		t.Fatalf("runtest: %v", err)
	}
	p := &Process{t: t, files: files, done: make(chan struct{}), keys: map[string]auth.Caller{}, held: map[string]*auth.Suspension{}, dbs: map[string]*pg.DB{}}
	file, err := run.ParseFile("runtest.yaml", []byte(config(opts, files)), names[1:], nil)
	if err != nil {
		t.Fatalf("runtest: %v", err)
	}
	for _, target := range opts.Targets {
		if !target.Stateless {
			p.dbs[target.Name] = opts.DB[target.Name]
			if p.dbs[target.Name] == nil {
				p.dbs[target.Name] = pgtest.Schema(t, target.Name)
			}
		}
	}
	p.start(opts, file)
	return p
}

func (p *Process) start(opts Options, file *run.File) {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	if opts.LogOutput == nil {
		log := &testLog{t: p.t}
		p.t.Cleanup(log.end) // runs after Stop: cleanups run last to first
		opts.LogOutput = log
	}
	if opts.Keys == nil && opts.Peers["tenancy"] == "" {
		opts.Keys = auth.ResolverFunc(p.resolve)
	}
	ready := make(chan run.Running, 1)
	go func() {
		defer close(p.done)
		p.err = run.Serve(ctx, run.ServeOptions{
			Config: file, Targets: opts.Targets, Now: opts.Now, LogOutput: opts.LogOutput,
			SpanProcessors: opts.SpanProcessors, Keys: opts.Keys, Standings: p.standing,
			OpenDB: func(_ context.Context, target string) (*pg.DB, error) { return p.dbs[target], nil },
			Ready:  func(r run.Running) { ready <- r },
		})
	}()
	p.t.Cleanup(p.Stop)
	select {
	case p.Running = <-ready:
	case <-p.done:
		p.t.Fatalf("runtest: the process ended before it was ready: %v", p.err)
	case <-time.After(time.Minute):
		p.t.Fatalf("runtest: the process is not ready after a minute: see the log")
	}
}

func config(opts Options, files rpc.Files) string {
	var b strings.Builder
	level := opts.LogLevel
	if level == "" {
		level = "warn"
	}
	fmt.Fprintf(&b, "log: {level: %s, format: text}\n", level)
	if opts.NATS == "" {
		fmt.Fprintf(&b, "nats: {embedded: {dir: %q}}\n", filepath.Join(opts.Dir, "nats"))
	} else {
		fmt.Fprintf(&b, "nats: {url: %q}\n", opts.NATS)
	}
	fmt.Fprintf(&b, "blob: {fs: {dir: %q}}\n", filepath.Join(opts.Dir, "blobs"))
	fmt.Fprintf(&b, "admin: {listen: '127.0.0.1:0'}\nhttp: {listen: '127.0.0.1:0'}\n")
	fmt.Fprintf(&b, "rpc:\n  listen: 127.0.0.1:0\n  tls: {cert_file: %q, key_file: %q, ca_file: %q}\n", files.Cert, files.Key, files.CA)
	if len(opts.Peers) > 0 {
		b.WriteString("  peers:\n")
		for name, address := range opts.Peers {
			fmt.Fprintf(&b, "    %s: %q\n", name, address)
		}
	}
	b.WriteString(opts.Config)
	return b.String()
}

// Stop drains the process and waits for its end. It may be called twice.
func (p *Process) Stop() {
	p.cancel()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatal("runtest: the process does not end")
	}
	if p.err != nil {
		p.t.Errorf("runtest: the process failed: %v", p.err)
		p.err = nil
	}
}

// Files are the certificates of the process: its targets, Client, and more
// names when asked for.
func (p *Process) Files() rpc.Files { return p.files }

// DB is the schema of a target.
func (p *Process) DB(target string) *pg.DB { return p.dbs[target] }

// Key makes a valid API key of the caller, whose Kind and ID may be empty.
func (p *Process) Key(c auth.Caller) string {
	p.t.Helper()
	key, err := auth.NewKey(c.Live)
	if err != nil {
		p.t.Fatalf("runtest: %v", err)
	}
	c.Kind = auth.KindKey
	if c.ID == "" {
		c.ID = auth.Visible(key)
	}
	p.mu.Lock()
	p.keys[key] = c
	p.mu.Unlock()
	return key
}

func (p *Process) resolve(_ context.Context, bearer string) (auth.Caller, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.keys[bearer]
	if !ok {
		return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "this API key is not known")
	}
	if c.Suspension == nil {
		c.Suspension = p.held[c.Tenant]
	}
	return c, nil
}

func (p *Process) standing(_ context.Context, name string) (*auth.Suspension, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[strings.TrimPrefix(name, "tenants/")], nil
}

// Suspend suspends a tenant as an operator would, for the callers of Key and Tenant, from the next call on.
func (p *Process) Suspend(tenant, reason string) {
	p.hold(tenant, &auth.Suspension{
		Subject: "tenants/" + tenant, Party: auth.RoleOperator, Reason: reason, Since: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)})
}

// Resume ends it.
func (p *Process) Resume(tenant string) { p.hold(tenant, nil) }

func (p *Process) hold(tenant string, s *auth.Suspension) {
	p.mu.Lock()
	p.held[tenant] = s
	p.mu.Unlock()
	for target := range p.dbs {
		p.Host(target).ForgetKeys()
	}
}

// Operator connects to a target with the key of an operator.
func (p *Process) Operator(target string) *grpc.ClientConn {
	p.t.Helper()
	return p.DialKey(target, p.Key(auth.Caller{Role: auth.RoleOperator, Scopes: []string{"*"}}))
}

// Tenant connects to a target with a key of the tenant; no scopes means all.
func (p *Process) Tenant(target, tenant string, scopes ...string) *grpc.ClientConn {
	p.t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"*"}
	}
	return p.DialKey(target, p.Key(auth.Caller{Role: auth.RoleTenant, Tenant: tenant, Scopes: scopes}))
}

// DialKey connects to a target with an API key and without client certificate.
func (p *Process) DialKey(target, key string) *grpc.ClientConn {
	p.t.Helper()
	return p.dial(target, "", key)
}

// DialAs connects to a target with the certificate of a service.
func (p *Process) DialAs(target, service string) *grpc.ClientConn {
	p.t.Helper()
	if _, err := rpc.DevCertificates(filepath.Dir(p.files.CA), service); err != nil {
		p.t.Fatalf("runtest: %v", err)
	}
	return p.dial(target, service, "")
}

func (p *Process) dial(target, service, key string) *grpc.ClientConn {
	p.t.Helper()
	tls, err := rpc.ClientTLS(p.files, service, target)
	if err != nil {
		p.t.Fatalf("runtest: %v", err)
	}
	conn, err := rpc.Dial(context.Background(), rpc.DialConfig{
		Address: p.RPC, TLS: tls, Agent: "runtest",
		Bearer: func(context.Context) (string, error) { return key, nil },
	})
	if err != nil {
		p.t.Fatalf("runtest: %v", err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// testLog writes the process's log into the test's, until the test is over.
type testLog struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

func (l *testLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.t.Logf("%s", strings.TrimRight(string(line), "\n"))
	}
	return len(line), nil
}

func (l *testLog) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
}

// Quiet is a logger for code under test that wants one and has nothing to say.
func Quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
