package sdi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/sdiftp"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// How long SdI tries to hand a file over: private flow four times, six hours apart, then MC; towards public
// bodies MC after two days, and further attempts for ten days, then AT.
// spec: AllA-1.9 §1.5; the two days are known from the field
const (
	receptionGap      = 6 * time.Hour
	receptionAttempts = 4
	publicMC          = 48 * time.Hour
)

// delivery is a file on its way to a registered receiver. Fields but file and to are guarded by Exchange.mu.
type delivery struct {
	file    *file
	to      *transmitter
	code    string
	outside bool // nobody sent it: it came from the control API

	attempts    int
	due         time.Time
	deliveredAt *time.Time
	mcSent      bool
	givenUp     bool
	expired     bool
	noticeAt    *time.Time
	lastError   string
	outcomes    []client.Outcome
	refusals    int
	calls       int
}

// over says whether the bytes will not be needed any more; mu held.
func (d *delivery) over() bool { return d.deliveredAt != nil || d.givenUp }

// makeReceiver reads the part of an accreditation that is about reception.
func (e *Exchange) makeReceiver(t *transmitter, r client.AccreditationRequest) error {
	if r.ReceptionURL == "" && len(r.RecipientCodes) == 0 {
		return nil
	}
	u, err := url.Parse(r.ReceptionURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("reception_url %q must be an https URL with a host", r.ReceptionURL)
	}
	for _, code := range r.RecipientCodes {
		if len(code) != 6 && len(code) != 7 {
			return fmt.Errorf("recipient_codes: %q has neither six nor seven characters", code)
		}
	}
	t.reception, t.codes = r.ReceptionURL, slices.Clone(r.RecipientCodes)
	t.receiver = &sdi.Client{HTTP: e.caller, URL: r.ReceptionURL, Encoding: t.encoding}
	return nil
}

// enlist makes a transmitter the receiver of its codes, and of no other; mu held.
func (e *Exchange) enlist(t *transmitter) {
	for code, owner := range e.receivers {
		if owner.fiscalID == t.fiscalID {
			delete(e.receivers, code)
		}
	}
	for _, code := range t.codes {
		e.receivers[code] = t
	}
}

// deliverTo starts the delivery of a good file whose recipient code is registered, or whose PECDestinatario is a
// mailbox.
func (e *Exchange) deliverTo(f *file) bool {
	mailbox := e.mailboxOf(&f.doc)
	e.mu.Lock()
	to := e.receivers[f.doc.code]
	if to == nil && mailbox != "" {
		var err error
		to, err = e.mailReceiver(mailbox)
		if err != nil {
			e.log.Error("file not posted", "name", f.name, "error", err.Error())
		}
	}
	if to == nil {
		e.mu.Unlock()
		return false
	}
	d := &delivery{file: f, to: to, code: f.doc.code, due: f.at.Add(e.cfg.ReceiptDelay)}
	f.passive, f.judged = d, true
	e.deliveries = append(e.deliveries, d)
	e.mu.Unlock()
	e.couriers.do(func(ctx context.Context) { e.handOver(ctx, d) })
	return true
}

