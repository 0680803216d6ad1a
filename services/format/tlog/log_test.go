package tlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		tlogtest.Conform(t, func(*testing.T) tlog.Store { return &tlogtest.Memory{} })
	})
	t.Run("folder", func(t *testing.T) {
		tlogtest.Conform(t, func(t *testing.T) tlog.Store { return tlogtest.Dir(t.TempDir()) })
	})
}

// build appends the entries to a new log in one go.
func build(t testing.TB, s tlog.Store, d [][]byte) tlog.Tree {
	t.Helper()
	l, err := tlog.Open(context.Background(), s, tlog.EmptyTree())
	require.NoError(t, err)
	return grow(t, l, d)
}

func grow(t testing.TB, l *tlog.Log, d [][]byte) tlog.Tree {
	t.Helper()
	for i, e := range d {
		before := l.Size()
		at, err := l.Append(context.Background(), e)
		if err != nil || at != before {
			t.Fatalf("entry %d: index %d, want %d: %v", i, at, before, err)
		}
	}
	tree, err := l.Commit(context.Background())
	require.NoError(t, err)
	return tree
}

// Whatever the sizes and the commits, root and proofs are those of RFC 6962, and a log that is
// opened again goes on as if nothing had been.
func TestLogAgreesWithTheOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &tlogtest.Memory{}
		l, err := tlog.Open(t.Context(), s, tlog.EmptyTree())
		require.NoError(rt, err)
		var d [][]byte
		var trees []tlog.Tree
		for range rapid.IntRange(1, 4).Draw(rt, "commits") {
			for _, e := range entries(rapid.IntRange(0, 400).Draw(rt, "entries")) {
				e = append(e, byte(len(d)))
				_, err := l.Append(t.Context(), e)
				require.NoError(rt, err)
				d = append(d, e)
			}
			tree, err := l.Commit(t.Context())
			require.NoError(rt, err)
			require.Equal(rt, tlog.Tree{Size: int64(len(d)), Root: mth(d)}, tree)
			trees = append(trees, tree)
			if rapid.Bool().Draw(rt, "open again") {
				l, err = tlog.Open(t.Context(), s, tree)
				require.NoError(rt, err)
			}
		}
		last := trees[len(trees)-1]
		if last.Size == 0 {
			return
		}
		at := rapid.IntRange(0, len(d)-1).Draw(rt, "index")
		p, err := tlog.Inclusion(t.Context(), s, last, int64(at))
		require.NoError(rt, err)
		require.Empty(rt, differ(auditPath(at, d), p))
		require.NoError(rt, tlog.CheckInclusion(p, last, int64(at), tlog.LeafHash(d[at])))
		prover := tlog.NewProver(s, last)
		for range 20 {
			at := rapid.IntRange(0, len(d)-1).Draw(rt, "index of a batch")
			p, err := prover.Inclusion(t.Context(), int64(at))
			require.NoError(rt, err)
			require.Empty(rt, differ(auditPath(at, d), p))
		}
		for _, old := range trees {
			p, err := tlog.Consistency(t.Context(), s, old.Size, last)
			require.NoError(rt, err)
			if old.Size > 0 {
				require.Empty(rt, differ(consistency(int(old.Size), d, true), p))
			}
			require.NoError(rt, tlog.CheckConsistency(p, old, last))
		}
		n := 0
		for e, err := range tlog.Entries(t.Context(), s, last, int64(at)) {
			require.NoError(rt, err)
			require.Equal(rt, int64(at+n), e.Index)
			require.Equal(rt, d[at+n], e.Data)
			n++
		}
		require.Equal(rt, len(d)-at, n)
	})
}

// differ compares proofs; an empty one may be nil.
func differ(want, got []tlog.Hash) string {
	if slices.Equal(want, got) {
		return ""
	}
	return fmt.Sprintf("want %v, got %v", want, got)
}

// What a prover keeps was checked: a store that is changed behind its back cannot mislead it.
func TestProverKeepsCheckedTilesOnly(t *testing.T) {
	s := &tlogtest.Memory{}
	d := entries(1000)
	tree := build(t, s, d)
	p := tlog.NewProver(s, tree)
	_, err := p.Inclusion(t.Context(), 10)
	require.NoError(t, err)
	for path := range s.Files {
		s.Files[path][0] ^= 1
	}
	proof, err := p.Inclusion(t.Context(), 11)
	require.NoError(t, err)
	require.Empty(t, differ(auditPath(11, d), proof))
	_, err = p.Inclusion(t.Context(), 600) // in a tile that was not read before
	require.Error(t, err)
	_, err = p.Inclusion(t.Context(), 12)
	require.NoError(t, err, "and an error spoils nothing")
}

