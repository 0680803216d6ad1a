package compose_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/compose"
)

// flat is a document on one line, so that a pattern can speak of elements in order.
func flat(xml string) string {
	return regexp.MustCompile(`>\s+<`).ReplaceAllString(xml, "><")
}

// Everything that a professional's invoice may need, each with the document that
// shows it: what must stand there, and what must not.
func TestWhatAnInvoiceMayNeed(t *testing.T) {
	for _, c := range []struct{ noun, file, want, not string }{
		{"totals", "mixed_rates_natures", `<ImportoTotaleDocumento>[0-9.]+</ImportoTotaleDocumento>`, ""},
		{"VAT summaries, one for each rate and nature", "mixed_rates_natures", `<DatiRiepilogo><AliquotaIVA>22.00</AliquotaIVA>.*<DatiRiepilogo><AliquotaIVA>0.00</AliquotaIVA><Natura>`, ""},
		{"Natura with its legal reference", "mixed_rates_natures", `<Natura>N[0-9.]+</Natura>.*<RiferimentoNormativo>`, ""},
		{"cassa previdenziale with VAT", "professional_fund_withholding", `<DatiCassaPrevidenziale><TipoCassa>TC..</TipoCassa><AlCassa>4.00</AlCassa><ImportoContributoCassa>.*<ImponibileCassa>.*<AliquotaIVA>22.00`, ""},
		{"cassa previdenziale subject to ritenuta", "fund_subject_to_withholding", `<DatiCassaPrevidenziale>.*<Ritenuta>SI</Ritenuta></DatiCassaPrevidenziale>`, ""},
		{"ritenuta", "professional_fund_withholding", `<DatiRitenuta><TipoRitenuta>RT01</TipoRitenuta><ImportoRitenuta>[0-9.]+</ImportoRitenuta><AliquotaRitenuta>20.00</AliquotaRitenuta><CausalePagamento>A</CausalePagamento>`, ""},
		{"two ritenute", "agent_two_withholdings", `<DatiRitenuta><TipoRitenuta>RT0[12]</TipoRitenuta>.*<DatiRitenuta><TipoRitenuta>RT04</TipoRitenuta>`, ""},
		{"sconti in cascade", "discount_cascade", `(<ScontoMaggiorazione><Tipo>SC</Tipo><(Percentuale|Importo)>[0-9.]+</(Percentuale|Importo)></ScontoMaggiorazione>){2,}<PrezzoTotale>`, ""},
		{"maggiorazione", "discount_cascade", `<Tipo>MG</Tipo>`, ""},
		{"split payment and esigibilita, each rate apart", "public_split_payment", `<EsigibilitaIVA>S</EsigibilitaIVA></DatiRiepilogo><DatiRiepilogo>.*<EsigibilitaIVA>I</EsigibilitaIVA>`, ""},
		{"split payment takes VAT out of what is paid", "public_split_payment", `<ImportoPagamento>556.40</ImportoPagamento>`, ""},
		{"bollo is never added in silence", "stamp_suggested_only", `<ImportoTotaleDocumento>`, `DatiBollo|Imposta di bollo`},
		{"bollo absorbed by the seller", "forfettario_stamp_absorbed", `<DatiBollo><BolloVirtuale>SI</BolloVirtuale><ImportoBollo>2.00</ImportoBollo>`, `Imposta di bollo`},
		{"bollo recharged to the buyer", "forfettario_stamp_recharged", `<ImportoBollo>2.00</ImportoBollo>.*<Descrizione>Imposta di bollo</Descrizione><PrezzoUnitario>2.00</PrezzoUnitario>.*<Natura>N1</Natura>`, ""},
		{"CIG, CUP and order of a public body", "public_split_payment", `<DatiOrdineAcquisto><RiferimentoNumeroLinea>1</RiferimentoNumeroLinea><IdDocumento>ORD 55</IdDocumento><Data>2026-02-10</Data><NumItem>5</NumItem><CodiceCUP>J31B22000000001</CodiceCUP><CodiceCIG>Z1A2B3C4D5</CodiceCIG>`, ""},
		{"contract of a public body", "public_split_payment", `<DatiContratto><IdDocumento>C-9</IdDocumento>`, ""},
		{"FPA12 for a public body", "public_split_payment", `<FormatoTrasmissione>FPA12</FormatoTrasmissione><CodiceDestinatario>UFABC1</CodiceDestinatario>`, ""},
		{"payment in instalments", "instalments_everything", `<CondizioniPagamento>TP01</CondizioniPagamento>(<DettaglioPagamento>.*){3}`, ""},
		{"payment in full", "public_split_payment", `<CondizioniPagamento>TP02</CondizioniPagamento>.*<ModalitaPagamento>MP05</ModalitaPagamento>.*<DataScadenzaPagamento>.*<IBAN>`, ""},
		{"attachments", "public_split_payment", `<Allegati><NomeAttachment>ordine.pdf</NomeAttachment><FormatoAttachment>PDF</FormatoAttachment>`, ""},
		{"buyer in the Union", "foreign_business_eu", `<CodiceDestinatario>XXXXXXX</CodiceDestinatario>.*<CessionarioCommittente>.*<IdPaese>DE</IdPaese><IdCodice>123456789</IdCodice>.*<CAP>00000</CAP><Comune>[^<]*</Comune><Nazione>DE`, ""},
		{"business outside the Union", "foreign_business_outside", `<CodiceDestinatario>XXXXXXX</CodiceDestinatario>.*<IdCodice>OO99999999999</IdCodice>.*<CAP>00000</CAP>`, ""},
		{"consumer abroad", "foreign_consumer", `<CodiceDestinatario>XXXXXXX</CodiceDestinatario>.*<IdCodice>0000000</IdCodice>`, ""},
		{"consumer without VAT number", "consumer_tax_code", `<CodiceDestinatario>0000000</CodiceDestinatario>.*<CessionarioCommittente><DatiAnagrafici><CodiceFiscale>[A-Z0-9]{16}</CodiceFiscale><Anagrafica><Nome>`, ""},
		{"integration TD16, rate and nature", "td16_reverse_charge", `<TipoDocumento>TD16</TipoDocumento>`, ""},
		{"services from abroad TD17", "td17_services_abroad", `<CedentePrestatore><DatiAnagrafici><IdFiscaleIVA><IdPaese>IE</IdPaese>.*<TipoDocumento>TD17</TipoDocumento>.*<DatiFattureCollegate>`, ""},
		{"goods from Livigno TD19", "td19_livigno", `<CedentePrestatore><DatiAnagrafici><IdFiscaleIVA><IdPaese>OO</IdPaese>.*<TipoDocumento>TD19`, ""},
		{"self-consumption TD27", "td27_self_consumption", `<TipoDocumento>TD27</TipoDocumento>`, ""},
		{"irregular invoice of a supplier TD29", "td29_irregular", `<TipoDocumento>TD29</TipoDocumento>`, ""},
		{"credit note", "credit_note", `<TipoDocumento>TD04</TipoDocumento>.*<DatiFattureCollegate>.*<IdDocumento>`, ""},
		{"debit note", "debit_note", `<TipoDocumento>TD05</TipoDocumento>.*<DatiFattureCollegate>`, ""},
		{"simplified invoice", "simplified", `<FormatoTrasmissione>FSM10</FormatoTrasmissione>.*<TipoDocumento>TD07</TipoDocumento>.*<Importo>`, `DatiRiepilogo`},
		{"simplified credit note", "simplified_credit_note", `<TipoDocumento>TD08</TipoDocumento>.*<DatiFatturaRettificata>`, ""},
		{"deferred invoice with transport documents", "deferred_td24", `<TipoDocumento>TD24</TipoDocumento>.*<DatiDDT><NumeroDDT>`, ""},
		{"deferred invoice of a triangular sale", "deferred_td25", `<TipoDocumento>TD25</TipoDocumento>`, ""},
		{"declaration of intent", "declaration_of_intent", `<Natura>N3.5</Natura>.*<TipoDato>INTENTO</TipoDato><RiferimentoTesto>[0-9]{17}[-/][0-9]{6}</RiferimentoTesto>.*<RiferimentoData>`, ""},
		{"new vehicle sold into the Union", "vehicle_union", ` SistemaEmittente="CERALACCA".*</DatiBeniServizi><DatiVeicoli><Data>2026-01-15</Data><TotalePercorso>3500</TotalePercorso></DatiVeicoli>`, ""},
		{"rounding by summary", "round_summaries", `<PrezzoTotale>[0-9]+\.[0-9]{3,8}</PrezzoTotale>`, ""},
	} {
		t.Run(c.noun, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/" + c.file + ".xml")
			require.NoError(t, err)
			xml, _, err := compose.Compose(read(t, "testdata/"+c.file+".json"))
			require.NoError(t, err)
			require.Equal(t, string(raw), string(xml))
			require.Regexp(t, c.want, flat(string(xml)))
			if c.not != "" {
				require.NotRegexp(t, c.not, flat(string(xml)))
			}
		})
	}
}

