// Package csc signs with providers that speak the API of the Cloud Signature Consortium: version 2.0.0.2
// and version 1.0.4.0, which of the two they say in info. Methods that info does not list are not called;
// where both versions have a way to the same end, the other is taken.
//
// It refuses what cannot be done without a browser or a private key of the holder's: credentials of mode
// oauth2code, challenges that are a question to the holder, keys that sign RSASSA-PSS only.
package csc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	wire "ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc1"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/signer/internal/provider"
)

// Config of a client.
type Config struct {
	// URL is the base address, ending in /csc/v2 or /csc/v1 (that version, and no other) or before it:
	// then version 2 is asked for first.
	URL  string
	HTTP *http.Client // see provider.NewHTTPClient
	// Token is a bearer token that the provider gave us by another way (authType external). Or:
	Token string
	// User and Password get a token from auth/login (authType basic). Or:
	User, Password string
	// ClientID and ClientSecret get a token from oauth2/token (authType oauth2client).
	ClientID, ClientSecret string
	// BindPasswords says that the provider binds the passwords that it sends to the digests that are named
	// when they are asked for, as this platform does. Others pass over what they do not know, or should.
	BindPasswords bool
	// Codes are meanings of further errors: by code, or by description.
	Codes provider.Codes
	// Poll is how often an authorization that the holder gives elsewhere is asked for; 1s when not set.
	Poll time.Duration
	Now  func() time.Time
}

// Client is a provider.Provider.
type Client struct {
	cfg   Config
	codes provider.Codes

	mu     sync.Mutex
	server *server
	token  string
	until  time.Time
	known  map[string]*description // by credential
}

var _ provider.Provider = (*Client)(nil)

// server is what info says.
type server struct {
	base    string
	version int
	methods []string
	oauth2  string
}

func (s *server) has(method string) bool { return slices.Contains(s.methods, method) }

// codes of both versions, by code and by the text of the tables. spec: CSC-2.0.0.2 §11.6, §11.10; CSC-1.0.4.0 §11.6, §11.9
var codes = provider.Codes{
	wire.CodeInvalidAuth: provider.MeansWrong, wire.CodeInvalidPIN: provider.MeansWrong, wire.CodeInvalidOTP: provider.MeansWrong,
	"Credential locked": provider.MeansLocked, "PIN locked": provider.MeansLocked, "OTP locked": provider.MeansLocked,
	"Invalid parameter credentialID":                        provider.MeansUnknown,
	"The credential identified by credentialID is disabled": provider.MeansDisabled,
	"Signing certificate is expired":                        provider.MeansDisabled,
	"Invalid certificate status":                            provider.MeansDisabled,
	"Invalid parameter SAD":                                 provider.MeansSpent,
	"SAD expired":                                           provider.MeansSpent,
	wire.CodeInvalidToken:                                   provider.MeansAccount, wire.CodeExpiredToken: provider.MeansAccount, wire.CodeAccessDenied: provider.MeansAccount,
	"unauthorized_client": provider.MeansAccount, "authentication_error": provider.MeansAccount, "invalid_client": provider.MeansAccount,
	wire.CodeUnavailable: provider.MeansBusy,
}

