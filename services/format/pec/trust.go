package pec

import (
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"time"
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
	// Withdrawals say from when on signatures count no more. What is withdrawn stays in the lists above: what it signed
	// before stays true, and a later index that still names it brings nothing back.
	Withdrawals []Withdrawal
}

// Withdrawal ends the trust in a provider or in one certificate of it.
type Withdrawal struct {
	Certificate string    // SHA-256 or SHA-1 in hex; empty: all of the provider's
	From        time.Time // zero: it was never to be trusted
}

// withdrawn gives the withdrawal that holds at a moment for the certificate with these hashes.
func (p *Provider) withdrawn(long, short string, at time.Time) *Withdrawal {
	for i := range p.Withdrawals {
		w := &p.Withdrawals[i]
		named := w.Certificate == "" || strings.EqualFold(w.Certificate, long) || strings.EqualFold(w.Certificate, short)
		if named && !at.Before(w.From) {
			return w
		}
	}
	return nil
}

// what names what was withdrawn.
func (w *Withdrawal) what(p *Provider) string {
	if w.Certificate == "" {
		return p.Name
	}
	return "this certificate of " + p.Name
}

// gone says whether the whole provider is withdrawn, from whenever.
func (p *Provider) gone() bool {
	return slices.ContainsFunc(p.Withdrawals, func(w Withdrawal) bool { return w.Certificate == "" })
}

// TrustList is who may sign certified mail. The caller keeps it; its version goes into reports.
type TrustList struct {
	Version       string
	Providers     []Provider
	Roots         *x509.CertPool // of the authorities behind the providers; nil: chains are not judged
	Intermediates []*x509.Certificate

	domains      map[string][]*Provider // nil before Index
	certificates map[string][]*Provider // by either hash
}

// Index makes looking up cost the same whatever the size of the list: providers manage a hundred thousand domains.
// The providers may not be changed after it.
func (l *TrustList) Index() {
	l.domains, l.certificates = map[string][]*Provider{}, map[string][]*Provider{}
	for i := range l.Providers {
		p := &l.Providers[i]
		for _, d := range p.Domains {
			enter(l.domains, asciiDomain(d), p)
		}
		for _, list := range [][]string{p.Certificates, p.CertificatesSHA1} {
			for _, sum := range list {
				enter(l.certificates, sum, p)
			}
		}
	}
}

// enter adds a provider under a name, in the order of the list.
func enter(of map[string][]*Provider, name string, p *Provider) {
	name = strings.ToLower(strings.TrimSpace(name))
	if !slices.Contains(of[name], p) {
		of[name] = append(of[name], p)
	}
}

// find gives the provider that has the certificate in the list at a moment. Where every one that has it is withdrawn by then, it
// gives the first with its withdrawal.
func (l *TrustList) find(cert *x509.Certificate, at time.Time) (*Provider, *Withdrawal) {
	if l == nil {
		return nil, nil
	}
	s256 := sha256.Sum256(cert.Raw)
	s1 := sha1.Sum(cert.Raw) // as the index has it
	long, short := hex.EncodeToString(s256[:]), hex.EncodeToString(s1[:])
	var ended *Provider
	var by *Withdrawal
	for _, p := range l.having(long, short) {
		w := p.withdrawn(long, short, at)
		if w == nil {
			return p, nil
		}
		if ended == nil {
			ended, by = p, w
		}
	}
	return ended, by
}

// serviceMailbox is whom providers sign as, each in a domain of its own. spec: RFC6109 §3.1.2, §5.5
const serviceMailbox = "posta-certificata@"

// signsAs says whether an address can be that of a provider, listed or not yet: authorities issue certificates to anybody, so that
// the chain of a person's holds as well as that of a provider's.
func (l *TrustList) signsAs(addr string) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(addr)), serviceMailbox) ||
		l != nil && slices.ContainsFunc(l.Providers, func(p Provider) bool { return containsFold(p.Signers, addr) })
}

// having gives the providers that list a certificate, by SHA-256 before SHA-1.
func (l *TrustList) having(long, short string) []*Provider {
	if l.certificates != nil {
		return slices.Concat(l.certificates[long], l.certificates[short])
	}
	var byLong, byShort []*Provider
	for i := range l.Providers {
		p := &l.Providers[i]
		if containsFold(p.Certificates, long) {
			byLong = append(byLong, p)
		}
		if containsFold(p.CertificatesSHA1, short) {
			byShort = append(byShort, p)
		}
	}
	return append(byLong, byShort...)
}

// Manager gives the provider that manages a domain, nil when none is known. One that is withdrawn gives way to another that
// took the domain over.
func (l *TrustList) Manager(domain string) *Provider {
	all := l.managers(domain)
	for _, p := range all {
		if !p.gone() {
			return p
		}
	}
	if len(all) > 0 {
		return all[0]
	}
	return nil
}

// managers gives all providers that are listed with a domain: it may have moved from one to another.
func (l *TrustList) managers(domain string) []*Provider {
	if l == nil {
		return nil
	}
	if l.domains != nil {
		return l.domains[asciiDomain(domain)]
	}
	var out []*Provider
	for i := range l.Providers {
		if l.Providers[i].Manages(domain) {
			out = append(out, &l.Providers[i])
		}
	}
	return out
}

// ManagedBy says whether the provider of this name manages a domain, or, when it was withdrawn, did before another took it over:
// what it signed while it was trusted stays true.
func (l *TrustList) ManagedBy(domain, provider string) bool {
	if m := l.Manager(domain); m != nil && m.Name == provider {
		return true
	}
	return slices.ContainsFunc(l.managers(domain), func(p *Provider) bool { return p.Name == provider && p.gone() })
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
