package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/riverqueue/river"
	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
)

// process is everything that the hosts of one process share.
type process struct {
	file  *File
	cfg   *Config
	opts  ServeOptions
	id    string // host name and pid: names this process in NATS and river
	log   *slog.Logger
	now   func() time.Time
	tel   *telemetry.Telemetry
	files rpc.Files

	embedded  *server.Server
	nats      *nats.Conn
	blobs     blob.Store
	keys      *keyResolver
	standings *standings
	rpc       *rpc.Server
	admin     *http.ServeMux
	web       *http.ServeMux
	hosts     []*Host

	rpcListener, adminListener, webListener net.Listener
	webServer                               *http.Server // nil when http.listen is empty

	ready  atomic.Bool // wired and not draining
	status readiness

	mu    sync.Mutex
	plans map[string]map[string]jobPlan // target -> job kind -> plan
	wire  []error                       // mistakes made while wiring
}

func newProcess(opts ServeOptions) (*process, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("run: host name: %w", err)
	}
	p := &process{
		file: opts.Config, cfg: &opts.Config.Config, opts: opts,
		id:    host + "-" + strconv.Itoa(os.Getpid()),
		now:   opts.Now,
		admin: http.NewServeMux(), web: http.NewServeMux(),
		plans: map[string]map[string]jobPlan{},
	}
	if p.now == nil {
		p.now = time.Now
	}
	p.files = rpc.Files{Cert: p.cfg.RPC.TLS.Cert, Key: p.cfg.RPC.TLS.Key, CA: p.cfg.RPC.TLS.CA}
	p.keys = newKeyResolver(p.cfg.Auth.KeyTTL, p.now)
	p.standings = newStandings(p.cfg.Auth.KeyTTL, p.now)
	return p, nil
}

// targetNames of this process, in the order given.
func (p *process) targetNames() []string { return namesOf(p.opts.Targets) }

func (p *process) plan(target, kind string, plan jobPlan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plans[target] == nil {
		p.plans[target] = map[string]jobPlan{}
	}
	p.plans[target][kind] = plan
}

func (p *process) planOf(target, kind string) (jobPlan, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	plan, ok := p.plans[target][kind]
	return plan, ok
}

func (h *Host) wireFault(err error) {
	h.process.mu.Lock()
	defer h.process.mu.Unlock()
	h.process.wire = append(h.process.wire, err)
}

// attemptTime is the longest of one attempt of await.
const attemptTime = 10 * time.Second

