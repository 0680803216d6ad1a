package pec

// Sent is what is known of a message that we sent.
type Sent struct {
	MessageID      string   // ours, with or without brackets
	Identificativo string   // the provider's, from the first receipt; "" before
	Recipients     []string // To and Cc
}

// Matching says what a receipt has to do with a message that we sent.
type Matching struct {
	Ours           bool
	By             string   // "msgid" or "identificativo"
	Identificativo string   // to be kept with the message when it had none
	Recipients     []string // those of ours that it is about, as we wrote them
	Findings       Findings
}

// Match compares a receipt with a message that we sent: by our Message-ID, which the provider
// repeats as msgid, and by the provider's identifier once it is known. Only daticert is looked
// at. A receipt under our msgid with another identifier is a second submission or a forgery: it is
// ours and carries a finding. It proves nothing: see Reading.Proven.
func Match(r *Reading, s Sent) Matching {
	d := r.Daticert
	if d == nil || !r.Claim.Tipo.Receipt() && r.Claim.Tipo != BustaTrasporto {
		return Matching{}
	}
	id, msgid := TrimID(d.Identificativo), TrimID(d.MsgID)
	m := Matching{Identificativo: id}
	switch {
	case msgid != "" && msgid == TrimID(s.MessageID):
		m.Ours, m.By = true, "msgid"
		if s.Identificativo != "" && id != TrimID(s.Identificativo) {
			m.Findings.add(CodeSeconded, Doubt, -1, "our message %q was accepted as %q, this says %q", msgid, s.Identificativo, id)
		}
	case msgid == "" && id != "" && id == TrimID(s.Identificativo):
		m.Ours, m.By = true, "identificativo"
	default:
		return Matching{}
	}
	m.match(r.Claim.Tipo, d, s)
	return m
}

// match finds our recipients in the receipt.
func (m *Matching) match(t Tipo, d *Daticert, s Sent) {
	about := make(map[string]bool, len(d.Destinatari))
	switch {
	case t.PerRecipient():
		about[person(d.Consegna)] = true
	case t == PresaInCarico:
		for _, a := range d.Ricezione {
			about[person(a)] = true
		}
	default:
		for _, a := range d.Destinatari {
			about[person(a.Indirizzo)] = true
		}
	}
	for _, a := range s.Recipients {
		key := person(a)
		if about[key] {
			m.Recipients = append(m.Recipients, a)
			delete(about, key) // To and Cc may name the same person
		}
	}
	for a := range about {
		m.Findings.add(CodeRecipient, Doubt, -1, "it is about %q, whom we did not address", a)
	}
}

// RicevutaFor is the kind of delivery receipt that a recipient's provider issues: what the
// sender asked for to those in To, sintetica to those in Cc only. spec: RFC6109 §3.3.2
func RicevutaFor(h Header, recipient string, asked TipoRicevuta) TipoRicevuta {
	for _, a := range ParseAddresses(h.Get("To")) {
		if SameAddress(a.Addr, recipient) {
			return orDefault(asked, Completa)
		}
	}
	for _, a := range ParseAddresses(h.Get("Cc")) {
		if SameAddress(a.Addr, recipient) {
			return Sintetica
		}
	}
	return orDefault(asked, Completa) // in neither: not to be told, so nothing is taken away
}
