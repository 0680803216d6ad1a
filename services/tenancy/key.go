package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/tenancy/internal/db"
)

// Kinds of owner of a key: the collection of its parent.
const (
	ofTenants   = "tenants"
	ofResellers = "resellers"
	ofOperators = "operators"
)

// owner is who a key belongs to.
type owner struct{ kind, id string }

func ownerOf(name string) owner { return owner{kind: segment(name, 0), id: segment(name, 1)} }

// tenant is whose rows the owner's keys are; empty for resellers and operators, whose keys only the
// system scope sees.
func (o owner) tenant() string {
	if o.kind == ofTenants {
		return o.id
	}
	return ""
}

func (o owner) name() string { return o.kind + "/" + o.id }

// mayKeep checks that the caller may handle the keys of the owner: operators all, a reseller its own
// and those of its tenants, a tenant its own.
func (s *Service) mayKeep(ctx context.Context, tx pgx.Tx, o owner) error {
	switch o.kind {
	case ofTenants:
		_, err := s.mayActFor(ctx, tx, o.id)
		return err
	case ofResellers:
		if err := mayActAs(ctx, o.id); err != nil {
			return err
		}
		_, err := q(tx).GetReseller(ctx, o.id)
		if isNoRows(err) {
			return fault.NotFound("RESELLER_NOT_FOUND", "there is no reseller %s", o.name())
		}
		return err
	}
	c, err := caller(ctx)
	if err != nil {
		return err
	}
	if c.Role != auth.RoleOperator {
		return fault.Denied("OPERATORS_ONLY", "only operators handle the keys of %s", o.name())
	}
	return nil
}

