package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ceralacca.dev/services/internal/fault"
)

// readiness is what /readyz shows: per target, each condition and its error.
type readiness struct {
	mu      sync.Mutex
	targets map[string]map[string]string // target -> condition -> error, "" when it holds
	await   map[string]string            // before serving: what is waited for and why
}

func (r *readiness) waiting(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.await == nil {
		r.await = map[string]string{}
	}
	r.await[what] = err.Error()
}

func (r *readiness) reached(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.await, what)
}

// patience is how long the answer of one condition is waited for.
const patience = 2 * time.Second

// asked is what fn finds out about what within the patience.
func asked(ctx context.Context, what string, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := fn(ctx)
	var told *fault.Fault
	if errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &told) { // a fault says itself what was waited for
		return fmt.Errorf("%s gave no answer within %s", what, patience)
	}
	return err
}

// watchEvery is how often the conditions are looked at.
const watchEvery = 2 * time.Second

// watch keeps the readiness of each target current until ctx ends, and tells
// the first time when all of them are ready.
func (p *process) watch(ctx context.Context) {
	told := false
	for {
		all, well := true, p.lookAll(ctx, told)
		for i, h := range p.hosts {
			p.rpc.SetServing(h.Name, well[i])
			all = all && well[i]
		}
		p.rpc.SetServing("", all)
		if all && !told && ctx.Err() == nil {
			told = true
			p.log.Info("ready", "targets", p.targetNames())
			if p.opts.Ready != nil {
				p.opts.Ready(p.running())
			}
		}
		pause := watchEvery
		if !told {
			pause = 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (p *process) running() Running {
	r := Running{RPC: loopback(p.rpcListener.Addr().String()), Admin: loopback(p.adminListener.Addr().String()), process: p}
	if p.webListener != nil {
		r.HTTP = loopback(p.webListener.Addr().String())
	}
	return r
}

// shared are the conditions of all targets of the process.
type shared struct{ blobs, nats error }

// lookAtShared asks the document store, and whether NATS answers: a connection to a server that hangs looks well for
// half a minute.
func (p *process) lookAtShared(ctx context.Context) (s shared) {
	var wg sync.WaitGroup
	wg.Go(func() { s.blobs = asked(ctx, p.blobPlace(), p.blobs.Check) })
	wg.Go(func() {
		if p.nats.IsConnected() { // else the bus says so
			s.nats = asked(ctx, "NATS at "+serversOf(p.nats.ConnectedUrl()), p.nats.FlushWithContext)
		}
	})
	wg.Wait()
	return s
}

func (p *process) blobPlace() string {
	if c := p.cfg.Blob; c.FS.Dir == "" {
		return "the document store, bucket " + c.S3.Bucket + " at " + c.S3.Endpoint + ","
	}
	return "the document store " + p.cfg.Blob.FS.Dir
}

// conditions asks every condition of a target, side by side: what hangs takes the time of no other.
func (p *process) conditions(ctx context.Context, h *Host, all shared) map[string]string {
	h.mu.Lock()
	checks := slices.Clone(h.checks)
	h.mu.Unlock()
	checks = append(checks, check{"blobs", func(context.Context) error { return all.blobs }})
	if h.Bus != nil {
		checks = append(checks, check{"bus", func(context.Context) error { return cmp.Or(h.Bus.Ready(), all.nats) }})
	}
	if h.DB != nil {
		checks = append(checks, check{"database", h.DB.Ping})
	}
	answers := make([]string, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			if err := asked(ctx, c.name, c.fn); err != nil {
				answers[i] = err.Error()
			}
		})
	}
	wg.Wait()
	found := map[string]string{}
	for i, c := range checks {
		found[c.name] = answers[i]
	}
	return found
}

// lookAll looks at all targets, side by side too: a database that hangs for all of them is waited for once.
func (p *process) lookAll(ctx context.Context, told bool) []bool {
	shared, well := p.lookAtShared(ctx), make([]bool, len(p.hosts))
	var wg sync.WaitGroup
	for i, h := range p.hosts {
		wg.Go(func() { well[i] = p.look(ctx, h, shared, told) })
	}
	wg.Wait()
	return well
}

// look asks every condition of a target and, once the process has been ready,
// logs those that changed.
func (p *process) look(ctx context.Context, h *Host, all shared, told bool) bool {
	found := p.conditions(ctx, h, all)
	p.status.mu.Lock()
	if p.status.targets == nil {
		p.status.targets = map[string]map[string]string{}
	}
	before := p.status.targets[h.Name]
	p.status.targets[h.Name] = found
	p.status.await = nil
	p.status.mu.Unlock()

	ok := true
	for name, problem := range found {
		ok = ok && problem == ""
		switch was := before[name]; {
		case told && problem != "" && was == "":
			h.Log.Error("not ready", "condition", name, "error", problem)
		case told && problem == "" && was != "":
			h.Log.Info("ready again", "condition", name)
		}
	}
	return ok
}

// snapshot is the answer of /readyz; target "" means all of them.
func (p *process) snapshot(target string) (ok bool, body map[string]any) {
	p.status.mu.Lock()
	defer p.status.mu.Unlock()
	ok = p.ready.Load()
	targets := map[string]any{}
	for name, conditions := range p.status.targets {
		if target != "" && name != target {
			continue
		}
		targets[name] = conditions
		for _, problem := range conditions {
			ok = ok && problem == ""
		}
	}
	ok = ok && len(targets) > 0
	body = map[string]any{"ready": ok, "targets": targets}
	if len(p.status.await) > 0 {
		body["waiting_for"] = maps.Clone(p.status.await) // it changes while the answer is written
	}
	return ok, body
}

// serveAdmin serves probes, metrics and profiles from the first moment on, so
// that a process which waits for its database can say so.
func (p *process) serveAdmin(sup *supervisor) *http.Server {
	p.admin.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"alive": true, "targets": p.targetNames()})
	})
	p.admin.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ok, body := p.snapshot(r.URL.Query().Get("target"))
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, body)
	})
	p.admin.Handle("GET /metrics", p.tel.Handler())
	p.admin.HandleFunc("GET /breakers", func(w http.ResponseWriter, r *http.Request) {
		if !p.ready.Load() {
			writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": "the process is not serving yet"})
			return
		}
		writeJSON(w, http.StatusOK, p.breakerStates(r.URL.Query().Get("target")))
	})
	p.admin.HandleFunc("GET /jobs", p.handleJobs)
	p.admin.HandleFunc("GET /config", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write([]byte(p.file.Effective(r.URL.Query().Get("target")))) // the reader went away
	})
	p.admin.HandleFunc("GET /debug/pprof/", pprof.Index)
	p.admin.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	p.admin.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	p.admin.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	p.admin.HandleFunc("GET /debug/pprof/trace", pprof.Trace)

	srv := &http.Server{
		Handler: p.admin, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	// Not under the supervisor: probes are answered until the very end.
	go func() {
		if err := srv.Serve(p.adminListener); !errors.Is(err, http.ErrServerClosed) {
			sup.cancel(fmt.Errorf("run: admin port: %w", err))
		}
	}()
	return srv
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) // the reader went away
}

