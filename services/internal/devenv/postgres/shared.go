package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ceralacca.dev/services/internal/devenv"
)

// SharedVariable names a server that test processes use instead of making one:
// `make test` starts it once around the whole run. Its role must be a superuser.
const SharedVariable = "CERALACCA_TEST_DATABASE_URL"

const (
	// linger keeps the shared server between two test binaries of one `go test ./...`.
	linger     = 4 * time.Second
	keeperPoll = 100 * time.Millisecond
	keeperWait = 3 * time.Minute
)

// keeperTool is the program that keeps a shared server while test processes use it.
var keeperTool = devenv.Tool{
	Name: "devenv", Dir: "services", Package: "./internal/devenv/cmd/devenv",
	Sources: []string{"services/internal/devenv", "services/go.mod"},
}

// sharedState is what the keeper leaves for the test processes to find.
type sharedState struct {
	URL    string `json:"url"`
	Keeper int    `json:"keeper_pid"`
}

// shared is the folder of the server that all test processes of a checkout share.
// Two lock files tell who is there: each test process holds `users` (shared) for
// as long as it runs, and `start` while it looks for a server or starts one. Locks
// die with their holder, so a killed test leaves no count behind.
type shared struct{ dir string }

func (s shared) users() string { return filepath.Join(s.dir, "users.lock") }
func (s shared) start() string { return filepath.Join(s.dir, "start.lock") }
func (s shared) state() string { return filepath.Join(s.dir, "state.json") }
func (s shared) log() string   { return filepath.Join(s.dir, "keeper.log") }

// Shared returns the superuser address of a test server that every test process
// of this checkout shares: the one of CERALACCA_TEST_DATABASE_URL when set, else
// one that the first caller starts and that ends by itself some seconds after the
// last caller is gone. It starts empty, without fsync. Each caller makes databases
// or schemas of its own in it and may not restart it; for that there is
// Start with Options.Private. release must be called, at the latest by exiting.
func Shared(ctx context.Context) (address string, release func(), err error) {
	if given := os.Getenv(SharedVariable); given != "" {
		return given, func() {}, nil
	}
	root, err := devenv.Root()
	if err != nil {
		return "", nil, err
	}
	dir, err := devenv.Cache(root, "pg-shared")
	if err != nil {
		return "", nil, err
	}
	return shared{dir: dir}.join(ctx, root)
}

func (s shared) join(ctx context.Context, root string) (string, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, keeperWait)
	defer cancel()
	// While a keeper is stopping it holds users exclusively: this waits for it to end.
	user, err := devenv.Lock(ctx, s.users(), false)
	if err != nil {
		return "", nil, err
	}
	address, err := s.findOrStart(ctx, root)
	if err != nil {
		user.Unlock()
		return "", nil, fmt.Errorf("devenv/postgres: shared test server: %w", err)
	}
	return address, user.Unlock, nil
}

func (s shared) findOrStart(ctx context.Context, root string) (string, error) {
	start, err := devenv.Lock(ctx, s.start(), true)
	if err != nil {
		return "", err
	}
	defer start.Unlock()
	address, err := s.alive(ctx)
	if err == nil {
		return address, nil
	}
	tool, err := devenv.Build(ctx, os.Stderr, root, keeperTool)
	if err != nil {
		return "", err
	}
	return s.spawn(ctx, tool)
}

// alive returns the running server's address.
func (s shared) alive(ctx context.Context) (string, error) {
	raw, err := os.ReadFile(s.state())
	if err != nil {
		return "", err
	}
	var state sharedState
	err = json.Unmarshal(raw, &state)
	if err != nil {
		return "", err
	}
	return state.URL, ping(ctx, state.URL)
}

// spawn starts a keeper in a session of its own, since it must outlive the test
// process that needed it first, and waits until its server answers.
func (s shared) spawn(ctx context.Context, tool string) (string, error) {
	err := os.Remove(s.state())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	log, err := os.Create(s.log())
	if err != nil {
		return "", err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(tool, "keep-postgres", s.dir)
	// The data folder is relative to the keeper's own, never to a test's temporary one.
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err != nil {
		return "", err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		address, err := s.alive(ctx)
		if err == nil {
			return address, nil
		}
		select {
		case err = <-ended:
			raw, readErr := os.ReadFile(s.log())
			return "", errors.Join(fmt.Errorf("keeper ended: %w: %s", err, strings.TrimSpace(string(raw))), readErr)
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(keeperPoll / 2):
		}
	}
}

// Keep is the keeper's whole life: it starts a throw-away server in dir, publishes
// its address and stops it once no test process has used it for a few seconds, or
// ctx ends.
func Keep(ctx context.Context, dir string, progress io.Writer) error {
	s := shared{dir: dir}
	c, err := Start(ctx, Options{Dir: filepath.Join(dir, "cluster"), Throwaway: true, Private: true, Progress: progress})
	if err != nil {
		return err
	}
	err = s.publish(sharedState{URL: c.URL(""), Keeper: os.Getpid()})
	if err != nil {
		return errors.Join(err, c.Stop())
	}
	last, err := s.waitForNoUsers(ctx)
	// Whoever comes now waits for the lock, finds no state and starts a new keeper.
	err = errors.Join(err, os.Remove(s.state()), c.Stop())
	last.Unlock()
	return err
}

func (s shared) publish(state sharedState) error {
	raw, err := json.Marshal(state)
	if err != nil {
		return err
	}
	fresh := s.state() + ".new"
	err = os.WriteFile(fresh, raw, 0o600)
	if err != nil {
		return err
	}
	return os.Rename(fresh, s.state())
}

// waitForNoUsers returns holding the users lock exclusively, or nil if ctx ended.
func (s shared) waitForNoUsers(ctx context.Context) (*devenv.FileLock, error) {
	idle := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(keeperPoll):
		}
		lock, err := devenv.TryLock(s.users(), true)
		if err != nil {
			return nil, err
		}
		if lock == nil {
			idle = time.Now()
			continue
		}
		if time.Since(idle) > linger {
			return lock, nil
		}
		lock.Unlock()
	}
}
