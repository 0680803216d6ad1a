package sdi

import (
	"errors"
	"net/http"
	"strconv"
)

// RiceviFileFunc takes one submitted file. A returned *Fault is sent as it is, an *HTTPError as
// its bare status; any other error becomes a Server fault without its text. f.File must not be changed; it may be kept.
type RiceviFileFunc func(r *http.Request, f FileSdIBase) (RispostaSdIRiceviFile, error)

// NotificaFunc takes one message. It must return nil only when the bytes are durable: the
// sender forgets the message on success. Errors as for RiceviFileFunc.
type NotificaFunc func(r *http.Request, op Operation, f FileSdI) error

// An HTTPError makes a handler answer with a bare HTTP status instead of a SOAP fault, as a
// front end does when the service behind it is down or the caller has no business here.
type HTTPError struct {
	Status int
	Text   string
}

func (e *HTTPError) Error() string { return "sdi: HTTP " + strconv.Itoa(e.Status) + ": " + e.Text }

// ServerOptions tune a handler.
type ServerOptions struct {
	Limits Limits
	Answer Encoding // shape of RiceviFile answers; SdI itself answers multipart

	// Refused is told of every request that could not be decoded, for logs and counters.
	Refused func(r *http.Request, err error)
}

// RiceviFileHandler serves SdIRiceviFile: what SdI exposes.
func RiceviFileHandler(fn RiceviFileFunc, opt ServerOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, ok := receive(w, r, opt, transmission, func(op Operation) bool { return op == OpRiceviFile })
		if !ok {
			return
		}
		ans, err := fn(r, FileSdIBase{NomeFile: req.NomeFile, File: req.File})
		if err != nil {
			writeFault(w, err)
			return
		}
		p, err := EncodeRisposta(ans, opt.Answer)
		if err != nil {
			writeFault(w, err)
			return
		}
		writePayload(w, http.StatusOK, &p)
	})
}

// TrasmissioneFattureHandler serves TrasmissioneFatture: what a transmitter exposes for
// SdI's messages. Success is 202 with an empty body, since the operations are one-way.
// spec: WS-I BP-1.1 R2714
func TrasmissioneFattureHandler(fn NotificaFunc, opt ServerOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, ok := receive(w, r, opt, transmission, Operation.callback)
		if !ok {
			return
		}
		err := fn(r, req.Operation, FileSdI{IdentificativoSdI: req.IdentificativoSdI, NomeFile: req.NomeFile, File: req.File})
		if err != nil {
			writeFault(w, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
}

func receive(w http.ResponseWriter, r *http.Request, opt ServerOptions, find serves, served func(Operation) bool) (Request, bool) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this is a SOAP endpoint: POST a SOAP 1.1 envelope", http.StatusMethodNotAllowed)
		return Request{}, false
	}
	req, err := readRequest(r, opt.Limits, find, served)
	if err == nil {
		return req, true
	}
	if opt.Refused != nil {
		opt.Refused(r, err)
	}
	switch {
	case errors.Is(err, ErrTooLarge):
		p := EncodeFault(FaultFor(err))
		writePayload(w, http.StatusRequestEntityTooLarge, &p)
	case errors.Is(err, ErrContentType):
		p := EncodeFault(FaultFor(err))
		writePayload(w, http.StatusUnsupportedMediaType, &p)
	default:
		writeFault(w, err)
	}
	return Request{}, false
}

func readRequest(r *http.Request, lim Limits, find serves, served func(Operation) bool) (Request, error) {
	lim = lim.filled()
	if enc := r.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return Request{}, parseErr("Content-Encoding", ErrContentType, "%q; send the body uncompressed", clip(enc, 40))
	}
	body, err := ReadBody(r.Body, r.ContentLength, lim.Body)
	if err != nil {
		return Request{}, err
	}
	req, err := decodeRequest(r.Header.Get("Content-Type"), r.Header.Get("SOAPAction"), body, lim, find)
	if err != nil {
		return Request{}, err
	}
	if !served(req.Operation) {
		return Request{}, parseErr("envelope", ErrUnknownOperation, "%s is not served at this endpoint", req.Operation)
	}
	return req, nil
}

func writeFault(w http.ResponseWriter, err error) {
	var bare *HTTPError
	if errors.As(err, &bare) {
		http.Error(w, bare.Text, bare.Status)
		return
	}
	p := EncodeFault(FaultFor(err))
	writePayload(w, http.StatusInternalServerError, &p)
}

func writePayload(w http.ResponseWriter, status int, p *Payload) {
	h := w.Header()
	h.Set("Content-Type", p.ContentType)
	h.Set("Content-Length", strconv.FormatInt(p.Len(), 10))
	w.WriteHeader(status)
	// A write error means that the caller is gone; there is nobody left to tell.
	_, _ = p.WriteTo(w)
}
