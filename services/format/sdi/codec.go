package sdi

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// FileSdIBase is a file on its way to SdI.
// spec: TrasmissioneTypes-1.1 fileSdIBase_Type
type FileSdIBase struct {
	NomeFile string
	File     []byte
}

// FileSdI is a message from SdI to the transmitter.
// spec: TrasmissioneTypes-1.1 fileSdI_Type
type FileSdI struct {
	IdentificativoSdI string // decimal digits, at most 12: it exceeds 32 bits
	NomeFile          string
	File              []byte
}

// ErroreInvio is why SdI did not take a file. HTTP is 200 all the same.
// spec: TrasmissioneTypes-1.1 erroreInvio_Type
type ErroreInvio string

// The closed list. EI02 leaves it open whether the file will count: repeat under the same name.
const (
	EI01 ErroreInvio = "EI01" // empty file
	EI02 ErroreInvio = "EI02" // service not available
	EI03 ErroreInvio = "EI03" // user not enabled
)

// RispostaSdIRiceviFile is the answer to RiceviFile. It is a handover, not an acceptance:
// the verdict comes later as a message.
// spec: TrasmissioneTypes-1.1 rispostaSdIRiceviFile_Type
type RispostaSdIRiceviFile struct {
	IdentificativoSdI string      // "0" is common beside an error, and is no success
	DataOraRicezione  time.Time   // in Europe/Rome when SdI gave no zone
	Errore            ErroreInvio // "" when the file was taken
}

// Accepted says whether SdI took the file: no error and a usable identifier.
func (r RispostaSdIRiceviFile) Accepted() bool {
	return r.Errore == "" && strings.Trim(r.IdentificativoSdI, "0") != ""
}

// EncodeRiceviFile encodes the request that submits a file.
// Errors wrap ErrField: SdI's schema would refuse the name.
func EncodeRiceviFile(f FileSdIBase, enc Encoding) (Payload, error) {
	return encodeRequest(Request{Operation: OpRiceviFile, NomeFile: f.NomeFile, File: f.File}, enc)
}

// EncodeNotifica encodes a callback. Errors wrap ErrField or ErrUnknownOperation.
func EncodeNotifica(op Operation, f FileSdI, enc Encoding) (Payload, error) {
	if !op.callback() {
		return Payload{}, fmt.Errorf("%w: %s is not a callback", ErrUnknownOperation, op)
	}
	if !validID(f.IdentificativoSdI) {
		return Payload{}, fmt.Errorf("%w: IdentificativoSdI %q must be 1 to 12 digits", ErrField, clip(f.IdentificativoSdI, 40))
	}
	return encodeRequest(Request{Operation: op, IdentificativoSdI: f.IdentificativoSdI, NomeFile: f.NomeFile, File: f.File}, enc)
}

