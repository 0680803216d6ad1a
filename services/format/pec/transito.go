package pec

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Transito is one message on its way through the providers: everything that their acts repeat.
type Transito struct {
	Identificativo string
	MsgID          string // the sender's identifier, without brackets; "" when there was none
	Mittente       string
	Risposte       string
	Oggetto        string
	Destinatari    []Destinatario
	Ricevuta       TipoRicevuta // as asked for

	header   Header                // of the message as submitted
	original func(io.Writer) error // postacert.eml
	part     *Part                 // the original as a part, for brief receipts; nil before the envelope
}

// NewTransito takes a submitted message under the provider's identifier. external says who of the
// recipients has no certified mail (nil: everybody has). The original that travels is the
// submitted one with the identifier in place of its own and X-Riferimento-Message-ID at the end
// of its header. spec: RFC6109 §2.2.1, §3.1.4
func NewTransito(m *Message, e Envelope, identificativo string, external func(addr string) bool) *Transito {
	h := m.Root.Header
	t := &Transito{
		Identificativo: TrimID(identificativo), MsgID: h.MessageID("Message-ID"), Mittente: e.MailFrom,
		Risposte: e.MailFrom, Oggetto: h.Text("Subject"), header: h,
		Ricevuta: orDefault(TipoRicevuta(strings.ToLower(h.Get(HeaderTipoRicevuta))), Completa),
	}
	if list := ParseAddresses(h.Get("Reply-To")); len(list) > 0 && list[0].Addr != "" {
		t.Risposte = list[0].Addr
	}
	for _, a := range e.Recipients {
		t.Destinatari = append(t.Destinatari, Destinatario{Indirizzo: a, Esterno: external != nil && external(a)})
	}
	t.original = func(w io.Writer) error { return rewriteIdentifier(w, m, t.Identificativo, t.MsgID) }
	return t
}

// ErrNoEnvelope: the message is no transport envelope that can be read.
var ErrNoEnvelope = errors.New("pec: this is no transport envelope with daticert.xml and postacert.eml")

// TransitoOf takes a message from its transport envelope, on the recipient's side.
func TransitoOf(r *Reading) (*Transito, error) {
	if r.Tipo() != BustaTrasporto || r.Daticert == nil || r.Original == nil {
		return nil, ErrNoEnvelope
	}
	part, err := r.OriginalMessage()
	if err != nil {
		return nil, err
	}
	if part == nil {
		return nil, ErrNoEnvelope
	}
	d := r.Daticert
	return &Transito{
		Identificativo: TrimID(d.Identificativo), MsgID: TrimID(d.MsgID), Mittente: d.Mittente, Risposte: d.Risposte,
		Oggetto: d.Oggetto, Destinatari: d.Destinatari, Ricevuta: r.Ricevuta(), header: r.Root.Header, part: part,
		original: func(w io.Writer) error { return copyRange(w, part.m, part.Start, part.End) },
	}, nil
}

// rewriteIdentifier copies a message with another Message-ID.
func rewriteIdentifier(w io.Writer, m *Message, id, old string) error {
	at := int64(0)
	for _, f := range m.Root.Header {
		if !strings.EqualFold(f.Name, "Message-ID") && !strings.EqualFold(f.Name, HeaderRiferimento) {
			continue
		}
		if err := copyRange(w, m, at, f.Offset); err != nil {
			return err
		}
		at = m.fieldEnd(f.Offset)
	}
	end := m.headerEnd()
	if err := copyRange(w, m, at, end); err != nil {
		return err
	}
	added := "Message-ID: <" + id + ">\r\n"
	if old != "" {
		added += HeaderRiferimento + ": <" + old + ">\r\n"
	}
	if m.Root.BodyStart == end {
		added += "\r\n" // there was no empty line after the header
	}
	if _, err := io.WriteString(w, added); err != nil {
		return err
	}
	return copyRange(w, m, end, m.Size)
}

// fieldEnd is where the field after the one at offset begins, or the header ends.
func (m *Message) fieldEnd(offset int64) int64 {
	for _, f := range m.Root.Header {
		if f.Offset > offset {
			return f.Offset
		}
	}
	return m.headerEnd()
}

// headerEnd is where the empty line after the header begins; BodyStart when there is none.
func (m *Message) headerEnd() int64 {
	b := make([]byte, min(m.Root.BodyStart, 4))
	n, err := m.src.ReadAt(b, m.Root.BodyStart-int64(len(b)))
	if err != nil && !errors.Is(err, io.EOF) {
		return m.Root.BodyStart
	}
	s := string(b[:n])
	switch {
	case strings.HasSuffix(s, "\n\r\n"), s == "\r\n":
		return m.Root.BodyStart - 2
	case strings.HasSuffix(s, "\n\n"), s == "\n":
		return m.Root.BodyStart - 1
	}
	return m.Root.BodyStart
}

// dati is what every act of this transit repeats.
func (t *Transito) dati() Daticert {
	d := Daticert{
		Mittente: t.Mittente, Destinatari: t.Destinatari, Risposte: t.Risposte, Oggetto: t.Oggetto, HasOggetto: true,
		Identificativo: t.Identificativo, Errore: Nessuno,
	}
	if t.MsgID != "" {
		d.MsgID = "<" + t.MsgID + ">"
	}
	return d
}

