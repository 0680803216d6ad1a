//go:build soak

package conservation

import (
	"context"
	"crypto/md5" //nolint:gosec // compares two states of rows
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/run/runtest"
)

// peak samples the memory of the process until it is told to stop, and gives the most that was in use.
func peak(stop <-chan struct{}) *atomic.Uint64 {
	most := &atomic.Uint64{}
	go func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return most
}

// TestRestoreOfMany drills a tenant, makes its search again and restores it, with as many units as CERALACCA_SOAK_UNITS says, twenty thousand otherwise, in rounds of
// five seconds: all rows and the primary replica are lost, and come again as they were. Memory does not grow with the units: what
// is in it is one object, of which the largest is a package. Times are told and not judged.
func TestRestoreOfMany(t *testing.T) {
	units := soakUnits(t, 20_000)
	const tenant, together, bound = "t0000", 100, 96 << 20
	h := openWith(t, true, "  checks: {restore_drill: 0s}\n  max_units: 10000\n", func(o *runtest.Options) { o.SpanProcessors = nil }) // which keeps all spans
	count := h.counter(t)
	ctx, began := context.Background(), time.Now()
	take := func(upTo int) {
		for sent := count(`SELECT count(*) FROM unit`); sent < upTo; sent += together {
			h.settleOf(t, tenant, sent, min(together, upTo-sent))
			if sent%2000 == 0 {
				require.Eventually(t, func() bool { return count(`SELECT count(*) FROM unit`) >= sent }, 20*time.Minute, 50*time.Millisecond)
				h.forgetHeard()
			}
		}
		require.Eventually(t, func() bool { return count(`SELECT count(*) FROM unit`) == upTo }, 20*time.Minute, 100*time.Millisecond)
	}
	take(units * 9 / 10)
	_, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/" + tenant, FiscalYear: year})
	require.NoError(t, err)
	for count(`SELECT count(*) FROM unit WHERE state = 'TAKEN_IN_CHARGE'`) > 0 {
		_, err = h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/" + tenant, FiscalYear: year})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return count(`SELECT count(*) FROM package WHERE state <> 'SEALED'`) == 0 }, 20*time.Minute, 100*time.Millisecond)
	take(units) // a tenth waits for its package
	h.forgetHeard()
	state := func() string {
		sum := md5.New() //nolint:gosec // compares two states of rows
		for _, line := range append(h.state(t), h.entries(t)...) {
			fmt.Fprintln(sum, line)
		}
		return fmt.Sprintf("%x", sum.Sum(nil))
	}
	before := state()
	t.Logf("%d units in %d objects and %d packages: made in %s", units, count(`SELECT count(*) FROM archive_object WHERE kind = 'intake'`),
		count(`SELECT count(*) FROM package`), time.Since(began).Round(time.Second))

	measured := func(what string, start func() error) {
		defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is in use is looked at, and not what waits to be collected
		base, stop, began := heapNow(), make(chan struct{}), time.Now()
		most := peak(stop)
		require.NoError(t, start())
		require.Eventually(t, func() bool {
			return count(`SELECT count(*) FROM archive_report WHERE state = 'RUNNING'`) == 0 && count(`SELECT count(*) FROM archive_cursor`) == 0
		}, 9*time.Hour, 100*time.Millisecond)
		close(stop)
		t.Logf("%s: %s, heap %d MiB before and %d MiB at most", what, time.Since(began).Round(time.Millisecond), base>>20, most.Load()>>20)
		require.Less(t, most.Load(), base+bound)
	}
	check := func(what string, kind conservationv1.CheckKind) {
		measured(what, func() error {
			_, err := conservationv1.NewCheckServiceClient(h.Operator("conservation")).RunCheck(ctx, &conservationv1.RunCheckRequest{Kind: kind, Tenant: "tenants/" + tenant})
			return err
		})
		name := strings.TrimPrefix(kind.String(), "CHECK_KIND_")
		require.Zero(t, count(`SELECT count(*) FROM archive_report WHERE kind = $1 AND state <> 'GOOD'`, name))
		t.Logf("%s: %d rounds", what, count(`SELECT count(*) FROM archive_report WHERE kind = $1`, name))
	}
	h.service.round = 5 * time.Second
	check("drill", drillKind)
	h.wipe(t, "search_entry", "search_word", "search_party")
	measured("search", func() error {
		_, err := conservationv1.NewExhibitionServiceClient(h.Operator("conservation")).RebuildSearch(ctx, &conservationv1.RebuildSearchRequest{Parent: "tenants/" + tenant})
		return err
	})
	require.Equal(t, before, state())
	h.wipe(t, "search_entry", "search_word", "search_party", "log_pending", "package_term", "unit_file", "unit", "package", "package_line",
		"archive_copy WHERE tenant_id = '"+tenant+"'", "archive_object WHERE tenant_id = '"+tenant+"'")
	require.NoError(t, os.RemoveAll(filepath.Join(h.disks[0], "objects", "tenants", tenant)))
	check("restore", restoreKind)
	require.Equal(t, before, state())
}
