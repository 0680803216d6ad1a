package fatturapa_test

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func structure(t *testing.T, raw []byte, version string) *fatturapa.Report {
	t.Helper()
	f, err := fatturapa.Parse(raw)
	require.NoError(t, err)
	r, err := fatturapa.CheckStructure(f, fatturapa.StructureOptions{Version: version})
	require.NoError(t, err)
	return r
}

func TestStructureAcceptsTheFixtures(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.xml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, p := range paths {
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		require.Empty(t, structure(t, raw, "").Findings, p)
	}
}

// Every row changes one valid document and says what must be reported.
func TestStructureViolations(t *testing.T) {
	const head = "/FatturaElettronica/FatturaElettronicaHeader"
	const body = "/FatturaElettronica/FatturaElettronicaBody"
	cases := []struct {
		name             string
		change           func(root *tnode)
		xpath, jsonPath  string
		actual, expected string
	}{
		{"missing in the middle", func(r *tnode) { drop(r, "FatturaElettronicaHeader/DatiTrasmissione/ProgressivoInvio") },
			head + "/DatiTrasmissione/FormatoTrasmissione", "$.FatturaElettronicaHeader.DatiTrasmissione.FormatoTrasmissione", "FormatoTrasmissione", "ProgressivoInvio"},
		{"missing at the end", func(r *tnode) { drop(r, "FatturaElettronicaBody/DatiBeniServizi/DatiRiepilogo/Imposta") },
			body + "/DatiBeniServizi/DatiRiepilogo/EsigibilitaIVA", "$.FatturaElettronicaBody[0].DatiBeniServizi.DatiRiepilogo[0].EsigibilitaIVA", "EsigibilitaIVA", "Imposta"},
		{"missing last", func(r *tnode) { drop(r, "FatturaElettronicaHeader/DatiTrasmissione/IdTrasmittente/IdCodice") },
			head + "/DatiTrasmissione/IdTrasmittente", "$.FatturaElettronicaHeader.DatiTrasmissione.IdTrasmittente", "", "IdCodice"},
		{"unknown element", func(r *tnode) {
			n := r.find("FatturaElettronicaBody/DatiGenerali")
			n.kids = append(n.kids, &tnode{name: "DatiNuovi"})
		},
			body + "/DatiGenerali/DatiNuovi", "$.FatturaElettronicaBody[0].DatiGenerali.DatiNuovi", "DatiNuovi",
			"DatiOrdineAcquisto, DatiContratto, DatiConvenzione, DatiRicezione, DatiFattureCollegate, DatiSAL, DatiDDT, DatiTrasporto, FatturaPrincipale"},
		{"both names", func(r *tnode) {
			n := r.find("FatturaElettronicaHeader/CessionarioCommittente/DatiAnagrafici/Anagrafica")
			n.kids = append(n.kids, &tnode{name: "Nome", kids: []*tnode{{text: "Ada"}}})
		}, head + "/CessionarioCommittente/DatiAnagrafici/Anagrafica/Nome", "$.FatturaElettronicaHeader.CessionarioCommittente.DatiAnagrafici.Anagrafica.Nome", "Nome", "Titolo, CodEORI"},
		{"repeated", func(r *tnode) {
			n := r.find("FatturaElettronicaHeader/DatiTrasmissione")
			n.kids = append(n.kids, &tnode{name: "CodiceDestinatario", kids: []*tnode{{text: "ABC1234"}}})
		}, head + "/DatiTrasmissione/CodiceDestinatario[2]", "$.FatturaElettronicaHeader.DatiTrasmissione.CodiceDestinatario[1]", "CodiceDestinatario", "ContattiTrasmittente, PECDestinatario"},
		{"value", func(r *tnode) { r.find("FatturaElettronicaHeader/CedentePrestatore/Sede/CAP").set("3512") },
			head + "/CedentePrestatore/Sede/CAP", "$.FatturaElettronicaHeader.CedentePrestatore.Sede.CAP", "3512", "5 digits"},
		{"one decimal", func(r *tnode) {
			r.find("FatturaElettronicaBody/DatiBeniServizi/DettaglioLinee[2]/PrezzoTotale").set("10.0")
		},
			body + "/DatiBeniServizi/DettaglioLinee[2]/PrezzoTotale", "$.FatturaElettronicaBody[0].DatiBeniServizi.DettaglioLinee[1].PrezzoTotale", "10.0", "a number of at most 11 digits, a point and 2-8 decimals"},
		{"euro sign", func(r *tnode) {
			r.find("FatturaElettronicaBody/DatiGenerali/DatiGeneraliDocumento/Causale").set("10 €")
		},
			body + "/DatiGenerali/DatiGeneraliDocumento/Causale", "$.FatturaElettronicaBody[0].DatiGenerali.DatiGeneraliDocumento.Causale[0]", "10 €", "1-200 Latin-1 characters (no €, no typographic quotes or dashes)"},
		{"empty optional", func(r *tnode) {
			n := r.find("FatturaElettronicaHeader/DatiTrasmissione")
			n.kids = append(n.kids, &tnode{name: "PECDestinatario"})
		}, head + "/DatiTrasmissione/PECDestinatario", "$.FatturaElettronicaHeader.DatiTrasmissione.PECDestinatario", "", "an e-mail address of at most 256 characters"},
		{"children in a value", func(r *tnode) {
			r.find("FatturaElettronicaHeader/CedentePrestatore/Sede/CAP").kids = []*tnode{{name: "b"}}
		},
			head + "/CedentePrestatore/Sede/CAP", "$.FatturaElettronicaHeader.CedentePrestatore.Sede.CAP", "b", ""},
		{"text between elements", func(r *tnode) { r.find("FatturaElettronicaBody").kids[0].text = "ciao" },
			body, "$.FatturaElettronicaBody[0]", "", ""},
		{"attribute", func(r *tnode) {
			n := r.find("FatturaElettronicaBody")
			n.attrs = append(n.attrs, xml.Attr{Name: xml.Name{Local: "id"}, Value: "7"})
		}, body + "/@id", "$.FatturaElettronicaBody[0].@id", "7", ""},
		{"no version", func(r *tnode) { r.attrs = r.attrs[1:] }, "/FatturaElettronica/@versione", "$.@versione", "", "versione"},
		{"wrong version", func(r *tnode) { r.attrs[0].Value = "FPC12" }, "/FatturaElettronica/@versione", "$.@versione", "FPC12", "one of: FPA12, FPR12"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := readTree(t, fatturapatest.Invoice(fatturapatest.Options{Lines: 3}))
			c.change(root)
			r := structure(t, root.bytes(), "")
			require.Len(t, r.Findings, 1, "%+v", r.Findings)
			x := r.Findings[0]
			require.Equal(t, "00200", x.Code)
			require.Equal(t, fatturapa.SeverityError, x.Severity)
			require.Equal(t, c.xpath, x.XPath)
			require.Equal(t, c.jsonPath, x.JSONPath)
			require.Equal(t, c.actual, strings.TrimSpace(x.Actual))
			require.Equal(t, c.expected, x.Expected)
			oneLanguage(t, &x)
			require.NotEmpty(t, x.Message.IT)
			require.NotEmpty(t, x.Message.EN)
			require.NotEmpty(t, x.Hint.IT)
			require.NotEmpty(t, x.Hint.EN)
			require.Contains(t, x.Clause, "1.2.3")
			require.Equal(t, "1.2.3", r.SchemaVersion)
			require.False(t, r.Valid())
		})
	}
}

