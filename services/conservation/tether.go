package conservation

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const (
	tetherPulse   = time.Second     // between two looks at a tether
	tetherSilence = 5 * time.Second // after which it is taken for torn
)

// tether is a lock of the database that its process holds while it lives, on a connection of its own and outside of transactions: work on
// a large object lasts longer than these may. Others see by it that somebody is at work, and nothing has to be cleaned up after a crash.
type tether struct {
	conn *pgx.Conn
	key  int64
	stop context.CancelCauseFunc
	end  chan struct{} // of the pulse
}

// tie takes a lock when nobody has it; nil: somebody does. Work under it goes by the context, which ends when the connection does: from
// then on others may begin.
func tie(ctx context.Context, d *pg.DB, key int64) (context.Context, *tether, error) {
	conn, err := d.Dedicated(ctx)
	if err != nil {
		return nil, nil, err
	}
	mine := false
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&mine)
	if err != nil || !mine {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, nil, pg.Error(err)
	}
	tied, stop := context.WithCancelCause(ctx)
	t := &tether{conn: conn, key: key, stop: stop, end: make(chan struct{})}
	go t.pulse(tied)
	return tied, t, nil
}

func (t *tether) pulse(ctx context.Context) {
	defer close(t.end)
	for {
		pause(ctx, tetherPulse)
		if ctx.Err() != nil {
			return
		}
		look, cancel := context.WithTimeout(ctx, tetherSilence)
		err := t.conn.Ping(look)
		cancel()
		if err != nil && ctx.Err() == nil {
			t.stop(fault.Unavailable("LOCK_LOST", "the connection to the database ended that says who is at work: it is begun anew").With(err))
			return
		}
	}
}

// cut gives the lock back.
func (t *tether) cut(ctx context.Context) {
	t.stop(nil)
	<-t.end
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tetherSilence)
	defer cancel()
	_, _ = t.conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, t.key) // the end of the connection does it too, a little later
	_ = t.conn.Close(ctx)
}

// tornBy is why work under a tether ended: by itself, or because the tether tore.
func tornBy(tied context.Context, err error) error {
	if err != nil && tied.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(tied), err)
	}
	return err
}

// lockKey is the number of a lock for what has a name.
func lockKey(parts ...string) int64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return int64(h.Sum64()) //nolint:gosec // any 64 bits will do
}
