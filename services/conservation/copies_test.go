package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/run"
)

// holding is what another service has: for each document (a subject) the bytes in the platform's store that are it or carry it.
type holding struct {
	of     map[string][]string // subject: URIs
	gone   map[string]bool     // subjects that were destroyed
	silent bool                // it does not answer
}

// holdCopies has the probe answer as a service does.
func (h *house) holdCopies(host *run.Host) {
	bus.On(host.Bus, "copies", func(ctx context.Context, tx pgx.Tx, ev *conservationv1.UnitsDestroyed) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.held.silent || ev.GetPart() == 0 {
			return nil
		}
		answer := &conservationv1.CopiesFound{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Part: ev.GetPart(), Service: "probe"}
		for _, subject := range ev.GetSubjects() {
			if h.held.gone == nil {
				h.held.gone = map[string]bool{}
			}
			h.held.gone[subject] = true
			for _, uri := range h.held.of[subject] {
				answer.Copies = append(answer.Copies, &conservationv1.FoundCopy{Uri: uri, What: "copy"})
			}
		}
		return errors.Join(host.Bus.Emit(ctx, tx, answer), host.Bus.Emit(ctx, tx, answer))
	})
	bus.On(host.Bus, "condemned", func(ctx context.Context, tx pgx.Tx, ev *conservationv1.CopiesCondemned) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.held.silent {
			return nil
		}
		answer := &conservationv1.CopiesNeeded{Disposal: ev.GetDisposal(), Package: ev.GetPackage(), Round: ev.GetRound(), Part: ev.GetPart(), Service: "probe"}
		for _, uri := range ev.GetUris() {
			others := int64(0)
			for subject, uris := range h.held.of {
				if !h.held.gone[subject] && slices.Contains(uris, uri) {
					others++
				}
			}
			if others > 0 {
				answer.Copies = append(answer.Copies, &conservationv1.NeededCopy{Uri: uri, Others: others})
			}
		}
		return errors.Join(host.Bus.Emit(ctx, tx, answer), host.Bus.Emit(ctx, tx, answer))
	})
}

// release takes one package through the list, the authorisation and two persons.
func (h *house) release(t testing.TB, pkg string) string {
	t.Helper()
	ctx, tenant := context.Background(), h.retainer()
	d, err := tenant.ProposeDisposal(ctx, &conservationv1.ProposeDisposalRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	_, err = tenant.AuthorizeDisposal(ctx, &conservationv1.AuthorizeDisposalRequest{Name: d.GetName(), Producer: authorised(), Packages: []string{pkg}})
	require.NoError(t, err)
	for _, person := range []string{"Uno Alfa", "Due Beta"} {
		_, err = h.operator().ApproveDisposal(ctx, &conservationv1.ApproveDisposalRequest{Name: d.GetName(), Person: person})
		require.NoError(t, err)
	}
	return d.GetName()
}

// TestCopiesEverywhere: documents with bytes of their own and bytes that they share (uploads, archives of many, supports), in
// packages that are destroyed in a random order by an eraser that is killed wherever it may be, while bytes are stored again: after
// each disposal the bytes of documents that stand are there, those of nobody are not, and the signed report says which is which.
func TestCopiesEverywhere(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	ctx, r := context.Background(), rand.New(rand.NewPCG(20261122, 7)) //nolint:gosec // a lot, not a secret
	const years, each = 4, 2
	var pool []blob.Ref
	for n := range 10 {
		ref, err := h.probe.Blobs.Put(ctx, "acme", fmt.Appendf(nil, "bytes %d that several documents share", n))
		require.NoError(t, err)
		pool = append(pool, ref)
	}
	pool = append(pool, blob.Of("acme", []byte("bytes that were never stored")), blob.Of("SDIFTP", []byte("nor these")))
	h.held.of = map[string][]string{}
	var events []*invoicev1.InvoiceSettled
	for n := range years * each {
		ev := h.old(t, n+1, int32(2008+n/each))
		if n%3 == 2 { // the same file twice, in different packages
			ev.Transmitted = events[n-1].GetTransmitted()
		}
		uris := []string{ev.GetTransmitted().GetUri(), ev.GetReceipts()[0].GetContent().GetUri()}
		for range r.IntN(5) {
			uris = append(uris, pool[r.IntN(len(pool))].URI())
		}
		h.held.of[ev.GetInvoice()] = uris
		events = append(events, ev)
	}
	h.settleAll(t, events)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= len(events) })
	packages := make([]string, years)
	for i := range packages {
		p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: int32(2008 + i), Class: "FISC"})
		require.NoError(t, err)
		packages[i] = h.awaitSealed(t, p.GetName()).GetName()
	}
	standing := func(uri string) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for subject, uris := range h.held.of {
			if !h.held.gone[subject] && slices.Contains(uris, uri) {
				return true
			}
		}
		return false
	}
	last := map[string]bool{}
	for _, i := range r.Perm(years) {
		name := h.release(t, packages[i])
		h.eraseAtRandom(t, r, pool, name)
		report, err := h.retainer().GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: name})
		require.NoError(t, err)
		var said disposalReport
		require.NoError(t, json.Unmarshal(report.GetContent(), &said))
		destroyed, held := map[string]bool{}, map[string]string{}
		for _, p := range said.Packages {
			for _, b := range p.Destroyed {
				destroyed[b.SHA256] = true
			}
			for _, b := range p.Held {
				held[b.SHA256] = b.Reason
			}
		}
		for _, uris := range h.held.of {
			for _, uri := range uris {
				ref, err := blob.ParseURI(uri)
				require.NoError(t, err)
				_, err = h.probe.Blobs.Get(ctx, ref)
				if !standing(uri) {
					require.Equal(t, "BLOB_NOT_FOUND", code(err), "bytes of destroyed documents: %s", uri)
					require.Empty(t, held[ref.Hex()])
					continue
				}
				require.False(t, destroyed[ref.Hex()])
				if err != nil {
					require.Contains(t, pool[len(pool)-2:], ref, "bytes of documents that stand: %s: %v", uri, err)
				} else if held[ref.Hex()] != "" {
					require.Regexp(t, `^needed by \d+ others that stand, in .*probe.*: erased when the last of them is destroyed$`, held[ref.Hex()])
					last[ref.Hex()] = true
				}
			}
		}
	}
	require.NotEmpty(t, last, "some bytes were held until the last of their documents went")
	for i, ref := range pool {
		used := false
		for _, uris := range h.held.of {
			used = used || slices.Contains(uris, ref.URI())
		}
		_, err := h.probe.Blobs.Get(ctx, ref)
		require.Equal(t, used || i >= len(pool)-2, err != nil, "what no document had is as it was: %d", i)
	}
}

