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
	Forged        string // put into the mailbox by somebody else: what is wrong with its signature, one of fault.Forgeries
}

// LetterFile is a file in it.
type LetterFile struct {
	Name string
	Data []byte
}

// answers says whether there are outcomes in it and nothing else.
func (l *Letter) answers() bool {
	other := func(f LetterFile) bool {
		name, err := sdi.ParseMessageName(f.Name)
		return err != nil || name.Type != sdi.EC
	}
	return len(l.Files) > 0 && !slices.ContainsFunc(l.Files, other)
}

// correspondent is a mailbox that SdI has to do with, by its address.
type correspondent struct {
	mailbox  string
	assigned string   // the address that the mailbox has to write to
	earlier  []string // those before it
	told     bool     // it was told so in a message of SdI
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
		c = &correspondent{mailbox: key, assigned: e.newAddress("")}
		e.correspondents[key] = c
	}
	return c
}

// forgedAddress is the one that forged letters assign, and SdI never does.
const forgedAddress = "sdi66@" + pec.SdIDomain

// newAddress is one of SdI's but its first, the one that forged letters assign, and another one. mu held.
func (e *Exchange) newAddress(but string) string {
	for {
		a := fmt.Sprintf("sdi%02d@%s", 2+e.rng.Uint64N(98), pec.SdIDomain)
		if a != forgedAddress && a != but {
			return a
		}
	}
}

// TakeLetter takes one message that was delivered to a mailbox of SdI. Only the first one may go to sdi01; what goes
// to another address than the assigned one is not looked at, and counted: the texts promise nothing for it. Outcomes
// go to where their invoice came from, which may be one that was assigned before.
// spec: AllA-1.9 §1.3.1
func (e *Exchange) TakeLetter(l Letter, at time.Time) {
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Answers, Name: l.From, Transmitter: l.From})
	e.mu.Lock()
	c := e.correspond(l.From)
	e.counts.Letters++
	right := strings.EqualFold(l.To, c.assigned) || !c.told && strings.EqualFold(l.To, pec.SdIFirst) ||
		l.answers() && slices.Contains(c.earlier, strings.ToLower(l.To))
	if !right {
		e.counts.LettersAstray++
	}
	assigned := c.assigned
	e.mu.Unlock()
	if !right {
		e.log.Warn("letter to an address that was not assigned", "from", l.From, "to", l.To, "assigned", assigned)
		return
	}
	if len(l.Files) == 0 {
		e.answerTo(c, Letter{Subject: "Messaggio senza allegati", Text: "Il messaggio non contiene file da elaborare (" + note + ").\n"}, order)
		return
	}
	tx := &transmitter{fiscalID: c.mailbox, mail: c, mailFault: order}
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
		Files: []LetterFile{{Name: answer.ScartoEsito.NomeFile, Data: answer.ScartoEsito.File}}}, client.Fault{})
}

// answerTo sends a letter that nobody waits for.
func (e *Exchange) answerTo(c *correspondent, l Letter, order client.Fault) {
	err := e.mailTo(c, l, order)
	if err != nil {
		e.log.Error("letter not sent", "to", c.mailbox, "error", err.Error())
	}
}

// mailTo sends a letter to a mailbox; the first one says which address to use from now on, and so does one that was
// ordered to change it. A forged one that was ordered comes before it and assigns another.
// spec: AllA-1.9 §1.3.1
func (e *Exchange) mailTo(c *correspondent, l Letter, order client.Fault) error {
	own, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Letters, Name: c.mailbox, Transmitter: c.mailbox})
	e.mu.Lock()
	send, tells, from := e.sendLetter, !c.told, c.assigned
	if own.Kind == client.FaultLetterChanged {
		tells, c.earlier, c.assigned = true, append(c.earlier, c.assigned), e.newAddress(c.assigned)
	}
	address, other := c.assigned, ""
	c.told = true
	if own.Kind == client.FaultLetterTwo {
		other, c.told = e.newAddress(address), !tells // two addresses tell nothing that counts
	}
	e.mu.Unlock()
	if send == nil {
		return errors.New("SdI has no mailbox here")
	}
	l.From, l.To = from, c.mailbox
	tell := func(address string) string {
		return "\nIl nuovo indirizzo da utilizzare per inviare le prossime fatture al Sistema di Interscambio e' " + address + "\n"
	}
	if own.Kind == client.FaultLetterSimulation {
		l.Subject += " (SIMULAZIONE)"
	}
	if order.Kind == client.FaultLetterForged {
		forged := l
		forged.From, forged.Text, forged.Forged = forgedAddress, l.Text+tell(forgedAddress), order.Mode
		if err := send(forged); err != nil {
			return err
		}
	}
	switch {
	case other != "":
		l.Text += tell(address) + tell(other)
	case tells && order.Kind == client.FaultLetterAstray:
		l.Text += tell("sdi77@pec.fatturapa.invalid")
		e.mu.Lock()
		c.told = false // it was told nothing that counts
		e.mu.Unlock()
	case tells:
		l.Text += tell(address)
	}
	return send(l)
}

// mailReceipt brings one message of SdI to the mailbox that sent its file.
func (e *Exchange) mailReceipt(r *receipt) error {
	e.mu.Lock()
	data, order := slices.Clone(r.data), r.file.tx.mailFault
	r.file.tx.mailFault = client.Fault{} // once
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
	}, client.Fault{})
}

// mailTerm brings the notice that the term of a passive invoice has passed.
func (e *Exchange) mailTerm(d *delivery, f sdi.FileSdI) error {
	return e.mailTo(d.to.mail, Letter{Subject: subjects[sdi.DT] + " " + f.IdentificativoSdI, Text: "In allegato la notifica (" + note + ").\n",
		Files: []LetterFile{{Name: f.NomeFile, Data: f.File}}}, client.Fault{})
}

// mailReceiver makes a mailbox the receiver of a passive invoice.
func (e *Exchange) mailReceiver(address string) (*transmitter, error) {
	if e.sendLetter == nil {
		return nil, errors.New("to_pec: SdI has no mailbox here")
	}
	c := e.correspond(address)
	return &transmitter{fiscalID: c.mailbox, mail: c}, nil
}