func validID(s string) bool {
	if len(s) < 1 || len(s) > 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

const (
	envelopeHead = `<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="` + nsEnvelope + `"><soapenv:Body>`
	envelopeTail = `</soapenv:Body></soapenv:Envelope>`
)

func encodeRequest(req Request, enc Encoding) (Payload, error) {
	if !ValidSOAPName(req.NomeFile) {
		return Payload{}, fmt.Errorf("%w: NomeFile %q must be 9 to 50 letters, digits, '_' or '.'", ErrField, clip(req.NomeFile, 80))
	}
	el := req.Operation.element()
	size := len(envelopeHead) + len(envelopeTail) + 2*len(el) + 512
	if enc != XOP {
		size += base64.StdEncoding.EncodedLen(len(req.File))
	}
	b := make([]byte, 0, size)
	b = append(b, envelopeHead...)
	b = append(b, "<types:"...)
	b = append(b, el...)
	b = append(b, ` xmlns:types="`+nsTrasmissione+`">`...)
	if req.Operation != OpRiceviFile {
		b = appendElement(b, "IdentificativoSdI", req.IdentificativoSdI)
	}
	b = appendElement(b, "NomeFile", req.NomeFile)
	b = appendBinary(b, "File", fileID, req.File, enc)
	b = append(b, "</types:"...)
	b = append(b, el...)
	b = append(b, '>')
	b = append(b, envelopeTail...)
	file := req.File
	if file == nil {
		file = []byte{}
	}
	p := wrap(b, file, enc)
	p.SOAPAction = req.Operation.SOAPAction()
	return p, nil
}

// EncodeRisposta encodes the answer to RiceviFile. SdI itself answers multipart even to plain
// requests, so enc XOP and Multipart both give a multipart body (there is no file to move).
func EncodeRisposta(r RispostaSdIRiceviFile, enc Encoding) (Payload, error) {
	id := r.IdentificativoSdI
	if id == "" && r.Errore != "" {
		id = "0"
	}
	if !validID(id) {
		return Payload{}, fmt.Errorf("%w: IdentificativoSdI %q must be 1 to 12 digits", ErrField, clip(id, 40))
	}
	b := make([]byte, 0, 640)
	b = append(b, envelopeHead...)
	b = append(b, `<types:rispostaSdIRiceviFile xmlns:types="`+nsTrasmissione+`">`...)
	b = appendElement(b, "IdentificativoSdI", id)
	b = appendElement(b, "DataOraRicezione", FormatDataOra(r.DataOraRicezione))
	if r.Errore != "" {
		b = appendElement(b, "Errore", string(r.Errore))
	}
	b = append(b, `</types:rispostaSdIRiceviFile>`...)
	b = append(b, envelopeTail...)
	return wrap(b, nil, enc), nil
}

// DecodeRisposta reads the answer to RiceviFile, plain or multipart. A SOAP fault comes back
// as *Fault; anything unreadable as *ParseError.
func DecodeRisposta(contentType string, body []byte) (RispostaSdIRiceviFile, error) {
	var out RispostaSdIRiceviFile
	lim := Limits{}.filled()
	root, parts, err := splitBody(contentType, body, lim)
	if err != nil {
		return out, err
	}
	var fault *Fault
	d := &envelope{parts: parts, lim: lim}
	err = d.read(root, func(r *xmlReader) error {
		if string(r.local) == "Fault" && r.space == nsEnvelope {
			fault = &Fault{}
			return fault.read(r)
		}
		if string(r.local) != "rispostaSdIRiceviFile" || r.space != nsTrasmissione {
			return r.fail(ErrUnknownOperation, "%s in namespace %q is no answer to RiceviFile", clip(string(r.local), 60), clip(r.space, 80))
		}
		return out.read(r)
	})
	if err != nil {
		return RispostaSdIRiceviFile{}, err
	}
	if fault != nil {
		return RispostaSdIRiceviFile{}, fault
	}
	return out, nil
}

func (o *RispostaSdIRiceviFile) read(r *xmlReader) error {
	err := r.each(func() error {
		local := string(r.local)
		v, err := r.value()
		if err != nil {
			return err
		}
		switch local {
		case "IdentificativoSdI":
			o.IdentificativoSdI = v
		case "DataOraRicezione":
			o.DataOraRicezione, err = ParseDataOra(v)
			if err != nil {
				return r.fail(ErrField, "DataOraRicezione: %v", err)
			}
		case "Errore":
			o.Errore = ErroreInvio(v)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if o.IdentificativoSdI == "" && o.Errore == "" {
		return r.fail(ErrField, "the answer has neither IdentificativoSdI nor Errore")
	}
	return nil
}

// A Fault is a SOAP 1.1 fault. It is an error.
// spec: SOAP-1.1 §4.4
type Fault struct {
	Code   string // local part of faultcode: Client, Server, VersionMismatch, MustUnderstand
	String string
	Actor  string
	Detail string // text of detail, elements removed
}

func (f *Fault) Error() string {
	s := "sdi: SOAP fault " + f.Code + ": " + clip(f.String, 300)
	if f.Detail != "" {
		s += " (" + clip(f.Detail, 300) + ")"
	}
	return s
}

func (f *Fault) read(r *xmlReader) error {
	return r.each(func() error {
		local := string(r.local)
		v, err := r.value()
		if err != nil {
			return err
		}
		switch local {
		case "faultcode":
			f.Code = v[strings.LastIndexByte(v, ':')+1:]
		case "faultstring":
			f.String = v
		case "faultactor":
			f.Actor = v
		case "detail":
			f.Detail = v
		}
		return nil
	})
}

// EncodeFault encodes a fault; it travels with HTTP status 500.
// spec: SOAP-1.1 §6.2
func EncodeFault(f *Fault) Payload {
	code := f.Code
	if code == "" {
		code = "Server"
	}
	b := make([]byte, 0, 512)
	b = append(b, envelopeHead...)
	b = append(b, "<soapenv:Fault>"...)
	b = appendElement(b, "faultcode", "soapenv:"+code)
	b = appendElement(b, "faultstring", f.String)
	if f.Actor != "" {
		b = appendElement(b, "faultactor", f.Actor)
	}
	if f.Detail != "" {
		b = appendElement(b, "detail", f.Detail)
	}
	b = append(b, "</soapenv:Fault>"...)
	b = append(b, envelopeTail...)
	return wrap(b, nil, Plain)
}

// FaultFor is the fault that answers a decoding error: Client for what the caller must mend,
// Server for everything else, whose text is withheld.
func FaultFor(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	code := "Client"
	switch {
	case errors.Is(err, ErrSOAPVersion):
		code = "VersionMismatch"
	case errors.Is(err, ErrMustUnderstand):
		code = "MustUnderstand"
	default:
		var pe *ParseError
		if !errors.As(err, &pe) {
			return &Fault{Code: "Server", String: "internal error"}
		}
	}
	return &Fault{Code: code, String: err.Error()}
}

// appendElement writes <name>text</name>, escaped.
func appendElement(b []byte, name, text string) []byte {
	b = append(b, '<')
	b = append(b, name...)
	b = append(b, '>')
	b = appendText(b, text)
	b = append(b, '<', '/')
	b = append(b, name...)
	return append(b, '>')
}

// appendText escapes text the way canonical XML does, so that a writer's output is its own
// canonical form; characters that XML cannot carry become U+FFFD.
func appendText(b []byte, s string) []byte {
	for _, c := range s {
		switch {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '>':
			b = append(b, "&gt;"...)
		case c == '\r':
			b = append(b, "&#xD;"...)
		case !validChar(c):
			b = append(b, "\uFFFD"...)
		case c < 0x80:
			b = append(b, byte(c))
		default:
			b = append(b, string(c)...)
		}
	}
	return b
}

func appendAttr(b []byte, name, value string) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=', '"')
	for _, c := range value {
		switch {
		case c == '&':
			b = append(b, "&amp;"...)
		case c == '<':
			b = append(b, "&lt;"...)
		case c == '"':
			b = append(b, "&quot;"...)
		case c == '\t' || c == '\n' || c == '\r':
			b = append(b, "&#x"+strings.ToUpper(strconv.FormatInt(int64(c), 16))+";"...)
		case !validChar(c):
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, string(c)...)
		}
	}
	return append(b, '"')
}
