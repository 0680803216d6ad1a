package conservation

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
)

// report waits for the signed report of a deposit, a submission or a unit.
func (h *house) report(t testing.TB, name string) *conservationv1.SubmissionReport {
	t.Helper()
	var r *conservationv1.SubmissionReport
	h.await(t, "report of "+name, func() bool {
		var err error
		r, err = h.producer().GetSubmissionReport(context.Background(), &conservationv1.GetSubmissionReportRequest{Name: name})
		if err != nil {
			require.Equal(t, "SUBMISSION_REPORT_NOT_READY", code(err))
		}
		return err == nil
	})
	return r
}

// TestReportsOfEvents: what comes by event has a report like what is deposited: signed, stamped, kept in both replicas, with the
// proof of the log for every document in it; a deposit's document stands in its own report only.
func TestReportsOfEvents(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h, log := openLoggedWith(t, "  deposits: {event_reports: 50ms}\n")
	policy, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	trust := tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&policy.Verifier}}

	h.intake(t, 7)
	again := h.invoice(t, 3)
	again.Invoice = h.unitOfSdI(t, again.GetSdiId()).GetSubject()
	h.settle(t, ctx, again) // the same document again: no second unit, and no second report of it
	deposited := hand(t, h.producer(), headOf("contratto", "contratto.pdf", aPDF), aPDF)
	require.Equal(t, accepted, deposited.GetState(), deposited.GetProblems())
	of := h.report(t, deposited.GetName())
	require.Equal(t, deposited.GetName(), of.GetDeposit())
	require.Equal(t, of.GetSigned(), h.report(t, deposited.GetUnit()).GetSigned(), "the unit's report is the deposit's")

	reports, seen := map[string]*conservationv1.SubmissionReport{}, 0
	for _, u := range h.units(t, "") {
		if u.GetName() == deposited.GetUnit() {
			continue
		}
		r := h.report(t, u.GetName())
		require.NotEmpty(t, r.GetSubmission())
		require.Contains(t, string(r.GetContent()), "<Identificativo>"+u.GetName()+"</Identificativo>")
		require.NotContains(t, string(r.GetContent()), deposited.GetUnit())
		reports[r.GetSubmission()] = r
		seen++
	}
	require.Equal(t, 7, seen)
	h.checkReports(t, reports, trust)

	list, err := h.producer().ListSubmissions(ctx, &conservationv1.ListSubmissionsRequest{Parent: "tenants/acme", PageSize: 1})
	require.NoError(t, err)
	require.Len(t, list.GetSubmissions(), 1)
	require.Contains(t, reports, list.GetSubmissions()[0].GetName())
	require.NotNil(t, list.GetSubmissions()[0].GetReportTime())
	var units int
	h.rowsOf(t, `SELECT sum(unit_count)::int FROM submission`, &units)
	require.Equal(t, 7, units, "each document stands in one report")

	// A later receipt is reported too; the first report stays as it was.
	first := h.report(t, h.units(t, again.GetInvoice())[0].GetName())
	late := h.invoice(t, 1)
	held := h.unitOfSdI(t, late.GetSdiId())
	late.Invoice = held.GetSubject()
	late.Receipts = append(late.Receipts, h.receipt(t, "DT", 1))
	h.settle(t, ctx, late)
	h.await(t, "the later receipt is reported", func() bool {
		var n int
		h.rowsOf(t, `SELECT sum(unit_count)::int FROM submission WHERE report IS NOT NULL`, &n)
		return n == 8
	})
	require.Equal(t, first.GetSigned(), h.report(t, h.units(t, again.GetInvoice())[0].GetName()).GetSigned())
	require.NotNil(t, receiptOf(t, h, log, held.GetName()))

	h.writtenLate(t, slices.Collect(maps.Keys(reports)), trust)

	foreign := conservationv1.NewDepositServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "beta", Scopes: []string{"archive.read"}})))
	for name := range reports {
		_, err = foreign.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: name})
		require.Equal(t, "FOREIGN_RESOURCE", code(err))
		_, err = foreign.GetSubmissionReport(ctx, &conservationv1.GetSubmissionReportRequest{Name: strings.Replace(name, "acme", "beta", 1)})
		require.Equal(t, "SUBMISSION_NOT_FOUND", code(err))
	}
}

// writtenLate writes reports again now that a receipt has joined a unit, as where it came before its report was due: each lists what the leaf
// names, also the metadata that the unit had then.
func (h *house) writtenLate(t *testing.T, names []string, trust tlog.Policy) {
	t.Helper()
	former := 0
	for _, name := range names {
		tenant, id, err := parseName("name", name, "submissions", noPackage(name))
		require.NoError(t, err)
		b := &submissionBook{s: h.service}
		require.NoError(t, h.service.db.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			q := db.New(tx)
			var err error
			b.row, err = q.GetSubmission(ctx, db.GetSubmissionParams{TenantID: tenant, ID: id})
			if err != nil {
				return err
			}
			return b.readChain(ctx, q)
		}))
		content, err := b.write(context.Background())
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "rdv.xml")
		require.NoError(t, os.WriteFile(file, content, 0o600))
		lint(t, file, "rdv.xsd")
		verdict, err := custody.VerifySubmission(content, trust, tlog.StampPolicy{})
		require.NoError(t, err)
		require.Empty(t, verdict.Problems, name)
		require.Len(t, verdict.Holds, 1, "nothing that a leaf names is missing")
		former += strings.Count(string(content), "<File>") - strings.Count(string(content), "</ImprontaCrittograficaDelDocumento><Dimensione>")
	}
	require.Equal(t, 1, former, "the metadata that were made anew")
}

