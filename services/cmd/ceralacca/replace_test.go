package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/fault"
)

// TestOutputWholeOrOfBefore: a file of --output is the new one, whole, or what it was before; nothing lies beside it.
func TestOutputWholeOrOfBefore(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for name, c := range map[string]struct {
		parts []string
		end   error
		want  string
		said  string
		code  int
	}{
		"whole":              {[]string{"new ", "content"}, io.EOF, "new content", "", exitOK},
		"nothing in it":      {nil, io.EOF, "", "", exitOK},
		"refused":            {nil, fault.NotFound("GONE", "gone"), "before", "GONE: gone", exitNotFound},
		"broken off":         {[]string{"half"}, fault.Unavailable("CUT", "the line was cut"), "before", "CUT: the line was cut", exitUnavailable},
		"broken off by hand": {[]string{"half"}, errors.New("no"), "before", "it did not come whole: no", exitUsage},
		"disk full":          {[]string{"half"}, full, "before", "the disk is full", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "già qui.xml")
			require.NoError(t, os.WriteFile(file, []byte("before"), 0o600))
			var errOut strings.Builder
			tool := &cli{out: io.Discard, errOut: &errOut, format: formatText, now: time.Now}
			parts := c.parts
			err := tool.download(file, func() ([]byte, error) {
				if len(parts) == 0 {
					return nil, c.end
				}
				part := parts[0]
				parts = parts[1:]
				return []byte(part), nil
			})
			code := exitOK
			if err != nil {
				code = tool.fail(err)
			}
			require.Equal(t, c.code, code, errOut.String())
			require.Contains(t, errOut.String(), c.said)
			got, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, c.want, string(got))
			there, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, there, 1, "nothing is left beside it")
		})
	}
}

// TestReplaceKeepsWhatAFileIs: its mode, the link that leads to it, and that it is not to be written.
func TestReplaceKeepsWhatAFileIs(t *testing.T) {
	dir := t.TempDir()
	file, link, locked := filepath.Join(dir, "file"), filepath.Join(dir, "link"), filepath.Join(dir, "locked")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Symlink("file", link))
	require.NoError(t, os.WriteFile(locked, []byte("before"), 0o400))

	require.NoError(t, replaceWith(link, shared, []byte("new")))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	info, err = os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, private, info.Mode().Perm(), "nobody may read it now who might not before")
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "new", string(got))

	require.ErrorIs(t, replaceWith(locked, shared, nil), os.ErrPermission)
	require.ErrorIs(t, replaceWith(dir, shared, nil), syscall.EISDIR)
	require.NoError(t, replaceWith(os.DevNull, shared, []byte("x")), "a device is written to, not replaced")
	info, err = os.Stat(os.DevNull)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeDevice)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "/dev/stdout", Err: syscall.ENOSPC}
}

// TestResultThatNobodyGot: what could not be written to standard output is no success, whatever the command was.
func TestResultThatNobodyGot(t *testing.T) {
	surroundings(t, nil)
	for _, words := range []string{
		"version", "version --format json", "inspect testdata/inspect/package.zip", "key generate", "--help",
		"invoice check ../../format/fatturapa/compose/testdata/credit_note.xml --at 2026-11-22", "invoice convert ../../format/fatturapa/compose/testdata/credit_note.xml",
	} {
		var errOut strings.Builder
		tool := &cli{in: strings.NewReader(""), out: fullDisk{}, errOut: &errOut, now: time.Now}
		require.Equal(t, exitUsage, tool.run(t.Context(), strings.Fields(words)), words)
		require.Contains(t, errOut.String(), "standard output cannot be written: the disk is full", words)
	}
}

// TestFilesInWords: what the system has against a file is told in words that say how to mend it.
func TestFilesInWords(t *testing.T) {
	surroundings(t, nil)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{
		"empty": "", "list.json": "[1]", "cut.json": `{"lines":[`, "kind.json": "{\n\"lines\": 5}", "unknown.json": `{"nope": 1}`,
		"two.json": "{} {}", "text.json": "Salve",
	} {
		require.NoError(t, os.WriteFile(at(name), []byte(content), 0o600))
	}
	good := "../../format/fatturapa/compose/testdata/credit_note.json"
	for _, c := range []struct{ words, want string }{
		{"invoice convert " + at("away"), "there is no file " + at("away")},
		{"invoice check " + at("away"), "not judged: there is no file " + at("away")},
		{"invoice convert " + dir, dir + " is a folder; a file is wanted"},
		{"invoice convert " + at("empty/x"), "a part of it that should be a folder is a file"},
		{"invoice new " + good + " -o " + at("nowhere/x"), "--output: there is no folder " + at("nowhere")},
		{"invoice new " + good + " -o " + dir, "--output: " + dir + " is a folder"},
		{"invoice new " + good + " -o /dev/full", "--output: /dev/full cannot be written: the disk is full"},
		{"key generate -o " + at("empty"), at("empty") + " is there already"},
		{"invoice submit --tenant a --company c " + at("empty"), at("empty") + " is empty: give the invoice itself"},
		{"import --tenant a --company c " + at("empty"), at("empty") + " is empty: give the invoice itself"},
		{"invoice new " + at("empty"), "the file is empty"},
		{"invoice new " + at("list.json"), "the file has to hold an object, { ... }, and holds: array"},
		{"invoice new " + at("cut.json"), "the JSON ends in the middle"},
		{"invoice new " + at("kind.json"), "line 2: lines cannot be a number"},
		{"invoice new " + at("unknown.json"), `unknown field "nope"`},
		{"invoice new " + at("text.json"), "no JSON from line 1 on"},
		{"invoice submit --tenant a --company c --draft " + at("empty"), "is no draft: the file is empty"},
		{"invoice submit --tenant a --company c --draft " + at("list.json"), "the file has to hold an object"},
		{"invoice submit --tenant a --company c --draft " + at("cut.json"), "the JSON ends in the middle"},
		{"invoice submit --tenant a --company c --draft " + at("two.json"), "something follows it"},
		{"invoice ls --tenant a --limit ten", `--limit: "ten" is no whole number`},
		{"invoice ls --tenant a --timeout 5", `--timeout: "5" is no time such as 90s`},
		{"batch upload --tenant a --company c " + t.TempDir(), "there is no file in "},
	} {
		got := command(t, "", strings.Fields(c.words)...)
		require.Equal(t, exitUsage, got.code, "%s: %s%s", c.words, got.out, got.errOut)
		require.Contains(t, got.out+got.errOut, c.want, c.words)
	}
	_, err := os.Stat(at("nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
