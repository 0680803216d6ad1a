// Package dovecot runs a real Dovecot (IMAPS, POP3S, quota) as a process of its own, for tests of what reads mailboxes.
// It is the distribution's program, run without root's rights.
//
// It refuses to listen anywhere but on loopback, and to speak without TLS.
package dovecot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/child"
)

const (
	readyLimit = 60 * time.Second
	orderly    = 300 * time.Millisecond // for processes that serve nobody
)

// Options describe the server to start.
type Options struct {
	Users       map[string]string // passwords by name
	Prefix      string            // of all folders but INBOX, such as "INBOX."; empty: none
	QuotaKiB    int               // room of each mailbox; zero: the server does not speak of quota
	Connections int               // that one user may have at a time; zero: a hundred
	Rights      bool              // SetRights says what users may do in their mailboxes (RFC 4314); until then everything
	ReuseUIDL   bool              // unique ids of POP3 are given again to other messages after ChangeUIDValidity
	Relay       string            // host:port of a server without TLS that takes what users send; empty: nobody sends here
	Progress    io.Writer         // receives lines for slow steps; nil: none
}

// Server is a running Dovecot. Its methods may be called from any goroutine.
type Server struct {
	set     settings
	bin     string
	account *child.User
	ca, key []byte
	mu      sync.Mutex
	proc    *child.Process
	count   int               // of delivered messages, for names
	refused map[string]string // users who are not let in, with the reason
}

// Peers are the packages that bring the servers.
var Peers = []devenv.Peer{devenv.DovecotIMAP, devenv.DovecotPOP3}

// Start installs Dovecot if needed, starts it in a new folder and waits until it answers. Stop removes the folder.
func Start(ctx context.Context, o Options) (s *Server, err error) {
	peers := slices.Clone(Peers)
	if o.Relay != "" {
		peers = append(peers, devenv.DovecotSend)
	}
	err = devenv.RequirePeers(ctx, o.Progress, peers...)
	if err != nil {
		return nil, err
	}
	s = &Server{set: settings{Options: o}}
	s.bin, err = program()
	if err != nil {
		return nil, err
	}
	// Not below the tests' own folders: those of root are closed to others, and names of sockets have to be short.
	s.set.dir, err = os.MkdirTemp("", "ceralacca-dovecot-")
	if err != nil {
		return nil, fmt.Errorf("devenv/dovecot: %w", err)
	}
	err = s.prepare(ctx)
	if err == nil {
		err = s.serve(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.set.dir))
	}
	return s, nil
}

// program is where packages put the master; it is not in everybody's PATH.
func program() (string, error) {
	path, err := exec.LookPath("dovecot")
	if err == nil {
		return path, nil
	}
	for _, path = range []string{"/usr/sbin/dovecot", "/usr/local/sbin/dovecot"} {
		if _, err = os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("devenv/dovecot: dovecot is neither in PATH nor in /usr/sbin: %w", err)
}

// identity is whom the server runs as: nobody for root, everyone else as themselves.
func (s *Server) identity() error {
	u, err := user.Current()
	if err == nil && u.Uid == "0" {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return fmt.Errorf("devenv/dovecot: whom to run it as: %w", err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return fmt.Errorf("devenv/dovecot: the group of %s: %w", u.Username, err)
	}
	s.set.user, s.set.group = u.Username, g.Name
	if os.Geteuid() != 0 {
		return nil
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return fmt.Errorf("devenv/dovecot: user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	s.account = &child.User{Name: u.Username, UID: uint32(uid), GID: uint32(gid)}
	return err
}

// prepare writes everything that the server reads at its start.
func (s *Server) prepare(ctx context.Context) error {
	err := s.identity()
	if err != nil {
		return err
	}
	for _, port := range []*int{&s.set.imaps, &s.set.pop3s, &s.set.submissions} {
		_, *port, err = devenv.FreeAddress()
		if err != nil {
			return err
		}
	}
	out, err := exec.CommandContext(ctx, s.bin, "--version").Output()
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %s --version: %w", s.bin, err)
	}
	text, err := s.set.text(strings.TrimSpace(string(out)))
	if err != nil {
		return err
	}
	key, cert, err := certificate()
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	s.ca, s.key = cert, key
	for name, data := range map[string][]byte{"dovecot.conf": []byte(text), "key.pem": key, "cert.pem": cert} {
		err = os.WriteFile(filepath.Join(s.set.dir, name), data, 0o600)
		if err != nil {
			return fmt.Errorf("devenv/dovecot: %w", err)
		}
	}
	for _, name := range []string{"run", "state", "home"} {
		err = os.Mkdir(filepath.Join(s.set.dir, name), 0o700)
		if err != nil {
			return fmt.Errorf("devenv/dovecot: %w", err)
		}
	}
	for name := range s.set.Users {
		err = s.makeFolder(filepath.Join(s.home(name), "Maildir"))
		if err != nil {
			return err
		}
	}
	err = s.writeUsers()
	if err != nil {
		return err
	}
	return s.give(s.set.dir)
}

// SetPassword gives a user a password, a new user a mailbox. Open sessions stay. The server looks at its list of
// passwords once in a second, so the new one holds a moment later.
func (s *Server) SetPassword(name, password string) error {
	return s.SetPasswords(map[string]string{name: password})
}

// SetPasswords is SetPassword for many users.
func (s *Server) SetPasswords(fresh map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	users := map[string]string{}
	maps.Copy(users, s.set.Users)
	maps.Copy(users, fresh)
	s.set.Users = users
	for name := range fresh {
		dir := filepath.Join(s.home(name), "Maildir")
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		err := errors.Join(s.makeFolder(dir), s.give(s.home(name)))
		if err != nil {
			return err
		}
	}
	err := s.writeUsers()
	if err != nil {
		return err
	}
	return s.give(filepath.Join(s.set.dir, "users"))
}

// Refuse lets a user not in whatever the password, for a reason of one word, as a provider whose customer switched a protocol off;
// an empty one lets the user in again. Open sessions stay.
func (s *Server) Refuse(name, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = map[string]string{}
	}
	s.refused[name] = why
	err := s.writeUsers()
	if err != nil {
		return err
	}
	return s.give(filepath.Join(s.set.dir, "users"))
}

// SetRights says what a user may do in the INBOX, in the letters of RFC 4314: "lr" for looking and reading only. It needs
// Options.Rights, and holds for sessions from here on.
func (s *Server) SetRights(name, rights string) error {
	file := filepath.Join(s.home(name), "Maildir", "dovecot-acl")
	err := os.WriteFile(file+".new", []byte("owner "+rights+"\n"), 0o600)
	if err == nil {
		err = s.give(file + ".new")
	}
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	return nil
}

func (s *Server) writeUsers() error {
	var b strings.Builder
	for name, password := range s.set.Users {
		if strings.ContainsAny(name+password, ":\n/") {
			return fmt.Errorf("devenv/dovecot: user %q: names and passwords hold no colon, slash or line end", name)
		}
		fmt.Fprintf(&b, "%s:{PLAIN}%s", name, password)
		if why := s.refused[name]; why != "" {
			fmt.Fprintf(&b, "::::::nologin reason=%s", why)
		}
		b.WriteString("\n")
	}
	file := filepath.Join(s.set.dir, "users")
	err := os.WriteFile(file+".new", []byte(b.String()), 0o600)
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	return os.Rename(file+".new", file)
}

// give hands files to whom the server runs as.
func (s *Server) give(path string) error {
	if s.account == nil {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, int(s.account.UID), int(s.account.GID))
	})
}

