package validation

import (
	"crypto/x509"
	"fmt"
	"time"
)

// IssueLimit is what the standard asks of certificates by the size of their key, beside how long the algorithm is relied
// on: one that is issued later is against it, and so is one that would be in force longer.
type IssueLimit struct {
	Name                     string // as in Limit
	From, Below              int    // bits of the key: From <= size < Below
	IssuedBefore, EndsBefore time.Time
	// Disputed is the day from which an earlier edition no longer relied on such keys; zero: none did.
	Disputed time.Time
}

// DefaultIssueLimits: RSA of 1900 to 2999 bits is in no certificate issued after 2026-12-31, and in none in force after
// 2028-12-31. The editions before, after SOG-IS's list of 2020, ended its use with 2025: who asks for the stricter of two
// finds a warning of that name. spec: TS119312 §8.4 (2026), V1.4.3 table 10
func DefaultIssueLimits() []IssueLimit {
	return []IssueLimit{{"RSA", 1900, 3000, day(2027, 1, 1), day(2029, 1, 1), day(2026, 1, 1)}}
}

// Names of the warnings about certificates; each stands before its text and a colon.
const (
	WarnIssuedTooLate = "KEY_TOO_SHORT_WHEN_ISSUED"
	WarnEndsTooLate   = "KEY_TOO_SHORT_AT_THE_END"
	WarnDisputed      = "KEY_SIZE_DISPUTED"
)

// Issued says which limits a certificate breaks: warnings by name, the gravest first; nil when it breaks none.
// The time that something is signed with it is for WarnDisputed alone; zero: it is not asked.
func Issued(limits []IssueLimit, cert *x509.Certificate, at time.Time) []string {
	key := keyOf("", cert.PublicKey)
	var out []string
	say := func(name, format string, a ...any) {
		out = append(out, fmt.Sprintf("%s: the certificate %s has a key %s, "+format, append([]any{name, commonName(cert), key}, a...)...))
	}
	for _, l := range limits {
		if l.Name != key.name || key.bits < l.From || key.bits >= l.Below {
			continue
		}
		if !cert.NotBefore.Before(l.IssuedBefore) {
			say(WarnIssuedTooLate, "and was issued on %s: no certificate with a key below %d bits is to be issued from %s on", cert.NotBefore.UTC().Format(time.DateOnly), l.Below, l.IssuedBefore.Format(time.DateOnly))
		}
		if !cert.NotAfter.Before(l.EndsBefore) {
			say(WarnEndsTooLate, "and ends on %s: such a key is relied on until %s", cert.NotAfter.UTC().Format(time.DateOnly), l.EndsBefore.Format(time.DateOnly))
		}
		if !at.IsZero() && !l.Disputed.IsZero() && !at.Before(l.Disputed) && at.Before(l.EndsBefore) {
			say(WarnDisputed, "which this policy relies on until %s and earlier editions of the standard did until %s", l.EndsBefore.Format(time.DateOnly), l.Disputed.Format(time.DateOnly))
		}
	}
	return out
}

// issued are the warnings about the certificates of a path; those of anchors are nobody's to judge.
func issued(p *path, at time.Time) []string {
	var out []string
	for i, c := range p.certs {
		if p.links[i].Anchor {
			break
		}
		if i > 0 {
			at = time.Time{} // of the signer's key it is said once, of authorities not at all
		}
		out = append(out, Issued(DefaultIssueLimits(), c, at)...)
	}
	return out
}
