package blob_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/blob/blobtest"
	"ceralacca.dev/services/internal/fault"
)

func pathOf(dir string, ref blob.Ref) string {
	return filepath.Join(dir, "tenants", ref.Tenant, ref.Hex()[:2], ref.Hex())
}

func TestFS(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.OpenFS(dir)
	require.NoError(t, err)
	blobtest.Run(t, s, func(t *testing.T, ref blob.Ref, data []byte) {
		t.Helper()
		require.NoError(t, os.Remove(pathOf(dir, ref)))
		require.NoError(t, os.WriteFile(pathOf(dir, ref), data, 0o600))
	})
	left, err := os.ReadDir(filepath.Join(dir, "incoming"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing half-written stays behind")
}

// TestFSNotices: writing again a blob whose file was truncated is an error and
// not a silent success.
func TestFSNotices(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.OpenFS(dir)
	require.NoError(t, err)
	data := []byte("some evidence")
	ref, err := s.Put(t.Context(), "t1", data)
	require.NoError(t, err)
	info, err := os.Stat(pathOf(dir, ref))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o222, "stored files are not writable")
	require.NoError(t, os.Remove(pathOf(dir, ref)))
	require.NoError(t, os.WriteFile(pathOf(dir, ref), data[:4], 0o600))
	_, err = s.Put(t.Context(), "t1", data)
	require.Equal(t, "BLOB_CORRUPT", fault.Of(err).Code)
	_, err = s.PutReader(t.Context(), "t1", bytes.NewReader(data))
	require.Equal(t, "BLOB_CORRUPT", fault.Of(err).Code)
}

// TestFSStart: old half-written files go, young ones (of another process) stay,
// a folder that cannot be used is an error that names it.
func TestFSStart(t *testing.T) {
	dir := t.TempDir()
	_, err := blob.OpenFS(dir)
	require.NoError(t, err)
	old, young := filepath.Join(dir, "incoming", "put-old"), filepath.Join(dir, "incoming", "put-young")
	require.NoError(t, os.WriteFile(old, nil, 0o600))
	require.NoError(t, os.WriteFile(young, nil, 0o600))
	require.NoError(t, os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)))
	_, err = blob.OpenFS(dir)
	require.NoError(t, err)
	require.NoFileExists(t, old)
	require.FileExists(t, young)

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = blob.OpenFS(filepath.Join(file, "below"))
	require.ErrorContains(t, err, file)
}

func TestFSCheck(t *testing.T) {
	dir := t.TempDir()
	s, err := blob.OpenFS(dir)
	require.NoError(t, err)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, os.RemoveAll(dir))
	err = s.Check(t.Context())
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
	_, err = s.Put(t.Context(), "t1", []byte("x"))
	require.Equal(t, fault.KindUnavailable, fault.Of(err).Kind)
}

func TestURI(t *testing.T) {
	ref := blob.Of("acme-1", []byte("abc"))
	require.Equal(t, "blob:tenants/acme-1/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad?size=3", ref.URI())
	got, err := blob.ParseURI(ref.URI())
	require.NoError(t, err)
	require.Equal(t, ref, got)
	for _, bad := range []string{
		"", "blob:", "http://x", ref.URI() + "0x", "blob:tenants//" + ref.Hex() + "?size=3",
		"blob:tenants/../" + ref.Hex() + "?size=3", "blob:tenants/t1/" + ref.Hex(), "blob:tenants/t1/" + ref.Hex()[:60] + "?size=3",
		"blob:tenants/t1/" + ref.Hex() + "?size=-1", "blob:tenants/t1/" + ref.Hex() + "?size=03",
		"blob:tenants/t1/BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad?size=3",
	} {
		_, err := blob.ParseURI(bad)
		require.Equal(t, "BLOB_URI_INVALID", fault.Of(err).Code, "%q", bad)
	}
}

// FuzzParseURI: whatever is accepted is written back the same.
func FuzzParseURI(f *testing.F) {
	f.Add(blob.Of("t1", []byte("abc")).URI())
	f.Add("blob:tenants/t1/00?size=1")
	f.Add("blob:tenants/../../etc?size=1")
	f.Fuzz(func(t *testing.T, uri string) {
		ref, err := blob.ParseURI(uri)
		if err == nil && ref.URI() != uri {
			t.Fatalf("%q was read as %q", uri, ref.URI())
		}
	})
}

// BenchmarkFSPut is what a document costs on disk, syncs included: alone, and
// among others, where the file system's journal serves many syncs at once.
func BenchmarkFSPut(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, err := blob.OpenFS(b.TempDir())
			require.NoError(b, err)
			var next atomic.Uint32
			b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			put := func() {
				data := make([]byte, 8<<10)
				binary.LittleEndian.PutUint32(data, next.Add(1))
				if _, err := s.Put(b.Context(), "t1", data); err != nil {
					b.Error(err)
				}
			}
			if writers == 1 {
				for range b.N {
					put()
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put()
				}
			})
		})
	}
}
