package fatturapa_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// roundTrip goes XML, JSON, XML, JSON and compares the data.
func roundTrip(t *testing.T, raw []byte) []byte {
	t.Helper()
	f, err := fatturapa.Parse(raw)
	require.NoError(t, err)
	first := f.JSON()
	require.True(t, json.Valid(first))
	back, err := fatturapa.FromJSON(first)
	require.NoError(t, err)
	g, err := fatturapa.Parse(back)
	require.NoError(t, err)
	require.Equal(t, string(first), string(g.JSON()))
	before, after := fatturapa.Check(f, fatturapa.Options{}), fatturapa.Check(g, fatturapa.Options{})
	require.Len(t, after.Findings, len(before.Findings))
	for i := range before.Findings {
		require.Equal(t, before.Findings[i].Code, after.Findings[i].Code)
		require.Equal(t, before.Findings[i].JSONPath, after.Findings[i].JSONPath)
	}
	return back
}

func TestJSONRoundTrip(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.xml")
	require.NoError(t, err)
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		back := roundTrip(t, raw)
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		g, err := fatturapa.Parse(back)
		require.NoError(t, err)
		require.Equal(t, texts(f), texts(g), p)
	}
	samples, err := filepath.Glob(reference + "/samples/*.xml")
	require.NoError(t, err)
	for _, p := range samples {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		if f, err := fatturapa.Parse(raw); err == nil && fatturapa.Check(f, fatturapa.Options{}).Valid() {
			roundTrip(t, raw)
		}
	}
}

// texts lists path and text of every element outside the signature.
func texts(f *fatturapa.File) []string {
	var out []string
	var walk func(e fatturapa.Element)
	walk = func(e fatturapa.Element) {
		if e.Name() == "Signature" {
			return
		}
		out = append(out, e.XPath()+"="+e.Text())
		for c := range e.Children() {
			walk(c)
		}
	}
	walk(f.Root())
	return out
}

// The JSON of the fixtures is frozen: programs of partners read it.
func TestJSONGolden(t *testing.T) {
	for _, name := range []string{"fpr12", "fpa12_completa", "fsm10_completa", "lotto"} {
		raw, err := os.ReadFile("testdata/" + name + ".xml")
		require.NoError(t, err)
		f, err := fatturapa.Parse(raw)
		require.NoError(t, err)
		require.Empty(t, f.JSONLoss())
		var b bytes.Buffer
		require.NoError(t, json.Indent(&b, f.JSON(), "", " "))
		if *update {
			require.NoError(t, os.WriteFile("testdata/"+name+".json", b.Bytes(), 0o644))
		}
		want, err := os.ReadFile("testdata/" + name + ".json")
		require.NoError(t, err)
		require.Equal(t, string(want), b.String(), name)
	}
}

// Whatever the file, valid or not: where JSONLoss lists nothing, XML, JSON, XML,
// JSON is the identity on the data; where it lists something, that is a reason.
func TestJSONLosesNothingThatItDoesNotName(t *testing.T) {
	bases := append(basesFor(t, fatturapa.SchemaOrdinary, "1.2.3"), basesFor(t, fatturapa.SchemaSimplified, "1.0.2")...)
	names := []string{"Sconosciuto", "Note"}
	for _, b := range bases {
		b.all(nil, func(n, _ *tnode) {
			if !slices.Contains(names, n.name) {
				names = append(names, n.name)
			}
		})
	}
	whole, named := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		doc := bases[rapid.IntRange(0, len(bases)-1).Draw(t, "base")].clone()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7))
		how := ""
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			how += mutate(r, doc, names) + "; "
		}
		f, err := fatturapa.Parse(doc.bytes())
		if err != nil {
			return
		}
		first := f.JSON()
		back, err := fatturapa.FromJSON(first)
		if lost := f.JSONLoss(); len(lost) > 0 {
			named++
			return
		}
		require.NoError(t, err, how)
		g, err := fatturapa.Parse(back)
		require.NoError(t, err, how)
		second := g.JSON() // keys that were out of order are in the order of the schema now
		require.JSONEq(t, string(first), string(second), how)
		again, err := fatturapa.FromJSON(second)
		require.NoError(t, err, how)
		require.Equal(t, string(back), string(again), how)
		// White space in a block without elements is no data.
		blank := func(list []string) []string {
			for i := range list {
				list[i] = strings.TrimSpace(list[i])
			}
			slices.Sort(list)
			return list
		}
		require.Equal(t, blank(texts(f)), blank(texts(g)), how)
		require.Equal(t, f.Versione, g.Versione)
		require.Equal(t, f.SistemaEmittente, g.SistemaEmittente)
		whole++
	})
	t.Logf("%d files came back whole, of %d something is named", whole, named)
	require.Greater(t, whole, 30)
	require.Positive(t, named)
}