// New makes a client; it calls nobody.
func New(cfg Config) *Client {
	if cfg.Poll <= 0 {
		cfg.Poll = time.Second
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	return &Client{cfg: cfg, codes: codes.With(cfg.Codes), known: map[string]*description{}}
}

// refusal is the error for an answer that the provider gave. Its text is compared, and never repeated.
func (c *Client) refusal(e *wire.Error) *provider.Error {
	switch {
	case e.Code == wire.CodeInvalidHash || e.Description == "Hash is not authorized by the SAD":
		return provider.Errorf(provider.Refused, provider.HashNotAuthorized, "the authorization is not for this digest")
	case e.Description == "Numbers of signatures is too high":
		return provider.Errorf(provider.Refused, provider.TooManyHashes, "the provider does not authorize so many signatures at once")
	case e.Description == "Invalid digest value length":
		return provider.Errorf(provider.Refused, provider.HashInvalid, "the provider takes no SHA-256 digests for this key")
	}
	code := e.Code
	if _, ok := c.codes[e.Description]; ok {
		code = e.Description
	}
	said := c.codes.Error(code)
	said.RetryAfter = e.RetryAfter
	return said
}

// call makes one call and reads the answer into out. It gives the status, which says of some methods
// how far they are.
func (c *Client) call(ctx context.Context, method string, again provider.Repeatable, in, out any) (int, error) {
	s, err := c.serverOf(ctx)
	if err != nil {
		return 0, err
	}
	for attempt := 1; ; attempt++ {
		token, err := c.tokenOf(ctx, s)
		if err != nil {
			return 0, err
		}
		status, err := c.post(ctx, s.base+"/"+method, "Bearer "+token, again, in, out)
		var e *wire.Error
		if !errors.As(err, &e) {
			return status, err
		}
		// A token that is over is got anew, once: nothing was done under the old one.
		if status == http.StatusUnauthorized && attempt == 1 && c.cfg.Token == "" {
			c.forgetToken(token)
			continue
		}
		if status == http.StatusUnauthorized || status == http.StatusForbidden && e.Code != wire.CodeInvalidHash {
			return status, provider.Errorf(provider.Refused, provider.AccountRefused, "the provider does not let this installation in (HTTP %d): look at its account", status)
		}
		return status, c.refusal(e)
	}
}

// post sends JSON. What the provider answered no with is a *wire.Error.
func (c *Client) post(ctx context.Context, address, authorization string, again provider.Repeatable, in, out any) (int, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, provider.Errorf(provider.Refused, provider.Undocumented, "the request cannot be written").With(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, provider.Errorf(provider.Refused, provider.AccountRefused, "the address of the provider is none").With(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return c.exchange(req, again, out)
}

func (c *Client) exchange(req *http.Request, again provider.Repeatable, out any) (int, error) {
	status, answer, err := provider.Call(c.cfg.HTTP, req, again)
	if status == http.StatusNotImplemented { // the one of 5xx that says what was not done. spec: CSC-2.0.0.2 §10.1
		return status, wire.ReadError(status, answer)
	}
	if err != nil {
		// Of what it says by status alone anybody on the way can be the author; its own code for busy is its own.
		if said := wire.ReadError(status, answer); !bool(again) && c.refusal(said).Outcome == provider.Busy {
			var e *provider.Error
			if errors.As(err, &e) {
				said.RetryAfter = e.RetryAfter
			}
			return status, said
		}
		return status, err
	}
	switch {
	case status == http.StatusNoContent, status == http.StatusCreated && len(answer) == 0:
		return status, nil
	case status == http.StatusOK, status == http.StatusAccepted:
		if err := json.Unmarshal(answer, out); err != nil {
			return status, provider.Unreadable(again, "the answer is not of the CSC API").With(err)
		}
		return status, nil
	case status/100 == 4:
		return status, wire.ReadError(status, answer)
	}
	return status, provider.Unreadable(again, "the provider answered HTTP %d", status)
}

// serverOf asks info once, and remembers what it says. spec: CSC-2.0.0.2 §11.1, CSC-1.0.4.0 §11.1
func (c *Client) serverOf(ctx context.Context) (*server, error) {
	c.mu.Lock()
	s := c.server
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	bases := []string{c.cfg.URL}
	if !strings.HasSuffix(c.cfg.URL, "/csc/v1") && !strings.HasSuffix(c.cfg.URL, "/csc/v2") {
		bases = []string{c.cfg.URL + "/csc/v2", c.cfg.URL + "/csc/v1"}
	}
	var err error
	for i, base := range bases {
		s, err = c.info(ctx, base)
		var said *wire.Error
		// Only a clear no leads to the other version: not silence, which says nothing of what is there.
		if err == nil || !errors.As(err, &said) || i == len(bases)-1 {
			break
		}
	}
	var said *wire.Error
	if errors.As(err, &said) {
		return nil, provider.Errorf(provider.Refused, provider.AccountRefused, "there is no CSC API at the provider's address (HTTP %d)", said.Status)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = s
	return s, nil
}

func (c *Client) info(ctx context.Context, base string) (*server, error) {
	var in csc2.InfoResponse // what is used of it is in both versions
	if _, err := c.post(ctx, base+"/"+csc2.Info, "", true, csc2.InfoRequest{Lang: "en-US"}, &in); err != nil {
		return nil, err
	}
	s := &server{base: base, methods: in.Methods, oauth2: in.OAuth2}
	// What info says of itself holds: some serve version 1 below /csc/v2.
	switch major, _, _ := strings.Cut(in.Specs, "."); major {
	case "1":
		s.version = 1
	case "2":
		s.version = 2
	default:
		return nil, provider.Errorf(provider.Refused, provider.Undocumented, "the provider speaks another version of the CSC API than 1 and 2")
	}
	return s, nil
}

func (c *Client) forgetToken(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// early is how long before its end a token is got anew.
const early = 30 * time.Second

// tokenOf gives the token that calls are made under.
func (c *Client) tokenOf(ctx context.Context, s *server) (string, error) {
	if c.cfg.Token != "" {
		return c.cfg.Token, nil
	}
	c.mu.Lock()
	token, until := c.token, c.until
	c.mu.Unlock()
	if token != "" && c.cfg.Now().Before(until) {
		return token, nil
	}
	began := c.cfg.Now()
	var in csc1.LoginResponse // the same in both versions and in OAuth 2.0
	var err error
	switch {
	case c.cfg.ClientID != "":
		err = c.clientCredentials(ctx, s, &in)
	case s.has(csc1.Login):
		err = c.login(ctx, s, &in)
	default:
		return "", provider.Errorf(provider.Refused, provider.AccountRefused, "the provider has no auth/login: configure a token, or client_id and client_secret")
	}
	var e *wire.Error
	if errors.As(err, &e) {
		return "", provider.Errorf(provider.Refused, provider.AccountRefused, "the provider does not take the account of this installation (%s)", e.Code)
	}
	if err != nil {
		return "", err
	}
	if in.AccessToken == "" {
		return "", provider.Errorf(provider.Refused, provider.AnswerUnreadable, "the provider gave no access token")
	}
	life := time.Duration(in.ExpiresIn) * time.Second
	if life <= 0 {
		life = time.Hour // spec: CSC-2.0.0.2 §11.2 expires_in
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.until = in.AccessToken, began.Add(max(life-early, life/2))
	return c.token, nil
}

func (c *Client) login(ctx context.Context, s *server, out *csc1.LoginResponse) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/"+csc1.Login, strings.NewReader("{}"))
	if err != nil {
		return provider.Errorf(provider.Refused, provider.AccountRefused, "the address of the provider is none").With(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(c.cfg.User, c.cfg.Password)
	_, err = c.exchange(req, true, out)
	return err
}

// clientCredentials gets a token from the provider's authorization server. spec: RFC6749 §4.4, CSC-2.0.0.2 §8.4
func (c *Client) clientCredentials(ctx context.Context, s *server, out *csc1.LoginResponse) error {
	if s.oauth2 == "" {
		return provider.Errorf(provider.Refused, provider.AccountRefused, "the provider's info names no OAuth 2.0 server (oauth2): configure a token")
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"service"}, "client_id": {c.cfg.ClientID}, "client_secret": {c.cfg.ClientSecret}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(s.oauth2, "/")+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return provider.Errorf(provider.Refused, provider.AccountRefused, "the address of the provider's OAuth 2.0 server is none").With(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, err = c.exchange(req, true, out)
	return err
}
