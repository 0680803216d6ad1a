package vault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Folder is a vault on a file system:
//
//	<dir>/objects/<key>      mode 0440
//	<dir>/incoming/          files being written
//	<dir>/quarantine/<key>.<time>
//
// An object is written to incoming, synced, given its name with link(2), which never replaces a file, also
// between processes, and the folder is synced: after a power cut a name is absent or complete.
type Folder struct {
	dir  string
	now  func() time.Time
	disk disk

	mu    sync.Mutex
	ready bool
	known map[string]bool // folders that exist and whose entry is on disk
}

var _ Vault = (*Folder)(nil)

// staleAfter is the age at which a half-written file is nobody's any more.
const staleAfter = time.Hour

// OpenFolder names the folder. It must exist, and is looked at when it is first used: it is not made here,
// since a disk that is not mounted would then look like an empty vault.
func OpenFolder(dir string, now func() time.Time) (*Folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("vault: folder %s: %w", dir, err)
	}
	return &Folder{dir: dir, now: now, disk: system{}, known: map[string]bool{}}, nil
}

// prepare makes what the folder holds, once.
func (f *Folder) prepare() error {
	f.mu.Lock()
	ready := f.ready
	f.mu.Unlock()
	if ready {
		return nil
	}
	_, err := os.Stat(f.dir)
	for _, sub := range []string{"objects", "incoming", "quarantine"} {
		if err == nil {
			err = f.makeDir(filepath.Join(f.dir, sub))
		}
	}
	if err == nil {
		err = f.sweep()
	}
	if err != nil {
		return unavailable(err, "%s cannot be used: mount it, or make it once and give it to the user of this process", f)
	}
	f.mu.Lock()
	f.ready = true
	f.mu.Unlock()
	return nil
}

