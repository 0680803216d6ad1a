package render_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/fatturapa/render"
)

func sheets(t testing.TB, raw []byte, o render.Options) []byte {
	var b bytes.Buffer
	require.NoError(t, render.PDF(&b, parse(t, raw), o))
	return b.Bytes()
}

// word is a text where it stands on a page, in points from the lower left corner.
type word struct {
	x, y float64
	text string
}

var (
	contents = regexp.MustCompile(`/Contents (\d+) 0 R`)
	written  = regexp.MustCompile(`(?s)BT (-?[0-9.]+) (-?[0-9.]+) Td \(((?:\\.|[^\\()])*)\) Tj ET`)
	unescape = strings.NewReplacer(`\\`, `\`, `\(`, `(`, `\)`, `)`, `\r`, "\r")
)

// object returns an object of a PDF by its cross-reference tables, the newest first,
// as a reader does.
func object(t testing.TB, pdf []byte, number int) string {
	t.Helper()
	at := startOf(t, pdf)
	for at > 0 {
		section := string(pdf[at:])
		rows := strings.Split(section[:strings.Index(section, "trailer")], "\n")[1:]
		for i := 0; i+1 < len(rows); {
			var first, count int
			_, err := fmt.Sscanf(rows[i], "%d %d", &first, &count)
			require.NoError(t, err, rows[i])
			if number >= first && number < first+count {
				entry := rows[i+1+number-first]
				require.Len(t, entry, 19, "an entry has twenty bytes with its line end")
				off, err := strconv.Atoi(entry[:10])
				require.NoError(t, err)
				head := fmt.Sprintf("%d 0 obj\n", number)
				require.True(t, strings.HasPrefix(string(pdf[off:off+len(head)]), head), "object %d is not where the table says", number)
				rest := pdf[off+len(head):]
				return string(rest[:bytes.Index(rest, []byte("endobj"))])
			}
			i += 1 + count
		}
		prev := regexp.MustCompile(`/Prev (\d+)`).FindStringSubmatch(section[strings.Index(section, "trailer"):])
		at = 0
		if prev != nil {
			at, _ = strconv.Atoi(prev[1])
		}
	}
	t.Fatalf("object %d is in no table", number)
	return ""
}

func startOf(t testing.TB, pdf []byte) int {
	m := regexp.MustCompile(`startxref\n(\d+)\n%%EOF\n$`).FindSubmatch(pdf)
	require.NotNil(t, m)
	at, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return at
}

// stream inflates the stream of an object, for which object is too short when the
// bytes hold "endobj" by chance.
func stream(t testing.TB, pdf []byte, number int) []byte {
	i := bytes.Index(pdf, fmt.Appendf(nil, "\n%d 0 obj\n", number))
	require.Positive(t, i)
	i += bytes.Index(pdf[i:], []byte("stream\n")) + len("stream\n")
	z, err := zlib.NewReader(bytes.NewReader(pdf[i:]))
	require.NoError(t, err)
	out, err := io.ReadAll(z)
	require.NoError(t, err)
	return out
}

// pages reads the words of each page from its content.
func pages(t testing.TB, pdf []byte) [][]word {
	t.Helper()
	var all [][]word
	for _, m := range contents.FindAllSubmatch(pdf, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		var words []word
		for _, w := range written.FindAllSubmatch(stream(t, pdf, n), -1) {
			x, errX := strconv.ParseFloat(string(w[1]), 64)
			y, errY := strconv.ParseFloat(string(w[2]), 64)
			require.NoError(t, errors.Join(errX, errY))
			words = append(words, word{x, y, decode16(unescape.Replace(string(w[3])))})
		}
		all = append(all, words)
	}
	require.NotEmpty(t, all)
	return all
}

func decode16(s string) string {
	units := make([]uint16, 0, len(s)/2)
	for i := 0; i+1 < len(s); i += 2 {
		units = append(units, uint16(s[i])<<8|uint16(s[i+1]))
	}
	return string(utf16.Decode(units))
}

// inside holds every word to the page, between the margins.
func inside(t testing.TB, all [][]word) {
	t.Helper()
	const point = 72 / 25.4
	for i, words := range all {
		for _, w := range words {
			require.True(t, w.x >= 14.9*point && w.x <= 195.1*point, "page %d: %+v", i+1, w)
			require.True(t, w.y >= 9*point && w.y <= 287*point, "page %d: %+v", i+1, w)
		}
	}
}

// plainText writes the words of each page in lines from top to bottom.
func plainText(all [][]word) string {
	var b strings.Builder
	for i, words := range all {
		fmt.Fprintf(&b, "--- %d\n", i+1)
		words = slices.Clone(words)
		slices.SortStableFunc(words, func(a, b word) int {
			if d := b.y - a.y; d > 0.5 || d < -0.5 {
				return int(d * 100)
			}
			return int((a.x - b.x) * 100)
		})
		for j, w := range words {
			switch {
			case j == 0:
			case words[j-1].y-w.y > 0.5:
				b.WriteString("\n")
			default:
				b.WriteString(" | ")
			}
			b.WriteString(w.text)
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), "\u00a0", " ")
}

func TestPDFGolden(t *testing.T) {
	for _, fx := range fixtures {
		for _, o := range []render.Options{{Lang: "it"}, {Lang: "en", Courtesy: true, Logo: dot, Accent: "#ffcc00", FileName: "IT00000079996_R0007.xml"}} {
			name := filepath.Join("testdata", fx.golden+"."+o.Lang+".pdf.txt")
			all := pages(t, sheets(t, read(t, fx.xml), o))
			inside(t, all)
			got := plainText(all)
			if *update {
				require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
				continue
			}
			require.Equal(t, string(read(t, name)), got, "%s: run with -update if the change is meant", name)
		}
	}
}

// TestPDFShowsEveryField gives each text of each fixture a word of its own and finds
// it in the PDF.
func TestPDFShowsEveryField(t *testing.T) {
	for _, fx := range append(fixtures, struct{ golden, xml string }{"allegato", "../testdata/allegato.xml"}) {
		raw, texts := poison(read(t, fx.xml), `q%d<&(\)>q`)
		require.Greater(t, len(texts), 20)
		for _, lang := range []string{"it", "en"} {
			got := plainText(pages(t, sheets(t, raw, render.Options{Lang: lang, Courtesy: true, FileName: "q-1q"})))
			for _, text := range append(texts, "q-1q") {
				require.Contains(t, got, text, "%s: a field is not shown", fx.xml)
			}
		}
	}
}

func TestPDFIsTheSameEachTime(t *testing.T) {
	raw, o := read(t, "testdata/fpr12_ricca.xml"), render.Options{Logo: picture(t), Accent: "#004488", Courtesy: true}
	want := sheets(t, raw, o)
	var got [8][]byte
	var wait sync.WaitGroup
	for i := range got {
		wait.Go(func() {
			var b bytes.Buffer
			if err := render.PDF(&b, parse(t, raw), o); err == nil {
				got[i] = b.Bytes()
			}
		})
	}
	wait.Wait()
	for _, one := range got {
		require.True(t, bytes.Equal(want, one), "the same file and options give the same bytes")
	}
	require.Contains(t, string(want), "/CreationDate (D:20260531000000)", "the date is that of the document")
}

// TestPDFStructure reads the file as a program does: title, author and language,
// bookmarks that lead to pages, attachments with their content.
func TestPDFStructure(t *testing.T) {
	pdf := sheets(t, read(t, "testdata/fpr12_ricca.xml"), render.Options{})
	trailer := string(pdf[bytes.LastIndex(pdf, []byte("trailer")):])
	number := func(key, in string) int {
		m := regexp.MustCompile(key + ` (\d+)`).FindStringSubmatch(in)
		require.NotNil(t, m, key)
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		return n
	}
	info := object(t, pdf, number("/Info", trailer))
	key := regexp.MustCompile(`(?s)/(\w+) \(((?:\\.|[^\\()])*)\)`)
	have := map[string]string{}
	for _, m := range key.FindAllStringSubmatch(info, -1) {
		have[m[1]] = strings.TrimPrefix(decode16(unescape.Replace(m[2])), "\ufeff")
	}
	require.Equal(t, "Fattura differita (lettera a) n. 2026/R-7 del 31/05/2026 +02:00 – Officine Ceralacca & Figli S.r.l.", have["Title"])
	require.Equal(t, "Officine Ceralacca & Figli S.r.l.", have["Author"])
	require.Equal(t, "Fattura elettronica verso privati", have["Subject"])

	catalogue := object(t, pdf, number("/Root", trailer))
	require.Contains(t, catalogue, "/Lang (it-IT)")
	require.Contains(t, catalogue, "/Version /1.7")
	require.Contains(t, catalogue, "/DisplayDocTitle true")
	require.Equal(t, 1, strings.Count(catalogue, "/Names <<"))
	for _, never := range []string{"/JavaScript", "/OpenAction", "/Launch", "/AA"} {
		require.NotContains(t, string(pdf), never, "nothing runs")
	}

	names := map[string]string{}
	for _, m := range regexp.MustCompile(`\(\d{8}\) (\d+) 0 R`).FindAllStringSubmatch(catalogue, -1) {
		n, _ := strconv.Atoi(m[1])
		spec := object(t, pdf, n)
		name := regexp.MustCompile(`/UF \(([^)]*)\)`).FindStringSubmatch(spec)
		require.NotNil(t, name, spec)
		names[name[1]] = string(stream(t, pdf, number("/EF <</F", spec)))
	}
	require.Equal(t, map[string]string{
		"ddt-88.pdf": "%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "listino.csv": "a;b\n1;2\n\n", "pagina.html.txt": "<script>alert(1)</script>",
		"_avvia_aggiorna.exe.bin": "MZ\x90\x00\x03\x00\x00\x00", "foto.png.zip": "PK\x03\x04\n\x00\x00\x00\x00\x00",
	}, names)

	dests := regexp.MustCompile(`/Dest \[(\d+) 0 R`).FindAllSubmatch(pdf, -1)
	require.Greater(t, len(dests), 5)
	for _, d := range dests {
		n, _ := strconv.Atoi(string(d[1]))
		require.Contains(t, object(t, pdf, n), "/Type /Page\n", "a bookmark leads to a page")
	}
}

func TestPDFLot(t *testing.T) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Bodies: 3, Numero: "A7"})
	pdf := sheets(t, raw, render.Options{Courtesy: true})
	all := pages(t, pdf)
	inside(t, all)
	require.Len(t, all, 3, "each document starts a page")
	for i, words := range all {
		text := plainText([][]word{words})
		require.Contains(t, text, "COPIA DI CORTESIA", "page %d", i+1)
		require.Contains(t, text, fmt.Sprintf("Pagina %d di 3", i+1))
	}
	require.Contains(t, plainText(all[:1]), "Lotto di fatture: 3 documenti")
	require.Equal(t, 3, bytes.Count(pdf, []byte("/Subtype /Link")), "the list of documents leads to them")
	require.NotContains(t, plainText(pages(t, sheets(t, raw, render.Options{}))), "COPIA")
}

// TestPDFLongInvoice has ten thousand lines of two hundred characters.
func TestPDFLongInvoice(t *testing.T) {
	f := parse(t, fatturapatest.Invoice(fatturapatest.Options{Lines: 10_000, Size: 4_600_000}))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	var b bytes.Buffer
	require.NoError(t, render.PDF(&b, f, render.Options{}))
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	t.Logf("%v, %d bytes, heap of the process %d MB", took, b.Len(), after.HeapSys>>20)
	require.Less(t, took, 30*time.Second)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<30))
	all := pages(t, b.Bytes())
	inside(t, all)
	heads := 0
	for _, words := range all {
		if strings.Contains(plainText([][]word{words}), "N. | Descrizione") {
			heads++
		}
	}
	require.Greater(t, len(all), 100)
	require.GreaterOrEqual(t, heads, len(all)-2, "each page repeats the head of the table")
	require.Contains(t, plainText(all[len(all)-3:]), "9999 | Ceralacca")
	require.Contains(t, plainText(all[len(all)-3:]), "CL-10000", "the last line is there")
}

func TestPDFLongTexts(t *testing.T) {
	raw := string(read(t, "../testdata/fpr12.xml"))
	m := regexp.MustCompile(`<Descrizione>[^<]*</Descrizione>`).FindString(raw)
	require.NotEmpty(t, m)
	sentence := strings.TrimSpace(strings.Repeat("bastoni di ceralacca rossa ", 8))
	for name, text := range map[string]string{
		"sentence": sentence,
		"one word": strings.Repeat("W", 5000),
		"a book":   strings.Repeat(sentence+" ", 400),
	} {
		got := pages(t, sheets(t, []byte(strings.Replace(raw, m, "<Descrizione>"+text+"</Descrizione>", 1)), render.Options{}))
		inside(t, got)
		var b strings.Builder
		for _, words := range got {
			for _, w := range words {
				if strings.ContainsAny(w.text, "W") || strings.Contains(sentence+" "+sentence, w.text) {
					b.WriteString(w.text)
				}
			}
		}
		squeeze := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		require.Contains(t, squeeze(b.String()), squeeze(text), name)
	}
}

// TestPDFForeignCharacters: what the fonts lack is replaced, and the reader is told.
func TestPDFForeignCharacters(t *testing.T) {
	raw := string(read(t, "../testdata/fpr12.xml"))
	m := regexp.MustCompile(`<Descrizione>[^<]*</Descrizione>`).FindString(raw)
	for in, want := range map[string]string{
		"pollo 🍗 arrosto":              "pollo \ufffd arrosto",
		"漢字":                           "\ufffd\ufffd",
		"perche\u0301":                 "perché",
		"a\u202egpj.exe":               "a\ufffdgpj.exe",
		"zero\u200bwidth\u00adsoft":    "zerowidthsoft",
		"tab\tline\nend\u0085x\u2028y": "tab line end x y",
		"c1 \u0090":                    "c1 \ufffd",
		"“€” – Ž ŵ Ωж \u2212":          "“€” – Ž ŵ Ωж \u2212",
		"{nb} \\) (Tj":                 "{nb} \\) (Tj",
	} {
		got := plainText(pages(t, sheets(t, []byte(strings.Replace(raw, m, "<Descrizione>"+in+"</Descrizione>", 1)), render.Options{})))
		require.Contains(t, got, want)
		require.Equal(t, strings.Contains(want, "\ufffd"), strings.Contains(got, "che questo PDF non può mostrare"), in)
	}
	foreign := strings.ReplaceAll(raw, "<Numero>", "<Numero>🧾")
	require.Contains(t, plainText(pages(t, sheets(t, []byte(foreign), render.Options{}))), "n. \ufffd")
}

// TestPDFHostileShapes: files that are read and mean nothing stay in proportion.
func TestPDFHostileShapes(t *testing.T) {
	raw := string(read(t, "../testdata/fpr12.xml"))
	var names strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&names, "<E%d>v%d</E%d>", i, i, i)
	}
	for place, add := range map[string]string{
		"<DatiRiepilogo>":         names.String(),
		"<DettaglioLinee>":        names.String(),
		"<CedentePrestatore>":     names.String(),
		"<DatiGenerali>":          strings.Repeat("<DatiDDT><NumeroDDT>1</NumeroDDT></DatiDDT>", 20_000),
		"<DatiGeneraliDocumento>": strings.Repeat("<Dentro>", 50) + "fondo" + strings.Repeat("</Dentro>", 50),
		"<DatiBeniServizi>":       strings.Repeat("<DatiRiepilogo><Imposta>1.00</Imposta><X/></DatiRiepilogo>", 10_000),
	} {
		require.Contains(t, raw, place)
		in := strings.Replace(raw, place, place+add, 1)
		pdf := sheets(t, []byte(in), render.Options{})
		require.Less(t, len(pdf), 6*len(in)+200_000, place)
		all := pages(t, pdf)
		inside(t, all)
		if strings.Contains(add, "fondo") {
			require.Contains(t, plainText(all), "fondo")
		}
		if strings.Contains(add, "v19999") {
			require.Contains(t, plainText(all), "v19999", place)
		}
	}
}

func TestPDFRefusals(t *testing.T) {
	f := parse(t, read(t, "../testdata/fpr12.xml"))
	whole := picture(t)
	for name, c := range map[string]struct {
		o    render.Options
		want string
	}{
		"language":     {render.Options{Lang: "de"}, `language "de"`},
		"colour":       {render.Options{Accent: "red"}, "give #rrggbb"},
		"svg logo":     {render.Options{Logo: []byte("<svg/>")}, "no picture"},
		"cut logo":     {render.Options{Logo: whole[:len(whole)/2]}, "the logo cannot be read"},
		"cut head":     {render.Options{Logo: whole[:20]}, "the logo cannot be read"},
		"huge picture": {render.Options{Logo: bomb}, "30000 × 30000 points"},
	} {
		var b bytes.Buffer
		err := render.PDF(&b, f, c.o)
		require.ErrorContains(t, err, c.want, name)
		require.Zero(t, b.Len(), "%s: nothing is written", name)
	}
	require.ErrorContains(t, render.PDF(io.Discard, nil, render.Options{}), "no file")
	broken := errors.New("disk full")
	require.ErrorIs(t, render.PDF(failing{broken}, f, render.Options{}), broken)
	var b bytes.Buffer
	require.ErrorContains(t, render.HTML(&b, f, render.Options{Logo: bomb}), "30000 × 30000 points")
	require.Zero(t, b.Len())
}

// bomb is the head of a picture of nine hundred million points.
var bomb = func() []byte {
	head := []byte("IHDR\x00\x00\x750\x00\x00\x750\x08\x06\x00\x00\x00")
	return binary.BigEndian.AppendUint32(append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\r"), head...), crc32.ChecksumIEEE(head))
}()

// FuzzPDF: whatever can be parsed gives pages with every word on them.
func FuzzPDF(f *testing.F) {
	for _, fx := range fixtures {
		f.Add(read(f, fx.xml))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := fatturapa.Parse(raw)
		if err != nil {
			return
		}
		var b bytes.Buffer
		require.NoError(t, render.PDF(&b, file, render.Options{Lang: "en", Courtesy: true}))
		inside(t, pages(t, b.Bytes()))
	})
}
