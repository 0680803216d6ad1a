package pec

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ceralacca.dev/services/sandbox/ca"
)

// signerFile keeps a provider's certificate and key between starts, so that a customer who has
// approved the certificate need not do so again.
const signerFile = "signer.pem"

// renewal is how long before its end a kept certificate is replaced.
const renewal = 30 * 24 * time.Hour

// signer gives a provider's certificate: the kept one while it is good, else a new one.
func (w *World) signer(authority *ca.CA, dir, name, address string) (*ca.Issued, error) {
	if dir == "" {
		return authority.IssueMailSigner(name, address)
	}
	path := filepath.Join(dir, signerFile)
	pair, err := tls.LoadX509KeyPair(path, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("%s: %w: delete the file and a new certificate is made at the next start", path, err)
	default:
		kept, ok := usable(authority, pair, name, address, w.cfg.Clock.Now().Add(renewal))
		if ok {
			return kept, nil
		}
	}
	made, err := authority.IssueMailSigner(name, address)
	if err != nil {
		return nil, err
	}
	key, err := made.KeyPEM()
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, signerFile+".*") // CreateTemp makes it 0600
	if err != nil {
		return nil, fmt.Errorf("keep the certificate: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(made.CertPEM(), key...))
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return nil, fmt.Errorf("keep the certificate: %w", err)
	}
	return made, nil
}

// usable says whether a kept certificate is this authority's, for this provider, and lasts.
func usable(authority *ca.CA, pair tls.Certificate, name, address string, until time.Time) (*ca.Issued, bool) {
	i, err := ca.FromTLS(pair)
	if err != nil || len(i.Chain) != 2 || !i.Chain[1].Equal(authority.Certificate()) {
		return nil, false
	}
	c := i.Chain[0]
	same := c.Subject.CommonName == name && len(c.EmailAddresses) == 1 && c.EmailAddresses[0] == address
	return i, same && until.Before(c.NotAfter) && c.CheckSignatureFrom(i.Chain[1]) == nil
}
