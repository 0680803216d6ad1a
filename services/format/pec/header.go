package pec

import (
	"strings"
)

// Field is one field of a header as it stands: Value is unfolded (line ends taken out) and
// otherwise untouched, bytes above 127 included.
type Field struct {
	Name   string
	Value  string
	Offset int64
}

// Header is the fields in their order.
type Header []Field

// Get gives the first field of that name, "" when there is none. Names have no case.
func (h Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup is Get that tells an empty field from a missing one.
func (h Header) Lookup(name string) (string, bool) {
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			return strings.Trim(h[i].Value, " \t"), true
		}
	}
	return "", false
}

// Values gives all fields of that name in order.
func (h Header) Values(name string) []string {
	var out []string
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			out = append(out, strings.Trim(h[i].Value, " \t"))
		}
	}
	return out
}

// Count says how many fields of that name there are.
func (h Header) Count(name string) int {
	n := 0
	for i := range h {
		if strings.EqualFold(h[i].Name, name) {
			n++
		}
	}
	return n
}

// Text gives the first field of that name as text: encoded words decoded (RFC 2047), raw bytes
// taken for UTF-8 or else Windows-1252, control characters out.
func (h Header) Text(name string) string {
	return DecodeText(h.Get(name))
}

// MessageID gives the identifier of a field such as Message-ID, without angle brackets and
// comments; "" when there is none.
func (h Header) MessageID(name string) string { return TrimID(h.Get(name)) }

// TrimID takes white space and angle brackets off a message identifier. Two identifiers are
// compared in this form: daticert writes msgid with brackets and identificativo without.
func TrimID(id string) string {
	id = strings.TrimSpace(id)
	if i := strings.IndexByte(id, '<'); i >= 0 {
		if j := strings.IndexByte(id[i:], '>'); j > 0 {
			return strings.TrimSpace(id[i+1 : i+j])
		}
	}
	return strings.TrimSpace(strings.Trim(id, "<>"))
}

// single lists the fields that may stand once only: first those on which trust depends.
// spec: RFC5322 §3.6
var single = []struct {
	severity Severity
	names    []string
}{
	{Ambiguous, []string{"From", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "MIME-Version",
		HeaderTrasporto, HeaderRicevuta, HeaderTipoRicevuta, HeaderRiferimento, HeaderSicurezza}},
	{Notice, []string{"Sender", "Reply-To", "To", "Cc", "Subject", "Date"}},
}

// duplicates reports fields that stand twice although readers would differ on which one counts.
func (h Header) duplicates(at int64, fs *Findings) {
	for _, group := range single {
		for _, name := range group.names {
			if n := h.Count(name); n > 1 {
				fs.add(CodeHeaderDuplicate, group.severity, at, "%s stands %d times", name, n)
			}
		}
	}
}
