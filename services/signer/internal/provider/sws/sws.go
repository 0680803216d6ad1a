// Package sws signs with Namirial's Sign Web Services (SWS, SOAP).
//
// What it knows is public, and read on 2026-11-22:
//   - the SWS guide at confluence.namirial.com/display/SWS/Sign+interface: the object credentials, signing
//     with idOtp and otp or with a sessionKey, devices by prefix (RHI, RHIP, RHID, RHIL are remote);
//   - a client written from the public WSDL (namespace http://service.ws.nam/, order of the fields of
//     credentials; getOTPList with idOtp and type; sendOtpBySMS; sendOtpByPUSH with title and body;
//     getCertificate; signPkcs1 with credentials, hash and preferences.hashAlgorithm; the answer in return), in
//     the file sws.py of a study dated 2026-09-28;
//   - a second client (NamirialRemoteSignProvider.ts): a session lasts 3 minutes, the fault 1001 is a device
//     that is not known, mutual TLS with SaaS, the address in the WSDL may be an inner one.
//
// What public material does not say is not guessed: the codes in faults other than 1001 are
// PROVIDER_UNDOCUMENTED until the configuration says what they mean; closeSession is not called, for the two
// clients differ about its form, and the session ends by itself; securityCode is not sent.
package sws

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/soap"
)

// Namespace of the operations.
const Namespace = "http://service.ws.nam/"

const (
	sessionLife  = 3*time.Minute - 10*time.Second // published: 3 minutes
	maxInSession = 500                            // our own bound: none is published
)

var known = provider.Codes{"1001": provider.MeansUnknown}