// sweep removes what processes that died left half-written. Young files may be another process's.
func (f *Folder) sweep() error {
	entries, err := os.ReadDir(filepath.Join(f.dir, "incoming"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		err = os.Remove(filepath.Join(f.dir, "incoming", e.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// String is the folder.
func (f *Folder) String() string { return "folder " + f.dir }

func (f *Folder) path(key string) string {
	return filepath.Join(f.dir, "objects", filepath.FromSlash(key))
}

// Put implements Vault.
func (f *Folder) Put(ctx context.Context, o Object, r io.ReaderAt, _ Lock) error {
	err := checkKey(o.Key)
	if err != nil {
		return err
	}
	err = f.prepare()
	if err != nil {
		return err
	}
	err = f.write(ctx, o, r)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	there := err != nil
	err = Verify(ctx, f, o)
	if there && Damaged(err) {
		return conflict(o.Key)
	}
	return err
}

// write gives the error fs.ErrExist when the key is taken.
func (f *Folder) write(ctx context.Context, o Object, r io.ReaderAt) error {
	tmp, err := f.disk.create(filepath.Join(f.dir, "incoming"), "put-*")
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	defer func() { _ = f.disk.remove(tmp.Name()) }() // what is left is swept
	defer tmp.Close()
	_, err = io.Copy(tmp, section(ctx, o, r))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	err = errors.Join(err, tmp.Chmod(0o440), tmp.Sync())
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	path := f.path(o.Key)
	err = f.makeDir(filepath.Dir(path))
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	linked := f.disk.link(tmp.Name(), path)
	if errors.Is(linked, fs.ErrNotExist) { // somebody removed a folder that was known: the disk is there, since incoming is
		f.forget()
		err = f.makeDir(filepath.Dir(path))
		if err != nil {
			return unavailable(err, "%s cannot be written", f)
		}
		linked = f.disk.link(tmp.Name(), path)
	}
	if linked != nil && !errors.Is(linked, fs.ErrExist) {
		return unavailable(linked, "%s cannot be written", f)
	}
	// Also when another was first: its entry may not be on disk yet.
	err = f.disk.syncDir(filepath.Dir(path))
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	return linked
}

// Open implements Vault.
func (f *Folder) Open(_ context.Context, o Object) (io.ReadCloser, error) {
	err := checkKey(o.Key)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(o.Key))
	if errors.Is(err, fs.ErrNotExist) {
		// The folder itself may be gone, such as a disk that is not mounted: then nothing is known of the object.
		_, missing := os.Stat(filepath.Join(f.dir, "objects"))
		if missing != nil {
			return nil, unavailable(missing, "%s cannot be read", f)
		}
		return nil, notFound(o.Key)
	}
	if err != nil {
		return nil, unavailable(err, "%s cannot be read", f)
	}
	return verifying(o, readingAhead(file), func(err error) error { return unavailable(err, "%s cannot be read", f) }), nil
}

// Replace implements Vault. Between the renaming and the new link the copy is missing, which the next check
// sees if the process dies there.
func (f *Folder) Replace(ctx context.Context, o Object, r io.ReaderAt, lock Lock) (string, error) {
	err := checkKey(o.Key)
	if err != nil {
		return "", err
	}
	quarantine := ""
	err = Verify(ctx, f, o)
	if err != nil {
		err = Judge(ctx, f, o, err)
	}
	switch {
	case err == nil:
		return "", nil // it is good
	case !Damaged(err):
		return "", err
	}
	if _, err = os.Lstat(f.path(o.Key)); err == nil {
		quarantine = "quarantine/" + o.Key + "." + f.now().UTC().Format("20060102T150405.000000000Z")
		to := filepath.Join(f.dir, filepath.FromSlash(quarantine))
		err = f.makeDir(filepath.Dir(to))
		if err == nil {
			err = f.disk.rename(f.path(o.Key), to)
		}
		if err == nil {
			err = errors.Join(f.disk.syncDir(filepath.Dir(to)), f.disk.syncDir(filepath.Dir(f.path(o.Key))))
		}
		if err != nil {
			return "", unavailable(err, "%s: the damaged copy of %s cannot be set aside", f, o.Key)
		}
	}
	return quarantine, f.Put(ctx, o, r, lock)
}

// List implements Vault.
func (f *Folder) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		f.walk(ctx, "", prefix, yield)
	}
}

// walk goes through a folder in the order of keys, in which "a-b" is before "a/b": folders sort with their slash.
func (f *Folder) walk(ctx context.Context, folder, prefix string, yield func(Entry, error) bool) bool {
	entries, err := os.ReadDir(filepath.Join(f.dir, "objects", filepath.FromSlash(folder)))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		yield(Entry{}, unavailable(err, "%s cannot be listed", f))
		return false
	}
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(name(a), name(b)) })
	for _, e := range entries {
		key := folder + name(e)
		if e.IsDir() {
			if (strings.HasPrefix(key, prefix) || strings.HasPrefix(prefix, key)) && !f.walk(ctx, key, prefix, yield) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			yield(Entry{}, unavailable(err, "%s cannot be listed", f))
			return false
		}
		if !yield(Entry{key, info.Size()}, nil) {
			return false
		}
	}
	return true
}

// Check writes and removes a small file, which notices a full, read-only or unmounted file system.
func (f *Folder) Check(context.Context) error {
	err := f.prepare()
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(f.dir, "objects"))
	if err != nil {
		return unavailable(err, "%s cannot be used", f)
	}
	tmp, err := os.CreateTemp(filepath.Join(f.dir, "incoming"), "check-*")
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString("ceralacca")
	err = errors.Join(err, tmp.Close())
	if err != nil {
		return unavailable(err, "%s cannot be written", f)
	}
	return nil
}

// makeDir creates a folder below dir with its parents, and syncs each parent. Known folders cost nothing.
func (f *Folder) makeDir(path string) error {
	f.mu.Lock()
	known := f.known[path]
	f.mu.Unlock()
	if known || path == f.dir {
		return nil
	}
	err := f.makeDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = f.disk.mkdir(path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = f.disk.syncDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	f.mu.Lock()
	full := len(f.known) >= maxKnown
	f.mu.Unlock()
	if full {
		f.forget()
	}
	f.mu.Lock()
	f.known[path] = true
	f.mu.Unlock()
	return nil
}

// maxKnown bounds the memory of folders: there is a new one of each tenant every day, and the process runs for years.
const maxKnown = 1 << 14

// forget forgets which folders exist, but for the vault's own: when these are gone, the disk is.
func (f *Folder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range []string{"objects", "incoming", "quarantine"} {
		f.known[filepath.Join(f.dir, sub)] = true
	}
	for path := range f.known {
		if filepath.Dir(path) != f.dir {
			delete(f.known, path)
		}
	}
}
