package pec

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"github.com/emersion/go-imap/v2/imapserver"
	gosmtp "github.com/emersion/go-smtp"
)

// Names of the servers, as Serve asks for their listeners.
const (
	SMTPS      = "PEC SMTPS"
	Submission = "PEC submission"
	IMAPS      = "PEC IMAPS"
	POP3S      = "PEC POP3S"
	MX         = "PEC reception"
)

// Servers are the running servers of a World.
type Servers struct {
	w         *World
	addr      client.PEC
	smtp      []*gosmtp.Server
	imap      *imapserver.Server
	pop       *popServer
	listeners []net.Listener
	done      chan struct{}
}

// Serve makes the providers reachable: open is asked for one plain TCP listener per server, cert is
// the servers' TLS certificate. Close ends it.
func (w *World) Serve(ctx context.Context, cert *ca.Issued, open Listeners) (*Servers, error) {
	conf := &tls.Config{Certificates: []tls.Certificate{cert.TLS()}, MinVersion: tls.VersionTLS12}
	s := &Servers{w: w, imap: w.newIMAP(), pop: &popServer{w: w}, done: make(chan struct{})}
	ls := map[string]net.Listener{}
	for _, name := range []string{SMTPS, Submission, IMAPS, POP3S, MX} {
		l, err := open(ctx, name)
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close()
			}
			return nil, fmt.Errorf("sandbox pec: %w", err)
		}
		ls[name] = l
		s.listeners = append(s.listeners, l)
	}
	s.addr = addresses(ls)
	w.mx = s.addr.MXAddr

	submit := func(c *gosmtp.Conn) (gosmtp.Session, error) { return &submitter{w: w, conn: c}, nil }
	receive := func(*gosmtp.Conn) (gosmtp.Session, error) { return &receiver{w: w}, nil }
	smtps, start, mx := w.newSMTP(submit, "pec.sandbox.invalid"), w.newSMTP(submit, "pec.sandbox.invalid"), w.newSMTP(receive, "mx.pec.sandbox.invalid")
	start.TLSConfig, mx.TLSConfig = conf, conf
	s.smtp = []*gosmtp.Server{smtps, start, mx}

	var running []func()
	running = append(running,
		func() { w.serveSMTP(smtps, tls.NewListener(ls[SMTPS], conf)) },
		func() { w.serveSMTP(start, ls[Submission]) },
		func() { w.serveSMTP(mx, ls[MX]) },
		func() { w.serveIMAP(s.imap, quotaListener{tls.NewListener(ls[IMAPS], conf)}) },
		func() { s.pop.serve(tls.NewListener(ls[POP3S], conf)) },
	)
	ended := make(chan struct{}, len(running))
	for _, run := range running {
		go func() {
			run()
			ended <- struct{}{}
		}()
	}
	go func() {
		for range running {
			<-ended
		}
		close(s.done)
	}()
	return s, nil
}

// Addresses says where they listen.
func (s *Servers) Addresses() client.PEC { return s.addr }

// Close cuts all connections and waits for the servers to end.
func (s *Servers) Close() {
	for _, srv := range s.smtp {
		_ = srv.Close()
	}
	_ = s.imap.Close()
	s.pop.close()
	for _, l := range s.listeners {
		_ = l.Close() // of a server that was stopped before it began
	}
	<-s.done
}
