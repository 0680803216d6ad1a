package conservation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sandbox/ca"
)

// retainer asks as a tenant's key does, and operator as one of several operators.
func (h *house) retainer() conservationv1.RetentionServiceClient {
	return conservationv1.NewRetentionServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read", "archive.write"}})))
}

func (h *house) operator() conservationv1.RetentionServiceClient {
	return conservationv1.NewRetentionServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleOperator})))
}

// eraserOf is the program with the right to delete, over the folders of a house.
func (h *house) eraser(t testing.TB) *eraser.Eraser {
	return &eraser.Eraser{
		DB: h.DB("conservation"), Replicas: []eraser.Replica{eraser.Folder{Dir: h.disks[0]}, eraser.Folder{Dir: h.disks[1]}},
		Blobs: eraser.BlobFolder{Dir: filepath.Join(h.dir, "process", "blobs")}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: time.Now,
	}
}

// old is a settled invoice of long ago, between parties that nothing else names.
func (h *house) old(t testing.TB, n int, year int32) *invoicev1.InvoiceSettled {
	ev := h.invoice(t, n)
	ev.FiscalYear, ev.Bodies[0].IssueDate = year, fmt.Sprintf("%d-05-04", year)
	ev.SellerName, ev.SellerVatNumber, ev.SellerTaxCode = fmt.Sprintf("Zappaterra %d S.n.c.", year), fmt.Sprintf("IT0%d900000", year)[:13], ""
	ev.BuyerName, ev.BuyerVatNumber = fmt.Sprintf("Quintiliano Sesto%d", year), ""
	ev.FileName = fmt.Sprintf("IT%dZAPPA_%05d.xml", year, n)
	return ev
}

// authorised is a word of the producer.
func authorised() *conservationv1.DisposalAuthority {
	return &conservationv1.DisposalAuthority{Person: "Dott. Anna Conti", Reference: "prot. 7/2026", Date: "2026-01-15", Deed: aPDF, DeedName: "autorizzazione.pdf"}
}

