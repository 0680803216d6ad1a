package pec

import (
	"bytes"
	"crypto/sha1" // the index names certificates so
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"ceralacca.dev/services/format/cms"
)

// IndiceEntry is one provider, or one secondary environment of it, in the index of providers
// (IGPEC). spec: RFC6109 §4.5, §5.6
type IndiceEntry struct {
	Name         string
	Unit         string // providerUnit: a secondary environment, "" for the provider itself
	Receipts     string // mailReceipt: its service mailbox
	Domains      []string
	Hashes       []string // SHA-1 of its certificates, hex
	Certificates []*x509.Certificate
	Location     string // LDIFLocationURL
	Description  string
}

// Provider is the entry as one of the trust list.
func (e *IndiceEntry) Provider() Provider {
	return Provider{Name: e.Name, Domains: e.Domains, CertificatesSHA1: e.Hashes}
}

const (
	maxLDIFLine = 1 << 20
	maxEntries  = 10_000
)

// OpenIndice takes the index out of its signed .p7m after checking the signature against roots at
// a time. The index as such is distributed to providers only; a sandbox serves its own.
func OpenIndice(p7m []byte, roots *x509.CertPool, at time.Time) ([]IndiceEntry, error) {
	sd, err := cms.Parse(p7m)
	if err != nil {
		return nil, fmt.Errorf("pec: index of providers: %w", err)
	}
	rep := sd.Verify(cms.VerifyOptions{Roots: roots, At: at})
	if err := rep.Err(); err != nil {
		return nil, fmt.Errorf("pec: index of providers: %w", err)
	}
	for i := range rep.Signers {
		if rep.Signers[i].Trust.Verdict != cms.Passed {
			return nil, fmt.Errorf("pec: index of providers: its signer is not trusted: give roots and a time")
		}
	}
	return ParseIndice(sd.Content())
}

// ParseIndice reads the LDIF of the index. Attributes that it does not know are passed over.
// spec: RFC2849; RFC6109 §4.5
func ParseIndice(ldif []byte) ([]IndiceEntry, error) {
	var out []IndiceEntry
	var cur *IndiceEntry
	for n, l := range unfoldLDIF(ldif) {
		if l == "" {
			cur = nil
			continue
		}
		name, value, err := ldifLine(l)
		if err != nil {
			return nil, fmt.Errorf("pec: index of providers, line %d: %w", n+1, err)
		}
		if strings.EqualFold(name, "dn") {
			cur = nil
			if dn := strings.ToLower(string(value)); strings.Contains(dn, "providername=") {
				if len(out) >= maxEntries {
					return nil, &LimitError{"the number of providers", maxEntries}
				}
				out = append(out, IndiceEntry{})
				cur = &out[len(out)-1]
			}
			continue
		}
		if cur == nil {
			continue
		}
		if err := cur.set(strings.ToLower(name), value); err != nil {
			return nil, fmt.Errorf("pec: index of providers, line %d: %w", n+1, err)
		}
	}
	for i := range out {
		if out[i].Name == "" {
			return nil, fmt.Errorf("pec: index of providers: entry %d has no providerName", i+1)
		}
	}
	return out, nil
}

// unfoldLDIF joins continuation lines and drops comments. spec: RFC2849 (lines that begin with a blank)
func unfoldLDIF(b []byte) []string {
	var out []string
	var line []byte // the last one of out, which may go on
	comment := false
	for l := range strings.SplitSeq(strings.ReplaceAll(string(b), "\r\n", "\n")+"\n", "\n") {
		switch {
		case strings.HasPrefix(l, " "):
			if !comment && len(line) < maxLDIFLine {
				line = append(line, l[1:]...)
			}
		case strings.HasPrefix(l, "#"):
			comment = true
		default:
			comment = false
			out = append(out, string(line))
			line = append(line[:0], l...)
		}
	}
	return out[1:] // before the first line there was none
}

func ldifLine(l string) (name string, value []byte, err error) {
	name, rest, ok := strings.Cut(l, ":")
	if !ok || name == "" {
		return "", nil, fmt.Errorf("%.40q is no attribute", l)
	}
	if enc, isB64 := strings.CutPrefix(rest, ":"); isB64 {
		value, err = base64.StdEncoding.DecodeString(strings.TrimSpace(enc))
		return name, value, err
	}
	if strings.HasPrefix(rest, "<") {
		return "", nil, fmt.Errorf("%s refers to a file: nothing is fetched", name)
	}
	return name, []byte(strings.TrimLeft(rest, " ")), nil
}

