// Package signer owns signing credentials and what is signed with them: keys that live in Vault and
// never leave it, their certificates, and one signature per subject and document, verified before it
// is released.
//
// Persons sign with PIN and one-time password, bound to the documents that they were shown.
//
// It refuses keys that could be exported, certificates that are not for signing, and signatures that
// the certificate does not verify when the file is read back. It does not judge invoices, keep documents (the blob
// store does) or send anything anywhere. What it makes with keys in Vault is an advanced electronic
// signature: Vault is no QSCD, so it never calls one qualified.
package signer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

// Config is the section "signer".
type Config struct {
	// Vault holds the keys.
	Vault VaultConfig `yaml:"vault"`
	// Workers is how many jobs of signatures are worked at the same time.
	Workers int `yaml:"workers"`
	// Parallel is how many documents of one job or request are in hand at the same time: with four times vault.batch
	// the next calls to Vault are ready while two are under way.
	Parallel int `yaml:"parallel"`
	// JobSize is how many documents one job signs at most. They are recorded together.
	JobSize int `yaml:"job_size"`
	// Authorization says how persons authorize signatures.
	Authorization AuthorizationConfig `yaml:"authorization"`
	// TSA are the time-stamp authorities, in the order in which they are asked: the second is for when
	// the first gives no good stamp.
	TSA []TSAConfig `yaml:"tsa"`
	// Documents is about signatures on whole documents.
	Documents DocumentsConfig `yaml:"documents"`
	// Keys is about keys, their certificates and how long they are relied on.
	Keys KeysConfig `yaml:"keys"`
	// Providers hold keys outside the house: providers of remote signatures.
	Providers []ProviderConfig `yaml:"providers"`
	// Verification says by what files are judged that others signed.
	Verification VerificationConfig `yaml:"verification"`
	// CSC offers the credentials of persons through the API of the Cloud Signature Consortium.
	CSC CSCConfig `yaml:"csc"`
}

// AuthorizationConfig is about PINs, one-time passwords and challenges.
type AuthorizationConfig struct {
	// Issuer is the name under which an app shows the passwords.
	Issuer string `yaml:"issuer"`
	// Window is the time in which wrong attempts are counted together.
	Window time.Duration `yaml:"window"`
	// Lock is how long too many wrong attempts lock; twice as long each time, up to 64 times.
	Lock time.Duration `yaml:"lock"`
	// ChallengeTTL is how long a challenge waits for PIN and password.
	ChallengeTTL time.Duration `yaml:"challenge_ttl"`
	// AuthorizationTTL is how long an authorization waits for its use.
	AuthorizationTTL time.Duration `yaml:"authorization_ttl"`
	// SMS sends passwords by text message.
	SMS MessengerConfig `yaml:"sms"`
	// Email sends passwords by e-mail.
	Email MessengerConfig `yaml:"email"`
	// Push wakes the apps that approve; without it they ask by themselves.
	Push MessengerConfig `yaml:"push"`
	// Cooling is how long a device may not be used that took another one's place without a password of it.
	Cooling time.Duration `yaml:"cooling"`
	// PINPasses is how many times argon2id goes over its 7 MiB for a PIN: each costs some 3 ms of a processor. PINs that were
	// kept under another number are kept anew at their next right use.
	PINPasses int `yaml:"pin_passes"`
}

// VaultConfig says where Vault is and how the signer logs in. The policy it needs is
// deploy/vault/signer.hcl.
type VaultConfig struct {
	// Address is the URL, for example https://vault.internal:8200.
	Address string `yaml:"address"`
	// CAFile is the CA of Vault's certificate; empty: the system's.
	CAFile string `yaml:"ca_file"`
	// Namespace of Vault Enterprise or OpenBao; empty: none.
	Namespace string `yaml:"namespace"`
	// Transit is where the transit engine is mounted.
	Transit string `yaml:"transit_mount"`
	// TOTP is where the totp engine is mounted.
	TOTP string `yaml:"totp_mount"`
	// OATH is where the transit engine for the seeds of hardware tokens is mounted.
	OATH string `yaml:"oath_mount"`
	// AppRole is where the approle login is mounted.
	AppRole string `yaml:"approle_mount"`
	// RoleIDFile holds the role id of the AppRole.
	RoleIDFile string `yaml:"role_id_file"`
	// SecretIDFile holds the secret id of the AppRole. It is read at each login, so it can be replaced.
	SecretIDFile string `yaml:"secret_id_file"`
	// KubernetesRole logs in with the service account of the pod, as this role of Vault's kubernetes login, instead of an AppRole.
	KubernetesRole string `yaml:"kubernetes_role"`
	// Kubernetes is where the kubernetes login is mounted.
	Kubernetes string `yaml:"kubernetes_mount"`
	// KubernetesTokenFile holds the token of the service account, where it is not at Kubernetes' own place
	// (/var/run/secrets/kubernetes.io/serviceaccount/token). It is read at each login.
	KubernetesTokenFile string `yaml:"kubernetes_token_file"`
	// TokenFile holds a token, instead of role_id_file and secret_id_file: for development.
	TokenFile string `yaml:"token_file"`
	// Timeout of one call to Vault.
	Timeout time.Duration `yaml:"timeout"`
	// Batch is how many digests travel in one call at most; more make no more signatures per second
	// and each waits longer.
	Batch int `yaml:"batch"`
	// InFlight is how many calls for one key are under way at the same time. Vault signs a batch in
	// one thread: two use two cores.
	InFlight int `yaml:"in_flight"`
}

