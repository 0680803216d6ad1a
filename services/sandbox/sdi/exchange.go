package sdi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/clock"
	"ceralacca.dev/services/sandbox/fault"
)

// Config of New. CA, Clock and Faults are required.
type Config struct {
	CA     *ca.CA
	Clock  *clock.Clock
	Faults *fault.Registry
	Log    *slog.Logger // default: discarded
	Seed   uint64       // of the choices that production leaves open

	// StateDir keeps the sequence of identifiers, so that a restarted sandbox never gives one
	// out twice; "" keeps nothing.
	StateDir string

	Workers       int           // parallel callbacks; default 32
	KeepFiles     int           // bytes of so many latest files are kept for inspection; default 2000
	ReceiptDelay  time.Duration // virtual time between reception and the first receipt; default none
	ECDSAReceipts bool          // sign receipts with P-256 instead of RSA-2048: cheaper, but unlike the real ones
	LaxSignatures bool          // do not judge who signed and when; a signature must be there all the same
}

// Exchange is the simulator. It is an http.Handler for RiceviFile; serve it with TLSConfig.
type Exchange struct {
	cfg     Config
	log     *slog.Logger
	clock   *clock.Clock
	handler http.Handler
	signer  *receiptSigner
	caller  *http.Client // presents SdI's client certificate to transmitters
	caPool  *x509.CertPool
	end     context.CancelFunc // ends the calls under way
	base    context.Context    //nolint:containedctx // ends with the exchange

	judges   *pool // examine files, make and sign receipts
	couriers *pool // deliver receipts

	mu           sync.Mutex
	rng          *mrand.Rand
	lastID       uint64
	reservedID   uint64
	lastMessage  uint64
	transmitters map[string]*transmitter
	nodes        map[string]*ftpNode     // by fiscal id
	receivers    map[string]*transmitter // by recipient code
	deliveries   []*delivery
	files        []*file
	byID         map[string]*file
	byName       map[string][]*file // by sdi.NameKey
	byHash       map[string][]*file
	invoices     map[string]*file // live invoices by the key of control 00404
	repeated     []client.Duplicate
	kept         []*file // files whose bytes are kept, oldest first
	held         []*receipt

	sendLetter     func(Letter) error
	hasMailbox     func(address string) bool
	correspondents map[string]*correspondent // by mailbox
	counts         client.Counts
	epoch          int
}

type transmitter struct {
	fiscalID string
	callback string
	encoding sdi.Encoding
	client   *sdi.Client // nil without callback

	reception string
	codes     []string
	receiver  *sdi.Client // RicezioneFatture; nil when it receives nothing
	node      *ftpNode    // its codes are brought there instead; nil when they are not

	mail      *correspondent // one that writes from a mailbox, and is written to
	mailFault client.Fault   // of its next answer; guarded by Exchange.mu
}

// New starts an exchange that lives until ctx ends or Close is called.
func New(ctx context.Context, cfg Config) (*Exchange, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 32
	}
	if cfg.KeepFiles <= 0 {
		cfg.KeepFiles = 2000
	}
	e := &Exchange{
		cfg: cfg, log: cfg.Log, clock: cfg.Clock, caPool: cfg.CA.Pool(),
		rng:          mrand.New(mrand.NewPCG(cfg.Seed, 0x5d1)),
		transmitters: map[string]*transmitter{}, nodes: map[string]*ftpNode{}, receivers: map[string]*transmitter{},
	}
	e.forget()
	err := e.startSequence()
	if err != nil {
		return nil, err
	}
	e.signer, err = newReceiptSigner(cfg.CA, cfg.ECDSAReceipts)
	if err != nil {
		return nil, fmt.Errorf("sandbox sdi: receipt signer: %w", err)
	}
	issued, err := cfg.CA.IssueClient("SDI-SANDBOX-CALLER")
	if err != nil {
		return nil, fmt.Errorf("sandbox sdi: client certificate: %w", err)
	}
	e.caller = &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				MinVersion:   tls.VersionTLS12,
				Certificates: []tls.Certificate{issued.TLS()},
				RootCAs:      e.caPool,
			},
			MaxIdleConns:        4 * cfg.Workers,
			MaxIdleConnsPerHost: cfg.Workers,
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	e.handler = e.routes()
	ctx, e.end = context.WithCancel(ctx)
	e.base = ctx
	e.judges = newPool(ctx, 2)
	e.couriers = newPool(ctx, cfg.Workers)
	return e, nil
}

// Close stops the workers; receipts not delivered yet are forgotten.
func (e *Exchange) Close() {
	e.end()
	e.judges.close()
	e.couriers.close()
	e.caller.CloseIdleConnections()
}

// TLSConfig asks for client certificates of the sandbox authority. A call without one passes
// the handshake and is answered 403, as the real host does.
// spec: SDICoop-T-3.2; that it is 403 is known from the field
func (e *Exchange) TLSConfig(server *ca.Issued) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{server.TLS()},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    e.caPool,
		NextProtos:   []string{"http/1.1"},
	}
}

// ServeHTTP serves RiceviFile.
func (e *Exchange) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.handler.ServeHTTP(w, r) }

// forget empties the memory of received files; mu held or not yet shared.
func (e *Exchange) forget() {
	e.files, e.kept, e.held, e.repeated, e.deliveries = nil, nil, nil, nil, nil
	e.byID = map[string]*file{}
	e.byName = map[string][]*file{}
	e.byHash = map[string][]*file{}
	e.invoices = map[string]*file{}
	e.counts = client.Counts{States: map[string]int{}}
	e.correspondents = map[string]*correspondent{}
	e.epoch++
}

// Reset forgets received files. Accreditations and the sequence of identifiers stay.
func (e *Exchange) Reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget()
}

