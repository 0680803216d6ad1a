package tlog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// ErrProof: the proof does not lead to the root. One of data, index, proof and tree is wrong;
// a proof alone cannot say which.
var ErrProof = errors.New("tlog: the proof does not lead to the root")

// maxProof bounds the hashes of a proof: 63 levels. spec: C2SP-witness §add-checkpoint
const maxProof = 63

// tiles serves merkle's reader from a store; what it gives is checked there against the root.
type tiles struct {
	ctx   context.Context // the interface of sumdb/tlog has no room for it; a reader lives for one call
	store Store
}

func (tiles) Height() int { return tileHeight }

func (r tiles) ReadTiles(list []merkle.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, t := range list {
		data, err := read(r.ctx, r.store, Tile{Level: t.L, Index: t.N, Width: t.W})
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

func (tiles) SaveTiles([]merkle.Tile, [][]byte) {}

func reader(ctx context.Context, s Store, tree Tree) merkle.HashReader {
	return merkle.TileHashReader(merkle.Tree{N: tree.Size, Hash: tree.Root}, tiles{ctx, s})
}

// Inclusion builds the proof that the tree has an entry at index, leaf's sibling first. Every
// tile that it reads is checked against the tree's root. spec: RFC6962 §2.1.1
func Inclusion(ctx context.Context, s Store, tree Tree, index int64) ([]Hash, error) {
	if index < 0 || index >= tree.Size {
		return nil, fmt.Errorf("tlog: inclusion: the tree has no entry %d, its size is %d", index, tree.Size)
	}
	p, err := merkle.ProveRecord(tree.Size, index, reader(ctx, s, tree))
	if err != nil {
		return nil, fmt.Errorf("tlog: inclusion of %d in %d: %w", index, tree.Size, err)
	}
	return p, nil
}

// Consistency builds the proof that tree begins with the same entries as the tree of old leaves
// did. From size 0 and to the same size the proof is empty. spec: RFC6962 §2.1.2
func Consistency(ctx context.Context, s Store, old int64, tree Tree) ([]Hash, error) {
	if old < 0 || old > tree.Size {
		return nil, fmt.Errorf("tlog: consistency: old size %d is not within 0 and %d", old, tree.Size)
	}
	if old == 0 || old == tree.Size {
		return nil, nil
	}
	p, err := merkle.ProveTree(tree.Size, old, reader(ctx, s, tree))
	if err != nil {
		return nil, fmt.Errorf("tlog: consistency of %d with %d: %w", old, tree.Size, err)
	}
	return p, nil
}

// CheckInclusion checks that tree has leaf at index. Errors: ErrProof, wrapped.
func CheckInclusion(proof []Hash, tree Tree, index int64, leaf Hash) error {
	if index < 0 || index >= tree.Size {
		return fmt.Errorf("%w: index %d is not in a tree of %d", ErrProof, index, tree.Size)
	}
	if len(proof) > maxProof {
		return fmt.Errorf("%w: it has %d hashes, more than any tree is high", ErrProof, len(proof))
	}
	if merkle.CheckRecord(proof, tree.Size, tree.Root, index, leaf) != nil {
		return fmt.Errorf("%w: entry %d, size %d", ErrProof, index, tree.Size)
	}
	return nil
}

// CheckConsistency checks that tree grew out of old. Errors: ErrProof, wrapped.
func CheckConsistency(proof []Hash, old, tree Tree) error {
	switch {
	case old.Size < 0 || old.Size > tree.Size:
		return fmt.Errorf("%w: old size %d is not within 0 and %d", ErrProof, old.Size, tree.Size)
	case len(proof) > maxProof:
		return fmt.Errorf("%w: it has %d hashes, more than any tree is high", ErrProof, len(proof))
	case old.Size == 0:
		if len(proof) > 0 || old.Root != EmptyTree().Root {
			return fmt.Errorf("%w: from the empty tree there is nothing to prove", ErrProof)
		}
		return nil
	case merkle.CheckTree(proof, tree.Size, tree.Root, old.Size, old.Root) != nil:
		return fmt.Errorf("%w: from size %d to %d", ErrProof, old.Size, tree.Size)
	}
	return nil
}

// Entry is one entry of the log with its place.
type Entry struct {
	Index int64
	Data  []byte // shared with its bundle: copy it to keep it
}

// Entries reads the entries of tree from index on, in order, each checked against the root, one
// bundle in memory at a time. After an error nothing follows.
func Entries(ctx context.Context, s Store, tree Tree, from int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if from < 0 {
			yield(Entry{}, fmt.Errorf("tlog: entries: index %d is negative", from))
			return
		}
		hashes := reader(ctx, s, tree)
		for b := from / TileWidth; ; b++ {
			t, ok := tileAt(EntryLevel, b, tree.Size)
			if !ok {
				return
			}
			entries, err := bundle(ctx, s, hashes, t)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for i, e := range entries {
				if at := b*TileWidth + int64(i); at >= from && !yield(Entry{at, e}, nil) {
					return
				}
			}
		}
	}
}

// bundle reads the entries of one bundle and checks each against the tree.
func bundle(ctx context.Context, s Store, hashes merkle.HashReader, t Tile) ([][]byte, error) {
	data, err := read(ctx, s, t)
	if err != nil {
		return nil, err
	}
	entries, err := ParseBundle(data, t.Width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Path(), err)
	}
	indexes := make([]int64, t.Width)
	for i := range indexes {
		indexes[i] = merkle.StoredHashIndex(0, t.Index*TileWidth+int64(i))
	}
	want, err := hashes.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("tlog: hashes of %s: %w", t.Path(), err)
	}
	for i, e := range entries {
		if LeafHash(e) != want[i] {
			return nil, fmt.Errorf("%w: entry %d is not the one in the tree", ErrProof, t.Index*TileWidth+int64(i))
		}
	}
	return entries, nil
}
