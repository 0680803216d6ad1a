// Package vault keeps a service logged in to HashiCorp Vault and sorts what Vault answers into faults.
//
// It owns the login (AppRole, the service account of a Kubernetes pod, or a token file), its renewal, and one repeat with a fresh token when
// Vault has forgotten the old one. It refuses to know what is kept in Vault: engines and paths are the
// callers'.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"ceralacca.dev/services/internal/fault"
)

// Codes of what Vault can do to us. They are permanent.
const (
	CodeAway   = "VAULT_UNAVAILABLE" // does not answer, is sealed, or is a standby that cannot forward
	CodeDenied = "VAULT_DENIED"      // answers, and refuses: policy or login have to be mended
	CodeFailed = "VAULT_FAILED"      // answers with something else
)

// Config says where Vault is and how to log in.
type Config struct {
	Address   string // URL
	CAFile    string // of Vault's certificate; empty: the system's
	Namespace string
	AppRole   string // where the approle login is mounted
	// RoleIDFile and SecretIDFile of an AppRole, read at each login so that they can be replaced; or
	// TokenFile, for development.
	RoleIDFile, SecretIDFile, TokenFile string
	// Kubernetes is where that login is mounted; KubernetesRole the role to ask for, empty for another login;
	// KubernetesTokenFile the token of the service account, read at each login since the kubelet replaces it.
	Kubernetes, KubernetesRole, KubernetesTokenFile string
	Timeout                                         time.Duration // of one call
}

// Session is a client of Vault that stays logged in while Keep runs. Safe for concurrent use.
type Session struct {
	cfg    Config
	client *api.Client
	log    *slog.Logger

	mu      sync.Mutex // held while logging in: who comes second uses the token of the first
	renewIn time.Duration
	renew   bool
	wake    chan struct{}
}

// Open makes the client. It does not call Vault: the first Do logs in.
func Open(cfg Config, log *slog.Logger) (*Session, error) {
	client, err := dial(cfg)
	if err != nil {
		return nil, err
	}
	return &Session{cfg: cfg, client: client, log: log, wake: make(chan struct{}, 1)}, nil
}

// Client is the client itself, for calls inside Do.
func (s *Session) Client() *api.Client { return s.client }

// Do runs fn logged in. A token that Vault no longer takes is replaced once and fn repeated. what
// names the call in faults, which are VAULT_UNAVAILABLE (away, sealed, standby), VAULT_DENIED and
// VAULT_FAILED.
func (s *Session) Do(ctx context.Context, what string, fn func(ctx context.Context) (*api.Secret, error)) (*api.Secret, error) {
	token := s.client.Token()
	if token == "" {
		err := s.login(ctx, "")
		if err != nil {
			return nil, err
		}
		token = s.client.Token()
	}
	secret, err := fn(ctx)
	if denied(err) {
		loginErr := s.login(ctx, token)
		if loginErr != nil {
			return nil, loginErr
		}
		secret, err = fn(ctx)
	}
	return secret, Fault(what, err)
}

// Check is for readiness: Vault answers, unsealed, and knows us.
func (s *Session) Check(ctx context.Context) error {
	begin := time.Now()
	err := s.check(ctx)
	var late net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return fault.Unavailable(CodeAway, "Vault at %s gave no answer within %s", s.cfg.Address, time.Since(begin).Round(100*time.Millisecond)).With(err)
	}
	return err
}

func (s *Session) check(ctx context.Context) error {
	health, err := s.client.Sys().HealthWithContext(ctx)
	if err != nil {
		return Fault("the health check", err)
	}
	if !health.Initialized || health.Sealed {
		return fault.Unavailable(CodeAway, "Vault is sealed or not initialised: unseal it")
	}
	if s.client.Token() == "" {
		return s.login(ctx, "")
	}
	return nil
}

// dial makes a client of Vault without its own retries: callers retry, and it can be seen.
func dial(cfg Config) (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("vault: client: %w", config.Error)
	}
	config.Address, config.Timeout, config.MaxRetries = cfg.Address, cfg.Timeout, 0
	config.CheckRetry = func(context.Context, *http.Response, error) (bool, error) { return false, nil }
	if cfg.CAFile != "" {
		err := config.ConfigureTLS(&api.TLSConfig{CACert: cfg.CAFile})
		if err != nil {
			return nil, fmt.Errorf("vault: CA file: %w", err)
		}
	}
	if t, ok := config.HttpClient.Transport.(*http.Transport); ok {
		t.MaxIdleConnsPerHost = 32 // the default keeps three and makes a connection for each call beyond
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("vault: address: %w", err)
	}
	client.ClearToken() // VAULT_TOKEN and VAULT_NAMESPACE are for people's shells, not for services
	client.ClearNamespace()
	if cfg.Namespace != "" {
		client.SetNamespace(cfg.Namespace)
	}
	return client, nil
}

// Fault sorts what a call to Vault returned.
func Fault(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return fault.Unavailable(CodeAway, "Vault does not answer").With(fmt.Errorf("%s: %w", what, err))
	}
	switch code := answer.StatusCode; {
	case code == http.StatusForbidden || code == http.StatusUnauthorized:
		return fault.Internal(CodeDenied, "Vault refuses %s: check the policy and the login of this service", what).With(err)
	case code == http.StatusServiceUnavailable:
		return fault.Unavailable(CodeAway, "Vault is sealed or not ready").With(fmt.Errorf("%s: %w", what, err))
	case code == http.StatusTooManyRequests || code >= 500 || code == 472 || code == 473: // 472, 473: standbys
		return fault.Unavailable(CodeAway, "Vault cannot serve now").With(fmt.Errorf("%s: %w", what, err))
	}
	return fault.Internal(CodeFailed, "Vault answered HTTP %d to %s", answer.StatusCode, what).With(err)
}

