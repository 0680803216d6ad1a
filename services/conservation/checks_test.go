package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sandbox/ca"
)

// runCheck runs a check and waits for its signed report.
func (h *house) runCheck(t testing.TB, kind conservationv1.CheckKind, tenant string) (*conservationv1.CheckReport, findings) {
	t.Helper()
	api := conservationv1.NewCheckServiceClient(h.Operator("conservation"))
	started, err := api.RunCheck(context.Background(), &conservationv1.RunCheckRequest{Kind: kind, Tenant: tenant})
	require.NoError(t, err)
	require.Equal(t, conservationv1.CheckState_CHECK_STATE_RUNNING, started.GetState())
	var got *conservationv1.CheckReport
	h.await(t, "report", func() bool {
		got, err = api.GetReport(context.Background(), &conservationv1.GetReportRequest{Name: started.GetName()})
		require.NoError(t, err)
		return len(got.GetSigned()) > 0
	})
	sd, verdict, err := cades.Verify(got.GetSigned(), cades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, verdict.Err())
	require.Equal(t, got.GetContent(), sd.Content())
	var f findings
	require.NoError(t, json.Unmarshal(got.GetContent(), &f))
	require.Equal(t, strings.TrimPrefix(got.GetState().String(), "CHECK_STATE_"), f.Verdict)
	kept := 0
	for _, disk := range h.disks {
		for key, raw := range objectsOn(t, disk) {
			if strings.HasPrefix(key, "tenants/platform/reports/") && bytes.Equal(raw, got.GetSigned()) {
				kept++
			}
		}
	}
	require.Equal(t, 2, kept, "the report is itself preserved, in both replicas")
	return got, f
}

func (h *house) admin(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := pgtest.Admin(t, h.DB("conservation")).Exec(context.Background(), sql, args...)
	require.NoError(t, err)
}

const (
	scrubKind = conservationv1.CheckKind_CHECK_KIND_SCRUB
	deepKind  = conservationv1.CheckKind_CHECK_KIND_DEEP
	sumKind   = conservationv1.CheckKind_CHECK_KIND_COMPLETENESS
	drillKind = conservationv1.CheckKind_CHECK_KIND_RESTORE_DRILL
)

