package render_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/fatturapa/render"
)

var update = flag.Bool("update", false, "write the golden files anew")

// dot is a picture of one dot.
var dot, _ = base64.StdEncoding.DecodeString("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

func read(t testing.TB, name string) []byte {
	raw, err := os.ReadFile(filepath.FromSlash(name))
	require.NoError(t, err)
	return raw
}

func parse(t testing.TB, raw []byte) *fatturapa.File {
	f, err := fatturapa.Parse(raw)
	require.NoError(t, err)
	return f
}

func page(t testing.TB, raw []byte, o render.Options) string {
	var b bytes.Buffer
	require.NoError(t, render.HTML(&b, parse(t, raw), o))
	return b.String()
}

var fixtures = []struct{ golden, xml string }{
	{"fpr12_ricca", "testdata/fpr12_ricca.xml"},
	{"fpa12_completa", "../testdata/fpa12_completa.xml"},
	{"fsm10_completa", "../testdata/fsm10_completa.xml"},
	{"lotto", "../testdata/lotto.xml"},
}

func TestGolden(t *testing.T) {
	for _, fx := range fixtures {
		for _, o := range []render.Options{{Lang: "it"}, {Lang: "en", Courtesy: true, Logo: dot, Accent: "#ffcc00", FileName: "IT00000079996_R0007.xml"}} {
			name := filepath.Join("testdata", fx.golden+"."+o.Lang+".html")
			got := page(t, read(t, fx.xml), o)
			wellFormed(t, got)
			if *update {
				require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
				continue
			}
			require.Equal(t, string(read(t, name)), got, "%s: run with -update if the change is meant", name)
		}
	}
}

// leaf finds the text of each element that has no children.
var leaf = regexp.MustCompile(`<([A-Za-z0-9]+)>([^<>]*)</`)

// poison replaces every text of an invoice, except the content of attachments,
// by one that is unique and would run if it were not escaped.
func poison(raw []byte, payload string) ([]byte, []string) {
	body, signature, _ := strings.Cut(string(raw), "<ds:Signature")
	if signature != "" {
		signature = "<ds:Signature" + signature
	}
	var texts []string
	body = leaf.ReplaceAllStringFunc(body, func(m string) string {
		name := leaf.FindStringSubmatch(m)[1]
		if name == "Attachment" || name == "FormatoTrasmissione" {
			return m
		}
		text := fmt.Sprintf(payload, len(texts))
		texts = append(texts, text)
		return "<" + name + ">" + html.EscapeString(text) + "</"
	})
	return []byte(body + signature), texts
}

var payloads = []string{
	`x%d<script>alert(1)</script>`,
	`x%d"><img src=x onerror=alert(1)>`,
	`x%d' onmouseover='alert(1)`,
	`javascript:alert(%d)`,
	`x%d</title></style><svg onload=alert(1)>`,
	`x%d--><!-- &lt;script&gt; &#60;b&#62; ]]>`,
	"x%d` onfocus=`alert(1)",
}

// TestEveryFieldIsShownAndNothingRuns fills every text of every fixture with code
// and finds each again in the page, as text.
func TestEveryFieldIsShownAndNothingRuns(t *testing.T) {
	for _, fx := range append(fixtures, struct{ golden, xml string }{"allegato", "../testdata/allegato.xml"}) {
		for _, payload := range payloads {
			raw, texts := poison(read(t, fx.xml), payload)
			require.Greater(t, len(texts), 20)
			for _, lang := range []string{"it", "en"} {
				got := page(t, raw, render.Options{Lang: lang, Courtesy: true, FileName: fmt.Sprintf(payload, -1), Logo: dot, LogoAlt: fmt.Sprintf(payload, -2)})
				wellFormed(t, got)
				shown := html.UnescapeString(tag.ReplaceAllString(got, "\x00"))
				for _, text := range texts {
					require.Contains(t, shown, text, "%s: a field is not shown", fx.xml)
				}
			}
		}
	}
}

// TestPlainValuesAreShown finds each text of the fixtures in the page, as it stands
// or as numbers, dates and codes are written.
func TestPlainValuesAreShown(t *testing.T) {
	got := page(t, read(t, "testdata/fpr12_ricca.xml"), render.Options{})
	text := html.UnescapeString(tag.ReplaceAllString(got, ""))
	for _, want := range []string{
		"Officine Ceralacca & Figli S.r.l.", `Via dell'Orafo "vecchio", 12/A – 35122 Padova (PD), IT`, "IT 00001019991",
		"1.234.567,80", "socio unico", "DE 123456788", "Siegellack Großhandel GmbH <Berlin>", "31/05/2026 +02:00",
		"Fattura differita (lettera a) n. 2026/R-7", "1.219,99", "1.250,5 pz", "0,88888888", "\u221225,39", "10,00\u00a0%",
		"C-2026-05", "C-2026-06", "12,5", "N3.2 non imponibili, cessioni intracomunitarie", "1.010,99", "209,00",
		"MP05 bonifico", "IT60X0542811101000000123456", "30/06/2026", "Trasporto <i>franco</i>",
	} {
		require.Contains(t, text, want)
	}
	english := html.UnescapeString(tag.ReplaceAllString(page(t, read(t, "testdata/fpr12_ricca.xml"), render.Options{Lang: "en"}), ""))
	for _, want := range []string{"1,234,567.80", "31 May 2026 +02:00", "1,219.99", "bank transfer", "zero rated, supplies within the EU"} {
		require.Contains(t, english, want)
	}
}

func TestUnknownAndMisplacedElementsAreShown(t *testing.T) {
	raw := string(read(t, "../testdata/fpr12.xml"))
	for place, add := range map[string]string{
		"<DatiGeneraliDocumento>":    "<Novita>nuovo-1</Novita><Blocco><Dentro>nuovo-2</Dentro></Blocco>",
		"<DettaglioLinee>":           "<NumeroLinea>nuovo-3</NumeroLinea><Extra><Voce>nuovo-4</Voce></Extra>",
		"<Sede>":                     "<Piano>nuovo-5</Piano><Indirizzo>nuovo-6</Indirizzo>",
		"<IdTrasmittente>":           "<Terza>nuovo-7</Terza>",
		"<FatturaElettronicaBody>":   "<DatiBeniServizi>nuovo-8</DatiBeniServizi><Allegati>nuovo-9</Allegati><Altro>nuovo-10</Altro>",
		"<DatiRiepilogo>":            `<x:Imposta xmlns:x="urn:altro">nuovo-11</x:Imposta><Imposta><A>nuovo-12</A></Imposta>`,
		"<FatturaElettronicaHeader>": "<CedentePrestatore>nuovo-13</CedentePrestatore>",
	} {
		require.Contains(t, raw, place)
		got := page(t, []byte(strings.Replace(raw, place, place+add, 1)), render.Options{})
		wellFormed(t, got)
		for _, want := range regexp.MustCompile(`nuovo-\d+`).FindAllString(add, -1) {
			require.Contains(t, got, want)
		}
	}
	got := page(t, []byte(strings.Replace(raw, "</p:FatturaElettronica>", "<Coda>nuovo-14</Coda></p:FatturaElettronica>", 1)), render.Options{})
	require.Contains(t, got, "nuovo-14")
	require.Contains(t, got, "Coda")
}

// TestHostileShapes renders files that are read and mean nothing: thousands of
// names of their own, deep nesting, repeated blocks. What matters is that the page
// stays in proportion to the file.
func TestHostileShapes(t *testing.T) {
	raw := string(read(t, "../testdata/fpr12.xml"))
	var names strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&names, "<E%d>v%d</E%d>", i, i, i)
	}
	deep := strings.Repeat("<Dentro>", 50) + "fondo" + strings.Repeat("</Dentro>", 50)
	for place, add := range map[string]string{
		"<DatiRiepilogo>":         names.String(),
		"<DettaglioLinee>":        names.String(),
		"<DatiGenerali>":          strings.Repeat("<DatiDDT><NumeroDDT>1</NumeroDDT></DatiDDT>", 20_000),
		"<DatiGeneraliDocumento>": deep,
		"<DatiBeniServizi>":       strings.Repeat("<DatiRiepilogo><Imposta>1.00</Imposta><X/></DatiRiepilogo>", 10_000),
	} {
		require.Contains(t, raw, place)
		in := strings.Replace(raw, place, place+add, 1)
		got := page(t, []byte(in), render.Options{})
		require.Less(t, len(got), 12*len(in)+20_000, place)
		if add == deep {
			require.Contains(t, got, "fondo")
		}
	}
}