func (s *Server) home(name string) string { return filepath.Join(s.set.dir, "home", name) }

// IMAPS is the address for reading, with TLS from the first byte.
func (s *Server) IMAPS() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.set.imaps)) }

// POP3S is the address for reading without folders.
func (s *Server) POP3S() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.set.pop3s)) }

// Submissions is the address for sending, with TLS from the first byte; it needs Options.Relay.
func (s *Server) Submissions() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.set.submissions))
}

// KeyPEM is the key of the servers' certificate, for who stands between them and a client.
func (s *Server) KeyPEM() []byte { return s.key }

// Has says whether there is such a user.
func (s *Server) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.set.Users[name]
	return ok
}

// CAPEM is the certificate that clients have to trust.
func (s *Server) CAPEM() []byte { return s.ca }

// Stop shuts the server down and removes its folder.
func (s *Server) Stop() error {
	return errors.Join(s.Halt(), os.RemoveAll(s.set.dir))
}

// Halt shuts the server down in order. The mailboxes stay for Restart.
func (s *Server) Halt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	err := s.halt()
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	return nil
}

// halt ends the master, then those of its processes that still serve somebody: they would write down what they
// remember of a mailbox. The master would wait for them.
func (s *Server) halt() error {
	group := s.proc.PID()
	defer func() { s.proc = nil }()
	err := s.proc.Signal(syscall.SIGTERM)
	if err != nil {
		return err
	}
	select {
	case <-s.proc.Done():
	case <-time.After(orderly):
	}
	for range 1000 {
		if syscall.Kill(-group, syscall.SIGKILL) != nil {
			return nil // nobody is left
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("processes of the server do not end")
}

// Restart halts the server, if it still runs, and starts it on the same ports and mailboxes.
func (s *Server) Restart(ctx context.Context) error {
	err := s.Halt()
	if err != nil {
		return err
	}
	return s.serve(ctx)
}

func (s *Server) serve(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A file and not a pipe: its processes keep it open, and nobody waits for that.
	said, err := os.Create(filepath.Join(s.set.dir, "said"))
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	defer func() { _ = said.Close() }()
	s.proc, err = child.Start(child.Options{
		Path: s.bin, Args: []string{"-F", "-c", s.set.file()}, Dir: s.set.dir, User: s.account, Stdout: said, Stderr: said,
	})
	if err != nil {
		return fmt.Errorf("devenv/dovecot: %w", err)
	}
	err = s.ready(ctx)
	if err != nil {
		last, _ := os.ReadFile(said.Name())
		return errors.Join(fmt.Errorf("%w\n%s%s", err, last, s.Log()), s.halt())
	}
	return nil
}

// ready waits until both doors greet.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for _, address := range []string{s.IMAPS(), s.POP3S()} {
		for {
			err := s.greeted(ctx, address)
			if err == nil {
				break
			}
			select {
			case <-s.proc.Done():
				return fmt.Errorf("devenv/dovecot: the server ended at its start: %w", s.proc.Err())
			case <-ctx.Done():
				return fmt.Errorf("devenv/dovecot: %s does not greet: %w", address, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (s *Server) greeted(ctx context.Context, address string) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca)
	d := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	err = conn.SetDeadline(time.Now().Add(readyLimit))
	if err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

// Log is the end of what the server wrote.
func (s *Server) Log() string {
	raw, err := os.ReadFile(filepath.Join(s.set.dir, "log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}
