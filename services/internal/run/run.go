// Package run turns targets into a process: configuration, connections,
// servers, supervision, readiness, draining and the exit code. A target is a
// name and a function that wires; production (one target per process) and
// development (all in one) run through the same code.
//
// It refuses domain knowledge: it never reads an event, a document or a table
// of a service.
package run

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
)

// Target is one service as this package sees it.
type Target struct {
	Name string
	// Start wires the service: it reads its configuration, registers gRPC
	// methods, event handlers, jobs and supervised functions, and returns.
	// Nothing arrives before every target of the process has been wired.
	Start func(ctx context.Context, h *Host) error
	// Stateless targets have no schema: DB, Bus and Jobs of their host are nil.
	Stateless bool
	// Verbs are commands of the target beside serve.
	Verbs []Verb
}

// Host is what a target runs on. There is one per target, also when one
// process hosts several: each has its own database role, consumers, jobs and
// certificate.
type Host struct {
	Name  string
	Log   *slog.Logger
	DB    *pg.DB
	Bus   *bus.Bus
	Blobs blob.Store
	RPC   grpc.ServiceRegistrar
	HTTP  *http.ServeMux // served on http.listen; shared by the targets of a process
	Admin *http.ServeMux // served on admin.listen; shared by the targets of a process
	Jobs  *Jobs
	Now   func() time.Time

	process *process
	section string              // config section: Name
	only    func(dst any) error // set when only the configuration is wanted

	mu       sync.Mutex
	breakers map[string]*Breaker
	conns    map[string]*grpc.ClientConn
	missing  []error // peers that were dialled and have no address
	checks   []check // readiness of this target
	loops    []loop  // supervised functions
}

type loop struct {
	name string
	fn   func(ctx context.Context) error
}

type check struct {
	name string
	fn   func(ctx context.Context) error
}

// Go runs fn, supervised, once every target of the process has been wired. Its
// context ends when the process drains; fn then finishes what it holds and
// returns. An error or panic of fn ends the process.
func (h *Host) Go(name string, fn func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.loops = append(h.loops, loop{name: name, fn: fn})
}

// Check adds a condition to the target's readiness, for example that Vault
// answers. It is asked every few seconds with a short deadline; its error is
// shown at /readyz.
func (h *Host) Check(name string, fn func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name: name, fn: fn})
}

// SetResolver makes this target the one that answers who an API key belongs
// to; the tenancy target calls it. Without, the process asks the tenancy
// service over gRPC. Answers are cached for auth.key_ttl either way.
func (h *Host) SetResolver(r auth.Resolver) { h.process.keys.set(r) }

// SetStandings makes this target the one that answers whether a tenant or
// reseller (by its name) is suspended; the tenancy target calls it. Without,
// the process asks the tenancy service. Answers are cached for auth.key_ttl.
func (h *Host) SetStandings(fn func(ctx context.Context, name string) (*auth.Suspension, error)) {
	h.process.standings.set(fn)
}

// Suspension says whether a tenant, by its id, is suspended now, for what would
// begin something without a caller; nil when it is not. It may ask the tenancy
// service, so it is not called within a transaction.
func (h *Host) Suspension(ctx context.Context, tenant string) (*auth.Suspension, error) {
	return h.process.standings.of(ctx, auth.Caller{Role: auth.RoleTenant, Tenant: tenant})
}

// ForgetKeys empties the caches of API keys and of standings of this process,
// so that a revocation or suspension made here holds at once.
func (h *Host) ForgetKeys() {
	h.process.keys.cache.Forget()
	h.process.standings.cache.Forget()
}

// Await tries fn until it succeeds, for as long as start.wait allows: for
// outside systems that a target cannot start without. what names the system
// and its address, mend says how to repair; both are in the log and in the
// final error.
func (h *Host) Await(ctx context.Context, what, mend string, fn func(ctx context.Context) error) error {
	return h.process.await(ctx, what, mend, fn)
}

// Admit lets a target offer on HTTP what it offers over gRPC: see [rpc.Server.Admit].
func (h *Host) Admit(ctx context.Context, method, authorization string) (context.Context, auth.Caller, error) {
	return h.process.rpc.Admit(ctx, method, authorization)
}