func TestLot(t *testing.T) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Bodies: 3, Numero: "A7"})
	got := page(t, raw, render.Options{Courtesy: true})
	require.Equal(t, 3, strings.Count(got, "<article "))
	require.Contains(t, got, "Lotto di fatture: 3 documenti")
	require.Equal(t, 4, strings.Count(got, "Copia di cortesia"), "in the title, at the top, and above each further document")
	for _, id := range []string{"d1", "d2", "d3"} {
		require.Contains(t, got, `href="#`+id+`"`)
		require.Contains(t, got, `id="`+id+`"`)
	}
	require.NotContains(t, page(t, raw, render.Options{}), "Copia di cortesia")
}

func TestAttachments(t *testing.T) {
	got := page(t, read(t, "testdata/fpr12_ricca.xml"), render.Options{Lang: "en"})
	for _, want := range []string{
		`<a download="ddt-88.pdf" href="data:application/pdf;base64,JVBERi0xLjQKJeLjz9MK">`,
		`<a download="listino.csv" href="data:text/csv;base64,YTtiCjE7MgoK">`,
		`<a download="pagina.html.txt" href="data:text/plain;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==">`,
		`<a download="_avvia_aggiorna.exe.bin" href="data:application/octet-stream;base64,TVqQAAMAAAA=">`,
		`<a download="foto.png.zip" href="data:application/zip;base64,UEsDBAoAAAAAAA==">`,
		"<strong>The content is not Base64 and cannot be downloaded</strong>",
	} {
		require.Contains(t, got, want)
	}
	content := bytes.Repeat([]byte("0123456789"), 30_000)
	got = page(t, fatturapatest.Invoice(fatturapatest.Options{Attachment: content}), render.Options{})
	m := regexp.MustCompile(`;base64,([A-Za-z0-9+/=]*)">`).FindStringSubmatch(got)
	require.NotNil(t, m)
	back, err := base64.StdEncoding.DecodeString(m[1])
	require.NoError(t, err)
	require.Equal(t, content, back)
	require.Contains(t, got, "(300,0 kB)")
}

