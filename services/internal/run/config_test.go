package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
)

// sample is the configuration of a target as services write them.
type sample struct {
	URL       string        `yaml:"endpoint_url"`
	TokenFile string        `yaml:"token_file"`
	Token     string        `yaml:"token"`
	Pause     time.Duration `yaml:"pause"`
	Workers   int           `yaml:"workers"`
	Strict    bool          `yaml:"strict"`
	Retry     struct {
		Attempts int           `yaml:"attempts"`
		Backoff  time.Duration `yaml:"backoff"`
	} `yaml:"retry"`
	Codes  []string          `yaml:"codes"`
	Routes map[string]string `yaml:"routes"`
}

func (s *sample) Validate() error {
	var errs []error
	if s.Workers < 0 {
		errs = append(errs, run.BadField("workers", "cannot be negative: use 1 or more"))
	}
	if s.Retry.Attempts > 9 {
		errs = append(errs, run.BadField("retry.attempts", "must be at most 9"))
	}
	return errors.Join(errs...)
}

const complete = `nats:
  url: nats://127.0.0.1:4222
database:
  url: postgres://{role}@127.0.0.1/ceralacca
blob:
  fs:
    dir: /var/lib/ceralacca
rpc:
  tls:
    cert_file: "{target}.crt"
    key_file: "{target}.key"
    ca_file: ca.crt
`

func parse(t *testing.T, text string, environ ...string) (*run.File, *sample, error) {
	t.Helper()
	file, err := run.ParseFile("ceralacca.yaml", []byte(text), []string{"invoice", "sdi-gateway"}, environ)
	if err != nil {
		return nil, nil, err
	}
	cfg := &sample{Workers: 4, Pause: time.Second}
	return file, cfg, file.Section("sdi-gateway", cfg)
}

func TestConfig(t *testing.T) {
	file, cfg, err := parse(t, complete+`
sdi-gateway:
  endpoint_url: https://sdi.example
  pause: 1m30s
  retry: {attempts: 3, backoff: 2s}
  codes: [a, b]
  routes: {x: y}
`)
	require.NoError(t, err)
	want := &sample{URL: "https://sdi.example", Pause: 90 * time.Second, Workers: 4, Codes: []string{"a", "b"}, Routes: map[string]string{"x": "y"}}
	want.Retry.Attempts, want.Retry.Backoff = 3, 2*time.Second
	require.Equal(t, want, cfg)
	require.Equal(t, "info", file.Log.Level, "defaults hold where the file is silent")
	require.Equal(t, "ceralacca_{schema}", file.Database.Role)
}

func TestConfigEnvironment(t *testing.T) {
	file, cfg, err := parse(t, complete+"sdi-gateway: {workers: 2}\n",
		"CERALACCA_RPC_LISTEN=127.0.0.1:9999", "CERALACCA_RPC_PEERS=tenancy=a:1, signer=b:2", "CERALACCA_START_WAIT=3s",
		"CERALACCA_SDI_GATEWAY_WORKERS=7", "CERALACCA_SDI_GATEWAY_RETRY_BACKOFF=4s", "CERALACCA_SDI_GATEWAY_STRICT=true",
		"CERALACCA_SDI_GATEWAY_CODES=x,y", "CERALACCA_SDI_GATEWAY_TOKEN=007", "UNRELATED=1", "CERALACCA_TOKEN=of the CLI")
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9999", file.RPC.Listen)
	require.Equal(t, map[string]string{"tenancy": "a:1", "signer": "b:2"}, file.RPC.Peers)
	require.Equal(t, 3*time.Second, file.Start.Wait)
	require.Equal(t, 7, cfg.Workers)
	require.Equal(t, 4*time.Second, cfg.Retry.Backoff)
	require.True(t, cfg.Strict)
	require.Equal(t, []string{"x", "y"}, cfg.Codes)
	require.Equal(t, "007", cfg.Token, "text stays text")

	for variable, want := range map[string]string{
		"CERALACCA_RPC_LISTN=x":                `CERALACCA_RPC_LISTN overrides no key: did you mean "CERALACCA_RPC_LISTEN"?`,
		"CERALACCA_SDI_GATEWAY_PAUSE=5":        `CERALACCA_SDI_GATEWAY_PAUSE: "5" is not a duration such as 5s`,
		"CERALACCA_SDI_GATEWAY_WORKERS=many":   `CERALACCA_SDI_GATEWAY_WORKERS: "many" cannot be read as int`,
		"CERALACCA_SDI_GATEWAY_ROUTES=nothing": `CERALACCA_SDI_GATEWAY_ROUTES: "nothing" is not name=value`,
	} {
		_, _, err := parse(t, complete, variable)
		require.ErrorContains(t, err, want, variable)
	}
}

