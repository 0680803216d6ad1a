package pg

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"ceralacca.dev/migrations"
)

// MigrateConfig says what to migrate. Only tests give a Schema that is not the service's own.
type MigrateConfig struct {
	URL     string // of a role that may create the schema, or that owns it already
	Service string // folder in migrations (hyphen and underscore are the same); bus/ alone when there is none
	Schema  string // default SchemaName(Service)
	Role    string // the service's role: created without password if missing, granted data, not ownership
	Log     *slog.Logger
	FS      fs.FS // default migrations.FS
}

// Migrate brings the schema of service up to date and grants role what a service needs in it, and
// nothing elsewhere. It is safe to run many times and at the same time: a session lock serialises.
func Migrate(ctx context.Context, adminURL, service, role string) error {
	return MigrateSchema(ctx, MigrateConfig{URL: adminURL, Service: service, Role: role})
}

// MigrateSchema is Migrate with all its choices: bus/*.sql (version table goose_bus), then
// <service>/*.sql (goose_service), then river's own, all in one schema.
func MigrateSchema(ctx context.Context, cfg MigrateConfig) (err error) {
	cfg.Schema = orDefault(cfg.Schema, SchemaName(cfg.Service))
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.FS == nil {
		cfg.FS = migrations.FS
	}
	if !identifier.MatchString(cfg.Schema) || (cfg.Role != "" && !identifier.MatchString(cfg.Role)) {
		return fmt.Errorf("pg: migrate: schema %q, role %q: want lower-case letters, digits and underscores", cfg.Schema, cfg.Role)
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return fmt.Errorf("pg: migrate: database url: %w", err)
	}
	pc.ConnConfig.RuntimeParams["search_path"] = cfg.Schema
	pc.ConnConfig.RuntimeParams["application_name"] = "migrate " + cfg.Schema
	pc.MaxConns = 3
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return fmt.Errorf("pg: migrate: %w", err)
	}
	defer pool.Close()

	lock, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("pg: migrate: %w", Error(err))
	}
	defer lock.Release()
	key := lockKey("migrate:" + cfg.Schema)
	_, err = lock.Exec(ctx, `SELECT pg_advisory_lock($1)`, key)
	if err != nil {
		return fmt.Errorf("pg: migrate: lock: %w", Error(err))
	}
	defer func() {
		_, unlockErr := lock.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, key)
		err = errors.Join(err, unlockErr)
	}()
	return cfg.apply(ctx, pool, lock.Conn())
}

func (cfg MigrateConfig) apply(ctx context.Context, pool *pgxpool.Pool, conn *pgx.Conn) error {
	err := cfg.ensure(ctx, conn)
	if err != nil {
		return err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close() // ends the database/sql view only; the pool is closed by its owner
	err = cfg.goose(ctx, db, migrations.Bus, "goose_bus")
	if err != nil {
		return err
	}
	if dir := serviceFolder(cfg.FS, cfg.Service); dir != "" {
		err = cfg.goose(ctx, db, dir, "goose_service")
		if err != nil {
			return err
		}
	}
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Schema: cfg.Schema, Logger: cfg.Log})
	if err != nil {
		return fmt.Errorf("pg: migrate %s: river: %w", cfg.Schema, err)
	}
	_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("pg: migrate %s: river: %w", cfg.Schema, Error(err))
	}
	err = cfg.lighten(ctx, conn)
	if err != nil {
		return err
	}
	return cfg.grant(ctx, conn)
}

// lighten takes from river's table what river itself never reads: two GIN indexes over the arguments and
// the metadata of jobs, for queries of people. They cost more than all else that is done for a job, which
// here lives for a tenth of a second.
func (cfg MigrateConfig) lighten(ctx context.Context, conn *pgx.Conn) error {
	for _, index := range []string{"river_job_args_index", "river_job_metadata_index"} {
		_, err := conn.Exec(ctx, `DROP INDEX IF EXISTS `+quote(cfg.Schema)+`.`+index)
		if err != nil {
			return fmt.Errorf("pg: migrate %s: %w", cfg.Schema, Error(err))
		}
	}
	_, err := conn.Exec(ctx, `ALTER TABLE `+quote(cfg.Schema)+`.river_job SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)`)
	if err != nil {
		return fmt.Errorf("pg: migrate %s: %w", cfg.Schema, Error(err))
	}
	return nil
}

