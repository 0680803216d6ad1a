// Package conservation owns the archive: documents taken into custody with their receipts and
// metadata, and the packages that seal them with an index (SInCRO), a signature and a time stamp,
// so that their owner can verify them without this platform.
//
// It refuses to keep what was never issued (discarded invoices), to replace bytes that it holds, to
// change a package that is closed, and to call sealed what is not signed, stamped and read back.
// It does not sign (the signer does), nor does it change the documents: bytes go in as they came.
package conservation

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"time"

	"golang.org/x/sync/semaphore"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// Config is the section "conservation".
type Config struct {
	// Credential signs the indexes: the name of a credential of kind ROLE, or
	// tenants/{tenant}/companies/{company}/credentials/- for whichever of that company is valid.
	Credential string `yaml:"credential"`
	// CredentialRootsFile holds the roots (PEM) that its certificate must lead to at the time of the package's stamp, former ones too:
	// checks of packages and reports on documents judge by it whose signature the index bears. Empty: they say that nobody's identity was judged.
	CredentialRootsFile string `yaml:"credential_roots_file"`
	// Responsible is who answers for the packages and is named in them as authorised signer.
	Responsible ResponsibleConfig `yaml:"responsible"`
	// Contract is the deed by which tenants entrust their documents, named in each package.
	Contract string `yaml:"contract"`
	// Producer of this program, named in each package.
	Producer string `yaml:"producer"`
	// TSA are the time-stamp authorities, tried in this order.
	TSA []TSAConfig `yaml:"tsa"`
	// ClockTolerance is how far an authority's clock may be from ours.
	ClockTolerance time.Duration `yaml:"clock_tolerance"`
	// StampAlarm is after how long without any good time stamp it is told (signing_stopped, code TSA_UNAVAILABLE).
	StampAlarm time.Duration `yaml:"stamp_alarm"`
	// MaxUnits closes a package at this many units at most; above 10000 the tools of an inspector begin to hurt.
	MaxUnits int `yaml:"max_units"`
	// Workers is how many packages are sealed at the same time.
	Workers int `yaml:"workers"`
	// Log is the append-only log of evidence.
	Log LogConfig `yaml:"log"`
	// Storage is where the archive keeps its own two copies.
	Storage StorageConfig `yaml:"storage"`
	// Checks are how often the archive looks at itself.
	Checks ChecksConfig `yaml:"checks"`
	// Renewal keeps time stamps verifiable beyond the end of their certificates and algorithms.
	Renewal RenewalConfig `yaml:"renewal"`
	// Closing is when packages are closed by themselves.
	Closing ClosingConfig `yaml:"closing"`
	// Deposits are what producers hand over themselves.
	Deposits DepositsConfig `yaml:"deposits"`
	// Distributions are the packages that are made for those who ask (PdD).
	Distributions DistributionsConfig `yaml:"distributions"`
	// Revocation is how issuers of certificates are asked at sealing.
	Revocation RevocationConfig `yaml:"revocation"`
	// Disposal is how destruction reaches what other services have.
	Disposal DisposalConfig `yaml:"disposal"`
}

// ResponsibleConfig is a person (first and last name) or a body (formal name).
type ResponsibleConfig struct {
	// FirstName of a person.
	FirstName string `yaml:"first_name"`
	// LastName of a person.
	LastName string `yaml:"last_name"`
	// FormalName of a body, instead of first and last name.
	FormalName string `yaml:"formal_name"`
	// ID in the form of EN 319 412-1, for example TINIT-RSSMRA80A01H501U or VATIT-01234567897.
	ID string `yaml:"id"`
	// Role, for example Responsabile del servizio di conservazione.
	Role string `yaml:"role"`
	// Deed of appointment.
	Deed string `yaml:"deed"`
}

