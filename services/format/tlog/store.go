package tlog

import (
	"context"
	"errors"
	"fmt"
)

// Store keeps tiles and bundles under the paths of tlog-tiles. It is write-once: what a path
// holds never changes, and tlogtest.Conform says so to every implementation.
type Store interface {
	// Get gives the bytes of a path; errors.Is(err, ErrNotFound) when there are none.
	Get(ctx context.Context, path string) ([]byte, error)
	// Put keeps bytes durably. The same bytes again are no error; other bytes are ErrConflict.
	Put(ctx context.Context, path string, data []byte) error
}

var (
	// ErrNotFound: the store has nothing under that path.
	ErrNotFound = errors.New("tlog: nothing is stored under that path")
	// ErrConflict: the path holds other bytes. Two histories of one log exist: a case for a
	// person, and never a reason to overwrite.
	ErrConflict = errors.New("tlog: other bytes are stored under that path already")
)

// read gives the bytes of a tile, from the full one when the partial one is gone.
// spec: C2SP-tiles §Partial Tiles (a partial tile may be deleted once the full one is there)
func read(ctx context.Context, s Store, t Tile) ([]byte, error) {
	data, err := s.Get(ctx, t.Path())
	if errors.Is(err, ErrNotFound) && t.Width < TileWidth {
		full := Tile{Level: t.Level, Index: t.Index, Width: TileWidth}
		whole, fullErr := s.Get(ctx, full.Path())
		if fullErr == nil {
			return cut(whole, t)
		}
		if !errors.Is(fullErr, ErrNotFound) {
			return nil, fmt.Errorf("tlog: read %s: %w", full.Path(), fullErr)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tlog: read %s: %w", t.Path(), err)
	}
	if t.Level != EntryLevel && len(data) != t.Width*HashSize {
		return nil, fmt.Errorf("tlog: %s has %d bytes, %d are expected", t.Path(), len(data), t.Width*HashSize)
	}
	return data, nil
}

// cut takes the first hashes or entries of a full tile.
func cut(whole []byte, t Tile) ([]byte, error) {
	if t.Level != EntryLevel {
		if len(whole) != TileWidth*HashSize {
			return nil, fmt.Errorf("tlog: the full tile of %s has %d bytes, %d are expected", t.Path(), len(whole), TileWidth*HashSize)
		}
		return whole[:t.Width*HashSize], nil
	}
	entries, err := ParseBundle(whole, TileWidth)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, e := range entries[:t.Width] {
		n += 2 + len(e)
	}
	return whole[:n], nil
}
