package pades

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var golden = flag.Bool("update", false, "write the golden files anew")

// small is one page, turned by turn; the catalog has a form when there is a field.
func small(turn string) []byte {
	return []byte("%PDF-1.4\n" +
		"1 0 obj\n<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]/DA(/Helv 0 Tf)>>>>\nendobj\n" +
		"2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[10 20 410 620]" + turn + ">>\nendobj\n" +
		"3 0 obj\n<</Type/Page/Parent 2 0 R/Annots[4 0 R]>>\nendobj\n" +
		"4 0 obj\n<</FT/Sig/T(Vuoto)/Type/Annot/Subtype/Widget/Rect[100.5 100 300 150]/P 3 0 R/Lock<</Action/Include/Fields[(Altro)]>>>>\nendobj\n")
}

const smallTable = "xref\n0 1\n0000000000 65535 f \n1 4\n"

func finished(body []byte, trailer string) []byte {
	b := bytes.NewBuffer(bytes.Clone(body))
	start := b.Len()
	b.WriteString(smallTable)
	for _, key := range []string{"1 0 obj", "2 0 obj", "3 0 obj", "4 0 obj"} {
		at := bytes.Index(body, []byte(key))
		b.WriteString((string(padded(at)) + " 00000 n \n"))
	}
	b.WriteString("trailer\n<</Size 5/Root 1 0 R" + trailer + ">>\nstartxref\n" + itoa(start) + "\n%%EOF")
	return b.Bytes()
}

func padded(n int) []byte {
	out := []byte("0000000000")
	for i := len(out) - 1; n > 0; i-- {
		out[i] = byte('0' + n%10)
		n /= 10
	}
	return out
}

// The increment, byte for byte, but for a place of 16 bytes in the stead of the CMS.
func TestIncrementGolden(t *testing.T) {
	when := time.Date(2026, 3, 2, 11, 30, 15, 0, time.FixedZone("", 3600))
	id := "/ID[<00112233445566778899aabbccddeeff><00112233445566778899aabbccddeeff>]/Info 9 0 R"
	for label, c := range map[string]struct {
		file []byte
		o    Options
	}{
		"unseen":      {finished(small(""), ""), Options{}},
		"box":         {finished(small(""), id), Options{Name: "Maria Rossi", Reason: "Città", Location: "(Milano)", ContactInfo: "x@example.it", Box: &Box{X: 20, Y: 30, Width: 180, Height: 60, Border: true}}},
		"turned-90":   {finished(small("/Rotate 90"), ""), Options{Box: &Box{X: 20, Y: 30, Width: 180, Height: 60, Lines: []string{"Łukasz Żółć", "日本"}}}},
		"turned-180":  {finished(small("/Rotate 180"), ""), Options{Box: &Box{Page: -1, X: 20, Y: 30, Width: 180, Height: 60, Lines: []string{"a"}}}},
		"turned-270":  {finished(small("/Rotate -90"), ""), Options{Box: &Box{Page: 1, X: 20, Y: 30, Width: 180, Height: 60, Lines: []string{"a"}}}},
		"empty-field": {finished(small(""), ""), Options{Field: "Vuoto", Box: &Box{Lines: []string{"un testo lungo che va a capo più di una volta nel riquadro del campo"}}}},
		"certified":   {finished(small(""), ""), Options{Field: "Autore", Certify: AnnotationsAsWell}},
		"repaired":    {append(small(""), "trailer\n<</Root 1 0 R>>\n"...), Options{}},
	} {
		t.Run(label, func(t *testing.T) {
			d, err := open(bytes.NewReader(c.file), int64(len(c.file)), Limits{})
			require.NoError(t, err)
			require.Equal(t, label == "repaired", d.repaired != "")
			c.o.SigningTime = when
			l := &layout{d: d, o: c.o, room: 16}
			require.NoError(t, l.build())
			path := filepath.Join("testdata", "golden", label+".txt")
			if *golden {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, l.u.b, 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), string(l.u.b))
		})
	}
}

// Dates with zones, and those that others write.
func TestDates(t *testing.T) {
	at := time.Date(2026, 3, 2, 11, 30, 15, 0, time.FixedZone("", 3600))
	require.Equal(t, "D:20260302113015+01'00'", string(pdfDate(at).val))
	require.Equal(t, "D:20260302113015+05'30'", string(pdfDate(time.Date(2026, 3, 2, 11, 30, 15, 0, time.FixedZone("", 19800))).val))
	for text, want := range map[string]string{
		"D:20260302113015+01'00'": "2026-03-02T11:30:15+01:00", "D:20260302113015+01'00": "2026-03-02T11:30:15+01:00",
		"D:20260302113015Z": "2026-03-02T11:30:15Z", "D:20260302113015": "2026-03-02T11:30:15Z", "D:2026": "2026-01-01T00:00:00Z",
		"20260302": "2026-03-02T00:00:00Z", "D:202603021130-05'30'": "2026-03-02T11:30:00-05:30", "D:20260302113015-08": "2026-03-02T11:30:15-08:00",
		"D:20261302": "", "": "", "D:2026+": "2026-01-01T00:00:00Z", "D:202": "", "ieri": "", "D:2026X0100": "", "D:2026+99'00": "",
	} {
		got, ok := parseDate(text)
		require.Equal(t, want != "", ok, text)
		if ok {
			require.Equal(t, want, got.Format(time.RFC3339), text)
		}
	}
}

// What is read is written back as it was.
func TestValuesComeBack(t *testing.T) {
	for text, want := range map[string]string{
		"null": "null", "true": "true", "-12": "-12", "+.50": "+.50", "12 0 R": "12 0 R", "[1 2 R 3 0 R]": "[1 2 R 3 0 R]",
		"[1 2 3 0 R 4 5]": "[1 2 3 0 R 4 5]", "/A#20b#2F": "/A#20b#2f", "<48 65 6c 6>": "<48656c60>",
		`(a\(b\)\\ (c) \101\r\n)`: `(a\(b\)\\ \(c\) A\r\n)`, "<</A 1/B[/C<</D(e)>>]>>": "<</A 1\n/B [/C <</D (e)>>]>>",
		"<</A 1/A 2>>": "<</A 1>>", "99999999999999999999": "99999999999999999999", "% note\n 5": "5",
		"": "", "<4z>": "", "(open": "", "<</A": "", "[1": "", "<<1 2>>": "", "1.2.3": "", "--1": "", "wrong": "", "<": "", "12 99999 R": "",
	} {
		l := &lexer{b: []byte(text), last: true, left: 100}
		v, err := l.object(0)
		if want == "" {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, string(appendObject(nil, v)), text)
	}
}

// Text comes back through both encodings.
func TestText(t *testing.T) {
	for _, s := range []string{"", "Maria", "Città di Łódź", "日本\n", "(a)\\"} {
		l := &lexer{b: appendObject(nil, encodeText(s)), last: true, left: 10}
		v, err := l.object(0)
		require.NoError(t, err)
		require.Equal(t, s, decodeText(v.(text).val))
	}
	require.Equal(t, "è", decodeText([]byte{0xEF, 0xBB, 0xBF, 0xC3, 0xA8}))
	require.Equal(t, "è", decodeText([]byte{0xE8}))
}
