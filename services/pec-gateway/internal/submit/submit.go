// Package submit hands one message to a provider over SMTP and says what became of it: accepted,
// refused for good, refused for now, or unknown. It knows in which phase a failure happened, since
// that decides whether the message may be handed over again.
//
// It owns one attempt: connection, TLS, login, envelope, content, answer. It refuses to decide when to
// try again, to send anything over a connection that is not encrypted, to send to some recipients of
// a message only, and to guess: when the end of the content has left and no answer came, or the server
// contradicts itself, the outcome is unknown and stays so.
// spec: RFC5321 §4.2, §4.5.3.2; RFC3207; RFC4954; RFC1870
package submit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Phase is a step of a submission, in the order in which they happen.
type Phase uint8

// The phases. With STARTTLS the greeting and a first EHLO come before TLS.
const (
	PhaseConnect  Phase = iota + 1 // TCP
	PhaseTLS                       // handshake
	PhaseGreeting                  // 220
	PhaseHello                     // EHLO
	PhaseStartTLS
	PhaseAuth
	PhaseMail
	PhaseRcpt
	PhaseData // DATA until 354
	PhaseBody // content, the final dot not sent
	PhaseDot  // the final dot has left, or may have; or it could not, since the connection was gone
	PhaseDone // the answer to the final dot is here
)

var phaseNames = [...]string{"", "connect", "tls", "greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "body", "dot", "done"}

func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("phase %d", uint8(p))
}

// Outcome is what is known about a submission when it is over.
type Outcome uint8

// The outcomes. Only Unknown leaves open whether the provider has the message.
const (
	Accepted Outcome = iota + 1 // taken for checks: not yet the acceptance of certified mail
	Refused                     // for good: the same message would be refused again
	Deferred                    // for now: surely not taken, to be tried again
	Unknown                     // the final dot may have arrived and no answer came, or two; or the server says too early that it took the message
)

var outcomeNames = [...]string{"", "accepted", "refused", "deferred", "unknown"}

func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// Cause says who has to do something about an outcome.
type Cause string

// Causes of what was not accepted.
const (
	CauseNetwork       Cause = "network"             // connection refused, cut or silent
	CauseTLS           Cause = "tls"                 // no encryption, or a certificate that must not be trusted
	CauseCredentials   Cause = "credentials"         // the login is refused: a person has to mend it
	CauseBusy          Cause = "busy"                // a transient answer of the server
	CauseThrottled     Cause = "throttled"           // too many messages, whatever the code says
	CauseSuspended     Cause = "suspended"           // the mailbox may not send
	CauseRecipients    Cause = "recipients"          // some recipients are refused: nobody got the message
	CauseTooMany       Cause = "too-many-recipients" // more recipients than the server takes in one message
	CauseSize          Cause = "size"
	CauseContent       Cause = "content"  // the bytes cannot be sent over SMTP
	CausePolicy        Cause = "policy"   // any other permanent answer
	CauseProtocol      Cause = "protocol" // the server does not speak SMTP as it should
	CauseStopped       Cause = "stopped"  // by the caller: shutdown, or the right to send was lost
	CauseMessageSource Cause = "source"   // the content could not be read
)

// Server says where and how to submit.
type Server struct {
	Address  string      // host:port
	StartTLS bool        // STARTTLS instead of TLS from the first byte
	TLS      *tls.Config // roots; ServerName from Address when empty; nothing below TLS 1.2 is spoken
	Hello    string      // our name in EHLO; "[127.0.0.1]" when empty, as RFC 5321 §4.1.4 allows clients
	Dialer   *net.Dialer // says which addresses may be reached; any when nil
	Rules    Rules       // how this provider's words are to be read
	Timeouts Timeouts
}

// Credentials of a mailbox. They are never part of a result, an error or a log.
type Credentials struct {
	User     string
	Password string
}

// String keeps the password out of logs.
func (c Credentials) String() string { return c.User + " (password hidden)" }

// GoString keeps the password out of %#v.
func (c Credentials) GoString() string { return c.String() }

