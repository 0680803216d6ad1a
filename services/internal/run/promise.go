package run

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// InsertTx promises a job in the caller's transaction: it exists if and only
// if the transaction commits, and starts within milliseconds of it. Queue and
// MaxAttempts come from Work of its kind unless opts says otherwise.
func (j *Jobs) InsertTx(ctx context.Context, tx pgx.Tx, args river.JobArgs, opts *river.InsertOpts) error {
	if j.promise == nil {
		return fault.Internal("JOBS_NOT_STARTED", "job %s inserted while target %s was being wired: do it in Host.Go", args.Kind(), j.host.Name)
	}
	return j.InsertManyTx(ctx, tx, []river.InsertManyParams{{Args: args, InsertOpts: opts}})
}

// InsertManyTx is InsertTx for several jobs in one statement.
func (j *Jobs) InsertManyTx(ctx context.Context, tx pgx.Tx, jobs []river.InsertManyParams) error {
	if j.promise == nil {
		return fault.Internal("JOBS_NOT_STARTED", "jobs inserted while target %s was being wired: do it in Host.Go", j.host.Name)
	}
	full := make([]river.InsertManyParams, len(jobs))
	for i, job := range jobs {
		opts, err := j.insertOpts(ctx, job.Args.Kind(), job.InsertOpts)
		if err != nil {
			return err
		}
		full[i] = river.InsertManyParams{Args: job.Args, InsertOpts: opts}
	}
	unit := pg.UnitOf(ctx, tx)
	if unit == nil {
		return j.insert(ctx, tx, full) // found by river's poll within a second
	}
	batch, _ := unit.Value(promisesKey{j}, func() any { return j.newPromises(unit) }).(*promises)
	batch.jobs = append(batch.jobs, full...)
	return nil
}

// promises gathers the jobs of one transaction: one statement inserts them all, just before the commit.
type promises struct{ jobs []river.InsertManyParams }

type promisesKey struct{ j *Jobs }

func (j *Jobs) newPromises(unit *pg.Unit) *promises {
	p := &promises{}
	unit.Before(func(ctx context.Context, tx pgx.Tx) error { return j.insert(ctx, tx, p.jobs) })
	unit.After(func() {
		now := j.host.Now()
		for _, job := range p.jobs {
			if job.InsertOpts.ScheduledAt.After(now) {
				continue
			}
			select {
			case j.knocks <- job.InsertOpts.Queue:
			default: // so many knocks wait that this queue is sure to be looked at
			}
		}
	})
	return p
}

func (j *Jobs) insert(ctx context.Context, tx pgx.Tx, jobs []river.InsertManyParams) error {
	// Not the "fast" way: that is a COPY, whose round trips and planning cost more than the few rows here.
	_, err := j.promise.InsertManyTx(ctx, tx, jobs)
	if err != nil {
		return fmt.Errorf("run: insert %d jobs: %w", len(jobs), err)
	}
	return nil
}

// open makes what jobs are inserted and kept with.
//
// River's bookkeeping (which client has fetched a job, that it is completed) does not wait for the disk:
// a crash of the database server can undo its last moments, and a job may then be worked again, which
// every job has to stand anyway. Promises are made in the caller's transaction, with its durability.
//
// A client that has just started inserts without NOTIFY: inside a transaction it takes a lock over all
// commits of the server and holds it while the commit goes to disk, one at a time. Knock notifies instead,
// in a statement of its own.
func (j *Jobs) open(ctx context.Context) error {
	cfg := j.host.DB.Config()
	cfg.AsyncCommit, cfg.MaxConns = true, 4
	cfg.ApplicationName += " jobs"
	books, err := pg.Open(ctx, cfg)
	if err != nil {
		return err
	}
	j.books, j.knocks = books, make(chan string, 64)
	const never = 24 * time.Hour // river notifies at most once in this time per queue
	j.promise, err = river.NewClient(riverpgxv5.New(j.host.DB.Pool()), &river.Config{
		Schema: j.host.DB.Schema(), Logger: j.host.Log, Workers: j.workers,
		FetchCooldown: never, FetchPollInterval: never,
	})
	if err != nil {
		books.Close()
		return fmt.Errorf("run: jobs of %s: %w", j.host.Name, err)
	}
	return nil
}

// knock tells the workers of all processes that queues have new jobs, many commits at a time. A lost
// knock costs river's poll interval, no job.
func (j *Jobs) knock(ctx context.Context) {
	const topic = ".river_insert" // river listens at <schema>.river_insert
	for {
		waiting := map[string]bool{}
		select {
		case <-ctx.Done():
			return
		case queue := <-j.knocks:
			waiting[queue] = true
		}
		for len(j.knocks) > 0 {
			waiting[<-j.knocks] = true
		}
		payloads := make([]string, 0, len(waiting))
		for queue := range waiting {
			payloads = append(payloads, fmt.Sprintf(`{"queue": %q}`, queue))
		}
		_, err := j.books.Pool().Exec(ctx, `SELECT pg_notify($1, p) FROM unnest($2::text[]) AS p`, j.host.DB.Schema()+topic, payloads)
		if err != nil && ctx.Err() == nil {
			j.host.Log.DebugContext(ctx, "jobs: notify failed, the poll will find them", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (j *Jobs) insertOpts(ctx context.Context, kind string, opts *river.InsertOpts) (*river.InsertOpts, error) {
	var full river.InsertOpts
	if opts != nil {
		full = *opts
	}
	plan, _ := j.host.process.planOf(j.host.Name, kind)
	full.Queue = cmp.Or(full.Queue, plan.queue)
	full.MaxAttempts = cmp.Or(full.MaxAttempts, plan.maxAttempts)
	meta := map[string]any{}
	if len(full.Metadata) > 0 {
		if err := json.Unmarshal(full.Metadata, &meta); err != nil {
			return nil, fmt.Errorf("run: metadata of job %s: %w", kind, err)
		}
	}
	set := func(name, value string) {
		if value != "" {
			meta[name] = value
		}
	}
	set("traceparent", telemetry.Inject(ctx))
	set("tenant", pg.Tenant(ctx))
	set("correlation", bus.Correlation(ctx))
	set("causation", bus.Meta(ctx).ID)
	var err error
	full.Metadata, err = json.Marshal(meta)
	return &full, err
}