// DefaultConfig is what holds where the file is silent.
func DefaultConfig() Config {
	return Config{
		Vault: VaultConfig{
			Transit: "transit", TOTP: "totp", OATH: "oath", AppRole: "approle", Kubernetes: "kubernetes",
			Timeout: 5 * time.Second, Batch: 16, InFlight: 2,
		},
		Workers: 4, Parallel: 64, JobSize: 32,
		Authorization: AuthorizationConfig{
			Issuer: "Ceralacca", Window: 15 * time.Minute, Lock: 15 * time.Minute,
			ChallengeTTL: 5 * time.Minute, AuthorizationTTL: 2 * time.Minute, Cooling: 24 * time.Hour, PINPasses: 5,
		},
		Documents:    DocumentsConfig{MaxSize: 64 << 20, MaxHeld: 256 << 20, StampsPerMonth: 1000},
		Keys:         KeysConfig{CheckEvery: time.Minute},
		Verification: defaultVerification(),
		CSC:          defaultCSC(),
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
	pod := v.KubernetesRole != ""
	bad(v.TokenFile == "" && !role && !pod, "vault.role_id_file", "is missing: name role_id_file and secret_id_file of an AppRole, or kubernetes_role in a cluster (or, for development, token_file)")
	bad(pod && (role || v.TokenFile != ""), "vault.kubernetes_role", "another login is set too: keep one way to log in")
	bad(pod && v.Kubernetes == "", "vault.kubernetes_mount", "cannot be empty")
	bad(v.TokenFile != "" && role, "vault.token_file", "token_file and role_id_file are both set: keep one way to log in")
	bad((v.RoleIDFile == "") != (v.SecretIDFile == ""), "vault.secret_id_file", "role_id_file and secret_id_file go together")
	bad(v.Transit == "" || v.TOTP == "" || v.OATH == "" || v.AppRole == "", "vault.transit_mount", "mounts cannot be empty")
	bad(v.Timeout <= 0, "vault.timeout", "must be more than 0s")
	bad(v.Batch < 1 || v.Batch > 500, "vault.batch", "must be between 1 and 500")
	bad(v.InFlight < 1 || v.InFlight > 64, "vault.in_flight", "must be between 1 and 64")
	bad(c.Workers < 1, "workers", "must be at least 1")
	bad(c.Parallel < 1, "parallel", "must be at least 1")
	bad(c.JobSize < 1 || c.JobSize > 1000, "job_size", "must be between 1 and 1000")
	a := c.Authorization
	bad(a.Issuer == "" || strings.ContainsAny(a.Issuer, ":/"), "authorization.issuer", "is a name without : and /, such as the one of your product")
	bad(a.Window < time.Minute, "authorization.window", "must be 1m at least: guesses would have a fresh start too often")
	bad(a.Lock < time.Second || a.Lock > 24*time.Hour, "authorization.lock", "must be between 1s and 24h")
	bad(a.ChallengeTTL < time.Second || a.ChallengeTTL > time.Hour, "authorization.challenge_ttl", "must be between 1s and 1h")
	bad(a.AuthorizationTTL < time.Second || a.AuthorizationTTL > 5*time.Minute, "authorization.authorization_ttl", "must be between 1s and 5m: an authorization is short-lived")
	bad(a.Cooling < 0 || a.Cooling > 30*24*time.Hour, "authorization.cooling", "must be between 0s and 720h")
	bad(a.PINPasses < 2 || a.PINPasses > 20, "authorization.pin_passes", "must be between 2 and 20")
	c.Keys.validate(bad)
	a.SMS.validate("authorization.sms", bad)
	a.Email.validate("authorization.email", bad)
	a.Push.validate("authorization.push", bad)
	c.validateStamps(bad)
	c.validateProviders(bad)
	c.Verification.validate(bad)
	c.CSC.validate(bad)
	return errors.Join(errs...)
}

// Service answers SignService, AuthorizationService and VerificationService, and signs what is promised.
type Service struct {
	signv1.UnimplementedSignServiceServer
	signv1.UnimplementedAuthorizationServiceServer
	signv1.UnimplementedVerificationServiceServer
	signv1.UnimplementedDocumentServiceServer
	signv1.UnimplementedDeviceServiceServer
	signv1.UnimplementedCredentialServiceServer
	signv1.UnimplementedSignatureRequestServiceServer
	signv1.UnimplementedProviderServiceServer

	verifier *verifier
	stamps   []*authority
	held     *holdings // documents that are in memory
	// messengers send passwords, by type of device.
	messengers map[string]*messenger
	requests   requestWakes
	// remotes hold keys outside the house, by name.
	remotes map[string]*remote
	// suspension of a tenant that holds now, or nil.
	suspension func(ctx context.Context, tenant string) (*auth.Suspension, error)

	db    *pg.DB
	bus   *bus.Bus
	jobs  *run.Jobs
	blobs blob.Store
	vault *transit
	ready *readyCredentials
	pins  *pinHasher
	log   *slog.Logger
	now   func() time.Time
	cfg   Config
}

// Target wires signer: it keeps credentials and signs accepted invoices and, for conservation,
// package indexes. It does not transmit or keep documents.
var Target = run.Target{Name: "signer", Start: start}

func start(ctx context.Context, h *run.Host) error {
	cfg := DefaultConfig()
	err := h.Config(&cfg)
	if err != nil {
		return err
	}
	vault, err := openTransit(cfg.Vault, h.Breaker("vault"), h.Log)
	if err != nil {
		return err
	}
	verifier, err := newVerifier(cfg.Verification, h.Now, h.Log)
	if err != nil {
		return err
	}
	stamps, err := openAuthorities(cfg.TSA, h)
	if err != nil {
		return err
	}
	messengers, err := openMessengers(cfg.Authorization, h)
	if err != nil {
		return err
	}
	remotes, err := openProviders(ctx, cfg.Providers, h, vault)
	if err != nil {
		return err
	}
	s := &Service{
		remotes: remotes, verifier: verifier, stamps: stamps, held: newHoldings(cfg.Documents), messengers: messengers, suspension: h.Suspension, db: h.DB, bus: h.Bus, jobs: h.Jobs, blobs: h.Blobs, vault: vault,
		ready: newReadyCredentials(vault, h.Now), pins: newPINHasher(), log: h.Log, now: h.Now, cfg: cfg,
	}
	signv1.RegisterSignServiceServer(h.RPC, s)
	signv1.RegisterAuthorizationServiceServer(h.RPC, s)
	signv1.RegisterVerificationServiceServer(h.RPC, s)
	signv1.RegisterDocumentServiceServer(h.RPC, s)
	s.offerCSC(h)
	signv1.RegisterDeviceServiceServer(h.RPC, s)
	signv1.RegisterCredentialServiceServer(h.RPC, s)
	signv1.RegisterSignatureRequestServiceServer(h.RPC, s)
	signv1.RegisterProviderServiceServer(h.RPC, s)
	bus.On(h.Bus, "intent", s.onInvoiceAccepted)
	bus.On(h.Bus, "destroyed", s.onUnitsDestroyed)
	bus.On(h.Bus, "condemned", s.onCopiesCondemned)
	run.Work(h, run.WorkOptions{Queue: "sign", Workers: cfg.Workers}, s.signNext)
	run.Work(h, run.WorkOptions{Queue: "credential", Workers: 1}, s.finishCredential)
	run.Work(h, run.WorkOptions{Queue: "otp", Workers: 1}, s.forgetDevice)
	run.Work(h, run.WorkOptions{Queue: "otp", Workers: 1}, s.forgetToken)
	run.Work(h, run.WorkOptions{Queue: "notice", Workers: 4}, s.tellHolder)
	run.Work(h, run.WorkOptions{Queue: "request", Workers: 2}, s.workTime)
	run.Work(h, run.WorkOptions{Queue: "request", Workers: 2, Timeout: 10 * time.Minute}, s.workBundle)
	h.Go("watched-requests", s.listenForRequests)
	h.Check("vault", vault.session.Check)
	h.Go("vault-session", vault.session.Keep)
	h.Go("credentials", s.watch)
	h.Go("certificates", s.watchCertificates)
	h.Go("sweep", s.sweep)
	h.Go("trusted-lists", func(ctx context.Context) error { return verifier.lists.Run(ctx, cfg.Verification.RefreshEvery) })
	return nil
}