// ensure creates schema and role when they are missing.
func (cfg MigrateConfig) ensure(ctx context.Context, conn *pgx.Conn) error {
	var schema, role bool
	err := conn.QueryRow(ctx, `SELECT to_regnamespace($1) IS NOT NULL, EXISTS (SELECT FROM pg_roles WHERE rolname = $2)`,
		cfg.Schema, cfg.Role).Scan(&schema, &role)
	if err != nil {
		return fmt.Errorf("pg: migrate %s: %w", cfg.Schema, Error(err))
	}
	if !schema {
		_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+quote(cfg.Schema))
		if err != nil {
			return fmt.Errorf("pg: migrate: create schema %s (or let an administrator create it for this role): %w", cfg.Schema, Error(err))
		}
	}
	if !role && cfg.Role != "" {
		_, err = conn.Exec(ctx, `CREATE ROLE `+quote(cfg.Role)+` LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS`)
		var pe *pgconn.PgError
		raced := errors.As(err, &pe) && (pe.Code == "42710" || pe.Code == "23505") // roles are cluster-wide: another migration was first
		if err != nil && !raced {
			return fmt.Errorf("pg: migrate: create role %s (or let an administrator create it): %w", cfg.Role, Error(err))
		}
	}
	return nil
}

func (cfg MigrateConfig) goose(ctx context.Context, db *sql.DB, dir, table string) error {
	sub, err := fs.Sub(cfg.FS, dir)
	if err != nil {
		return fmt.Errorf("pg: migrate %s: folder %s: %w", cfg.Schema, dir, err)
	}
	// The version table is named with its schema: goose looks for it in pg_tables by name.
	p, err := goose.NewProvider(goose.DialectPostgres, db, sub,
		goose.WithTableName(cfg.Schema+"."+table), goose.WithDisableGlobalRegistry(true), goose.WithSlog(cfg.Log))
	if errors.Is(err, goose.ErrNoMigrations) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pg: migrate %s: folder %s: %w", cfg.Schema, dir, err)
	}
	_, err = p.Up(ctx)
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Failed != nil {
		return fmt.Errorf("pg: migrate %s: %s/%s: %w", cfg.Schema, dir, partial.Failed.Source.Path, Error(err))
	}
	if err != nil {
		return fmt.Errorf("pg: migrate %s: %w", cfg.Schema, Error(err))
	}
	return nil
}

// grant gives the role data in this schema: no DDL, no ownership, no change to audit records.
func (cfg MigrateConfig) grant(ctx context.Context, conn *pgx.Conn) error {
	if cfg.Role == "" {
		return nil
	}
	s, r := quote(cfg.Schema), quote(cfg.Role)
	_, err := conn.Exec(ctx, `BEGIN;
		REVOKE ALL ON SCHEMA `+s+` FROM PUBLIC;
		GRANT USAGE ON SCHEMA `+s+` TO `+r+`;
		GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA `+s+` TO `+r+`;
		GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA `+s+` TO `+r+`;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA `+s+` TO `+r+`;
		REVOKE UPDATE, DELETE, TRUNCATE ON `+s+`.audit_entry FROM `+r+`;
		REVOKE INSERT, UPDATE, DELETE ON `+s+`.goose_bus FROM `+r+`;
		COMMIT`)
	if err != nil {
		_, rbErr := conn.Exec(context.WithoutCancel(ctx), `ROLLBACK`)
		return fmt.Errorf("pg: migrate: grants on schema %s to role %s: %w", cfg.Schema, cfg.Role, errors.Join(Error(err), rbErr))
	}
	return nil
}

// serviceFolder finds the folder of a service, written with hyphens or underscores; empty if none.
func serviceFolder(fsys fs.FS, service string) string {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.IsDir() && e.Name() != migrations.Bus && SchemaName(e.Name()) == SchemaName(service) {
			return e.Name()
		}
	}
	return ""
}

func quote(ident string) string { return pgx.Identifier{ident}.Sanitize() }

// lockKey turns a name into the number of an advisory lock.
func lockKey(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return int64(h.Sum64()) //nolint:gosec // any 64 bits will do
}