// What a prover keeps is bounded, and proofs stay right when it begins anew.
func TestProverForgets(t *testing.T) {
	s := &tlogtest.Memory{}
	d := entries(100_000)
	tree := build(t, s, d)
	p := tlog.NewProver(s, tree)
	for at := int64(0); at < tree.Size; at += 37 {
		proof, err := p.Inclusion(t.Context(), at)
		require.NoError(t, err)
		require.NoError(t, tlog.CheckInclusion(proof, tree, at, tlog.LeafHash(d[at])))
	}
}

// The worked example of the tile specification: 70,000 entries.
func TestTilesOfTheSpecification(t *testing.T) {
	s := &tlogtest.Memory{}
	d := entries(70000)
	tree := build(t, s, d)
	require.Equal(t, mth(d), tree.Root)
	count := map[tlog.Tile]int{}
	for path, data := range s.Files {
		tile, err := tlog.ParsePath(path)
		require.NoError(t, err)
		if tile.Level != tlog.EntryLevel {
			require.Len(t, data, tile.Width*tlog.HashSize)
		}
		count[tlog.Tile{Level: tile.Level, Width: tile.Width}]++
	}
	require.Equal(t, map[tlog.Tile]int{
		{Level: tlog.EntryLevel, Width: 256}: 273, {Level: tlog.EntryLevel, Width: 112}: 1,
		{Level: 0, Width: 256}: 273, {Level: 0, Width: 112}: 1,
		{Level: 1, Width: 256}: 1, {Level: 1, Width: 17}: 1,
		{Level: 2, Width: 1}: 1,
	}, count)
	for _, at := range []int64{0, 255, 256, 65535, 65536, 69887, 69888, 69999} {
		p, err := tlog.Inclusion(t.Context(), s, tree, at)
		require.NoError(t, err)
		require.NoError(t, tlog.CheckInclusion(p, tree, at, tlog.LeafHash(d[at])))
	}
}

// Partial tiles may be thrown away when the full one is there; older trees can still be proved.
func TestPartialTilesMayGo(t *testing.T) {
	s := &tlogtest.Memory{}
	l, err := tlog.Open(t.Context(), s, tlog.EmptyTree())
	require.NoError(t, err)
	d := entries(600)
	old := grow(t, l, d[:200])
	grow(t, l, d[200:])
	for path := range s.Files {
		if tile, err := tlog.ParsePath(path); err == nil && tile.Width == 200 {
			delete(s.Files, path)
		}
	}
	p, err := tlog.Inclusion(t.Context(), s, old, 7)
	require.NoError(t, err)
	require.Equal(t, auditPath(7, d[:200]), p)
	again, err := tlog.Open(t.Context(), s, old)
	require.NoError(t, err)
	require.EqualValues(t, 200, again.Size())
}

// A crash after Append and before the checkpoint: the same entries again are no conflict, others are.
func TestAppendAgainAfterACrash(t *testing.T) {
	s := &tlogtest.Memory{}
	d := entries(700)
	l, err := tlog.Open(t.Context(), s, tlog.EmptyTree())
	require.NoError(t, err)
	tree := grow(t, l, d[:100])
	grow(t, l, d[100:]) // written, and its checkpoint never signed

	l, err = tlog.Open(t.Context(), s, tree)
	require.NoError(t, err)
	require.Equal(t, mth(d), grow(t, l, d[100:]).Root)

	l, err = tlog.Open(t.Context(), s, tree)
	require.NoError(t, err)
	for i := 100; i < 255; i++ {
		_, err = l.Append(t.Context(), []byte("something else"))
		require.NoError(t, err)
	}
	_, err = l.Append(t.Context(), []byte("something else"))
	require.ErrorIs(t, err, tlog.ErrConflict)
	_, err = l.Append(t.Context(), []byte("more"))
	require.ErrorContains(t, err, "open the log again")
	_, err = l.Commit(t.Context())
	require.ErrorContains(t, err, "open the log again")
}

func TestOpenRefusesAChangedStore(t *testing.T) {
	s := &tlogtest.Memory{}
	tree := build(t, s, entries(300))
	for path := range s.Files {
		tile, err := tlog.ParsePath(path)
		require.NoError(t, err)
		if tile.Width == tlog.TileWidth {
			continue // not on the right edge: proofs and monitors read it
		}
		for name, change := range map[string]func(*tlogtest.Memory){
			"gone":    func(c *tlogtest.Memory) { delete(c.Files, path) },
			"changed": func(c *tlogtest.Memory) { c.Files[path][len(c.Files[path])-1] ^= 1 },
			"cut":     func(c *tlogtest.Memory) { c.Files[path] = c.Files[path][1:] },
		} {
			c := s.Clone()
			change(c)
			_, err := tlog.Open(t.Context(), c, tree)
			require.Error(t, err, "%s %s", path, name)
		}
	}
	_, err := tlog.Open(t.Context(), s, tlog.Tree{Size: 299, Root: tree.Root})
	require.Error(t, err)
	_, err = tlog.Open(t.Context(), s, tlog.Tree{Size: -1})
	require.ErrorContains(t, err, "negative")
}