// TestConfigErrors: each names file, line and column and says what to do.
func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"unknown section":     {complete + "invoce: {}\n", []string{`ceralacca.yaml:13:1: unknown section "invoce": did you mean "invoice"?`}},
		"unknown key":         {complete + "log:\n  levle: debug\n", []string{`ceralacca.yaml:14:3: unknown key "levle": did you mean "level"?`, "levle: debug"}},
		"unknown deep key":    {complete + "sdi-gateway:\n  retry:\n    atempts: 3\n", []string{`ceralacca.yaml:15:5: unknown key "atempts": did you mean "attempts"?`}},
		"nothing like it":     {complete + "log:\n  zzzzzzzz: 1\n", []string{`unknown key "zzzzzzzz": known are format, level`}},
		"wrong type":          {complete + "sdi-gateway:\n  workers: many\n", []string{"ceralacca.yaml:14:12: ", "string", "int"}},
		"duration as number":  {complete + "sdi-gateway:\n  pause: 5\n", []string{"ceralacca.yaml:14:10: "}},
		"duration misspelt":   {complete + "sdi-gateway:\n  pause: 5 minutes\n", []string{"ceralacca.yaml", "duration"}},
		"section is a list":   {complete + "sdi-gateway:\n  - a\n", []string{`ceralacca.yaml:14:3: section "sdi-gateway" must be a mapping`}},
		"file is a list":      {"- a\n- b\n", []string{"ceralacca.yaml:1:1: the file must be a mapping of sections"}},
		"key twice":           {complete + "log: {level: info}\nlog: {level: warn}\n", []string{"ceralacca.yaml:14:1: "}},
		"syntax":              {complete + "log: {level: info\n", []string{"ceralacca.yaml:13"}},
		"two documents":       {complete + "---\nlog: {}\n", []string{"more than one YAML document"}},
		"own rule":            {complete + "sdi-gateway:\n  workers: -1\n", []string{"ceralacca.yaml:14:3: sdi-gateway.workers cannot be negative: use 1 or more"}},
		"own rules, all said": {complete + "sdi-gateway:\n  workers: -1\n  retry:\n    attempts: 10\n", []string{"14:3", "ceralacca.yaml:16:5: sdi-gateway.retry.attempts must be at most 9"}},
		"no bus":              {strings.Replace(complete, "url: nats:", "creds_file: x\n  # url: nats:", 1), []string{"ceralacca.yaml:1:1: nats neither url nor embedded.dir is set"}},
		"two buses":           {strings.Replace(complete, "nats:\n", "nats:\n  embedded: {dir: x}\n", 1), []string{"ceralacca.yaml:3:3: nats.url url and embedded.dir are both set"}},
		"no blobs":            {strings.Replace(complete, "dir: /var", "# dir: /var", 1), []string{"blob neither fs.dir nor s3.bucket is set"}},
		"no TLS":              {strings.Replace(complete, "ca_file: ca.crt", "", 1), []string{"rpc.tls.ca_file is missing"}},
		"peer without port":   {strings.Replace(complete, "rpc:\n", "rpc:\n  peers:\n    tenancy: here\n", 1), []string{`ceralacca.yaml:10:5: rpc.peers.tenancy "here" is not host:port`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := parse(t, c.text)
			require.Error(t, err)
			for _, want := range c.want {
				require.Contains(t, err.Error(), want)
			}
		})
	}
	_, err := run.LoadFile("/nowhere/ceralacca.yaml", nil, nil)
	require.ErrorContains(t, err, "/nowhere/ceralacca.yaml")
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(complete))
	f.Add([]byte("invoice:\n- a: &x [*x]\n"))
	f.Add([]byte("{"))
	f.Add([]byte("log: !!binary x"))
	f.Fuzz(func(t *testing.T, source []byte) {
		file, err := run.ParseFile("f", source, []string{"invoice"}, nil)
		if err == nil {
			_ = file.Section("invoice", &sample{})
			if file.Effective("") == "" {
				t.Fatal("nothing is shown")
			}
		}
	})
}

// TestEffectiveMasksSecrets: what is shown can be read back, and holds no secret.
func TestEffectiveMasksSecrets(t *testing.T) {
	file, _, err := parse(t, strings.Replace(complete, "postgres://{role}@", "postgres://u:hunter2@", 1)+
		"sdi-gateway:\n  token: hunter3\n  token_file: /run/secrets/token\n  endpoint_url: https://u:hunter4@sdi.example/x\n")
	require.NoError(t, err)
	text := file.Effective("sdi-gateway")
	for _, secret := range []string{"hunter2", "hunter3", "hunter4"} {
		require.NotContains(t, text, secret)
	}
	for _, shown := range []string{"/run/secrets/token", "sdi.example", "cert_file", "wait: 1m0s"} {
		require.Contains(t, text, shown)
	}
	_, _, err = parse(t, text)
	require.NoError(t, err, text)
}

