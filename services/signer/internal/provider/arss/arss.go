// Package arss signs with Aruba's and Actalis' remote signature service (ARSS, SOAP).
//
// What it knows is public, and read on 2026-11-22:
//   - the WSDL and schema of ArubaSignService, as pagopa/pn-ss has them at commit c92031de (2026-04-24):
//     names, order and types of all elements below;
//   - HsmAruba.java in regione-piemonte/stilo at 3b0aeb57 (2025-03-07): opensession answers a session id or
//     "KO-" and four digits; signhash in a session has session_id and an identity with user, userPWD and
//     typeOtpAuth but without otpPwd; hashtype is SHA256; certID is AS0;
//   - italia/ansc issue 514 (2023-11-29): 0003 is "Invalid User Credentials", also for a wrong password;
//     issue 2460 (2025-12-30): an error came back and the signature had been made.
//
// What public material does not say is not guessed: the meaning of other codes (0001, 0004, 0009, 0010
// exist) is PROVIDER_UNDOCUMENTED until the configuration says it; how long a session lasts is taken as
// [SessionLife]; the answer of auth_methods is not read, so the ways to get a password are configured. Of
// the operations that take whole documents none is here.
package arss

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/soap"
)

// Namespace of the operations.
const Namespace = "http://arubasignservice.arubapec.it/"

// SessionLife is how long a session is used: public material does not say how long it lasts.
const SessionLife = 2 * time.Minute

const (
	maxInSession = 500 // our own bound: none is published
	statusOK     = "OK"
	codeOK       = "0000"
	hashType     = "SHA256"
)

var known = provider.Codes{"0003": provider.MeansWrong}

// Config of a client.
type Config struct {
	SOAP soap.Client
	// Domain is the typeOtpAuth of the contract.
	Domain string
	// HSM is the typeHSM, usually COSIGN; empty: not sent.
	HSM string
	// User and Password are the application account, for what is done without the holder's password:
	// reading certificates and having passwords sent.
	User, Password string
	// OTP are the ways in which holders of this contract get passwords: SMS, CALL or APP.
	OTP []provider.OTPKind
	// AutomaticDomain and AutomaticOTP are the typeOtpAuth and the otpPwd of automatic signatures; empty: the contract has none.
	AutomaticDomain, AutomaticOTP string

	Codes provider.Codes
	Now   func() time.Time
}

// Client is a provider.Provider.
type Client struct {
	cfg   Config
	codes provider.Codes
}

var _ provider.Provider = (*Client)(nil)

// New makes a client.
func New(cfg Config) *Client {
	cfg.SOAP.Namespace = Namespace
	return &Client{cfg: cfg, codes: known.With(cfg.Codes)}
}

// auth is the schema's type of that name; the order is the schema's.
type auth struct {
	OTP    string `xml:"otpPwd,omitempty"`
	HSM    string `xml:"typeHSM,omitempty"`
	Domain string `xml:"typeOtpAuth,omitempty"`
	User   string `xml:"user,omitempty"`
	PIN    string `xml:"userPWD,omitempty"`
}

type application struct {
	Password string `xml:"applicationpassword"`
	User     string `xml:"applicationuser"`
}

type result struct {
	Description string `xml:"description"`
	Code        string `xml:"return_code"`
	Status      string `xml:"status"`
}

func (c *Client) identity(who provider.Credential, pin string) auth {
	return auth{HSM: c.cfg.HSM, Domain: c.cfg.Domain, User: who.User, PIN: pin}
}

func (c *Client) needAccount(what string) error {
	if c.cfg.User == "" {
		return provider.Errorf(provider.Refused, provider.AccountRefused, "%s takes an application account of the contract: set user_file and password_file of the provider", what)
	}
	return nil
}

