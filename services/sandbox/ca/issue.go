package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"time"
)

// Profile says what a certificate made from a CSR is for.
type Profile string

// The profiles of SignCSR.
const (
	// ProfileSigning is a person's (or automatic) signature: keyUsage nonRepudiation alone, critical.
	// spec: EN319412-2 §4.3.2 (type A)
	ProfileSigning Profile = "signing"
	// ProfileSeal is a legal person's seal: the same usage. spec: EN319412-3 §4
	ProfileSeal Profile = "seal"
	// ProfileRole is a role's, such as the responsible of preservation: the same usage.
	ProfileRole Profile = "role"
	// ProfileAuthentication is what must never sign: digitalSignature alone and clientAuth, as on
	// a CNS card. It is issued so that the choice of certificates can be tested.
	ProfileAuthentication Profile = "authentication"
	// ProfileQualified is ProfileSigning with statements that the certificate is qualified, for a person's signature,
	// and that its key is in a QSCD: so that what software makes of such statements can be tested.
	// spec: EN319412-5 §4.2.1, §4.2.2, §4.2.3
	ProfileQualified Profile = "qualified"
)

// SignCSR issues a certificate for the key and subject of a PKCS #10 request.
// Errors: a malformed request, one whose own signature fails, a weak key, an unknown profile.
func (c *CA) SignCSR(csrDER []byte, p Profile) (*x509.Certificate, error) {
	now := c.now()
	return c.SignCSRValid(csrDER, p, now.Add(-backdate), now.Add(c.validity))
}

// SignCSRValid is SignCSR with the validity that a test wants (expired, not yet valid).
func (c *CA) SignCSRValid(csrDER []byte, p Profile, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: certificate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("sandbox ca: certificate request is not signed by its key: %w", err)
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{ExtraNames: markNames(csr.Subject.Names)},
		NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true,
	}
	switch p {
	case ProfileSigning, ProfileSeal, ProfileRole, ProfileQualified:
		t.KeyUsage = x509.KeyUsageContentCommitment // x509 writes keyUsage critical
		if p == ProfileQualified {
			t.ExtraExtensions = []pkix.Extension{{Id: oidQCStatements, Value: qualifiedStatements}}
		}
		if p == ProfileRole {
			t.CRLDistributionPoints = c.points()
		}
	case ProfileAuthentication:
		t.KeyUsage = x509.KeyUsageDigitalSignature
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		return nil, fmt.Errorf("sandbox ca: unknown profile %q: use signing, seal, role, qualified or authentication", p)
	}
	return c.issue(t, csr.PublicKey)
}

var oidQCStatements = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 3}

// qualifiedStatements are QcCompliance, QcSSCD and QcType id-etsi-qct-esign.
var qualifiedStatements = []byte{
	0x30, 0x29,
	0x30, 0x08, 0x06, 0x06, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x01,
	0x30, 0x08, 0x06, 0x06, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x04,
	0x30, 0x13, 0x06, 0x06, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x06, 0x30, 0x09, 0x06, 0x07, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x06, 0x01,
}

var oidOrganizationalUnit = asn1.ObjectIdentifier{2, 5, 4, 11}

// markNames keeps every attribute that was asked for (serialNumber TINIT-..., organizationIdentifier)
// and adds the mark.
func markNames(names []pkix.AttributeTypeAndValue) []pkix.AttributeTypeAndValue {
	out := append([]pkix.AttributeTypeAndValue(nil), names...)
	return append(out, pkix.AttributeTypeAndValue{Type: oidOrganizationalUnit, Value: Mark})
}

// issue signs the template for the key.
func (c *CA) issue(t *x509.Certificate, pub crypto.PublicKey) (*x509.Certificate, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return nil, fmt.Errorf("sandbox ca: RSA key of %d bits: 2048 at least, 3072 for new keys", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, fmt.Errorf("sandbox ca: curve %s: use P-256 or P-384", k.Curve.Params().Name)
		}
	default:
		return nil, fmt.Errorf("sandbox ca: key of type %T: use RSA or ECDSA", pub)
	}
	var err error
	if t.SerialNumber, err = c.serial(); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: issue: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: issue: %w", err)
	}
	return cert, nil
}

