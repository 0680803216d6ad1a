package pec

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestF5HTMLIsShownAsWords: nothing of a page runs, loads or disguises itself.
func TestF5HTMLIsShownAsWords(t *testing.T) {
	for in, want := range map[string]string{
		"<p>Buongiorno,<br>&egrave; tutto.</p>":                                      "Buongiorno,\nè tutto.",
		"a<script>alert('<p>x')</script>b":                                           "ab",
		"<SCRIPT src=x>1</scripty></SCRIPT >c":                                       "c",
		"<style>p{background:url(http://x.test/)}</style>d":                          "d",
		`<img src="http://x.test/pixel.gif" alt="logo">testo`:                        "[image logo] testo",
		`<a href="http://evil.test/">https://banca.test</a>`:                         "https://banca.test <http://evil.test/>",
		`<a href='file:///etc/passwd'>qui</a> <a href=javascript:alert(1)>o</a>`:     "qui <file:///etc/passwd> o <javascript:alert(1)>",
		`<form action="http://x.test"><input value="invia" onclick="f('>')"></form>`: "[left out: input invia]",
		"<iframe src=x><p>dentro</p></iframe>fuori":                                  "[left out: iframe] fuori",
		"<!-- <p>nascosto</p> -->visto <!DOCTYPE html>":                              "visto",
		"<!-- mai chiuso": "",
		"1 < 2 e 3 > 2":   "1 < 2 e 3 > 2",
		"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>": "a b\n\nc",
		"fattura\u202efdp.exe \x1b[2Jrosso":                               "fatturafdp.exe [2Jrosso",
		"<a href=\"http://x.test/\u202e\x1b]0;\">x</a>":                   "x <http://x.test/]0;>",
		"<p":                            "",
		"<img alt=\"mai chiuso":         "[image mai chiuso]",
		"perch\xe9 &#27;[1m &#x202e;no": "perch\ufffd [1m no",
	} {
		require.Equal(t, want, strings.TrimSpace(HTMLText(in)), "%q", in)
	}
	long := HTMLText(strings.Repeat("<p>parola</p>", 1<<20))
	require.LessOrEqual(t, len(long), maxPlain+100)
}

// TestF5PlainTextOfAMessage: the plain part counts before the rich one, the original before its envelope.
func TestF5PlainTextOfAMessage(t *testing.T) {
	w := newWorld(t)
	d := draft()
	d.Text, d.HTML = "riga \x1b[31muno\r\n\u202eriga due", "<p>ricca</p>"
	m, err := ParseBytes(composed(t, d))
	require.NoError(t, err)
	_, r := written(t, w.alfa, NewTransito(m, envelopeOf(d), "1@pec.alfa.test", nil).Busta(at))
	text, err := r.PlainText()
	require.NoError(t, err)
	require.Equal(t, "riga [31muno\nriga due\n", text)
	rich := readAll(t, []byte("Content-Type: text/html\r\n\r\n<p>solo <b>ricca</b></p><script>x()</script>"))
	text, err = rich.PlainText()
	require.NoError(t, err)
	require.Equal(t, "solo ricca\n", text)
	none := readAll(t, []byte("Content-Type: application/pdf; name=a.pdf\r\n\r\nx"))
	text, err = none.PlainText()
	require.NoError(t, err)
	require.Empty(t, text)
}

// FuzzHTMLText: whatever comes in, what goes out steers nothing.
func FuzzHTMLText(f *testing.F) {
	for _, s := range []string{"<p>a</p>", "<a href='x'>b</a>", "<script>", "&#27;[0m", "<!--", "<img alt=\"", "a\u202eb", "<a href=", "<p a='>'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		out := HTMLText(s)
		for line := range strings.Lines(out) {
			require.Equal(t, cleanText(strings.TrimSuffix(line, "\n")), strings.TrimSuffix(line, "\n"))
		}
	})
}
