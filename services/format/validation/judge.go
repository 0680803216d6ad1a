package validation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/trustlist"
	"ceralacca.dev/services/format/tsp"
)

// Options says what to judge by. At is required; without Roots and Trust no chain is found,
// without CRLs and OCSPs every certificate's revocation is unknown, and the verdict says so.
type Options struct {
	At            time.Time
	Roots         []*x509.Certificate // anchors of signers and of time-stamp authorities
	Intermediates []*x509.Certificate
	Trust         *trustlist.Trust // services of type CA/QC and TSA/QTST are anchors while granted
	CRLs          []*x509.RevocationList
	OCSPs         [][]byte // DER of OCSPResponse
	Content       []byte   // of a detached signature or a time-stamp; nil: not given
	// Beside is what Content is, where it is not to be held in memory.
	Beside Source
	// InMemory is the largest file of a form that cannot be judged in pieces (XML, .tsd, .m7m, Base64);
	// larger ones are indeterminate. 64 MiB when zero.
	InMemory int64
	Policy   []Limit // nil: DefaultPolicy
	// Ask, when set, is asked for what the given lists and responses do not know.
	Ask Ask
}

// Ask gets revocation data of a certificate whose issuer is known. It is asked about certificates
// of a chain that leads to an anchor only, so addresses in certificates that nobody trusted issued
// are never followed. What it brings is judged like what the caller gave; an error leaves the
// certificate unknown and stands in the reason.
type Ask func(ctx context.Context, cert, issuer *x509.Certificate) (Evidence, error)

// Evidence is revocation data, not yet judged.
type Evidence struct {
	CRLs  []*x509.RevocationList
	OCSPs [][]byte // DER of OCSPResponse
}

// ErrUnsigned: there is nothing to judge in the file.
var ErrUnsigned = errors.New("validation: the file holds no signature and no time-stamp")

// ErrNoTime: Options.At is zero.
var ErrNoTime = errors.New("validation: the time of judgement is missing")

// judge carries the options through one file.
type judge struct {
	ctx     context.Context
	o       Options
	content Source // of a detached signature; nil: not given
	unread  error  // of a source: nothing can be said of the file then
}

// proof is up to when something is proven to have existed; proven is false when that is only
// the time of judgement.
type proof struct {
	at     time.Time
	proven bool
}

func (p proof) earlier(t time.Time) proof {
	if t.Before(p.at) {
		return proof{t, true}
	}
	return p
}

// rawStamp is a token with what it should be over.
type rawStamp struct {
	token []byte
	data  []Source // one after the other; nil: not there
}

// candidate is a signature of any form, with what its library said.
type candidate struct {
	sig      Signature
	fault    Conclusion // of form or integrity; empty verdict: none
	others   []*x509.Certificate
	used     []primitive
	stamps   []rawStamp // over the signature value
	contents []rawStamp // over the content, before it was signed
	proof    proof
}

// sign gives the verdict of one signature. spec: EN319102-1 §5.3, §5.5
func (j *judge) sign(c *candidate) Signature {
	s := c.sig
	best := c.proof
	for _, raw := range c.stamps {
		st := j.stamp(raw, "signature", c.proof.at)
		s.Stamps = append(s.Stamps, st)
		if st.Verdict == Passed {
			best = best.earlier(st.Time)
		} else {
			s.Warnings = append(s.Warnings, "a time-stamp proves nothing: "+st.Reason)
		}
	}
	var after time.Time
	for _, raw := range c.contents {
		st := j.stamp(raw, "content", c.proof.at)
		s.Stamps = append(s.Stamps, st)
		if st.Verdict == Passed && st.Time.After(after) {
			after = st.Time
		}
	}
	s.BestTime, s.Proven = best.at, best.proven
	s.Qualification = Qualification{Result: "undetermined", Reason: "the signature could not be judged that far"}
	if s.Certificate != nil {
		s.Signer = person(s.Certificate)
		if !s.Claimed.IsZero() && s.Claimed.After(best.at.Add(2*time.Minute)) {
			s.Warnings = append(s.Warnings, fmt.Sprintf("the signer states %s, which is after %s", stamp(s.Claimed), stamp(best.at)))
		}
	}
	s.Conclusion = j.conclude(c, &s, best, after)
	if !s.Integrity || s.Verdict == Failed {
		s.Qualification = Qualification{Result: "undetermined", Reason: "the signature does not hold"}
	}
	return s
}

// conclude goes through the building blocks; what is wrong with the signature itself comes before
// what is not known of its certificate.
func (j *judge) conclude(c *candidate, s *Signature, best proof, after time.Time) Conclusion {
	if c.fault.Verdict == Failed {
		return c.fault
	}
	if s.Certificate == nil {
		if c.fault.Verdict != "" {
			return c.fault
		}
		return unsure(NoSigningCertificate, "the certificate of the signer is not in the file")
	}
	own := append(c.used, keyOf("key of the signer", s.Certificate.PublicKey))
	by := func(p *path) []primitive {
		if p == nil {
			return own
		}
		return append(slices.Clone(own), authorities(p)...)
	}
	paths, none := j.build(s.Certificate, c.others, trustlist.TypeCAQC, best.at)
	p, conclusion := choose(paths, func(p *path) Conclusion {
		chain := j.alive(p, best.at, after, best.proven)
		if _, weak := weigh(j.o.Policy, by(p), best.at); weak != "" && chain.Verdict != Failed {
			return unsure(j.weakness(by(p), best), weak)
		}
		return chain
	})
	var listed []string
	s.Qualification, listed = j.qualify(p, best.at)
	s.Warnings = append(s.Warnings, listed...)
	s.Algorithms, _ = weigh(j.o.Policy, by(p), best.at)
	if p != nil {
		s.Chain = p.links
		s.Warnings = append(s.Warnings, issued(p, best.at)...)
	}
	switch {
	case c.fault.Verdict != "":
		return c.fault
	case p == nil:
		return none
	}
	return conclusion
}

