package tlog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// receipt is one for entry 300 of 700.
func receipt(t testing.TB, w *world) (*tlog.Receipt, []byte) {
	t.Helper()
	s := &tlogtest.Memory{}
	d := entries(700)
	tree := build(t, s, d)
	p, err := tlog.Inclusion(context.Background(), s, tree, 300)
	require.NoError(t, err)
	return &tlog.Receipt{Index: 300, Proof: p, Checkpoint: w.sign(t, tree)}, d[300]
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with -update")
	require.Equal(t, string(want), string(got))
}

func TestReceiptGolden(t *testing.T) {
	w := newWorld(t)
	r, entry := receipt(t, w)
	raw, err := r.Marshal()
	require.NoError(t, err)
	golden(t, "bare.tlog-proof", raw)
	r.Entry = entry
	raw, err = r.Marshal()
	require.NoError(t, err)
	golden(t, "entry.tlog-proof", raw)
	again, err := tlog.ParseReceipt(raw)
	require.NoError(t, err)
	require.Equal(t, r, again)
	ev, err := again.Verify(nil, w.policy, tlog.StampPolicy{})
	require.NoError(t, err)
	require.Equal(t, tlog.Entry{Index: 300, Data: entry}, ev.Entry)
	require.Equal(t, now, ev.Cosigned)
	require.Zero(t, ev.Stamped)
	_, err = again.Verify([]byte("other"), w.policy, tlog.StampPolicy{})
	require.ErrorIs(t, err, tlog.ErrProof)
	again.Entry = nil
	_, err = again.Verify(nil, w.policy, tlog.StampPolicy{})
	require.ErrorContains(t, err, "neither")
	_, err = again.Verify([]byte("other"), w.policy, tlog.StampPolicy{})
	require.ErrorIs(t, err, tlog.ErrProof)
	_, err = again.Verify(entry, w.policy, tlog.StampPolicy{Required: true})
	require.ErrorIs(t, err, tlog.ErrStamp)
	require.ErrorContains(t, err, "there is none")
	other := w.policy
	other.Origin = "altro.example"
	_, err = again.Verify(entry, other, tlog.StampPolicy{})
	require.ErrorIs(t, err, tlog.ErrOrigin)
}

func TestAnyChangeOfAReceiptIsSeen(t *testing.T) {
	w := newWorld(t)
	r, entry := receipt(t, w)
	r.Entry = entry
	raw, err := r.Marshal()
	require.NoError(t, err)
	rapid.Check(t, func(rt *rapid.T) {
		bad := mutate(rt, raw)
		got, err := tlog.ParseReceipt(bad)
		if err != nil {
			return
		}
		_, err = got.Verify(entry, w.policy, tlog.StampPolicy{})
		require.Error(rt, err, "%q", bad)
	})
}

func TestReceiptsThatAreNone(t *testing.T) {
	w := newWorld(t)
	r, entry := receipt(t, w)
	r.Entry = entry
	raw, err := r.Marshal()
	require.NoError(t, err)
	text := string(raw)
	extra := func(json string) string {
		return "c2sp.org/tlog-proof@v1\nextra " + json + text[strings.Index(text, "\nindex"):]
	}
	for name, bad := range map[string]string{
		"empty": "", "header": strings.Replace(text, "@v1", "@v2", 1), "no index": strings.Replace(text, "index 300\n", "", 1),
		"index": strings.Replace(text, "index 300", "index 0300", 1), "no checkpoint": text[:strings.Index(text, "\n\n")],
		"only header": "c2sp.org/tlog-proof@v1\n\n" + string(r.Checkpoint), "extra": extra("!"), "extra not JSON": extra("AAAA"),
		"extra unknown": extra("eyJhIjoxfQ=="), "extra empty": extra("e30="), "long": strings.Repeat("a", 1<<20+1),
		"note": text[:len(text)-2],
	} {
		_, err := tlog.ParseReceipt([]byte(bad))
		require.Error(t, err, name)
	}
	r.Checkpoint = []byte("x")
	_, err = r.Marshal()
	require.ErrorIs(t, err, tlog.ErrNote)
	r.Checkpoint, r.Index = w.sign(t, tlog.EmptyTree()), -1
	_, err = r.Marshal()
	require.Error(t, err)
	r.Index, r.Entry = 0, make([]byte, 1<<20)
	_, err = r.Marshal()
	require.ErrorContains(t, err, "limit")
}

