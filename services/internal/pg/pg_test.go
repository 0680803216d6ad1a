package pg_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

const service = "pgcheck" // has no migrations of its own: the bus tables are enough here

func insertParked(ctx context.Context, tx pgx.Tx, tenant string) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO parked_event (id, kind, consumer, event_id, tenant_id, subject, event_time, correlation, payload, code, reason, attempts, parked_at)
		VALUES ($1, 'event', 'c', $1, $2, 's', now(), '', '', 'X', 'x', 1, now())`, id, tenant)
	return err
}

func count(ctx context.Context, tx pgx.Tx, table string) (n int, err error) {
	err = tx.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{table}.Sanitize()).Scan(&n)
	return n, err
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := pgtest.Schema(t, service)
	for _, tenant := range []string{"anna", "bruno", "o'hara"} {
		require.NoError(t, db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			require.Equal(t, tenant, pg.Tenant(ctx))
			return errors.Join(insertParked(ctx, tx, tenant), telemetry.Audit(telemetry.WithActor(ctx, "test:t"), tx,
				telemetry.Act{Action: "a.b", Resource: "r"}))
		}))
	}
	for _, tenant := range []string{"anna", "bruno", "o'hara"} {
		require.NoError(t, db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			for _, table := range []string{"parked_event", "audit_entry"} {
				n, err := count(ctx, tx, table)
				require.NoError(t, err)
				require.Equal(t, 1, n, table)
			}
			tag, err := tx.Exec(ctx, `UPDATE parked_event SET reason = 'stolen' WHERE tenant_id <> $1`, tenant)
			require.NoError(t, err)
			require.Zero(t, tag.RowsAffected(), "another tenant's row was changed")
			tag, err = tx.Exec(ctx, `DELETE FROM parked_event WHERE tenant_id <> $1`, tenant)
			require.NoError(t, err)
			require.Zero(t, tag.RowsAffected(), "another tenant's row was deleted")
			return nil
		}))
	}
	require.NoError(t, db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := count(ctx, tx, "parked_event")
		require.Equal(t, 3, n)
		return err
	}))
	var n int
	require.NoError(t, db.Pool().QueryRow(ctx, `SELECT count(*) FROM parked_event`).Scan(&n))
	require.Zero(t, n, "rows are visible outside a transaction with a tenant")
}

func TestARowForAnotherTenantIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	err := db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error { return insertParked(ctx, tx, "bruno") })
	require.Equal(t, fault.KindDenied, fault.Of(err).Kind, "%v", err)
	require.Equal(t, "DATABASE_DENIED", fault.Of(err).Code)
}

// Every tenant-owned table, whoever made it, obeys the convention: row-level security, forced.
func TestEveryTenantTableHasForcedRowLevelSecurity(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	rows, err := pgtest.Admin(t, db).Query(t.Context(), `
		SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attname = 'tenant_id'`)
	require.NoError(t, err)
	var name string
	var forced bool
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&name, &forced}, func() error {
		seen++
		require.True(t, forced, name)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 4, seen)
}

func TestTheTenantEndsWithItsTransaction(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Schema(t, service).Config()
	cfg.MaxConns = 1 // so that each transaction reuses the session of the one before
	db, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Tx(t.Context(), "anna", func(ctx context.Context, tx pgx.Tx) error { return insertParked(ctx, tx, "anna") }))
	require.NoError(t, db.System(t.Context(), func(context.Context, pgx.Tx) error { return nil }))
	var tenant, scope string
	require.NoError(t, db.Pool().QueryRow(t.Context(),
		`SELECT current_setting('ceralacca.tenant', true), current_setting('ceralacca.scope', true)`).Scan(&tenant, &scope))
	require.Empty(t, tenant)
	require.Empty(t, scope)
	require.NoError(t, db.Tx(t.Context(), "bruno", func(ctx context.Context, tx pgx.Tx) error {
		n, err := count(ctx, tx, "parked_event")
		require.Zero(t, n)
		return err
	}))
}

func TestTenantNamesCannotBreakOut(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		tenant := rapid.OneOf(
			rapid.StringMatching(`[a-z' ;\-"$\\]{1,20}`),
			rapid.String(),
			rapid.SampledFrom([]string{"x'; set local ceralacca.scope = 'system", `\'; select 1 --`, "a\x00b", "'", "''"}),
		).Draw(r, "tenant")
		if tenant == "" {
			return
		}
		err := db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			var got, scope string
			err := tx.QueryRow(ctx, `SELECT current_setting('ceralacca.tenant'), coalesce(current_setting('ceralacca.scope', true), '')`).Scan(&got, &scope)
			if got != tenant || scope != "" {
				r.Fatalf("tenant %q became %q, scope %q", tenant, got, scope)
			}
			return err
		})
		if err != nil {
			if fault.Of(err).Code != "TENANT_INVALID" || !strings.ContainsAny(tenant, "\x00\\") {
				r.Fatalf("tenant %q: %v", tenant, err)
			}
		}
	})
}

