package pec

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
)

const (
	// maxMessage is what SMTP takes at all: more is refused by SMTP, less may still be refused by
	// a notice of the provider. spec: RFC6109 §3.1.2
	maxMessage    = 64 << 20
	maxRecipients = 1000
)

var (
	errLogin    = &gosmtp.SMTPError{Code: 535, EnhancedCode: gosmtp.EnhancedCode{5, 7, 8}, Message: "authentication failed (sandbox)"}
	errNoLogin  = &gosmtp.SMTPError{Code: 530, EnhancedCode: gosmtp.EnhancedCode{5, 7, 0}, Message: "log in first (sandbox)"}
	errSender   = &gosmtp.SMTPError{Code: 553, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "the reverse path is not your mailbox (sandbox)"}
	errInactive = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "mailbox suspended, sending is off (sandbox)"}
	errRejected = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox (sandbox)"}
	errDeferred = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "try again later (sandbox)"}
	errBroken   = &gosmtp.SMTPError{Code: 554, EnhancedCode: gosmtp.EnhancedCode{5, 6, 0}, Message: "the message cannot be read (sandbox)"}
)

// throttled is what one provider answers to too many messages: it looks permanent and is not.
func throttled(from string) error {
	return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.NoEnhancedCode,
		Message: `MAIL from: "` + from + `" blocked "Class Of Service" - Too much traffic from this sender`}
}

// newSMTP makes a server; the caller says what a session is.
func (w *World) newSMTP(b gosmtp.BackendFunc, domain string) *gosmtp.Server {
	s := gosmtp.NewServer(b)
	s.Domain, s.MaxMessageBytes, s.MaxRecipients = domain, maxMessage, maxRecipients
	s.ReadTimeout, s.WriteTimeout = 5*time.Minute, 5*time.Minute
	s.MaxLineLength = 10_000
	s.ErrorLog = slog.NewLogLogger(w.cfg.Log.Handler(), slog.LevelDebug)
	return s
}

// submitter is a connection to the point of access.
type submitter struct {
	w    *World
	conn *gosmtp.Conn
	mb   *mailbox
	from string
	to   []string
}

var _ gosmtp.AuthSession = (*submitter)(nil)

func (w *World) refusesLogin(address string) bool {
	_, refused := w.cfg.Faults.Take(fault.Event{Kinds: fault.PECAuth, Name: address})
	return refused
}

// AuthMechanisms implements gosmtp.AuthSession.
func (s *submitter) AuthMechanisms() []string { return []string{sasl.Plain, sasl.Login} }

// Auth implements gosmtp.AuthSession.
func (s *submitter) Auth(mech string) (sasl.Server, error) {
	check := func(user, password string) error {
		mb, ok := s.w.login(user, password, "smtp")
		if !ok {
			return errLogin
		}
		s.mb = mb
		return nil
	}
	if strings.EqualFold(mech, sasl.Login) {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(identity, user, password string) error {
		if identity != "" && !strings.EqualFold(identity, user) {
			return errLogin
		}
		return check(user, password)
	}), nil
}

// loginServer is AUTH LOGIN, that older clients use; the library has its client side alone.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

// Next implements sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && l.step == 0 {
		l.step = 1
		return []byte("Username:"), false, nil
	}
	switch l.step {
	case 0, 1:
		l.user, l.step = string(response), 2
		return []byte("Password:"), false, nil
	case 2:
		l.step = 3
		return nil, true, l.check(l.user, string(response))
	}
	return nil, false, errors.New("login is over")
}

// Reset implements gosmtp.Session.
func (s *submitter) Reset() { s.from, s.to = "", nil }

// Logout implements gosmtp.Session.
func (s *submitter) Logout() error { return nil }

// Mail implements gosmtp.Session.
func (s *submitter) Mail(from string, _ *gosmtp.MailOptions) error {
	if s.mb == nil {
		return errNoLogin
	}
	if !strings.EqualFold(from, s.mb.address) {
		return errSender
	}
	s.mb.mu.Lock()
	state := s.mb.state
	s.mb.mu.Unlock()
	if state != active {
		return errInactive
	}
	if _, ok := s.w.cfg.Faults.Take(fault.Event{Kinds: fault.PECMail, Name: from}); ok || !s.w.allows(s.mb.address) {
		return throttled(from)
	}
	s.from = from
	return nil
}

