package validation

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/trustlist"
)

// path is a chain with what is known of it.
type path struct {
	certs []*x509.Certificate // the signer's first, the anchor last
	links []Link
}

// build finds a chain to an anchor, whatever the time: expiry is judged apart, since a proof of
// existence may help against it.
func (j *judge) build(leaf *x509.Certificate, others []*x509.Certificate, service string, at time.Time) (*path, Conclusion) {
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
	p := &path{certs: chains[0]}
	for i, c := range p.certs {
		p.links = append(p.links, Link{Subject: c.Subject.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Anchor: i == len(p.certs)-1})
	}
	return p, passed()
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
		s := status{state: stateGood} // a signer who is an anchor himself has no issuer to revoke him
		if !p.links[i].Anchor {
			s = j.revocation(c, p.certs[i+1], best)
		}
		p.links[i].Revocation, p.links[i].Source, p.links[i].RevokedAt = s.state, s.source, s.since
		who := commonName(c)
		switch {
		case s.state == stateRevoked && i == 0 && !after.IsZero() && !after.Before(s.since):
			keep(failed(Revoked, fmt.Sprintf("%s was revoked at %s and the signature was made after %s", who, stamp(s.since), stamp(after))))
		case s.state == stateRevoked && best.Before(s.since):
			// it was good when the signature is proven to have been there
		case s.state == stateRevoked && i == 0:
			keep(unsure(RevokedNoPOE, fmt.Sprintf("%s was revoked at %s, and nothing proves that the signature is older", who, stamp(s.since))))
		case s.state == stateRevoked:
			keep(unsure(RevokedCANoPOE, fmt.Sprintf("the authority %s was revoked at %s, and nothing proves that the signature is older", who, stamp(s.since))))
		case s.state == stateSuspended && !best.Before(s.since):
			keep(unsure(TryLater, fmt.Sprintf("%s is suspended since %s", who, stamp(s.since))))
		}
		switch {
		case i == 0 && best.Before(c.NotBefore) && proven:
			keep(failed(NotYetValid, fmt.Sprintf("the signature is older (%s) than the certificate (%s)", stamp(best), stamp(c.NotBefore))))
		case i == 0 && !after.IsZero() && after.After(c.NotAfter):
			keep(failed(Expired, fmt.Sprintf("the certificate ended at %s and the signature was made after %s", stamp(c.NotAfter), stamp(after))))
		case best.Before(c.NotBefore) || best.After(c.NotAfter):
			sub := OutOfBoundsNoPOE
			if s.state == stateGood {
				sub = OutOfBoundsNotRevoked
			}
			keep(unsure(sub, fmt.Sprintf("%s is valid from %s to %s, and the signature is proven for %s only", who, stamp(c.NotBefore), stamp(c.NotAfter), stamp(best))))
		case s.state == stateUnknown:
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

// Statements of a certificate. spec: EN319412-5 §4.2, §4.3
var (
	oidQCStatements = []int{1, 3, 6, 1, 5, 5, 7, 1, 3}
	qcCompliance    = []byte{0x06, 0x06, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x01}
	qcSSCD          = []byte{0x06, 0x06, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x04}
	qcTypeSeal      = []byte{0x06, 0x07, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x06, 0x02}
	qcTypeWeb       = []byte{0x06, 0x07, 0x04, 0x00, 0x8e, 0x46, 0x01, 0x06, 0x03}
)

// qualify says what trusted lists make of the certificate, at its issue and at the best time.
// A qualifier that the list puts on some certificates of a service by criteria that are not read
// here makes the result undetermined rather than too good. spec: TS119615 §4.4, §4.5
func (j *judge) qualify(p *path, best time.Time) Qualification {
	if j.o.Trust == nil {
		return Qualification{Result: "undetermined", Reason: "no trusted list was given"}
	}
	if p == nil {
		return Qualification{Result: "undetermined", Reason: "no chain to a service of a trusted list"}
	}
	leaf := p.certs[0]
	var services []*trustlist.Service
	for _, c := range p.certs {
		services = append(services, j.o.Trust.Find(c, trustlist.TypeCAQC)...)
	}
	none := Qualification{Result: "not qualified", Reason: "no service of a trusted list issued the certificate"}
	for _, s := range services { // one that was granted at both times is enough
		q := Qualification{Service: s.Name, Country: s.Territory}
		now, ok := s.At(best)
		then, okThen := s.At(leaf.NotBefore)
		if !ok || !okThen || now.Type != trustlist.TypeCAQC || !now.Granted() || !then.Granted() {
			q.Result, q.Reason = "not qualified", "the service was not granted at the issue of the certificate and at the time of the signature"
			none = q
			continue
		}
		return statements(q, leaf, append(slices.Clone(now.Qualifiers), then.Qualifiers...))
	}
	return none
}

func statements(q Qualification, leaf *x509.Certificate, qualifiers []string) Qualification {
	var der []byte
	for _, e := range leaf.Extensions {
		if e.Id.Equal(oidQCStatements) {
			der = e.Value
		}
	}
	says := func(b []byte) bool { return bytes.Contains(der, b) }
	listed := func(names ...string) bool {
		return slices.ContainsFunc(qualifiers, func(uri string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return len(uri) > len(n) && uri[len(uri)-len(n)-1:] == "/"+n })
		})
	}
	device := says(qcSSCD)
	switch {
	case !says(qcCompliance) && listed("QCStatement"):
		q.Result, q.Reason = "undetermined", "the list says of some certificates of the service that they are qualified; its criteria are not read"
	case !says(qcCompliance):
		q.Result, q.Reason = "not qualified", "the certificate does not state that it is qualified"
	case says(qcTypeWeb):
		q.Result, q.Reason = "not qualified", "the certificate is for web sites"
	case listed("NotQualified"), device && listed("QCNoSSCD", "QCNoQSCD"):
		q.Result, q.Reason = "undetermined", "the list takes the qualification from some certificates of the service; its criteria are not read"
	case says(qcTypeSeal) && device:
		q.Result = "qualified seal"
	case says(qcTypeSeal):
		q.Result = "advanced seal with a qualified certificate"
	case device:
		q.Result = "qualified signature"
	default:
		q.Result = "advanced signature with a qualified certificate"
	}
	return q
}
