package conservation

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

func field(f conservationv1.SearchField, value string) *conservationv1.SearchQuery {
	return &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{AllOf: []*conservationv1.SearchCondition{{Field: f, Value: value}}}}}
}

// Test47_Inspector: an inspector is named, ends by time and by word, sees what the filter lets through and nothing else, cannot
// write, and everything is written down.
//
// A part of Test56 is in it: the token needs no key of the tenant. The rest is test56SuspendedTenant.
func Test47_InspectorAndTest56_WithoutSubscription(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	units := shelve(t, h)
	ctx := context.Background()
	tenant := conservationv1.NewInspectorServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read", "archive.write"}})))
	grant := func(q *conservationv1.SearchQuery) (*conservationv1.Inspector, context.Context) {
		resp, err := tenant.CreateInspector(ctx, &conservationv1.CreateInspectorRequest{Parent: "tenants/acme", Inspector: &conservationv1.Inspector{
			FullName: "Mar. Luca Ferri", Body: "Guardia di Finanza", Reason: "Ordine 12/2026", Filter: q, ExpireTime: timestamppb.New(time.Now().Add(48 * time.Hour)),
		}})
		require.NoError(t, err)
		return resp.GetInspector(), metadata.AppendToOutgoingContext(ctx, inspectorHeader, resp.GetToken())
	}
	// Without any key: no bearer at all is sent.
	conn := h.DialKey("conservation", "")
	api := conservationv1.NewInspectionServiceClient(conn)
	who, as := grant(field(conservationv1.SearchField_SEARCH_FIELD_NAME, "bianchi"))
	admin := pgtest.Admin(t, h.DB("conservation"))
	holds := func() map[string]string { // all that there is but for what is noted of visits, and packages that visitors ordered
		return h.everything(t, admin, "inspection", "inspector", "distribution", "distribution_blob", "audit_entry", "request_log", "archive_copy", "archive_cursor", "archive_position", "archive_timer",
			"river_client", "river_client_queue", "river_job", "river_leader", "river_queue")
	}
	h.still(t, holds)
	before := holds()

	got, err := api.GetInspection(as, &conservationv1.GetInspectionRequest{})
	require.NoError(t, err)
	require.Equal(t, "Mar. Luca Ferri", got.GetFullName())
	found, err := api.InspectDocuments(as, &conservationv1.InspectDocumentsRequest{})
	require.NoError(t, err)
	require.Len(t, found.GetDocuments(), 1)
	require.Equal(t, units["bianchi"], found.GetDocuments()[0].GetUnit())
	found, err = api.InspectDocuments(as, &conservationv1.InspectDocumentsRequest{Query: field(conservationv1.SearchField_SEARCH_FIELD_NAME, "verdi")})
	require.NoError(t, err)
	require.Empty(t, found.GetDocuments())
	view := func(unit string) ([]byte, error) {
		stream, err := api.InspectFile(as, &conservationv1.InspectFileRequest{Unit: unit})
		require.NoError(t, err)
		first, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		require.Equal(t, "transmitted", first.GetFile().GetRole())
		return drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err }), nil
	}
	raw, err := view(units["bianchi"])
	require.NoError(t, err)
	require.Contains(t, string(raw), "FatturaElettronica")
	_, err = view(units["verdi"])
	require.Equal(t, "UNIT_NOT_FOUND", code(err))
	_, err = view("tenants/beta/units/" + strings.Split(units["bianchi"], "/")[3])
	require.Equal(t, "UNIT_NOT_FOUND", code(err))
	report, err := api.InspectIntegrity(as, &conservationv1.InspectIntegrityRequest{Unit: units["bianchi"]})
	require.NoError(t, err)
	require.True(t, report.GetIntact())
	_, err = api.InspectIntegrity(as, &conservationv1.InspectIntegrityRequest{Unit: units["verdi"]})
	require.Equal(t, "UNIT_NOT_FOUND", code(err))
	d, err := api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 1, d.GetUnitCount())
	_, err = api.CreateInspectionDistribution(as, &conservationv1.CreateInspectionDistributionRequest{Units: []string{units["verdi"]}})
	require.Equal(t, "UNIT_NOT_FOUND", code(err))
	h.await(t, "built", func() bool {
		d, err = api.GetInspectionDistribution(as, &conservationv1.GetInspectionDistributionRequest{Name: d.GetName()})
		require.NoError(t, err)
		return d.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_READY
	})
	stream, err := api.DownloadInspectionDistribution(as, &conservationv1.DownloadInspectionDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	_, files := unpack(t, drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err }))
	silent(t, files, "Verdi")

	h.noKey(t, as)
	_, err = api.GetInspection(metadata.AppendToOutgoingContext(ctx, inspectorHeader, "ci_wrong"), &conservationv1.GetInspectionRequest{})
	require.Equal(t, "INSPECTOR_UNKNOWN", code(err))
	_, err = api.GetInspection(ctx, &conservationv1.GetInspectionRequest{})
	require.Equal(t, "INSPECTOR_UNKNOWN", code(err))

	// Another inspector does not see what this one asked for.
	other, asOther := grant(nil)
	_, err = api.GetInspectionDistribution(asOther, &conservationv1.GetInspectionDistributionRequest{Name: d.GetName()})
	require.Equal(t, "DISTRIBUTION_NOT_FOUND", code(err))
	found, err = api.InspectDocuments(asOther, &conservationv1.InspectDocumentsRequest{})
	require.NoError(t, err)
	require.Len(t, found.GetDocuments(), 3)

	_, err = tenant.RevokeInspector(ctx, &conservationv1.RevokeInspectorRequest{Name: other.GetName()})
	require.NoError(t, err)
	_, err = api.InspectDocuments(asOther, &conservationv1.InspectDocumentsRequest{})
	require.Equal(t, "INSPECTOR_REVOKED", code(err))
	h.admin(t, `UPDATE inspector SET begins_at = begins_at - interval '49 hours', ends_at = ends_at - interval '49 hours' WHERE revoked_at IS NULL`)
	late := every(t, as, conn, d.GetName(), units["bianchi"], "INSPECTOR_ENDED")
	every(t, asOther, conn, d.GetName(), units["bianchi"], "INSPECTOR_REVOKED")
	require.Equal(t, before, holds(), "nothing was written in all of this")

	logged, err := tenant.ListInspections(ctx, &conservationv1.ListInspectionsRequest{Parent: "tenants/acme", Inspector: who.GetName()})
	require.NoError(t, err)
	var actions []string
	for _, i := range logged.GetInspections() {
		require.Equal(t, "Mar. Luca Ferri", i.GetFullName())
		actions = append(actions, i.GetAction())
	}
	slices.Reverse(actions)
	shown := []string{"grant", "search", "search", "view", "denied", "denied", "integrity", "denied", "distribution", "distribution", "denied", "download"}
	require.Equal(t, append(shown, slices.Repeat([]string{"denied"}, late)...), actions, "what came too late too")
	refused := logged.GetInspections()[len(actions)-1-4]
	require.Equal(t, []string{units["verdi"], "UNIT_NOT_FOUND"}, []string{refused.GetResource(), refused.GetDetail()}, "what was asked for in vain")
	var kept int
	h.rowsOf(t, `SELECT count(*) FROM inspector WHERE encode(token, 'escape') LIKE 'ci%'`, &kept)
	require.Zero(t, kept, "tokens are kept as digests")
	list, err := tenant.ListInspectors(ctx, &conservationv1.ListInspectorsRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetInspectors(), 2)

	for _, bad := range []time.Duration{-time.Hour, 400 * aDay} {
		_, err = tenant.CreateInspector(ctx, &conservationv1.CreateInspectorRequest{Parent: "tenants/acme", Inspector: &conservationv1.Inspector{FullName: "x", ExpireTime: timestamppb.New(time.Now().Add(bad))}})
		require.Equal(t, "INSPECTOR_TERM", code(err))
	}
}

