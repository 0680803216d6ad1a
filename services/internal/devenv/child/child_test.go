package child_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/devenv/child"
)

// helperVariable turns this test binary into a parent that starts one child, says
// its pid and waits to be killed.
const helperVariable = "CERALACCA_CHILD_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperVariable) == "" {
		os.Exit(m.Run())
	}
	p, err := child.Start(child.Options{Path: os.Getenv(helperVariable), Args: []string{"300"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func look(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	require.NoError(t, err)
	path, err = filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return path
}

func TestChildEndsWithItsKilledParent(t *testing.T) {
	sleep := look(t, "sleep")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), helperVariable+"="+sleep)
	_, err := parent.StdinPipe()
	require.NoError(t, err)
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.True(t, child.Runs(pid, sleep))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool { return !child.Runs(pid, sleep) }, 5*time.Second, 10*time.Millisecond)
}

func TestStopAsksThenKills(t *testing.T) {
	polite, err := child.Start(child.Options{Path: look(t, "sleep"), Args: []string{"300"}})
	require.NoError(t, err)
	require.NoError(t, polite.Stop(syscall.SIGTERM, 5*time.Second))
	require.Error(t, polite.Err(), "it ended by a signal")
	require.NoError(t, polite.Stop(syscall.SIGTERM, 0), "stopping twice is no error")

	// A shell that ignores SIGTERM hands that on to the program it becomes.
	ready := &bytes.Buffer{}
	deaf, err := child.Start(child.Options{Path: look(t, "sh"), Args: []string{"-c", `trap "" TERM; exec sleep 300`}, Stdout: ready})
	require.NoError(t, err)
	sleep := look(t, "sleep")
	require.Eventually(t, func() bool { return child.Runs(deaf.PID(), sleep) }, 5*time.Second, 5*time.Millisecond)
	require.ErrorContains(t, deaf.Stop(syscall.SIGTERM, 200*time.Millisecond), "was killed")
}

func TestSurvivorNamedByThePIDFileIsStopped(t *testing.T) {
	sleep := look(t, "sleep")
	file := filepath.Join(t.TempDir(), "pid")
	survivor := exec.Command(sleep, "300")
	require.NoError(t, survivor.Start())
	ended := make(chan error, 1)
	go func() { ended <- survivor.Wait() }()
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(survivor.Process.Pid)), 0o644))

	p, err := child.Start(child.Options{Path: sleep, Args: []string{"300"}, PIDFile: file})
	require.NoError(t, err)
	require.Error(t, <-ended, "ended by our signal")
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(p.PID()), strings.TrimSpace(string(raw)))
	require.NoError(t, p.Stop(syscall.SIGTERM, 5*time.Second))
	require.NoFileExists(t, file)
}

func TestPIDFileOfAnotherProgramHarmsNoOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	require.NoError(t, os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o644)) // this very test
	p, err := child.Start(child.Options{Path: look(t, "sleep"), Args: []string{"300"}, PIDFile: file})
	require.NoError(t, err)
	require.NoError(t, p.Stop(syscall.SIGTERM, 5*time.Second))

	require.NoError(t, os.WriteFile(file, []byte("not a number"), 0o644))
	p, err = child.Start(child.Options{Path: look(t, "true"), PIDFile: file})
	require.NoError(t, err)
	<-p.Done()
	require.NoError(t, p.Err())
}

func TestMissingProgramIsNamed(t *testing.T) {
	_, err := child.Start(child.Options{Path: "/nowhere/serverd"})
	require.ErrorContains(t, err, "/nowhere/serverd")
}
