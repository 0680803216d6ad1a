package submit_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// TestSubmit: the message arrives as it is, dots and all, and the phases come in order.
func TestSubmit(t *testing.T) {
	for name, clear := range map[string]bool{"TLS": false, "STARTTLS": true} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			p := newPeerWith(t, nil, &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))}}, clear)
			raw := content(5000)
			var phases []string
			res := p.submit(message(raw, "a@beta.test", "b@beta.test"), submit.Hooks{Enter: func(ph submit.Phase) { phases = append(phases, ph.String()) }})
			require.Equal(t, submit.Accepted, res.Outcome, res)
			require.Equal(t, 250, res.Code)
			require.Contains(t, res.TLS, "TLS 1.3")
			require.EqualValues(t, len(raw), res.Sent)
			require.Equal(t, [][]byte{raw}, p.taken())
			want := "connect tls greeting hello auth mail rcpt data body dot"
			if clear {
				want = "connect greeting hello starttls tls hello auth mail rcpt data body dot"
			}
			require.Equal(t, want, strings.Join(phases, " "))
			require.Contains(t, p.said(), fmt.Sprintf("MAIL FROM:<mittente@alfa.test> SIZE=%d", len(raw)))
		})
	}
}

// TestA19LastLine: a content whose last line has no end gets one; nothing else is changed. TESTPLAN A19.
func TestA19LastLine(t *testing.T) {
	p := newPeer(t, nil)
	for _, s := range []string{"Subject: x\r\n\r\nno end", "Subject: x\r\n\r\n.", "Subject: x\r\n\r\nend\r\n"} {
		require.Equal(t, submit.Accepted, p.submit(message([]byte(s)), submit.Hooks{}).Outcome)
	}
	for i, want := range []string{"Subject: x\r\n\r\nno end\r\n", "Subject: x\r\n\r\n.\r\n", "Subject: x\r\n\r\nend\r\n"} {
		require.Equal(t, want, string(p.taken()[i]))
	}
}