// Message is what is submitted: the envelope and the bytes. Open is called twice, once to look whether
// the bytes may travel over SMTP at all; both times it has to give the same.
type Message struct {
	From string
	To   []string
	Size int64 // bytes, as given to SIZE
	Open func() (io.ReadCloser, error)
}

// Timeouts bound each phase. Zero values take those of RFC 5321 §4.5.3.2, and 30 s for TCP and TLS.
type Timeouts struct {
	Connect time.Duration
	TLS     time.Duration
	Command time.Duration // greeting, EHLO, AUTH, MAIL, RCPT: 5 min
	Data    time.Duration // from DATA to 354: 2 min
	Block   time.Duration // for each piece of the content to leave: 3 min
	Dot     time.Duration // from the final dot to the answer: 10 min
}

func (t Timeouts) orDefaults() Timeouts {
	for _, f := range []struct {
		d *time.Duration
		v time.Duration
	}{
		{&t.Connect, 30 * time.Second}, {&t.TLS, 30 * time.Second}, {&t.Command, 5 * time.Minute},
		{&t.Data, 2 * time.Minute}, {&t.Block, 3 * time.Minute}, {&t.Dot, 10 * time.Minute},
	} {
		if *f.d <= 0 {
			*f.d = f.v
		}
	}
	return t
}

// Hooks are called on the way. Both may be nil.
type Hooks struct {
	// Enter is told each phase before anything of it leaves.
	Enter func(Phase)
	// BeforeEnd is called before the last piece of the content leaves, which is all of a short message. Only when it
	// gives nil that piece and the final dot are sent, whatever becomes of ctx: here the caller makes durable that the
	// outcome is about to become unknown, and learns whether the message is still its own to send. Before it no server
	// has as many bytes as MAIL announced, nor a dot.
	BeforeEnd func(ctx context.Context) error
}

// RecipientReply is a recipient that the server refused.
type RecipientReply struct {
	Address string
	Code    int
	Text    string
}

// Result is one finished submission.
type Result struct {
	Outcome    Outcome
	Phase      Phase // in which it ended
	Cause      Cause // "" when accepted
	Code       int   // of the last answer, 0 for none
	Enhanced   string
	Text       string // of the last answer, or what went wrong; safe to show
	Recipients []RecipientReply
	Sent       int64 // bytes of content that were handed to the connection
	TLS        string
	Err        error // what the network, TLS or the source said; nil when a server's answer decided
}

func (r *Result) String() string {
	s := r.Outcome.String() + " in phase " + r.Phase.String()
	if r.Cause != "" {
		s += " (" + string(r.Cause) + ")"
	}
	if r.Text != "" {
		s += ": " + r.Text
	}
	return s
}

// Submit hands the message over. It always gives a result. When ctx ends before the last piece of the
// content the connection is dropped and nothing was sent; after it the message is ended and the answer is awaited
// whatever ctx says, since leaving then would make the outcome unknown.
func Submit(ctx context.Context, srv Server, cred Credentials, msg Message, hooks Hooks) *Result {
	s := &session{srv: srv, cred: cred, msg: msg, hooks: hooks, t: srv.Timeouts.orDefaults(), res: &Result{}, phase: PhaseConnect}
	if err := s.precheck(); err != nil {
		return s.end(err)
	}
	defer s.close()
	for _, step := range []func(context.Context) error{s.connect, s.hello, s.auth, s.mail, s.rcpt, s.data, s.body, s.dot} {
		if err := step(ctx); err != nil {
			return s.end(err)
		}
	}
	return s.end(nil)
}

// Try connects as Submit does and logs in, and leaves again. Accepted means that the login is taken; nothing is submitted.
func Try(ctx context.Context, srv Server, cred Credentials) *Result {
	s := &session{srv: srv, cred: cred, t: srv.Timeouts.orDefaults(), res: &Result{}, phase: PhaseConnect}
	if err := s.checkLogin(); err != nil {
		return s.end(err)
	}
	defer s.close()
	for _, step := range []func(context.Context) error{s.connect, s.hello, s.auth} {
		if err := step(ctx); err != nil {
			return s.end(err)
		}
	}
	return s.end(nil)
}

