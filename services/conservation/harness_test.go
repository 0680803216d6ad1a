package conservation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/bus/bustest"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
	"ceralacca.dev/services/signer"
)

const (
	company  = "tenants/acme/companies/main"
	platform = "tenants/platform/companies/archive"
	year     = 2026
)

// house is conservation with a real signer, a real Vault, two time-stamp authorities, and a probe
// that settles invoices and hears what the archive tells.
type house struct {
	*runtest.Process
	service *Service
	ca      *ca.CA
	tsa     [2]*tsa.Server
	client  conservationv1.ConservationServiceClient
	sign    signv1.SignServiceClient
	spans   *tracetest.InMemoryExporter
	probe   *run.Host
	disks   [2]string // of the replicas; empty when there are none
	dir     string
	ledger  *ledger
	steps   practice

	role     *x509.Certificate // that signs the indexes
	unlisted atomic.Bool       // the list of revoked certificates is not to be had
	listed   atomic.Int32      // how often it was asked for
	waited   atomic.Int64      // how long the most patient waited for it in vain

	skew [2]atomic.Int64 // how far the clocks of the authorities are from ours

	ear       bustest.Ear
	mu        sync.Mutex
	degraded  []*conservationv1.StorageDegraded
	restored  []*conservationv1.StorageRestored
	repairs   []*conservationv1.CopyRepaired
	damages   []*conservationv1.CopyDamaged
	alarms    []*conservationv1.DeadlineAtRisk
	taken     []*conservationv1.UnitTakenInCharge
	heard     []time.Time // when each of taken came
	preserved []*conservationv1.UnitPreserved
	sealed    []*conservationv1.PackageSealed
	stated    []*conservationv1.LogStated

	unwitnessed, rewitnessed int
	unsigned                 []*conservationv1.SigningStopped
	signedAgain              int
	refusals                 []*conservationv1.DepositRefused
	destroyed                []*conservationv1.UnitsDestroyed
	letters                  []*pecv1.MessageRequested
	held                     holding // what the probe has in the platform's store
}

func (h *house) probeTarget() run.Target {
	return run.Target{Name: "probe", Start: func(_ context.Context, host *run.Host) error {
		h.probe = host
		bustest.Hear(&h.ear, host.Bus, "taken", func(_ context.Context, ev *conservationv1.UnitTakenInCharge) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.taken, h.heard = append(h.taken, ev), append(h.heard, time.Now())
		})
		keep(h, "preserved", &h.preserved)
		keep(h, "sealed", &h.sealed)
		keep(h, "alarm", &h.alarms)
		keep(h, "refused", &h.refusals)
		keep(h, "destroyed", &h.destroyed)
		h.holdCopies(host)
		keep(h, "letter", &h.letters)
		keep(h, "degraded", &h.degraded)
		keep(h, "restored", &h.restored)
		keep(h, "repaired", &h.repairs)
		keep(h, "damaged", &h.damages)
		keep(h, "unsigned", &h.unsigned)
		bustest.Hear(&h.ear, host.Bus, "signed-again", func(context.Context, *conservationv1.SigningResumed) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.signedAgain++
		})
		keep(h, "stated", &h.stated)
		bustest.Hear(&h.ear, host.Bus, "unwitnessed", func(context.Context, *conservationv1.WitnessQuorumLost) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.unwitnessed++
		})
		bustest.Hear(&h.ear, host.Bus, "rewitnessed", func(context.Context, *conservationv1.WitnessQuorumRestored) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.rewitnessed++
		})
		return nil
	}}
}

// keep has the probe keep the events of a kind.
func keep[E proto.Message](h *house, name string, into *[]E) {
	bustest.Hear(&h.ear, h.probe.Bus, name, func(_ context.Context, ev E) {
		h.mu.Lock()
		defer h.mu.Unlock()
		*into = append(*into, ev)
	})
}

// practice is by which steps packages are sealed: those of the service, until a test sets others while it runs.
type practice struct {
	others atomic.Pointer[map[string]step]
}

