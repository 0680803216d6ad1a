package sdi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// peek reads an invoice through its envelopes, judging nothing.
func peek(raw []byte) (*fatturapa.File, error) {
	if cms.Looks(raw) {
		content, _, err := cms.Open(raw)
		if err != nil {
			return nil, err
		}
		raw = content
	}
	return fatturapa.Parse(raw)
}

// RiceviNotifica serves NotificaEsito: what receivers answer.
func (e *Exchange) RiceviNotifica() http.Handler {
	opt := sdi.ServerOptions{Answer: sdi.XOP, Refused: func(r *http.Request, err error) {
		e.mu.Lock()
		e.counts.Malformed++
		e.mu.Unlock()
		e.log.Warn("outcome refused", "remote", r.RemoteAddr, "error", err.Error())
	}}
	multi := sdi.SdIRiceviNotificaHandler(e.notificaEsito, opt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !e.stranger(w, r) {
			multi.ServeHTTP(w, r)
		}
	})
}

// notificaEsito takes one outcome: ordered faults, then the rules.
// spec: SDICoop-R-3.2; RicezioneTypes-1.0 esitoNotifica_Type
func (e *Exchange) notificaEsito(r *http.Request, f sdi.FileSdI) (sdi.RispostaSdINotificaEsito, error) {
	caller := strings.TrimPrefix(r.TLS.VerifiedChains[0][0].Subject.CommonName, "SDI-")
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Outcomes, Name: f.NomeFile, Transmitter: caller})
	e.mu.Lock()
	file := e.byID[f.IdentificativoSdI]
	if file != nil && file.passive != nil {
		file.passive.calls++
	}
	e.mu.Unlock()
	switch order.Kind {
	case client.FaultOutcomeES02:
		return sdi.RispostaSdINotificaEsito{Esito: sdi.ES02}, nil
	case client.FaultOutcomeES00:
		return sdi.RispostaSdINotificaEsito{Esito: sdi.ES00}, nil
	}
	answer, err := e.takeOutcome(caller, file, f)
	if err != nil {
		return answer, err
	}
	switch order.Kind {
	case client.FaultOutcomeES02Kept:
		return sdi.RispostaSdINotificaEsito{Esito: sdi.ES02}, nil
	case client.FaultOutcomeCut:
		panic(http.ErrAbortHandler)
	}
	return answer, nil
}

// takeOutcome registers an outcome and relays it to the sender, or refuses it with an SE.
func (e *Exchange) takeOutcome(caller string, file *file, f sdi.FileSdI) (sdi.RispostaSdINotificaEsito, error) {
	m, err := sdi.ParseMessage(f.NomeFile, f.File)
	var ec *sdi.NotificaEsitoCommittente
	if err == nil {
		ec, _ = m.Contenuto.(*sdi.NotificaEsitoCommittente)
	}
	if ec == nil || ec.Esito != sdi.EC01 && ec.Esito != sdi.EC02 || ec.IdentificativoSdI != f.IdentificativoSdI {
		return e.discardOutcome(file, f, ec, sdi.EN00, "il file non è un esito conforme")
	}
	e.mu.Lock()
	position, why := e.admissible(caller, file, ec)
	if why == "" {
		d := file.passive
		d.outcomes = append(d.outcomes, client.Outcome{Position: position, Outcome: string(ec.Esito), Description: ec.Descrizione, Name: f.NomeFile})
	}
	e.mu.Unlock()
	if why != "" {
		return e.discardOutcome(file, f, ec, sdi.EN01, why)
	}
	body := position - 1
	if position == 0 {
		body = len(file.doc.invoices)
	}
	e.tellSender(file.passive, &step{tipo: sdi.NE, esito: ec.Esito, relayed: ec}, body)
	return sdi.RispostaSdINotificaEsito{Esito: sdi.ES01}, nil
}

// admissible says which document an outcome answers, or why it may not; mu held.
func (e *Exchange) admissible(caller string, f *file, ec *sdi.NotificaEsitoCommittente) (position int, why string) {
	switch {
	case f == nil || f.passive == nil || f.passive.to.fiscalID != caller:
		return 0, "la fattura non è stata recapitata a chi risponde"
	case !f.doc.public():
		return 0, "la fattura non è diretta a una pubblica amministrazione"
	case f.passive.deliveredAt == nil:
		return 0, "la fattura non è ancora stata recapitata"
	case f.passive.expired || e.clock.Now().Sub(*f.passive.deliveredAt) > termOfOutcome:
		return 0, "il termine è decorso"
	}
	rf := ec.RiferimentoFattura
	if rf != nil {
		position = rf.PosizioneFattura
		for i := range f.doc.invoices {
			if position == 0 && f.doc.invoices[i].Number == rf.NumeroFattura {
				position = i + 1
			}
		}
		if position < 1 || position > len(f.doc.invoices) || f.doc.invoices[position-1].Number != rf.NumeroFattura {
			return 0, "la fattura indicata non è nel file"
		}
	}
	for _, o := range f.passive.outcomes {
		if o.Position == position || o.Position == 0 || position == 0 {
			return 0, "la fattura ha già un esito"
		}
	}
	return position, ""
}

// discardOutcome answers ES00 with an SE that says why.
func (e *Exchange) discardOutcome(file *file, f sdi.FileSdI, ec *sdi.NotificaEsitoCommittente, code sdi.Scarto, why string) (sdi.RispostaSdINotificaEsito, error) {
	e.mu.Lock()
	e.lastMessage++
	message := strconv.FormatUint(e.lastMessage, 10)
	name, number := f.NomeFile, 1
	if file != nil {
		file.sent[sdi.SE]++
		name, number = file.name, file.sent[sdi.SE]
		if file.passive != nil {
			file.passive.refusals++
		}
	}
	e.mu.Unlock()
	se := &sdi.ScartoEsitoCommittente{
		Intestazione: sdi.Intestazione{IdentificativoSdI: f.IdentificativoSdI, MessageID: message, Note: why + " (" + note + ")"}, Scarto: code,
	}
	if ec != nil {
		se.RiferimentoFattura, se.MessageIDCommittente = ec.RiferimentoFattura, ec.MessageIDCommittente
	}
	xml, err := sdi.WriteMessage(se, sdi.SchemaPA)
	if err == nil {
		xml, err = e.sign(xml, time.Now())
	}
	if err != nil {
		return sdi.RispostaSdINotificaEsito{}, &sdi.Fault{Code: "Client", String: fmt.Sprintf("the outcome cannot be answered: %v", err)}
	}
	return sdi.RispostaSdINotificaEsito{Esito: sdi.ES00, ScartoEsito: &sdi.FileSdIBase{NomeFile: sdi.NewMessageName(name, sdi.SE, number).XMLName(), File: xml}}, nil
}
