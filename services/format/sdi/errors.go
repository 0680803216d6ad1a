package sdi

import (
	"bytes"
	"errors"
	"fmt"
)

// Sentinels that callers tell apart with errors.Is. They are grouped by the stage that
// raises them.
var (
	// Names.
	ErrFileName    = errors.New("sdi: invalid file name")
	ErrMessageName = errors.New("sdi: invalid message name")
	ErrProgressive = errors.New("sdi: progressive out of range")

	// XML of any kind.
	ErrXML      = errors.New("sdi: XML is not well formed")
	ErrDTD      = errors.New("sdi: document type declarations are refused")
	ErrEncoding = errors.New("sdi: unsupported character encoding")
	ErrTooDeep  = errors.New("sdi: XML is nested too deeply")

	// SOAP and MTOM.
	ErrTooLarge         = errors.New("sdi: larger than the limit")
	ErrTruncated        = errors.New("sdi: truncated")
	ErrContentType      = errors.New("sdi: unsupported content type")
	ErrMIME             = errors.New("sdi: malformed multipart body")
	ErrNotSOAP          = errors.New("sdi: not a SOAP 1.1 envelope")
	ErrSOAPVersion      = errors.New("sdi: SOAP version mismatch")
	ErrMustUnderstand   = errors.New("sdi: SOAP header not understood")
	ErrUnknownOperation = errors.New("sdi: unknown operation")
	ErrActionMismatch   = errors.New("sdi: SOAPAction does not match the body")
	ErrField            = errors.New("sdi: missing or malformed field")

	// Messages.
	ErrNotMessage = errors.New("sdi: not an SdI message")
	ErrArchive    = errors.New("sdi: unreadable archive")
	ErrIncomplete = errors.New("sdi: message cannot be written, a mandatory field is missing")
)

// A ParseError says where in which document reading stopped. Err is one of the sentinels of
// this package.
type ParseError struct {
	Doc    string // what was read: "envelope", "multipart", "message IT..._RC_001.xml"
	Offset int    // byte offset in the document, -1 when not known
	Line   int    // 1-based line, 0 when not known
	Detail string // what was found and what was expected
	Err    error
}

func (e *ParseError) Error() string {
	where := ""
	if e.Line > 0 {
		where = fmt.Sprintf(" at line %d (byte %d)", e.Line, e.Offset)
	}
	if e.Detail == "" {
		return fmt.Sprintf("%v: %s%s", e.Err, e.Doc, where)
	}
	return fmt.Sprintf("%v: %s%s: %s", e.Err, e.Doc, where, e.Detail)
}

func (e *ParseError) Unwrap() error { return e.Err }

func parseErr(doc string, err error, format string, args ...any) *ParseError {
	return &ParseError{Doc: doc, Offset: -1, Err: err, Detail: fmt.Sprintf(format, args...)}
}

// at builds a ParseError for byte offset off of data.
func at(doc string, data []byte, off int, err error, format string, args ...any) *ParseError {
	off = min(max(off, 0), len(data))
	return &ParseError{
		Doc:    doc,
		Offset: off,
		Line:   1 + bytes.Count(data[:off], []byte{'\n'}),
		Detail: fmt.Sprintf(format, args...),
		Err:    err,
	}
}

// A NameError explains why a file or message name is refused. Err is ErrFileName or
// ErrMessageName.
type NameError struct {
	Name   string
	Reason string
	Err    error
}

func (e *NameError) Error() string {
	return fmt.Sprintf("%v: %q: %s", e.Err, clip(e.Name, 80), e.Reason)
}

func (e *NameError) Unwrap() error { return e.Err }

// clip shortens text that came from outside before it enters an error message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
