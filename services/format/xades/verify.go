package xades

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of one document's signatures, far above what is met.
const (
	maxSignatures = 16
	maxReferences = 16 // of one signature
	maxCerts      = 16 // of one signature
)

// Verdict is the outcome of one check.
type Verdict string

// The outcomes; NotJudged: nothing was given to judge by, or the thing is not there and need not be.
const (
	Passed    Verdict = "passed"
	Failed    Verdict = "failed"
	NotJudged Verdict = "not-judged"
)

// Check is one outcome with its reason.
type Check struct {
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
}

func pass(format string, args ...any) Check { return Check{Passed, fmt.Sprintf(format, args...)} }
func fail(format string, args ...any) Check { return Check{Failed, fmt.Sprintf(format, args...)} }
func unjudged(format string, args ...any) Check {
	return Check{NotJudged, fmt.Sprintf(format, args...)}
}

// Level is how far a signature goes.
type Level string

// The levels. A receipt of SdI is LevelSigningTime: it has signed properties, but no
// SigningCertificate.
const (
	LevelXMLDSig     Level = "XMLDSig"
	LevelSigningTime Level = "XAdES signing time"
	LevelBES         Level = "XAdES-BES"
	LevelT           Level = "XAdES-T" // with a signature time-stamp that holds
)

// VerifyOptions says what to judge by. The zero value judges integrity only.
type VerifyOptions struct {
	Roots                    *x509.CertPool
	TSARoots                 *x509.CertPool // of time-stamp authorities; nil: their trust is not judged
	Intermediates            []*x509.Certificate
	At                       time.Time // time of judgement; zero: trust is not judged
	RequireContentCommitment bool      // keyUsage nonRepudiation
	RequireBES               bool      // a missing SigningCertificate is a failure
	RequireSigningTime       bool      // a missing signing time is a failure (SdI code 00103)
	// OtherArchives also reads how programs of other archives name the document and its signature: the reference
	// "#xpointer(/)" and a filter that subtracts "/*/ds:Signature". SdI takes neither.
	OtherArchives bool
}

