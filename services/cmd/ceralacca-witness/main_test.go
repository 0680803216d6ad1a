package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/witness"
)

// TestLife is a witness from its making to its end: init, trust, serve, show.
func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "witness")
	do := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errOut bytes.Buffer
		require.Equal(t, want, run(t.Context(), args, &out, &errOut), "%v: %s", args, errOut.String())
		return out.String(), errOut.String()
	}
	signer, err := tlog.NewSigner("log.test", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	require.NoError(t, err)
	text, _ := do(0, "init", "--dir", dir, "--name", "testimone.test")
	key, err := tlog.ParseVerifier(strings.TrimSpace(text))
	require.NoError(t, err)
	require.True(t, key.Cosigner())
	do(0, "trust", "--dir", dir, signer.String())
	_, said := do(1, "trust", "--dir", dir, key.String())
	require.Contains(t, said, "not of a log")
	second, err := tlog.NewSigner("second.test/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "a+b+c.key") // as the tool writes it: keys of witnesses follow
	require.NoError(t, os.WriteFile(file, []byte(second.String()+"\n"+key.String()+"\n"), 0o600))
	do(0, "trust", "--dir", dir, file)
	text, _ = do(0, "show", "--dir", dir)
	require.Contains(t, text, "\n0 second.test/log\n")
	_, said = do(1, "trust", "--dir", dir, filepath.Join(dir, "away"))
	require.Contains(t, said, "neither a verifier key, name+id+key, nor a file with one")
	_, said = do(1, "init", "--dir", dir, "--name", "testimone.test")
	require.Contains(t, said, "already")
	for _, args := range [][]string{nil, {"dance"}, {"init", "--dir", dir}, {"trust", "--dir", dir}, {"serve"}, {"serve", "--dir", dir, "x"}, {"show", "--nothing"}, {"serve", "--dir", dir, "--tls-cert", "x"}} {
		do(2, args...)
	}
	for want, args := range map[string][]string{
		`unknown command "dance"`: {"dance"}, "--name is missing": {"init", "--dir", dir}, "LOGKEY is missing": {"trust", "--dir", dir},
		"--dir is missing": {"serve"}, `"x" is one argument too many`: {"serve", "--dir", dir, "x"}, "-nothing": {"show", "--nothing"},
		"give both or neither": {"serve", "--dir", dir, "--tls-cert", "x"},
	} {
		_, said = do(2, args...)
		require.Contains(t, said, want)
	}
	for _, args := range [][]string{{"help"}, {"--help"}, {"serve", "--help"}} {
		help, _ := do(0, args...)
		require.Contains(t, help, "Exit codes")
	}
	empty := t.TempDir()
	_, said = do(1, "show", "--dir", empty)
	require.Contains(t, said, "is no witness's folder; init makes one")
	left, err := os.ReadDir(empty)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left in a folder of somebody else")

	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- run(ctx, []string{"serve", "--dir", dir, "--listen", "127.0.0.1:0"}, write, io.Discard)
	}()
	address, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	client := &witness.Client{URL: "http://" + strings.TrimSpace(address), Key: key, HTTP: &http.Client{Timeout: time.Minute}}
	note, err := tlog.Checkpoint{Origin: "log.test", Tree: tlog.EmptyTree()}.Sign(signer)
	require.NoError(t, err)
	_, err = client.Ask(ctx, &tlog.Request{Checkpoint: note})
	require.NoError(t, err)
	_, said = do(1, "show", "--dir", dir)
	require.Contains(t, said, "in use")
	for path, want := range map[string]string{"/": key.String(), "/last?origin=log.test": "— testimone.test "} {
		resp, err := client.HTTP.Get(client.URL + path)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Contains(t, string(body), want)
	}
	stop()
	require.Zero(t, <-ended)
	out, _ := do(0, "show", "--dir", dir)
	require.Contains(t, out, "0 log.test")
}
