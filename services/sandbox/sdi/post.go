package sdi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// Letter is a certified message between SdI and a mailbox.
type Letter struct {
	From, To      string
	Subject, Text string
	Files         []LetterFile
	Forged        bool // put into the mailbox by somebody else, without a provider's signature
}

// LetterFile is a file in it.
type LetterFile struct {
	Name string
	Data []byte
}

// correspondent is a mailbox that SdI has to do with, by its address.
type correspondent struct {
	mailbox  string
	assigned string // the address that the mailbox has to write to
	told     bool   // it was told so in a message of SdI
}

// SetPost says how letters leave, and which mailboxes are there. Without it SdI has no mailbox.
func (e *Exchange) SetPost(send func(Letter) error, has func(address string) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sendLetter, e.hasMailbox = send, has
}

// mailboxOf is the mailbox to which a private file goes that names no channel and a PECDestinatario. One that nobody
// keeps here is played by the plan of the magic codes.
// spec: AllA-1.9 §1.5.5
func (e *Exchange) mailboxOf(doc *document) string {
	e.mu.Lock()
	has := e.hasMailbox
	e.mu.Unlock()
	if doc.public() || doc.code != noChannel || doc.pec == "" || has == nil || !has(doc.pec) {
		return ""
	}
	return doc.pec
}

// noChannel is the recipient code of a buyer without a channel.
const noChannel = "0000000"

// correspond gives what SdI knows of a mailbox; it assigns an address when there is none. mu held.
func (e *Exchange) correspond(mailbox string) *correspondent {
	key := strings.ToLower(mailbox)
	c := e.correspondents[key]
	if c == nil {
		c = &correspondent{mailbox: key, assigned: fmt.Sprintf("sdi%02d@%s", 2+e.rng.Uint64N(98), pec.SdIDomain)}
		e.correspondents[key] = c
	}
	return c
}

// TakeLetter takes one message that was delivered to a mailbox of SdI. Only the first one may go to sdi01; what goes
// to another address than the assigned one is not looked at, and counted: the texts promise nothing for it.
// spec: AllA-1.9 §1.3.1
func (e *Exchange) TakeLetter(l Letter, at time.Time) {
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Letters, Name: l.From, Transmitter: l.From})
	e.mu.Lock()
	c := e.correspond(l.From)
	e.counts.Letters++
	right := strings.EqualFold(l.To, c.assigned) || !c.told && strings.EqualFold(l.To, pec.SdIFirst)
	if !right {
		e.counts.LettersAstray++
	}
	e.mu.Unlock()
	if !right {
		e.log.Warn("letter to an address that was not assigned", "from", l.From, "to", l.To, "assigned", c.assigned)
		return
	}
	if len(l.Files) == 0 {
		e.answerTo(c, Letter{Subject: "Messaggio senza allegati", Text: "Il messaggio non contiene file da elaborare (" + note + ").\n"}, order.Kind)
		return
	}
	tx := &transmitter{fiscalID: c.mailbox, mail: c, mailFault: order.Kind}
	for _, f := range l.Files {
		e.mu.Lock()
		e.counts.Requests++
		e.mu.Unlock()
		if name, err := sdi.ParseMessageName(f.Name); err == nil && name.Type == sdi.EC {
			e.takeMailedOutcome(c, f)
			continue
		}
		taken, err := e.register(tx, f.Name, f.Data, at, nil)
		if err != nil {
			e.log.Error("file not registered", "name", f.Name, "error", err.Error())
			continue
		}
		e.judges.do(func(context.Context) { e.judge(taken) })
	}
}

// takeMailedOutcome takes an outcome; by certified mail only a refusal is answered, with an SE.
func (e *Exchange) takeMailedOutcome(c *correspondent, f LetterFile) {
	id := ""
	if m, err := sdi.ParseMessage(f.Name, f.Data); err == nil {
		id = m.Head().IdentificativoSdI
	}
	e.mu.Lock()
	file := e.byID[id]
	if file != nil && file.passive != nil {
		file.passive.calls++
	}
	e.mu.Unlock()
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Outcomes, Name: f.Name, Transmitter: c.mailbox})
	call := sdi.FileSdI{IdentificativoSdI: id, NomeFile: f.Name, File: f.Data}
	take := func() (sdi.RispostaSdINotificaEsito, error) { return e.takeOutcome(c.mailbox, file, call) }
	if order.Kind == client.FaultOutcomeES00 {
		take = func() (sdi.RispostaSdINotificaEsito, error) {
			return e.discardOutcome(file, call, nil, sdi.EN01, "ordered through the control API")
		}
	}
	answer, err := take()
	if err != nil || answer.ScartoEsito == nil {
		return
	}
	e.answerTo(c, Letter{Subject: "Scarto esito " + id, Text: "In allegato lo scarto dell'esito (" + note + ").\n",
		Files: []LetterFile{{Name: answer.ScartoEsito.NomeFile, Data: answer.ScartoEsito.File}}}, "")
}

