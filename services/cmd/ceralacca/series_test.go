package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	"ceralacca.dev/services/format/fatturapa/compose"
)

// What is wrong in the words of the commands that number, correct and compare.
func TestWrongWordsOfNumbering(t *testing.T) {
	dir := t.TempDir()
	bad, unknown := filepath.Join(dir, "bad.json"), filepath.Join(dir, "unknown.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"lines": [`), 0o600))
	require.NoError(t, os.WriteFile(unknown, []byte(`{"lines": [{"colour": "red"}]}`), 0o600))
	for name, c := range map[string]struct{ args, want string }{
		"no company":         {"series ls --tenant acme", "give --company or set CERALACCA_COMPANY"},
		"no year":            {"series set-next --tenant acme --company c fe soon 7", `"soon" is no year`},
		"no number":          {"series set-next --tenant acme --company c fe 2026 many", `"many" is no number`},
		"too few":            {"series set-next fe 2026", "NUMBER is missing"},
		"series of a file":   {"invoice submit --tenant acme --company c --series fe x.xml", "--series numbers a draft"},
		"series, correct":    {"invoice correct --tenant acme --series fe i x.xml", "--series numbers a draft"},
		"no draft":           {"invoice submit --tenant acme --company c --draft " + bad, "is no draft"},
		"unknown field":      {"invoice submit --tenant acme --company c --draft " + unknown, "colour"},
		"draft away":         {"invoice submit --tenant acme --company c --draft /nonexistent/d", "there is no folder /nonexistent"},
		"request id":         {"invoice correct --tenant acme --request-id 7 i x.xml", `"7" is no UUID`},
		"compare with no id": {"invoice compare", "INVOICE is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, nil)
			got := command(t, "", strings.Fields(c.args)...)
			require.Equal(t, exitUsage, got.code, got.errOut)
			require.Contains(t, got.errOut, c.want)
		})
	}
}

// Every request that ceralacca invoice new composes can be submitted as a draft and means the same.
func TestDraftIsTheFormOfInvoiceNew(t *testing.T) {
	files, err := filepath.Glob("../../format/fatturapa/compose/testdata/*.json")
	require.NoError(t, err)
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".report.json") {
			continue
		}
		seen++
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		want, err := compose.ReadRequest(raw)
		require.NoError(t, err)
		c := &cli{}
		draft, err := c.readDraft(file)
		require.NoError(t, err)
		raw, err = protojson.Marshal(draft)
		require.NoError(t, err)
		got, err := compose.ReadRequest(raw)
		require.NoError(t, err)
		a, _, err := compose.Compose(want)
		require.NoError(t, err)
		b, _, err := compose.Compose(got)
		require.NoError(t, err)
		require.Equal(t, string(a), string(b), file)
	}
	require.Greater(t, seen, 25)
}
