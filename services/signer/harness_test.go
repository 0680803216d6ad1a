package signer_test

import (
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/protobuf/proto"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/postgres"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/remotesign"
	"ceralacca.dev/services/signer"
)

const company = "tenants/acme/companies/main"

// house is a signer with a real Vault, a certification authority, and a probe that emits what
// invoice would and hears what the signer tells.
type house struct {
	*runtest.Process
	vault  *vault.Server
	ca     *ca.CA
	client signv1.SignServiceClient
	probe  *probe
	config string
	audit  string // of Vault's audit device
	dir    string // of the process: events and blobs

	postmaster int // of PostgreSQL, when it is on this machine and was asked for
}

type probe struct {
	host *run.Host
	ear  bustest.Ear

	mu     sync.Mutex
	signed []*signv1.DocumentSigned
	failed []*signv1.SigningFailed
	others []proto.Message // about credentials, in the order of arrival
}

func (p *probe) target() run.Target {
	return run.Target{Name: "probe", Start: func(_ context.Context, h *run.Host) error {
		p.host = h
		bustest.Hear(&p.ear, h.Bus, "signed", func(_ context.Context, ev *signv1.DocumentSigned) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.signed = append(p.signed, ev)
		})
		bustest.Hear(&p.ear, h.Bus, "failed", func(_ context.Context, ev *signv1.SigningFailed) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.failed = append(p.failed, ev)
		})
		hear[*signv1.PushRequested](p, "push")
		hear[*signv1.CredentialUsed](p, "used")
		hear[*signv1.OtpDeviceChanged](p, "changed")
		hear[*signv1.CredentialExpiring](p, "expiring")
		hear[*signv1.CredentialStateChanged](p, "state")
		return nil
	}}
}

func (p *probe) signedOf(subject string) []*signv1.DocumentSigned {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*signv1.DocumentSigned
	for _, ev := range p.signed {
		if subject == "" || ev.GetSubject() == subject {
			list = append(list, ev)
		}
	}
	return list
}

func (p *probe) failedOf(subject string) []*signv1.SigningFailed {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*signv1.SigningFailed
	for _, ev := range p.failed {
		if ev.GetSubject() == subject {
			list = append(list, ev)
		}
	}
	return list
}

// accept emits InvoiceAccepted for new bytes, copies times, and gives the invoice's name.
func (p *probe) accept(t testing.TB, sign bool, content []byte, copies int) string {
	t.Helper()
	ctx := context.Background()
	ref, err := p.host.Blobs.Put(ctx, "acme", content)
	require.NoError(t, err)
	id := uuid.NewString()
	ev := &invoicev1.InvoiceAccepted{
		Invoice: company + "/invoices/" + id, Format: "FPR12", Sign: sign, Original: blobOf(ref), RecipientCode: "0000000",
	}
	for range copies {
		err = p.host.DB.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
			return p.host.Bus.Emit(bus.WithCorrelation(ctx, id), tx, ev)
		})
		require.NoError(t, err)
	}
	return ev.GetInvoice()
}

func blobOf(ref blob.Ref) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/xml"}
}

// preparedVault is the storage of a Vault that has its engines, and the key under which seeds come: making it costs
// seconds of processor, once for all tests. It is removed by TestMain.
var preparedVault = sync.OnceValues(func() (string, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "signer-vault-")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	server, err := vault.Start(ctx, vault.Options{Private: true, Dir: dir})
	if err != nil {
		return "", err
	}
	_, err = provision(ctx, server)
	if err == nil {
		client, clientErr := server.Client()
		err = clientErr
		if err == nil {
			_, err = client.Logical().ReadWithContext(ctx, vault.OATHPath+"/wrapping_key")
		}
		for path, fields := range secretsInVault { // of providers; they are read when a signer starts
			if err == nil {
				_, err = client.Logical().WriteWithContext(ctx, path, map[string]any{"data": fields})
			}
		}
	}
	return dir, errors.Join(err, server.Stop())
})

// secretsInVault are our accounts at the providers of the tests, and what they sign for without a person.
var secretsInVault = map[string]map[string]any{
	"secret/data/signer/far":                     {"user": remotesign.AppUser, "password": remotesign.AppPassword},
	"secret/data/signer/automatic/acme/delegate": {"user": remotesign.DelegateUser, "password": remotesign.DelegatePassword, "domain": remotesign.DelegateDomain},
	"secret/data/signer/automatic/acme/pin":      {"password": remotePIN},
	"secret/data/signer/automatic/other/pin":     {"password": remotePIN},
	"secret/data/signer/automatic/platform/pin":  {"password": remotePIN},
}

