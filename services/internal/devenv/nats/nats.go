// Package nats runs a real nats-server with JetStream as a process of its own, for
// tests that stop, kill and restart it under the platform's feet. The platform
// itself embeds the same server as a library.
//
// It refuses to listen anywhere but on loopback.
package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

const (
	readyLimit = 30 * time.Second
	stopGrace  = 10 * time.Second
)

// Build returns the server's program, made from the module that services require.
func Build(ctx context.Context, progress io.Writer, root string) (string, error) {
	return devenv.Build(ctx, progress, root, devenv.Tool{
		Name: "nats-server", Dir: "services", Package: "github.com/nats-io/nats-server/v2",
		Sources: []string{"services/go.mod"}, Flags: []string{"-ldflags=-s -w"},
	})
}

// Options describe the server to start.
type Options struct {
	Dir      string    // keeps the JetStream store, the log and the pid file
	Port     int       // loopback port; zero: a free one
	Progress io.Writer // receives lines for slow steps; nil: none
	Grants   *Grants   // who may do what; nil: anybody may do everything, without TLS
}

// Grants make the server know each client by the name in its certificate. All fields are paths of PEM files, but
// Permissions: users and what they may do, in the server's own language, as in deploy/nats.
type Grants struct {
	Cert, Key, CA         string // the server's own, and who vouches for clients
	ClientCert, ClientKey string // in whose name Start, Restart and Connect speak; must be allowed $JS.API
	ClientName            string // its user: answers come to _INBOX.<name>
	Permissions           string
}

// Server is a running nats-server. Its methods may be called from any goroutine.
type Server struct {
	opts Options
	bin  string
	mu   sync.Mutex
	proc *child.Process
}

// Start builds the program if needed, starts it and waits until JetStream answers.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("devenv/nats: Options.Dir is empty: name the folder that keeps the streams")
	}
	root, err := devenv.Root()
	if err != nil {
		return nil, err
	}
	bin, err := Build(ctx, o.Progress, root)
	if err != nil {
		return nil, err
	}
	err = os.MkdirAll(o.Dir, 0o755)
	if err != nil {
		return nil, fmt.Errorf("devenv/nats: %w", err)
	}
	if o.Grants != nil {
		err = o.Grants.write(o.Dir)
		if err != nil {
			return nil, fmt.Errorf("devenv/nats: %w", err)
		}
	}
	s := &Server{opts: o, bin: bin}
	if s.opts.Port == 0 {
		_, s.opts.Port, err = devenv.FreeAddress()
		if err != nil {
			return nil, fmt.Errorf("devenv/nats: %w", err)
		}
	}
	err = s.serve(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// configName is the file of Grants in Dir; the server includes the one beside it.
const (
	configName = "server.conf"
	grantsName = "permissions.conf"
)

func (g *Grants) write(dir string) error {
	permissions, err := os.ReadFile(g.Permissions)
	if err != nil {
		return err
	}
	err = os.WriteFile(filepath.Join(dir, grantsName), permissions, 0o600)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, configName), fmt.Appendf(nil,
		"tls { cert_file: %q, key_file: %q, ca_file: %q, verify_and_map: true }\ninclude %s\n", g.Cert, g.Key, g.CA, grantsName), 0o600)
}

// URL is the address for clients.
func (s *Server) URL() string {
	scheme := "nats"
	if s.opts.Grants != nil {
		scheme = "tls"
	}
	return fmt.Sprintf("%s://127.0.0.1:%d", scheme, s.opts.Port)
}

// Connect is a connection of Grants' client, or of anybody when there are none. The caller closes it.
func (s *Server) Connect(opts ...natsgo.Option) (*natsgo.Conn, error) {
	if g := s.opts.Grants; g != nil {
		opts = append(opts, natsgo.ClientCert(g.ClientCert, g.ClientKey), natsgo.RootCAs(g.CA), natsgo.CustomInboxPrefix("_INBOX."+g.ClientName))
	}
	return natsgo.Connect(s.URL(), opts...)
}

// PID is the server's process id; zero when it is not running.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.PID()
}

// Stop shuts the server down in order. The streams stay in Dir.
func (s *Server) Stop() error { return s.halt(syscall.SIGTERM) }

// Kill ends the server by SIGKILL, as a crash would.
func (s *Server) Kill() error { return s.halt(syscall.SIGKILL) }

// Pause freezes the server: its connections stay open and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// Restart stops the server, if it still runs, and starts it on the same port and streams.
func (s *Server) Restart(ctx context.Context) error {
	err := s.Stop()
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errors.New("devenv/nats: the server is not running")
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
	s.proc = nil
	if err != nil {
		return fmt.Errorf("devenv/nats: %w", err)
	}
	return nil
}

func (s *Server) serve(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	log, err := os.OpenFile(s.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("devenv/nats: %w", err)
	}
	defer func() { _ = log.Close() }()
	args := []string{"--addr", "127.0.0.1", "--port", strconv.Itoa(s.opts.Port), "--jetstream", "--store_dir", filepath.Join(s.opts.Dir, "store")}
	if s.opts.Grants != nil {
		args = append(args, "--config", filepath.Join(s.opts.Dir, configName))
	}
	s.proc, err = child.Start(child.Options{
		Path: s.bin, PIDFile: filepath.Join(s.opts.Dir, "nats-server.pid"), Stdout: log, Stderr: log,
		Death: syscall.SIGKILL, // a frozen server (Pause) would not heed a gentler signal
		Args:  args,
	})
	if err != nil {
		return fmt.Errorf("devenv/nats: %w", err)
	}
	err = s.ready(ctx)
	if err != nil {
		stopErr := s.proc.Stop(syscall.SIGKILL, 0)
		s.proc = nil
		return errors.Join(err, stopErr)
	}
	return nil
}

// ready waits for JetStream, which comes up after the port does.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := s.ask()
		if err == nil {
			return nil
		}
		select {
		case <-s.proc.Done():
			return fmt.Errorf("devenv/nats: the server ended at its start (%w); its log says:\n%s", s.proc.Err(), s.lastLog())
		case <-ctx.Done():
			return fmt.Errorf("devenv/nats: not ready: %w: last answer: %w", ctx.Err(), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) ask() error {
	conn, err := s.Connect(natsgo.NoReconnect(), natsgo.Timeout(time.Second))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := conn.JetStream(natsgo.MaxWait(time.Second))
	if err != nil {
		return err
	}
	_, err = js.AccountInfo()
	return err
}

func (s *Server) logPath() string { return filepath.Join(s.opts.Dir, "nats-server.log") }

func (s *Server) lastLog() string {
	raw, err := os.ReadFile(s.logPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}
