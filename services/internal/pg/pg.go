// Package pg owns the way to PostgreSQL: one pool bound to one schema and one role, transactions
// that carry a tenant, migrations, and the mapping of database errors to faults.
//
// It refuses statements of its own about anybody's tables, and transactions that do not say for
// whom they run.
package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"ceralacca.dev/services/internal/fault"
)

// Config says which database, as whom and how patiently.
type Config struct {
	URL    string // postgres:// URL or key=value DSN; required
	Schema string // the service's schema; the only one in search_path; required
	// Role is taken on by each session after login. Empty: the login role of the URL is the
	// service's own role, as in production.
	Role string

	MaxConns int32 // default 8
	MinConns int32 // connections kept ready; default 0

	LockTimeout      time.Duration // wait for a row or table lock; default 5 s
	StatementTimeout time.Duration // one statement; default 30 s
	IdleInTxTimeout  time.Duration // an open transaction that does nothing; default 60 s

	ApplicationName string // shown in pg_stat_activity; default: the schema
	TraceQueries    bool   // a span for each statement: for hunting, it costs CPU

	// AsyncCommit answers commits before they are on disk. For bookkeeping only that may forget its last
	// moments when the database server itself crashes.
	AsyncCommit bool
	Log         *slog.Logger
}

// DB is a pool bound to one schema and one role.
type DB struct {
	pool   *pgxpool.Pool
	cfg    Config
	schema string
}

var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

// SchemaName is the schema of a service: its name with underscores ("sdi-gateway" -> "sdi_gateway").
func SchemaName(service string) string { return strings.ReplaceAll(service, "-", "_") }

// Open makes the pool. It does not wait for the database: Ping does, so that a process can start
// and report what is missing.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	pc, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("pg: pool for schema %s: %w", cfg.Schema, err)
	}
	return &DB{pool: pool, cfg: cfg, schema: cfg.Schema}, nil
}

// CheckURL tells what is wrong with a database URL, the certificates that it names included. Nothing is contacted.
func CheckURL(url string) error {
	_, err := pgx.ParseConfig(url)
	return err // pgx hides the password in it
}

func (cfg Config) pool() (*pgxpool.Config, error) {
	if !identifier.MatchString(cfg.Schema) {
		return nil, fmt.Errorf("pg: schema %q: want lower-case letters, digits and underscores", cfg.Schema)
	}
	if cfg.Role != "" && !identifier.MatchString(cfg.Role) {
		return nil, fmt.Errorf("pg: role %q: want lower-case letters, digits and underscores", cfg.Role)
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("pg: database url: %w", err) // pgx hides the password in this error
	}
	pc.MaxConns, pc.MinConns = orDefault(cfg.MaxConns, 8), cfg.MinConns
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.HealthCheckPeriod = 15 * time.Second
	// Idle connections are pinged before use only after they rested, so that a restarted server
	// costs one retry and not each statement a round trip.
	pc.PingTimeout = 5 * time.Second
	p := pc.ConnConfig.RuntimeParams
	p["search_path"] = cfg.Schema
	p["application_name"] = orDefault(cfg.ApplicationName, cfg.Schema)
	p["lock_timeout"] = millis(orDefault(cfg.LockTimeout, 5*time.Second))
	p["statement_timeout"] = millis(orDefault(cfg.StatementTimeout, 30*time.Second))
	p["idle_in_transaction_session_timeout"] = millis(orDefault(cfg.IdleInTxTimeout, time.Minute))
	p["timezone"] = "UTC"
	if cfg.AsyncCommit {
		p["synchronous_commit"] = "off"
	}
	if cfg.Role != "" {
		p["role"] = cfg.Role
	}
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pc.AfterConnect = registerUUID
	if cfg.TraceQueries {
		pc.ConnConfig.Tracer = otelpgx.NewTracer()
	}
	return pc, nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// Close waits for the connections in use and closes the pool.
func (db *DB) Close() { db.pool.Close() }

// Pool is for what needs a pool itself, such as river. Statements on it carry no tenant, so
// row-level security shows them nothing that belongs to one.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Config is what the DB was opened with: for a second pool on the same schema.
func (db *DB) Config() Config { return db.cfg }

// Schema is the name of the schema the pool is bound to.
func (db *DB) Schema() string { return db.schema }

// Ping asks the database whether it answers and whether the schema is there; the fault says which
// of the two is missing.
func (db *DB) Ping(ctx context.Context) error {
	var found bool
	begin := time.Now()
	err := db.pool.QueryRow(ctx, `SELECT current_schema() IS NOT NULL`).Scan(&found)
	if errors.Is(err, context.DeadlineExceeded) {
		return db.silent(time.Since(begin), err)
	}
	if err != nil {
		return Error(err)
	}
	if !found {
		return fault.Precondition("SCHEMA_MISSING",
			"schema %q does not exist or its role may not use it: run `ceralaccad migrate`", db.schema)
	}
	return nil
}

// silent says who did not answer, what was waited for, and for how long.
func (db *DB) silent(waited time.Duration, err error) error {
	at := db.pool.Config().ConnConfig
	server := fmt.Sprintf("PostgreSQL at %s (database %s, user %s)", net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))), at.Database, at.User)
	waited = waited.Round(100 * time.Millisecond)
	if s := db.pool.Stat(); s.AcquiredConns() >= s.MaxConns() {
		return fault.Unavailable(CodeUnavailable,
			"none of the %d connections to %s became free within %s: statements hang there, or database.max_conns is too small", s.MaxConns(), server, waited).With(err)
	}
	return fault.Unavailable(CodeUnavailable, "%s gave no answer to a query within %s", server, waited).With(err)
}

// Dedicated opens a connection of its own outside the pool, with the same schema and role: for
// LISTEN and session locks. The caller closes it.
func (db *DB) Dedicated(ctx context.Context) (*pgx.Conn, error) {
	cc := db.pool.Config().ConnConfig
	delete(cc.RuntimeParams, "idle_in_transaction_session_timeout")
	conn, err := pgx.ConnectConfig(ctx, cc)
	if err != nil {
		return nil, Error(err)
	}
	return conn, registerUUID(ctx, conn)
}

// NewID makes a UUIDv7: unique, and ordered by time to the millisecond.
func NewID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("pg: new id: %w", err)
	}
	return id, nil
}

// Time gives t as the database keeps it: UTC, whole microseconds. Values compared or shown after
// a round trip are then equal.
func Time(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// ErrNoTenant is returned by Tx when the tenant is empty.
var ErrNoTenant = errors.New("pg: transaction without a tenant: use Tx with one, or System")
