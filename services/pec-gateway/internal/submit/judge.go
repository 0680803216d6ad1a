package submit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
)

// Rules say how the words of one provider are to be read where codes mislead. They are data: what
// stands in them was seen at that provider.
type Rules struct {
	Throttled []*regexp.Regexp // too many messages, whatever the code
	Suspended []*regexp.Regexp // the mailbox may not send
	Expired   []*regexp.Regexp // the login is refused since the password has to be changed
}

func matches(list []*regexp.Regexp, text string) bool {
	for _, re := range list {
		if re.MatchString(text) {
			return true
		}
	}
	return false
}

// judge says what an answer of class 4 or 5, or one that was not expected, means in this phase.
// spec: RFC5321 §4.2.1, §4.3.2; RFC4954 §6
func (s *session) judge(r *Reply) error {
	f := &failure{reply: r, text: r.Text()}
	switch text := r.Text(); {
	case r.class() == 2 || r.class() == 3:
		f.outcome, f.cause = Deferred, CauseProtocol
		f.text, f.reply = fmt.Sprintf("the server answered %d in phase %s", r.Code, s.phase), nil
	case matches(s.srv.Rules.Throttled, text):
		f.outcome, f.cause = Deferred, CauseThrottled
	case matches(s.srv.Rules.Suspended, text):
		f.outcome, f.cause = Deferred, CauseSuspended
	case s.phase == PhaseAuth:
		f.outcome, f.cause = Deferred, CauseCredentials
		if r.class() == 4 {
			f.cause = CauseBusy
		}
	case s.phase == PhaseStartTLS:
		f.outcome, f.cause = Deferred, CauseTLS
	case matches(s.srv.Rules.Expired, text) || r.Code == 530 || r.Code == 534 || r.Code == 535:
		f.outcome, f.cause = Deferred, CauseCredentials
	case r.class() == 4:
		f.outcome, f.cause = Deferred, CauseBusy
	case s.phase < PhaseMail: // a server that turns everybody away is not about this message
		f.outcome, f.cause = Deferred, CauseBusy
	case r.Code == 552 || strings.HasPrefix(r.Enhanced, "5.3.4") || strings.HasPrefix(r.Enhanced, "5.2.3"):
		f.outcome, f.cause = Refused, CauseSize
	default:
		f.outcome, f.cause = Refused, CausePolicy
	}
	return f
}

// tooMany says whether an answer to RCPT is about the number of recipients: such a transient code
// does not pass by itself. spec: RFC5321 §4.5.3.1.10; RFC3463 §3.6 (X.5.3)
func tooMany(r *Reply) bool {
	return r.Code == 452 && !strings.HasPrefix(r.Enhanced, "4.2.") || strings.HasSuffix(r.Enhanced, ".5.3") ||
		r.class() >= 4 && strings.Contains(strings.ToLower(r.Text()), "too many recipients")
}

// TLSProblem says what is wrong with a server's TLS in words for whoever has to mend it; "" when the
// connection broke for another reason.
func TLSProblem(err error) string {
	var (
		invalid x509.CertificateInvalidError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		verify  *tls.CertificateVerificationError
		alert   tls.AlertError
		record  tls.RecordHeaderError
		network net.Error
		op      *net.OpError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet: " + invalid.Error()
	case errors.As(err, &invalid):
		return "its certificate is not valid: " + invalid.Error()
	case errors.As(err, &host):
		return "its certificate is for another name: " + host.Error()
	case errors.As(err, &unknown):
		return "its certificate comes from an authority that is not trusted: " + issuerOf(unknown.Cert)
	case errors.As(err, &verify):
		return "its certificate cannot be verified: " + verify.Error()
	case errors.As(err, &record):
		return "it does not speak TLS at this port"
	case errors.As(err, &alert):
		return "it refused the handshake: " + alert.Error()
	case errors.As(err, &op) && op.Op == "remote error": // how crypto/tls gives an alert of the other side
		return "it refused the handshake: " + op.Error()
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ""
	case strings.HasPrefix(err.Error(), "tls:"):
		return err.Error() // no version or no cipher in common, among others
	}
	return ""
}

// issuerOf names the authority that is not trusted.
func issuerOf(c *x509.Certificate) string {
	switch {
	case c == nil:
		return "it names none"
	case c.Subject.String() == c.Issuer.String():
		return clean(c.Subject.String(), 200) + " signed it itself"
	}
	return clean(c.Issuer.String(), 200)
}