// pendingJob is one line of /jobs.
type pendingJob struct {
	Target    string    `json:"target"`
	ID        int64     `json:"id"`
	Kind      string    `json:"kind"`
	State     string    `json:"state"`
	Attempt   int       `json:"attempt"`
	Scheduled time.Time `json:"scheduled_at"`
	LastError string    `json:"last_error,omitempty"`
}

// handleJobs lists jobs that are waiting, running or to be retried.
func (p *process) handleJobs(w http.ResponseWriter, r *http.Request) {
	if !p.ready.Load() {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"error": "the process is not serving yet"})
		return
	}
	target, jobs := r.URL.Query().Get("target"), []pendingJob{}
	for _, h := range p.hosts {
		if h.Jobs == nil || (target != "" && target != h.Name) {
			continue
		}
		found, err := h.Jobs.pending(r.Context(), 200)
		if err != nil {
			writeJSON(w, http.StatusInternalServerError, map[string]any{"error": err.Error()})
			return
		}
		jobs = append(jobs, found...)
	}
	writeJSON(w, http.StatusOK, jobs)
}

func (j *Jobs) pending(ctx context.Context, limit int) ([]pendingJob, error) {
	result, err := j.client.JobList(ctx, river.NewJobListParams().First(limit).States(
		rivertype.JobStateAvailable, rivertype.JobStateRetryable, rivertype.JobStateRunning, rivertype.JobStateScheduled))
	if err != nil {
		return nil, fmt.Errorf("run: list jobs of %s: %w", j.host.Name, err)
	}
	jobs := make([]pendingJob, 0, len(result.Jobs))
	for _, job := range result.Jobs {
		line := pendingJob{
			Target: j.host.Name, ID: job.ID, Kind: job.Kind, State: string(job.State),
			Attempt: job.Attempt, Scheduled: job.ScheduledAt,
		}
		if n := len(job.Errors); n > 0 {
			line.LastError = strings.TrimSpace(job.Errors[n-1].Error)
		}
		jobs = append(jobs, line)
	}
	return jobs, nil
}
