package submit_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// bothWays runs a test against servers with TLS from the first byte and with STARTTLS.
func bothWays(t *testing.T, fn func(t *testing.T, open func(change ...func(*peer)) *peer)) {
	t.Helper()
	now := time.Now()
	conf := &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))}}
	for name, clear := range map[string]bool{"TLS": false, "STARTTLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, func(change ...func(*peer)) *peer {
				p := newPeerWith(t, map[string]string{}, conf, clear)
				for _, c := range change {
					c(p)
				}
				return p
			})
		})
	}
}

// TestA2BeforeTheDot: the connection ends before the last piece of the content leaves, or when everything but the dot has left. Nobody has
// read a dot, so the message was surely not taken, whether the end shows before the dot is written or by the writing. Once it has been written nothing is certain: not when the
// server says no more, and not when the time for writing is over. TESTPLAN A2, A3.
func TestA2BeforeTheDot(t *testing.T) {
	bothWays(t, func(t *testing.T, open func(...func(*peer)) *peer) {
		for _, tc := range []struct {
			name    string
			before  func(*peer) // what happens before the last piece leaves
			at      func(*peer) // and when it is about to be written
			within  time.Duration
			outcome submit.Outcome
			phase   submit.Phase
		}{
			{name: "reset before", before: func(p *peer) { p.hangUp(true) }, outcome: submit.Deferred, phase: submit.PhaseBody},
			{name: "no more said before", before: func(p *peer) { p.hangUp(false) }, outcome: submit.Deferred, phase: submit.PhaseBody},
			{name: "reset at the dot", at: func(p *peer) { p.hangUp(true) }, outcome: submit.Deferred, phase: submit.PhaseDot},
			{name: "no more said at the dot", at: func(p *peer) { p.hangUp(false) }, outcome: submit.Unknown, phase: submit.PhaseDot},
			{name: "no time for the dot", within: time.Nanosecond, outcome: submit.Unknown, phase: submit.PhaseDot},
		} {
			p, raw := open(), content(10)
			srv := p.server()
			if tc.within > 0 {
				srv.Timeouts.Dot = tc.within
			}
			res := submit.Submit(t.Context(), srv, login, message(raw), submit.Hooks{
				BeforeEnd: func(context.Context) error {
					if tc.before != nil {
						tc.before(p)
					}
					return nil
				},
				Enter: func(ph submit.Phase) {
					if ph == submit.PhaseDot && tc.at != nil {
						p.has(len(raw))
						tc.at(p)
					}
				},
			})
			require.Equal(t, tc.outcome, res.Outcome, "%s: %s", tc.name, res)
			require.Equal(t, tc.phase, res.Phase, "%s: %s", tc.name, res)
			require.Equal(t, submit.CauseNetwork, res.Cause, tc.name)
			if tc.outcome == submit.Deferred {
				require.Empty(t, p.rests(), "%s: it is sent again, and was taken", tc.name)
			}
		}
	})
}

