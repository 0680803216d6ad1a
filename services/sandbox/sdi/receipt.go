package sdi

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// receipt is one message on its way back. All fields but file are guarded by Exchange.mu.
type receipt struct {
	file        *file
	name        string
	tipo        sdi.MessageType
	id          string // IdentificativoSdI that it travels under
	data        []byte // nil once delivered and pushed out
	attempts    int
	due         time.Time // of the latest attempt
	deliveredAt *time.Time
	givenUp     bool
	order       client.Fault // Kind "" when none
	lastError   string
	next        func() // starts what follows, once
}

// note is in every message that the sandbox makes.
const note = "SANDBOX - NOT VALID"

// issue makes, signs and dispatches message n of a file's plan. It runs on a worker.
func (e *Exchange) issue(f *file, n int, due time.Time) {
	s := &f.plan[n]
	bodies := 1
	if s.tipo == sdi.NE {
		bodies = max(1, len(f.doc.invoices)) // outcomes are per invoice of a lot
	}
	for i := range bodies {
		r, err := e.make(f, s, i, due)
		if err != nil {
			e.log.Error("receipt not made", "file", f.name, "type", string(s.tipo), "error", err.Error())
			return
		}
		if i == bodies-1 {
			r.next = func() { e.proceed(f, n+1, due) }
		}
		e.dispatch(r)
	}
}

func (e *Exchange) make(f *file, s *step, body int, due time.Time) (*receipt, error) {
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Receipts, Name: f.name, Transmitter: f.tx.fiscalID, Type: string(s.tipo)})
	if order.Kind != "" {
		e.log.Info("fault played", "kind", order.Kind, "name", f.name, "type", string(s.tipo))
	}
	r := &receipt{file: f, tipo: s.tipo, id: f.id, order: order, due: due}
	if order.Kind == client.FaultUnknownID {
		r.id = e.unknownID()
	}
	hash := f.hash
	if order.Kind == client.FaultWrongHash {
		hash = strings.Repeat("0", len(hash))
	}
	e.mu.Lock()
	f.sent[s.tipo]++
	name := sdi.NewMessageName(f.name, s.tipo, f.sent[s.tipo])
	e.lastMessage++
	message := strconv.FormatUint(e.lastMessage, 10)
	e.mu.Unlock()
	r.name = name.String()

	schema := sdi.SchemaPrivati
	if f.doc.public() {
		schema = sdi.SchemaPA
	}
	xml, err := sdi.WriteMessage(e.content(f, s, body, r.id, hash, message, due), schema)
	if err != nil {
		return nil, err
	}
	if order.Kind != client.FaultUnsigned {
		xml, err = e.sign(xml, e.clock.Now())
		if err != nil {
			return nil, err
		}
	}
	r.data, err = e.dress(f, name, spoil(xml, order.Kind))
	if err != nil {
		return nil, err
	}
	e.record(r, s)
	return r, nil
}

// spoil damages a signed message as ordered.
func spoil(xml []byte, kind string) []byte {
	switch kind {
	case client.FaultMalformed:
		return xml[:len(xml)/2]
	case client.FaultBadSig:
		const mark = "<ds:DigestValue>"
		i := bytes.Index(xml, []byte(mark))
		if i < 0 {
			return xml
		}
		out := bytes.Clone(xml)
		for j := i + len(mark); j < i+len(mark)+8; j++ {
			out[j] = 'A'
		}
		return out
	}
	return xml
}

// dress wraps an attestation into its zip.
func (e *Exchange) dress(f *file, name sdi.MessageName, xml []byte) ([]byte, error) {
	if !name.Zip {
		return xml, nil
	}
	e.mu.Lock()
	raw := f.raw
	e.mu.Unlock()
	return sdi.ZipAttestazione(sdi.ArchiveMember{Name: f.name, Data: raw}, name.XMLName(), xml, e.clock.Now())
}

// record registers a message that was made and its effect on the file.
func (e *Exchange) record(r *receipt, s *step) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := r.file
	f.receipts = append(f.receipts, r)
	if f.epoch == e.epoch {
		e.counts.ReceiptsMade++
		e.counts.ReceiptsPending++
	}
	e.setState(f, outcomeState(s))
	f.errors = append(f.errors, s.errs...)
	if f.state == stateRefused || f.state == stateDiscarded {
		// A refused or discarded invoice may be sent again under the same number.
		// spec: AllA-1.9 App.1, control 00404
		for _, k := range f.doc.keys {
			if e.invoices[k] == f {
				delete(e.invoices, k)
			}
		}
	}
}

// content fills the message of a step.
func (e *Exchange) content(f *file, s *step, body int, id, hash, message string, due time.Time) sdi.Contenuto {
	head := sdi.Intestazione{
		IdentificativoSdI: id, NomeFile: f.name, Hash: hash, DataOraRicezione: f.at,
		RiferimentoArchivio: f.archive, MessageID: message, Note: note,
	}
	if len(head.NomeFile) > 50 {
		head.NomeFile = head.NomeFile[:50]
	}
	dest := sdi.Destinatario{Codice: f.doc.code, Descrizione: "Destinatario di prova (" + note + ")"}
	switch s.tipo {
	case sdi.NS:
		return &sdi.NotificaScarto{Intestazione: head, ListaErrori: s.errs}
	case sdi.MC:
		return &sdi.NotificaMancataConsegna{Intestazione: head, DataMessaADisposizione: due, Descrizione: "Recapito non riuscito (" + note + ")"}
	case sdi.NE:
		if s.relayed != nil {
			return &sdi.NotificaEsito{Intestazione: head, EsitoCommittente: *s.relayed}
		}
		ec := sdi.NotificaEsitoCommittente{
			Intestazione: sdi.Intestazione{IdentificativoSdI: id}, Esito: s.esito, MessageIDCommittente: message,
		}
		if body < len(f.doc.invoices) {
			inv := f.doc.invoices[body]
			ec.RiferimentoFattura = &sdi.RiferimentoFattura{NumeroFattura: inv.Number, AnnoFattura: inv.Year}
			if len(f.doc.invoices) > 1 {
				ec.RiferimentoFattura.PosizioneFattura = body + 1
			}
		}
		if s.esito == sdi.EC02 {
			ec.Descrizione = "Fattura rifiutata (" + note + ")"
		}
		return &sdi.NotificaEsito{Intestazione: head, EsitoCommittente: ec}
	case sdi.DT:
		return &sdi.NotificaDecorrenzaTermini{Intestazione: head, Descrizione: "Termine decorso senza esito (" + note + ")"}
	case sdi.AT:
		return &sdi.AttestazioneTrasmissioneFattura{Intestazione: head, Destinatario: dest, HashFileOriginale: hash}
	}
	return &sdi.RicevutaConsegna{Intestazione: head, DataOraConsegna: due, Destinatario: dest}
}

// sign signs and keeps account of the time it took.
func (e *Exchange) sign(xml []byte, at time.Time) ([]byte, error) {
	start := time.Now()
	out, err := e.signer.sign(xml, at)
	took := time.Since(start)
	e.mu.Lock()
	e.counts.SigningMicros += took.Microseconds()
	e.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return out, nil
}