// TestA1A2A3A8A9A10A12A17Outcomes: what each failure in each phase means. A wrong cell here is a message sent twice or
// never. TESTPLAN A1, A2, A3, A8, A9, A10, A12, A17.
func TestA1A2A3A8A9A10A12A17Outcomes(t *testing.T) {
	rules := submit.Rules{
		Throttled: []*regexp.Regexp{regexp.MustCompile(`Class Of Service.*Too much traffic`)},
		Suspended: []*regexp.Regexp{regexp.MustCompile(`mailbox suspended`)},
		Expired:   []*regexp.Regexp{regexp.MustCompile(`(?i)password expired`)},
	}
	blocked := `550 MAIL from: "mittente@alfa.test" blocked "Class Of Service" - Too much traffic from this sender`
	for _, tc := range []struct {
		name, at, reply string
		outcome         submit.Outcome
		phase           submit.Phase
		cause           submit.Cause
		code            int
	}{
		{"A1 cut before the banner", "CONNECT", cut, submit.Deferred, submit.PhaseTLS, submit.CauseNetwork, 0},
		{"A1 cut in the handshake", "TLS", cut, submit.Deferred, submit.PhaseTLS, submit.CauseNetwork, 0},
		{"A1 silent banner", "CONNECT", hang, submit.Deferred, submit.PhaseGreeting, submit.CauseNetwork, 0},
		{"A1 cut after EHLO", "EHLO", cut, submit.Deferred, submit.PhaseHello, submit.CauseNetwork, 0},
		{"A1 cut after AUTH", "AUTH", cut, submit.Deferred, submit.PhaseAuth, submit.CauseNetwork, 0},
		{"A1 cut after MAIL", "MAIL", cut, submit.Deferred, submit.PhaseMail, submit.CauseNetwork, 0},
		{"A1 cut after the 3rd RCPT", "RCPT 3", cut, submit.Deferred, submit.PhaseRcpt, submit.CauseNetwork, 0},
		{"A2 cut after DATA", "DATA", cut, submit.Deferred, submit.PhaseData, submit.CauseNetwork, 0},
		{"A2 cut in the content", "BODY", cut, submit.Deferred, submit.PhaseBody, submit.CauseNetwork, 0},
		{"A2 refused in the content", "BODY", "552 5.3.4 too big", submit.Refused, submit.PhaseBody, submit.CauseSize, 552},
		{"A2 sent away in the content", "BODY", "421 4.3.2 going down", submit.Deferred, submit.PhaseBody, submit.CauseBusy, 421},
		{"A2 taken in the content, by its own word", "BODY", "250 ok", submit.Unknown, submit.PhaseBody, submit.CauseProtocol, 0},
		{"A2 asked on in the content", "BODY", "354 more", submit.Deferred, submit.PhaseBody, submit.CauseProtocol, 0},
		{"A3 cut after the dot", "DOT", cut, submit.Unknown, submit.PhaseDot, submit.CauseNetwork, 0},
		{"A3 silent after the dot", "DOT", hang, submit.Unknown, submit.PhaseDot, submit.CauseNetwork, 0},
		{"A3 nonsense after the dot", "DOT", "<html>", submit.Unknown, submit.PhaseDot, submit.CauseProtocol, 0},
		{"A3 two answers to the dot", "DOT", "451 4.3.0 later\n250 taken after all", submit.Unknown, submit.PhaseDot, submit.CauseProtocol, 0},
		{"A3 one refusal and a goodbye", "DOT", "451 4.3.0 later\n221 bye", submit.Deferred, submit.PhaseDot, submit.CauseBusy, 451},
		{"A3 354 after the dot", "DOT", "354 what", submit.Unknown, submit.PhaseDot, submit.CauseProtocol, 0},
		{"A8 421 banner", "CONNECT", "421 4.3.2 too busy", submit.Deferred, submit.PhaseGreeting, submit.CauseBusy, 421},
		{"A8 554 banner", "CONNECT", "554 5.7.1 not you", submit.Deferred, submit.PhaseGreeting, submit.CauseBusy, 554},
		{"A8 421 EHLO", "EHLO", "421 4.3.2 too busy", submit.Deferred, submit.PhaseHello, submit.CauseBusy, 421},
		{"A8 421 AUTH", "AUTH", "421 4.3.2 going down", submit.Deferred, submit.PhaseAuth, submit.CauseBusy, 421},
		{"A8 421 MAIL", "MAIL", "421 4.3.2 going down", submit.Deferred, submit.PhaseMail, submit.CauseBusy, 421},
		{"A8 421 RCPT", "RCPT 2", "421 4.3.2 going down", submit.Deferred, submit.PhaseRcpt, submit.CauseBusy, 421},
		{"A8 421 DATA", "DATA", "421 4.3.2 going down", submit.Deferred, submit.PhaseData, submit.CauseBusy, 421},
		{"A8 421 after the dot", "DOT", "421 4.3.2 going down", submit.Deferred, submit.PhaseDot, submit.CauseBusy, 421},
		{"A8 454 AUTH", "AUTH", "454 4.7.0 temporary", submit.Deferred, submit.PhaseAuth, submit.CauseBusy, 454},
		{"A8 451 MAIL", "MAIL", "451 4.3.0 later", submit.Deferred, submit.PhaseMail, submit.CauseBusy, 451},
		{"A8 450 RCPT", "RCPT 2", "450 4.2.0 later", submit.Deferred, submit.PhaseRcpt, submit.CauseRecipients, 450},
		{"A8 451 DATA", "DATA", "451 4.3.0 later", submit.Deferred, submit.PhaseData, submit.CauseBusy, 451},
		{"A8 451 after the dot", "DOT", "451 4.3.0 later", submit.Deferred, submit.PhaseDot, submit.CauseBusy, 451},
		{"A9 550 RCPT", "RCPT 4", "550 5.1.1 no such mailbox", submit.Refused, submit.PhaseRcpt, submit.CauseRecipients, 550},
		{"A10 throttled", "MAIL", blocked, submit.Deferred, submit.PhaseMail, submit.CauseThrottled, 550},
		{"A10 throttled at RCPT", "RCPT 1", blocked, submit.Deferred, submit.PhaseRcpt, submit.CauseThrottled, 550},
		{"A10 throttled after the dot", "DOT", blocked, submit.Deferred, submit.PhaseDot, submit.CauseThrottled, 550},
		{"A12 535", "AUTH", "535 5.7.8 no", submit.Deferred, submit.PhaseAuth, submit.CauseCredentials, 535},
		{"A12 534", "AUTH", "534 5.7.9 too weak", submit.Deferred, submit.PhaseAuth, submit.CauseCredentials, 534},
		{"A13 expired at MAIL", "MAIL", "550 Password expired", submit.Deferred, submit.PhaseMail, submit.CauseCredentials, 550},
		{"A12 530 at MAIL", "MAIL", "530 5.7.0 log in", submit.Deferred, submit.PhaseMail, submit.CauseCredentials, 530},
		{"A17 451 4.5.3", "RCPT 5", "451 4.5.3 Too many recipients", submit.Refused, submit.PhaseRcpt, submit.CauseTooMany, 0},
		{"A17 452", "RCPT 5", "452 too many", submit.Refused, submit.PhaseRcpt, submit.CauseTooMany, 0},
		{"452 full mailbox is no limit", "RCPT 5", "452 4.2.2 full", submit.Deferred, submit.PhaseRcpt, submit.CauseRecipients, 452},
		{"size at MAIL", "MAIL", "552 5.3.4 too big", submit.Refused, submit.PhaseMail, submit.CauseSize, 552},
		{"size after the dot", "DOT", "552 5.3.4 too big", submit.Refused, submit.PhaseDot, submit.CauseSize, 552},
		{"refused after the dot", "DOT", "554 5.6.0 not so", submit.Refused, submit.PhaseDot, submit.CausePolicy, 554},
		{"suspended", "MAIL", "550 5.7.1 mailbox suspended", submit.Deferred, submit.PhaseMail, submit.CauseSuspended, 550},
		{"sender refused", "MAIL", "553 5.7.1 not yours", submit.Refused, submit.PhaseMail, submit.CausePolicy, 553},
		{"answer with two codes", "MAIL", "250-ok\n550 no", submit.Deferred, submit.PhaseMail, submit.CauseProtocol, 0},
		{"endless line", "MAIL", "250 " + strings.Repeat("x", 1<<20), submit.Deferred, submit.PhaseMail, submit.CauseProtocol, 0},
		{"endless answer", "EHLO", strings.Repeat("250-more\n", 100_000) + "250 end", submit.Deferred, submit.PhaseHello, submit.CauseProtocol, 0},
		{"more than asked", "MAIL", "250 ok\n250 one more", submit.Deferred, submit.PhaseRcpt, submit.CauseProtocol, 0},
		{"no login offered", "EHLO", "250-peer\n250 AUTH GSSAPI", submit.Deferred, submit.PhaseAuth, submit.CauseProtocol, 0},
		{"small server", "EHLO", "250-peer\n250-SIZE 1000\n250 AUTH PLAIN", submit.Refused, submit.PhaseMail, submit.CauseSize, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, map[string]string{tc.at: tc.reply})
			srv := p.server()
			srv.Rules = rules
			srv.Timeouts.Command, srv.Timeouts.Dot = 5*time.Second, 5*time.Second
			if tc.reply == hang { // where it hangs, and nowhere else
				*map[string]*time.Duration{"CONNECT": &srv.Timeouts.Command, "DOT": &srv.Timeouts.Dot}[tc.at] = 300 * time.Millisecond
			}
			res := submit.Submit(t.Context(), srv, login, message(content(2000), "a@b.test", "b@b.test", "c@b.test", "d@b.test", "e@b.test"), submit.Hooks{})
			require.Equal(t, tc.outcome, res.Outcome, res)
			require.Equal(t, tc.phase, res.Phase, res)
			require.Equal(t, tc.cause, res.Cause, res)
			require.Equal(t, tc.code, res.Code, res)
			require.NotEmpty(t, res.Text)
			require.NotContains(t, res.String(), login.Password)
			if res.Phase < submit.PhaseDot {
				require.Empty(t, p.taken(), "the final dot was sent")
			}
			if tc.cause == submit.CauseRecipients {
				require.Len(t, res.Recipients, 1)
				require.Equal(t, tc.code, res.Recipients[0].Code)
			}
			for _, line := range p.said() {
				require.False(t, tc.phase < submit.PhaseAuth && strings.HasPrefix(line, "AUTH"), "a password was shown before %s", tc.phase)
			}
		})
	}
}

