package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

// settings suit thousands of small transactions on a developer's machine. fsync
// and synchronous_commit stay on: dev must lose nothing that production keeps.
var settings = map[string]string{
	"listen_addresses":                "127.0.0.1",
	"unix_socket_directories":         "",
	"max_connections":                 "1000", // many tests side by side, with a pool for each of their services
	"max_locks_per_transaction":       "128",  // per connection: a test drops a schema of many tables in one transaction
	"shared_buffers":                  "256MB",
	"wal_buffers":                     "16MB",
	"max_wal_size":                    "4GB",
	"min_wal_size":                    "256MB",
	"commit_delay":                    "300", // microseconds in which commits gather for one sync; only when five others are open
	"checkpoint_timeout":              "15min",
	"random_page_cost":                "1.1",
	"effective_io_concurrency":        "64",
	"max_parallel_workers_per_gather": "0",   // a worker costs more than a short query gains
	"jit":                             "off", // likewise
	"autovacuum_naptime":              "15s", // queue and outbox tables churn
	"autovacuum_vacuum_cost_delay":    "0",
	"timezone":                        "UTC",
	"log_timezone":                    "UTC",
	"lc_messages":                     "C",
	"log_line_prefix":                 "%m [%p] %q%u@%d ",
	"log_checkpoints":                 "off",
	"logging_collector":               "off",
}

// throwaway settings trade durability for speed where the data die with the test.
var throwaway = map[string]string{
	"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
	"shared_buffers": "128MB", "max_wal_size": "1GB", "min_wal_size": "80MB",
}

func (c *Cluster) initialise(ctx context.Context) error {
	err := stopLeftovers(c.data)
	if err != nil {
		return err
	}
	if c.opts.Throwaway {
		err = os.RemoveAll(c.data)
		if err != nil {
			return fmt.Errorf("devenv/postgres: %w", err)
		}
	}
	passwords := filepath.Join(c.dir, "password")
	_, err = os.Stat(filepath.Join(c.data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		err = c.create(ctx, passwords)
	}
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	raw, err := os.ReadFile(passwords)
	if err != nil {
		return fmt.Errorf("devenv/postgres: the cluster in %s has lost its password file: delete the folder to start afresh: %w", c.dir, err)
	}
	c.password = strings.TrimSpace(string(raw))
	return nil
}

// environment keeps PG* variables and the user's locale from changing the server.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}

// launch picks a free port and serves on it. Between picking and binding another
// process can take the port, so it tries a few.
func (c *Cluster) launch(ctx context.Context) error {
	var err error
	for range 5 {
		_, c.port, err = devenv.FreeAddress()
		if err != nil {
			return fmt.Errorf("devenv/postgres: %w", err)
		}
		err = c.serve(ctx)
		if !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

var errPortTaken = errors.New("devenv/postgres: the port was taken by another process")

// errMemoryHeld: backends of an earlier run have ended, and the kernel has not taken their shared memory from them yet.
var errMemoryHeld = errors.New("devenv/postgres: the memory of an earlier server is still in use")

// memoryLimit is how long that may last; after it somebody does use it.
const memoryLimit = 5 * time.Second

// serve starts the postmaster on c.port and waits until it answers.
func (c *Cluster) serve(ctx context.Context) error {
	for began := time.Now(); ; {
		err := c.serveOnce(ctx)
		if !errors.Is(err, errMemoryHeld) || time.Since(began) > memoryLimit {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *Cluster) serveOnce(ctx context.Context) (err error) {
	step := devenv.Begin(c.opts.Progress, "starting PostgreSQL")
	defer func() { step.End(err) }()
	err = os.Rename(c.logPath(), c.logPath()+".1")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	log, err := os.OpenFile(c.logPath(), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	defer func() { _ = log.Close() }()
	death := syscall.SIGINT // fast shutdown: everything committed reaches the disk
	if c.opts.Throwaway {
		death = syscall.SIGQUIT
	}
	c.server, err = child.Start(child.Options{
		Path: filepath.Join(c.bin.dir, "postgres"), Args: c.arguments(),
		Dir: c.dir, Env: environment(), User: c.who, Death: death, Stdout: log, Stderr: log,
	})
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	err = c.ready(ctx, step)
	if err != nil {
		return errors.Join(err, c.halt(syscall.SIGQUIT))
	}
	return nil
}

func (c *Cluster) arguments() []string {
	args := []string{"-D", c.data, "-p", strconv.Itoa(c.port)}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	if c.opts.Throwaway {
		for name, value := range throwaway { // of two values the server takes the later
			args = append(args, "-c", name+"="+value)
		}
	}
	return args
}

// ready waits until the server takes a connection, ends, or the limit is reached
// (crash recovery of a large log may take a while).
func (c *Cluster) ready(ctx context.Context, step *devenv.Step) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := ping(ctx, c.URL(""))
		if err == nil {
			return nil
		}
		step.Detail("%s", clip(c.Log(1)))
		select {
		case <-c.server.Done():
			return c.ended()
		case <-ctx.Done():
			return fmt.Errorf("devenv/postgres: not ready: %w: last answer: %w\n%s", ctx.Err(), err, c.Log(10))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Cluster) ended() error {
	log := c.Log(15)
	if strings.Contains(log, "Address already in use") {
		return errPortTaken
	}
	err := fmt.Errorf("devenv/postgres: the server ended at its start (%w); its log says:\n%s", c.server.Err(), log)
	if strings.Contains(log, "pre-existing shared memory block") {
		return errors.Join(errMemoryHeld, err)
	}
	return err
}

func ping(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func clip(text string) string {
	if len(text) > 120 {
		return text[:120]
	}
	return text
}
