// Package invoice owns invoice files from the moment they are handed in: it checks and stores them,
// promises their journey, knows their state from the facts that the other services state, and keeps
// the log of each tenant.
//
// It refuses to sign, to send, to preserve and to notify; and it refuses a file before storing it
// rather than after.
package invoice

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/invoice/internal/db"
)

// Config is the section invoice of the configuration.
type Config struct {
	// CompanyTTL is how long the data of a company are remembered; a change of the signature policy
	// holds after at most this long.
	CompanyTTL time.Duration `yaml:"company_ttl"`
	// Heartbeat is how often StreamEvents says that it is alive when nothing happens.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// Validate reports the keys that cannot work.
func (c Config) Validate() error {
	if c.CompanyTTL < 0 || c.CompanyTTL > time.Hour {
		return run.BadField("company_ttl", "%s is out of range: use 0s to 1h, for example 5s", c.CompanyTTL)
	}
	if c.Heartbeat < 100*time.Millisecond || c.Heartbeat > 5*time.Minute {
		return run.BadField("heartbeat", "%s is out of range: use 100ms to 5m, for example 15s", c.Heartbeat)
	}
	return nil
}

// Service answers the services of invoicev1.
type Service struct {
	invoicev1.UnimplementedInvoiceServiceServer
	invoicev1.UnimplementedSeriesServiceServer
	invoicev1.UnimplementedBookServiceServer

	db        *pg.DB
	bus       *bus.Bus
	blobs     blob.Store
	log       *slog.Logger
	now       func() time.Time
	heartbeat time.Duration
	companies *companies

	sequencer sequencer
	wakes     wakes
	gates     gates
	gather    *gatherer
}

// Target wires invoice: it takes FatturaPA files in and knows their state. It does not sign, send or
// keep them.
var Target = run.Target{Name: "invoice", Start: func(_ context.Context, h *run.Host) error {
	cfg := Config{CompanyTTL: 5 * time.Second, Heartbeat: 15 * time.Second}
	if err := h.Config(&cfg); err != nil {
		return err
	}
	newService(h, cfg).register(h)
	return nil
}}

func newService(h *run.Host, cfg Config) *Service {
	s := &Service{
		db: h.DB, bus: h.Bus, blobs: h.Blobs, log: h.Log, now: h.Now, heartbeat: cfg.Heartbeat,
		companies: newCompanies(tenancyv1.NewTenancyServiceClient(h.Dial("tenancy")), cfg.CompanyTTL, h.Now),
		sequencer: newSequencer(),
	}
	s.gather = newGatherer(s)
	return s
}

// register says what the service answers, consumes and does by itself.
func (s *Service) register(h *run.Host) {
	invoicev1.RegisterInvoiceServiceServer(h.RPC, s)
	s.registerBatches(h)
	invoicev1.RegisterSeriesServiceServer(h.RPC, s)
	invoicev1.RegisterBookServiceServer(h.RPC, s)
	bus.On(h.Bus, "signed", s.onDocumentSigned)
	bus.On(h.Bus, "signing-failed", s.onSigningFailed)
	bus.On(h.Bus, "transmitted", s.onInvoiceTransmitted)
	bus.On(h.Bus, "transmission-failed", s.onTransmissionFailed)
	bus.On(h.Bus, "delivered", s.onInvoiceDelivered)
	bus.On(h.Bus, "not-delivered", s.onInvoiceNotDelivered)
	bus.On(h.Bus, "discarded", s.onInvoiceDiscarded)
	bus.On(h.Bus, "outcome", s.onInvoiceOutcomeReceived)
	bus.On(h.Bus, "term-expired", s.onInvoiceTermExpired)
	bus.On(h.Bus, "attested", s.onInvoiceAttested)
	bus.On(h.Bus, "deadline", s.onDeadlineReached)
	bus.On(h.Bus, "taken-in-charge", s.onUnitTakenInCharge)
	bus.On(h.Bus, "preserved", s.onUnitPreserved)
	bus.On(h.Bus, "destroyed", s.onUnitsDestroyed)
	bus.On(h.Bus, "condemned", s.onCopiesCondemned)
	bus.On(h.Bus, "inbound-received", onInbound[*sdiv1.InboundInvoiceReceived](s))
	bus.On(h.Bus, "inbound-outcome", onInbound[*sdiv1.InboundOutcomeSettled](s))
	bus.On(h.Bus, "inbound-term-expired", onInbound[*sdiv1.InboundTermExpired](s))
	bus.On(h.Bus, "inbound-deadline", onInbound[*sdiv1.InboundDeadlineReached](s))
	h.Go("sequencer", s.sequence)
	h.Go("event-wakes", s.listenForEvents)
}

func q(tx pgx.Tx) *db.Queries { return db.New(tx) }
