package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// FS is a store in a folder:
//
//	<dir>/tenants/<tenant>/<first two hex digits>/<hex sha256>
//	<dir>/incoming/         files being written; emptied at start
//
// A blob is written to incoming (on Linux to a file without a name), synced,
// given its final name with link(2) (which never replaces an existing file)
// and the folder is synced: after a power cut a name is either absent or
// complete.
type FS struct {
	dir      string
	linkable bool // files need no name before they are complete

	mu     sync.Mutex
	known  map[string]bool          // folders that exist and whose entry is on disk, but for
	leaves map[string]*[1 << 8]bool // those of the first two digits, by tenant: kept small, since there are 256 of each
}

var _ Store = (*FS)(nil)

// OpenFS prepares the folder (created if missing) and removes what an earlier
// process left half-written in it.
func OpenFS(dir string) (*FS, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("blob: folder %s: %w", dir, err)
	}
	s := &FS{dir: dir, known: map[string]bool{}, leaves: map[string]*[1 << 8]bool{}}
	if err := s.makeDir(s.incoming()); err != nil {
		return nil, fmt.Errorf("blob: folder %s cannot be used: %w (create it and give it to the user of this process)", dir, err)
	}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("blob: clear %s: %w", s.incoming(), err)
	}
	s.linkable = s.canLink()
	return s, nil
}

func (s *FS) incoming() string { return filepath.Join(s.dir, "incoming") }

