package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"
	"time"

	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

func TestPrintsEndpointsAndStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	var log bytes.Buffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"--dir", t.TempDir(), "--log-level", "warn"}, in, &log) }()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	var e client.Endpoints
	require.NoError(t, json.Unmarshal(line, &e))
	require.FileExists(t, e.CAFile)
	control := client.New(e.ControlURL)
	require.NoError(t, control.Ready(ctx))
	again, err := control.Endpoints(ctx)
	require.NoError(t, err)
	require.Equal(t, e, again)
	cancel()
	select {
	case c := <-code:
		require.Zero(t, c)
	case <-time.After(10 * time.Second):
		t.Fatal("does not stop")
	}
	require.Contains(t, log.String(), "SANDBOX - NOT VALID")
	require.Error(t, control.Ready(context.Background()))
}

func TestCommandLine(t *testing.T) {
	for want, args := range map[string][]string{
		"unexpected argument": {"serve"},
		"not defined":         {"--bogus"},
		"invalid value":       {"--sdi-port", "x"},
	} {
		var log bytes.Buffer
		require.Equal(t, 2, run(context.Background(), args, io.Discard, &log))
		require.Contains(t, log.String(), want)
	}
	var log bytes.Buffer
	require.Equal(t, 1, run(context.Background(), []string{"--listen-host", "0.0.0.0"}, io.Discard, &log))
	require.Contains(t, log.String(), "--allow-non-loopback")
}
