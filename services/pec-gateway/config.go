package pecgateway

import (
	"errors"
	"net"
	"slices"
	"time"

	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/vault"
)

// Config of the pec-gateway.
type Config struct {
	// Vault is where the passwords of the mailboxes are kept.
	Vault VaultConfig `yaml:"vault"`
	// CAFile holds authorities of the providers' servers beside the system's, PEM. Empty in production.
	CAFile string `yaml:"ca_file"`
	// AllowNetworks are networks (CIDR) whose servers may be named although they are not public, for example
	// 127.0.0.0/8 in development. Empty in production.
	AllowNetworks []string `yaml:"allow_networks"`
	// PollEvery is the pause between two looks into a mailbox; over IMAP new mail is announced in between.
	PollEvery time.Duration `yaml:"poll_every"`
	// IdleFor is how long one wait for announcements lasts before it is renewed: providers cut longer ones.
	IdleFor time.Duration `yaml:"idle_for"`
	// SessionFor is after how long a mailbox that is read over IMAP is logged into anew: many servers let an open session live on
	// that they would not let in any more, and nobody would know of a changed password.
	SessionFor time.Duration `yaml:"session_for"`
	// RetryEvery is the first pause after a visit that failed; it doubles up to retry_most.
	RetryEvery time.Duration `yaml:"retry_every"`
	// RetryMost is the longest pause after visits that failed.
	RetryMost time.Duration `yaml:"retry_most"`
	// LoginRetry is the pause after a visit whose login was refused; providers lock mailboxes after a few.
	LoginRetry time.Duration `yaml:"login_retry"`
	// Timeout is how long a provider's server may be silent before the connection is given up.
	Timeout time.Duration `yaml:"timeout"`
	// Lease is how long a replica presides over a mailbox without a sign of life before another takes over.
	Lease time.Duration `yaml:"lease"`
	// Mailboxes is how many mailboxes one replica presides over at most; each costs a connection.
	Mailboxes int `yaml:"mailboxes"`
	// Workers is how many messages are read and verified at the same time, over all mailboxes.
	Workers int `yaml:"workers"`
	// MaxMessage is the largest message in bytes that is read; larger ones are archived unread.
	MaxMessage int64 `yaml:"max_message"`
	// SentFolders are the names of the folder of what was sent, where a server marks none as such (RFC 6154), at the top or in the
	// INBOX: what stands in it was not received.
	SentFolders []string `yaml:"sent_folders"`
	// ReceiptsFile adds to what is known of receipts that mean something else with single providers, JSON as in receipts.json.
	ReceiptsFile string `yaml:"receipts_file"`
	// Sending is how messages leave.
	Sending SendingConfig `yaml:"sending"`
	// Desk is when notices, days to hand over and dates that come near are looked at.
	Desk DeskConfig `yaml:"desk"`
	// Revocation is how lists of revoked certificates are fetched.
	Revocation RevocationConfig `yaml:"revocation"`
	// Archive is how kept messages are read again, to find those that are damaged.
	Archive ArchiveConfig `yaml:"archive"`
	// Sandbox are the servers behind the preset sandbox, host:port; empty: there is no such preset.
	Sandbox SandboxConfig `yaml:"sandbox"`
}

// SendingConfig says how messages are handed to the providers.
type SendingConfig struct {
	// Workers is how many mailboxes one replica sends from at the same time.
	Workers int `yaml:"workers"`
	// AnswerTimeout is how long the answer to a whole message is awaited; then its outcome is unknown.
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// UnknownAfter is how long receipts are awaited for a message whose outcome is unknown before somebody is asked.
	UnknownAfter time.Duration `yaml:"unknown_after"`
	// GiveUpAfter is how long a message that nobody took is tried again.
	GiveUpAfter time.Duration `yaml:"give_up_after"`
	// RetryEvery is the first pause after a message was not taken; it doubles up to retry_most.
	RetryEvery time.Duration `yaml:"retry_every"`
	// RetryMost is the longest pause.
	RetryMost time.Duration `yaml:"retry_most"`
	// LoginRetry is the pause after a refused login; providers lock mailboxes after a few.
	LoginRetry time.Duration `yaml:"login_retry"`
	// HeldRetry is the pause while a mailbox is suspended or its server cannot be trusted.
	HeldRetry time.Duration `yaml:"held_retry"`
	// RateWindow is the minute of the providers' limits, a little longer: clocks differ.
	RateWindow time.Duration `yaml:"rate_window"`
	// AcceptanceAfter is how long an acceptance may take before somebody is told.
	AcceptanceAfter time.Duration `yaml:"acceptance_after"`
	// LookEvery is how often messages are looked at of which time says something new: acceptances, deliveries and notices
	// that are overdue.
	LookEvery time.Duration `yaml:"look_every"`
	// Lease is how long one job may hand over messages of a mailbox without a sign of life; longer than answer_timeout.
	Lease time.Duration `yaml:"lease"`
	// Hello is this machine's name in EHLO; empty: an address literal.
	Hello string `yaml:"hello"`
	// LimitsFile adds to the limits of providers that the program brings, JSON as in limits.json.
	LimitsFile string `yaml:"limits_file"`
}