// TestDisposal takes packages from the end of their term to what is left of them.
//
// Test49: not with a hold or without authorisation, and a partial authorisation destroys exactly the subset. Test50: one person alone
// cannot. Test51: partial until backups are clean, events, nothing of anybody left, the log still verifies.
func TestDisposal(t *testing.T) {
	t.Parallel()
	h, log := openLogged(t)
	ctx, tenant := context.Background(), h.retainer()
	events := []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2010), h.old(t, 3, 2011), h.invoice(t, 4)}
	h.settleAll(t, events) // one transaction: most of them lie in one object
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= len(events) })
	head := headOf("verbale", "Verbale Zappaterra.pdf", aPDF)
	head.FiscalYear, head.Document.Title = 2010, "Verbale della Zappaterra 2010"
	deposit := hand(t, h.producer(), head, aPDF)
	packages := map[string]string{}
	for name, c := range map[string]struct {
		year  int32
		class string
	}{"2010": {2010, "FISC"}, "2011": {2011, "FISC"}, "2026": {2026, "FISC"}, "deposit": {2010, "ALTRO"}} {
		p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: c.year, Class: c.class})
		require.NoError(t, err)
		packages[name] = h.awaitSealed(t, p.GetName()).GetName()
	}
	unit := map[string]string{}
	for _, ev := range events {
		unit[ev.GetFileName()] = h.units(t, ev.GetInvoice())[0].GetName()
	}
	zip := h.download(t, packages["2010"], conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE)
	first, fresh := unit[events[0].GetFileName()], unit[events[3].GetFileName()]
	receipt := receiptOf(t, h, log, first)
	before, err := log.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	require.NoError(t, err)

	// A hold keeps, whatever it covers; the term keeps what is of 2026.
	hold, err := tenant.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: "tenants/acme", Hold: &conservationv1.Hold{Unit: unit[events[2].GetFileName()], Reason: "accertamento 3/2026"}})
	require.NoError(t, err)
	listed := func(d *conservationv1.Disposal) (names []string) {
		for _, i := range d.GetItems() {
			names = append(names, i.GetPackage())
		}
		return names
	}
	d, err := tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{packages["2010"], packages["deposit"]}, listed(d))
	_, err = tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme"})
	require.Equal(t, "DISPOSAL_EMPTY", code(err), "what is on a list is on no other")
	_, err = tenant.WithdrawDisposal(ctx, &conservationv1.WithdrawDisposalRequest{Name: d.GetName()})
	require.NoError(t, err)
	_, err = tenant.LiftHold(ctx, &conservationv1.LiftHoldRequest{Name: hold.GetName(), Reason: "archiviato"})
	require.NoError(t, err)
	d, err = tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme", PublicBody: true})
	require.NoError(t, err)
	require.ElementsMatch(t, []string{packages["2010"], packages["2011"], packages["deposit"]}, listed(d))

	// Without authorisation nothing; without the Soprintendenza's for a public body nothing either.
	one, two := h.operator(), h.operator()
	_, err = one.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Uno Alfa"})
	require.Equal(t, "DISPOSAL_STATE", code(err))
	want := &conservationv1.AuthorizeDisposalRequest{Name: d.GetName(), Producer: authorised(), Packages: []string{packages["2010"], packages["deposit"]}}
	_, err = tenant.AuthorizeDisposal(ctx, want)
	require.Equal(t, "AUTHORITY_MISSING", code(err))
	want.Soprintendenza = &conservationv1.DisposalAuthority{Person: "Dott. Luca Blu", Reference: "MIC 12", Date: "2026-02-01", Deed: []byte("MZ"), DeedName: "x.p7m"}
	_, err = tenant.AuthorizeDisposal(ctx, want)
	require.Equal(t, "DEED_FORMAT", code(err))
	want.Soprintendenza.Deed, _ = signedDeed(t, h.ca, "Luca Blu")
	want.Soprintendenza.Deed = bytes.Replace(want.Soprintendenza.Deed, []byte("2010 e 2011"), []byte("2010 e 2019"), 1)
	_, err = tenant.AuthorizeDisposal(ctx, want)
	require.Equal(t, "DEED_NOT_VERIFIED", code(err))
	want.Soprintendenza.Deed = nil
	d, err = tenant.AuthorizeDisposal(ctx, want)
	require.NoError(t, err)

	// Two persons, with accounts of their own.
	_, err = one.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Uno Alfa"})
	require.NoError(t, err)
	_, err = one.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Due Beta"})
	require.Equal(t, "SAME_PERSON", code(err))
	_, err = two.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "uno  alfa"})
	require.Equal(t, "SAME_PERSON", code(err))
	done, err := h.eraser(t).Run(ctx)
	require.NoError(t, err)
	require.Zero(t, done, "one person alone releases nothing")
	_, err = two.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Due Beta"})
	require.NoError(t, err)

	h.eraseWithCrashes(t)
	h.await(t, "signed report", func() bool {
		r, err := tenant.GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: d.GetName()})
		if err != nil {
			require.Equal(t, "DISPOSAL_NOT_DONE", code(err))
		}
		return err == nil && len(r.GetSigned()) > 0
	})
	h.afterDisposal(t, tenant, d.GetName(), packages, first, fresh)
	again := receiptOf(t, h, log, first)
	_, err = h.probe.Blobs.Put(ctx, "acme", zip) // as when the same ZIP is handed in, or another service stores it
	require.NoError(t, err)
	reads := conservationv1.NewConservationServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	for n := range conservationv1.PackageFile_name {
		if n != 0 {
			stream, err := reads.DownloadPackageFile(ctx, &conservationv1.DownloadPackageFileRequest{Name: packages["2010"], File: conservationv1.PackageFile(n)})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, "UNIT_DESTROYED", code(err), "by what became of the package, and not by what the store has")
		}
	}
	require.Equal(t, receipt.GetIndex(), again.GetIndex(), "the log still tells of it")

	gone, err := h.producer().GetDeposit(ctx, &conservationv1.GetDepositRequest{Name: deposit.GetName()})
	require.NoError(t, err)
	require.Equal(t, "(destroyed)", gone.GetFileName())
	require.Equal(t, "GONE|"+lastOf(gone.GetName()), gone.GetKey(), "the producer's own key may tell of somebody")
	rdv, err := h.producer().GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: deposit.GetName()})
	require.NoError(t, err, "the report of the deposit stays")
	require.NotContains(t, string(rdv.GetContent()), "Zappaterra")
	require.NotContains(t, string(rdv.GetContent()), head.GetKey(), "nor does it keep the producer's key")
	h.completed(t, one, d.GetName(), before)
	h.disposalExported(t, d.GetName())
}