// answerTo sends a letter that nobody waits for.
func (e *Exchange) answerTo(c *correspondent, l Letter, order string) {
	err := e.mailTo(c, l, order)
	if err != nil {
		e.log.Error("letter not sent", "to", c.mailbox, "error", err.Error())
	}
}

// mailTo sends a letter to a mailbox; the first one says which address to use from now on. A forged one that was
// ordered comes before it and assigns another.
func (e *Exchange) mailTo(c *correspondent, l Letter, order string) error {
	e.mu.Lock()
	send, first, address := e.sendLetter, !c.told, c.assigned
	c.told = true
	e.mu.Unlock()
	if send == nil {
		return errors.New("SdI has no mailbox here")
	}
	l.From, l.To = address, c.mailbox
	tell := func(address string) string {
		return "\nIl nuovo indirizzo da utilizzare per inviare le prossime fatture al Sistema di Interscambio e' " + address + "\n"
	}
	if order == client.FaultLetterForged {
		forged := l
		forged.From, forged.Text, forged.Forged = "sdi66@"+pec.SdIDomain, l.Text+tell("sdi66@"+pec.SdIDomain), true
		if err := send(forged); err != nil {
			return err
		}
	}
	switch {
	case first && order == client.FaultLetterAstray:
		l.Text += tell("sdi77@pec.fatturapa.invalid")
		e.mu.Lock()
		c.told = false // it was told nothing that counts
		e.mu.Unlock()
	case first:
		l.Text += tell(address)
	}
	return send(l)
}

// mailReceipt brings one message of SdI to the mailbox that sent its file.
func (e *Exchange) mailReceipt(r *receipt) error {
	e.mu.Lock()
	data, order := slices.Clone(r.data), r.file.tx.mailFault
	r.file.tx.mailFault = "" // once
	e.mu.Unlock()
	return e.mailTo(r.file.tx.mail, Letter{
		Subject: subjects[r.tipo] + " " + r.id, Text: "In allegato il messaggio del Sistema di Interscambio (" + note + ").\n",
		Files: []LetterFile{{Name: r.name, Data: data}},
	}, order)
}

// subjects are those that people know; nothing depends on them.
var subjects = map[sdi.MessageType]string{
	sdi.RC: "Ricevuta di consegna", sdi.NS: "Notifica di scarto", sdi.MC: "Notifica di mancata consegna", sdi.NE: "Notifica di esito",
	sdi.DT: "Notifica di decorrenza termini", sdi.AT: "Attestazione di avvenuta trasmissione",
}

// mailDelivery brings a passive invoice with its metadata. spec: AllA-1.9 §1.5.7
func (e *Exchange) mailDelivery(d *delivery, f sdi.FileSdIConMetadati) error {
	return e.mailTo(d.to.mail, Letter{
		Subject: "Invio File " + f.IdentificativoSdI, Text: "In allegato la fattura e i suoi metadati (" + note + ").\n",
		Files: []LetterFile{{Name: f.NomeFile, Data: f.File}, {Name: f.NomeFileMetadati, Data: f.Metadati}},
	}, "")
}

// mailTerm brings the notice that the term of a passive invoice has passed.
func (e *Exchange) mailTerm(d *delivery, f sdi.FileSdI) error {
	return e.mailTo(d.to.mail, Letter{Subject: subjects[sdi.DT] + " " + f.IdentificativoSdI, Text: "In allegato la notifica (" + note + ").\n",
		Files: []LetterFile{{Name: f.NomeFile, Data: f.File}}}, "")
}

// mailReceiver makes a mailbox the receiver of a passive invoice.
func (e *Exchange) mailReceiver(address string) (*transmitter, error) {
	if e.sendLetter == nil {
		return nil, errors.New("to_pec: SdI has no mailbox here")
	}
	c := e.correspond(address)
	return &transmitter{fiscalID: c.mailbox, mail: c}, nil
}