func TestStampedReceipt(t *testing.T) {
	w := newWorld(t)
	pki := cmstest.New(t)
	r, entry := receipt(t, w)
	s, err := tlog.OpenCheckpoint(r.Checkpoint, w.policy)
	require.NoError(t, err)
	r.Entry, r.Stamp = entry, tlogtest.Stamp(t, pki, s.Signed)
	raw, err := r.Marshal()
	require.NoError(t, err)
	again, err := tlog.ParseReceipt(raw)
	require.NoError(t, err)
	ev, err := again.Verify(entry, w.policy, tlog.StampPolicy{Required: true, Roots: pki.Pool()})
	require.NoError(t, err)
	require.Equal(t, cmstest.Now, ev.Stamped)

	// openssl reads the same: the text up to the empty line is what the token covers
	text, _, _ := strings.Cut(string(r.Checkpoint), "\n\n")
	cmstest.OpenSSL(t, "ts", "-verify", "-token_in", "-in", cmstest.File(t, "t", r.Stamp), "-data", cmstest.File(t, "d", []byte(text+"\n")),
		"-CAfile", cmstest.CertFile(t, pki.Root), "-attime", "1772447415")

	for name, c := range map[string]struct {
		stamp  []byte
		policy tlog.StampPolicy
	}{
		"other text":     {tlogtest.Stamp(t, pki, []byte("other")), tlog.StampPolicy{}},
		"other roots":    {r.Stamp, tlog.StampPolicy{Roots: cmstest.New(t).Pool()}},
		"expired":        {r.Stamp, tlog.StampPolicy{Roots: pki.Pool(), At: now.AddDate(30, 0, 0)}},
		"no token":       {[]byte("x"), tlog.StampPolicy{}},
		"changed to-day": {bytes.Replace(r.Stamp, []byte("20260302103015Z"), []byte("20250302103015Z"), 1), tlog.StampPolicy{}},
	} {
		bad := *r
		bad.Stamp = c.stamp
		_, err := bad.Verify(entry, w.policy, c.policy)
		require.ErrorIs(t, err, tlog.ErrStamp, name)
	}
}

func chain(t testing.TB, tenant string, n int) ([]*tlog.Leaf, [][]byte, tlog.Tail) {
	t.Helper()
	tail := tlog.Tail{Tenant: tlog.TenantTag([]byte("chiave"), tenant)}
	var leaves []*tlog.Leaf
	var raw [][]byte
	for i := range n {
		l, err := tail.Next("pda", now.Add(time.Duration(i)*time.Minute), []tlog.Hash{sha256.Sum256([]byte{byte(i)})}, "")
		require.NoError(t, err)
		b, err := l.Marshal()
		require.NoError(t, err)
		mine, err := tail.Follow(tlog.Entry{Index: int64(i), Data: b})
		require.NoError(t, err)
		require.True(t, mine)
		leaves, raw = append(leaves, l), append(raw, b)
	}
	return leaves, raw, tail
}

func TestLeafGolden(t *testing.T) {
	_, raw, _ := chain(t, "azienda", 3)
	golden(t, "leaves.jsonl", append(bytes.Join(raw, []byte("\n")), '\n'))
	l, err := tlog.ParseLeaf(raw[1])
	require.NoError(t, err)
	require.Equal(t, tlog.LeafHash(raw[0]), l.Prev)
}

// No leaf says whose it is: neither the tenant's id, nor anything with digits, fits in one.
func TestLeavesHoldNoPersonalData(t *testing.T) {
	for _, word := range []string{"it01234567897", "RSSMRA70A01H501S", "rossi.mario@example.it", "2026", "à", "a  b", "a\n", strings.Repeat("a", 65)} {
		l := tlog.Leaf{Type: "pda", Time: now, Seq: 1, Objects: []tlog.Hash{{}}, Note: word}
		_, err := l.Marshal()
		require.ErrorContains(t, err, "note", word)
		l.Note, l.Type = "", word
		_, err = l.Marshal()
		require.ErrorContains(t, err, "type", word)
	}
	_, raw, _ := chain(t, "IT01234567897", 1)
	require.NotContains(t, string(raw[0]), "01234567897")
	require.NotContains(t, string(raw[0]), hex.EncodeToString([]byte("01234567897")))
	require.NotEqual(t, tlog.TenantTag([]byte("a"), "x"), tlog.TenantTag([]byte("b"), "x"))
}

