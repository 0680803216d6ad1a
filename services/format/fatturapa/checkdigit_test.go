package fatturapa_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

func TestVATNumbers(t *testing.T) {
	for i := range 1000 {
		v := fatturapatest.VATNumber(i)
		require.True(t, fatturapa.ValidVATNumber(v), v)
		wrong := v[:10] + string('0'+(v[10]-'0'+1)%10)
		require.False(t, fatturapa.ValidVATNumber(wrong), wrong)
	}
	for _, v := range []string{"", "1234567890", "123456789012", "0123456789a", "01234567890", "00000000000"} {
		require.False(t, fatturapa.ValidVATNumber(v), v)
	}
}

func TestTaxCodes(t *testing.T) {
	for _, s := range []string{"BNCLRA80A41G224F", "RSSMRA85T10A562S", "BNCLRA80A41GNN4Z", fatturapatest.VATNumber(3)} {
		require.Equal(t, s != "BNCLRA80A41GNN4Z", fatturapa.ValidTaxCode(s), s)
	}
	// omocodia: digits from the right are replaced by letters, the check letter follows
	require.True(t, fatturapa.ValidTaxCode("RSSMRA85T10A56NH"))
	for _, s := range []string{"", "RSSMRA85T10A562T", "rssmra85t10a562s", "RSSMRA85T10A5620", "RSSMRAA5T10A562S", "1SSMRA85T10A562S"} {
		require.False(t, fatturapa.ValidTaxCode(s), s)
	}
}

func TestRulePacksByDate(t *testing.T) {
	f, err := fatturapa.Parse(fatturapatest.Invoice(fatturapatest.Options{TipoDocumento: "TD29", Data: "2020-01-01"}))
	require.NoError(t, err)
	for at, want := range map[string]struct {
		pack, schema string
		valid, group bool
	}{
		"2020-06-01T00:00:00Z": {"1.5", "1.2", false, false},
		"2020-11-01T00:00:00Z": {"1.5", "1.2.1", false, false},
		"2021-06-01T00:00:00Z": {"1.6", "1.2.1", false, false},
		"2023-06-01T00:00:00Z": {"1.7", "1.2.2", false, false},
		"2025-03-31T21:59:59Z": {"1.7", "1.2.2", false, false},
		"2025-03-31T22:00:00Z": {"1.9", "1.2.3", true, false}, // midnight of April 1 in Rome
		"2026-05-14T21:59:59Z": {"1.9", "1.2.3", true, false},
		"2026-05-14T22:00:00Z": {"1.9.1", "1.2.3", true, true},
		"":                     {"1.9.1", "1.2.3", true, true},
	} {
		var o fatturapa.Options
		if at != "" {
			o.At, err = time.Parse(time.RFC3339, at)
			require.NoError(t, err)
		}
		r := fatturapa.Check(f, o)
		require.Equal(t, want.pack, r.RulePack, at)
		require.Equal(t, want.schema, r.SchemaVersion, at)
		require.Equal(t, want.valid, r.Valid(), at)
		require.Equal(t, want.group, contains(r.NeedsAuthority, "00327"), at)
		require.Contains(t, r.NeedsAuthority, "00301")
	}
}

// At the end of 2020 files of two versions were taken side by side.
func TestTwoVersionsSideBySide(t *testing.T) {
	at := fatturapa.Options{At: time.Date(2020, 11, 15, 12, 0, 0, 0, time.UTC)}
	old := readTree(t, fatturapatest.Invoice(fatturapatest.Options{Data: "2020-11-15"}))
	after(gen+"Numero", el("DatiRitenuta", el("TipoRitenuta", "RT01"), el("ImportoRitenuta", "1.00"), el("AliquotaRitenuta", "20.00"), el("CausalePagamento", "Z")))(t, old)
	f, err := fatturapa.Parse(old.bytes())
	require.NoError(t, err)
	r := fatturapa.Check(f, at)
	require.True(t, r.Valid())
	require.Equal(t, "1.2", r.SchemaVersion)
	f, err = fatturapa.Parse(fatturapatest.Invoice(fatturapatest.Options{Data: "2020-11-15", TipoDocumento: "TD24"}))
	require.NoError(t, err)
	r = fatturapa.Check(f, at)
	require.True(t, r.Valid())
	require.Equal(t, "1.2.1", r.SchemaVersion)
}

func TestAuthorityByFlow(t *testing.T) {
	codes := func(o fatturapatest.Options) []string {
		f, err := fatturapa.Parse(fatturapatest.Invoice(o))
		require.NoError(t, err)
		return fatturapa.Check(f, fatturapa.Options{}).NeedsAuthority
	}
	pa, fpr, fsm := codes(fatturapatest.Options{Formato: "FPA12"}), codes(fatturapatest.Options{}), codes(fatturapatest.Options{Formato: "FSM10"})
	require.Contains(t, pa, "00398")
	require.NotContains(t, pa, "00399")
	require.NotContains(t, pa, "00325")
	require.Contains(t, fpr, "00399")
	require.Contains(t, fpr, "00325")
	require.NotContains(t, fsm, "00399")
	require.Contains(t, fsm, "00327")
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
