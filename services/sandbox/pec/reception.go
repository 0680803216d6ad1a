package pec

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
	"github.com/emersion/go-imap/v2"
	gosmtp "github.com/emersion/go-smtp"
)

// What a provider does when a mailbox is full.
const (
	fullError   = "error"
	fullRetry24 = "retry24h"
	fullRetry48 = "retry48h"
)

// receiver is a connection to the point of reception, from anybody.
type receiver struct {
	w    *World
	from string
	to   []string
}

// Reset implements gosmtp.Session.
func (s *receiver) Reset() { s.from, s.to = "", nil }

// Logout implements gosmtp.Session.
func (s *receiver) Logout() error { return nil }

// Mail implements gosmtp.Session.
func (s *receiver) Mail(from string, _ *gosmtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt implements gosmtp.Session. Unknown mailboxes are taken: the sender of certified mail is
// told by a notice, not by SMTP.
func (s *receiver) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	g := s.w.manager(to)
	if g == nil {
		return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "no relaying (sandbox)"}
	}
	s.w.mu.Lock()
	down := g.down
	s.w.mu.Unlock()
	if _, ok := s.w.cfg.Faults.Take(fault.Event{Kinds: fault.PECHop, Name: to, Transmitter: g.id}); ok || down {
		return errDeferred
	}
	s.to = append(s.to, to)
	return nil
}

// Data implements gosmtp.Session.
func (s *receiver) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.w.receive(s.from, s.to, raw, s.w.cfg.Clock.Now())
}