func (p *practice) set(others map[string]step) { p.others.Store(&others) }

func (p *practice) from(state string) (step, bool) {
	if others := p.others.Load(); others != nil {
		return among(*others)(state)
	}
	return stepFrom(state)
}

// among gives the steps of a process that has these.
func among(list map[string]step) func(state string) (step, bool) {
	return func(state string) (step, bool) {
		next, ok := list[state]
		return next, ok
	}
}

func (h *house) counts() (taken, preserved, sealed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.taken), len(h.preserved), len(h.sealed)
}

// sharedVault is one Vault for all tests of the package: the keys of each house have names of their own.
var sharedVault struct {
	once   sync.Once
	server *vault.Server
	role   vault.Credentials
	err    error
}

func strongbox(t testing.TB) (*vault.Server, vault.Credentials) {
	t.Helper()
	v := &sharedVault
	v.once.Do(func() {
		ctx := context.Background()
		var root string
		root, v.err = devenv.Root()
		if v.err == nil {
			v.server, v.err = vault.Start(ctx, vault.Options{Private: true})
		}
		if v.err == nil {
			var roles map[string]vault.Credentials
			roles, v.err = v.server.Provision(ctx, filepath.Join(root, "deploy", "vault"))
			v.role = roles[vault.SignerRole]
		}
	})
	require.NoError(t, v.err)
	return v.server, v.role
}