// disposalExported: an export brings the report of a destruction with the proof that the log states it.
func (h *house) disposalExported(t *testing.T, name string) {
	t.Helper()
	api := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	export := h.exported(t, api)
	file := func(path string) []byte { return fetch(t, api, export, path, 0, 1<<20) }
	proof, err := tlog.ParseReceipt(file(exportStatements + lastOf(name) + ".tlog-proof"))
	require.NoError(t, err)
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	in := custody.Input{Receipts: []custody.Receipt{{Name: "proof", Receipt: proof}}, Policy: tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}}}
	r, _, err := custody.VerifyReport(in, sha256.Sum256(file("data/disposals/"+lastOf(name)+".json.p7m")))
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Contains(t, strings.Join(r.Holds, "\n"), "the signed report is leaf")
}

// completed: once the backups are said to be clean the disposal is complete, of which an event told what was destroyed; what is left names
// nobody, and the log is one history with what its owner saw before, with every leaf that it had.
func (h *house) completed(t *testing.T, one conservationv1.RetentionServiceClient, name string, before *conservationv1.Checkpoint) {
	t.Helper()
	ctx := context.Background()
	_, err := one.CompleteDisposal(ctx, &conservationv1.CompleteDisposalRequest{Name: name, Statement: " "})
	require.Error(t, err, "nobody has said that the backups are clean")
	d, err := one.GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DisposalState_DISPOSAL_STATE_PARTIAL, d.GetState())
	d, err = one.CompleteDisposal(ctx, &conservationv1.CompleteDisposalRequest{Name: name, Statement: "la generazione più vecchia è del 3 marzo"})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DisposalState_DISPOSAL_STATE_COMPLETE, d.GetState())
	d, err = h.retainer().GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DisposalState_DISPOSAL_STATE_COMPLETE, d.GetState(), "and stays so")
	_, err = one.CompleteDisposal(ctx, &conservationv1.CompleteDisposalRequest{Name: name, Statement: "di nuovo"})
	require.Equal(t, "DISPOSAL_STATE", code(err))
	h.mu.Lock()
	destroyed := map[string]bool{}
	for _, ev := range h.destroyed {
		for _, s := range ev.GetSubjects() {
			require.False(t, destroyed[s], "told once")
			destroyed[s] = true
		}
	}
	h.mu.Unlock()
	require.Len(t, destroyed, 3)
	h.nothingOf(t, "Zappaterra 2010", "Sesto2010", "2010ZAPPA", "02010900000")

	h.await(t, "everything is stated", func() bool { return h.counted(t, "log_pending") == 0 })
	api := conservationv1.NewEvidenceServiceClient(h.Operator("conservation"))
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	policy := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}}
	var grown *conservationv1.ConsistencyProof
	leaves := h.counted(t, "log_leaf")
	h.await(t, "in a checkpoint", func() bool {
		grown, err = api.GetConsistencyProof(ctx, &conservationv1.GetConsistencyProofRequest{OldSize: before.GetSize()})
		require.NoError(t, err)
		return grown.GetCheckpoint().GetSize() == int64(leaves)
	})
	require.Greater(t, int64(leaves), before.GetSize(), "the destruction is stated too")
	now := custody.Seen{Name: "now", Note: grown.GetCheckpoint().GetNote(), Old: before.GetSize(), Proof: []tlog.Hash{}}
	for _, hash := range grown.GetHashes() {
		now.Proof = append(now.Proof, tlog.Hash(hash))
	}
	r, err := custody.Verify(custody.Input{Checkpoints: []custody.Seen{{Name: "before", Note: before.GetNote()}, now}, Policy: policy})
	require.NoError(t, err)
	require.Empty(t, r.Problems)
	require.Empty(t, r.Unshown)
	checkLog(t, h.DB("conservation"), leaves)
}