// session is one submission under way.
type session struct {
	srv   Server
	cred  Credentials
	msg   Message
	hooks Hooks
	t     Timeouts
	res   *Result
	phase Phase

	conn    net.Conn
	raw     net.Conn // under TLS
	open    bool     // content has begun that has no end yet
	left    bool     // goodbye was said
	in      *replyReader
	release func() bool // of the watch over ctx
	ext     map[string]string
	last    *Reply
}

// failure is a step that ended the submission, with what it means.
type failure struct {
	outcome Outcome
	cause   Cause
	text    string
	err     error
	reply   *Reply
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.err }

func fail(o Outcome, c Cause, err error, format string, args ...any) *failure {
	return &failure{outcome: o, cause: c, err: err, text: fmt.Sprintf(format, args...)}
}

func (s *session) enter(p Phase) {
	s.phase = p
	if s.hooks.Enter != nil {
		s.hooks.Enter(p)
	}
}

// end writes the result.
func (s *session) end(err error) *Result {
	r := s.res
	r.Phase = s.phase
	if s.last != nil {
		r.Code, r.Enhanced, r.Text = s.last.Code, s.last.Enhanced, s.last.Text()
	}
	if err == nil {
		r.Outcome, r.Phase = Accepted, PhaseDone
		return r
	}
	var f *failure
	if !errors.As(err, &f) {
		f = fail(Deferred, CauseNetwork, err, "%v", err)
	}
	r.Outcome, r.Cause, r.Err = f.outcome, f.cause, f.err
	if f.reply == nil {
		r.Text = f.text
		if f.cause != CauseRecipients {
			r.Code, r.Enhanced = 0, ""
		}
	}
	return r
}

// precheck looks at what would be wrong whatever the server says.
func (s *session) precheck() error {
	if err := s.checkLogin(); err != nil {
		return err
	}
	for _, a := range append([]string{s.msg.From}, s.msg.To...) {
		if !pathSafe(a) {
			return fail(Refused, CauseContent, nil, "the address %q cannot be part of an SMTP command", a)
		}
	}
	if len(s.msg.To) == 0 {
		return fail(Refused, CauseContent, nil, "there is no recipient")
	}
	in, err := s.msg.Open()
	if err != nil {
		return fail(Deferred, CauseMessageSource, err, "the content cannot be read: %v", err)
	}
	defer func() { _ = in.Close() }() // only read
	size, err := CheckContent(in)
	var bad *ContentError
	switch {
	case errors.As(err, &bad):
		return fail(Refused, CauseContent, err, "%v", err)
	case err != nil:
		return fail(Deferred, CauseMessageSource, err, "the content cannot be read: %v", err)
	case size != s.msg.Size:
		return fail(Refused, CauseContent, nil, "the content has %d bytes, %d were announced", size, s.msg.Size)
	}
	return nil
}

// checkLogin looks at what would be wrong with the connection and the login whatever the server says.
func (s *session) checkLogin() error {
	if s.srv.TLS == nil {
		return fail(Refused, CauseTLS, nil, "no roots are configured for the TLS connection to %s", s.srv.Address)
	}
	if !pathSafe(s.cred.User) || s.cred.Password == "" || strings.ContainsAny(s.cred.Password, "\x00\r\n") {
		return fail(Deferred, CauseCredentials, nil, "user name or password are empty or cannot be sent")
	}
	return nil
}

// pathSafe says whether an address may stand between < and > of a command: printable ASCII without
// blanks and angle brackets. What makes an address valid is the caller's business.
func pathSafe(a string) bool {
	if a == "" || len(a) > 254 {
		return false
	}
	for i := 0; i < len(a); i++ {
		if c := a[i]; c <= ' ' || c >= 0x7f || c == '<' || c == '>' {
			return false
		}
	}
	return true
}
