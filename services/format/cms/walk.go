package cms

import (
	"encoding/asn1"
	"fmt"
	"math/big"
)

// bad makes the error for node i.
func (t *tree) bad(i int, format string, args ...any) error {
	return &SyntaxError{t.nodes[i].off, fmt.Sprintf(format, args...)}
}

func (t *tree) oid(i int) (asn1.ObjectIdentifier, error) {
	if t.nodes[i].id != tagOID {
		return nil, t.bad(i, "an object identifier is expected, tag is %#02x", t.nodes[i].id)
	}
	var oid asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(tlv(tagOID, t.body(i)), &oid); err != nil {
		return nil, t.bad(i, "object identifier: %v", err)
	}
	return oid, nil
}

// small reads an INTEGER of one byte (versions).
func (t *tree) small(i int) (int, error) {
	if n := t.nodes[i]; n.id != tagInteger || n.end-n.body != 1 || t.raw[n.body] > 0x7f {
		return 0, t.bad(i, "a version number is expected")
	}
	return int(t.raw[t.nodes[i].body]), nil
}

// signedInteger reads two's complement of any length.
func signedInteger(b []byte) *big.Int {
	v := new(big.Int).SetBytes(b)
	if len(b) > 0 && b[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(len(b))*8))
	}
	return v
}

// algorithm reads an AlgorithmIdentifier; the parameters may be absent.
func (t *tree) algorithm(i int) (asn1.ObjectIdentifier, asn1.RawValue, error) {
	kids := t.children(i)
	if t.nodes[i].id != tagSequence || len(kids) == 0 || len(kids) > 2 {
		return nil, asn1.RawValue{}, t.bad(i, "algorithm identifier is malformed")
	}
	oid, err := t.oid(kids[0])
	if err != nil || len(kids) == 1 {
		return oid, asn1.RawValue{}, err
	}
	der, err := t.der(kids[1])
	if err != nil {
		return nil, asn1.RawValue{}, err
	}
	return oid, asn1.RawValue{FullBytes: der}, nil
}

// attributes reads a SET OF Attribute. spec: RFC5652 §5.3
func (t *tree) attributes(i int) ([]Attribute, error) {
	var out []Attribute
	for _, c := range t.children(i) {
		kids := t.children(c)
		if t.nodes[c].id != tagSequence || len(kids) != 2 || t.nodes[kids[1]].id != tagSet {
			return nil, t.bad(c, "attribute is malformed")
		}
		oid, err := t.oid(kids[0])
		if err != nil {
			return nil, err
		}
		a := Attribute{Type: oid}
		for _, v := range t.children(kids[1]) {
			der, err := t.der(v)
			if err != nil {
				return nil, err
			}
			a.Values = append(a.Values, der)
		}
		out = append(out, a)
	}
	return out, nil
}
