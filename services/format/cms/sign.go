package cms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"time"
)

// ErrKeyMismatch: the key is not the one that the certificate certifies.
var ErrKeyMismatch = errors.New("cms: the signing key does not belong to the certificate")

// ErrBadSignature: the key gave back a signature that the certificate does not verify.
// Nothing is written then (a rotated Vault key does exactly this).
var ErrBadSignature = errors.New("cms: the signature made by the key does not verify with the certificate")

// ContextSigner is a crypto.Signer that goes over a network and wants the caller's context.
// When a key implements it, SignContext is called in place of Sign.
type ContextSigner interface {
	crypto.Signer
	SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Options says how one signature is made.
type Options struct {
	Certificate *x509.Certificate     // of the key that signs; RSA or ECDSA
	Chain       []*x509.Certificate   // further certificates to embed (issuers)
	ContentType asn1.ObjectIdentifier // nil: id-data
	SigningTime time.Time             // zero: no signing-time attribute (PAdES wants that)
	Signed      []Attribute           // further signed attributes
	BareSigner  bool                  // embed no certificate at all (RFC 3161 certReq FALSE)
	// ReadBack: the caller verifies what comes out with the certificate, before anybody has it. The value is not
	// verified here then, which would be the same work twice: half of what a signature costs beside the key.
	ReadBack bool
}

// Prepared is a signature about to be made: its signed attributes are fixed. It lets the
// caller send many digests to a remote key in one batch and assemble the files afterwards.
type Prepared struct {
	opts     Options
	attrs    []byte // DER of the signed attributes as a SET
	sigAlg   []byte
	certs    []byte // DER of [0] certificates, nil when none
	identity []byte // DER of issuerAndSerialNumber
	ctype    []byte // DER of the content type
}

// Prepare fixes the signed attributes for content with the given SHA-256.
// Errors: a key type that is neither RSA nor ECDSA, a digest of the wrong length.
func Prepare(contentSHA256 []byte, o Options) (*Prepared, error) {
	if o.Certificate == nil {
		return nil, errors.New("cms: no signing certificate given")
	}
	if len(contentSHA256) != sha256.Size {
		return nil, fmt.Errorf("cms: content digest has %d bytes, SHA-256 has %d", len(contentSHA256), sha256.Size)
	}
	p := &Prepared{opts: o, ctype: derOIDData}
	switch o.Certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		p.sigAlg = derSHA256WithRSA
	case *ecdsa.PublicKey:
		p.sigAlg = derECDSASHA256
	default:
		return nil, fmt.Errorf("cms: certificate key is %T: use RSA or ECDSA", o.Certificate.PublicKey)
	}
	if o.ContentType != nil && !o.ContentType.Equal(OIDData) {
		der, err := asn1.Marshal(o.ContentType)
		if err != nil {
			return nil, fmt.Errorf("cms: content type %v: %w", o.ContentType, err)
		}
		p.ctype = der
	}
	serial, err := asn1.Marshal(o.Certificate.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("cms: serial number: %w", err)
	}
	p.identity = tlv(tagSequence, o.Certificate.RawIssuer, serial)
	if !o.BareSigner {
		p.certs = certificateSet(o.Certificate, o.Chain)
	}
	p.attrs, err = signedAttributes(contentSHA256, p.ctype, o)
	if err != nil {
		return nil, fmt.Errorf("cms: %w", err)
	}
	return p, nil
}

// certificateSet encodes [0] IMPLICIT SET OF certificates, each once.
func certificateSet(leaf *x509.Certificate, chain []*x509.Certificate) []byte {
	raw := make([][]byte, 1, 1+len(chain))
	raw[0] = leaf.Raw
next:
	for _, c := range chain {
		for _, have := range raw {
			if string(have) == string(c.Raw) {
				continue next
			}
		}
		raw = append(raw, c.Raw)
	}
	return setOf(tagContext0, raw...)
}

var (
	derAttrContentType   = mustDER(OIDContentType)
	derAttrMessageDigest = mustDER(OIDMessageDigest)
	derAttrSigningTime   = mustDER(OIDSigningTime)
)

// signedAttributes encodes the SET that is hashed and signed.
// spec: RFC5652 §5.3, §5.4, §11.1, §11.2, §11.3
func signedAttributes(digest, ctype []byte, o Options) ([]byte, error) {
	list := make([][]byte, 0, 3+len(o.Signed))
	list = append(list,
		tlv(tagSequence, derAttrContentType, tlv(tagSet, ctype)),
		tlv(tagSequence, derAttrMessageDigest, tlv(tagSet, tlv(tagOctets, digest))))
	if !o.SigningTime.IsZero() {
		list = append(list, tlv(tagSequence, derAttrSigningTime, tlv(tagSet, encodeTime(o.SigningTime))))
	}
	for _, a := range o.Signed {
		der, err := a.encode()
		if err != nil {
			return nil, fmt.Errorf("signed attribute: %w", err)
		}
		list = append(list, der)
	}
	return setOf(tagSet, list...), nil
}

// Digest is the SHA-256 that the key has to sign (the DTBS/R of a remote signature).
func (p *Prepared) Digest() [sha256.Size]byte { return sha256.Sum256(p.attrs) }

// Sign asks the key for the signature value and checks it with the certificate.
// A RSA key signs PKCS#1 v1.5, an ECDSA key gives the ASN.1 form.
func (p *Prepared) Sign(ctx context.Context, key crypto.Signer) ([]byte, error) {
	pub, ok := p.opts.Certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, ErrKeyMismatch
	}
	digest := p.Digest()
	var sig []byte
	var err error
	if remote, ok := key.(ContextSigner); ok {
		sig, err = remote.SignContext(ctx, digest[:], crypto.SHA256)
	} else if err = ctx.Err(); err == nil {
		sig, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	if err != nil {
		return nil, fmt.Errorf("cms: signing key: %w", err)
	}
	if p.opts.ReadBack {
		return sig, nil
	}
	if err := p.Check(sig); err != nil {
		return nil, err
	}
	return sig, nil
}