// targets for the command line: one good, one without state.
func targets() []run.Target {
	return []run.Target{
		{Name: "invoice", Start: func(_ context.Context, h *run.Host) error { return h.Config(&struct{}{}) }},
		{Name: "sdi-gateway", Start: func(_ context.Context, h *run.Host) error {
			return h.Config(&sample{Pause: time.Second, Codes: []string{"x"}})
		}},
	}
}

func execute(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run.Execute(t.Context(), targets(), args, nil, &o, &e)
	return code, o.String(), e.String()
}

// TestConfigCheck: everything wrong is said at once, with places.
func TestConfigCheck(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.yaml")
	require.NoError(t, os.WriteFile(good, []byte(yamlFor(t, "database: {url: 'postgres://{role}@127.0.0.1/x'}\n", "invoice", "sdi-gateway")), 0o600))
	code, out, errOut := execute(t, "config", "check", "--config", good)
	require.Zero(t, code, errOut)
	require.Contains(t, out, "is good for invoice, sdi-gateway")

	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte(complete+`admin:
  listen: nowhere
sdi-gateway:
  token_file: /nowhere/token
  endpoint_url: not a url
`), 0o600))
	code, _, errOut = execute(t, "config", "check", "--config", bad)
	require.Equal(t, 2, code)
	for _, want := range []string{
		"bad.yaml:14:3: admin.listen \"nowhere\" is not host:port",
		"bad.yaml:16:3: sdi-gateway.token_file cannot be read: open /nowhere/token",
		"bad.yaml:17:3: sdi-gateway.endpoint_url \"not a url\" is not a URL",
		"rpc.tls.cert_file cannot be read: open invoice.crt",
		"rpc.tls.ca_file cannot be read: open ca.crt",
	} {
		require.Contains(t, errOut, want)
	}
}

// TestConfigCheckSaysAll: a mistake in a section that all share hides none of another section, and what it kept from being read is not
// called missing.
func TestConfigCheckSaysAll(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	text := strings.Replace(complete, "  url: nats:", "  urll: nats:", 1)
	require.NotEqual(t, complete, text)
	require.NoError(t, os.WriteFile(bad, []byte(text+`log:
  levle: debug
breaker:
  open: 0s
sdi-gateway:
  workers: -1
invoice:
  zzz: 1
`), 0o600))
	for _, command := range [][]string{{"config", "check"}, {"serve"}} {
		code, _, errOut := execute(t, append(command, "--config", bad)...)
		require.Equal(t, 2, code)
		for _, want := range []string{
			`bad.yaml:2:3: unknown key "urll": did you mean "url"?`,
			`bad.yaml:14:3: unknown key "levle": did you mean "level"?`,
			"bad.yaml:16:3: breaker.open must be more than 0s",
			"bad.yaml:18:3: sdi-gateway.workers cannot be negative",
			`bad.yaml:20:3: unknown key "zzz"`,
		} {
			require.Contains(t, errOut, want)
		}
		require.NotContains(t, errOut, "neither url nor embedded.dir")
	}
}

// TestConfigDocs: the documentation is itself a file that can be loaded, and
// explains every key.
func TestConfigDocs(t *testing.T) {
	code, out, errOut := execute(t, "config", "docs")
	require.Zero(t, code, errOut)
	var tree map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(out), &tree), out)
	require.Contains(t, tree, "nats")
	require.Contains(t, tree, "sdi-gateway")
	undocumented := 0
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		if strings.Contains(line, "sdi-gateway:") {
			break // types of tests have no comments
		}
		if strings.Contains(line, ": ") && !strings.HasPrefix(strings.TrimSpace(line), "#") &&
			!strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#") {
			t.Errorf("undocumented: %s", line)
			undocumented++
		}
	}
	require.Zero(t, undocumented)
}

// TestCommentsAreCurrent: go generate ./internal/run was run after the last change.
func TestCommentsAreCurrent(t *testing.T) {
	want, err := run.ReadComments(os.DirFS("../.."))
	require.NoError(t, err)
	data, err := os.ReadFile("configcomments.json")
	require.NoError(t, err)
	var got map[string]string
	require.NoError(t, json.Unmarshal(data, &got))
	require.Equal(t, want, got, "run: go generate ./internal/run")
}

