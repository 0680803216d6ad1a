package run

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"ceralacca.dev/services/internal/pg"
)

// Config is the part of the configuration file that every target shares. The
// file holds these sections and one section per target, under its name.
//
// In paths, URLs and roles {target} stands for the name of a target, {schema}
// for its database schema (the name with _ for -) and {role} for its role.
type Config struct {
	// Log says how and how much is logged, to standard error.
	Log LogConfig `yaml:"log"`
	// OTLP exports traces and metrics to a collector.
	OTLP OTLPConfig `yaml:"otlp"`
	// NATS is the event bus: an external server or an embedded one.
	NATS NATSConfig `yaml:"nats"`
	// Database is PostgreSQL: one schema and one role per target.
	Database DatabaseConfig `yaml:"database"`
	// Blob keeps documents: a folder or an S3 bucket.
	Blob BlobConfig `yaml:"blob"`
	// RPC is gRPC: where this process listens and where the others are.
	RPC RPCConfig `yaml:"rpc"`
	// HTTP serves the targets' web pages and callbacks, if any.
	HTTP HTTPConfig `yaml:"http"`
	// Admin serves health, readiness, metrics and profiles; not for the public.
	Admin AdminConfig `yaml:"admin"`
	// Auth says which credentials are accepted.
	Auth AuthConfig `yaml:"auth"`
	// Start is how patiently the process waits for what it depends on.
	Start StartConfig `yaml:"start"`
	// Breaker is for the circuit breakers on calls to the outside.
	Breaker BreakerConfig `yaml:"breaker"`
}

// LogConfig says how and how much is logged.
type LogConfig struct {
	// Level: debug, info, warn or error.
	Level string `yaml:"level"`
	// Format: json or text.
	Format string `yaml:"format"`
}

// OTLPConfig exports traces and metrics.
type OTLPConfig struct {
	// Endpoint is the URL of an OTLP/gRPC collector, for example
	// http://127.0.0.1:4317 (http means without TLS). Empty: nothing is exported.
	Endpoint string `yaml:"endpoint"`
	// SampleRatio of traces recorded when exporting, 0 to 1; 0 means all.
	SampleRatio float64 `yaml:"sample_ratio"`
}

// NATSConfig names the event bus. Either url or embedded.dir is needed.
type NATSConfig struct {
	// URL of an external NATS server with JetStream. Its durability is its
	// administrator's: set sync_interval: always there, or use three replicas
	// in separate failure domains, because the outbox forgets an event once
	// the server has acknowledged it.
	URL string `yaml:"url"`
	// CredsFile is a NATS credentials file (user JWT and seed), if the server wants one.
	CredsFile string `yaml:"creds_file"`
	// CertFile is the certificate by which a server that maps certificates to users (verify_and_map) knows this
	// process, PEM; {target} is the target, or ceralaccad in a process of several.
	CertFile string `yaml:"cert_file"`
	// KeyFile is its private key, PEM; {target} as in cert_file.
	KeyFile string `yaml:"key_file"`
	// CAFile is the CA of the server's certificate; empty: the system's.
	CAFile string `yaml:"ca_file"`
	// Replicas of each stream on an external cluster: 1, 3 or 5.
	Replicas int `yaml:"replicas"`
	// Embedded runs a NATS server inside this process. Only for a process
	// that hosts all targets.
	Embedded EmbeddedNATS `yaml:"embedded"`
}

// EmbeddedNATS is a NATS server inside the process.
type EmbeddedNATS struct {
	// Dir is where JetStream keeps its files. Every acknowledged event is on
	// disk (fsync) before the outbox forgets it.
	Dir string `yaml:"dir"`
	// Listen is an address for tools such as the nats CLI, for example
	// 127.0.0.1:4222. Empty: the server can be reached from this process only.
	Listen string `yaml:"listen"`
}