// drop removes an element.
func drop(root *tnode, path string) {
	target := root.find(path)
	root.all(nil, func(n, p *tnode) {
		for i, k := range n.kids {
			if k == target {
				n.kids = append(n.kids[:i:i], n.kids[i+1:]...)
			}
		}
	})
}

func TestStructureKnowsLines(t *testing.T) {
	raw := strings.Replace(string(fatturapatest.Invoice(fatturapatest.Options{})), "<CAP>35122</CAP>", "<CAP>X</CAP>", 1)
	want := 1 + strings.Count(raw[:strings.Index(raw, "<CAP>X")], "\n")
	require.Equal(t, want, structure(t, []byte(raw), "").Findings[0].Line)
}

func TestStructureVersions(t *testing.T) {
	doc := func(tipo, regime string) []byte {
		return fatturapatest.Invoice(fatturapatest.Options{TipoDocumento: tipo,
			Cedente: fatturapatest.Party{Paese: "IT", Codice: fatturapatest.VATNumber(1), Denominazione: "A", RegimeFiscale: regime}})
	}
	cases := []struct {
		raw     []byte
		version string
		valid   bool
	}{
		{doc("TD29", "RF01"), "1.2.3", true}, {doc("TD29", "RF01"), "1.2.2", false},
		{doc("TD28", "RF01"), "1.2.2", true}, {doc("TD28", "RF01"), "1.2.1", false},
		{doc("TD16", "RF01"), "1.2.1", true}, {doc("TD16", "RF01"), "1.2", false},
		{doc("TD01", "RF20"), "1.2.3", true}, {doc("TD01", "RF20"), "1.2.2", false},
		{doc("TD01", "RF19"), "1.2", true}, {doc("TD01", "RF03"), "1.2", false},
	}
	for _, c := range cases {
		require.Equal(t, c.valid, structure(t, c.raw, c.version).Valid(), "%s", c.version)
	}
	f, err := fatturapa.Parse(cases[0].raw)
	require.NoError(t, err)
	for _, v := range []string{"9", "1.0", "1.0.2"} {
		_, err = fatturapa.CheckStructure(f, fatturapa.StructureOptions{Version: v})
		require.Error(t, err, v)
	}
}