func TestJSONLoss(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                  {wrap("<FatturaElettronicaHeader/>"), ""},
		"schema location":          {strings.Replace(wrap(""), "versione", `xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b" versione`, 1), ""},
		"attribute of the root":    {strings.Replace(wrap(""), "versione", `nota="x" versione`, 1), "/FatturaElettronica/@nota"},
		"attribute":                {wrap(`<FatturaElettronicaHeader id="1"/>`), "/FatturaElettronica/FatturaElettronicaHeader/@id"},
		"element":                  {wrap(`<Note>x</Note>`), "/FatturaElettronica/Note"},
		"element of another space": {wrap(`<FatturaElettronicaBody><a:X xmlns:a="urn:a"/></FatturaElettronicaBody>`), "/FatturaElettronica/FatturaElettronicaBody/X"},
		"text between elements":    {wrap(`a<FatturaElettronicaHeader/>b`), "/FatturaElettronica/text()"},
		"text instead of elements": {wrap(`<FatturaElettronicaHeader>a</FatturaElettronicaHeader>`), "/FatturaElettronica/FatturaElettronicaHeader/text()"},
		"elements in a value":      {wrap(`<FatturaElettronicaHeader><SoggettoEmittente><b/></SoggettoEmittente></FatturaElettronicaHeader>`), "/FatturaElettronica/FatturaElettronicaHeader/SoggettoEmittente/b"},
		"signature":                {wrap(`<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Id="a"/>`), ""},
	} {
		f, err := fatturapa.Parse([]byte(c.in))
		require.NoError(t, err, name)
		require.Equal(t, c.want, strings.Join(f.JSONLoss(), " "), name)
	}
	f, err := fatturapa.Parse([]byte(wrap(strings.Repeat("<X/>", 100))))
	require.NoError(t, err)
	require.Len(t, f.JSONLoss(), 50)
}

func TestJSONForm(t *testing.T) {
	f, err := fatturapa.Parse(fatturapatest.Invoice(fatturapatest.Options{Numero: "A\"<&\\1", Lines: 1}))
	require.NoError(t, err)
	var v struct {
		Versione string `json:"@versione"`
		Body     []struct {
			DatiGenerali struct {
				DatiGeneraliDocumento struct {
					Numero  string
					Causale []string
				}
			}
			DatiBeniServizi struct {
				DettaglioLinee []struct{ PrezzoTotale string }
			}
		} `json:"FatturaElettronicaBody"`
	}
	require.NoError(t, json.Unmarshal(f.JSON(), &v))
	require.Equal(t, "FPR12", v.Versione)
	require.Equal(t, "A\"<&\\1", v.Body[0].DatiGenerali.DatiGeneraliDocumento.Numero)
	require.Equal(t, []string{"Vendita di ceralacca e timbri"}, v.Body[0].DatiGenerali.DatiGeneraliDocumento.Causale)
	require.Equal(t, f.Bodies[0].DatiBeniServizi.DettaglioLinee[0].PrezzoTotale.String(), v.Body[0].DatiBeniServizi.DettaglioLinee[0].PrezzoTotale)
}

