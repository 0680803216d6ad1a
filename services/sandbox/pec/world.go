package pec

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"ceralacca.dev/services/format/cms"
	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/clock"
	"ceralacca.dev/services/sandbox/fault"
)

// Config of New. CA, Clock, Faults and Log are required.
type Config struct {
	CA     *ca.CA // of the servers' TLS certificates
	Clock  *clock.Clock
	Faults *fault.Registry
	Log    *slog.Logger
	Dir    string           // keeps the providers' authorities and certificates; "" keeps nothing
	Now    func() time.Time // of the authorities; time.Now when nil

	// Ordinary is the host:port of the server for domains that no provider manages; "" drops
	// such mail.
	Ordinary string

	// Providers; nil takes Defaults.
	Providers []Provider
}

// Provider is a gestore to simulate.
type Provider struct {
	ID      string // "alfa": its service domain is pec.<first of Domains>
	Name    string
	Domains []string
	Profile rfc.Profile
}

// Defaults are two providers that write differently. The second one manages SdI's domain too.
func Defaults() []Provider {
	return []Provider{
		{ID: "alfa", Name: "Gestore Alfa SANDBOX", Domains: []string{"alfa.test"}, Profile: rfc.ProfilePlain},
		{ID: "beta", Name: "Gestore Beta SANDBOX", Domains: []string{"beta.test", rfc.SdIDomain}, Profile: rfc.ProfileAruba},
	}
}

// DefaultPassword of mailboxes that were given none.
const DefaultPassword = "sandbox"

// keepSubmissions bounds how many submissions keep their bytes.
const keepSubmissions = 2000

// parallel bounds how many messages are worked on at a time.
const parallel = 8

type gestore struct {
	id, service string
	domains     []string
	signer      rfc.Gestore                // copied before use; Profile may change under World.mu
	person      func() (*ca.Issued, error) // who is no provider, for forgeries
	ca          *ca.CA

	limits    rfc.SubmissionLimits
	perMinute int
	full      string
	down      bool
}

// World is the providers with their mailboxes. Safe for concurrent use.
type World struct {
	cfg   Config
	roots *x509.CertPool // of TLS between providers
	trust *rfc.TrustList
	index func() ([]byte, error)
	rome  *time.Location

	mu          sync.Mutex
	gestori     []*gestore
	domains     map[string]*gestore
	mailboxes   map[string]*mailbox
	submissions []*submission
	byID        map[string]*submission
	rate        map[string][]time.Time
	nextMessage int
	validity    uint32

	agents map[string]Agent // by domain

	mx string // host:port of the point of reception

	ctx    context.Context // of work that outlives a request; ended by Close
	cancel context.CancelFunc
	slots  chan struct{}
	busy   sync.WaitGroup

	work    sync.Mutex
	tasks   int
	idle    chan struct{} // closed when tasks is 0
	pending map[uint64]time.Time
	timerID uint64
}

