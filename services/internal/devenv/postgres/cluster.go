// Package postgres runs a real, private PostgreSQL server for development and
// tests: it finds or installs the programs, makes a cluster, starts it on a free
// loopback port as an unprivileged user, and stops it with the program that
// started it, however that program ends.
//
// It refuses to touch a server it did not make: with DATABASE_URL set it only
// hands out addresses.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

// Superuser is the bootstrap role of every cluster made here.
const Superuser = "ceralacca"

const (
	stopGrace  = 20 * time.Second
	readyLimit = 2 * time.Minute
	lockLimit  = 3 * time.Second
)

// Options describe the server to start.
type Options struct {
	// Dir keeps the cluster: data, log, password. Required unless DATABASE_URL is used.
	Dir string
	// Throwaway starts from an empty cluster without fsync and deletes it at Stop.
	Throwaway bool
	// Private ignores DATABASE_URL, for tests that restart and kill their server.
	Private bool
	// Progress receives a line for each step that takes more than a moment; nil: none.
	Progress io.Writer
}

// Cluster is a running server. Its methods may be called from any goroutine.
type Cluster struct {
	opts     Options
	external *url.URL

	who      *child.User
	bin      binaries
	dir      string // the real folder, links resolved
	data     string
	password string
	port     int
	lock     *devenv.FileLock

	mu     sync.Mutex
	server *child.Process
}

// Start brings a server up and returns once it answers. The caller must Stop it.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	given := os.Getenv("DATABASE_URL")
	if given != "" && !o.Private {
		return useExternal(ctx, given)
	}
	if o.Dir == "" {
		return nil, errors.New("devenv/postgres: Options.Dir is empty: name the folder that keeps the cluster")
	}
	c, err := prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	err = c.initialise(ctx)
	if err == nil {
		err = c.launch(ctx)
	}
	if err != nil {
		c.lock.Unlock()
		return nil, err
	}
	return c, nil
}

func useExternal(ctx context.Context, given string) (*Cluster, error) {
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("devenv/postgres: DATABASE_URL is no address of the form postgres://user:password@host:port/database")
	}
	c := &Cluster{external: u}
	conn, err := pgx.Connect(ctx, given)
	if err != nil {
		return nil, fmt.Errorf("devenv/postgres: DATABASE_URL is set but its server does not answer (unset it to use a private one): %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var version int
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version)
	if err != nil {
		return nil, fmt.Errorf("devenv/postgres: version of the DATABASE_URL server: %w", err)
	}
	if version/10000 < oldest {
		return nil, fmt.Errorf("devenv/postgres: the DATABASE_URL server is PostgreSQL %d: %d or newer is needed", version/10000, oldest)
	}
	return c, nil
}

// prepare finds the programs and takes the folder for this process alone.
func prepare(ctx context.Context, o Options) (*Cluster, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("devenv/postgres: %w", err)
	}
	// Installing the package may create the account that place asks for.
	_, err = findOrInstall(ctx, o.Progress, 0)
	if err != nil {
		return nil, err
	}
	who, err := account()
	if err != nil {
		return nil, err
	}
	dir, err = place(dir, who, standIns(dir, who))
	if err != nil {
		return nil, err
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("devenv/postgres: %w", err)
	}
	c := &Cluster{opts: o, who: who, dir: dir, data: filepath.Join(dir, "data")}
	wait, cancel := context.WithTimeout(ctx, lockLimit)
	defer cancel()
	c.lock, err = devenv.Lock(wait, filepath.Join(dir, "lock"), true)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("devenv/postgres: another process is using the database in %s (is make dev or make demo running?): stop it first, or set DATABASE_URL to a server of your own", o.Dir)
	}
	if err != nil {
		return nil, err
	}
	c.bin, err = findOrInstall(ctx, o.Progress, c.madeBy())
	if err != nil {
		c.lock.Unlock()
		return nil, err
	}
	return c, nil
}

// madeBy is the major version that made the data folder; zero: no folder that counts.
func (c *Cluster) madeBy() int {
	raw, err := os.ReadFile(filepath.Join(c.data, "PG_VERSION"))
	if err != nil || c.opts.Throwaway {
		return 0
	}
	var major int
	_, err = fmt.Sscan(string(raw), &major)
	if err != nil {
		return 0
	}
	return major
}

