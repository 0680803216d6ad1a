//go:build soak

package conservation

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// soakUnits is how many units a soak takes in: CERALACCA_SOAK_UNITS, or usual.
func soakUnits(t testing.TB, usual int) int {
	t.Helper()
	text := os.Getenv("CERALACCA_SOAK_UNITS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, "CERALACCA_SOAK_UNITS is a number of units")
	return n
}

// settleOf emits settled invoices of a tenant, n of them from a number on.
func (h *house) settleOf(t testing.TB, tenant string, from, n int) {
	t.Helper()
	require.NoError(t, h.settleSome(context.Background(), tenant, from, n))
}

func (h *house) settleSome(ctx context.Context, tenant string, from, n int) error {
	var contents [][]byte // an invoice and its receipt, in turn
	for i := from; i < from+n; i++ {
		contents = append(contents, fmt.Appendf(nil, "<FatturaElettronica n='%d'/>", i), fmt.Appendf(nil, "<RC n='%d'/>", i))
	}
	refs, err := blob.PutAll(ctx, h.probe.Blobs, tenant, contents)
	if err != nil {
		return err
	}
	xml := func(ref blob.Ref) *eventv1.Blob {
		return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mimeXML}
	}
	return h.probe.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		for k := range n {
			i := from + k
			stem := fmt.Sprintf("IT01234567897_%s%06d", tenant[len(tenant)-4:], i)
			ev := &invoicev1.InvoiceSettled{
				Invoice: "tenants/" + tenant + "/companies/main/invoices/" + uuid.NewString(), SdiId: fmt.Sprint(1_000_000_000 + i), FileName: stem + ".xml",
				Transmitted: xml(refs[2*k]), FiscalYear: year, State: "INVOICE_STATE_DELIVERED",
				Receipts:        []*invoicev1.Receipt{{Type: "RC", FileName: stem + "_RC_001.xml", Content: xml(refs[2*k+1])}},
				Bodies:          []*invoicev1.SettledBody{{DocumentType: "TD01", Number: fmt.Sprint(i), IssueDate: "2026-10-05"}},
				SellerVatNumber: "IT01234567897", SellerName: "Alfa " + tenant, BuyerVatNumber: "DE123456789", BuyerName: fmt.Sprintf("Cliente %d", i%97),
			}
			if err := h.probe.Bus.Emit(bus.WithCorrelation(ctx, ev.GetInvoice()), tx, ev); err != nil {
				return err
			}
		}
		return nil
	})
}

// forgetHeard lets go of what the house heard, so that its own memory is not taken for the service's.
func (h *house) forgetHeard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.taken, h.heard, h.preserved, h.sealed = nil, nil, nil, nil
	if h.spans != nil {
		h.spans.Reset()
	}
}

// counter asks the database for numbers, over one connection.
func (h *house) counter(t testing.TB) func(query string, args ...any) int {
	admin := pgtest.Admin(t, h.DB("conservation"))
	return func(query string, args ...any) (n int) {
		require.NoError(t, admin.QueryRow(context.Background(), query, args...).Scan(&n))
		return n
	}
}

func heapNow() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Test57_Crowd takes a crowd of units of many tenants in: a million of a thousand with CERALACCA_SOAK_UNITS=1000000, which wants an hour
// and 30 GB of disk; twenty thousand otherwise. Nothing is lost, every tenant's numbers in the log have no gap, memory stays what
// it was after the first tenth, and rates are told and not judged: the machine may be busy.
func Test57_Crowd(t *testing.T) {
	units := soakUnits(t, 20_000)
	tenants := min(1000, max(10, units/20))
	const together = 20
	h, _ := openLogged(t)
	count := h.counter(t)
	began, sent, early := time.Now(), 0, uint64(0)
	for tenth := 1; tenth <= 10; tenth++ {
		start, from := time.Now(), sent
		var senders errgroup.Group
		senders.SetLimit(8) // so that the service waits for nobody who hands over
		for ; sent < units*tenth/10; sent += together {
			first := sent
			senders.Go(func() error {
				return h.settleSome(context.Background(), fmt.Sprintf("t%04d", first/together%tenants), first, together)
			})
		}
		require.NoError(t, senders.Wait())
		require.Eventually(t, func() bool { return count(`SELECT count(*) FROM unit`) >= sent }, 20*time.Minute, 100*time.Millisecond)
		require.Eventually(t, func() bool { return count(`SELECT count(*) FROM log_leaf`) >= sent }, 20*time.Minute, 100*time.Millisecond)
		h.forgetHeard()
		heap := heapNow()
		if tenth == 2 {
			early = heap
		}
		t.Logf("%d units: %.0f units/s since the last line, heap %d MiB", sent, float64(sent-from)/time.Since(start).Seconds(), heap>>20)
		if tenth > 2 {
			require.Less(t, heap, early+early/2+(32<<20), "memory is flat")
		}
	}
	t.Logf("%d units of %d tenants in %s", sent, tenants, time.Since(began).Round(time.Second))
	require.Equal(t, sent, count(`SELECT count(*) FROM unit WHERE state = 'TAKEN_IN_CHARGE'`))
	require.Zero(t, count(`SELECT count(*) FROM parked_event`))
	require.Zero(t, count(`SELECT count(*) FROM (SELECT tenant_id FROM log_leaf GROUP BY tenant_id HAVING max(sequence) <> count(*)) gaps`))
	for n := range 3 {
		tenant := fmt.Sprintf("t%04d", n)
		p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/" + tenant, FiscalYear: year})
		require.NoError(t, err)
		start := time.Now()
		require.Eventually(t, func() bool {
			p, err = h.client.GetPackage(context.Background(), &conservationv1.GetPackageRequest{Name: p.GetName()})
			require.NoError(t, err)
			return p.GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED
		}, 10*time.Minute, 50*time.Millisecond)
		t.Logf("%d units sealed in %s", p.GetUnitCount(), time.Since(start).Round(time.Millisecond))
		require.Len(t, searchOf(t, h, tenant), count(`SELECT count(*) FROM unit WHERE tenant_id = $1`, tenant), "the search finds each of them")
	}
}