// unitOfSdI is the unit of an SdI id.
func (h *house) unitOfSdI(t testing.TB, id string) *conservationv1.Unit {
	t.Helper()
	var name string
	h.rowsOf(t, `SELECT 'tenants/' || tenant_id || '/units/' || id FROM unit WHERE facts::text LIKE '%"`+id+`"%' AND integrates IS NULL`, &name)
	u, err := h.client.GetUnit(context.Background(), &conservationv1.GetUnitRequest{Name: name})
	require.NoError(t, err)
	return u
}

// checkReports reads reports with the tools of others, and holds each against the log's key alone.
func (h *house) checkReports(t *testing.T, reports map[string]*conservationv1.SubmissionReport, trust tlog.Policy) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	roots := file("roots.pem", h.ca.CertPEM())
	require.NotEmpty(t, reports)
	for name, r := range reports {
		content, p7m, tsr := file("rdv.xml", r.GetContent()), file("rdv.xml.p7m", r.GetSigned()), file("rdv.xml.p7m.tsr", r.GetTimeStamp())
		tool(t, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", p7m, "-CAfile", roots, "-purpose", "any", "-out", filepath.Join(dir, "out.xml"))
		tool(t, "openssl", "ts", "-verify", "-in", tsr, "-data", p7m, "-CAfile", roots)
		lint(t, content, "rdv.xsd")
		require.Contains(t, string(r.GetContent()), "<Copie>2</Copie>")
		for _, personal := range []string{"Alfa", "Käufer", "01234567897", "IT0123", "invoices/"} {
			require.NotContains(t, string(r.GetContent()), personal, "it outlives the documents")
		}
		verdict, err := custody.VerifySubmission(r.GetContent(), trust, tlog.StampPolicy{})
		require.NoError(t, err)
		require.Empty(t, verdict.Problems, name)
		require.Len(t, verdict.Holds, 1)
		require.Contains(t, strings.Join(keysOn(t, h.disks[1]), " "), "tenants/acme/rdv/"+time.Now().UTC().Format("2006-01")+"/"+name[strings.LastIndexByte(name, '/')+1:], "it is itself preserved")
	}
}

// TestStatementByCertifiedMail: a tenant who names a mailbox is sent the day's checkpoint, once; a refusal is told where it is asked for.
func TestStatementByCertifiedMail(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h, log := openLogged(t)
	const mailbox = "tenants/acme/mailboxes/0197a000-0000-7000-8000-000000000001"
	for _, bad := range []*conservationv1.SetStatementMailRequest{
		{Parent: "tenants/acme", Mailbox: mailbox}, {Parent: "tenants/acme", Address: "a@pec.example"}, {Parent: "tenants/acme", Mailbox: mailbox, Address: "a@pec.example,b@pec.example"},
	} {
		_, err := log.SetStatementMail(ctx, bad)
		require.Equal(t, "STATEMENT_MAIL_INCOMPLETE", code(err))
	}
	_, err := log.SetStatementMail(ctx, &conservationv1.SetStatementMailRequest{Parent: "tenants/acme", Mailbox: strings.Replace(mailbox, "acme", "beta", 1), Address: "a@pec.example"})
	require.Equal(t, "FOREIGN_MAILBOX", code(err))
	m, err := log.SetStatementMail(ctx, &conservationv1.SetStatementMailRequest{Parent: "tenants/acme", Mailbox: mailbox, Address: "studio@pec.example"})
	require.NoError(t, err)
	require.Equal(t, mailbox, m.GetMailbox())

	h.intake(t, 2)
	letters := func() []*pecv1.MessageRequested { h.mu.Lock(); defer h.mu.Unlock(); return h.letters }
	h.await(t, "the letter", func() bool { return len(letters()) > 0 })
	ev := letters()[0]
	require.Equal(t, mailbox, ev.GetMailbox())
	ref, err := blob.ParseURI(ev.GetRequest().GetUri())
	require.NoError(t, err)
	raw, err := h.probe.Blobs.Get(ctx, ref)
	require.NoError(t, err)
	req := &pecv1.SendMessageRequest{}
	require.NoError(t, proto.Unmarshal(raw, req))
	require.Equal(t, []string{"studio@pec.example"}, req.GetTo())
	require.Equal(t, ev.GetRequestId(), req.GetRequestId())
	require.Len(t, req.GetAttachments(), 2)
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	point, err := tlog.OpenCheckpoint(req.GetAttachments()[0].GetData(), tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&signer.Verifier}})
	require.NoError(t, err)
	stamped, err := log.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{Size: point.Tree.Size})
	require.NoError(t, err)
	require.Equal(t, stamped.GetStamp(), req.GetAttachments()[1].GetData())

	require.NoError(t, h.probe.DB.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		return h.probe.Bus.Emit(ctx, tx, &pecv1.MessageRequestRefused{Mailbox: mailbox, RequestId: ev.GetRequestId(), Code: "MAILBOX_CANNOT_SEND", Reason: "put to rest"})
	}))
	h.await(t, "the refusal", func() bool {
		m, err = log.GetStatementMail(ctx, &conservationv1.GetStatementMailRequest{Parent: "tenants/acme"})
		require.NoError(t, err)
		return m.GetTrouble() != ""
	})
	require.Contains(t, m.GetTrouble(), "MAILBOX_CANNOT_SEND")
	require.EqualValues(t, point.Tree.Size, m.GetSentSize())
	m, err = log.SetStatementMail(ctx, &conservationv1.SetStatementMailRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Empty(t, m.GetMailbox())
	require.Len(t, letters(), 1, "one a day")
}
