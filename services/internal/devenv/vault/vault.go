// Package vault runs the project's dev Vault (deploy/vaultdev) as a child process
// and provisions it with the engines, policies and role of the signer.
//
// It refuses to be a production Vault: the server it starts keeps its own unseal
// key and listens on loopback. With VAULT_ADDR set it only hands out addresses.
package vault

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

const (
	readyLimit = 60 * time.Second
	stopGrace  = 10 * time.Second
)

// Build returns the dev Vault's program, building it from deploy/vaultdev when it
// is missing or its sources changed. The first build fetches some 300 modules.
func Build(ctx context.Context, progress io.Writer, root string) (string, error) {
	return devenv.Build(ctx, progress, root, devenv.Tool{
		Name: "vaultdev", Dir: "deploy/vaultdev", Package: ".",
		Sources: []string{"deploy/vaultdev"}, Flags: []string{"-trimpath", "-ldflags=-s -w"},
	})
}

// Options describe the server to start.
type Options struct {
	// Dir keeps the server's storage over restarts; empty: in memory only.
	Dir string
	// Private ignores VAULT_ADDR, for tests that restart and freeze their server.
	Private bool
	// Audit is the file of Vault's audit device; empty: no audit device.
	Audit string
	// Progress receives a line for each step that takes more than a moment; nil: none.
	Progress io.Writer
}

// Server is a running Vault. Its methods may be called from any goroutine.
type Server struct {
	Addr  string // http://127.0.0.1:port, or VAULT_ADDR
	Token string // root token, or VAULT_TOKEN

	opts     Options
	bin      string
	external bool

	mu    sync.Mutex
	proc  *child.Process
	stdin *os.File
	log   *tail
}

// ready is the line that vaultdev prints once it answers.
type ready struct {
	Addr  string `json:"addr"`
	Token string `json:"token"`
}

// Start brings a server up, unsealed, and returns once it answers. The caller must
// Stop it.
func Start(ctx context.Context, o Options) (*Server, error) {
	if addr := os.Getenv("VAULT_ADDR"); addr != "" && !o.Private {
		return useExternal(ctx, addr)
	}
	root, err := devenv.Root()
	if err != nil {
		return nil, err
	}
	bin, err := Build(ctx, o.Progress, root)
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, bin: bin}
	err = s.serve(ctx, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return s, nil
}

func useExternal(ctx context.Context, addr string) (*Server, error) {
	token := os.Getenv("VAULT_TOKEN")
	if token == "" {
		return nil, errors.New("devenv/vault: VAULT_ADDR is set but VAULT_TOKEN is not: set a token that may mount engines and write policies, or unset VAULT_ADDR to use a private Vault")
	}
	s := &Server{Addr: addr, Token: token, external: true}
	err := s.Healthy(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w (unset VAULT_ADDR to use a private Vault)", err)
	}
	return s, nil
}

// External says whether the server is the one of VAULT_ADDR.
func (s *Server) External() bool { return s.external }

// PID is the server's process id; zero when external or not running.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.PID()
}

// Stop seals the server and ends it. An external one is left alone.
func (s *Server) Stop() error { return s.halt(syscall.SIGTERM) }

// Kill ends the server by SIGKILL, as a crash would.
func (s *Server) Kill() error {
	if s.external {
		return errExternal
	}
	return s.halt(syscall.SIGKILL)
}

// Pause freezes the server: connections open and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// Restart stops the server, if it still runs, and starts it at the same address.
// With Options.Dir keys, policies and the token are kept; without, all is new.
func (s *Server) Restart(ctx context.Context) error {
	if s.external {
		return errExternal
	}
	err := s.Stop()
	if err != nil {
		return err
	}
	return s.serve(ctx, strings.TrimPrefix(s.Addr, "http://"))
}

var errExternal = errors.New("devenv/vault: the VAULT_ADDR server is not ours to stop: set Options.Private, or unset VAULT_ADDR")

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errors.New("devenv/vault: no server of ours is running")
	}
	return s.proc.Signal(sig)
}

func (s *Server) halt(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	_ = s.proc.Signal(syscall.SIGCONT) // a paused server could not end in order
	err := s.proc.Stop(sig, stopGrace)
	err = errors.Join(err, s.stdin.Close())
	s.proc = nil
	if err != nil {
		return fmt.Errorf("devenv/vault: stop: %w", err)
	}
	return nil
}

func (s *Server) serve(ctx context.Context, addr string) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	step := devenv.Begin(s.opts.Progress, "starting the dev Vault")
	defer func() { step.End(err) }()
	args := []string{"-addr", addr}
	pidFile := ""
	if s.opts.Dir != "" {
		args = append(args, "-dir", s.opts.Dir)
		pidFile = filepath.Join(s.opts.Dir, "vaultdev.pid")
		err = os.MkdirAll(s.opts.Dir, 0o700)
		if err != nil {
			return fmt.Errorf("devenv/vault: %w", err)
		}
	}
	if s.opts.Audit != "" {
		args = append(args, "-audit", s.opts.Audit)
	}
	// The child ends when its input does: a second guard beside the death signal.
	input, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("devenv/vault: %w", err)
	}
	defer func() { _ = input.Close() }()
	lines := make(chan string, 1)
	s.log, s.stdin = &tail{}, hold
	s.proc, err = child.Start(child.Options{
		Path: s.bin, Args: args, PIDFile: pidFile,
		Death: syscall.SIGKILL, // a frozen server (Pause) would not heed a gentler signal
		Stdin: input, Stdout: &firstLine{to: lines}, Stderr: s.log,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("devenv/vault: %w", err), hold.Close())
	}
	err = s.await(ctx, lines)
	if err != nil {
		err = errors.Join(err, s.proc.Stop(syscall.SIGKILL, 0), hold.Close())
		s.proc = nil
	}
	return err
}

func (s *Server) await(ctx context.Context, lines <-chan string) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	select {
	case line := <-lines:
		var r ready
		err := json.Unmarshal([]byte(line), &r)
		if err != nil {
			return fmt.Errorf("devenv/vault: ready line %q: %w", line, err)
		}
		s.Addr, s.Token = r.Addr, r.Token
		return nil
	case <-s.proc.Done():
		return fmt.Errorf("devenv/vault: the server ended at its start (%w): %s", s.proc.Err(), s.log)
	case <-ctx.Done():
		return fmt.Errorf("devenv/vault: not ready: %w: %s", ctx.Err(), s.log)
	}
}

// firstLine passes on the first line written to it and swallows the rest.
type firstLine struct {
	to   chan<- string
	text strings.Builder
	sent bool
}

func (f *firstLine) Write(p []byte) (int, error) {
	if f.sent {
		return len(p), nil
	}
	f.text.Write(p)
	scanner := bufio.NewScanner(strings.NewReader(f.text.String()))
	if strings.Contains(f.text.String(), "\n") && scanner.Scan() {
		f.sent = true
		f.to <- scanner.Text()
	}
	return len(p), nil
}

// tail keeps the last kilobytes of the server's log for error messages.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - 4096; extra > 0 {
		t.text = t.text[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