func (e *IndiceEntry) set(name string, value []byte) error {
	s := string(value)
	switch name {
	case "providername":
		e.Name = s
	case "providerunit":
		e.Unit = s
	case "mailreceipt":
		e.Receipts = s
	case "manageddomains":
		e.Domains = append(e.Domains, strings.ToLower(s))
	case "providercertificatehash":
		raw, err := hex.DecodeString(s)
		if err != nil || len(raw) != sha1.Size {
			return fmt.Errorf("providerCertificateHash %q is no SHA-1 in hex", s)
		}
		e.Hashes = append(e.Hashes, strings.ToLower(s))
	case "providercertificate", "providercertificate;binary":
		c, err := x509.ParseCertificate(value)
		if err != nil {
			return fmt.Errorf("providerCertificate: %w", err)
		}
		e.Certificates = append(e.Certificates, c)
	case "ldiflocationurl":
		e.Location = s
	case "description":
		e.Description = s
	}
	return nil
}

// WriteIndice writes the index as LDIF, entries in order of their names. Hashes of certificates
// that are not in Hashes are added.
func WriteIndice(entries []IndiceEntry) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\n\ndn: o=postacert\nobjectClass: top\nobjectClass: organization\no: postacert\n")
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(x, y IndiceEntry) int { return strings.Compare(x.Name+"\x00"+x.Unit, y.Name+"\x00"+y.Unit) })
	for _, e := range sorted {
		dn := "providerName=" + escapeDN(e.Name) + ",o=postacert"
		if e.Unit != "" {
			dn = "providerUnit=" + escapeDN(e.Unit) + "," + dn
		}
		b.WriteString("\n")
		attr(&b, "dn", dn)
		attr(&b, "objectClass", "top")
		attr(&b, "objectClass", "provider")
		attr(&b, "providerName", e.Name)
		if e.Unit != "" {
			attr(&b, "providerUnit", e.Unit)
		}
		hashes := slices.Clone(e.Hashes)
		for _, c := range e.Certificates {
			if h := sha1Hex(c.Raw); !containsFold(hashes, h) {
				hashes = append(hashes, h)
			}
		}
		for _, h := range hashes {
			attr(&b, "providerCertificateHash", h)
		}
		for _, c := range e.Certificates {
			foldLDIF(&b, "providerCertificate;binary:: "+base64.StdEncoding.EncodeToString(c.Raw))
		}
		for _, v := range []struct{ name, value string }{{"mailReceipt", e.Receipts}, {"LDIFLocationURL", e.Location}, {"description", e.Description}} {
			if v.value != "" {
				attr(&b, v.name, v.value)
			}
		}
		for _, d := range e.Domains {
			attr(&b, "managedDomains", d)
		}
	}
	return b.Bytes()
}

// escapeDN escapes a value of a distinguished name. spec: RFC4514 §2.4
func escapeDN(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `+`, `\+`, `"`, `\"`, `<`, `\<`, `>`, `\>`, `;`, `\;`, `=`, `\=`).Replace(s)
}

// attr writes one attribute, in base64 when it is no safe string. spec: RFC2849 SAFE-STRING
func attr(b *bytes.Buffer, name, value string) {
	safe := value == strings.TrimSpace(value) && !strings.HasPrefix(value, ":") && !strings.HasPrefix(value, "<")
	for i := 0; i < len(value) && safe; i++ {
		safe = value[i] < utf8.RuneSelf && value[i] >= ' '
	}
	if safe {
		foldLDIF(b, name+": "+value)
		return
	}
	foldLDIF(b, name+":: "+base64.StdEncoding.EncodeToString([]byte(value)))
}

func foldLDIF(b *bytes.Buffer, l string) {
	for n := lineLimit; len(l) > n; n = lineLimit - 1 {
		b.WriteString(l[:n] + "\n ")
		l = l[n:]
	}
	b.WriteString(l + "\n")
}
