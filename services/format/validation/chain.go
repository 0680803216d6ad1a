package validation

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
)

// path is a chain with what is known of it.
type path struct {
	certs []*x509.Certificate // the signer's first, the anchor last
	links []Link
}

// maxPaths is how many chains of one certificate are judged; cross-certificates can make many.
const maxPaths = 8

// build finds the chains to an anchor, whatever the time: expiry is judged apart, since a proof of
// existence may help against it. Without one there is the conclusion.
func (j *judge) build(leaf *x509.Certificate, others []*x509.Certificate, service string, at time.Time) ([]*path, Conclusion) {
	roots, any := x509.NewCertPool(), false
	for _, list := range [][]*x509.Certificate{j.o.Roots, j.o.Trust.Anchors(service, at)} {
		for _, c := range list {
			roots.AddCert(c)
			any = true
		}
	}
	if !any {
		return nil, unsure(NoChain, "there are no anchors to judge the chain by"+j.withdrawn(leaf, service, at))
	}
	pool := x509.NewCertPool()
	for _, list := range [][]*x509.Certificate{others, j.o.Intermediates} {
		for _, c := range list {
			pool.AddCert(c)
		}
	}
	o := x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: within(leaf, at), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	chains, err := leaf.Verify(o)
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		// an authority that ended before the signer's certificate does: look when it was issued
		o.CurrentTime = leaf.NotBefore.Add(time.Second)
		chains, err = leaf.Verify(o)
	}
	if err != nil {
		var unknown x509.UnknownAuthorityError
		if errors.As(err, &unknown) {
			return nil, unsure(NoChain, err.Error()+j.withdrawn(leaf, service, at))
		}
		return nil, unsure(ChainGeneral, err.Error())
	}
	var out []*path
	for _, chain := range chains[:min(len(chains), maxPaths)] {
		p := &path{certs: chain}
		for i, c := range chain {
			p.links = append(p.links, Link{Subject: c.Subject.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Anchor: i == len(chain)-1})
		}
		out = append(out, p)
	}
	return out, passed()
}

// choose judges the chains one after the other and takes the first that passes, or else the first of
// the best: that one chain cannot be judged to its end says nothing of a certificate that has another.
// spec: RFC5280 §6.1; EN319102-1 §5.2.6.4
func choose(paths []*path, judge func(*path) Conclusion) (*path, Conclusion) {
	var best *path
	var conclusion Conclusion
	for _, p := range paths {
		c := judge(p)
		if best == nil || c.weight() < conclusion.weight() {
			best, conclusion = p, c
		}
		if conclusion.Verdict == Passed {
			break
		}
	}
	return best, conclusion
}

// withdrawn tells why the listed service that issued a certificate is no anchor.
func (j *judge) withdrawn(leaf *x509.Certificate, service string, at time.Time) string {
	if j.o.Trust == nil {
		return ""
	}
	for _, s := range j.o.Trust.Services {
		issued := slices.ContainsFunc(s.Certificates, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil
		})
		if st, ok := s.At(at); issued && ok && st.Type == service && !st.Granted() {
			return fmt.Sprintf(" (the trusted list of %s has %q as %s since %s)", s.Territory, s.Name, st.Short(), st.Since.Format(time.DateOnly))
		}
	}
	return ""
}

// within moves a time into a certificate's validity.
func within(c *x509.Certificate, at time.Time) time.Time {
	switch {
	case at.Before(c.NotBefore):
		return c.NotBefore
	case at.After(c.NotAfter):
		return c.NotAfter
	}
	return at
}

// alive judges revocation and validity of a chain at the best time; after is a time from which
// the signature is proven to be (zero: none). spec: EN319102-1 §5.2.6, §5.5.4
func (j *judge) alive(p *path, best, after time.Time, proven bool) Conclusion {
	out := passed()
	keep := func(c Conclusion) {
		if c.weight() > out.weight() {
			out = c
		}
	}
	for i, c := range p.certs {
		if i > 0 && p.links[i].Anchor {
			break
		}
		s := status{state: StateGood} // a signer who is an anchor himself has no issuer to revoke him
		if !p.links[i].Anchor {
			s = j.revocation(c, p.certs[i+1], best)
		}
		p.links[i].Revocation, p.links[i].Source, p.links[i].RevokedAt = s.state, s.source, s.since
		who := commonName(c)
		switch {
		case s.state == StateRevoked && i == 0 && !after.IsZero() && !after.Before(s.since):
			keep(failed(Revoked, fmt.Sprintf("%s was revoked at %s and the signature was made after %s", who, stamp(s.since), stamp(after))))
		case s.state == StateRevoked && best.Before(s.since):
			// it was good when the signature is proven to have been there
		case s.state == StateRevoked && i == 0:
			keep(unsure(RevokedNoPOE, fmt.Sprintf("%s was revoked at %s, and nothing proves that the signature is older", who, stamp(s.since))))
		case s.state == StateRevoked:
			keep(unsure(RevokedCANoPOE, fmt.Sprintf("the authority %s was revoked at %s, and nothing proves that the signature is older", who, stamp(s.since))))
		case s.state == StateSuspended && !best.Before(s.since):
			keep(unsure(TryLater, fmt.Sprintf("%s is suspended since %s", who, stamp(s.since))))
		}
		switch {
		case i == 0 && best.Before(c.NotBefore) && proven:
			keep(failed(NotYetValid, fmt.Sprintf("the signature is older (%s) than the certificate (%s)", stamp(best), stamp(c.NotBefore))))
		case i == 0 && !after.IsZero() && after.After(c.NotAfter):
			keep(failed(Expired, fmt.Sprintf("the certificate ended at %s and the signature was made after %s", stamp(c.NotAfter), stamp(after))))
		case best.Before(c.NotBefore) || best.After(c.NotAfter):
			sub := OutOfBoundsNoPOE
			if s.state == StateGood {
				sub = OutOfBoundsNotRevoked
			}
			keep(unsure(sub, fmt.Sprintf("%s is valid from %s to %s, and the signature is proven for %s only", who, stamp(c.NotBefore), stamp(c.NotAfter), stamp(best))))
		case s.state == StateUnknown:
			why := "no revocation list or OCSP response speaks for " + who + " at " + stamp(best)
			if s.why != "" {
				why += ": " + s.why
			}
			keep(unsure(TryLater, why))
		}
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func commonName(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	return c.Subject.String()
}

func person(c *x509.Certificate) *Person {
	p := &Person{Name: commonName(c), ID: c.Subject.SerialNumber, Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: hex.EncodeToString(c.SerialNumber.Bytes())}
	if len(c.Subject.Organization) > 0 {
		p.Organization = c.Subject.Organization[0]
	}
	if len(c.Subject.Country) > 0 {
		p.Country = c.Subject.Country[0]
	}
	return p
}
