package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
)

// Unit is one transaction as its context knows it: what else has to happen when it commits.
type Unit struct {
	tx     pgx.Tx
	before []func(ctx context.Context, tx pgx.Tx) error
	after  []func()
	joins  []func() error
	values map[any]any
}

type unitKey struct{}

// UnitOf finds the transaction that Tx or System gave together with ctx; nil when tx is not that one
// (a savepoint, or a transaction opened by other means).
func UnitOf(ctx context.Context, tx pgx.Tx) *Unit {
	u, _ := ctx.Value(unitKey{}).(*Unit)
	if u == nil || u.tx != tx {
		return nil
	}
	return u
}

// Before runs fn as one of the last statements of the transaction; an error rolls back.
func (u *Unit) Before(fn func(ctx context.Context, tx pgx.Tx) error) { u.before = append(u.before, fn) }

// After runs fn once the transaction is committed, never when it is rolled back. fn must be quick
// and cannot fail.
func (u *Unit) After(fn func()) { u.after = append(u.after, fn) }

// Join runs fn when all parts of the transaction are done, as the last thing before COMMIT; an error rolls
// back. It is for an act that a part has begun and that must have ended well, such as a write to a disk: those
// of several tenants then run side by side. fn has no rows: the scope may be another tenant's by then.
func (u *Unit) Join(fn func() error) { u.joins = append(u.joins, fn) }

// Value is what was stored under key for this transaction; the first call makes it.
func (u *Unit) Value(key any, make func() any) any {
	v, ok := u.values[key]
	if !ok {
		v = make()
		if u.values == nil {
			u.values = map[any]any{}
		}
		u.values[key] = v
	}
	return v
}

// Tx runs fn in one transaction that sees and writes rows of tenant only. BEGIN and the tenant
// travel in one round trip. The ctx given to fn carries the tenant (Tenant) and must be the one
// used inside. An error of fn rolls back and is returned mapped by Error; a panic rolls back.
func (db *DB) Tx(ctx context.Context, tenant string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if tenant == "" {
		return ErrNoTenant
	}
	return db.run(ctx, begin, []Part{{Tenant: tenant, Run: fn}})
}

// TxUnsynced is Tx whose commit is answered before it is on disk: a crash of the database server can undo it, for as
// long as no later commit of any connection has been synced, which brings all before it to disk, since the log is
// written in order. It is for rows whose loss harms nobody then; who calls it says why. Tx is for all else.
func (db *DB) TxUnsynced(ctx context.Context, tenant string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if tenant == "" {
		return ErrNoTenant
	}
	return db.run(ctx, beginUnsynced, []Part{{Tenant: tenant, Run: fn}})
}

// System runs fn in one transaction that sees and writes the rows of all tenants: for relays,
// pollers, retention and operators. Whoever acts in it for one tenant says so with WithTenant.
func (db *DB) System(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return db.run(ctx, begin, []Part{{Run: fn}})
}

// Part is what one tenant has done in a transaction that several share; no tenant: System.
type Part struct {
	Tenant string
	Run    func(ctx context.Context, tx pgx.Tx) error
}

// Several runs parts one after the other in one transaction, each as Scoped does: it sees and writes the
// rows of its own tenant only, and has its own Unit, whose Before functions run at the end of the part.
// They commit together or not at all, for one commit costs the same for one tenant and for many.
//
// Parts that lock rows must come in one order everywhere, by tenant, lest two calls wait for each other.
func (db *DB) Several(ctx context.Context, parts []Part) error {
	if len(parts) == 0 {
		return nil
	}
	return db.run(ctx, begin, parts)
}

// Scoped is Tx for a tenant and System for the empty one: for work that carries its tenant along.
func (db *DB) Scoped(ctx context.Context, tenant string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if tenant == "" {
		return db.System(ctx, fn)
	}
	return db.Tx(ctx, tenant, fn)
}

// View is Tx for what only reads, several rows of one thing above all: every statement of fn sees the database as it
// was at the first one. In Tx each sees what was committed before it began, so a row and those that belong to it
// could be of two moments. A statement that writes is refused.
func (db *DB) View(ctx context.Context, tenant string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if tenant == "" {
		return ErrNoTenant
	}
	return db.run(ctx, beginView, []Part{{Tenant: tenant, Run: fn}})
}

