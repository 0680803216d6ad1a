// Package auth says who calls: an API key, an OIDC bearer token or a service
// certificate, and for which tenant or reseller, in which role, with which
// scopes.
//
// It refuses to decide what a caller may do: package rpc compares the caller
// with the access option of each method. It stores nothing; keys are resolved
// by whoever owns them (the tenancy service) behind [Resolver].
package auth

import (
	"context"
	"slices"

	"ceralacca.dev/services/internal/fault"
)

// Kinds of caller.
const (
	KindKey     = "key"     // an API key of a tenant, a reseller or an operator
	KindOIDC    = "oidc"    // a person, through an OpenID Connect token
	KindService = "service" // another service of this platform, through its certificate
)

// Roles of a caller.
const (
	RoleOperator = "operator" // runs the platform; sees every tenant
	RoleReseller = "reseller" // owns tenants; sees its own reseller resource
	RoleTenant   = "tenant"   // one tenant
	RoleService  = "service"  // a service; the method option names the ones allowed
)

// Caller is the authenticated origin of a call.
type Caller struct {
	Kind     string   // KindKey, KindOIDC or KindService
	ID       string   // key id, token subject or certificate common name
	Role     string   // RoleOperator, RoleReseller, RoleTenant or RoleService
	Reseller string   // reseller id; set for resellers and for tenants of one
	Tenant   string   // tenant id; set for RoleTenant only
	Scopes   []string // granted scopes, for example "invoices.write"; "*" grants all
	Live     bool     // false for test keys
	// Suspension holds while the tenant, or the reseller, is suspended; of several the one to be told first.
	Suspension *Suspension
}

// Has reports whether the caller holds the scope. An empty scope is held by
// nobody: a method that names no scope is not open to scoped callers.
func (c Caller) Has(scope string) bool {
	return scope != "" && (slices.Contains(c.Scopes, scope) || slices.Contains(c.Scopes, "*"))
}

// Actor names the caller in audit records and logs, for example
// "key:0192f..." or "service:invoice".
func (c Caller) Actor() string {
	if c.Kind == "" {
		return "anonymous"
	}
	return c.Kind + ":" + c.ID
}

// Resolver turns a bearer credential into a caller. An unknown, expired or
// revoked credential is a fault of kind Unauthenticated; a store that cannot
// be asked is Unavailable.
type Resolver interface {
	Resolve(ctx context.Context, bearer string) (Caller, error)
}

// ResolverFunc is a function as a Resolver.
type ResolverFunc func(ctx context.Context, bearer string) (Caller, error)

// Resolve calls f.
func (f ResolverFunc) Resolve(ctx context.Context, bearer string) (Caller, error) {
	return f(ctx, bearer)
}

type callerKey struct{}

// With returns a context that carries the caller.
func With(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// From returns the caller of the context; false when the call is anonymous.
func From(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// Unauthenticated is the fault for a credential that was not accepted. The
// text never says more than the caller may know.
func Unauthenticated(code, format string, a ...any) *fault.Fault {
	return fault.New(fault.KindUnauthenticated, code, format, a...)
}