// Any single change in the store is seen by who reads it all against the signed root.
func TestAnyChangeOfTheStoreIsSeen(t *testing.T) {
	s := &tlogtest.Memory{}
	tree := build(t, s, entries(700))
	var paths []string
	for p := range s.Files {
		paths = append(paths, p)
	}
	all := func(c tlog.Store) (err error) {
		for _, e := range tlog.Entries(t.Context(), c, tree, 0) {
			err = errors.Join(err, e)
		}
		return err
	}
	require.NoError(t, all(s))
	rapid.Check(t, func(rt *rapid.T) {
		c := s.Clone()
		path := rapid.SampledFrom(paths).Draw(rt, "path")
		data := c.Files[path]
		at := rapid.IntRange(0, len(data)-1).Draw(rt, "byte")
		switch rapid.IntRange(0, 3).Draw(rt, "change") {
		case 0:
			data[at] ^= 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		case 1:
			c.Files[path] = append(bytes.Clone(data[:at]), data[at+1:]...)
		case 2:
			c.Files[path] = append(append(bytes.Clone(data[:at]), 7), data[at:]...)
		case 3:
			delete(c.Files, path)
		}
		require.Error(rt, all(c), path)
	})
}

// Any single change of proof, index, size, root or leaf is seen.
func TestAnyChangeOfAProofIsSeen(t *testing.T) {
	d := entries(1000)
	s := &tlogtest.Memory{}
	tree := build(t, s, d)
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.Int64Range(0, 999).Draw(rt, "index")
		p, err := tlog.Inclusion(t.Context(), s, tree, at)
		require.NoError(rt, err)
		leaf, wrong := tlog.LeafHash(d[at]), tree
		bit := func() (int, byte) {
			return rapid.IntRange(0, 31).Draw(rt, "byte"), 1 << rapid.IntRange(0, 7).Draw(rt, "bit")
		}
		i := rapid.IntRange(0, len(p)-1).Draw(rt, "hash")
		switch rapid.IntRange(0, 7).Draw(rt, "change") {
		case 0:
			b, x := bit()
			p[i][b] ^= x
		case 1:
			b, x := bit()
			leaf[b] ^= x
		case 2:
			b, x := bit()
			wrong.Root[b] ^= x
		case 3:
			p = append(p[:i:i], p[i+1:]...)
		case 4:
			p = append(append(p[:i:i], p[i]), p[i:]...)
		case 5:
			other := rapid.Int64Range(-5, 1005).Filter(func(o int64) bool { return o != at }).Draw(rt, "other index")
			at = other
		case 6:
			if len(p) < 2 || i == 0 || p[i] == p[i-1] {
				return
			}
			p[i], p[i-1] = p[i-1], p[i]
		case 7:
			p = make([]tlog.Hash, 64)
		}
		require.ErrorIs(rt, tlog.CheckInclusion(p, wrong, at, leaf), tlog.ErrProof)
	})
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 999).Draw(rt, "old size")
		old, now := tlog.Tree{Size: int64(n), Root: mth(d[:n])}, tree
		p, err := tlog.Consistency(t.Context(), s, old.Size, tree)
		require.NoError(rt, err)
		require.NoError(rt, tlog.CheckConsistency(p, old, now))
		i, b := rapid.IntRange(0, len(p)-1).Draw(rt, "hash"), rapid.IntRange(0, 31).Draw(rt, "byte")
		switch rapid.IntRange(0, 4).Draw(rt, "change") {
		case 0:
			p[i][b] ^= 1
		case 1:
			old.Root[b] ^= 1
		case 2:
			now.Root[b] ^= 1
		case 3:
			p = append(p[:i:i], p[i+1:]...)
		case 4:
			p = append(p, p[i])
		}
		require.ErrorIs(rt, tlog.CheckConsistency(p, old, now), tlog.ErrProof)
	})
}