func TestUnsyncedIsOneTransaction(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Schema(t, service).Config()
	cfg.MaxConns = 1
	db, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Pool().Exec(t.Context(), "SET synchronous_commit = on") // the tests' server has it off
	require.NoError(t, err)
	setting := func(run func(context.Context, string, func(context.Context, pgx.Tx) error) error) (on string) {
		require.NoError(t, run(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			require.Equal(t, "acme", pg.Tenant(ctx))
			return tx.QueryRow(ctx, "SELECT current_setting('synchronous_commit') || ' ' || current_setting('ceralacca.tenant')").Scan(&on)
		}))
		return on
	}
	require.Equal(t, "on acme", setting(db.Tx))
	require.Equal(t, "off acme", setting(db.TxUnsynced))
	require.Equal(t, "on acme", setting(db.Tx), "on the same connection")
	nothing := func(context.Context, pgx.Tx) error { return nil }
	require.ErrorIs(t, db.TxUnsynced(t.Context(), "", nothing), pg.ErrNoTenant)
}

// TestSchemasAreLentAsMigrated: what a test made or changed in its schema is gone for the next one, so that tests can be
// run again in one process and in any order.
func TestSchemasAreLentAsMigrated(t *testing.T) {
	for _, c := range []struct{ what, leave string }{
		{"function and trigger", `CREATE FUNCTION left_behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER left_behind BEFORE UPDATE ON outbox FOR EACH ROW EXECUTE FUNCTION left_behind()`},
		{"table", `CREATE TABLE left_behind (id int)`},
		{"column", `ALTER TABLE outbox ADD COLUMN left_behind int`},
		{"constraint", `ALTER TABLE outbox ADD CONSTRAINT left_behind CHECK (true)`},
	} {
		lent := map[string]bool{}
		for range 2 {
			t.Run(c.what, func(t *testing.T) {
				db := pgtest.Schema(t, service)
				lent[db.Schema()] = true
				_, err := pgtest.Admin(t, db).Exec(t.Context(), c.leave)
				require.NoError(t, err)
			})
		}
		require.Len(t, lent, 1, "the second had another schema: nothing was tried")
	}
}

func TestTxRefusesNoTenant(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	err := db.Tx(t.Context(), "", func(context.Context, pgx.Tx) error { t.Error("fn ran"); return nil })
	require.ErrorIs(t, err, pg.ErrNoTenant)
}

func TestErrorsBecomeFaults(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	admin := pgtest.Admin(t, db)
	ctx := t.Context()
	_, err := admin.Exec(ctx, `
		CREATE TABLE parent (id int PRIMARY KEY, n int CONSTRAINT parent_n_positive CHECK (n > 0));
		CREATE TABLE child (id int, parent int CONSTRAINT child_parent REFERENCES parent);
		INSERT INTO parent VALUES (1, 1);
		GRANT ALL ON parent, child TO PUBLIC`)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Exec(context.Background(), `DROP TABLE child, parent`) })
	cases := []struct {
		sql        string
		kind       fault.Kind
		code       string
		constraint string
	}{
		{`INSERT INTO parent VALUES (1, 1)`, fault.KindConflict, "UNIQUE_VIOLATION", "parent_pkey"},
		{`INSERT INTO parent VALUES (2, 0)`, fault.KindInvalid, "CHECK_VIOLATION", "parent_n_positive"},
		{`INSERT INTO child VALUES (1, 9)`, fault.KindPrecondition, "FOREIGN_KEY_VIOLATION", "child_parent"},
		{`DELETE FROM audit_entry`, fault.KindDenied, "DATABASE_DENIED", ""},
		{`UPDATE audit_entry SET actor = ''`, fault.KindDenied, "DATABASE_DENIED", ""},
		{`CREATE TABLE mine (id int)`, fault.KindDenied, "DATABASE_DENIED", ""},
		{`SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)`, fault.KindUnavailable, "DATABASE_TIMEOUT", ""},
		{`SELECT 1/0`, fault.KindInternal, "INTERNAL", ""},
	}
	for _, c := range cases {
		err := db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, c.sql)
			if err != nil {
				return fmt.Errorf("statement: %w", err)
			}
			return nil
		})
		require.Error(t, err, c.sql)
		f := fault.Of(err)
		require.Equal(t, c.kind, f.Kind, "%s: %v", c.sql, err)
		require.Equal(t, c.code, f.Code, "%s: %v", c.sql, err)
		require.Equal(t, c.constraint, pg.Constraint(err), c.sql)
		require.False(t, pg.Away(err))
	}
	err = db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		_, err := admin.Exec(ctx, `SELECT pg_terminate_backend($1)`, tx.Conn().PgConn().PID())
		require.NoError(t, err)
		return insertParked(ctx, tx, "anna")
	})
	require.True(t, pg.Away(err), "%v", err)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	require.NoError(t, db.Ping(ctx), "the pool goes on with another connection")
}

