package devenv_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv"
)

func TestRootIsFoundFromBelowAndRefusedElsewhere(t *testing.T) {
	root, err := devenv.Root()
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(root, "go.work"))

	t.Setenv("CERALACCA_ROOT", root)
	t.Chdir(t.TempDir())
	named, err := devenv.Root()
	require.NoError(t, err)
	require.Equal(t, root, named)

	t.Setenv("CERALACCA_ROOT", t.TempDir())
	_, err = devenv.Root()
	require.ErrorContains(t, err, "CERALACCA_ROOT=")
	t.Setenv("CERALACCA_ROOT", "")
	_, err = devenv.Root()
	require.ErrorIs(t, err, devenv.ErrNoCheckout)
}

func TestLocksExcludeAndShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "lock")
	one, err := devenv.Lock(t.Context(), path, false)
	require.NoError(t, err)
	two, err := devenv.TryLock(path, false)
	require.NoError(t, err)
	require.NotNil(t, two, "two may share")
	alone, err := devenv.TryLock(path, true)
	require.NoError(t, err)
	require.Nil(t, alone, "no one is alone beside them")

	short, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
	defer cancel()
	_, err = devenv.Lock(short, path, true)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	one.Unlock()
	two.Unlock()
	two.Unlock()
	_, err = devenv.Lock(t.Context(), path, true)
	require.NoError(t, err)
	runtime.GC()
	runtime.GC()
	again, err := devenv.TryLock(path, true)
	require.NoError(t, err)
	require.Nil(t, again, "a lock is held until it is given back, even if nobody refers to it")
}

func TestSlowStepSpeaksAndQuickStepDoesNot(t *testing.T) {
	out := &bytes.Buffer{}
	quick := devenv.Begin(out, "quick")
	quick.End(nil)
	require.Empty(t, out.String())

	synctest.Test(t, func(t *testing.T) { // of its own clock: how busy the machine is changes nothing
		slow := devenv.Begin(out, "slow")
		slow.Detail("%d of %d", 3, 7)
		time.Sleep(1700 * time.Millisecond)
		slow.End(context.Canceled)
		require.Equal(t, "slow: 2 s, 3 of 7\nslow: failed after 2 s\n", out.String())
	})
}

// checkout makes a small module that Build can compile.
func checkout(t *testing.T) (string, devenv.Tool) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "tool")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.org/tool\n\ngo 1.26\n"), 0o644))
	write(t, filepath.Join(dir, "main.go"), "one")
	return root, devenv.Tool{Name: "tool", Dir: "tool", Package: ".", Sources: []string{"tool"}}
}

func write(t *testing.T, path, word string) {
	t.Helper()
	source := "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Print(\"" + word + "\") }\n"
	require.NoError(t, os.WriteFile(path, []byte(source), 0o644))
}

func says(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(program).Output()
	require.NoError(t, err)
	return string(out)
}

func TestToolIsBuiltOnceAndAgainWhenItsSourcesChange(t *testing.T) {
	root, tool := checkout(t)
	var group sync.WaitGroup
	for range 4 { // all at once: one builds, the others wait for it
		group.Go(func() {
			_, err := devenv.Build(context.Background(), nil, root, tool)
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	program, err := devenv.Build(t.Context(), nil, root, tool)
	require.NoError(t, err)
	require.Equal(t, "one", says(t, program))
	before, err := os.Stat(program)
	require.NoError(t, err)
	_, err = devenv.Build(t.Context(), nil, root, tool)
	require.NoError(t, err)
	after, err := os.Stat(program)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime(), "nothing changed, nothing built")

	write(t, filepath.Join(root, "tool", "main.go"), "two")
	_, err = devenv.Build(t.Context(), nil, root, tool)
	require.NoError(t, err)
	require.Equal(t, "two", says(t, program))

	require.NoError(t, os.WriteFile(filepath.Join(root, "tool", "main.go"), []byte("package main\nfunc main() { undefined() }\n"), 0o644))
	_, err = devenv.Build(t.Context(), nil, root, tool)
	require.ErrorContains(t, err, "undefined: undefined", "the compiler's words reach the reader")
	require.Equal(t, "two", says(t, program), "a failed build leaves the program alone")
}

func TestMissingPeerIsInstalledOrExplained(t *testing.T) {
	require.NoError(t, devenv.RequirePeers(t.Context(), nil, devenv.Peer{Command: "sh", Package: "dash"}))
	// With nothing in PATH there is neither the peer, nor sudo, nor apt-get.
	t.Setenv("PATH", t.TempDir())
	err := devenv.RequirePeers(t.Context(), nil, devenv.Peer{Command: "xmlsec1", Package: "xmlsec1"})
	require.ErrorContains(t, err, "sudo apt-get install -y xmlsec1")
}

func TestUnpackKeepsWhatIsThere(t *testing.T) {
	root := t.TempDir()
	u := devenv.Unpacked{Package: "p", Program: "usr/bin/tool", Libraries: "usr/lib/p"}
	want := filepath.Join(root, ".cache", "peers", "p", "usr", "bin", "tool")
	require.NoError(t, os.MkdirAll(filepath.Dir(want), 0o755))
	require.NoError(t, os.WriteFile(want, nil, 0o755))
	path, env, err := devenv.Unpack(t.Context(), nil, root, u)
	require.NoError(t, err)
	require.Equal(t, want, path)
	require.Contains(t, env, "LD_LIBRARY_PATH="+filepath.Join(root, ".cache", "peers", "p", "usr", "lib", "p"))

	t.Setenv("PATH", "")
	_, _, err = devenv.Unpack(t.Context(), nil, root, devenv.Unpacked{Package: "other", Program: "x"})
	require.ErrorContains(t, err, "by hand: apt-get download other")
	left, err := os.ReadDir(filepath.Join(root, ".cache", "peers"))
	require.NoError(t, err)
	require.Len(t, left, 2, "a folder of the failed attempt stayed: %v", left)
}