// SandboxConfig names the servers of a simulated provider, for development.
type SandboxConfig struct {
	// IMAP is the server for reading, host:port.
	IMAP string `yaml:"imap"`
	// POP3 is the server for reading without IMAP, host:port.
	POP3 string `yaml:"pop3"`
	// SMTP is the server for sending, host:port.
	SMTP string `yaml:"smtp"`
}

// VaultConfig says where Vault is and how the pec-gateway logs in. The policy it needs is
// deploy/vault/pec-gateway.hcl.
type VaultConfig struct {
	// Address is the URL, for example https://vault.internal:8200.
	Address string `yaml:"address"`
	// CAFile is the CA of Vault's certificate; empty: the system's.
	CAFile string `yaml:"ca_file"`
	// Namespace of Vault Enterprise or OpenBao; empty: none.
	Namespace string `yaml:"namespace"`
	// KV is where the key-value engine (version 2) is mounted.
	KV string `yaml:"kv_mount"`
	// AppRole is where the approle login is mounted.
	AppRole string `yaml:"approle_mount"`
	// RoleIDFile holds the role id of the AppRole.
	RoleIDFile string `yaml:"role_id_file"`
	// SecretIDFile holds the secret id of the AppRole. It is read at each login, so it can be replaced.
	SecretIDFile string `yaml:"secret_id_file"`
	// TokenFile holds a token, instead of role_id_file and secret_id_file: for development.
	TokenFile string `yaml:"token_file"`
	// Timeout of one call to Vault.
	Timeout time.Duration `yaml:"timeout"`
}

func defaultConfig() Config {
	return Config{
		Vault:     VaultConfig{KV: "secret", AppRole: "approle", Timeout: 5 * time.Second},
		PollEvery: time.Minute, IdleFor: 20 * time.Minute, SessionFor: time.Hour, RetryEvery: 30 * time.Second, RetryMost: 15 * time.Minute, LoginRetry: 40 * time.Minute,
		Timeout: time.Minute, Lease: 30 * time.Second, Mailboxes: 500, Workers: 4, MaxMessage: 200 << 20,
		SentFolders: []string{"Sent", "Sent Items", "Sent Messages", "Posta inviata", "Inviata", "Inviati", "Elementi inviati"},
		Desk:        defaultDesk(), Revocation: defaultRevocation(), Archive: defaultArchive(),
		// spec: RFC5321 §4.5.3.2.6: ten minutes for the answer to the final dot
		Sending: SendingConfig{
			Workers: 8, AnswerTimeout: 10 * time.Minute, UnknownAfter: 30 * time.Minute, GiveUpAfter: 48 * time.Hour, RetryEvery: 30 * time.Second,
			RetryMost: 30 * time.Minute, LoginRetry: 40 * time.Minute, HeldRetry: 30 * time.Minute, RateWindow: 65 * time.Second, Lease: 20 * time.Minute,
			AcceptanceAfter: 2 * time.Hour, LookEvery: time.Minute,
		},
	}
}

