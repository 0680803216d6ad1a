package submit_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/pec-gateway/internal/submit"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"ceralacca.dev/services/sandbox/sandboxtest"
)

// sink is Postfix's smtp-sink behind TLS, with a login in front that it does not have itself.
type sink struct {
	t     *testing.T
	dir   string
	front *front
}

// startSink runs smtp-sink with its fault options.
func startSink(t *testing.T, options ...string) *sink {
	t.Helper()
	root, err := devenv.Root()
	require.NoError(t, err)
	program, env, err := devenv.Unpack(t.Context(), io.Discard, root, devenv.SMTPSink)
	require.NoError(t, err)
	address, _, err := devenv.FreeAddress()
	require.NoError(t, err)
	s := &sink{t: t, dir: t.TempDir()}
	if os.Geteuid() == 0 {
		options = append([]string{"-u", "nobody"}, options...)
		require.NoError(t, os.Chmod(s.dir, 0o777)) //nolint:gosec // of the test, for the other user
		for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o777)) //nolint:gosec // so that the other user gets in
		}
	}
	cmd := exec.CommandContext(t.Context(), program, append(options, "-d", s.dir+"/mail.%M.", address, "10")...)
	cmd.Env, cmd.Dir = env, s.dir
	var words bytes.Buffer
	cmd.Stderr = &words
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		require.Nil(t, cmd.ProcessState, words.String())
		require.NoError(t, t.Context().Err())
		time.Sleep(5 * time.Millisecond)
	}
	s.front = newFront(t, address)
	return s
}

// count is how many messages the sink kept whole.
func (s *sink) count() int {
	found, err := filepath.Glob(s.dir + "/mail.*")
	require.NoError(s.t, err)
	return len(found)
}

// front ends TLS and the login, and passes everything else on to a server behind.
type front struct {
	addr  string
	roots *x509.CertPool
}

func newFront(t *testing.T, behind string) *front {
	t.Helper()
	now := time.Now()
	cert := certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	root, err := x509.ParseCertificate(cert.Certificate[0])
	require.NoError(t, err)
	f := &front{addr: l.Addr().String(), roots: x509.NewCertPool()}
	f.roots.AddCert(root)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relay(c, behind)
		}
	}()
	return f
}