// TestA2SaysTooEarlyThatItIsTaken: a server that counts the bytes which MAIL announced, and takes the message without its dot. What it
// has is not sent again, whenever its word arrives and though the connection is reset behind it. TESTPLAN A2, I3.
func TestA2SaysTooEarlyThatItIsTaken(t *testing.T) {
	bothWays(t, func(t *testing.T, open func(...func(*peer)) *peer) {
		counts := func(p *peer) { p.counts = true }
		raw := content(10)
		for range 20 { // before the dot or after it, as it comes
			p := open(counts)
			res := p.submit(message(raw), submit.Hooks{})
			require.Equal(t, [][]byte{raw}, p.rests())
			require.Contains(t, []submit.Outcome{submit.Accepted, submit.Unknown}, res.Outcome, res)
		}
		// It cannot have the message before the caller has been asked, however long the message is and however many of its lines begin
		// with dots. Where the caller does not let it be ended, it has no message.
		for _, raw := range [][]byte{raw, content(5000), bytes.Repeat([]byte(".\r\n"), 30_000)} {
			for _, withheld := range []error{nil, errors.New("another replica has the message")} {
				p := open(counts, func(p *peer) { p.all = true })
				res := p.submit(message(raw), submit.Hooks{BeforeEnd: func(context.Context) error {
					p.has(len(raw)*3/4 - 40<<10) // of three bytes that leave, one may be a dot more
					require.Empty(t, p.taken(), "taken before it was marked")
					return withheld
				}})
				if withheld != nil {
					require.Equal(t, []any{submit.Deferred, submit.CauseStopped}, []any{res.Outcome, res.Cause}, res)
					require.Empty(t, p.rests())
					continue
				}
				require.Len(t, p.rests(), 1)
				require.Contains(t, []submit.Outcome{submit.Accepted, submit.Unknown}, res.Outcome, res)
			}
		}

		// It says so in the middle of the content, which is given up at once: we do not go on to write what nobody reads.
		p := open()
		began := time.Now()
		res := p.submit(halfway(message(content(5000)), func() {
			p.has(1)
			p.say("250 2.0.0 taken\r\n")
			time.Sleep(50 * time.Millisecond)
		}), submit.Hooks{BeforeEnd: func(context.Context) error {
			t.Error("the end was thought of")
			return nil
		}})
		require.Equal(t, []any{submit.Unknown, submit.PhaseBody, submit.CauseProtocol}, []any{res.Outcome, res.Phase, res.Cause}, res)
		require.Less(t, time.Since(began), 5*time.Second)
		p = open(func(p *peer) {
			p.deaf, p.script["EHLO"] = true, "250-peer\n250-SIZE 10000000\n250-STARTTLS\n250 AUTH PLAIN LOGIN"
		})
		res = p.submit(message(content(200_000)), submit.Hooks{})
		require.Equal(t, []any{submit.Unknown, submit.PhaseBody, submit.CauseProtocol}, []any{res.Outcome, res.Phase, res.Cause}, res)

		// The word and the reset come when the dot is about to be written, which then fails.
		p = open()
		res = p.submit(message(raw), submit.Hooks{Enter: func(ph submit.Phase) {
			if ph == submit.PhaseDot {
				p.say("250 2.0.0 taken\r\n")
				p.hangUp(true)
			}
		}})
		require.Equal(t, []any{submit.Unknown, submit.PhaseDot, submit.CauseProtocol}, []any{res.Outcome, res.Phase, res.Cause}, res)
		p = open()
		res = p.submit(message(raw), submit.Hooks{Enter: func(ph submit.Phase) {
			if ph == submit.PhaseDot {
				p.say("421 4.4.2 you took too long\r\n")
				p.hangUp(true)
			}
		}})
		require.Equal(t, []any{submit.Deferred, submit.PhaseDot, submit.CauseBusy, 421}, []any{res.Outcome, res.Phase, res.Cause, res.Code}, res)
		require.Empty(t, p.rests())
	})
}

// TestA2BeginsToAnswerTooEarly: what is said before the dot and is no answer, or only the beginning of one, is not read as the first word
// of the answer to the dot, which does not leave. TESTPLAN A2.
func TestA2BeginsToAnswerTooEarly(t *testing.T) {
	for _, words := range []string{"what?\r\n", "2"} {
		p := newPeer(t, nil)
		res := p.submit(message(content(10)), submit.Hooks{BeforeEnd: func(context.Context) error {
			p.say(words)
			return nil
		}})
		require.Equal(t, []any{submit.Deferred, submit.PhaseBody, submit.CauseProtocol}, []any{res.Outcome, res.Phase, res.Cause}, "%q: %s", words, res)
		require.Empty(t, p.rests())
	}
}

