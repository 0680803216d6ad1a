package bus

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// held are the messages that this process has been given and has not answered yet. It tells JetStream that
// it is still at them, so that AckWait can be short: what a killed process held comes to another within
// seconds, while a handler that is slow, or waits for a database, sees no message twice.
type held struct {
	mu    sync.Mutex
	since map[jetstream.Msg]time.Time
}

func (h *held) add(m jetstream.Msg, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since == nil {
		h.since = map[jetstream.Msg]time.Time{}
	}
	h.since[m] = at
}

func (h *held) drop(ms ...jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range ms {
		delete(h.since, m)
	}
}

// clear forgets everything: the subscription has ended.
func (h *held) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.since)
}

// keep reports every message that has been here for longer than every, that often, until quit is closed.
func (h *held) keep(quit <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return
		case <-tick.C:
		}
		for _, m := range h.waiting(time.Now().Add(-every)) {
			_ = m.InProgress() // answered meanwhile, or the server is away: nothing to do about either
		}
	}
}

func (h *held) waiting(before time.Time) (list []jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for m, at := range h.since {
		if at.Before(before) {
			list = append(list, m)
		}
	}
	return list
}

func messages(group []*delivery) []jetstream.Msg {
	list := make([]jetstream.Msg, len(group))
	for i, d := range group {
		list[i] = d.msg
	}
	return list
}
