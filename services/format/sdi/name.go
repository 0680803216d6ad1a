package sdi

import (
	"fmt"
	"strings"
)

// Extension is the ending of a file that travels to SdI.
type Extension string

// The three endings that SdI accepts.
// spec: AllA-1.9 §1.2.2
const (
	ExtXML Extension = ".xml"     // plain or XAdES-signed invoice
	ExtP7M Extension = ".xml.p7m" // CAdES-signed invoice
	ExtZIP Extension = ".zip"     // archive of the other two
)

// FileName is the name of a file sent to SdI: <country><id>_<progressive><extension>.
// spec: AllA-1.9 §1.2.2
type FileName struct {
	Paese       string    // ISO 3166 alpha-2, upper case
	ID          string    // fiscal identifier of the sender: 11-16 characters for IT, 2-28 otherwise
	Progressivo string    // 1-5 alphanumerics, unique for ever per sender
	Ext         Extension // ExtXML, ExtP7M or ExtZIP
}

// ParseFileName reads and validates a file name. It is strict: what it accepts passes
// control 00001 of the exchange. Errors are *NameError wrapping ErrFileName.
func ParseFileName(name string) (FileName, error) {
	fail := func(reason string) (FileName, error) {
		return FileName{}, &NameError{Name: name, Reason: reason, Err: ErrFileName}
	}
	f := FileName{}
	switch {
	case strings.HasSuffix(name, string(ExtP7M)):
		f.Ext = ExtP7M
	case strings.HasSuffix(name, string(ExtXML)):
		f.Ext = ExtXML
	case strings.HasSuffix(name, string(ExtZIP)):
		f.Ext = ExtZIP
	default:
		return fail("must end in .xml, .xml.p7m or .zip (lower case)")
	}
	stem := strings.TrimSuffix(name, string(f.Ext))
	left, prog, ok := strings.Cut(stem, "_")
	if !ok {
		return fail("must have an underscore between the fiscal identifier and the progressive")
	}
	if len(left) < 2 {
		return fail("must begin with a two-letter country code")
	}
	f.Paese, f.ID, f.Progressivo = left[:2], left[2:], prog
	if reason := f.problem(); reason != "" {
		return fail(reason)
	}
	return f, nil
}

// Validate checks every part. Errors are *NameError wrapping ErrFileName.
func (f FileName) Validate() error {
	reason := f.problem()
	if reason == "" {
		return nil
	}
	return &NameError{Name: f.String(), Reason: reason, Err: ErrFileName}
}

// problem says what is wrong with the parts, "" when nothing is.
func (f FileName) problem() string {
	if len(f.Paese) != 2 || !isUpper(f.Paese[0]) || !isUpper(f.Paese[1]) {
		return "must begin with a two-letter country code in upper case"
	}
	lo, hi := 2, 28
	if f.Paese == "IT" {
		lo, hi = 11, 16
	}
	if len(f.ID) < lo || len(f.ID) > hi {
		return fmt.Sprintf("the fiscal identifier must have %d to %d characters for %s, has %d", lo, hi, f.Paese, len(f.ID))
	}
	if !alnum(f.ID) {
		return "the fiscal identifier may contain only letters and digits"
	}
	if len(f.Progressivo) < 1 || len(f.Progressivo) > 5 || !alnum(f.Progressivo) {
		return "the progressive must be 1 to 5 letters or digits"
	}
	switch f.Ext {
	case ExtXML, ExtP7M, ExtZIP:
		return ""
	}
	return "must end in .xml, .xml.p7m or .zip (lower case)"
}

// String formats the name without validating it.
func (f FileName) String() string {
	return f.Stem() + string(f.Ext)
}

// Stem is the name without its extension: the part that receipts carry on.
func (f FileName) Stem() string {
	return f.Paese + f.ID + "_" + f.Progressivo
}

// Key is the form under which uniqueness must be kept. The texts do not say whether names
// are case sensitive, so two names that differ only in case are treated as one; the
// extension is part of the name (00002 speaks of the name, not of the stem).
func (f FileName) Key() string { return NameKey(f.String()) }

// NameKey is Key for any name, valid or not.
func NameKey(name string) string { return strings.ToUpper(name) }

// MaxProgressivo is the largest number that Progressivo can write.
const MaxProgressivo = 36*36*36*36*36 - 1

const base36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Progressivo writes n as five base-36 digits, upper case, zero padded. Above MaxProgressivo
// (60,466,175) it returns ErrProgressive: the sender needs another fiscal identifier.
func Progressivo(n uint64) (string, error) {
	if n > MaxProgressivo {
		return "", fmt.Errorf("%w: %d is above %d", ErrProgressive, n, uint64(MaxProgressivo))
	}
	var b [5]byte
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = base36[n%36]
		n /= 36
	}
	return string(b[:]), nil
}