// DatabaseConfig names PostgreSQL.
type DatabaseConfig struct {
	// URL for each target, for example postgres://{role}@db.internal/ceralacca?sslmode=verify-full.
	URL string `yaml:"url"`
	// PasswordFile holds the password of the role, for example /run/secrets/{target}. Empty: the URL says it, or none is needed.
	PasswordFile string `yaml:"password_file"`
	// Role of each target.
	Role string `yaml:"role"`
	// AssumeRole logs in as the user of the URL and then takes on the role, for development with one login.
	AssumeRole bool `yaml:"assume_role"`
	// AdminURL is for migrations: a role that may create schemas and roles, or that owns the schemas.
	AdminURL string `yaml:"admin_url"`
	// AdminPasswordFile holds the password of the admin role.
	AdminPasswordFile string `yaml:"admin_password_file"`
	// MigrateAtStart brings the schemas up to date before serving, for development. In production `ceralaccad migrate` does it.
	MigrateAtStart bool `yaml:"migrate_at_start"`
	// MaxConns is the size of the pool of each target.
	MaxConns int32 `yaml:"max_conns"`
	// TraceQueries makes a span of each SQL statement: for hunting, it costs CPU.
	TraceQueries bool `yaml:"trace_queries"`
	// Targets overrides url, password_file and max_conns for single targets.
	Targets map[string]TargetDatabase `yaml:"targets"`
}

// TargetDatabase overrides the database of one target.
type TargetDatabase struct {
	// URL instead of database.url.
	URL string `yaml:"url"`
	// PasswordFile instead of database.password_file.
	PasswordFile string `yaml:"password_file"`
	// MaxConns instead of database.max_conns.
	MaxConns int32 `yaml:"max_conns"`
}

// BlobConfig names the store of documents. Exactly one of fs.dir and s3.bucket is needed.
type BlobConfig struct {
	// FS is a folder, which all processes must share.
	FS FSBlobConfig `yaml:"fs"`
	// S3 is a bucket of an S3-compatible store with conditional writes.
	S3 S3BlobConfig `yaml:"s3"`
}

// FSBlobConfig is a folder.
type FSBlobConfig struct {
	// Dir is created if missing.
	Dir string `yaml:"dir"`
}

// S3BlobConfig is a bucket.
type S3BlobConfig struct {
	// Endpoint is host:port, without scheme.
	Endpoint string `yaml:"endpoint"`
	// Bucket must exist.
	Bucket string `yaml:"bucket"`
	// Prefix of every key, for example ceralacca/.
	Prefix string `yaml:"prefix"`
	// Region; empty: asked from the store.
	Region string `yaml:"region"`
	// AccessKeyFile holds the access key id.
	AccessKeyFile string `yaml:"access_key_file"`
	// SecretKeyFile holds the secret access key.
	SecretKeyFile string `yaml:"secret_key_file"`
	// Insecure uses plain HTTP: for a store on the same machine only.
	Insecure bool `yaml:"insecure"`
}

// RPCConfig is gRPC between targets, and from clients.
type RPCConfig struct {
	// Listen address, for example 0.0.0.0:8443.
	Listen string `yaml:"listen"`
	// TLS names certificate, key and CA. Between targets both sides show
	// their certificate, whose common name is the target.
	TLS TLSConfig `yaml:"tls"`
	// Peers says where each target is that another process hosts: target name to host:port.
	Peers map[string]string `yaml:"peers"`
	// Timeout of calls to other targets that have no deadline of their own.
	Timeout time.Duration `yaml:"timeout"`
	// Deadline of calls from outside that come without one.
	Deadline time.Duration `yaml:"deadline"`
}

// TLSConfig names PEM files. They are read again when they change.
type TLSConfig struct {
	// Cert is the certificate, leaf first. Its names must include the target and what clients dial.
	Cert string `yaml:"cert_file"`
	// Key is the private key (PKCS #8).
	Key string `yaml:"key_file"`
	// CA signs the certificates of the targets.
	CA string `yaml:"ca_file"`
}

// HTTPConfig serves what targets registered on Host.HTTP.
type HTTPConfig struct {
	// Listen address. Empty: HTTP is not served.
	Listen string `yaml:"listen"`
	// TLS certificate and key; empty: plain HTTP, for use behind a proxy that ends TLS.
	CertFile string `yaml:"cert_file"`
	// KeyFile of the certificate.
	KeyFile string `yaml:"key_file"`
}

