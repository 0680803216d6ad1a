package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/conservation"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
	"ceralacca.dev/services/signer"
)

// keeper is an archive at work, and the tool in the hands of a tenant and of two operators.
type keeper struct {
	*runtest.Process

	t                     *testing.T
	dir, section          string
	tenant, first, second string // keys
}

// startArchive runs conservation with its signer, a real Vault, an authority that stamps, two replicas and a log.
func startArchive(t *testing.T) *keeper {
	t.Helper()
	ctx := context.Background()
	k := &keeper{t: t, dir: t.TempDir()}
	server, err := vault.Start(ctx, vault.Options{Private: true, Dir: filepath.Join(k.dir, "vault")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	root, err := devenv.Root()
	require.NoError(t, err)
	roles, err := server.Provision(ctx, filepath.Join(root, "deploy", "vault"))
	require.NoError(t, err)
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stamps, err := tsa.New(tsa.Options{CA: authority, Name: "SANDBOX TSA"})
	require.NoError(t, err)
	web := httptest.NewServer(stamps)
	t.Cleanup(web.Close)
	k.write("ca.pem", authority.CertPEM())
	for _, disk := range []string{"one", "two"} {
		require.NoError(t, os.Mkdir(k.file(disk), 0o750))
	}
	out, err := exec.Command("openssl", "genpkey", "-algorithm", "ed25519").Output()
	require.NoError(t, err, "openssl makes the log's key: install it")
	k.write("key.pem", out)
	k.section = fmt.Sprintf(`conservation:
  credential: tenants/platform/companies/archive/credentials/-
  responsible: {first_name: Maria, last_name: Rossi, id: TINIT-RSSMRA80A01H501U, deed: Atto di nomina del 2 gennaio 2026}
  tsa: [{name: sandbox, url: %q, ca_file: %q}]
  storage: {primary: {fs: {dir: %q}}, second: {fs: {dir: %q}}, probe: 50ms}
  renewal: {ahead: 876000h}
  log: {origin: cli.test/2026, key_file: %q, every: 20ms}
`, web.URL, k.file("ca.pem"), k.file("one"), k.file("two"), k.file("key.pem"))
	books := run.Target{Name: "invoice", Stateless: true, Start: func(_ context.Context, host *run.Host) error {
		invoicev1.RegisterInvoiceServiceServer(host.RPC, invoicev1.UnimplementedInvoiceServiceServer{})
		return nil
	}}
	k.Process = runtest.Start(t, runtest.Options{
		Dir: k.file("process"), Targets: []run.Target{conservation.Target, signer.Target, books},
		Config: k.section + fmt.Sprintf("signer:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}\n", server.Addr,
			k.write("role", []byte(roles[vault.SignerRole].RoleID)), k.write("secret", []byte(roles[vault.SignerRole].SecretID))),
	})
	k.tenant = k.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"*"}})
	k.first, k.second = k.Key(auth.Caller{Role: auth.RoleOperator, ID: "one"}), k.Key(auth.Caller{Role: auth.RoleOperator, ID: "two"})
	surroundings(t, map[string]string{"SERVER": k.RPC, "CA_FILE": k.Files().CA, "TENANT": "acme"})
	api := signv1.NewSignServiceClient(k.Operator("signer"))
	c, err := api.CreateCredential(ctx, &signv1.CreateCredentialRequest{Parent: "tenants/platform/companies/archive", Credential: &signv1.Credential{
		Kind: signv1.CredentialKind_CREDENTIAL_KIND_ROLE, KeyType: signv1.KeyType_KEY_TYPE_EC_P256, CommonName: "Responsabile",
	}})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(c.GetCsrPem()))
	cert, err := authority.SignCSR(block.Bytes, ca.ProfileRole)
	require.NoError(t, err)
	_, err = api.ImportCertificate(ctx, &signv1.ImportCertificateRequest{
		Name: c.GetName(), CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(authority.CertPEM()),
	})
	require.NoError(t, err)
	return k
}

