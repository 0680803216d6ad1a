package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// VerifyOptions says what to judge by. The zero value judges integrity only.
type VerifyOptions struct {
	Roots         *x509.CertPool      // nil: trust is not judged
	Intermediates []*x509.Certificate // besides those in the file; the signer's own may be here too
	At            time.Time           // time of judgement; zero: trust and coherence of time are not judged
	Content       io.Reader           // of a detached signature
	ContentSHA256 []byte              // the same, for whoever has the content's digest alone; Content is not read then
	ExtKeyUsages  []x509.ExtKeyUsage  // one of them is required; nil: any
	// RequireContentCommitment wants keyUsage nonRepudiation, as an Italian signing certificate has.
	RequireContentCommitment bool
	// RequireESS makes a missing signing-certificate attribute a failure (CAdES, RFC 3161).
	RequireESS bool
	// RequireSigningTime makes a missing signing-time attribute a failure (SdI code 00103).
	RequireSigningTime bool
}

// clockSkew is how far a signing time may be after the time of judgement.
const clockSkew = 2 * time.Minute

// ReadError: the content could not be read to its end. It says nothing about signatures.
type ReadError struct{ Err error }

func (e *ReadError) Error() string { return fmt.Sprintf("cms: read content: %v", e.Err) }

// Unwrap gives the reader's error.
func (e *ReadError) Unwrap() error { return e.Err }

// Verify judges each signature. It never fails: what cannot be judged is said in the report,
// and Content stays available.
func (sd *SignedData) Verify(o VerifyOptions) *Report {
	r := &Report{}
	if sd.Trailing > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d bytes after the end of the structure are not signed", sd.Trailing))
	}
	if len(sd.Unparsed) > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d embedded certificates cannot be parsed", len(sd.Unparsed)))
	}
	digests, err := sd.hashContent(o.Content, o.ContentSHA256)
	var unread *ReadError
	if errors.As(err, &unread) {
		r.ReadError = unread
	}
	for _, si := range sd.Signers {
		one := sd.verifySigner(si, o, digests, err)
		sd.verifyCounters(si, &one, o, 0)
		r.Signers = append(r.Signers, one)
	}
	return r
}

// hashContent computes every digest that some signer needs, reading the content once. digest, when set, is what is known
// of the content of a detached signature.
func (sd *SignedData) hashContent(detached io.Reader, digest []byte) (map[crypto.Hash][]byte, error) {
	hashes := map[crypto.Hash]hash.Hash{}
	var writers []io.Writer
	for _, si := range sd.Signers {
		_, own := si.algorithms()
		for _, h := range []crypto.Hash{hashByOID(si.DigestAlgorithm), own} {
			if h != 0 && hashes[h] == nil {
				hashes[h] = h.New()
				writers = append(writers, hashes[h])
			}
		}
	}
	if sd.Detached && digest != nil {
		if len(hashes) != 1 || hashes[crypto.SHA256] == nil || len(digest) != crypto.SHA256.Size() {
			return nil, errors.New("of the content the SHA-256 is given, and a signature is over another digest")
		}
		return map[crypto.Hash][]byte{crypto.SHA256: digest}, nil
	}
	w := io.MultiWriter(writers...)
	if len(writers) == 1 {
		w = writers[0]
	}
	switch {
	case !sd.Detached:
		if sd.body != nil {
			if _, err := overlapped(w, reader(sd.body), nil); err != nil {
				return nil, &ReadError{err}
			}
		} else if _, err := w.Write(sd.content); err != nil {
			return nil, fmt.Errorf("hash content: %w", err)
		}
	case detached == nil:
		return nil, fmt.Errorf("the signature is detached and no content was given")
	default:
		if _, err := overlapped(w, detached, nil); err != nil {
			return nil, &ReadError{err}
		}
	}
	sums := make(map[crypto.Hash][]byte, len(hashes))
	for h, state := range hashes {
		sums[h] = state.Sum(nil)
	}
	return sums, nil
}

