package pec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestF1DecodeText(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                          "plain",
		"=?utf-8?Q?Citt=C3=A0_di_Bari?=": "Città di Bari",
		"=?UTF-8?B?Q2l0dMOg?=":           "Città",
		"=?iso-8859-1?q?perch=E9?= =?iso-8859-1?q?_no?=": "perché no",
		"=?utf-8?Q?=C3?= =?utf-8?Q?=A0?=":                "à", // one character over two words
		"=?windows-1252?Q?10_=80?=":                      "10 €",
		"=?iso-8859-1?Q?10_=80?=":                        "10 €", // labelled wrong, as usual
		"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=":             "日本",
		"=?x-nobody?Q?a=E8?=":                            "aè",
		"=?utf-8*it?Q?ciao?=":                            "ciao",
		"=?utf-8?Q?a b?= c":                              "a b c",
		"=?utf-8?Q?=3D?=":                                "=",
		"=?utf-8?X?a?=":                                  "=?utf-8?X?a?=",
		"a =?utf-8?Q?b?= c":                              "a b c",
		"a\r\nBcc: x@y.test":                             "a  Bcc: x@y.test",
		"perch\xe9":                                      "perché",
		"=?utf-8?Q?=E2=80=AEfdp.exe?=":                   "fdp.exe", // right-to-left override
		"=?":                                             "=?",
	} {
		require.Equal(t, want, DecodeText(in), "%q", in)
	}
}

func TestParams(t *testing.T) {
	for _, c := range []struct{ in, value, name, want string }{
		{`text/plain; charset=utf-8`, "text/plain", "charset", "utf-8"},
		{`Text/Plain ; Charset = "a;b" ; x=y`, "text/plain", "charset", "a;b"},
		{`application/pdf; name="a \"b\".pdf"`, "application/pdf", "name", `a "b".pdf`},
		{`application/pdf; name*=utf-8'it'a%20%C3%A8.pdf`, "application/pdf", "name", "a è.pdf"},
		{`application/pdf; name*0*=utf-8''a%20; name*1="b.p"; name*2=df`, "application/pdf", "name", "a b.pdf"},
		{`application/pdf; name*1=b; name*0=a`, "application/pdf", "name", "ab"},
		{`application/pdf; name=plain.pdf; name*=utf-8''better.pdf`, "application/pdf", "name", "better.pdf"},
		{`application/pdf; name=a; name=b`, "application/pdf", "name", "a"},
		{`application/pdf (comment; name=x); name=y`, "application/pdf", "name", "y"},
		{`application/pdf;; ;name="open`, "application/pdf", "name", "open"},
		{`application/pdf; name=with blanks.pdf`, "application/pdf", "name", "with blanks.pdf"},
		{``, "", "name", ""},
	} {
		v, p := parseParams(c.in)
		require.Equal(t, c.value, v, c.in)
		require.Equal(t, c.want, p[c.name], c.in)
	}
}

func TestF4Addresses(t *testing.T) {
	for in, want := range map[string][]Address{
		"a@b.test":                            {{"", "a@b.test"}},
		`"Rossi, Mario" <a@b.test>, c@d.test`: {{"Rossi, Mario", "a@b.test"}, {"", "c@d.test"}},
		"Gruppo: a@b.test, c@d.test;":         {{"", "a@b.test"}, {"", "c@d.test"}},
		"Mario a@b.test>":                     {{"Mario", "a@b.test"}}, // "<" missing
		"=?utf-8?Q?Citt=C3=A0?= <a@b.test>":   {{"Città", "a@b.test"}},
		"a@b.test (Mario)":                    {{"Mario", "a@b.test"}},
		"pct@pec. dom.it":                     {{"", "pct@pec. dom.it"}},
		"undisclosed-recipients:;":            nil,
		"Nobody":                              {{"Nobody", ""}},
		"<>":                                  {{"", ""}},
		"Per\xe8 <a@b.test>":                  {{"Perè", "a@b.test"}},
		"":                                    nil,
	} {
		require.Equal(t, want, ParseAddresses(in), "%q", in)
	}
}