func TestStructureStopsAtFifty(t *testing.T) {
	for errs, want := range map[int]struct{ findings, omitted int }{49: {49, 0}, 50: {50, 0}, 51: {51, 1}, 80: {51, 30}} {
		raw := fatturapatest.Invoice(fatturapatest.Options{Lines: 100})
		text := strings.Replace(string(raw), "<UnitaMisura>PZ<", "<UnitaMisura><", errs)
		r := structure(t, []byte(text), "")
		require.Len(t, r.Findings, want.findings)
		require.Equal(t, want.omitted, r.Omitted)
		require.Equal(t, errs > 50, r.Findings[len(r.Findings)-1].Code == "00201")
	}
}

func TestStructureReportsDeviationsAndNamespaces(t *testing.T) {
	raw := string(fatturapatest.Invoice(fatturapatest.Options{}))
	r := structure(t, []byte("\n"+raw), "")
	require.Len(t, r.Findings, 1)
	require.Equal(t, "leading_space", r.Findings[0].Actual)
	flat := strings.NewReplacer("<p:", "<", "</p:", "</", "xmlns:p=", "xmlns=").Replace(raw)
	r = structure(t, []byte(flat), "")
	require.False(t, r.Valid())
	require.Contains(t, r.Findings[0].Hint.EN, "Only the root carries the namespace")
}

func TestStructureOfInstanceAttributes(t *testing.T) {
	with := func(attr string) []byte {
		raw := string(fatturapatest.Invoice(fatturapatest.Options{}))
		return []byte(strings.Replace(strings.Replace(raw, " versione=", ` xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" versione=`, 1),
			"<FatturaElettronicaBody>", "<FatturaElettronicaBody "+attr+">", 1))
	}
	require.True(t, structure(t, with(`xsi:schemaLocation="a b"`), "").Valid())
	require.True(t, structure(t, with(`xsi:type="p:FatturaElettronicaBodyType"`), "").Valid())
	require.False(t, structure(t, with(`xsi:type="p:AllegatiType"`), "").Valid())
	require.False(t, structure(t, with(`xsi:nil="true"`), "").Valid())
}

func TestStructureOfSignatures(t *testing.T) {
	raw, err := os.ReadFile("testdata/fpa12_completa.xml")
	require.NoError(t, err)
	for name, edit := range map[string][2]string{
		"repeated id":       {`Id="ref1"`, `Id="sig1"`},
		"id is no name":     {`Id="ref1"`, `Id="1"`},
		"missing algorithm": {`<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>`, `<ds:SignatureMethod/>`},
		"not base64":        {"AAECAwQF", "AAECAwQ"},
		"inside the object": {"AAEC</ds:DigestValue>", "A</ds:DigestValue>"},
	} {
		require.Equal(t, 1, strings.Count(string(raw), edit[0]), name)
		r := structure(t, []byte(strings.Replace(string(raw), edit[0], edit[1], 1)), "")
		require.Len(t, r.Findings, 1, name)
	}
}