// algorithms gives the key family and the hash under the signature value.
func (si *SignerInfo) algorithms() (family, crypto.Hash) {
	fam, h := signatureByOID(si.SignatureAlgorithm)
	if fam == familyPSS {
		if p, err := si.pss(); err == nil {
			return fam, hashByOID(p.Hash.Algorithm)
		}
		return fam, 0
	}
	if h == 0 {
		h = hashByOID(si.DigestAlgorithm)
	}
	return fam, h
}

func (f family) String() string {
	return [...]string{"unknown", "RSA", "RSA-PSS", "ECDSA"}[f]
}

func (sd *SignedData) verifySigner(si *SignerInfo, o VerifyOptions, digests map[crypto.Hash][]byte, contentErr error) SignerReport {
	fam, own := si.algorithms()
	r := SignerReport{
		Certificate: si.Certificate(sd.Certificates, o.Intermediates),
		Hash:        hashName(si.DigestAlgorithm),
		Algorithm:   fam.String(),
	}
	if own != 0 {
		r.ValueHash = own.String()
	}
	r.Digest = si.checkDigest(digests, contentErr)
	r.ContentType = si.checkContentType(sd.ContentType)
	if hashByOID(si.DigestAlgorithm) == crypto.SHA1 {
		r.Warnings = append(r.Warnings, "the content digest is SHA-1, which is no longer collision resistant")
	}
	if r.Certificate == nil {
		r.Signature = fail("the signer's certificate is not in the file")
		r.ESS = unjudged("no certificate")
		r.Trust = unjudged("no certificate")
		r.KeyUsage = unjudged("no certificate")
		r.SigningTime, r.Time = si.checkTime(nil, o)
		return r
	}
	var tolerated string
	r.Signature, tolerated = si.checkSignature(r.Certificate, digests, contentErr)
	if tolerated != "" {
		r.Warnings = append(r.Warnings, tolerated)
	}
	r.ESS = si.checkESS(r.Certificate, o.RequireESS)
	r.SigningTime, r.Time = si.checkTime(r.Certificate, o)
	r.KeyUsage = checkKeyUsage(r.Certificate, o)
	r.Trust, r.Chain = sd.checkTrust(r.Certificate, o)
	return r
}

func hashName(oid asn1.ObjectIdentifier) string {
	if h := hashByOID(oid); h != 0 {
		return h.String()
	}
	return oid.String()
}

// checkDigest compares the content with the message-digest attribute. spec: RFC5652 §5.4, §11.2
func (si *SignerInfo) checkDigest(digests map[crypto.Hash][]byte, contentErr error) Check {
	h := hashByOID(si.DigestAlgorithm)
	if h == 0 {
		return fail("digest algorithm %v is not supported", si.DigestAlgorithm)
	}
	if contentErr != nil {
		return fail("%v", contentErr)
	}
	if si.attrsDER == nil {
		return pass("the signature is over the content itself")
	}
	values, count := find(si.SignedAttributes, OIDMessageDigest)
	if count != 1 || len(values) != 1 {
		return fail("%d message-digest attributes, exactly 1 is expected", count)
	}
	var want []byte
	if rest, err := asn1.Unmarshal(values[0], &want); err != nil || len(rest) > 0 {
		return fail("message-digest attribute is malformed")
	}
	if !bytes.Equal(want, digests[h]) {
		return fail("the content is not the one that was signed: its %v differs", h)
	}
	return pass("")
}

// checkContentType: spec: RFC5652 §11.1
func (si *SignerInfo) checkContentType(envelope asn1.ObjectIdentifier) Check {
	if si.attrsDER == nil {
		if envelope.Equal(OIDData) {
			return unjudged("no signed attributes")
		}
		return fail("signed attributes are missing, which only id-data may do without")
	}
	values, count := find(si.SignedAttributes, OIDContentType)
	if count != 1 || len(values) != 1 {
		return fail("%d content-type attributes, exactly 1 is expected", count)
	}
	var got asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(values[0], &got); err != nil {
		return fail("content-type attribute is malformed")
	}
	if !got.Equal(envelope) {
		return fail("content-type attribute is %v, the envelope says %v", got, envelope)
	}
	return pass("")
}

