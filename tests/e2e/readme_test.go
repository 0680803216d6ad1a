package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/tests/harness"
)

// spoken collects what a program says while it is read.
type spoken struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(p)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// readmes are those whose blocks for the shell run one after the other on one platform. Beside the first they are the
// blocks that begin by finding it.
var readmes = []struct {
	file   string
	blocks int
}{
	{"README.md", 3}, // the first steps, certified mail, CSC
	{"services/conservation/README.md", 9},
	{"services/pec-gateway/README.md", 5},
	{"services/sdi-gateway/README.md", 2},
	{"services/tenancy/README.md", 1},
	{"services/notification/README.md", 1},
	{"services/invoice/README.md", 1},
}

// TestReadme does what the README tells a newcomer to do, word by word: the demo, the checks that it leaves, the
// platform kept running, and every block of commands for the shell, which must all succeed on the first day, and then
// those of the services' READMEs.
func TestReadme(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	bin, err := harness.Programs(ctx)
	require.NoError(t, err)
	root, err := harness.Root()
	require.NoError(t, err)
	home := filepath.Join(t.TempDir(), "già qui")
	state := filepath.Join(home, ".cache", "dev")
	require.NoError(t, os.MkdirAll(state, 0o700))
	program := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "ceralacca-dev"), args...)
		cmd.Dir = root
		return cmd
	}
	shell := func(dir, script string) string {
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TESTED="+filepath.Join(bin, "ceralacca"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}

	out, err := program("demo", "--dir", filepath.Join(home, ".cache", "demo"), "--out", filepath.Join(home, "out")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "journey finished")
	require.Contains(t, shell(filepath.Join(home, "out"), "sh -ex VERIFY.txt 2>&1"), "Verification: OK")

	var said spoken
	serve := program("serve", "--fresh", "--dir", state)
	serve.Stdout, serve.Stderr = &said, &said
	require.NoError(t, serve.Start())
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	require.Eventually(t, func() bool { return strings.Contains(said.String(), "Ctrl-C ends it") }, 2*time.Minute, 100*time.Millisecond, "it never said that it is up: %s", &said)

	// The program under test, not one that somebody built into the checkout, which env.sh puts first.
	// Who reads has a machine of their own; here many tests may run beside this one, and all takes longer.
	script := "ceralacca() { \"$TESTED\" \"$@\"; }\nsleep() { command sleep 10; }\n"
	for _, r := range readmes {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(r.file)))
		require.NoError(t, err)
		found := 0
		for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			if strings.HasPrefix(block[1], ". .cache/dev/env.sh\n") {
				script += block[1]
				found++
			}
		}
		require.Equal(t, r.blocks, found, "blocks of %s", r.file)
	}
	done := shell(home, script)
	for _, want := range []string{
		"state    DELIVERED", "out/signed.xml.p7m: total-passed", "FE/20", "written       out/pdd.zip", "\ngood\n",
		"SENT        DELIVERED", "Verified OK",
		"VERIFICA RIUSCITA", "good: ", "the package is byte for byte the one that was sealed", "1 packages hold in themselves and by their receipts",
	} {
		require.Contains(t, done, want)
	}
	require.NotContains(t, done, "ceralacca: ", "no command complains")
	for _, file := range []string{"4-package.zip", "pdd.zip", "evidence.zip"} {
		z, err := zip.OpenReader(filepath.Join(home, "out", file))
		require.NoError(t, err, file)
		for _, entry := range z.File {
			require.GreaterOrEqual(t, entry.Modified.Year(), 1980, "%s of %s is of a day that there is", entry.Name, file)
		}
		require.NoError(t, z.Close())
	}

	require.NoError(t, serve.Process.Signal(syscall.SIGINT))
	select {
	case err = <-ended:
		require.NoError(t, err, "Ctrl-C is no failure: %s", &said)
	case <-ctx.Done():
		t.Fatalf("it did not end on Ctrl-C: %s", &said)
	}
}
