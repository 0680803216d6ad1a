package pec

import (
	"bytes"
	"io"
	"strings"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/fault"
)

// When the notices of missing delivery go out. The rules want the second one not before 22 and
// within 24 hours. spec: RFC6109 §3.1.6
const (
	firstNotice  = 12 * time.Hour
	secondNotice = 23 * time.Hour
)

// testVirus is the tail of the EICAR test file.
var testVirus = []byte("EICAR-STANDARD-ANTIVIRUS-TEST-FILE")

// infected looks for the test virus in the bytes and in every part decoded.
func infected(raw []byte, root *rfc.Part) bool {
	if bytes.Contains(raw, testVirus) {
		return true
	}
	found := false
	root.Walk(func(p *rfc.Part) bool {
		if p.IsMultipart() || len(p.Parts) > 0 {
			return true
		}
		data, err := io.ReadAll(io.LimitReader(p.Open(), 1<<20)) // the test file is the whole attachment
		found = err == nil && bytes.Contains(data, testVirus)
		return !found
	})
	return found
}

// access is the point of access: checks, acceptance or refusal, transport envelope.
// spec: RFC6109 §3.1
func (w *World) access(s *submission, m *rfc.Message, e rfc.Envelope, raw []byte, at time.Time) {
	w.mu.Lock()
	limits := s.g.limits
	w.mu.Unlock()
	t := rfc.NewTransito(m, e, s.view.Identificativo, func(a string) bool { return w.manager(a) == nil })
	violations := rfc.CheckSubmission(m, e, limits)
	switch {
	case w.asks(e.Recipients, magicSilent):
		w.log(s, at, s.g, "ignorata", "", "asked for by a recipient")
	case infected(raw, m.Root) || w.asks(e.Recipients, magicVirusHere):
		w.refuse(s, t.NonAccettazione(at, rfc.VirusTrovato, "5.5.1 - "+s.g.signer.Name+" - presenza di un virus nel messaggio"), at)
	case len(violations) > 0:
		why := "5.6.0 - " + s.g.signer.Name + " - "
		for i, v := range violations {
			if i > 0 {
				why += "; "
			}
			why += v.Message
		}
		w.refuse(s, t.NonAccettazione(at, rfc.AltroErrore, why), at)
	case w.asks(e.Recipients, magicRefused):
		w.refuse(s, t.NonAccettazione(at, rfc.AltroErrore, "5.6.0 - "+s.g.signer.Name+" - rifiutata a richiesta"), at)
	default:
		w.accept(s, t, at)
	}
}

func (w *World) refuse(s *submission, a rfc.Atto, at time.Time) {
	w.log(s, at, s.g, string(rfc.NonAccettazione), "", a.Dettaglio)
	w.issue(s.g, a, s.from, "")
}

func (w *World) accept(s *submission, t *rfc.Transito, at time.Time) {
	envelope, err := w.sign(s.g, t.Busta(at), "")
	if err != nil {
		w.cfg.Log.Error("pec envelope", "error", err.Error())
		return
	}
	w.mu.Lock()
	s.view.Accepted = true
	w.mu.Unlock()
	w.log(s, at, s.g, string(rfc.Accettazione), "", "")
	receipt := t.Accettazione(at)
	if w.asks(s.view.To, magicLateAccept) {
		w.after(at.Add(time.Hour), func(time.Time) { w.issue(s.g, receipt, s.from, "") })
	} else {
		w.issue(s.g, receipt, s.from, "")
	}
	groups := map[*gestore][]string{}
	for _, d := range t.Destinatari {
		addr := d.Indirizzo
		if m, _ := magic(addr); m == magicNoDomain && !d.Esterno {
			w.log(s, at, s.g, string(rfc.ErroreConsegna), addr, "no-dominio")
			w.settle(s, addr)
			w.issue(s.g, t.ErroreConsegna(at, addr, rfc.NoDominio, "5.1.2 - "+s.g.signer.Name+" - dominio inesistente"), s.from, "")
			continue
		}
		if d.Esterno {
			groups[nil] = append(groups[nil], addr)
			continue
		}
		g := w.manager(addr)
		groups[g] = append(groups[g], addr)
		w.watch(s, t, addr, at)
	}
	w.log(s, at, s.g, string(rfc.BustaTrasporto), "", "")
	for g, to := range groups {
		if g == nil {
			w.do(func() { w.sendOrdinary(s, to, envelope) })
			continue
		}
		w.do(func() { w.hop(s.g, s.from, to, envelope, at) })
	}
}

// settle notes that nothing more is owed for a recipient.
func (w *World) settle(s *submission, recipient string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.settled[strings.ToLower(recipient)] = true
}

// watch sends the notices that are owed when a recipient's provider stays silent. Taken in charge
// without delivery: the second alone. spec: RFC6109 §3.1.6
func (w *World) watch(s *submission, t *rfc.Transito, recipient string, since time.Time) {
	key := strings.ToLower(recipient)
	owed := func(second bool) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return !s.settled[key] && (second || !s.taken[key])
	}
	// the notices are made now: what waits for a day holds no message
	notice := func(due time.Duration, second bool, kind, why string) {
		a := t.Preavviso(since, recipient, second, why)
		w.after(since.Add(due), func(at time.Time) {
			if !owed(second) {
				return
			}
			a.Istante = at
			w.log(s, at, s.g, string(rfc.PreavvisoErrore)+kind, recipient, why)
			w.issue(s.g, a, s.from, "")
		})
	}
	name := s.g.signer.Name
	notice(firstNotice, false, " 12h", "4.4.7 - "+name+" - non consegnato nelle prime dodici ore")
	notice(secondNotice, true, " 24h", "5.4.7 - "+name+" - non consegnato nelle ventiquattro ore")
}

// issue signs what a provider says and brings it to its mailbox, with the faults that were
// ordered; how is one that a magic recipient asks for.
func (w *World) issue(g *gestore, a rfc.Atto, to, how string) {
	order := client.Fault{Kind: how}
	if how == "" {
		order, _ = w.cfg.Faults.Take(fault.Event{Kinds: fault.PECReceipts, Name: to, Transmitter: g.id, Type: string(a.Tipo)})
	}
	if order.Kind == client.FaultPECDrop {
		return
	}
	raw, err := w.sign(g, a, order.Kind)
	if err != nil {
		w.cfg.Log.Error("pec receipt", "type", string(a.Tipo), "error", err.Error())
		return
	}
	send := func(at time.Time) {
		if w.manager(to) == g && (a.Tipo == rfc.Accettazione || a.Tipo == rfc.NonAccettazione) || spoiled(order.Kind) {
			// an acceptance goes to the mailbox beside; what is spoiled would not pass reception
			w.deposit(w.open(to), raw, at)
			return
		}
		w.hop(g, g.signer.Address, []string{to}, raw, at)
	}
	switch order.Kind {
	case client.FaultPECDuplicate:
		send(a.Istante)
	case client.FaultPECLate:
		d, err := time.ParseDuration(order.After)
		if err != nil {
			d = time.Hour
		}
		w.after(a.Istante.Add(d), send)
		return
	}
	send(a.Istante)
}

// spoiled says that a receipt would not pass reception, or should come as it is.
func spoiled(kind string) bool {
	return kind != "" && kind != client.FaultPECDuplicate && kind != client.FaultPECLate
}