func TestWhatIsNotTheDatabasesPassesUnchanged(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	own := fault.Precondition("INVOICE_SENT", "sent already")
	for _, want := range []error{own, pgx.ErrNoRows, errors.New("mine"), context.Canceled} {
		err := db.Tx(t.Context(), "anna", func(context.Context, pgx.Tx) error { return want })
		require.Equal(t, want, err)
	}
	require.NoError(t, pg.Error(nil))
}

func TestLockTimeoutIsUnavailable(t *testing.T) {
	t.Parallel()
	cfg := pgtest.Schema(t, service).Config()
	cfg.LockTimeout = 50 * time.Millisecond
	db, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer db.Close()
	ctx := t.Context()
	require.NoError(t, db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error { return insertParked(ctx, tx, "anna") }))
	err = db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT FROM parked_event FOR UPDATE`)
		require.NoError(t, err)
		return db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `UPDATE parked_event SET code = 'Y'`)
			return err
		})
	})
	require.Equal(t, "DATABASE_CONTENTION", fault.Of(err).Code, "%v", err)
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
}

func TestUnitHooks(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	ctx := t.Context()
	var log []string
	say := func(s string) { log = append(log, s) }
	stop := errors.New("stop")
	work := func(fail bool) error {
		return db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
			u := pg.UnitOf(ctx, tx)
			u.After(func() { say("after") })
			u.Before(func(ctx context.Context, _ pgx.Tx) error {
				say("before")
				require.Equal(t, "anna", pg.Tenant(ctx))
				if fail {
					return stop
				}
				u.Before(func(context.Context, pgx.Tx) error { say("added"); return nil })
				return insertParked(ctx, tx, "anna")
			})
			sp, err := tx.Begin(ctx)
			require.NoError(t, err)
			require.Nil(t, pg.UnitOf(ctx, sp), "a savepoint is not the unit")
			require.Equal(t, 1, u.Value("k", func() any { return 1 }))
			require.Equal(t, 1, u.Value("k", func() any { return 2 }))
			say("fn")
			return sp.Commit(ctx)
		})
	}
	require.NoError(t, work(false))
	require.Equal(t, []string{"fn", "before", "added", "after"}, log)
	log = nil
	require.ErrorIs(t, work(true), stop)
	require.Equal(t, []string{"fn", "before"}, log)
	require.NoError(t, db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		n, err := count(ctx, tx, "parked_event")
		require.Equal(t, 1, n)
		return err
	}))
	require.Nil(t, pg.UnitOf(ctx, nil))
}

// Tenants that share a transaction see what they would see alone.
func TestSeveralKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	ctx := t.Context()
	var log []string
	var refuse error
	part := func(tenant string, see int) pg.Part {
		return pg.Part{Tenant: tenant, Run: func(ctx context.Context, tx pgx.Tx) error {
			require.Equal(t, tenant, pg.Tenant(ctx))
			u := pg.UnitOf(ctx, tx)
			require.Equal(t, tenant, u.Value("k", func() any { return tenant }), "units are not shared")
			u.Before(func(ctx context.Context, tx pgx.Tx) error {
				require.Equal(t, tenant, pg.Tenant(ctx))
				n, err := count(ctx, tx, "parked_event")
				require.Equal(t, see, n, "what %q sees", tenant)
				log = append(log, "before "+tenant)
				return err
			})
			u.After(func() { log = append(log, "after "+tenant) })
			u.Join(func() error { log = append(log, "join "+tenant); return refuse })
			if tenant == "" {
				return nil
			}
			return insertParked(ctx, tx, tenant)
		}}
	}
	require.NoError(t, db.Several(ctx, nil))
	require.NoError(t, db.Several(ctx, []pg.Part{part("anna", 1), part("bruno", 1), part("", 2), part("anna", 2)}))
	require.Equal(t, []string{"before anna", "before bruno", "before ", "before anna",
		"join anna", "join bruno", "join ", "join anna", "after anna", "after bruno", "after ", "after anna"}, log)

	foreign := pg.Part{Tenant: "bruno", Run: func(ctx context.Context, tx pgx.Tx) error { return insertParked(ctx, tx, "anna") }}
	log = nil
	require.Error(t, db.Several(ctx, []pg.Part{part("", 3), part("anna", 3), foreign}), "the system's rights end with its part")
	require.NotContains(t, log, "after anna")
	require.NoError(t, db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := count(ctx, tx, "parked_event")
		require.Equal(t, 3, n, "all parts or none")
		return err
	}))
	refuse, log = errors.New("the disk was full"), nil
	require.ErrorIs(t, db.Several(ctx, []pg.Part{part("anna", 3), part("bruno", 2)}), refuse)
	require.Equal(t, []string{"before anna", "before bruno", "join anna"}, log, "what was begun in a part has to have ended well")
}

func TestAPanicRollsBackAndGivesTheConnectionBack(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	ctx := t.Context()
	require.PanicsWithValue(t, "boom", func() {
		_ = db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
			require.NoError(t, insertParked(ctx, tx, "anna"))
			panic("boom")
		})
	})
	require.Zero(t, db.Pool().Stat().AcquiredConns())
	require.NoError(t, db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := count(ctx, tx, "parked_event")
		require.Zero(t, n)
		return err
	}))
}

func TestACancelledCallerRollsBack(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Tx(ctx, "anna", func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, insertParked(ctx, tx, "anna"))
		cancel()
		return nil
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Eventually(t, func() bool { return db.Pool().Stat().AcquiredConns() == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestPingSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	require.NoError(t, db.Ping(t.Context()))

	cfg := db.Config()
	cfg.Schema = "no_such_schema"
	other, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer other.Close()
	err = other.Ping(t.Context())
	require.Equal(t, "SCHEMA_MISSING", fault.Of(err).Code, "%v", err)
	require.Contains(t, err.Error(), "ceralaccad migrate")

	cfg.URL = "postgres://nobody@127.0.0.1:1/none?sslmode=disable"
	cfg.Role = ""
	away, err := pg.Open(t.Context(), cfg)
	require.NoError(t, err)
	defer away.Close()
	require.True(t, pg.Away(away.Ping(t.Context())))
}

func TestOpenRefusesBadConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []pg.Config{
		{URL: "postgres://x", Schema: ""},
		{URL: "postgres://x", Schema: `a"b`},
		{URL: "postgres://x", Schema: "a", Role: "A; DROP"},
		{URL: "postgres://u:secret@h:notaport/", Schema: "a"},
	} {
		_, err := pg.Open(t.Context(), cfg)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestTimeIsWhatTheDatabaseKeeps(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.FixedZone("CEST", 7200))
	var back time.Time
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT $1::timestamptz`, pg.Time(at)).Scan(&back))
	require.True(t, back.Equal(pg.Time(at)))
	require.Equal(t, time.UTC, pg.Time(at).Location())
}

func TestUUIDsTravelAsBytes(t *testing.T) {
	t.Parallel()
	db := pgtest.Schema(t, service)
	id := uuid.New()
	ids := []uuid.UUID{uuid.New(), uuid.New()}
	var gotID uuid.UUID
	var gotIDs []uuid.UUID
	var text string
	var none *uuid.UUID
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT $1::uuid, $2::uuid[], $1::uuid::text, NULL::uuid`, id, ids).
		Scan(&gotID, &gotIDs, &text, &none))
	require.Equal(t, id, gotID)
	require.Equal(t, ids, gotIDs)
	require.Equal(t, id.String(), text)
	require.Nil(t, none)
	require.Error(t, db.Pool().QueryRow(t.Context(), `SELECT NULL::uuid`).Scan(&gotID))
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT $1::text`, id).Scan(&text))
	require.Equal(t, id.String(), text)
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT $1::uuid`, id.String()).Scan(&text))
	require.Equal(t, id.String(), text)
	rows, err := db.Pool().Query(t.Context(), `SELECT $1::uuid UNION ALL SELECT NULL`, id)
	require.NoError(t, err)
	values, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (any, error) {
		v, err := r.Values()
		return v[0], err
	})
	require.NoError(t, err)
	require.ElementsMatch(t, []any{id, nil}, values)
}
