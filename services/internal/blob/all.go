package blob

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// putting is how many blobs of one PutAll are written at the same time: each waits for the disk, which takes
// them together.
const putting = 16

// PutAll stores many blobs of one tenant, each as durably as Put, and gives their references in order. It is
// cheaper than as many Put, since what a disk does once for all is done once. After an error some are stored and
// some are not; doing it again is safe.
func PutAll(ctx context.Context, s Store, tenant string, list [][]byte) ([]Ref, error) {
	if f, ok := s.(*FS); ok && len(list) > 1 {
		return f.putAll(ctx, tenant, list)
	}
	refs := make([]Ref, len(list))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(putting)
	for i, data := range list {
		g.Go(func() (err error) {
			refs[i], err = s.Put(gctx, tenant, data)
			return err
		})
	}
	return refs, g.Wait()
}

// openAtOnce bounds the files that putAll holds open.
const openAtOnce = 128

// putAll writes and syncs the files, then names them, then syncs each folder once, not once for each file.
func (s *FS) putAll(ctx context.Context, tenant string, list [][]byte) ([]Ref, error) {
	if err := checkTenant(tenant); err != nil {
		return nil, err
	}
	refs := make([]Ref, 0, len(list))
	for some := range slices.Chunk(list, openAtOnce) {
		more, err := s.putSome(ctx, tenant, some)
		if err != nil {
			return nil, err
		}
		refs = append(refs, more...)
	}
	return refs, nil
}

// unnamed is a complete, synced file without its final name.
type unnamed struct {
	file *os.File
	link func(path string) error
	name string // in incoming, when it has one
}

func (u unnamed) close() {
	if u.file == nil {
		return
	}
	u.file.Close()
	if u.name != "" {
		os.Remove(u.name)
	}
}

func (s *FS) putSome(ctx context.Context, tenant string, list [][]byte) ([]Ref, error) {
	refs, files := make([]Ref, len(list)), make([]unnamed, len(list))
	defer func() {
		for _, u := range files {
			u.close()
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(putting)
	for i, data := range list {
		g.Go(func() error {
			refs[i] = Of(tenant, data)
			if found, err := s.again(refs[i]); err != nil || found {
				return err
			}
			if err := gctx.Err(); err != nil {
				return err
			}
			return s.fill(&files[i], data)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	folders := map[string]bool{}
	for i, u := range files {
		if u.file == nil {
			continue
		}
		path := s.path(refs[i])
		if err := s.linkTo(u.link, refs[i], path); err != nil {
			return nil, err
		}
		folders[filepath.Dir(path)] = true
	}
	var synced errgroup.Group
	synced.SetLimit(putting)
	for folder := range folders {
		synced.Go(func() error { return syncDir(folder) })
	}
	if err := synced.Wait(); err != nil {
		return nil, unavailable(err, "be written")
	}
	return refs, nil
}

// fill makes u a file of data, on disk but for its name.
func (s *FS) fill(u *unnamed, data []byte) error {
	f, link, err := s.create()
	if err != nil {
		return unavailable(err, "be written")
	}
	*u = unnamed{file: f, link: link}
	if link == nil {
		u.name = f.Name()
		u.link = func(path string) error { return os.Link(f.Name(), path) }
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o440)); err != nil {
		return unavailable(err, "be written")
	}
	if err := f.Sync(); err != nil {
		return unavailable(err, "be written")
	}
	return nil
}

// linkTo gives a complete, synced file its final name, which is on disk when its folder is synced.
func (s *FS) linkTo(link func(path string) error, ref Ref, path string) error {
	if err := s.makeLeaf(ref); err != nil {
		return unavailable(err, "be written")
	}
	for {
		err := link(path)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return unavailable(err, "be written")
		}
		// Somebody stored the same bytes first. Their directory entry may
		// not be on disk yet, so the folder is synced all the same.
		if found, err := s.again(ref); err != nil || found {
			return err
		} // and somebody else removed them meanwhile
	}
}
