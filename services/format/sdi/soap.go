package sdi

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/url"
	"strings"
)

const (
	nsEnvelope     = "http://schemas.xmlsoap.org/soap/envelope/"
	nsEnvelope12   = "http://www.w3.org/2003/05/soap-envelope"
	nsXOP          = "http://www.w3.org/2004/08/xop/include"
	nsTrasmissione = "http://www.fatturapa.gov.it/sdi/ws/trasmissione/v1.0/types"
	nsRicezione    = "http://www.fatturapa.gov.it/sdi/ws/ricezione/v1.0/types"
	nsDSig         = "http://www.w3.org/2000/09/xmldsig#"
)

// Operation is one of the SOAP operations of SDICoop, on the transmission and on the reception side.
// spec: SDICoop-T-3.2 (WSDL SdIRiceviFile 1.0, TrasmissioneFatture 1.1), SDICoop-R-3.2 (WSDL RicezioneFatture 1.0,
// SdIRiceviNotifica 1.0)
type Operation uint8

// OpRiceviFile is exposed by SdI; the six that follow by the transmitter, one-way. OpRiceviFatture and
// OpDecorrenzaTerminiCommittente (one-way) are exposed by the receiver, OpEsitoCommittente by SdI.
const (
	OpRiceviFile                      Operation = iota + 1 // submit one file
	OpRicevutaConsegna                                     // receipt of delivery
	OpNotificaMancataConsegna                              // not delivered (yet, or for good in the private flow)
	OpNotificaScarto                                       // discarded
	OpNotificaEsito                                        // outcome by the public buyer
	OpNotificaDecorrenzaTermini                            // the buyer's term has expired
	OpAttestazioneTrasmissioneFattura                      // attestation of transmission
	OpRiceviFatture                                        // SdI delivers a file with its metadata
	OpDecorrenzaTerminiCommittente                         // SdI tells the receiver that its term has expired
	OpEsitoCommittente                                     // the receiver's outcome, to SdI
)

var operations = [...]struct{ name, action, element string }{
	OpRiceviFile:                      {"RiceviFile", "http://www.fatturapa.it/SdIRiceviFile/RiceviFile", "fileSdIAccoglienza"},
	OpRicevutaConsegna:                {"RicevutaConsegna", "http://www.fatturapa.it/TrasmissioneFatture/RicevutaConsegna", "ricevutaConsegna"},
	OpNotificaMancataConsegna:         {"NotificaMancataConsegna", "http://www.fatturapa.it/TrasmissioneFatture/NotificaMancataConsegna", "notificaMancataConsegna"},
	OpNotificaScarto:                  {"NotificaScarto", "http://www.fatturapa.it/TrasmissioneFatture/NotificaScarto", "notificaScarto"},
	OpNotificaEsito:                   {"NotificaEsito", "http://www.fatturapa.it/TrasmissioneFatture/NotificaEsito", "notificaEsito"},
	OpNotificaDecorrenzaTermini:       {"NotificaDecorrenzaTermini", "http://www.fatturapa.it/TrasmissioneFatture/NotificaDecorrenzaTermini", "notificaDecorrenzaTermini"},
	OpAttestazioneTrasmissioneFattura: {"AttestazioneTrasmissioneFattura", "http://www.fatturapa.it/TrasmissioneFatture/AttestazioneTrasmissioneFattura", "attestazioneTrasmissioneFattura"},
	// The action has a suffix that the operation has not: that is how the WSDL writes it.
	OpRiceviFatture:                {"RiceviFatture", "http://www.fatturapa.it/RicezioneFatture/RiceviFattureSdI", "fileSdIConMetadati"},
	OpDecorrenzaTerminiCommittente: {"NotificaDecorrenzaTermini", "http://www.fatturapa.it/RicezioneFatture/NotificaDecorrenzaTermini", "fileSdI"},
	OpEsitoCommittente:             {"NotificaEsito", "http://www.fatturapa.it/SdIRicezioneNotifiche/NotificaEsito", "fileSdI"},
}

// Valid says whether op is one of the declared operations.
func (op Operation) Valid() bool { return op >= OpRiceviFile && int(op) < len(operations) }

