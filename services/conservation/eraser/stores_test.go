package eraser_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/eraser"
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

// TestBlobs: one blob by tenant and digest.
func TestBlobs(t *testing.T) {
	dir, sum := t.TempDir(), strings.Repeat("ab", 32)
	s := eraser.Blobs{Dir: dir}
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
