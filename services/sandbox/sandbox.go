// Package sandbox starts the simulators of the outside world in one process: the Sistema di
// Interscambio, a time-stamp authority, a mail sink, two providers of certified mail, two of remote
// signatures, a certification authority, and the control API over them.
//
// It owns listeners and wiring. It refuses to be taken for the real thing: it binds loopback
// only unless told otherwise, certificates and receipts say SANDBOX - NOT VALID, memory is
// lost at exit, and a start is announced loudly. It never imports a service or the kit.
package sandbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/clock"
	"ceralacca.dev/services/sandbox/fault"
	"ceralacca.dev/services/sandbox/pec"
	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/sandbox/sdi"
	"ceralacca.dev/services/sandbox/smtp"
	"ceralacca.dev/services/sandbox/tsa"
)

// Config of Start. The zero value listens on free loopback ports and keeps nothing.
type Config struct {
	// Dir keeps the authority and the sequence of SdI identifiers between starts, so that
	// certificates handed out stay good; "" keeps nothing.
	Dir string

	ListenHost       string // default 127.0.0.1
	AllowNonLoopback bool   // must be set to listen anywhere else

	SdIPort, TSAPort, SMTPPort, RemoteSignPort, ControlPort int // 0: any free port

	// PECPorts are those of the certified mail providers by the names of package pec (pec.SMTPS,
	// pec.IMAPS, ...); one that is not named takes any free port.
	PECPorts map[string]int

	Seed uint64           // of the choices that production leaves open
	Log  *slog.Logger     // default: discarded
	Now  func() time.Time // real time under the virtual clock; default time.Now

	Workers       int           // parallel callbacks of SdI; default 32
	KeepFiles     int           // bytes of so many latest files are kept; default 2000
	ReceiptDelay  time.Duration // virtual time before the first receipt; default none
	ECDSAReceipts bool          // sign receipts with P-256 instead of RSA-2048
	LaxSignatures bool          // do not judge who signed the files received
}

// Server is a running sandbox.
type Server struct {
	endpoints client.Endpoints
	log       *slog.Logger

	ca       *ca.CA
	clock    *clock.Clock
	faults   *fault.Registry
	exchange *sdi.Exchange
	tsa      *tsa.Server
	remote   *remotesign.World
	mail     *smtp.Sink
	pec      *pec.World
	posta    *pec.Servers

	https []*http.Server
	post  net.Listener // of the mail sink
	desk  net.Listener // of the control API, which publishes the list of revoked certificates too
	gone  sync.WaitGroup
	once  sync.Once
}

// Start makes the simulators and listens. Close stops everything; so does the end of ctx for
// calls under way. Errors say which part failed and what to change.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.ListenHost == "" {
		cfg.ListenHost = "127.0.0.1"
	}
	err := mayListen(cfg.ListenHost, cfg.AllowNonLoopback)
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{log: cfg.Log, faults: &fault.Registry{}, clock: clock.New(cfg.Now)}
	err = s.build(ctx, cfg)
	if err == nil {
		err = s.listen(ctx, cfg)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	cfg.Log.Warn("SANDBOX - NOT VALID: simulators are running; nothing that they sign, stamp or accept has any legal effect",
		"sdi", s.endpoints.SdIURL, "control", s.endpoints.ControlURL)
	return s, nil
}

// mayListen refuses addresses that other machines can reach, unless that was asked for.
func mayListen(host string, allowed bool) error {
	if allowed {
		return nil
	}
	if host == "localhost" {
		return nil
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("sandbox: %q is not a loopback address; anyone who reaches the sandbox can make it sign: set AllowNonLoopback (--allow-non-loopback) if that is meant", host)
	}
	return nil
}

func (s *Server) build(ctx context.Context, cfg Config) error {
	if cfg.Dir != "" {
		err := os.MkdirAll(cfg.Dir, 0o700)
		if err != nil {
			return fmt.Errorf("sandbox: directory: %w", err)
		}
	}
	var err error
	s.desk, err = listen(ctx, cfg, "control API", cfg.ControlPort)
	if err != nil {
		return err
	}
	s.endpoints.ControlURL = "http://" + s.desk.Addr().String()
	s.ca, err = ca.New(ca.Options{Dir: cfg.Dir, Now: cfg.Now, CRL: s.endpoints.ControlURL + crlPath})
	if err != nil {
		return fmt.Errorf("sandbox: certification authority: %w", err)
	}
	s.exchange, err = sdi.New(ctx, sdi.Config{
		CA: s.ca, Clock: s.clock, Faults: s.faults, Log: s.log, Seed: cfg.Seed, StateDir: cfg.Dir, Workers: cfg.Workers,
		KeepFiles: cfg.KeepFiles, ReceiptDelay: cfg.ReceiptDelay, ECDSAReceipts: cfg.ECDSAReceipts, LaxSignatures: cfg.LaxSignatures,
	})
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.tsa, err = tsa.New(tsa.Options{CA: s.ca, Now: s.clock.Now})
	if err != nil {
		return fmt.Errorf("sandbox: time-stamp authority: %w", err)
	}
	s.remote = remotesign.New(remotesign.Options{CA: s.ca, Now: s.clock.Now})
	s.mail = smtp.New(s.clock.Now, s.faults, s.log)
	if err := s.listenMail(ctx, cfg); err != nil {
		return err
	}
	s.pec, err = pec.New(ctx, pec.Config{
		CA: s.ca, Clock: s.clock, Faults: s.faults, Log: s.log, Dir: cfg.Dir, Now: cfg.Now, Ordinary: s.endpoints.SMTPAddr,
	})
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.connectPost()
	if cfg.Dir == "" {
		return nil
	}
	path, err := filepath.Abs(filepath.Join(cfg.Dir, "ca.pem"))
	if err == nil {
		err = os.WriteFile(path, s.ca.CertPEM(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("sandbox: certificate file: %w", err)
	}
	s.endpoints.CAFile = path
	return nil
}

func listen(ctx context.Context, cfg Config, what string, port int) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(cfg.ListenHost, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("sandbox: %s: %w; choose another port, or 0 for a free one", what, err)
	}
	return l, nil
}

// listenMail starts the mail sink: the certified mail providers have to know where it is.
func (s *Server) listenMail(ctx context.Context, cfg Config) error {
	l, err := listen(ctx, cfg, "SMTP", cfg.SMTPPort)
	if err != nil {
		return err
	}
	s.endpoints.SMTPAddr = l.Addr().String()
	s.post = l
	s.gone.Go(func() {
		err := s.mail.Serve(s.post)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Debug("mail sink ended", "error", err.Error())
		}
	})
	return nil
}

