package signer_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThreatsNameRealTests: the page of threats says which test shows what; each of them is there.
func TestThreatsNameRealTests(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("THREATS.md")
	require.NoError(t, err)
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "internal/online/*_test.go", "../internal/devenv/vault/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			code.Write(raw)
		}
	}
	names := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(names), 30)
	for _, name := range names {
		require.Contains(t, code.String(), "func "+name[1]+"(t ", "named in THREATS.md")
	}
}
