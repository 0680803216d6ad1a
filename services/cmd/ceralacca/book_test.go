package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWrongWordsOfTheBook: what is wrong in a command or in its file is code 2 before anything is sent.
func TestWrongWordsOfTheBook(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	contact := write("contact.json", `{"party": {"name": "Ferro", "vatNumber": "01234567897"}, "external_id": "x"}`)
	misspelt := write("misspelt.json", `{"party": {"nome": "Ferro"}}`)
	xml := write("invoice.xml", "<x/>")
	huge := write("huge.png", strings.Repeat("x", 5<<20))
	for name, c := range map[string]struct{ args, want string }{
		"no file":            {"contacts create ferro --tenant acme", "FILE is missing"},
		"file away":          {"contacts create ferro /nonexistent/c.json --tenant acme", "there is no folder /nonexistent"},
		"field misspelt":     {"contacts create ferro " + misspelt + " --tenant acme", `unknown field "nome"`},
		"no JSON":            {"contacts update ferro " + xml + " --tenant acme", "is no contact: no JSON from line 1 on"},
		"item of no line":    {"items create x " + contact + " --tenant acme", `is no item: (line 1:2): unknown field "party"`},
		"request id":         {"items create x " + contact + " --tenant acme --request-id 7", `"7" is no UUID`},
		"no tenant":          {"contacts ls", "give --tenant"},
		"limit":              {"items ls --tenant acme --server a:1 --limit 0", "--limit is 1 or more"},
		"a file that passes": {"contacts create ferro " + contact + " --tenant acme", "give --server"},
		"unknown verb":       {"contacts remove", "unknown command"},
		"no company":         {"look get --tenant acme", "give --company"},
		"nothing to set":     {"look set --tenant acme --company main", "nothing to change"},
		"logo away":          {"look set --tenant acme --company main --logo /nonexistent/l.png", "there is no folder /nonexistent"},
		"logo too large":     {"look set --tenant acme --company main --logo " + huge, "larger than 4 MiB"},
		"format of render":   {"render x --tenant acme --as doc", "is none of html, pdf"},
		"language of render": {"render x --tenant acme --language de", `not "de"`},
	} {
		t.Run(name, func(t *testing.T) {
			surroundings(t, map[string]string{"API_KEY": key(t)})
			got := command(t, "", strings.Fields(c.args)...)
			require.Equal(t, exitUsage, got.code, got.errOut)
			require.Contains(t, got.errOut, c.want)
			require.Empty(t, got.out)
			asJSON := command(t, "", append(strings.Fields(c.args), "--format=json")...)
			require.Equal(t, "USAGE", decodeError(t, asJSON.errOut).Code)
		})
	}
}