// CreateApiKey makes a key for a tenant, reseller or operator. The secret is in the answer and nowhere
// else. A key never grants what its maker lacks: SCOPE_NOT_HELD, KEY_ENVIRONMENT_NOT_HELD.
func (s *Service) CreateApiKey(ctx context.Context, req *tenancyv1.CreateApiKeyRequest) (*tenancyv1.ApiKey, error) {
	in, o, now := req.GetApiKey(), ownerOf(req.GetParent()), pg.Time(s.now())
	if err := grantable(ctx, in, now); err != nil {
		return nil, err
	}
	secret, err := auth.NewKey(in.GetLive())
	if err != nil {
		return nil, err
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	row := db.InsertApiKeyParams{ID: id.String(), TenantID: o.tenant(), OwnerKind: o.kind, OwnerID: o.id, DisplayName: in.GetDisplayName(),
		Prefix: auth.Visible(secret), SecretSha256: auth.HashKey(secret), Live: in.GetLive(), Scopes: in.GetScopes(), CreateTime: now}
	if in.GetExpireTime() != nil {
		t := pg.Time(in.GetExpireTime().AsTime())
		row.ExpireTime = &t
	}
	resp := &tenancyv1.ApiKey{Secret: secret}
	err = s.db.Scoped(ctx, o.tenant(), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayKeep(ctx, tx, o); err != nil {
			return err
		}
		if err := s.mayGrant(ctx, tx, o, in.GetScopes()); err != nil {
			return err
		}
		if err := q(tx).InsertApiKey(ctx, row); err != nil {
			return fmt.Errorf("tenancy: insert key of %s: %w", o.name(), err)
		}
		fillKey(resp, db.ApiKey{ID: row.ID, OwnerKind: o.kind, OwnerID: o.id, DisplayName: row.DisplayName, Prefix: row.Prefix,
			Live: row.Live, Scopes: row.Scopes, CreateTime: row.CreateTime, ExpireTime: row.ExpireTime})
		return audit(ctx, tx, "key.create", resp.GetName(), map[string]string{"prefix": row.Prefix, "scopes": strings.Join(row.Scopes, " ")})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// grantable checks what the new key would be allowed to do against what its maker is.
func grantable(ctx context.Context, in *tenancyv1.ApiKey, now time.Time) error {
	c, err := caller(ctx)
	if err != nil {
		return err
	}
	if len(in.GetScopes()) == 0 {
		return fault.Invalid("SCOPES_REQUIRED", "api_key.scopes: name at least one, for example invoices.write; * is everything of its owner").
			WithField("api_key.scopes", "SCOPES_REQUIRED", "is empty")
	}
	for i, scope := range in.GetScopes() {
		if !c.Has(scope) {
			return fault.Denied("SCOPE_NOT_HELD", "api_key.scopes[%d]: you cannot grant %s, which your own key lacks", i, scope).
				WithField(fmt.Sprintf("api_key.scopes[%d]", i), "SCOPE_NOT_HELD", "your own key lacks it")
		}
	}
	if in.GetLive() && !c.Live && c.Role != auth.RoleOperator {
		return fault.Denied("KEY_ENVIRONMENT_NOT_HELD", "api_key.live: a test key cannot make a live one").
			WithField("api_key.live", "KEY_ENVIRONMENT_NOT_HELD", "your own key is a test key")
	}
	if in.GetExpireTime() != nil && (!in.GetExpireTime().IsValid() || !in.GetExpireTime().AsTime().After(now)) {
		return fault.Invalid("EXPIRE_TIME_PAST", "api_key.expire_time: %s is not in the future", in.GetExpireTime().AsTime().Format(time.RFC3339)).
			WithField("api_key.expire_time", "EXPIRE_TIME_PAST", "is not in the future")
	}
	return nil
}

// mayGrant refuses a key that could begin something while its owner is suspended. One that reads is made: keys
// expire, and access to what is there goes on for as long as a suspension lasts.
func (s *Service) mayGrant(ctx context.Context, tx pgx.Tx, o owner, scopes []string) error {
	var row db.GetTenantRow
	var err error
	switch o.kind {
	case ofTenants:
		row, err = q(tx).GetTenant(ctx, o.id)
	case ofResellers:
		row.Reseller, err = q(tx).GetReseller(ctx, o.id)
	}
	if err != nil {
		return fmt.Errorf("tenancy: read %s: %w", o.name(), err)
	}
	err = open(ctx, holds(row.Tenant, row.Reseller))
	if err == nil {
		return nil
	}
	for i, scope := range scopes {
		if !strings.HasSuffix(scope, ".read") {
			return fault.Of(err).WithField(fmt.Sprintf("api_key.scopes[%d]", i), "TENANT_SUSPENDED",
				"while it is suspended a new key has reading scopes only, such as archive.read; "+scope+" is none")
		}
	}
	return nil
}

// GetApiKey reads one key, without its secret.
func (s *Service) GetApiKey(ctx context.Context, req *tenancyv1.GetApiKeyRequest) (*tenancyv1.ApiKey, error) {
	resp, o := &tenancyv1.ApiKey{}, ownerOf(req.GetName())
	err := s.db.Scoped(ctx, o.tenant(), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayKeep(ctx, tx, o); err != nil {
			return err
		}
		row, err := q(tx).GetApiKey(ctx, db.GetApiKeyParams{OwnerKind: o.kind, OwnerID: o.id, ID: segment(req.GetName(), 3)})
		if err != nil {
			return keyMissing(err, req.GetName())
		}
		fillKey(resp, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func keyMissing(err error, name string) error {
	if isNoRows(err) {
		return fault.NotFound("API_KEY_NOT_FOUND", "there is no key %s", name)
	}
	return fmt.Errorf("tenancy: key %s: %w", name, err)
}

// ListApiKeys reads the keys of an owner, oldest first, revoked and expired ones too.
func (s *Service) ListApiKeys(ctx context.Context, req *tenancyv1.ListApiKeysRequest) (*tenancyv1.ListApiKeysResponse, error) {
	o := ownerOf(req.GetParent())
	hash, after := pg.FilterHash("apiKeys", req.GetParent()), ""
	_, err := pg.DecodePageToken(req.GetPageToken(), hash, &after)
	if err != nil {
		return nil, err
	}
	resp := &tenancyv1.ListApiKeysResponse{}
	err = s.db.Scoped(ctx, o.tenant(), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayKeep(ctx, tx, o); err != nil {
			return err
		}
		size := pageSize(req.GetPageSize())
		rows, err := q(tx).ListApiKeys(ctx, db.ListApiKeysParams{OwnerKind: o.kind, OwnerID: o.id, After: after, PageSize: size + 1})
		if err != nil {
			return fmt.Errorf("tenancy: list keys of %s: %w", o.name(), err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, hash, func(r db.ApiKey) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			k := &tenancyv1.ApiKey{}
			fillKey(k, row)
			resp.ApiKeys = append(resp.ApiKeys, k)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// RevokeApiKey ends a key for good and states the fact ApiKeyRevoked. A repeat changes nothing.
func (s *Service) RevokeApiKey(ctx context.Context, req *tenancyv1.RevokeApiKeyRequest) (*tenancyv1.ApiKey, error) {
	resp, o, now := &tenancyv1.ApiKey{}, ownerOf(req.GetName()), pg.Time(s.now())
	err := s.db.Scoped(ctx, o.tenant(), func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayKeep(ctx, tx, o); err != nil {
			return err
		}
		row, err := q(tx).RevokeApiKey(ctx, db.RevokeApiKeyParams{RevokeTime: now, OwnerKind: o.kind, OwnerID: o.id, ID: segment(req.GetName(), 3)})
		if err != nil {
			return keyMissing(err, req.GetName())
		}
		fillKey(resp, row)
		if row.RevokeTime == nil || !row.RevokeTime.Equal(now) {
			return nil // it was revoked before: the fact is stated and the act recorded
		}
		err = s.bus.Emit(ctx, tx, &tenancyv1.ApiKeyRevoked{ApiKey: resp.GetName(), SecretSha256: row.SecretSha256})
		if err != nil {
			return err
		}
		return audit(ctx, tx, "key.revoke", resp.GetName(), map[string]string{"prefix": row.Prefix})
	})
	if err != nil {
		return nil, err
	}
	s.forgetKeys()
	return resp, nil
}

func keyName(o owner, id string) string { return o.name() + "/apiKeys/" + id }

func fillKey(k *tenancyv1.ApiKey, row db.ApiKey) {
	k.Name = keyName(owner{row.OwnerKind, row.OwnerID}, row.ID)
	k.DisplayName, k.Scopes, k.Prefix, k.Live = row.DisplayName, slices.Clone(row.Scopes), row.Prefix, row.Live
	k.CreateTime = timestamppb.New(row.CreateTime)
	k.ExpireTime, k.RevokeTime, k.LastUseTime = stamp(row.ExpireTime), stamp(row.RevokeTime), stamp(row.LastUseTime)
}

func stamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