// TSAConfig is one time-stamp authority.
type TSAConfig struct {
	// Name for operators, metrics and the circuit breaker.
	Name string `yaml:"name"`
	// URL takes RFC 3161 requests by POST.
	URL string `yaml:"url"`
	// CAFile holds the roots (PEM) that its certificate must lead to.
	CAFile string `yaml:"ca_file"`
	// Timeout of one request.
	Timeout time.Duration `yaml:"timeout"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() Config {
	return Config{
		Responsible:    ResponsibleConfig{Role: "Responsabile del servizio di conservazione"},
		Contract:       "Contratto di servizio e manuale di conservazione",
		Producer:       "Ceralacca",
		ClockTolerance: time.Minute,
		StampAlarm:     24 * time.Hour,
		MaxUnits:       10_000,
		Workers:        2,
		Log:            LogConfig{Every: 250 * time.Millisecond, Batch: 2000, CosignEvery: time.Minute},
		Storage:        StorageConfig{DegradeAfter: 30 * time.Second, Probe: 5 * time.Second, MarkEvery: time.Minute},
		Checks:         defaultChecks(),
		Renewal:        defaultRenewal(),
		Closing:        defaultClosing(),
		Deposits:       defaultDeposits(),
		Disposal:       defaultDisposal(),
		Distributions:  defaultDistributions(),
		Revocation:     defaultRevocation(),
	}
}

var (
	credentialPattern = regexp.MustCompile(`^tenants/[^/]+/companies/[^/]+/credentials/[^/]+$`)
	agentPattern      = regexp.MustCompile(`^(PAS|IDC|PNO|TIN|VAT|NTR)[A-Z]{2}-[a-zA-Z0-9]+$`)
	tsaName           = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
)

// Validate says what cannot work, by key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(when bool, path, format string, a ...any) {
		if when {
			errs = append(errs, run.BadField(path, format, a...))
		}
	}
	r := c.Responsible
	bad(!credentialPattern.MatchString(c.Credential), "credential", "%q is not tenants/{tenant}/companies/{company}/credentials/{credential} (- for whichever is valid)", c.Credential)
	bad(r.FormalName == "" && (r.FirstName == "" || r.LastName == ""), "responsible", "needs first_name and last_name of a person, or formal_name of a body")
	bad(r.FormalName != "" && (r.FirstName != "" || r.LastName != ""), "responsible.formal_name", "is set together with a person's name: keep one")
	bad(!agentPattern.MatchString(r.ID), "responsible.id", "%q is not of the form TINIT-RSSMRA80A01H501U or VATIT-01234567897", r.ID)
	bad(r.Deed == "", "responsible.deed", "is missing: the standard wants the deed of appointment named in each package")
	bad(c.Contract == "", "contract", "is missing: the standard wants the deed named in each package")
	bad(c.Producer == "", "producer", "is missing")
	bad(len(c.TSA) == 0, "tsa", "is empty: a package without a time stamp is not preserved; name one authority, better two")
	for _, t := range c.TSA {
		bad(!tsaName.MatchString(t.Name), "tsa.name", "%q: want lower-case letters, digits and -", t.Name)
		bad(t.URL == "", "tsa.url", "of %s is missing", t.Name)
		bad(t.CAFile == "", "tsa.ca_file", "of %s is missing: a stamp is worth what its root is worth", t.Name)
		bad(t.Timeout < 0, "tsa.timeout", "of %s is negative", t.Name)
	}
	bad(c.ClockTolerance <= 0, "clock_tolerance", "must be more than 0s")
	bad(c.StampAlarm < 0, "stamp_alarm", "must not be negative; 0s tells at once")
	bad(c.MaxUnits < 1 || c.MaxUnits > 50_000, "max_units", "must be between 1 and 50000")
	bad(c.Workers < 1, "workers", "must be at least 1")
	c.Log.check(bad)
	c.Storage.check(bad)
	c.Disposal.check(bad)
	c.Distributions.check(bad)
	c.Checks.check(bad)
	c.Renewal.check(bad)
	c.Closing.check(bad)
	c.Deposits.check(bad)
	c.Revocation.check(bad)
	return errors.Join(errs...)
}

// Service answers ConservationService and seals packages.
type Service struct {
	conservationv1.UnimplementedConservationServiceServer

	db              *pg.DB
	bus             *bus.Bus
	jobs            *run.Jobs
	blobs           blob.Store
	signer          signv1.SignServiceClient
	invoices        invoicev1.InvoiceServiceClient
	inbound         sdiv1.InboundServiceClient     // nil: no gateway runs here, nothing is received
	tenancy         tenancyv1.TenancyServiceClient // nil: not told where it is
	stamps          []*authority
	roots           *x509.CertPool // of all authorities, former ones too
	credentialRoots *x509.CertPool // of those who sign packages; nil: not configured
	deedRoots       *x509.CertPool // of those who sign authorisations; nil: not configured
	issuers         *issuers
	outages         *outages
	book            *logbook  // nil: no log is configured
	bearings        *bearings // nil: as replicas
	replicas        *replicas // nil: no storage is configured, documents rest on blobs alone
	steps           func(state string) (step, bool)
	judged          *semaphore.Weighted // bytes of deposits that are judged
	tried           *semaphore.Weighted // the same of those that are to be judged only: a slow sender holds up none of the others
	log             *slog.Logger
	now             func() time.Time
	round           time.Duration // of a check that goes on where it ended
	rome            *time.Location
	cfg             Config
}

// Target wires conservation: it takes settled invoices into custody and seals packages by command.
// It does not decide what an invoice's state is, and it does not hold keys.
var Target = run.Target{Name: "conservation", Start: start, Verbs: []run.Verb{eraseVerb, manualVerb("manual", markdownManual), manualVerb("manual-html", htmlManual)}}

func start(_ context.Context, h *run.Host) error {
	_, err := wire(h)
	return err
}

func wire(h *run.Host) (*Service, error) {
	cfg := DefaultConfig()
	err := h.Config(&cfg)
	if err != nil {
		return nil, err
	}
	err = cfg.Disposal.over(h.Blobs)
	if err != nil {
		return nil, err
	}
	s := &Service{
		db: h.DB, bus: h.Bus, jobs: h.Jobs, blobs: h.Blobs, log: h.Log, now: h.Now, round: roundTime, cfg: cfg,
		signer: signv1.NewSignServiceClient(h.Dial("signer")), invoices: invoicev1.NewInvoiceServiceClient(h.Dial("invoice")), steps: stepFrom,
	}
	// A configuration of before does not say where they are: what is not compared for that is in the report.
	if h.Reaches("sdi-gateway") {
		s.inbound = sdiv1.NewInboundServiceClient(h.Dial("sdi-gateway"))
	}
	if h.Reaches("tenancy") {
		s.tenancy = tenancyv1.NewTenancyServiceClient(h.Dial("tenancy"))
	}
	s.outages = &outages{s: s}
	s.judged, s.tried = semaphore.NewWeighted(cfg.Deposits.JudgedBytes), semaphore.NewWeighted(cfg.Deposits.JudgedBytes)
	s.rome, err = loadRome()
	if err != nil {
		return nil, err
	}
	for _, t := range cfg.TSA {
		roots, err := readRoots("tsa.ca_file", t.CAFile)
		if err != nil {
			return nil, err
		}
		s.stamps = append(s.stamps, newAuthority(t, roots, cfg.ClockTolerance, h.Breaker("tsa-"+t.Name), h.Now))
	}
	s.roots, err = trusted(cfg)
	if err != nil {
		return nil, err
	}
	s.issuers, err = newIssuers(cfg.Revocation, h.Now)
	if err != nil {
		return nil, err
	}
	if cfg.CredentialRootsFile != "" {
		s.credentialRoots, err = readRoots("credential_roots_file", cfg.CredentialRootsFile)
		if err != nil {
			return nil, err
		}
	}
	if cfg.Disposal.DeedRootsFile != "" {
		s.deedRoots, err = readRoots("disposal.deed_roots_file", cfg.Disposal.DeedRootsFile)
		if err != nil {
			return nil, err
		}
	}
	if cfg.Storage.on() {
		s.replicas, err = newReplicas(s)
		if err != nil {
			return nil, err
		}
		err = s.replicas.observe()
		if err != nil {
			return nil, err
		}
		s.bearings = newBearings(s)
		err = s.bearings.observe()
		if err != nil {
			return nil, err
		}
		h.Go("position", s.bearings.keep)
		h.Go("replicas", s.watch)
		run.Work(h, run.WorkOptions{Queue: "mend", Workers: 1, Timeout: checkTime}, s.mend)
		run.Work(h, run.WorkOptions{Queue: "check", Workers: 1, Timeout: checkTime}, s.checkNow)
		run.Work(h, run.WorkOptions{Queue: "mend", Workers: 1, Timeout: time.Minute}, s.keepReport)
		h.Go("clockwork", s.clockwork)
	}
	if cfg.Log.on() {
		s.book, err = newLogbook(s)
		if err != nil {
			return nil, err
		}
		h.Go("log", s.book.append)
	}
	conservationv1.RegisterConservationServiceServer(h.RPC, s)
	conservationv1.RegisterStorageServiceServer(h.RPC, storage{s: s})
	conservationv1.RegisterCheckServiceServer(h.RPC, checks{s: s})
	conservationv1.RegisterDeadlineServiceServer(h.RPC, deadlines{s: s})
	if cfg.Closing.Every > 0 {
		h.Go("housekeeping", s.housekeeping)
	}
	conservationv1.RegisterEvidenceServiceServer(h.RPC, evidence{s: s})
	s.wireExhibition(h)
	s.wireDeposits(h)
	s.wireRetention(h)
	s.wireTransfer(h)
	s.wireIntake(h)
	bus.On(h.Bus, "copies-found", s.onCopiesFound)
	bus.On(h.Bus, "copies-needed", s.onCopiesNeeded)
	bus.On(h.Bus, "statement-refused", s.onMessageRequestRefused)
	conservationv1.RegisterMailServiceServer(h.RPC, mailDays{s: s})
	run.Work(h, run.WorkOptions{Queue: "seal", Workers: cfg.Workers, Timeout: sealTime}, s.seal)
	return s, nil
}

func readRoots(key, file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, run.BadField(key, "%v", err)
	}
	pool, found := x509.NewCertPool(), false
	for len(raw) > 0 {
		var block *pem.Block
		block, raw = pem.Decode(raw)
		if block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, run.BadField(key, "%s: %v", file, err)
		}
		pool.AddCert(cert)
		found = true
	}
	if !found {
		return nil, run.BadField(key, "%s holds no PEM certificate", file)
	}
	return pool, nil
}