// SignatureReport is what is true of one signature.
type SignatureReport struct {
	ID          string              `json:"id,omitempty"`
	Certificate *x509.Certificate   `json:"-"`
	Chain       []*x509.Certificate `json:"-"`
	// Certificates are all that KeyInfo holds and Go can parse.
	Certificates []*x509.Certificate `json:"-"`
	SigningTime  time.Time           `json:"signingTime"`
	Algorithm    string              `json:"algorithm"`
	Level        Level               `json:"level"`

	Signature  Check `json:"signature"`          // the value verifies with the certificate's key
	References Check `json:"references"`         // every reference's digest is right
	Document   Check `json:"document"`           // the whole document is covered, its signatures excepted
	Signer     Check `json:"signingCertificate"` // SigningCertificate names this certificate
	Time       Check `json:"time"`
	Trust      Check `json:"trust"`
	KeyUsage   Check `json:"keyUsage"`

	Stamps   []StampReport `json:"stamps,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
}

// Err joins the failed checks; nil when the signature is intact and covers the document.
func (r *SignatureReport) Err() error {
	var bad []string
	for _, c := range []struct {
		name string
		Check
	}{
		{"signature", r.Signature}, {"references", r.References}, {"document", r.Document}, {"signing certificate", r.Signer},
		{"signing time", r.Time}, {"trust", r.Trust}, {"key usage", r.KeyUsage},
	} {
		if c.Verdict == Failed {
			bad = append(bad, c.name+": "+c.Reason)
		}
	}
	for _, st := range r.Stamps {
		if st.Check.Verdict == Failed {
			bad = append(bad, "time-stamp: "+st.Check.Reason)
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("xades: %s", strings.Join(bad, "; "))
	}
	return nil
}

// Report is what is true of a document's signatures.
type Report struct {
	Signatures []SignatureReport `json:"signatures"`
}

// ErrUnsigned: the document carries no signature.
var ErrUnsigned = errors.New("xades: the document carries no signature")

// Err is nil when there is a signature and all of them hold.
func (r *Report) Err() error {
	if len(r.Signatures) == 0 {
		return ErrUnsigned
	}
	for i := range r.Signatures {
		if err := r.Signatures[i].Err(); err != nil {
			return fmt.Errorf("signature %d of %d: %w", i+1, len(r.Signatures), err)
		}
	}
	return nil
}

// Verify judges every signature in the document. The error is that of a document that cannot
// be read; a signature that does not hold is in the report.
func Verify(doc []byte, o VerifyOptions) (*Report, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	var found []*node
	tree.root.descendants(nsDSig, "Signature", func(n *node) { found = append(found, n) })
	if len(found) > maxSignatures {
		return nil, fmt.Errorf("xades: %d signatures, the limit is %d", len(found), maxSignatures)
	}
	tree.lenient = o.OtherArchives
	r := &Report{}
	for _, sig := range found {
		r.Signatures = append(r.Signatures, tree.judge(sig, o))
	}
	return r, nil
}

func (d *document) judge(sig *node, o VerifyOptions) SignatureReport {
	r := SignatureReport{Level: LevelXMLDSig}
	r.ID, _ = sig.attr("Id")
	info := sig.child(nsDSig, "SignedInfo")
	props := d.checkReferences(&r, sig, info)
	certs := embedded(sig)
	r.Certificates = certs
	d.checkValue(&r, sig, info, slices.Concat(certs, o.Intermediates))
	r.checkProperties(props, o)
	d.judgeStamps(&r, sig, o)
	if r.Certificate == nil {
		r.Trust, r.KeyUsage = unjudged("no certificate"), unjudged("no certificate")
		return r
	}
	r.KeyUsage = checkKeyUsage(r.Certificate, o)
	r.Trust, r.Chain = checkTrust(r.Certificate, certs, o)
	return r
}

// checkReferences recomputes every digest and gives the SignedProperties that are signed.
// spec: XMLDSIG §3.2.1
func (d *document) checkReferences(r *SignatureReport, sig, info *node) *node {
	refs := info.all(nsDSig, "Reference")
	if len(refs) == 0 || len(refs) > maxReferences {
		r.References = fail("%d references, 1 to %d are expected", len(refs), maxReferences)
		r.Document = fail("nothing is covered")
		return nil
	}
	var props *node
	r.References, r.Document = pass(""), fail("no reference covers the whole document")
	for i, ref := range refs {
		c, err := d.checkReference(r, ref, sig)
		if err != nil {
			r.References = fail("reference %d of %d: %v", i+1, len(refs), err)
			r.Document = fail("not all references hold")
			return nil
		}
		if c.whole {
			r.Document = pass("")
		}
		if typ, _ := ref.attr("Type"); typ == typeSignedProperties && within(c.apex, sig) && c.apex.is(nsXAdES, "SignedProperties") && c.canon.skip == nil {
			props = c.apex
		}
	}
	return props
}

func (d *document) checkReference(r *SignatureReport, ref, sig *node) (cover, error) {
	alg, _ := ref.child(nsDSig, "DigestMethod").attr("Algorithm")
	hash, ok := digests[alg]
	if !ok {
		return cover{}, fmt.Errorf("digest algorithm %q is not supported", alg)
	}
	if hash == crypto.SHA1 {
		r.warn("a digest is SHA-1, which is no longer collision resistant")
	}
	want, err := decode64(ref.child(nsDSig, "DigestValue").value())
	if err != nil {
		return cover{}, err
	}
	got, c, err := d.referenceDigest(ref, sig, hash)
	if err != nil {
		return c, err
	}
	if !bytes.Equal(got, want) {
		uri, _ := ref.attr("URI")
		return c, fmt.Errorf("what %q refers to is not what was signed", uri)
	}
	return c, nil
}

func (r *SignatureReport) warn(text string) {
	for _, w := range r.Warnings {
		if w == text {
			return
		}
	}
	r.Warnings = append(r.Warnings, text)
}

func within(n, ancestor *node) bool {
	for ; n != nil; n = n.parent {
		if n == ancestor {
			return true
		}
	}
	return false
}

// checkValue finds the certificate whose key verifies the value over SignedInfo.
// spec: XMLDSIG §3.2.2
func (d *document) checkValue(r *SignatureReport, sig, info *node, certs []*x509.Certificate) {
	method, _ := info.child(nsDSig, "SignatureMethod").attr("Algorithm")
	alg, ok := signatureAlgorithms[method]
	if !ok {
		r.Signature = fail("signature algorithm %q is not supported", method)
		return
	}
	r.Algorithm = alg.name
	if alg.hash == crypto.SHA1 {
		r.warn("the signature is over SHA-1, which is no longer collision resistant")
	}
	canonEl := info.child(nsDSig, "CanonicalizationMethod")
	canonAlg, _ := canonEl.attr("Algorithm")
	canon, ok := byAlgorithm(canonAlg, canonEl)
	if !ok {
		r.Signature = fail("canonicalisation %q is not supported", canonAlg)
		return
	}
	value, err := decode64(sig.child(nsDSig, "SignatureValue").value())
	if err != nil {
		r.Signature = fail("signature value: %v", err)
		return
	}
	h := alg.hash.New()
	if err := canon.write(h, info); err != nil {
		r.Signature = fail("%v", err)
		return
	}
	digest := h.Sum(nil)
	r.Signature = fail("no certificate in KeyInfo")
	for _, c := range certs {
		if err := verifyValue(c.PublicKey, alg, digest, value); err != nil {
			if r.Certificate == nil {
				r.Signature = fail("%v", err)
			}
			continue
		}
		r.Certificate, r.Signature = c, pass("")
		return
	}
	if len(certs) > 0 {
		r.Certificate = certs[0] // the one that it claims
	}
}

// embedded gives the certificates in KeyInfo that Go can parse.
func embedded(sig *node) []*x509.Certificate {
	var out []*x509.Certificate
	for _, data := range sig.child(nsDSig, "KeyInfo").all(nsDSig, "X509Data") {
		for _, el := range data.all(nsDSig, "X509Certificate") {
			der, err := decode64(el.value())
			if err != nil || len(out) == maxCerts {
				continue
			}
			if c, err := x509.ParseCertificate(der); err == nil {
				out = append(out, c)
			}
		}
	}
	return out
}

func decode64(text string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		return nil, fmt.Errorf("not Base64: %w", err)
	}
	if len(b) == 0 {
		return nil, errors.New("value is empty")
	}
	return b, nil
}
