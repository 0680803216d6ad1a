package conservation

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var updateManual = flag.Bool("update", false, "write the golden manual anew")

// manualConfig is an installation with everything that the manual speaks of.
func manualConfig() Config {
	cfg := DefaultConfig()
	cfg.Credential = "tenants/platform/companies/archive/credentials/-"
	cfg.Responsible = ResponsibleConfig{FirstName: "Maria", LastName: "Rossi", ID: "TINIT-RSSMRA80A01H501U", Role: cfg.Responsible.Role, Deed: "Nomina | del 2 gennaio 2026"}
	cfg.TSA = []TSAConfig{{Name: "prima", URL: "https://tsa.example/rfc3161"}, {Name: "seconda", URL: "https://tsa2.example/rfc3161"}}
	cfg.Log.Origin, cfg.Log.KeyFile, cfg.Log.Quorum = "archivio.example/log", "/run/secrets/log.key", 1
	cfg.Log.Witnesses = []WitnessConfig{{URL: "https://testimone.example", Key: "testimone.example+5a2a3b1c+notakey"}}
	cfg.Storage.Primary.FS.Dir = "/srv/archive"
	cfg.Storage.Second.S3 = S3ReplicaConfig{Endpoint: "s3.other.example", Bucket: "archive", SecretKeyFile: "/run/secrets/archive-secret-key"}
	return cfg
}

// TestManual compares the annexes with the golden ones, and looks for each letter of the Guidelines in both forms.
func TestManual(t *testing.T) {
	for format, form := range map[string]func([]annex) string{"md": markdownManual, "html": htmlManual} {
		out := bytes.NewBufferString(form(annexes(manualConfig())))
		golden := filepath.Join("testdata", "manual."+format)
		if *updateManual {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(golden, out.Bytes(), 0o644)) //nolint:gosec // it is committed
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err, "run with -update")
		require.Equal(t, string(want), out.String())
		for _, letter := range "abcdefghijkl" {
			require.Contains(t, out.String(), string(letter)+") ", "%s: annex %c", format, letter)
		}
		require.NotContains(t, out.String(), "secret", "what is secret is not printed")
		require.NotContains(t, out.String(), "%!")
	}
	d := xml.NewDecoder(strings.NewReader(strings.Replace(htmlManual(annexes(manualConfig())), `<meta charset="utf-8">`, "", 1)))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "the page is well-formed")
	}
}

// TestManualFollowsTheConfiguration: what is not configured is not claimed.
func TestManualFollowsTheConfiguration(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxUnits, cfg.Checks.RestoreDrill = 77, 0
	out := bytes.NewBufferString(markdownManual(annexes(cfg)))
	require.Contains(t, out.String(), "| 77 |")
	require.Contains(t, out.String(), "| Prova di ripristino | a richiesta |")
	require.Contains(t, out.String(), "nessuna replica è configurata")
	require.Contains(t, out.String(), "Il registro delle prove non è configurato")
	require.NotContains(t, out.String(), "Testimone")
}