// String is the operation's name in the WSDL.
func (op Operation) String() string {
	if !op.Valid() {
		return fmt.Sprintf("Operation(%d)", uint8(op))
	}
	return operations[op].name
}

// SOAPAction is the action of the WSDL, without quotes; "" for an unknown operation.
func (op Operation) SOAPAction() string {
	if !op.Valid() {
		return ""
	}
	return operations[op].action
}

func (op Operation) element() string { return operations[op].element }

// callback says whether op is one of those that a transmitter exposes.
func (op Operation) callback() bool {
	return op > OpRiceviFile && op <= OpAttestazioneTrasmissioneFattura
}

// transmission finds the operation of the transmission side by the element in the body.
func transmission(local []byte, space string) (Operation, bool) {
	if space != nsTrasmissione {
		return 0, false
	}
	for op := OpRiceviFile; op <= OpAttestazioneTrasmissioneFattura; op++ {
		if operations[op].element == string(local) {
			return op, true
		}
	}
	return 0, false
}

// OperationFor is the operation that carries messages of type t to a transmitter. Private
// messages travel by the operations named for public administrations.
func OperationFor(t MessageType) (Operation, bool) {
	switch t {
	case RC:
		return OpRicevutaConsegna, true
	case MC:
		return OpNotificaMancataConsegna, true
	case NS:
		return OpNotificaScarto, true
	case NE:
		return OpNotificaEsito, true
	case DT:
		return OpNotificaDecorrenzaTermini, true
	case AT:
		return OpAttestazioneTrasmissioneFattura, true
	}
	return 0, false
}

// A Request is one SOAP request of any of the services, decoded.
type Request struct {
	Operation         Operation
	IdentificativoSdI string // all but RiceviFile: decimal digits, up to 12; kept as text, as received
	NomeFile          string
	File              []byte
	NomeFileMetadati  string // RiceviFatture only
	Metadati          []byte // RiceviFatture only
	XOP               bool   // a file travelled as a MIME part
}

// Limits bound what decoding accepts. Zero fields take the defaults.
type Limits struct {
	Body int64 // bytes of the HTTP body; default DefaultBodyLimit
	File int   // bytes of one decoded file; default DefaultFileLimit
}

// MaxFileSize is the largest file that SdI takes. The texts say "5 MB" and never define it;
// the smaller reading is the safe one.
// spec: AllA-1.9 §1.3.1
const MaxFileSize = 5_000_000

// Default limits: an attestation carries a whole file in a zip together with the message,
// and inline base64 adds a third.
const (
	DefaultFileLimit = 2 * MaxFileSize
	DefaultBodyLimit = 16 << 20
)

func (l Limits) filled() Limits {
	if l.Body <= 0 {
		l.Body = DefaultBodyLimit
	}
	if l.File <= 0 {
		l.File = DefaultFileLimit
	}
	return l
}

// DecodeRequest reads a request of the transmission side from its HTTP headers and whole body: text/xml with inline
// base64, multipart/related with XOP, or multipart/related with inline base64. It answers
// to SOAP 1.1 only. soapAction may be empty; if it names another operation than the body
// does, the error is ErrActionMismatch. The returned file may alias body.
//
// Errors are *ParseError, or ErrTooLarge wrapped. FaultFor turns them into SOAP faults.
func DecodeRequest(contentType, soapAction string, body []byte, lim Limits) (Request, error) {
	return decodeRequest(contentType, soapAction, body, lim, transmission)
}

// serves finds the operation that an endpoint means by an element of a namespace.
type serves func(local []byte, space string) (Operation, bool)

func decodeRequest(contentType, soapAction string, body []byte, lim Limits, find serves) (Request, error) {
	lim = lim.filled()
	root, parts, err := splitBody(contentType, body, lim)
	if err != nil {
		return Request{}, err
	}
	d := &envelope{parts: parts, lim: lim}
	var req Request
	err = d.read(root, func(r *xmlReader) error {
		return d.request(r, &req, find)
	})
	if err != nil {
		return Request{}, err
	}
	action := strings.Trim(strings.TrimSpace(soapAction), `"`)
	if action != "" && action != req.Operation.SOAPAction() {
		return Request{}, parseErr("envelope", ErrActionMismatch,
			"SOAPAction %q, body %s; send %q", clip(action, 120), req.Operation.element(), req.Operation.SOAPAction())
	}
	return req, nil
}