// judge reads status and return_code. Where the schema has no code the description begins with one.
func (c *Client) judge(r result) error {
	code := r.Code
	if code == "" {
		code, _, _ = strings.Cut(r.Description, ":")
		code = strings.TrimSpace(code)
		if len(code) > len(codeOK) {
			code = ""
		}
	}
	if strings.EqualFold(r.Status, statusOK) && (r.Code == "" || r.Code == codeOK) {
		return nil
	}
	return c.codes.Error(strings.TrimPrefix(code, "KO-"))
}

// Describe lists the certificates of the user (listCertAuth) and takes that with the credential's ID.
func (c *Client) Describe(ctx context.Context, who provider.Credential) (provider.Description, error) {
	d, err := c.certificate(ctx, who, c.cfg.Domain)
	for _, kind := range c.cfg.OTP {
		d.OTP = append(d.OTP, provider.OTPDevice{ID: string(kind), Kind: kind})
	}
	return d, err
}

func (c *Client) certificate(ctx context.Context, who provider.Credential, domain string) (provider.Description, error) {
	d := provider.Description{SCAL: 1, Multisign: maxInSession, PIN: true, Status: provider.Enabled}
	if err := c.needAccount("reading a certificate"); err != nil {
		return d, err
	}
	in := struct {
		Identity application `xml:"Identity"`
		Domain   string      `xml:"domain"`
		User     string      `xml:"username"`
	}{application{c.cfg.Password, c.cfg.User}, domain, who.User}
	var out struct {
		Return *struct {
			result
			Certs []struct {
				ID    string `xml:"id"`
				Value b64    `xml:"value"`
			} `xml:"certs"`
		} `xml:"return"`
	}
	if err := soap.Tell(c.cfg.SOAP.Call(ctx, "listCertAuth", true, in, &out), c.codes); err != nil {
		return d, err
	}
	if out.Return == nil {
		return d, provider.Unreadable(true, "listCertAuth answered nothing")
	}
	if err := c.judge(out.Return.result); err != nil {
		return d, err
	}
	for _, cert := range out.Return.Certs {
		if cert.ID != who.ID {
			continue
		}
		parsed, err := x509.ParseCertificate(cert.Value)
		if err != nil {
			return d, provider.Unreadable(true, "the certificate %s cannot be read", who.ID).With(err)
		}
		d.Chain = []*x509.Certificate{parsed}
	}
	if d.Chain == nil {
		return d, provider.Errorf(provider.Refused, provider.CredentialUnknown, "the user has no certificate %q at the provider", who.ID)
	}
	return d, nil
}

// credentialsType is the schema's list; CNS2 and PAPERTOKEN are nothing that is sent.
var credentialsType = map[provider.OTPKind]string{provider.OTPSMS: "SMS", provider.OTPCall: "ARUBACALL"}

// SendOTP has a password sent by text message or told by telephone (sendCredentialAuth). ARSS does not
// bind it to hashes.
func (c *Client) SendOTP(ctx context.Context, who provider.Credential, device provider.OTPDevice, _ []provider.Hash) (string, error) {
	kind, ok := credentialsType[device.Kind]
	if !ok {
		return "", provider.Errorf(provider.Refused, provider.OTPNotSent, "ARSS sends passwords by SMS and CALL, not to %s", device.Kind)
	}
	if err := c.needAccount("having a password sent"); err != nil {
		return "", err
	}
	in := struct {
		Identity application `xml:"identity"`
		Type     string      `xml:"type"`
		Domain   string      `xml:"domain"`
		User     string      `xml:"username"`
	}{application{c.cfg.Password, c.cfg.User}, kind, c.cfg.Domain, who.User}
	var out struct {
		Return *result `xml:"return"`
	}
	if err := soap.Tell(c.cfg.SOAP.Call(ctx, "sendCredentialAuth", true, in, &out), c.codes); err != nil {
		return "", err
	}
	if out.Return == nil {
		return "", provider.Unreadable(true, "sendCredentialAuth answered nothing")
	}
	return "", c.judge(*out.Return)
}