// TestA17TheThousandAndFirst: a server that takes a thousand recipients and says "later" to the next, as Dovecot does, would say so
// for ever: the message is refused with the number that it takes, and nobody gets it. Exactly a thousand pass. TESTPLAN A17.
func TestA17TheThousandAndFirst(t *testing.T) {
	to := make([]string, 1001)
	for i := range to {
		to[i] = fmt.Sprintf("n%d@beta.test", i)
	}
	full := map[string]string{"RCPT 1001": "451 4.5.3 Too many recipients"}
	p := newPeer(t, full)
	res := p.submit(message(content(1), to...), submit.Hooks{})
	require.Equal(t, []any{submit.Refused, submit.PhaseRcpt, submit.CauseTooMany}, []any{res.Outcome, res.Phase, res.Cause}, res)
	require.Contains(t, res.Text, "at most 1000 recipients")
	require.NotContains(t, p.said(), "DATA")
	require.Empty(t, p.taken())
	p = newPeer(t, full)
	res = p.submit(message(content(1), to[:1000]...), submit.Hooks{})
	require.Equal(t, submit.Accepted, res.Outcome, res)
	require.Len(t, p.taken(), 1)
}

// TestA8A9NobodyWithoutEverybody: all refused recipients are told, and nobody gets the message.
func TestA8A9NobodyWithoutEverybody(t *testing.T) {
	p := newPeer(t, map[string]string{"RCPT 1": "450 4.2.1 later", "RCPT 3": "550 5.1.1 nobody"})
	res := p.submit(message(content(1), "a@b.test", "b@b.test", "c@b.test"), submit.Hooks{})
	require.Equal(t, submit.Refused, res.Outcome, "it would never pass: one is refused for good")
	require.Equal(t, []submit.RecipientReply{{"a@b.test", 450, "4.2.1 later"}, {"c@b.test", 550, "5.1.1 nobody"}}, res.Recipients)
	require.Equal(t, 550, res.Code)
	require.Contains(t, p.said(), "RSET")
	require.NotContains(t, p.said(), "DATA")
}

