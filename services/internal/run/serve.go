package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	operationsv1 "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
)

// ServeOptions is what Serve needs. Config and Targets are required.
type ServeOptions struct {
	Config  *File
	Targets []Target // hosted by this process, wired in this order
	Version string

	Now       func() time.Time
	LogOutput io.Writer // default: standard error
	// SpanProcessors see every span of the process, for example to show a trace.
	SpanProcessors []sdktrace.SpanProcessor
	// OpenDB replaces the database section, for tests that bring a schema.
	OpenDB func(ctx context.Context, target string) (*pg.DB, error)
	// Keys answers API keys when no target does (Host.SetResolver), instead of
	// the tenancy service, for tests; Standings then says who is suspended.
	Keys      auth.Resolver
	Standings func(ctx context.Context, name string) (*auth.Suspension, error)
	// Ready is called once, when the process has become ready.
	Ready func(Running)
}

// Running is a process that serves.
type Running struct {
	RPC, Admin, HTTP string // addresses listened on; HTTP is "" when not served
	process          *process
}

// Host of a target of this process; nil when it hosts no such target.
func (r Running) Host(target string) *Host {
	for _, h := range r.process.hosts {
		if h.Name == target {
			return h
		}
	}
	return nil
}

// Serve runs the targets until ctx ends, then drains: it reports not ready,
// refuses new work, finishes what it holds and closes everything. The error is
// nil after an orderly end.
func Serve(ctx context.Context, opts ServeOptions) (err error) {
	if opts.Config == nil || len(opts.Targets) == 0 {
		return errors.New("run: Serve needs a configuration and at least one target")
	}
	tuneCollector()
	p, err := newProcess(opts)
	if err != nil {
		return err
	}
	p.tel, err = telemetry.Setup(ctx, telemetry.Config{
		Service: serviceName(p.targetNames()), Version: opts.Version,
		OTLPEndpoint: p.cfg.OTLP.Endpoint, SampleRatio: p.cfg.OTLP.SampleRatio,
		LogLevel: p.cfg.Log.Level, LogFormat: p.cfg.Log.Format, LogOutput: opts.LogOutput,
		SpanProcessors: opts.SpanProcessors,
	})
	if err != nil {
		return err
	}
	p.log = p.tel.Log
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if e := p.tel.Shutdown(end); e != nil {
			p.log.Warn("telemetry shutdown", "error", e)
		}
	}()
	return p.serve(ctx)
}

// tuneCollector lets small heaps grow before they are collected: the live heap of a service is some 20 MB,
// and with Go's default a busy one would spend a tenth of its time collecting garbage. Above the limit the
// collector works as hard as it must. GOGC and GOMEMLIMIT win.
func tuneCollector() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(1 << 30)
}

func serviceName(targets []string) string {
	if len(targets) == 1 {
		return targets[0]
	}
	return "ceralaccad"
}

// serve opens, wires, runs and closes, in this order; whatever was opened is
// closed, however far it got.
func (p *process) serve(ctx context.Context) (err error) {
	defer p.close()
	if err := p.listen(); err != nil {
		return err
	}
	sup := newSupervisor(ctx, p.log)
	defer sup.cancel(nil)
	admin := p.serveAdmin(sup)
	defer admin.Close()

	if err := p.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while still waiting for something
		}
		return err
	}
	if err := p.wireTargets(ctx); err != nil {
		return err
	}
	stop, err := p.start(sup)
	if err != nil {
		return err
	}
	p.ready.Store(true)
	p.log.Info("serving", "targets", p.targetNames(), "rpc", p.rpcListener.Addr().String(), "admin", p.adminListener.Addr().String())
	go p.watch(sup.ctx)

	<-sup.ctx.Done()
	p.drain(ctx, stop)
	return sup.wait()
}

// listen takes the addresses first: a port in use is the cheapest mistake to find.
func (p *process) listen() error {
	take := func(section, address string) (net.Listener, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			told := p.file.locate("", BadField(section+".listen", "%q cannot be listened on: %v", address, err))
			if errors.Is(err, syscall.EADDRINUSE) { // the file may be right, and an earlier process still there
				told = errors.New(told.Error())
			}
			return nil, told
		}
		return l, nil
	}
	var err error
	if p.adminListener, err = take("admin", p.cfg.Admin.Listen); err != nil {
		return err
	}
	if p.rpcListener, err = take("rpc", p.cfg.RPC.Listen); err != nil {
		return err
	}
	if p.cfg.HTTP.Listen != "" {
		p.webListener, err = take("http", p.cfg.HTTP.Listen)
	}
	return err
}

// open connects to what all targets share.
func (p *process) open(ctx context.Context) error {
	tls, err := rpc.ServerTLS(p.files, p.targetNames()...)
	if err != nil {
		return p.file.locate("", BadField("rpc.tls", "%v", err))
	}
	if p.blobs, err = openBlobs(p.cfg.Blob); err != nil {
		return p.file.locate("", BadField("blob", "%v", err))
	}
	if err := p.await(ctx, "the blob store", "correct the blob section of "+p.file.path+" or repair the store", p.blobs.Check); err != nil {
		return err
	}
	if err := p.connect(ctx); err != nil {
		return err
	}
	resolver, err := p.resolver()
	if err != nil {
		return p.file.locate("", BadField("auth.oidc", "%v", err))
	}
	p.rpc = rpc.NewServer(rpc.Config{
		TLS: tls, Resolver: resolver, Log: p.log, Now: p.now, Deadline: p.cfg.RPC.Deadline,
		Enrich: func(ctx context.Context, c auth.Caller) context.Context {
			return telemetry.WithTenant(telemetry.WithActor(ctx, c.Actor()), c.Tenant)
		},
	})
	return p.observeBreakers()
}