// await tries fn with growing pauses until it succeeds or start.wait is over.
// A reason is logged when it is new, and again every ten seconds.
func (p *process) await(ctx context.Context, what, mend string, fn func(ctx context.Context) error) error {
	begin, pause := time.Now(), 100*time.Millisecond
	var last string
	var said time.Time
	p.status.waiting(what, errors.New("no answer yet"))
	for attempt := 1; ; attempt++ {
		try, cancel := context.WithTimeout(ctx, attemptTime)
		err := fn(try)
		var told *fault.Fault
		if try.Err() != nil && errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &told) {
			err = fmt.Errorf("no answer within %s: %w", attemptTime, err)
		}
		cancel()
		if err == nil {
			p.status.reached(what)
			if attempt > 1 {
				p.log.Info("reached at last", "what", what, "after", time.Since(begin).Round(time.Millisecond))
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var final giveUp
		if errors.As(err, &final) || time.Since(begin) >= p.cfg.Start.Wait {
			return fmt.Errorf("run: %s cannot be used: %w (tried %d times in %s). To mend it: %s",
				what, err, attempt, time.Since(begin).Round(time.Second), mend)
		}
		if err.Error() != last || time.Since(said) > 10*time.Second {
			last, said = err.Error(), time.Now()
			p.status.waiting(what, err)
			p.log.Warn("waiting", "what", what, "error", err, "mend", mend, "patience", p.cfg.Start.Wait.String())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(pause*2, 2*time.Second)
	}
}

// host makes the ground a target stands on.
func (p *process) host(ctx context.Context, t Target) (*Host, error) {
	h := &Host{
		Name: t.Name, Log: p.log.With("target", t.Name), Blobs: p.blobs, RPC: p.rpc,
		HTTP: p.web, Admin: p.admin, Now: p.now,
		process: p, section: t.Name,
		breakers: map[string]*Breaker{}, conns: map[string]*grpc.ClientConn{},
	}
	p.hosts = append(p.hosts, h)
	if t.Stateless {
		return h, nil
	}
	var err error
	if h.DB, err = p.openDB(ctx, t.Name); err != nil {
		return nil, err
	}
	h.Bus, err = bus.Open(ctx, bus.Config{
		Service: t.Name, NATS: p.nats, DB: h.DB, Log: h.Log, Now: p.now, Replicas: p.cfg.NATS.Replicas,
	})
	if err != nil {
		return nil, err
	}
	h.Jobs = &Jobs{host: h, workers: river.NewWorkers(), queues: map[string]river.QueueConfig{}}
	h.Bus.HandleRetry(bus.KindJob, h.Jobs.retryParked)
	return h, nil
}

// openDB connects a target to its schema and waits until it can be used.
func (p *process) openDB(ctx context.Context, target string) (*pg.DB, error) {
	if p.opts.OpenDB != nil {
		return p.opts.OpenDB(ctx, target)
	}
	dsn, role, conns, err := p.cfg.Database.forTarget(target)
	if err != nil {
		return nil, p.file.locate("", err)
	}
	if p.cfg.Database.MigrateAtStart {
		if err := p.migrate(ctx, target); err != nil {
			return nil, err
		}
	}
	cfg := pg.Config{
		URL: dsn, Schema: pg.SchemaName(target), MaxConns: conns, ApplicationName: "ceralaccad " + target,
		MinConns:     conns / 2, // a call does not wait for a login
		TraceQueries: p.cfg.Database.TraceQueries, Log: p.log,
	}
	if p.cfg.Database.AssumeRole {
		cfg.Role = role
	}
	if err := pg.CheckURL(dsn); err != nil {
		return nil, p.file.locate("", BadField("database.url", "%v (for %s)", err, target))
	}
	db, err := pg.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	err = p.await(ctx, "PostgreSQL for target "+target,
		"start PostgreSQL, correct database.url in "+p.file.path+", or run `ceralaccad migrate`", db.Ping)
	if err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

// migrate brings the schema of a target up to date.
func (p *process) migrate(ctx context.Context, target string) error {
	c := p.cfg.Database
	u, err := postgresURL(c.fill(c.AdminURL, target))
	if err != nil {
		return p.file.locate("", BadField("database.admin_url", "%v", err))
	}
	url, err := withPassword(u, c.AdminPasswordFile)
	if err != nil {
		return p.file.locate("", BadField("database.admin_password_file", "%v", err))
	}
	if err := pg.CheckURL(url); err != nil {
		return p.file.locate("", BadField("database.admin_url", "%v", err))
	}
	return p.await(ctx, "PostgreSQL for the migration of "+target,
		"start PostgreSQL, or correct database.admin_url in "+p.file.path,
		func(context.Context) error {
			// Migrations may take longer than one attempt of await.
			err := pg.Migrate(ctx, url, target, c.fill("{role}", target))
			var said *pgconn.PgError
			if errors.As(err, &said) && said.Code == "28P01" {
				return giveUp{fmt.Errorf("%w: database.admin_password_file does not hold the password of this role", err)}
			}
			if err != nil && fault.Of(err).Kind != fault.KindUnavailable {
				return giveUp{err}
			}
			return err
		})
}

// openBlobs makes the store that all targets share.
func openBlobs(cfg BlobConfig) (blob.Store, error) {
	if cfg.FS.Dir != "" {
		return blob.OpenFS(cfg.FS.Dir)
	}
	var access, secret string
	var err error
	if cfg.S3.AccessKeyFile != "" {
		if access, err = ReadSecret(cfg.S3.AccessKeyFile); err != nil {
			return nil, err
		}
	}
	if cfg.S3.SecretKeyFile != "" {
		if secret, err = ReadSecret(cfg.S3.SecretKeyFile); err != nil {
			return nil, err
		}
	}
	return blob.OpenS3(blob.S3Config{
		Endpoint: cfg.S3.Endpoint, Bucket: cfg.S3.Bucket, Prefix: cfg.S3.Prefix, Region: cfg.S3.Region,
		AccessKey: access, SecretKey: secret, Insecure: cfg.S3.Insecure,
	})
}

// resolver accepts API keys and, when configured, tokens of an identity provider.
func (p *process) resolver() (auth.Resolver, error) {
	b := auth.Bearers{Keys: p.keys}
	if c := p.cfg.Auth.OIDC; c.Issuer != "" {
		tokens, err := auth.NewOIDC(auth.OIDCConfig{
			Issuer: c.Issuer, Audience: c.Audience, TenantClaim: c.TenantClaim,
			ResellerClaim: c.ResellerClaim, RoleClaim: c.RoleClaim, ScopeClaim: c.ScopeClaim, Now: p.now,
		})
		if err != nil {
			return nil, err
		}
		b.Tokens = auth.ResolverFunc(func(ctx context.Context, bearer string) (auth.Caller, error) {
			c, err := tokens.Resolve(ctx, bearer)
			if err != nil {
				return auth.Caller{}, err
			}
			c.Suspension, err = p.standings.of(ctx, c)
			return c, err
		})
	}
	return b, nil
}

// missingPeers reports the targets that were dialled and have no address.
func (p *process) missingPeers() error {
	var errs []error
	for _, h := range p.hosts {
		errs = append(errs, h.missing...)
	}
	return errors.Join(errs...)
}

// known lists the names of a map, sorted, for messages.
func known[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// giveUp is an error that trying again cannot mend.
type giveUp struct{ error }

func (g giveUp) Unwrap() error { return g.error }

// Config decodes the section of this target into dst, a pointer to a struct
// that holds the defaults. Unknown keys, wrong types and what dst's own
// Validate refuses stop the start, with file, line and column. The environment
// overrides the file: CERALACCA_<TARGET>_<KEY>.
func (h *Host) Config(dst any) error {
	if h.only != nil {
		return h.only(dst)
	}
	return h.process.file.Section(h.section, dst)
}
