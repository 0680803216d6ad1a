package pades_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// check reads, verifies and tries to sign; whatever happens, it ends soon and with an answer.
func (k *desk) check(file []byte, lim pades.Limits) (verify, sign error) {
	r, err := pades.Verify(context.Background(), bytes.NewReader(file), int64(len(file)), pades.VerifyOptions{Limits: lim})
	if verify = err; err == nil {
		verify = r.Err()
	}
	_, sign = k.try(file, pades.Options{Limits: lim})
	return verify, sign
}

// A broken table is rebuilt in one pass, and the signature brings a whole one.
func TestRepair(t *testing.T) {
	k := newDesk(t)
	table, streamed := plain(rich).table(""), plain(rich).streamed()
	second := appendTo(table, objects{4: streamText("", "BT (later) Tj ET")}, "")
	calm := plain().table("")
	for label, file := range map[string][]byte{
		"no end":               table[:bytes.LastIndex(table, []byte("startxref"))],
		"no table":             table[:bytes.LastIndex(table, []byte("xref\n0"))],
		"table elsewhere":      bytes.Replace(table, []byte(fmt.Sprintf("startxref\n%d", lastStart(table))), []byte(fmt.Sprintf("startxref\n%d", lastStart(table)+9)), 1),
		"offsets moved":        append([]byte("%PDF-1.7 \n"), bytes.TrimPrefix(table, []byte("%PDF-1.7"))...),
		"trailer only":         append(table[:bytes.LastIndex(table, []byte("xref\n0"))], "trailer\n<</Root 1 0 R>>\n"...),
		"no stream":            streamed[:bytes.LastIndex(streamed, []byte("startxref"))],
		"stream damaged":       bytes.Replace(streamed, []byte("/W[1 3 2]"), []byte("/W[1 9 2]"), 1),
		"of two the last":      bytes.ReplaceAll(second, []byte("startxref"), []byte("startxxxx")),
		"circle of tables":     appendRow(calm, len(calm)),
		"table beyond the end": appendRow(calm, 1<<30),
	} {
		t.Run(label, func(t *testing.T) {
			k := *k
			k.t = t
			r := k.verify(file)
			require.Contains(t, r.Warnings[0], "was rebuilt")
			require.Zero(t, r.Revisions)
			out := k.sign(file, pades.Options{})
			r = k.verify(out)
			require.NoError(t, r.Err())
			require.Empty(t, r.Warnings, "the signed file needs no repair")
			require.Equal(t, 1, r.Revisions)
			pdfsig(t, out, 1)
		})
	}
	for label, file := range map[string][]byte{
		"header only": []byte("%PDF-1.7\n%%EOF\n"), "no catalog": objects{1: "<</Type/Page>>"}.table(""),
		"pages gone": objects{1: "<</Type/Catalog/Pages 2 0 R>>"}.table(""), "cut": plain().table("")[:60],
	} {
		t.Run(label, func(t *testing.T) {
			_, sign := k.check(file, pades.Limits{})
			var wrong *pades.SyntaxError
			require.ErrorAs(t, sign, &wrong)
		})
	}
}

// appendRow adds a section whose Prev is prev.
func appendRow(file []byte, prev int) []byte {
	start := len(file)
	return append(bytes.Clone(file), fmt.Sprintf("xref\n0 0\ntrailer\n<</Size 50/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n", prev, start)...)
}

// Bombs end in an error that names the limit, in little time and memory.
func TestBombs(t *testing.T) {
	k := newDesk(t)
	zeros := strings.Repeat("\x00", 4<<20)
	deep := strings.Repeat("[", 1<<20)
	many := strings.Repeat("0 ", 1<<20)
	self := plain(func(o objects) { o[2] = "<</Type/Pages/Kids[2 0 R 2 0 R]/Count 2>>" }).table("")
	for label, c := range map[string]struct {
		file []byte
		lim  pades.Limits
		want string
	}{
		"nesting":          {plain(func(o objects) { o[1] = deep }).table(""), pades.Limits{}, "nested deeper"},
		"values":           {plain(func(o objects) { o[1] = "[" + many + "]" }).table(""), pades.Limits{}, "too many values"},
		"long object":      {plain(func(o objects) { o[1] = "(" + strings.Repeat("a", 1<<20) + ")" }).table(""), pades.Limits{Object: 1 << 16}, "longer than 65536"},
		"pages in a ring":  {self, pades.Limits{}, "there is no page"},
		"references":       {plain(func(o objects) { o[1] = "2 0 R"; o[2] = "1 0 R" }).table(""), pades.Limits{}, "references point to references"},
		"object stream":    {bombStream(4 << 20), pades.Limits{Stream: 1 << 20}, "decodes to more than"},
		"sections":         {manySections(40), pades.Limits{Sections: 30}, "more than 30 cross-reference sections"},
		"entries":          {plain().table(""), pades.Limits{Objects: 5}, "more than 5 entries"},
		"entries in zeros": {xrefBomb(zeros), pades.Limits{}, "more than 1048576 entries"},
		"work":             {plain().table(""), pades.Limits{Work: 3000}, "more work than the limit"},
		"stream in itself": {selfStream(), pades.Limits{}, "object stream"},
	} {
		t.Run(label, func(t *testing.T) {
			start := time.Now()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := k.check(c.file, c.lim)
			runtime.ReadMemStats(&after)
			require.ErrorContains(t, err, c.want)
			require.Less(t, time.Since(start), 20*time.Second)
			require.Less(t, (after.TotalAlloc-before.TotalAlloc)>>20, uint64(300))
		})
	}
}

