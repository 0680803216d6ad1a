package csc

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	wire "ceralacca.dev/services/format/csc"
	"ceralacca.dev/services/format/csc/csc1"
	"ceralacca.dev/services/format/csc/csc2"
	"ceralacca.dev/services/signer/internal/provider"
)

// description is what is known of a credential beside what provider.Description says.
type description struct {
	provider.Description
	pin      string // id of the object that the PIN is shown as
	signAlgo string
	implicit bool // the provider asks the holder by itself
}

// Describe reads what the provider says of a credential.
func (c *Client) Describe(ctx context.Context, who provider.Credential) (provider.Description, error) {
	d, err := c.describe(ctx, who)
	if err != nil {
		return provider.Description{}, err
	}
	return d.Description, nil
}

func (c *Client) describe(ctx context.Context, who provider.Credential) (*description, error) {
	s, err := c.serverOf(ctx)
	if err != nil {
		return nil, err
	}
	var d *description
	if s.version == 1 {
		d, err = c.describe1(ctx, who)
	} else {
		d, err = c.describe2(ctx, who)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[who.ID] = d
	return d, nil
}

// recall gives what Describe found, and asks when it was not asked before.
func (c *Client) recall(ctx context.Context, who provider.Credential) (*description, error) {
	c.mu.Lock()
	d := c.known[who.ID]
	c.mu.Unlock()
	if d != nil {
		return d, nil
	}
	return c.describe(ctx, who)
}

// begin is what both versions say in the same words.
func begin(keyStatus, certStatus, scal string, multisign int, chain [][]byte, algo []string) (*description, error) {
	d := &description{Description: provider.Description{Status: provider.Disabled, SCAL: 1, Multisign: max(1, multisign)}}
	if keyStatus == "enabled" && (certStatus == "" || certStatus == "valid") {
		d.Status = provider.Enabled
	}
	if scal == "2" {
		d.SCAL = 2
	}
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, provider.Unreadable(true, "a certificate of the credential cannot be read").With(err)
		}
		d.Chain = append(d.Chain, cert)
	}
	if len(d.Chain) == 0 {
		return nil, provider.Unreadable(true, "the provider gave no certificate of the credential")
	}
	switch d.Chain[0].PublicKey.(type) {
	case *ecdsa.PublicKey:
		d.signAlgo = wire.ECDSASHA256
	case *rsa.PublicKey:
		// A key that lists the plain algorithm only wants the hash algorithm beside it.
		d.signAlgo = wire.SHA256WithRSA
		if !slices.Contains(algo, wire.SHA256WithRSA) && slices.Contains(algo, wire.RSA) {
			d.signAlgo = wire.RSA
		} else if slices.Contains(algo, wire.PSS) && !slices.Contains(algo, wire.SHA256WithRSA) {
			return nil, provider.Errorf(provider.Refused, provider.Undocumented, "the key signs RSASSA-PSS only: signatures of this platform are PKCS #1 v1.5")
		}
	default:
		return nil, provider.Errorf(provider.Refused, provider.Undocumented, "the key is neither RSA nor ECDSA")
	}
	return d, nil
}

func (c *Client) describe2(ctx context.Context, who provider.Credential) (*description, error) {
	var in csc2.CredentialInfo
	req := csc2.CredentialRequest{CredentialID: who.ID, Detail: csc2.Detail{Certificates: "chain", AuthInfo: true}}
	if _, err := c.call(ctx, csc2.Credential, true, req, &in); err != nil {
		return nil, err
	}
	d, err := begin(in.Key.Status, in.Cert.Status, in.SCAL, in.Multisign, in.Cert.Certificates, in.Key.Algo)
	if err != nil {
		return nil, err
	}
	if in.Auth == nil || in.Auth.Mode != "explicit" {
		return nil, provider.Errorf(provider.Refused, provider.Undocumented, "the credential is authorized in the holder's browser (oauth2code): it cannot be used here")
	}
	for _, o := range in.Auth.Objects {
		if kind, ok := kindOf(o); ok {
			d.OTP = append(d.OTP, provider.OTPDevice{ID: o.ID, Kind: kind})
		} else if o.Type == "Password" && d.pin == "" {
			d.pin, d.PIN = o.ID, true
		}
	}
	return d, nil
}

// kindOf tells objects that are one-time passwords. The specification has no word for how they travel: an
// object that is challenged is sent, one with a generator is shown by a device, one out of band is
// confirmed there. spec: CSC-2.0.0.2 §8.3.1
func kindOf(o csc2.AuthObject) (provider.OTPKind, bool) {
	text := strings.ToUpper(o.ID + " " + o.Label)
	switch o.Type {
	case "ChallengeResponse":
		if strings.Contains(text, "MAIL") {
			return provider.OTPEmail, true
		}
		return provider.OTPSMS, true
	case "ChallengeResponseOOB", "PasswordOOB":
		return provider.OTPPush, true
	case "Password":
		if o.Generator != "" || strings.Contains(text, "OTP") {
			return provider.OTPApp, true
		}
	}
	return "", false
}