// allows counts a submission against the limit of a minute.
func (w *World) allows(address string) bool {
	g := w.manager(address)
	now := w.cfg.Clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if g == nil || g.perMinute < 0 {
		return true
	}
	var recent []time.Time
	for _, t := range w.rate[address] {
		if now.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	w.rate[address] = recent
	if len(recent) >= g.perMinute {
		return false
	}
	w.rate[address] = append(recent, now)
	return true
}

// Rcpt implements gosmtp.Session.
func (s *submitter) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if _, ok := s.w.cfg.Faults.Take(fault.Event{Kinds: fault.PECRecipients, Name: to}); ok {
		return errRejected
	}
	switch {
	case s.w.asks([]string{to}, magicReject):
		return errRejected
	case s.w.asks([]string{to}, magicDefer):
		return errDeferred
	}
	s.to = append(s.to, to)
	return nil
}

// Data implements gosmtp.Session.
func (s *submitter) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	fate := client.Fault{}
	switch {
	case s.w.asks(s.to, magicCut):
		fate.Kind = client.FaultPECCutBefore
	case s.w.asks(s.to, magicCutTaken):
		fate.Kind = client.FaultPECCutAfter
	default:
		fate, _ = s.w.cfg.Faults.Take(fault.Event{Kinds: fault.PECData, Name: s.from})
	}
	switch fate.Kind {
	case client.FaultPECDefer:
		return errDeferred
	case client.FaultPECCutBefore:
		_ = s.conn.Conn().Close()
		return errDeferred
	}
	m, err := rfc.ParseBytes(raw)
	if err != nil {
		return errBroken
	}
	if err := s.w.take(m, rfc.Envelope{MailFrom: s.from, Recipients: s.to}, raw); err != nil {
		s.w.cfg.Log.Error("pec submission", "error", err.Error())
		return errDeferred
	}
	if fate.Kind == client.FaultPECCutAfter {
		_ = s.conn.Conn().Close()
	}
	return nil
}

// submission is one message of a user on its way, under World.mu.
type submission struct {
	g       *gestore
	from    string // mailbox
	raw     []byte // nil when no longer kept
	view    client.PECSubmission
	settled map[string]bool // recipients with a delivery receipt or a notice of non-delivery
	taken   map[string]bool // recipients taken in charge
}

// take records a submission and begins to work on it.
func (w *World) take(m *rfc.Message, e rfc.Envelope, raw []byte) error {
	now := w.cfg.Clock.Now()
	g := w.manager(e.MailFrom)
	if g == nil {
		return errors.New("no provider manages " + e.MailFrom)
	}
	w.mu.Lock()
	signer := g.signer
	w.mu.Unlock()
	id, err := signer.NewIdentificativo(now)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	s := &submission{
		g: g, from: strings.ToLower(e.MailFrom), raw: raw, settled: map[string]bool{}, taken: map[string]bool{},
		view: client.PECSubmission{
			Identificativo: id, MsgID: m.Root.Header.MessageID("Message-ID"), Provider: g.id, From: e.MailFrom, To: e.Recipients,
			Subject: m.Root.Header.Text("Subject"), At: now, Size: len(raw), SHA256: hex.EncodeToString(sum[:]), Events: []client.PECEvent{},
		},
	}
	w.mu.Lock()
	w.submissions = append(w.submissions, s)
	w.byID[id] = s
	if n := len(w.submissions) - keepSubmissions; n > 0 {
		w.submissions[n-1].raw = nil
	}
	w.mu.Unlock()
	w.do(func() { w.access(s, m, e, raw, now) })
	return nil
}

// log adds a line to the provider's log. spec: RFC6109 §2.3
func (w *World) log(s *submission, at time.Time, g *gestore, kind, recipient, detail string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.view.Events = append(s.view.Events, client.PECEvent{At: at, Type: kind, Provider: g.id, Recipient: recipient, Detail: detail})
}

func (w *World) serveSMTP(s *gosmtp.Server, l net.Listener) {
	err := s.Serve(l)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, gosmtp.ErrServerClosed) {
		w.cfg.Log.Debug("pec smtp ended", "error", err.Error())
	}
}