func (k *keeper) file(name string) string { return filepath.Join(k.dir, name) }

func (k *keeper) write(name string, content []byte) string {
	k.t.Helper()
	require.NoError(k.t, os.WriteFile(k.file(name), content, 0o600))
	return k.file(name)
}

// as runs the tool with a key.
func (k *keeper) as(key string, args ...string) answer {
	k.t.Helper()
	k.t.Setenv("CERALACCA_API_KEY", key)
	var out, errOut bytes.Buffer
	c := &cli{in: strings.NewReader(""), out: &out, errOut: &errOut, now: time.Now}
	code := c.run(context.Background(), args)
	return answer{out.String(), errOut.String(), code}
}

// does runs a command of the tenant that succeeds.
func (k *keeper) does(args ...string) string {
	k.t.Helper()
	got := k.as(k.tenant, args...)
	require.Equal(k.t, exitOK, got.code, "%v: %s%s", args, got.out, got.errOut)
	return got.out
}

// fails runs a command of the tenant that ends with a code, and tells why.
func (k *keeper) fails(code int, why string, args ...string) {
	k.t.Helper()
	got := k.as(k.tenant, args...)
	require.Equal(k.t, code, got.code, "%v: %s%s", args, got.out, got.errOut)
	require.Contains(k.t, got.out+got.errOut, why)
}

// until runs a command again until it succeeds; only what is not ready yet may be in its way.
func (k *keeper) until(args ...string) (out string) {
	k.t.Helper()
	require.Eventually(k.t, func() bool {
		got := k.as(k.tenant, args...)
		if got.code != exitOK {
			require.Regexp(k.t, "NOT_READY|EVIDENCE_NOT_FOUND", got.errOut, args)
		}
		out = got.out
		return got.code == exitOK
	}, time.Minute, 50*time.Millisecond, args)
	return out
}

// value reads a field of a command's JSON.
func (k *keeper) value(field string, args ...string) string {
	k.t.Helper()
	out := k.does(append(args, "--format", "json")...)
	var m map[string]any
	require.NoError(k.t, json.Unmarshal([]byte(out), &m), out)
	text, _ := m[field].(string)
	require.NotEmpty(k.t, text, "%s in %s", field, out)
	return text
}

// upload hands a text over and gives its deposit as JSON.
func (k *keeper) upload(key, content, year string) map[string]any {
	k.t.Helper()
	out := k.does("conserve", "upload", k.write(key+".txt", []byte(content)), "--key", key, "--year", year, "--type", "Lettera", "--title", "Saluti "+key,
		"--date", year+"-03-31", "--flow", "in", "--author", "Beta S.r.l.", "--format", "json")
	var m map[string]any
	require.NoError(k.t, json.Unmarshal([]byte(out), &m))
	require.Equal(k.t, "DEPOSIT_STATE_ACCEPTED", m["state"], out)
	return m
}

// sealed closes a package of a year and waits for its seal.
func (k *keeper) sealed(year string) string {
	k.t.Helper()
	name := k.value("name", "conserve", "close", "--year", year, "--class", "ALTRO")
	require.Eventually(k.t, func() bool {
		return k.value("state", "archive", "get", name) == "PACKAGE_STATE_SEALED"
	}, time.Minute, 50*time.Millisecond)
	return name
}

// TestConserveByCommand walks the archive's verbs against a running service: deposits with their reports, conflicts, a sealed package
// with its evidence record, and a package that is judged for import.
func TestConserveByCommand(t *testing.T) {
	k := startArchive(t)
	first := k.upload("lettera-1", "Egregio dottore\n", "2010")
	k.depositsByCommand(first)
	old := k.sealed("2010")
	k.evidenceByCommand(old)
	require.Contains(t, k.does("conserve", "import", k.file("package.zip"), "--key", "altro-2010", "--dry-run"), "ACCEPTED")
}