func TestCommandLine(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown target":  {[]string{"serve", "--target", "invoce"}, 2, `unknown target "invoce": did you mean "invoice"?`},
		"no target":       {[]string{"serve", "--target", ","}, 2, "names no target"},
		"no file":         {[]string{"serve", "--config", "/nowhere/x.yaml"}, 2, "/nowhere/x.yaml"},
		"unknown flag":    {[]string{"serve", "--tarjet", "x"}, 2, "tarjet"},
		"unknown command": {[]string{"sreve"}, 2, `unknown command "sreve" for "ceralaccad": did you mean "serve"?`},
		"unknown verb":    {[]string{"config", "chekc"}, 2, `unknown command "chekc" for "ceralaccad config": did you mean "check"?`},
		"an argument":     {[]string{"serve", "invoice"}, 2, `"invoice" is one argument too many`},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errOut := execute(t, c.args...)
			require.Equal(t, c.code, code, errOut)
			require.Contains(t, errOut, c.want)
		})
	}
	code, out, _ := execute(t, "version")
	require.Zero(t, code)
	require.NotEmpty(t, strings.TrimSpace(out))
	code, out, _ = execute(t, "--help")
	require.Zero(t, code)
	require.Contains(t, out, "Targets: invoice, sdi-gateway")
}

// TestWrongFilesOfServe: a file that the configuration names and that cannot be used is a wrong configuration, told with
// its place before anything is begun.
func TestWrongFilesOfServe(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), mode))
		return path
	}
	empty, words := write("empty", "\n", 0o600), write("words", "no certificate", 0o600)
	other, err := rpc.DevCertificates(filepath.Join(dir, "other"), "invoice")
	require.NoError(t, err)
	const database = "database: {url: 'postgres://{role}@127.0.0.1:1/x'}\n"
	for name, c := range map[string]struct {
		extra string
		put   func(files string) string // changes the configuration
		want  []string
	}{
		"no CA":          {database, replaced("ca_file: ", "/nowhere/ca.crt"), []string{"rpc.tls.ca_file cannot be read: open /nowhere/ca.crt: no such file"}},
		"empty CA":       {database, replaced("ca_file: ", empty), []string{"rpc.tls.ca_file " + empty + " is empty"}},
		"words as CA":    {database, replaced("ca_file: ", words), []string{"rpc.tls.ca_file " + words + " holds no certificate"}},
		"folder as key":  {database, replaced("key_file: ", dir), []string{"rpc.tls.key_file " + dir + " is a folder"}},
		"key of another": {database, replaced("key_file: ", other.For("invoice").Key), []string{"rpc.tls.cert_file", "does not go with", "private key does not match"}},
		"no password":    {"database: {url: 'postgres://{role}@127.0.0.1:1/x', password_file: '/nowhere/{target}'}\n", nil, []string{"database.password_file cannot be read: open /nowhere/invoice"}},
		"empty password": {"database: {url: 'postgres://{role}@127.0.0.1:1/x', password_file: '" + empty + "'}\n", nil, []string{"database.password_file " + empty + " is empty"}},
		"no root of SSL": {"database: {url: 'postgres://{role}@127.0.0.1:1/x?sslmode=verify-full&sslrootcert=/nowhere/ca.crt'}\n", nil, []string{"database.url", "/nowhere/ca.crt", "(for invoice)"}},
		"section's file": {database + "sdi-gateway: {token_file: /nowhere/token}\n", nil, []string{"sdi-gateway.token_file cannot be read: open /nowhere/token"}},
		"section's key":  {database + "invoice: {greeting: ciao}\n", nil, []string{`unknown key "greeting"`}},
		"no secret of S3": {database, func(text string) string {
			at := strings.Index(text, "blob: ")
			rest := text[at:]
			return text[:at] + "blob: {s3: {bucket: b, endpoint: 'x:1', secret_key_file: /nowhere/s3}}" + rest[strings.Index(rest, "\n"):]
		}, []string{"blob.s3.secret_key_file cannot be read"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := yamlFor(t, c.extra, "invoice", "sdi-gateway")
			if c.put != nil {
				text = c.put(text)
			}
			path := filepath.Join(t.TempDir(), "x.yaml")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			code, _, errOut := execute(t, "serve", "--target", "invoice,sdi-gateway", "--config", path)
			require.Equal(t, 2, code, errOut)
			require.Contains(t, errOut, path+":")
			for _, want := range c.want {
				require.Contains(t, errOut, want)
			}
		})
	}
}