// eraseWithCrashes ends the eraser at each boundary, once each, until it comes through.
func (h *house) eraseWithCrashes(t testing.TB) {
	t.Helper()
	crash, crashes, packages := errors.New("kill -9"), 0, 0
	h.await(t, "erased", func() bool {
		for at := crashes; ; at = crashes {
			e, n := h.eraser(t), 0
			e.Step = func(string) error {
				n++
				if n == at+1 {
					return crash
				}
				return nil
			}
			done, err := e.Run(context.Background())
			packages += done.Erased
			if errors.Is(err, crash) {
				crashes++
				continue
			}
			require.NoError(t, err)
			return done.Waiting == 0 && packages == 2 && done.Asking == 0 // the service first moves documents that lie in the same objects
		}
	})
	require.Greater(t, crashes, 3)
}

// afterDisposal: exactly what was authorised is gone, and everybody who asks is told.
func (h *house) afterDisposal(t testing.TB, tenant conservationv1.RetentionServiceClient, name string, packages map[string]string, first, fresh string) {
	t.Helper()
	ctx := context.Background()
	d, err := tenant.GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DisposalState_DISPOSAL_STATE_PARTIAL, d.GetState())
	for _, i := range d.GetItems() {
		want := conservationv1.DisposalItemState_DISPOSAL_ITEM_STATE_DESTROYED
		if i.GetPackage() == packages["2011"] {
			want = conservationv1.DisposalItemState_DISPOSAL_ITEM_STATE_KEPT
		}
		require.Equal(t, want, i.GetState(), i)
	}
	for _, disk := range h.disks {
		keys := strings.Join(slices.Collect(maps.Keys(objectsOn(t, disk))), " ")
		require.NotContains(t, keys, lastOf(packages["2010"]))
		require.NotContains(t, keys, lastOf(packages["deposit"]))
		for _, kept := range []string{"2011", "2026"} {
			require.Contains(t, keys, lastOf(packages[kept]))
		}
	}
	for content, destroyed := range map[string]bool{"<FatturaElettronica n='1'/>": true, "<RC n='1'/>": true, "<FatturaElettronica n='2'/>": true, "<FatturaElettronica n='3'/>": false, "<FatturaElettronica n='4'/>": false} {
		_, err = h.probe.Blobs.Get(ctx, blob.Of("acme", []byte(content)))
		require.Equal(t, destroyed, code(err) == "BLOB_NOT_FOUND", "%s in the platform's store: %v", content, err)
	}
	r, err := tenant.GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: name})
	require.NoError(t, err)
	sd, verdict, err := cades.Verify(r.GetSigned(), cades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, verdict.Err())
	require.Equal(t, r.GetContent(), sd.Content())
	var said disposalReport
	require.NoError(t, json.Unmarshal(r.GetContent(), &said))
	require.Len(t, said.Packages, 3)
	require.Contains(t, said.Released[1], "Due Beta")

	u, err := h.client.GetUnit(ctx, &conservationv1.GetUnitRequest{Name: first})
	require.NoError(t, err)
	require.Equal(t, conservationv1.UnitState_UNIT_STATE_DESTROYED, u.GetState())
	require.Contains(t, u.GetProblem(), name)
	_, err = h.reader().CreateDistribution(ctx, &conservationv1.CreateDistributionRequest{Parent: "tenants/acme", Units: []string{first}})
	require.Equal(t, "UNIT_DESTROYED", code(err))
	_, err = h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: first})
	require.Equal(t, "UNIT_DESTROYED", code(err))
	_, err = tenant.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: "tenants/acme", Hold: &conservationv1.Hold{Unit: first, Reason: "troppo tardi"}})
	require.Equal(t, "UNIT_DESTROYED", code(err))
	found, err := h.reader().SearchDocuments(ctx, &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", Query: field(conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR, "2010")})
	require.NoError(t, err)
	require.Empty(t, found.GetDocuments())
	require.Len(t, found.GetDestroyed(), 2)
	require.Equal(t, name, found.GetDestroyed()[0].GetDisposal())
	whole, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: fresh})
	require.NoError(t, err)
	require.True(t, whole.GetIntact(), "what lay in the same object was moved: %s", whole.GetContent())
	h.await(t, "told", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n := 0
		for _, ev := range h.destroyed {
			n += len(ev.GetSubjects())
		}
		return n == 3
	})
	h.nothingOf(t, "Zappaterra 2010", "Sesto2010", "2010ZAPPA", "02010900000")
	for _, kind := range []conservationv1.CheckKind{conservationv1.CheckKind_CHECK_KIND_SCRUB, conservationv1.CheckKind_CHECK_KIND_DEEP, conservationv1.CheckKind_CHECK_KIND_COMPLETENESS, conservationv1.CheckKind_CHECK_KIND_RESTORE_DRILL} {
		r, said := h.runCheck(t, kind, "tenants/acme")
		require.Equal(t, conservationv1.CheckState_CHECK_STATE_GOOD, r.GetState(), "%s: %v", kind, said)
	}
}