// noKey: an inspector's token opens no method but those of inspections, neither as what it is nor as a bearer.
func (h *house) noKey(t testing.TB, as context.Context) {
	t.Helper()
	sent, _ := metadata.FromOutgoingContext(as)
	bearer := h.DialKey("conservation", sent.Get(inspectorHeader)[0])
	none := h.DialKey("conservation", "")
	others := methods(t, func(name string) bool { return !strings.Contains(name, ".InspectionService.") })
	require.Greater(t, len(others), 50)
	for _, m := range others {
		err := call(as, none, m, nil)
		require.Equal(t, fault.KindUnauthenticated, fault.Of(err).Kind, "%s: %v", m.FullName(), err)
		err = call(as, bearer, m, nil)
		require.Equal(t, fault.KindUnauthenticated, fault.Of(err).Kind, "%s: %v", m.FullName(), err)
	}
}

// every calls all methods of inspections, which are all refused for one reason, and says how many there are.
func every(t testing.TB, as context.Context, conn grpc.ClientConnInterface, distribution, unit, want string) int {
	t.Helper()
	requests := map[protoreflect.Name]proto.Message{
		"InspectFile": &conservationv1.InspectFileRequest{Unit: unit}, "InspectIntegrity": &conservationv1.InspectIntegrityRequest{Unit: unit},
		"GetInspectionDistribution":      &conservationv1.GetInspectionDistributionRequest{Name: distribution},
		"DownloadInspectionDistribution": &conservationv1.DownloadInspectionDistributionRequest{Name: distribution},
	}
	all := methods(t, func(name string) bool { return strings.Contains(name, ".InspectionService.") })
	require.Len(t, all, 7)
	for _, m := range all {
		var request any
		if r := requests[m.Name()]; r != nil {
			request = r
		}
		require.Equal(t, want, code(call(as, conn, m, request)), m.FullName())
	}
	return len(all)
}