func TestF3SafeName(t *testing.T) {
	for in, want := range map[string]string{
		"../../etc/passwd": "passwd", `c:\x\y.txt`: "y.txt", "a\x00b.pdf": "ab.pdf", "": "unnamed", "...": "unnamed",
		"a\u202egpj.exe": "agpj.exe", "a<b>.txt": "a_b_.txt", strings.Repeat("è", 300) + ".pdf": strings.Repeat("è", 98) + ".pdf",
		"riga\r\nX-Y: z.txt": "riga  X-Y_ z.txt",
	} {
		require.Equal(t, want, SafeName(in))
		require.LessOrEqual(t, len(SafeName(in)), maxName)
	}
}

func TestF7Danger(t *testing.T) {
	for _, c := range []struct {
		name, head string
		danger     bool
	}{
		{"fattura.pdf", "%PDF", false}, {"fattura.pdf.exe", "MZ", true}, {"FATTURA.EXE ", "", true}, {"a.docm", "PK", true}, {"a.docx", "PK\x03\x04\x14\x00\x00\x00", false},
		{"a.zip", "PK\x03\x04\x14\x00\x01\x00", true}, {"foto.jpg", "MZ\x90", true}, {"a\u202efdp.scr", "", true}, {"a.iso", "", true}, {"", "", false}, {"exe", "", true}, {"f.xml.p7m", "0\x80", false},
	} {
		require.Equal(t, c.danger, Danger(c.name, []byte(c.head)) != "", c.name)
	}
}

func TestAutomatic(t *testing.T) {
	for head, want := range map[string]bool{
		"Subject: a": false, "X-Ricevuta: accettazione": true, "X-Trasporto: errore": true, "Auto-Submitted: auto-replied": true, "Auto-Submitted: no": false,
		"Precedence: bulk": true, "List-Id: x": true, "Return-Path: <>": true, "Return-Path: <a@b.test>": false,
	} {
		require.Equal(t, want, readAll(t, []byte(head+"\r\n\r\nx")).Automatic(), head)
	}
	w := newWorld(t)
	raw := strings.Replace(string(composed(t, draft())), "Subject:", "Auto-Submitted: auto-generated\r\nSubject:", 1)
	m, err := ParseBytes([]byte(raw))
	require.NoError(t, err)
	_, r := written(t, w.alfa, NewTransito(m, envelopeOf(draft()), "1@pec.alfa.test", nil).Busta(at))
	require.True(t, r.Automatic(), "it is the original that a program made")
}

// wild is what arrives really. Each case says what is read and what is reported.
var wild = []struct {
	name, raw string
	code      string
	check     func(t *testing.T, m *Message)
}{
	{"no header at all", "just words, no header\n", CodeHeaderBroken, func(t *testing.T, m *Message) {
		require.Equal(t, int64(0), m.Root.BodyStart)
	}},
	{"mailbox line", "From x@y.test Mon Jan 1\nSubject: a\n\nb\n", CodeHeaderMbox, func(t *testing.T, m *Message) {
		require.Equal(t, "a", m.Root.Header.Get("subject"))
	}},
	{"no empty line before the first part", "Content-Type: multipart/mixed; boundary=b\n--b\n\nx\n--b--\n", CodeHeaderBroken, func(t *testing.T, m *Message) {
		require.Len(t, m.Root.Parts, 1)
	}},
	{"no boundary parameter", "Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n", CodeNoBoundary, nil},
	{"never closed", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx", CodeUnclosed, func(t *testing.T, m *Message) {
		require.Equal(t, "x", text(t, m.Root.Parts[0]))
	}},
	{"raw 8-bit header", "Subject: citt\xc3\xa0\n\nx", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "città", m.Root.Header.Text("Subject"))
	}},
	{"base64 with rubbish", "Content-Transfer-Encoding: base64\n\nY2l.hb w==\n", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "ciao", text(t, m.Root))
	}},
	{"base64 in two pieces", "Content-Transfer-Encoding: base64\n\nY2lhbyA=\nY2lhbyA=\n", CodeBareLF, func(t *testing.T, m *Message) {
		require.True(t, strings.HasPrefix(text(t, m.Root), "ciao "))
	}},
	{"broken quoted-printable", "Content-Transfer-Encoding: quoted-printable\n\na=3Db =zz =\nc=", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "a=b =zz c", text(t, m.Root))
	}},
	{"uuencode", "Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n$8VEA;P``\n`\nend\n", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "ciao", text(t, m.Root))
	}},
	{"charset that lies", "Content-Type: text/plain; charset=us-ascii\n\ncitt\xe0", CodeBareLF, func(t *testing.T, m *Message) {
		s, exact, err := m.Root.Text()
		require.NoError(t, err)
		require.False(t, exact)
		require.Equal(t, "città", s)
	}},
	{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\nx\n--b--\n", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "in", m.Root.Parts[0].Parts[0].Header.Get("Subject"))
	}},
	{"attached message in base64", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogaW4KCng=\n", CodeBareLF, func(t *testing.T, m *Message) {
		p, err := m.Root.Message()
		require.NoError(t, err)
		require.Equal(t, "in", p.Header.Get("Subject"))
	}},
	{"zero bytes", "Subject: a\n\nx\x00y\n", CodeNUL, nil},
	{"boundary used twice", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b--\n", CodeBoundaryReused, nil},
	{"header without end", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n--b--\n", CodeHeaderUnended, nil},
	{"folded to the right", "Subject: a\n\tb\n c\n\nx", CodeBareLF, func(t *testing.T, m *Message) {
		require.Equal(t, "a\tb c", m.Root.Header.Get("Subject"))
	}},
	{"delimiters on end", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n\r\n--b--\r\n", CodeHeaderUnended, func(t *testing.T, m *Message) {
		require.Len(t, m.Root.Parts, 2)
		for _, p := range m.Root.Parts {
			require.LessOrEqual(t, p.Start, p.BodyStart)
			require.LessOrEqual(t, p.BodyStart, p.End)
		}
	}},
}

