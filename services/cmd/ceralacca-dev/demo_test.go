package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/compose"
)

// TestTidyLeavesWhatIsNotOurs: --out may name a folder with other things in it.
func TestTidyLeavesWhatIsNotOurs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	require.NoError(t, tidy(dir), "a folder that is not there yet")
	for _, name := range []string{"1-invoice.xml", "9-mail.eml", "sandbox-ca.pem", "data.json", "VERIFY.txt", "checked.xml", "letter.pdf", "my-data.json", "2026-accounts.ods"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "1-folder", "below"), 0o700))
	require.NoError(t, tidy(dir))
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range left {
		names = append(names, entry.Name())
	}
	require.Equal(t, []string{"1-folder", "2026-accounts.ods", "letter.pdf", "my-data.json"}, names)
}

// TestDraftIsAnInvoice: what the README has people send passes all controls, once it has a number.
func TestDraftIsAnInvoice(t *testing.T) {
	request, err := compose.ReadRequest(draft())
	require.NoError(t, err)
	require.Empty(t, request.Document.Number, "the series gives it")
	request.Document.Number, request.Transmission.Progressive = "FE/2026/0001", "00001"
	xml, _, err := compose.Compose(request)
	require.NoError(t, err)
	file, err := fatturapa.Parse(xml)
	require.NoError(t, err)
	checked := fatturapa.Check(file, fatturapa.Options{})
	require.True(t, checked.Valid(), checked.Findings)
	require.Equal(t, companyVAT[2:], request.Seller.VATNumber)
}

func TestQuoted(t *testing.T) {
	require.Equal(t, `'/home/a b/it'\''s'`, quoted("/home/a b/it's"))
}

// TestServerThatIsAway: a NATS_URL that leads nowhere is told at once, and not waited for.
func TestServerThatIsAway(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, answers("nats://127.0.0.1:1"), "NATS_URL is set but its server does not answer")
}
