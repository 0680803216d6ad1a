package fatturapa_test

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

var update = flag.Bool("update", false, "write the golden files")

// fixtures are the generated files of testdata; the others there are written by hand.
var fixtures = map[string]fatturapatest.Options{
	"fpr12.xml": {},
	"fpa12.xml": {Formato: "FPA12", Lines: 3},
	"fsm10.xml": {Formato: "FSM10", Lines: 2},
	"td29.xml":  {TipoDocumento: "TD29", Numero: "OM-1"},
	"td17.xml": {TipoDocumento: "TD17", Numero: "RC 4", Collegata: "2026-03-02",
		Cedente: fatturapatest.Party{Paese: "DE", Codice: "129273398", Denominazione: "Siegelwerk GmbH", RegimeFiscale: "RF18"}},
	"lotto.xml":    {Bodies: 2, Numero: "77/A"},
	"allegato.xml": {Attachment: []byte("riga uno\nriga due\n"), CodiceDestinatario: "ABC1234"},
}

func TestFixturesAreWhatTheGeneratorWrites(t *testing.T) {
	for name, opts := range fixtures {
		got := fatturapatest.Invoice(opts)
		path := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), name)
	}
}

func TestGeneratedInvoicesReadBack(t *testing.T) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Numero: "A<&>9", Data: "2026-01-31", CodiceDestinatario: "KRRH6B9", Progressivo: "zz9", Lines: 4})
	f, err := fatturapa.Parse(raw)
	require.NoError(t, err)
	require.Equal(t, "FPR12", f.Formato())
	require.Equal(t, fatturapa.SchemaOrdinary, f.Schema)
	require.Equal(t, raw, f.Original())
	tr := f.Header.DatiTrasmissione
	require.Equal(t, "KRRH6B9", tr.CodiceDestinatario)
	require.Equal(t, "zz9", tr.ProgressivoInvio)
	require.Equal(t, "IT"+fatturapatest.VATNumber(7), tr.IdTrasmittente.String())
	require.Len(t, f.Bodies, 1)
	doc := f.Bodies[0].Documento()
	require.Equal(t, "A<&>9", doc.Numero)
	require.Equal(t, 20260131, doc.Data.Ordinal())
	lines := f.Bodies[0].DatiBeniServizi.DettaglioLinee
	require.Len(t, lines, 4)
	require.Equal(t, 3, lines[2].NumeroLinea)
	require.Equal(t, "Ceralacca rossa in stecche, qualità da protocollo", lines[2].Descrizione)
	require.Equal(t, "CL-00003", lines[2].CodiceArticolo[0].CodiceValore)
	e := f.Element(lines[2].Node)
	require.Equal(t, "/FatturaElettronica/FatturaElettronicaBody/DatiBeniServizi/DettaglioLinee[3]", e.XPath())
	require.Equal(t, "IT60X0542811101000000123456", f.Bodies[0].DatiPagamento[0].DettaglioPagamento[0].IBAN)
}

func TestSizeIsReached(t *testing.T) {
	for _, size := range []int{10_000, 100_000, 4_600_000} {
		raw := fatturapatest.Invoice(fatturapatest.Options{Size: size})
		require.GreaterOrEqual(t, len(raw), size)
		require.Less(t, len(raw), size+2000)
	}
}

func TestSimplifiedReadsIntoTheSameView(t *testing.T) {
	raw := fatturapatest.Invoice(fatturapatest.Options{Formato: "FSM10", TipoDocumento: "TD08", Lines: 2, Collegata: "2026-01-07"})
	f, err := fatturapa.Parse(raw)
	require.NoError(t, err)
	require.Equal(t, fatturapa.SchemaSimplified, f.Schema)
	require.Equal(t, "FSM10", f.Formato())
	ced := f.Header.CedentePrestatore
	require.Equal(t, fatturapatest.VATNumber(101), ced.DatiAnagrafici.IdFiscaleIVA.IdCodice)
	require.Equal(t, "Officine Ceralacca S.r.l.", ced.DatiAnagrafici.Anagrafica.Nominativo())
	require.Equal(t, "RF01", ced.DatiAnagrafici.RegimeFiscale)
	require.Equal(t, fatturapatest.VATNumber(202), f.Header.CessionarioCommittente.DatiAnagrafici.IdFiscaleIVA.IdCodice)
	b := f.Bodies[0]
	require.Equal(t, "2026-01-07", string(b.DatiGenerali.DatiFatturaRettificata.DataFR))
	require.Len(t, b.BeniServizi, 2)
	require.Equal(t, "91.50", b.BeniServizi[1].Importo.String())
	require.Equal(t, "22.00", b.BeniServizi[1].Aliquota.String())
}
