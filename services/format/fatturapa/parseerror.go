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

	italian string // Msg in Italian
}

// newParseError makes an error at a place; format must be a key of parseItalian.
func newParseError(code ParseCode, line, column int, format string, args ...any) *ParseError {
	return &ParseError{Code: code, Line: line, Column: column, Msg: fmt.Sprintf(format, args...), Hint: hintFor(code).EN,
		italian: fmt.Sprintf(parseItalian[format], args...)}
}

// Text gives what is wrong and how to mend it in both languages, without the place.
func (e *ParseError) Text() (msg, hint Text) {
	return Text{e.italian, e.Msg}, Text{hintFor(e.Code).IT, e.Hint}
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
func hintFor(code ParseCode) Text {
	switch code {
	case ErrEmpty:
		return Text{"inviare il file della fattura", "send the invoice file itself"}
	case ErrNotXML:
		return Text{"il file deve essere una fattura in XML", "the file must be an XML invoice"}
	case ErrEnveloped:
		return Text{"estrarre il contenuto dalla busta di firma prima della lettura", "take the content out of the signature envelope before parsing"}
	case ErrTooLarge:
		return Text{"dividere il lotto o ridurre gli allegati: il SdI accetta al massimo 5 MB", "split the lot or shrink the attachments: SdI takes at most 5 MB"}
	case ErrTooDeep, ErrTooMany:
		return Text{"nessuna fattura ne ha bisogno: controllare il programma che ha scritto il file", "no invoice needs this: check the program that wrote the file"}
	case ErrEncoding:
		return Text{"scrivere il file in UTF-8, o dichiarare la codifica che ha davvero", "write the file as UTF-8, or declare the encoding that it is really in"}
	case ErrTruncated:
		return Text{"il file è tagliato: scaricarlo o esportarlo di nuovo", "the file was cut: fetch or export it again"}
	case ErrDTD:
		return Text{"togliere il DOCTYPE: una fattura non ne ha bisogno", "remove the DOCTYPE: an invoice needs none"}
	case ErrEntity:
		return Text{"scrivere il carattere stesso, o un riferimento numerico", "write the character itself, or a numeric reference"}
	case ErrRoot:
		return Text{"l'elemento radice deve essere FatturaElettronica o FatturaElettronicaSemplificata", "the root must be FatturaElettronica or FatturaElettronicaSemplificata"}
	case ErrNamespace:
		return Text{"legare la radice al namespace del suo formato, ad esempio http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2", "bind the root to the namespace of its format, e.g. http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2"}
	}
	return Text{"correggere l'XML in questo punto", "mend the XML at this place"}
}
