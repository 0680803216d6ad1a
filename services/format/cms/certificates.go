package cms

import (
	"bytes"
	"crypto/x509"
	"sync"
)

// Certificates remembers certificates that were parsed, by their bytes. Who reads thousands of files of a few signers
// parses each certificate once. The zero value is ready; goroutines may share it. What it gives is shared and not to
// be changed.
type Certificates struct {
	mu   sync.RWMutex
	seen map[string]*x509.Certificate
}

const (
	maxCertificates = 1024    // when there are more, it begins anew: a stranger's files cost time and no memory
	maxRemembered   = 8 << 10 // bytes of one; larger ones are parsed each time
)

// ParseLimited is the function of that name, with certificates that are known taken from here. It may be nil.
func (c *Certificates) ParseLimited(raw []byte, lim Limits) (*SignedData, error) {
	return parseLimited(raw, lim, c)
}

// parse gives the certificate of some DER.
func (c *Certificates) parse(der []byte) (*x509.Certificate, error) {
	if c == nil || len(der) > maxRemembered {
		return x509.ParseCertificate(der)
	}
	c.mu.RLock()
	cert := c.seen[string(der)]
	c.mu.RUnlock()
	if cert != nil {
		return cert, nil
	}
	// A certificate holds on to the bytes that it was parsed from: these are its own, not those of a whole file.
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil || len(c.seen) >= maxCertificates {
		c.seen = map[string]*x509.Certificate{}
	}
	c.seen[string(der)] = cert
	return cert, nil
}
