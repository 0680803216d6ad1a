package pecgateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/guard"
	"ceralacca.dev/services/pec-gateway/internal/db"
	"ceralacca.dev/services/pec-gateway/internal/imap"
	"ceralacca.dev/services/pec-gateway/internal/pop3"
	"ceralacca.dev/services/pec-gateway/internal/submit"
)

// Codes of what is wrong with a mailbox. They are permanent.
const (
	codeDNS      = "MAILBOX_SERVER_UNKNOWN"
	codeAway     = "MAILBOX_SERVER_AWAY"
	codeTLS      = "MAILBOX_TLS_REFUSED"
	codeAuth     = "MAILBOX_AUTH_FAILED"
	codeSelect   = "MAILBOX_NOT_OPENED"
	codeProtocol = "MAILBOX_PROTOCOL"
	codeAnswer   = "MAILBOX_REFUSED" // the server answered NO or BAD
)

// What servers say that refuse a login for another reason than the password. spec: RFC5530 §3, RFC9051 §7.1, RFC2449 §8.1, RFC3206 §4
var (
	busyIMAP = []string{"UNAVAILABLE", "LIMIT", "INUSE", "SERVERBUG"}
	busyPOP3 = []string{"[IN-USE]", "[LOGIN-DELAY]", "[SYS/TEMP]"}
)

// diagnose says what is wrong in words for its owner, and whether waiting cannot mend it.
func diagnose(err error) (code, problem string, grave bool) {
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	var answered *imap.ServerError
	var popped *pop3.ServerError
	var ours *fault.Fault
	var message *unread
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return codeDNS, fmt.Sprintf("there is no server %s: correct its name", dns.Name), true
	case errors.Is(err, guard.ErrNotPublic):
		return codeAway, "the server is not asked: " + tail(err) + "; whoever runs the platform opens networks with pec-gateway.allow_networks", true
	case submit.TLSProblem(err) != "":
		problem = "nothing was sent to the server: " + submit.TLSProblem(err)
		if errors.As(err, &unknown) {
			problem += "; if the provider means this one, whoever runs the platform names its authority in pec-gateway.ca_file"
		}
		if errors.As(err, &record) {
			problem += "; TLS from the first byte is usually at 993 (IMAP), 995 (POP3), 465 (SMTP)"
		}
		return codeTLS, problem, true
	case errors.As(err, &answered) && (answered.Command == "LOGIN" || answered.Code == "AUTHENTICATIONFAILED"):
		if slices.Contains(busyIMAP, answered.Code) || answered.Status == "BYE" {
			return codeAway, "the server does not let anybody in now: " + answered.Text, false
		}
		return codeAuth, "name or password are refused, or reading by IMAP is switched off at the provider: " + answered.Text, true
	case errors.As(err, &popped) && (popped.Command == "PASS" || popped.Command == "USER"):
		if slices.ContainsFunc(busyPOP3, func(code string) bool { return strings.HasPrefix(strings.ToUpper(popped.Text), code) }) {
			return codeAway, "the server does not let anybody in now: " + popped.Text, false
		}
		return codeAuth, "name or password are refused, or reading by POP3 is switched off at the provider: " + popped.Text, true
	case errors.As(err, &message):
		return codeAnswer, message.Error(), false
	case errors.As(err, &answered):
		return codeAnswer, answered.Error(), false
	case errors.As(err, &popped):
		return codeAnswer, popped.Error(), false
	case errors.Is(err, imap.ErrProtocol), errors.Is(err, pop3.ErrProtocol):
		return codeProtocol, err.Error(), false
	case errors.As(err, &ours):
		// Ours: Vault, the archive, the database. The mailbox is well.
		return ours.Code, ours.Message, ours.Code == codeNoPassword
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, context.DeadlineExceeded):
		return codeAway, "the server was silent too long or hung up: " + tail(err), false
	}
	var network net.Error
	if errors.As(err, &network) {
		return codeAway, "the server cannot be reached: " + tail(err), false
	}
	return "INTERNAL", "it could not be read; the log of the platform says why", false
}

