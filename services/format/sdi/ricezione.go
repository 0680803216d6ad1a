package sdi

import (
	"encoding/base64"
	"fmt"
)

// FileSdIConMetadati is a file that SdI delivers to its receiver, with its metadata (MT).
// spec: RicezioneTypes-1.0 fileSdIConMetadati_Type
type FileSdIConMetadati struct {
	IdentificativoSdI string // decimal digits, at most 12
	NomeFile          string
	File              []byte
	NomeFileMetadati  string
	Metadati          []byte
}

// EsitoRicezione is the receiver's answer to RiceviFatture. There is one only: what cannot be taken
// is answered with a fault, and SdI delivers again.
// spec: RicezioneTypes-1.0 esitoRicezione_Type
type EsitoRicezione string

// ER01 says that the receiver has taken the file in charge.
const ER01 EsitoRicezione = "ER01"

// EsitoNotifica is SdI's answer to an outcome.
// spec: RicezioneTypes-1.0 esitoNotifica_Type
type EsitoNotifica string

// The closed list. ES02 leaves it open whether the outcome will count: repeat under the same name.
const (
	ES00 EsitoNotifica = "ES00" // not accepted; ScartoEsito may say why
	ES01 EsitoNotifica = "ES01" // accepted
	ES02 EsitoNotifica = "ES02" // service not available
)

// RispostaSdINotificaEsito is the answer to NotificaEsito.
// spec: RicezioneTypes-1.0 rispostaSdINotificaEsito_Type
type RispostaSdINotificaEsito struct {
	Esito       EsitoNotifica
	ScartoEsito *FileSdIBase // the SE message, with ES00
}

// ricezione finds the operation of a receiver's endpoint. fileSdI is what the WSDL says; the types also
// declare an element named after the notice, which some stacks send.
func ricezione(local []byte, space string) (Operation, bool) {
	if space != nsRicezione {
		return 0, false
	}
	switch string(local) {
	case "fileSdIConMetadati":
		return OpRiceviFatture, true
	case "fileSdI", "notificaDecorrenzaTermini":
		return OpDecorrenzaTerminiCommittente, true
	}
	return 0, false
}

// riceviNotifica finds the operation of SdI's endpoint for outcomes.
func riceviNotifica(local []byte, space string) (Operation, bool) {
	if space == nsRicezione && (string(local) == "fileSdI" || string(local) == "notificaEsito") {
		return OpEsitoCommittente, true
	}
	return 0, false
}

// DecodeRicezione is DecodeRequest for what SdI sends to a receiver: RiceviFatture, or the one-way
// notice that the term has expired. Metadata may be missing: the file must be taken in all the same.
func DecodeRicezione(contentType, soapAction string, body []byte, lim Limits) (Request, error) {
	return decodeRequest(contentType, soapAction, body, lim, ricezione)
}

// DecodeNotificaEsito is DecodeRequest for what a receiver sends to SdI: its outcome.
func DecodeNotificaEsito(contentType, soapAction string, body []byte, lim Limits) (Request, error) {
	return decodeRequest(contentType, soapAction, body, lim, riceviNotifica)
}

// EncodeRiceviFatture encodes the delivery of a file. Errors wrap ErrField.
func EncodeRiceviFatture(f FileSdIConMetadati, enc Encoding) (Payload, error) {
	err := checkRicezione(f.IdentificativoSdI, f.NomeFile)
	if err == nil && !ValidSOAPName(f.NomeFileMetadati) {
		err = fmt.Errorf("%w: NomeFileMetadati %q must be 9 to 50 letters, digits, '_' or '.'", ErrField, clip(f.NomeFileMetadati, 80))
	}
	if err != nil {
		return Payload{}, err
	}
	b := openRicezione(OpRiceviFatture, len(f.File)+len(f.Metadati), enc)
	b = appendElement(b, "IdentificativoSdI", f.IdentificativoSdI)
	b = appendElement(b, "NomeFile", f.NomeFile)
	b = appendBinary(b, "File", fileID, f.File, enc)
	b = appendElement(b, "NomeFileMetadati", f.NomeFileMetadati)
	b = appendBinary(b, "Metadati", metadataID, f.Metadati, enc)
	b = closeRicezione(b, OpRiceviFatture.element())
	p := wrapAll(b, enc, attachment{fileID, f.File}, attachment{metadataID, f.Metadati})
	p.SOAPAction = OpRiceviFatture.SOAPAction()
	return p, nil
}