// envelope reads one SOAP envelope; parts are the other MIME parts, by Content-ID.
type envelope struct {
	parts []mimePart
	lim   Limits
	xop   bool
}

// read walks Envelope, Header and Body and calls payload on the single child of Body.
func (d *envelope) read(doc []byte, payload func(r *xmlReader) error) error {
	r, err := newXMLReader("envelope", doc)
	if err != nil {
		return err
	}
	err = r.root()
	if err != nil {
		return err
	}
	if string(r.local) != "Envelope" || r.space != nsEnvelope {
		if string(r.local) == "Envelope" && r.space == nsEnvelope12 {
			return r.fail(ErrSOAPVersion, "SOAP 1.2; send SOAP 1.1 (%s)", nsEnvelope)
		}
		return r.fail(ErrNotSOAP, "the root is %s in namespace %q", clip(string(r.local), 60), clip(r.space, 80))
	}
	found := false
	err = r.each(func() error {
		switch {
		case string(r.local) == "Header" && r.space == nsEnvelope:
			return d.header(r)
		case string(r.local) == "Body" && r.space == nsEnvelope:
			return r.each(func() error {
				if found {
					return r.fail(ErrNotSOAP, "more than one element in Body")
				}
				found = true
				return payload(r)
			})
		}
		return r.fail(ErrNotSOAP, "unexpected %s in Envelope", clip(string(r.local), 60))
	})
	if err != nil {
		return err
	}
	if !found {
		return r.fail(ErrNotSOAP, "Body is empty")
	}
	return r.end()
}

// header passes over header blocks, except those that insist on being understood.
// spec: SOAP-1.1 §4.2.3
func (d *envelope) header(r *xmlReader) error {
	return r.each(func() error {
		v, _ := r.attr(nsEnvelope, "mustUnderstand")
		if v == "1" || v == "true" {
			return r.fail(ErrMustUnderstand, "%s in namespace %q", clip(string(r.local), 60), clip(r.space, 80))
		}
		return r.skip()
	})
}