// Validate says what cannot work, by key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(when bool, path, format string, a ...any) {
		if when {
			errs = append(errs, run.BadField(path, format, a...))
		}
	}
	v := c.Vault
	role := v.RoleIDFile != "" || v.SecretIDFile != ""
	bad(v.Address == "", "vault.address", "is missing: the URL of Vault, for example https://vault.internal:8200")
	bad(v.TokenFile == "" && !role, "vault.role_id_file", "is missing: name role_id_file and secret_id_file of an AppRole (or, for development, token_file)")
	bad(v.TokenFile != "" && role, "vault.token_file", "token_file and role_id_file are both set: keep one way to log in")
	bad((v.RoleIDFile == "") != (v.SecretIDFile == ""), "vault.secret_id_file", "role_id_file and secret_id_file go together")
	bad(v.KV == "" || v.AppRole == "", "vault.kv_mount", "mounts cannot be empty")
	bad(v.Timeout <= 0, "vault.timeout", "must be more than 0s")
	bad(c.PollEvery < 10*time.Millisecond, "poll_every", "%s is too short: use 1s to 1h, for example 1m", c.PollEvery)
	// spec: RFC2177 §3: servers may log out a client that waits for 30 minutes
	bad(c.IdleFor < time.Second || c.IdleFor > 28*time.Minute, "idle_for", "%s is out of range: use 1s to 28m, for example 20m", c.IdleFor)
	bad(c.SessionFor < 100*time.Millisecond, "session_for", "%s is too short: use 5m to 24h, for example 1h", c.SessionFor)
	bad(c.RetryEvery <= 0 || c.RetryMost < c.RetryEvery, "retry_every", "must be more than 0s and at most retry_most")
	bad(c.LoginRetry <= 0, "login_retry", "must be more than 0s")
	bad(c.Timeout < 100*time.Millisecond, "timeout", "%s is too short: use 10s to 5m, for example 1m", c.Timeout)
	bad(c.Lease < 100*time.Millisecond, "lease", "%s is too short: use 10s to 5m, for example 30s", c.Lease)
	bad(c.Mailboxes < 1 || c.Mailboxes > 10000, "mailboxes", "must be between 1 and 10000")
	bad(c.Workers < 1 || c.Workers > 256, "workers", "must be between 1 and 256")
	bad(c.MaxMessage < 1<<20, "max_message", "must be 1048576 at least: receipts with their originals are larger than that")
	bad(slices.Contains(c.SentFolders, ""), "sent_folders", "an empty name is none of a folder")
	d := c.Sending
	bad(d.Workers < 1 || d.Workers > 256, "sending.workers", "must be between 1 and 256")
	bad(d.AnswerTimeout < 100*time.Millisecond, "sending.answer_timeout", "%s is too short: use 1m to 10m", d.AnswerTimeout)
	bad(d.Lease <= d.AnswerTimeout, "sending.lease", "%s has to be longer than answer_timeout (%s)", d.Lease, d.AnswerTimeout)
	bad(d.UnknownAfter <= 0 || d.GiveUpAfter <= 0, "sending.unknown_after", "unknown_after and give_up_after must be more than 0s")
	bad(d.RetryEvery <= 0 || d.RetryMost < d.RetryEvery, "sending.retry_every", "must be more than 0s and at most retry_most")
	bad(d.LoginRetry <= 0 || d.HeldRetry <= 0, "sending.login_retry", "login_retry and held_retry must be more than 0s")
	bad(d.AcceptanceAfter < time.Minute, "sending.acceptance_after", "%s is too short: use 15m to 12h, for example 2h", d.AcceptanceAfter)
	bad(d.LookEvery < 10*time.Millisecond, "sending.look_every", "%s is too short: use 10s to 10m, for example 1m", d.LookEvery)
	bad(d.RateWindow < time.Minute, "sending.rate_window", "%s is too short: a minute at least, for example 65s", d.RateWindow)
	c.Desk.check(bad)
	c.Revocation.check(bad)
	c.Archive.check(bad)
	for key, addr := range map[string]string{"sandbox.imap": c.Sandbox.IMAP, "sandbox.pop3": c.Sandbox.POP3, "sandbox.smtp": c.Sandbox.SMTP} {
		if addr != "" {
			_, _, err := net.SplitHostPort(addr)
			bad(err != nil, key, "%q is no host:port", addr)
		}
	}
	return errors.Join(errs...)
}

// session is what internal/vault logs in with.
func (v VaultConfig) session() vault.Config {
	return vault.Config{
		Address: v.Address, CAFile: v.CAFile, Namespace: v.Namespace, AppRole: v.AppRole,
		RoleIDFile: v.RoleIDFile, SecretIDFile: v.SecretIDFile, TokenFile: v.TokenFile, Timeout: v.Timeout,
	}
}
