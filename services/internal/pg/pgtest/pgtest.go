// Package pgtest gives each test its own migrated schema on a real PostgreSQL. Schemas are pooled: a
// schema is migrated once (some 200 ms), leased to one test at a time, emptied and leased again (some
// milliseconds), by all test binaries of a run. It refuses to be used outside tests.
package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"ceralacca.dev/migrations"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/pg"
)

const (
	database = "ceralacca_pgtest"
	patience = 3 * time.Minute // the first test of a machine may have to install and start a server
)

// Schema opens a pool on a schema of service that no other test uses, as a role that is neither
// superuser nor owner, so that row-level security holds as in production. At the end of the test the
// pool is closed, and it is an error when connections were not given back.
func Schema(t testing.TB, service string) *pg.DB {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := connect(ctx)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	name, err := s.lease(ctx, service)
	if err != nil {
		t.Fatalf("pgtest: schema for %s: %v", service, err)
	}
	db, err := pg.Open(ctx, pg.Config{URL: s.url, Schema: name, Role: role(service), MaxConns: 12})
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		leaked := !closed(db)
		if leaked {
			t.Errorf("pgtest: the test ends but connections to schema %s are still in use", name)
		}
		s.giveBack(name, leaked)
	})
	return db
}

// Again opens one more pool on the schema of db, as a second process of the same service would.
func Again(t testing.TB, db *pg.DB) *pg.DB {
	t.Helper()
	again, err := pg.Open(context.Background(), db.Config())
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if !closed(again) {
			t.Errorf("pgtest: the test ends but connections to schema %s are still in use", db.Schema())
		}
	})
	return again
}

