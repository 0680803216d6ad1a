package pec

import (
	"fmt"
	"slices"
)

// Severity says what a finding means for trust.
type Severity uint8

const (
	// Notice: the message is not as the book says, and nothing depends on it.
	Notice Severity = iota + 1
	// Doubt: a person should look; no state may advance because of this message.
	Doubt
	// Ambiguous: two readers could read different things. Nothing is proven then.
	Ambiguous
)

func (s Severity) String() string {
	return [...]string{"", "notice", "doubt", "ambiguous"}[s]
}

// MarshalText writes the word, so that stored reports can be read.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *Severity) UnmarshalText(b []byte) error {
	for _, v := range []Severity{Notice, Doubt, Ambiguous} {
		if v.String() == string(b) {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("pec: %q is no severity", b)
}

// Finding is something odd in a message. Codes are permanent.
type Finding struct {
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	Offset   int64    `json:"offset"` // in the message; -1 when it has no place
	Message  string   `json:"message"`

	deep bool // it is inside an original
}

func (f Finding) String() string {
	if f.Offset < 0 {
		return fmt.Sprintf("%s (%s): %s", f.Code, f.Severity, f.Message)
	}
	return fmt.Sprintf("%s (%s) at byte %d: %s", f.Code, f.Severity, f.Offset, f.Message)
}

// Findings is a list of findings.
type Findings []Finding

func (l *Findings) add(code string, s Severity, offset int64, format string, args ...any) {
	l.put(false, code, s, offset, format, args...)
}

// put is add for what may be inside an original. A full list gives up what weighs least, so that an original, which its sender writes
// as he likes, cannot hide what is odd around it.
func (l *Findings) put(deep bool, code string, s Severity, offset int64, format string, args ...any) {
	f := Finding{Code: code, Severity: s, Offset: offset, deep: deep}
	if len(*l) >= maxFindings {
		least := len(*l) - 1
		for i := least; i >= 0; i-- {
			if (*l)[i].weight() < (*l)[least].weight() {
				least = i
			}
		}
		if (*l)[least].weight() >= f.weight() {
			return
		}
		*l = slices.Delete(*l, least, least+1)
	}
	f.Message = fmt.Sprintf(format, args...)
	*l = append(*l, f)
}

// weight orders findings by what depends on them: none inside an original bears on what is proven.
func (f *Finding) weight() int {
	if f.deep {
		return int(f.Severity)
	}
	return int(f.Severity) + int(Ambiguous)
}

// maxFindings keeps a hostile message from filling memory with complaints.
const maxFindings = 200

// Has says whether a finding with the code is there.
func (l Findings) Has(code string) bool {
	for _, f := range l {
		if f.Code == code {
			return true
		}
	}
	return false
}

// Worst is the gravest severity in the list, 0 when it is empty.
func (l Findings) Worst() Severity {
	var worst Severity
	for _, f := range l {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Codes of findings.
const (
	CodeHeaderBroken      = "MIME_HEADER_BROKEN"      // a line in a header that is no field
	CodeHeaderMbox        = "MIME_HEADER_MBOX"        // a line "From " of a mailbox file before the header
	CodeHeaderDuplicate   = "MIME_HEADER_DUPLICATE"   // a field that may stand once stands twice
	CodeHeader8Bit        = "MIME_HEADER_8BIT"        // raw bytes above 127 in a field
	CodeHeaderWord        = "MIME_HEADER_WORD"        // an encoded word that cannot be decoded
	CodeHeaderUnended     = "MIME_HEADER_UNENDED"     // no empty line after the header
	CodeNoBoundary        = "MIME_NO_BOUNDARY"        // multipart without boundary parameter
	CodeBoundaryReused    = "MIME_BOUNDARY_REUSED"    // the boundary of an enclosing part again
	CodeBoundaryAmbiguous = "MIME_BOUNDARY_AMBIGUOUS" // a line that some readers take for a delimiter
	CodeAfterClose        = "MIME_AFTER_CLOSE"        // a delimiter after the closing one
	CodeUnclosed          = "MIME_UNCLOSED"           // multipart without its closing delimiter
	CodeBareLF            = "MIME_BARE_LF"            // lines end with LF alone
	CodeMixedEnds         = "MIME_MIXED_LINE_ENDS"    // some lines end with CRLF, some with LF
	CodeNUL               = "MIME_NUL"                // zero bytes
	CodeTooDeep           = "MIME_TOO_DEEP"           // nested beyond the limit, left unopened
	CodeEncoding          = "MIME_ENCODING"           // unknown or broken transfer encoding
	CodeCharset           = "MIME_CHARSET"            // unknown charset, or bytes that are not in it

	CodeSeveralDaticert = "PEC_SEVERAL_DATICERT"   // more than one daticert.xml in the signed part
	CodeNoDaticert      = "PEC_NO_DATICERT"        // a type that must have one has none
	CodeBadDaticert     = "PEC_BAD_DATICERT"       // it cannot be read
	CodeOddDaticert     = "PEC_ODD_DATICERT"       // it can, and is not as the DTD wants it
	CodeUnknownTipo     = "PEC_UNKNOWN_TIPO"       // a type that the rules do not know
	CodeTipo            = "PEC_TIPO_MISMATCH"      // header and daticert name different types
	CodeMsgID           = "PEC_MSGID_MISMATCH"     // header and daticert name different originals
	CodeIdentificativo  = "PEC_IDENT_MISMATCH"     // envelope, daticert and original disagree on the identifier
	CodeConsegna        = "PEC_CONSEGNA_UNKNOWN"   // the recipient of a receipt is not among the recipients
	CodeNoConsegna      = "PEC_CONSEGNA_MISSING"   // a receipt about one recipient names none
	CodeDate            = "PEC_DATE"               // date or zone that cannot be read
	CodeNested          = "PEC_NESTED_SIGNATURE"   // the signature is not the outermost part
	CodeMisrouted       = "PEC_MISROUTED"          // a type that users never get
	CodeBothHeaders     = "PEC_BOTH_HEADERS"       // X-Trasporto and X-Ricevuta together
	CodeShape           = "PEC_SHAPE"              // the MIME structure is not the one prescribed
	CodeOriginal        = "PEC_ORIGINAL_PRESENCE"  // postacert.eml missing or there against the rules
	CodeClock           = "PEC_CLOCK"              // daticert and signature are of different moments
	CodeSHA1            = "PEC_SHA1"               // signed over SHA-1
	CodeIssuer          = "PEC_ISSUER_MISMATCH"    // gestore-emittente is not the signer's
	CodeForeignDomain   = "PEC_FOREIGN_DOMAIN"     // the provider does not manage the domain
	CodeSeconded        = "PEC_SECOND_SUBMISSION"  // our msgid under another identificativo
	CodeRecipient       = "PEC_RECIPIENT_NOT_OURS" // a receipt for somebody whom we did not address
)
