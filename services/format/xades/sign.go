package xades

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrKeyMismatch: the key is not the one that the certificate certifies.
var ErrKeyMismatch = errors.New("xades: the signing key does not belong to the certificate")

// ErrBadSignature: the key gave back a signature that the certificate does not verify.
var ErrBadSignature = errors.New("xades: the signature made by the key does not verify with the certificate")

// Shape is how the signature is laid out.
type Shape int

const (
	// ShapeBES is XAdES-BES for documents: SigningCertificate, DataObjectFormat, references that
	// do not depend on where the signature stands. spec: TS101903 §4.4.1
	ShapeBES Shape = iota
	// ShapeReceipt is what SdI puts on its receipts: the same Ids, references without
	// canonicalisation transform, a reference to KeyInfo, no SigningCertificate. It can be on a
	// document once only.
	ShapeReceipt
)

// Signer is a key with its certificates, the signer's own first. A key with a method
// SignContext(ctx, digest, opts) gets the caller's context (see cms.ContextSigner).
type Signer struct {
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Options of one signature.
type Options struct {
	SigningTime time.Time // required; written with its offset (ShapeReceipt: in UTC)
	Shape       Shape
	// Timestamp, when set, makes XAdES-T; not for ShapeReceipt.
	Timestamp Stamp
}

type contextSigner interface {
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Sign puts an enveloped signature before the root's closing tag; the other bytes stay as they
// are. RSA keys sign rsa-sha256 (PKCS#1 v1.5), ECDSA keys ecdsa-sha256.
// Errors: *SyntaxError for the document, ErrKeyMismatch, ErrBadSignature, the key's own;
// *TimestampError comes with the BES document.
func Sign(ctx context.Context, doc []byte, s Signer, o Options) ([]byte, error) {
	if len(s.Chain) == 0 || s.Chain[0] == nil {
		return nil, errors.New("xades: the signer has no certificate")
	}
	if o.SigningTime.IsZero() {
		return nil, errors.New("xades: signing time is required")
	}
	leaf := s.Chain[0]
	if o.SigningTime.Before(leaf.NotBefore) || o.SigningTime.After(leaf.NotAfter) {
		return nil, fmt.Errorf("xades: the certificate is not valid at the signing time %s", o.SigningTime.Format(time.RFC3339))
	}
	if pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(s.Key.Public()) {
		return nil, ErrKeyMismatch
	}
	w, err := newWriter(doc, s.Chain, o)
	if err != nil {
		return nil, err
	}
	at, err := spliceAt(doc)
	if err != nil {
		return nil, err
	}
	tree, err := parse(splice(doc, at, w.render()))
	if err != nil {
		return nil, err
	}
	if err := w.check(tree); err != nil {
		return nil, err
	}
	digest, err := w.digest(tree)
	if err != nil {
		return nil, err
	}
	if w.value, err = sign(ctx, s.Key, leaf, digest); err != nil {
		return nil, err
	}
	bes := splice(doc, at, w.render())
	if o.Timestamp == nil {
		return bes, nil
	}
	sig := tree.ids[w.id][0]
	value := sig.child(nsDSig, "SignatureValue")
	value.children = []*node{{kind: kindText, text: base64.StdEncoding.EncodeToString(w.value), parent: value}}
	if w.token, err = stampValue(ctx, sig, o.Timestamp); err != nil {
		return bes, err
	}
	return splice(doc, at, w.render()), nil
}

func spliceAt(doc []byte) (int, error) {
	if _, err := toUTF8(bytes.TrimPrefix(doc, utf8BOM)); err != nil {
		return 0, err // tags are looked for in bytes: the encoding has to contain ASCII
	}
	l, err := lex(doc)
	if err != nil {
		return 0, err
	}
	if l.rootClose < 0 {
		return 0, errors.New("xades: the root is an empty tag: there is no place for a signature inside it")
	}
	return l.rootClose, nil
}

func splice(doc []byte, at int, s string) []byte {
	out := make([]byte, 0, len(doc)+len(s))
	out = append(out, doc[:at]...)
	out = append(out, s...)
	return append(out, doc[at:]...)
}

// sign gives the value as XML signatures carry it.
func sign(ctx context.Context, key crypto.Signer, cert *x509.Certificate, digest []byte) ([]byte, error) {
	var sig []byte
	var err error
	if remote, ok := key.(contextSigner); ok {
		sig, err = remote.SignContext(ctx, digest, crypto.SHA256)
	} else if err = ctx.Err(); err == nil {
		sig, err = key.Sign(rand.Reader, digest, crypto.SHA256)
	}
	if err != nil {
		return nil, fmt.Errorf("xades: signing key: %w", err)
	}
	alg := signatureAlgorithms[algRSASHA256]
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		if sig, err = fixedLength(pub, sig); err != nil {
			return nil, err
		}
		alg = signatureAlgorithms[algECDSASHA256]
	}
	if verifyValue(cert.PublicKey, alg, digest, sig) != nil {
		return nil, ErrBadSignature
	}
	return sig, nil
}

// writer lays out one Signature. The text is made twice: with empty digests, to be put into
// the document and canonicalised there, and with everything filled in.
type writer struct {
	shape    Shape
	chain    []*x509.Certificate
	time     string
	id       string // of the Signature
	alg      string
	docRef   string
	propsRef string
	keyRef   string
	value    []byte
	token    []byte // of the signature time-stamp; nil: none
}

func newWriter(doc []byte, chain []*x509.Certificate, o Options) (*writer, error) {
	w := &writer{shape: o.Shape, chain: chain, time: o.SigningTime.Format(time.RFC3339), id: "Signature1"}
	switch chain[0].PublicKey.(type) {
	case *rsa.PublicKey:
		w.alg = algRSASHA256
	case *ecdsa.PublicKey:
		w.alg = algECDSASHA256
	default:
		return nil, fmt.Errorf("xades: certificate key is %T: use RSA or ECDSA", chain[0].PublicKey)
	}
	switch o.Shape {
	case ShapeReceipt:
		if o.Timestamp != nil {
			return nil, errors.New("xades: a receipt of SdI carries no time-stamp")
		}
		w.time = o.SigningTime.UTC().Format(time.RFC3339)
	case ShapeBES:
		// An Id that this document cannot hold yet, and the same one each time it is made.
		h := sha256.New()
		h.Write(doc)
		h.Write(chain[0].Raw)
		h.Write([]byte(w.time))
		w.id = "xades-" + hex.EncodeToString(h.Sum(nil)[:8])
	default:
		return nil, fmt.Errorf("xades: unknown shape %d", o.Shape)
	}
	return w, nil
}

func (w *writer) ids() (props, key string) {
	if w.shape == ShapeReceipt {
		return "SignedProperties_1", "KeyInfoId"
	}
	return w.id + "-props", w.id + "-keyinfo"
}

const filterTransform = `<ds:Transform Algorithm="` + algFilter2 + `"><XPath xmlns="` + algFilter2 +
	`" Filter="subtract">/descendant::ds:Signature</XPath></ds:Transform>`

const excTransforms = `<ds:Transforms><ds:Transform Algorithm="` + algExcC14N + `"/></ds:Transforms>`

// render writes the Signature without any white space of its own.
func (w *writer) render() string {
	props, key := w.ids()
	docID, propsID, keyID, valueID := w.id+"-doc", w.id+"-refprops", w.id+"-refkey", w.id+"-value"
	transforms := excTransforms
	if w.shape == ShapeReceipt {
		// Ids as in SdI's own receipts, its spelling included.
		docID, propsID, keyID, valueID = "reference-document", "reference-signedpropeties", "reference-keyinfo", "SignatureValue1"
		transforms = ""
	}
	var b strings.Builder
	p := func(parts ...string) {
		for _, s := range parts {
			b.WriteString(s)
		}
	}
	digest := func(value string) {
		p(`<ds:DigestMethod Algorithm="`, algSHA256, `"/><ds:DigestValue>`, value, `</ds:DigestValue></ds:Reference>`)
	}
	p(`<ds:Signature xmlns:ds="`, nsDSig, `" Id="`, w.id, `"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="`, algExcC14N,
		`"/><ds:SignatureMethod Algorithm="`, w.alg, `"/>`)
	p(`<ds:Reference Id="`, docID, `" URI=""><ds:Transforms>`, filterTransform, `</ds:Transforms>`)
	digest(w.docRef)
	p(`<ds:Reference Id="`, propsID, `" Type="`, typeSignedProperties, `" URI="#`, props, `">`, transforms)
	digest(w.propsRef)
	p(`<ds:Reference Id="`, keyID, `" URI="#`, key, `">`, transforms)
	digest(w.keyRef)
	p(`</ds:SignedInfo><ds:SignatureValue Id="`, valueID, `">`, base64.StdEncoding.EncodeToString(w.value), `</ds:SignatureValue>`)
	p(`<ds:KeyInfo Id="`, key, `"><ds:X509Data>`)
	certs := w.chain
	if w.shape == ShapeReceipt {
		certs = certs[:1]
	}
	for _, c := range certs {
		p(`<ds:X509Certificate>`, base64.StdEncoding.EncodeToString(c.Raw), `</ds:X509Certificate>`)
	}
	p(`</ds:X509Data></ds:KeyInfo><ds:Object><xades:QualifyingProperties xmlns:xades="`, nsXAdES, `" Target="#`, w.id,
		`"><xades:SignedProperties Id="`, props, `"><xades:SignedSignatureProperties><xades:SigningTime>`, w.time, `</xades:SigningTime>`)
	if w.shape == ShapeBES {
		p(signingCertificate(w.chain[0]))
	}
	p(`</xades:SignedSignatureProperties>`)
	if w.shape == ShapeBES {
		p(`<xades:SignedDataObjectProperties><xades:DataObjectFormat ObjectReference="#`, docID,
			`"><xades:MimeType>text/xml</xades:MimeType></xades:DataObjectFormat></xades:SignedDataObjectProperties>`)
	}
	p(`</xades:SignedProperties>`)
	if w.token != nil {
		p(unsignedProperties(w.token, false))
	}
	p(`</xades:QualifyingProperties></ds:Object></ds:Signature>`)
	return b.String()
}

// signingCertificate: spec: TS101903 §7.2.2
func signingCertificate(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return `<xades:SigningCertificate><xades:Cert><xades:CertDigest><ds:DigestMethod Algorithm="` + algSHA256 + `"/><ds:DigestValue>` +
		base64.StdEncoding.EncodeToString(sum[:]) + `</ds:DigestValue></xades:CertDigest><xades:IssuerSerial><ds:X509IssuerName>` +
		escapeASCII(c.Issuer.String()) + `</ds:X509IssuerName><ds:X509SerialNumber>` + c.SerialNumber.String() +
		`</ds:X509SerialNumber></xades:IssuerSerial></xades:Cert></xades:SigningCertificate>`
}

// escapeASCII writes characters beyond ASCII by their number: the document may be in Latin-1.
func escapeASCII(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '&' || r == '<' || r == '>' || r < 0x20 || r > 0x7e:
			fmt.Fprintf(&b, "&#%d;", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// check refuses what would come out broken.
func (w *writer) check(tree *document) error {
	props, key := w.ids()
	for _, id := range []string{w.id, props, key} {
		if len(tree.ids[id]) != 1 {
			return fmt.Errorf("xades: the document has an element with Id %q already", id)
		}
	}
	var err error
	tree.root.descendants(nsDSig, "Signature", func(sig *node) {
		if id, _ := sig.attr("Id"); id == w.id {
			return
		}
		for _, ref := range sig.child(nsDSig, "SignedInfo").all(nsDSig, "Reference") {
			if uri, _ := ref.attr("URI"); uri == "" && !leavesOutAll(ref) {
				err = errors.New("xades: the document carries a signature that a second one would break (it leaves out itself only)")
			}
		}
	})
	return err
}

func leavesOutAll(ref *node) bool {
	return slices.ContainsFunc(ref.child(nsDSig, "Transforms").all(nsDSig, "Transform"), func(t *node) bool {
		alg, _ := t.attr("Algorithm")
		return alg == algFilter2 || alg == algXPath
	})
}

// digest fills the references' digests, in the text and in the tree, and gives the SHA-256 of
// the canonical SignedInfo.
func (w *writer) digest(tree *document) ([]byte, error) {
	sig := tree.ids[w.id][0]
	info := sig.child(nsDSig, "SignedInfo")
	refs := info.all(nsDSig, "Reference")
	for i, dst := range []*string{&w.docRef, &w.propsRef, &w.keyRef} {
		sum, _, err := tree.referenceDigest(refs[i], sig, crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("xades: %w", err)
		}
		*dst = base64.StdEncoding.EncodeToString(sum)
		value := refs[i].child(nsDSig, "DigestValue")
		value.children = []*node{{kind: kindText, text: *dst, parent: value}}
	}
	canon, _ := byAlgorithm(algExcC14N, nil)
	h := sha256.New()
	if err := canon.write(h, info); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// referenceDigest computes what a reference's DigestValue has to be.
func (d *document) referenceDigest(ref, sig *node, hash crypto.Hash) ([]byte, cover, error) {
	c, err := d.resolve(ref, sig)
	if err != nil {
		return nil, c, err
	}
	h := hash.New()
	if err := c.canon.write(h, c.apex); err != nil {
		return nil, c, err
	}
	return h.Sum(nil), c, nil
}

// Canonical gives the document in Canonical XML 1.0 without comments (exclusive: in the exclusive
// form). For inspection and for tests against other programs.
func Canonical(doc []byte, exclusive bool) ([]byte, error) {
	tree, err := parse(doc)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := (canonicalizer{exclusive: exclusive}).write(&b, tree.top); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
