package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv/postgres"
)

// helperVariable turns this test binary into the program itself.
const helperVariable = "CERALACCA_DEVENV_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	// Without a server given from outside, so that it starts its own.
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, postgres.SharedVariable+"=") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, helperVariable+"=1")
	return cmd
}

func TestCommandRunsWithAServerThatEndsWithIt(t *testing.T) {
	// `make test` keeps pg-test while it runs this very test: a folder of our own.
	root := checkout(t)
	cmd := program(t, "with-postgres", "sh", "-c", "echo $"+postgres.SharedVariable+"; exit 7")
	cmd.Env = append(cmd.Env, "CERALACCA_ROOT="+root)
	out, err := cmd.Output()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 7, exit.ExitCode(), "the command's own status: %s", exit.Stderr)
	address := strings.TrimSpace(string(out))
	require.Contains(t, address, "postgres://")
	_, err = pgx.Connect(t.Context(), address)
	require.Error(t, err, "the server is gone")
}

func TestTerminationStopsCommandAndServer(t *testing.T) {
	root := checkout(t)
	cmd := program(t, "with-postgres", "sh", "-c", "echo $"+postgres.SharedVariable+"; exec sleep 300")
	cmd.Env = append(cmd.Env, "CERALACCA_ROOT="+root)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(stdout)
	address, err := lines.ReadString('\n')
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), strings.TrimSpace(address))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_, _ = io.Copy(io.Discard, lines)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("the program does not end")
	}
	_, err = pgx.Connect(t.Context(), strings.TrimSpace(address))
	require.Error(t, err, "the server is gone")
}

func TestUnknownCommandLine(t *testing.T) {
	out, err := program(t, "with-mysql").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "devenv with-postgres CMD")
}

// checkout is a folder that passes for the repository and has its own cache.
func checkout(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(root+"/deploy/vaultdev", 0o755))
	require.NoError(t, os.WriteFile(root+"/go.work", nil, 0o644))
	return root
}