func (d *envelope) request(r *xmlReader, req *Request, find serves) error {
	op, ok := find(r.local, r.space)
	if !ok {
		return r.fail(ErrUnknownOperation, "%s in namespace %q", clip(string(r.local), 60), clip(r.space, 80))
	}
	req.Operation = op
	var hasID, hasName, hasFile, hasMetadata bool
	err := r.each(func() error {
		var err error
		switch string(r.local) {
		case "IdentificativoSdI":
			hasID = true
			req.IdentificativoSdI, err = r.value()
		case "NomeFile":
			hasName = true
			req.NomeFile, err = r.value()
		case "File":
			if hasFile {
				return r.fail(ErrField, "File is given twice")
			}
			hasFile = true
			req.File, err = d.binary(r, "File")
		case "NomeFileMetadati":
			req.NomeFileMetadati, err = r.value()
		case "Metadati":
			if hasMetadata {
				return r.fail(ErrField, "Metadati is given twice")
			}
			hasMetadata = true
			req.Metadati, err = d.binary(r, "Metadati")
		default:
			err = r.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	req.XOP = d.xop
	switch {
	case !hasName:
		return r.fail(ErrField, "%s has no NomeFile", op.element())
	case !hasFile:
		return r.fail(ErrField, "%s has no File", op.element())
	case op != OpRiceviFile && !hasID:
		return r.fail(ErrField, "%s has no IdentificativoSdI", op.element())
	}
	return nil
}

// binary reads an xsd:base64Binary element: inline, or an xop:Include that points to a part.
// spec: XOP-1.0 §2
func (d *envelope) binary(r *xmlReader, field string) ([]byte, error) {
	var raw, joined, included []byte
	var isXOP bool
	for {
		k, err := r.next()
		if err != nil {
			return nil, err
		}
		switch k {
		case tokEnd:
			if isXOP {
				d.xop = true
				return included, nil
			}
			if joined != nil {
				raw = joined
			}
			return d.decode64(r, field, raw)
		case tokText:
			if raw == nil {
				raw = r.text
				continue
			}
			if joined == nil {
				joined = append(make([]byte, 0, len(raw)+len(r.text)), raw...)
			}
			joined = append(joined, r.text...)
		case tokStart:
			if string(r.local) != "Include" || r.space != nsXOP || isXOP {
				return nil, r.fail(ErrField, "%s holds an unexpected element %s", field, clip(string(r.local), 60))
			}
			isXOP = true
			included, err = d.include(r, field)
			if err != nil {
				return nil, err
			}
		}
	}
}

func (d *envelope) include(r *xmlReader, field string) ([]byte, error) {
	href, ok := r.attr("", "href")
	if !ok {
		return nil, r.fail(ErrField, "xop:Include in %s has no href", field)
	}
	cid, ok := strings.CutPrefix(href, "cid:")
	if !ok {
		return nil, r.fail(ErrField, "xop:Include in %s must refer to a part by cid:, has %q", field, clip(href, 60))
	}
	if s, err := url.PathUnescape(cid); err == nil {
		cid = s
	}
	if err := r.skip(); err != nil {
		return nil, err
	}
	for i := range d.parts {
		if d.parts[i].id != cid {
			continue
		}
		b, err := d.parts[i].content(d.lim.File)
		if err != nil {
			return nil, err
		}
		if len(b) > d.lim.File {
			return nil, r.fail(ErrTooLarge, "%s has %d bytes, the limit is %d", field, len(b), d.lim.File)
		}
		return b, nil
	}
	return nil, r.fail(ErrField, "%s refers to part %q, which is not there", field, clip(cid, 60))
}

func (d *envelope) decode64(r *xmlReader, field string, raw []byte) ([]byte, error) {
	if base64.StdEncoding.DecodedLen(len(raw)) > d.lim.File+d.lim.File/16+1024 {
		return nil, r.fail(ErrTooLarge, "%s is larger than %d bytes", field, d.lim.File)
	}
	out, err := decodeBase64(raw)
	if err != nil {
		return nil, r.fail(ErrField, "%s is not base64: %v", field, err)
	}
	if len(out) > d.lim.File {
		return nil, r.fail(ErrTooLarge, "%s has %d bytes, the limit is %d", field, len(out), d.lim.File)
	}
	return out, nil
}

// decodeBase64 accepts line breaks and blanks anywhere, as xsd:base64Binary does.
func decodeBase64(raw []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(out, raw) // skips CR and LF by itself
	if err == nil {
		return out[:n], nil
	}
	clean := make([]byte, 0, len(raw))
	for _, c := range raw {
		if !isBlank(c) {
			clean = append(clean, c)
		}
	}
	n, err = base64.StdEncoding.Decode(out, clean)
	if err != nil {
		return nil, err
	}
	return out[:n], nil
}

// ReadBody reads at most limit bytes and returns ErrTooLarge, wrapped, when there are more.
// sizeHint is the Content-Length, or -1.
func ReadBody(body io.Reader, sizeHint, limit int64) ([]byte, error) {
	if sizeHint > limit {
		return nil, parseErr("body", ErrTooLarge, "%d bytes, the limit is %d", sizeHint, limit)
	}
	if sizeHint >= 0 {
		buf := make([]byte, sizeHint)
		n, err := io.ReadFull(body, buf)
		if err == io.ErrUnexpectedEOF || err == io.EOF && sizeHint > 0 {
			return nil, parseErr("body", ErrTruncated, "%d of %d bytes", n, sizeHint)
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("sdi: read body: %w", err)
		}
		return buf, nil
	}
	buf, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("sdi: read body: %w", err)
	}
	if int64(len(buf)) > limit {
		return nil, parseErr("body", ErrTooLarge, "more than %d bytes", limit)
	}
	return buf, nil
}