// breakCopies changes a byte of each file below a folder whose path has a part in it, in the middle of the content looked for.
func breakCopies(t testing.TB, disk, part string, content []byte) {
	t.Helper()
	hit := 0
	require.NoError(t, filepath.WalkDir(disk, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(name, part) {
			return err
		}
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		at := len(raw) / 2
		if content != nil {
			if at = bytes.Index(raw, content); at < 0 {
				return nil
			}
			at += len(content) / 2
		}
		raw[at] ^= 1
		hit++
		require.NoError(t, os.Chmod(name, 0o600))
		return os.WriteFile(name, raw, 0o600)
	}))
	require.NotZero(t, hit, "nothing of %s was found on %s", part, disk)
}

// Test48_IntegrityReport: a fresh report is good, signed and readable for a sound document, and false, naming it, for each thing
// that is broken.
func Test48_IntegrityReport(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	units := shelve(t, h)
	ctx, api := context.Background(), h.reader()
	ask := func() (*conservationv1.IntegrityReport, map[string]string) {
		var r *conservationv1.IntegrityReport
		h.await(t, "report", func() bool {
			var err error
			r, err = api.GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: units["bianchi"]})
			if err != nil {
				require.Equal(t, "RECEIPT_NOT_READY", code(err))
			}
			return err == nil
		})
		sd, report, err := cades.Verify(r.GetSigned(), cades.VerifyOptions{})
		require.NoError(t, err)
		require.NoError(t, report.Err())
		require.Equal(t, r.GetContent(), sd.Content())
		var said integrityReport
		require.NoError(t, json.Unmarshal(r.GetContent(), &said))
		require.Equal(t, r.GetIntact(), said.Intact)
		bad := map[string]string{}
		for _, c := range said.Checks {
			if !c.Good {
				bad[c.What] = c.Detail
			}
		}
		return r, bad
	}
	good, bad := ask()
	require.True(t, good.GetIntact(), bad)
	require.Contains(t, string(good.GetPage()), "Integro")
	require.NotContains(t, string(good.GetPage()), "<script")

	const thePackage = "the package and the files of the document in the "
	for name, c := range map[string]struct{ what, do, undo string }{
		"row of a file":         {thePackage + "primary replica", `UPDATE unit_file SET sha256 = sha256('x') WHERE role = 'transmitted'`, `UPDATE unit_file f SET sha256 = k.sha256 FROM kept_file k WHERE k.unit_id = f.unit_id AND k.ordinal = f.ordinal`},
		"row of the package":    {"the row of the package names its object", `UPDATE package SET archive_sha256 = sha256('x')`, `UPDATE package p SET archive_sha256 = k.archive_sha256 FROM kept_package k WHERE k.id = p.id`},
		"stamp time of the row": {"the signed index bears the time stamp of a trusted authority", `UPDATE package SET stamp_time = stamp_time - interval '1 day'`, `UPDATE package p SET stamp_time = k.stamp_time FROM kept_package k WHERE k.id = p.id`},
		"place in the package":  {"the index names the files of the document", `UPDATE unit SET position = position + 10`, `UPDATE unit SET position = position - 10`},
		"checkpoint of the log": {"the log proves that the document was taken in charge with these files", `CREATE TABLE kept_point AS SELECT * FROM log_checkpoint; UPDATE log_checkpoint SET note = overlay(note placing '\x00'::bytea from 20)`, `UPDATE log_checkpoint c SET note = k.note FROM kept_point k WHERE k.size = c.size`},
	} {
		t.Run(name, func(t *testing.T) {
			h.admin(t, `CREATE TABLE IF NOT EXISTS kept_file AS SELECT * FROM unit_file; CREATE TABLE IF NOT EXISTS kept_package AS SELECT * FROM package`)
			h.admin(t, c.do)
			r, bad := ask()
			h.admin(t, c.undo)
			require.False(t, r.GetIntact())
			require.Contains(t, bad, c.what)
			require.Contains(t, string(r.GetPage()), "NON integro")
		})
	}
	for i, which := range []string{"primary", "second"} {
		breakCopies(t, h.disks[i], "/packages/", nil)
		r, bad := ask()
		require.False(t, r.GetIntact())
		require.Contains(t, bad, thePackage+which+" replica")
		h.await(t, "mended from the other copy", func() bool { r, _ := ask(); return r.GetIntact() })
	}

	reportOfAny(t, h)

	// Before there is a package, what was taken in is looked at.
	fresh := h.invoice(t, 50)
	h.settle(t, ctx, fresh)
	h.await(t, "taken", func() bool { return len(h.units(t, fresh.GetInvoice())) == 1 })
	units["bianchi"] = h.units(t, fresh.GetInvoice())[0].GetName()
	r, bad := ask()
	require.True(t, r.GetIntact(), bad)
	require.Contains(t, string(r.GetContent()), "no sealed package yet")
	breakCopies(t, h.disks[1], "/intake/", []byte("<FatturaElettronica n='50'/>"))
	r, bad = ask()
	require.False(t, r.GetIntact())
	require.Contains(t, bad, "the files of the document in the second replica")
}

