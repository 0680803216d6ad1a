package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// SignedData is a CMS SignedData that was read. Nothing in it has been verified.
type SignedData struct {
	Armour       Armour
	BER          bool // the file was not DER
	Trailing     int  // bytes after the end of the structure
	Version      int
	ContentType  asn1.ObjectIdentifier
	Detached     bool                // there is no content inside
	Certificates []*x509.Certificate // those that Go can parse
	Unparsed     [][]byte            // DER of the other members of the certificate set
	Signers      []*SignerInfo

	content []byte
	body    *spans   // of a file that was not read whole; content is nil then
	env     envelope // the parts in DER, for files that are amended
	infos   [][]byte // DER of each SignerInfo
	parsed  *Certificates
}

// SignerInfo is one signature. Issuer and Serial, or SubjectKeyID, name the certificate.
type SignerInfo struct {
	Version            int
	Issuer             []byte // DER of the issuer's name
	Serial             *big.Int
	SubjectKeyID       []byte
	DigestAlgorithm    asn1.ObjectIdentifier
	SignatureAlgorithm asn1.ObjectIdentifier
	SignedAttributes   []Attribute
	Signature          []byte
	UnsignedAttributes []Attribute

	sigParams asn1.RawValue
	attrsSent []byte // SET in the order of the file, nil when there are none
	attrsDER  []byte // SET in DER order
	fixed     []byte // contents of the SignerInfo up to the unsigned attributes, DER
}

// Parse reads a SignedData in DER, BER, Base64 or PEM under the default limits.
// Errors: *SyntaxError with the offset, or what in the structure is not as RFC 5652 wants it.
func Parse(raw []byte) (*SignedData, error) { return ParseLimited(raw, Limits{}) }

// ParseLimited is Parse under other limits.
func ParseLimited(raw []byte, lim Limits) (*SignedData, error) { return parseLimited(raw, lim, nil) }

func parseLimited(raw []byte, lim Limits, parsed *Certificates) (*SignedData, error) {
	if max := lim.orDefaults().Size; len(raw) > max*4/3+1024 {
		return nil, &SyntaxError{0, fmt.Sprintf("file has %d bytes, the limit is %d", len(raw), max)}
	}
	bin, armour, err := unarmour(raw)
	if err != nil {
		return nil, err
	}
	t, err := scan(bin, lim)
	if err != nil {
		return nil, err
	}
	sd := &SignedData{Armour: armour, BER: t.ber, Trailing: len(bin) - t.nodes[0].after, parsed: parsed}
	if err := sd.read(t); err != nil {
		return nil, err
	}
	return sd, nil
}

// Content is what was signed; nil when detached and of a file that ParseStream read (see Body). It is
// available whatever Verify says.
func (sd *SignedData) Content() []byte { return sd.content }

// Announces says whether the list of digest algorithms at the head of the file has the signer's: who reads in one pass goes by
// that list, and a strict reader refuses what it leaves out. spec: RFC5652 §5.1
func (sd *SignedData) Announces(si *SignerInfo) bool {
	var list []struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.UnmarshalWithParams(sd.env.digests, &list, "set")
	if err != nil {
		return false
	}
	for _, a := range list {
		if a.Algorithm.Equal(si.DigestAlgorithm) {
			return true
		}
	}
	return false
}

// read walks ContentInfo and SignedData. spec: RFC5652 §3, §5.1
func (sd *SignedData) read(t *tree) error {
	if t.nodes[0].id != tagSequence {
		return t.bad(0, "not a ContentInfo (a SEQUENCE is expected)")
	}
	outer := t.children(0)
	if len(outer) < 2 {
		return t.bad(0, "ContentInfo has no type or no content")
	}
	ctype, err := t.oid(outer[0])
	if err != nil {
		return err
	}
	if !ctype.Equal(OIDSignedData) {
		return t.bad(outer[0], "content type %v is not SignedData", ctype)
	}
	wrapped := t.children(outer[1])
	if t.nodes[outer[1]].id != tagContext0 || len(wrapped) != 1 || t.nodes[wrapped[0]].id != tagSequence {
		return t.bad(outer[1], "ContentInfo holds no SignedData")
	}
	parts := t.children(wrapped[0])
	if len(parts) < 4 {
		return t.bad(wrapped[0], "SignedData has %d members, 4 at least are expected", len(parts))
	}
	if sd.Version, err = t.small(parts[0]); err != nil {
		return err
	}
	if t.nodes[parts[1]].id != tagSet {
		return t.bad(parts[1], "digestAlgorithms is not a SET")
	}
	if sd.env.digests, err = t.der(parts[1]); err != nil {
		return err
	}
	sd.env.version = byte(sd.Version)
	if err := sd.readContent(t, parts[2]); err != nil {
		return err
	}
	return sd.readTail(t, parts[3:])
}

