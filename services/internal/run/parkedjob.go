package run

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// jobSpace derives the identity of a parked job from the job's own, so that
// parking the same job twice is one row.
var jobSpace = uuid.MustParse("6f0d3a52-6a0c-5e0b-9d0e-2f6f1d7c9b41")

// parkJob keeps a job that will not be tried again by itself.
func parkJob(ctx context.Context, tx pgx.Tx, h *Host, job *rivertype.JobRow, f *fault.Fault) error {
	var meta jobMeta
	if err := json.Unmarshal(job.Metadata, &meta); err != nil {
		return fmt.Errorf("run: metadata of job %s %d: %w", job.Kind, job.ID, err)
	}
	return h.Bus.Park(ctx, tx, bus.Parked{
		Kind: bus.KindJob, Consumer: job.Kind,
		EventID: uuid.NewSHA1(jobSpace, fmt.Appendf(nil, "%s/%d", h.DB.Schema(), job.ID)),
		Tenant:  meta.Tenant, Subject: job.Queue, Correlation: meta.Correlation, Causation: meta.Causation,
		Trace: meta.Traceparent, EventTime: job.CreatedAt, Payload: job.EncodedArgs,
		Code: f.Code, Reason: f.Error(), Attempts: job.Attempt,
	})
}

// rawArgs are the arguments of a job as they were parked.
type rawArgs struct {
	kind string
	json json.RawMessage
}

func (a rawArgs) Kind() string                 { return a.kind }
func (a rawArgs) MarshalJSON() ([]byte, error) { return a.json, nil }

// retryParked promises the parked job again, in the transaction that removes
// the parked row; it has all its attempts anew.
func (j *Jobs) retryParked(ctx context.Context, tx pgx.Tx, p bus.Parked) error {
	plan, ok := j.host.process.planOf(j.host.Name, p.Consumer)
	if !ok {
		return fault.Precondition("JOB_UNKNOWN",
			"this version of %s does no jobs of kind %s: drop it, or run the version that does", j.host.Name, p.Consumer)
	}
	ctx = bus.WithMeta(ctx, bus.Envelope{ID: p.Causation, Tenant: p.Tenant, Correlation: p.Correlation, Trace: p.Trace})
	ctx = pg.WithTenant(ctx, p.Tenant)
	return j.InsertTx(ctx, tx, rawArgs{kind: p.Consumer, json: p.Payload}, &river.InsertOpts{Queue: plan.queue})
}
