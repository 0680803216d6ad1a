package invoice

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/invoice/internal/db"
)

// The log of a tenant must have no gap that fills up later: a reader at position n would skip what is
// committed below n afterwards. So nobody takes a position before the commit; a single sequencer gives
// positions to what it finds committed.

const (
	sequenceBatch  = 2000
	sequencePoll   = time.Second           // finds what a process that died had committed and not sequenced
	sequenceLinger = 20 * time.Millisecond // after a batch: the first event is placed at once, under load they gather
	sequencePause  = 500 * time.Millisecond
)

// sequencer is woken after each commit of this process.
type sequencer struct {
	wake chan struct{}
	poll time.Duration
}

func newSequencer() sequencer { return sequencer{make(chan struct{}, 1), sequencePoll} }

func (q sequencer) kick() {
	select {
	case q.wake <- struct{}{}:
	default: // it is awake already and has not looked yet
	}
}

// sequence gives positions until ctx ends. A database that is away is waited for.
func (s *Service) sequence(ctx context.Context) error {
	poll := time.NewTicker(s.sequencer.poll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.sequencer.wake:
		case <-poll.C:
		}
		for {
			moved, err := s.sequenceOnce(ctx)
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "events wait for their positions", "error", err)
				pause(ctx, sequencePause)
			}
			if err != nil || moved < sequenceBatch {
				break
			}
		}
		pause(ctx, sequenceLinger)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// sequenceOnce moves one batch into the logs and tells who waits there, in every process.
func (s *Service) sequenceOnce(ctx context.Context) (moved int64, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := q(tx).LockSequencer(ctx); err != nil {
			return fmt.Errorf("invoice: sequencer lock: %w", err)
		}
		row, err := q(tx).Sequence(ctx, sequenceBatch)
		if err != nil {
			return fmt.Errorf("invoice: sequence: %w", err)
		}
		moved = row.Moved
		if moved == 0 {
			return nil
		}
		return q(tx).NotifyEvents(ctx, db.NotifyEventsParams{Channel: s.channel(), Tenants: row.Tenants})
	})
	return moved, err
}

// channel is where the sequencer tells which logs grew. Channels belong to the whole database, so the
// name carries the schema.
func (s *Service) channel() string { return s.db.Schema() + "_events" }

// listenForEvents wakes the streams of this process, whichever process the sequencer runs in.
func (s *Service) listenForEvents(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.listenOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "streams of events fall back to their heartbeat", "error", err)
			pause(ctx, time.Second)
		}
	}
	return nil
}

func (s *Service) listenOnce(ctx context.Context) error {
	conn, err := s.db.Dedicated(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.channel()}.Sanitize())
	if err != nil {
		return fmt.Errorf("invoice: listen: %w", err)
	}
	s.wakes.all() // what was said while nobody listened
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("invoice: wait for events: %w", err)
		}
		s.wakes.wake(n.Payload)
	}
}

// wakes lets readers wait for the log of a tenant to grow.
type wakes struct {
	mu      sync.Mutex
	waiting map[string]chan struct{}
}

// wait gives a channel that is closed when the log grows after this call.
func (w *wakes) wait(tenant string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch, ok := w.waiting[tenant]
	if !ok {
		if w.waiting == nil {
			w.waiting = map[string]chan struct{}{}
		}
		ch = make(chan struct{})
		w.waiting[tenant] = ch
	}
	return ch
}

func (w *wakes) wake(tenant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch, ok := w.waiting[tenant]; ok {
		close(ch)
		delete(w.waiting, tenant)
	}
}

func (w *wakes) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.waiting {
		close(ch)
	}
	clear(w.waiting)
}
