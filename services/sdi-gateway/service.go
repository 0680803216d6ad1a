// Package sdigateway owns the way to and from the Sistema di Interscambio: file names reserved before
// anything is sent, each file sent once, every message of SdI kept as received and turned into a state.
//
// It refuses to sign, to judge invoices, and to drop a message that it does not understand.
package sdigateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// Service is the gateway.
type Service struct {
	sdiv1.UnimplementedSdiServiceServer
	sdiv1.UnimplementedSdiOperationsServiceServer
	sdiv1.UnimplementedSdiChannelServiceServer
	sdiv1.UnimplementedSdiPecServiceServer

	db      *pg.DB
	bus     *bus.Bus
	blobs   blob.Store
	jobs    *run.Jobs
	breaker *run.Breaker
	client  *sdi.Client
	names   *nameSource
	log     *slog.Logger
	now     func() time.Time
	cfg     Config

	arrivals chan *arrival // messages on their way into the database
	calls    chan struct{} // of RiceviFile under way: as many as connections
	late     atomic.Int32  // files of the backlog that wait for another token

	gate     *gate
	wake     chan struct{} // a drainer has something to do
	again    chan struct{} // watch looks at once
	receipts *x509.CertPool
	health   *healthBoard
	ftp      *ftpChannel // nil when SDIFTP is not configured
	posts    *postBoard  // certified mail of companies

	mailboxes pecv1.PecServiceClient         // whether a mailbox is there
	mailed    pecv1.PecDeliveryServiceClient // what it sends

	door     *doorkeeper
	tenancy  tenancyv1.TenancyServiceClient // whose an inbound file is; nil when nothing is received
	notify   *sdi.Client                    // NotificaEsito; nil when no outcome can be sent
	outcomes *run.Breaker                   // of NotificaEsito
}

// Target wires the gateway.
var Target = run.Target{Name: "sdi-gateway", Start: start}

func start(ctx context.Context, h *run.Host) error {
	cfg := defaultConfig()
	err := h.Config(&cfg)
	if err != nil {
		return err
	}
	client, err := newClient(cfg)
	if err != nil {
		return err
	}
	name, err := cfg.sender()
	if err != nil {
		return err
	}
	s := &Service{
		db: h.DB, bus: h.Bus, blobs: h.Blobs, jobs: h.Jobs, breaker: h.Breaker("sdi"), client: client,
		names: newNameSource(h.DB, h.Log, name.Paese, name.ID), log: h.Log, now: h.Now, cfg: cfg,
		arrivals: make(chan *arrival), calls: make(chan struct{}, cfg.Workers), gate: &gate{}, wake: make(chan struct{}, drainers), again: make(chan struct{}, 1),
		health: &healthBoard{}, posts: &postBoard{},
	}
	if cfg.ReceiptCAFile != "" {
		s.receipts, err = loadRoots("receipt_ca_file", cfg.ReceiptCAFile)
		if err != nil {
			return err
		}
	}
	s.door, err = newDoorkeeper(ctx, h.Log)
	if err != nil {
		return err
	}
	listener, err := s.listenAt("callback", cfg.Callback.Listen, cfg.Callback.CertFile, cfg.Callback.KeyFile)
	if err != nil {
		return err
	}
	err = s.startInbound(h)
	if err != nil {
		return err
	}
	sdiv1.RegisterSdiServiceServer(h.RPC, s)
	sdiv1.RegisterSdiOperationsServiceServer(h.RPC, s)
	bus.On(h.Bus, "accepted", s.onInvoiceAccepted)
	bus.On(h.Bus, "signed", s.onDocumentSigned)
	bus.On(h.Bus, "destroyed", s.onUnitsDestroyed)
	bus.On(h.Bus, "condemned", s.onCopiesCondemned)
	run.Work(h, run.WorkOptions{Workers: cfg.Workers, Timeout: cfg.CallTimeout + 15*time.Second, MaxAttempts: 50}, s.transmitNext)
	run.Work(h, run.WorkOptions{Workers: manyWorkers, Timeout: cfg.CallTimeout + 15*time.Second, MaxAttempts: 50}, s.transmitMany)
	run.Work(h, run.WorkOptions{Workers: 8}, s.readMessage)
	run.Work(h, run.WorkOptions{Workers: 4}, s.readMany)
	run.Work(h, run.WorkOptions{Workers: 1}, s.watchTerms)
	run.Work(h, run.WorkOptions{Workers: 1}, s.burySupports)
	run.Work(h, run.WorkOptions{Workers: 1, MaxAttempts: 50}, s.tellCopies)
	run.Work(h, run.WorkOptions{Workers: 1, MaxAttempts: 50}, s.tellNeeds)
	err = s.startChannels(h)
	if err != nil {
		return err
	}
	h.Go("file names", s.names.run)
	h.Go("terms", s.promiseTerms)
	h.Go("state of sending", s.watch)
	for range drainers {
		h.Go("backlog", s.drain)
	}
	h.Go("callback listener", func(ctx context.Context) error { return s.serveCallbacks(ctx, listener) })
	return nil
}

