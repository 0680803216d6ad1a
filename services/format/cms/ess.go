package cms

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// Attribute is one CMS attribute: its type and the DER of each value.
type Attribute struct {
	Type   asn1.ObjectIdentifier
	Values [][]byte
}

// encode gives the DER of the attribute.
func (a Attribute) encode() ([]byte, error) {
	oid, err := asn1.Marshal(a.Type)
	if err != nil {
		return nil, fmt.Errorf("attribute type %v: %w", a.Type, err)
	}
	if len(a.Values) == 0 {
		return nil, fmt.Errorf("attribute %v has no value", a.Type)
	}
	values := make([][]byte, len(a.Values))
	copy(values, a.Values)
	return tlv(tagSequence, oid, setOf(tagSet, values...)), nil
}

// SigningCertificateV2 is the attribute that binds a signature to one certificate: its
// SHA-256 (the default algorithm, hence not written), issuer and serial number.
// spec: RFC5035 §3, §4; EN319122-1 §5.2.2.3
func SigningCertificateV2(cert *x509.Certificate) (Attribute, error) {
	sum := sha256.Sum256(cert.Raw)
	serial, err := asn1.Marshal(cert.SerialNumber)
	if err != nil {
		return Attribute{}, fmt.Errorf("serial number of the signing certificate: %w", err)
	}
	issuerSerial := tlv(tagSequence,
		tlv(tagSequence, tlv(tagContext4, cert.RawIssuer)), // GeneralNames with one directoryName
		serial)
	certID := tlv(tagSequence, tlv(tagOctets, sum[:]), issuerSerial)
	value := tlv(tagSequence, tlv(tagSequence, certID))
	return Attribute{Type: OIDSigningCertificateV2, Values: [][]byte{value}}, nil
}

type algorithmIdentifier struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type issuerSerial struct {
	Issuer asn1.RawValue // GeneralNames
	Serial asn1.RawValue
}

type essCertIDv2 struct {
	HashAlgorithm algorithmIdentifier `asn1:"optional"`
	CertHash      []byte
	IssuerSerial  issuerSerial `asn1:"optional"`
}

type essCertID struct {
	CertHash     []byte
	IssuerSerial issuerSerial `asn1:"optional"`
}

type signingCertificateV2 struct {
	Certs    []essCertIDv2
	Policies asn1.RawValue `asn1:"optional"`
}

type signingCertificate struct {
	Certs    []essCertID
	Policies asn1.RawValue `asn1:"optional"`
}