// weakness: an algorithm that was never good, or was over when the signature is proven to have
// been there, cannot be mended by an older proof.
func (j *judge) weakness(used []primitive, best proof) Sub {
	for _, p := range used {
		if list, weak := weigh(j.o.Policy, []primitive{p}, best.at); weak != "" && !list[0].Until.After(never) {
			return CryptoConstraints
		}
	}
	return CryptoConstraintsNoPOE
}

func authorities(p *path) []primitive {
	var out []primitive
	for i, c := range p.certs {
		if p.links[i].Anchor {
			break
		}
		if i > 0 {
			out = append(out, keyOf("key of "+commonName(c), c.PublicKey))
		}
		if h, ok := certificateHash(c); ok {
			out = append(out, h)
		}
	}
	return out
}

// TimestampOrder: the stamp is from after the time of judgement.
const TimestampOrder Sub = "TIMESTAMP_ORDER_FAILURE"

// stamp judges one token at a time up to which it is proven to have existed.
// spec: EN319102-1 §5.4; RFC3161 §2.2
func (j *judge) stamp(raw rawStamp, kind string, at time.Time) Stamp {
	out := Stamp{Kind: kind, Qualified: "undetermined"}
	tok, err := tsp.ParseToken(raw.token)
	if err != nil {
		out.Conclusion = failed(FormatFailure, err.Error())
		return out
	}
	out.Time = tok.Info.Time
	cert := tok.Certificate()
	if cert == nil && len(tok.Signed.Signers) == 1 {
		cert = tok.Signed.Signers[0].Certificate(j.o.Intermediates)
	}
	if cert != nil {
		out.Authority = cert.Subject.String()
	}
	if raw.data == nil {
		out.Conclusion = unsure(SignedDataNotFound, "what was stamped is not in the file and was not given")
		return out
	}
	if out.Conclusion = j.token(tok, raw.data); out.Verdict != Passed {
		return out
	}
	if tok.Info.Time.After(at.Add(time.Minute)) {
		out.Conclusion = unsure(TimestampOrder, fmt.Sprintf("stamped at %s, after %s", stamp(tok.Info.Time), stamp(at)))
		return out
	}
	used := []primitive{{"imprint of the time-stamp", tok.Info.Hash.String(), 0}, keyOf("key of the time-stamp authority", cert.PublicKey)}
	paths, none := j.build(cert, tok.Signed.Certificates, trustlist.TypeTSAQTST, tok.Info.Time)
	p, chain := choose(paths, func(p *path) Conclusion {
		chain := j.alive(p, at, time.Time{}, false)
		if _, weak := weigh(j.o.Policy, append(slices.Clone(used), authorities(p)...), at); weak != "" && chain.Verdict == Passed {
			return unsure(CryptoConstraintsNoPOE, weak)
		}
		return chain
	})
	if out.Conclusion = chain; p == nil {
		out.Conclusion = none
	} else {
		out.Chain = p.links
	}
	if j.o.Trust != nil {
		out.Qualified = "no"
		for i := 0; p != nil && i < len(p.certs); i++ {
			for _, s := range j.o.Trust.Find(p.certs[i], trustlist.TypeTSAQTST) {
				if st, ok := s.At(tok.Info.Time); ok && st.Type == trustlist.TypeTSAQTST && st.Granted() {
					out.Qualified = "yes"
				}
			}
		}
	}
	return out
}

// token makes the checks that need no anchor.
func (j *judge) token(tok *tsp.Token, data []Source) Conclusion {
	h := tok.Info.Hash.New()
	for _, d := range data {
		if _, err := cms.Copy(h, io.NewSectionReader(d, 0, d.Size())); err != nil {
			return unsure(SignedDataNotFound, err.Error()) // the judgement ends: see watched
		}
	}
	err := tok.Verify(tsp.VerifyOptions{Digest: h.Sum(nil), Intermediates: j.o.Intermediates})
	var bad *tsp.TokenError
	switch {
	case err == nil:
		return passed()
	case !errors.As(err, &bad):
		return failed(FormatFailure, err.Error())
	}
	switch bad.Fault {
	case tsp.FaultImprint:
		return failed(HashFailure, bad.Reason)
	case tsp.FaultSignature:
		if strings.Contains(bad.Reason, "not in the file") {
			return unsure(NoSigningCertificate, bad.Reason)
		}
		return failed(SigCryptoFailure, bad.Reason)
	case tsp.FaultESS:
		return unsure(NoSigningCertificate, bad.Reason)
	case tsp.FaultUsage, tsp.FaultTime:
		return unsure(ChainConstraints, bad.Reason)
	}
	return failed(FormatFailure, bad.Reason)
}

// shown takes the checks of a library into the report.
func shown(list ...cms.NamedCheck) []Check {
	var out []Check
	for _, c := range list {
		if c.Verdict != "" {
			out = append(out, Check{c.Name, string(c.Verdict), c.Reason})
		}
	}
	return out
}

// hashNamed is the primitive of a hash by the name that the libraries give it.
func hashNamed(use, name string) []primitive {
	if name == "" {
		return nil
	}
	return []primitive{{use, name, 0}}
}

// unsupported: the library could not judge, which is no fault of the signature.
func unsupported(reason string) bool { return strings.Contains(reason, "not supported") }