// TestMain lets more tests run at a time than there are processors, unless the command says how many: each has a schema, replicas and
// authorities of its own, and waits most of its time.
func TestMain(m *testing.M) {
	if spec := os.Getenv(archiveEnv); spec != "" {
		if err := serveArchive(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", "6")
	}
	code := m.Run()
	if s := sharedVault.server; s != nil {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// open starts everything; the role credential is ready when certified.
func open(t testing.TB, certified bool) *house { return openWith(t, certified, "") }

// openWith adds lines to the section of conservation. It has two replicas, unless the lines say otherwise.
func openWith(t testing.TB, certified bool, section string, more ...func(*runtest.Options)) *house {
	t.Helper()
	h, sections := prepare(t, section)
	own := run.Target{Name: "conservation", Start: func(_ context.Context, host *run.Host) error {
		s, err := wire(host)
		if err != nil {
			return err
		}
		h.service, s.steps = s, h.steps.from // before anything runs
		return nil
	}}
	opts := runtest.Options{
		Dir: filepath.Join(h.dir, "process"), Targets: []run.Target{own, signer.Target, h.probeTarget(), h.books()},
		SpanProcessors: []sdktrace.SpanProcessor{sdktrace.NewSimpleSpanProcessor(h.spans)},
		Config:         "breaker: {failures: 5, open: 500ms}\n" + sections.signer + sections.archive,
	}
	for _, change := range more {
		change(&opts)
	}
	h.Process = runtest.Start(t, opts)
	h.client = conservationv1.NewConservationServiceClient(h.Operator("conservation"))
	h.sign = signv1.NewSignServiceClient(h.Operator("signer"))
	if certified {
		h.certify(t)
	}
	return h
}

// books answers for the invoices.
func (h *house) books() run.Target {
	return run.Target{Name: "invoice", Stateless: true, Start: func(_ context.Context, host *run.Host) error {
		invoicev1.RegisterInvoiceServiceServer(host.RPC, h.ledger)
		return nil
	}}
}

// sections of the configuration.
type sections struct{ signer, archive string }

// patient is a configuration in which a replica that a busy machine kept from answering is not declared out for it.
const patient = "degrade_after: 1h"

// soonOut has a replica that is away declared out soon.
func soonOut(o *runtest.Options) {
	o.Config = strings.Replace(o.Config, patient, "degrade_after: 100ms", 1)
}

// prepare makes everything around the processes: authorities, folders, a Vault.
func prepare(t testing.TB, section string) (*house, sections) {
	t.Helper()
	disks := [2]string{}
	if !strings.Contains(section, "storage:") {
		disks = [2]string{t.TempDir(), t.TempDir()}
		section += fmt.Sprintf("  storage: {primary: {fs: {dir: %q}}, second: {fs: {dir: %q}}, probe: 50ms, "+patient+", mark_every: 1h}\n", disks[0], disks[1])
	}
	if !strings.Contains(section, "disposal:") {
		section += "  disposal: {holders: [probe], quiet: 0s}\n"
	}
	if !strings.Contains(section, "deposits:") { // reports of what comes by event have tests of their own
		section += "  deposits: {event_reports: 0s}\n"
	}
	dir := t.TempDir()
	server, role := strongbox(t)
	h := &house{spans: tracetest.NewInMemoryExporter(), disks: disks, dir: dir, ledger: &ledger{}}
	lists := httptest.NewServer(http.HandlerFunc(h.publish))
	t.Cleanup(lists.Close)
	var err error
	h.ca, err = ca.New(ca.Options{CRL: lists.URL + "/sandbox-ca.crl"})
	require.NoError(t, err)
	authority := h.ca
	if !strings.Contains(section, "revocation:") {
		section += "  revocation: {allow_networks: [127.0.0.0/8], timeout: 2s}\n"
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	roots := file("ca.pem", string(authority.CertPEM()))
	stamps := ""
	for i := range h.tsa {
		h.tsa[i], err = tsa.New(tsa.Options{CA: authority, Name: fmt.Sprintf("SANDBOX TSA %d", i), Now: func() time.Time {
			return time.Now().Add(time.Duration(h.skew[i].Load()))
		}})
		require.NoError(t, err)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.authority(i).ServeHTTP(w, r) }))
		t.Cleanup(srv.Close)
		stamps += fmt.Sprintf("    - {name: tsa-%d, url: %q, ca_file: %q, timeout: 1s}\n", i, srv.URL, roots)
	}
	return h, sections{
		signer: fmt.Sprintf("signer:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}\n", server.Addr, file("role", role.RoleID), file("secret", role.SecretID)),
		archive: fmt.Sprintf(`conservation:
  credential: %s/credentials/-
  responsible: {first_name: Maria, last_name: Rossi, id: TINIT-RSSMRA80A01H501U, deed: Atto di nomina del 2 gennaio 2026}
  tsa:
%s%s`, platform, stamps, section),
	}
}

// publish is where the authority's list of revoked certificates is to be had.
func (h *house) publish(w http.ResponseWriter, r *http.Request) {
	h.listed.Add(1)
	if h.unlisted.Load() {
		began := time.Now()
		<-r.Context().Done() // it never answers
		for took := int64(time.Since(began)); ; {
			most := h.waited.Load()
			if took <= most || h.waited.CompareAndSwap(most, took) {
				return
			}
		}
	}
	list, err := h.ca.CRLDER()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(list)
}

// authority is the one that answers at an address; another can be put in its place.
func (h *house) authority(i int) *tsa.Server {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tsa[i]
}

// certify makes the role credential that signs the indexes.
func (h *house) certify(t testing.TB) { h.certifyUntil(t, time.Now().AddDate(1, 0, 0)) }

// certifyUntil is certify with a certificate that ends at a moment.
func (h *house) certifyUntil(t testing.TB, end time.Time) {
	t.Helper()
	ctx := context.Background()
	c, err := h.sign.CreateCredential(ctx, &signv1.CreateCredentialRequest{Parent: platform, Credential: &signv1.Credential{
		Kind: signv1.CredentialKind_CREDENTIAL_KIND_ROLE, KeyType: signv1.KeyType_KEY_TYPE_EC_P256, CommonName: "Responsabile",
	}})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(c.GetCsrPem()))
	cert, err := h.ca.SignCSRValid(block.Bytes, ca.ProfileRole, time.Now().Add(-time.Hour), end)
	require.NoError(t, err)
	h.role = cert
	_, err = h.sign.ImportCertificate(ctx, &signv1.ImportCertificateRequest{
		Name: c.GetName(), CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(h.ca.CertPEM()),
	})
	require.NoError(t, err)
}