// ParseProgressivo is the inverse of Progressivo; it takes 1 to 5 digits in any case.
func ParseProgressivo(s string) (uint64, error) {
	if len(s) < 1 || len(s) > 5 || !alnum(s) {
		return 0, fmt.Errorf("%w: %q is not 1 to 5 letters or digits", ErrProgressive, clip(s, 20))
	}
	var n uint64
	for i := range len(s) {
		n = n*36 + uint64(strings.IndexByte(base36, upper(s[i])))
	}
	return n, nil
}

// MessageName is the name of a message about a file: <stem>_<TYPE>_<1..3 alphanumerics>.xml,
// or .zip for an attestation of transmission.
// spec: AllA-1.9 §1.2.2 (the stem); SDICoop-T-3.2
type MessageName struct {
	Stem        string // name of the file without extension; cut at 36 characters when it was invalid
	Type        MessageType
	Progressivo string // 1-3 alphanumerics
	Zip         bool   // only for AT
}

// maxInvalidStem is where SdI cuts the name of a file that it refused for its name.
const maxInvalidStem = 36

// ParseMessageName reads a message name. Errors are *NameError wrapping ErrMessageName.
func ParseMessageName(name string) (MessageName, error) {
	fail := func(reason string) (MessageName, error) {
		return MessageName{}, &NameError{Name: name, Reason: reason, Err: ErrMessageName}
	}
	m := MessageName{}
	rest, ok := strings.CutSuffix(name, ".xml")
	if !ok {
		rest, ok = strings.CutSuffix(name, ".zip")
		m.Zip = true
	}
	if !ok {
		return fail("must end in .xml or .zip")
	}
	i := strings.LastIndexByte(rest, '_')
	if i < 0 {
		return fail("must look like <file>_<TYPE>_<progressive>.xml")
	}
	rest, m.Progressivo = rest[:i], rest[i+1:]
	if len(m.Progressivo) < 1 || len(m.Progressivo) > 3 || !alnum(m.Progressivo) {
		return fail("the progressive must be 1 to 3 letters or digits")
	}
	i = strings.LastIndexByte(rest, '_')
	if i < 1 {
		return fail("must look like <file>_<TYPE>_<progressive>.xml")
	}
	m.Stem, m.Type = rest[:i], MessageType(rest[i+1:])
	if !m.Type.Valid() {
		return fail(fmt.Sprintf("%q is not a message type (RC NS MC NE DT AT MT EC SE)", clip(string(m.Type), 10)))
	}
	if m.Zip && m.Type != AT {
		return fail("only AT messages arrive as .zip")
	}
	return m, nil
}

// NewMessageName names message n (1 for the first) of type t about the file called fileName.
func NewMessageName(fileName string, t MessageType, n int) MessageName {
	f, err := ParseFileName(fileName)
	stem := f.Stem()
	if err != nil {
		stem = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(fileName, ".p7m"), ".xml"), ".zip")
		stem = soapSafe(stem[:min(len(stem), maxInvalidStem)])
	}
	return MessageName{Stem: stem, Type: t, Progressivo: fmt.Sprintf("%03d", n%1000), Zip: t == AT}
}

// soapSafe replaces what the SOAP schema does not let into a name; members of a zip may be
// called anything.
func soapSafe(stem string) string {
	if stem == "" {
		return "senza_nome"
	}
	b := []byte(stem)
	for i, c := range b {
		if !alnumByte(c) && c != '_' && c != '.' {
			b[i] = '_'
		}
	}
	return string(b)
}

// String formats the name.
func (m MessageName) String() string {
	if m.Zip {
		return m.Stem + "_" + string(m.Type) + "_" + m.Progressivo + ".zip"
	}
	return m.XMLName()
}

// XMLName is the name of the XML document, which for AT is a member of the zip.
func (m MessageName) XMLName() string {
	return m.Stem + "_" + string(m.Type) + "_" + m.Progressivo + ".xml"
}

// ValidSOAPName says whether name passes the pattern of the SOAP schema,
// [a-zA-Z0-9_\.]{9,50}.
// spec: TrasmissioneTypes-1.1 nomeFile_Type
func ValidSOAPName(name string) bool {
	if len(name) < 9 || len(name) > 50 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !alnumByte(c) && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func alnum(s string) bool {
	for i := range len(s) {
		if !alnumByte(s[i]) {
			return false
		}
	}
	return true
}

func alnumByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

func upper(c byte) byte {
	if c >= 'a' && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
