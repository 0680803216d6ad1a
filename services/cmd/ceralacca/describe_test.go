package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// messagesOf are our own fixtures, and the official and field messages where they are.
func messagesOf(t *testing.T) []string {
	t.Helper()
	own, err := filepath.Glob(filepath.Join("..", "..", "format", "sdi", "testdata", "messages", "*.xml"))
	require.NoError(t, err)
	require.NotEmpty(t, own)
	foreign, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "shared", "reference", "sdi", "notifications", "*", "*_*_*.*"))
	require.NoError(t, err)
	if len(foreign) == 0 {
		t.Log("official messages are not there: only our own are described")
	}
	for _, file := range foreign {
		if strings.HasSuffix(file, ".xml") || strings.HasSuffix(file, ".zip") {
			own = append(own, file)
		}
	}
	return own
}

// TestDescribe: every message is described without a server, in both languages; those that decide have their light.
func TestDescribe(t *testing.T) {
	surroundings(t, nil)
	lights := map[string][]string{
		"RC": {"green", "yellow"}, "NS": {"red"}, "MC": {"yellow"}, "NE": {"green", "red"}, "DT": {"yellow"}, "AT": {"yellow"},
		"MT": {""}, "EC": {""}, "SE": {""},
	}
	seen := map[string]bool{}
	for _, file := range messagesOf(t) {
		var out, errOut bytes.Buffer
		c := &cli{out: &out, errOut: &errOut}
		require.Zero(t, c.run(t.Context(), []string{"sdi", "describe", file, "--format", "json"}), "%s: %s", file, errOut.String())
		var n notice
		require.NoError(t, json.Unmarshal(out.Bytes(), &n))
		require.Contains(t, lights[n.Type], n.Light, file)
		require.NotEmpty(t, n.Meaning, file)
		require.NotEmpty(t, n.Italiano, file)
		require.NotEmpty(t, n.Fields, file)
		require.NotEmpty(t, n.Signature, file)
		require.Equal(t, n.Type == "NS", len(n.Errors) > 0, file)
		seen[n.Type] = true
		out.Reset()
		c = &cli{out: &out, errOut: &errOut}
		require.Zero(t, c.run(t.Context(), []string{"sdi", "describe", file}))
		require.Contains(t, out.String(), n.Italiano)
	}
	require.Len(t, seen, len(lights), "every type: %v", seen)
}

// TestDescribeRefuses: what is no message is said to be none.
func TestDescribeRefuses(t *testing.T) {
	surroundings(t, nil)
	file := filepath.Join(t.TempDir(), "x.xml")
	require.NoError(t, os.WriteFile(file, []byte("<Lettera/>"), 0o600))
	var out, errOut bytes.Buffer
	c := &cli{out: &out, errOut: &errOut}
	require.NotZero(t, c.run(t.Context(), []string{"sdi", "describe", file}))
	require.Contains(t, errOut.String(), "is no message of SdI")
}
