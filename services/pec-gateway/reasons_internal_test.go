package pecgateway

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pec"
)

// TestE9Tables: a table that means nothing is refused at the start, with the provider and the row; rows of a file come before
// those that the program brings. TESTPLAN E9.
func TestE9Tables(t *testing.T) {
	file := filepath.Join(t.TempDir(), "receipts.json")
	load := func(text string) (meanings, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return loadMeanings(file)
	}
	for text, want := range map[string]string{
		`{"alfa": {"reasons": []}}`:                                               "issuer is missing",
		`{"alfa": {"issuer": "(", "reasons": []}}`:                                "error parsing regexp",
		`{"alfa": {"issuer": "a", "reasons": [{"code": "x", "cause": ""}]}}`:      "provider alfa: reason 1",
		`{"alfa": {"issuer": "a", "reasons": [{"kode": "5"}]}}`:                   "kode",
		`{"namirial": {"reasons": [{"type": "accettazione", "cause": "virus"}]}}`: "tells of no error",
		`[]`: "cannot unmarshal",
	} {
		_, err := load(text)
		require.ErrorContains(t, err, want, text)
	}
	known, err := loadMeanings("")
	require.NoError(t, err)
	require.Equal(t, pec.Reasons{{Tipo: pec.PreavvisoErrore, Code: "5.4.1", Cause: pec.CauseUnreachable, SecondNotice: true}}, known.of("Namirial S.p.A."))
	require.Empty(t, known.of("Aruba PEC S.p.A."))
	require.Empty(t, known.of(""))
	more, err := load(`{"namirial": {"reasons": [{"code": "5.4.1", "cause": "other"}]}, "aruba": {"issuer": "(?i)aruba", "reasons": [{"text": "x", "cause": "virus"}]}}`)
	require.NoError(t, err)
	require.Equal(t, []pec.Cause{pec.CauseOther, pec.CauseUnreachable}, []pec.Cause{more.of("NAMIRIAL")[0].Cause, more.of("NAMIRIAL")[1].Cause})
	require.Len(t, more.of("Aruba PEC S.p.A."), 1)
}