// Check says whether sig is the certificate's signature over this; else ErrBadSignature.
// For callers that had Digest signed elsewhere.
func (p *Prepared) Check(sig []byte) error {
	digest := p.Digest()
	switch pub := p.opts.Certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) == nil {
			return nil
		}
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(pub, digest[:], sig) {
			return nil
		}
	}
	return ErrBadSignature
}

// signerInfo encodes the SignerInfo with its signature value.
// spec: RFC5652 §5.3
func (p *Prepared) signerInfo(sig []byte, unsigned []Attribute) ([]byte, error) {
	attrs := append([]byte(nil), p.attrs...)
	attrs[0] = tagContext0 // IMPLICIT [0] in the file, SET when hashed
	tail, err := unsignedAttributes(unsigned)
	if err != nil {
		return nil, err
	}
	return tlv(tagSequence, []byte{tagInteger, 1, 1}, p.identity, derSHA256, attrs, p.sigAlg,
		tlv(tagOctets, sig), tail), nil
}

// unsignedAttributes encodes [1] IMPLICIT SET OF Attribute, or nothing.
func unsignedAttributes(list []Attribute) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make([][]byte, len(list))
	for i, a := range list {
		der, err := a.encode()
		if err != nil {
			return nil, fmt.Errorf("cms: unsigned attribute: %w", err)
		}
		out[i] = der
	}
	return setOf(tagContext1, out...), nil
}

// envelope gathers what stands around the content.
func (p *Prepared) envelope(sig []byte, unsigned []Attribute) (envelope, error) {
	si, err := p.signerInfo(sig, unsigned)
	if err != nil {
		return envelope{}, err
	}
	version := byte(1)
	if !isData(p.ctype) {
		version = 3 // spec: RFC5652 §5.1
	}
	return envelope{
		version: version, digests: tlv(tagSet, derSHA256), ctype: p.ctype,
		certs: p.certs, signers: tlv(tagSet, si),
	}, nil
}

func isData(ctype []byte) bool { return string(ctype) == string(derOIDData) }

// Assemble gives the attached SignedData (DER) over content.
// Content and signature are trusted to belong together; Sign and Check see to the signature.
func (p *Prepared) Assemble(content, sig []byte, unsigned ...Attribute) ([]byte, error) {
	e, err := p.envelope(sig, unsigned)
	if err != nil {
		return nil, err
	}
	return e.attached(content), nil
}

// AssembleDetached gives the SignedData (DER) without content.
func (p *Prepared) AssembleDetached(sig []byte, unsigned ...Attribute) ([]byte, error) {
	e, err := p.envelope(sig, unsigned)
	if err != nil {
		return nil, err
	}
	return e.detached(), nil
}

// Write streams the attached SignedData to w: size bytes of content come from r.
// Memory does not grow with size. A reader that ends early is io.ErrUnexpectedEOF.
func (p *Prepared) Write(w io.Writer, r io.Reader, size int64, sig []byte, unsigned ...Attribute) error {
	e, err := p.envelope(sig, unsigned)
	if err != nil {
		return err
	}
	return e.stream(w, r, size)
}

// Sign makes an attached SignedData (DER) over content.
func Sign(ctx context.Context, content []byte, key crypto.Signer, o Options) ([]byte, error) {
	sum := sha256.Sum256(content)
	p, sig, err := signDigest(ctx, sum[:], key, o)
	if err != nil {
		return nil, err
	}
	return p.Assemble(content, sig)
}

// SignDetached makes a SignedData (DER) without content over content with the given SHA-256.
func SignDetached(ctx context.Context, contentSHA256 []byte, key crypto.Signer, o Options) ([]byte, error) {
	p, sig, err := signDigest(ctx, contentSHA256, key, o)
	if err != nil {
		return nil, err
	}
	return p.AssembleDetached(sig)
}

// SignStream makes an attached SignedData (DER) with flat memory. The content is read twice
// from its start: DER wants lengths and the signature's before the bytes can go out.
func SignStream(ctx context.Context, w io.Writer, content io.ReadSeeker, key crypto.Signer, o Options) error {
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cms: rewind content: %w", err)
	}
	// The second pass is compared with the first: a file that changed in between must not go out as
	// signed. For that a fast hash with a key of its own is enough; SHA-256 is made once.
	seed := maphash.MakeSeed()
	var first, second maphash.Hash
	first.SetSeed(seed)
	second.SetSeed(seed)
	h := sha256.New()
	size, err := overlapped(h, content, &first)
	if err != nil {
		return fmt.Errorf("cms: read content: %w", err)
	}
	p, sig, err := signDigest(ctx, h.Sum(nil), key, o)
	if err != nil {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("cms: rewind content: %w", err)
	}
	if err := p.Write(w, io.TeeReader(content, &second), size, sig); err != nil {
		return err
	}
	if first.Sum64() != second.Sum64() {
		return errors.New("cms: the content changed while it was being signed: discard the output")
	}
	return nil
}

func signDigest(ctx context.Context, sum []byte, key crypto.Signer, o Options) (*Prepared, []byte, error) {
	p, err := Prepare(sum, o)
	if err != nil {
		return nil, nil, err
	}
	sig, err := p.Sign(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	return p, sig, nil
}
