package eraser

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
)

// strays are the intake objects of a tenant that no row knows: an attempt to take documents in that fails or is killed between its
// writes and its commit leaves one, and is made again under another name. Documents lie in them that rows cannot lead to.
type strays struct {
	tenant string
	looked bool
	list   []stray
}

type stray struct {
	key   string
	sum   [sha256.Size]byte
	size  int64
	units []listed
	files map[[sha256.Size]byte]bool // digests of all that is in it, listed or not
	bad   error                      // it cannot be told what is in it
}

// listed is what units.jsonl says of a unit, as far as it matters here.
type listed struct {
	Key string `json:"key"`
}

const (
	strayPage = 500
	unitsList = "units.jsonl"
)

// look finds the strays of a tenant in every replica, once a run.
func (e *Eraser) look(ctx context.Context, found *strays) error {
	if found.looked {
		return nil
	}
	var keys []string // without a row when they were listed
	for _, r := range e.Replicas {
		for page, err := range pages(r.List(ctx, "tenants/"+found.tenant+"/intake/")) {
			if err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
			page, err = e.unnamed(ctx, found.tenant, page, false)
			if err != nil {
				return err
			}
			keys = append(keys, page...)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if len(keys) > 0 {
		var err error
		keys, err = e.unnamed(ctx, found.tenant, keys, true)
		if err != nil {
			return err
		}
	}
	for _, key := range keys {
		one, err := e.read(ctx, key)
		if err != nil {
			return err
		}
		found.list = append(found.list, one)
	}
	found.looked = true
	return nil
}

// unnamed are those of the keys that no row knows. settled: also not once every transaction has ended that was writing an object, as
// some of these may have been doing.
func (e *Eraser) unnamed(ctx context.Context, tenant string, keys []string, settled bool) ([]string, error) {
	var known []string
	err := e.DB.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if settled {
			err := q.AwaitObjects(ctx, tenant)
			if err != nil {
				return err
			}
		}
		var err error
		known, err = q.ObjectKeysKnown(ctx, keys)
		return err
	})
	return slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(known, key) }), err
}

func pages(keys iter.Seq2[string, error]) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		var page []string
		for key, err := range keys {
			if err != nil {
				yield(nil, err)
				return
			}
			page = append(page, key)
			if len(page) == strayPage {
				if !yield(page, nil) {
					return
				}
				page = nil
			}
		}
		if len(page) > 0 {
			yield(page, nil)
		}
	}
}

// read looks into a stray, in the first replica that has a copy which can be read.
func (e *Eraser) read(ctx context.Context, key string) (stray, error) {
	var said []error
	for _, r := range e.Replicas {
		held, err := r.Holds(ctx, key)
		if err != nil {
			return stray{}, fmt.Errorf("%s: %w", r, err)
		}
		if !held {
			continue
		}
		raw, err := r.Read(ctx, key)
		if ctx.Err() != nil {
			return stray{}, ctx.Err()
		}
		one := stray{key: key, sum: sha256.Sum256(raw), size: int64(len(raw)), files: map[[sha256.Size]byte]bool{}}
		if err == nil {
			err = one.open(raw)
		}
		if err == nil {
			return one, nil
		}
		said = append(said, fmt.Errorf("%s: %w", r, err))
	}
	return stray{key: key, bad: errors.Join(said...)}, nil
}

func (x *stray) open(raw []byte) error {
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return err
	}
	for _, f := range z.File {
		body, err := f.Open()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(body)
		if err = errors.Join(err, body.Close()); err != nil {
			return err
		}
		x.files[sha256.Sum256(content)] = true
		for lines := json.NewDecoder(bytes.NewReader(content)); f.Name == unitsList; {
			var u listed
			err = lines.Decode(&u)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			x.units = append(x.units, u)
		}
	}
	return nil
}

// of gives the strays that hold documents of a package. wait: one of them cannot be read, or holds documents of which there is no
// row; nothing is destroyed that may be the only copy of what is kept.
func (s *strays) of(ctx context.Context, q *db.Queries, pkg uuid.UUID) (left []stray, wait string, err error) {
	if len(s.list) == 0 {
		return nil, "", nil
	}
	// A restore may have made the row of one since.
	names := make([]string, 0, len(s.list))
	for _, x := range s.list {
		names = append(names, x.key)
	}
	known, err := q.ObjectKeysKnown(ctx, names)
	if err != nil {
		return nil, "", err
	}
	rows, err := q.KeysAndBytesOf(ctx, pkg)
	if err != nil {
		return nil, "", err
	}
	keys, files := map[string]bool{}, map[[sha256.Size]byte]bool{}
	for _, r := range rows {
		keys[r.UnitKey], files[[sha256.Size]byte(r.Sha256)] = true, true
	}
	for _, x := range s.list {
		if slices.Contains(known, x.key) {
			continue
		}
		if x.bad != nil {
			return nil, fmt.Sprintf("%s has no row and cannot be read, so that it may hold documents of the package: look at it by hand (%v)", x.key, fault.Of(x.bad).Error()), nil
		}
		holds := slices.ContainsFunc(x.units, func(u listed) bool { return keys[u.Key] })
		for sum := range x.files {
			holds = holds || files[sum]
		}
		if !holds {
			continue
		}
		lost, err := s.lost(ctx, q, x)
		if err != nil {
			return nil, "", err
		}
		if lost > 0 {
			return nil, fmt.Sprintf("%s has no row and holds documents of the package together with %d of which there is no row either: run check restore first", x.key, lost), nil
		}
		left = append(left, x)
	}
	return left, "", nil
}

// lost counts the units of a stray that no row knows and that were not destroyed.
func (s *strays) lost(ctx context.Context, q *db.Queries, x stray) (int, error) {
	open := map[string]bool{}
	for _, u := range x.units {
		open[u.Key] = true
	}
	var keys []string
	for key := range open {
		keys = append(keys, key)
	}
	known, err := q.KeysKnown(ctx, db.KeysKnownParams{Tenant: s.tenant, Keys: keys})
	if err != nil {
		return 0, err
	}
	gone, err := q.KeysDestroyed(ctx, db.KeysDestroyedParams{Tenant: s.tenant, Keys: keys})
	if err != nil {
		return 0, err
	}
	for _, key := range known {
		delete(open, key)
	}
	for _, k := range gone {
		delete(open, k.UnitKey)
	}
	return len(open), nil
}