func bombStream(size int) []byte {
	o := plain()
	o[1] = "<</Type/Catalog/Pages 2 0 R" + strings.Repeat(" ", size) + ">>"
	return o.streamed()
}

func manySections(n int) []byte {
	file := plain().table("")
	for range n {
		file = appendTo(file, objects{80: "1"}, "")
	}
	return file
}

func xrefBomb(data string) []byte {
	b := bytes.NewBufferString("%PDF-1.7\n")
	start := b.Len()
	fmt.Fprintf(b, "9 0 obj\n%s\nendobj\nstartxref\n%d\n%%%%EOF\n",
		streamText("/Type/XRef/Size 4000000/W[1 0 0]/Root 1 0 R/Filter/FlateDecode", deflate([]byte(data))), start)
	return b.Bytes()
}

// selfStream says of every object that it is in the object stream that its length is in.
func selfStream() []byte {
	b := bytes.NewBufferString("%PDF-1.7\n")
	at := b.Len()
	b.WriteString("5 0 obj\n<</Type/ObjStm/N 1/First 4/Length 6 0 R>>\nstream\n6 0 4\nendstream\nendobj\n")
	start := b.Len()
	rows := string([]byte{2, 0, 5, 0, 1, 0, byte(at), 0, 2, 0, 5, 0})
	fmt.Fprintf(b, "9 0 obj\n%s\nendobj\nstartxref\n%d\n%%%%EOF\n",
		streamText("/Type/XRef/Size 10/W[1 2 1]/Index[1 1 5 2]/Root 1 0 R", rows), start)
	return b.Bytes()
}

// Cut anywhere, a file gives an error or a report, never a signature that holds.
func TestCutAnywhere(t *testing.T) {
	k := newDesk(t)
	for _, file := range [][]byte{plain().table(""), plain().streamed()} {
		out := k.sign(file, pades.Options{StampRoom: -1})
		for n := 0; n < len(out)-1; n += 7 {
			verify, _ := k.check(out[:n], pades.Limits{})
			require.Error(t, verify, "cut at %d", n)
		}
	}
}

// large is a PDF with one stream of a given size, made as it is read.
type large struct {
	head, tail []byte
	size       int64
	peak       *atomic.Uint64
}

func newLarge(n int64) *large {
	head := "%PDF-1.7\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 595 842]>>\nendobj\n" +
		"3 0 obj\n<</Type/Page/Parent 2 0 R/Contents 4 0 R>>\nendobj\n"
	at := len(head)
	head += fmt.Sprintf("4 0 obj\n<</Length %d>>\nstream\n", n)
	tail := "\nendstream\nendobj\n"
	start := int64(len(head)) + n + int64(len(tail))
	tail += "xref\n0 5\n0000000000 65535 f \n"
	for _, key := range []string{"1 0 obj", "2 0 obj", "3 0 obj"} {
		tail += fmt.Sprintf("%010d 00000 n \n", strings.Index(head, key))
	}
	tail += fmt.Sprintf("%010d 00000 n \ntrailer\n<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", at, start)
	return &large{head: []byte(head), tail: []byte(tail), size: int64(len(head)) + n + int64(len(tail)), peak: &atomic.Uint64{}}
}

func (l *large) ReadAt(p []byte, off int64) (int, error) {
	var m runtime.MemStats
	if off%(16<<20) < int64(len(p)) {
		runtime.ReadMemStats(&m)
		l.peak.Store(max(l.peak.Load(), m.HeapAlloc))
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		switch body := l.size - int64(len(l.tail)); {
		case at >= l.size:
			return n, io.EOF
		case at < int64(len(l.head)):
			n += copy(p[n:], l.head[at:])
		case at >= body:
			n += copy(p[n:], l.tail[at-body:])
		default:
			k := min(int64(len(p)-n), body-at)
			clear(p[n : n+int(k)])
			n += int(k)
		}
	}
	return n, nil
}

// joined reads a source with something after it.
type joined struct {
	*large
	after []byte
}

func (j joined) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < j.size {
		k := min(int64(len(p)), j.size-off)
		var err error
		if n, err = j.large.ReadAt(p[:k], off); err != nil {
			return n, err
		}
	}
	if n < len(p) {
		at := off + int64(n) - j.size
		if at >= int64(len(j.after)) {
			return n, io.EOF
		}
		n += copy(p[n:], j.after[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// tail keeps what is written after the first n bytes.
type tail struct {
	skip int64
	kept []byte
}

func (w *tail) Write(p []byte) (int, error) {
	n := len(p)
	k := min(int64(n), w.skip)
	w.skip -= k
	w.kept = append(w.kept, p[k:]...)
	return n, nil
}

// 200 MB are signed and verified in less than 32 MB of heap, twice over.
func TestMemoryIsFlat(t *testing.T) {
	const size, most = 200 << 20, 32 << 20
	k := newDesk(t)
	src := newLarge(size)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	w := &tail{skip: src.size}
	start := time.Now()
	require.NoError(t, pades.Sign(t.Context(), w, src, src.size, k.signer(), pades.Options{SigningTime: cmstest.Now, Timestamp: k.stamp}))
	t.Logf("signed %d MB in %s, heap at most %d kB", size>>20, time.Since(start).Round(time.Millisecond), src.peak.Load()>>10)
	signed := joined{src, w.kept}
	start = time.Now()
	r, err := pades.Verify(t.Context(), signed, src.size+int64(len(w.kept)), k.options())
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelBT, r.Signatures[0].Level)
	t.Logf("verified in %s, heap at most %d kB", time.Since(start).Round(time.Millisecond), src.peak.Load()>>10)
	require.Less(t, src.peak.Load(), before.HeapAlloc+most)
}
