package pecgateway_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmeNamesTests: each test that README.md names is there.
func TestReadmeNamesTests(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, dir := range []string{".", "internal/submit", "internal/imap", "internal/pop3", "../format/pec", "../format/cms", "../sandbox/pec", "../sdi-gateway", "../../tests/pecdiff", "../../tests/e2e"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		require.NoError(t, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			source.Write(text)
		}
	}
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	names := regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(names), 50)
	for _, n := range names {
		require.True(t, strings.Contains(source.String(), "func "+n[1]+"("), "README.md names %s, which is not there", n[1]) //nolint:testifylint // Contains would print every test
	}
}