// EncodeFileSdI encodes a notice to a receiver (OpDecorrenzaTerminiCommittente) or its outcome
// (OpEsitoCommittente). Errors wrap ErrField or ErrUnknownOperation.
func EncodeFileSdI(op Operation, f FileSdI, enc Encoding) (Payload, error) {
	if op != OpDecorrenzaTerminiCommittente && op != OpEsitoCommittente {
		return Payload{}, fmt.Errorf("%w: %s does not carry a fileSdI", ErrUnknownOperation, op)
	}
	err := checkRicezione(f.IdentificativoSdI, f.NomeFile)
	if err != nil {
		return Payload{}, err
	}
	b := openRicezione(op, len(f.File), enc)
	b = appendElement(b, "IdentificativoSdI", f.IdentificativoSdI)
	b = appendElement(b, "NomeFile", f.NomeFile)
	b = appendBinary(b, "File", fileID, f.File, enc)
	b = closeRicezione(b, op.element())
	p := wrapAll(b, enc, attachment{fileID, f.File})
	p.SOAPAction = op.SOAPAction()
	return p, nil
}

func checkRicezione(id, name string) error {
	if !validID(id) {
		return fmt.Errorf("%w: IdentificativoSdI %q must be 1 to 12 digits", ErrField, clip(id, 40))
	}
	if !ValidSOAPName(name) {
		return fmt.Errorf("%w: NomeFile %q must be 9 to 50 letters, digits, '_' or '.'", ErrField, clip(name, 80))
	}
	return nil
}

func openRicezione(op Operation, files int, enc Encoding) []byte {
	size := len(envelopeHead) + len(envelopeTail) + 1024
	if enc != XOP {
		size += base64.StdEncoding.EncodedLen(files) + 8
	}
	b := append(make([]byte, 0, size), envelopeHead...)
	return append(append(append(b, "<types:"...), op.element()...), ` xmlns:types="`+nsRicezione+`">`...)
}

func closeRicezione(b []byte, element string) []byte {
	b = append(append(append(b, "</types:"...), element...), '>')
	return append(b, envelopeTail...)
}

// appendBinary writes a file where it stands, or a pointer to its part.
func appendBinary(b []byte, name, part string, data []byte, enc Encoding) []byte {
	b = append(append(append(b, '<'), name...), '>')
	if enc == XOP {
		b = append(b, `<xop:Include xmlns:xop="`+nsXOP+`" href="cid:`+part+`"/>`...)
	} else {
		b = base64.StdEncoding.AppendEncode(b, data)
	}
	return append(append(append(b, "</"...), name...), '>')
}

// EncodeRispostaRiceviFatture encodes ER01.
func EncodeRispostaRiceviFatture(enc Encoding) Payload {
	b := append([]byte{}, envelopeHead...)
	b = append(b, `<types:rispostaRiceviFatture xmlns:types="`+nsRicezione+`">`...)
	b = appendElement(b, "Esito", string(ER01))
	return wrap(closeRicezione(b, "rispostaRiceviFatture"), nil, enc)
}

