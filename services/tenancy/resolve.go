package tenancy

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/tenancy/internal/db"
)

// resolve answers who an API key belongs to, for the calls that this process takes.
func (s *Service) resolve(ctx context.Context, bearer string) (auth.Caller, error) {
	if _, err := auth.CheckKey(bearer); err != nil {
		return auth.Caller{}, err
	}
	return s.find(ctx, auth.HashKey(bearer))
}

// ResolveApiKey answers who the key with this hash belongs to, for the other services. Unauthenticated
// API_KEY_UNKNOWN, API_KEY_REVOKED or API_KEY_EXPIRED.
func (s *Service) ResolveApiKey(ctx context.Context, req *tenancyv1.ResolveApiKeyRequest) (*tenancyv1.ResolveApiKeyResponse, error) {
	c, err := s.find(ctx, req.GetSecretSha256())
	if err != nil {
		return nil, err
	}
	resp := &tenancyv1.ResolveApiKeyResponse{ApiKey: c.ID, Role: c.Role, Scopes: c.Scopes, Live: c.Live, Suspension: suspensionMessage(c.Suspension)}
	if c.Reseller != "" {
		resp.Reseller = "resellers/" + c.Reseller
	}
	if c.Tenant != "" {
		resp.Tenant = "tenants/" + c.Tenant
	}
	return resp, nil
}

func (s *Service) find(ctx context.Context, hash []byte) (auth.Caller, error) {
	var row db.FindApiKeyRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		row, err = q(tx).FindApiKey(ctx, hash)
		return err
	})
	if isNoRows(err) {
		return auth.Caller{}, auth.Unauthenticated("API_KEY_UNKNOWN", "the API key is not known")
	}
	if err != nil {
		return auth.Caller{}, fmt.Errorf("tenancy: look up a key: %w", err)
	}
	now := s.now()
	switch {
	case row.RevokeTime != nil:
		return auth.Caller{}, auth.Unauthenticated("API_KEY_REVOKED", "the API key was revoked")
	case row.ExpireTime != nil && !now.Before(*row.ExpireTime):
		return auth.Caller{}, auth.Unauthenticated("API_KEY_EXPIRED", "the API key expired on %s", row.ExpireTime.Format(time.RFC3339))
	}
	s.uses.note(row.ID, now)
	c := auth.Caller{Kind: auth.KindKey, ID: keyName(owner{row.OwnerKind, row.OwnerID}, row.ID), Scopes: row.Scopes, Live: row.Live}
	switch row.OwnerKind {
	case ofOperators:
		c.Role = auth.RoleOperator
	case ofResellers:
		c.Role, c.Reseller = auth.RoleReseller, row.OwnerID
	default:
		c.Role, c.Tenant, c.Reseller = auth.RoleTenant, row.OwnerID, row.ResellerID
	}
	c.Suspension = first(holds(
		db.Tenant{TenantID: c.Tenant, OperatorSuspendTime: row.OperatorSuspendTime, OperatorSuspendReason: row.OperatorSuspendReason,
			ResellerSuspendTime: row.ResellerSuspendTime, ResellerSuspendReason: row.ResellerSuspendReason},
		db.Reseller{ID: c.Reseller, SuspendTime: row.SuspendTime, SuspendReason: row.SuspendReason}))
	return c, nil
}

// lastUses gathers the times of last use between two writes: a busy key costs one row update a minute.
type lastUses struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (u *lastUses) note(id string, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil {
		u.at = map[string]time.Time{}
	}
	u.at[id] = now.UTC().Truncate(time.Minute)
}

func (u *lastUses) take() (ids []string, times []time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, at := range u.at {
		ids, times = append(ids, id), append(times, at)
	}
	u.at = nil
	return ids, times
}

// writeLastUses writes what was gathered, at each interval and once more at the end. A write that
// fails is only logged: a time of last use is not worth an outage.
func (s *Service) writeLastUses(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flushLastUses(ctx)
		case <-ctx.Done():
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.flushLastUses(end)
			return nil
		}
	}
}

func (s *Service) flushLastUses(ctx context.Context) {
	ids, times := s.uses.take()
	if len(ids) == 0 {
		return
	}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).TouchApiKeys(ctx, db.TouchApiKeysParams{Ids: ids, Times: times})
	})
	if err != nil {
		s.log.WarnContext(ctx, "times of last use not written", "keys", len(ids), "error", err)
	}
}

// bootstrap makes the key in the file an operator's key and revokes the one that an earlier file held.
// A key that was revoked through the API stays revoked.
func (s *Service) bootstrap(ctx context.Context, path string) error {
	if path == "" {
		return nil
	}
	key, err := run.ReadSecret(path)
	if err != nil {
		return run.BadField("bootstrap_operator_key_file", "%v", err)
	}
	key = strings.TrimSpace(key)
	live, err := auth.CheckKey(key)
	if err != nil {
		return run.BadField("bootstrap_operator_key_file", "%s holds no API key: %s", path, fault.Of(err).Message)
	}
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	hash, now := auth.HashKey(key), pg.Time(s.now())
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := q(tx).RetireBootstrapKeys(ctx, db.RetireBootstrapKeysParams{RevokeTime: now, SecretSha256: hash}); err != nil {
			return err
		}
		added, err := q(tx).InsertBootstrapKey(ctx, db.InsertBootstrapKeyParams{ID: id.String(), Prefix: auth.Visible(key),
			SecretSha256: hash, Live: live, CreateTime: now})
		if err != nil || added == 0 {
			return err
		}
		ctx = telemetry.WithActor(ctx, "service:tenancy")
		return audit(ctx, tx, "key.bootstrap", keyName(owner{ofOperators, "bootstrap"}, id.String()), map[string]string{"prefix": auth.Visible(key)})
	})
	if err != nil {
		return fmt.Errorf("tenancy: bootstrap key: %w", err)
	}
	return nil
}
