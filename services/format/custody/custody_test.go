package custody_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

const origin = "log.test"

// book is a log of one tenant in memory.
type book struct {
	t      *testing.T
	log    *tlog.Log
	store  *tlogtest.Memory
	signer *tlog.Signer
	tail   tlog.Tail
	leaves []tlog.Entry
}

func newBook(t *testing.T) *book {
	signer, err := tlog.NewSigner(origin, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	b := &book{t: t, store: &tlogtest.Memory{}, signer: signer, tail: tlog.Tail{Tenant: tlog.TenantTag([]byte("k"), "acme")}}
	b.log, err = tlog.Open(t.Context(), b.store, tlog.EmptyTree())
	require.NoError(t, err)
	return b
}

func (b *book) policy() tlog.Policy {
	return tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{&b.signer.Verifier}}
}

func (b *book) add(kind string, objects []tlog.Hash, note string) {
	leaf, err := b.tail.Next(kind, time.Date(2026, 11, 1, 0, 0, len(b.leaves), 0, time.UTC), objects, note)
	require.NoError(b.t, err)
	entry, err := leaf.Marshal()
	require.NoError(b.t, err)
	index, err := b.log.Append(b.t.Context(), entry)
	require.NoError(b.t, err)
	e := tlog.Entry{Index: index, Data: entry}
	_, err = b.tail.Follow(e)
	require.NoError(b.t, err)
	b.leaves = append(b.leaves, e)
}

// receipts proves all leaves against one checkpoint.
func (b *book) receipts() (out []custody.Receipt) {
	tree, err := b.log.Commit(context.Background())
	require.NoError(b.t, err)
	note, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(b.signer)
	require.NoError(b.t, err)
	for _, e := range b.leaves {
		proof, err := tlog.Inclusion(b.t.Context(), b.store, tree, e.Index)
		require.NoError(b.t, err)
		out = append(out, custody.Receipt{Name: fmt.Sprint("receipt ", e.Index), Receipt: &tlog.Receipt{Index: e.Index, Proof: proof, Checkpoint: note, Entry: e.Data}})
	}
	return out
}

func file(n int) [32]byte { return sha256.Sum256(fmt.Append(nil, n)) }

func (b *book) verify(p *custody.Package, receipts []custody.Receipt) *custody.Report {
	r, err := custody.Verify(custody.Input{Package: p, Receipts: receipts, Policy: b.policy()})
	require.NoError(b.t, err)
	return r
}

// TestExtended: a unit that later receipts joined needs the receipt of its last state, and keeps what it had.
func TestExtended(t *testing.T) {
	b := newBook(t)
	objects, note := custody.UnitObjects("u", [][32]byte{file(1), file(90)})
	b.add(custody.Taken, objects, note)
	objects, note = custody.UnitObjects("u", [][32]byte{file(1), file(2), file(91)})
	b.add(custody.Extended, objects, note)
	all := b.receipts()
	now := &custody.Package{Units: []custody.Unit{{ID: "u", Files: [][32]byte{file(1), file(2), file(91)}}}}
	require.Empty(t, b.verify(now, all).Problems)
	require.Empty(t, b.verify(now, all[1:]).Problems)
	r := b.verify(now, all[:1])
	require.True(t, r.Has(custody.UnitChanged))
	require.Contains(t, r.Problems[0].Message, "give it too")

	objects, note = custody.UnitObjects("u", [][32]byte{file(7), file(92)})
	b.add(custody.Extended, objects, note)
	changed := &custody.Package{Units: []custody.Unit{{ID: "u", Files: [][32]byte{file(7), file(92)}}}}
	require.True(t, b.verify(changed, b.receipts()).Has(custody.UnitChanged), "the first leaves' document is gone")
}

// TestManyFiles: a unit with more files than a leaf has room for is proven as a whole.
func TestManyFiles(t *testing.T) {
	for _, n := range []int{1, 255, 256, 1000} {
		b := newBook(t)
		u := custody.Unit{ID: "u"}
		for i := range n {
			u.Files = append(u.Files, file(i))
		}
		objects, note := custody.UnitObjects(u.ID, u.Files)
		require.LessOrEqual(t, len(objects), 256)
		b.add(custody.Taken, objects, note)
		require.Empty(t, b.verify(&custody.Package{Units: []custody.Unit{u}}, b.receipts()).Problems)
		u.Files[n-1] = file(-1)
		require.True(t, b.verify(&custody.Package{Units: []custody.Unit{u}}, b.receipts()).Has(custody.UnitChanged))
	}
}

// TestSequence: leaves of two histories, or of two tenants, are told apart from an honest chain.
func TestSequence(t *testing.T) {
	one, two := newBook(t), newBook(t)
	for i := range 4 {
		objects, note := custody.UnitObjects(fmt.Sprint("u", i), [][32]byte{file(i)})
		one.add(custody.Taken, objects, note)
		if i == 2 {
			objects, note = custody.UnitObjects("forged", [][32]byte{file(i)})
		}
		two.add(custody.Taken, objects, note)
	}
	a, b := one.receipts(), two.receipts()
	require.Empty(t, one.verify(nil, a).Problems)
	require.Empty(t, one.verify(nil, append(a[:1:1], a[3])).Problems, "a gap is no problem")
	for name, mixed := range map[string][]custody.Receipt{"one number twice": append(a[:3:3], b[2]), "another before it": append(a[:3:3], b[3])} {
		r := one.verify(nil, mixed)
		require.True(t, r.Has(custody.SequenceBroken), name)
		require.True(t, r.Has(custody.LogForked), "%s: both were signed at one size", name)
	}
	two.tail.Tenant = tlog.TenantTag([]byte("k"), "beta")
	two.tail.Seq, two.tail.Last = 0, tlog.Hash{}
	objects, note := custody.UnitObjects("x", [][32]byte{file(1)})
	two.add(custody.Taken, objects, note)
	require.True(t, two.verify(nil, two.receipts()[3:]).Has(custody.ForeignLeaf))
}

// TestReadPackage refuses what is none.
func TestReadPackage(t *testing.T) {
	pack := func(names ...string) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		for _, n := range names {
			f, err := w.Create(n)
			require.NoError(t, err)
			_, err = f.Write([]byte("x"))
			require.NoError(t, err)
		}
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	for want, raw := range map[string][]byte{
		"no readable ZIP": []byte("PK"), "no preservation package": pack("a/bagit.txt"),
		"twice": pack("a/data/x", "a/data/x"), "case alone": pack("a/data/x", "a/data/X"), "beside the folder": pack("a/data/x", "b/data/x"),
		"no name of a file": pack("a/data/./x"), "index": pack("a/data/PIndex.xml"),
	} {
		_, err := custody.ReadPackage(raw)
		require.ErrorContains(t, err, want)
	}
	_, err := custody.Verify(custody.Input{})
	require.ErrorContains(t, err, "policy")
}

// FuzzParseSeen: what is read is a checkpoint with or without a proof, and reading never fails badly.
func FuzzParseSeen(f *testing.F) {
	f.Add([]byte("old 3\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\nlog.test\n4\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— log.test AAAAAAA=\n"))
	f.Add([]byte("log.test\n4\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		seen, err := custody.ParseSeen("x", raw)
		if err == nil && seen.Proof == nil {
			require.Equal(t, raw, seen.Note)
		}
	})
}
