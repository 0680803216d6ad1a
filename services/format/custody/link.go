package custody

import (
	"fmt"
	"math/bits"
	"slices"

	merkle "golang.org/x/mod/sumdb/tlog"

	"ceralacca.dev/services/format/tlog"
)

// node is the place of a whole subtree: 1<<level entries from index<<level. What stands there is the same in every tree of one history that
// has these entries.
type node struct {
	level int
	index int64
}

// grove is the trees of one log that were shown, with what proofs showed of each.
type grove struct {
	trees  map[int64]*shownTree // by size
	first  map[node]*shownTree  // the tree that showed a subtree first
	broken []contradiction
	grew   []growth
	proven map[int64]bool // by proofs between these sizes and the largest: whether they hold
	coarse bool           // of many nodes only those of large subtrees are kept: what links the trees is shown otherwise
	kept   int
}

// Above so many nodes a coarse grove keeps only those over 256 entries and more. Any two trees that differ anywhere but in their last entries
// differ in such a one too.
const (
	mostNodes   = 1 << 18
	coarseLevel = 8
)

type shownTree struct {
	tlog.Tree

	name  string // of the first file that showed it
	nodes map[node]tlog.Hash
}

// growth is a proof of consistency that came with a checkpoint.
type growth struct {
	old   int64
	got   tlog.Tree
	proof []tlog.Hash
}

// show notes a tree; false: another root was shown at that size.
func (g *grove) show(name string, t tlog.Tree) (was tlog.Tree, same bool) {
	if g.trees == nil {
		g.trees, g.first = map[int64]*shownTree{}, map[node]*shownTree{}
	}
	known := g.trees[t.Size]
	if known == nil {
		known = &shownTree{t, name, map[node]tlog.Hash{}}
		g.trees[t.Size] = known
	}
	return known.Tree, known.Root == t.Root
}

// leaf notes the whole subtrees that a proof of inclusion names, which holds against the tree's root.
func (g *grove) leaf(t tlog.Tree, index int64, leaf tlog.Hash, proof []tlog.Hash) {
	known := g.trees[t.Size]
	if known == nil || known.Root != t.Root {
		return
	}
	// The siblings come from below; where a level ends without one on its right, the subtree goes up as it is.
	g.keep(known, index, index+1, leaf)
	h, at := leaf, index
	for level, rest := 0, proof; len(rest) > 0; level++ {
		switch {
		case at&1 == 1:
			g.keep(known, (at-1)<<level, at<<level, rest[0])
			h, rest = merkle.NodeHash(rest[0], h), rest[1:]
		case at < (t.Size-1)>>level:
			g.keep(known, (at+1)<<level, (at+2)<<level, rest[0])
			h, rest = merkle.NodeHash(h, rest[0]), rest[1:]
		}
		at >>= 1
		g.keep(known, at<<(level+1), (at+1)<<(level+1), h)
	}
}

// keep notes the hash over the entries of a tree from one to another, where they are a whole subtree.
func (g *grove) keep(t *shownTree, from, to int64, h tlog.Hash) {
	width := min(to, t.Size) - from
	if width&(width-1) != 0 {
		return
	}
	level := bits.TrailingZeros64(uint64(width)) //nolint:gosec // it is above zero
	if g.coarse && g.kept > mostNodes && level < coarseLevel {
		return
	}
	n := node{level, from >> level}
	t.nodes[n] = h
	g.kept++
	first := g.first[n]
	switch {
	case first == nil:
		g.first[n] = t
	case first.nodes[n] != h:
		g.contradicted(first, t)
	}
}

func (g *grove) contradicted(a, b *shownTree) {
	if a.Size > b.Size {
		a, b = b, a
	}
	if c := (contradiction{a, b}); !slices.Contains(g.broken, c) {
		g.broken = append(g.broken, c)
	}
}

// edge names the whole subtrees that a tree of that size is made of, the largest and leftmost first.
func edge(size int64) (list []node) {
	for from := int64(0); from < size; {
		level := bits.Len64(uint64(size-from)) - 1 //nolint:gosec // it is above zero
		list = append(list, node{level, from >> level})
		from += 1 << level
	}
	return list
}

// rootOf computes the root of a smaller tree from subtrees that are known of a larger one.
func rootOf(size int64, nodes map[node]tlog.Hash) (tlog.Hash, bool) {
	var parts []tlog.Hash
	for _, n := range edge(size) {
		h, ok := nodes[n]
		if !ok {
			return tlog.Hash{}, false
		}
		parts = append(parts, h)
	}
	if len(parts) == 0 {
		return tlog.EmptyTree().Root, true
	}
	root := parts[len(parts)-1]
	for i := len(parts) - 2; i >= 0; i-- {
		root = merkle.NodeHash(parts[i], root)
	}
	return root, true
}

// contradiction is that two trees cannot be of one history.
type contradiction struct{ smaller, larger *shownTree }

// link says which trees are shown to be one history with the largest, which is among them, and finds those that are not. What is known of a
// tree that is linked is known of the largest one: each tree is computed from all of that, and not from every other one by itself, of which
// there may be thousands.
func (g *grove) link() map[int64]bool {
	linked, sizes := map[int64]bool{}, g.sizes()
	if len(sizes) == 0 {
		return linked
	}
	known := map[node]tlog.Hash{}
	join := func(t *shownTree) {
		linked[t.Size] = true
		for n, h := range t.nodes {
			known[n] = h
		}
	}
	largest := g.trees[sizes[len(sizes)-1]]
	join(largest)
	for again := true; again; {
		again = false
		for _, size := range slices.Backward(sizes) {
			t := g.trees[size]
			if linked[size] {
				continue
			}
			root, ok := rootOf(size, known)
			switch {
			case ok && root != t.Root:
				g.contradicted(t, largest)
			case ok || g.proven[size] || g.grown(t, linked):
				join(t)
				again = true
			}
		}
	}
	return linked
}

// compare finds contradictions of the trees that nothing links with the largest one: each with all that are smaller.
func (g *grove) compare(linked map[int64]bool) {
	sizes := g.sizes()
	for i, more := range sizes {
		if linked[more] {
			continue
		}
		for _, size := range sizes[:i] {
			if root, ok := rootOf(size, g.trees[more].nodes); ok && root != g.trees[size].Root {
				g.contradicted(g.trees[size], g.trees[more])
			}
		}
	}
}

func (g *grove) sizes() (list []int64) {
	for size := range g.trees {
		list = append(list, size)
	}
	slices.Sort(list)
	return list
}

// grown says whether a proof of consistency shows a tree to be the beginning of one that is linked.
func (g *grove) grown(t *shownTree, linked map[int64]bool) bool {
	return slices.ContainsFunc(g.grew, func(p growth) bool {
		return p.old == t.Size && linked[p.got.Size] && g.trees[p.got.Size].Root == p.got.Root && tlog.CheckConsistency(p.proof, t.Tree, p.got) == nil
	})
}

func (c contradiction) String() string {
	return fmt.Sprintf("the log of %d entries, shown by %s, did not grow out of the one of %d, shown by %s: two histories were signed; keep both files, they are evidence", c.larger.Size, c.larger.name, c.smaller.Size, c.smaller.name)
}
