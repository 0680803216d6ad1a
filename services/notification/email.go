package notification

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/wneessen/go-mail"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/notification/internal/db"
)

// Ways to protect the connection to the mail server.
const (
	tlsMandatory     = "mandatory"
	tlsImplicit      = "implicit"
	tlsOpportunistic = "opportunistic"
	tlsNone          = "none"
)

func (c SMTPConfig) validate() error {
	if c.Address == "" {
		return nil
	}
	var errs []error
	if _, port, err := net.SplitHostPort(c.Address); err != nil || port == "" {
		errs = append(errs, run.BadField("smtp.address", "%q is no address: write it as mail.example.com:587", c.Address))
	}
	if _, err := netmail.ParseAddress(c.From); err != nil {
		errs = append(errs, run.BadField("smtp.from", "%q is no sender: write it as Ceralacca <no-reply@example.com>", c.From))
	}
	switch c.TLS {
	case tlsMandatory, tlsImplicit, tlsOpportunistic, tlsNone:
	default:
		errs = append(errs, run.BadField("smtp.tls", "%q is none of mandatory, implicit, opportunistic, none", c.TLS))
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		errs = append(errs, run.BadField("smtp.username", "username and password_file go together: give both or neither"))
	}
	return errors.Join(errs...)
}

// mailer hands mail to one SMTP server.
type mailer struct {
	host    string
	from    string
	domain  string // of the sender, for Message-IDs
	options []mail.Option
}

func newMailer(cfg SMTPConfig, timeout time.Duration) (*mailer, error) {
	host, portText, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("notification: smtp address: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, run.BadField("smtp.address", "the port %q is no number", portText)
	}
	from, err := netmail.ParseAddress(cfg.From)
	if err != nil {
		return nil, run.BadField("smtp.from", "%q is no sender: %v", cfg.From, err)
	}
	domain := from.Address[strings.LastIndexByte(from.Address, '@')+1:]
	m := &mailer{host: host, from: cfg.From, domain: domain, options: []mail.Option{mail.WithTimeout(timeout),
		mail.WithTLSConfig(&tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})}}
	switch cfg.TLS {
	case tlsImplicit:
		m.options = append(m.options, mail.WithSSL())
	case tlsOpportunistic:
		m.options = append(m.options, mail.WithTLSPolicy(mail.TLSOpportunistic))
	case tlsNone:
		m.options = append(m.options, mail.WithTLSPolicy(mail.NoTLS))
	default:
		m.options = append(m.options, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	m.options = append(m.options, mail.WithPort(port))
	if cfg.Username != "" {
		password, err := run.ReadSecret(cfg.PasswordFile)
		if err != nil {
			return nil, run.BadField("smtp.password_file", "%v", err)
		}
		m.options = append(m.options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(cfg.Username), mail.WithPassword(password))
	}
	return m, nil
}

// prepareEmail reads the subscription and writes the message.
func (s *Service) prepareEmail(ctx context.Context, tx pgx.Tx, row db.Delivery) (func(context.Context) outcome, error) {
	if s.mail == nil {
		return undeliverable("this installation sends no e-mail any more"), nil
	}
	sub, err := q(tx).GetSubscription(ctx, db.GetSubscriptionParams{TenantID: row.TenantID, ID: row.TargetID})
	if errors.Is(err, pgx.ErrNoRows) {
		return undeliverable("the subscription was deleted"), nil
	}
	if err != nil {
		return nil, fmt.Errorf("notification: read subscription %s: %w", row.TargetID, err)
	}
	return s.mailTo(row, sub.Address, sub.Language)
}

// mailTo writes the message about a delivery to an address.
func (s *Service) mailTo(row db.Delivery, address, language string) (func(context.Context) outcome, error) {
	subject, text, err := compose(row, language)
	if err != nil {
		return nil, err
	}
	return s.hand(row, address, subject, text, nil), nil
}

// hand gives the function that hands a message over; more adds to it what not every message has.
func (s *Service) hand(row db.Delivery, address, subject, text string, more func(*mail.Msg)) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		var o outcome
		err := s.breaker("smtp "+s.mail.host).Do(ctx, func(ctx context.Context) (err error) {
			o, err = s.mail.send(ctx, row, address, subject, text, more)
			return err
		})
		if f := fault.Of(err); f != nil && f.Code == "BREAKER_OPEN" {
			return outcome{heldBack: true, retryAfter: max(f.RetryAfter, time.Second)}
		}
		return o
	}
}

// send hands one message over. The error is for the breaker only: Unavailable when the server does not
// answer.
func (m *mailer) send(ctx context.Context, row db.Delivery, to, subject, text string, more func(*mail.Msg)) (outcome, error) {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(m.from), msg.To(to)); err != nil {
		return outcome{final: true, attempt: attempt{Error: "an address cannot be written into a message"}}, nil //nolint:nilerr // says nothing about the server
	}
	msg.Subject(subject)
	msg.SetDateWithValue(row.EventTime)
	// The same in every attempt, so that a mailbox that got the message twice can tell.
	msg.SetMessageIDWithValue(row.ID.String() + "@" + m.domain)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // spec: RFC 3834 §5
	msg.SetBodyString(mail.TypeTextPlain, text)
	if more != nil {
		more(msg)
	}
	client, err := mail.NewClient(m.host, m.options...)
	if err != nil {
		return outcome{final: true, attempt: attempt{Error: "the mail server's settings cannot be used"}}, nil //nolint:nilerr // a matter of configuration
	}
	err = client.DialAndSendWithContext(ctx, msg)
	if err == nil {
		return outcome{ok: true, attempt: attempt{Status: 250}}, nil
	}
	var se *mail.SendError
	if errors.As(err, &se) && se.ErrorCode() > 0 {
		o := outcome{final: !se.IsTemp(), attempt: attempt{Status: se.ErrorCode(), Error: fmt.Sprintf("the mail server answered %d %s", se.ErrorCode(), se.EnhancedStatusCode())}}
		return o, nil // it answered: it is there
	}
	return outcome{attempt: attempt{Error: "the mail server does not answer"}},
		fault.Unavailable("SMTP_UNAVAILABLE", "the mail server %s does not answer", m.host).With(err)
}
