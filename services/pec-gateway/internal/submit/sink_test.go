package submit_test

import (
	"crypto/tls"
	"crypto/x509"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/pec-gateway/internal/sinktest"
	"ceralacca.dev/services/pec-gateway/internal/submit"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"ceralacca.dev/services/sandbox/sandboxtest"
)

// serverOf is a sink as a server to submit to.
func serverOf(t *testing.T, s *sinktest.Sink) submit.Server {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(s.Certificate()))
	return submit.Server{
		Address: s.Address(), TLS: &tls.Config{RootCAs: roots},
		Timeouts: submit.Timeouts{Command: 5 * time.Second, Data: 5 * time.Second, Dot: 5 * time.Second},
	}
}

// TestA1A2A3A8A9A10Sink: Postfix's fault injector as the other side. TESTPLAN A1, A2, A3, A8, A9, A10.
func TestA1A2A3A8A9A10Sink(t *testing.T) {
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
			s := sinktest.Start(t, tc.options...)
			srv := serverOf(t, s)
			srv.Rules = rules
			msg := message(content(3000))
			if tc.name == "aborts before the dot" {
				msg = halfway(msg, func() {
					require.Eventually(t, func() bool { return s.Said("\n550 ") }, 20*time.Second, 5*time.Millisecond)
				})
			}
			res := submit.Submit(t.Context(), srv, login, msg, submit.Hooks{})
			require.Equal(t, tc.outcome, res.Outcome, res)
			require.Equal(t, tc.phase, res.Phase, res)
			require.Equal(t, tc.cause, res.Cause, res)
			if tc.kept >= 0 {
				require.Equal(t, tc.kept, s.Count())
			}
		})
	}
}

// TestA3A4A9A12Sandbox: the simulated providers, over both ways of TLS: what they count is what the result
// says. TESTPLAN A3, A4, A9, A12.
func TestA3A4A9A12Sandbox(t *testing.T) {
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
