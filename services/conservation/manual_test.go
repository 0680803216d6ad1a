package conservation

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
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
	cfg.TSA = []TSAConfig{{Name: "prima", URL: "https://tsa.example/rfc3161", CAFile: "/etc/tsa.pem"}, {Name: "seconda", URL: "https://tsa2.example/rfc3161", CAFile: "/etc/tsa2.pem"}}
	cfg.Log.Origin, cfg.Log.KeyFile, cfg.Log.Quorum = "archivio.example/log", "/run/secrets/log.key", 1
	cfg.Log.Witnesses = []WitnessConfig{{URL: "https://testimone.example", Key: "testimone.example+5a2a3b1c+notakey"}}
	cfg.Log.FormerKeys = []string{"archivio.example/log+11223344+formerkey"}
	cfg.Storage.Primary.FS.Dir = "/srv/archive"
	cfg.Storage.Second.S3 = S3ReplicaConfig{Endpoint: "s3.other.example", Bucket: "archive", SecretKeyFile: "/run/secrets/archive-secret-key"}
	return cfg
}

// TestManual compares the annexes with the golden ones, and looks for each letter of the Guidelines in both forms.
func TestManual(t *testing.T) {
	for format, form := range map[string]func([]annex) string{"md": markdownManual, "html": htmlManual} {
		out := bytes.NewBufferString(form(annexes(manualConfig(), "v1.2.3")))
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
	d := xml.NewDecoder(strings.NewReader(strings.Replace(htmlManual(annexes(manualConfig(), "v1.2.3")), `<meta charset="utf-8">`, "", 1)))
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
	out := bytes.NewBufferString(markdownManual(annexes(cfg, "v1.2.3")))
	require.Contains(t, out.String(), "| 77 |")
	require.Contains(t, out.String(), "| Prova di ripristino | a richiesta |")
	require.Contains(t, out.String(), "nessuna replica è configurata")
	require.Contains(t, out.String(), "Il registro delle prove non è configurato")
	require.NotContains(t, out.String(), "Testimone")

	cfg = manualConfig()
	cfg.Closing.Every, cfg.Deposits.EventReports, cfg.Revocation.Fetch, cfg.Log.Witnesses, cfg.Log.Quorum, cfg.Distributions.Keep = 0, 0, false, nil, 0, 0
	out = bytes.NewBufferString(markdownManual(annexes(cfg, "v1.2.3")))
	require.Contains(t, out.String(), "| Chiusura | solo a richiesta: nessun pacchetto si chiude da sé |")
	require.NotContains(t, out.String(), "Chiusura per età", "what never happens is no rule")
	require.NotContains(t, out.String(), "45 giorni prima del termine")
	require.Contains(t, out.String(), "| RdV di ciò che arriva per evento | non rilasciati |")
	require.Contains(t, out.String(), "| Stato dei certificati | agli emittenti non si chiede nulla |")
	require.Contains(t, out.String(), "| Testimoni | nessuno")
	require.Contains(t, out.String(), "resta scaricabile finché non vengono distrutti i documenti")
	require.NotContains(t, out.String(), "riconosciuta dai testimoni")

	cfg = manualConfig()
	cfg.Storage.Second = ReplicaConfig{FS: FSReplicaConfig{Dir: "/mnt/second"}}
	require.NotContains(t, markdownManual(annexes(cfg, "v1.2.3")), "credenziali del servizio non possono cancellare", "of a folder that would not be true")
	cfg.Storage.Primary = ReplicaConfig{S3: S3ReplicaConfig{Endpoint: "s3.example", Bucket: "one"}}
	cfg.Storage.Second = manualConfig().Storage.Second
	require.NotContains(t, markdownManual(annexes(cfg, "v1.2.3")), "non ha codice che cancelli")
}

// notInTheManual are the keys that the manual leaves out: where secrets lie, and how this program uses its machine.
var notInTheManual = []string{
	"workers", "tsa[0].timeout", "log.key_file", "log.batch", "log.witnesses[0].timeout", "storage.probe", "deposits.judged_bytes", "revocation.allow_networks[0]",
	"storage.primary.s3.access_key_file", "storage.primary.s3.secret_key_file", "storage.primary.s3.insecure",
	"storage.second.s3.access_key_file", "storage.second.s3.secret_key_file", "storage.second.s3.insecure",
}

// TestManualTellsEveryKey: whatever in the configuration decides how documents are kept is in the manual, which is another when it is.
func TestManualTellsEveryKey(t *testing.T) {
	full := func() *Config {
		cfg := manualConfig()
		s3 := S3ReplicaConfig{Endpoint: "s3.example", Bucket: "b", Prefix: "p/", Region: "it-1", AccessKeyFile: "/run/a", SecretKeyFile: "/run/s"}
		cfg.Storage.Primary, cfg.Storage.Second = ReplicaConfig{S3: s3}, ReplicaConfig{S3: s3}
		cfg.CredentialRootsFile, cfg.Renewal.FormerRootsFile, cfg.Disposal.DeedRootsFile, cfg.Revocation.AllowNetworks = "/etc/a.pem", "/etc/b.pem", "/etc/c.pem", []string{"10.0.0.0/8"}
		return &cfg
	}
	var silent []string
	keys := 0
	var walk func(path string, at func(*Config) reflect.Value)
	walk = func(path string, at func(*Config) reflect.Value) {
		v := at(full())
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				key := v.Type().Field(i).Tag.Get("yaml")
				require.NotEmpty(t, key, "%s.%s", path, v.Type().Field(i).Name)
				walk(strings.TrimPrefix(path+"."+key, "."), func(c *Config) reflect.Value { return at(c).Field(i) })
			}
			return
		case reflect.Slice:
			require.NotZero(t, v.Len(), "%s: give the test one", path)
			walk(path+"[0]", func(c *Config) reflect.Value { return at(c).Index(0) })
			return
		}
		keys++
		before, cfg := markdownManual(annexes(*full(), "v1.2.3")), full()
		switch field := at(cfg); field.Kind() {
		case reflect.String:
			field.SetString(field.String() + "x")
		case reflect.Bool:
			field.SetBool(!field.Bool())
		default:
			field.SetInt(2 * field.Int())
		}
		if markdownManual(annexes(*cfg, "v1.2.3")) == before {
			silent = append(silent, path)
		}
	}
	walk("", func(c *Config) reflect.Value { return reflect.ValueOf(c).Elem() })
	require.Greater(t, keys, 60)
	require.ElementsMatch(t, notInTheManual, silent)

	// Of what excludes other keys, by itself.
	cfg := full()
	cfg.Responsible.FormalName = "Archivio S.r.l."
	cfg.Storage.Primary, cfg.Storage.Second = ReplicaConfig{FS: FSReplicaConfig{Dir: "/srv/one"}}, ReplicaConfig{FS: FSReplicaConfig{Dir: "/mnt/two"}}
	out := markdownManual(annexes(*cfg, "v1.2.3"))
	for _, text := range []string{"| Archivio S.r.l. |", "| cartella /srv/one |", "| cartella /mnt/two |", "| Ceralacca v1.2.3 |"} {
		require.Contains(t, out, text)
	}
	for _, code := range []string{problemDigest, problemFormat, problemName, problemInside, problemFileName, problemMetadata, problemPackage, problemPrimary, problemFatturaPA} {
		require.Contains(t, out, "| "+code+" |")
	}
}