// checkSignature verifies the value. The second result names a tolerance that was needed.
func (si *SignerInfo) checkSignature(cert *x509.Certificate, digests map[crypto.Hash][]byte, contentErr error) (Check, string) {
	_, h := si.algorithms()
	if h == 0 {
		return fail("signature algorithm %v is not supported", si.SignatureAlgorithm), ""
	}
	if si.attrsDER == nil {
		if contentErr != nil {
			return fail("%v", contentErr), ""
		}
		return si.checkValue(cert, h, digests[h]), ""
	}
	result := si.checkValue(cert, h, sum(h, si.attrsDER))
	if result.Verdict == Passed || bytes.Equal(si.attrsSent, si.attrsDER) {
		return result, ""
	}
	// tolerance: unsorted-attributes. Some writers hash the attributes in the order in which they
	// wrote them, although DER wants them sorted; OpenSSL and BouncyCastle read those files.
	if again := si.checkValue(cert, h, sum(h, si.attrsSent)); again.Verdict == Passed {
		return again, "the signed attributes are not in DER order and were signed so"
	}
	return result, ""
}

func sum(h crypto.Hash, b []byte) []byte {
	state := h.New()
	state.Write(b)
	return state.Sum(nil)
}

func (si *SignerInfo) checkValue(cert *x509.Certificate, h crypto.Hash, digest []byte) Check {
	fam, _ := si.algorithms()
	switch pub := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		switch fam {
		case familyRSA:
			if rsa.VerifyPKCS1v15(pub, h, digest, si.Signature) == nil {
				return pass("")
			}
		case familyPSS:
			p, err := si.pss()
			if err != nil {
				return fail("%v", err)
			}
			if rsa.VerifyPSS(pub, h, digest, si.Signature, &rsa.PSSOptions{SaltLength: p.SaltLength, Hash: h}) == nil {
				return pass("")
			}
		default:
			return fail("the certificate's key is RSA, the signature algorithm is %v", si.SignatureAlgorithm)
		}
	case *ecdsa.PublicKey:
		if fam != familyECDSA {
			return fail("the certificate's key is ECDSA, the signature algorithm is %v", si.SignatureAlgorithm)
		}
		if ecdsa.VerifyASN1(pub, digest, si.Signature) {
			return pass("")
		}
	default:
		return fail("keys of type %T are not supported", pub)
	}
	return fail("the signature value does not verify with the certificate's key")
}

type pssParameters struct {
	Hash       algorithmIdentifier `asn1:"explicit,optional,tag:0"`
	MGF        algorithmIdentifier `asn1:"explicit,optional,tag:1"`
	SaltLength int                 `asn1:"explicit,optional,tag:2,default:20"`
	Trailer    int                 `asn1:"explicit,optional,tag:3,default:1"`
}

// pss reads RSASSA-PSS parameters. spec: RFC4055 §3.1
func (si *SignerInfo) pss() (pssParameters, error) {
	p := pssParameters{}
	if rest, err := asn1.Unmarshal(si.sigParams.FullBytes, &p); err != nil || len(rest) > 0 {
		return p, fmt.Errorf("parameters of RSA-PSS are malformed")
	}
	if p.Hash.Algorithm == nil {
		p.Hash.Algorithm = oidSHA1
	}
	mgfHash := oidSHA1
	if p.MGF.Algorithm != nil {
		var inner algorithmIdentifier
		if _, err := asn1.Unmarshal(p.MGF.Parameters.FullBytes, &inner); err != nil || !p.MGF.Algorithm.Equal(oidMGF1) {
			return p, fmt.Errorf("mask generation function of RSA-PSS is not MGF1")
		}
		mgfHash = inner.Algorithm
	}
	if !mgfHash.Equal(p.Hash.Algorithm) || p.Trailer != 1 || p.SaltLength < 0 || p.SaltLength > 512 {
		return p, fmt.Errorf("parameters of RSA-PSS are not supported (two hashes, or an odd salt length)")
	}
	return p, nil
}
