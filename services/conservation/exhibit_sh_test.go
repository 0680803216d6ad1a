package conservation

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/pdd"
)

// scriptIn runs verifica.sh with a folder of commands as its whole PATH, and gives what it says and its exit code.
func scriptIn(t *testing.T, commands, dir string, roots ...string) (string, int) {
	t.Helper()
	sh := filepath.Join(commands, "sh")
	cmd := exec.Command(sh, append([]string{filepath.Join(dir, "verifica.sh")}, roots...)...)
	cmd.Env = []string{"PATH=" + commands, "TMPDIR=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	left, err := os.ReadDir(strings.TrimPrefix(cmd.Env[1], "TMPDIR="))
	require.NoError(t, err)
	require.Empty(t, left, "nothing of it stays")
	return string(out), cmd.ProcessState.ExitCode()
}

// testScriptOnSmallSystems: verifica.sh says the same where there are the commands of POSIX without GNU's options, as BusyBox has them:
// good of a good package, and which file is wrong of a bad one. Where a command is missing it says that it did not verify, and not that
// the package is bad.
func testScriptOnSmallSystems(t *testing.T, h *house) {
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	dir, files := unpack(t, raw)
	roots, _ := h.rootsFile(t)
	small, bare := t.TempDir(), t.TempDir()
	out, err := exec.Command("busybox", "--install", "-s", small).CombinedOutput()
	require.NoError(t, err, string(out))
	for _, name := range []string{"openssl", "xmllint", "sh"} {
		program, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(program, filepath.Join(bare, name)))
		if name != "sh" {
			_ = os.Remove(filepath.Join(small, name))
			require.NoError(t, os.Symlink(program, filepath.Join(small, name)))
		}
	}
	for _, with := range [][]string{{roots}, nil} {
		said, code := scriptIn(t, small, dir, with...)
		require.Zero(t, code, said)
		require.Contains(t, said, "VERIFICA RIUSCITA\n")
	}
	elsewhere := t.TempDir() // another copy than the one of whoever made the package
	require.NoError(t, os.WriteFile(filepath.Join(elsewhere, "verifica.sh"), pdd.Fixed()["verifica.sh"], 0o600))
	said, code := scriptIn(t, small, elsewhere, roots, dir)
	require.Zero(t, code, said)
	scriptFindsAll(t, dir, small)
	said, code = scriptIn(t, bare, dir, roots)
	require.Equal(t, 98, code, said)
	require.Contains(t, said, "mancano: dirname ")
	require.Contains(t, said, "VERIFICA NON ESEGUITA\n")

	spoilt := 0
	for name, content := range files {
		if !strings.HasPrefix(name, "documenti/") && !strings.HasPrefix(name, "viste/") {
			continue
		}
		spoilt++
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.WriteFile(path, append([]byte{content[0] ^ 1}, content[1:]...), 0o600))
		said, code = scriptIn(t, small, dir, roots)
		require.Equal(t, 99, code, said)
		require.Contains(t, said, "MALE  ogni file è quello dell'indice\n")
		require.Contains(t, said, " "+name+"\n", "it says which file")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		if spoilt == 3 {
			break
		}
	}
	require.Equal(t, 3, spoilt)
}

// scriptFindsAll: a file that the index does not name is found wherever it lies and whatever it is called, on this system and on a small one.
func scriptFindsAll(t *testing.T, dir, small string) {
	t.Helper()
	for _, extra := range []string{
		"documenti/in-piu.xml", "a/b/c/d/e/f.xml", ".nascosto", "..nascosto", "...", "documenti/.nascosto", "prove/a/.b/c", ".a/.b/.c/d", "documenti/a b", "PdD.xml\nPdD.sha256", "-o",
	} {
		path := filepath.Join(dir, extra)
		first := filepath.Join(dir, strings.Split(extra, "/")[0])
		_, err := os.Lstat(first)
		fresh := os.IsNotExist(err)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		said, good := script(t, dir)
		require.False(t, good, "%q: %s", extra, said)
		require.Contains(t, said, "MALE  nessun file in più\n")
		said, code := scriptIn(t, small, dir)
		require.Equal(t, 99, code, "%q: %s", extra, said)
		require.Contains(t, said, "MALE  nessun file in più\n")
		if fresh {
			path = first
		}
		require.NoError(t, os.RemoveAll(path))
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "prove", "a")))
	require.NoError(t, os.Symlink("documenti", filepath.Join(dir, "altri")))
	said, good := script(t, dir)
	require.False(t, good, said)
	require.NoError(t, os.Remove(filepath.Join(dir, "altri")))
	said, good = script(t, dir)
	require.True(t, good, said)
}
