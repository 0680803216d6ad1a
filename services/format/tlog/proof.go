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

// Prover builds proofs against one tree. It keeps the tiles that it has checked against the root
// and the nodes that it has computed, so that the proofs of a batch cost a fraction of single ones;
// what it keeps is bounded. A Prover is not safe for concurrent use.
type Prover struct {
	store Store
	tree  Tree
	tiles map[merkle.Tile][]byte // checked
	nodes map[int64]Hash         // checked, by storage index
}

// What a prover keeps at most: 2 MiB of tiles, and nodes of about the same size.
const (
	keptTiles = 256
	keptNodes = 1 << 15
)

// NewProver reads nothing yet.
func NewProver(s Store, tree Tree) *Prover {
	return &Prover{store: s, tree: tree, tiles: map[merkle.Tile][]byte{}, nodes: map[int64]Hash{}}
}

// tileReader serves merkle's reader for one call, since its interface has no context.
type tileReader struct {
	*Prover
	get func(Tile) ([]byte, error)
}

func (tileReader) Height() int { return tileHeight }

func (r tileReader) ReadTiles(list []merkle.Tile) ([][]byte, error) {
	out := make([][]byte, len(list))
	for i, t := range list {
		if data, ok := r.tiles[t]; ok {
			out[i] = data
			continue
		}
		data, err := r.get(Tile{Level: t.L, Index: t.N, Width: t.W})
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

// SaveTiles is called with tiles that were checked against the root, and with no others.
func (r tileReader) SaveTiles(list []merkle.Tile, data [][]byte) {
	if len(r.tiles) > keptTiles {
		clear(r.tiles)
	}
	for i, t := range list {
		r.tiles[t] = data[i]
	}
}

// hashes reads nodes that are known to be in the tree.
func (p *Prover) hashes(ctx context.Context) merkle.HashReaderFunc {
	return func(indexes []int64) ([]Hash, error) {
		if len(p.nodes) > keptNodes {
			clear(p.nodes)
		}
		out := make([]Hash, len(indexes))
		var missing []int64
		var at []int
		for i, x := range indexes {
			if h, ok := p.known(x); ok {
				out[i] = h
			} else {
				missing, at = append(missing, x), append(at, i)
			}
		}
		if len(missing) == 0 {
			return out, nil
		}
		r := tileReader{p, func(t Tile) ([]byte, error) { return read(ctx, p.store, t) }}
		got, err := merkle.TileHashReader(merkle.Tree{N: p.tree.Size, Hash: p.tree.Root}, r).ReadHashes(missing)
		if err != nil {
			return nil, err
		}
		for i, h := range got {
			out[at[i]], p.nodes[missing[i]] = h, h
		}
		return out, nil
	}
}

// known gives a node from what was checked before.
func (p *Prover) known(index int64) (Hash, bool) {
	if h, ok := p.nodes[index]; ok {
		return h, true
	}
	t := merkle.TileForIndex(tileHeight, index)
	full, ok := tileAt(t.L, t.N, p.tree.Size)
	if !ok || full.Width < t.W {
		return Hash{}, false
	}
	t.W = full.Width
	data, ok := p.tiles[t]
	if !ok {
		return Hash{}, false
	}
	h, err := merkle.HashFromTile(t, data, index)
	if err != nil {
		return Hash{}, false
	}
	p.nodes[index] = h
	return h, true
}

// Inclusion builds the proof that the tree has an entry at index, leaf's sibling first. Every
// tile that it reads is checked against the tree's root. spec: RFC6962 §2.1.1
func (p *Prover) Inclusion(ctx context.Context, index int64) ([]Hash, error) {
	if index < 0 || index >= p.tree.Size {
		return nil, fmt.Errorf("tlog: inclusion: the tree has no entry %d, its size is %d", index, p.tree.Size)
	}
	proof, err := merkle.ProveRecord(p.tree.Size, index, p.hashes(ctx))
	if err != nil {
		return nil, fmt.Errorf("tlog: inclusion of %d in %d: %w", index, p.tree.Size, err)
	}
	return proof, nil
}

// Consistency builds the proof that the tree begins with the same entries as the tree of old
// leaves did. From size 0 and to the same size the proof is empty. spec: RFC6962 §2.1.2
func (p *Prover) Consistency(ctx context.Context, old int64) ([]Hash, error) {
	if old < 0 || old > p.tree.Size {
		return nil, fmt.Errorf("tlog: consistency: old size %d is not within 0 and %d", old, p.tree.Size)
	}
	if old == 0 || old == p.tree.Size {
		return nil, nil
	}
	proof, err := merkle.ProveTree(p.tree.Size, old, p.hashes(ctx))
	if err != nil {
		return nil, fmt.Errorf("tlog: consistency of %d with %d: %w", old, p.tree.Size, err)
	}
	return proof, nil
}

// Inclusion is Prover.Inclusion for one proof.
func Inclusion(ctx context.Context, s Store, tree Tree, index int64) ([]Hash, error) {
	return NewProver(s, tree).Inclusion(ctx, index)
}

// Consistency is Prover.Consistency for one proof.
func Consistency(ctx context.Context, s Store, old int64, tree Tree) ([]Hash, error) {
	return NewProver(s, tree).Consistency(ctx, old)
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
		hashes := NewProver(s, tree).hashes(ctx)
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