// session is what a grant holds: signhash wants the holder's password again.
type session struct {
	ID  string `json:"id"`
	PIN string `json:"pin"`
}

// Authorize opens a session with password and one-time password. It is for as many hashes as come before
// it ends: what it may sign is the caller's to see to.
func (c *Client) Authorize(ctx context.Context, who provider.Credential, hashes []provider.Hash, f provider.Factors) (provider.Grant, error) {
	if len(hashes) > maxInSession {
		return provider.Grant{}, provider.Errorf(provider.Refused, provider.TooManyHashes, "%d hashes: one session is used for %d at most", len(hashes), maxInSession)
	}
	identity := c.identity(who, f.PIN)
	identity.OTP = f.OTP
	in := struct {
		Identity auth `xml:"Identity"`
	}{identity}
	var out struct {
		Return string `xml:"return"`
	}
	began := c.cfg.Now()
	if err := soap.Tell(c.cfg.SOAP.Call(ctx, "opensession", false, in, &out), c.codes); err != nil {
		return provider.Grant{}, err
	}
	id := strings.TrimSpace(out.Return)
	if code, refused := strings.CutPrefix(id, "KO-"); refused {
		return provider.Grant{}, c.codes.Error(code)
	}
	if id == "" {
		return provider.Grant{}, provider.Unreadable(false, "opensession answered no session")
	}
	token, err := json.Marshal(session{id, f.PIN})
	if err != nil {
		return provider.Grant{}, provider.Errorf(provider.Unknown, provider.OutcomeUnknown, "the session cannot be kept").With(err)
	}
	return provider.Grant{Token: token, Expires: began.Add(SessionLife)}, nil
}

func (c *Client) open(g provider.Grant) (session, error) {
	var s session
	if json.Unmarshal(g.Token, &s) != nil || s.ID == "" {
		return s, provider.Errorf(provider.Refused, provider.GrantSpent, "this is no session of ARSS")
	}
	if !c.cfg.Now().Before(g.Expires) {
		return s, provider.Errorf(provider.Refused, provider.GrantSpent, "the session was used until %s: begin anew", g.Expires.UTC().Format(time.RFC3339))
	}
	return s, nil
}

// SignHashes signs in the session, one call a hash (signhash).
func (c *Client) SignHashes(ctx context.Context, who provider.Credential, g provider.Grant, hashes []provider.Hash) ([][]byte, error) {
	s, err := c.open(g)
	if err != nil {
		return nil, err
	}
	return provider.Each(ctx, hashes, func(ctx context.Context, h provider.Hash) ([]byte, error) {
		type request struct {
			CertID   string `xml:"certID"`
			Hash     b64    `xml:"hash"`
			HashType string `xml:"hashtype"`
			Identity auth   `xml:"identity"`
			WithCert bool   `xml:"requirecert"`
			Session  string `xml:"session_id"`
		}
		in := struct {
			Request request `xml:"SignHashRequest"`
		}{request{who.ID, h[:], hashType, c.identity(who, s.PIN), false, s.ID}}
		return c.signature(ctx, in)
	})
}

// Close ends the session (closesession). Its answer is a text that public material does not explain.
func (c *Client) Close(ctx context.Context, who provider.Credential, g provider.Grant) error {
	s, err := c.open(g)
	if err != nil {
		var e *provider.Error
		if errors.As(err, &e) && e.Code == provider.GrantSpent {
			return nil
		}
		return err
	}
	in := struct {
		Identity auth   `xml:"Identity"`
		Session  string `xml:"sessionid"`
	}{c.identity(who, s.PIN), s.ID}
	var out struct {
		Return string `xml:"return"`
	}
	return soap.Tell(c.cfg.SOAP.Call(ctx, "closesession", true, in, &out), c.codes)
}

// b64 is xs:base64Binary.
type b64 = soap.Base64
