package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// Jobs is the target's queue of promised acts (river, in the target's schema):
// whatever must happen after a transaction, at a time, or again.
type Jobs struct {
	host    *Host
	workers *river.Workers
	queues  map[string]river.QueueConfig
	client  *river.Client[pgx.Tx] // works jobs; nil until the target has been wired
	promise *river.Client[pgx.Tx] // inserts jobs, see promise.go
	books   *pg.DB                // river's own bookkeeping
	knocks  chan string           // queues that have new jobs
	die     context.CancelFunc    // gives up the lock that says that this client lives
	dead    chan struct{}
}

// WorkOptions says how the jobs of one kind are worked.
type WorkOptions struct {
	Queue       string        // default: the kind of the job
	Workers     int           // jobs worked at the same time; default 4
	MaxAttempts int           // then the job is parked; default 20 (about two hours with the backoff)
	Timeout     time.Duration // of one attempt; default 1 min
}

// jobMeta is what a job remembers of the transaction that promised it.
type jobMeta struct {
	Traceparent string `json:"traceparent,omitempty"`
	Tenant      string `json:"tenant,omitempty"`
	Correlation string `json:"correlation,omitempty"`
	Causation   string `json:"causation,omitempty"`
}

// jobPlan is where the jobs of a kind go.
type jobPlan struct {
	queue       string
	maxAttempts int
}

// Work registers the worker of the jobs of type A; it is called while the
// target is wired. fn gets a context with the trace, tenant, correlation and
// causation of the transaction that inserted the job. It must be safe to run
// twice: a crash after the act and before its record repeats it.
//
// A permanent fault, or the last attempt failing, parks the job: it is kept
// with its arguments, shown to operators and can be retried. Anything else is
// retried with growing pauses (or RetryAfter of the fault). A job can be put
// off without counting an attempt by returning river.JobSnooze.
func Work[A river.JobArgs](h *Host, opts WorkOptions, fn func(ctx context.Context, job *river.Job[A]) error) {
	var zero A
	opts.Queue = cmp.Or(opts.Queue, zero.Kind())
	opts.Workers = cmp.Or(opts.Workers, 4)
	opts.MaxAttempts = cmp.Or(opts.MaxAttempts, 20)
	opts.Timeout = cmp.Or(opts.Timeout, time.Minute)
	w := &worker[A]{host: h, opts: opts, fn: fn}
	if err := river.AddWorkerSafely(h.Jobs.workers, w); err != nil {
		h.wireFault(fmt.Errorf("run: jobs of kind %s: %w", zero.Kind(), err))
		return
	}
	queue := h.Jobs.queues[opts.Queue]
	queue.MaxWorkers += opts.Workers
	h.Jobs.queues[opts.Queue] = queue
	h.process.plan(h.Name, zero.Kind(), jobPlan{queue: opts.Queue, maxAttempts: opts.MaxAttempts})
}

// start makes the river client, once the target has registered its workers.
func (j *Jobs) start(ctx context.Context) error {
	// A restarted container has the host name and the pid of the one before it; a client has neither.
	clientID := fmt.Sprintf("%s-%s-%x", j.host.process.id, j.host.Name, rand.Uint64())
	cfg := &river.Config{
		ID:                          clientID,
		Schema:                      j.host.DB.Schema(),
		Logger:                      j.host.Log,
		Workers:                     j.workers,
		FetchCooldown:               40 * time.Millisecond, // the first job starts at once; of a stream of jobs several are fetched together
		FetchPollInterval:           time.Second,
		CompletedJobRetentionPeriod: 10 * time.Minute,
		JobTimeout:                  -1, // each kind has its own, see WorkOptions
		RescueStuckJobsAfter:        15 * time.Minute,
		// The service's role does not own river's tables and may not reindex them.
		ReindexerIndexNames: []string{},
	}
	if len(j.queues) > 0 {
		cfg.Queues = j.queues
	}
	if err := j.open(ctx); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(j.books.Pool()), cfg)
	if err != nil {
		return fmt.Errorf("run: jobs of %s: %w", j.host.Name, err)
	}
	j.client = client
	if len(j.queues) == 0 {
		return nil // inserts only
	}
	life, die := context.WithCancel(context.WithoutCancel(ctx))
	lost, err := j.hold(life, clientID)
	if err != nil {
		die()
		return fmt.Errorf("run: start jobs of %s: %w", j.host.Name, err)
	}
	j.die, j.dead = die, make(chan struct{})
	go func() {
		defer close(j.dead)
		knocking := make(chan struct{})
		go func() { defer close(knocking); j.knock(life) }()
		j.live(life, clientID, lost)
		<-knocking
	}()
	if err := client.Start(ctx); err != nil {
		j.release()
		return fmt.Errorf("run: start jobs of %s: %w", j.host.Name, err)
	}
	return nil
}

