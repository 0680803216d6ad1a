package cms

import (
	"crypto"
	_ "crypto/sha1" // old signatures are still read; nothing is written with SHA-1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
)

// Object identifiers of the content types and attributes that this package reads or writes.
var (
	OIDData       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	OIDSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	OIDTSTInfo    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}

	OIDContentType          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	OIDMessageDigest        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	OIDSigningTime          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5}
	OIDSigningCertificate   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 12}
	OIDSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
	// OIDCounterSignature: a signature over a signature value. spec: RFC5652 §11.4
	OIDCounterSignature   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 6}
	OIDSignatureTimeStamp = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 14}

	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA224 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 4}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidSHA384 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSHA512 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}

	oidRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidRSAPSS        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidSHA224WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 14}
	oidSHA1WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	oidSHA256WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidSHA384WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12}
	oidSHA512WithRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 13}
	oidECPublicKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidECDSASHA1     = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}
	oidECDSASHA256   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidECDSASHA384   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
	oidECDSASHA512   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}
)

// DER constants, so that signing does not encode the same identifiers again and again.
var (
	derOIDData       = mustDER(OIDData)
	derOIDSignedData = mustDER(OIDSignedData)

	// spec: RFC5754 §2 (parameters of a SHA-2 digest are absent)
	derSHA256 = tlv(tagSequence, mustDER(oidSHA256))
	// spec: RFC5754 §3.2 (RSA: parameters are NULL)
	derSHA256WithRSA = tlv(tagSequence, mustDER(oidSHA256WithRSA), []byte{tagNull, 0})
	// spec: RFC5754 §3.3 (ECDSA: parameters are absent)
	derECDSASHA256 = tlv(tagSequence, mustDER(oidECDSASHA256))
)

// mustDER encodes an identifier written in this file.
func mustDER(oid asn1.ObjectIdentifier) []byte {
	b, err := asn1.Marshal(oid)
	if err != nil {
		panic("cms: constant identifier does not encode: " + err.Error())
	}
	return b
}

// family is what a key does with a digest.
type family int

const (
	familyUnknown family = iota
	familyRSA            // PKCS#1 v1.5
	familyPSS
	familyECDSA
)

// hashByOID returns the hash that a digest identifier names, or 0.
func hashByOID(oid asn1.ObjectIdentifier) crypto.Hash {
	switch {
	case oid.Equal(oidSHA256):
		return crypto.SHA256
	case oid.Equal(oidSHA384):
		return crypto.SHA384
	case oid.Equal(oidSHA512):
		return crypto.SHA512
	case oid.Equal(oidSHA224): // old time stamps have it; nothing is written with it
		return crypto.SHA224
	case oid.Equal(oidSHA1):
		return crypto.SHA1
	}
	return 0
}

// signatureByOID returns the key family of a signature algorithm and the hash that it names
// (0 when it leaves the hash to the digest algorithm or to its parameters).
func signatureByOID(oid asn1.ObjectIdentifier) (family, crypto.Hash) {
	switch {
	case oid.Equal(oidRSA):
		return familyRSA, 0
	case oid.Equal(oidSHA256WithRSA):
		return familyRSA, crypto.SHA256
	case oid.Equal(oidSHA384WithRSA):
		return familyRSA, crypto.SHA384
	case oid.Equal(oidSHA512WithRSA):
		return familyRSA, crypto.SHA512
	case oid.Equal(oidSHA224WithRSA):
		return familyRSA, crypto.SHA224
	case oid.Equal(oidSHA1WithRSA):
		return familyRSA, crypto.SHA1
	case oid.Equal(oidRSAPSS):
		return familyPSS, 0
	case oid.Equal(oidECPublicKey):
		return familyECDSA, 0
	case oid.Equal(oidECDSASHA256):
		return familyECDSA, crypto.SHA256
	case oid.Equal(oidECDSASHA384):
		return familyECDSA, crypto.SHA384
	case oid.Equal(oidECDSASHA512):
		return familyECDSA, crypto.SHA512
	case oid.Equal(oidECDSASHA1):
		return familyECDSA, crypto.SHA1
	}
	return familyUnknown, 0
}