// TestChecks runs each check on a good archive, then on one that was tampered with.
func TestChecks(t *testing.T) {
	t.Parallel()
	h, api := openLogged(t)
	h.intake(t, 4)
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	h.settle(t, context.Background(), h.invoice(t, 100))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 5 })
	for _, u := range h.units(t, "") {
		receiptOf(t, h, api, u.GetName())
	}
	h.await(t, "the package's leaf", func() bool {
		_, err := api.GetPackageReceipt(context.Background(), &conservationv1.GetPackageReceiptRequest{Name: p.GetName()})
		return err == nil
	})

	_, f := h.runCheck(t, scrubKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Zero(t, f.Checked, "nothing is due before a day has passed")
	h.admin(t, `UPDATE archive_copy SET check_due = now()`)
	_, f = h.runCheck(t, scrubKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.GreaterOrEqual(t, f.Checked, int64(4))
	_, f = h.runCheck(t, deepKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.EqualValues(t, 1, f.Checked)
	require.Contains(t, f.Notes, unjudgedSigner)

	// Where it is known whose signatures count, another's does not; and a row cannot shorten the term that the package states.
	h.service.credentialRoots = h.ca.Pool()
	_, f = h.runCheck(t, deepKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.NotContains(t, f.Notes, unjudgedSigner)
	stranger, err := ca.New(ca.Options{})
	require.NoError(t, err)
	h.service.credentialRoots = stranger.Pool()
	_, f = h.runCheck(t, deepKind, "")
	require.Len(t, f.Problems, 1, "%+v", f)
	require.Contains(t, f.Problems[0].Problem, "signature of the index does not hold")
	h.service.credentialRoots = nil
	h.admin(t, `UPDATE package SET retain_until = retain_until - interval '5 years'`)
	_, f = h.runCheck(t, deepKind, "")
	require.Len(t, f.Problems, 1, "%+v", f)
	require.Contains(t, f.Problems[0].Problem, "its row says that it is kept until 2032-12-31, package.json until 2037-12-31")
	h.admin(t, `UPDATE package SET retain_until = retain_until + interval '5 years'`)

	// Test 53, 55: what is made again from the second replica alone is what there is.
	require.NoError(t, os.Rename(h.disks[0], h.disks[0]+".away"))
	require.NoError(t, os.Mkdir(h.disks[0], 0o750)) // lost for good, and a new disk is in its place
	row := h.drillNow(t, "acme")
	require.Equal(t, "", row.firstProblem(), "%+v", row)
	require.EqualValues(t, 5, row.Checked)
	require.NoError(t, os.RemoveAll(h.disks[0]))
	require.NoError(t, os.Rename(h.disks[0]+".away", h.disks[0]))

	h.await(t, "two copies again", func() bool {
		s := h.storageState(t)
		return s.GetState() == conservationv1.StorageState_STORAGE_STATE_TWOFOLD && s.GetReplicas()[0].GetTrouble() == "" && s.GetReplicas()[0].GetOwedCopies() == 0
	})

	h.admin(t, `UPDATE unit SET class = 'FISC-PA' WHERE state = 'PRESERVED' AND id = (SELECT min(id::text)::uuid FROM unit WHERE state = 'PRESERVED')`)
	_, f = h.runCheck(t, drillKind, "tenants/acme")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Contains(t, f.Problems[0].Problem, "differs from its row")
	require.Len(t, f.Problems, 1)

	h.admin(t, `UPDATE package SET stamp_time = stamp_time + interval '1 hour'`)
	_, f = h.runCheck(t, deepKind, "tenants/acme")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Equal(t, p.GetName(), f.Problems[0].What)
	require.Contains(t, f.Problems[0].Problem, "another time than its stamp")

	list, err := conservationv1.NewCheckServiceClient(h.Operator("conservation")).ListReports(context.Background(), &conservationv1.ListReportsRequest{Kind: deepKind, PageSize: 1})
	require.NoError(t, err)
	require.Len(t, list.GetReports(), 1)
	require.Equal(t, conservationv1.CheckState_CHECK_STATE_PROBLEMS, list.GetReports()[0].GetState())
	require.NotEmpty(t, list.GetNextPageToken())
	_, err = conservationv1.NewCheckServiceClient(h.Operator("conservation")).GetReport(context.Background(), &conservationv1.GetReportRequest{Name: "reports/x"})
	require.Equal(t, "REPORT_NOT_FOUND", code(err))
}

// drillNow runs the drill without its report, which needs both replicas.
func (h *house) drillNow(t testing.TB, tenant string) *findings {
	t.Helper()
	f := &findings{Tenant: tenant}
	require.NoError(t, h.service.drill(context.Background(), f))
	return f
}

func (f *findings) firstProblem() string {
	if len(f.Problems) == 0 {
		return ""
	}
	return f.Problems[0].What + ": " + f.Problems[0].Problem
}

// TestScrubFindsAndMends: a flipped bit that nobody read is found, told, repaired, and in the report.
func TestScrubFindsAndMends(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  checks: {restore_drill: 0s}\n")
	h.intake(t, 3)
	var broken string
	for key := range objectsOn(t, h.disks[1]) {
		broken = key
	}
	spoil(t, filepath.Join(h.disks[1], "objects", filepath.FromSlash(broken)), flip)
	h.admin(t, `UPDATE archive_copy SET check_due = now()`)
	_, f := h.runCheck(t, scrubKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Len(t, f.Problems, 1)
	require.Equal(t, broken, f.Problems[0].What)
	require.Contains(t, f.Problems[0].Problem, "second replica")
	h.await(t, "repaired", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.repairs) == 1 })
	h.sameOnBoth(t)
	h.admin(t, `UPDATE archive_copy SET check_due = now()`)
	_, f = h.runCheck(t, scrubKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	startsOnce(t, h)
}

// startsOnce: a check that is due starts once, whoever looks first.
func startsOnce(t *testing.T, h *house) {
	t.Helper()
	ctx := context.Background()
	s := *h.service
	clock := time.Now()
	s.now = func() time.Time { return clock }
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 0}, {time.Hour, 1}, {0, 1}, {59 * time.Minute, 1}, {time.Minute, 2}, {10 * time.Hour, 3}} {
		clock = clock.Add(step.after)
		for range 2 {
			require.NoError(t, s.startDue(telemetry.WithActor(ctx, "service:conservation"), "RESTORE_DRILL", time.Hour))
		}
		n := 0
		h.rowsOf(t, `SELECT count(*) FROM archive_report WHERE kind = 'RESTORE_DRILL' AND asked_by = 'timer'`, &n)
		require.Equal(t, step.want, n)
	}
}

// Test41_ScrubCursorSurvives: a round that ends in the middle, by its budget or by a death, is gone on with;
// in a simulated year with outages no copy waits longer than it may.
func Test41_ScrubCursorSurvives(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	h.intake(t, 1)
	var copies int64
	h.rowsOf(t, `SELECT count(*) FROM archive_copy`, &copies)
	for range 5 { // objects of several transactions
		n, _, _ := h.counts()
		h.settle(t, context.Background(), h.invoice(t, 200+n))
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == n+1 })
	}
	h.rowsOf(t, `SELECT count(*) FROM archive_copy`, &copies)
	require.GreaterOrEqual(t, copies, int64(12))
	h.admin(t, `UPDATE archive_copy SET check_due = now() - interval '1 hour'`)
	s := *h.service
	s.cfg.Checks.ScrubBytes = 1 // one copy a round
	seen := int64(0)
	for range copies {
		f := &findings{}
		require.NoError(t, s.scrub(context.Background(), f))
		require.EqualValues(t, 1, f.Checked)
		seen++
	}
	require.Equal(t, copies, seen)
	f := &findings{}
	require.NoError(t, s.scrub(context.Background(), f))
	require.Zero(t, f.Checked, "each was read once")

	// A year, a round a day, one day in ten without the second replica: 30 days and a little is the longest wait.
	clock := time.Now()
	s.now = func() time.Time { return clock }
	s.cfg.Checks.ScrubBytes = 1 << 40
	admin := pgtest.Admin(t, h.DB("conservation"))
	for day := range 365 {
		clock = clock.Add(aDay)
		away := day%10 == 9
		if away {
			require.NoError(t, os.Rename(h.disks[1], h.disks[1]+".away"))
		}
		require.NoError(t, s.scrub(context.Background(), &findings{}))
		if away {
			require.NoError(t, os.Rename(h.disks[1]+".away", h.disks[1]))
		}
		var oldest time.Time
		require.NoError(t, admin.QueryRow(context.Background(), `SELECT min(checked_at) FROM archive_copy`).Scan(&oldest))
		require.Less(t, clock.Sub(oldest), 33*aDay, "day %d", day)
	}
	var damages int
	h.rowsOf(t, `SELECT count(*) FROM archive_damage`, &damages)
	require.Zero(t, damages, "a disk that is away is no damage")
}

