package sdigateway

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// namesPerBlock is how many progressives one round trip takes. What a stopped process has taken and
// not used stays a gap: names need not be consecutive, only new for ever.
// spec: AllA-1.9 §1.2.2
const namesPerBlock = 256

// nameSource hands out file names of one transmitter. It takes them on a connection of its own, so
// that a handler that waits for a name inside its transaction never waits for the pool it occupies.
type nameSource struct {
	db    *pg.DB
	log   *slog.Logger
	paese string
	id    string
	names chan sdi.FileName // without extension
}

func newNameSource(pool *pg.DB, log *slog.Logger, paese, id string) *nameSource {
	return &nameSource{db: pool, log: log, paese: paese, id: id, names: make(chan sdi.FileName, namesPerBlock)}
}

// take gives a name that was never given before. It waits at most as long as ctx and five seconds.
func (n *nameSource) take(ctx context.Context) (sdi.FileName, error) {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	select {
	case name := <-n.names:
		return name, nil
	default:
	}
	select {
	case name := <-n.names:
		return name, nil
	case <-ctx.Done():
		return sdi.FileName{}, fmt.Errorf("sdi-gateway: waiting for a file name: %w", ctx.Err())
	case <-timer.C:
		return sdi.FileName{}, fault.Unavailable("SDI_NO_FILE_NAME", "no file name could be reserved in 5 s: the database is slow or away")
	}
}

// run keeps names in stock until ctx ends.
func (n *nameSource) run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := n.fill(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if fault.Of(err).Code == "SDI_NAMES_EXHAUSTED" {
			return err
		}
		n.log.WarnContext(ctx, "file names cannot be reserved for now", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
	return nil
}

func (n *nameSource) fill(ctx context.Context) error {
	conn, err := n.db.Dedicated(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	queries := db.New(conn)
	for {
		after, err := queries.TakeNames(ctx, db.TakeNamesParams{
			Transmitter: n.paese + n.id, After: namesPerBlock, Count: namesPerBlock,
		})
		if err != nil {
			return pg.Error(err)
		}
		for i := after - namesPerBlock; i < after; i++ {
			prog, err := sdi.Progressivo(uint64(i))
			if err != nil {
				return fault.Precondition("SDI_NAMES_EXHAUSTED",
					"all file names of transmitter %s%s are used: configure another fiscal id", n.paese, n.id)
			}
			select {
			case n.names <- sdi.FileName{Paese: n.paese, ID: n.id, Progressivo: prog}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}