// receive is the point of reception: it tells certified mail from everything else by the
// signature alone. spec: RFC6109 §2.2.2, §3.2
func (w *World) receive(from string, to []string, raw []byte, at time.Time) error {
	groups := map[*gestore][]string{}
	for _, a := range to {
		g := w.manager(a)
		groups[g] = append(groups[g], a)
	}
	r, err := rfc.ReadBytes(raw)
	if err != nil {
		return errBroken
	}
	rep, err := r.Verify(rfc.Verification{Trust: w.trust, At: at, Now: at})
	if err != nil {
		return errDeferred
	}
	valid := rep.Status == rfc.StatusValid
	for g, to := range groups {
		switch tipo := r.Tipo(); {
		case valid && tipo == rfc.BustaTrasporto && r.Proven(rep):
			named, others := addressed(r.Daticert, from, to)
			if len(others) > 0 {
				if err := w.anomaly(g, "la busta di trasporto non certifica questo mittente e questo destinatario", raw, others, at); err != nil {
					return err
				}
			}
			if len(named) > 0 {
				w.do(func() { w.takeInCharge(g, r, raw, from, named, at) })
			}
		case valid && (tipo.BetweenProviders() && r.Daticert != nil || tipo.Receipt() && r.Proven(rep)):
			w.heard(g, r, at)
			w.pass(r, raw, to, at)
		default:
			if err := w.anomaly(g, unproven(r, rep), raw, to, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// addressed tells the recipients to whom the envelope certifies that the message goes from those that it does not name. An
// envelope travels from the sender to the recipients of the message in it. One that was carried somewhere else, a bounce to its
// sender or a copy that somebody passes on, is whole, and yet no provider sent it there: who is not named can be given no
// delivery receipt, and gets it as an anomaly. spec: RFC6109 §3.1.5, §3.2.1, §3.2.2
func addressed(d *rfc.Daticert, from string, to []string) (named, others []string) {
	for _, a := range to {
		if rfc.SameAddress(from, d.Mittente) && slices.ContainsFunc(d.Destinatari, func(x rfc.Destinatario) bool { return rfc.SameAddress(x.Indirizzo, a) }) {
			named = append(named, a)
		} else {
			others = append(others, a)
		}
	}
	return named, others
}

// unproven says in words why a message is wrapped.
func unproven(r *rfc.Reading, rep *rfc.Report) string {
	switch {
	case !r.Tipo().Certified():
		return "il messaggio non proviene da un gestore di posta certificata"
	case rep.Reason != "":
		return "il messaggio non supera i controlli di firma e formato: " + rep.Reason
	}
	return "il messaggio non supera i controlli di firma e formato"
}

// pass brings what providers issue to its mailbox. What they tell each other reaches no user.
// spec: RFC6109 §2.1.1.1.1
func (w *World) pass(r *rfc.Reading, raw []byte, to []string, at time.Time) {
	for _, a := range to {
		service := strings.EqualFold(a, w.manager(a).service)
		if mb := w.find(a); mb != nil && service == r.Tipo().BetweenProviders() {
			w.deposit(mb, raw, at)
		}
	}
}

// heard is what a provider learns of its user's message from another provider.
func (w *World) heard(g *gestore, r *rfc.Reading, at time.Time) {
	d := r.Daticert
	w.mu.Lock()
	s := w.byID[rfc.TrimID(d.Identificativo)]
	if s == nil || s.g != g {
		w.mu.Unlock()
		return
	}
	tipo := r.Tipo()
	s.view.Events = append(s.view.Events, client.PECEvent{
		At: at, Type: string(tipo), Provider: g.id, Recipient: d.Consegna + strings.Join(d.Ricezione, " "), Detail: "from " + d.Gestore,
	})
	switch tipo {
	case rfc.PresaInCarico:
		for _, a := range d.Ricezione {
			s.taken[strings.ToLower(a)] = true
		}
	case rfc.AvvenutaConsegna, rfc.ErroreConsegna, rfc.RilevazioneVirus:
		s.settled[strings.ToLower(d.Consegna)] = true
	}
	w.mu.Unlock()
	if tipo != rfc.RilevazioneVirus {
		return
	}
	// the sender learns of a virus from the own provider. spec: RFC6109 §3.2.3.3
	w.do(func() {
		a := rfc.Atto{Tipo: rfc.ErroreConsegna, Istante: at, Dati: *d, Dettaglio: d.ErroreEsteso}
		a.Dati.Errore = rfc.VirusTrovato
		w.issue(g, a, s.from, "")
	})
}

// takeInCharge is what follows a transport envelope that holds. spec: RFC6109 §3.2.1, §3.2.3
func (w *World) takeInCharge(g *gestore, r *rfc.Reading, raw []byte, from string, to []string, at time.Time) {
	t, err := rfc.TransitoOf(r)
	if err != nil {
		w.cfg.Log.Error("pec reception", "error", err.Error())
		return
	}
	sender := w.manager(t.Mittente)
	if sender == nil {
		return // no provider to answer to: cannot be, its signature is in the trust list
	}
	var charged []string
	for _, a := range to {
		if m, _ := magic(a); m != magicMute && m != magicAfter && m != magicNoTaken {
			charged = append(charged, a)
		}
	}
	if len(charged) > 0 {
		w.issue(g, t.PresaInCarico(at, charged, sender.service), sender.service, "")
	}
	part, err := r.OriginalMessage()
	virus := err == nil && part != nil && infected(raw, part)
	for _, a := range to {
		m, wait := magic(a)
		switch {
		case virus || m == magicVirus:
			w.issue(g, t.RilevazioneVirus(at, a, sender.service, "5.5.1 - "+g.signer.Name+" - presenza di un virus nel messaggio"), sender.service, "")
		case m == magicMute, m == magicTaken:
		case m == magicAfter:
			w.after(at.Add(wait), func(at time.Time) { w.deliver(g, t, raw, a, at, at) })
		default:
			w.do(func() { w.deliver(g, t, raw, a, at, at) })
		}
	}
}

// deliver is the point of delivery, for one recipient. since is when it was first tried.
// spec: RFC6109 §3.3
func (w *World) deliver(g *gestore, t *rfc.Transito, raw []byte, to string, since, at time.Time) {
	m, _ := magic(to)
	refuse := func(e rfc.Errore, why string) {
		w.issue(g, t.ErroreConsegna(at, to, e, why), t.Mittente, "")
	}
	mb := w.find(to)
	if mb == nil && (m != "" || w.agentOf(to) != nil) {
		mb = w.open(to)
	}
	if mb == nil || m == magicUnknown {
		refuse(rfc.NoDest, "5.1.1 - "+g.signer.Name+" - indirizzo non valido")
		return
	}
	if m == magicFull || mb.fullFor(len(raw)) {
		if again := w.retryFull(g, since, at); !again.IsZero() && m != magicFull {
			w.after(again, func(at time.Time) { w.deliver(g, t, raw, to, since, at) })
			return
		}
		refuse(rfc.AltroErrore, "5.2.2 - "+g.signer.Name+" - casella piena")
		return
	}
	w.deposit(mb, raw, at)
	if m == magicBoth {
		refuse(rfc.AltroErrore, "5.3.0 - "+g.signer.Name+" - errore di consegna")
	}
	receipt, err := t.Consegna(at, to)
	if err != nil {
		w.cfg.Log.Error("pec delivery receipt", "error", err.Error())
		return
	}
	switch m {
	case magicNoReceipt:
		return
	case magicTwice:
		w.issue(g, receipt, t.Mittente, client.FaultPECDuplicate)
	case magicUnsigned:
		w.issue(g, receipt, t.Mittente, client.FaultPECUnsigned)
	case magicPerson:
		w.issue(g, receipt, t.Mittente, client.FaultPECWrongSigner)
	case magicAltered:
		w.issue(g, receipt, t.Mittente, client.FaultPECBadSignature)
	case magicBrokenMIME:
		w.issue(g, receipt, t.Mittente, client.FaultPECBrokenMIME)
	default:
		w.issue(g, receipt, t.Mittente, "")
	}
}

// retryFull says when a full mailbox is tried again; zero: no more.
func (w *World) retryFull(g *gestore, since, at time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	span := map[string]time.Duration{fullRetry24: 24 * time.Hour, fullRetry48: 48 * time.Hour}[g.full]
	if next := at.Add(time.Hour); next.Sub(since) <= span {
		return next
	}
	return time.Time{}
}

// anomaly wraps what is not certified, or not to these recipients. spec: RFC6109 §3.2.2
func (w *World) anomaly(g *gestore, why string, raw []byte, to []string, at time.Time) error {
	m, err := rfc.ParseBytes(raw)
	if err != nil {
		return errBroken
	}
	var boxes []*mailbox
	for _, a := range to {
		mb := w.find(a)
		if mb == nil {
			return errRejected
		}
		mb.mu.Lock()
		refused := mb.ordinary == reject
		mb.mu.Unlock()
		if refused {
			return &gosmtp.SMTPError{Code: 550, EnhancedCode: gosmtp.EnhancedCode{5, 7, 1}, Message: "this mailbox takes certified mail only (sandbox)"}
		}
		if mb.fullFor(len(raw)) {
			return &gosmtp.SMTPError{Code: 552, EnhancedCode: gosmtp.EnhancedCode{5, 2, 2}, Message: "mailbox full (sandbox)"}
		}
		boxes = append(boxes, mb)
	}
	out, err := w.sign(g, rfc.Anomalia(m, at, why), "")
	if err != nil {
		return errors.Join(errDeferred, err)
	}
	for _, mb := range boxes {
		w.deposit(mb, out, at)
	}
	return nil
}

// deposit puts a message into the INBOX with the trace of its arrival.
// spec: RFC5321 §4.4
func (w *World) deposit(mb *mailbox, raw []byte, at time.Time) {
	g := w.manager(mb.address)
	host := "sandbox.invalid"
	if g != nil {
		host = "pec." + g.domains[0]
	}
	trace := "Received: from sandbox by " + host + " (SANDBOX - NOT VALID) for <" + mb.address + ">;\r\n\t" +
		at.In(w.rome).Format("Mon, 02 Jan 2006 15:04:05 -0700") + "\r\n"
	if _, _, err := w.put(mb, inbox, append([]byte(trace), raw...), at, []imap.Flag{}); err != nil {
		w.cfg.Log.Error("pec deposit", "error", err.Error())
		return
	}
	if agent := w.agentOf(mb.address); agent != nil {
		w.do(func() { agent(mb.address, raw, at) })
	}
}
