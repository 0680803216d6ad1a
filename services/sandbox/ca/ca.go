package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Mark is in the issuer and in the subject of every certificate.
const Mark = "SANDBOX - NOT VALID"

const (
	rootFile     = "sandbox-ca.pem"
	rootValidity = 20 * 365 * 24 * time.Hour // a virtual clock may run ahead
	backdate     = time.Hour                 // peers' clocks may be behind
	// DefaultValidity of what is issued.
	DefaultValidity = 3 * 365 * 24 * time.Hour
)

// Options of New. The zero value gives a fresh authority in memory.
type Options struct {
	Dir      string           // where the authority is kept between starts; empty: nowhere
	Now      func() time.Time // time.Now by default
	Rand     io.Reader        // of serial numbers; crypto/rand by default
	Validity time.Duration    // of what is issued, DefaultValidity by default
	// CRL is where the list of revoked certificates is, as certificates of roles and of time-stamp authorities say; empty: nowhere.
	CRL string
}

// CA issues certificates. It is safe for concurrent use when Rand is.
type CA struct {
	cert     *x509.Certificate
	key      crypto.Signer
	now      func() time.Time
	rand     io.Reader
	validity time.Duration
	crl      string

	mu      sync.Mutex
	revoked []x509.RevocationListEntry
}

// New makes an authority, or loads the one that Dir holds.
// Errors: a Dir that cannot be written; a kept authority that is damaged or expired.
func New(o Options) (*CA, error) {
	c := &CA{now: o.Now, rand: o.Rand, validity: o.Validity, crl: o.CRL}
	if c.now == nil {
		c.now = time.Now
	}
	if c.rand == nil {
		c.rand = rand.Reader
	}
	if c.validity == 0 {
		c.validity = DefaultValidity
	}
	if o.Dir == "" {
		return c, c.generate()
	}
	path := filepath.Join(o.Dir, rootFile)
	err := c.load(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.generate(); err == nil {
			err = c.save(o.Dir, path)
		}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *CA) generate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("sandbox ca: key: %w", err)
	}
	now := c.now()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("sandbox ca: key: %w", err)
	}
	id := sha256.Sum256(spki)
	t := &x509.Certificate{
		// Each fresh authority has a name of its own: certificates of two runs never chain by accident.
		Subject: pkix.Name{
			Country: []string{"IT"}, Organization: []string{"Ceralacca sandbox"},
			CommonName: fmt.Sprintf("%s - CA %x", Mark, id[:4]),
		},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValidity),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: 0, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if t.SerialNumber, err = c.serial(); err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return fmt.Errorf("sandbox ca: certificate: %w", err)
	}
	if c.cert, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("sandbox ca: certificate: %w", err)
	}
	c.key = key
	return nil
}

// listValidity is how long a list of revoked certificates is the latest.
const listValidity = 7 * 24 * time.Hour

// Revoke puts a certificate on the list. It is forgotten at exit.
func (c *CA) Revoke(cert *x509.Certificate, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: at.UTC()})
}

// CRL is a fresh list of revoked certificates, PEM. There is none on it but by Revoke.
func (c *CA) CRL() ([]byte, error) {
	der, err := c.CRLDER()
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), nil
}

// CRLDER is CRL as it is published. spec: RFC5280 §4.2.1.13
func (c *CA) CRLDER() ([]byte, error) {
	now := c.now()
	c.mu.Lock()
	list := slices.Clone(c.revoked)
	c.mu.Unlock()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(now.UnixMilli()), ThisUpdate: now, NextUpdate: now.Add(listValidity), RevokedCertificateEntries: list,
	}, c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: revocation list: %w", err)
	}
	return der, nil
}

// points is where the list is.
func (c *CA) points() []string {
	if c.crl == "" {
		return nil
	}
	return []string{c.crl}
}

// serial is positive and has 127 bits.
func (c *CA) serial() (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return nil, fmt.Errorf("sandbox ca: serial number: %w", err)
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}

// save links the file into place, so that of two processes starting at once one wins and the
// other takes the winner's authority.
func (c *CA) save(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("sandbox ca: folder: %w", err)
	}
	keyPEM, err := encodeKey(c.key)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, rootFile+".*") // CreateTemp makes it 0600
	if err != nil {
		return fmt.Errorf("sandbox ca: save: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(encodeCert(c.cert), keyPEM...))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("sandbox ca: save: %w", err)
	}
	switch err := os.Link(tmp.Name(), path); {
	case errors.Is(err, fs.ErrExist):
		return c.load(path)
	case err != nil:
		return fmt.Errorf("sandbox ca: save: %w", err)
	}
	return nil
}

func (c *CA) load(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("sandbox ca: load: %w", err)
	}
	broken := func(why string) error {
		return fmt.Errorf("sandbox ca: %s: %s: delete the file and a new authority is made at the next start", path, why)
	}
	certBlock, rest := pem.Decode(raw)
	if certBlock == nil {
		return broken("no certificate in it")
	}
	keyBlock, _ := pem.Decode(rest)
	if keyBlock == nil {
		return broken("no key in it")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return broken(err.Error())
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return broken(err.Error())
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return broken("the key is not the certificate's")
	}
	if c.now().After(cert.NotAfter) {
		return broken("expired on " + cert.NotAfter.Format(time.DateOnly))
	}
	c.cert, c.key = cert, key
	return nil
}

// Certificate is the authority's own.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// CertPEM is the authority's certificate for trust stores.
func (c *CA) CertPEM() []byte { return encodeCert(c.cert) }

// Pool holds the authority's certificate alone.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

// FromTLS takes a certificate with its key from the form of crypto/tls.
func FromTLS(pair tls.Certificate) (*Issued, error) {
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("sandbox ca: the key does not sign")
	}
	i := &Issued{Key: key}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("sandbox ca: certificate: %w", err)
		}
		i.Chain = append(i.Chain, c)
	}
	return i, nil
}

// Issued is a certificate with its key.
type Issued struct {
	Chain []*x509.Certificate // the certificate, then the authority's
	Key   crypto.Signer
}

// Certificate is the issued one.
func (i *Issued) Certificate() *x509.Certificate { return i.Chain[0] }

// TLS gives the form that crypto/tls takes.
func (i *Issued) TLS() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.Chain[0].Raw}, PrivateKey: i.Key, Leaf: i.Chain[0]}
}

// CertPEM is the issued certificate followed by the authority's.
func (i *Issued) CertPEM() []byte { return encodeCert(i.Chain...) }

// KeyPEM is the private key in PKCS #8.
func (i *Issued) KeyPEM() ([]byte, error) { return encodeKey(i.Key) }

func encodeCert(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("sandbox ca: encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
