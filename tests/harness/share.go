package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// lent is the platform of one shape that the tests of a process share: bringing one up costs more than most
// scenarios do.
type lent struct {
	turn     sync.Mutex // one scenario at a time: what one breaks, the next must not see
	platform *Platform  // nil: not started yet, or put away because a scenario failed on it
}

var (
	shared    = map[Mode]*lent{OneProcess: {}, ManyProcesses: {}}
	mayShare  atomic.Bool
	startTime = 5 * time.Minute
)

// Run runs the tests of a package that calls Share, and takes down what they shared. It is all that such a
// package's TestMain does:
//
//	func TestMain(m *testing.M) { os.Exit(harness.Run(m)) }
//
// When the test binary dies before its end, its platforms die with it.
//
// Tests that are parallel wait for a platform and not for a processor: as many as there are may begin, unless the
// command says how many.
func Run(m *testing.M) int {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		err := flag.Set("test.parallel", "64")
		if err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			return 2
		}
	}
	mayShare.Store(true)
	code := m.Run()
	for _, l := range shared {
		l.turn.Lock()
		err := l.putAway()
		l.turn.Unlock()
		if err != nil {
			fmt.Fprintln(os.Stderr, "harness:", err)
			code = max(code, 1)
		}
	}
	return code
}

// Share lends a test the platform of that shape until the test's end. It is started for the first that asks,
// with the default Options, and prepared; who comes later waits until it is free. A scenario is alone by its
// customers: Onboard's numbers and Number count anew for each, and what a customer sent and what was parked
// of it is asked of the customer (Sent, Parked), not of the platform, where others' things lie too.
//
// A scenario may kill and restart the platform's processes: the next one finds all of them running. One that
// breaks servers, orders faults, turns the sandbox's clock or needs other Options takes a platform of its
// own, with T. If a scenario fails, its logs are shown and the next one gets a new platform; a process that
// ended although nobody killed it is a failure.
func Share(t testing.TB, mode Mode) *Platform {
	t.Helper()
	if !mayShare.Load() {
		t.Fatal("harness: Share needs a TestMain that calls harness.Run, which takes the platform down at the end")
	}
	l := shared[mode]
	l.turn.Lock()
	t.Cleanup(l.turn.Unlock)
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	err := l.ready(ctx, mode)
	if err != nil {
		if l.platform != nil {
			l.platform.dumpLogs(t)
		}
		t.Fatalf("harness: %v", errors.Join(err, l.putAway()))
	}
	t.Cleanup(func() { l.takeBack(t) })
	return l.platform
}

// ready starts the platform, or what an earlier scenario left dead of it.
func (l *lent) ready(ctx context.Context, mode Mode) error {
	if l.platform == nil {
		return l.start(ctx, mode)
	}
	p := l.platform
	for _, name := range p.names() {
		if p.PID(name) != 0 {
			continue
		}
		err := p.StartProcess(name)
		if err != nil {
			return err
		}
	}
	p.newScenario()
	return p.AwaitReady(ctx)
}

func (l *lent) start(ctx context.Context, mode Mode) error {
	dir, err := os.MkdirTemp("", "ceralacca-"+string(mode)+"-")
	if err != nil {
		return err
	}
	p, err := Start(ctx, Options{Mode: mode, Dir: dir})
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	l.platform = p
	p.newScenario()
	return p.Prepare(ctx)
}

// takeBack judges what a scenario leaves behind.
func (l *lent) takeBack(t testing.TB) {
	for _, name := range l.platform.ended() {
		t.Errorf("harness: the process %s ended although nobody killed it", name)
	}
	if !t.Failed() {
		return
	}
	l.platform.dumpLogs(t)
	err := l.putAway()
	if err != nil {
		t.Errorf("harness: %v", err)
	}
}

// putAway stops the platform, if there is one, and forgets it.
func (l *lent) putAway() error {
	p := l.platform
	if p == nil {
		return nil
	}
	l.platform = nil
	return errors.Join(p.Stop(), os.RemoveAll(p.Dir))
}

// newScenario makes the numbers of its customers new, and its logs begin here.
func (p *Platform) newScenario() {
	p.scenario++
	p.logStart = map[string]int64{}
	for _, name := range p.logNames() {
		info, err := os.Stat(p.logFile(name))
		if err == nil { // else it has written nothing yet
			p.logStart[name] = info.Size()
		}
	}
}

// Number is the n-th number (0 to 999) that no other scenario on this platform uses: for ids that a scenario
// chooses itself.
func (p *Platform) Number(n int) int { return 1000*p.scenario + n }

// ended are the processes that nobody killed and that run no longer.
func (p *Platform) ended() (names []string) {
	for _, name := range p.names() {
		p.mu.Lock()
		running := p.processes[name]
		p.mu.Unlock()
		if running == nil {
			continue
		}
		select {
		case <-running.done:
			names = append(names, name)
		default:
		}
	}
	return names
}