// Deliver makes a file from outside and delivers it.
func (e *Exchange) Deliver(r client.DeliveryRequest) (client.Delivery, error) {
	if r.ToPEC != "" && r.RecipientCode == "" {
		r.RecipientCode = "0000000"
	}
	raw := r.File
	if len(raw) == 0 {
		raw = small(r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	to := e.receivers[r.RecipientCode]
	if r.ToPEC != "" {
		var err error
		to, err = e.mailReceiver(r.ToPEC)
		if err != nil {
			return client.Delivery{}, err
		}
	}
	if to == nil {
		return client.Delivery{}, fmt.Errorf("recipient_code %q is nobody's; register it with recipient_codes of an accreditation", r.RecipientCode)
	}
	id := r.ID
	if id == "" {
		var err error
		id, err = e.nextID()
		if err != nil {
			return client.Delivery{}, err
		}
	}
	name := r.Name
	if name == "" {
		name = "IT" + fatturapatest.VATNumber(900) + "_" + strings.ToUpper(strconv.FormatUint(uint64(36*36*36*36+len(e.deliveries)), 36)) + ".xml"
	}
	if !sdi.ValidSOAPName(name) {
		return client.Delivery{}, fmt.Errorf("name %q must be 9 to 50 letters, digits, '_' or '.'", name)
	}
	sum := sha256.Sum256(raw)
	f := &file{
		id: id, name: name, hash: hex.EncodeToString(sum[:]), size: len(raw), at: e.clock.Now(), raw: raw, state: stateReceived, judged: true,
		tx: &transmitter{}, epoch: e.epoch, sent: map[sdi.MessageType]int{},
	}
	d := &delivery{file: f, to: to, code: r.RecipientCode, outside: true, due: f.at}
	f.passive = d
	f.doc = e.glance(f, r.RecipientCode)
	e.byID[id] = f
	e.deliveries = append(e.deliveries, d)
	e.couriers.do(func(ctx context.Context) { e.handOver(ctx, d) })
	return d.view(), nil
}

// glance describes a file from outside without judging it: it may be anything.
func (e *Exchange) glance(f *file, code string) document {
	doc := document{}
	inv, err := peek(f.raw)
	if err == nil {
		e.describe(&doc, inv)
	}
	doc.code = code
	if doc.format == "" {
		doc.format = "FPR12"
		if len(code) == 6 {
			doc.format = "FPA12"
		}
	}
	return doc
}

// small is the built-in invoice.
func small(r client.DeliveryRequest) []byte {
	s := client.Small{}
	if r.Invoice != nil {
		s = *r.Invoice
	}
	o := fatturapatest.Options{
		Numero: s.Number, TipoDocumento: s.DocumentType, Bodies: s.Bodies, CodiceDestinatario: r.RecipientCode, PECDestinatario: s.PEC,
	}
	if r.ToPEC != "" && o.PECDestinatario == "" && len(r.RecipientCode) == 7 {
		o.PECDestinatario = r.ToPEC
	}
	if s.FileCode != "" {
		o.CodiceDestinatario = s.FileCode
	}
	if len(o.CodiceDestinatario) == 6 {
		o.Formato = "FPA12"
	}
	if len(s.SellerVAT) > 2 {
		o.Cedente = fatturapatest.Party{Paese: s.SellerVAT[:2], Codice: s.SellerVAT[2:], Denominazione: "Fornitore di prova"}
	}
	if len(s.BuyerVAT) > 2 || s.BuyerTaxCode != "" {
		o.Cessionario = fatturapatest.Party{CodiceFiscale: s.BuyerTaxCode, Denominazione: "Cliente di prova"}
		if len(s.BuyerVAT) > 2 {
			o.Cessionario.Paese, o.Cessionario.Codice = s.BuyerVAT[:2], s.BuyerVAT[2:]
		}
	}
	return fatturapatest.Invoice(o)
}

// Redeliver hands a file over once more.
func (e *Exchange) Redeliver(id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.byID[id]
	if f == nil || f.passive == nil || f.raw == nil {
		return fmt.Errorf("no passive invoice whose bytes are kept has IdentificativoSdI %q", id)
	}
	e.couriers.do(func(ctx context.Context) { e.handOver(ctx, f.passive) })
	return nil
}

// handOver makes one attempt and plans what follows. It runs on a worker.
func (e *Exchange) handOver(ctx context.Context, d *delivery) {
	if d.to.node != nil {
		e.bringDelivery(d)
		return
	}
	e.handedOver(d, e.postDelivery(ctx, d))
}

// handedOver plans what follows an attempt.
func (e *Exchange) handedOver(d *delivery, err error) {
	e.mu.Lock()
	first := d.deliveredAt == nil
	if err == nil {
		now := e.clock.Now()
		d.deliveredAt, d.lastError = &now, ""
		if d.file.late {
			e.release(d.file)
		}
	} else {
		d.lastError = err.Error()
	}
	e.mu.Unlock()
	switch {
	case err == nil && first:
		e.tellSender(d, &step{tipo: sdi.RC}, 0)
		if d.file.doc.public() {
			e.clock.At(e.clock.Now().Add(termOfOutcome), func(due time.Time) { e.couriers.do(func(ctx context.Context) { e.endTerm(ctx, d, due) }) })
		}
	case err != nil && first:
		e.notHandedOver(d)
	}
}

var errAnswerLost = errors.New("the answer was lost on command")

// postDelivery makes the call of one attempt, with metadata of its own.
func (e *Exchange) postDelivery(ctx context.Context, d *delivery) error {
	order, _ := e.cfg.Faults.Take(fault.Event{Kinds: fault.Deliveries, Name: d.file.name, Transmitter: d.to.fiscalID})
	e.mu.Lock()
	d.attempts++
	e.lastMessage++
	number, message, raw := d.attempts, strconv.FormatUint(e.lastMessage, 10), d.file.raw
	e.mu.Unlock()
	call, err := e.metadata(d, number, message, raw, order.Kind)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	hand := func() error { return d.to.receiver.RiceviFatture(ctx, call) }
	if d.to.mail != nil {
		hand = func() error { return e.mailDelivery(d, call) }
	}
	err = hand()
	if err == nil && order.Kind == client.FaultDeliverTwice {
		err = hand()
	}
	if err == nil && order.Kind == client.FaultDeliverCut {
		err = errAnswerLost
	}
	return err
}

// metadata makes the MT of an attempt.
func (e *Exchange) metadata(d *delivery, number int, message string, raw []byte, order string) (sdi.FileSdIConMetadati, error) {
	f := d.file
	schema := sdi.SchemaPrivati
	if f.doc.public() {
		schema = sdi.SchemaPA
	}
	mt := &sdi.MetadatiInvioFile{
		Intestazione:       sdi.Intestazione{IdentificativoSdI: f.id, NomeFile: f.name, Hash: f.hash, MessageID: message, Note: note},
		CodiceDestinatario: d.code, Formato: f.doc.format, TentativiInvio: number,
	}
	if order == client.FaultDeliverOtherMT {
		mt.IdentificativoSdI = e.unknownID()
	}
	xml, err := sdi.WriteMessage(mt, schema)
	if err != nil {
		return sdi.FileSdIConMetadati{}, err
	}
	if order == client.FaultDeliverBadMT {
		xml = xml[:len(xml)/2]
	}
	return sdi.FileSdIConMetadati{
		IdentificativoSdI: f.id, NomeFile: f.name, File: raw, NomeFileMetadati: sdi.NewMessageName(f.name, sdi.MT, number).XMLName(), Metadati: xml,
	}, nil
}

// notHandedOver plans the next attempt, or gives up, with the messages that the sender gets.
func (e *Exchange) notHandedOver(d *delivery) {
	public := d.file.doc.public()
	e.mu.Lock()
	since := d.due.Sub(d.file.at)
	over := d.attempts >= receptionAttempts
	if public {
		over = since >= termOfDelivery
	}
	mc := !d.mcSent && (!public && over || public && since >= publicMC)
	d.mcSent = d.mcSent || mc
	d.givenUp = over
	d.due = d.due.Add(receptionGap)
	due := d.due
	if over && d.file.late && !public {
		e.release(d.file)
	}
	e.mu.Unlock()
	if mc {
		e.tellSender(d, &step{tipo: sdi.MC}, 0)
	}
	if over {
		if public {
			e.tellSender(d, &step{tipo: sdi.AT}, 0)
		}
		return
	}
	e.clock.At(due, func(time.Time) { e.couriers.do(func(ctx context.Context) { e.handOver(ctx, d) }) })
}

// tellSender makes a message to who sent the file; nobody did when it came from outside. position chooses the
// document of an outcome; beyond the last one it is about the whole file.
func (e *Exchange) tellSender(d *delivery, s *step, position int) {
	if d.outside {
		e.mu.Lock()
		d.file.state = outcomeState(s) // it was never counted as received
		e.mu.Unlock()
		return
	}
	e.judges.do(func(context.Context) {
		r, err := e.make(d.file, s, position, e.clock.Now())
		if err != nil {
			e.log.Error("receipt not made", "file", d.file.name, "type", string(s.tipo), "error", err.Error())
			return
		}
		e.dispatch(r)
	})
}

// endTerm issues DT to both sides when documents are unanswered fifteen days after the delivery.
func (e *Exchange) endTerm(ctx context.Context, d *delivery, due time.Time) {
	e.mu.Lock()
	if d.expired || d.answered() {
		e.mu.Unlock()
		return
	}
	d.expired = true
	e.mu.Unlock()
	e.tellSender(d, &step{tipo: sdi.DT}, 0)
	e.noticeOfTerm(ctx, d, due, 1)
}

// noticeOfTerm tells the receiver, six times at most.
func (e *Exchange) noticeOfTerm(ctx context.Context, d *delivery, due time.Time, attempt int) {
	e.mu.Lock()
	e.lastMessage++
	message := strconv.FormatUint(e.lastMessage, 10)
	e.mu.Unlock()
	err := e.postTerm(ctx, d, message)
	e.mu.Lock()
	if err == nil {
		now := e.clock.Now()
		d.noticeAt = &now
	} else {
		d.lastError = err.Error()
	}
	e.mu.Unlock()
	if err == nil || attempt >= deliveryAttempts {
		return
	}
	e.clock.At(due.Add(deliveryGap), func(due time.Time) {
		e.couriers.do(func(ctx context.Context) { e.noticeOfTerm(ctx, d, due, attempt+1) })
	})
}

func (e *Exchange) postTerm(ctx context.Context, d *delivery, message string) error {
	xml, err := sdi.WriteMessage(&sdi.NotificaDecorrenzaTermini{
		Intestazione: sdi.Intestazione{IdentificativoSdI: d.file.id, NomeFile: d.file.name, MessageID: message, Note: note},
		Descrizione:  "Termine decorso senza esito (" + note + ")",
	}, sdi.SchemaPA)
	if err == nil {
		xml, err = e.sign(xml, e.clock.Now())
	}
	if err != nil {
		return err
	}
	name := sdi.NewMessageName(d.file.name, sdi.DT, 1).XMLName()
	if n := d.to.node; n != nil {
		n.enclose(parcel{docs: []sdiftp.Documento{{Tipo: sdiftp.Tipo(sdi.DT), Name: name, Data: xml}}})
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	call := sdi.FileSdI{IdentificativoSdI: d.file.id, NomeFile: name, File: xml}
	if d.to.mail != nil {
		return e.mailTerm(d, call)
	}
	return d.to.receiver.DecorrenzaTermini(ctx, call)
}

// answered says whether every document has an outcome; mu held.
func (d *delivery) answered() bool {
	seen := map[int]bool{}
	for _, o := range d.outcomes {
		seen[o.Position] = true
	}
	return seen[0] || len(seen) >= max(1, len(d.file.doc.invoices))
}

// view is what the control API shows; mu held.
func (d *delivery) view() client.Delivery {
	v := client.Delivery{
		ID: d.file.id, Name: d.file.name, RecipientCode: d.code, Receiver: d.to.fiscalID, Format: d.file.doc.format, Outside: d.outside,
		State: "pending", Attempts: d.attempts, DeliveredAt: d.deliveredAt, Expired: d.expired, NoticeAt: d.noticeAt, LastError: d.lastError,
		Outcomes: slices.Clone(d.outcomes), Refusals: d.refusals, Calls: d.calls,
	}
	switch {
	case d.deliveredAt != nil:
		v.State = "delivered"
	case d.givenUp:
		v.State = "given_up"
	}
	return v
}

// Deliveries lists passive invoices, oldest first; id "" for all.
func (e *Exchange) Deliveries(id string) []client.Delivery {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []client.Delivery{}
	for _, d := range e.deliveries {
		if id == "" || d.file.id == id {
			out = append(out, d.view())
		}
	}
	return out
}