// EncodeRispostaNotificaEsito encodes SdI's answer to an outcome. Errors wrap ErrField.
func EncodeRispostaNotificaEsito(a RispostaSdINotificaEsito, enc Encoding) (Payload, error) {
	if a.Esito != ES00 && a.Esito != ES01 && a.Esito != ES02 {
		return Payload{}, fmt.Errorf("%w: Esito must be ES00, ES01 or ES02, is %q", ErrField, clip(string(a.Esito), 20))
	}
	b := append([]byte{}, envelopeHead...)
	b = append(b, `<types:rispostaSdINotificaEsito xmlns:types="`+nsRicezione+`">`...)
	b = appendElement(b, "Esito", string(a.Esito))
	var files []attachment
	if a.ScartoEsito != nil {
		if !ValidSOAPName(a.ScartoEsito.NomeFile) {
			return Payload{}, fmt.Errorf("%w: NomeFile %q must be 9 to 50 letters, digits, '_' or '.'", ErrField, clip(a.ScartoEsito.NomeFile, 80))
		}
		b = append(b, "<ScartoEsito>"...)
		b = appendElement(b, "NomeFile", a.ScartoEsito.NomeFile)
		b = appendBinary(b, "File", fileID, a.ScartoEsito.File, enc)
		b = append(b, "</ScartoEsito>"...)
		files = append(files, attachment{fileID, a.ScartoEsito.File})
	}
	return wrapAll(closeRicezione(b, "rispostaSdINotificaEsito"), enc, files...), nil
}

// DecodeRispostaRiceviFatture reads the receiver's answer. A SOAP fault comes back as *Fault; anything
// unreadable, and any other answer than ER01, as *ParseError.
func DecodeRispostaRiceviFatture(contentType string, body []byte) (EsitoRicezione, error) {
	var esito EsitoRicezione
	err := decodeAnswer(contentType, body, "rispostaRiceviFatture", func(_ *envelope, r *xmlReader) error {
		return r.each(func() error {
			local := string(r.local)
			v, err := r.value()
			if local == "Esito" {
				esito = EsitoRicezione(v)
			}
			return err
		})
	})
	if err == nil && esito != ER01 {
		return "", parseErr("envelope", ErrField, "Esito is %q; there is ER01 only", clip(string(esito), 20))
	}
	return esito, err
}

// DecodeRispostaNotificaEsito reads SdI's answer to an outcome, plain or multipart. A SOAP fault comes
// back as *Fault; anything unreadable as *ParseError.
func DecodeRispostaNotificaEsito(contentType string, body []byte) (RispostaSdINotificaEsito, error) {
	var a RispostaSdINotificaEsito
	err := decodeAnswer(contentType, body, "rispostaSdINotificaEsito", func(d *envelope, r *xmlReader) error {
		return r.each(func() error {
			switch string(r.local) {
			case "Esito":
				v, err := r.value()
				a.Esito = EsitoNotifica(v)
				return err
			case "ScartoEsito":
				a.ScartoEsito = &FileSdIBase{}
				return d.fileBase(r, a.ScartoEsito)
			}
			return r.skip()
		})
	})
	if err == nil && a.Esito != ES00 && a.Esito != ES01 && a.Esito != ES02 {
		return RispostaSdINotificaEsito{}, parseErr("envelope", ErrField, "Esito %q is none of ES00, ES01, ES02", clip(string(a.Esito), 20))
	}
	if err != nil {
		return RispostaSdINotificaEsito{}, err
	}
	return a, nil
}

// decodeAnswer reads an answer whose body is the named element of the reception types, or a fault.
func decodeAnswer(contentType string, body []byte, element string, read func(d *envelope, r *xmlReader) error) error {
	lim := Limits{}.filled()
	root, parts, err := splitBody(contentType, body, lim)
	if err != nil {
		return err
	}
	var fault *Fault
	d := &envelope{parts: parts, lim: lim}
	err = d.read(root, func(r *xmlReader) error {
		if string(r.local) == "Fault" && r.space == nsEnvelope {
			fault = &Fault{}
			return fault.read(r)
		}
		if string(r.local) != element || r.space != nsRicezione {
			return r.fail(ErrUnknownOperation, "%s in namespace %q is not %s", clip(string(r.local), 60), clip(r.space, 80), element)
		}
		return read(d, r)
	})
	if err == nil && fault != nil {
		return fault
	}
	return err
}

// fileBase reads a fileSdIBase_Type.
func (d *envelope) fileBase(r *xmlReader, f *FileSdIBase) error {
	return r.each(func() error {
		var err error
		switch string(r.local) {
		case "NomeFile":
			f.NomeFile, err = r.value()
		case "File":
			f.File, err = d.binary(r, "File")
		default:
			err = r.skip()
		}
		return err
	})
}
