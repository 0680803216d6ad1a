package pecgateway_test

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

// peakOf has a message of so many bytes come into a mailbox at Dovecot and says by how many MB the heap of this
// process was above what lived in it before, at most: the gateway's share and what the broker and this test need
// meanwhile.
func peakOf(h *house, box *pecv1.Mailbox, size int) float64 {
	h.t.Helper()
	other := h.stranger(box.GetAddress())
	before := len(h.list(box))
	defer debug.SetGCPercent(debug.SetGCPercent(10)) // what is counted is in use, not what waits to be collected
	var m runtime.MemStats
	other.store("INBOX", "", messageOf(size)) // nothing of ours holds it from here on
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, most := m.HeapAlloc, uint64(0)
	deadline := time.Now().Add(5 * time.Minute)
	for len(h.list(box)) == before && time.Now().Before(deadline) {
		for range 20 {
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			time.Sleep(2 * time.Millisecond)
		}
	}
	require.Len(h.t, h.list(box), before+1)
	return float64(most-min(base, most)) / 1e6
}

// messageOf is ordinary mail of about so many bytes.
func messageOf(size int) []byte {
	raw := []byte(strings.ReplaceAll(plain("grande"), "\n", "\r\n"))
	return append(raw, bytes.Repeat([]byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n"), size/64)...)
}