// URL is the superuser's address of database db ("" is the maintenance database).
func (c *Cluster) URL(db string) string {
	if c.external != nil {
		u := *c.external
		if db != "" {
			u.Path = "/" + db
		}
		return u.String()
	}
	if db == "" {
		db = "postgres"
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(Superuser, c.password),
		Host: fmt.Sprintf("127.0.0.1:%d", c.port), Path: "/" + db, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Dir is the folder that really holds the cluster, links resolved.
func (c *Cluster) Dir() string { return c.dir }

// External says whether the server is the one of DATABASE_URL.
func (c *Cluster) External() bool { return c.external != nil }

// PID is the postmaster's process id; zero when external or not running.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return 0
	}
	return c.server.PID()
}

// EnsureDatabase creates database db if the server does not have it yet.
func (c *Cluster) EnsureDatabase(ctx context.Context, db string) error {
	conn, err := pgx.Connect(ctx, c.URL(""))
	if err != nil {
		return fmt.Errorf("devenv/postgres: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var there bool
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", db).Scan(&there)
	if err != nil {
		return fmt.Errorf("devenv/postgres: list databases: %w", err)
	}
	if there {
		return nil
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{db}.Sanitize())
	if err != nil {
		return fmt.Errorf("devenv/postgres: create database %s: %w", db, err)
	}
	return nil
}

// Stop shuts the server down (open connections are closed, everything committed is
// kept) and gives the folder back. Stopping twice, or an external server, does nothing.
func (c *Cluster) Stop() error {
	if c.external != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.halt(syscall.SIGINT)
	if c.opts.Throwaway && c.lock != nil {
		err = errors.Join(err, c.discard())
	}
	c.lock.Unlock()
	c.lock = nil
	return err
}

// discard deletes the data; the whole folder if it is a stand-in for one that the
// account could not reach, since nobody would look for it there.
func (c *Cluster) discard() error {
	asked, err := filepath.Abs(c.opts.Dir)
	if err != nil {
		return err
	}
	target, err := os.Readlink(asked)
	if err == nil && target == c.dir {
		return errors.Join(os.RemoveAll(c.dir), os.Remove(asked))
	}
	return os.RemoveAll(c.data)
}

// Kill ends the server like a power cut: the postmaster by SIGKILL, no shutdown,
// no checkpoint. Restart recovers from the write-ahead log.
func (c *Cluster) Kill() error {
	if c.external != nil {
		return errExternal
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halt(syscall.SIGKILL)
}

// Halt shuts the server down in order, as Stop does, and keeps the folder for Restart.
func (c *Cluster) Halt() error {
	if c.external != nil {
		return errExternal
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.halt(syscall.SIGINT)
}

// Restart shuts the server down, if Kill or Halt has not, and starts it again on the same
// port and data. Connections made before it are lost, as in a real restart.
func (c *Cluster) Restart(ctx context.Context) error {
	if c.external != nil {
		return errExternal
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lock == nil {
		return errors.New("devenv/postgres: the cluster was stopped: Start a new one")
	}
	err := c.halt(syscall.SIGINT)
	if err != nil {
		return err
	}
	err = stopLeftovers(c.data)
	if err != nil {
		return err
	}
	return c.serve(ctx)
}

var errExternal = errors.New("devenv/postgres: the DATABASE_URL server is not ours to restart: set Options.Private, or unset DATABASE_URL")

// halt ends the server process, if there is one.
func (c *Cluster) halt(sig syscall.Signal) error {
	if c.server == nil {
		return nil
	}
	err := c.server.Stop(sig, stopGrace)
	c.server = nil
	if err != nil {
		return fmt.Errorf("devenv/postgres: stop: %w", err)
	}
	return nil
}

// Log returns the last lines of the server's log, for error messages and tests.
func (c *Cluster) Log(lines int) string {
	raw, err := os.ReadFile(c.logPath())
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (c *Cluster) logPath() string { return filepath.Join(c.dir, "postgres.log") }