const (
	firstID     = 30_000_000_000 // 11 digits: beyond 32 bits, within the 12 of the schema
	lastIDEver  = 999_999_999_999
	idBlock     = 50_000
	idGap       = 7 // identifiers grow by 1 to idGap
	sequenceDoc = "sdi-sequence"
)

// startSequence continues after every identifier that an earlier run may have given out.
func (e *Exchange) startSequence() error {
	e.lastID = firstID + e.rng.Uint64N(1_000_000)
	if e.cfg.StateDir == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(e.cfg.StateDir, sequenceDoc))
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("sandbox sdi: sequence of identifiers: %w", err)
	default:
		n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64)
		if err != nil || n < firstID || n > lastIDEver {
			return fmt.Errorf("sandbox sdi: %s/%s is damaged; delete the directory to start afresh", e.cfg.StateDir, sequenceDoc)
		}
		e.lastID = n
	}
	return e.reserveIDs()
}

// reserveIDs writes ahead the end of the next block.
func (e *Exchange) reserveIDs() error {
	e.reservedID = e.lastID + idBlock*idGap
	if e.cfg.StateDir == "" {
		return nil
	}
	path := filepath.Join(e.cfg.StateDir, sequenceDoc)
	err := os.WriteFile(path+".new", []byte(strconv.FormatUint(e.reservedID, 10)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("sandbox sdi: sequence of identifiers: %w", err)
	}
	return nil
}

// nextID gives out an identifier; mu held.
func (e *Exchange) nextID() (string, error) {
	e.lastID += 1 + e.rng.Uint64N(idGap)
	if e.lastID > e.reservedID {
		err := e.reserveIDs()
		if err != nil {
			return "", err
		}
	}
	return strconv.FormatUint(e.lastID, 10), nil
}

// unknownID is an identifier that is never given out: below the first one.
func (e *Exchange) unknownID() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strconv.FormatUint(firstID-1-e.rng.Uint64N(1_000_000_000), 10)
}

// Accredit enables a transmitter and issues its two certificates: client (CN SDI-<id>) and
// server. Asking again replaces the address and issues anew.
// spec: AllA-1.9 §1.5.3
func (e *Exchange) Accredit(r client.AccreditationRequest) (client.Accreditation, error) {
	var none client.Accreditation
	t, err := e.newTransmitter(r)
	if err != nil {
		return none, err
	}
	hosts := r.Hosts
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1", "::1", "localhost"}
	}
	cl, err := e.cfg.CA.IssueClient("SDI-" + t.fiscalID)
	if err != nil {
		return none, fmt.Errorf("client certificate: %w", err)
	}
	srv, err := e.cfg.CA.IssueServer(hosts...)
	if err != nil {
		return none, fmt.Errorf("server certificate: %w", err)
	}
	clientKey, err := cl.KeyPEM()
	if err != nil {
		return none, fmt.Errorf("client key: %w", err)
	}
	serverKey, err := srv.KeyPEM()
	if err != nil {
		return none, fmt.Errorf("server key: %w", err)
	}
	e.mu.Lock()
	e.transmitters[t.fiscalID] = t
	e.enlist(t)
	e.mu.Unlock()
	e.log.Info("transmitter accredited", "fiscal_id", t.fiscalID, "callback", t.callback)
	return client.Accreditation{
		FiscalID: t.fiscalID, CallbackURL: t.callback, Receipts: encodingName(t.encoding), ReceptionURL: t.reception, RecipientCodes: t.codes,
		ClientCertPEM: string(cl.CertPEM()), ClientKeyPEM: string(clientKey),
		ServerCertPEM: string(srv.CertPEM()), ServerKeyPEM: string(serverKey),
		CAPEM: string(e.cfg.CA.CertPEM()),
	}, nil
}

func (e *Exchange) newTransmitter(r client.AccreditationRequest) (*transmitter, error) {
	id := strings.ToUpper(strings.TrimSpace(r.FiscalID))
	probe := sdi.FileName{Paese: "IT", ID: id, Progressivo: "1", Ext: sdi.ExtXML}
	if err := probe.Validate(); err != nil {
		return nil, fmt.Errorf("fiscal_id %q must be 11 to 16 letters or digits, without country code", r.FiscalID)
	}
	t := &transmitter{fiscalID: id, callback: r.CallbackURL}
	switch r.Receipts {
	case "", "xop":
		t.encoding = sdi.XOP
	case "multipart":
		t.encoding = sdi.Multipart
	case "plain":
		t.encoding = sdi.Plain
	default:
		return nil, fmt.Errorf("receipts %q is unknown; give xop, multipart or plain", r.Receipts)
	}
	err := e.makeReceiver(t, r)
	if err != nil {
		return nil, err
	}
	if r.CallbackURL == "" {
		return t, nil
	}
	u, err := url.Parse(r.CallbackURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("callback_url %q must be an https URL with a host", r.CallbackURL)
	}
	t.client = &sdi.Client{HTTP: e.caller, URL: r.CallbackURL, Encoding: t.encoding}
	return t, nil
}

func encodingName(enc sdi.Encoding) string {
	switch enc {
	case sdi.Multipart:
		return "multipart"
	case sdi.Plain:
		return "plain"
	}
	return "xop"
}

// Accreditations lists the transmitters, without certificates and keys.
func (e *Exchange) Accreditations() []client.Accreditation {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]client.Accreditation, 0, len(e.transmitters))
	for _, t := range e.transmitters {
		out = append(out, client.Accreditation{FiscalID: t.fiscalID, CallbackURL: t.callback, Receipts: encodingName(t.encoding),
			ReceptionURL: t.reception, RecipientCodes: t.codes})
	}
	return out
}
