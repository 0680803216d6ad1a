// Package tenancy owns who uses the platform: resellers, their tenants, the tenants' companies, and
// the API keys that call. It answers whose key a call carries, and records each act in the audit
// table of its schema.
//
// It refuses to hold invoices, credentials or settings of other services, and to keep a key: only
// the SHA-256 of its secret is stored.
package tenancy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/tenancy/internal/db"
)

// Config is the section tenancy of the configuration.
type Config struct {
	// BootstrapOperatorKeyFile holds one API key (made with `ceralacca key generate`) that may do
	// everything an operator may, so that a fresh installation can be set up. Another key in the file
	// revokes the one before at the next start; without a file no key is added.
	BootstrapOperatorKeyFile string `yaml:"bootstrap_operator_key_file"`
	// LastUseInterval is how often the times of last use are written; they are kept to the minute.
	LastUseInterval time.Duration `yaml:"last_use_interval"`
}

// Validate reports the keys that cannot work.
func (c Config) Validate() error {
	if c.LastUseInterval < time.Second || c.LastUseInterval > time.Hour {
		return run.BadField("last_use_interval", "%s is out of range: use 1s to 1h, for example 1m", c.LastUseInterval)
	}
	return nil
}

// Service answers tenancyv1.TenancyService.
type Service struct {
	tenancyv1.UnimplementedTenancyServiceServer

	db         *pg.DB
	bus        *bus.Bus
	log        *slog.Logger
	now        func() time.Time
	forgetKeys func()
	uses       lastUses
}

// Target wires tenancy: it keeps resellers, tenants, companies and keys, and says whose key a call
// carries.
var Target = run.Target{Name: "tenancy", Start: func(ctx context.Context, h *run.Host) error {
	cfg := Config{LastUseInterval: time.Minute}
	if err := h.Config(&cfg); err != nil {
		return err
	}
	s := &Service{db: h.DB, bus: h.Bus, log: h.Log, now: h.Now, forgetKeys: h.ForgetKeys}
	if err := s.bootstrap(ctx, cfg.BootstrapOperatorKeyFile); err != nil {
		return err
	}
	h.SetResolver(auth.ResolverFunc(s.resolve))
	h.SetStandings(s.standing)
	tenancyv1.RegisterTenancyServiceServer(h.RPC, s)
	h.Go("last-use", func(ctx context.Context) error { return s.writeLastUses(ctx, cfg.LastUseInterval) })
	return nil
}}

// segment is the i-th part of a resource name, counted from 0: segment("tenants/acme", 1) is "acme".
// Requests were validated against the pattern of the name before they come here.
func segment(name string, i int) string {
	parts := strings.Split(name, "/")
	if i >= len(parts) {
		return ""
	}
	return parts[i]
}

func q(tx pgx.Tx) *db.Queries { return db.New(tx) }

// caller is who calls; rpc lets nobody in without.
func caller(ctx context.Context) (auth.Caller, error) {
	c, ok := auth.From(ctx)
	if !ok {
		return auth.Caller{}, auth.Unauthenticated("CREDENTIAL_MISSING", "this method needs a caller")
	}
	return c, nil
}

// mayActFor checks that the tenant exists and is the caller's: its own, one of its reseller's, or any
// for operators and services. To everybody else the tenant does not exist.
func (s *Service) mayActFor(ctx context.Context, tx pgx.Tx, tenant string) (db.GetTenantRow, error) {
	missing := fault.NotFound("TENANT_NOT_FOUND", "there is no tenant tenants/%s", tenant)
	c, err := caller(ctx)
	if err != nil {
		return db.GetTenantRow{}, err
	}
	row, err := q(tx).GetTenant(ctx, tenant)
	if isNoRows(err) {
		return db.GetTenantRow{}, missing
	}
	if err != nil {
		return db.GetTenantRow{}, fmt.Errorf("tenancy: read tenant %s: %w", tenant, err)
	}
	switch c.Role {
	case auth.RoleOperator, auth.RoleService:
		return row, nil
	case auth.RoleReseller:
		if c.Reseller != "" && row.Tenant.ResellerID == c.Reseller {
			return row, nil
		}
	case auth.RoleTenant:
		if c.Tenant == tenant {
			return row, nil
		}
	}
	return db.GetTenantRow{}, missing
}

// audit records an act that succeeded.
func audit(ctx context.Context, tx pgx.Tx, action, resource string, detail map[string]string) error {
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: resource, Detail: detail})
}
