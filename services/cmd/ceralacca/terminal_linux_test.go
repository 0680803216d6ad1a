package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal makes a pseudo-terminal: what is typed goes into keys, and what it shows comes out of them.
func terminal(t *testing.T) (keys, screen *os.File) {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = keys.Close() })
	require.NoError(t, unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = screen.Close() })
	return keys, screen
}

// TestSecretsAreNotShown: a PIN that is typed on a terminal does not appear on it, the terminal is as
// it was afterwards, and an interrupted question leaves it so too.
func TestSecretsAreNotShown(t *testing.T) {
	keys, screen := terminal(t)
	before, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	require.NoError(t, err)
	require.NotZero(t, before.Lflag&unix.ECHO)
	same := func() {
		t.Helper()
		after, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		require.NoError(t, err)
		require.Equal(t, before.Lflag, after.Lflag)
	}
	hidden := func() bool {
		now, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
		return err == nil && now.Lflag&unix.ECHO == 0
	}
	var prompts bytes.Buffer
	s := &secrets{c: &cli{in: screen, errOut: &prompts}}
	require.True(t, isTerminal(screen))
	got := make(chan string, 1)
	go func() {
		pin, err := s.pin(context.Background(), "PIN")
		if err != nil {
			pin = err.Error()
		}
		got <- pin
	}()
	require.Eventually(t, hidden, 5*time.Second, 5*time.Millisecond)
	_, err = keys.WriteString("40718362\n")
	require.NoError(t, err)
	require.Equal(t, "40718362", <-got)
	require.Equal(t, "PIN: \n", prompts.String())
	same()
	_, err = screen.WriteString("end")
	require.NoError(t, err)
	shown := make([]byte, 100)
	n, err := keys.Read(shown)
	require.NoError(t, err)
	require.NotContains(t, string(shown[:n]), "4071")
	require.Contains(t, string(shown[:n]), "end")

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := s.otp(ctx, "One-time password")
		done <- err
	}()
	require.Eventually(t, hidden, 5*time.Second, 5*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	same()
}