func lastOf(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// nothingOf wants none of the words in any row of the archive.
func (h *house) nothingOf(t testing.TB, words ...string) {
	t.Helper()
	admin := pgtest.Admin(t, h.DB("conservation"))
	rows, err := admin.Query(context.Background(), `SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema() AND table_type = 'BASE TABLE'`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 20)
	for _, table := range tables {
		rows, err := admin.Query(context.Background(), `SELECT x::text FROM `+pgx.Identifier{table}.Sanitize()+` AS x`)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		for _, line := range lines {
			for _, word := range words {
				require.NotContains(t, line, word, table)
				require.NotContains(t, line, fmt.Sprintf("%x", word), table) // bytea
			}
		}
	}
}

// memory is a store that counts what is destroyed.
type memory struct{ gone map[string]bool }

func (m memory) Destroy(_ context.Context, key string) error       { m.gone[key] = true; return nil }
func (m memory) Holds(_ context.Context, key string) (bool, error) { return !m.gone[key], nil }
func (m memory) String() string                                    { return "memory" }
func (m memory) Read(context.Context, string) ([]byte, error)      { return nil, nil }
func (m memory) List(context.Context, string) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}
func (m memory) Erase(_ context.Context, key, _ string) (bool, error) {
	m.gone[key] = true
	return false, nil
}

// Test49_NeverBeforeItsTimeOrUnderAHold: whatever packages, holds and lists there are, nothing is destroyed whose term is not over or
// that is held when the eraser comes to it.
func Test49_NeverBeforeItsTimeOrUnderAHold(t *testing.T) {
	t.Parallel()
	base := pgtest.Schema(t, "conservation")
	admin := pgtest.Admin(t, base)
	destroyed := 0
	for seed := range uint64(neverRounds) {
		destroyed += neverRound(t, base, admin, rand.New(rand.NewPCG(seed, 49)), fmt.Sprintf("t%d", seed)) //nolint:gosec // a lot, not a secret
	}
	require.Positive(t, destroyed, "the rounds reach destruction at all")
}

