package pec

import (
	"fmt"
	"html"
	"strings"

	"golang.org/x/text/encoding/charmap"
)

// words writes the text for people: plain, or plain and HTML. It is no data: programs read
// daticert.xml. What it has to tell is prescribed, the wording is ours. spec: RFC6109 §3, §4.3.1
func (g *Gestore) words(c *composer, a *Atto) error {
	title, lines := g.text(a)
	plain := title + "\r\n\r\n" + strings.Join(lines, "\r\n") + "\r\n"
	if !g.Profile.HTML {
		return c.latin("text/plain", plain)
	}
	return c.multipart("alternative", func(next func() error) error {
		if err := next(); err != nil {
			return err
		}
		if err := c.latin("text/plain", plain); err != nil {
			return err
		}
		if err := next(); err != nil {
			return err
		}
		return c.latin("text/html", page(title, lines))
	})
}

// page is the same in HTML, without references to anything outside. spec: RFC6109 §4.3.1
func page(title string, lines []string) string {
	var b strings.Builder
	b.WriteString("<html>\r\n<head><title>" + html.EscapeString(title) + "</title></head>\r\n<body>\r\n<h3>" + html.EscapeString(title) + "</h3>\r\n<hr>\r\n")
	for _, l := range lines {
		for _, r := range html.EscapeString(l) {
			if r > 0x7e {
				fmt.Fprintf(&b, "&#%d;", r)
			} else {
				b.WriteRune(r)
			}
		}
		b.WriteString("<br>\r\n")
	}
	b.WriteString("</body>\r\n</html>\r\n")
	return b.String()
}

// latin writes a text in ISO-8859-1; what that does not have becomes "?".
// spec: RFC6109 §4.3.1
func (c *composer) latin(kind, text string) error {
	if err := c.put("Content-Type: " + kind + "; charset=\"iso-8859-1\"\r\nContent-Disposition: inline\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"); err != nil {
		return err
	}
	out := make([]byte, 0, len(text))
	for _, r := range text {
		b, ok := charmap.ISO8859_1.EncodeRune(r)
		if !ok {
			b = '?'
		}
		out = append(out, b)
	}
	return writeQP(c.w, string(out))
}

// text gives title and lines of the type. spec: RFC6109 §3.1.2 to §3.3.3
func (g *Gestore) text(a *Atto) (title string, lines []string) {
	d := &a.Dati
	t := a.Istante.In(g.location())
	when := fmt.Sprintf("Il giorno %s alle ore %s (%s)", t.Format("02/01/2006"), t.Format("15:04:05"), t.Format("-0700"))
	about := []string{
		when + " il messaggio", fmt.Sprintf("%q", d.Oggetto), fmt.Sprintf("proveniente da %q", d.Mittente),
	}
	to := recipients(d, a.Tipo == Accettazione)
	id := "Identificativo del messaggio: " + TrimID(d.Identificativo)
	trouble := orDefault(a.Dettaglio, d.ErroreEsteso)
	switch a.Tipo {
	case BustaTrasporto:
		return "Messaggio di posta certificata", join(about, to, []string{
			"\u00e8 stato inviato ai destinatari indicati. Il messaggio originale \u00e8 in allegato (postacert.eml).",
			"I dati di certificazione sono nell'allegato daticert.xml.", id})
	case BustaAnomalia:
		return "Anomalia nel messaggio", join(about, to, []string{
			"\u00e8 arrivato al sistema, ma i suoi dati non possono essere certificati per il seguente motivo:", trouble,
			"Il messaggio originale \u00e8 in allegato."})
	case Accettazione:
		return "Ricevuta di accettazione", join(about, to, []string{"\u00e8 stato accettato dal sistema e inoltrato.", id})
	case NonAccettazione:
		title := "Avviso di non accettazione"
		if a.virus() {
			title += " per virus informatico"
		}
		return title, join(about, to, []string{"non \u00e8 stato accettato a causa del seguente problema:", trouble, id})
	case PresaInCarico:
		return "Ricevuta di presa in carico", join(about, []string{"destinato a:"}, d.Ricezione, []string{"\u00e8 stato preso in carico dal sistema.", id})
	case AvvenutaConsegna:
		return "Ricevuta di avvenuta consegna", join(about, []string{fmt.Sprintf("indirizzato a %q", d.Consegna),
			"\u00e8 stato consegnato nella casella di destinazione.", receiptLine(d.Ricevuta), id})
	case ErroreConsegna:
		title := "Avviso di mancata consegna"
		if a.virus() {
			title += " per virus informatico"
		}
		return title, join(about, []string{fmt.Sprintf("destinato all'utente %q", d.Consegna),
			"non \u00e8 stato consegnato a causa del seguente errore:", trouble, id})
	case PreavvisoErrore:
		return lateText(a, about, id)
	}
	return "Avviso di rilevazione virus informatico", join(about, []string{fmt.Sprintf("destinato all'utente %q", d.Consegna),
		"contiene un virus informatico:", trouble, id})
}

// lateText: the two notices differ in their text only. spec: RFC6109 §3.1.6
func lateText(a *Atto, about []string, id string) (string, []string) {
	what := "non risulta consegnato nelle prime dodici ore dal suo invio; la consegna sar\u00e0 tentata ancora."
	if a.Avviso24 {
		what = "non risulta consegnato nelle ventiquattro ore dal suo invio; va considerato non consegnato."
	}
	return "Avviso di mancata consegna per superamento dei tempi massimi", join(about,
		[]string{fmt.Sprintf("destinato all'utente %q", a.Dati.Consegna), what, id})
}

func receiptLine(t TipoRicevuta) string {
	switch t {
	case Breve:
		return "Ricevuta breve: in allegato il messaggio originale con le impronte dei suoi allegati."
	case Sintetica:
		return "Ricevuta sintetica: senza il messaggio originale."
	}
	return "Ricevuta completa: in allegato il messaggio originale."
}

// recipients lists them, each with its kind where the rules ask for it. spec: RFC6109 §3.1.3
func recipients(d *Daticert, kind bool) []string {
	out := []string{"indirizzato a:"}
	for _, r := range d.Destinatari {
		line := r.Indirizzo
		if kind {
			line += map[bool]string{false: ` ("posta certificata")`, true: ` ("posta ordinaria")`}[r.Esterno]
		}
		out = append(out, line)
	}
	return out
}

func join(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		for _, s := range l {
			if s != "" {
				out = append(out, strings.Map(func(r rune) rune {
					if r == '\r' || r == '\n' {
						return ' '
					}
					return r
				}, s))
			}
		}
	}
	return out
}