// TestLogin: where PLAIN is not offered LOGIN is used; the password is in no error.
func TestLogin(t *testing.T) {
	p := newPeer(t, map[string]string{"EHLO": "250-peer\n250 AUTH LOGIN", "AUTH": "334 VXNlcm5hbWU6", "bWl0dGVudGVAYWxmYS50ZXN0": "334 UGFzc3dvcmQ6", "czNjcmV0": "235 in"})
	require.Equal(t, submit.Accepted, p.submit(message(content(1)), submit.Hooks{}).Outcome)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", login, login, login), login.Password)
}

// TestA14TLS: nothing leaves for a server whose certificate is not good for its name, and the reason
// is said. TESTPLAN A14.
func TestA14TLS(t *testing.T) {
	now := time.Now()
	good := certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
	for name, tc := range map[string]struct {
		conf   *tls.Config
		clear  bool
		script map[string]string
		other  bool
		says   string
	}{
		"expired":        {conf: &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost", now.Add(-2*time.Hour), now.Add(-time.Hour))}}, says: "expired"},
		"not yet valid":  {conf: &tls.Config{Certificates: []tls.Certificate{certificate(t, "localhost", now.Add(time.Hour), now.Add(2*time.Hour))}}, says: "not valid yet"},
		"other name":     {conf: &tls.Config{Certificates: []tls.Certificate{certificate(t, "mail.alfa.test", now.Add(-time.Hour), now.Add(time.Hour))}}, says: "another name"},
		"self-signed":    {conf: &tls.Config{Certificates: []tls.Certificate{good}}, other: true, says: "not trusted"},
		"TLS 1.1 alone":  {conf: &tls.Config{Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, says: "version"}, //nolint:gosec // what is refused
		"not offered":    {conf: &tls.Config{Certificates: []tls.Certificate{good}}, clear: true, script: map[string]string{"EHLO": "250-peer\n250 AUTH PLAIN"}, says: "does not offer STARTTLS"},
		"refused":        {conf: &tls.Config{Certificates: []tls.Certificate{good}}, clear: true, script: map[string]string{"STARTTLS": "454 4.7.0 not now"}, says: "not now"},
		"words put in":   {conf: &tls.Config{Certificates: []tls.Certificate{good}}, clear: true, script: map[string]string{"STARTTLS": "220 go\n250-AUTH PLAIN\n250 injected"}, says: "putting words in"},
		"clear, not TLS": {conf: &tls.Config{Certificates: []tls.Certificate{good}}, clear: true, script: nil, says: "does not speak TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeerWith(t, tc.script, tc.conf, tc.clear)
			srv := p.server()
			if name == "clear, not TLS" {
				srv.StartTLS = false
			}
			if tc.other {
				srv.TLS.RootCAs = newPeer(t, nil).roots
			}
			res := submit.Submit(t.Context(), srv, login, message(content(1)), submit.Hooks{})
			require.Equal(t, submit.Deferred, res.Outcome, res)
			require.Equal(t, submit.CauseTLS, res.Cause, res)
			require.Contains(t, res.Text, tc.says)
			for _, line := range p.said() {
				require.False(t, strings.HasPrefix(line, "AUTH") || strings.HasPrefix(line, "MAIL"), line)
			}
		})
	}
}

// TestA14ChangedIntermediate: a provider whose certificate comes from another intermediate authority than yesterday is the
// same provider: nothing is pinned but the root. One that leaves the intermediate out cannot be judged, and gets nothing.
// TESTPLAN A14.
func TestA14ChangedIntermediate(t *testing.T) {
	now := time.Now()
	root := certificate(t, "root.test", now.Add(-time.Hour), now.Add(time.Hour))
	roots := x509.NewCertPool()
	anchor, err := x509.ParseCertificate(root.Certificate[0])
	require.NoError(t, err)
	roots.AddCert(anchor)
	issue := func(by tls.Certificate, name string, authority bool) tls.Certificate {
		parent, err := x509.ParseCertificate(by.Certificate[0])
		require.NoError(t, err)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: authority, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
		if authority {
			c.KeyUsage = x509.KeyUsageCertSign
		} else {
			c.DNSNames = []string{name}
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by.PrivateKey)
		require.NoError(t, err)
		return tls.Certificate{Certificate: append([][]byte{der}, by.Certificate...), PrivateKey: key}
	}
	yesterday, today := issue(issue(root, "one.test", true), "localhost", false), issue(issue(root, "two.test", true), "localhost", false)
	bare := today
	bare.Certificate = bare.Certificate[:1]
	for _, c := range []struct {
		name  string
		cert  tls.Certificate
		taken int
	}{{"yesterday", yesterday, 1}, {"today", today, 1}, {"left out", bare, 0}} {
		p := newPeerWith(t, nil, &tls.Config{Certificates: []tls.Certificate{c.cert}}, false)
		srv := p.server()
		srv.TLS.RootCAs = roots
		res := submit.Submit(t.Context(), srv, login, message(content(1)), submit.Hooks{})
		require.Len(t, p.taken(), c.taken, "%s: %s", c.name, res)
		if c.taken == 0 {
			require.Equal(t, submit.CauseTLS, res.Cause, res)
			require.Contains(t, res.Text, "not trusted")
			require.Empty(t, p.said())
		}
	}
}

// TestBeforeEnd: the end of a message leaves only with the caller's consent, and never after it was withdrawn.
func TestBeforeEnd(t *testing.T) {
	p := newPeer(t, nil)
	lost := errors.New("another replica has the message")
	res := p.submit(message(content(10)), submit.Hooks{BeforeEnd: func(context.Context) error { return lost }})
	require.Equal(t, submit.Deferred, res.Outcome)
	require.Equal(t, submit.CauseStopped, res.Cause)
	require.ErrorIs(t, res.Err, lost)
	require.Empty(t, p.taken())

	ctx, stop := context.WithCancelCause(context.Background())
	res = submit.Submit(ctx, p.server(), login, message(content(10)), submit.Hooks{BeforeEnd: func(context.Context) error {
		stop(errors.New("shutdown"))
		return nil
	}})
	require.Equal(t, submit.Deferred, res.Outcome)
	require.Empty(t, p.taken())

	// after the dot the answer is awaited whatever happens
	ctx, stop = context.WithCancelCause(context.Background())
	res = submit.Submit(ctx, p.server(), login, message(content(10)), submit.Hooks{Enter: func(ph submit.Phase) {
		if ph == submit.PhaseDot {
			stop(errors.New("shutdown"))
		}
	}})
	require.Equal(t, submit.Accepted, res.Outcome, res)
	require.Len(t, p.taken(), 1)
}

// TestStop: in every phase before the dot the end of the context ends the submission at once, with nothing sent.
func TestStop(t *testing.T) {
	for _, at := range []submit.Phase{
		submit.PhaseConnect, submit.PhaseTLS, submit.PhaseGreeting, submit.PhaseHello, submit.PhaseAuth, submit.PhaseMail, submit.PhaseRcpt,
		submit.PhaseData, submit.PhaseBody,
	} {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, nil)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			res := submit.Submit(ctx, p.server(), login, message(content(10)), submit.Hooks{Enter: func(ph submit.Phase) {
				if ph == at {
					stop()
				}
			}})
			require.Equal(t, submit.Deferred, res.Outcome, res)
			require.Equal(t, submit.CauseStopped, res.Cause, res)
			require.Equal(t, at, res.Phase)
			require.Empty(t, p.taken())
		})
	}
}