// eraseAtRandom runs the eraser until a disposal is over, ending it at random places; some bytes are stored once more meanwhile, and
// every answer comes twice.
func (h *house) eraseAtRandom(t testing.TB, r *rand.Rand, pool []blob.Ref, name string) {
	t.Helper()
	crash := errors.New("kill -9")
	restored := 0
	h.await(t, "disposed of", func() bool {
		d, err := h.retainer().GetDisposal(context.Background(), &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		if d.GetState() == conservationv1.DisposalState_DISPOSAL_STATE_PARTIAL {
			return true
		}
		if n := r.IntN(len(pool) - 2); restored < 3 {
			restored++
			raw, err := h.probe.Blobs.Get(context.Background(), pool[n])
			if err == nil {
				_, err = h.probe.Blobs.Put(context.Background(), "acme", raw)
				require.NoError(t, err)
			}
		}
		e, n, at := h.eraser(t), 0, r.IntN(12)
		e.Step = func(string) error {
			n++
			if n == at {
				return crash
			}
			return nil
		}
		_, err = e.Run(context.Background())
		if !errors.Is(err, crash) {
			require.NoError(t, err)
		}
		return false
	})
}

// TestSilentHolder: nothing of the platform's store goes before every service has answered, and the disposal says whose answer it
// waits for.
func TestSilentHolder(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  disposal: {holders: [probe, sdi-gateway], quiet: 0s}\n")
	ctx := context.Background()
	ev := h.old(t, 1, 2009)
	h.settleAll(t, []*invoicev1.InvoiceSettled{ev})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: 2009, Class: "FISC"})
	require.NoError(t, err)
	name := h.release(t, h.awaitSealed(t, p.GetName()).GetName())
	h.await(t, "it waits", func() bool {
		_, err := h.eraser(t).Run(ctx)
		require.NoError(t, err)
		d, err := h.retainer().GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		require.Equal(t, conservationv1.DisposalState_DISPOSAL_STATE_RELEASED, d.GetState())
		return strings.HasSuffix(d.GetLastError(), "wait for the answer of sdi-gateway")
	})
	_, err = h.probe.Blobs.Get(ctx, blob.Of("acme", []byte("<FatturaElettronica n='1'/>")))
	require.NoError(t, err)
	_, err = h.retainer().GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: name})
	require.Equal(t, "DISPOSAL_NOT_DONE", code(err))
}