func (c *Client) describe1(ctx context.Context, who provider.Credential) (*description, error) {
	var in csc1.CredentialInfo
	req := csc1.CredentialRequest{CredentialID: who.ID, Certificates: "chain", AuthInfo: true}
	if _, err := c.call(ctx, csc1.Credential, true, req, &in); err != nil {
		return nil, err
	}
	d, err := begin(in.Key.Status, in.Cert.Status, in.SCAL, in.Multisign, in.Cert.Certificates, in.Key.Algo)
	if err != nil {
		return nil, err
	}
	if in.AuthMode == "oauth2code" {
		return nil, provider.Errorf(provider.Refused, provider.Undocumented, "the credential is authorized in the holder's browser (oauth2code): it cannot be used here")
	}
	d.implicit = in.AuthMode == "implicit"
	d.PIN = in.PIN != nil && in.PIN.Presence == "true"
	if in.OTP != nil && in.OTP.Presence != "false" {
		kind := provider.OTPApp
		if in.OTP.Type == "online" {
			kind = provider.OTPSMS
		}
		d.OTP = []provider.OTPDevice{{ID: in.OTP.ID, Kind: kind}}
	}
	return d, nil
}

func bare(hashes []provider.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// longestChallenge bounds what a holder is shown to type into their device.
const longestChallenge = 64

// SendOTP has a password sent: getChallenge in version 2, sendOTP in version 1 and where the other is missing. Of a device on which
// the holder approves, getChallenge gives what they are shown. spec: CSC-2.0.0.2 §8.3.1.5, §11.8
func (c *Client) SendOTP(ctx context.Context, who provider.Credential, device provider.OTPDevice, hashes []provider.Hash) (string, error) {
	s, err := c.serverOf(ctx)
	if err != nil {
		return "", err
	}
	approves, challenges := device.Kind == provider.OTPPush, s.version == 2 && s.has(csc2.Challenge)
	if !device.Kind.Sent() || approves && !challenges {
		return "", provider.Errorf(provider.Refused, provider.OTPNotSent, "the provider sends no passwords to a device of kind %s", device.Kind)
	}
	req, method := csc2.ChallengeRequest{CredentialID: who.ID}, csc2.SendOTP
	if challenges {
		method, req.AuthObjectID = csc2.Challenge, device.ID
	} else if !s.has(csc2.SendOTP) {
		return "", provider.Errorf(provider.Refused, provider.OTPNotSent, "the provider has neither getChallenge nor sendOTP")
	}
	if c.cfg.BindPasswords && len(hashes) > 0 {
		req.Hashes, req.HashAlgorithm, req.NumSignatures = bare(hashes), wire.SHA256, len(hashes)
	}
	var question csc2.ChallengeResponse
	status, err := c.call(ctx, method, true, req, &question)
	if err == nil && status == http.StatusOK && question.Challenge != "" && (!approves || len(question.Challenge) > longestChallenge) {
		return "", provider.Errorf(provider.Refused, provider.Undocumented, "the provider asks the holder a question instead of sending a password: it cannot be used here")
	}
	return question.Challenge, err
}

// Authorize gets a SAD for these digests.
func (c *Client) Authorize(ctx context.Context, who provider.Credential, hashes []provider.Hash, f provider.Factors) (provider.Grant, error) {
	d, err := c.recall(ctx, who)
	if err != nil {
		return provider.Grant{}, err
	}
	if len(hashes) > d.Multisign {
		return provider.Grant{}, provider.Errorf(provider.Refused, provider.TooManyHashes, "%d digests: the provider authorizes %d at once", len(hashes), d.Multisign)
	}
	s, err := c.serverOf(ctx)
	if err != nil {
		return provider.Grant{}, err
	}
	began := c.cfg.Now()
	var given csc2.SADResponse // of both versions
	var status int
	if s.version == 1 {
		status, err = c.call(ctx, csc1.Authorize, false, csc1.AuthorizeRequest{
			CredentialID: who.ID, NumSignatures: len(hashes), Hash: bare(hashes), PIN: f.PIN, OTP: f.OTP,
		}, &given)
	} else {
		req := csc2.AuthorizeRequest{CredentialID: who.ID, NumSignatures: len(hashes), Hashes: bare(hashes), HashAlgorithm: wire.SHA256}
		if d.pin != "" {
			req.AuthData = append(req.AuthData, csc2.AuthValue{ID: d.pin, Value: f.PIN})
		}
		if f.Device != "" {
			shown := csc2.AuthValue{ID: f.Device, Value: f.OTP}
			if slices.Contains(d.OTP, provider.OTPDevice{ID: f.Device, Kind: provider.OTPPush}) {
				shown.Value = "" // what is out of band has none. spec: CSC-2.0.0.2 §8.3.1.3, §8.3.1.5
			}
			req.AuthData = append(req.AuthData, shown)
		}
		status, err = c.call(ctx, csc2.Authorize, false, req, &given)
	}
	for err == nil && status == http.StatusAccepted {
		status, err = c.check(ctx, &given)
	}
	if err != nil {
		return provider.Grant{}, err
	}
	if given.SAD == "" {
		return provider.Grant{}, provider.Unreadable(false, "the provider authorized and gave no SAD")
	}
	life := time.Duration(given.ExpiresIn) * time.Second
	if life <= 0 {
		life = time.Hour // spec: CSC-2.0.0.2 §11.6 expiresIn
	}
	return provider.Grant{Token: []byte(given.SAD), Expires: began.Add(life)}, nil
}

// check waits a little and asks how far an authorization is that the holder gives elsewhere.
// spec: CSC-2.0.0.2 §11.7
func (c *Client) check(ctx context.Context, given *csc2.SADResponse) (int, error) {
	if given.Handle == "" {
		return 0, provider.Unreadable(false, "the provider authorizes later and gave no handle")
	}
	wait := time.NewTimer(c.cfg.Poll)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return 0, provider.Errorf(provider.Unknown, provider.OutcomeUnknown, "the holder has not confirmed in time").With(ctx.Err())
	}
	req := csc2.CheckRequest{Handle: given.Handle}
	status, err := c.call(ctx, csc2.Check, true, req, given)
	if provider.OutcomeOf(err) == provider.Busy && ctx.Err() == nil { // asking changes nothing: it is asked again
		return http.StatusAccepted, nil
	}
	return status, err
}