// TestNextCheck: a day, a month, then at the pace of the scrub, and never later than that.
func TestNextCheck(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		created := time.Unix(1_800_000_000, 0)
		now := created.Add(time.Duration(rapid.Int64Range(0, int64(400*aDay)).Draw(t, "age")))
		every := time.Duration(rapid.Int64Range(int64(time.Hour), int64(400*aDay)).Draw(t, "every"))
		next := nextCheck(created, now, every)
		require.True(t, next.After(now))
		require.False(t, next.After(now.Add(every)))
		if now.Before(created.Add(youngUntil)) {
			require.False(t, next.After(created.Add(youngUntil)))
		}
	})
}

// ledger answers as the invoice service does: what it says is settled.
type ledger struct {
	invoicev1.UnimplementedInvoiceServiceServer

	list []*invoicev1.Invoice
}

func (l *ledger) ListInvoices(_ context.Context, req *invoicev1.ListInvoicesRequest) (*invoicev1.ListInvoicesResponse, error) {
	if req.GetPageToken() == "" && len(l.list) > 1 {
		return &invoicev1.ListInvoicesResponse{Invoices: l.list[:1], NextPageToken: "rest"}, nil
	}
	if len(l.list) == 0 {
		return &invoicev1.ListInvoicesResponse{}, nil
	}
	return &invoicev1.ListInvoicesResponse{Invoices: l.list[1:]}, nil
}

