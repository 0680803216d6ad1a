package conservation

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

// TestStampAuthorities: an authority that is down, late, or gives what does not hold is passed over, and the second stamps. Where both do so
// nothing is sealed, which is told once when it lasts, and the package goes on by itself.
func TestStampAuthorities(t *testing.T) {
	t.Parallel()
	for _, f := range []tsa.Fault{
		{Mode: tsa.FaultDown}, {Mode: tsa.FaultWrongNonce}, {Mode: tsa.FaultWrongDigest}, {Mode: tsa.FaultWrongTime}, {Mode: tsa.FaultRejection}, {Mode: tsa.FaultGarbage},
		{Mode: tsa.FaultSlow, Delay: 30 * time.Second},
	} {
		t.Run(string(f.Mode), func(t *testing.T) {
			t.Parallel()
			h := openWith(t, true, "  stamp_alarm: 1s\n")
			for i := range h.tsa {
				require.NoError(t, h.tsa[i].SetFault(f))
			}
			stampedBySecond(t, h, h.tsa[1], func() { require.NoError(t, h.tsa[1].SetFault(tsa.Fault{})) })
		})
	}
	t.Run("expired", func(t *testing.T) {
		t.Parallel()
		h := openWith(t, true, "  stamp_alarm: 1s\n")
		var past atomic.Bool
		old, err := ca.New(ca.Options{Now: func() time.Time {
			if past.Load() {
				return time.Now().AddDate(-20, 0, 0)
			}
			return time.Now()
		}})
		require.NoError(t, err)
		for i := range h.tsa {
			h.service.stamps[i].client.Roots.AddCert(old.Certificate())
		}
		past.Store(true)
		expired, err := tsa.New(tsa.Options{CA: old, Name: "SANDBOX TSA EXPIRED"})
		require.NoError(t, err)
		good := h.tsa[1]
		h.mu.Lock()
		h.tsa = [2]*tsa.Server{expired, expired}
		h.mu.Unlock()
		stampedBySecond(t, h, good, func() { h.mu.Lock(); defer h.mu.Unlock(); h.tsa[1] = good })
		require.GreaterOrEqual(t, expired.Granted(), 4, "it was asked, and its certificate had ended")
	})
	t.Run("told when it lasts", func(t *testing.T) { // by default a day, and nobody is told of a minute
		t.Parallel()
		h, ctx := open(t, false), context.Background()
		require.Equal(t, 24*time.Hour, h.service.cfg.StampAlarm)
		s := *h.service
		clock := time.Now().Truncate(time.Second)
		s.now = func() time.Time { return clock }
		o, away := &outages{s: &s}, fault.Unavailable("TSA_UNAVAILABLE", "away")
		for _, step := range []struct {
			after            time.Duration
			stopped, resumed int
		}{{0, 0, 0}, {23 * time.Hour, 0, 0}, {time.Hour, 1, 0}, {time.Hour, 1, 0}} {
			clock = clock.Add(step.after)
			require.ErrorIs(t, o.stamped(ctx, away), away)
			h.await(t, "told", func() bool { stopped, resumed := h.told(); return stopped == step.stopped && resumed == step.resumed })
			require.Len(t, h.storageState(t).GetSigningOutages(), 1)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		clock = clock.Add(time.Hour)
		require.NoError(t, o.stamped(ctx, nil))
		h.await(t, "told", func() bool { _, resumed := h.told(); return resumed == 1 })
		require.ErrorIs(t, o.stamped(gone, away), away)
		require.Empty(t, h.storageState(t).GetSigningOutages(), "who went away says nothing of authorities")
		for range 3 { // short ones are told neither way
			require.Error(t, o.stamped(ctx, away))
			clock = clock.Add(time.Hour)
			require.NoError(t, o.stamped(ctx, nil))
		}
		time.Sleep(300 * time.Millisecond)
		stopped, resumed := h.told()
		require.Equal(t, []int{1, 1}, []int{stopped, resumed})
	})
}

// stampedBySecond has a package wait for authorities that are both of no use, and mends the second.
func stampedBySecond(t *testing.T, h *house, second *tsa.Server, mend func()) {
	t.Helper()
	h.intake(t, 1)
	p := h.closePackage(t)
	h.await(t, "says why", func() bool { return strings.Contains(h.pack(t, p.GetName()).GetLastError(), "TSA_UNAVAILABLE") })
	h.await(t, "told", func() bool { stopped, _ := h.told(); return stopped == 1 })
	h.mu.Lock()
	require.Equal(t, "TSA_UNAVAILABLE", h.unsigned[0].GetCode())
	require.NotEmpty(t, h.unsigned[0].GetReason())
	h.mu.Unlock()
	left := h.pack(t, p.GetName())
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SIGNED, left.GetState())
	require.Empty(t, left.GetTimeStamp().GetSha256(), "nothing was stamped")
	require.Equal(t, "TSA_UNAVAILABLE", h.storageState(t).GetSigningOutages()[0].GetCode())
	_, preserved, sealed := h.counts()
	require.Equal(t, []int{0, 0}, []int{preserved, sealed})
	mend()
	token, err := tsp.ParseToken(h.judge(t, h.awaitSealed(t, p.GetName()))[stampFile])
	require.NoError(t, err)
	by, err := h.service.stampChain(token)
	require.NoError(t, err)
	require.True(t, by[0].Equal(second.Certificate()), "the second authority stamped")
	h.await(t, "told that it goes on", func() bool { _, resumed := h.told(); return resumed == 1 })
	stopped, _ := h.told()
	require.Equal(t, 1, stopped, "once")
	require.Empty(t, h.storageState(t).GetSigningOutages())
}

func TestPackageWaitsForStampAndCredential(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	require.NoError(t, h.tsa[0].SetFault(tsa.Fault{Mode: tsa.FaultDown}))
	require.NoError(t, h.tsa[1].SetFault(tsa.Fault{Mode: tsa.FaultUnavailable}))
	h.intake(t, 1)
	p := h.closePackage(t)
	h.await(t, "says that the credential is missing", func() bool {
		return strings.Contains(h.pack(t, p.GetName()).GetLastError(), "NO_ACTIVE_CREDENTIAL")
	})
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_INDEXED, h.pack(t, p.GetName()).GetState())
	client := conservationv1.NewConservationServiceClient(h.Tenant("conservation", "acme"))
	stream, err := client.DownloadPackageFile(context.Background(), &conservationv1.DownloadPackageFileRequest{Name: p.GetName(), File: archiveFile})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, "FILE_NOT_READY", fault.Of(err).Code)
	h.certify(t)
	h.await(t, "says that the authorities do not answer", func() bool {
		return strings.Contains(h.pack(t, p.GetName()).GetLastError(), "TSA_UNAVAILABLE")
	})
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SIGNED, h.pack(t, p.GetName()).GetState())
	require.NoError(t, h.tsa[1].SetFault(tsa.Fault{}))
	h.judge(t, h.awaitSealed(t, p.GetName()))
	require.Zero(t, h.parked(t, "TSA_UNAVAILABLE"))
}