// AdminConfig is for probes, metrics and operators.
type AdminConfig struct {
	// Listen address: /healthz, /readyz, /metrics, /debug/pprof/, /breakers, /jobs, /config.
	Listen string `yaml:"listen"`
}

// AuthConfig says which credentials are accepted.
type AuthConfig struct {
	// KeyTTL is how long the answer about an API key is remembered; a revoked key works for at most as long.
	KeyTTL time.Duration `yaml:"key_ttl"`
	// OIDC accepts tokens of an identity provider.
	OIDC OIDCConfig `yaml:"oidc"`
}

// OIDCConfig names an OpenID Connect identity provider.
type OIDCConfig struct {
	// Issuer URL exactly as in the tokens. Empty: API keys only.
	Issuer string `yaml:"issuer"`
	// Audience that tokens must name.
	Audience string `yaml:"audience"`
	// TenantClaim holds the tenant id.
	TenantClaim string `yaml:"tenant_claim"`
	// ResellerClaim holds the reseller id.
	ResellerClaim string `yaml:"reseller_claim"`
	// RoleClaim holds operator, reseller or tenant.
	RoleClaim string `yaml:"role_claim"`
	// ScopeClaim holds the scopes: a space-separated string or a list.
	ScopeClaim string `yaml:"scope_claim"`
}

// StartConfig is patience.
type StartConfig struct {
	// Wait is how long NATS, PostgreSQL and other needs may be away at start before the process gives up.
	Wait time.Duration `yaml:"wait"`
	// Drain is how long running calls and jobs may take to finish at the end.
	Drain time.Duration `yaml:"drain"`
	// DrainDelay is how long the process is reported not ready before it stops listening, so that load balancers notice.
	DrainDelay time.Duration `yaml:"drain_delay"`
}

