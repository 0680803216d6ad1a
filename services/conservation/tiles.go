package conservation

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
)

// tileStore keeps the log's tiles in the database: in the transaction that also keeps the checkpoint, so
// that neither is ever there without the other.
type tileStore struct{ q *db.Queries }

var _ tlog.Store = tileStore{}

// Get implements tlog.Store.
func (t tileStore) Get(ctx context.Context, path string) ([]byte, error) {
	data, err := t.q.GetTile(ctx, path)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, tlog.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("conservation: tile %s: %w", path, err)
	}
	return data, nil
}

// Put implements tlog.Store. A full tile takes the place of its partial ones, whose bytes it begins with:
// readers of an older tree cut them from it. spec: C2SP-tiles §Partial Tiles
func (t tileStore) Put(ctx context.Context, path string, data []byte) error {
	n, err := t.q.PutTile(ctx, db.PutTileParams{Path: path, Data: data})
	if err != nil {
		return fmt.Errorf("conservation: write tile %s: %w", path, err)
	}
	if n == 0 {
		old, err := t.Get(ctx, path)
		if err != nil {
			return err
		}
		if !bytes.Equal(old, data) {
			return tlog.ErrConflict
		}
		return nil
	}
	return nil
}

// drop removes the partial tiles of a full one.
func (t tileStore) drop(ctx context.Context, full tlog.Tile) error {
	err := t.q.DropPartials(ctx, full.Path())
	if err != nil {
		return fmt.Errorf("conservation: drop partial tiles of %s: %w", full.Path(), err)
	}
	return nil
}

// thin drops the partial tiles of the tiles that became full between two sizes.
func (t tileStore) thin(ctx context.Context, from, to int64) error {
	for level := 0; to>>(8*level) > 0; level++ {
		for i := from >> (8 * (level + 1)); i < to>>(8*(level+1)); i++ {
			full := tlog.Tile{Level: level, Index: i, Width: tlog.TileWidth}
			err := t.drop(ctx, full)
			if err == nil && level == 0 {
				full.Level = tlog.EntryLevel
				err = t.drop(ctx, full)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
