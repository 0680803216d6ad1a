package xades

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha1" // old receipts are still read; nothing is written with SHA-1
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"

	"encoding/asn1"
)

// Namespaces and types.
const (
	nsDSig  = "http://www.w3.org/2000/09/xmldsig#"
	nsXAdES = "http://uri.etsi.org/01903/v1.3.2#"

	typeSignedProperties = "http://uri.etsi.org/01903#SignedProperties"

	algEnveloped = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
	algXPath     = "http://www.w3.org/TR/1999/REC-xpath-19991116"
	algFilter2   = "http://www.w3.org/2002/06/xmldsig-filter2"

	algSHA256      = "http://www.w3.org/2001/04/xmlenc#sha256"
	algRSASHA256   = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
	algECDSASHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
)

// digests by Algorithm attribute.
var digests = map[string]crypto.Hash{
	"http://www.w3.org/2000/09/xmldsig#sha1":        crypto.SHA1,
	algSHA256:                                       crypto.SHA256,
	"http://www.w3.org/2001/04/xmldsig-more#sha384": crypto.SHA384,
	"http://www.w3.org/2001/04/xmlenc#sha512":       crypto.SHA512,
}

type signatureAlgorithm struct {
	name string // RSA, RSA-PSS, ECDSA
	hash crypto.Hash
}

// signatureAlgorithms by Algorithm attribute.
var signatureAlgorithms = map[string]signatureAlgorithm{
	"http://www.w3.org/2000/09/xmldsig#rsa-sha1": {"RSA", crypto.SHA1},
	algRSASHA256: {"RSA", crypto.SHA256},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha384":      {"RSA", crypto.SHA384},
	"http://www.w3.org/2001/04/xmldsig-more#rsa-sha512":      {"RSA", crypto.SHA512},
	"http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1": {"RSA-PSS", crypto.SHA256},
	"http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1": {"RSA-PSS", crypto.SHA384},
	"http://www.w3.org/2007/05/xmldsig-more#sha512-rsa-MGF1": {"RSA-PSS", crypto.SHA512},
	algECDSASHA256: {"ECDSA", crypto.SHA256},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384": {"ECDSA", crypto.SHA384},
	"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha512": {"ECDSA", crypto.SHA512},
}

var errWrongKey = errors.New("the certificate's key is of another kind than the signature algorithm")

// verifyValue checks a signature value over a digest.
func verifyValue(pub crypto.PublicKey, alg signatureAlgorithm, digest, value []byte) error {
	bad := errors.New("the signature value does not verify with the certificate's key")
	switch key := pub.(type) {
	case *rsa.PublicKey:
		switch alg.name {
		case "RSA":
			if rsa.VerifyPKCS1v15(key, alg.hash, digest, value) != nil {
				return bad
			}
		case "RSA-PSS":
			// spec: RFC6931 §2.3.10 (salt as long as the hash)
			if rsa.VerifyPSS(key, alg.hash, digest, value, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: alg.hash}) != nil {
				return bad
			}
		default:
			return errWrongKey
		}
	case *ecdsa.PublicKey:
		if alg.name != "ECDSA" {
			return errWrongKey
		}
		// spec: RFC6931 §2.3.6 (the two numbers one after the other, each as long as the order)
		half := (key.Curve.Params().N.BitLen() + 7) / 8
		if len(value) != 2*half {
			return fmt.Errorf("ECDSA value has %d bytes, %d are expected", len(value), 2*half)
		}
		r, s := new(big.Int).SetBytes(value[:half]), new(big.Int).SetBytes(value[half:])
		der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil || !ecdsa.VerifyASN1(key, digest, der) {
			return bad
		}
	default:
		return fmt.Errorf("keys of type %T are not supported", pub)
	}
	return nil
}

// fixedLength turns the ASN.1 form of an ECDSA signature into the form of XML signatures.
func fixedLength(key *ecdsa.PublicKey, der []byte) ([]byte, error) {
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
		return nil, errors.New("xades: the key gave back no ASN.1 ECDSA signature")
	}
	half := (key.Curve.Params().N.BitLen() + 7) / 8
	if v.R.Sign() <= 0 || v.S.Sign() <= 0 || v.R.BitLen() > half*8 || v.S.BitLen() > half*8 {
		return nil, errors.New("xades: the key gave back numbers out of range")
	}
	out := make([]byte, 2*half)
	v.R.FillBytes(out[:half])
	v.S.FillBytes(out[half:])
	return out, nil
}
