package fatturapa_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
)

// Every sample of the reference is read or refused with a reason, and what the
// samples are known for is found in them.
func TestSamplesFromTheWild(t *testing.T) {
	paths, err := filepath.Glob(reference + "/samples/*.xml")
	require.NoError(t, err)
	if len(paths) == 0 {
		t.Log("the samples are not on this machine: own fixtures only")
		return
	}
	known := map[string]string{
		"gobl__fatturapa.gobl-invoice-b2g.xml":                       "00427", // FPA12 with 0000000
		"2-digitalia__IT01234567890_FPR03.xml":                       "00422",
		"simevo__invalid-missing_CodiceDestinatario.xml":             "00200",
		"zugferd__official-valid-IT01234567890_FPR02.xml":            "00200", // PECDestinatario before ContattiTrasmittente
		"advinser__deprecated-fattura_01_pa_write.xml":               "00200",
		"simevo__malicious-jumbo_FatturaElettronicaHeader.xml":       "00200",
		"digitalia__IT01234567890_FPA02.xml":                         "00200",
		"slamdunk__invalid_xsd_structure_compliance.xml":             "00200",
		"gobl__fatturapa.gobl-invoice-windows1252.xml":               "00200",
		"advinser__fattura01_pa_from_array_full_write_WITHERROR.xml": "00200",
	}
	refused := map[string]fatturapa.ParseCode{
		"simevo__malicious-billion_laughs.xml":                                fatturapa.ErrDTD,
		"simevo__malicious-entity_expansion.xml":                              fatturapa.ErrDTD,
		"simevo__malicious-quadratic_blowup.xml":                              fatturapa.ErrDTD,
		"simevo__malicious-recursive_entity.xml":                              fatturapa.ErrDTD,
		"simevo__malicious-small_jumbo.xml":                                   fatturapa.ErrDTD,
		"simevo__malicious-embedded_schema.xml":                               fatturapa.ErrDTD,
		"simevo__invalid-malformed.xml":                                       fatturapa.ErrTruncated,
		"zugferd__eigor-valid-con-ritenuta-acconto-e-cassa-previdenziale.xml": fatturapa.ErrTruncated,
	}
	for _, p := range paths {
		name := filepath.Base(p)
		raw, err := os.ReadFile(p)
		require.NoError(t, err)
		f, err := fatturapa.Parse(raw)
		if err != nil {
			var pe *fatturapa.ParseError
			require.ErrorAs(t, err, &pe, name)
			require.Equal(t, refused[name], pe.Code, "%s: %v", name, err)
			continue
		}
		require.NotContains(t, refused, name)
		r := fatturapa.Check(f, fatturapa.Options{CheckDigits: fatturapa.CheckDigitsOff})
		codes := ""
		for _, x := range r.Findings {
			codes += " " + x.Code + string(x.Severity[0])
		}
		t.Logf("%-70s %s", name, codes)
		if want := known[name]; want != "" {
			require.Contains(t, codes, want, name)
		}
	}
}
