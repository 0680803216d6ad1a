// Package bustest hears events for tests.
package bustest

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"ceralacca.dev/services/internal/bus"
)

// Ear knows what a test has heard. It outlives the processes that hear for it.
type Ear struct {
	mu    sync.Mutex
	known map[hearing]bool
}

// hearing is one event at one consumer.
type hearing struct{ consumer, event string }

func (e *Ear) first(h hearing) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[h] {
		return false
	}
	if e.known == nil {
		e.known = map[hearing]bool{}
	}
	e.known[h] = true
	return true
}

// Hear has heard called for each event E that comes to the consumer name, once. A handler runs again when its transaction is rolled
// back, and what a test keeps in memory is not rolled back with it: it would count one event twice. The transaction of that one call
// may yet fail, so heard is for what was emitted and not for what was handled.
func Hear[E proto.Message](e *Ear, b *bus.Bus, name string, heard func(ctx context.Context, ev E)) {
	bus.On(b, name, func(ctx context.Context, _ pgx.Tx, ev E) error {
		if e.first(hearing{name, bus.Meta(ctx).ID}) {
			heard(ctx, ev)
		}
		return nil
	})
}