// atEnd is what TestMain does after all tests, the last first.
var atEnd []func() error

func TestMain(m *testing.M) {
	if spec := os.Getenv(signerEnv); spec != "" { // a process of a test that kills it
		if err := serveSigner(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(vaultWordsEnv) != "" { // the program "vault" of a README
		if err := vaultWords(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		os.Exit(0)
	}
	sideBySide()
	code := m.Run()
	for _, end := range slices.Backward(atEnd) {
		if err := end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// sideBySide runs at most six tests at a time, unless the command says how many: each has pools of connections, and all
// ask one Vault.
func sideBySide() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(min(runtime.GOMAXPROCS(0), 6)))
	}
}

// safe is a running Vault, and how the signer logs in.
type safe struct {
	*vault.Server
	role     vault.Credentials
	audit    string
	patience time.Duration // of one call
}

// startVault starts a Vault on a copy of the prepared storage.
func startVault(dir string) (*safe, error) {
	ctx := context.Background()
	prepared, err := preparedVault()
	if err != nil {
		return nil, err
	}
	if err := os.CopyFS(filepath.Join(dir, "vault"), os.DirFS(prepared)); err != nil {
		return nil, err
	}
	s := &safe{audit: filepath.Join(dir, "vault-audit.log"), patience: 3 * time.Second}
	s.Server, err = vault.Start(ctx, vault.Options{Private: true, Dir: filepath.Join(dir, "vault"), Audit: s.audit})
	if err != nil {
		return nil, err
	}
	roles, err := provision(ctx, s.Server)
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	s.role = roles[vault.SignerRole]
	return s, nil
}

// sharedVault serves all tests that leave it running: their keys have names of their own.
var sharedVault = sync.OnceValues(func() (*safe, error) {
	dir, err := os.MkdirTemp("", "signer-vault-")
	if err != nil {
		return nil, err
	}
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	s, err := startVault(dir)
	if err == nil {
		s.patience = 20 * time.Second // it is never away, and a crowd may ask it beside other tests
		atEnd = append(atEnd, s.Stop)
	}
	return s, err
})

var ownVaults sync.Map // of testing.TB to *safe

// ownVault gives a test a Vault that it may stop, seal, or look at alone. Called before the signer is opened.
func ownVault(t testing.TB) {
	t.Helper()
	s, err := startVault(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	ownVaults.Store(t, s)
}

var ownDatabases sync.Map // of testing.TB to map[string]*pg.DB

// durable gives a test a database server of its own that loses nothing which was synced: the tests' own has no fsync.
// Called before the signer is opened.
func durable(t testing.TB) *postgres.Cluster {
	t.Helper()
	cluster, db := pgtest.Durable(t, "signer", filepath.Join(t.TempDir(), "pg"), 12)
	ownDatabases.Store(t, map[string]*pg.DB{"signer": db})
	return cluster
}

// databaseOf are the schemas that a test has brought; the others are made for it.
func databaseOf(t testing.TB) map[string]*pg.DB {
	if own, ok := ownDatabases.Load(t); ok {
		return own.(map[string]*pg.DB) //nolint:forcetypeassert // what durable stored
	}
	return nil
}

func vaultOf(t testing.TB) *safe {
	t.Helper()
	if s, own := ownVaults.Load(t); own {
		return s.(*safe) //nolint:forcetypeassert // what ownVault stored
	}
	s, err := sharedVault()
	require.NoError(t, err)
	return s
}

func provision(ctx context.Context, server *vault.Server) (map[string]vault.Credentials, error) {
	root, err := devenv.Root()
	if err != nil {
		return nil, err
	}
	return server.Provision(ctx, filepath.Join(root, "deploy", "vault"))
}

// open starts the signer, beside the Vault of all unless the test has its own.
func open(t testing.TB) *house {
	t.Helper()
	return openWith(t, nil, "")
}

// openWith has the process write all its log to log (nil: warnings, to the test's) and adds lines to
// the signer's section.
func openWith(t testing.TB, log io.Writer, extra string, spans ...sdktrace.SpanProcessor) *house {
	t.Helper()
	return openAt(t, nil, log, extra, spans...)
}

// openAt has a clock of its own; nil: the machine's.
func openAt(t testing.TB, now func() time.Time, log io.Writer, extra string, spans ...sdktrace.SpanProcessor) *house {
	t.Helper()
	level := ""
	if log != nil {
		level = "debug"
	}
	dir, safe := t.TempDir(), vaultOf(t)
	roleFile, secretFile := filepath.Join(dir, "role"), filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(roleFile, []byte(safe.role.RoleID+"\n"), 0o600))
	require.NoError(t, os.WriteFile(secretFile, []byte(safe.role.SecretID+"\n"), 0o600))
	authority, err := ca.New(ca.Options{Now: now})
	require.NoError(t, err)
	h := &house{vault: safe.Server, ca: authority, probe: &probe{}, audit: safe.audit, dir: filepath.Join(dir, "process")}
	h.config = fmt.Sprintf("breaker: {failures: 5, open: 500ms}\nsigner:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q, timeout: %s}\n%s",
		safe.Addr, roleFile, secretFile, safe.patience, extra)
	h.Process = runtest.Start(t, runtest.Options{
		Dir:     h.dir,
		Targets: []run.Target{signer.Target, h.probe.target()},
		DB:      databaseOf(t),
		Config:  h.config, LogOutput: log, LogLevel: level, SpanProcessors: spans, Now: now,
	})
	h.client = signv1.NewSignServiceClient(h.Operator("signer"))
	return h
}

// credential makes a credential and imports its certificate.
func (h *house) credential(t testing.TB, parent string, kind signv1.CredentialKind, key signv1.KeyType) *signv1.Credential {
	t.Helper()
	c, err := h.client.CreateCredential(context.Background(), &signv1.CreateCredentialRequest{
		Parent: parent, RequestId: uuid.NewString(),
		Credential: &signv1.Credential{Kind: kind, KeyType: key, CommonName: "Alfa di prova"},
	})
	require.NoError(t, err)
	return h.certify(t, c, ca.ProfileSigning)
}

func (h *house) certify(t testing.TB, c *signv1.Credential, profile ca.Profile) *signv1.Credential {
	t.Helper()
	ready, err := h.client.ImportCertificate(context.Background(), &signv1.ImportCertificateRequest{
		Name: c.GetName(), CertificatePem: h.issue(t, c.GetCsrPem(), profile),
	})
	require.NoError(t, err)
	require.Equal(t, signv1.CredentialState_CREDENTIAL_STATE_ACTIVE, ready.GetState())
	return ready
}

// issue has the sandbox authority certify a request and gives the chain.
func (h *house) issue(t testing.TB, csr string, profile ca.Profile) string {
	t.Helper()
	block, _ := pem.Decode([]byte(csr))
	require.NotNil(t, block)
	cert, err := h.ca.SignCSR(block.Bytes, profile)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(h.ca.CertPEM())
}

// opensslAccepts has openssl verify a p7m against the sandbox authority and compares the content.
func (h *house) opensslAccepts(t testing.TB, p7m, content []byte) {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "openssl is what judges the signatures: install it")
	dir := t.TempDir()
	in, roots, out := filepath.Join(dir, "in.p7m"), filepath.Join(dir, "ca.pem"), filepath.Join(dir, "out")
	require.NoError(t, os.WriteFile(in, p7m, 0o600))
	require.NoError(t, os.WriteFile(roots, h.ca.CertPEM(), 0o600))
	said, err := exec.Command(bin, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", in, "-CAfile", roots, "-purpose", "any", "-out", out).CombinedOutput()
	require.NoError(t, err, "%s", said)
	got, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(content), sha256.Sum256(got))
}

func (h *house) get(t testing.TB, b *eventv1.Blob) []byte {
	t.Helper()
	ref, err := blob.ParseURI(b.GetUri())
	require.NoError(t, err)
	raw, err := h.probe.host.Blobs.Get(context.Background(), ref)
	require.NoError(t, err)
	return raw
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 30*time.Second, 20*time.Millisecond, what)
}

// accepted is an event for an invoice of its own, not yet emitted.
func accepted(t testing.TB, h *house, i int) *invoicev1.InvoiceAccepted {
	t.Helper()
	ref, err := h.probe.host.Blobs.Put(context.Background(), "acme", fmt.Appendf(nil, "<f n='%d'/>", i))
	require.NoError(t, err)
	return &invoicev1.InvoiceAccepted{
		Invoice: company + "/invoices/" + uuid.NewString(), Format: "FPA12", Sign: true, Original: blobOf(ref),
	}
}

// refOf is the URI that belongs to the digest and size of b.
func refOf(b *eventv1.Blob) string {
	return blob.Ref{Tenant: "acme", SHA256: [32]byte(b.GetSha256()), Size: b.GetSize()}.URI()
}
