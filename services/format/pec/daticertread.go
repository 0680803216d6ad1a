package pec

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// DaticertError says why a daticert.xml is refused.
type DaticertError struct {
	Offset int64
	Reason string
}

func (e *DaticertError) Error() string {
	return fmt.Sprintf("pec: daticert.xml at byte %d: %s", e.Offset, e.Reason)
}

const (
	daticertBase      = 64 << 10
	daticertRecipient = 200     // bytes more for each recipient
	daticertMax       = 4 << 20 // whatever the number of recipients
	daticertDepth     = 5
	daticertText      = 4 << 10
	daticertOggetto   = 32 << 10 // subjects are as long as their senders like
)

// ParseDaticert reads the certification data. It is strict where a lax reader could be led to
// read something else (duplicate attributes and elements, a second root, entities, nesting,
// sizes: refused) and patient where real files are odd (white space and stray text between
// elements, elements unknown to the DTD, missing optional ones: findings). A DOCTYPE and
// processing instructions are passed over; nothing is ever fetched.
// UTF-8, US-ASCII, ISO-8859-1, ISO-8859-15 and Windows-1252 are read.
func ParseDaticert(raw []byte) (*Daticert, Findings, error) {
	return parseDaticert(raw, 0)
}

func parseDaticert(raw []byte, limit int) (*Daticert, Findings, error) {
	if limit <= 0 {
		limit = daticertBase + daticertRecipient*bytes.Count(raw[:min(len(raw), daticertMax)], []byte("<destinatari"))
	}
	if len(raw) > min(limit, daticertMax) {
		return nil, nil, &DaticertError{0, fmt.Sprintf("%d bytes are more than its recipients account for (%d)", len(raw), limit)}
	}
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	if bytes.HasPrefix(raw, []byte("\xfe\xff")) || bytes.HasPrefix(raw, []byte("\xff\xfe")) || bytes.IndexByte(raw, 0) >= 0 {
		return nil, nil, &DaticertError{0, "UTF-16 or zero bytes: it has to be UTF-8"}
	}
	r := &daticertReader{dec: xml.NewDecoder(bytes.NewReader(raw)), d: &Daticert{}, seen: map[string]bool{}}
	r.dec.CharsetReader = daticertCharset
	r.dec.Strict = true
	if err := r.run(); err != nil {
		var own *DaticertError
		if !errors.As(err, &own) {
			err = &DaticertError{r.dec.InputOffset(), err.Error()}
		}
		return nil, nil, err
	}
	r.judge()
	return r.d, r.fs, nil
}

// daticertCharset knows the encodings that are seen. Others are an error, never a guess.
func daticertCharset(name string, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(name) {
	case "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "windows-1252":
		return charmap.Windows1252.NewDecoder().Reader(in), nil
	case "iso-8859-15":
		return charmap.ISO8859_15.NewDecoder().Reader(in), nil
	}
	return nil, fmt.Errorf("encoding %q is not read", name)
}

type daticertReader struct {
	dec   *xml.Decoder
	d     *Daticert
	fs    Findings
	path  []string
	text  strings.Builder
	seen  map[string]bool
	done  bool // the root is closed
	begun bool
}

func (r *daticertReader) refuse(format string, args ...any) error {
	return &DaticertError{r.dec.InputOffset(), fmt.Sprintf(format, args...)}
}

