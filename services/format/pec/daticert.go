package pec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Destinatario is a recipient of the original.
type Destinatario struct {
	Indirizzo string
	Esterno   bool // not certified mail: no delivery receipt will ever come
}

// Daticert is the certification data (daticert.xml). Texts stand as in the file, white space at
// the ends taken off. spec: RFC6109 §4.4
type Daticert struct {
	Tipo           string // attribute tipo as it stands; see Kind
	Errore         Errore
	Mittente       string // reverse path of the original
	Destinatari    []Destinatario
	Risposte       string // Reply-To of the original
	Oggetto        string
	HasOggetto     bool
	Gestore        string // gestore-emittente: who certifies
	Zona           string // offset of local time, "+0100"
	Giorno         string // "dd/mm/yyyy"
	Ora            string // "hh:mm:ss", local time
	Identificativo string // the provider's identifier of the message, without brackets
	MsgID          string // the sender's identifier as it stands, usually with brackets; "" when there was none
	Ricevuta       TipoRicevuta
	Consegna       string   // the one recipient that a receipt is about
	Ricezione      []string // recipients taken in charge
	ErroreEsteso   string
	Ignoti         []string // paths of elements that the DTD does not have
}

// Kind is the type as Tipo; TipoIgnoto when the DTD does not have it.
func (d *Daticert) Kind() Tipo {
	if d.Tipo == string(BustaTrasporto) {
		return BustaTrasporto
	}
	return tipoRicevuta(d.Tipo)
}

// Istante is the moment of the event: local time less the zone. An hour of 24, a second of 60, a
// day that does not exist, or no zone are errors. spec: RFC6109 §4.2, §4.4
func (d *Daticert) Istante() (time.Time, error) {
	offset, err := parseZona(d.Zona)
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("02/01/2006 15:04:05", d.Giorno+" "+d.Ora)
	if err != nil {
		return time.Time{}, fmt.Errorf("pec: daticert: giorno %q, ora %q are no date and time", d.Giorno, d.Ora)
	}
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.FixedZone(d.Zona, offset)), nil
}

func parseZona(z string) (int, error) {
	if len(z) == 5 && (z[0] == '+' || z[0] == '-') {
		hh, err1 := strconv.Atoi(z[1:3])
		mm, err2 := strconv.Atoi(z[3:5])
		if err1 == nil && err2 == nil && hh >= 0 && hh <= 14 && mm >= 0 && mm < 60 {
			s := hh*3600 + mm*60
			if z[0] == '-' {
				s = -s
			}
			return s, nil
		}
	}
	return 0, fmt.Errorf("pec: daticert: zona %q is not [+|-]hhmm", z)
}

// SetIstante writes the moment as local time of loc, to the second.
func (d *Daticert) SetIstante(t time.Time, loc *time.Location) {
	t = t.In(loc)
	d.Giorno, d.Ora, d.Zona = t.Format("02/01/2006"), t.Format("15:04:05"), t.Format("-0700")
}

// Cause is why a message was not accepted or delivered.
type Cause string

// The causes told apart.
const (
	CauseNone        Cause = ""
	CauseVirus       Cause = "virus"
	CauseNoMailbox   Cause = "no-mailbox"
	CauseNoDomain    Cause = "no-domain"
	CauseFull        Cause = "mailbox-full"
	CauseUnreachable Cause = "unreachable"
	CauseTooLarge    Cause = "too-large"
	CauseTemporary   Cause = "temporary" // the provider gave up what it could not do for the time being
	CauseOther       Cause = "other"
)

// enhancedCode is the "5.1.1" at the beginning of a text. spec: RFC3463 §2
func enhancedCode(s string) string {
	s = strings.TrimSpace(s)
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end < 0 {
		end = len(s)
	}
	code := strings.TrimRight(s[:end], ".")
	if strings.Count(code, ".") != 2 {
		return ""
	}
	return code
}

// Destinatario finds a recipient by address.
func (d *Daticert) Destinatario(addr string) (Destinatario, bool) {
	for _, r := range d.Destinatari {
		if person(r.Indirizzo) == person(addr) {
			return r, true
		}
	}
	return Destinatario{}, false
}

// XML writes the file as the DTD orders it, UTF-8. Characters that XML does not have become
// U+FFFD. spec: RFC6109 §4.4
func (d *Daticert) XML() []byte {
	var b xmlWriter
	b.raw("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
	b.raw(`<postacert tipo="`).text(d.Tipo).raw(`" errore="`).text(string(orDefault(d.Errore, erroreDefault))).raw("\">\n")
	b.raw("    <intestazione>\n")
	b.element(2, "mittente", d.Mittente)
	for _, r := range d.Destinatari {
		tipo := "certificato"
		if r.Esterno {
			tipo = "esterno"
		}
		b.raw(`        <destinatari tipo="` + tipo + `">`).text(r.Indirizzo).raw("</destinatari>\n")
	}
	b.element(2, "risposte", d.Risposte)
	if d.HasOggetto || d.Oggetto != "" {
		b.element(2, "oggetto", d.Oggetto)
	}
	b.raw("    </intestazione>\n    <dati>\n")
	b.element(2, "gestore-emittente", d.Gestore)
	b.raw(`        <data zona="`).text(d.Zona).raw("\">\n")
	b.element(3, "giorno", d.Giorno)
	b.element(3, "ora", d.Ora)
	b.raw("        </data>\n")
	b.element(2, "identificativo", d.Identificativo)
	b.optional("msgid", d.MsgID)
	if d.Ricevuta != "" {
		b.raw(`        <ricevuta tipo="`).text(string(d.Ricevuta)).raw("\" />\n")
	}
	b.optional("consegna", d.Consegna)
	for _, r := range d.Ricezione {
		b.element(2, "ricezione", r)
	}
	b.optional("errore-esteso", d.ErroreEsteso)
	b.raw("    </dati>\n</postacert>\n")
	return b.out
}

func orDefault[T ~string](v, def T) T {
	if v == "" {
		return def
	}
	return v
}

type xmlWriter struct{ out []byte }

func (w *xmlWriter) raw(s string) *xmlWriter {
	w.out = append(w.out, s...)
	return w
}

func (w *xmlWriter) text(s string) *xmlWriter {
	for _, r := range strings.ToValidUTF8(s, "\ufffd") {
		switch {
		case r == '&':
			w.raw("&amp;")
		case r == '<':
			w.raw("&lt;")
		case r == '>':
			w.raw("&gt;")
		case r == '"':
			w.raw("&quot;")
		case r == '\t', r == '\n', r == '\r':
			w.raw("&#" + strconv.Itoa(int(r)) + ";") // a reader would take it for a blank
		case r < ' ', r == 0xFFFE, r == 0xFFFF:
			w.raw("\ufffd")
		default:
			w.out = append(w.out, string(r)...)
		}
	}
	return w
}

func (w *xmlWriter) element(depth int, name, value string) {
	w.raw(strings.Repeat("    ", depth) + "<" + name + ">").text(value).raw("</" + name + ">\n")
}

func (w *xmlWriter) optional(name, value string) {
	if value != "" {
		w.element(2, name, value)
	}
}