func TestProofsOutsideTheTree(t *testing.T) {
	s := &tlogtest.Memory{}
	tree := build(t, s, entries(3))
	for _, at := range []int64{-1, 3} {
		_, err := tlog.Inclusion(t.Context(), s, tree, at)
		require.ErrorContains(t, err, "has no entry")
	}
	for _, old := range []int64{-1, 4} {
		_, err := tlog.Consistency(t.Context(), s, old, tree)
		require.ErrorContains(t, err, "not within")
	}
	require.NoError(t, tlog.CheckConsistency(nil, tlog.EmptyTree(), tree))
	require.ErrorIs(t, tlog.CheckConsistency(nil, tlog.Tree{}, tree), tlog.ErrProof)
	require.ErrorIs(t, tlog.CheckConsistency([]tlog.Hash{{}}, tlog.EmptyTree(), tree), tlog.ErrProof)
	require.ErrorIs(t, tlog.CheckConsistency(make([]tlog.Hash, 64), tree, tree), tlog.ErrProof)
	require.ErrorIs(t, tlog.CheckConsistency(nil, tree, tlog.EmptyTree()), tlog.ErrProof)
	require.NoError(t, tlog.CheckConsistency(nil, tree, tree))
	_, err := tlog.Inclusion(t.Context(), &tlogtest.Memory{}, tree, 0)
	require.ErrorIs(t, err, tlog.ErrNotFound)
	for _, err := range tlog.Entries(t.Context(), s, tree, -1) {
		require.ErrorContains(t, err, "negative")
	}
}

func TestPaths(t *testing.T) {
	for path, tile := range map[string]tlog.Tile{
		"tile/0/000":                               {Width: 256},
		"tile/0/000.p/1":                           {Width: 1},
		"tile/4/x001/x234/067":                     {Level: 4, Index: 1234067, Width: 256},
		"tile/63/999.p/255":                        {Level: 63, Index: 999, Width: 255},
		"tile/entries/x001/000":                    {Level: tlog.EntryLevel, Index: 1000, Width: 256},
		"tile/entries/x001/000.p/9":                {Level: tlog.EntryLevel, Index: 1000, Width: 9},
		"tile/0/x009/x223/x372/x036/x854/x775/807": {Index: 1<<63 - 1, Width: 256},
	} {
		require.Equal(t, path, tile.Path())
		got, err := tlog.ParsePath(path)
		require.NoError(t, err)
		require.Equal(t, tile, got)
	}
	for _, path := range []string{
		"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/+1/000",
		"tile/0/x000/001", "tile/0/x000", "tile/0/001/002", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/",
		"tile/0/000.p/1.p/1", "tile/0/000/", "tile/data/000", "tile/0/../1", "/tile/0/000", "tile/0/+01", "tile/0/x009/x223/x372/x036/x854/x775/808",
		"tile/0/x001/x001/x001/x001/x001/x001/x001/001", "checkpoint",
	} {
		_, err := tlog.ParsePath(path)
		require.Error(t, err, path)
	}
}

func TestBundles(t *testing.T) {
	var b []byte
	var err error
	for _, e := range []string{"a", "bb"} {
		b, err = tlog.AppendEntry(b, []byte(e))
		require.NoError(t, err)
	}
	require.Equal(t, []byte("\x00\x01a\x00\x02bb"), b)
	got, err := tlog.ParseBundle(b, 2)
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), []byte("bb")}, got)
	for name, c := range map[string]struct {
		data  string
		width int
	}{
		"fewer": {"\x00\x01a", 2}, "more": {"\x00\x01a\x00\x01b", 1}, "cut": {"\x00\x02a", 1}, "cut length": {"\x00\x01a\x00", 2},
		"none": {"", 1}, "no width": {"", 0}, "too wide": {"", 257},
	} {
		_, err := tlog.ParseBundle([]byte(c.data), c.width)
		require.Error(t, err, name)
	}
	for _, n := range []int{0, tlog.MaxEntry + 1} {
		_, err := tlog.AppendEntry(nil, make([]byte, n))
		require.ErrorContains(t, err, "admitted")
	}
	l, err := tlog.Open(t.Context(), &tlogtest.Memory{}, tlog.EmptyTree())
	require.NoError(t, err)
	_, err = l.Append(t.Context(), nil)
	require.Error(t, err)
	at, err := l.Append(t.Context(), make([]byte, tlog.MaxEntry))
	require.NoError(t, err, "a refused entry leaves the log as it was")
	require.Zero(t, at)
}

// However long the log is, appending keeps its right edge alone.
func TestAppendInBoundedMemory(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	d := &discard{}
	l, err := tlog.Open(t.Context(), d, tlog.EmptyTree())
	require.NoError(t, err)
	begun := heap()
	for range 300_000 {
		_, err := l.Append(t.Context(), leaf400)
		require.NoError(t, err)
	}
	_, err = l.Commit(t.Context())
	require.NoError(t, err)
	grown := int64(heap()) - int64(begun)
	runtime.KeepAlive(l)
	require.Greater(t, d.bytes, int64(100<<20), "so much was written")
	require.Less(t, grown, int64(2<<20), "and so little kept")
}
