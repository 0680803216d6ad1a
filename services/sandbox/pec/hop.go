package pec

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	gosmtp "github.com/emersion/go-smtp"
)

const (
	hopTimeout  = 30 * time.Second
	hopRetry    = 30 * time.Minute
	hopLifetime = 24 * time.Hour // in the queue between providers. spec: RFC6109 §2.2.2
)

// hop carries a message to the point of reception of another provider, by SMTP with STARTTLS. What
// cannot be handed over waits in the queue, a day at most; the sender's provider notices by the
// silence.
func (w *World) hop(g *gestore, from string, to []string, raw []byte, since time.Time) {
	err := w.send(w.mx, "pec."+g.domains[0], from, to, raw)
	if err == nil {
		return
	}
	w.cfg.Log.Debug("pec hop", "error", err.Error())
	now := w.cfg.Clock.Now()
	if permanent(err) || now.Add(hopRetry).Sub(since) > hopLifetime {
		return
	}
	w.after(now.Add(hopRetry), func(time.Time) { w.hop(g, from, to, raw, since) })
}

func permanent(err error) bool {
	var e *gosmtp.SMTPError
	return errors.As(err, &e) && e.Code >= 500
}

// send is one SMTP transaction, encrypted when the server is one of ours.
func (w *World) send(addr, name, from string, to []string, raw []byte) error {
	ctx, cancel := context.WithTimeout(w.ctx, hopTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var c *gosmtp.Client
	if addr == w.mx {
		c, err = gosmtp.NewClientStartTLS(conn, &tls.Config{RootCAs: w.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12})
		if err != nil {
			_ = conn.Close()
			return fmt.Errorf("start TLS: %w", err)
		}
	} else {
		c = gosmtp.NewClient(conn)
		if err := c.Hello(name); err != nil {
			_ = c.Close()
			return fmt.Errorf("greet: %w", err)
		}
	}
	if err := c.SendMail(from, to, bytes.NewReader(raw)); err != nil {
		_ = c.Close()
		return fmt.Errorf("send: %w", err)
	}
	return c.Quit()
}

// sendOrdinary hands the envelope to the mail of everybody else. A refusal comes back as an
// ordinary delivery report, which reaches a certified mailbox as an anomaly.
func (w *World) sendOrdinary(s *submission, to []string, raw []byte) {
	if w.cfg.Ordinary == "" {
		return
	}
	for _, a := range to {
		err := w.send(w.cfg.Ordinary, "pec."+s.g.domains[0], s.from, []string{a}, raw)
		at := w.cfg.Clock.Now()
		if err == nil {
			w.log(s, at, s.g, "inoltro", a, "ordinary mail")
			continue
		}
		w.log(s, at, s.g, "inoltro fallito", a, err.Error())
		if err := w.receive("", []string{s.from}, report(s, a, err, at), at); err != nil {
			w.cfg.Log.Debug("pec delivery report", "error", err.Error())
		}
	}
}

// report is a delivery status notification. spec: RFC3464
func report(s *submission, to string, cause error, at time.Time) []byte {
	status, text := "4.0.0", cause.Error()
	var e *gosmtp.SMTPError
	if errors.As(cause, &e) {
		text = fmt.Sprintf("%d %s", e.Code, e.Message)
		if e.Code >= 500 {
			status = "5.0.0"
		}
	}
	const b = "=_sandbox_report"
	var out bytes.Buffer
	fmt.Fprintf(&out, "From: MAILER-DAEMON@sandbox.invalid\r\nTo: %s\r\nSubject: Undelivered Mail Returned to Sender\r\nDate: %s\r\n"+
		"Message-ID: <dsn.%d.%s>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"+
		"Content-Type: multipart/report; report-type=delivery-status; boundary=\"%s\"\r\n\r\n", s.from, at.Format(time.RFC1123Z), at.UnixNano(), s.view.Identificativo, b)
	fmt.Fprintf(&out, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThe message could not be delivered to %s.\r\n", b, to)
	fmt.Fprintf(&out, "--%s\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; sandbox.invalid\r\n\r\n"+
		"Final-Recipient: rfc822; %s\r\nAction: failed\r\nStatus: %s\r\nDiagnostic-Code: smtp; %s\r\n", b, to, status, rfc.SafeName(text))
	fmt.Fprintf(&out, "--%s\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <%s>\r\n\r\n--%s--\r\n", b, s.view.Identificativo, b)
	return out.Bytes()
}