func (h *house) put(t testing.TB, content string) *eventv1.Blob {
	t.Helper()
	ref, err := h.probe.Blobs.Put(context.Background(), "acme", []byte(content))
	require.NoError(t, err)
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mimeXML}
}

// invoice is a settled invoice of a private flow, delivered, not yet emitted.
func (h *house) invoice(t testing.TB, n int) *invoicev1.InvoiceSettled {
	t.Helper()
	name := fmt.Sprintf("IT01234567897_%05d.xml", n)
	return &invoicev1.InvoiceSettled{
		Invoice: company + "/invoices/" + uuid.NewString(), SdiId: fmt.Sprint(900_000 + n), FileName: name,
		Transmitted: h.put(t, fmt.Sprintf("<FatturaElettronica n='%d'/>", n)),
		Receipts:    []*invoicev1.Receipt{h.receipt(t, "RC", n)},
		FiscalYear:  year, State: "INVOICE_STATE_DELIVERED",
		Bodies:          []*invoicev1.SettledBody{{DocumentType: "TD01", Number: fmt.Sprintf("%d/A", n), IssueDate: "2026-10-05"}},
		SellerVatNumber: "IT01234567897", SellerTaxCode: "01234567897", SellerName: `Alfa & "Figli" S.r.l.`,
		BuyerVatNumber: "DE123456789", BuyerName: "Käufer <GmbH>",
	}
}

func (h *house) receipt(t testing.TB, kind string, n int) *invoicev1.Receipt {
	t.Helper()
	return &invoicev1.Receipt{
		Type: kind, FileName: fmt.Sprintf("IT01234567897_%05d_%s_001.xml", n, kind), Content: h.put(t, fmt.Sprintf("<%s n='%d'/>", kind, n)),
	}
}

// settle emits the event, under the trace of ctx, and gives nothing back: watch counts.
func (h *house) settle(t testing.TB, ctx context.Context, events ...*invoicev1.InvoiceSettled) {
	t.Helper()
	for _, ev := range events {
		tenant := "acme"
		err := h.probe.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
			return h.probe.Bus.Emit(bus.WithCorrelation(ctx, ev.GetInvoice()), tx, ev)
		})
		require.NoError(t, err)
	}
}

func (h *house) intake(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		h.settle(t, context.Background(), h.invoice(t, i))
	}
	h.await(t, "taken in charge", func() bool { taken, _, _ := h.counts(); return taken >= n })
}

func (h *house) closePackage(t testing.TB) *conservationv1.Package {
	t.Helper()
	p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year})
	require.NoError(t, err)
	return p
}

func (h *house) pack(t testing.TB, name string) *conservationv1.Package {
	t.Helper()
	p, err := h.client.GetPackage(context.Background(), &conservationv1.GetPackageRequest{Name: name})
	require.NoError(t, err)
	return p
}

func (h *house) awaitSealed(t testing.TB, name string) *conservationv1.Package {
	t.Helper()
	h.await(t, "sealed", func() bool {
		return h.pack(t, name).GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED
	})
	return h.pack(t, name)
}

func (h *house) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 20*time.Millisecond, what)
}

func (h *house) download(t testing.TB, name string, file conservationv1.PackageFile) []byte {
	t.Helper()
	client := conservationv1.NewConservationServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	stream, err := client.DownloadPackageFile(context.Background(), &conservationv1.DownloadPackageFileRequest{Name: name, File: file})
	require.NoError(t, err)
	var out bytes.Buffer
	for {
		msg, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		require.NoError(t, err)
		out.Write(msg.GetChunk())
	}
}