func TestRefusals(t *testing.T) {
	f := parse(t, read(t, "../testdata/fpr12.xml"))
	for name, c := range map[string]struct {
		o    render.Options
		want string
	}{
		"language":        {render.Options{Lang: "de"}, `language "de"`},
		"colour name":     {render.Options{Accent: "red"}, `accent "red"`},
		"colour with css": {render.Options{Accent: "#fff}*{"}, "give #rrggbb"},
		"colour sign":     {render.Options{Accent: "#+12345"}, "give #rrggbb"},
		"svg logo":        {render.Options{Logo: []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)}, "no picture"},
		"huge logo":       {render.Options{Logo: append(slices.Clone(dot), make([]byte, 600<<10)...)}, "at most 524288"},
	} {
		var b bytes.Buffer
		err := render.HTML(&b, f, c.o)
		require.ErrorContains(t, err, c.want, name)
		require.Zero(t, b.Len(), "%s: nothing is written", name)
	}
	require.ErrorContains(t, render.HTML(io.Discard, nil, render.Options{}), "no file")
	broken := errors.New("disk full")
	require.ErrorIs(t, render.HTML(failing{broken}, f, render.Options{}), broken)
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestAccentCanBeRead measures the contrast of what comes out for light colours.
func TestAccentCanBeRead(t *testing.T) {
	raw := read(t, "../testdata/fpr12.xml")
	for _, in := range []string{"#ffffff", "#ffcc00", "#00ff00", "#8c1c13", "#123456"} {
		got := page(t, raw, render.Options{Accent: in})
		m := regexp.MustCompile(`--accent:#([0-9a-f]{6})}`).FindStringSubmatch(got)
		require.NotNil(t, m, in)
		if in == "#8c1c13" || in == "#123456" {
			require.Equal(t, in[1:], m[1], "a colour that can be read stays")
		} else {
			require.NotEqual(t, in[1:], m[1])
		}
	}
}

