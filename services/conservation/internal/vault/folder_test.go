package vault_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	suite(t, v, func(t *testing.T, key string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, "objects", key)
		require.NoError(t, os.Remove(path))
		if data != nil {
			require.NoError(t, os.WriteFile(path, data, 0o600))
		}
	})
}

// Test37_QuarantineKeepsTheDamagedCopy: what was damaged is evidence, and is not deleted by its repair.
func Test37_QuarantineKeepsTheDamagedCopy(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	data, bad := []byte("the good bytes"), []byte("the bad bytes.")
	o := object("t/x.zip", data)
	require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{Until: someday}))
	path := filepath.Join(dir, "objects", "t", "x.zip")
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, bad, 0o600))
	where, err := v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{})
	require.NoError(t, err)
	kept, err := os.ReadFile(filepath.Join(dir, where))
	require.NoError(t, err)
	require.Equal(t, bad, kept)
	require.Equal(t, data, read(t, v, o))
}

// TestFolderGone: a disk that is not mounted is no lost object.
func TestFolderGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	data := []byte("x")
	o := object("x", data)
	require.Equal(t, "VAULT_UNAVAILABLE", code(v.Check(t.Context())), "it is not made by itself")
	require.NoError(t, os.Mkdir(dir, 0o750))
	require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{}))
	require.NoError(t, os.Rename(dir, dir+".away"))
	require.Equal(t, "VAULT_UNAVAILABLE", code(v.Check(t.Context())))
	require.Equal(t, "VAULT_UNAVAILABLE", code(vault.Verify(t.Context(), v, o)))
	require.Equal(t, "VAULT_UNAVAILABLE", code(v.Put(t.Context(), object("y", data), bytes.NewReader(data), vault.Lock{})))
	_, err = v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{})
	require.Equal(t, "VAULT_UNAVAILABLE", code(err))
	for _, err := range v.List(t.Context(), "") {
		require.Equal(t, "VAULT_UNAVAILABLE", code(err))
	}
	require.NoError(t, os.Rename(dir+".away", dir))
	require.NoError(t, vault.Verify(t.Context(), v, o))
}

// TestFolderSweep: what a dead process left half-written goes, what is being written stays.
func TestFolderSweep(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, v.Check(t.Context()))
	old, young := filepath.Join(dir, "incoming", "put-old"), filepath.Join(dir, "incoming", "put-young")
	for _, name := range []string{old, young} {
		require.NoError(t, os.WriteFile(name, []byte("half"), 0o600))
	}
	require.NoError(t, os.Chtimes(old, time.Now().Add(-2*time.Hour), time.Now().Add(-2*time.Hour)))
	v, err = vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	require.NoError(t, v.Check(t.Context()))
	require.NoFileExists(t, old)
	require.FileExists(t, young)
}

