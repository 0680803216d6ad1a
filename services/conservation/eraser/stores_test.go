package eraser_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/eraser"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

func write(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
	require.NoError(t, os.WriteFile(path, []byte("secret"), 0o440))
}

// TestFolder: every copy of an object goes, those that were set apart too, and nothing else; twice is as good as once.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	s, key := eraser.Folder{Dir: dir}, "tenants/acme/packages/1.zip"
	_, err := s.Holds(t.Context(), key)
	require.Equal(t, "VAULT_UNAVAILABLE", fault.Of(err).Code, "a disk that is not mounted is no empty one")
	copies := []string{filepath.Join(dir, "objects", key), filepath.Join(dir, "quarantine", key+".20260101T000000.000000000Z")}
	others := []string{filepath.Join(dir, "objects", key+"x"), filepath.Join(dir, "quarantine", "tenants/acme/packages/11.zip.2026")}
	for _, path := range append(copies, others...) {
		write(t, path)
	}
	held, err := s.Holds(t.Context(), key)
	require.NoError(t, err)
	require.True(t, held)
	for range 2 {
		require.NoError(t, s.Destroy(t.Context(), key))
	}
	held, err = s.Holds(t.Context(), key)
	require.NoError(t, err)
	require.False(t, held)
	for _, path := range copies {
		require.NoFileExists(t, path)
	}
	for _, path := range others {
		require.FileExists(t, path)
	}
	require.Equal(t, "KEY_INVALID", fault.Of(s.Destroy(t.Context(), "../../etc/passwd")).Code)
}

// listed gives the keys below a prefix.
func listed(t *testing.T, r eraser.Replica, prefix string) (keys []string) {
	t.Helper()
	for key, err := range r.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, key)
	}
	return keys
}

// TestFolderList: what lies in a folder is listed by its keys and read as it is; what was set apart is not, and a disk that is not
// mounted is no empty one.
func TestFolderList(t *testing.T) {
	dir := t.TempDir()
	s := eraser.Folder{Dir: dir}
	for _, err := range s.List(t.Context(), "tenants/acme/intake/") {
		require.Equal(t, "VAULT_UNAVAILABLE", fault.Of(err).Code)
	}
	want := []string{"tenants/acme/intake/2026-01-01/1.zip", "tenants/acme/intake/2026-01-02/2.zip"}
	for _, key := range append([]string{"tenants/acme/packages/3.zip", "tenants/beta/intake/2026-01-01/4.zip"}, want...) {
		write(t, filepath.Join(dir, "objects", key))
	}
	write(t, filepath.Join(dir, "quarantine", want[0]+".20260101T000000.000000000Z"))
	require.Equal(t, want, listed(t, s, "tenants/acme/intake/"))
	require.Empty(t, listed(t, s, "tenants/gamma/intake/"))
	for key := range s.List(t.Context(), "") {
		require.NotEmpty(t, key)
		break
	}
	raw, err := s.Read(t.Context(), want[0])
	require.NoError(t, err)
	require.Equal(t, "secret", string(raw))
	_, err = s.Read(t.Context(), "tenants/acme/intake/none.zip")
	require.Equal(t, "VAULT_UNAVAILABLE", fault.Of(err).Code)
	_, err = s.Read(t.Context(), "../../etc/passwd")
	require.Equal(t, "KEY_INVALID", fault.Of(err).Code)
}

// TestBlobs: one blob by tenant and digest.
func TestBlobs(t *testing.T) {
	dir, sum := t.TempDir(), strings.Repeat("ab", 32)
	s := eraser.BlobFolder{Dir: dir}
	write(t, filepath.Join(dir, "tenants", "acme", "ab", sum))
	write(t, filepath.Join(dir, "tenants", "beta", "ab", sum))
	for range 2 {
		require.NoError(t, s.Destroy(t.Context(), "acme/"+sum))
	}
	for tenant, want := range map[string]bool{"acme": false, "beta": true} {
		held, err := s.Holds(t.Context(), tenant+"/"+sum)
		require.NoError(t, err)
		require.Equal(t, want, held, tenant)
	}
	for _, key := range []string{"acme", "../" + sum, "acme/../" + sum[:61], "acme/" + sum + "0"} {
		require.Equal(t, "KEY_INVALID", fault.Of(s.Destroy(t.Context(), key)).Code, key)
	}
}

// TestErase: what lies as it did when it was asked for goes, also when the program was ended in the middle; what was stored again
// since stays, with its bytes.
func TestErase(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	store, err := blob.OpenFS(dir)
	require.NoError(t, err)
	s := eraser.BlobFolder{Dir: dir}
	put := func(text string) (ref blob.Ref, key, path string) {
		ref, err := store.Put(ctx, "acme", []byte(text))
		require.NoError(t, err)
		return ref, "acme/" + ref.Hex(), filepath.Join(dir, "tenants", "acme", ref.Hex()[:2], ref.Hex())
	}
	mark := func(ref blob.Ref) string {
		m, err := store.Mark(ctx, ref)
		require.NoError(t, err)
		require.GreaterOrEqual(t, m.Age, time.Duration(0))
		return m.Text
	}
	erase := func(key, mark string) bool {
		changed, err := s.Erase(ctx, key, mark)
		require.NoError(t, err)
		return changed
	}
	ref, key, path := put("gone")
	was := mark(ref)
	require.False(t, erase(key, was))
	require.False(t, erase(key, was), "what is gone is gone")
	_, err = store.Mark(ctx, ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)

	put("gone")
	require.True(t, erase(key, was), "stored anew")
	was = mark(ref)
	_, err = store.PutReader(ctx, "acme", strings.NewReader("gone"))
	require.NoError(t, err)
	require.NotEqual(t, was, mark(ref), "every Put changes the mark")
	require.True(t, erase(key, was), "stored again where it lay")
	_, err = blob.PutAll(ctx, store, "acme", [][]byte{[]byte("gone"), []byte("another")})
	require.NoError(t, err)
	require.True(t, erase(key, was))
	require.FileExists(t, path)

	for _, anew := range []bool{false, true} { // ended after the file was moved aside
		was = mark(ref)
		require.NoError(t, os.Rename(path, path+".going"))
		if anew {
			put("gone")
		}
		require.Equal(t, anew, erase(key, was))
		require.NoFileExists(t, path+".going")
		_, err = store.Get(ctx, ref)
		require.Equal(t, anew, err == nil)
		put("gone")
	}
	require.NoError(t, os.Rename(path, path+".going"))
	require.True(t, erase(key, "earlier"), "it was stored again before it was moved")
	_, err = store.Get(ctx, ref)
	require.NoError(t, err)
	_, err = s.Erase(ctx, "acme/../x", was)
	require.Equal(t, "KEY_INVALID", fault.Of(err).Code)
}
