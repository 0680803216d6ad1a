package run

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A job that a killed process was working stays marked as running. River frees such jobs after a fixed
// time that must exceed the longest job; an invoice would wait for it. Instead each client holds a
// session lock of PostgreSQL for as long as it lives, the server drops that lock with the connection,
// and the others free the jobs of clients whose lock is gone within a second or two.
//
// A process that is cut off from the database, and not dead, may still be acting when its job is worked
// again elsewhere. That is the same doubt as a crash between act and record, which every job has to
// stand anyway (see Work); and such a process cannot record what it did.
const (
	lifeCheck  = time.Second
	lifeNeeded = 2 * time.Second // pause after a lost connection, before it is tried anew
	// A restart of the database takes every lock away for a moment: a client is dead when it has no
	// lock at so many checks in a row.
	lifeMisses = 3
)

const (
	lifeKey = `hashtextextended('ceralacca job client ' || $1, 0)`
	// Clients that have running jobs, and the leader, who alone wakes the jobs whose time has come; all
	// but this client.
	lifeSuspects = `SELECT attempted_by[array_upper(attempted_by, 1)] FROM river_job
		WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] IS DISTINCT FROM $1
		UNION SELECT leader_id FROM river_leader WHERE leader_id <> $1`
	// The attempt that was cut off does not count.
	lifeFree = `UPDATE river_job SET state = 'available', scheduled_at = now(), attempt = greatest(attempt - 1, 0)
		WHERE state = 'running' AND attempted_by[array_upper(attempted_by, 1)] = $1`
	lifeDepose = `DELETE FROM river_leader WHERE leader_id = $1`
)

// hold keeps the lock of this client until ctx ends. The first lock is taken before jobs are fetched.
func (j *Jobs) hold(ctx context.Context, clientID string) (lost <-chan struct{}, err error) {
	conn, err := j.host.DB.Dedicated(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "SELECT pg_advisory_lock_shared("+lifeKey+")", clientID)
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		// Nothing is notified on this connection: the wait ends with ctx or with the connection.
		_, _ = conn.WaitForNotification(ctx)
	}()
	return gone, nil
}

// live holds the lock and frees the jobs of the dead until ctx ends.
func (j *Jobs) live(ctx context.Context, clientID string, lost <-chan struct{}) {
	tick := time.NewTicker(lifeCheck)
	defer tick.Stop()
	misses := map[string]int{}
	for {
		select {
		case <-ctx.Done():
			<-lost
			return
		case <-lost:
			again, err := j.hold(ctx, clientID)
			if err == nil {
				lost = again
				continue
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(lifeNeeded):
			}
		case <-tick.C:
			err := j.freeDead(ctx, clientID, misses)
			if err != nil && ctx.Err() == nil {
				j.host.Log.WarnContext(ctx, "jobs of ended processes cannot be looked for now", "error", err)
			}
		}
	}
}

// freeDead makes the running jobs of clients without a lock available again. misses remembers how
// often each was found without.
func (j *Jobs) freeDead(ctx context.Context, clientID string, misses map[string]int) error {
	return j.host.DB.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, lifeSuspects, clientID)
		if err != nil {
			return err
		}
		suspects, err := pgx.CollectRows(rows, pgx.RowTo[*string])
		if err != nil {
			return err
		}
		for _, suspect := range suspects {
			if suspect == nil {
				continue // never fetched by anybody: river's own rescuer knows what to do
			}
			var dead bool
			err = tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock("+lifeKey+")", *suspect).Scan(&dead)
			if err != nil {
				return err
			}
			if !dead {
				delete(misses, *suspect)
				continue
			}
			misses[*suspect]++
			if misses[*suspect] < lifeMisses {
				continue
			}
			delete(misses, *suspect)
			freed, err := tx.Exec(ctx, lifeFree, *suspect)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, lifeDepose, *suspect)
			if err != nil {
				return err
			}
			j.host.Log.WarnContext(ctx, "took over the jobs of a process that ended in the middle of them",
				"client", *suspect, "jobs", freed.RowsAffected())
		}
		return nil
	})
}