// wireTargets lets each target register what it does.
func (p *process) wireTargets(ctx context.Context) error {
	for _, t := range p.opts.Targets {
		h, err := p.host(ctx, t)
		if err != nil {
			return fmt.Errorf("target %s: %w", t.Name, err)
		}
		if err := t.Start(ctx, h); err != nil {
			return fmt.Errorf("target %s: %w", t.Name, p.file.place(t.Name, err))
		}
	}
	operationsv1.RegisterOperationsServiceServer(p.rpc, &operations{process: p})
	if !p.keys.isSet() && p.opts.Keys != nil {
		p.keys.set(p.opts.Keys)
		p.standings.set(p.opts.Standings)
	}
	if !p.keys.isSet() {
		remote := newRemoteKeys(p.hosts[0].Dial("tenancy"))
		p.keys.set(remote)
		p.standings.set(remote.standing)
	}
	return errors.Join(append(p.wire, p.missingPeers(), p.rpc.Err())...)
}

// start sets everything going and returns what ends the jobs.
func (p *process) start(sup *supervisor) (stop func(context.Context) error, err error) {
	for _, h := range p.hosts {
		if h.Jobs == nil {
			continue
		}
		// River gets a context of its own: it is stopped by drain, in order.
		if err := h.Jobs.start(context.WithoutCancel(sup.ctx)); err != nil {
			return nil, errors.Join(err, p.stopJobs(sup.ctx))
		}
	}
	sup.run("grpc", func(context.Context) error { return p.rpc.Serve(p.rpcListener) })
	if p.webListener != nil {
		p.serveWeb(sup)
	}
	for _, h := range p.hosts {
		if h.Bus != nil {
			sup.run("bus "+h.Name, h.Bus.Run)
		}
		for _, l := range h.loops {
			sup.run(h.Name+" "+l.name, l.fn)
		}
	}
	return p.stopJobs, nil
}

func (p *process) stopJobs(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(p.hosts))
	for i, h := range p.hosts {
		if h.Jobs != nil {
			wg.Go(func() { errs[i] = h.Jobs.stop(ctx) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// drain ends the process in order: out of rotation, no new calls, running
// calls and jobs finished. Consumers and loops saw their context end already.
func (p *process) drain(ctx context.Context, stopJobs func(context.Context) error) {
	p.ready.Store(false)
	p.log.Info("draining", "patience", p.cfg.Start.Drain.String())
	time.Sleep(p.cfg.Start.DrainDelay)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.Start.Drain)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { p.rpc.Stop(limit) })
	if p.webServer != nil {
		wg.Go(func() { _ = p.webServer.Shutdown(limit) }) // past the limit the process ends anyway
	}
	wg.Go(func() {
		if err := stopJobs(limit); err != nil {
			p.log.Error("jobs did not stop in time: they run again at the next start", "error", err)
		}
	})
	wg.Wait()
}

// close gives back everything, in reverse.
func (p *process) close() {
	for _, h := range p.hosts {
		for _, conn := range h.conns {
			_ = conn.Close() // nothing is pending on it
		}
		if h.DB != nil {
			h.DB.Close()
		}
	}
	if p.nats != nil {
		p.nats.Close()
	}
	if p.embedded != nil {
		p.embedded.Shutdown()
		p.embedded.WaitForShutdown()
	}
	for _, l := range []net.Listener{p.rpcListener, p.adminListener, p.webListener} {
		if l != nil {
			_ = l.Close() // closed already when its server ran
		}
	}
}

// serveWeb serves Host.HTTP.
func (p *process) serveWeb(sup *supervisor) {
	srv := &http.Server{
		Handler: p.web, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	p.webServer = srv
	sup.run("http", func(context.Context) error {
		var err error
		if p.cfg.HTTP.CertFile != "" {
			err = srv.ServeTLS(p.webListener, p.cfg.HTTP.CertFile, p.cfg.HTTP.KeyFile)
		} else {
			err = srv.Serve(p.webListener)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	})
}

// supervisor runs functions until one fails or the parent ends, then ends all.
type supervisor struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	log    *slog.Logger
	wg     sync.WaitGroup

	mu    sync.Mutex
	first error
}

func newSupervisor(ctx context.Context, log *slog.Logger) *supervisor {
	ctx, cancel := context.WithCancelCause(ctx)
	return &supervisor{ctx: ctx, cancel: cancel, log: log}
}

func (s *supervisor) run(name string, fn func(ctx context.Context) error) {
	s.wg.Go(func() {
		err := guarded(s.ctx, fn)
		if err == nil || (s.ctx.Err() != nil && errors.Is(err, context.Canceled)) {
			return
		}
		err = fmt.Errorf("run: %s: %w", name, err)
		s.mu.Lock()
		if s.first == nil {
			s.first = err
		}
		s.mu.Unlock()
		s.log.Error("a part of the process failed; the process ends", "part", name, "error", err)
		s.cancel(err)
	})
}

// wait returns the first failure once everything has ended.
func (s *supervisor) wait() error {
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

func guarded(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(ctx)
}
