// Package pecgateway owns the mailboxes of certified mail (PEC, RFC 6109) that tenants give into its
// keeping: every message that comes in kept as it came and judged by its signature, every receipt
// counted for the message and the recipient that it is about, every message sent once.
//
// It refuses to believe a header: only what a listed provider signed changes a state. It refuses to
// mark anything at the provider, or to delete there what the policy of the mailbox does not name, to keep a password anywhere but in Vault, and to drop what
// it cannot read.
package pecgateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/guard"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// Service answers the five services of certified mail and presides over mailboxes.
type Service struct {
	pecv1.UnimplementedPecServiceServer
	pecv1.UnimplementedPecTrustServiceServer
	pecv1.UnimplementedPecDeliveryServiceServer
	pecv1.UnimplementedPecDeskServiceServer
	pecv1.UnimplementedPecDraftServiceServer

	db       *pg.DB
	bus      *bus.Bus
	signer   signv1.SignServiceClient // nil without a credential for logs
	blobs    blob.Store
	jobs     *run.Jobs
	keys     *keyring
	presets  map[string]servers
	limits   map[string]limits // of the providers, by preset
	means    meanings          // what providers mean by their receipts
	roots    *x509.CertPool    // of the providers' servers
	dialer   *net.Dialer       // to servers that customers name: public ones only
	log      *slog.Logger
	now      func() time.Time
	cfg      Config
	instance uuid.UUID // of this replica, in leases
	boxes    *presidency
	stuck    *stuckAt
	trusts   trustCache
	points   points
	web      *http.Client // for revocation lists: public servers only
	denied   denials
	noRoom   sync.Map // mailbox -> roomPause
	anew     sync.Map // place of a folder -> time at which it was read anew

	damaged   atomic.Int64        // messages that the archive does not give back, as last counted
	readBytes metric.Int64Counter // of the archive
}

// Target wires the gateway.
var Target = run.Target{Name: "pec-gateway", Start: start}

func start(_ context.Context, h *run.Host) error {
	cfg := defaultConfig()
	err := h.Config(&cfg)
	if err != nil {
		return err
	}
	s := &Service{
		db: h.DB, bus: h.Bus, blobs: h.Blobs, jobs: h.Jobs, presets: presets(cfg.Sandbox), log: h.Log, now: h.Now, cfg: cfg,
		boxes: newPresidency(cfg.Workers), stuck: newStuckAt(),
	}
	s.instance, err = pg.NewID()
	if err != nil {
		return err
	}
	outside, err := guard.New(cfg.AllowNetworks)
	if err != nil {
		return run.BadField("allow_networks", "%v", err)
	}
	if cfg.Desk.LogCredential != "" { // without, no process needs to know where the signer is
		s.signer = signv1.NewSignServiceClient(h.Dial("signer"))
	}
	s.dialer = outside.Dialer(cfg.Timeout)
	s.web = outside.Client(cfg.Timeout)
	s.keys, err = openKeyring(cfg.Vault, h.Breaker("vault"), h.Log)
	if err != nil {
		return err
	}
	s.roots, err = serverRoots(cfg.CAFile)
	if err != nil {
		return err
	}
	s.limits, err = loadLimits(cfg.Sending.LimitsFile)
	if err != nil {
		return err
	}
	s.means, err = loadMeanings(cfg.ReceiptsFile)
	if err != nil {
		return err
	}
	pecv1.RegisterPecServiceServer(h.RPC, s)
	pecv1.RegisterPecDeliveryServiceServer(h.RPC, s)
	pecv1.RegisterPecDraftServiceServer(h.RPC, s)
	s.sendJobs(h)
	s.openDesk(h)
	pecv1.RegisterPecTrustServiceServer(h.RPC, s)
	h.Check("vault", s.keys.session.Check)
	h.Go("vault-session", s.keys.session.Keep)
	h.Go("mailboxes", s.preside)
	h.Go("denials", s.writeDenials)
	err = s.countDamage()
	if err != nil {
		return err
	}
	h.Go("archive", s.readArchive)
	if cfg.Revocation.Fetch {
		h.Go("revocation-lists", s.fetchRevocationLists)
	}
	return nil
}

// serverRoots are the system's authorities and those of the file.
func serverRoots(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine without: the file has to do
	}
	if file == "" {
		return pool, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, run.BadField("ca_file", "%v", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, run.BadField("ca_file", "%s holds no PEM certificate", file)
	}
	return pool, nil
}

// tlsFor is for one server of a provider. There is no way to do without TLS or with a wrong name.
func (s *Service) tlsFor(host string) *tls.Config {
	return &tls.Config{RootCAs: s.roots, ServerName: host, MinVersion: tls.VersionTLS12}
}

func q(tx pgx.Tx) *db.Queries { return db.New(tx) }

// mailboxName is the resource name of a mailbox.
func mailboxName(tenant string, id uuid.UUID) string {
	return fmt.Sprintf("tenants/%s/mailboxes/%s", tenant, id)
}

// messageName is the resource name of a message.
func messageName(tenant string, mailbox, id uuid.UUID) string {
	return mailboxName(tenant, mailbox) + "/messages/" + id.String()
}