// parked counts the events and jobs that conservation set aside, with their code.
func (h *house) parked(t testing.TB, code string) int {
	t.Helper()
	var n int
	require.NoError(t, pgtest.Admin(t, h.DB("conservation")).QueryRow(context.Background(),
		`SELECT count(*) FROM parked_event WHERE code = $1`, code).Scan(&n))
	return n
}

func (h *house) units(t testing.TB, subject string) []*conservationv1.Unit {
	t.Helper()
	list, err := h.client.ListUnits(context.Background(), &conservationv1.ListUnitsRequest{Parent: "tenants/acme", Subject: subject, PageSize: 1000})
	require.NoError(t, err)
	return list.GetUnits()
}

// tool runs an outside judge. Without it the test fails: it is the point of the test.
func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	bin, err := exec.LookPath(name)
	require.NoError(t, err, "%s judges the packages: install it", name)
	out, err := exec.Command(bin, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

// schema is a schema of the reference collection beside the checkout: it is its makers', and not in the project. A test that has nothing to
// say without it is skipped, and says so.
func schema(t testing.TB, path ...string) string {
	t.Helper()
	full := reference(t, path...)
	if full == "" {
		t.Skipf("%s is not beside this checkout (../shared/reference/conservation/xsd): what xmllint would judge by it is not shown", filepath.Join(path...))
	}
	return full
}

// reference is such a schema where it adds to a test; empty when it is not there.
func reference(t testing.TB, path ...string) string {
	root, err := devenv.Root()
	require.NoError(t, err)
	full := filepath.Join(append([]string{root, "..", "shared", "reference", "conservation", "xsd"}, path...)...)
	if _, err = os.Stat(full); err != nil {
		t.Logf("no reference schema %s beside this checkout: xmllint checks well-formedness only (TestSchemas)", filepath.Join(path...))
		return ""
	}
	return full
}

func lint(t testing.TB, file, schema string) {
	t.Helper()
	lintAll(t, []string{file}, schema)
}

// TestSchemas is skipped where packages and metadata are judged without their schemas by all tests that look at one on their way.
func TestSchemas(t *testing.T) {
	for _, path := range [][]string{{"sincro", "PIndex-2020_parer.xsd"}, {"agid-allegato5", "DocumentoInformatico.xsd"}} {
		t.Run(path[1], func(t *testing.T) {
			wrong := filepath.Join(t.TempDir(), "wrong.xml")
			require.NoError(t, os.WriteFile(wrong, []byte("<x/>"), 0o600))
			out, err := exec.Command("xmllint", "--nonet", "--noout", "--schema", schema(t, path...), wrong).CombinedOutput()
			require.ErrorContains(t, err, "exit status 3", "it is no document of that schema: %s", out)
		})
	}
}

// lintAll is lint for many files, in one process.
func lintAll(t testing.TB, files []string, schema string) {
	t.Helper()
	args := []string{"--nonet", "--noout"}
	if schema != "" {
		args = append(args, "--schema", schema)
	}
	tool(t, "xmllint", append(args, files...)...)
}

func traced(n byte) (context.Context, string) {
	id := fmt.Sprintf("%032x", 0xabcdef00+uint64(n))
	return telemetry.Extract(context.Background(), "00-"+id+"-00000000000000ff-01"), id
}

// settleAll emits many events, a hundred in a transaction, as a busy day would.
func (h *house) settleAll(t testing.TB, events []*invoicev1.InvoiceSettled) {
	t.Helper()
	for len(events) > 0 {
		n := min(len(events), 100)
		err := h.probe.DB.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			for _, ev := range events[:n] {
				err := h.probe.Bus.Emit(bus.WithCorrelation(ctx, ev.GetInvoice()), tx, ev)
				if err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, err)
		events = events[n:]
	}
}

func sealArgs(t testing.TB, name string) SealArgs {
	t.Helper()
	tenant, id, err := parseName("name", name, "packages", noPackage(name))
	require.NoError(t, err)
	return SealArgs{Tenant: tenant, Package: id}
}