// newClient calls SdI with mutual TLS.
// spec: AllA-1.9 §1.3.3 (HTTPS, TLS 1.2, mutual authentication)
func newClient(cfg Config) (*sdi.Client, error) {
	cert, err := tls.LoadX509KeyPair(cfg.ClientCertFile, cfg.ClientKeyFile)
	if err != nil {
		return nil, run.BadField("client_cert_file", "with client_key_file cannot be used: %v", err)
	}
	roots, err := loadRoots("ca_file", cfg.CAFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: cfg.Workers, MaxConnsPerHost: cfg.Workers,
		IdleConnTimeout: 90 * time.Second, ResponseHeaderTimeout: cfg.CallTimeout,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
	}
	return &sdi.Client{HTTP: &http.Client{Transport: submissions{transport}}, URL: cfg.Endpoint}, nil
}

func loadRoots(key, file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, run.BadField(key, "cannot be read: %v", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, run.BadField(key, "%s holds no PEM certificate", file)
	}
	return pool, nil
}

// listenAt opens an address on which SdI alone is served, so that an address in use stops the start and not
// the first receipt.
func (s *Service) listenAt(key, address, certFile, keyFile string) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, run.BadField(key+".cert_file", "with key_file cannot be used: %v", err)
	}
	clients, err := loadRoots("callback.client_ca_file", s.cfg.Callback.ClientCAFile)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("sdi-gateway.%s.listen: %w", key, err)
	}
	return tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		VerifyConnection: s.checkClient, NextProtos: []string{"http/1.1"},
	}), nil
}

// checkClient refuses certificates that the CA vouches for and that are not SdI's own: the same CA
// issues the certificates of all transmitters.
func (s *Service) checkClient(state tls.ConnectionState) error {
	if len(s.cfg.Callback.ClientNames) == 0 {
		return nil
	}
	name := state.PeerCertificates[0].Subject.CommonName
	for _, allowed := range s.cfg.Callback.ClientNames {
		if name == allowed {
			return nil
		}
	}
	s.log.Warn("callback refused: the client certificate is not one of callback.client_names", "common_name", name)
	return fmt.Errorf("client certificate %q may not deliver messages", name)
}

func (s *Service) serveCallbacks(ctx context.Context, listener net.Listener) error {
	handler := sdi.TrasmissioneFattureHandler(s.receive, sdi.ServerOptions{Refused: s.door.request})
	if in := s.cfg.Inbound; in.on() && in.Listen == "" {
		mux := http.NewServeMux()
		mux.Handle("/", handler)
		mux.Handle(in.Path, s.reception())
		handler = mux
	}
	closed := make(chan struct{})
	var saving sync.WaitGroup
	for range savers {
		saving.Go(func() { s.saveArrivals(context.WithoutCancel(ctx), closed) })
	}
	defer saving.Wait()
	defer close(closed) // after the last callback has its answer
	return s.serve(ctx, "callback", listener, handler)
}

// serve answers SdI on a listener until ctx ends, and then the requests under way.
func (s *Service) serve(ctx context.Context, name string, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		ErrorLog: log.New(s.door, "", 0),
	}
	s.log.InfoContext(ctx, "waiting for SdI", "listener", name, "address", listener.Addr().String())
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		stopped <- server.Shutdown(drain)
	}()
	err := server.Serve(listener)
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("sdi-gateway: %s listener: %w", name, err)
	}
	return <-stopped
}
