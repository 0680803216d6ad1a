package sdi

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"ceralacca.dev/services/sandbox/ca"
)

// receiptSigner makes the XAdES-BES enveloped signature of SdI's messages: RSA-SHA256,
// exclusive canonicalisation, XPath Filter 2.0 "subtract" over the document.
//
// It is written apart from format/xades on purpose. A library that verifies what the same
// library signed proves little; here two programs must agree. It also relies on what it
// signs being in canonical form already (sdi.WriteMessage promises that), so that a receipt
// costs three hashes and one private-key operation.
// spec: TS101903 §4.4.1; XMLDSIG §3.1; XMLDSIG-FILTER2
type receiptSigner struct {
	key       crypto.Signer
	algorithm string // URI of the signature algorithm
	keyInfo   string // constant part: the certificate
	props     string // SigningCertificate, constant
}

const (
	dsNS     = "http://www.w3.org/2000/09/xmldsig#"
	xadesNS  = "http://uri.etsi.org/01903/v1.3.2#"
	exclC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"
	sha256NS = "http://www.w3.org/2001/04/xmlenc#sha256"
)

func newReceiptSigner(authority *ca.CA, useECDSA bool) (*receiptSigner, error) {
	const cn = "Sistema di Interscambio"
	if !useECDSA {
		issued, err := authority.IssueReceiptSigner(cn)
		if err != nil {
			return nil, err
		}
		return prepareSigner(issued.Key, issued.Certificate(), "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}}, key)
	if err != nil {
		return nil, err
	}
	cert, err := authority.SignCSR(csr, ca.ProfileSeal)
	if err != nil {
		return nil, err
	}
	return prepareSigner(key, cert, "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256")
}

func prepareSigner(key crypto.Signer, cert *x509.Certificate, algorithm string) (*receiptSigner, error) {
	var issuer strings.Builder
	err := xml.EscapeText(&issuer, []byte(cert.Issuer.String()))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(cert.Raw)
	return &receiptSigner{
		key:       key,
		algorithm: algorithm,
		keyInfo: `<ds:KeyInfo><ds:X509Data><ds:X509Certificate>` + base64.StdEncoding.EncodeToString(cert.Raw) +
			`</ds:X509Certificate></ds:X509Data></ds:KeyInfo>`,
		props: `<xades:SigningCertificate><xades:Cert><xades:CertDigest>` +
			`<ds:DigestMethod Algorithm="` + sha256NS + `"></ds:DigestMethod>` +
			`<ds:DigestValue>` + base64.StdEncoding.EncodeToString(sum[:]) + `</ds:DigestValue>` +
			`</xades:CertDigest><xades:IssuerSerial>` +
			`<ds:X509IssuerName>` + issuer.String() + `</ds:X509IssuerName>` +
			`<ds:X509SerialNumber>` + cert.SerialNumber.String() + `</ds:X509SerialNumber>` +
			`</xades:IssuerSerial></xades:Cert></xades:SigningCertificate>`,
	}, nil
}

// sign puts the signature in as the last child of the root. doc must begin with an XML
// declaration and be canonical after it.
func (s *receiptSigner) sign(doc []byte, at time.Time) ([]byte, error) {
	start := bytes.Index(doc, []byte("?>"))
	end := bytes.LastIndex(doc, []byte("</"))
	if start < 0 || end < start {
		return nil, errors.New("not a document of sdi.WriteMessage")
	}
	body := doc[start+2:]
	ns, ok := rootNamespace(body)
	if !ok {
		return nil, errors.New("not a document of sdi.WriteMessage")
	}
	// Like the real ones, the references name no canonicalisation, so the default applies:
	// inclusive C14N, which repeats on the apex of a subset every namespace in scope, sorted
	// (ds, then the message's, then xades).
	props := ` Id="SignedProperties_1"><xades:SignedSignatureProperties>` +
		`<xades:SigningTime>` + at.UTC().Format("2006-01-02T15:04:05Z") + `</xades:SigningTime>` + s.props +
		`</xades:SignedSignatureProperties></xades:SignedProperties>`
	info := `<ds:SignedInfo xmlns:ds="` + dsNS + `">` +
		`<ds:CanonicalizationMethod Algorithm="` + exclC14N + `"></ds:CanonicalizationMethod>` +
		`<ds:SignatureMethod Algorithm="` + s.algorithm + `"></ds:SignatureMethod>` +
		`<ds:Reference Id="reference-document" URI=""><ds:Transforms>` +
		`<ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2">` +
		`<XPath xmlns="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">/descendant::ds:Signature</XPath></ds:Transform>` +
		`</ds:Transforms>` + digest(body) + `</ds:Reference>` +
		`<ds:Reference Id="reference-signedproperties" Type="http://uri.etsi.org/01903#SignedProperties" URI="#SignedProperties_1">` +
		digest([]byte(`<xades:SignedProperties xmlns:ds="`+dsNS+`"`+ns+` xmlns:xades="`+xadesNS+`"`+props)) + `</ds:Reference></ds:SignedInfo>`
	sum := sha256.Sum256([]byte(info))
	value, err := s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if _, ok := s.key.Public().(*ecdsa.PublicKey); ok {
		value, err = rawECDSA(value)
		if err != nil {
			return nil, err
		}
	}
	out := make([]byte, 0, len(doc)+len(info)+len(props)+len(s.keyInfo)+1024)
	out = append(out, doc[:end]...)
	out = append(out, `<ds:Signature xmlns:ds="`+dsNS+`" Id="Signature1">`...)
	out = append(out, info...)
	out = append(out, `<ds:SignatureValue Id="SignatureValue1">`...)
	out = base64.StdEncoding.AppendEncode(out, value)
	out = append(out, `</ds:SignatureValue>`...)
	out = append(out, s.keyInfo...)
	out = append(out, `<ds:Object><xades:QualifyingProperties xmlns:xades="`+xadesNS+`" Target="#Signature1"><xades:SignedProperties`...)
	out = append(out, props...)
	out = append(out, `</xades:QualifyingProperties></ds:Object></ds:Signature>`...)
	return append(out, doc[end:]...), nil
}

// rootNamespace is the namespace declaration of the root, with its leading blank.
func rootNamespace(body []byte) (string, bool) {
	i := bytes.IndexByte(body, ' ')
	if i < 0 || !bytes.HasPrefix(body[i:], []byte(` xmlns:`)) {
		return "", false
	}
	open := bytes.IndexByte(body[i:], '"')
	if open < 0 {
		return "", false
	}
	end := bytes.IndexByte(body[i+open+1:], '"')
	if end < 0 {
		return "", false
	}
	return string(body[i : i+open+1+end+1]), true
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return `<ds:DigestMethod Algorithm="` + sha256NS + `"></ds:DigestMethod><ds:DigestValue>` +
		base64.StdEncoding.EncodeToString(sum[:]) + `</ds:DigestValue>`
}

// rawECDSA turns the ASN.1 form into r and s, 32 bytes each.
// spec: RFC6931 §2.3.6
func rawECDSA(der []byte) ([]byte, error) {
	var v struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("malformed ECDSA signature: %w", err)
	}
	out := make([]byte, 64)
	v.R.FillBytes(out[:32])
	v.S.FillBytes(out[32:])
	return out, nil
}
