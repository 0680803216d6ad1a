package compose_test

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/compose"
)

var update = flag.Bool("update", false, "write the golden files again")

// reference is where the official schemas are, when they are on the machine; it
// stands beside the repository.
const reference = "../../../../../shared/reference/sdi/xsd/offline"

// golden is what a request must give: the document and the report.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func requests(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/*.json")
	require.NoError(t, err)
	var out []string
	for _, p := range all {
		if !strings.HasSuffix(p, ".report.json") {
			out = append(out, p)
		}
	}
	require.GreaterOrEqual(t, len(out), 25)
	return out
}

func read(t *testing.T, path string) compose.Request {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	r, err := compose.ReadRequest(raw)
	require.NoError(t, err, path)
	return r
}

// Every request gives the document and the report beside it, and the document
// passes every rule.
func TestGolden(t *testing.T) {
	for _, path := range requests(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			xml, report, err := compose.Compose(read(t, path))
			require.NoError(t, err)
			stem := strings.TrimSuffix(path, ".json")
			golden(t, stem+".xml", xml)
			text, err := json.MarshalIndent(report, "", "  ")
			require.NoError(t, err)
			golden(t, stem+".report.json", append(text, '\n'))

			f, err := fatturapa.Parse(xml)
			require.NoError(t, err)
			require.Empty(t, fatturapa.Check(f, fatturapa.Options{CheckDigits: fatturapa.CheckDigitsError}).Errors())
		})
	}
}

// The official schemas take every golden document.
func TestOfficialSchemas(t *testing.T) {
	if _, err := os.Stat(reference); err != nil {
		t.Log("the official schemas are not on this machine: the check of our own schema table stands alone")
		return
	}
	bySchema := map[string][]string{}
	for _, path := range requests(t) {
		xml := strings.TrimSuffix(path, ".json") + ".xml"
		raw, err := os.ReadFile(xml)
		require.NoError(t, err)
		schema := "VFPR12_1.2.3.xsd"
		if strings.Contains(string(raw), `versione="FSM10"`) {
			schema = "Schema_VFSM10_v1.0.2.xsd"
		}
		bySchema[schema] = append(bySchema[schema], xml)
	}
	require.Len(t, bySchema, 2)
	for schema, files := range bySchema {
		out, err := exec.Command("xmllint", append([]string{"--nonet", "--noout", "--schema", filepath.Join(reference, schema)}, files...)...).CombinedOutput()
		require.NoError(t, err, string(out))
		t.Logf("%s takes %d documents", schema, len(files))
	}
}

// An optional element is absent, never empty.
func TestNothingIsEmpty(t *testing.T) {
	for _, path := range requests(t) {
		xml, err := os.ReadFile(strings.TrimSuffix(path, ".json") + ".xml")
		require.NoError(t, err)
		require.NotRegexp(t, `<([A-Za-z]+)>\s*</`, string(xml), path)
		require.NotContains(t, string(xml), "/>", path)
	}
}