func TestF1Wild(t *testing.T) {
	for _, c := range wild {
		t.Run(c.name, func(t *testing.T) {
			m, err := ParseBytes([]byte(c.raw))
			require.NoError(t, err)
			require.True(t, m.Findings.Has(c.code), codes(m.Findings))
			if c.check != nil {
				c.check(t, m)
			}
		})
	}
}

func text(t testing.TB, p *Part) string {
	t.Helper()
	s, _, err := p.Text()
	require.NoError(t, err)
	return s
}

// TestF6Limits: what would fill memory is set aside. TESTPLAN F6.
func TestF6Limits(t *testing.T) {
	parts := "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n", 10_001)
	deep := strings.Repeat("Content-Type: message/rfc822\n\n", 1000) + "x"
	for name, raw := range map[string]string{"parts": parts, "one header": "X: " + strings.Repeat("a", 2<<20), "headers": "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\nX: "+strings.Repeat("y", 900_000)+"\n\n", 10)} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseBytes([]byte(raw))
			var limit *LimitError
			require.ErrorAs(t, err, &limit)
		})
	}
	m, err := ParseBytes([]byte(deep))
	require.NoError(t, err)
	require.True(t, m.Findings.Has(CodeTooDeep))
	_, err = ParseBytes(nil)
	require.ErrorIs(t, err, ErrEmpty)
	_, err = Parse(bytes.NewReader(nil), 1<<40, Limits{})
	require.Error(t, err)
	broken := errors.New("disk")
	_, err = Parse(failing{broken}, 100, Limits{})
	require.ErrorIs(t, err, broken)
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// TestLongLines: a line of megabytes is no trouble, and a delimiter is one at the start of a line only.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("--b ", 1<<18)
	m, err := ParseBytes([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx" + long + "\r\n--b--\r\n"))
	require.NoError(t, err)
	require.Len(t, m.Root.Parts, 1)
	require.Len(t, text(t, m.Root.Parts[0]), len(long)+1)
}

// TestReceiptOf30MB: a complete receipt around a large original is read and verified from a file
// with little memory. The figure asked for is 16 MB.
func TestReceiptOf30MB(t *testing.T) {
	w := newWorld(t)
	d := draft()
	big := bytes.Repeat([]byte("0123456789abcdef"), 22<<16)
	d.Attachments = []File{BytesFile("grande.bin", "", big)}
	file, err := os.CreateTemp(t.TempDir(), "m")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	sent, err := os.CreateTemp(t.TempDir(), "s")
	require.NoError(t, err)
	defer func() { require.NoError(t, sent.Close()) }()
	n, err := Compose(sent, d)
	require.NoError(t, err)
	require.Greater(t, n, int64(30<<20))
	m, err := Parse(sent, n, Limits{})
	require.NoError(t, err)
	_, err = w.alfa.Write(t.Context(), file, NewTransito(m, envelopeOf(d), "1@pec.alfa.test", nil).Busta(at))
	require.NoError(t, err)
	info, err := file.Stat()
	require.NoError(t, err)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := Read(file, info.Size(), Limits{})
	require.NoError(t, err)
	rep, err := r.Verify(Verification{Trust: w.trust, At: at})
	require.NoError(t, err)
	runtime.ReadMemStats(&after)
	require.True(t, r.Proven(rep), codes(r.Findings))
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d MB read and verified with %d KB allocated in all", info.Size()>>20, allocated>>10)
	require.Less(t, allocated, uint64(16<<20))
}

// TestA19A20ComposeRoundTrip: whatever is composed reads back, whole. TESTPLAN A19, A20.
func TestA19A20ComposeRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := &Draft{
			From: Address{rapid.String().Draw(rt, "name"), "mittente@alfa.test"}, To: []Address{{rapid.String().Draw(rt, "to"), "a@b.test"}},
			Subject: rapid.String().Draw(rt, "subject"), Text: rapid.String().Draw(rt, "text"), HTML: rapid.SampledFrom([]string{"", "<p>è</p>"}).Draw(rt, "html"),
			Date: at, MessageID: "x@y", Ricevuta: rapid.SampledFrom([]TipoRicevuta{"", Completa, Breve, Sintetica}).Draw(rt, "ricevuta"), Random: seeded(1),
		}
		for i := range rapid.IntRange(0, 3).Draw(rt, "files") {
			d.Attachments = append(d.Attachments, BytesFile(fmt.Sprint(i)+rapid.String().Draw(rt, "file"), rapid.SampledFrom([]string{"", "text/plain", "application/pdf", "bad type"}).Draw(rt, "type"),
				rapid.SliceOfN(rapid.Byte(), 0, 400).Draw(rt, "data")))
		}
		var b bytes.Buffer
		_, err := Compose(&b, d)
		require.NoError(rt, err)
		require.NotContains(rt, strings.ReplaceAll(b.String(), "\r\n", ""), "\n")
		for _, l := range strings.Split(b.String(), "\r\n") {
			require.LessOrEqual(rt, len(l), 998)
			for i := range len(l) {
				require.Less(rt, l[i], byte(0x80))
			}
		}
		m, err := ParseBytes(b.Bytes())
		require.NoError(rt, err)
		require.Empty(rt, m.Findings)
		h := m.Root.Header
		require.Equal(rt, cleanText(strings.ToValidUTF8(d.Subject, "\ufffd")), h.Text("Subject"))
		require.Equal(rt, []string{"mittente@alfa.test", "a@b.test"}, []string{ParseAddresses(h.Get("From"))[0].Addr, ParseAddresses(h.Get("To"))[0].Addr})
		require.Len(rt, m.Root.TextParts(), map[bool]int{true: 1, false: 2}[d.HTML == ""])
		lines := func(s string) string {
			return strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.ToValidUTF8(s, "\ufffd"))
		}
		got, exact, err := m.Root.TextParts()[0].Text()
		require.NoError(rt, err)
		require.True(rt, exact)
		require.Equal(rt, strings.TrimSuffix(lines(d.Text), "\n")+"\n", lines(got), "the last line has its end")
		files := m.Root.Attachments()
		require.Len(rt, files, len(d.Attachments))
		for i, f := range files {
			in, err := d.Attachments[i].Open()
			require.NoError(rt, err)
			want, err := io.ReadAll(in)
			require.NoError(rt, err)
			have, err := f.Part.Bytes(0)
			require.NoError(rt, err)
			require.True(rt, bytes.Equal(want, have))
			require.Equal(rt, cleanText(strings.ToValidUTF8(d.Attachments[i].Name, "\ufffd")), f.Sent)
		}
	})
}
