package invoice

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa"
)

// linesFile is a file of lines with these descriptions; compare looks at any tree.
func linesFile(t require.TestingT, lines ...string) *fatturapa.File {
	var b strings.Builder
	b.WriteString(`<p:FatturaElettronica xmlns:p="http://ivaservizi.agenziaentrate.gov.it/docs/xsd/fatture/v1.2" versione="FPR12"><FatturaElettronicaHeader/><FatturaElettronicaBody><DatiBeniServizi>`)
	for _, l := range lines {
		fmt.Fprintf(&b, "<DettaglioLinee><NumeroLinea>1</NumeroLinea><Descrizione>%s</Descrizione></DettaglioLinee>", l)
	}
	b.WriteString("</DatiBeniServizi></FatturaElettronicaBody></p:FatturaElettronica>")
	f, err := fatturapa.Parse([]byte(b.String()))
	require.NoError(t, err)
	return f
}

func differences(before, after *fatturapa.File) []*invoicev1.Difference {
	c := comparison{}
	c.elements(before.Root(), after.Root())
	return c.found
}

func TestCompare(t *testing.T) {
	line := "/FatturaElettronica/FatturaElettronicaBody/DatiBeniServizi/DettaglioLinee"
	for name, c := range map[string]struct {
		before, after string
		want          []string
	}{
		"the same":            {"a b c", "a b c", nil},
		"changed":             {"a b c", "a x c", []string{line + "[2]/Descrizione: b -> x"}},
		"one line":            {"a", "x", []string{line + "/Descrizione: a -> x"}},
		"new in the middle":   {"a b c", "a x b c", []string{line + "[2]/NumeroLinea:  -> 1", line + "[2]/Descrizione:  -> x"}},
		"gone at the start":   {"a b c", "b c", []string{line + "[1]/NumeroLinea: 1 -> ", line + "[1]/Descrizione: a -> "}},
		"changed and new":     {"a b c d", "a x c d e", []string{line + "[2]/Descrizione: b -> x", line + "[5]/NumeroLinea:  -> 1", line + "[5]/Descrizione:  -> e"}},
		"many gone":           {"a b c", "", []string{line + "[1]/NumeroLinea: 1 -> ", line + "[1]/Descrizione: a -> ", line + "[2]/NumeroLinea: 1 -> ", line + "[2]/Descrizione: b -> ", line + "[3]/NumeroLinea: 1 -> ", line + "[3]/Descrizione: c -> "}},
		"attachments clipped": {"a", strings.Repeat("y", 5000), []string{line + "/Descrizione: a -> " + strings.Repeat("y", 1000) + "… (5000 bytes)"}},
	} {
		var got []string
		for _, d := range differences(linesFile(t, strings.Fields(c.before)...), linesFile(t, strings.Fields(c.after)...)) {
			got = append(got, d.GetXpath()+": "+d.GetBefore()+" -> "+d.GetAfter())
		}
		require.Equal(t, c.want, got, name)
	}
}

// There are no differences exactly when the files are equal, in both directions.
func TestCompareBothWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 12)
		a, b := linesFile(t, words.Draw(t, "a")...), linesFile(t, words.Draw(t, "b")...)
		if len(differences(a, a)) != 0 {
			t.Fatal("differs from itself")
		}
		there, back := differences(a, b), differences(b, a)
		same := len(there) == 0
		if same != (len(back) == 0) {
			t.Fatalf("%d differences there, %d back", len(there), len(back))
		}
		if same != (strings.Join(texts(children(a)), "") == strings.Join(texts(children(b)), "")) {
			t.Fatal("equal files have no differences, and others have some")
		}
	})
}

func children(f *fatturapa.File) (out []fatturapa.Element) {
	for c := range f.Root().Children() {
		out = append(out, c)
	}
	return out
}
