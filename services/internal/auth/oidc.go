package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"ceralacca.dev/services/internal/fault"
)

// OIDCConfig is what must be known about an OpenID Connect issuer. Claim names
// are configurable because every identity provider has its own.
type OIDCConfig struct {
	Issuer        string // issuer URL exactly as in the tokens' iss claim; discovery document below it
	Audience      string // required aud claim
	TenantClaim   string // claim with the tenant id
	ResellerClaim string // claim with the reseller id
	RoleClaim     string // claim with operator, reseller or tenant
	ScopeClaim    string // claim with scopes: a space-separated string or a list of strings
	Client        *http.Client
	Now           func() time.Time
}

// OIDC accepts bearer tokens (JWT) of one issuer. The issuer is contacted when
// the first token arrives and its signing keys are fetched again when a token
// names an unknown one: the platform starts without the identity provider and
// follows its key rotation.
type OIDC struct {
	cfg OIDCConfig

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

// NewOIDC checks the configuration; it does not contact the issuer.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if cfg.Issuer == "" || cfg.Audience == "" {
		return nil, errors.New("auth: OIDC needs an issuer and an audience")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 10 * time.Second}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	set := func(name *string, fallback string) {
		if *name == "" {
			*name = fallback
		}
	}
	set(&cfg.TenantClaim, "ceralacca_tenant")
	set(&cfg.ResellerClaim, "ceralacca_reseller")
	set(&cfg.RoleClaim, "ceralacca_role")
	set(&cfg.ScopeClaim, "scope")
	return &OIDC{cfg: cfg}, nil
}

// Resolve verifies signature, issuer, audience and validity of the token and
// reads tenant, role and scopes from its claims.
func (o *OIDC) Resolve(ctx context.Context, bearer string) (Caller, error) {
	verifier, err := o.connect(ctx)
	if err != nil {
		return Caller{}, err
	}
	token, err := verifier.Verify(oidc.ClientContext(ctx, o.cfg.Client), bearer)
	if err != nil {
		return Caller{}, verifyFault(err)
	}
	claims := map[string]json.RawMessage{}
	if err := token.Claims(&claims); err != nil {
		return Caller{}, Unauthenticated("TOKEN_INVALID", "the claims of the token are not a JSON object")
	}
	return o.caller(token.Subject, claims)
}

// connect reads the issuer's discovery document once.
func (o *OIDC) connect(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	// The provider keeps this context for its later key fetches, so it must
	// not end with the call that happened to come first.
	ctx = oidc.ClientContext(context.WithoutCancel(ctx), o.cfg.Client)
	provider, err := oidc.NewProvider(ctx, o.cfg.Issuer)
	if err != nil {
		return nil, fault.Unavailable("OIDC_UNREACHABLE",
			"the identity provider %s cannot be read now: try again, or use an API key", o.cfg.Issuer).With(err)
	}
	o.verifier = provider.VerifierContext(ctx, &oidc.Config{ClientID: o.cfg.Audience, Now: o.cfg.Now})
	return o.verifier, nil
}

// verifyFault separates a bad token from an identity provider that is away.
func verifyFault(err error) error {
	var expired *oidc.TokenExpiredError
	if errors.As(err, &expired) {
		return Unauthenticated("TOKEN_EXPIRED", "the token expired at %s: sign in again",
			expired.Expiry.UTC().Format(time.RFC3339)).With(err)
	}
	if strings.Contains(err.Error(), "fetching keys") {
		return fault.Unavailable("OIDC_UNREACHABLE",
			"the keys of the identity provider cannot be read now: try again").With(err)
	}
	return Unauthenticated("TOKEN_INVALID",
		"the token was not accepted: check issuer, audience and signature").With(err)
}

func (o *OIDC) caller(subject string, claims map[string]json.RawMessage) (Caller, error) {
	c := Caller{Kind: KindOIDC, ID: subject, Live: true}
	var err error
	read := func(name string) string {
		raw, ok := claims[name]
		if !ok || err != nil {
			return ""
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			err = Unauthenticated("TOKEN_CLAIM_INVALID", "claim %q of the token is not a string", name)
		}
		return s
	}
	c.Role, c.Tenant, c.Reseller = read(o.cfg.RoleClaim), read(o.cfg.TenantClaim), read(o.cfg.ResellerClaim)
	if err != nil {
		return Caller{}, err
	}
	if c.Scopes, err = scopes(o.cfg.ScopeClaim, claims[o.cfg.ScopeClaim]); err != nil {
		return Caller{}, err
	}
	return c, o.complete(c)
}

// complete refuses a token whose role lacks the id that the role is about.
func (o *OIDC) complete(c Caller) error {
	missing := ""
	switch c.Role {
	case RoleOperator:
	case RoleReseller:
		if c.Reseller == "" {
			missing = o.cfg.ResellerClaim
		}
	case RoleTenant:
		if c.Tenant == "" {
			missing = o.cfg.TenantClaim
		}
	default:
		return Unauthenticated("TOKEN_CLAIM_INVALID", "claim %q of the token must be %s, %s or %s",
			o.cfg.RoleClaim, RoleOperator, RoleReseller, RoleTenant)
	}
	if missing != "" {
		return Unauthenticated("TOKEN_CLAIM_INVALID", "the token has role %s but no claim %q", c.Role, missing)
	}
	return nil
}

// scopes reads the scope claim: RFC 8693 writes one space-separated string,
// several providers write a list.
func scopes(name string, raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return strings.Fields(one), nil
	}
	var many []string
	if json.Unmarshal(raw, &many) == nil {
		return many, nil
	}
	return nil, Unauthenticated("TOKEN_CLAIM_INVALID",
		"claim %q of the token is neither a string nor a list of strings", name)
}

// Bearers sends API keys to one resolver and everything else to the other.
type Bearers struct {
	Keys   Resolver // required
	Tokens Resolver // nil when OIDC is not configured
}

// Resolve dispatches by the form of the credential.
func (b Bearers) Resolve(ctx context.Context, bearer string) (Caller, error) {
	if IsKey(bearer) {
		if _, err := CheckKey(bearer); err != nil {
			return Caller{}, err
		}
		return b.Keys.Resolve(ctx, bearer)
	}
	if b.Tokens == nil {
		return Caller{}, Unauthenticated("CREDENTIAL_UNKNOWN",
			"the bearer credential is not an API key (%s... or %s...) and no identity provider is configured",
			prefixTest, prefixLive)
	}
	c, err := b.Tokens.Resolve(ctx, bearer)
	if err != nil {
		return Caller{}, fmt.Errorf("auth: OIDC: %w", err)
	}
	return c, nil
}
