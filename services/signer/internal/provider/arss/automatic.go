package arss

import (
	"context"

	"ceralacca.dev/services/signer/internal/provider"
	"ceralacca.dev/services/signer/internal/provider/soap"
)

// The automatic signature of ARSS, as it is public, read on 2026-11-22:
//   - ArubaSignServiceImpl.java and ArubaInitializer.java of onboarding-sdk-crypto in pagopa/selfcare-onboarding at
//     4c78e9f0 (2026-03-03): signhash with certID AS0, SHA256, requirecert false, no session, and an identity of
//     delegated_domain, delegated_password, delegated_user, otpPwd, typeHSM COSIGN, typeOtpAuth and user; the README
//     beside it says that typeOtpAuth is the domain of automatic signature and otpPwd the name of its transactions,
//     both given when the service is installed;
//   - the same fields in regione-piemonte/cosmo (seals), where otpPwd is dsign.
//
// There is neither a one-time password nor a session: each call stands by itself.

var _ provider.Automatic = (*Client)(nil)

// delegated is the identity of an automatic signature; the order is the schema's.
type delegated struct {
	Domain     string `xml:"delegated_domain,omitempty"`
	Password   string `xml:"delegated_password"`
	Delegate   string `xml:"delegated_user"`
	OTP        string `xml:"otpPwd"`
	HSM        string `xml:"typeHSM,omitempty"`
	OTPDomain  string `xml:"typeOtpAuth"`
	SignedUser string `xml:"user"`
}

func (c *Client) delegate(who provider.Credential, s provider.Secret) (delegated, error) {
	d := delegated{Domain: s.Domain, Password: s.Password, Delegate: s.User, OTP: c.cfg.AutomaticOTP, HSM: c.cfg.HSM, OTPDomain: c.cfg.AutomaticDomain, SignedUser: who.User}
	switch {
	case d.OTP == "" || d.OTPDomain == "":
		return d, provider.Errorf(provider.Refused, provider.NotAutomatic,
			"ARSS signs automatically in a domain of its own: set automatic_domain and automatic_otp of the provider, as the contract has them")
	case d.Delegate == "" || d.Password == "":
		return d, provider.Errorf(provider.Refused, provider.NotAutomatic, "ARSS signs automatically for a delegate: the secret needs the fields user and password, and domain where the contract has one")
	}
	return d, nil
}

// DescribeAutomatic lists the certificates of the user in the domain of automatic signature (listCertAuth).
func (c *Client) DescribeAutomatic(ctx context.Context, who provider.Credential, s provider.Secret) (provider.Description, error) {
	if _, err := c.delegate(who, s); err != nil {
		return provider.Description{}, err
	}
	d, err := c.certificate(ctx, who, c.cfg.AutomaticDomain)
	d.PIN = false
	return d, err
}

// SignAutomatically signs hash after hash (signhash).
func (c *Client) SignAutomatically(ctx context.Context, who provider.Credential, s provider.Secret, hashes []provider.Hash) ([][]byte, error) {
	identity, err := c.delegate(who, s)
	if err != nil {
		return nil, err
	}
	return provider.Each(ctx, hashes, func(ctx context.Context, h provider.Hash) ([]byte, error) {
		type request struct {
			CertID   string    `xml:"certID"`
			Hash     b64       `xml:"hash"`
			HashType string    `xml:"hashtype"`
			Identity delegated `xml:"identity"`
			WithCert bool      `xml:"requirecert"`
		}
		in := struct {
			Request request `xml:"SignHashRequest"`
		}{request{who.ID, h[:], hashType, identity, false}}
		return c.signature(ctx, in)
	})
}

// signature makes one call of signhash.
func (c *Client) signature(ctx context.Context, in any) ([]byte, error) {
	var out struct {
		Return *struct {
			result
			Signature b64 `xml:"signature"`
		} `xml:"return"`
	}
	if err := soap.Tell(c.cfg.SOAP.Call(ctx, "signhash", false, in, &out), c.codes); err != nil {
		return nil, err
	}
	if out.Return == nil {
		return nil, provider.Unreadable(false, "signhash answered nothing")
	}
	if err := c.judge(out.Return.result); err != nil {
		return nil, err
	}
	if len(out.Return.Signature) == 0 {
		return nil, provider.Unreadable(false, "signhash answered OK without a signature")
	}
	return out.Return.Signature, nil
}