func (s *Server) listen(ctx context.Context, cfg Config) error {
	server, err := s.ca.IssueServer(cfg.ListenHost, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return fmt.Errorf("sandbox: server certificate: %w", err)
	}
	open := func(what string, port int) (net.Listener, error) { return listen(ctx, cfg, what, port) }
	l, err := open("SdI", cfg.SdIPort)
	if err != nil {
		return err
	}
	s.endpoints.SdIURL = "https://" + l.Addr().String() + "/ricevi_file"
	mux := http.NewServeMux()
	mux.Handle("/ricevi_file", s.exchange)
	s.endpoints.NotifyURL = "https://" + l.Addr().String() + "/ricevi_notifica"
	mux.Handle("/ricevi_notifica", s.exchange.RiceviNotifica())
	s.serve(tls.NewListener(l, s.exchange.TLSConfig(server)), mux)

	l, err = open("time-stamp authority", cfg.TSAPort)
	if err != nil {
		return err
	}
	s.endpoints.TSAURL = "http://" + l.Addr().String() + "/tsa"
	mux = http.NewServeMux()
	mux.Handle("/tsa", s.tsa)
	s.serve(l, mux)

	l, err = open("remote signature", cfg.RemoteSignPort)
	if err != nil {
		return err
	}
	s.endpoints.RemoteSign = client.RemoteSign{
		ARSSURL: "https://" + l.Addr().String() + arssPath, SWSURL: "https://" + l.Addr().String() + swsPath,
		CSC1URL: "https://" + l.Addr().String() + strings.TrimRight(csc1Path, "/"),
	}
	mux = http.NewServeMux()
	mux.Handle(arssPath, s.remote.ARSS())
	mux.Handle(swsPath, s.remote.SWS())
	mux.Handle(csc1Path, s.remote.CSC1())
	s.serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{server.TLS()}, MinVersion: tls.VersionTLS12}), mux)

	s.posta, err = s.pec.Serve(ctx, server, func(_ context.Context, name string) (net.Listener, error) {
		return open(name, cfg.PECPorts[name])
	})
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	s.endpoints.PEC = s.posta.Addresses()

	s.serve(s.desk, s.control())
	return nil
}

func (s *Server) serve(l net.Listener, h http.Handler) {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1, like the real one
	}
	s.https = append(s.https, srv)
	s.gone.Go(func() {
		err := srv.Serve(l)
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("listener ended", "address", l.Addr().String(), "error", err.Error())
		}
	})
}

// Endpoints says where everything listens.
func (s *Server) Endpoints() client.Endpoints { return s.endpoints }

// CAPEM is the certificate of the sandbox authority.
func (s *Server) CAPEM() []byte { return s.ca.CertPEM() }

// Shutdown lets requests under way end, until ctx does, then closes.
func (s *Server) Shutdown(ctx context.Context) {
	for _, srv := range s.https {
		err := srv.Shutdown(ctx)
		if err != nil {
			s.log.Debug("shutdown cut short", "error", err.Error())
		}
	}
	s.Close()
}

// Close stops everything at once and waits for it.
func (s *Server) Close() {
	s.once.Do(func() {
		for _, srv := range s.https {
			_ = srv.Close()
		}
		if s.mail != nil {
			_ = s.mail.Close()
		}
		if s.desk != nil {
			_ = s.desk.Close() // also when it was stopped before it was served
		}
		if s.post != nil {
			_ = s.post.Close() // the sink does not know it yet when it was stopped before it began
		}
		if s.posta != nil {
			s.posta.Close()
		}
		s.clock.Close()
		if s.pec != nil {
			s.pec.Close()
		}
		if s.exchange != nil {
			s.exchange.Close()
		}
		s.gone.Wait()
	})
}
