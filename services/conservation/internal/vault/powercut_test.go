package vault

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forgetful is a disk that has what POSIX promises after a power cut and no more: the bytes of a file as of its last fsync, and the
// names in a folder as of the folder's last fsync. Of what was done since, any part may have reached the disk, in any order; a file
// whose bytes had not may be empty, cut off, or full of zeros. A rename is on disk wholly or not at all, as journaling file systems
// have it. It shows what follows from the calls that the vault makes and from that promise, and nothing about a disk that lies when
// it is asked to sync.
type forgetful struct {
	system
	root    string
	deaf    string              // "files" or "folders": such syncs do nothing, for the test of the test
	files   map[string]*content // by inode, which is the first name
	inode   map[string]string   // name -> inode, as processes see it
	durable map[string]string   // name -> inode, on disk for certain; folders have the inode "/"
	loose   []change            // since
	cut     func()              // called after each call
}

type content struct{ now, synced []byte }

// change is what happened to names; all of it is on disk, or nothing.
type change struct {
	add    map[string]string
	remove []string
}

func (d *forgetful) did(c change) {
	d.loose = append(d.loose, c)
	d.cut()
}

func (d *forgetful) rel(path string) string {
	rel, err := filepath.Rel(d.root, path)
	if err != nil {
		panic(err)
	}
	return rel
}

func (d *forgetful) create(dir, pattern string) (written, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	name := d.rel(f.Name())
	d.files[name], d.inode[name] = &content{}, name
	d.did(change{add: map[string]string{name: name}})
	return &forgetfulFile{f, d, d.files[name]}, nil
}

func (d *forgetful) mkdir(path string) error {
	err := d.system.mkdir(path)
	if err == nil {
		d.inode[d.rel(path)] = "/"
		d.did(change{add: map[string]string{d.rel(path): "/"}})
	}
	return err
}

func (d *forgetful) link(from, to string) error {
	err := d.system.link(from, to)
	if err == nil {
		d.inode[d.rel(to)] = d.inode[d.rel(from)]
		d.did(change{add: map[string]string{d.rel(to): d.inode[d.rel(from)]}})
	}
	return err
}

func (d *forgetful) rename(from, to string) error {
	err := d.system.rename(from, to)
	if err == nil {
		c := change{add: map[string]string{d.rel(to): d.inode[d.rel(from)]}, remove: []string{d.rel(from)}}
		d.inode[d.rel(to)] = d.inode[d.rel(from)]
		delete(d.inode, d.rel(from))
		d.did(c)
	}
	return err
}

func (d *forgetful) remove(path string) error {
	err := d.system.remove(path)
	if err == nil {
		delete(d.inode, d.rel(path))
		d.did(change{remove: []string{d.rel(path)}})
	}
	return err
}

func (d *forgetful) syncDir(path string) error {
	if d.deaf == "folders" {
		return nil
	}
	dir := d.rel(path)
	here := func(name string) bool { return filepath.Dir(name) == dir }
	d.loose = slices.DeleteFunc(d.loose, func(c change) bool {
		if !slices.ContainsFunc(c.remove, here) && !slices.ContainsFunc(slices.Collect(maps.Keys(c.add)), here) {
			return false
		}
		c.apply(d.durable)
		return true
	})
	d.cut()
	return d.system.syncDir(path)
}

func (c change) apply(names map[string]string) {
	for _, name := range c.remove {
		delete(names, name)
	}
	maps.Copy(names, c.add)
}

// forgetfulFile has no method but those of written: io.Copy would find the system's own way round Write.
type forgetfulFile struct {
	f *os.File
	d *forgetful
	c *content
}

// Name, Chmod and Close implement written.
func (f *forgetfulFile) Name() string                 { return f.f.Name() }
func (f *forgetfulFile) Chmod(mode os.FileMode) error { return f.f.Chmod(mode) }
func (f *forgetfulFile) Close() error                 { return f.f.Close() }

// Write implements written. Pieces are small, so that cuts come between them.
func (f *forgetfulFile) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var m int
		m, err = f.f.Write(p[:min(len(p), 1000)])
		f.c.now = append(f.c.now, p[:m]...)
		n, p = n+m, p[m:]
		f.d.cut()
	}
	return n, err
}

// Sync implements written.
func (f *forgetfulFile) Sync() error {
	if f.d.deaf == "files" {
		return nil
	}
	f.c.synced = bytes.Clone(f.c.now)
	f.d.cut()
	return f.f.Sync()
}

