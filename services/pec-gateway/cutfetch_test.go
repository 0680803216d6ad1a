package pecgateway_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/devenv/dovecot"
)

// TestB4CutInALargeMessage: Dovecot's connection is cut twice in the middle of 25 MB. What came whole before it is kept and not asked for
// again, that message alone is, nothing of it is kept by half, and no goroutine of the gateway is left over. It runs by itself, since
// goroutines of gateways beside it would be counted.
func TestB4CutInALargeMessage(t *testing.T) {
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	var mu sync.Mutex
	var asked []string
	w.when(func(line string, _ net.Conn) bool {
		if m := regexp.MustCompile(`UID FETCH (\S+) \(UID RFC822`).FindStringSubmatch(line); m != nil {
			mu.Lock()
			asked = append(asked, m[1])
			mu.Unlock()
		}
		return false
	})
	box := h.keep(recipient, through(w))
	h.eventually("the first reading is over", func() bool { return h.box(box).GetSync().GetDone() })
	h.lookedAgain(box)
	before := goroutines()

	require.NoError(t, h.pauseReading(box))
	h.eventually("nobody reads it", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.open) == 0 })
	large := plain("grande") + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\n", 400_000)
	for _, text := range []string{plain("uno"), plain("due"), large, plain("quattro"), plain("cinque")} {
		h.deliver(recipient, text)
	}
	var said, cuts atomic.Int64
	w.alter(func(b []byte) []byte {
		if said.Add(int64(len(b))) > 12<<20 && cuts.Load() < 2 {
			said.Store(0)
			cuts.Add(1)
			w.cut()
		}
		return b
	})
	_, err := h.api.ResumeMailbox(t.Context(), &pecv1.ResumeMailboxRequest{Name: box.GetName()})
	require.NoError(t, err)
	h.kept(box)
	require.EqualValues(t, 2, cuts.Load())
	require.Len(t, h.list(box), 5)
	mu.Lock()
	require.Equal(t, []string{"1:5", "3", "3", "4", "5"}, asked)
	mu.Unlock()
	files := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(h.opts.Dir, "blobs", "tenants"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	}))
	require.Equal(t, 5, files, "the bytes of five messages and of no half of one")
	h.lookedAgain(box)
	h.eventually("as many goroutines as before", func() bool { return len(goroutines()) <= len(before) })
	w.alter(nil)
	h.invariants(box)

	require.NoError(t, h.pauseReading(box))
	h.Stop()
	h.eventually("no goroutine of the gateway is left", func() bool { return len(goroutines()) == 0 })
}

// goroutines are the stacks of what the gateway does just now, whoever began it.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var out []string
	for _, stack := range strings.Split(string(buf), "\n\n") {
		if strings.Contains(stack, "ceralacca.dev/services/pec-gateway") && !strings.Contains(stack, "_test.") {
			out = append(out, stack)
		}
	}
	return out
}

// TestB4NoAfterSome: the server gives some of the messages that it is asked for and says NO at the end, as one does that cannot read a file.
// What it gave is kept, and what it did not give is asked for again.
func TestB4NoAfterSome(t *testing.T) {
	t.Parallel()
	h := openDovecot(t, "", dovecot.Options{})
	h.believe()
	h.account(recipient)
	w := h.wireTo(h.dovecot.IMAPS())
	for i := range 6 {
		h.deliver(recipient, plain(fmt.Sprintf("m%d", i)))
	}
	var refused atomic.Int64
	two, end := regexp.MustCompile(`(?s)\* 3 FETCH \(.*?\* 5 FETCH \(`), regexp.MustCompile(`(a\d+) OK (Fetch completed)`)
	var pieces []byte // of the answer, until it is whole
	w.alter(func(b []byte) []byte {
		if refused.Load() > 0 || pieces == nil && !bytes.Contains(b, []byte("* 1 FETCH (UID 1 RFC822.SIZE")) {
			return b
		}
		pieces = append(pieces, b...)
		if !end.Match(pieces) {
			return nil
		}
		b, pieces = pieces, nil
		if two.Match(b) {
			refused.Add(1)
			b = end.ReplaceAll(two.ReplaceAll(b, []byte("* 5 FETCH (")), []byte("$1 NO [SERVERBUG] one of them cannot be read"))
		}
		return b
	})
	box := h.keep(recipient, through(w))
	h.kept(box)
	require.EqualValues(t, 1, refused.Load(), "nothing was tried")
	require.Len(t, h.list(box), 6)
	require.Empty(t, h.went(box))
	require.Equal(t, 1, w.connections(), "one visit: two were asked for once more, each alone")
	require.Empty(t, heard[*pecv1.MailboxDegraded](h))
	h.invariants(box)
}
