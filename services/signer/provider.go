package signer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"time"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/arss"
	"ceralacca.dev/services/signer/internal/provider/csc"
	"ceralacca.dev/services/signer/internal/provider/soap"
	"ceralacca.dev/services/signer/internal/provider/sws"
)

// ProviderConfig is a provider of remote signatures.
type ProviderConfig struct {
	// Name is how credentials name it. It stays: credentials keep it.
	Name string `yaml:"name"`
	// Kind is arss (Aruba, Actalis), sws (Namirial) or csc (Cloud Signature Consortium API, versions 1 and 2).
	Kind string `yaml:"kind"`
	// Address is the URL of the service, as the contract has it: never that of a WSDL.
	Address string `yaml:"address"`
	// CAFile is the CA of the service's certificate; empty: the system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client certificate, where the provider asks for one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// IssuersFile holds the certificates of the CAs of the holders, PEM: ARSS and SWS give the holder's alone.
	IssuersFile string `yaml:"issuers_file"`
	// UserFile and PasswordFile hold our own account there, where the provider has such.
	UserFile     string `yaml:"user_file"`
	PasswordFile string `yaml:"password_file"`
	// Secret is the same account in Vault, instead of files: the path of a KV version 2 secret with the
	// fields user and password, below secret/data/signer/.
	Secret string `yaml:"secret"`
	// Login is how a csc provider lets us in with that account: basic (auth/login), oauth2client (user is the
	// client id) or external (password is the bearer token). Default: basic.
	Login string `yaml:"login"`
	// BindPasswords says that a csc provider binds the passwords that it sends to the digests.
	BindPasswords bool `yaml:"bind_passwords"`
	// Domain is the typeOtpAuth of an ARSS contract.
	Domain string `yaml:"domain"`
	// HSM is the typeHSM of an ARSS contract, usually COSIGN.
	HSM string `yaml:"hsm"`
	// AutomaticDomain and AutomaticOTP are the typeOtpAuth and the otpPwd (often dsign) of the automatic signatures of
	// an ARSS contract; empty: it has none.
	AutomaticDomain string `yaml:"automatic_domain"`
	AutomaticOTP    string `yaml:"automatic_otp"`
	// OTP are the ways in which holders of an ARSS contract get passwords: SMS, CALL, APP.
	OTP []string `yaml:"otp"`
	// Codes says what the provider's own error codes mean, from its manual: wrong, locked, unknown, disabled,
	// spent, account or busy. Codes that are nowhere explained are PROVIDER_UNDOCUMENTED.
	Codes map[string]string `yaml:"codes"`
	// Timeout of one call; default 20s.
	Timeout time.Duration `yaml:"timeout"`
	// Qualified states that it is a qualified trust service provider whose devices are QSCD. Signatures are
	// called qualified when this holds and the certificate says so too.
	Qualified bool `yaml:"qualified"`
}

const defaultProviderTimeout = 20 * time.Second

var (
	providerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)
	secretPath   = regexp.MustCompile(`^secret/data/signer/[A-Za-z0-9._-]+$`)
)

func (c *Config) validateProviders(bad func(when bool, path, format string, a ...any)) {
	seen := map[string]bool{}
	for i := range c.Providers {
		p, at := &c.Providers[i], fmt.Sprintf("providers[%d].", i)
		bad(!providerName.MatchString(p.Name), at+"name", "%q must be lower-case letters, digits and -, such as aruba", p.Name)
		bad(seen[p.Name], at+"name", "%q is there twice", p.Name)
		seen[p.Name] = true
		bad(!slices.Contains([]string{"arss", "sws", "csc"}, p.Kind), at+"kind", "%q must be arss, sws or csc", p.Kind)
		bad(!slices.Contains([]string{"", "basic", "oauth2client", "external"}, p.Login), at+"login", "%q must be basic, oauth2client or external", p.Login)
		bad(p.Kind == "csc" && p.UserFile == "" && p.Secret == "", at+"user_file", "is missing: a csc provider lets nobody in without an account")
		u, err := url.Parse(p.Address)
		bad(err != nil || u.Host == "" || u.Scheme != "https", at+"address", "%q is no https address: PINs and passwords go there", p.Address)
		bad((p.CertFile == "") != (p.KeyFile == ""), at+"key_file", "cert_file and key_file go together")
		bad((p.UserFile == "") != (p.PasswordFile == ""), at+"password_file", "user_file and password_file go together")
		bad(p.Secret != "" && p.UserFile != "", at+"secret", "secret and user_file are both set: keep one")
		bad(p.Secret != "" && !secretPath.MatchString(p.Secret), at+"secret", "%q must be secret/data/signer/NAME: the signer may read no other", p.Secret)
		bad(p.Timeout < 0 || p.Timeout > 5*time.Minute, at+"timeout", "must be at most 5m")
		bad(p.Kind == "arss" && p.Domain == "", at+"domain", "is missing: the typeOtpAuth of the contract")
		bad((p.AutomaticDomain == "") != (p.AutomaticOTP == ""), at+"automatic_otp", "automatic_domain and automatic_otp go together")
		bad(p.Kind != "arss" && p.AutomaticDomain != "", at+"automatic_domain", "is of ARSS alone")
		bad(p.Kind == "arss" && len(p.OTP) == 0 && p.AutomaticDomain == "", at+"otp", "is missing: how holders get passwords: SMS, CALL, APP (or automatic_domain: for automatic signatures there are none)")
		for _, kind := range p.OTP {
			bad(!slices.Contains([]string{"SMS", "CALL", "APP"}, kind), at+"otp", "%q must be SMS, CALL or APP", kind)
		}
		for code, meaning := range p.Codes {
			bad(!provider.Meaning(meaning).Valid(), at+"codes", "%s: %q must be wrong, locked, unknown, disabled, spent, account or busy", code, meaning)
		}
		if p.Timeout == 0 {
			p.Timeout = defaultProviderTimeout
		}
	}
}