// after makes the folder that a machine may find when power is back. With keep 0 nothing is there that was not synced, with 1 all names
// are; what is between is chance.
func (d *forgetful) after(dir string, keep float64, r *rand.Rand) error {
	names := maps.Clone(d.durable)
	for _, c := range d.loose {
		if r.Float64() < keep {
			c.apply(names)
		}
	}
	bytesOf := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] == "/" {
			continue
		}
		if _, lost := names[filepath.Dir(name)]; !lost && filepath.Dir(name) != "." {
			continue // the folder that holds the name is not there
		}
		c := d.files[names[name]]
		if _, made := bytesOf[names[name]]; !made {
			raw := bytes.Clone(c.synced)
			if rest := c.now[min(len(c.now), len(c.synced)):]; len(rest) > 0 {
				raw = append(raw, [][]byte{nil, rest[:r.IntN(len(rest)+1)], make([]byte, len(rest))}[r.IntN(3)]...)
			}
			bytesOf[names[name]] = raw
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] == "/" {
			err := os.MkdirAll(filepath.Join(dir, name), 0o750)
			if err != nil {
				return err
			}
		}
	}
	for name, inode := range names {
		raw, there := bytesOf[inode]
		if !there {
			continue
		}
		err := os.WriteFile(filepath.Join(dir, name), raw, 0o600)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

var cutObjects = func() (list []Object, bodies map[string][]byte) {
	bodies = map[string][]byte{}
	for i, key := range []string{"t/2026/a.zip", "t/2026/b.zip", "u/c.zip"} {
		raw := bytes.Repeat([]byte{byte('a' + i)}, 2500)
		bodies[key] = raw
		list = append(list, Object{Key: key, SHA256: sha256.Sum256(raw), Size: int64(len(raw))})
	}
	return list, bodies
}

// cuts does the vault's work on a forgetful disk and looks, after each call, at what a machine may find whose power was cut there.
// It gives what it found wrong.
func cuts(t *testing.T, deaf string, seed uint64) (wrong []string, looked int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 40))
	root := t.TempDir()
	d := &forgetful{root: root, deaf: deaf, files: map[string]*content{}, inode: map[string]string{}, durable: map[string]string{}}
	objects, bodies := cutObjects()
	told := map[string]bool{} // of what Put has said that it is kept
	replacing := ""
	d.cut = func() {
		for _, keep := range []float64{0, 0.5, 1} {
			looked++
			dir, err := os.MkdirTemp(t.TempDir(), "after-*")
			require.NoError(t, err)
			require.NoError(t, d.after(dir, keep, r))
			v, err := OpenFolder(dir, time.Now)
			require.NoError(t, err)
			require.NoError(t, v.Check(t.Context()))
			for _, o := range objects {
				err := Verify(t.Context(), v, o)
				_, statErr := os.Lstat(v.path(o.Key))
				switch {
				case err == nil || o.Key == replacing:
				case told[o.Key]:
					wrong = append(wrong, fmt.Sprintf("%s was kept and is lost: %v", o.Key, err))
				case statErr == nil:
					wrong = append(wrong, fmt.Sprintf("%s is there and is not whole: %v", o.Key, err))
				}
				if deaf == "" && r.IntN(6) == 0 {
					_, err = v.Replace(t.Context(), o, bytes.NewReader(bodies[o.Key]), Lock{})
					require.NoError(t, err, "it can be written after the cut")
					require.NoError(t, Verify(t.Context(), v, o))
				}
			}
			if replacing != "" {
				require.True(t, evidenceLeft(t, dir), "the damaged copy is kept where it was or set aside")
			}
			require.NoError(t, os.RemoveAll(dir))
		}
	}
	v, err := OpenFolder(root, time.Now)
	require.NoError(t, err)
	v.disk = d
	for _, o := range objects {
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(bodies[o.Key]), Lock{}))
		told[o.Key] = true
		d.cut()
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(bodies[o.Key]), Lock{}), "again")
	}
	if deaf != "" {
		return wrong, looked
	}
	// A copy goes bad and is made again.
	bad := objects[1].Key
	path := filepath.Join("objects", filepath.FromSlash(bad))
	d.files[d.inode[path]].now[7], d.files[d.inode[path]].synced[7] = 'X', 'X'
	require.NoError(t, os.Chmod(v.path(bad), 0o600))
	require.NoError(t, os.WriteFile(v.path(bad), d.files[d.inode[path]].now, 0o600))
	replacing = bad
	where, err := v.Replace(t.Context(), objects[1], bytes.NewReader(bodies[bad]), Lock{})
	require.NoError(t, err)
	require.NotEmpty(t, where)
	replacing = ""
	d.cut()
	return wrong, looked
}

// evidenceLeft says whether the damaged bytes are anywhere.
func evidenceLeft(t *testing.T, dir string) bool {
	t.Helper()
	found := false
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.Contains(path, "incoming") {
			return err
		}
		raw, err := os.ReadFile(path)
		found = found || (len(raw) > 7 && raw[7] == 'X')
		return err
	}))
	return found
}

// Test40_PowerCut: wherever the power is cut, what was said to be kept is kept, a name stands for whole bytes or is not there, and the
// work can be done again. On a disk that does not do what it is told when it is asked to sync, this same look finds losses.
func Test40_PowerCut(t *testing.T) {
	t.Parallel()
	wrong, looked := cuts(t, "", rand.Uint64())
	require.Empty(t, wrong)
	require.Greater(t, looked, 100)
	for _, deaf := range []string{"files", "folders"} {
		wrong, _ := cuts(t, deaf, 1)
		require.NotEmpty(t, wrong, "without syncs of %s", deaf)
	}
}