// release gives up the lock that says that this client lives.
func (j *Jobs) release() {
	if j.die != nil {
		j.die()
		<-j.dead
	}
	j.books.Close()
}

// stop lets running jobs finish until ctx ends, then cancels them; a cancelled
// job runs again at the next start.
func (j *Jobs) stop(ctx context.Context) error {
	if j.client == nil {
		return nil
	}
	defer j.release()
	if len(j.queues) == 0 {
		return nil
	}
	if err := j.client.Stop(ctx); err == nil {
		return nil
	}
	hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := j.client.StopAndCancel(hard); err != nil {
		return fmt.Errorf("run: stop jobs of %s: %w", j.host.Name, err)
	}
	return nil
}

type worker[A river.JobArgs] struct {
	river.WorkerDefaults[A]
	host *Host
	opts WorkOptions
	fn   func(ctx context.Context, job *river.Job[A]) error
}

func (w *worker[A]) Timeout(*river.Job[A]) time.Duration { return w.opts.Timeout }

// NextRetry doubles the pause from half a second to ten minutes, with jitter so
// that jobs which failed together do not return together.
func (w *worker[A]) NextRetry(job *river.Job[A]) time.Time {
	return w.host.Now().Add(backoff(job.Attempt))
}

func backoff(attempt int) time.Duration {
	const first, longest = 500 * time.Millisecond, 10 * time.Minute
	pause := longest
	if shift := max(attempt-1, 0); shift < 11 {
		pause = min(first<<shift, longest)
	}
	return pause/2 + rand.N(pause/2+1)
}

// Work runs one attempt.
func (w *worker[A]) Work(ctx context.Context, job *river.Job[A]) error {
	ctx, span, err := w.open(ctx, job)
	if err != nil {
		return err
	}
	defer span.End()
	err = w.attempt(ctx, job)
	var snooze *rivertype.JobSnoozeError
	if err == nil || errors.As(err, &snooze) {
		return err
	}
	span.SetStatus(codes.Error, fault.Of(err).Code)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return river.JobSnooze(0) // we are draining: the attempt does not count
	}
	if fault.Permanent(err) || job.Attempt >= job.MaxAttempts {
		return w.park(ctx, job, err)
	}
	f := fault.Of(err)
	w.host.Log.WarnContext(ctx, "job failed, will be retried",
		"kind", job.Kind, "job", job.ID, "attempt", job.Attempt, "code", f.Code, "error", err.Error())
	if f.RetryAfter > backoff(job.Attempt) {
		return river.JobSnooze(f.RetryAfter)
	}
	return err
}

// open restores what the inserting transaction left in the metadata.
func (w *worker[A]) open(ctx context.Context, job *river.Job[A]) (context.Context, trace.Span, error) {
	var meta jobMeta
	if err := json.Unmarshal(job.Metadata, &meta); err != nil {
		return nil, nil, fmt.Errorf("run: metadata of job %s %d: %w", job.Kind, job.ID, err)
	}
	ctx = telemetry.Extract(ctx, meta.Traceparent)
	ctx = pg.WithTenant(ctx, meta.Tenant)
	ctx = bus.WithMeta(ctx, bus.Envelope{ID: meta.Causation, Tenant: meta.Tenant, Correlation: meta.Correlation, Trace: meta.Traceparent})
	ctx = telemetry.WithActor(ctx, "service:"+w.host.Name)
	ctx, span := telemetry.Tracer().Start(ctx, "job "+job.Kind, trace.WithSpanKind(trace.SpanKindConsumer))
	return ctx, span, nil
}

// attempt calls the target's function; a panic is an Internal fault.
func (w *worker[A]) attempt(ctx context.Context, job *river.Job[A]) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Internal("PANIC", "job %s panicked", job.Kind).With(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	return w.fn(ctx, job)
}

// park sets the job aside: the parked row and the end of the river job are one
// transaction, so a job is never lost between the two.
func (w *worker[A]) park(ctx context.Context, job *river.Job[A], cause error) error {
	// The attempt's own deadline may be what failed: parking has its own.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	f := fault.Of(cause)
	err := w.host.DB.System(ctx, func(txCtx context.Context, tx pgx.Tx) error {
		txCtx = pg.WithTenant(txCtx, pg.Tenant(ctx))
		if err := parkJob(txCtx, tx, w.host, job.JobRow, f); err != nil {
			return err
		}
		_, err := river.JobCompleteTx[*riverpgxv5.Driver](txCtx, tx, job)
		return err
	})
	if err != nil {
		return fmt.Errorf("run: park job %s %d (which failed with %w): %w", job.Kind, job.ID, cause, err)
	}
	w.host.Log.ErrorContext(ctx, "job parked", "kind", job.Kind, "job", job.ID,
		"attempt", job.Attempt, "code", f.Code, "error", cause.Error())
	return nil
}