// Config of a client.
type Config struct {
	SOAP  soap.Client
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

// credentials is the schema's type of that name; the order is the schema's. username is the device.
type credentials struct {
	IDOTP    string `xml:"idOtp,omitempty"`
	OTP      string `xml:"otp,omitempty"`
	Password string `xml:"password,omitempty"`
	Session  string `xml:"sessionKey,omitempty"`
	Username string `xml:"username"`
}

type asking struct {
	Credentials credentials `xml:"credentials"`
}

func (c *Client) call(ctx context.Context, operation string, again provider.Repeatable, in, out any) error {
	return soap.Tell(c.cfg.SOAP.Call(ctx, operation, again, in, out), c.codes)
}

// Describe reads the certificate of a device and the ways in which its holder gets passwords.
func (c *Client) Describe(ctx context.Context, who provider.Credential) (provider.Description, error) {
	d, err := c.certificate(ctx, who)
	if err != nil {
		return d, err
	}
	var list struct {
		Return []struct {
			ID   string `xml:"idOtp"`
			Type string `xml:"type"`
		} `xml:"return"`
	}
	if err := c.call(ctx, "getOTPList", true, asking{credentials{Username: who.ID}}, &list); err != nil {
		return d, err
	}
	for _, o := range list.Return {
		if _, err := strconv.ParseUint(strings.TrimSpace(o.ID), 10, 64); err != nil {
			return d, provider.Unreadable(true, "getOTPList has an idOtp that is no number")
		}
		d.OTP = append(d.OTP, provider.OTPDevice{ID: strings.TrimSpace(o.ID), Kind: kindOf(o.Type)})
	}
	return d, nil
}

func (c *Client) certificate(ctx context.Context, who provider.Credential) (provider.Description, error) {
	d := provider.Description{SCAL: 1, Multisign: maxInSession, PIN: true, Status: provider.Enabled}
	var cert struct {
		Return soap.Base64 `xml:"return"`
	}
	if err := c.call(ctx, "getCertificate", true, asking{credentials{Username: who.ID}}, &cert); err != nil {
		return d, err
	}
	der := []byte(cert.Return)
	if block, _ := pem.Decode(bytes.TrimSpace(der)); block != nil { // both forms have been seen
		der = block.Bytes
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return d, provider.Unreadable(true, "the certificate of device %s cannot be read", who.ID).With(err)
	}
	d.Chain = []*x509.Certificate{leaf}
	return d, nil
}

// kindOf reads the type of a device, of which the names are not published: those that hold SMS and PUSH
// get passwords sent, all others show them.
func kindOf(kind string) provider.OTPKind {
	switch kind = strings.ToUpper(kind); {
	case strings.Contains(kind, "SMS"):
		return provider.OTPSMS
	case strings.Contains(kind, "PUSH"):
		return provider.OTPPush
	}
	return provider.OTPApp
}

// SendOTP has a password sent to a device. SWS does not bind it to hashes.
func (c *Client) SendOTP(ctx context.Context, who provider.Credential, device provider.OTPDevice, _ []provider.Hash) (string, error) {
	to := credentials{IDOTP: device.ID, Username: who.ID}
	switch device.Kind {
	case provider.OTPSMS:
		return "", c.call(ctx, "sendOtpBySMS", true, asking{to}, &struct{}{})
	case provider.OTPPush:
		in := struct {
			Credentials credentials `xml:"credentials"`
			Title       string      `xml:"title"`
			Body        string      `xml:"body"`
		}{to, "Firma", "Codice per la firma"}
		return "", c.call(ctx, "sendOtpByPUSH", true, in, &struct{}{})
	case provider.OTPEmail, provider.OTPCall, provider.OTPApp:
	}
	return "", provider.Errorf(provider.Refused, provider.OTPNotSent, "SWS sends passwords by SMS and PUSH, not to %s", device.Kind)
}

// session is what a grant holds: the guide's example has the device's password beside the key.
type session struct {
	Key string `json:"key"`
	PIN string `json:"pin"`
}

// Authorize opens a session with the PIN and a one-time password. It is for as many hashes as come before
// it ends: what it may sign is the caller's to see to.
func (c *Client) Authorize(ctx context.Context, who provider.Credential, hashes []provider.Hash, f provider.Factors) (provider.Grant, error) {
	if len(hashes) > maxInSession {
		return provider.Grant{}, provider.Errorf(provider.Refused, provider.TooManyHashes, "%d hashes: one session is used for %d at most", len(hashes), maxInSession)
	}
	var out struct {
		Return string `xml:"return"`
	}
	began := c.cfg.Now()
	in := asking{credentials{IDOTP: f.Device, OTP: f.OTP, Password: f.PIN, Username: who.ID}}
	if err := c.call(ctx, "openSession", false, in, &out); err != nil {
		return provider.Grant{}, err
	}
	key := strings.TrimSpace(out.Return)
	if key == "" {
		return provider.Grant{}, provider.Unreadable(false, "openSession answered no session")
	}
	token, err := json.Marshal(session{key, f.PIN})
	if err != nil {
		return provider.Grant{}, provider.Errorf(provider.Unknown, provider.OutcomeUnknown, "the session cannot be kept").With(err)
	}
	return provider.Grant{Token: token, Expires: began.Add(sessionLife)}, nil
}

// SignHashes signs in the session, one call a hash (signPkcs1).
func (c *Client) SignHashes(ctx context.Context, who provider.Credential, g provider.Grant, hashes []provider.Hash) ([][]byte, error) {
	var s session
	if json.Unmarshal(g.Token, &s) != nil || s.Key == "" {
		return nil, provider.Errorf(provider.Refused, provider.GrantSpent, "this is no session of SWS")
	}
	if !c.cfg.Now().Before(g.Expires) {
		return nil, provider.Errorf(provider.Refused, provider.GrantSpent, "the session ended at %s: begin anew", g.Expires.UTC().Format(time.RFC3339))
	}
	return provider.Each(ctx, hashes, func(ctx context.Context, h provider.Hash) ([]byte, error) {
		return c.signature(ctx, credentials{Password: s.PIN, Session: s.Key, Username: who.ID}, h)
	})
}

// signature makes one call of signPkcs1.
func (c *Client) signature(ctx context.Context, by credentials, h provider.Hash) ([]byte, error) {
	var in struct {
		Credentials credentials `xml:"credentials"`
		Hash        soap.Base64 `xml:"hash"`
		Preferences struct {
			Algorithm string `xml:"hashAlgorithm"`
		} `xml:"preferences"`
	}
	in.Credentials, in.Hash, in.Preferences.Algorithm = by, h[:], "SHA256"
	var out struct {
		Return soap.Base64 `xml:"return"`
	}
	if err := c.call(ctx, "signPkcs1", false, in, &out); err != nil {
		return nil, err
	}
	if len(out.Return) == 0 {
		return nil, provider.Unreadable(false, "signPkcs1 answered no signature")
	}
	return out.Return, nil
}

// Close lets the session end by itself.
func (c *Client) Close(context.Context, provider.Credential, provider.Grant) error { return nil }
