package conservation

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/db"
)

// TestTurnIsOver: a step that the time of its turn does not suffice for says so, and is tried again; one that a draining process breaks
// off says nothing.
func TestTurnIsOver(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.intake(t, 1)
	h.steps.set(nil)
	name := h.closePackage(t).GetName()
	endless := maps.Clone(steps)
	endless["CLOSED"] = step{name: "index", keep: steps["CLOSED"].keep, act: func(_ *Service, ctx context.Context, _ db.Package) (result, error) {
		<-ctx.Done()
		return result{}, ctx.Err()
	}}
	s := *h.service // a process of its own, so to say: the job of closing may not have run yet
	s.steps = among(endless)
	ctx, drain := context.WithCancel(context.Background())
	drain()
	job := &river.Job[SealArgs]{Args: sealArgs(t, name)}
	require.Error(t, s.seal(ctx, job))
	require.Empty(t, h.pack(t, name).GetLastError())

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // which ends in the step, and not while its package is read
	defer cancel()
	var later *rivertype.JobSnoozeError
	require.ErrorAs(t, s.seal(ctx, job), &later, "it is tried again")
	require.Contains(t, h.pack(t, name).GetLastError(), "STEP_TOO_LONG")
}
