package pec

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"ceralacca.dev/services/format/cms"
)

// ChainCache remembers what is the same for all messages of a signer: its parsed certificates, chains that held and
// between which times all of their certificates are valid, and who signed lists of revoked certificates. It belongs to
// one set of roots: make a new one when the trust list changes. It may be shared by goroutines.
type ChainCache struct {
	certificates cms.Certificates

	mu    sync.Mutex
	held  map[[sha256.Size]byte]window
	lists map[*x509.RevocationList]*listIndex
}

type window struct{ from, to time.Time }

// These bound the cache: there are some tens of providers, and a few lists for each.
const (
	maxChains = 4096
	maxLists  = 256
)

// parse is cms.ParseLimited with the certificates that are known.
func (c *ChainCache) parse(raw []byte, lim cms.Limits) (*cms.SignedData, error) {
	if c == nil {
		return cms.ParseLimited(raw, lim)
	}
	return c.certificates.ParseLimited(raw, lim)
}

// known says whether the signer's certificate has a chain that held and is valid at that time.
func (c *ChainCache) known(sd *cms.SignedData, at time.Time) bool {
	if c == nil || len(sd.Signers) != 1 {
		return false
	}
	cert := sd.Signers[0].Certificate(sd.Certificates)
	if cert == nil {
		return false
	}
	c.mu.Lock()
	w, ok := c.held[sha256.Sum256(cert.Raw)]
	c.mu.Unlock()
	return ok && !at.Before(w.from) && !at.After(w.to)
}

func (c *ChainCache) keep(cert *x509.Certificate, chain []*x509.Certificate) {
	if c == nil || cert == nil || len(chain) == 0 {
		return
	}
	w := window{cert.NotBefore, cert.NotAfter}
	for _, link := range chain {
		if link.NotBefore.After(w.from) {
			w.from = link.NotBefore
		}
		if link.NotAfter.Before(w.to) {
			w.to = link.NotAfter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil || len(c.held) >= maxChains {
		c.held = map[[sha256.Size]byte]window{}
	}
	c.held[sha256.Sum256(cert.Raw)] = w
}

// listIndex is what is known of one list: whose it was found to be, and its entries by serial number. Authorities list
// tens of thousands.
type listIndex struct {
	signed  map[[sha256.Size]byte]bool // certificates whose issuer signed the list too
	serials map[string][]int
}

// index gives what is known of a list; nil without a cache. The caller holds no lock.
func (c *ChainCache) index(list *x509.RevocationList) *listIndex {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.lists[list]; known != nil {
		return known
	}
	fresh := &listIndex{signed: map[[sha256.Size]byte]bool{}, serials: make(map[string][]int, len(list.RevokedCertificateEntries))}
	for i := range list.RevokedCertificateEntries {
		serial := string(list.RevokedCertificateEntries[i].SerialNumber.Bytes())
		fresh.serials[serial] = append(fresh.serials[serial], i)
	}
	if c.lists == nil || len(c.lists) >= maxLists {
		c.lists = map[*x509.RevocationList]*listIndex{}
	}
	c.lists[list] = fresh
	return fresh
}

// signedBySame says whether one issuer signed both. That it did is remembered; that none of these issuers did says
// nothing about others, which a next message may bring.
func (c *ChainCache) signedBySame(cert *x509.Certificate, issuers []*x509.Certificate, list *x509.RevocationList, known *listIndex) bool {
	if known == nil {
		return signedBySame(cert, issuers, list)
	}
	sum := sha256.Sum256(cert.Raw)
	c.mu.Lock()
	is := known.signed[sum]
	c.mu.Unlock()
	if is || !signedBySame(cert, issuers, list) {
		return is
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(known.signed) < maxChains {
		known.signed[sum] = true
	}
	return true
}

// revocation looks a certificate up in the lists that the caller has. Issuers are candidates: one
// counts only when it signed both the certificate and the list. A revocation after the moment of
// judgement changes nothing about a receipt that was signed before. spec: RFC5280 §5, §6.3
func (c *ChainCache) revocation(cert *x509.Certificate, issuers []*x509.Certificate, lists []*x509.RevocationList, at time.Time) (string, time.Time) {
	state := RevocationUnknown
	for _, list := range lists {
		if !bytes.Equal(list.RawIssuer, cert.RawIssuer) {
			continue
		}
		known := c.index(list)
		if !c.signedBySame(cert, issuers, list, known) {
			continue
		}
		for _, i := range known.entries(list, cert) {
			e := &list.RevokedCertificateEntries[i]
			if e.SerialNumber.Cmp(cert.SerialNumber) != 0 {
				continue
			}
			if !e.RevocationTime.After(at) {
				return RevocationRevoked, e.RevocationTime
			}
			state = RevocationGood // it was still good then
		}
		if partial(list) || list.ThisUpdate.After(cert.NotAfter) && !keepsEnded(list, cert) {
			continue // that it names nobody says nothing
		}
		// a list speaks for the moment when it was issued after it, or was current at it
		if !list.ThisUpdate.Before(at) || !list.NextUpdate.IsZero() && !at.After(list.NextUpdate) {
			state = RevocationGood
		}
	}
	return state, time.Time{}
}

// entries gives those that may be of the certificate: all without an index. Serial numbers may be negative; the index
// goes by their size alone.
func (k *listIndex) entries(list *x509.RevocationList, cert *x509.Certificate) []int {
	if k != nil {
		return k.serials[string(cert.SerialNumber.Bytes())]
	}
	all := make([]int, len(list.RevokedCertificateEntries))
	for i := range all {
		all[i] = i
	}
	return all
}
