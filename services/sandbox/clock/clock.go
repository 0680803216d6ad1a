// Package clock is the sandbox's virtual clock: real time by default, moved forward or frozen
// by tests, with timers that fire on it. It owns time inside the simulators. It never goes
// backwards, and it refuses to be the clock of anything that keeps evidence.
package clock

import (
	"container/heap"
	"fmt"
	"sync"
	"time"
)

// A Clock tells virtual time and fires timers on it. Safe for concurrent use.
type Clock struct {
	base func() time.Time // real time

	mu     sync.Mutex
	offset time.Duration // virtual minus real, while running
	frozen bool
	at     time.Time // virtual time while frozen
	timers timers
	seq    uint64
	wake   chan struct{}

	moving sync.Mutex // one Advance at a time
	done   chan struct{}
	once   sync.Once
	gone   sync.WaitGroup
}

// New starts a clock that shows base (time.Now when nil). Close stops its timers.
func New(base func() time.Time) *Clock {
	if base == nil {
		base = time.Now
	}
	c := &Clock{base: base, wake: make(chan struct{}, 1), done: make(chan struct{})}
	c.gone.Add(1)
	go c.run()
	return c
}

// Close stops the clock: no timer fires afterwards.
func (c *Clock) Close() {
	c.once.Do(func() { close(c.done) })
	c.gone.Wait()
}

// Now is the virtual time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Clock) now() time.Time {
	if c.frozen {
		return c.at
	}
	return c.base().Add(c.offset)
}

// State is what the control API shows.
type State struct {
	Now    time.Time
	Frozen bool
	Timers int       // timers that wait
	Next   time.Time // when the first of them fires; zero when there is none
}

// State returns a snapshot.
func (c *Clock) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{Now: c.now(), Frozen: c.frozen, Timers: len(c.timers)}
	if len(c.timers) > 0 {
		s.Next = c.timers[0].due
	}
	return s
}

// Freeze stops virtual time; timers then fire only through Advance.
func (c *Clock) Freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.frozen {
		c.at, c.frozen = c.now(), true
	}
}

// Resume lets virtual time run on from where it stands.
func (c *Clock) Resume() {
	c.mu.Lock()
	if c.frozen {
		c.offset, c.frozen = c.at.Sub(c.base()), false
	}
	c.mu.Unlock()
	c.poke()
}

// Advance moves time forward by d and fires, in order and each at its own instant, the timers
// that fall due on the way, including those that they set. It returns the new time.
func (c *Clock) Advance(d time.Duration) (time.Time, error) {
	if d < 0 {
		return time.Time{}, fmt.Errorf("clock: cannot go back by %s; give a positive duration", -d)
	}
	c.moving.Lock()
	defer c.moving.Unlock()
	c.mu.Lock()
	target := c.now().Add(d)
	for len(c.timers) > 0 && !c.timers[0].due.After(target) {
		t := heap.Pop(&c.timers).(timer)
		c.set(t.due)
		c.mu.Unlock()
		t.fire(t.due)
		c.mu.Lock()
	}
	c.set(target)
	now := c.now()
	c.mu.Unlock()
	c.poke()
	return now, nil
}

// set moves virtual time to t, never back.
func (c *Clock) set(t time.Time) {
	if !t.After(c.now()) {
		return
	}
	if c.frozen {
		c.at = t
		return
	}
	c.offset = t.Sub(c.base())
}

// At calls fire(due) once, when virtual time reaches due; at once, on a goroutine of the
// clock, when that is past. fire must not block.
func (c *Clock) At(due time.Time, fire func(due time.Time)) {
	c.mu.Lock()
	c.seq++
	heap.Push(&c.timers, timer{due: due, seq: c.seq, fire: fire})
	first := c.timers[0].seq == c.seq
	c.mu.Unlock()
	if first {
		c.poke()
	}
}

func (c *Clock) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run fires timers as real time passes.
func (c *Clock) run() {
	defer c.gone.Done()
	real := time.NewTimer(time.Hour)
	defer real.Stop()
	for {
		wait := c.fireDue()
		real.Reset(wait)
		select {
		case <-c.done:
			return
		case <-c.wake:
		case <-real.C:
		}
	}
}

// fireDue fires what is due and returns how long, in real time, nothing more will be.
func (c *Clock) fireDue() time.Duration {
	for {
		c.mu.Lock()
		if len(c.timers) == 0 {
			c.mu.Unlock()
			return time.Hour
		}
		wait := c.timers[0].due.Sub(c.now())
		if wait > 0 {
			frozen := c.frozen
			c.mu.Unlock()
			if frozen {
				return time.Hour
			}
			return min(wait, time.Hour)
		}
		t := heap.Pop(&c.timers).(timer)
		c.mu.Unlock()
		select {
		case <-c.done:
			return time.Hour
		default:
			t.fire(t.due)
		}
	}
}

type timer struct {
	due  time.Time
	seq  uint64 // order among equals
	fire func(time.Time)
}

type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].due.Before(t[j].due) || t[i].due.Equal(t[j].due) && t[i].seq < t[j].seq
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*t = old[:len(old)-1]
	return last
}
