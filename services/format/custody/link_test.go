package custody_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/tlog"
)

// sized is a log of n leaves at each of its sizes; from a leaf on they are others, as somebody would write who shows two histories.
type sized struct {
	*book

	trees []tlog.Tree
}

func openSized(t *testing.T, n, otherFrom int) *sized {
	s := &sized{book: newBook(t), trees: []tlog.Tree{tlog.EmptyTree()}}
	for i := range n {
		id := fmt.Sprint("u", i)
		if i >= otherFrom {
			id = fmt.Sprint("other", i)
		}
		objects, note := custody.UnitObjects(id, [][32]byte{file(i)})
		s.add(custody.Taken, objects, note)
		tree, err := s.log.Commit(t.Context())
		require.NoError(t, err)
		s.trees = append(s.trees, tree)
	}
	return s
}

// proven is the receipt of a leaf in the log of a size.
func (s *sized) proven(leaf, size int) custody.Receipt {
	proof, err := tlog.Inclusion(s.t.Context(), s.store, s.trees[size], int64(leaf))
	require.NoError(s.t, err)
	return custody.Receipt{Name: fmt.Sprintf("%d in %d", leaf, size), Receipt: &tlog.Receipt{Index: int64(leaf), Proof: proof, Checkpoint: s.note(size), Entry: s.leaves[leaf].Data}}
}

func (s *sized) note(size int) []byte {
	note, err := tlog.Checkpoint{Origin: origin, Tree: s.trees[size]}.Sign(s.signer)
	require.NoError(s.t, err)
	return note
}

func (s *sized) seen(from, size int) custody.Seen {
	proof, err := tlog.Consistency(s.t.Context(), s.store, int64(from), s.trees[size])
	require.NoError(s.t, err)
	return custody.Seen{Name: fmt.Sprintf("%d to %d", from, size), Note: s.note(size), Old: int64(from), Proof: append([]tlog.Hash{}, proof...)}
}

func (s *sized) judge(receipts []custody.Receipt, points ...custody.Seen) *custody.Report {
	r, err := custody.Verify(custody.Input{Receipts: receipts, Checkpoints: points, Policy: s.policy()})
	require.NoError(s.t, err)
	return r
}

// TestHistoriesOfReceipts: receipts that are proven in the log at different sizes are of one history, of two, or that is said not to be shown.
func TestHistoriesOfReceipts(t *testing.T) {
	const forkAt = 5
	honest, forked := openSized(t, 20, 20), openSized(t, 20, forkAt)
	one := honest.proven(2, 7)

	r := honest.judge([]custody.Receipt{one, forked.proven(11, 13)})
	require.True(t, len(r.Unshown) > 0 || r.Has(custody.LogForked), "two forks with different numbers: %+v", r)

	// The first leaf after the smaller log, and its last one, have what it is made of in their proofs.
	for _, leaf := range []int{6, 7} {
		r = honest.judge([]custody.Receipt{one, honest.proven(leaf, 13)})
		require.Empty(t, r.Problems)
		require.Empty(t, r.Unshown, leaf)
		r = honest.judge([]custody.Receipt{one, forked.proven(leaf, 13)})
		require.True(t, r.Has(custody.LogForked), leaf)
	}
	apart := []custody.Receipt{one, honest.proven(12, 13), honest.proven(1, 11)}
	r = honest.judge(apart)
	require.Empty(t, r.Problems)
	require.NotEmpty(t, r.Unshown)
	for name, points := range map[string][]custody.Seen{
		"each after the other":   {honest.seen(7, 11), honest.seen(11, 13)},
		"each to the last":       {honest.seen(7, 13), honest.seen(11, 13)},
		"by a size between them": {honest.seen(7, 9), honest.seen(9, 12), honest.seen(11, 12), honest.seen(12, 20), honest.seen(13, 20)},
	} {
		r = honest.judge(apart, points...)
		require.Empty(t, r.Problems, name)
		require.Empty(t, r.Unshown, name)
	}
	r = honest.judge(apart, honest.seen(11, 13))
	require.Len(t, r.Unshown, 1, "7 is nowhere linked: %v", r.Unshown)
	r = honest.judge([]custody.Receipt{one}, forked.seen(7, 13))
	require.True(t, len(r.Problems)+len(r.Unshown) > 0, "a proof from another log of that size")

	for small := 1; small < 11; small++ {
		for large := small + 1; large <= 11; large++ {
			for leaf := range large {
				with := []custody.Receipt{honest.proven(small-1, small), honest.proven(leaf, large)}
				r = honest.judge(with)
				require.Empty(t, r.Problems, "%d in %d, %d", leaf, large, small)
				if leaf == small-1 || leaf == small {
					require.Empty(t, r.Unshown, "%d in %d, %d", leaf, large, small)
				}
				require.Empty(t, honest.judge(with, honest.seen(small, large)).Unshown)
				if small <= forkAt {
					continue
				}
				r = honest.judge([]custody.Receipt{with[0], forked.proven(leaf, large)})
				require.True(t, r.Has(custody.LogForked) || len(r.Unshown) > 0, "%d in %d, %d", leaf, large, small)
			}
		}
	}
}