func (r *daticertReader) run() error {
	for {
		tok, err := r.dec.RawToken()
		if errors.Is(err, io.EOF) {
			if !r.done {
				return r.refuse("it ends before its root element does")
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			err = r.start(t)
		case xml.EndElement:
			err = r.end(t)
		case xml.CharData:
			err = r.chars(t)
		case xml.Directive:
			if r.begun || !bytes.HasPrefix(bytes.TrimSpace(t), []byte("DOCTYPE")) || bytes.Contains(t, []byte("ENTITY")) {
				err = r.refuse("a declaration that may not be here")
			} else {
				r.fs.add(CodeOddDaticert, Notice, -1, "a DOCTYPE, which is passed over")
			}
		}
		if err != nil {
			return err
		}
	}
}

func plainName(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

func (r *daticertReader) start(t xml.StartElement) error {
	name := plainName(t.Name)
	switch {
	case r.done:
		return r.refuse("a second root element %q", name)
	case len(r.path) == 0 && name != "postacert":
		return r.refuse("the root is %q, not postacert", name)
	case len(r.path) >= daticertDepth:
		return r.refuse("elements nested deeper than %d", daticertDepth)
	}
	r.begun = true
	r.stray()
	attrs := map[string]string{}
	for _, a := range t.Attr {
		n := plainName(a.Name)
		if _, twice := attrs[n]; twice {
			return r.refuse("the attribute %q stands twice", n)
		}
		attrs[n] = a.Value
	}
	r.path = append(r.path, name)
	return r.begin(strings.Join(r.path, "/"), attrs)
}

// begin takes an element's attributes and refuses a second one where one may be.
func (r *daticertReader) begin(path string, attrs map[string]string) error {
	many := path == "postacert/intestazione/destinatari" || path == "postacert/dati/ricezione"
	if r.seen[path] && !many && known[path] {
		return r.refuse("the element %q stands twice", path)
	}
	r.seen[path] = true
	switch path {
	case "postacert":
		r.d.Tipo = strings.TrimSpace(attrs["tipo"])
		r.d.Errore = orDefault(Errore(strings.TrimSpace(attrs["errore"])), erroreDefault)
	case "postacert/intestazione/destinatari":
		tipo := strings.TrimSpace(attrs["tipo"])
		r.d.Destinatari = append(r.d.Destinatari, Destinatario{Esterno: tipo == "esterno"})
		if tipo != "" && tipo != "esterno" && tipo != "certificato" {
			r.fs.add(CodeOddDaticert, Doubt, -1, "a recipient of type %q", tipo)
		}
	case "postacert/dati/data":
		r.d.Zona = strings.TrimSpace(attrs["zona"])
	case "postacert/dati/ricevuta":
		r.d.Ricevuta = TipoRicevuta(strings.TrimSpace(attrs["tipo"]))
	case "postacert/dati/ricezione":
		r.d.Ricezione = append(r.d.Ricezione, "")
	default:
		if !known[path] {
			r.d.Ignoti = append(r.d.Ignoti, path)
		}
	}
	return nil
}

// known are the paths of the DTD.
var known = map[string]bool{
	"postacert": true, "postacert/intestazione": true, "postacert/intestazione/mittente": true,
	"postacert/intestazione/destinatari": true, "postacert/intestazione/risposte": true,
	"postacert/intestazione/oggetto": true, "postacert/dati": true, "postacert/dati/gestore-emittente": true,
	"postacert/dati/data": true, "postacert/dati/data/giorno": true, "postacert/dati/data/ora": true,
	"postacert/dati/identificativo": true, "postacert/dati/msgid": true, "postacert/dati/ricevuta": true,
	"postacert/dati/consegna": true, "postacert/dati/ricezione": true, "postacert/dati/errore-esteso": true,
}

// container elements hold no text.
func container(path string) bool {
	switch path {
	case "", "postacert", "postacert/intestazione", "postacert/dati", "postacert/dati/data", "postacert/dati/ricevuta":
		return true
	}
	return false
}

// stray drops text between elements; it occurs in real files.
func (r *daticertReader) stray() {
	if strings.TrimSpace(r.text.String()) != "" {
		r.fs.add(CodeOddDaticert, Notice, -1, "text between elements: %.40q", strings.TrimSpace(r.text.String()))
	}
	r.text.Reset()
}

func (r *daticertReader) chars(t xml.CharData) error {
	if !utf8.Valid(t) {
		return r.refuse("bytes that are not in its encoding")
	}
	if (len(r.path) == 0) && len(bytes.TrimSpace(t)) > 0 {
		return r.refuse("text outside of the root element")
	}
	limit := daticertText
	if len(r.path) > 0 && r.path[len(r.path)-1] == "oggetto" {
		limit = daticertOggetto
	}
	if r.text.Len()+len(t) > limit {
		return r.refuse("a text longer than %d bytes", limit)
	}
	r.text.Write(t)
	return nil
}

func (r *daticertReader) end(t xml.EndElement) error {
	name := plainName(t.Name)
	if len(r.path) == 0 || r.path[len(r.path)-1] != name {
		return r.refuse("%q is closed, which is not open", name)
	}
	path := strings.Join(r.path, "/")
	if container(path) {
		r.stray()
	} else if known[path] {
		r.set(path, strings.TrimSpace(r.text.String()))
	}
	r.text.Reset()
	r.path = r.path[:len(r.path)-1]
	r.done = len(r.path) == 0
	return nil
}

func (r *daticertReader) set(path, v string) {
	d := r.d
	switch strings.TrimPrefix(path, "postacert/") {
	case "intestazione/mittente":
		d.Mittente = v
	case "intestazione/destinatari":
		d.Destinatari[len(d.Destinatari)-1].Indirizzo = v
	case "intestazione/risposte":
		d.Risposte = v
	case "intestazione/oggetto":
		d.Oggetto, d.HasOggetto = v, true
	case "dati/gestore-emittente":
		d.Gestore = v
	case "dati/data/giorno":
		d.Giorno = v
	case "dati/data/ora":
		d.Ora = v
	case "dati/identificativo":
		d.Identificativo = v
	case "dati/msgid":
		d.MsgID = v
	case "dati/consegna":
		d.Consegna = v
	case "dati/ricezione":
		d.Ricezione[len(d.Ricezione)-1] = v
	case "dati/errore-esteso":
		d.ErroreEsteso = v
	}
}

// judge says where the file is not as the DTD wants it.
func (r *daticertReader) judge() {
	d := r.d
	if d.Kind() == TipoIgnoto {
		r.fs.add(CodeUnknownTipo, Doubt, -1, "daticert has the type %q", d.Tipo)
	}
	switch d.Errore {
	case Nessuno, NoDest, NoDominio, VirusTrovato, AltroErrore:
	default:
		r.fs.add(CodeOddDaticert, Doubt, -1, "errore is %q", d.Errore)
	}
	switch d.Ricevuta {
	case "", Completa, Breve, Sintetica:
	default:
		r.fs.add(CodeOddDaticert, Doubt, -1, "ricevuta is of type %q", d.Ricevuta)
	}
	for _, m := range []struct{ name, v string }{
		{"mittente", d.Mittente}, {"gestore-emittente", d.Gestore}, {"identificativo", d.Identificativo},
	} {
		if m.v == "" {
			r.fs.add(CodeOddDaticert, Doubt, -1, "%s is missing or empty", m.name)
		}
	}
	if len(d.Destinatari) == 0 {
		r.fs.add(CodeOddDaticert, Doubt, -1, "no recipients")
	}
	if !r.seen["postacert/intestazione/risposte"] {
		r.fs.add(CodeOddDaticert, Notice, -1, "risposte is missing")
	}
	if _, err := d.Istante(); err != nil {
		r.fs.add(CodeDate, Doubt, -1, "%v", err)
	}
	for _, p := range d.Ignoti {
		r.fs.add(CodeOddDaticert, Notice, -1, "the DTD has no element %s", p)
	}
}