// Test40_TwoProcessesRaceOnOneKey: of two processes that write a key at once, one wins and its bytes are whole.
func Test40_TwoProcessesRaceOnOneKey(t *testing.T) {
	if dir := os.Getenv("VAULT_RACE"); dir != "" { // the child
		v, err := vault.OpenFolder(dir, time.Now)
		require.NoError(t, err)
		data := []byte(strings.Repeat(os.Getenv("VAULT_RACER"), 50_000))
		won := 0
		for i := range 50 {
			err = v.Put(t.Context(), object("k"+string(rune('A'+i%26))+string(rune('a'+i/26)), data), bytes.NewReader(data), vault.Lock{})
			switch code(err) {
			case "":
				won++
			case "OBJECT_CONFLICT":
			default:
				require.NoError(t, err)
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "won-"+os.Getenv("VAULT_RACER")), []byte(strings.Repeat("+", won)), 0o600))
		return
	}
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	var racers []*exec.Cmd
	for _, name := range []string{"a", "b"} {
		cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "VAULT_RACE="+dir, "VAULT_RACER="+name)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		require.NoError(t, cmd.Start())
		racers = append(racers, cmd)
	}
	for _, cmd := range racers {
		require.NoError(t, cmd.Wait())
	}
	wins := 0
	for _, name := range []string{"a", "b"} {
		won, err := os.ReadFile(filepath.Join(dir, "won-"+name))
		require.NoError(t, err)
		wins += len(won)
	}
	require.Equal(t, 50, wins, "each key has one winner")
	whole := map[string]bool{strings.Repeat("a", 50_000): true, strings.Repeat("b", 50_000): true}
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	keys := 0
	for entry, err := range v.List(t.Context(), "") {
		require.NoError(t, err)
		raw, err := os.ReadFile(filepath.Join(dir, "objects", entry.Key))
		require.NoError(t, err)
		require.True(t, whole[string(raw)], "%s has the bytes of one of them, and all of them", entry.Key)
		require.NoError(t, vault.Verify(t.Context(), v, object(entry.Key, raw)))
		keys++
	}
	require.Equal(t, 50, keys)
	left, err := os.ReadDir(filepath.Join(dir, "incoming"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing of the other one is left")
}

// TestFolderRemovedBelow: a folder that somebody removed is made again; the vault's own are not, since a disk that is
// gone looks the same.
func TestFolderRemovedBelow(t *testing.T) {
	dir := t.TempDir()
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	data := []byte("bytes")
	put := func(key string) error {
		return v.Put(t.Context(), object(key, data), bytes.NewReader(data), vault.Lock{Until: someday})
	}
	require.NoError(t, put("t/a/x.zip"))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "objects", "t")))
	require.NoError(t, put("t/a/y.zip"))
	require.Equal(t, data, read(t, v, object("t/a/y.zip", data)))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "objects")))
	require.Error(t, put("t/a/z.zip"))
	_, err = os.Stat(filepath.Join(dir, "objects"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// TestFolderUnreadable: one file that cannot be opened, or not be read, is a damaged copy and is repaired as one; of a disk that is
// not there nothing is known, and an object that can be read now is none.
func TestFolderUnreadable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o750))
	v, err := vault.OpenFolder(dir, time.Now)
	require.NoError(t, err)
	data := []byte("bytes")
	for name, spoil := range map[string]func(path string) error{
		"cannot be opened": func(path string) error { return os.Symlink(filepath.Base(path), path) },
		"cannot be read":   func(path string) error { return os.Mkdir(path, 0o750) },
	} {
		o := object("t/"+strings.ReplaceAll(name, " ", "-")+".zip", data)
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{}))
		path := filepath.Join(dir, "objects", o.Key)
		require.NoError(t, os.Remove(path))
		require.NoError(t, spoil(path))
		err = vault.Verify(t.Context(), v, o)
		require.Equal(t, "VAULT_UNAVAILABLE", code(err), name)
		require.True(t, vault.Damaged(vault.Judge(t.Context(), v, o, err)), name)
		_, digest := vault.Digest(t.Context(), v, vault.Entry{Key: o.Key, Size: o.Size})
		require.True(t, vault.Damaged(digest), name)
		away := filepath.Join(filepath.Dir(dir), "away")
		require.NoError(t, os.Rename(dir, away))
		require.Equal(t, "VAULT_UNAVAILABLE", code(vault.Judge(t.Context(), v, o, err)), name)
		require.NoError(t, os.Rename(away, dir))
		where, err := v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{})
		require.NoError(t, err)
		_, err = os.Lstat(filepath.Join(dir, where))
		require.NoError(t, err, "what could not be read is set apart")
		require.Equal(t, data, read(t, v, o))
		require.NoError(t, vault.Judge(t.Context(), v, o, unavailable))
	}
	require.NoError(t, vault.Judge(t.Context(), v, object("x", data), nil))
}

var unavailable = fault.Unavailable("VAULT_UNAVAILABLE", "input/output error")