func TestLeavesThatAreNone(t *testing.T) {
	good := func() *tlog.Leaf {
		return &tlog.Leaf{Type: "rdv", Time: now, Seq: 2, Prev: tlog.Hash{1}, Objects: []tlog.Hash{{2}}, Note: "single domain"}
	}
	raw, err := good().Marshal()
	require.NoError(t, err)
	l, err := tlog.ParseLeaf(raw)
	require.NoError(t, err)
	require.Equal(t, good(), l)
	for name, change := range map[string]func(*tlog.Leaf){
		"fraction": func(l *tlog.Leaf) { l.Time = l.Time.Add(time.Millisecond) }, "year": func(l *tlog.Leaf) { l.Time = time.Time{} },
		"seq": func(l *tlog.Leaf) { l.Seq = 0 }, "first with prev": func(l *tlog.Leaf) { l.Seq = 1 }, "no prev": func(l *tlog.Leaf) { l.Prev = tlog.Hash{} },
		"no object": func(l *tlog.Leaf) { l.Objects = nil }, "objects": func(l *tlog.Leaf) { l.Objects = make([]tlog.Hash, 257) },
		"no type": func(l *tlog.Leaf) { l.Type = "" }, "great seq": func(l *tlog.Leaf) { l.Seq = 1<<53 + 1 },
	} {
		l := good()
		change(l)
		_, err := l.Marshal()
		require.Error(t, err, name)
	}
	text := string(raw)
	for name, bad := range map[string]string{
		"not JSON": "x", "version": strings.Replace(text, `"v":1`, `"v":2`, 1), "space": strings.Replace(text, ",", ", ", 1),
		"order":    strings.Replace(text, `"v":1,"type":"rdv"`, `"type":"rdv","v":1`, 1),
		"twice":    strings.Replace(text, `"v":1`, `"v":1,"v":1`, 1),
		"zone":     strings.Replace(text, "10:30:15Z", "11:30:15+01:00", 1),
		"time":     strings.Replace(text, "10:30:15Z", "x", 1),
		"upper":    strings.Replace(text, `"obj":["02`, `"obj":["0A`, 1),
		"tenant":   strings.Replace(text, `"tenant":"00`, `"tenant":"0`, 1),
		"prev":     strings.Replace(text, `"tprev":"01`, `"tprev":"g1`, 1),
		"obj":      strings.Replace(text, `"obj":["02`, `"obj":["2`, 1),
		"field":    strings.Replace(text, `"v":1`, `"v":1,"name":"Rossi"`, 1),
		"trailing": text + "\n",
		"long":     strings.Repeat(" ", 1<<16),
	} {
		_, err := tlog.ParseLeaf([]byte(bad))
		require.Error(t, err, name)
	}
}