// remote is a provider with what this installation knows of it.
type remote struct {
	provider.Guarded // behind the breaker

	cfg     ProviderConfig
	breaker *run.Breaker
	issuers []*x509.Certificate
}

// openProviders makes the clients. Each has its breaker, provider-<name>.
func openProviders(ctx context.Context, cfg []ProviderConfig, h *run.Host, vault *transit) (map[string]*remote, error) {
	out := map[string]*remote{}
	for _, c := range cfg {
		r := &remote{cfg: c, breaker: h.Breaker("provider-" + c.Name)}
		user, password, err := c.account(ctx, h, vault)
		if err != nil {
			return nil, err
		}
		if r.issuers, err = readIssuers(c.IssuersFile); err != nil {
			return nil, run.BadField("providers.issuers_file", "%v", err)
		}
		security, err := c.security()
		if err != nil {
			return nil, run.BadField("providers.ca_file", "%v", err)
		}
		inner, err := c.open(security, user, password, h.Now)
		if err != nil {
			return nil, err
		}
		r.Guarded = provider.Guard(inner, r.breaker)
		out[c.Name] = r
	}
	return out, nil
}

// open makes the client of one kind.
func (c *ProviderConfig) open(security *tls.Config, user, password string, now func() time.Time) (provider.Provider, error) {
	codes := provider.Codes{}
	for code, meaning := range c.Codes {
		codes[code] = provider.Meaning(meaning)
	}
	wire := soap.Client{HTTP: provider.NewHTTPClient(security, c.Timeout), Endpoint: c.Address}
	switch c.Kind {
	case "arss":
		var kinds []provider.OTPKind
		for _, k := range c.OTP {
			kinds = append(kinds, provider.OTPKind(k))
		}
		return arss.New(arss.Config{SOAP: wire, Domain: c.Domain, HSM: c.HSM, User: user, Password: password, OTP: kinds, AutomaticDomain: c.AutomaticDomain, AutomaticOTP: c.AutomaticOTP, Codes: codes, Now: now}), nil
	case "csc":
		remote := csc.Config{URL: c.Address, HTTP: wire.HTTP, BindPasswords: c.BindPasswords, Codes: codes, Now: now}
		switch c.Login {
		case "external":
			remote.Token = password
		case "oauth2client":
			remote.ClientID, remote.ClientSecret = user, password
		default:
			remote.User, remote.Password = user, password
		}
		return csc.New(remote), nil
	case "sws":
		return sws.New(sws.Config{SOAP: wire, Codes: codes, Now: now}), nil
	}
	return nil, run.BadField("providers.kind", "%q is no kind of provider", c.Kind)
}

// account reads our account at the provider, from files or from Vault.
func (c *ProviderConfig) account(ctx context.Context, h *run.Host, vault *transit) (user, password string, err error) {
	switch {
	case c.UserFile != "":
		if user, err = run.ReadSecret(c.UserFile); err != nil {
			return "", "", run.BadField("providers.user_file", "of provider %s: %v", c.Name, err)
		}
		if password, err = run.ReadSecret(c.PasswordFile); err != nil {
			return "", "", run.BadField("providers.password_file", "of provider %s: %v", c.Name, err)
		}
		return user, password, nil
	case c.Secret != "":
		err = h.Await(ctx, "the account of provider "+c.Name+" in Vault", "write user and password to "+c.Secret, func(ctx context.Context) error {
			user, password, err = vault.readAccount(ctx, c.Secret)
			return err
		})
		return user, password, err
	}
	return "", "", nil
}

func (c *ProviderConfig) security() (*tls.Config, error) {
	security := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		raw, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		security.RootCAs = x509.NewCertPool()
		if !security.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate, PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		security.Certificates = []tls.Certificate{pair}
	}
	return security, nil
}

func readIssuers(path string) ([]*x509.Certificate, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseCertificates(string(raw))
}

// remote finds a provider by name.
func (s *Service) remote(name string) (*remote, error) {
	if r := s.remotes[name]; r != nil {
		return r, nil
	}
	return nil, fault.Precondition("PROVIDER_NOT_CONFIGURED", "this installation has no provider %q (signer.providers)", name)
}

// ListProviders says which providers there are.
func (s *Service) ListProviders(context.Context, *signv1.ListProvidersRequest) (*signv1.ListProvidersResponse, error) {
	resp := &signv1.ListProvidersResponse{}
	for _, c := range s.cfg.Providers {
		resp.Providers = append(resp.Providers, &signv1.RemoteProvider{
			Name: c.Name, Kind: c.Kind, Qualified: c.Qualified, Breaker: s.remotes[c.Name].breaker.State().State,
		})
	}
	return resp, nil
}
