package main

import (
	"archive/zip"
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
	"ceralacca.dev/services/internal/pg/pgtest"
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
  disposal: {holders: [], quiet: 0s}
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

// TestConserveByCommand walks the archive's verbs against a running service: deposits, conflicts, terms, holds, evidence, imports,
// the monitor, and the whole of a destruction with the eraser's own command.
func TestConserveByCommand(t *testing.T) {
	k := startArchive(t)
	k.does("conserve", "log", "-o", k.file("log.key"))
	for range 2 {
		require.Contains(t, k.does(k.watch()[:len(k.watch())-2]...), "nothing was taken in charge yet", "a new log is none that does not answer")
	}
	first := k.upload("lettera-1", "Egregio dottore\n", "2010")
	k.depositsByCommand(first)
	old := k.sealed("2010")
	k.evidenceByCommand(old)
	k.rulesByCommand(old)
	k.monitorByCommand()
	k.packageRemovedUnderMonitor()
	k.scartoByCommand(old, first)
	k.importByCommand() // last: what is handed over again is held again
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

// importByCommand takes the package in as another preserver's.
func (k *keeper) importByCommand() {
	require.Contains(k.t, k.does("conserve", "import", k.file("package.zip"), "--key", "altro-2010", "--dry-run"), "ACCEPTED")
	k.fails(exitRefused, "PACKAGE_NOT_VERIFIED", "conserve", "import", k.withoutDocuments("package.zip"), "--key", "altro-guasto")
	require.Contains(k.t, k.does("conserve", "import", k.file("package.zip"), "--key", "altro-2010"), "ACCEPTED")
	require.Contains(k.t, k.does("conserve", "search", "class=ALTRO"), "lettera-1.txt")
}

// withoutDocuments is a package whose index names what is not there.
func (k *keeper) withoutDocuments(name string) string {
	k.t.Helper()
	from, err := zip.OpenReader(k.file(name))
	require.NoError(k.t, err)
	defer from.Close()
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	for _, f := range from.File {
		if !strings.Contains(f.Name, "/data/units/") {
			require.NoError(k.t, to.Copy(f))
		}
	}
	require.NoError(k.t, to.Close())
	return k.write("empty.zip", out.Bytes())
}

func (k *keeper) rulesByCommand(pkg string) {
	require.Contains(k.t, k.does("conserve", "retention"), "FISC-PA")
	require.Contains(k.t, k.does("conserve", "retention", "--class", "REG", "--years", "20"), "20")
	k.fails(exitRefused, "RETENTION_TOO_SHORT", "conserve", "retention", "--class", "FISC", "--years", "3")
	k.fails(exitUsage, "--reason is needed", "conserve", "hold", "set", "--package", pkg)
	hold := k.value("name", "conserve", "hold", "set", "--package", pkg, "--reason", "accertamento 3/2026")
	require.Contains(k.t, k.does("conserve", "hold", "ls", "--active"), "accertamento 3/2026")
	k.fails(exitRefused, "DISPOSAL_EMPTY", "conserve", "scarto", "propose")
	k.does("conserve", "hold", "lift", hold, "--reason", "archiviato")
	require.NotContains(k.t, k.does("conserve", "hold", "ls", "--active"), "accertamento")
	box := "tenants/acme/mailboxes/0197a000-0000-7000-8000-000000000001"
	require.Contains(k.t, k.does("conserve", "statement"), "not sent")
	k.fails(exitUsage, "go together", "conserve", "statement", "--mailbox", box)
	require.Contains(k.t, k.does("conserve", "statement", "--mailbox", box, "--to", "studio@pec.example"), "studio@pec.example")
	require.Contains(k.t, k.does("conserve", "statement", "--off"), "not sent")
}

func (k *keeper) monitorByCommand() {
	without := []string{"conserve", "monitor", "--once", "--packages", "--state", k.file("monitor-0"), "--log-key", k.file("log.key")}
	require.Contains(k.t, k.does(without...), "no receipt of one was given")
	require.Contains(k.t, k.does("conserve", "checkpoints"), "STAMPED")
	require.Eventually(k.t, func() bool { // the stamp of the day comes after its first checkpoint
		return strings.Contains(k.does("conserve", "checkpoints", "--stamped", "--format", "json"), "stamp_time")
	}, time.Minute, 50*time.Millisecond)
	require.NotContains(k.t, k.does("conserve", "distributions"), "READY")
	k.does("conserve", "exhibit", "class=ALTRO", "--purpose", "per il revisore", "-o", k.file("pdd.zip"))
	require.Contains(k.t, k.does("conserve", "distributions"), "per il revisore")
	var made string
	admin := pgtest.Admin(k.t, k.DB("conservation"))
	err := admin.QueryRow(context.Background(), `UPDATE distribution SET state = 'EXPIRED' WHERE state = 'READY' RETURNING id::text`).Scan(&made)
	require.NoError(k.t, err)
	k.fails(exitRefused, "DISTRIBUTION_EXPIRED", "conserve", "exhibit", "--distribution", made, "-o", k.file("again.zip"))
	require.NoFileExists(k.t, k.file("again.zip"))
	require.Contains(k.t, k.does("conserve", "exhibit", "--distribution", made), "EXPIRED")
	_, err = admin.Exec(context.Background(), `UPDATE distribution SET state = 'READY'`)
	require.NoError(k.t, err)
	k.does("conserve", "export", "-o", k.file("export"))
	require.Contains(k.t, k.does("conserve", "exports"), "READY")
	k.until("conserve", "receipt", "--package", k.value("name", "archive", "get", k.firstPackage()), "--latest", "-o", k.file("package.receipt"))
	for range 2 {
		require.Contains(k.t, k.does(append(k.watch(), "--packages")...), "1 receipts in it")
	}
	stranger, err := ca.New(ca.Options{})
	require.NoError(k.t, err)
	fresh := []string{"conserve", "monitor", "--once", "--state", k.file("monitor-fresh"), "--log-key", k.file("log.key")}
	require.Contains(k.t, k.does(append(fresh, "--roots", k.file("ca.pem"))...), ", stamped ")
	require.Contains(k.t, k.does(fresh...), "no roots were given")
	k.fails(exitRefused, "LOG_STALE", append(fresh, "--fresh", "1ns")...)
	k.fails(exitRefused, "LOG_STAMP_INVALID", append(fresh, "--roots", k.write("stranger.pem", stranger.CertPEM()))...)
	require.NotContains(k.t, k.does(append(fresh, "--fresh", "0s")...), "stamped")
}

// watch is one look of the monitor.
func (k *keeper) watch() []string {
	return []string{"conserve", "monitor", "--once", "--state", k.file("monitor"), "--log-key", k.file("log.key"), "--receipt", k.file("*.receipt")}
}

func (k *keeper) firstPackage() string {
	var list struct{ Packages []struct{ Name string } }
	require.NoError(k.t, json.Unmarshal([]byte(k.does("archive", "ls", "--format", "json")), &list))
	require.NotEmpty(k.t, list.Packages)
	return list.Packages[len(list.Packages)-1].Name
}

// scartoByCommand goes the six steps; each is refused before its time.
func (k *keeper) scartoByCommand(pkg string, first map[string]any) {
	t := k.t
	withdrawn := k.value("name", "conserve", "scarto", "propose")
	require.Contains(t, k.does("conserve", "scarto", "withdraw", withdrawn), "WITHDRAWN")
	d := k.value("name", "conserve", "scarto", "propose", "--year", "2010")
	require.Contains(t, k.does("conserve", "scarto", "get", d), pkg[strings.LastIndexByte(pkg, '/')+1:])
	release := func(key, person string) answer {
		return k.as(key, "conserve", "scarto", "release", d, "--person", person)
	}
	require.Contains(t, release(k.first, "Uno Alfa").errOut, "DISPOSAL_STATE")
	k.fails(exitUsage, "--person, --reference and --date", "conserve", "scarto", "authorize", d)
	deed := k.write("autorizzazione.pdf", []byte("%PDF-1.7\n%%EOF\n"))
	require.Contains(t, k.does("conserve", "scarto", "authorize", d, "--person", "Anna Conti", "--reference", "prot. 7/2026", "--date", "2026-01-15", "--deed", deed, "--package", pkg), "AUTHORIZED")
	require.Equal(t, exitUsage, k.as(k.first, "conserve", "scarto", "release", d).code)
	k.fails(exitDenied, "", "conserve", "scarto", "release", d, "--person", "Anna Conti")
	require.Contains(t, release(k.first, "Uno Alfa").out, "RELEASED_ONCE")
	require.Contains(t, release(k.first, "Due Beta").errOut, "SAME_PERSON")
	out, code := k.erase()
	require.Zero(t, code, out)
	require.Contains(t, out, "0 packages destroyed")
	require.Contains(t, release(k.second, "Due Beta").out, "RELEASED")
	out, code = k.erase()
	require.Zero(t, code, out)
	require.Contains(t, out, "1 packages destroyed, 0 wait")
	require.Eventually(t, func() bool { // once more, when it is known what may go of the platform's store
		out, code = k.erase()
		return code == 0 && strings.Contains(out, "those of 0 packages are being asked for")
	}, time.Minute, 50*time.Millisecond, "copies")
	require.Eventually(t, func() bool {
		return k.as(k.tenant, "conserve", "scarto", "report", d, "-o", k.file("scarto.p7m"), "--receipt", k.file("scarto.proof")).code == exitOK
	}, time.Minute, 50*time.Millisecond)
	k.reportOffline("scarto", pkg)
	said, err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", k.file("scarto.p7m"), "-CAfile", k.file("ca.pem"), "-purpose", "any").Output()
	require.NoError(t, err)
	require.Contains(t, string(said), "prot. 7/2026")
	require.Contains(t, k.does("conserve", "scarto", "ls"), "PARTIAL")
	unit, _ := first["unit"].(string)
	k.fails(exitRefused, "UNIT_DESTROYED", "conserve", "integrity", unit)
	require.Contains(t, k.does("conserve", "rdv", unit), unit, "the report outlives the document")
	k.fails(exitRefused, "PACKAGE_DESTROYED", append(k.watch(), "--packages")...) // the monitor names what is gone, whoever had it destroyed
	require.Equal(t, exitUsage, k.as(k.first, "conserve", "scarto", "complete", d).code)
	got := k.as(k.first, "conserve", "scarto", "complete", d, "--statement", "la generazione più vecchia è del 3 marzo")
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Contains(t, got.out, "COMPLETE")
}

// reportOffline verifies the report of a destruction as whoever has it and its proof does, without any service.
func (k *keeper) reportOffline(name, pkg string) {
	t, p7m, proof := k.t, k.file(name+".p7m"), k.file(name+".proof")
	t.Setenv("CERALACCA_SERVER", "127.0.0.1:1")
	defer t.Setenv("CERALACCA_SERVER", k.RPC)
	trust := []string{"--roots", k.file("ca.pem"), "--log-key", k.file("log.key")}
	verify := func(file, receipt string) []string {
		return append([]string{"conserve", "verify", file, "--receipt", receipt}, trust...)
	}
	said := k.does(verify(p7m, proof)...)
	require.Contains(t, said, "the signature of the report of tenants/acme/disposals/")
	require.Contains(t, said, "the signed report is leaf ")
	k.fails(exitUsage, "that the log states the report", append([]string{"conserve", "verify", p7m}, trust...)...)
	k.fails(exitUsage, "--log-key", "conserve", "verify", p7m, "--receipt", proof)
	k.fails(exitUsage, "are for preservation packages", append(verify(p7m, proof), "--complete")...)
	k.fails(exitRefused, "RECEIPT_ELSEWHERE", verify(p7m, k.file("package.receipt"))...) // a leaf of something else
	raw, err := os.ReadFile(p7m)
	require.NoError(t, err)
	id := []byte(pkg[strings.LastIndexByte(pkg, '/')+1:])
	require.Contains(t, string(raw), string(id))
	other := bytes.Replace(raw, id, []byte("0197a000-0000-7000-8000-000000000001"), 1)
	bad := k.write("other.p7m", other)
	k.fails(exitRefused, "REPORT_INVALID", verify(bad, proof)...)
	k.fails(exitRefused, "RECEIPT_ELSEWHERE", verify(bad, proof)...)
	text, err := os.ReadFile(proof)
	require.NoError(t, err)
	k.fails(exitRefused, "RECEIPT_INVALID", verify(p7m, k.write("bad.proof", bytes.Replace(text, []byte("cli.test/2026\n"), []byte("cli.test/2027\n"), 1)))...)
}

// erase is ceralaccad conservation erase. The schema of this test has a name of its own, and a target's schema is its name.
func (k *keeper) erase() (string, int) {
	k.t.Helper()
	c := k.DB("conservation").Config()
	url := c.URL
	config := fmt.Sprintf("database: {url: %q, role: %q, assume_role: true}\nnats: {url: 'nats://127.0.0.1:1'}\nblob: {fs: {dir: %q}}\nadmin: {listen: '127.0.0.1:0'}\nhttp: {listen: '127.0.0.1:0'}\nrpc:\n  listen: 127.0.0.1:0\n  tls: {cert_file: %q, key_file: %q, ca_file: %q}\n%s",
		url, c.Role, filepath.Join(k.file("process"), "blobs"), k.Files().Cert, k.Files().Key, k.Files().CA, strings.Replace(k.section, "conservation:", c.Schema+":", 1))
	path := k.write("eraser.yaml", []byte(config))
	var out bytes.Buffer
	code := run.Execute(k.t.Context(), []run.Target{{Name: c.Schema, Verbs: conservation.Target.Verbs}}, []string{c.Schema, "erase", "--config", path}, nil, &out, &out)
	return out.String(), code
}