// TestA3AnswersTwice: after a refusal of the whole message the goodbye is answered with an acceptance: which of the two meant the
// message nobody knows. TESTPLAN A3, I3.
func TestA3AnswersTwice(t *testing.T) {
	p := newPeer(t, map[string]string{"DOT": "554 5.6.0 not so", "QUIT": "250 2.0.0 taken"})
	res := p.submit(message(content(10)), submit.Hooks{})
	require.Len(t, p.rests(), 1)
	require.Equal(t, []any{submit.Unknown, submit.CauseProtocol}, []any{res.Outcome, res.Cause}, res)
	require.Contains(t, res.Text, "554 5.6.0 not so")
}

// dyingEnv has this program submit a message and hang before its dot, until it is killed. It holds the server's address, its
// certificate and "true" for STARTTLS.
const dyingEnv = "SUBMIT_AND_DIE_AT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(dyingEnv); spec != "" {
		hangBeforeTheDot(spec)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func hangBeforeTheDot(spec string) {
	words := strings.Fields(spec)
	der, err := base64.StdEncoding.DecodeString(words[1])
	if err != nil {
		return
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	srv := submit.Server{Address: words[0], TLS: &tls.Config{RootCAs: roots}, StartTLS: words[2] == "true"}
	res := submit.Submit(context.Background(), srv, login, message(content(5000)), submit.Hooks{Enter: func(ph submit.Phase) {
		if ph == submit.PhaseDot {
			time.Sleep(time.Minute)
		}
	}})
	fmt.Fprintln(os.Stderr, res)
}

// TestA2NoEndIsShown: a server that takes an end of the connection for the end of the message, as the rule forbids, has no message when
// we give one up in its middle or before its dot, or when our process is killed there: it is shown a reset and no end. TESTPLAN A2, A6.
func TestA2NoEndIsShown(t *testing.T) {
	bothWays(t, func(t *testing.T, open func(...func(*peer)) *peer) {
		sloppy := func(p *peer) { p.sloppy = true }
		raw := content(5000)
		p := open(sloppy)
		res := p.submit(message(raw), submit.Hooks{BeforeEnd: func(context.Context) error {
			p.has(len(raw) - 40<<10)
			return errors.New("another replica has the message")
		}})
		require.Equal(t, submit.Deferred, res.Outcome, res)
		require.Empty(t, p.rests(), "withdrawn before the dot")

		p = open(sloppy)
		ctx, stop := context.WithCancel(t.Context())
		res = submit.Submit(ctx, p.server(), login, halfway(message(raw), func() {
			p.has(1)
			stop()
		}), submit.Hooks{})
		require.Equal(t, submit.Deferred, res.Outcome, res)
		require.Empty(t, p.rests(), "stopped in the content")

		p = open(sloppy)
		msg, opened := message(raw), 0
		msg.Open = func() (io.ReadCloser, error) {
			if opened++; opened == 2 {
				return io.NopCloser(bytes.NewReader(raw[:len(raw)/2])), nil
			}
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		res = p.submit(msg, submit.Hooks{})
		require.Equal(t, submit.Deferred, res.Outcome, res)
		require.Empty(t, p.rests(), "the content could not be read to its end")

		p = open(sloppy)
		var words bytes.Buffer
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), fmt.Sprint(dyingEnv, "=", p.server().Address, " ", base64.StdEncoding.EncodeToString(p.root), " ", p.clear))
		child.Stderr = &words
		require.NoError(t, child.Start())
		t.Cleanup(func() { _ = child.Process.Kill() })
		p.has(len(raw))
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait())
		require.Empty(t, words.String(), "it had come to an end")
		require.Empty(t, p.rests(), "killed before the dot")

		// Once the last piece may leave the message is ended, whatever becomes of the caller's context: leaving it there would show nobody
		// whether it was taken.
		p = open()
		ctx, stop = context.WithCancel(t.Context())
		res = submit.Submit(ctx, p.server(), login, atTheEnd(message(raw), stop), submit.Hooks{})
		require.Equal(t, submit.Accepted, res.Outcome, res)
		require.Equal(t, [][]byte{raw}, p.rests())
	})
}

