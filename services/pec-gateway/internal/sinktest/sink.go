// Package sinktest runs Postfix's smtp-sink for tests: an SMTP server of others' making that fails in the phase that it is
// told to. It owns the TLS and the login before it, which smtp-sink does not have; everything else passes unchanged. It is
// used by tests only.
package sinktest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
)

// Sink is Postfix's smtp-sink behind TLS, with a login in front that it does not have itself.
type Sink struct {
	t       testing.TB
	dir     string
	address string // of smtp-sink itself
	front   *front
}

// Address is where it listens, host:port, with TLS from the first byte.
func (s *Sink) Address() string { return s.front.addr }

// Plain is where smtp-sink itself listens, without TLS.
func (s *Sink) Plain() string { return s.address }

// Certificate is what clients have to trust, PEM.
func (s *Sink) Certificate() []byte { return s.front.pem }

// Behind puts another sink in the place of this one: its faults are over.
func (s *Sink) Behind(other *Sink) { s.BehindAddress(other.address) }

// BehindAddress puts a server that listens there, without TLS, in the place of this one.
func (s *Sink) BehindAddress(address string) { s.front.behind.Store(&address) }

// Kept are the messages that it kept whole, with the envelope that Postfix puts before them.
func (s *Sink) Kept() [][]byte {
	s.t.Helper()
	found, err := filepath.Glob(s.dir + "/mail.*")
	require.NoError(s.t, err)
	var out [][]byte
	for _, f := range found {
		raw, err := os.ReadFile(f)
		require.NoError(s.t, err)
		out = append(out, raw)
	}
	return out
}

// Said is whether the server behind has said something in these words that has reached its client's machine.
func (s *Sink) Said(words string) bool {
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	return bytes.Contains(s.front.said, []byte(words))
}

// Start runs smtp-sink with its fault options.
func Start(t testing.TB, options ...string) *Sink {
	t.Helper()
	root, err := devenv.Root()
	require.NoError(t, err)
	program, env, err := devenv.Unpack(t.Context(), io.Discard, root, devenv.SMTPSink)
	require.NoError(t, err)
	address, _, err := devenv.FreeAddress()
	require.NoError(t, err)
	s := &Sink{t: t, dir: t.TempDir(), address: address}
	if os.Geteuid() == 0 {
		options = append([]string{"-u", "nobody"}, options...)
		require.NoError(t, os.Chmod(s.dir, 0o777)) //nolint:gosec // of the test, for the other user
		for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // so that the other user gets in
		}
	}
	cmd := exec.CommandContext(t.Context(), program, append(options, "-d", s.dir+"/mail.%M.", address, "10")...)
	cmd.Env, cmd.Dir = env, s.dir
	words, err := os.Create(filepath.Join(t.TempDir(), "words")) // a buffer of ours would be written while it is read
	require.NoError(t, err)
	cmd.Stderr = words
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // what it said tells why
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = words.Close() // nobody reads it any more
	})
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		select {
		case <-ended:
			said, err := os.ReadFile(words.Name())
			require.NoError(t, err)
			require.FailNow(t, "smtp-sink ended", "%s", said)
		case <-t.Context().Done():
			require.NoError(t, t.Context().Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.front = newFront(t, address)
	return s
}

// Count is how many messages the sink kept whole.
func (s *Sink) Count() int {
	found, err := filepath.Glob(s.dir + "/mail.*")
	require.NoError(s.t, err)
	return len(found)
}

// front ends TLS and the login, and passes everything else on to a server behind.
type front struct {
	addr   string
	pem    []byte
	behind atomic.Pointer[string]

	mu   sync.Mutex
	said []byte // by the server behind
}

func newFront(t testing.TB, behind string) *front {
	t.Helper()
	now := time.Now()
	cert := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	f := &front{addr: "localhost:" + port, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})}
	f.behind.Store(&behind)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.relay(c, *f.behind.Load())
		}
	}()
	return f
}

// relay adds AUTH to what the server behind offers and answers it.
func (f *front) relay(c net.Conn, behind string) {
	defer func() { _ = c.Close() }()
	b, err := net.Dial("tcp", behind)
	if err != nil {
		return
	}
	defer func() { _ = b.Close() }()
	go func() {
		defer func() { _ = c.Close() }()
		buf := make([]byte, 32<<10)
		for first := true; ; {
			n, err := b.Read(buf)
			out := buf[:n]
			if first && bytes.HasPrefix(out, []byte("250-")) {
				out, first = append([]byte("250-smtp-sink\r\n250-AUTH PLAIN\r\n"), out[bytes.IndexByte(out, '\n')+1:]...), false
			}
			_, werr := c.Write(out)
			f.mu.Lock()
			f.said = append(f.said, out...)
			f.mu.Unlock()
			if err != nil || werr != nil {
				return
			}
		}
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.Read(buf)
		if bytes.HasPrefix(buf[:n], []byte("AUTH ")) {
			_, err = c.Write([]byte("235 2.7.0 in\r\n"))
			n = 0
		}
		if _, werr := b.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// certificate makes a self-signed authority that is the server's certificate too.
func certificate(t testing.TB, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: to, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