// TestA19Content: what one server reads as one message and another as two is not sent. TESTPLAN A19.
func TestA19Content(t *testing.T) {
	p := newPeer(t, nil)
	for name, raw := range map[string]string{
		"LF alone": "a\nb\r\n", "CR alone": "a\rb\r\n", "CR at the end": "a\r", "NUL": "a\x00\r\n", "8 bit": "perch\u00e9\r\n",
		"smuggling": "a\r\n.\nMAIL FROM:<x@y>\r\n", "long line": strings.Repeat("x", 999) + "\r\n", "nothing": "",
	} {
		res := p.submit(message([]byte(raw)), submit.Hooks{})
		require.Equal(t, submit.Refused, res.Outcome, name)
		require.Equal(t, submit.CauseContent, res.Cause, name)
	}
	require.Empty(t, p.said(), "the server was bothered")
	res := p.submit(message([]byte(strings.Repeat("x", 998)+"\r\n")), submit.Hooks{})
	require.Equal(t, submit.Accepted, res.Outcome, res)

	for name, m := range map[string]func(*submit.Message){
		"command in an address": func(m *submit.Message) { m.To = []string{"a@b.test>\r\nRCPT TO:<c@d.test"} },
		"no recipient":          func(m *submit.Message) { m.To = nil },
		"no sender":             func(m *submit.Message) { m.From = "" },
		"other size":            func(m *submit.Message) { m.Size++ },
	} {
		msg := message(content(1))
		m(&msg)
		res := p.submit(msg, submit.Hooks{})
		require.Equal(t, submit.Refused, res.Outcome, name)
		require.Equal(t, submit.CauseContent, res.Cause, name)
	}
}