// readContent reads encapContentInfo. spec: RFC5652 §5.2
func (sd *SignedData) readContent(t *tree, i int) error {
	kids := t.children(i)
	if t.nodes[i].id != tagSequence || len(kids) == 0 || len(kids) > 2 {
		return t.bad(i, "encapContentInfo is malformed")
	}
	var err error
	if sd.ContentType, err = t.oid(kids[0]); err != nil {
		return err
	}
	sd.env.ctype = tlv(tagOID, t.body(kids[0]))
	if len(kids) == 1 {
		sd.Detached = true
		return nil
	}
	inner := t.children(kids[1])
	if t.nodes[kids[1]].id != tagContext0 || len(inner) != 1 {
		return t.bad(kids[1], "encapContentInfo holds no content")
	}
	switch t.nodes[inner[0]].id {
	case tagOctets, tagOctets | bitConstructed:
		sd.content, err = t.octets(inner[0])
	case tagSequence:
		// tolerance: PKCS#7 1.5 content that is not an octet string; what is signed is its value
		// without identifier and length. spec: RFC5652 §5.2.1
		n := t.nodes[inner[0]]
		sd.content = t.raw[n.body:n.end]
	default:
		return t.bad(inner[0], "content is not an OCTET STRING")
	}
	if err == nil && sd.content == nil {
		sd.content = []byte{}
	}
	return err
}

func (sd *SignedData) readTail(t *tree, parts []int) error {
	for k, i := range parts {
		der, err := t.der(i)
		if err != nil {
			return err
		}
		switch id := t.nodes[i].id; {
		case id == tagContext0 && k == 0:
			sd.env.certs = der
			if err := sd.readCertificates(t, i); err != nil {
				return err
			}
		case id == tagContext1:
			sd.env.crls = der
		case id == tagSet && k == len(parts)-1:
			sd.env.signers = der
			return sd.readSigners(t, i)
		default:
			return t.bad(i, "unexpected member %#02x in SignedData", id)
		}
	}
	return t.bad(parts[len(parts)-1], "SignedData has no signerInfos")
}

// readCertificates keeps what Go cannot parse: it must not hide the content.
func (sd *SignedData) readCertificates(t *tree, i int) error {
	for _, c := range t.children(i) {
		der, err := t.der(c)
		if err != nil {
			return err
		}
		cert, err := sd.parsed.parse(der)
		if err != nil {
			sd.Unparsed = append(sd.Unparsed, der)
			continue
		}
		sd.Certificates = append(sd.Certificates, cert)
	}
	return nil
}

func (sd *SignedData) readSigners(t *tree, i int) error {
	for _, c := range t.children(i) {
		si, err := readSigner(t, c)
		if err != nil {
			return err
		}
		der, err := t.der(c)
		if err != nil {
			return err
		}
		sd.infos = append(sd.infos, der)
		sd.Signers = append(sd.Signers, si)
	}
	return nil
}