// Two tenants in one log; each proves its own sequence offline, and every change of it is seen.
func TestSequence(t *testing.T) {
	_, a, end := chain(t, "azienda a", 6)
	_, b, _ := chain(t, "azienda b", 6)
	var d [][]byte
	for i := range a {
		d = append(d, a[i], b[i])
	}
	s := &tlogtest.Memory{}
	tree := build(t, s, d)
	prove := func(at ...int64) (list []tlog.Proven) {
		for _, i := range at {
			p, err := tlog.Inclusion(t.Context(), s, tree, i)
			require.NoError(t, err)
			list = append(list, tlog.Proven{Entry: tlog.Entry{Index: i, Data: d[i]}, Proof: p})
		}
		return list
	}
	start := tlog.Tail{Tenant: end.Tenant}
	tail, err := tlog.CheckSequence(start, tree, prove(0, 2, 4, 6, 8, 10))
	require.NoError(t, err)
	require.EqualValues(t, 6, tail.Seq)
	require.Equal(t, end.Last, tail.Last)
	half, err := tlog.CheckSequence(start, tree, prove(0, 2, 4))
	require.NoError(t, err)
	whole, err := tlog.CheckSequence(half, tree, prove(6, 8, 10))
	require.NoError(t, err)
	require.Equal(t, tail, whole)

	for name, at := range map[string][]int64{
		"gap": {0, 4}, "not the first": {2, 4}, "twice": {0, 0}, "order": {0, 4, 2}, "another tenant's": {0, 1},
	} {
		got, err := tlog.CheckSequence(start, tree, prove(at...))
		require.ErrorIs(t, err, tlog.ErrSequence, name)
		require.Equal(t, start, got)
	}
	bad := prove(0, 2)
	bad[1].Proof[0][0] ^= 1
	_, err = tlog.CheckSequence(start, tree, bad)
	require.ErrorIs(t, err, tlog.ErrProof)

	// a monitor follows every entry
	mon := tlog.Tail{Tenant: end.Tenant}
	n := 0
	for e, err := range tlog.Entries(t.Context(), s, tree, 0) {
		require.NoError(t, err)
		mine, err := mon.Follow(e)
		require.NoError(t, err)
		if mine {
			n++
		}
	}
	require.Equal(t, 6, n)
	_, err = mon.Follow(tlog.Entry{Index: 12, Data: []byte("x")})
	require.Error(t, err)
	_, err = mon.Next("pda", now.Add(-time.Hour), []tlog.Hash{{}}, "")
	require.ErrorIs(t, err, tlog.ErrSequence)
	_, err = mon.Next("", now.Add(time.Hour), []tlog.Hash{{}}, "")
	require.Error(t, err)
	for name, change := range map[string]func(*tlog.Leaf){
		"prev": func(l *tlog.Leaf) { l.Prev[0] ^= 1 }, "time": func(l *tlog.Leaf) { l.Time = now.AddDate(-1, 0, 0) },
	} {
		l, err := mon.Next("pda", now.Add(time.Hour), []tlog.Hash{{}}, "")
		require.NoError(t, err)
		change(l)
		raw, err := l.Marshal()
		require.NoError(t, err)
		_, err = mon.Follow(tlog.Entry{Index: 12, Data: raw})
		require.ErrorIs(t, err, tlog.ErrSequence, name)
	}
	l, err := mon.Next("pda", now.Add(time.Hour), []tlog.Hash{{}}, "")
	require.NoError(t, err)
	raw, err := l.Marshal()
	require.NoError(t, err)
	_, err = mon.Follow(tlog.Entry{Index: 3, Data: raw})
	require.ErrorContains(t, err, "stands before")
	require.Contains(t, fmt.Sprint(err), "entry 3")
}

// The log of a new year begins with the last checkpoint of the old one; a tenant's chain goes on.
func TestNextLog(t *testing.T) {
	w := newWorld(t)
	_, raw, end := chain(t, "azienda", 3)
	last := w.sign(t, build(t, &tlogtest.Memory{}, raw))
	l, err := end.Next("pda", now.Add(time.Hour), []tlog.Hash{{}}, "")
	require.NoError(t, err)
	first, err := l.Marshal()
	require.NoError(t, err)
	s := &tlogtest.Memory{}
	tree := build(t, s, [][]byte{last, first})
	tail := end.InNextLog()
	for e, err := range tlog.Entries(t.Context(), s, tree, 0) {
		require.NoError(t, err)
		mine, err := tail.Follow(e)
		require.NoError(t, err)
		require.Equal(t, e.Index == 1, mine)
	}
	require.EqualValues(t, 4, tail.Seq)
	_, err = tlog.OpenCheckpoint(last, w.policy)
	require.NoError(t, err)
	_, err = end.Follow(tlog.Entry{Index: 1, Data: first})
	require.ErrorIs(t, err, tlog.ErrSequence, "without InNextLog the indexes go backwards")
	_, err = tail.Follow(tlog.Entry{Index: 5, Data: last})
	require.Error(t, err, "a checkpoint in the middle is no leaf")
}