// neverRound is one history of a tenant; it gives how many packages were destroyed.
func neverRound(t *testing.T, base *pg.DB, admin *pgx.Conn, r *rand.Rand, tenant string) int {
	t.Helper()
	now := time.Date(2031, 12, 31, 23, 59, 58, 0, time.UTC)
	s := &Service{db: base, now: func() time.Time { return now }, replicas: &replicas{}, log: slog.New(slog.DiscardHandler)}
	a, parent := retention{s: s}, "tenants/"+tenant
	ctx := telemetry.WithActor(auth.With(context.Background(), auth.Caller{Kind: "key", ID: "one", Role: auth.RoleOperator}), "key:one")
	other := telemetry.WithActor(auth.With(context.Background(), auth.Caller{Kind: "key", ID: "two", Role: auth.RoleOperator}), "key:two")
	packages := madeUp(t, admin, r, tenant)
	hold := func() {
		for _, id := range slices.SortedFunc(maps.Keys(packages), func(a, b uuid.UUID) int { return cmp.Compare(packages[a].key, packages[b].key) }) {
			if r.IntN(3) > 0 {
				continue
			}
			h := &conservationv1.Hold{Reason: "una causa"}
			switch r.IntN(3) {
			case 0:
				h.Package = packageName(tenant, id)
			case 1:
				h.Unit = unitName(tenant, packages[id].unit)
			default:
				h.FiscalYear = packages[id].year
			}
			_, err := a.CreateHold(ctx, &conservationv1.CreateHoldRequest{Parent: parent, Hold: h})
			require.NoError(t, err)
		}
	}
	if r.IntN(2) == 0 {
		hold()
	}
	d, err := a.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: parent})
	if err != nil {
		require.Equal(t, "DISPOSAL_EMPTY", code(err))
		return 0
	}
	_, err = a.AuthorizeDisposal(ctx, &conservationv1.AuthorizeDisposalRequest{Name: d.GetName(), Producer: &conservationv1.DisposalAuthority{Person: "Anna Conti", Reference: "1", Date: "2026-01-01"}})
	require.NoError(t, err)
	_, err = a.ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Uno Alfa"})
	require.NoError(t, err)
	_, err = a.ApproveDisposal(other, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: "Due Beta"})
	require.NoError(t, err)
	if r.IntN(2) == 0 {
		hold()
	}
	m := memory{map[string]bool{}}
	e := &eraser.Eraser{DB: base, Replicas: []eraser.Replica{m}, Blobs: m, Log: s.log, Now: s.now}
	done, err := e.Run(context.Background())
	require.NoError(t, err)
	require.NoError(t, base.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		for id, p := range packages {
			row, err := q.GetPackage(ctx, id)
			require.NoError(t, err)
			held, err := q.HoldOver(ctx, db.HoldOverParams{TenantID: tenant, Package: id})
			require.NoError(t, err)
			if row.State != "SEALED" {
				require.Empty(t, held, "a held package was destroyed")
				require.True(t, p.until.Before(now), "a package of %d was destroyed before %s", p.year, p.until)
			} else {
				require.False(t, m.gone[p.key], "the bytes of a package that is kept were destroyed")
			}
		}
		return nil
	}))
	return done.Erased
}

type madeUpPackage struct {
	unit  uuid.UUID
	year  int32
	until time.Time
	key   string
}

