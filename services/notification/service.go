// Package notification owns how customers are told: webhook endpoints and e-mail subscriptions of the
// tenants, a delivery for each event to each of them, its attempts, retries and redelivery.
//
// It refuses to send documents (their bytes come from the API), to reach addresses that are not
// public, and to keep a webhook's secret in the clear.
package notification

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/guard"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/notification/internal/db"
)

// Config is the section notification of the configuration.
type Config struct {
	// SecretKeyFile holds the keys that encrypt the secrets of webhooks in the database: 32 bytes in
	// base64 or hexadecimal, one per line. The first encrypts; the others still decrypt. Required.
	SecretKeyFile string `yaml:"secret_key_file"`
	// AllowNetworks are networks (CIDR) that webhooks may reach although they are not public, and by
	// http too, for example 127.0.0.0/8 in development. Empty in production.
	AllowNetworks []string `yaml:"allow_networks"`
	// Timeout is for one post, from name resolution to the end of the answer.
	Timeout time.Duration `yaml:"timeout"`
	// RetrySchedule are the pauses before the second and later attempts; a fifth is added at random.
	RetrySchedule []time.Duration `yaml:"retry_schedule"`
	// DisableAfter is how long an endpoint may fail without one success before it is disabled.
	DisableAfter time.Duration `yaml:"disable_after"`
	// Workers is how many deliveries are under way at the same time.
	Workers int `yaml:"workers"`
	// KeepDeliveries is how long finished deliveries stay in the history.
	KeepDeliveries time.Duration `yaml:"keep_deliveries"`
	// SMTP is the server that takes e-mail; without an address there is no e-mail.
	SMTP SMTPConfig `yaml:"smtp"`
}

// SMTPConfig names the server that takes e-mail.
type SMTPConfig struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// From is the sender, for example "Ceralacca <no-reply@example.com>".
	From string `yaml:"from"`
	// TLS: mandatory (STARTTLS), implicit (TLS from the first byte), opportunistic or none.
	TLS string `yaml:"tls"`
	// Username for the server, if it wants one.
	Username string `yaml:"username"`
	// PasswordFile holds the password.
	PasswordFile string `yaml:"password_file"`
}

func defaults() Config {
	return Config{
		Timeout:      15 * time.Second,
		DisableAfter: 5 * 24 * time.Hour,
		// spec: Standard Webhooks "Deliverability and reliability": about three days in all.
		RetrySchedule: []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
			10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour},
		Workers: 8, KeepDeliveries: 90 * 24 * time.Hour,
		SMTP: SMTPConfig{TLS: "mandatory"},
	}
}

// Validate reports the keys that cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(path, format string, a ...any) { errs = append(errs, run.BadField(path, format, a...)) }
	if c.SecretKeyFile == "" {
		bad("secret_key_file", "is required: name a file with 32 random bytes in base64, for example from `openssl rand -base64 32`")
	}
	for i, s := range c.AllowNetworks {
		if _, err := netip.ParsePrefix(s); err != nil {
			bad(fmt.Sprintf("allow_networks[%d]", i), "%q is no network: write it as 127.0.0.0/8", s)
		}
	}
	if c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute {
		bad("timeout", "%s is out of range: use 100ms to 1m, for example 15s", c.Timeout)
	}
	if c.Workers < 1 || c.Workers > 1000 {
		bad("workers", "%d is out of range: use 1 to 1000", c.Workers)
	}
	if len(c.RetrySchedule) > 30 {
		bad("retry_schedule", "%d pauses are too many: at most 30", len(c.RetrySchedule))
	}
	if c.DisableAfter <= 0 || c.KeepDeliveries <= 0 {
		bad("disable_after", "disable_after and keep_deliveries must be more than 0s")
	}
	return errors.Join(append(errs, c.SMTP.validate())...)
}

// Service answers notificationv1.NotificationService.
type Service struct {
	notificationv1.UnimplementedNotificationServiceServer

	db      *pg.DB
	bus     *bus.Bus
	jobs    *run.Jobs
	blobs   blob.Store // for what is sent on
	breaker func(name string) *run.Breaker
	log     *slog.Logger
	now     func() time.Time
	cfg     Config
	sealer  *sealer
	guard   guard.Guard
	http    *http.Client
	mail    *mailer // nil without SMTP
}