// relay adds AUTH to what the server behind offers and answers it.
func relay(c net.Conn, behind string) {
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
			if _, werr := c.Write(out); err != nil || werr != nil {
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

func (f *front) server() submit.Server {
	_, port, _ := net.SplitHostPort(f.addr)
	return submit.Server{
		Address: "localhost:" + port, TLS: &tls.Config{RootCAs: f.roots},
		Timeouts: submit.Timeouts{Command: 5 * time.Second, Data: 5 * time.Second, Dot: 5 * time.Second},
	}
}

// TestSink: Postfix's fault injector as the other side. TESTPLAN A1, A2, A3, A8, A9, A10.
func TestSink(t *testing.T) {
	rules := submit.Rules{Throttled: []*regexp.Regexp{regexp.MustCompile("Too much traffic")}}
	for _, tc := range []struct {
		name    string
		options []string
		outcome submit.Outcome
		phase   submit.Phase
		cause   submit.Cause
		kept    int
	}{
		{"takes", nil, submit.Accepted, submit.PhaseDone, "", 1},
		{"A3 hangs up after the dot", []string{"-q", "."}, submit.Unknown, submit.PhaseDot, submit.CauseNetwork, -1},
		{"A2 hangs up at DATA", []string{"-q", "data"}, submit.Deferred, submit.PhaseData, submit.CauseNetwork, -1},
		{"A1 hangs up at MAIL", []string{"-q", "mail"}, submit.Deferred, submit.PhaseMail, submit.CauseNetwork, -1},
		{"A1 hangs up at RCPT", []string{"-q", "rcpt"}, submit.Deferred, submit.PhaseRcpt, submit.CauseNetwork, -1},
		{"A8 421 at MAIL", []string{"-Q", "mail"}, submit.Deferred, submit.PhaseMail, submit.CauseBusy, -1},
		{"A8 421 after the dot", []string{"-Q", "."}, submit.Deferred, submit.PhaseDot, submit.CauseBusy, -1},
		{"A8 soft at RCPT", []string{"-r", "rcpt"}, submit.Deferred, submit.PhaseRcpt, submit.CauseRecipients, -1},
		{"A8 soft after the dot", []string{"-r", "."}, submit.Deferred, submit.PhaseDot, submit.CauseBusy, -1},
		{"A9 hard at RCPT", []string{"-f", "rcpt"}, submit.Refused, submit.PhaseRcpt, submit.CauseRecipients, -1},
		{"hard after the dot", []string{"-f", "."}, submit.Refused, submit.PhaseDot, submit.CausePolicy, -1},
		{"A10 throttled", []string{"-f", "mail", "-B", `550 MAIL from: "x" blocked "Class Of Service" - Too much traffic from this sender`}, submit.Deferred, submit.PhaseMail, submit.CauseThrottled, -1},
		{"aborts before the dot", []string{"-A", "1"}, submit.Refused, submit.PhaseBody, submit.CausePolicy, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := startSink(t, tc.options...)
			srv := s.front.server()
			srv.Rules = rules
			msg := message(content(3000))
			if tc.name == "aborts before the dot" {
				msg = slow(msg)
			}
			res := submit.Submit(t.Context(), srv, login, msg, submit.Hooks{})
			require.Equal(t, tc.outcome, res.Outcome, res)
			require.Equal(t, tc.phase, res.Phase, res)
			require.Equal(t, tc.cause, res.Cause, res)
			if tc.kept >= 0 {
				require.Equal(t, tc.kept, s.count())
			}
		})
	}
}

// slow waits in the middle of the content until the server has had time to give up.
func slow(m submit.Message) submit.Message {
	open, opened := m.Open, 0
	m.Open = func() (io.ReadCloser, error) {
		in, err := open()
		if opened++; opened == 2 && err == nil {
			return &pausing{ReadCloser: in}, nil
		}
		return in, err
	}
	return m
}

type pausing struct {
	io.ReadCloser
	read int
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.read++; p.read == 2 {
		time.Sleep(1200 * time.Millisecond)
	}
	return p.ReadCloser.Read(b)
}

// TestSandbox: the simulated providers, over both ways of TLS: what they count is what the result
// says. TESTPLAN A3, A4, A9, A12.
func TestSandbox(t *testing.T) {
	world := sandboxtest.Start(t, sandbox.Config{})
	control := client.New(world.Endpoints().ControlURL)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(world.CAPEM()))
	cred := submit.Credentials{User: "mittente@alfa.test", Password: pec.DefaultPassword}
	send := func(start bool, cred submit.Credentials, to ...string) *submit.Result {
		srv := submit.Server{Address: world.Endpoints().PEC.SMTPSAddr, TLS: &tls.Config{RootCAs: roots, ServerName: "localhost"}}
		if start {
			srv.Address, srv.StartTLS = world.Endpoints().PEC.SubmissionAddr, true
		}
		raw := []byte("From: mittente@alfa.test\r\nTo: " + to[0] + "\r\nSubject: prova\r\nMessage-ID: <" + strconv.FormatInt(time.Now().UnixNano(), 36) + "@alfa.test>\r\n\r\n.\r\n")
		return submit.Submit(t.Context(), srv, cred, message(raw, to...), submit.Hooks{})
	}
	count := func() int {
		list, err := control.PECSubmissions(t.Context(), "mittente@alfa.test")
		require.NoError(t, err)
		return len(list)
	}
	for i, tc := range []struct {
		start   bool
		to      string
		outcome submit.Outcome
		counted int
	}{
		{false, "destinatario@beta.test", submit.Accepted, 1},
		{true, "destinatario@beta.test", submit.Accepted, 1},
		{false, "taglia@beta.test", submit.Unknown, 0},
		{false, "taglia-accetta@beta.test", submit.Unknown, 1},
		{false, "permerror@beta.test", submit.Refused, 0},
		{false, "temperror@beta.test", submit.Deferred, 0},
	} {
		before := count()
		res := send(tc.start, cred, tc.to)
		require.Equal(t, tc.outcome, res.Outcome, "%d: %s", i, res)
		require.Equal(t, tc.counted, count()-before, tc.to)
	}
	wrong := send(false, submit.Credentials{User: cred.User, Password: "wrong"}, "destinatario@beta.test")
	require.Equal(t, submit.CauseCredentials, wrong.Cause)
	require.Equal(t, 535, wrong.Code)
}