// replaced puts another file behind a key of rpc.tls.
func replaced(key, file string) func(string) string {
	return func(text string) string {
		before, after, _ := strings.Cut(text, key)
		_, rest, _ := strings.Cut(after[1:], `"`)
		return before + key + strconv.Quote(file) + rest
	}
}

// TestFilesOfOthers: a process of one target reads its own files and not those of others, nor the password for migrations.
func TestFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "invoice"), []byte("secret"), 0o600))
	text := yamlFor(t, "database: {url: 'postgres://{role}@127.0.0.1:1/x', password_file: '"+dir+"/{target}', admin_url: 'postgres://owner@127.0.0.1:1/x', admin_password_file: /nowhere/owner}\n", "invoice")
	path := filepath.Join(dir, "x.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	code, _, errOut := execute(t, "serve", "--target", "invoice", "--config", path)
	require.Equal(t, 1, code, "it begins: %s", errOut)
	require.Contains(t, errOut, "PostgreSQL for target invoice cannot be used")
	code, _, errOut = execute(t, "config", "check", "--config", path)
	require.Equal(t, 2, code)
	require.Equal(t, 1, strings.Count(errOut, dir+"/sdi-gateway"), "each thing is told once: %s", errOut)
	require.Contains(t, errOut, "database.admin_password_file cannot be read: open /nowhere/owner")
	code, _, errOut = execute(t, "migrate", "--config", path)
	require.Equal(t, 2, code)
	require.Contains(t, errOut, "database.admin_password_file")
}

// TestMissingPasswordIsToldOnce: one file that all targets share is one mistake, and says of whom it is true.
func TestMissingPasswordIsToldOnce(t *testing.T) {
	check := func(database string) string {
		path := filepath.Join(t.TempDir(), "x.yaml")
		require.NoError(t, os.WriteFile(path, []byte(yamlFor(t, database, "invoice", "sdi-gateway")), 0o600))
		code, _, errOut := execute(t, "config", "check", "--config", path)
		require.Equal(t, 2, code, errOut)
		return errOut
	}
	said := check("database: {url: 'postgres://{role}@127.0.0.1/x', password_file: /nowhere/password}\n")
	require.Equal(t, 1, strings.Count(said, "cannot be read"), said)
	said = check("database: {url: 'postgres://{role}@127.0.0.1/x', password_file: '/nowhere/{target}'}\n")
	require.Equal(t, 1, strings.Count(said, "database.password_file"), said)
	require.Contains(t, said, "/nowhere/invoice")
	require.Contains(t, said, "/nowhere/sdi-gateway")
	said = check("database: {max_conns: 9}\n")
	require.Equal(t, 1, strings.Count(said, "database.url is missing"), said)
	require.Contains(t, said, "(for invoice, sdi-gateway)")
}

// TestServeAway: a need that is away ends the process, after start.wait, with
// what, where and how to mend it.
func TestServeAway(t *testing.T) {
	for name, c := range map[string]struct{ extra, find, with string }{
		"postgres": {"database: {url: 'postgres://{role}@127.0.0.1:1/x'}\n", "", "PostgreSQL for target invoice cannot be used"},
		"nats":     {"database: {url: 'postgres://{role}@127.0.0.1:1/x'}\n", "embedded: {dir:", "NATS at nats://127.0.0.1:1 cannot be used"},
	} {
		t.Run(name, func(t *testing.T) {
			text := yamlFor(t, c.extra, "invoice", "sdi-gateway")
			if c.find != "" {
				before, after, _ := strings.Cut(text, "nats: ")
				_, rest, _ := strings.Cut(after, "\n")
				text = before + "nats: {url: 'nats://127.0.0.1:1'}\n" + rest
			}
			path := filepath.Join(t.TempDir(), "x.yaml")
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			code, _, errOut := execute(t, "serve", "--target", "invoice", "--config", path)
			require.Equal(t, 1, code)
			require.Contains(t, errOut, c.with)
			require.Contains(t, errOut, "To mend it: start")
			require.Contains(t, errOut, path)
		})
	}
}

// TestServePortInUse: said at once, with the key.
func TestServePortInUse(t *testing.T) {
	first := yamlFor(t, "database: {url: 'postgres://{role}@127.0.0.1:1/x'}\n", "invoice", "sdi-gateway")
	taken := listen(t)
	path := filepath.Join(t.TempDir(), "x.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(first, "admin: {listen: '127.0.0.1:0'}", "admin: {listen: '"+taken+"'}", 1)), 0o600))
	code, _, errOut := execute(t, "serve", "--config", path)
	require.Equal(t, 1, code)
	require.Contains(t, errOut, "admin.listen")
	require.Contains(t, errOut, "address already in use")
}