// What was transliterated is reported with its place, before and after.
func TestTransliterationIsReported(t *testing.T) {
	r := read(t, "testdata/minimal.json")
	r.Lines[0].Description = "Caffè – “extra” €"
	r.Document.Causes = []string{"perché sì", "l’ordine"}
	xml, report, err := compose.Compose(r)
	require.NoError(t, err)
	require.Contains(t, string(xml), `Caffè - "extra" EUR`)
	require.Contains(t, string(xml), "perché sì")
	var paths []string
	for _, x := range report.Changes {
		paths = append(paths, x.Path)
		require.NotEqual(t, x.From, x.To)
		require.NotEmpty(t, x.Reason)
	}
	require.Equal(t, "$.document.causes[1] $.lines[0].description", strings.Join(paths, " "))
}

// The line that recharges the stamp duty is outside VAT as an advance in the name
// of the buyer (N1), or part of the fee where the seller pays a flat tax.
func TestNatureOfRechargedStampDuty(t *testing.T) {
	for nature, want := range map[string]string{"": "N1", "N2.2": "N2.2"} {
		r := read(t, "testdata/forfettario_stamp_recharged.json")
		r.StampDuty.Nature, r.StampDuty.LegalReference = nature, "Art. 1 c. 54-89 L. 190/2014"
		xml, report, err := compose.Compose(r)
		require.NoError(t, err)
		require.Regexp(t, `<Descrizione>Imposta di bollo</Descrizione>.*<Natura>`+want+`</Natura>`, flat(string(xml)))
		require.Equal(t, "470.00", report.Totals.Document)
	}
	r := read(t, "testdata/forfettario_stamp_recharged.json")
	r.StampDuty.Nature = "N2"
	_, _, err := compose.Compose(r)
	require.ErrorContains(t, err, "$.stampDuty.nature: N2 is no nature")
}
