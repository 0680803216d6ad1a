package pec

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
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

	daticertAttributes = 64 // of one element
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
	r := &daticertReader{dec: xml.NewDecoder(bytes.NewReader(raw)), d: &Daticert{}}
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
	open  []opened // from the root inwards
	text  []byte
	seen  [len(paths)]bool
	done  bool // the root is closed
	begun bool
}

// opened is an element that is open.
type opened struct {
	name  string
	path  string
	index int // in paths, 0 when the DTD has no such element there
}

func (r *daticertReader) innermost() opened {
	if len(r.open) == 0 {
		return opened{}
	}
	return r.open[len(r.open)-1]
}

// into gives the element of a name inside another.
func (o opened) into(name string) opened {
	if i := steps[step{o.index, name}]; i > 0 && o.path == paths[o.index] {
		return opened{name, paths[i], i}
	}
	if o.path == "" {
		return opened{name, name, 0}
	}
	return opened{name, o.path + "/" + name, 0}
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
	case len(r.open) == 0 && name != "postacert":
		return r.refuse("the root is %q, not postacert", name)
	case len(r.open) >= daticertDepth:
		return r.refuse("elements nested deeper than %d", daticertDepth)
	case len(t.Attr) > daticertAttributes:
		return r.refuse("%d attributes in one element", len(t.Attr))
	}
	r.begun = true
	r.stray()
	for i, a := range t.Attr {
		for _, b := range t.Attr[:i] {
			if a.Name == b.Name {
				return r.refuse("the attribute %q stands twice", plainName(a.Name))
			}
		}
	}
	e := r.innermost().into(name)
	r.open = append(r.open, e)
	return r.begin(e, t.Attr)
}

// attrOf gives the value of one that has no prefix.
func attrOf(list []xml.Attr, name string) string {
	for _, a := range list {
		if a.Name.Space == "" && a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// begin takes an element's attributes and refuses a second one where one may be.
func (r *daticertReader) begin(e opened, attrs []xml.Attr) error {
	many := e.path == "postacert/intestazione/destinatari" || e.path == "postacert/dati/ricezione"
	if r.seen[e.index] && !many && e.index > 0 {
		return r.refuse("the element %q stands twice", e.path)
	}
	r.seen[e.index] = true
	switch e.path {
	case "postacert":
		r.d.Tipo = attrOf(attrs, "tipo")
		r.d.Errore = orDefault(Errore(attrOf(attrs, "errore")), erroreDefault)
	case "postacert/intestazione/destinatari":
		tipo := attrOf(attrs, "tipo")
		r.d.Destinatari = append(r.d.Destinatari, Destinatario{Esterno: tipo == "esterno"})
		if tipo != "" && tipo != "esterno" && tipo != "certificato" {
			r.fs.add(CodeOddDaticert, Doubt, -1, "a recipient of type %q", tipo)
		}
	case "postacert/dati/data":
		r.d.Zona = attrOf(attrs, "zona")
	case "postacert/dati/ricevuta":
		r.d.Ricevuta = TipoRicevuta(attrOf(attrs, "tipo"))
	case "postacert/dati/ricezione":
		r.d.Ricezione = append(r.d.Ricezione, "")
	default:
		if e.index == 0 {
			r.d.Ignoti = append(r.d.Ignoti, e.path)
		}
	}
	return nil
}

// paths are those of the DTD, each behind the one that it is in; the first stands for all others.
var paths = [...]string{
	"", "postacert", "postacert/intestazione", "postacert/intestazione/mittente",
	"postacert/intestazione/destinatari", pathRisposte,
	"postacert/intestazione/oggetto", "postacert/dati", "postacert/dati/gestore-emittente",
	"postacert/dati/data", "postacert/dati/data/giorno", "postacert/dati/data/ora",
	"postacert/dati/identificativo", "postacert/dati/msgid", "postacert/dati/ricevuta",
	"postacert/dati/consegna", "postacert/dati/ricezione", "postacert/dati/errore-esteso",
}

const pathRisposte = "postacert/intestazione/risposte"

// step goes from an element of paths to one inside it.
type step struct {
	from int
	name string
}

var steps = func() map[step]int {
	out := map[step]int{}
	for i, p := range paths[1:] {
		around, name := "", p
		if cut := strings.LastIndexByte(p, '/'); cut >= 0 {
			around, name = p[:cut], p[cut+1:]
		}
		out[step{slices.Index(paths[:], around), name}] = i + 1
	}
	return out
}()

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
	if text := bytes.TrimSpace(r.text); len(text) > 0 {
		r.fs.add(CodeOddDaticert, Notice, -1, "text between elements: %.40q", text)
	}
	r.text = r.text[:0]
}

func (r *daticertReader) chars(t xml.CharData) error {
	if !utf8.Valid(t) {
		return r.refuse("bytes that are not in its encoding")
	}
	if len(r.open) == 0 && len(bytes.TrimSpace(t)) > 0 {
		return r.refuse("text outside of the root element")
	}
	limit := daticertText
	if r.innermost().name == "oggetto" {
		limit = daticertOggetto
	}
	if len(r.text)+len(t) > limit {
		return r.refuse("a text longer than %d bytes", limit)
	}
	r.text = append(r.text, t...)
	return nil
}

func (r *daticertReader) end(t xml.EndElement) error {
	e := r.innermost()
	if name := plainName(t.Name); len(r.open) == 0 || e.name != name {
		return r.refuse("%q is closed, which is not open", name)
	}
	if container(e.path) {
		r.stray()
	} else if e.index > 0 {
		r.set(e.path, string(bytes.TrimSpace(r.text)))
	}
	r.text = r.text[:0]
	r.open = r.open[:len(r.open)-1]
	r.done = len(r.open) == 0
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
	if !r.seen[slices.Index(paths[:], pathRisposte)] {
		r.fs.add(CodeOddDaticert, Notice, -1, "risposte is missing")
	}
	if _, err := d.Istante(); err != nil {
		r.fs.add(CodeDate, Doubt, -1, "%v", err)
	}
	for _, p := range d.Ignoti {
		r.fs.add(CodeOddDaticert, Notice, -1, "the DTD has no element %s", p)
	}
}
