package pec

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // see signSHA1
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"ceralacca.dev/services/format/cms"
)

// The signatures of real providers are over SHA-1 (every sample of 2014 to 2024). format/cms
// does not write that, rightly; a simulator of providers has to.

var (
	oidSHA1 = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidRSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

type algorithm struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

type issuerAndSerial struct {
	Issuer asn1.RawValue
	Serial asn1.RawValue
}

type signerInfo struct {
	Version   int
	SID       issuerAndSerial
	Digest    algorithm
	Attrs     asn1.RawValue
	Signature algorithm
	Value     []byte
}

type contentInfo struct {
	ContentType asn1.ObjectIdentifier
}

type signedData struct {
	Version int
	Digests []algorithm `asn1:"set"`
	Content contentInfo
	Certs   asn1.RawValue
	Signers []signerInfo `asn1:"set"`
}

type outerInfo struct {
	ContentType asn1.ObjectIdentifier
	Content     signedData `asn1:"explicit,tag:0"`
}

// signSHA1 makes a detached SignedData over SHA-1 with RSA. For simulators only.
// spec: RFC5652 §5.1, §5.3, §5.4; RFC3370 §2.1, §3.2
func signSHA1(digest []byte, key crypto.Signer, o cms.Options) ([]byte, error) {
	if _, ok := o.Certificate.PublicKey.(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("pec: SHA-1 signatures are made with RSA, the certificate has %T", o.Certificate.PublicKey)
	}
	attrs, err := sha1Attributes(digest, o)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(attrs) // see above
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA1)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	if err := rsa.VerifyPKCS1v15(o.Certificate.PublicKey.(*rsa.PublicKey), crypto.SHA1, sum[:], sig); err != nil {
		return nil, errors.Join(cms.ErrBadSignature, err)
	}
	serial, err := asn1.Marshal(o.Certificate.SerialNumber)
	if err != nil {
		return nil, err
	}
	implicit := append([]byte(nil), attrs...)
	implicit[0] = 0xA0
	null := asn1.RawValue{FullBytes: []byte{5, 0}}
	return asn1.Marshal(outerInfo{cms.OIDSignedData, signedData{
		Version: 1, Digests: []algorithm{{oidSHA1, null}}, Content: contentInfo{cms.OIDData}, Certs: certificates(o),
		Signers: []signerInfo{{
			Version: 1, SID: issuerAndSerial{asn1.RawValue{FullBytes: o.Certificate.RawIssuer}, asn1.RawValue{FullBytes: serial}},
			Digest: algorithm{oidSHA1, null}, Attrs: asn1.RawValue{FullBytes: implicit},
			Signature: algorithm{oidRSA, null}, Value: sig,
		}},
	}})
}

// sha1Attributes is the SET of signed attributes in DER.
func sha1Attributes(digest []byte, o cms.Options) ([]byte, error) {
	var list []attribute
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		value any
	}{{cms.OIDContentType, cms.OIDData}, {cms.OIDSigningTime, o.SigningTime.UTC()}, {cms.OIDMessageDigest, digest}} {
		der, err := asn1.Marshal(a.value)
		if err != nil {
			return nil, err
		}
		list = append(list, attribute{a.oid, asn1.RawValue{Class: asn1.ClassUniversal, Tag: asn1.TagSet, IsCompound: true, Bytes: der}})
	}
	return asn1.MarshalWithParams(list, "set")
}

func certificates(o cms.Options) asn1.RawValue {
	var raw []byte
	for _, c := range append([]*x509.Certificate{o.Certificate}, o.Chain...) {
		raw = append(raw, c.Raw...)
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: raw}
}

// indefinite rewrites the outermost levels of a DER structure with indefinite lengths, as some
// providers write their signatures. The signature value covers none of them.
func indefinite(der []byte, levels int) []byte {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || !v.IsCompound || levels == 0 {
		return der
	}
	out := []byte{der[0], 0x80}
	for inner := v.Bytes; len(inner) > 0; {
		var child asn1.RawValue
		next, err := asn1.Unmarshal(inner, &child)
		if err != nil {
			return der
		}
		out = append(out, indefinite(child.FullBytes, levels-1)...)
		inner = next
	}
	out = append(out, 0, 0)
	return append(out, rest...)
}