// TestCompleteness: a settled invoice without a unit, a unit without a leaf, a leaf without its unit and a gap
// in the numbers are each named; what is still on its way is not.
func TestCompleteness(t *testing.T) {
	t.Parallel()
	h, api := openLogged(t)
	h.intake(t, 3)
	units := h.units(t, "")
	for _, u := range units {
		receiptOf(t, h, api, u.GetName())
	}
	old := timestamppb.New(time.Now().Add(-2 * time.Hour))
	add := func(name string, state invoicev1.InvoiceState, format string, at *timestamppb.Timestamp) {
		h.ledger.list = append(h.ledger.list, &invoicev1.Invoice{Name: name, State: state, Format: format, UpdateTime: at})
	}
	for _, u := range units {
		add(u.GetSubject(), invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, "FPR12", old)
	}
	add(company+"/invoices/rejected", invoicev1.InvoiceState_INVOICE_STATE_REJECTED, "FPR12", old)
	add(company+"/invoices/at-a-public-body", invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, "FPA12", old)
	add(company+"/invoices/on-its-way", invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, "FPR12", timestamppb.Now())
	_, f := h.runCheck(t, sumKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.EqualValues(t, 3, f.Checked)

	// A unit that was refused keeps nothing. What a disposal destroyed, and the invoice service knows so, is not missed.
	admin := pgtest.Admin(t, h.DB("conservation"))
	state := func(is string) {
		_, err := admin.Exec(context.Background(), `UPDATE unit SET state = $1 WHERE id::text = $2`, is, lastOf(units[0].GetName()))
		require.NoError(t, err)
	}
	state("REFUSED")
	_, f = h.runCheck(t, sumKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Equal(t, units[0].GetSubject(), f.Problems[0].What)
	state("TAKEN_IN_CHARGE")
	add(company+"/invoices/destroyed", invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, "FPR12", old)
	h.ledger.list[len(h.ledger.list)-1].Destruction = &eventv1.Destruction{Disposal: "tenants/acme/disposals/x"}
	_, f = h.runCheck(t, sumKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)

	add(company+"/invoices/lost", invoicev1.InvoiceState_INVOICE_STATE_PA_REFUSED, "FPA12", old)
	add(company+"/invoices/imported", invoicev1.InvoiceState_INVOICE_STATE_IMPORTED, "FPR12", old)
	_, f = h.runCheck(t, sumKind, "tenants/acme")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Len(t, f.Problems, 2)
	require.Equal(t, company+"/invoices/lost", f.Problems[0].What)

	h.ledger.list = nil
	var id string
	require.NoError(t, admin.QueryRow(context.Background(), `INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, created_at)
		SELECT gen_random_uuid(), tenant_id, 'x', subject, 'REFUSED', class, fiscal_year, facts, now() - interval '3 hours' FROM unit LIMIT 1 RETURNING id::text`).Scan(&id))
	for _, sql := range []string{
		`SET session_replication_role = replica`, // no trigger: as whoever runs the database could
		`UPDATE unit SET state = 'TAKEN_IN_CHARGE' WHERE state = 'REFUSED'`,
		`UPDATE log_leaf SET subject_id = gen_random_uuid(), sequence = 9 WHERE sequence = 3`,
	} {
		_, err := admin.Exec(context.Background(), sql)
		require.NoError(t, err)
	}
	_, f = h.runCheck(t, sumKind, "")
	text := ""
	for _, p := range f.Problems {
		text += p.What + " " + p.Problem + "\n"
	}
	for _, want := range []string{"numbers in the log go to 9 and 3 leaves", id + " it was taken in charge and is not in the log", "leaf 2 of the log states it, and it is not there"} {
		require.Contains(t, text, want)
	}
}

// TestReadable: what no program could open is told.
func TestReadable(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"a.xml": "<a>", "b.xml.p7m": "no", "c.zip": "PK"} {
		err := readable(name, []byte(raw))
		require.Equal(t, name != "a.xml", err != nil, name)
	}
	require.Error(t, readable("a.xml", []byte("<a b=<")))
	require.NoError(t, readable("a.xml", []byte(`<?xml version="1.0" encoding="ISO-8859-1"?><a>`+"\xe8"+`</a>`)))
	require.NoError(t, readable("a.bin", nil))
}

// TestReportsAreLeaves: a signed report is in the log, those of before the log knew reports too, and its receipt proves the file.
func TestReportsAreLeaves(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, api := context.Background(), conservationv1.NewCheckServiceClient(h.Operator("conservation"))
	policy := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&h.service.book.signer.Verifier}}
	proven := func(name string) {
		t.Helper()
		var r *conservationv1.CheckReport
		h.await(t, "the receipt", func() bool {
			var err error
			r, err = api.GetReport(ctx, &conservationv1.GetReportRequest{Name: name})
			require.NoError(t, err)
			return len(r.GetReceipt()) > 0
		})
		receipt, err := tlog.ParseReceipt(r.GetReceipt())
		require.NoError(t, err)
		ev, err := receipt.Verify(nil, policy, tlog.StampPolicy{})
		require.NoError(t, err)
		leaf, err := tlog.ParseLeaf(ev.Entry.Data)
		require.NoError(t, err)
		require.Equal(t, custody.Reported, leaf.Type)
		require.Len(t, leaf.Objects, 2)
		require.Equal(t, tlog.Hash(sha256.Sum256(r.GetSigned())), leaf.Objects[1])
	}
	first, _ := h.runCheck(t, inventoryKind, "")
	proven(first.GetName())
	_, f := h.runCheck(t, conservationv1.CheckKind_CHECK_KIND_COMPLETENESS, "")
	require.Empty(t, f.Problems, "a report's leaf is no unit that is gone")

	// One that was kept before the log knew reports: whoever begins to append finds it, once.
	h.admin(t, `INSERT INTO archive_object (id, tenant_id, kind, key, sha256, size, retain_until, created_at)
		SELECT '01900000-0000-7000-8000-000000000007', tenant_id, kind, key || '.older', sha256, size, retain_until, created_at FROM archive_object WHERE kind = 'report' LIMIT 1`)
	h.admin(t, `INSERT INTO archive_report (id, tenant_id, kind, subject, asked_by, state, began_at, ended_at, content, object_id)
		SELECT '01900000-0000-7000-8000-000000000008', tenant_id, kind, subject, asked_by, state, began_at, ended_at, content, '01900000-0000-7000-8000-000000000007' FROM archive_report LIMIT 1`)
	var owed int64
	for _, want := range []int64{1, 0} {
		require.NoError(t, h.service.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			owed, err = db.New(tx).OweReports(ctx)
			return err
		}))
		require.Equal(t, want, owed)
	}
	h.await(t, "its leaf", func() bool {
		return h.counted(t, "log_leaf WHERE subject_id = '01900000-0000-7000-8000-000000000007'") == 1
	})
}
