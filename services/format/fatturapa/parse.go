package fatturapa

import (
	"strings"
	"sync"
)

// Schema is the family of schemas that a file follows, known from its root.
type Schema uint8

// The families of schemas.
const (
	SchemaOrdinary   Schema = iota + 1 // FatturaElettronica, namespace v1.2: FPA12 and FPR12
	SchemaSimplified                   // FatturaElettronicaSemplificata, namespace v1.0: FSM10
	SchemaArchive10                    // FatturaElettronica of 2013, SDI10
	SchemaArchive11                    // FatturaElettronica of 2014, SDI11
)

// String names the family.
func (s Schema) String() string {
	switch s {
	case SchemaOrdinary:
		return "ordinary"
	case SchemaSimplified:
		return "simplified"
	case SchemaArchive10:
		return "archive-1.0"
	case SchemaArchive11:
		return "archive-1.1"
	}
	return "unknown"
}

// Namespace returns the namespace URI of the family.
func (s Schema) Namespace() string {
	for uri, k := range schemaOf {
		if k == s {
			return uri
		}
	}
	return ""
}

// spec: AllA-1.9 §1.2 and the official schemas; the first two are archive.
var schemaOf = map[string]Schema{
	"http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2": SchemaOrdinary,
	"http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.0": SchemaSimplified,
	"http://www.fatturapa.gov.it/sdi/fatturapa/v1.0":                SchemaArchive10,
	"http://www.fatturapa.gov.it/sdi/fatturapa/v1.1":                SchemaArchive11,
}

// File is a parsed invoice file: one header and one or more bodies. It is safe
// for concurrent use as long as nobody writes to the typed view.
type File struct {
	// Schema is the family of schemas of the root element.
	Schema Schema
	// Encoding is the encoding that the bytes were read with, in capitals.
	Encoding string
	// Versione and SistemaEmittente are the attributes of the root.
	Versione         string
	SistemaEmittente string
	// Signed reports whether the file holds an XML signature. Nothing is said
	// about its validity.
	Signed bool
	// Header and Bodies are the typed view. A lot has several bodies; a file
	// without any body is read too, and fails the structure check.
	Header Header
	Bodies []Body
	// Deviations are faults of form that Parse read over. CheckStructure reports
	// each as 00200.
	Deviations []Deviation

	original   string // the bytes given to Parse
	src        string // the text: same as original unless transcoded
	decoded    string // texts that differ from their source (references, CDATA)
	nodes      []node
	attrs      []attribute
	namespaces []string

	lineOnce   sync.Once
	lineStarts []uint32
}

// Deviation is a fault of form that does not prevent reading: the tolerance has
// a name, and the structure check reports it.
type Deviation struct {
	Name string // "leading_space" or "trailing_bytes"
	Line int
}

// Formato returns FormatoTrasmissione: "FPA12", "FPR12", "FSM10", or "SDI10",
// "SDI11" for archive files. When the element is missing the attribute versione
// stands in for it.
func (f *File) Formato() string {
	if v := f.Header.DatiTrasmissione.FormatoTrasmissione; v != "" {
		return v
	}
	return f.Versione
}

// Original returns a copy of the bytes that were parsed.
func (f *File) Original() []byte { return []byte(f.original) }

// Size returns the number of bytes that were parsed.
func (f *File) Size() int { return len(f.original) }

// Elements returns the number of XML elements in the file.
func (f *File) Elements() int { return len(f.nodes) }

// Parse reads an invoice file from its XML bytes, within [DefaultLimits]. It
// accepts what can be read, valid or not; validity is for [CheckStructure] and
// [Check]. An error is always a [*ParseError]. raw is not kept.
func Parse(raw []byte) (*File, error) { return ParseWithin(raw, DefaultLimits()) }

// ParseWithin is Parse with other limits.
func ParseWithin(raw []byte, lim Limits) (*File, error) {
	lim = lim.filled()
	if len(raw) > lim.MaxBytes || len(raw) > decodedBit-1 {
		return nil, newParseError(ErrTooLarge, 0, 0, "the file has %d bytes, the limit is %d", len(raw), lim.MaxBytes)
	}
	if err := sniff(raw); err != nil {
		return nil, err
	}
	text, enc, err := decodeText(raw)
	if err != nil {
		return nil, err
	}
	f := &File{Encoding: enc, src: text, original: text}
	if len(text) != len(raw) || text != string(raw) {
		f.original = string(raw)
	}
	p := parser{f: f, s: text, lim: lim}
	if err := p.run(); err != nil {
		return nil, err
	}
	if n := f.countBodies(); n > lim.MaxBodies {
		return nil, p.fail(ErrTooMany, len(text), "the lot has %d documents, the limit is %d", n, lim.MaxBodies)
	}
	f.buildView()
	return f, nil
}

// sniff tells apart what is not XML before any decoding.
func sniff(raw []byte) *ParseError {
	i := 0
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\t' || raw[i] == '\r' || raw[i] == '\n') {
		i++
	}
	if i == len(raw) {
		return newParseError(ErrEmpty, 1, 1, "there is nothing in the file")
	}
	rest := raw[i:]
	head := string(rest[:min(len(rest), 16)])
	switch {
	case rest[0] == '<', rest[0] == 0xEF, rest[0] == 0xFE, rest[0] == 0xFF, rest[0] == 0:
		return nil
	case rest[0] == 0x30 && len(rest) > 2 && rest[1] >= 0x80,
		strings.HasPrefix(head, "MII"), strings.HasPrefix(head, "MIA"), strings.HasPrefix(head, "-----BEGIN"):
		return newParseError(ErrEnveloped, 1, 1, "this is a signature envelope (.p7m), not XML")
	case strings.HasPrefix(head, "PK\x03\x04"):
		return newParseError(ErrNotXML, 1, 1, "this is a ZIP archive")
	case strings.HasPrefix(head, "%PDF"):
		return newParseError(ErrNotXML, 1, 1, "this is a PDF")
	case rest[0] == '{', rest[0] == '[':
		return newParseError(ErrNotXML, 1, 1, "this looks like JSON")
	}
	return newParseError(ErrNotXML, 1, 1, "an XML document starts with '<'")
}