// TestHistoryOfManySizes: each receipt was proven at a size of its own, as those of an archive that never rests are.
func TestHistoryOfManySizes(t *testing.T) {
	const n, forkAt = 1500, 900
	honest, forked := openSized(t, n, n), openSized(t, n, forkAt)
	var all []custody.Receipt
	for i := range n {
		all = append(all, honest.proven(i, i+1))
	}
	r := honest.judge(all)
	require.Empty(t, r.Problems)
	require.Empty(t, r.Unshown)
	all[1200] = forked.proven(1200, 1201)
	r = honest.judge(all)
	require.True(t, r.Has(custody.LogForked))
}

// TestLedgerPlaces: the list of all leaves says nothing of where in the log they stand; receipts do, and may not say two things.
func TestLedgerPlaces(t *testing.T) {
	const n = 6
	b := openSized(t, n, n)
	var list bytes.Buffer
	for _, e := range b.leaves {
		list.Write(append(slices.Clone(e.Data), '\n'))
	}
	proof, err := b.proven(n-1, n).Marshal()
	require.NoError(t, err)
	judge := func(receipts ...custody.Receipt) *custody.Ledger {
		l, err := custody.NewLedger(b.policy(), tlog.StampPolicy{})
		require.NoError(t, err)
		l.Checkpoint("checkpoint", b.note(n))
		l.Chain("leaves", bytes.NewReader(list.Bytes()), proof)
		require.Empty(t, l.Problems)
		l.Package(&custody.Package{ID: "p"}, receipts)
		l.End()
		return l
	}
	// elsewhere is a log that has the same leaves at other places.
	elsewhere := func(order ...int) *sized {
		s := &sized{book: newBook(t)}
		for _, i := range order {
			_, err := s.log.Append(t.Context(), b.leaves[i].Data)
			require.NoError(t, err)
		}
		tree, err := s.log.Commit(t.Context())
		require.NoError(t, err)
		s.trees = make([]tlog.Tree, len(order)+1)
		s.trees[len(order)] = tree
		for _, i := range order {
			s.leaves = append(s.leaves, b.leaves[i])
		}
		return s
	}
	l := judge(b.proven(0, 3), b.proven(4, 6), b.proven(2, 4))
	require.False(t, l.Has(custody.SequenceBroken) || l.Has(custody.LogForked), l.Problems)
	moved := elsewhere(1, 0, 2, 3, 4)
	l = judge(b.proven(0, 3), moved.proven(1, 5))
	require.True(t, l.Has(custody.SequenceBroken), "one leaf at two places: %v", l.Problems)
	l = judge(moved.proven(0, 5), moved.proven(1, 5))
	require.True(t, l.Has(custody.SequenceBroken), "the second leaf stands before the first: %v", l.Problems)
	l = judge(elsewhere(0, 1, 2, 3, 3, 3, 3, 5).proven(7, 8))
	require.True(t, l.Has(custody.ReceiptGone), "proven beyond the last checkpoint: %v", l.Problems)
}
