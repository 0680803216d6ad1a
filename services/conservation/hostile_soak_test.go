//go:build soak

package conservation

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
)

// Test11_TwoGigabyteLine streams one line of two gigabytes at the archive, under a head that admits to 100 MiB: the stream is ended when
// it says more than it promised, and the process never holds more than the file that was promised and what it takes to look at it.
func Test11_TwoGigabyteLine(t *testing.T) {
	h, _ := openLogged(t)
	api := h.producer()
	const promised, line = 100 << 20, 2 << 30
	var peak atomic.Uint64
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		for ctx.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak.Store(max(peak.Load(), m.HeapInuse))
			time.Sleep(20 * time.Millisecond)
		}
	}()
	head := headOf("riga", "a.xml", nil)
	head.Size = promised
	stream, err := api.CreateDeposit(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Head{Head: head}}))
	part, sent := bytes.Repeat([]byte("x"), 1<<20), int64(0)
	copy(part, "<a>")
	for sent < line && stream.Send(&conservationv1.CreateDepositRequest{Part: &conservationv1.CreateDepositRequest_Chunk{Chunk: &conservationv1.DepositChunk{Offset: sent, Data: part}}}) == nil {
		sent += int64(len(part))
		part[0], part[1], part[2] = 'x', 'x', 'x'
	}
	_, err = stream.CloseAndRecv()
	require.Error(t, err)
	t.Logf("ended after %d MiB with %s; heap %d MiB before, %d MiB at most", sent>>20, code(err), before.HeapInuse>>20, peak.Load()>>20)
	require.Less(t, sent, int64(promised+(64<<20)), "it is not read to its end")
	require.Less(t, peak.Load(), before.HeapInuse+4*promised)
	d, err := upload(t, api, headOf("dopo", "a.txt", []byte("dopo\n")), []byte("dopo\n"), 0, 5)
	require.NoError(t, err, "the service goes on")
	require.Equal(t, conservationv1.DepositState_DEPOSIT_STATE_ACCEPTED, d.GetState(), d.GetProblems())
}