// tail is the cause without the chain of who passed it on.
func tail(err error) string { return trim(err.Error(), 500) }

// prober runs the steps of a test; after one that failed the rest is skipped.
type prober struct {
	out    []*pecv1.ProbeResult
	failed bool
}

func (p *prober) step(step pecv1.ProbeStep, server string, fn func() (string, error)) {
	r := &pecv1.ProbeResult{Step: step, Server: server}
	p.out = append(p.out, r)
	if p.failed {
		r.Verdict, r.Detail = pecv1.ProbeVerdict_PROBE_VERDICT_SKIPPED, "a step before it failed"
		return
	}
	begin := time.Now()
	detail, err := fn()
	r.Duration = durationpb.New(time.Since(begin))
	r.Verdict, r.Detail = pecv1.ProbeVerdict_PROBE_VERDICT_PASSED, detail
	if err != nil {
		p.failed = true
		r.Verdict = pecv1.ProbeVerdict_PROBE_VERDICT_FAILED
		r.Code, r.Detail, _ = diagnose(err)
	}
}

// probe tries the servers of a mailbox with a password.
func (s *Service) probe(ctx context.Context, box db.Mailbox, password string) ([]*pecv1.ProbeResult, error) {
	all, err := s.serversOf(box.Provider, servers{imap: box.Imap, pop3: box.Pop3, smtp: box.Smtp})
	if err != nil {
		return nil, err
	}
	p := &prober{}
	pop := isPOP3(box)
	server := all.imap
	if pop {
		server = all.pop3
	}
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return nil, err
	}
	p.step(pecv1.ProbeStep_PROBE_STEP_DNS, host, func() (string, error) {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		return strings.Join(found, ", "), err
	})
	if pop {
		s.probePOP3(ctx, p, server, host, box.Username, password)
	} else {
		s.probeIMAP(ctx, p, server, host, box.Username, password)
	}
	if all.smtp != "" {
		reading := p.failed
		p.failed = false // it is another server: what is wrong with it is worth knowing too
		p.step(pecv1.ProbeStep_PROBE_STEP_SMTP, all.smtp, func() (string, error) { return s.probeSMTP(ctx, all.smtp, box.Provider, box.Username, password) })
		p.failed = p.failed || reading
	}
	return p.out, nil
}

func (s *Service) probeIMAP(ctx context.Context, p *prober, server, host, username, password string) {
	var c *imap.Client
	p.step(pecv1.ProbeStep_PROBE_STEP_TLS, server, func() (string, error) {
		var err error
		c, err = imap.Dial(ctx, s.dialer, server, s.tlsFor(host), s.cfg.Timeout)
		return "the certificate is good for " + host, err
	})
	if c != nil {
		defer c.Close()
	}
	p.step(pecv1.ProbeStep_PROBE_STEP_AUTH, server, func() (string, error) { return "as " + username, c.Login(username, password) })
	p.step(pecv1.ProbeStep_PROBE_STEP_SELECT, server, func() (string, error) {
		st, err := c.Examine("INBOX")
		if imap.Refused(err) {
			return "", fault.Precondition(codeSelect, "the INBOX does not open: %v", err)
		}
		return fmt.Sprintf("INBOX with %d messages", st.Messages), err
	})
}

func (s *Service) probePOP3(ctx context.Context, p *prober, server, host, username, password string) {
	var c *pop3.Client
	p.step(pecv1.ProbeStep_PROBE_STEP_TLS, server, func() (string, error) {
		var err error
		c, err = pop3.Dial(ctx, s.dialer, server, s.tlsFor(host), s.cfg.Timeout)
		return "the certificate is good for " + host, err
	})
	if c != nil {
		defer c.Close()
	}
	p.step(pecv1.ProbeStep_PROBE_STEP_AUTH, server, func() (string, error) { return "as " + username, c.Login(username, password) })
	p.step(pecv1.ProbeStep_PROBE_STEP_SELECT, server, func() (string, error) {
		list, err := c.List()
		return fmt.Sprintf("%d messages", len(list)), err
	})
}