// madeUp writes packages of one unit each around the day on which terms end.
func madeUp(t testing.TB, admin *pgx.Conn, r *rand.Rand, tenant string) map[uuid.UUID]madeUpPackage {
	t.Helper()
	made := map[uuid.UUID]madeUpPackage{}
	exec := func(sql string, args ...any) {
		_, err := admin.Exec(context.Background(), sql, args...)
		require.NoError(t, err)
	}
	sum := make([]byte, 32)
	for n := range 1 + r.IntN(5) {
		p := madeUpPackage{unit: uuid.New(), year: 2018 + r.Int32N(5), key: fmt.Sprintf("tenants/%s/packages/%d.zip", tenant, n)}
		var until *time.Time
		p.until = retainUntil(p.year, retentionYears)
		if years := []int32{0, 10, 11}[r.IntN(3)]; years > 0 {
			at := retainUntil(p.year, years)
			until, p.until = &at, at
		}
		id, object := uuid.New(), uuid.New()
		exec(`INSERT INTO archive_object (id, tenant_id, kind, key, sha256, size, retain_until, created_at) VALUES ($1, $2, 'package', $3, $4, 1, now(), now())`, object, tenant, p.key, sum)
		exec(`INSERT INTO package (id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, index_sha256, signed_sha256, stamp_sha256, stamp_time, archive_sha256, sealed_at, retain_until, object_id,
			index_size, signed_size, stamp_size) VALUES ($1, $2, $3, 'FISC', $4, 'SEALED', 1, '{}', now(), $5, $5, $5, now(), $5, now(), $6, $7, 1, 1, 1)`, id, tenant, p.year, n+1, sum, until, object)
		exec(`INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, package_id, position, created_at) VALUES ($1, $2, $3, 's', 'PRESERVED', 'FISC', $4, '{}', $5, 1, now())`,
			p.unit, tenant, "SDI|"+id.String(), p.year, id)
		made[id] = p
	}
	return made
}

