package conservation

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// bell tells those of this process who wait for the log that it has stated something. Only the process that appends rings it.
type bell struct {
	rings atomic.Bool // this process appends: whoever waits need not look by himself

	mu   sync.Mutex
	next chan struct{}
}

// heard gives what is closed at the next stroke. It is asked for before one looks, so that no stroke is missed.
func (b *bell) heard() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// await waits for the stroke, or until one has to look all the same: after look where another process appends, whose bell is
// not heard here.
func (b *bell) await(ctx context.Context, heard <-chan struct{}, look time.Duration) {
	if b.rings.Load() {
		look = time.Second
	}
	t := time.NewTimer(look)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-heard:
	case <-t.C:
	}
}