// maxEsteso is how long an errore-esteso may be: "a short text" by the DTD.
const maxEsteso = 500

func clip(s string) string {
	if len(s) <= maxEsteso {
		return s
	}
	return strings.ToValidUTF8(s[:maxEsteso], "")
}

// Accettazione is the acceptance. spec: RFC6109 §3.1.3
func (t *Transito) Accettazione(at time.Time) Atto {
	return Atto{Tipo: Accettazione, Istante: at, Dati: t.dati()}
}

// NonAccettazione is the refusal: VirusTrovato for a virus, AltroErrore for a formal reason.
// spec: RFC6109 §3.1.2, §3.2.3.1
func (t *Transito) NonAccettazione(at time.Time, e Errore, why string) Atto {
	a := Atto{Tipo: NonAccettazione, Istante: at, Dati: t.dati(), Dettaglio: why}
	a.Dati.Errore, a.Dati.ErroreEsteso = e, clip(why)
	return a
}

// Busta is the transport envelope. spec: RFC6109 §3.1.5
func (t *Transito) Busta(at time.Time) Atto {
	a := Atto{Tipo: BustaTrasporto, Istante: at, Dati: t.dati(), Header: t.header, Original: t.original}
	a.Dati.Ricevuta = orDefault(t.Ricevuta, Completa)
	return a
}

// PresaInCarico is the receipt that the recipients' provider sends to the service mailbox of the
// sender's. spec: RFC6109 §3.2.1
func (t *Transito) PresaInCarico(at time.Time, recipients []string, service string) Atto {
	a := Atto{Tipo: PresaInCarico, Istante: at, Dati: t.dati(), To: service}
	a.Dati.Ricezione = recipients
	return a
}

// Consegna is the delivery receipt for one recipient, of the kind that the sender asked for and
// the recipient's place in To or Cc allows. spec: RFC6109 §3.3.2
func (t *Transito) Consegna(at time.Time, recipient string) (Atto, error) {
	if _, known := t.destinatario(recipient); !known {
		return Atto{}, fmt.Errorf("pec: %q is no recipient of %s", recipient, t.Identificativo)
	}
	a := Atto{Tipo: AvvenutaConsegna, Istante: at, Dati: t.dati()}
	a.Dati.Consegna, a.Dati.Ricevuta = recipient, RicevutaFor(t.header, recipient, t.Ricevuta)
	switch a.Dati.Ricevuta {
	case Breve:
		if t.part == nil {
			return Atto{}, ErrNoEnvelope // hashes are over the original as the envelope brought it
		}
		a.Original = func(w io.Writer) error { return WriteBreve(w, t.part) }
	case Completa:
		a.Original = t.original
	}
	return a, nil
}

// ErroreConsegna is the notice that one recipient cannot have the message. VirusTrovato makes it
// the notice about a virus. spec: RFC6109 §3.2.3.3, §3.3.3
func (t *Transito) ErroreConsegna(at time.Time, recipient string, e Errore, why string) Atto {
	a := Atto{Tipo: ErroreConsegna, Istante: at, Dati: t.dati(), Dettaglio: why}
	a.Dati.Consegna, a.Dati.Errore, a.Dati.ErroreEsteso = recipient, e, clip(why)
	return a
}

// Preavviso is the notice after 12 hours, or with second the one at 24. spec: RFC6109 §3.1.6
func (t *Transito) Preavviso(at time.Time, recipient string, second bool, why string) Atto {
	a := Atto{Tipo: PreavvisoErrore, Istante: at, Dati: t.dati(), Avviso24: second}
	a.Dati.Consegna, a.Dati.Errore, a.Dati.ErroreEsteso = recipient, AltroErrore, clip(why)
	return a
}

// RilevazioneVirus tells the sender's provider that a virus came through. spec: RFC6109 §3.2.3.2
func (t *Transito) RilevazioneVirus(at time.Time, recipient, service, why string) Atto {
	a := Atto{Tipo: RilevazioneVirus, Istante: at, Dati: t.dati(), To: service, Dettaglio: why}
	a.Dati.Consegna, a.Dati.Errore, a.Dati.ErroreEsteso = recipient, VirusTrovato, clip(why)
	return a
}

func (t *Transito) destinatario(addr string) (Destinatario, bool) {
	d := Daticert{Destinatari: t.Destinatari}
	return d.Destinatario(addr)
}

// Anomalia is the envelope around a message that is not certified mail, or is and does not pass
// the checks: it stays as it came. spec: RFC6109 §3.2.2
func Anomalia(m *Message, at time.Time, why string) Atto {
	h := m.Root.Header
	a := Atto{
		Tipo: BustaAnomalia, Istante: at, Header: h, Dettaglio: why,
		Original: func(w io.Writer) error { return copyRange(w, m, 0, m.Size) },
	}
	a.Dati.Oggetto = h.Text("Subject")
	if from := ParseAddresses(h.Get("From")); len(from) > 0 {
		a.Dati.Mittente = from[0].Addr
	}
	a.Dati.Risposte = a.Dati.Mittente
	for _, name := range []string{"To", "Cc"} {
		for _, to := range ParseAddresses(h.Get(name)) {
			if to.Addr != "" {
				a.Dati.Destinatari = append(a.Dati.Destinatari, Destinatario{Indirizzo: to.Addr})
			}
		}
	}
	return a
}
