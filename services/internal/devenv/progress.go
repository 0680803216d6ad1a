package devenv

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A quick step says nothing; a slow one speaks after stepQuiet and then every
// stepEvery, so that no one has to guess whether the program hangs.
const (
	stepQuiet = 1500 * time.Millisecond
	stepEvery = 5 * time.Second
)

// Step is one piece of set-up work whose progress is shown when it is slow.
type Step struct {
	w     io.Writer
	label string
	begun time.Time
	stop  chan struct{}
	ended chan struct{}

	mu     sync.Mutex
	detail string
	shown  bool
}

// Begin starts a step. w nil keeps it silent. End must be called.
func Begin(w io.Writer, label string) *Step {
	s := &Step{w: w, label: label, begun: time.Now(), stop: make(chan struct{}), ended: make(chan struct{})}
	go s.report()
	return s
}

// Detail says what the step is doing right now, e.g. the module being downloaded.
func (s *Step) Detail(format string, args ...any) {
	s.mu.Lock()
	s.detail = fmt.Sprintf(format, args...)
	s.mu.Unlock()
}

// End stops the report; if anything was shown, a closing line with the time
// taken is added.
func (s *Step) End(err error) {
	close(s.stop)
	<-s.ended
	if s.w == nil || !s.shown {
		return
	}
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	_, _ = fmt.Fprintf(s.w, "%s: %s after %.0f s\n", s.label, outcome, time.Since(s.begun).Seconds())
}

func (s *Step) report() {
	defer close(s.ended)
	timer := time.NewTimer(stepQuiet)
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
			s.line()
			timer.Reset(stepEvery)
		}
	}
}

func (s *Step) line() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = true
	if s.w == nil {
		return
	}
	text := fmt.Sprintf("%s: %.0f s", s.label, time.Since(s.begun).Seconds())
	if s.detail != "" {
		text += ", " + s.detail
	}
	_, _ = fmt.Fprintln(s.w, text)
}
