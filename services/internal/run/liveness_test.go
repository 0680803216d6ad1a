package run_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

type lifeArgs struct {
	Name string `json:"name"`
}

func (lifeArgs) Kind() string { return "life" }

// A job in the hands of a process that was killed is worked again within seconds; one in the hands of
// a process that lives is left alone.
func TestJobsOfTheDead(t *testing.T) {
	worked := make(chan string, 10)
	target := run.Target{Name: "alpha", Start: func(_ context.Context, h *run.Host) error {
		run.Work(h, run.WorkOptions{}, func(_ context.Context, job *river.Job[lifeArgs]) error {
			worked <- job.Args.Name
			return nil
		})
		return nil
	}}
	p := runtest.Start(t, runtest.Options{Targets: []run.Target{target}})
	db := p.Host("alpha").DB
	alive, err := db.Dedicated(context.Background())
	require.NoError(t, err)
	defer alive.Close(context.Background())
	_, err = alive.Exec(context.Background(), `SELECT pg_advisory_lock_shared(hashtextextended('ceralacca job client ' || $1, 0))`, "living")
	require.NoError(t, err)
	for _, client := range []string{"killed", "living"} {
		insertRunning(t, db, client)
	}
	require.Equal(t, "killed", <-worked)
	select {
	case name := <-worked:
		t.Fatalf("the job of %s was taken although it lives", name)
	case <-time.After(5 * time.Second):
	}
	require.NoError(t, alive.Close(context.Background()))
	require.Equal(t, "living", <-worked, "once its lock is gone it counts as dead")
}

func insertRunning(t *testing.T, db *pg.DB, client string) {
	t.Helper()
	require.NoError(t, db.System(context.Background(), func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO river_job (args, kind, max_attempts, metadata, queue, state, attempt, attempted_at, attempted_by)
			VALUES (jsonb_build_object('name', $1::text), 'life', 5, '{}', 'life', 'running', 1, now(), ARRAY[$1::text])`, client)
		return err
	}))
}