// Test52_Large hands a large archive over, broken off in the middle of each file, and takes it in elsewhere: a hundred thousand units with
// CERALACCA_SOAK_UNITS=100000, five thousand otherwise.
func Test52_Large(t *testing.T) {
	units := soakUnits(t, 5_000)
	h, _ := openLogged(t)
	ctx := context.Background()
	for sent := 0; sent < units; sent += 100 {
		h.settleOf(t, "acme", sent, min(100, units-sent))
	}
	count := h.counter(t)
	waiting := func() int { return count(`SELECT count(*) FROM unit WHERE state = 'TAKEN_IN_CHARGE'`) }
	require.Eventually(t, func() bool { return waiting() == units }, 20*time.Minute, 100*time.Millisecond)
	for waiting() > 0 {
		p := h.closePackage(t)
		require.Eventually(t, func() bool {
			return h.pack(t, p.GetName()).GetState() == conservationv1.PackageState_PACKAGE_STATE_SEALED
		}, 20*time.Minute, 100*time.Millisecond)
	}
	tenant := auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}}
	api := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(tenant)))
	start := time.Now()
	e, err := api.CreateExport(ctx, &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		e, err = api.GetExport(ctx, &conservationv1.GetExportRequest{Name: e.GetName()})
		require.NoError(t, err)
		require.NotEqual(t, conservationv1.ExportState_EXPORT_STATE_FAILED, e.GetState(), e.GetLastError())
		return e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY
	}, 20*time.Minute, 100*time.Millisecond)
	require.EqualValues(t, units, e.GetUnitCount())
	t.Logf("%d units in %d packages put together in %s", units, e.GetPackageCount(), time.Since(start).Round(time.Second))
	other := conservationv1.NewDepositServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "beta", Scopes: []string{"archive.read", "archive.write"}})))
	packages, files := 0, 0
	for token := ""; ; {
		page, err := api.ListExportFiles(ctx, &conservationv1.ListExportFilesRequest{Name: e.GetName(), PageSize: 100, PageToken: token})
		require.NoError(t, err)
		for _, f := range page.GetFiles() {
			files++
			whole := fetch(t, api, e.GetName(), f.GetPath(), 0, f.GetSize()/2)
			whole = whole[:min(int64(len(whole)), f.GetSize()/2)]
			whole = append(whole, fetch(t, api, e.GetName(), f.GetPath(), int64(len(whole)), f.GetSize())...)
			sum := sha256.Sum256(whole)
			require.Equal(t, f.GetSha256(), sum[:], f.GetPath())
			if strings.HasPrefix(f.GetPath(), "data/packages/") {
				packages++
				head := packageHead(fmt.Sprintf("da-acme-%d", packages), whole)
				head.Parent = "tenants/beta"
				d := hand(t, other, head, whole)
				require.Equal(t, accepted, d.GetState(), d.GetProblems())
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	require.EqualValues(t, e.GetFileCount(), files)
	require.EqualValues(t, e.GetPackageCount(), packages)
	want := searchOf(t, h, "acme")
	require.Len(t, want, units)
	require.Equal(t, want, searchOf(t, h, "beta"), "found by the same searches")
}
