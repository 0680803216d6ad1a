// Package child runs a server as a child process that never outlives its parent:
// the kernel signals it when the parent dies, however the parent dies, and a
// survivor found at the next start is stopped first.
//
// It refuses to share the parent's process group, so Ctrl-C in a terminal reaches
// the parent alone, which then stops its children in its own order.
package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// User is the account a child drops to. Only root can ask for one.
type User struct {
	Name     string
	UID, GID uint32
}

// Options describe one child.
type Options struct {
	Path   string    // absolute path of the program
	Args   []string  // without the program's name
	Env    []string  // nil: the parent's environment
	Dir    string    // working folder; empty: the parent's
	Stdin  io.Reader // nil: an empty input
	Stdout io.Writer
	Stderr io.Writer
	User   *User // nil: the parent's account

	// Death is the signal the kernel sends when the parent dies (zero: SIGTERM).
	Death syscall.Signal
	// PIDFile, when set, is written at start; a process named by an older file and
	// still running the same program is stopped before the new one starts.
	PIDFile string
}

// Process is a running or finished child.
type Process struct {
	name    string
	cmd     *exec.Cmd
	pidFile string
	done    chan struct{}
	err     error
}

// Start runs the child. The caller must Stop it, or wait for Done.
func Start(o Options) (*Process, error) {
	if o.Death == 0 {
		o.Death = syscall.SIGTERM
	}
	if o.PIDFile != "" {
		err := stopSurvivor(o.PIDFile, o.Path)
		if err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(o.Path, o.Args...)
	cmd.Env, cmd.Dir = o.Env, o.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	cmd.SysProcAttr = attributes(o.Death, o.User)
	// A grandchild that kept the output pipe open would otherwise hold Wait for ever.
	cmd.WaitDelay = 2 * time.Second

	p := &Process{name: filepath.Base(o.Path), cmd: cmd, pidFile: o.PIDFile, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	err := <-started
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Path, err)
	}
	if o.PIDFile != "" {
		err = os.WriteFile(o.PIDFile, []byte(strconv.Itoa(p.PID())+"\n"), 0o644)
		if err != nil {
			_ = p.Stop(syscall.SIGKILL, 0)
			return nil, fmt.Errorf("pid file of %s: %w", p.name, err)
		}
	}
	return p, nil
}

// run keeps one operating system thread for the child's whole life: the kernel's
// parent-death signal is tied to the thread that forked, not to the process.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	p.err = p.cmd.Wait()
	if p.pidFile != "" {
		_ = os.Remove(p.pidFile)
	}
	close(p.done)
}

// PID is the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the child has ended and its output has been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the child ended; nil while it runs and after exit status 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal sends sig to the child; a child that has ended is not an error.
func (p *Process) Signal(sig syscall.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	if sig != syscall.SIGSTOP {
		return nil
	}
	// The kernel stops the threads one by one: on a busy machine a request may still slip through.
	for range 400 {
		if err != nil || stopped(p.PID()) {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s did not stop within two seconds", p.name)
}

// Stop asks the child to end with sig and waits up to grace, then kills it. It
// returns an error only if the child had to be killed although it was asked first.
func (p *Process) Stop(sig syscall.Signal, grace time.Duration) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	err := p.Signal(sig)
	if err != nil {
		return err
	}
	if sig != syscall.SIGKILL {
		select {
		case <-p.done:
			return nil
		case <-time.After(grace):
		}
		err = p.Signal(syscall.SIGKILL)
		if err != nil {
			return err
		}
	}
	<-p.done
	if sig != syscall.SIGKILL {
		return fmt.Errorf("%s did not end within %s of %s and was killed", p.name, grace, sig)
	}
	return nil
}

// stopSurvivor ends the process named in pidFile if it still runs program.
func stopSurvivor(pidFile, program string) error {
	raw, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	// The number may long belong to someone else's process: only the same program counts.
	if err != nil || pid <= 1 || !Runs(pid, program) {
		return os.Remove(pidFile)
	}
	err = End(pid, syscall.SIGTERM, 5*time.Second, func() bool { return Runs(pid, program) })
	if err != nil {
		return fmt.Errorf("survivor of an earlier run: %w", err)
	}
	return nil
}

// End signals a process that is not our child, waits until alive says it is gone,
// and kills it after grace.
func End(pid int, sig syscall.Signal, grace time.Duration, alive func() bool) error {
	for _, try := range []struct {
		sig  syscall.Signal
		wait time.Duration
	}{{sig, grace}, {syscall.SIGKILL, 5 * time.Second}} {
		err := syscall.Kill(pid, try.sig)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("signal process %d: %w", pid, err)
		}
		deadline := time.Now().Add(try.wait)
		for time.Now().Before(deadline) {
			if !alive() {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return fmt.Errorf("process %d is still there after SIGKILL", pid)
}