// deedPDF is a page that says what may be destroyed.
func deedPDF() []byte {
	text := "BT /F1 12 Tf 72 720 Td (Si autorizza lo scarto degli anni 2010 e 2011) Tj ET"
	var out bytes.Buffer
	var at []int
	out.WriteString("%PDF-1.7\n")
	for i, body := range []string{
		"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Resources<</Font<</F1 5 0 R>>>>/Contents 4 0 R>>",
		fmt.Sprintf("<</Length %d>>stream\n%s\nendstream", len(text), text), "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
	} {
		at = append(at, out.Len())
		fmt.Fprintf(&out, "%d 0 obj\n%s\nendobj\n", i+1, body)
	}
	table := out.Len()
	fmt.Fprintf(&out, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, offset := range at {
		fmt.Fprintf(&out, "%010d 00000 n \n", offset)
	}
	fmt.Fprintf(&out, "trailer\n<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, table)
	return out.Bytes()
}

// signedDeed is that page, signed as a PDF by somebody, and as a .p7m.
func signedDeed(t testing.TB, authority *ca.CA, name string) (pdf, p7m []byte) {
	t.Helper()
	who, err := authority.IssueReceiptSigner(name)
	require.NoError(t, err)
	signer, plain := cades.Signer{Chain: who.Chain, Key: who.Key}, deedPDF()
	var out bytes.Buffer
	require.NoError(t, pades.Sign(context.Background(), &out, bytes.NewReader(plain), int64(len(plain)), signer, pades.Options{SigningTime: time.Now()}))
	p7m, err = cades.Sign(context.Background(), plain, signer, cades.Options{SigningTime: time.Now()})
	require.NoError(t, err)
	return out.Bytes(), p7m
}

// TestDeedSigner: a deed's signatures must hold, in a .p7m as in a PDF; whose they are, is judged where it is known who may sign, and said
// where it is not.
func TestDeedSigner(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	known, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stranger, err := ca.New(ca.Options{})
	require.NoError(t, err)
	anybody := &Service{now: time.Now}
	ours := &Service{now: time.Now, deedRoots: known.Pool()}
	goodPDF, good := signedDeed(t, known, "Anna Conti")
	otherPDF, other := signedDeed(t, stranger, "Anna Conti")
	for name, deed := range map[string]struct{ good, other []byte }{"p7m": {good, other}, "pdf": {goodPDF, otherPDF}} {
		t.Run(name, func(t *testing.T) {
			judged, err := anybody.checkDeed(ctx, "producer", deed.other)
			require.NoError(t, err)
			require.Contains(t, judged, "Anna Conti: it holds; whose it is was not judged")
			judged, err = ours.checkDeed(ctx, "producer", deed.good)
			require.NoError(t, err)
			require.Contains(t, judged, "Anna Conti: it holds, and its signer leads to the roots")
			_, err = ours.checkDeed(ctx, "producer", deed.other)
			require.Equal(t, "DEED_NOT_VERIFIED", code(err), "signed by another")
			tampered := bytes.Replace(deed.good, []byte("2010 e 2011"), []byte("2010 e 2019"), 1)
			require.NotEqual(t, deed.good, tampered)
			for _, s := range []*Service{anybody, ours} {
				_, err = s.checkDeed(ctx, "producer", tampered)
				require.Equal(t, "DEED_NOT_VERIFIED", code(err), "tampered")
			}
		})
	}
	for name, unsigned := range map[string][]byte{"whole": deedPDF(), "hardly a PDF": aPDF} {
		t.Run(name, func(t *testing.T) {
			judged, err := anybody.checkDeed(ctx, "producer", unsigned)
			require.NoError(t, err)
			require.Equal(t, "a PDF that bears no electronic signature", judged)
			_, err = ours.checkDeed(ctx, "producer", unsigned)
			require.Equal(t, "DEED_NOT_SIGNED", code(err))
		})
	}
	t.Run("a page put over it later", func(t *testing.T) { // the signed bytes are as they were
		at := bytes.LastIndex(goodPDF, []byte("startxref\n"))
		var before int
		_, err := fmt.Sscanf(string(goodPDF[at:]), "startxref\n%d", &before)
		require.NoError(t, err)
		text := "BT /F1 12 Tf 72 720 Td (Si autorizza lo scarto di tutto) Tj ET"
		over := slices.Clone(goodPDF)
		body := len(over)
		over = fmt.Appendf(over, "4 0 obj\n<</Length %d>>stream\n%s\nendstream\nendobj\n", len(text), text)
		table := len(over)
		over = fmt.Appendf(over, "xref\n4 1\n%010d 00000 n \ntrailer\n<</Size 20/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n", body, before, table)
		for _, s := range []*Service{anybody, ours} {
			_, err := s.checkDeed(ctx, "producer", over)
			require.Equal(t, "DEED_NOT_VERIFIED", code(err))
		}
	})
	t.Run("signed by two", func(t *testing.T) { // each must lead to the roots
		who, err := stranger.IssueReceiptSigner("Luca Blu")
		require.NoError(t, err)
		var both bytes.Buffer
		require.NoError(t, pades.Sign(ctx, &both, bytes.NewReader(goodPDF), int64(len(goodPDF)), cades.Signer{Chain: who.Chain, Key: who.Key}, pades.Options{SigningTime: time.Now()}))
		judged, err := anybody.checkDeed(ctx, "producer", both.Bytes())
		require.NoError(t, err)
		require.Contains(t, judged, "Anna Conti, Luca Blu: it holds")
		_, err = ours.checkDeed(ctx, "producer", both.Bytes())
		require.Equal(t, "DEED_NOT_VERIFIED", code(err))
	})
	t.Run("no signature left to judge", func(t *testing.T) { // the field is cut out, the range stays
		cut := regexp.MustCompile(`/FT ?/Sig`).ReplaceAllLiteral(goodPDF, []byte("/FT/Btn"))
		require.NotEqual(t, goodPDF, cut)
		_, err := anybody.checkDeed(ctx, "producer", cut)
		require.Equal(t, "DEED_NOT_VERIFIED", code(err))
	})
}