// BreakerConfig is for all circuit breakers.
type BreakerConfig struct {
	// Failures in a row that open a breaker.
	Failures uint32 `yaml:"failures"`
	// Open is how long an open breaker refuses calls before it lets one through.
	Open time.Duration `yaml:"open"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() Config {
	return Config{
		Log:      LogConfig{Level: "info", Format: "json"},
		NATS:     NATSConfig{Replicas: 1},
		Database: DatabaseConfig{Role: "ceralacca_{schema}", MaxConns: 8},
		RPC:      RPCConfig{Listen: "127.0.0.1:8443", Timeout: 10 * time.Second, Deadline: 30 * time.Second},
		Admin:    AdminConfig{Listen: "127.0.0.1:8081"},
		Auth:     AuthConfig{KeyTTL: 5 * time.Second},
		Start:    StartConfig{Wait: time.Minute, Drain: 20 * time.Second},
		Breaker:  BreakerConfig{Failures: 5, Open: 5 * time.Second},
	}
}

// mistakes are everything that cannot work, by key.
func (c *Config) mistakes() []*FieldError {
	var errs []*FieldError
	bad := func(when bool, path, format string, a ...any) {
		if when {
			errs = append(errs, &FieldError{Path: path, Message: fmt.Sprintf(format, a...)})
		}
	}
	bad(c.NATS.URL == "" && c.NATS.Embedded.Dir == "", "nats",
		"neither url nor embedded.dir is set: name a NATS server, or a folder for an embedded one")
	bad(c.NATS.URL != "" && c.NATS.Embedded.Dir != "", "nats.url", "url and embedded.dir are both set: keep one")
	bad((c.NATS.CertFile == "") != (c.NATS.KeyFile == ""), "nats.cert_file", "cert_file and key_file belong together: set both or neither")
	bad(c.NATS.Replicas != 1 && c.NATS.Replicas != 3 && c.NATS.Replicas != 5, "nats.replicas", "must be 1, 3 or 5")
	bad(c.NATS.Replicas != 1 && c.NATS.Embedded.Dir != "", "nats.replicas", "an embedded server has one replica")
	bad(c.Database.MigrateAtStart && c.Database.AdminURL == "", "database.migrate_at_start", "needs database.admin_url")
	bad(c.Database.MaxConns < 4, "database.max_conns", "must be at least 4: jobs and relay hold some for themselves")
	bad(c.Blob.FS.Dir == "" && c.Blob.S3.Bucket == "", "blob", "neither fs.dir nor s3.bucket is set: documents need a place")
	bad(c.Blob.FS.Dir != "" && c.Blob.S3.Bucket != "", "blob.s3.bucket", "fs.dir and s3.bucket are both set: keep one")
	bad(c.Blob.S3.Bucket != "" && c.Blob.S3.Endpoint == "", "blob.s3.endpoint", "is missing: host:port of the store")
	for name, path := range map[string]string{"cert_file": c.RPC.TLS.Cert, "key_file": c.RPC.TLS.Key, "ca_file": c.RPC.TLS.CA} {
		bad(path == "", "rpc.tls."+name, "is missing: targets talk over mutual TLS only")
	}
	for target, address := range c.RPC.Peers {
		bad(!isAddress(address), "rpc.peers."+target, "%q is not host:port", address)
	}
	bad((c.HTTP.CertFile == "") != (c.HTTP.KeyFile == ""), "http", "cert_file and key_file go together")
	bad(c.Admin.Listen == "", "admin.listen", "is missing: probes need it")
	bad(c.Auth.OIDC.Issuer != "" && c.Auth.OIDC.Audience == "", "auth.oidc.audience", "is missing: say for whom tokens must be")
	bad(c.Breaker.Failures == 0, "breaker.failures", "must be at least 1")
	bad(c.Breaker.Open <= 0, "breaker.open", "must be more than 0s")
	bad(c.Start.Wait < 0 || c.Start.Drain < 0 || c.Start.DrainDelay < 0, "start", "times cannot be negative")
	bad(c.OTLP.SampleRatio < 0 || c.OTLP.SampleRatio > 1, "otlp.sample_ratio", "must be between 0 and 1")
	return errs
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && port != ""
}

// fill replaces {target}, {schema} and {role}.
func (c DatabaseConfig) fill(text, target string) string {
	schema := pg.SchemaName(target)
	role := strings.NewReplacer("{target}", target, "{schema}", schema).Replace(c.Role)
	return strings.NewReplacer("{target}", target, "{schema}", schema, "{role}", role).Replace(text)
}

// forTarget is the URL with password, the role and the pool size of a target.
func (c DatabaseConfig) forTarget(target string) (dsn, role string, conns int32, err error) {
	conns = c.MaxConns
	if own := c.Targets[target].MaxConns; own != 0 {
		conns = own
	}
	dsn, key, err := c.dsn(target)
	if err != nil {
		return "", "", 0, BadField(key, "%v (for %s)", err, target)
	}
	return dsn, c.fill("{role}", target), conns, nil
}

// dsn is the URL with password of a target; key is the one to blame for an error.
func (c DatabaseConfig) dsn(target string) (dsn, key string, err error) {
	own := c.Targets[target]
	raw, urlKey := c.URL, "database.url"
	if own.URL != "" {
		raw, urlKey = own.URL, "database.targets."+target+".url"
	}
	file, fileKey := c.PasswordFile, "database.password_file"
	if own.PasswordFile != "" {
		file, fileKey = own.PasswordFile, "database.targets."+target+".password_file"
	}
	if raw == "" {
		return "", urlKey, errors.New("is missing: these targets keep their data in PostgreSQL, for example postgres://{role}@db.internal/ceralacca")
	}
	u, err := postgresURL(c.fill(raw, target))
	if err != nil || file == "" {
		return c.fill(raw, target), urlKey, err
	}
	dsn, err = withPassword(u, c.fill(file, target))
	if err != nil {
		return "", fileKey, err
	}
	return dsn, urlKey, nil
}

func postgresURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, errors.New("is not a URL of the form postgres://user@host:port/database")
	}
	return u, nil
}

// withPassword puts the content of a file into a URL.
func withPassword(u *url.URL, file string) (string, error) {
	if file == "" {
		return u.String(), nil
	}
	password, err := ReadSecret(file)
	if err != nil {
		return "", fmt.Errorf("cannot be used: %w", err)
	}
	if u.User == nil || u.User.Username() == "" {
		return "", fmt.Errorf("cannot be used: %s names no user for the password in %s", u.Redacted(), file)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), nil
}
