package validation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// What is known of a certificate: Link.Revocation.
const (
	StateGood      = "good"
	StateRevoked   = "revoked"
	StateSuspended = "suspended"
	StateUnknown   = "unknown"
)

// Reasons that are no end of a certificate. spec: RFC5280 §5.3.1
const (
	reasonHold   = 6 // certificateHold: it may be lifted again
	reasonRemove = 8 // removeFromCRL: it was lifted, or the certificate is over
)

type status struct {
	state, source string
	since         time.Time // of the revocation
	told          time.Time // when the source was made
	why           string    // nothing could be learnt, when something went wrong
}

// ParseCRL reads a list in DER or PEM.
func ParseCRL(raw []byte) (*x509.RevocationList, error) {
	if b, _ := pem.Decode(raw); b != nil {
		raw = b.Bytes
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, fmt.Errorf("validation: no revocation list, DER or PEM: %w", err)
	}
	return list, nil
}

// revocation says what the given lists and responses know of a certificate at a time. A source
// speaks for the time when it was made after it, or is still in force at it. Of several, one that
// says revoked counts more than one that says good; one that says suspended too, unless a newer one,
// of that time at the latest, says good: then it was lifted before.
// spec: RFC5280 §6.3; RFC6960 §3.2; EN319102-1 §5.2.5
func (j *judge) revocation(cert, issuer *x509.Certificate, at time.Time) status {
	var all []status
	read := func(e Evidence) {
		for _, l := range e.CRLs {
			if s, ok := fromCRL(l, cert, issuer, at); ok {
				all = append(all, s)
			}
		}
		for _, raw := range e.OCSPs {
			if s, ok := fromOCSP(raw, cert, issuer, at); ok {
				all = append(all, s)
			}
		}
	}
	read(Evidence{j.o.CRLs, j.o.OCSPs})
	best := foremost(all, at)
	if best.state == StateUnknown && j.o.Ask != nil {
		e, err := j.o.Ask(j.ctx, cert, issuer)
		read(e)
		best = foremost(all, at)
		if err != nil && best.state == StateUnknown {
			best.why = err.Error()
		}
	}
	return best
}

// About says what the evidence knows of a certificate at a time, and nothing else of it.
func (e Evidence) About(cert, issuer *x509.Certificate, at time.Time) Link {
	s := (&judge{o: Options{CRLs: e.CRLs, OCSPs: e.OCSPs}}).revocation(cert, issuer, at)
	return Link{Subject: cert.Subject.String(), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Revocation: s.state, Source: s.source, RevokedAt: s.since}
}

// foremost picks what counts at a time out of what is known.
func foremost(all []status, at time.Time) status {
	pick := func(fits func(status) bool, before func(a, b status) bool) *status {
		var best *status
		for i := range all {
			if fits(all[i]) && (best == nil || before(all[i], *best)) {
				best = &all[i]
			}
		}
		return best
	}
	begun := func(s status) bool { return !at.Before(s.since) }
	earlier := func(a, b status) bool { return a.since.Before(b.since) }
	newer := func(a, b status) bool { return a.told.After(b.told) }
	is := func(state string) func(status) bool { return func(s status) bool { return s.state == state } }
	held := pick(func(s status) bool { return s.state == StateSuspended && begun(s) }, newer)
	if held != nil && slices.ContainsFunc(all, func(s status) bool {
		return s.state == StateGood && s.told.After(held.told) && !s.told.After(at)
	}) {
		held = nil // lifted
	}
	for _, s := range []*status{
		pick(func(s status) bool { return s.state == StateRevoked && begun(s) }, earlier),
		held,
		pick(func(s status) bool { return (s.state == StateRevoked || s.state == StateSuspended) && !begun(s) }, earlier),
		pick(is(StateGood), newer),
	} {
		if s != nil {
			return *s
		}
	}
	return status{state: StateUnknown}
}

var (
	oidReasonCode        = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidCertificateIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

func fromCRL(l *x509.RevocationList, cert, issuer *x509.Certificate, at time.Time) (status, bool) {
	if !bytes.Equal(l.RawIssuer, cert.RawIssuer) || l.CheckSignatureFrom(issuer) != nil {
		return status{}, false
	}
	out := status{source: "CRL of " + l.ThisUpdate.UTC().Format(time.RFC3339), told: l.ThisUpdate}
	ours, legible := true, true // an indirect list begins with the entries of its own issuer
	for i := range l.RevokedCertificateEntries {
		e := &l.RevokedCertificateEntries[i]
		for _, x := range e.Extensions {
			switch {
			case x.Id.Equal(oidCertificateIssuer): // of this entry and of those after it. spec: RFC5280 §5.3.3
				ours = namesIssuer(x.Value, cert)
			case x.Critical && !x.Id.Equal(oidReasonCode):
				legible = false // spec: RFC5280 §5.3
			}
		}
		if !ours || e.SerialNumber.Cmp(cert.SerialNumber) != 0 {
			continue
		}
		out.since = e.RevocationTime
		switch e.ReasonCode {
		case reasonRemove:
			return status{}, false // of a delta: what the list that it belongs to says is over
		case reasonHold:
			out.state = StateSuspended
		default:
			out.state = StateRevoked
		}
		return out, true
	}
	if !legible || !covers(l, cert) || !speaksFor(l.ThisUpdate, l.NextUpdate, cert, at) {
		return status{}, false
	}
	out.state = StateGood
	return out, true
}

// namesIssuer: the certificateIssuer of an entry (GeneralNames, one directoryName) is the certificate's.
func namesIssuer(der []byte, cert *x509.Certificate) bool {
	names, err := children(der)
	return err == nil && slices.ContainsFunc(names, func(n asn1.RawValue) bool {
		return n.Class == asn1.ClassContextSpecific && n.Tag == 4 && bytes.Equal(n.Bytes, cert.RawIssuer)
	})
}

// covers: a delta, an indirect list, or one for some reasons, another kind of certificate or
// another distribution point does not say that this certificate is good, and is left aside; so is one
// with a critical extension that is not known here. spec: RFC5280 §5.2, §5.2.4, §5.2.5, §6.3.3 (b)
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
		case "2.5.29.20", "2.5.29.35": // cRLNumber, authorityKeyIdentifier: the signature was verified
		default:
			if e.Critical {
				return false
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
	out := status{source: "OCSP of " + r.ThisUpdate.UTC().Format(time.RFC3339), told: r.ThisUpdate}
	switch {
	case r.Status == ocsp.Revoked && r.RevocationReason == ocsp.CertificateHold:
		out.state, out.since = StateSuspended, r.RevokedAt
	case r.Status == ocsp.Revoked:
		out.state, out.since = StateRevoked, r.RevokedAt
	case r.Status == ocsp.Good && speaksFor(r.ThisUpdate, nextOf(r), cert, at):
		out.state = StateGood
	default:
		return status{}, false
	}
	return out, true
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