// issueNew issues with a new P-256 key.
func (c *CA) issueNew(cn string, t x509.Certificate) (*Issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: key: %w", err)
	}
	return c.issueFor(cn, t, key)
}

func (c *CA) issueFor(cn string, t x509.Certificate, key crypto.Signer) (*Issued, error) {
	now := c.now()
	t.Subject = pkix.Name{
		Country: []string{"IT"}, Organization: []string{"Ceralacca sandbox"},
		OrganizationalUnit: []string{Mark}, CommonName: cn,
	}
	t.NotBefore, t.NotAfter, t.BasicConstraintsValid = now.Add(-backdate), now.Add(c.validity), true
	cert, err := c.issue(&t, key.Public())
	if err != nil {
		return nil, err
	}
	return &Issued{Chain: []*x509.Certificate{cert, c.cert}, Key: key}, nil
}

// IssueServer gives a TLS server certificate for the hosts (DNS names or IP addresses).
func (c *CA) IssueServer(hosts ...string) (*Issued, error) {
	if len(hosts) == 0 {
		return nil, errors.New("sandbox ca: a server certificate needs a host name or address")
	}
	t := x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return c.issueNew(hosts[0], t)
}

// IssueClient gives a TLS client certificate; SdI's accredited clients are called "SDI-<fiscal id>".
func (c *CA) IssueClient(cn string) (*Issued, error) {
	if cn == "" {
		return nil, errors.New("sandbox ca: a client certificate needs a common name, such as SDI-01234567890")
	}
	return c.issueNew(cn, x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

// timeStampingUsage is extendedKeyUsage { id-kp-timeStamping }.
var timeStampingUsage = []byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08}

// IssueTSA gives a time-stamp authority's certificate: extended key usage timeStamping, critical
// and alone (x509 would write it not critical). spec: RFC3161 §2.3
func (c *CA) IssueTSA(cn string) (*Issued, error) {
	return c.issueNew(cn, x509.Certificate{
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtraExtensions:       []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: timeStampingUsage}},
		CRLDistributionPoints: c.points(),
	})
}

// IssueReceiptSigner gives what signs SdI's receipts: RSA-2048, as the real one, whose receipts
// are RSA-SHA256; keyUsage nonRepudiation alone.
func (c *CA) IssueReceiptSigner(cn string) (*Issued, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: key: %w", err)
	}
	return c.issueFor(cn, x509.Certificate{KeyUsage: x509.KeyUsageContentCommitment}, key)
}

// IssueEncryption gives what supports of SDIFTP are encrypted for: RSA-2048, keyUsage keyEncipherment alone.
func (c *CA) IssueEncryption(cn string) (*Issued, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: key: %w", err)
	}
	return c.issueFor(cn, x509.Certificate{KeyUsage: x509.KeyUsageKeyEncipherment}, key)
}

// IssueMailSigner gives what a provider of certified mail (or a person) signs messages with:
// RSA-2048, digitalSignature critical, the address as alternative name, key identifiers, and no
// basic constraints. spec: RFC6109 §2.1, §5.5
func (c *CA) IssueMailSigner(name, address string) (*Issued, error) {
	now := c.now()
	return c.IssueMailSignerValid(name, address, now.Add(-backdate), now.Add(c.validity))
}

// IssueMailSignerValid is IssueMailSigner with a validity of its own: certificates that have ended, or not begun.
func (c *CA) IssueMailSignerValid(name, address string, notBefore, notAfter time.Time) (*Issued, error) {
	if name == "" || address == "" {
		return nil, errors.New("sandbox ca: a mail signer needs a name and an address")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: key: %w", err)
	}
	id := sha256.Sum256(spki)
	cert, err := c.issue(&x509.Certificate{
		Subject:   pkix.Name{Country: []string{"IT"}, Organization: []string{name}, OrganizationalUnit: []string{Mark}, CommonName: name},
		NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		EmailAddresses: []string{address}, SubjectKeyId: id[:20],
	}, key.Public())
	if err != nil {
		return nil, err
	}
	return &Issued{Chain: []*x509.Certificate{cert, c.cert}, Key: key}, nil
}