// Admin opens a superuser connection with the schema of db in its path: row-level security does not
// hold for it, so a test sees what is really there.
func Admin(t testing.TB, db *pg.DB) *pgx.Conn {
	t.Helper()
	ctx := context.Background()
	cc, err := pgx.ParseConfig(db.Config().URL)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	cc.RuntimeParams["search_path"] = db.Schema()
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

func closed(db *pg.DB) bool {
	done := make(chan struct{})
	go func() { db.Close(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

// role is one per service, not per schema: roles belong to the whole server.
func role(service string) string { return "pgtest_" + pg.SchemaName(service) }

// server is this process's way to the shared server. The connection holds the leases as session
// locks, so a test binary that is killed leaves none behind.
type server struct {
	url string
	// release is never called: the server is wanted until this process ends, and ending releases it.
	// It is kept because what it refers to would otherwise be collected, and collecting releases too.
	release func()

	mu     sync.Mutex
	conn   *pgx.Conn
	leased map[string]bool
	prefix map[string]string // service -> schema name without its number
}

var (
	connectMu sync.Mutex
	connected *server
)

func connect(ctx context.Context) (*server, error) {
	connectMu.Lock()
	defer connectMu.Unlock()
	if connected != nil {
		return connected, nil
	}
	admin, release, err := postgres.Shared(ctx)
	if err != nil {
		return nil, err
	}
	u, err := ensureDatabase(ctx, admin)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	connected = &server{url: u, release: release, conn: conn, leased: map[string]bool{}, prefix: map[string]string{}}
	return connected, nil
}

// ensureDatabase makes the database of the tests and gives its address.
func ensureDatabase(ctx context.Context, admin string) (string, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `CREATE DATABASE `+database)
	var exists bool
	if err != nil { // somebody made it before or at the same moment
		scanErr := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database).Scan(&exists)
		if scanErr != nil || !exists {
			return "", fmt.Errorf("create database %s: %w", database, err)
		}
	}
	u, err := url.Parse(admin)
	if err != nil || u.Scheme == "" {
		return admin + " dbname=" + database, nil //nolint:nilerr // a key=value DSN; the last dbname counts
	}
	u.Path = "/" + database
	return u.String(), nil
}

// lease finds the first schema of service that nobody holds, and makes it empty and up to date.
func (s *server) lease(ctx context.Context, service string) (string, error) {
	name, err := s.reserve(ctx, service)
	if err != nil {
		return "", err
	}
	clean, err := s.clean(ctx, name)
	if err == nil && !clean {
		err = pg.MigrateSchema(ctx, pg.MigrateConfig{URL: s.url, Service: service, Schema: name, Role: role(service)})
		if err == nil {
			err = s.seal(ctx, name)
		}
	}
	if err != nil {
		s.giveBack(name, true)
		return "", err
	}
	return name, nil
}

func (s *server) reserve(ctx context.Context, service string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prefix[service] == "" {
		p, err := prefix(service)
		if err != nil {
			return "", err
		}
		s.prefix[service] = p
	}
	for n := range 1000 {
		name := fmt.Sprintf("%s_%d", s.prefix[service], n)
		if s.leased[name] {
			continue
		}
		var ok bool
		err := s.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended($1, 7))`, name).Scan(&ok)
		if err != nil {
			return "", err
		}
		if ok {
			s.leased[name] = true
			return name, nil
		}
	}
	return "", fmt.Errorf("all schemas named %s_* are leased", s.prefix[service])
}

func (s *server) giveBack(name string, drop bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leased, name)
	if drop {
		// Whoever still works in it is ended by the loss of the tables; the next lease makes it anew.
		_, err := s.conn.Exec(ctx, `SET lock_timeout = '5s'; DROP SCHEMA IF EXISTS `+quote(name)+` CASCADE; RESET lock_timeout`)
		if err != nil {
			return // keep the lease: a schema in an unknown state is not lent again by this process
		}
	}
	_, _ = s.conn.Exec(ctx, `SELECT pg_advisory_unlock(hashtextextended($1, 7))`, name)
}

// sealed marks, as the schema's comment, a schema whose migrations ran to the end and left no rows, and says what is in it.
const sealed = "pgtest: migrated, empty, "

// shape is a digest of what is in a schema besides rows. A test may leave a function, a trigger or a table behind, or
// change a column: the next one to lease the schema must not meet it.
const shape = `SELECT md5(string_agg(part, ',' ORDER BY part)) FROM (
	SELECT concat_ws(' ', 'c', oid, relname, relrowsecurity, relforcerowsecurity) FROM pg_class WHERE relnamespace = to_regnamespace($1)
	UNION ALL SELECT concat_ws(' ', 'a', attrelid, attnum, attname, atttypid, attnotnull, atthasdef) FROM pg_attribute
		JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = to_regnamespace($1) AND relkind = 'r' AND attnum > 0
	UNION ALL SELECT concat_ws(' ', 'p', oid, proname, md5(prosrc)) FROM pg_proc WHERE pronamespace = to_regnamespace($1)
	UNION ALL SELECT concat_ws(' ', 't', t.oid, tgname, tgenabled) FROM pg_trigger t
		JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = to_regnamespace($1)
	UNION ALL SELECT concat_ws(' ', 'k', oid, conname) FROM pg_constraint WHERE connamespace = to_regnamespace($1)
	UNION ALL SELECT concat_ws(' ', 'l', l.oid, polname) FROM pg_policy l JOIN pg_class c ON c.oid = polrelid WHERE relnamespace = to_regnamespace($1)
) AS everything(part)`

func (s *server) shapeOf(ctx context.Context, name string) (digest string, err error) {
	err = s.conn.QueryRow(ctx, shape, name).Scan(&digest)
	return digest, err
}

// clean empties a sealed schema; false when there is none to empty.
func (s *server) clean(ctx context.Context, name string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var comment string
	err := s.conn.QueryRow(ctx, `SELECT coalesce(obj_description(to_regnamespace($1), 'pg_namespace'), '')`, name).Scan(&comment)
	if err != nil {
		return false, err
	}
	digest := ""
	if comment != "" {
		digest, err = s.shapeOf(ctx, name)
		if err != nil {
			return false, err
		}
	}
	if digest == "" || comment != sealed+digest {
		_, err = s.conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+quote(name)+` CASCADE`)
		return false, err
	}
	rows, err := s.conn.Query(ctx, `
		SELECT CASE WHEN pg_relation_size(c.oid) > 1000000
		            THEN format('TRUNCATE %s CASCADE', c.oid::regclass)
		            WHEN pg_relation_size(c.oid) > 0
		            THEN format('DELETE FROM %s', c.oid::regclass) END
		FROM pg_class c
		WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname <> ALL ($2)
		  AND pg_relation_size(c.oid) > 0
		UNION ALL
		SELECT format('SELECT setval(%L, %s, false)', quote_ident(schemaname) || '.' || quote_ident(sequencename), start_value)
		FROM pg_sequences WHERE schemaname = $1 AND last_value IS NOT NULL AND sequencename NOT LIKE 'goose\_%'`,
		name, versionTables)
	if err != nil {
		return false, err
	}
	stmts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(stmts) == 0 {
		return err == nil, err
	}
	// As replica, foreign keys and triggers sleep, so the order of tables does not matter.
	_, err = s.conn.Exec(ctx, "BEGIN; SET LOCAL session_replication_role = replica; "+strings.Join(stmts, "; ")+"; COMMIT")
	if err != nil {
		_, _ = s.conn.Exec(ctx, "ROLLBACK")
		return false, err
	}
	return true, nil
}

var versionTables = []string{"goose_bus", "goose_service", "river_migration"}

// seal marks the schema for reuse, unless its migrations put rows into tables: those would be lost
// by emptying, so such a schema is made anew for each test.
func (s *server) seal(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows, err := s.conn.Query(ctx, `
		SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname <> ALL ($2)
		  AND pg_relation_size(c.oid) > 0`, name, versionTables)
	if err != nil {
		return err
	}
	filled, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(filled) > 0 {
		return err
	}
	digest, err := s.shapeOf(ctx, name)
	if err != nil {
		return err
	}
	_, err = s.conn.Exec(ctx, `COMMENT ON SCHEMA `+quote(name)+` IS '`+sealed+digest+`'`)
	return err
}

// prefix names the schemas of a service by what its migrations say, so that a changed migration
// never meets a schema made by the old one.
func prefix(service string) (string, error) {
	h := sha256.New()
	for _, dir := range []string{migrations.Bus, service, pg.SchemaName(service)} {
		names, err := fs.Glob(migrations.FS, dir+"/*.sql")
		if err != nil {
			return "", err
		}
		for _, n := range names {
			raw, err := fs.ReadFile(migrations.FS, n)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(h, "%s %d\n", n, len(raw))
			h.Write(raw)
		}
	}
	m, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		return "", err
	}
	for _, v := range m.AllVersions() {
		fmt.Fprintf(h, "river %d %s", v.Version, v.SQLUp)
	}
	return "t_" + pg.SchemaName(service) + "_" + hex.EncodeToString(h.Sum(nil)[:4]), nil
}

func quote(ident string) string { return pgx.Identifier{ident}.Sanitize() }

// Between lets write commit between two reads of one call. table is what the call reads after something else: nobody
// may read it until read waits for it; then write, of the same transaction that holds the table, is committed and read
// goes on. What read shows has to be of one moment.
func Between(t testing.TB, db *pg.DB, table string, read func(), write ...string) {
	t.Helper()
	ctx := context.Background()
	conn := Admin(t, db)
	run := func(statement string) {
		_, err := conn.Exec(ctx, statement)
		if err != nil {
			t.Errorf("pgtest: %s: %v", statement, err)
		}
	}
	run(`BEGIN; LOCK TABLE ` + quote(table) + ` IN ACCESS EXCLUSIVE MODE`)
	done := make(chan struct{})
	go func() { defer close(done); read() }()
	for waiting := false; !waiting; {
		err := conn.QueryRow(ctx, `SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = $1::regclass`, quote(table)).Scan(&waiting)
		if err != nil {
			t.Errorf("pgtest: %v", err)
			break
		}
		select {
		case <-done:
			t.Errorf("pgtest: the call never read table %s", table)
			waiting = true
		case <-time.After(time.Millisecond):
		}
	}
	for _, statement := range write {
		run(statement)
	}
	run(`COMMIT`)
	<-done
}
