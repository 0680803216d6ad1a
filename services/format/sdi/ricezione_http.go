package sdi

import (
	"context"
	"net/http"
)

// RiceviFattureFunc takes a file that SdI delivers. It must return nil, which is answered with ER01,
// only when the bytes are durable: SdI then never delivers them again. Errors as for RiceviFileFunc.
type RiceviFattureFunc func(r *http.Request, f FileSdIConMetadati) error

// DecorrenzaTerminiFunc takes the notice that the receiver's term has expired. Durability and errors as
// for NotificaFunc.
type DecorrenzaTerminiFunc func(r *http.Request, f FileSdI) error

// NotificaEsitoFunc takes a receiver's outcome: what SdI exposes. Errors as for RiceviFileFunc.
type NotificaEsitoFunc func(r *http.Request, f FileSdI) (RispostaSdINotificaEsito, error)

// RicezioneFattureHandler serves RicezioneFatture: what a receiver exposes.
// spec: SDICoop-R-3.2 §2
func RicezioneFattureHandler(fatture RiceviFattureFunc, termini DecorrenzaTerminiFunc, opt ServerOptions) http.Handler {
	served := func(op Operation) bool { return op == OpRiceviFatture || op == OpDecorrenzaTerminiCommittente }
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, ok := receive(w, r, opt, ricezione, served)
		if !ok {
			return
		}
		if req.Operation == OpDecorrenzaTerminiCommittente {
			err := termini(r, FileSdI{IdentificativoSdI: req.IdentificativoSdI, NomeFile: req.NomeFile, File: req.File})
			if err != nil {
				writeFault(w, err)
				return
			}
			w.WriteHeader(http.StatusAccepted) // one-way, as in TrasmissioneFatture
			return
		}
		err := fatture(r, FileSdIConMetadati{
			IdentificativoSdI: req.IdentificativoSdI, NomeFile: req.NomeFile, File: req.File,
			NomeFileMetadati: req.NomeFileMetadati, Metadati: req.Metadati,
		})
		if err != nil {
			writeFault(w, err)
			return
		}
		p := EncodeRispostaRiceviFatture(opt.Answer)
		writePayload(w, http.StatusOK, &p)
	})
}

// SdIRiceviNotificaHandler serves SdIRiceviNotifica: what SdI exposes to receivers.
func SdIRiceviNotificaHandler(fn NotificaEsitoFunc, opt ServerOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, ok := receive(w, r, opt, riceviNotifica, func(op Operation) bool { return op == OpEsitoCommittente })
		if !ok {
			return
		}
		answer, err := fn(r, FileSdI{IdentificativoSdI: req.IdentificativoSdI, NomeFile: req.NomeFile, File: req.File})
		if err != nil {
			writeFault(w, err)
			return
		}
		p, err := EncodeRispostaNotificaEsito(answer, opt.Answer)
		if err != nil {
			writeFault(w, err)
			return
		}
		writePayload(w, http.StatusOK, &p)
	})
}

// RiceviFatture delivers a file to its receiver. A nil error is ER01. Otherwise the error is *CallError,
// or wraps ErrField when nothing was sent.
func (c *Client) RiceviFatture(ctx context.Context, f FileSdIConMetadati) error {
	p, err := EncodeRiceviFatture(f, c.Encoding)
	if err != nil {
		return err
	}
	ctype, body, err := c.call(ctx, OpRiceviFatture, &p)
	if err != nil {
		return err
	}
	_, err = DecodeRispostaRiceviFatture(ctype, body)
	if err != nil {
		return &CallError{Op: OpRiceviFatture, Status: http.StatusOK, Sent: true, Err: err}
	}
	return nil
}

// DecorrenzaTermini tells a receiver that its term has expired. Any 2xx status is a delivery.
func (c *Client) DecorrenzaTermini(ctx context.Context, f FileSdI) error {
	p, err := EncodeFileSdI(OpDecorrenzaTerminiCommittente, f, c.Encoding)
	if err != nil {
		return err
	}
	_, _, err = c.call(ctx, OpDecorrenzaTerminiCommittente, &p)
	return err
}

// NotificaEsito sends an outcome to SdI. A nil error means that an answer was read, not that the outcome
// was accepted: look at Esito. Otherwise the error is *CallError (use Unknown to learn whether the outcome
// may have arrived), or wraps ErrField when nothing was sent.
func (c *Client) NotificaEsito(ctx context.Context, f FileSdI) (RispostaSdINotificaEsito, error) {
	p, err := EncodeFileSdI(OpEsitoCommittente, f, c.Encoding)
	if err != nil {
		return RispostaSdINotificaEsito{}, err
	}
	ctype, body, err := c.call(ctx, OpEsitoCommittente, &p)
	if err != nil {
		return RispostaSdINotificaEsito{}, err
	}
	answer, err := DecodeRispostaNotificaEsito(ctype, body)
	if err != nil {
		return RispostaSdINotificaEsito{}, &CallError{Op: OpEsitoCommittente, Status: http.StatusOK, Sent: true, Err: err}
	}
	return answer, nil
}