// readSigner reads one SignerInfo. spec: RFC5652 §5.3
func readSigner(t *tree, i int) (*SignerInfo, error) {
	parts := t.children(i)
	if t.nodes[i].id != tagSequence || len(parts) < 5 {
		return nil, t.bad(i, "SignerInfo is malformed")
	}
	si := &SignerInfo{}
	var err error
	if si.Version, err = t.small(parts[0]); err != nil {
		return nil, err
	}
	if err = si.readIdentity(t, parts[1]); err != nil {
		return nil, err
	}
	if si.DigestAlgorithm, _, err = t.algorithm(parts[2]); err != nil {
		return nil, err
	}
	at := 3
	if t.nodes[parts[at]].id == tagContext0 {
		if si.SignedAttributes, err = t.attributes(parts[at]); err != nil {
			return nil, err
		}
		if err = si.keepSigned(t, parts[at]); err != nil {
			return nil, err
		}
		at++
	}
	if len(parts) < at+2 || len(parts) > at+3 {
		return nil, t.bad(i, "SignerInfo has %d members", len(parts))
	}
	if si.SignatureAlgorithm, si.sigParams, err = t.algorithm(parts[at]); err != nil {
		return nil, err
	}
	if id := t.nodes[parts[at+1]].id; id != tagOctets && id != tagOctets|bitConstructed {
		return nil, t.bad(parts[at+1], "signature value is not an OCTET STRING")
	}
	if si.Signature, err = t.octets(parts[at+1]); err != nil {
		return nil, err
	}
	for _, p := range parts[:at+2] {
		der, err := t.der(p)
		if err != nil {
			return nil, err
		}
		si.fixed = append(si.fixed, der...)
	}
	if len(parts) == at+3 {
		if t.nodes[parts[at+2]].id != tagContext1 {
			return nil, t.bad(parts[at+2], "unexpected member in SignerInfo")
		}
		if si.UnsignedAttributes, err = t.attributes(parts[at+2]); err != nil {
			return nil, err
		}
	}
	return si, nil
}

func (si *SignerInfo) readIdentity(t *tree, i int) error {
	switch t.nodes[i].id {
	case tagSequence:
		kids := t.children(i)
		if len(kids) != 2 || t.nodes[kids[1]].id != tagInteger {
			return t.bad(i, "issuerAndSerialNumber is malformed")
		}
		var err error
		if si.Issuer, err = t.der(kids[0]); err != nil {
			return err
		}
		si.Serial = signedInteger(t.body(kids[1]))
	case tagPrimitive0, tagContext0:
		var err error
		if si.SubjectKeyID, err = t.octets(i); err != nil {
			return err
		}
	default:
		return t.bad(i, "signer is named neither by issuer and serial number nor by key identifier")
	}
	return nil
}

// keepSigned keeps the attributes both as sent and in DER order: RFC 5652 wants the DER
// encoding hashed, and some writers neither sort nor hash the sorted form.
func (si *SignerInfo) keepSigned(t *tree, i int) error {
	var sent [][]byte
	for _, c := range t.children(i) {
		der, err := t.der(c)
		if err != nil {
			return err
		}
		sent = append(sent, der)
	}
	si.attrsSent = tlv(tagSet, sent...)
	si.attrsDER = setOf(tagSet, sent...)
	return nil
}

// Attribute gives the values of one attribute type in a list, nil when it is not there.
// Attributes of the same type are joined; count says how many there were.
func find(list []Attribute, oid asn1.ObjectIdentifier) (values [][]byte, count int) {
	for _, a := range list {
		if a.Type.Equal(oid) {
			values = append(values, a.Values...)
			count++
		}
	}
	return values, count
}

// Unsigned gives the values of an unsigned attribute, nil when there is none.
func (si *SignerInfo) Unsigned(oid asn1.ObjectIdentifier) [][]byte {
	v, _ := find(si.UnsignedAttributes, oid)
	return v
}

// Signed gives the values of a signed attribute, nil when there is none.
func (si *SignerInfo) Signed(oid asn1.ObjectIdentifier) [][]byte {
	v, _ := find(si.SignedAttributes, oid)
	return v
}

// Certificate finds the signer's certificate among those embedded and further ones; nil if absent.
func (si *SignerInfo) Certificate(lists ...[]*x509.Certificate) *x509.Certificate {
	for _, list := range lists {
		for _, c := range list {
			if si.names(c) {
				return c
			}
		}
	}
	return nil
}

func (si *SignerInfo) names(c *x509.Certificate) bool {
	if si.SubjectKeyID != nil {
		return len(c.SubjectKeyId) > 0 && bytes.Equal(c.SubjectKeyId, si.SubjectKeyID)
	}
	return si.Serial != nil && c.SerialNumber.Cmp(si.Serial) == 0 && bytes.Equal(c.RawIssuer, si.Issuer)
}