// TestWhatWasMadeOfDestroyed: exports, of what was sealed and of what waited, packages for whoever asked and reports on documents go
// with the first document in them, with all that was signed for them; nothing of the store tells of it, and what stands is handed
// over again.
func TestWhatWasMadeOfDestroyed(t *testing.T) {
	t.Parallel()
	// Each package has its own answer of the issuers: one that is reused stays with the package that stands.
	h, _ := openLoggedWith(t, "  disposal: {holders: [probe, signer], quiet: 0s}\n"+askedEachTime)
	ctx := context.Background()
	events := []*invoicev1.InvoiceSettled{h.old(t, 1, 2010), h.old(t, 2, 2011)}
	h.settleAll(t, events)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == len(events) })
	api := conservationv1.NewTransferServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	waited := h.exported(t, api)
	packages := map[int32]string{}
	for _, year := range []int32{2010, 2011} {
		p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: "FISC"})
		require.NoError(t, err)
		packages[year] = h.awaitSealed(t, p.GetName()).GetName()
	}
	sealed := h.exported(t, api)
	var units []string
	for _, ev := range events {
		unit := h.units(t, ev.GetInvoice())[0].GetName()
		units = append(units, unit)
		_, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: unit})
		require.NoError(t, err)
	}
	shown, err := h.reader().CreateDistribution(ctx, &conservationv1.CreateDistributionRequest{Parent: "tenants/acme", Units: units})
	require.NoError(t, err)
	h.await(t, "shown", func() bool {
		shown, err = h.reader().GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: shown.GetName()})
		require.NoError(t, err)
		return shown.GetState() == conservationv1.DistributionState_DISTRIBUTION_STATE_READY
	})
	gone, stands := []string{"Zappaterra 2010", "Sesto2010", "2010ZAPPA"}, []string{"Zappaterra 2011", "Sesto2011", "2011ZAPPA"}
	require.NotEmpty(t, h.storedAbout(t, gone))

	name := h.release(t, packages[2010])
	h.await(t, "disposed of", func() bool {
		_, err := h.eraser(t).Run(ctx)
		require.NoError(t, err)
		d, err := h.retainer().GetDisposal(ctx, &conservationv1.GetDisposalRequest{Name: name})
		require.NoError(t, err)
		return d.GetState() == conservationv1.DisposalState_DISPOSAL_STATE_PARTIAL
	})
	require.Empty(t, h.storedAbout(t, gone))
	report, err := h.retainer().GetDisposalReport(ctx, &conservationv1.GetDisposalReportRequest{Name: name})
	require.NoError(t, err)
	var said disposalReport
	require.NoError(t, json.Unmarshal(report.GetContent(), &said))
	for _, p := range said.Packages {
		require.Empty(t, p.Held)
	}
	for _, e := range []string{waited, sealed} {
		x, err := api.GetExport(ctx, &conservationv1.GetExportRequest{Name: e})
		require.NoError(t, err)
		require.Equal(t, conservationv1.ExportState_EXPORT_STATE_FAILED, x.GetState())
		require.Contains(t, x.GetLastError(), name)
		files, err := api.ListExportFiles(ctx, &conservationv1.ListExportFilesRequest{Name: e})
		require.True(t, err != nil || len(files.GetFiles()) == 0)
	}
	shown, err = h.reader().GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: shown.GetName()})
	require.NoError(t, err)
	require.Equal(t, conservationv1.DistributionState_DISTRIBUTION_STATE_FAILED, shown.GetState())

	// What stands is handed over anew, and shown.
	again := h.exported(t, api)
	require.NotEmpty(t, h.storedAbout(t, stands))
	x, err := api.GetExport(ctx, &conservationv1.GetExportRequest{Name: again})
	require.NoError(t, err)
	require.EqualValues(t, 1, x.GetUnitCount())
	whole, err := h.reader().GetIntegrityReport(ctx, &conservationv1.GetIntegrityReportRequest{Name: units[1]})
	require.NoError(t, err)
	require.True(t, whole.GetIntact(), "%s", whole.GetContent())
}

// exported puts everything of a tenant together.
func (h *house) exported(t testing.TB, api conservationv1.TransferServiceClient) string {
	t.Helper()
	e, err := api.CreateExport(context.Background(), &conservationv1.CreateExportRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	h.await(t, "put together", func() bool {
		e, err = api.GetExport(context.Background(), &conservationv1.GetExportRequest{Name: e.GetName()})
		require.NoError(t, err)
		return e.GetState() == conservationv1.ExportState_EXPORT_STATE_READY
	})
	return e.GetName()
}

// storedAbout are the files of the platform's store that have one of the words, also in a ZIP.
func (h *house) storedAbout(t testing.TB, words []string) (found []string) {
	t.Helper()
	var says func(raw []byte) bool
	says = func(raw []byte) bool {
		for _, word := range words {
			if bytes.Contains(raw, []byte(word)) {
				return true
			}
		}
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return false
		}
		for _, f := range z.File {
			content, err := readEntry(f, 1<<20)
			require.NoError(t, err)
			if says(content) {
				return true
			}
		}
		return false
	}
	require.NoError(t, filepath.WalkDir(filepath.Join(h.dir, "process", "blobs"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if says(raw) {
			found = append(found, path)
		}
		return err
	}))
	return found
}

// TestQuietOverABucket: a bucket does not show at once that bytes were stored again, so nothing is asked for sooner.
func TestQuietOverABucket(t *testing.T) {
	t.Parallel()
	bucket, err := blob.OpenS3(blob.S3Config{Endpoint: "127.0.0.1:1", Bucket: "documents"})
	require.NoError(t, err)
	folder, err := blob.OpenFS(t.TempDir())
	require.NoError(t, err)
	c := defaultDisposal()
	require.NoError(t, c.over(bucket))
	c.Quiet = 10 * time.Minute
	require.NoError(t, c.over(bucket))
	c.Quiet--
	require.ErrorContains(t, c.over(bucket), "disposal.quiet: 9m59.999999999s is too short: the platform's store is a bucket")
	require.NoError(t, c.over(folder))
}