func (k *keeper) depositsByCommand(first map[string]any) {
	name, _ := first["name"].(string)
	unit, _ := first["unit"].(string)
	require.Contains(k.t, k.does("conserve", "deposits"), "lettera-1")
	k.until("conserve", "rdv", name, "-o", k.file("rdv.xml"))
	require.Equal(k.t, k.does("conserve", "rdv", name), k.does("conserve", "rdv", unit), "the unit's report is the deposit's")
	k.does("conserve", "log", "-o", k.file("log.key"))
	verify := []string{"conserve", "verify", k.file("rdv.xml.p7m"), "--log-key", k.file("log.key"), "--roots", k.file("ca.pem")}
	require.Contains(k.t, k.does(verify...), "the signature of the report")
	k.fails(exitUsage, "--log-key", "conserve", "verify", k.file("rdv.xml"))
	k.fails(exitUsage, "not shown", "conserve", "verify", k.file("rdv.xml"), "--log-key", k.file("log.key"))
	raw, err := os.ReadFile(k.file("rdv.xml.p7m"))
	require.NoError(k.t, err)
	k.write("bad.p7m", bytes.Replace(raw, []byte("<Dimensione>16<"), []byte("<Dimensione>17<"), 1))
	k.fails(exitRefused, "SUBMISSION_INVALID", "conserve", "verify", k.file("bad.p7m"), "--log-key", k.file("log.key"))
	require.NotContains(k.t, k.does("conserve", "submissions"), "2026-", "nothing came by event")

	other := k.write("other.txt", []byte("Egregio avvocato\n"))
	again := []string{"conserve", "upload", other, "--key", "lettera-1", "--year", "2010", "--type", "Lettera", "--title", "Saluti lettera-1", "--date", "2010-03-31", "--flow", "in", "--author", "Beta S.r.l."}
	k.fails(exitRefused, "KEY_HOLDS_OTHER_BYTES", again...)
	list := k.does("conserve", "conflicts", "--format", "json")
	var conflicts struct{ Conflicts []struct{ Name string } }
	require.NoError(k.t, json.Unmarshal([]byte(list), &conflicts))
	require.Len(k.t, conflicts.Conflicts, 1)
	k.fails(exitUsage, "--keep held or both", "conserve", "resolve", conflicts.Conflicts[0].Name)
	require.Contains(k.t, k.does("conserve", "resolve", conflicts.Conflicts[0].Name, "--keep", "held", "--reason", "spedito due volte"), "KEEP_HELD")
	require.Contains(k.t, k.does("conserve", "conflicts"), "spedito due volte")
	require.Contains(k.t, k.does("conserve", "formats"), "PDF/A")
}

func (k *keeper) evidenceByCommand(pkg string) {
	k.does("archive", "download", pkg, "-o", k.file("package.zip"))
	k.as(k.first, "conserve", "check", "renewal")
	k.until("conserve", "evidence", pkg, "-o", k.file("package.ers"))
	verify := []string{"conserve", "verify", k.file("package.zip"), "--roots", k.file("ca.pem"), "--evidence"}
	require.Contains(k.t, k.does(append(verify, k.file("package.ers"))...), "the evidence record: 1 stamps")
	raw, err := os.ReadFile(k.file("package.ers"))
	require.NoError(k.t, err)
	raw[len(raw)/2] ^= 1
	k.fails(exitRefused, "EVIDENCE_INVALID", append(verify, k.write("bad.ers", raw))...)
	raw, err = os.ReadFile(k.file("package.zip"))
	require.NoError(k.t, err)
	raw[len(raw)/2] ^= 1
	k.write("bad.zip", raw)
	k.fails(exitRefused, "EVIDENCE_INVALID", "conserve", "verify", k.file("bad.zip"), "--evidence", k.file("package.ers"))
}