// measured is a replica that counts what is asked of it.
type measured struct {
	vault.Vault
	opened, bytes, listed, written atomic.Int64
}

func (c *measured) Open(ctx context.Context, o vault.Object) (io.ReadCloser, error) {
	c.opened.Add(1)
	r, err := c.Vault.Open(ctx, o)
	return &measuredReader{r, c}, err
}

func (c *measured) List(ctx context.Context, prefix string) iter.Seq2[vault.Entry, error] {
	c.listed.Add(1)
	return c.Vault.List(ctx, prefix)
}

func (c *measured) Put(ctx context.Context, o vault.Object, r io.ReaderAt, lock vault.Lock) error {
	c.written.Add(1)
	return c.Vault.Put(ctx, o, r, lock)
}

type measuredReader struct {
	io.ReadCloser
	c *measured
}

func (r *measuredReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.bytes.Add(int64(n))
	return n, err
}

// reportOfAny: the work that a report takes does not grow with the archive. Of a package of forty documents as of one of three each replica is
// read once, from end to end; the database is asked in as many
// transactions; one signature is made, and no time stamp.
func reportOfAny(t *testing.T, h *house) {
	t.Helper()
	const many = 40
	taken, _, _ := h.counts()
	var events []*invoicev1.InvoiceSettled
	for i := range many {
		ev := h.invoice(t, 1000+i)
		ev.FiscalYear = year - 1
		events = append(events, ev)
	}
	small := h.units(t, "")[0]
	h.settleAll(t, events)
	h.await(t, "taken", func() bool { now, _, _ := h.counts(); return now == taken+many })
	closed, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year - 1})
	require.NoError(t, err)
	large := h.awaitSealed(t, closed.GetName())
	require.EqualValues(t, many, large.GetUnitCount())
	unit := h.units(t, events[many/2].GetInvoice())[0]
	receiptOf(t, h, conservationv1.NewEvidenceServiceClient(h.Operator("conservation")), unit.GetName())
	h.await(t, "the log has the package", func() bool { return h.counted(t, "log_pending") == 0 })

	books := h.openBooks(t)
	asked := func(u *conservationv1.Unit) (transactions int64) {
		own, err := pg.Open(context.Background(), h.DB("conservation").Config())
		require.NoError(t, err)
		defer own.Close()
		first, second := &measured{Vault: h.service.replicas.all[0].Vault}, &measured{Vault: h.service.replicas.all[1].Vault}
		s := h.another(first, second)
		s.db = own
		stamped, ordered := h.stamps(), books.orders(t, u.GetName())
		tenant, id, err := parseName("name", u.GetName(), "units", noUnit(u.GetName()))
		require.NoError(t, err)
		r, err := s.integrity(context.Background(), tenant, id)
		require.NoError(t, err)
		require.True(t, r.GetIntact(), "%s", r.GetContent())
		size := h.pack(t, u.GetPackage()).GetArchive().GetSize()
		for _, c := range []*measured{first, second} {
			require.Equal(t, []int64{1, size, 0, 0}, []int64{c.opened.Load(), c.bytes.Load(), c.listed.Load(), c.written.Load()}, "one pass over the package")
		}
		require.Equal(t, ordered+1, books.orders(t, u.GetName()), "one signature")
		require.Equal(t, stamped, h.stamps())
		transactions = own.Pool().Stat().AcquireCount()
		require.Positive(t, transactions)
		return transactions
	}
	require.Equal(t, asked(small), asked(unit))
}

// stamps is how many time stamps the authorities gave.
func (h *house) stamps() int { return h.authority(0).Granted() + h.authority(1).Granted() }
