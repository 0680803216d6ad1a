package tlog

import (
	"context"
	"errors"
	"fmt"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// Log appends entries to a store. It keeps the right edge of the tree only: at most 255 hashes a
// level and the entries of the last, unfinished bundle, whatever the size of the log.
// It is for one writer; a Log is not safe for concurrent use.
type Log struct {
	store  Store
	size   int64
	edge   [][]byte // per level, the hashes of the unfinished tile
	bundle []byte   // of the unfinished bundle
	saved  []Tile   // per level, the partial tile that Commit wrote last
	err    error    // a write failed: what the store holds is not known
}

// Open takes up a log where tree, the one of its last checkpoint, ended. The right edge is read
// and must give tree's root. The empty tree begins a new log.
//
// The order of entries must be settled durably before they are appended: after a crash the same
// entries have to be appended again in the same order, which writes the same tiles. Other
// entries in their place meet ErrConflict.
func Open(ctx context.Context, s Store, tree Tree) (*Log, error) {
	if tree.Size < 0 {
		return nil, fmt.Errorf("tlog: open: size %d is negative", tree.Size)
	}
	l := &Log{store: s, size: tree.Size}
	for level := 0; tree.Size>>(tileHeight*level) > 0; level++ {
		var hashes []byte
		if t, ok := tileAt(level, tree.Size>>(tileHeight*level)/TileWidth, tree.Size); ok {
			data, err := read(ctx, s, t)
			if err != nil {
				return nil, err
			}
			hashes = append(hashes, data...)
			l.saved = append(l.saved, t)
		} else {
			l.saved = append(l.saved, Tile{})
		}
		l.edge = append(l.edge, hashes)
	}
	if root := l.root(); root != tree.Root {
		return nil, fmt.Errorf("tlog: open: the stored tiles give root %s at size %d, the checkpoint says %s: "+
			"the store was rolled back or changed; do not write to it", root, tree.Size, tree.Root)
	}
	if err := l.openBundle(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) openBundle(ctx context.Context) error {
	t, ok := tileAt(EntryLevel, l.size/TileWidth, l.size)
	if !ok {
		return nil
	}
	data, err := read(ctx, l.store, t)
	if err != nil {
		return err
	}
	entries, err := ParseBundle(data, t.Width)
	if err != nil {
		return err
	}
	for i, e := range entries {
		if LeafHash(e) != Hash(l.edge[0][i*HashSize:(i+1)*HashSize]) {
			return fmt.Errorf("tlog: open: entry %d of the stored bundle is not the one in the tree", l.size/TileWidth*TileWidth+int64(i))
		}
	}
	l.bundle = append(l.bundle, data...)
	return nil
}

// Size is the number of entries, committed or not.
func (l *Log) Size() int64 { return l.size }

// Append adds an entry and gives its index. Tiles that become full are written at once; the
// entry is in the log for others when Commit has returned and its tree is signed.
// Errors: an inadmissible entry (the log is unchanged), or the store's, after which the log
// must be opened again.
func (l *Log) Append(ctx context.Context, entry []byte) (int64, error) {
	if l.err != nil {
		return 0, fmt.Errorf("tlog: open the log again, since an earlier write failed: %w", l.err)
	}
	if l.size == 1<<62 {
		return 0, errors.New("tlog: the log is full")
	}
	bundle, err := AppendEntry(l.bundle, entry)
	if err != nil {
		return 0, err
	}
	l.bundle = bundle
	at := l.size
	if at%TileWidth == TileWidth-1 {
		if err := l.put(ctx, Tile{Level: EntryLevel, Index: at / TileWidth, Width: TileWidth}, l.bundle); err != nil {
			return 0, err
		}
		l.bundle = make([]byte, 0, len(l.bundle)) // stores may keep what they are given
	}
	if err := l.push(ctx, LeafHash(entry)); err != nil {
		return 0, err
	}
	return at, nil
}

// push adds a leaf hash and whatever it completes above.
func (l *Log) push(ctx context.Context, h Hash) error {
	l.size++
	for level := 0; ; level++ {
		if level == len(l.edge) {
			l.edge = append(l.edge, nil)
			l.saved = append(l.saved, Tile{})
		}
		l.edge[level] = append(l.edge[level], h[:]...)
		if len(l.edge[level]) < TileWidth*HashSize {
			return nil
		}
		full := l.edge[level]
		index := l.size>>(tileHeight*(level+1)) - 1
		if err := l.put(ctx, Tile{Level: level, Index: index, Width: TileWidth}, full); err != nil {
			return err
		}
		h = foldTile(full)
		l.edge[level] = make([]byte, 0, len(full))
	}
}

func (l *Log) put(ctx context.Context, t Tile, data []byte) error {
	if err := l.store.Put(ctx, t.Path(), data); err != nil {
		l.err = fmt.Errorf("tlog: write %s: %w", t.Path(), err)
		return l.err
	}
	return nil
}

// Commit writes the partial tiles and gives the tree to be signed. A checkpoint must not be
// published before Commit has returned. spec: C2SP-tiles §Partial Tiles
func (l *Log) Commit(ctx context.Context) (Tree, error) {
	if l.err != nil {
		return Tree{}, fmt.Errorf("tlog: open the log again, since an earlier write failed: %w", l.err)
	}
	for level, hashes := range l.edge {
		t := Tile{Level: level, Index: l.size >> (tileHeight * (level + 1)), Width: len(hashes) / HashSize}
		if len(hashes) == 0 || l.saved[level] == t {
			continue
		}
		if level == 0 {
			b := Tile{Level: EntryLevel, Index: t.Index, Width: t.Width}
			if err := l.put(ctx, b, append([]byte(nil), l.bundle...)); err != nil {
				return Tree{}, err
			}
		}
		if err := l.put(ctx, t, append([]byte(nil), hashes...)); err != nil {
			return Tree{}, err
		}
		l.saved[level] = t
	}
	return Tree{Size: l.size, Root: l.root()}, nil
}

// root folds the right edge, from the last leaf upwards. spec: RFC6962 §2.1
func (l *Log) root() Hash {
	var acc Hash
	empty := true
	for _, hashes := range l.edge {
		for w := len(hashes) / HashSize; w > 0; w &= w - 1 {
			k := w & -w // the rightmost perfect subtree has this many hashes
			sub := foldTile(hashes[(w-k)*HashSize : w*HashSize])
			if empty {
				acc, empty = sub, false
			} else {
				acc = merkle.NodeHash(sub, acc)
			}
		}
	}
	if empty {
		return EmptyTree().Root
	}
	return acc
}
