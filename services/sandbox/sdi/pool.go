package sdi

import (
	"context"
	"sync"
)

// task is one piece of work; its context ends with the exchange.
type task func(ctx context.Context)

// pool runs tasks on a fixed number of goroutines, in order of arrival. Its queue has no
// bound: the exchange must take files however slowly it judges them, as the real one does.
type pool struct {
	mu     sync.Mutex
	some   *sync.Cond
	queue  []task
	closed bool
	gone   sync.WaitGroup
}

func newPool(ctx context.Context, workers int) *pool {
	p := &pool{}
	p.some = sync.NewCond(&p.mu)
	for range workers {
		p.gone.Go(func() { p.work(ctx) })
	}
	return p
}

// do queues a task; after close it drops it.
func (p *pool) do(t task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, t)
	p.some.Signal()
}

func (p *pool) work(ctx context.Context) {
	for {
		p.mu.Lock()
		for len(p.queue) == 0 && !p.closed {
			p.some.Wait()
		}
		if p.closed {
			p.mu.Unlock()
			return
		}
		t := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		p.mu.Unlock()
		t(ctx)
	}
}

// close drops what waits and returns when running tasks have ended.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.queue = nil
	p.some.Broadcast()
	p.mu.Unlock()
	p.gone.Wait()
}