// halfway does something in the middle of the content.
func halfway(m submit.Message, fn func()) submit.Message {
	open, opened := m.Open, 0
	m.Open = func() (io.ReadCloser, error) {
		in, err := open()
		if opened++; opened == 2 && err == nil {
			return &interrupted{ReadCloser: in, fn: fn}, nil
		}
		return in, err
	}
	return m
}

// atTheEnd does something when everything has been read.
func atTheEnd(m submit.Message, fn func()) submit.Message {
	open := m.Open
	opened := 0
	m.Open = func() (io.ReadCloser, error) {
		in, err := open()
		if opened++; opened == 2 && err == nil {
			return struct {
				io.Reader
				io.Closer
			}{io.MultiReader(in, readerFunc(func([]byte) (int, error) { fn(); return 0, io.EOF })), in}, nil
		}
		return in, err
	}
	return m
}

type readerFunc func(b []byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

type interrupted struct {
	io.ReadCloser
	read int
	fn   func()
}

func (r *interrupted) Read(b []byte) (int, error) {
	if r.read++; r.read == 3 {
		r.fn()
	}
	return r.ReadCloser.Read(b)
}

// carrier carries bytes between us and a server, as a load balancer that knows nothing of TLS does, and breaks the connection at a byte.
type carrier struct {
	addr string

	mu   sync.Mutex
	sent int // bytes to the server
	end  int // so many are carried and no more; -1: all
	all  sync.WaitGroup
}

func newCarrier(t *testing.T, to string) *carrier {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &carrier{addr: strings.Replace(l.Addr().String(), "127.0.0.1", "localhost", 1), end: -1}
	c.all.Go(func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = near.Close() }()
		far, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer func() { _ = far.Close() }()
		c.all.Go(func() {
			defer func() { _ = near.Close() }()
			_, _ = io.Copy(near, far)
		})
		buf := make([]byte, 32<<10)
		for {
			n, err := near.Read(buf)
			out, over := c.let(buf[:n])
			if _, werr := far.Write(out); err != nil || werr != nil || over {
				return
			}
		}
	})
	t.Cleanup(func() { _ = l.Close(); c.all.Wait() })
	return c
}

// let says what of these bytes passes, and whether nothing more does.
func (c *carrier) let(b []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end >= 0 && c.sent+len(b) >= c.end {
		return b[:c.end-c.sent], true
	}
	c.sent += len(b)
	return b, false
}

// more lets so many bytes more pass.
func (c *carrier) more(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = c.sent + n
}

// TestA2NoDotWithoutItsLastByte: whatever part of the dot's record arrives, the server has read no dot: the message is ended by the last
// byte of the record and by none before it. On that stands what is concluded from a dot that could not be written whole. TESTPLAN A2.
func TestA2NoDotWithoutItsLastByte(t *testing.T) {
	raw := content(3)
	for name, tc := range map[string]struct {
		version uint16
		clear   bool
		record  int // bytes: header, nonce, three bytes, type, tag
	}{
		"TLS 1.3": {tls.VersionTLS13, false, 5 + 3 + 1 + 16}, "TLS 1.2": {tls.VersionTLS12, false, 5 + 8 + 3 + 16}, "STARTTLS": {tls.VersionTLS13, true, 5 + 3 + 1 + 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			cert := certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
			for k := range tc.record + 1 {
				p := newPeerWith(t, nil, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tc.version, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, tc.clear)
				c := newCarrier(t, p.addr)
				srv := p.server()
				srv.Address = c.addr
				res := submit.Submit(t.Context(), srv, login, message(raw), submit.Hooks{Enter: func(ph submit.Phase) {
					if ph == submit.PhaseDot {
						p.has(len(raw))
						c.more(k)
					}
				}})
				if k == tc.record {
					require.Equal(t, [][]byte{raw}, p.rests())
					continue
				}
				require.Empty(t, p.rests(), "%d bytes of the record", k)
				require.NotEqual(t, submit.Accepted, res.Outcome, res)
			}
		})
	}
}
