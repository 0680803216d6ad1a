package render

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
)

// TestEveryElementHasWords walks the fixtures in which every element of the
// formats occurs.
func TestEveryElementHasWords(t *testing.T) {
	for _, name := range []string{"fpa12_completa", "fsm10_completa"} {
		raw, err := os.ReadFile("../testdata/" + name + ".xml")
		require.NoError(t, err)
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		seen := 0
		var walk func(e fatturapa.Element)
		walk = func(e fatturapa.Element) {
			for c := range e.Children() {
				if c.Namespace() == signatureNamespace {
					continue
				}
				seen++
				if n := c.Name(); !strings.HasPrefix(n, "FatturaElettronica") {
					require.Contains(t, elements, n)
				}
				walk(c)
			}
		}
		walk(f.Root())
		require.Greater(t, seen, 50)
	}
	for name, d := range elements {
		require.NotEmpty(t, d.label[italian], name)
		require.NotEmpty(t, d.label[english], name)
		if d.list != noList {
			require.Contains(t, codeLists, d.list, name)
		}
	}
	for _, codes := range codeLists {
		for code, w := range codes {
			require.NotEmpty(t, w[italian], code)
			require.NotEmpty(t, w[english], code)
		}
	}
}

// TestEveryCodeHasWords takes the codes that the structure check accepts: those of
// the newest schema are found by asking it.
func TestEveryCodeHasWords(t *testing.T) {
	raw, err := os.ReadFile("../testdata/fpa12_completa.xml")
	require.NoError(t, err)
	text := string(raw)
	for element, candidates := range map[string][]string{
		"TipoDocumento": numbered("TD", 40), "RegimeFiscale": numbered("RF", 40), "ModalitaPagamento": numbered("MP", 40),
		"CondizioniPagamento": numbered("TP", 9), "TipoCassa": numbered("TC", 40), "TipoRitenuta": numbered("RT", 20),
		"EsigibilitaIVA": capitals(), "CausalePagamento": append(capitals(), lettered()...), "Natura": natures(),
		"TipoCessionePrestazione": pairs(), "SoggettoEmittente": pairs(), "SocioUnico": pairs(), "StatoLiquidazione": pairs(), "Tipo": pairs(),
	} {
		open, shut := "<"+element+">", "</"+element+">"
		from := strings.Index(text, open)
		require.Positive(t, from, element)
		to := from + strings.Index(text[from:], shut)
		accepted := 0
		for _, code := range candidates {
			f, err := fatturapa.Parse([]byte(text[:from+len(open)] + code + text[to:]))
			require.NoError(t, err)
			if refuses(f) {
				continue
			}
			accepted++
			require.Contains(t, codeLists[elements[element].list], code, element)
		}
		require.Greater(t, accepted, 1, element)
	}
}

// refuses reports whether the structure of a file is wrong.
func refuses(f *fatturapa.File) bool {
	for _, x := range fatturapa.Check(f, fatturapa.Options{}).Findings {
		if x.Code == "00200" {
			return true
		}
	}
	return false
}

func numbered(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, prefix+string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	return out
}

func capitals() []string {
	var out []string
	for c := 'A'; c <= 'Z'; c++ {
		out = append(out, string(c))
	}
	return out
}

func lettered() []string {
	out := []string{"ZO"}
	for _, c := range capitals() {
		out = append(out, c+"1", c+"2", c+"3")
	}
	return out
}

func natures() []string {
	var out []string
	for _, n := range "123456789" {
		out = append(out, "N"+string(n))
		for _, m := range "123456789" {
			out = append(out, "N"+string(n)+"."+string(m))
		}
	}
	return out
}

func pairs() []string {
	var out []string
	for _, a := range capitals() {
		for _, b := range capitals() {
			out = append(out, a+b)
		}
	}
	return out
}