// A file with the namespace on every element has the same data.
func TestJSONOfADefaultNamespace(t *testing.T) {
	raw := string(fatturapatest.Invoice(fatturapatest.Options{}))
	flat := strings.NewReplacer("<p:", "<", "</p:", "</", "xmlns:p=", "xmlns=").Replace(raw)
	f, err := fatturapa.Parse([]byte(raw))
	require.NoError(t, err)
	g, err := fatturapa.Parse([]byte(flat))
	require.NoError(t, err)
	require.Equal(t, string(f.JSON()), string(g.JSON()))
}

func TestFromJSONOrdersAndTakesNumbers(t *testing.T) {
	xml, err := fatturapa.FromJSON([]byte(`{"FatturaElettronicaBody":[{"DatiGenerali":{"DatiGeneraliDocumento":{"Numero":17,"Data":"2026-01-02","ImportoTotaleDocumento":122.00,"TipoDocumento":"TD01"}}}],"@versione":"FPR12"}`))
	require.NoError(t, err)
	f, err := fatturapa.Parse(xml)
	require.NoError(t, err)
	doc := f.Bodies[0].Documento()
	require.Equal(t, "17", doc.Numero)
	require.Equal(t, "122.00", doc.ImportoTotaleDocumento.String())
	require.Less(t, strings.Index(string(xml), "TipoDocumento"), strings.Index(string(xml), "Numero"))
}

func TestFromJSONRefuses(t *testing.T) {
	for in, want := range map[string]string{
		``:                        "unexpected EOF",
		`[]`:                      "must be an object",
		`{`:                       "JSON at byte",
		`{}`:                      "@versione",
		`{"@versione":"FPX"}`:     "@versione",
		`{"@xmlns":"urn:x"}`:      "namespace",
		`{"@versione":"FPR12"`:    "JSON at byte",
		`{"@versione":"FPR12"} x`: "after the JSON value",
		`{"@versione":"FPR12","Intestazione":{}}`:                                         "$.Intestazione is not in the schema",
		`{"@versione":"FPR12","FatturaElettronicaHeader":"x"}`:                            "$.FatturaElettronicaHeader must be an object",
		`{"@versione":"FPR12","FatturaElettronicaHeader":null}`:                           "leave out",
		`{"@versione":"FPR12","FatturaElettronicaHeader":true}`:                           "leave out",
		`{"@versione":"FPR12","FatturaElettronicaHeader":{"X":1}}`:                        "$.FatturaElettronicaHeader.X",
		`{"@versione":"FPR12","@versione":"FPR12"}`:                                       "written twice",
		`{"@versione":"FPR12","FatturaElettronicaBody":[[{}]]}`:                           "array inside an array",
		`{"@versione":"FPR12","FatturaElettronicaHeader":{"SoggettoEmittente":{}}}`:       "must be a text",
		`{"@versione":"FPR12","FatturaElettronicaHeader":{"SoggettoEmittente":"\u0001"}}`: "does not allow",
		"{\"@versione\":\"FPR12\",\"x\":\"\xff\"}":                                        "UTF-8",
		strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50):                       "nested",
	} {
		_, err := fatturapa.FromJSON([]byte(in))
		require.ErrorContains(t, err, want, in)
	}
	_, err := fatturapa.FromJSON(make([]byte, 10_000_001))
	require.ErrorContains(t, err, "limit")
}

func FuzzFromJSON(f *testing.F) {
	for _, o := range []fatturapatest.Options{{}, {Formato: "FSM10"}, {Formato: "FPA12", Bodies: 2}} {
		file, err := fatturapa.Parse(fatturapatest.Invoice(o))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file.JSON())
	}
	f.Add([]byte(`{"@versione":"FPR12","FatturaElettronicaHeader":{"SoggettoEmittente":"\r\n<&>"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		xml, err := fatturapa.FromJSON(data)
		if err != nil {
			return
		}
		file, err := fatturapa.Parse(xml)
		require.NoError(t, err)
		again, err := fatturapa.FromJSON(file.JSON())
		require.NoError(t, err)
		require.Equal(t, string(xml), string(again))
	})
}
