// Package revocation is what the issuers of certificates said of them when something was sealed, kept beside the signature and the time
// stamp: lists of revoked certificates (RFC 5280) and answers of responders (RFC 6960), by which others judge years later, offline, that
// nothing was revoked then.
//
// It owns the form in which they are kept (PEM, as openssl reads it) and the judgement of a chain by them. It fetches nothing, and never
// takes silence for a good word: what nobody said is unknown.
package revocation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"ceralacca.dev/services/format/validation"
)

// Endings of the files beside a signature or a time stamp.
const (
	Lists   = ".crl"  // PEM: X509 CRL
	Answers = ".ocsp" // PEM: OCSP RESPONSE
)

const (
	listBlock   = "X509 CRL"
	answerBlock = "OCSP RESPONSE"
)

// Said is what was fetched for one signature or time stamp, in DER.
type Said struct {
	CRLs  [][]byte `json:"crls,omitempty"`
	OCSPs [][]byte `json:"ocsps,omitempty"`
	// Lacks says of which certificate nothing could be had, and why.
	Lacks []string `json:"lacks,omitempty"`
}

// Files are the files that are kept, by the ending of their names; none when nobody said anything.
func (s Said) Files() map[string][]byte {
	files := map[string][]byte{}
	for ending, of := range map[string]struct {
		block string
		list  [][]byte
	}{Lists: {listBlock, s.CRLs}, Answers: {answerBlock, s.OCSPs}} {
		var out bytes.Buffer
		for _, der := range of.list {
			_ = pem.Encode(&out, &pem.Block{Type: of.block, Bytes: der}) // into memory
		}
		if out.Len() > 0 {
			files[ending] = out.Bytes()
		}
	}
	return files
}

// Parse is what the files hold; either may be nil. Errors: there is something else in them than lists and answers.
func Parse(lists, answers []byte) (Said, error) {
	var s Said
	for _, f := range []struct {
		block string
		raw   []byte
		list  *[][]byte
	}{{listBlock, lists, &s.CRLs}, {answerBlock, answers, &s.OCSPs}} {
		for rest := f.raw; len(bytes.TrimSpace(rest)) > 0; {
			var b *pem.Block
			b, rest = pem.Decode(rest)
			if b == nil || b.Type != f.block {
				return Said{}, fmt.Errorf("revocation: there is something else in it than %s", f.block)
			}
			*f.list = append(*f.list, b.Bytes)
		}
	}
	return s, nil
}

// Read reads these files; either may be nil. Errors: what is in them is no list and no answer.
func Read(lists, answers []byte) (validation.Evidence, error) {
	s, err := Parse(lists, answers)
	if err != nil {
		return validation.Evidence{}, err
	}
	e := validation.Evidence{OCSPs: s.OCSPs}
	for _, der := range s.CRLs {
		list, err := validation.ParseCRL(der)
		if err != nil {
			return validation.Evidence{}, fmt.Errorf("revocation: %w", err)
		}
		e.CRLs = append(e.CRLs, list)
	}
	return e, nil
}

// Chain orders certificates from leaf to its root, or as far as they reach: to one of the roots when these are given and it leads there,
// by the certificates that came with the signature otherwise.
func Chain(leaf *x509.Certificate, others []*x509.Certificate, roots *x509.CertPool, at time.Time) []*x509.Certificate {
	if roots != nil {
		between := x509.NewCertPool()
		for _, c := range others {
			between.AddCert(c)
		}
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err == nil {
			return chains[0]
		}
	}
	chain := []*x509.Certificate{leaf}
	for last := leaf; !bytes.Equal(last.RawSubject, last.RawIssuer); {
		i := slices.IndexFunc(others, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, last.RawIssuer) && !slices.Contains(chain, c) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			break
		}
		last = others[i]
		chain = append(chain, last)
	}
	return chain
}

// Judge says of each certificate of a chain but its root what is known of it at a time. Of one whose issuer is not in the chain nothing
// is: what was said of it cannot be verified.
func Judge(chain []*x509.Certificate, e validation.Evidence, at time.Time) []validation.Link {
	var links []validation.Link
	for i, cert := range chain {
		switch {
		case i+1 < len(chain):
			links = append(links, e.About(cert, chain[i+1], at))
		case !bytes.Equal(cert.RawSubject, cert.RawIssuer):
			links = append(links, validation.Link{Subject: cert.Subject.String(), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Revocation: validation.StateUnknown})
		}
	}
	return links
}

// Revoked is the first link that was revoked or suspended at the time of the judgement.
func Revoked(links []validation.Link, at time.Time) (validation.Link, bool) {
	i := slices.IndexFunc(links, func(l validation.Link) bool {
		return (l.Revocation == validation.StateRevoked || l.Revocation == validation.StateSuspended) && !at.Before(l.RevokedAt)
	})
	if i < 0 {
		return validation.Link{}, false
	}
	return links[i], true
}

// Known says whether all of a chain is known not to have been revoked.
func Known(links []validation.Link) bool {
	return len(links) > 0 && !slices.ContainsFunc(links, func(l validation.Link) bool { return l.Revocation == validation.StateUnknown })
}

// Beside says in one line what the files beside a signature or time stamp know of its certificates at a time. problem: one was revoked, or
// the files cannot be read. Both are empty when there are none.
func Beside(lists, answers []byte, chain []*x509.Certificate, at time.Time) (holds, problem string) {
	if lists == nil && answers == nil {
		return "", ""
	}
	e, err := Read(lists, answers)
	if err != nil {
		return "", err.Error()
	}
	links := Judge(chain, e, at)
	switch link, revoked := Revoked(links, at); {
	case revoked:
		return "", fmt.Sprintf("%s was revoked on %s (%s)", link.Subject, link.RevokedAt.UTC().Format(time.RFC3339), link.Source)
	case Known(links):
		return fmt.Sprintf("none of its %d certificates was revoked at %s", len(links), at.UTC().Format(time.RFC3339)), ""
	}
	return "what issuers said of its certificates is there and does not say of all of them that they were not revoked", ""
}