// Target wires notification: it tells customers what happens to their invoices and certified mail, by webhook and e-mail.
var Target = run.Target{Name: "notification", Start: func(_ context.Context, h *run.Host) error {
	cfg := defaults()
	if err := h.Config(&cfg); err != nil {
		return err
	}
	s, err := newService(h, cfg)
	if err != nil {
		return err
	}
	notificationv1.RegisterNotificationServiceServer(h.RPC, s)
	on[*invoicev1.InvoiceAccepted](h.Bus, s, "accepted")
	on[*invoicev1.InvoiceImported](h.Bus, s, "imported")
	on[*signv1.DocumentSigned](h.Bus, s, "signed")
	on[*signv1.SigningFailed](h.Bus, s, "signing-failed")
	on[*signv1.PushRequested](h.Bus, s, "push-requested")
	on[*signv1.CredentialUsed](h.Bus, s, "credential-used")
	on[*signv1.OtpDeviceChanged](h.Bus, s, "device-changed")
	on[*signv1.CredentialExpiring](h.Bus, s, "credential-expiring")
	on[*signv1.CredentialStateChanged](h.Bus, s, "credential-state")
	on[*sdiv1.InvoiceTransmitted](h.Bus, s, "transmitted")
	on[*sdiv1.TransmissionFailed](h.Bus, s, "transmission-failed")
	on[*sdiv1.InvoiceDelivered](h.Bus, s, "delivered")
	on[*sdiv1.InvoiceNotDelivered](h.Bus, s, "not-delivered")
	on[*sdiv1.InvoiceDiscarded](h.Bus, s, "discarded")
	on[*sdiv1.InvoiceOutcomeReceived](h.Bus, s, "outcome")
	on[*sdiv1.InvoiceTermExpired](h.Bus, s, "term-expired")
	on[*sdiv1.InvoiceAttested](h.Bus, s, "attested")
	on[*conservationv1.UnitTakenInCharge](h.Bus, s, "taken-in-charge")
	on[*conservationv1.UnitPreserved](h.Bus, s, "preserved")
	on[*conservationv1.LogStated](h.Bus, s, "log-stated")
	on[*sdiv1.InboundInvoiceReceived](h.Bus, s, "inbound-received")
	on[*sdiv1.InboundDeadlineReached](h.Bus, s, "inbound-deadline")
	on[*sdiv1.InboundOutcomeSettled](h.Bus, s, "inbound-outcome")
	on[*sdiv1.InboundTermExpired](h.Bus, s, "inbound-term-expired")
	on[*pecv1.MessageReceived](h.Bus, s, "pec-received")
	on[*pecv1.ReceiptVerified](h.Bus, s, "pec-verified")
	on[*pecv1.DeliveryStateChanged](h.Bus, s, "pec-state")
	on[*pecv1.MailboxDegraded](h.Bus, s, "pec-degraded")
	on[*pecv1.DeliveryDecisionNeeded](h.Bus, s, "pec-decision")
	on[*pecv1.DeliveryStalled](h.Bus, s, "pec-stalled")
	on[*pecv1.DeliveredContentDiffers](h.Bus, s, "pec-content")
	on[*pecv1.DeliveryDoubted](h.Bus, s, "pec-doubted")
	on[*pecv1.ClaimNotProven](h.Bus, s, "pec-claim")
	on[*signv1.SignatureRequestChanged](h.Bus, s, "request-changed")
	bus.On(h.Bus, "request-called", s.onParticipantCalled)
	bus.On(h.Bus, "mailbox-notice", s.onIncomingNoticeDue)
	bus.On(h.Bus, "mailbox-forward", s.onForwardDue)
	bus.On(h.Bus, "destroyed", s.onUnitsDestroyed)
	bus.On(h.Bus, "condemned", s.onCopiesCondemned)
	run.Work(h, run.WorkOptions{Workers: cfg.Workers, Timeout: 2 * cfg.Timeout}, s.deliver)
	h.Go("retention", s.forget)
	return nil
}}

func newService(h *run.Host, cfg Config) (*Service, error) {
	sealer, err := readSealer(cfg.SecretKeyFile)
	if err != nil {
		return nil, run.BadField("secret_key_file", "%v", err)
	}
	reach, err := guard.New(cfg.AllowNetworks)
	if err != nil {
		return nil, err
	}
	s := &Service{db: h.DB, bus: h.Bus, jobs: h.Jobs, blobs: h.Blobs, breaker: h.Breaker, log: h.Log, now: h.Now, cfg: cfg,
		sealer: sealer, guard: reach, http: reach.Client(cfg.Timeout)}
	if cfg.SMTP.Address != "" {
		s.mail, err = newMailer(cfg.SMTP, cfg.Timeout)
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func on[E proto.Message](b *bus.Bus, s *Service, name string) {
	bus.On(b, name, func(ctx context.Context, tx pgx.Tx, ev E) error { return s.tell(ctx, tx, ev) }, bus.Concerning(s.listening))
}

// listening gives those of the tenants who have anybody to be told. Of the others an event would leave a
// row in the inbox and nothing else.
func (s *Service) listening(ctx context.Context, tenants []string) (named []string, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		named, err = q(tx).TenantsWithTargets(ctx, tenants)
		return err
	})
	return named, err
}

// forget removes old deliveries from the history, once an hour.
func (s *Service) forget(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := q(tx).ForgetDeliveries(ctx, db.ForgetDeliveriesParams{Before: pg.Time(s.now().Add(-s.cfg.KeepDeliveries)), Pending: pending})
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "old deliveries not removed", "error", err)
		}
	}
}

func q(tx pgx.Tx) *db.Queries { return db.New(tx) }
