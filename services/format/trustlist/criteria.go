package trustlist

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/xml"
	"slices"
	"strings"
)

// Qualification is what a list says of some certificates of a service: of those that meet the criteria.
// spec: TS119612 §5.5.9.2.1
type Qualification struct {
	Qualifiers []string // URIs
	Criteria   Criteria
}

// Answer is whether a certificate meets criteria. In this order the lesser of two is "and", the greater "or".
type Answer int8

// Unknown: the criteria cannot be read, or ask for what is not known here.
const (
	No Answer = iota
	Unknown
	Yes
)

func answer(yes bool) Answer {
	if yes {
		return Yes
	}
	return No
}

// Criteria tell certificates apart. The zero value can tell nothing. spec: TS119612 §5.5.9.2.2
type Criteria struct {
	assert string
	parts  []criterion
}

// criterion is one of them.
type criterion func(*x509.Certificate) Answer

// Meets says whether a certificate meets the criteria. A list without any, or with a description alone, tells nothing.
func (c Criteria) Meets(cert *x509.Certificate) Answer {
	if len(c.parts) == 0 {
		return Unknown
	}
	all, any := Yes, No
	for _, part := range c.parts {
		a := part(cert)
		all, any = min(all, a), max(any, a)
	}
	switch c.assert {
	case "all":
		return all
	case "atLeastOne":
		return any
	case "none":
		return Yes - any
	}
	return Unknown
}

// wireCriteria is one list of criteria; its members are in no order that means anything.
type wireCriteria struct {
	Assert string `xml:"assert,attr"`
	Usages []struct {
		Bits []struct {
			Name  string `xml:"name,attr"`
			Value string `xml:",chardata"`
		} `xml:"KeyUsageBit"`
	} `xml:"KeyUsage"`
	Policies []struct {
		IDs []wireOID `xml:"PolicyIdentifier"`
	} `xml:"PolicySet"`
	Lists  []wireCriteria `xml:"CriteriaList"`
	Others []struct {
		Members []wireOther `xml:",any"`
	} `xml:"otherCriteriaList"`
}

// wireOID is an ObjectIdentifier of XAdES.
type wireOID struct {
	ID string `xml:"Identifier"`
}

func (w *wireCriteria) criteria() Criteria {
	c := Criteria{assert: strings.TrimSpace(w.Assert)}
	for _, u := range w.Usages {
		set := Criteria{assert: "all"}
		for _, b := range u.Bits {
			set.parts = append(set.parts, usageBit(strings.TrimSpace(b.Name), strings.TrimSpace(b.Value)))
		}
		c.parts = append(c.parts, set.Meets)
	}
	for _, p := range w.Policies {
		c.parts = append(c.parts, allOf(p.IDs, policies))
	}
	for i := range w.Lists {
		c.parts = append(c.parts, w.Lists[i].criteria().Meets)
	}
	for _, o := range w.Others {
		for i := range o.Members {
			c.parts = append(c.parts, o.Members[i].criterion())
		}
	}
	return c
}

func unreadable(*x509.Certificate) Answer { return Unknown }

var usageBits = map[string]x509.KeyUsage{
	"digitalSignature": x509.KeyUsageDigitalSignature, "nonRepudiation": x509.KeyUsageContentCommitment, "keyEncipherment": x509.KeyUsageKeyEncipherment,
	"dataEncipherment": x509.KeyUsageDataEncipherment, "keyAgreement": x509.KeyUsageKeyAgreement, "keyCertSign": x509.KeyUsageCertSign, "crlSign": x509.KeyUsageCRLSign,
	"encipherOnly": x509.KeyUsageEncipherOnly, "decipherOnly": x509.KeyUsageDecipherOnly,
}

// usageBit wants one bit of the key usage to be as the list has it. spec: TS119612 §5.5.9.2.2.1
func usageBit(name, value string) criterion {
	bit, known := usageBits[name]
	want := value == "true" || value == "1"
	if !known || !want && value != "false" && value != "0" {
		return unreadable
	}
	return func(cert *x509.Certificate) Answer { return answer((cert.KeyUsage&bit != 0) == want) }
}

// allOf wants a certificate to have all of some object identifiers where has looks for them.
func allOf(ids []wireOID, has func(*x509.Certificate) []string) criterion {
	want := make([]string, len(ids))
	for i, id := range ids {
		oid, err := x509.ParseOID(bare(id.ID))
		if err != nil {
			return unreadable
		}
		want[i] = oid.String()
	}
	if len(want) == 0 {
		return unreadable
	}
	return func(cert *x509.Certificate) Answer {
		have := has(cert)
		return answer(!slices.ContainsFunc(want, func(id string) bool { return !slices.Contains(have, id) }))
	}
}

// bare is an object identifier as it stands in a list: by itself, or as a URN, which some write without "urn:".
func bare(id string) string {
	id = strings.TrimSpace(id)
	for _, scheme := range []string{"urn:", "oid:"} {
		if len(id) > len(scheme) && strings.EqualFold(id[:len(scheme)], scheme) {
			id = id[len(scheme):]
		}
	}
	return id
}

// policies: spec: TS119612 §5.5.9.2.2.2
func policies(cert *x509.Certificate) (out []string) {
	for _, p := range cert.Policies {
		out = append(out, p.String())
	}
	return out
}

// additional are the types of other criteria that the specification itself gives. spec: TS119612 §5.5.9.2.2.3
const additional = "http://uri.etsi.org/02231/v2/additionaltypes#"

// wireOther is a criterion of a type of its own.
type wireOther struct {
	XMLName    xml.Name
	Attributes []wireOID `xml:"AttributeOID"`
	Purposes   []wireOID `xml:"KeyPurposeId"`
}

func (w *wireOther) criterion() criterion {
	switch w.XMLName {
	case xml.Name{Space: additional, Local: "CertSubjectDNAttribute"}:
		return allOf(w.Attributes, attributes)
	case xml.Name{Space: additional, Local: "ExtendedKeyUsage"}:
		return allOf(w.Purposes, purposes)
	}
	return unreadable
}

func attributes(cert *x509.Certificate) (out []string) {
	for _, a := range cert.Subject.Names {
		if text, ok := a.Value.(string); !ok || text != "" {
			out = append(out, a.Type.String())
		}
	}
	return out
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

func purposes(cert *x509.Certificate) (out []string) {
	for _, e := range cert.Extensions {
		var ids []asn1.ObjectIdentifier
		if !e.Id.Equal(oidExtKeyUsage) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &ids); err != nil || len(rest) > 0 {
			return nil
		}
		for _, id := range ids {
			out = append(out, id.String())
		}
	}
	return out
}