// denied says whether Vault answered that the token may not.
func denied(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden
}

const (
	// renewAfter is the part of a token's life after which it is renewed.
	renewAfter = 2.0 / 3
	// retryLogin is the pause after a login that failed.
	retryLogin = 2 * time.Second
	// unlimited is how long the loop sleeps on a token without an end.
	unlimited = time.Hour
)

// login gets a token unless another goroutine replaced stale already.
func (s *Session) login(ctx context.Context, stale string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client.Token() != stale {
		return nil
	}
	if s.cfg.TokenFile != "" {
		token, err := readSecret(s.cfg.TokenFile)
		if err != nil {
			return fault.Internal(CodeDenied, "the token file cannot be read").With(err)
		}
		if token == stale {
			return fault.Internal(CodeDenied, "Vault refuses the token in %s", s.cfg.TokenFile)
		}
		s.client.SetToken(token)
		s.renewIn, s.renew = unlimited, false
		return nil
	}
	how, err := s.credentials()
	if err != nil {
		return err
	}
	// A login with an old token in its header is refused by some proxies: it goes out with none.
	anonymous, err := s.client.Clone()
	if err != nil {
		return fmt.Errorf("vault: client: %w", err)
	}
	anonymous.ClearToken()
	secret, err := anonymous.Logical().WriteWithContext(ctx, how.path, how.data)
	var answer *api.ResponseError
	if errors.As(err, &answer) && (answer.StatusCode == http.StatusBadRequest || answer.StatusCode == http.StatusForbidden) {
		return fault.Internal(CodeDenied, "Vault refuses the %s login: %s", how.name, how.mend).With(err)
	}
	if err != nil {
		return Fault("the "+how.name+" login", err)
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return fault.Internal(CodeFailed, "Vault answered the login without a token")
	}
	s.client.SetToken(secret.Auth.ClientToken)
	s.schedule(secret.Auth)
	return nil
}

// credentials are what a login sends, and where.
type credentials struct {
	name, path, mend string
	data             map[string]any
}

// credentials reads what the service logs in with. Vault paths: auth/<approle>/login (update),
// auth/<kubernetes>/login (update).
func (s *Session) credentials() (credentials, error) {
	if s.cfg.KubernetesRole != "" {
		token, err := readSecret(s.cfg.KubernetesTokenFile)
		if err != nil {
			return credentials{}, fault.Internal(CodeDenied, "the token of the service account cannot be read").With(err)
		}
		return credentials{
			name: "Kubernetes", path: "auth/" + s.cfg.Kubernetes + "/login", data: map[string]any{"role": s.cfg.KubernetesRole, "jwt": token},
			mend: "look at the service account and namespace that its role " + s.cfg.KubernetesRole + " is bound to",
		}, nil
	}
	roleID, err := readSecret(s.cfg.RoleIDFile)
	if err != nil {
		return credentials{}, fault.Internal(CodeDenied, "the role id file cannot be read").With(err)
	}
	secretID, err := readSecret(s.cfg.SecretIDFile)
	if err != nil {
		return credentials{}, fault.Internal(CodeDenied, "the secret id file cannot be read").With(err)
	}
	return credentials{
		name: "AppRole", path: "auth/" + s.cfg.AppRole + "/login", data: map[string]any{"role_id": roleID, "secret_id": secretID},
		mend: "make a new secret id and put it in " + s.cfg.SecretIDFile,
	}, nil
}

// schedule says when the token wants care; mu is held.
func (s *Session) schedule(auth *api.SecretAuth) {
	s.renewIn, s.renew = unlimited, auth.Renewable
	if auth.LeaseDuration > 0 {
		s.renewIn = time.Duration(float64(auth.LeaseDuration) * renewAfter * float64(time.Second))
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Keep logs in, renews the token before it ends and logs in again when it cannot be renewed, until
// ctx ends. Vault being away is no error: it is tried again.
func (s *Session) Keep(ctx context.Context) error {
	for {
		err := s.care(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "vault session", "code", fault.Of(err).Code, "error", err.Error())
		}
		if !s.rest(ctx, err != nil) {
			return nil
		}
	}
}

// rest waits until the token wants care again; false when ctx ended first.
func (s *Session) rest(ctx context.Context, failed bool) bool {
	for {
		pause := retryLogin
		if !failed {
			s.mu.Lock()
			pause = s.renewIn
			s.mu.Unlock()
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
			return true
		case <-s.wake: // there is a new token, with an end of its own
			timer.Stop()
			failed = false
		}
	}
}

// care renews the token, or logs in when there is none or it cannot be renewed.
// Vault paths: auth/token/renew-self (update).
func (s *Session) care(ctx context.Context) error {
	token := s.client.Token()
	s.mu.Lock()
	renewable := s.renew
	s.mu.Unlock()
	if token == "" || (!renewable && s.cfg.TokenFile == "") {
		return s.login(ctx, token)
	}
	if !renewable {
		return nil
	}
	secret, err := s.client.Auth().Token().RenewSelfWithContext(ctx, 0)
	if err != nil {
		if fault.Of(Fault("the renewal", err)).Kind == fault.KindUnavailable {
			return Fault("the renewal of the token", err)
		}
		return s.login(ctx, token)
	}
	if secret == nil || secret.Auth == nil {
		return s.login(ctx, token)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedule(secret.Auth)
	// Near its last end a token is renewed for less and less: then a new one is better.
	if s.renewIn < time.Second {
		s.renew = false
	}
	return nil
}

// readSecret reads a secret from its file, without the line end.
func readSecret(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("secret: %s is empty", path)
	}
	return secret, nil
}