// TestPolicyAllowsTheStyle computes the hashes of the style sheets as a browser does.
func TestPolicyAllowsTheStyle(t *testing.T) {
	got := page(t, read(t, "../testdata/fpr12.xml"), render.Options{Accent: "#004488"})
	policy := regexp.MustCompile(`content="(default-src[^"]*)"`).FindStringSubmatch(got)
	require.NotNil(t, policy)
	sheets := regexp.MustCompile(`<style>([^<]*)</style>`).FindAllStringSubmatch(got, -1)
	require.Len(t, sheets, 2)
	for _, sheet := range sheets {
		sum := sha256.Sum256([]byte(sheet[1]))
		require.Contains(t, policy[1], "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	}
	require.NotContains(t, policy[1], "unsafe")
	require.NotContains(t, policy[1], "script-src")
}

// tag is a tag as this package writes it: lower case, values in double quotes.
var tag = regexp.MustCompile(`<!DOCTYPE html>|<style>[^<]*</style>|<(/?)([a-z][a-z0-9]*)((?: [a-z-]+(?:="[^"<>]*")?)*)>`)

var attribute = regexp.MustCompile(` ([a-z-]+)(?:="([^"]*)")?`)

var (
	tags       = strings.Fields("html head meta title body a header h1 h2 h3 main nav ol ul li section article div p dl dt dd span strong time table caption thead tbody tfoot tr th td br footer img")
	attributes = strings.Fields("lang charset http-equiv content name class href id role aria-labelledby aria-label scope colspan tabindex download src alt datetime")
	void       = strings.Fields("meta br img")
	target     = regexp.MustCompile(`^(#[a-z0-9]+|data:(application/(pdf|zip|octet-stream|pkcs7-mime)|text/(plain|csv)|image/(png|jpeg|gif|tiff));base64,[A-Za-z0-9+/=]+)$`)
)

// wellFormed holds a page to what this package may write: known elements and
// attributes, properly nested, and no '<' or '>' outside of them.
func wellFormed(t testing.TB, got string) {
	t.Helper()
	rest := tag.ReplaceAllString(got, "")
	require.NotContains(t, rest, "<")
	require.NotContains(t, rest, ">")
	var open []string
	for _, m := range tag.FindAllStringSubmatch(got, -1) {
		name := m[2]
		if name == "" {
			continue
		}
		require.Contains(t, tags, name)
		switch {
		case slices.Contains(void, name):
		case m[1] == "/":
			require.NotEmpty(t, open)
			require.Equal(t, open[len(open)-1], name, "nesting")
			open = open[:len(open)-1]
		default:
			open = append(open, name)
		}
		for _, a := range attribute.FindAllStringSubmatch(m[3], -1) {
			require.Contains(t, attributes, a[1], m[0])
			switch a[1] {
			case "href":
				require.Regexp(t, target, html.UnescapeString(a[2]))
			case "src":
				require.True(t, strings.HasPrefix(a[2], "data:image/"), a[2])
			}
		}
	}
	require.Empty(t, open, "every element is closed")
	require.Contains(t, got, `content="default-src 'none'; style-src 'sha256-`)
}

// FuzzHTML: whatever can be parsed gives a page of known tags and nothing else.
func FuzzHTML(f *testing.F) {
	for _, fx := range fixtures {
		f.Add(read(f, fx.xml))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := fatturapa.Parse(raw)
		if err != nil {
			return
		}
		for _, lang := range []string{"it", "en"} {
			var b bytes.Buffer
			require.NoError(t, render.HTML(&b, file, render.Options{Lang: lang}))
			wellFormed(t, b.String())
		}
	})
}
