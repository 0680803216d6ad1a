package validation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// What is known of a certificate.
const (
	stateGood      = "good"
	stateRevoked   = "revoked"
	stateSuspended = "suspended"
	stateUnknown   = "unknown"
)

// reasonHold is certificateHold. spec: RFC5280 §5.3.1
const reasonHold = 6

type status struct {
	state, source string
	since         time.Time // of the revocation
	why           string    // nothing could be learnt, when something went wrong
}

// ParseCRL reads a list in DER or PEM.
func ParseCRL(raw []byte) (*x509.RevocationList, error) {
	if b, _ := pem.Decode(raw); b != nil {
		raw = b.Bytes
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, fmt.Errorf("validation: revocation list: %w", err)
	}
	return list, nil
}

// revocation says what the given lists and responses know of a certificate at a time. A source
// speaks for the time when it was made after it, or is still in force at it. Of several, one that
// says revoked counts more than one that says good.
// spec: RFC5280 §6.3; RFC6960 §3.2; EN319102-1 §5.2.5
func (j *judge) revocation(cert, issuer *x509.Certificate, at time.Time) status {
	best := status{state: stateUnknown}
	take := func(s status) {
		rank := []string{stateUnknown, stateGood, stateSuspended, stateRevoked}
		if slices.Index(rank, s.state) > slices.Index(rank, best.state) {
			best = s
		}
	}
	read := func(e Evidence) {
		for _, l := range e.CRLs {
			if s, ok := fromCRL(l, cert, issuer, at); ok {
				take(s)
			}
		}
		for _, raw := range e.OCSPs {
			if s, ok := fromOCSP(raw, cert, issuer, at); ok {
				take(s)
			}
		}
	}
	read(Evidence{j.o.CRLs, j.o.OCSPs})
	if best.state == stateUnknown && j.o.Ask != nil {
		e, err := j.o.Ask(j.ctx, cert, issuer)
		read(e)
		if err != nil && best.state == stateUnknown {
			best.why = err.Error()
		}
	}
	return best
}

func fromCRL(l *x509.RevocationList, cert, issuer *x509.Certificate, at time.Time) (status, bool) {
	if !bytes.Equal(l.RawIssuer, cert.RawIssuer) || l.CheckSignatureFrom(issuer) != nil {
		return status{}, false
	}
	source := "CRL of " + l.ThisUpdate.UTC().Format(time.RFC3339)
	for i := range l.RevokedCertificateEntries {
		e := &l.RevokedCertificateEntries[i]
		if e.SerialNumber.Cmp(cert.SerialNumber) != 0 || slices.ContainsFunc(e.Extensions, ofAnother) {
			continue
		}
		if e.ReasonCode == reasonHold {
			return status{state: stateSuspended, source: source, since: e.RevocationTime}, true
		}
		return status{state: stateRevoked, source: source, since: e.RevocationTime}, true
	}
	if !covers(l, cert) || !speaksFor(l.ThisUpdate, l.NextUpdate, cert, at) {
		return status{}, false
	}
	return status{state: stateGood, source: source}, true
}

// ofAnother: the entry of an indirect list is about another issuer's certificate. spec: RFC5280 §5.3.3
func ofAnother(e pkix.Extension) bool { return e.Id.String() == "2.5.29.29" }

// covers: a delta, an indirect list, or one for some reasons, another kind of certificate or
// another distribution point does not say that this certificate is good, and is left aside.
// spec: RFC5280 §5.2.4, §5.2.5, §6.3.3 (b)
func covers(l *x509.RevocationList, cert *x509.Certificate) bool {
	for _, e := range l.Extensions {
		switch e.Id.String() {
		case "2.5.29.27": // deltaCRLIndicator
			return false
		case "2.5.29.28": // issuingDistributionPoint
			members, err := children(e.Value)
			if err != nil {
				return false
			}
			for _, m := range members {
				switch {
				case m.Class != asn1.ClassContextSpecific:
					return false
				case m.Tag == 0:
					if !samePoint(m.FullBytes, cert) {
						return false
					}
				case m.Tag == 1 && !cert.IsCA, m.Tag == 2 && cert.IsCA: // only users', only authorities'
				default:
					return false
				}
			}
		}
	}
	return true
}

// samePoint: one address of the list's distribution point ([0] fullName, [6] URI) is one of the
// certificate's.
func samePoint(der []byte, cert *x509.Certificate) bool {
	names, err := children(der)
	if err != nil || len(names) != 1 {
		return false
	}
	list, err := children(names[0].FullBytes)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(n asn1.RawValue) bool {
		return n.Class == asn1.ClassContextSpecific && n.Tag == 6 && slices.Contains(cert.CRLDistributionPoints, string(n.Bytes))
	})
}

func fromOCSP(raw []byte, cert, issuer *x509.Certificate, at time.Time) (status, bool) {
	r, err := ocsp.ParseResponseForCert(raw, cert, issuer)
	if err != nil {
		return status{}, false
	}
	// spec: RFC6960 §4.2.2.2 (the responder is the issuer, or has id-kp-OCSPSigning from it)
	if c := r.Certificate; c != nil && !c.Equal(issuer) &&
		(!slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) || r.ProducedAt.Before(c.NotBefore) || r.ProducedAt.After(c.NotAfter)) {
		return status{}, false
	}
	source := "OCSP of " + r.ThisUpdate.UTC().Format(time.RFC3339)
	switch {
	case r.Status == ocsp.Revoked && r.RevocationReason == ocsp.CertificateHold:
		return status{state: stateSuspended, source: source, since: r.RevokedAt}, true
	case r.Status == ocsp.Revoked:
		return status{state: stateRevoked, source: source, since: r.RevokedAt}, true
	case r.Status == ocsp.Good && speaksFor(r.ThisUpdate, nextOf(r), cert, at):
		return status{state: stateGood, source: source}, true
	}
	return status{}, false
}

// fresh is how long a response counts that does not say how long it is in force: its responder
// always has newer information, and it takes a moment to arrive. spec: RFC6960 §4.2.2.1
const fresh = 5 * time.Minute

func nextOf(r *ocsp.Response) time.Time {
	if r.NextUpdate.IsZero() {
		return r.ThisUpdate.Add(fresh)
	}
	return r.NextUpdate
}

// speaksFor: what is made after the certificate's end may have forgotten it.
func speaksFor(this, next time.Time, cert *x509.Certificate, at time.Time) bool {
	if this.After(cert.NotAfter) {
		return false
	}
	return !this.Before(at) || !next.IsZero() && !at.After(next)
}
