package pec

import (
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
)

// Provider is one entry of the trust list: a gestore and the certificates that it signs with.
type Provider struct {
	Name    string   // providerName, as in gestore-emittente and in the certificate's subject
	Signers []string // addresses that it signs as (posta-certificata@...); empty: any of its certificates
	Domains []string // domains that it manages, lower case; empty: unknown
	// Certificates are the SHA-256 of its certificates in hex. A provider in renewal has several.
	Certificates []string
	// CertificatesSHA1 are the hashes of the index of providers. spec: RFC6109 §5.6
	CertificatesSHA1 []string
}

// TrustList is who may sign certified mail. The caller keeps it; its version goes into reports.
type TrustList struct {
	Version       string
	Providers     []Provider
	Roots         *x509.CertPool // of the authorities behind the providers; nil: chains are not judged
	Intermediates []*x509.Certificate

	domains      map[string]*Provider // nil before Index
	certificates map[string]*Provider // by either hash
}

// Index makes looking up cost the same whatever the size of the list: providers manage a hundred thousand domains.
// The providers may not be changed after it.
func (l *TrustList) Index() {
	l.domains, l.certificates = map[string]*Provider{}, map[string]*Provider{}
	for i := range l.Providers {
		p := &l.Providers[i]
		for _, d := range p.Domains {
			first(l.domains, asciiDomain(d), p)
		}
		for _, list := range [][]string{p.Certificates, p.CertificatesSHA1} {
			for _, sum := range list {
				first(l.certificates, sum, p)
			}
		}
	}
}

// first keeps the first provider that has a name, as a search from the top finds it.
func first(of map[string]*Provider, name string, p *Provider) {
	name = strings.ToLower(strings.TrimSpace(name))
	if of[name] == nil {
		of[name] = p
	}
}

// find gives the provider that has the certificate in the list.
func (l *TrustList) find(cert *x509.Certificate) *Provider {
	if l == nil {
		return nil
	}
	s256 := sha256.Sum256(cert.Raw)
	s1 := sha1.Sum(cert.Raw) // as the index has it
	long, short := hex.EncodeToString(s256[:]), hex.EncodeToString(s1[:])
	if l.certificates != nil {
		if p := l.certificates[long]; p != nil {
			return p
		}
		return l.certificates[short]
	}
	for i := range l.Providers {
		p := &l.Providers[i]
		if containsFold(p.Certificates, long) || containsFold(p.CertificatesSHA1, short) {
			return p
		}
	}
	return nil
}

// Manager gives the provider that manages a domain, nil when none is known.
func (l *TrustList) Manager(domain string) *Provider {
	if l == nil {
		return nil
	}
	if l.domains != nil {
		return l.domains[asciiDomain(domain)]
	}
	for i := range l.Providers {
		if l.Providers[i].Manages(domain) {
			return &l.Providers[i]
		}
	}
	return nil
}

// Manages says whether the domain is one of the provider's. spec: RFC6109 §4.5 managedDomains
func (p *Provider) Manages(domain string) bool {
	domain = asciiDomain(domain)
	return slices.ContainsFunc(p.Domains, func(d string) bool { return asciiDomain(d) == domain })
}

func containsFold(list []string, v string) bool {
	for _, s := range list {
		if strings.EqualFold(strings.TrimSpace(s), v) {
			return true
		}
	}
	return false
}

// sameName compares names of providers: case and blanks differ from file to file.
func sameName(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}