// sweep removes files that no living process holds: those are the ones that
// are not locked by their age, since a blob is written within minutes. Several
// processes may share the folder, so young files are left alone.
func (s *FS) sweep() error {
	entries, err := os.ReadDir(s.incoming())
	if err != nil {
		return err
	}
	now, err := s.clock()
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if now.ModTime().Sub(info.ModTime()) > staleAfter {
			if err := os.Remove(filepath.Join(s.incoming(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// clock is the file system's idea of now: the one that file times are in, also
// when the folder is on another machine.
func (s *FS) clock() (fs.FileInfo, error) {
	f, err := os.CreateTemp(s.incoming(), "clock-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return f.Stat()
}

// Put stores data; see Store.
func (s *FS) Put(ctx context.Context, tenant string, data []byte) (Ref, error) {
	if err := checkTenant(tenant); err != nil {
		return Ref{}, err
	}
	ref := Of(tenant, data)
	if found, err := s.again(ref); err != nil || found {
		return ref, err
	}
	if err := ctx.Err(); err != nil {
		return Ref{}, err
	}
	return s.write(func(w io.Writer) (Ref, error) {
		if _, err := w.Write(data); err != nil {
			return Ref{}, unavailable(err, "be written")
		}
		return ref, nil
	})
}

// PutReader stores a stream; see Store.
func (s *FS) PutReader(ctx context.Context, tenant string, r io.Reader) (Ref, error) {
	if err := checkTenant(tenant); err != nil {
		return Ref{}, err
	}
	return s.write(func(w io.Writer) (Ref, error) {
		sum, src := sha256.New(), &source{ctx: ctx, r: r}
		size, err := io.Copy(io.MultiWriter(w, sum), src)
		if src.err != nil {
			return Ref{}, src.err // the caller's reader failed, not the store
		}
		if err != nil {
			return Ref{}, unavailable(err, "be written")
		}
		return Ref{Tenant: tenant, SHA256: [32]byte(sum.Sum(nil)), Size: size}, nil
	})
}

// holds reports whether the blob is there in full length. A file of another
// length can only be damage: it is reported, not papered over.
func (s *FS) holds(ref Ref) (bool, error) {
	info, err := os.Stat(s.path(ref))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, unavailable(err, "be read")
	case info.Size() != ref.Size:
		return false, corrupt(ref, fmt.Sprintf("the file has %d bytes", info.Size()))
	}
	return true, nil
}

// write makes a file of what fill writes, and names it as fill says.
func (s *FS) write(fill func(w io.Writer) (Ref, error)) (Ref, error) {
	tmp, link, err := s.create()
	if err != nil {
		return Ref{}, unavailable(err, "be written")
	}
	defer tmp.Close()
	if link == nil {
		link = func(path string) error { return os.Link(tmp.Name(), path) }
		defer os.Remove(tmp.Name())
	}

	ref, err := fill(tmp)
	if err != nil {
		return Ref{}, err
	}
	if err := errors.Join(tmp.Chmod(0o440), tmp.Sync()); err != nil {
		return Ref{}, unavailable(err, "be written")
	}
	return ref, s.name(link, ref)
}

// create opens a file to write to. link gives it a name; nil when it has one already, in incoming.
func (s *FS) create() (f *os.File, link func(path string) error, err error) {
	if s.linkable {
		f, err = nameless(s.incoming())
		if f != nil || err != nil {
			return f, func(path string) error { return linkNameless(f, path) }, err
		}
	}
	f, err = os.CreateTemp(s.incoming(), "put-*")
	return f, nil, err
}

// canLink tries whether files can do without a name until they are complete: file systems without
// O_TMPFILE and processes without /proc cannot.
func (s *FS) canLink() bool {
	f, err := nameless(s.incoming())
	if f == nil || err != nil {
		return false
	}
	defer f.Close()
	path := filepath.Join(s.incoming(), "try-"+rand.Text())
	defer os.Remove(path)
	return linkNameless(f, path) == nil
}

// name gives a complete, synced file its final name.
func (s *FS) name(link func(path string) error, ref Ref) error {
	path := s.path(ref)
	if err := s.linkTo(link, ref, path); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return unavailable(err, "be written")
	}
	return nil
}

// Open streams a blob; see Store.
func (s *FS) Open(_ context.Context, ref Ref) (io.ReadCloser, error) {
	if err := checkTenant(ref.Tenant); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(ref)
	}
	if err != nil {
		return nil, unavailable(err, "be read")
	}
	return verifying(ref, f, func(err error) error { return unavailable(err, "be read") }), nil
}

// Get reads a whole blob; see Store.
func (s *FS) Get(ctx context.Context, ref Ref) ([]byte, error) {
	r, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	return readAll(ref, r)
}

// Check writes and removes a small file, which notices a full, read-only or
// unmounted file system.
func (s *FS) Check(context.Context) error {
	f, err := os.CreateTemp(s.incoming(), "check-*")
	if err != nil {
		return unavailable(err, "be written")
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString("ceralacca")
	if err := errors.Join(err, f.Close()); err != nil {
		return unavailable(err, "be written")
	}
	return nil
}

func (s *FS) path(ref Ref) string {
	name := ref.Hex()
	return filepath.Join(s.dir, "tenants", ref.Tenant, name[:2], name)
}

// makeLeaf creates the folder that a blob is in, as makeDir does.
func (s *FS) makeLeaf(ref Ref) error {
	s.mu.Lock()
	known := s.leaves[ref.Tenant] != nil && s.leaves[ref.Tenant][ref.SHA256[0]]
	s.mu.Unlock()
	if known {
		return nil
	}
	folder := filepath.Dir(s.path(ref))
	if err := s.makeDir(filepath.Dir(folder)); err != nil {
		return err
	}
	if err := mkdirSynced(folder); err != nil {
		return err
	}
	s.mu.Lock()
	if s.leaves[ref.Tenant] == nil {
		s.leaves[ref.Tenant] = new([1 << 8]bool)
	}
	s.leaves[ref.Tenant][ref.SHA256[0]] = true
	s.mu.Unlock()
	return nil
}

// mkdirSynced creates a folder, unless it is there, and sees that its entry is on disk.
func mkdirSynced(path string) error {
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir creates a folder below dir with its parents and syncs each parent,
// so that the folder itself survives a power cut. Known folders cost nothing.
func (s *FS) makeDir(path string) error {
	s.mu.Lock()
	known := s.known[path]
	s.mu.Unlock()
	if known {
		return nil
	}
	if path != s.dir {
		if err := s.makeDir(filepath.Dir(path)); err != nil {
			return err
		}
		if err := mkdirSynced(path); err != nil {
			return err
		}
	} else if err := os.MkdirAll(path, 0o750); err != nil {
		return err
	}
	s.mu.Lock()
	s.known[path] = true
	s.mu.Unlock()
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
