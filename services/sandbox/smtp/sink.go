// Package smtp is the sandbox's mail sink: it takes every message over real SMTP, delivers
// none, keeps the latest in memory and shows them through the control API. It owns the SMTP
// conversation and the mailbox; it refuses to relay, and to keep anything on disk.
//
// Two ways to make it fail: faults ordered through the control API, and recipients whose
// local part asks for it: permerror@ (550), temperror@ (451), full@ (452), cut@ (the
// connection is cut at DATA).
package smtp

import (
	"bytes"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/mail"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	gosmtp "github.com/emersion/go-smtp"
)

const (
	maxMessage = 32 << 20
	keep       = 5000 // messages; older ones are forgotten
)

// A Sink is a mail server that keeps what it gets. Safe for concurrent use.
type Sink struct {
	now    func() time.Time
	faults *fault.Registry
	server *gosmtp.Server

	mu     sync.Mutex
	mails  []client.Mail
	nextID int
}

// New makes a sink; Serve runs it.
func New(now func() time.Time, faults *fault.Registry, log *slog.Logger) *Sink {
	s := &Sink{now: now, faults: faults}
	s.server = gosmtp.NewServer(s)
	s.server.Domain = "sandbox.invalid"
	s.server.MaxMessageBytes = maxMessage
	s.server.MaxRecipients = 100
	s.server.ReadTimeout = time.Minute
	s.server.WriteTimeout = time.Minute
	s.server.EnableSMTPUTF8 = true
	s.server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	return s
}

// Serve accepts connections until Close.
func (s *Sink) Serve(l net.Listener) error { return s.server.Serve(l) }

// Close stops the sink and cuts its connections.
func (s *Sink) Close() error { return s.server.Close() }

// Mails lists messages to a recipient, "" for all, oldest first.
func (s *Sink) Mails(to string) []client.Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []client.Mail{}
	for _, m := range s.mails {
		if to == "" || contains(m.To, to) {
			out = append(out, m)
		}
	}
	return out
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if strings.EqualFold(s, want) {
			return true
		}
	}
	return false
}

// Clear forgets all messages.
func (s *Sink) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = nil
}

func (s *Sink) take(from string, to []string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	s.mails = append(s.mails, client.Mail{
		ID: s.nextID, At: s.now(), From: from, To: to, Subject: subject(data), Size: len(data), Data: string(data),
	})
	if len(s.mails) > keep {
		s.mails = append([]client.Mail{}, s.mails[len(s.mails)-keep:]...)
	}
}

func subject(data []byte) string {
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	raw := m.Header.Get("Subject")
	s, err := new(mime.WordDecoder).DecodeHeader(raw)
	if err != nil {
		return raw
	}
	return s
}

// NewSession implements gosmtp.Backend.
func (s *Sink) NewSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	return &session{sink: s, conn: c}, nil
}

type session struct {
	sink *Sink
	conn *gosmtp.Conn
	from string
	to   []string
	fate string // of the message, from a magic recipient
}

// Reset implements gosmtp.Session.
func (c *session) Reset() { c.from, c.to, c.fate = "", nil, "" }

// Logout implements gosmtp.Session.
func (c *session) Logout() error { return nil }

// Mail implements gosmtp.Session.
func (c *session) Mail(from string, _ *gosmtp.MailOptions) error {
	c.from = from
	return nil
}

var (
	errRejected = &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox (sandbox)"}
	errDeferred = &gosmtp.SMTPError{Code: 451, EnhancedCode: gosmtp.EnhancedCode{4, 3, 0}, Message: "try again later (sandbox)"}
	errFull     = &gosmtp.SMTPError{Code: 452, EnhancedCode: gosmtp.EnhancedCode{4, 2, 2}, Message: "mailbox full (sandbox)"}
)

// Rcpt implements gosmtp.Session.
func (c *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	if _, ok := c.sink.faults.Take(fault.Event{Kinds: fault.MailRecipients, Name: to}); ok {
		return errRejected
	}
	local, _, _ := strings.Cut(to, "@")
	switch strings.ToLower(local) {
	case "permerror":
		return errRejected
	case "temperror":
		return errDeferred
	case "full":
		return errFull
	case "cut":
		c.fate = client.FaultMailCut
	}
	c.to = append(c.to, to)
	return nil
}

// Data implements gosmtp.Session.
func (c *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	fate := c.fate
	first := ""
	if len(c.to) > 0 {
		first = c.to[0]
	}
	if order, ok := c.sink.faults.Take(fault.Event{Kinds: fault.MailData, Name: first}); ok {
		fate = order.Kind
		if fate == client.FaultMailDelay {
			time.Sleep(time.Duration(order.DelayMS) * time.Millisecond)
		}
	}
	switch fate {
	case client.FaultMailDefer:
		return errDeferred
	case client.FaultMailCut:
		_ = c.conn.Conn().Close()
		return errDeferred
	}
	c.sink.take(c.from, c.to, data)
	return nil
}