// New makes the providers, their authorities and the preset mailboxes (mittente@ and
// destinatario@ in each first domain, password DefaultPassword). Serve makes them reachable.
func New(ctx context.Context, cfg Config) (*World, error) {
	if cfg.Providers == nil {
		cfg.Providers = Defaults()
	}
	w := &World{
		cfg: cfg, roots: x509.NewCertPool(), domains: map[string]*gestore{}, mailboxes: map[string]*mailbox{},
		byID: map[string]*submission{}, rate: map[string][]time.Time{}, pending: map[uint64]time.Time{},
		agents: map[string]Agent{}, slots: make(chan struct{}, parallel), idle: closed(), validity: 1_000_000,
		trust: &rfc.TrustList{Version: "sandbox", Roots: x509.NewCertPool()},
	}
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.roots.AppendCertsFromPEM(cfg.CA.CertPEM())
	var err error
	if w.rome, err = time.LoadLocation("Europe/Rome"); err != nil {
		w.rome = time.FixedZone("CET", 3600) // a machine without zone data: legal time without summer
	}
	for _, p := range cfg.Providers {
		if err := w.found(p); err != nil {
			return nil, err
		}
	}
	w.index = sync.OnceValues(w.signIndex)
	w.preset()
	return w, nil
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// found makes one provider.
func (w *World) found(p Provider) error {
	if p.ID == "" || p.Name == "" || len(p.Domains) == 0 {
		return fmt.Errorf("sandbox pec: a provider needs id, name and domains, has %q, %q and %d", p.ID, p.Name, len(p.Domains))
	}
	dir := w.cfg.Dir
	if dir != "" {
		dir = filepath.Join(dir, "pec-"+p.ID)
	}
	authority, err := ca.New(ca.Options{Dir: dir, Now: w.cfg.Now})
	if err != nil {
		return fmt.Errorf("sandbox pec: authority of %s: %w", p.ID, err)
	}
	own := "pec." + p.Domains[0]
	address := "posta-certificata@" + own
	cert, err := w.signer(authority, dir, p.Name, address)
	if err != nil {
		return fmt.Errorf("sandbox pec: certificate of %s: %w", p.ID, err)
	}
	g := &gestore{
		id: p.ID, service: "ricevute@" + own, domains: p.Domains, ca: authority, perMinute: -1, full: fullError,
		person: sync.OnceValues(func() (*ca.Issued, error) {
			return authority.IssueMailSigner("Una Persona", "una.persona@"+p.Domains[0])
		}),
		signer: rfc.Gestore{
			Name: p.Name, Address: address, Certificate: cert.Chain[0], Chain: cert.Chain[1:], Key: cert.Key, Profile: p.Profile, Location: w.rome,
		},
		limits: rfc.SubmissionLimits{Recipients: rfc.LegalRecipients, Volume: rfc.LegalVolume},
	}
	for _, d := range append([]string{own}, p.Domains...) {
		if w.domains[strings.ToLower(d)] != nil {
			return fmt.Errorf("sandbox pec: domain %s has two providers", d)
		}
		w.domains[strings.ToLower(d)] = g
	}
	w.gestori = append(w.gestori, g)
	w.trust.Roots.AddCert(cert.Chain[1])
	w.trust.Providers = append(w.trust.Providers, rfc.Provider{
		Name: p.Name, Signers: []string{address}, Domains: p.Domains, Certificates: []string{fingerprint(cert.Chain[0])},
	})
	return nil
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// signIndex writes the index of providers, signed. spec: RFC6109 §4.5
func (w *World) signIndex() ([]byte, error) {
	var entries []rfc.IndiceEntry
	for _, g := range w.gestori {
		entries = append(entries, rfc.IndiceEntry{
			Name: g.signer.Name, Receipts: g.service, Domains: g.domains, Certificates: []*x509.Certificate{g.signer.Certificate},
			Description: ca.Mark,
		})
	}
	signer, err := w.cfg.CA.IssueMailSigner("Indice SANDBOX", "indice@sandbox.invalid")
	if err != nil {
		return nil, fmt.Errorf("sandbox pec: index: %w", err)
	}
	out, err := cms.Sign(w.ctx, rfc.WriteIndice(entries), signer.Key, cms.Options{
		Certificate: signer.Chain[0], Chain: signer.Chain[1:], SigningTime: w.cfg.Clock.Now(),
	})
	if err != nil {
		return nil, fmt.Errorf("sandbox pec: index: %w", err)
	}
	return out, nil
}

func (w *World) preset() {
	for _, g := range w.gestori {
		service := w.open(g.service)
		service.mu.Lock()
		service.state = disabled // to be looked at through the control API
		service.mu.Unlock()
		for _, name := range []string{"mittente", "destinatario"} {
			w.open(name + "@" + g.domains[0])
		}
	}
}

// Index is the index of providers as LDIF in CMS, signed under the sandbox's authority.
func (w *World) Index() ([]byte, error) { return w.index() }

// manager gives the provider of an address, nil when it is ordinary mail.
func (w *World) manager(address string) *gestore {
	return w.domains[strings.ToLower(rfc.Domain(address))]
}

// do runs fn apart. Settle waits for it.
func (w *World) do(fn func()) {
	w.work.Lock()
	if w.ctx.Err() != nil {
		w.work.Unlock()
		return
	}
	if w.tasks == 0 {
		w.idle = make(chan struct{})
	}
	w.tasks++
	w.busy.Add(1)
	w.work.Unlock()
	go func() {
		defer w.busy.Done()
		defer func() {
			w.work.Lock()
			defer w.work.Unlock()
			if w.tasks--; w.tasks == 0 {
				close(w.idle)
			}
		}()
		select {
		case w.slots <- struct{}{}:
			defer func() { <-w.slots }()
			fn()
		case <-w.ctx.Done():
		}
	}()
}

// after runs fn when virtual time reaches due.
func (w *World) after(due time.Time, fn func(at time.Time)) {
	w.work.Lock()
	w.timerID++
	id := w.timerID
	w.pending[id] = due
	w.work.Unlock()
	w.cfg.Clock.At(due, func(at time.Time) {
		w.do(func() { fn(at) })
		w.work.Lock()
		delete(w.pending, id)
		w.work.Unlock()
	})
}

// Next is when the first timer falls due; zero when there is none.
func (w *World) Next() time.Time {
	w.work.Lock()
	defer w.work.Unlock()
	var next time.Time
	for _, due := range w.pending {
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	return next
}

// Settle waits until nothing is on its way, or ctx ends. Who moves the clock calls it between
// one timer and the next: a receipt that is being carried has no virtual time to lose.
func (w *World) Settle(ctx context.Context) error {
	w.work.Lock()
	idle := w.idle
	w.work.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sandbox pec: still at work: %w", ctx.Err())
	}
}

// Close ends all work and waits for it.
func (w *World) Close() {
	w.work.Lock()
	w.cancel()
	w.work.Unlock()
	w.busy.Wait()
}
