package fatturapa

import "fmt"

// ParseCode says which kind of fault stopped the reading of a file. The values
// are permanent.
type ParseCode string

// The faults that stop Parse.
const (
	ErrEmpty     ParseCode = "empty"      // no bytes, or only white space
	ErrNotXML    ParseCode = "not_xml"    // the bytes are something else than XML
	ErrEnveloped ParseCode = "enveloped"  // a signature envelope (.p7m): unwrap it first
	ErrTooLarge  ParseCode = "too_large"  // more bytes than Limits.MaxBytes
	ErrTooDeep   ParseCode = "too_deep"   // elements nested beyond Limits.MaxDepth
	ErrTooMany   ParseCode = "too_many"   // more elements or attributes than allowed
	ErrEncoding  ParseCode = "encoding"   // bytes that do not fit the declared encoding, or one that is not supported
	ErrTruncated ParseCode = "truncated"  // the document ends before its root element does
	ErrDTD       ParseCode = "dtd"        // a document type declaration: refused
	ErrEntity    ParseCode = "entity"     // a reference to an entity that is not one of the five of XML
	ErrMalformed ParseCode = "malformed"  // not well formed for any other reason
	ErrRoot      ParseCode = "wrong_root" // XML, but not an invoice
	ErrNamespace ParseCode = "namespace"  // the root or a prefix is bound to no or to the wrong namespace
)

// ParseError says why a file could not be read as an invoice: what (Code, Msg),
// where (Line and Column, both from 1, counted in the decoded text; 0 when the
// fault has no place) and how to mend it (Hint).
type ParseError struct {
	Code   ParseCode
	Line   int
	Column int
	Msg    string
	Hint   string
}

// Error gives the fault on one line, in English.
func (e *ParseError) Error() string {
	s := "fatturapa: " + string(e.Code)
	if e.Line > 0 {
		s += fmt.Sprintf(" at line %d, column %d", e.Line, e.Column)
	}
	s += ": " + e.Msg
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// hintFor is the usual way to mend each kind of fault.
func hintFor(code ParseCode) string {
	switch code {
	case ErrEmpty:
		return "send the invoice file itself"
	case ErrNotXML:
		return "the file must be an XML invoice"
	case ErrEnveloped:
		return "take the content out of the signature envelope before parsing"
	case ErrTooLarge:
		return "split the lot or shrink the attachments: SdI takes at most 5 MB"
	case ErrTooDeep, ErrTooMany:
		return "no invoice needs this: check the program that wrote the file"
	case ErrEncoding:
		return "write the file as UTF-8, or declare the encoding that it is really in"
	case ErrTruncated:
		return "the file was cut: fetch or export it again"
	case ErrDTD:
		return "remove the DOCTYPE: an invoice needs none"
	case ErrEntity:
		return "write the character itself, or a numeric reference"
	case ErrRoot:
		return "the root must be FatturaElettronica or FatturaElettronicaSemplificata"
	case ErrNamespace:
		return "bind the root to the namespace of its format, e.g. http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"
	}
	return "mend the XML at this place"
}