// TestChangingSource: content that is not what it was when it was looked at is not ended.
func TestChangingSource(t *testing.T) {
	p := newPeer(t, nil)
	raw := content(10)
	for name, second := range map[string][]byte{
		"shorter": raw[:len(raw)-10], "other": bytes.Replace(raw, []byte("riga"), []byte("r\nga"), 1),
	} {
		msg, opened := message(raw), 0
		msg.Open = func() (io.ReadCloser, error) {
			if opened++; opened == 2 {
				return io.NopCloser(bytes.NewReader(second)), nil
			}
			return io.NopCloser(bytes.NewReader(raw)), nil
		}
		res := p.submit(msg, submit.Hooks{})
		require.Equal(t, submit.Deferred, res.Outcome, name)
		require.Equal(t, submit.CauseMessageSource, res.Cause, name)
	}
	require.Empty(t, p.taken())
}

// TestUnreachable: nobody listens.
func TestUnreachable(t *testing.T) {
	p := newPeer(t, nil)
	srv := p.server()
	srv.Address = "localhost:1"
	res := submit.Submit(t.Context(), srv, login, message(content(1)), submit.Hooks{})
	require.Equal(t, submit.Deferred, res.Outcome)
	require.Equal(t, submit.PhaseConnect, res.Phase)
	require.Equal(t, submit.CauseNetwork, res.Cause)
}