// SystemView is View over the rows of all tenants.
func (db *DB) SystemView(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return db.run(ctx, beginView, []Part{{Run: fn}})
}

// ScopedView is View for a tenant and SystemView for the empty one.
func (db *DB) ScopedView(ctx context.Context, tenant string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	if tenant == "" {
		return db.SystemView(ctx, fn)
	}
	return db.View(ctx, tenant, fn)
}

// Tenant is for whom ctx acts; empty in System unless WithTenant said otherwise.
func Tenant(ctx context.Context) string { return telemetry.Tenant(ctx) }

// WithTenant says for whom something is done inside System: events emitted and acts recorded with
// the new ctx belong to tenant. It opens no rows: row-level security follows the transaction.
func WithTenant(ctx context.Context, tenant string) context.Context {
	return telemetry.WithTenant(ctx, tenant)
}

// scope makes the statement that opens the rows of tenant, or of all for the empty one, and closes others.
func scope(tenant string) (string, error) {
	if strings.ContainsAny(tenant, "\x00\\") {
		return "", fault.Invalid("TENANT_INVALID", "tenant %q: NUL and backslash are not allowed", tenant)
	}
	// The simple protocol runs several statements in one round trip and takes no parameters. Without a
	// backslash, doubling the quotes makes a literal under either setting of standard_conforming_strings.
	return "set local ceralacca.tenant = '" + strings.ReplaceAll(tenant, "'", "''") + "'", nil
}

const (
	begin         = "begin; "
	beginUnsynced = "begin; set local synchronous_commit = off; "
	beginView     = "begin isolation level repeatable read read only; "

	openScope  = "set local ceralacca.scope = 'system'"
	closeScope = "; set local ceralacca.scope = ''"
)

func (db *DB) run(ctx context.Context, begin string, parts []Part) (err error) {
	opened := openScope
	if parts[0].Tenant != "" {
		opened, err = scope(parts[0].Tenant)
		if err != nil {
			return err
		}
	}
	tx, err := db.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin + opened})
	if err != nil {
		return fmt.Errorf("pg: begin: %w", Error(err))
	}
	committed := false
	defer func() {
		if committed {
			return
		}
		// The caller's context may be the reason for the rollback; the connection must come back clean.
		rbErr := tx.Rollback(context.WithoutCancel(ctx))
		if rbErr != nil && !errors.Is(rbErr, pgx.ErrTxClosed) && err == nil {
			err = Error(rbErr)
		}
	}()
	var after []func()
	var joins []func() error
	for i, p := range parts {
		if i > 0 && p.Tenant != parts[i-1].Tenant {
			err = change(ctx, tx, parts[i-1].Tenant, p.Tenant)
			if err != nil {
				return err
			}
		}
		u := &Unit{tx: tx}
		err = u.run(telemetry.WithTenant(ctx, p.Tenant), p.Run)
		if err != nil {
			return err
		}
		after, joins = append(after, u.after...), append(joins, u.joins...)
	}
	for _, f := range joins {
		err = f()
		if err != nil {
			return Error(err)
		}
	}
	err = tx.Commit(ctx)
	if err != nil {
		return fmt.Errorf("pg: commit: %w", Error(err))
	}
	committed = true
	for _, f := range after {
		f()
	}
	return nil
}

// change closes the rows of one tenant and opens those of the next.
func change(ctx context.Context, tx pgx.Tx, from, to string) error {
	set, err := scope(to)
	if err != nil {
		return err
	}
	switch "" {
	case to:
		set += "; " + openScope
	case from:
		set += closeScope
	}
	_, err = tx.Exec(ctx, set, pgx.QueryExecModeSimpleProtocol)
	return Error(err)
}

// run is one part: its function, then what it wants done before the end.
func (u *Unit) run(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	inner := context.WithValue(ctx, unitKey{}, u)
	err := fn(inner, u.tx)
	if err != nil {
		return Error(err)
	}
	for i := 0; i < len(u.before); i++ { // a hook may add another
		err = u.before[i](inner, u.tx)
		if err != nil {
			return Error(err)
		}
	}
	return nil
}