// SignHashes uses a SAD for all digests in one call.
func (c *Client) SignHashes(ctx context.Context, who provider.Credential, g provider.Grant, hashes []provider.Hash) ([][]byte, error) {
	if !c.cfg.Now().Before(g.Expires) {
		return nil, provider.Errorf(provider.Refused, provider.GrantSpent, "the authorization ended at %s: begin anew", g.Expires.UTC().Format(time.RFC3339))
	}
	d, err := c.recall(ctx, who)
	if err != nil {
		return nil, err
	}
	s, err := c.serverOf(ctx)
	if err != nil {
		return nil, err
	}
	algorithm := ""
	if d.signAlgo == wire.RSA { // the others imply it
		algorithm = wire.SHA256
	}
	var out csc2.SignHashResponse // of both versions
	if s.version == 1 {
		_, err = c.call(ctx, csc1.SignHash, false, csc1.SignHashRequest{
			CredentialID: who.ID, SAD: string(g.Token), Hash: bare(hashes), HashAlgo: algorithm, SignAlgo: d.signAlgo,
		}, &out)
	} else {
		_, err = c.call(ctx, csc2.SignHash, false, csc2.SignHashRequest{
			CredentialID: who.ID, SAD: string(g.Token), Hashes: bare(hashes), HashAlgorithm: algorithm, SignAlgo: d.signAlgo,
		}, &out)
	}
	if err != nil {
		return nil, err
	}
	if len(out.Signatures) != len(hashes) {
		return nil, provider.Unreadable(false, "the provider answered %d digests with %d signatures", len(hashes), len(out.Signatures))
	}
	for i, signature := range out.Signatures {
		if key, ok := d.Chain[0].PublicKey.(*ecdsa.PublicKey); ok {
			out.Signatures[i] = inASN1(signature, (key.Params().BitSize+7)/8)
		}
	}
	return out.Signatures, nil
}

// inASN1 writes an ECDSA signature that came as two numbers, one after the other (as some providers have
// it), in the form that certificates and CMS want. spec: RFC5480, IEEE1363
func inASN1(signature []byte, size int) []byte {
	var inner cryptobyte.String
	s := cryptobyte.String(signature)
	if len(signature) != 2*size || (s.ReadASN1(&inner, asn1.SEQUENCE) && s.Empty()) {
		return signature
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[:size]))
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[size:]))
	})
	out, err := b.Bytes()
	if err != nil {
		return signature
	}
	return out
}

// Close lets the SAD end by itself: the API has no word for it.
func (c *Client) Close(context.Context, provider.Credential, provider.Grant) error { return nil }