// probeSMTP logs in to the server for sending as sending does, and leaves again.
func (s *Service) probeSMTP(ctx context.Context, server, provider, username, password string) (string, error) {
	res := submit.Try(ctx, s.sendingAt(server, s.limitsOf(provider).rules), submit.Credentials{User: username, Password: password})
	if res.Outcome == submit.Accepted {
		return "as " + username, nil
	}
	switch res.Cause {
	case submit.CauseCredentials:
		return "", fault.Precondition(codeAuth, "the server for sending refuses name or password: %s", replied(res))
	case submit.CauseProtocol:
		return "", fault.Precondition(codeProtocol, "this is no server for sending (SMTP), or not one that can be used: %s", res.Text)
	case submit.CauseBusy, submit.CauseThrottled:
		return "", fault.Precondition(codeAway, "the server for sending does not let anybody in now: %s", replied(res))
	case submit.CauseTLS, submit.CauseNetwork, submit.CauseStopped:
		if res.Err != nil {
			return "", res.Err
		}
		return "", fault.Precondition(codeTLS, "%s", res.Text)
	}
	return "", fault.Precondition(codeAnswer, "the server for sending answered %s", replied(res))
}

// replied is the answer of a server, with its code where it gave one.
func replied(res *submit.Result) string {
	if res.Code == 0 {
		return res.Text
	}
	return fmt.Sprintf("%d %s", res.Code, res.Text)
}

// passes refuses a mailbox whose test fails, with the step that failed.
func (s *Service) passes(ctx context.Context, box db.Mailbox, password string) error {
	steps, err := s.probe(ctx, box, password)
	if err != nil {
		return err
	}
	for _, r := range steps {
		if r.GetVerdict() == pecv1.ProbeVerdict_PROBE_VERDICT_FAILED {
			name := strings.TrimPrefix(r.GetStep().String(), "PROBE_STEP_")
			return fault.Precondition("MAILBOX_TEST_FAILED", "the test of the mailbox failed at %s of %s (%s): %s", name, r.GetServer(), r.GetCode(), r.GetDetail())
		}
	}
	return nil
}

// TestMailbox tries the servers step by step.
func (s *Service) TestMailbox(ctx context.Context, req *pecv1.TestMailboxRequest) (*pecv1.TestMailboxResponse, error) {
	box, password, err := s.toTest(ctx, req)
	if err != nil {
		return nil, err
	}
	steps, err := s.probe(ctx, box, password)
	if err != nil {
		return nil, err
	}
	out := &pecv1.TestMailboxResponse{Steps: steps, Passed: true}
	for _, r := range steps {
		out.Passed = out.Passed && r.GetVerdict() == pecv1.ProbeVerdict_PROBE_VERDICT_PASSED
	}
	return out, nil
}

// toTest is the mailbox of a name, or one that is not made yet.
func (s *Service) toTest(ctx context.Context, req *pecv1.TestMailboxRequest) (box db.Mailbox, password string, err error) {
	if req.GetName() == "" {
		if req.GetParent() == "" || req.GetMailbox() == nil || req.GetPassword() == "" {
			return box, "", fault.Invalid("MAILBOX_REQUIRED", "give the name of a mailbox, or parent, mailbox and password")
		}
		box, err = s.newRow(strings.TrimPrefix(req.GetParent(), "tenants/"), s.instance, req.GetMailbox())
		return box, req.GetPassword(), err
	}
	tenant, id, err := splitMailbox(req.GetName())
	if err != nil {
		return box, "", err
	}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		box, err = s.mailbox(ctx, tx, tenant, id, false)
		return err
	})
	if err != nil || req.GetPassword() != "" {
		return box, req.GetPassword(), err
	}
	password, err = s.keys.get(ctx, tenant, id)
	return box, password, err
}
