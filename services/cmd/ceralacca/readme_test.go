package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDocumentsNameRealCommands: every command of this tool and every file that the documents name is there.
func TestDocumentsNameRealCommands(t *testing.T) {
	const root = "../../.."
	command := regexp.MustCompile("(?m)(?:^|[`$(] ?)ceralacca ([a-z][a-z -]*)")
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	files, err := filepath.Glob(filepath.Join(root, "services", "*", "README.md"))
	require.NoError(t, err)
	more, err := filepath.Glob(filepath.Join(root, "deploy", "*", "README.md"))
	require.NoError(t, err)
	files = append(files, more...)
	for _, name := range []string{"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		files = append(files, filepath.Join(root, name))
	}
	commands, links := 0, 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range command.FindAllStringSubmatch(string(raw), -1) {
			words, _, _ := strings.Cut(found[1], " -") // flags
			c := &cli{now: time.Now}
			root := c.command()
			root.InitDefaultCompletionCmd("completion")
			at, _, err := root.Find(strings.Fields(words))
			require.NoError(t, err, "%s: ceralacca %s", file, words)
			require.True(t, at != root && (at.Runnable() || at.HasSubCommands()), "%s: ceralacca %s", file, words)
			if at.HasSubCommands() {
				require.Equal(t, "ceralacca "+strings.Join(strings.Fields(words), " "), at.CommandPath(), "%s: no such verb", file)
			}
			commands++
		}
		for _, found := range link.FindAllStringSubmatch(string(raw), -1) {
			_, err = os.Stat(filepath.Join(filepath.Dir(file), found[1]))
			require.NoError(t, err, file)
			links++
		}
	}
	require.Greater(t, commands, 20)
	require.Greater(t, links, 10)
}