// TestTry: a login is tried as sending would do it, over both ways of TLS and with what the server offers, and nothing is submitted.
func TestTry(t *testing.T) {
	now := time.Now()
	good := certificate(t, "localhost", now.Add(-time.Hour), now.Add(time.Hour))
	login2 := map[string]string{"EHLO": "250-peer\n250-STARTTLS\n250 AUTH LOGIN", "AUTH": "334 VXNlcm5hbWU6", "bWl0dGVudGVAYWxmYS50ZXN0": "334 UGFzc3dvcmQ6", "czNjcmV0": "235 in"}
	for name, tc := range map[string]struct {
		script map[string]string
		clear  bool
		cause  submit.Cause
	}{
		"TLS": {}, "STARTTLS": {clear: true}, "LOGIN": {script: login2}, "LOGIN over STARTTLS": {script: login2, clear: true},
		"refused": {script: map[string]string{"AUTH": "535 5.7.8 no"}, cause: submit.CauseCredentials}, "later": {script: map[string]string{"AUTH": "454 4.7.0 later"}, cause: submit.CauseBusy},
		"no SMTP": {script: map[string]string{"CONNECT": "* OK IMAP4rev1"}, cause: submit.CauseProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeerWith(t, tc.script, &tls.Config{Certificates: []tls.Certificate{good}}, tc.clear)
			res := submit.Try(t.Context(), p.server(), login)
			require.Equal(t, tc.cause, res.Cause, res)
			require.Equal(t, tc.cause == "", res.Outcome == submit.Accepted)
			for _, line := range p.said() {
				require.NotContains(t, line, "MAIL")
			}
		})
	}
	p := newPeer(t, nil)
	require.Equal(t, submit.CauseCredentials, submit.Try(t.Context(), p.server(), submit.Credentials{User: "a"}).Cause)
	require.Empty(t, p.said())
}
