package fatturapa_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// Hostile files near the size limit cost no more than an honest one of that size,
// with a wide margin for a slow machine.
func TestHostileFilesAreCheap(t *testing.T) {
	const size = 4_900_000
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	numbered := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	body := func(inner string) string {
		return wrap("<FatturaElettronicaBody><DatiGenerali><DatiGeneraliDocumento>" + inner + "</DatiGeneraliDocumento></DatiGenerali></FatturaElettronicaBody>")
	}
	lines := func(inner string) string {
		return wrap("<FatturaElettronicaBody><DatiBeniServizi>" + inner + "</DatiBeniServizi></FatturaElettronicaBody>")
	}
	var bodies strings.Builder
	for i := 0; bodies.Len() < size-400; i++ {
		fmt.Fprintf(&bodies, "<FatturaElettronicaBody><DatiGenerali><DatiGeneraliDocumento><Data>%04d-%02d-01</Data><Numero>1</Numero><Art73>SI</Art73></DatiGeneraliDocumento></DatiGenerali></FatturaElettronicaBody>", 1+i/12, 1+i%12)
	}
	docs := map[string]string{
		"empty elements":       wrap(fill("<a/>")),
		"comments in a text":   body("<Numero>" + fill("a<!---->") + "</Numero>"),
		"references":           body("<Numero>" + fill("&#65;&lt;") + "</Numero>"),
		"carriage returns":     body("<Causale>" + fill("a\r\nb\r") + "</Causale>"),
		"instructions":         wrap(fill("<?a b?>")),
		"one long text":        body("<Causale>" + fill("è") + "</Causale>"),
		"one long attribute":   `<p:FatturaElettronica versione="` + fill("a") + `" ` + ns12 + `/>`,
		"brackets":             body("<Causale>" + fill("]] ") + "</Causale>"),
		"ampersand at the end": body("<Causale>" + fill("a") + "&</Causale>"),
		"repeated siblings":    body(fill("<Causale>x</Causale>")),
		"many bodies":          wrap(fill("<FatturaElettronicaBody/>")),
		"lot with Art73":       wrap(bodies.String()),
		"many rates":           lines(numbered("<DettaglioLinee><PrezzoTotale>1.00</PrezzoTotale><AliquotaIVA>%d.01</AliquotaIVA></DettaglioLinee>", 45_000) + "<DatiRiepilogo><AliquotaIVA>1.00</AliquotaIVA></DatiRiepilogo>"),
		"many natures":         lines(numbered("<DettaglioLinee><Natura>N%d</Natura></DettaglioLinee>", 90_000) + "<DatiRiepilogo/>"),
		"many discounts": lines("<DettaglioLinee><PrezzoUnitario>1.00</PrezzoUnitario>" + strings.Repeat("<ScontoMaggiorazione><Tipo>SC</Tipo><Percentuale>99.99</Percentuale></ScontoMaggiorazione>", 50_000) +
			"<PrezzoTotale>1.00</PrezzoTotale></DettaglioLinee>"),
		"discounts below the bound": lines(strings.Repeat("<DettaglioLinee><PrezzoUnitario>1.12345678</PrezzoUnitario>"+strings.Repeat("<ScontoMaggiorazione><Tipo>SC</Tipo><Percentuale>99.99</Percentuale></ScontoMaggiorazione>", 100)+
			"<PrezzoTotale>1.00</PrezzoTotale></DettaglioLinee>", 500)),
		"unknown attributes":  wrap(fill(`<a b="1" c="2"/>`)),
		"namespaces":          wrap(numbered(`<a xmlns:n%d="urn:x"/>`, 200_000)),
		"decimals of digits":  lines("<DettaglioLinee><PrezzoUnitario>" + fill("9") + "</PrezzoUnitario></DettaglioLinee>"),
		"unclosed":            wrap("")[:90] + strings.Repeat("<a>", 60),
		"closing tags":        fill("</a>"),
		"angle brackets":      fill("<"),
		"unterminated entity": body("<Causale>&" + fill("a") + "</Causale>"),
	}
	for name, doc := range docs {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			f, err := fatturapa.Parse([]byte(doc))
			if err == nil {
				r := fatturapa.Check(f, fatturapa.Options{})
				require.False(t, r.Valid())
				require.LessOrEqual(t, len(r.Findings), 251)
				for _, x := range r.Findings {
					require.Less(t, len(x.Actual), 300)
				}
			}
			require.Less(t, time.Since(start), 15*time.Second)
		})
	}
}

func TestNamespacePrefixesAreBounded(t *testing.T) {
	var open, shut strings.Builder
	for i := range 40 {
		fmt.Fprintf(&open, `<a xmlns:a%d="urn:a" xmlns:b%d="urn:b" xmlns:c%d="urn:c" xmlns:d%d="urn:d">`, i, i, i, i)
		shut.WriteString("</a>")
	}
	_, err := fatturapa.Parse([]byte(wrap(open.String() + shut.String())))
	var pe *fatturapa.ParseError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, fatturapa.ErrTooMany, pe.Code)
}

// Check never panics, whatever Parse lets through, and says the same twice.
func FuzzCheck(f *testing.F) {
	f.Add(fatturapatest.Invoice(fatturapatest.Options{Bodies: 2}), int64(0))
	f.Add(fatturapatest.Invoice(fatturapatest.Options{Formato: "FSM10"}), int64(1_600_000_000))
	f.Add(fatturapatest.Invoice(fatturapatest.Options{Formato: "FPA12", Attachment: []byte("x")}), int64(1_760_000_000))
	f.Add([]byte(wrap("<FatturaElettronicaBody><DatiBeniServizi><DettaglioLinee><PrezzoUnitario>-1</PrezzoUnitario><Quantita>x</Quantita><AliquotaIVA>0.5</AliquotaIVA></DettaglioLinee><DatiRiepilogo/></DatiBeniServizi></FatturaElettronicaBody>")), int64(5))
	f.Fuzz(func(t *testing.T, raw []byte, at int64) {
		file, err := fatturapa.Parse(raw)
		if err != nil {
			return
		}
		o := fatturapa.Options{FileName: "IT01234567890_00001.xml"}
		if at != 0 {
			o.At = time.Unix(at%4_000_000_000, 0)
		}
		first, second := fatturapa.Check(file, o), fatturapa.Check(file, o)
		require.Equal(t, first, second)
	})
}
