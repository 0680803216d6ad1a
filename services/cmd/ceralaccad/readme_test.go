package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/run"
)

var update = flag.Bool("update", false, "write the tables of keys into the READMEs")

// key is one line of `ceralaccad config docs`.
type key struct {
	path     []string // section first; an element of a list is written []
	standard string   // as YAML
	meaning  string
	element  bool // of what a list or map holds
}

func (k key) name() string { return k.path[len(k.path)-1] }

// readDocs reads what config docs prints: comments, keys, and the keys of elements, which are comments themselves.
func readDocs(t *testing.T) []key {
	t.Helper()
	var out, errOut bytes.Buffer
	require.Zero(t, run.Execute(t.Context(), targets, []string{"config", "docs"}, nil, &out, &errOut), errOut.String())
	_, text, ok := strings.Cut(out.String(), "\n\n")
	require.True(t, ok, "the head is over")
	word := regexp.MustCompile(`^( *)([a-z0-9_-]+):(?: (.*))?$`)
	var keys []key
	var at []string    // the mappings that are open
	var inner []string // the same, of an element
	meaning, within, pad := "", false, 0
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		body := strings.TrimLeft(line, " ")
		element := within && strings.HasPrefix(body, "#   ") && len(line)-len(body) == pad
		switch {
		case body == "":
			meaning, within = "", false
			continue
		case body == "# each with:":
			within, pad, inner, meaning = true, len(line)-len(body), nil, ""
			continue
		case element:
			line = strings.TrimPrefix(body, "#   ")
		default:
			within = false
		}
		if said, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "#"); ok {
			meaning = strings.TrimSpace(meaning + " " + strings.TrimSpace(said))
			continue
		}
		found := word.FindStringSubmatch(line)
		require.NotNil(t, found, line)
		depth := len(found[1]) / 2
		k := key{standard: found[3], meaning: meaning, element: element}
		if element {
			inner = append(inner[:min(depth, len(inner))], found[2])
			holder := keys[len(keys)-1]
			if holder.element {
				holder = lastPlain(keys)
			}
			k.path = append(append(append([]string{}, holder.path...), "[]"), inner...)
		} else {
			at = append(at[:depth], found[2])
			k.path = append([]string{}, at...)
		}
		meaning = ""
		if found[3] == "" { // a mapping: its keys follow
			continue
		}
		keys = append(keys, k)
	}
	return keys
}

func lastPlain(keys []key) key {
	for i := len(keys) - 1; ; i-- {
		if !keys[i].element {
			return keys[i]
		}
	}
}

// words is the meaning without the name that the field has in the source.
func (k key) words() string {
	first, rest, ok := strings.Cut(k.meaning, " ")
	plain := strings.ToLower(strings.TrimSuffix(first, ","))
	verb, more, _ := strings.Cut(rest, " ")
	switch {
	case ok && (verb == "is" || verb == "are") && first[0] >= 'A' && first[0] <= 'Z':
		return more
	case ok && len(plain) > 2 && strings.Contains(strings.ReplaceAll(k.name(), "_", ""), plain) && regexp.MustCompile(`^(holds?|takes?|says?|names?|sends?|bounds?|keeps?|asks?|gives?|adds?|closes?|signs?|states?|logs?|uses?|makes?|wakes?|brings?|overrides?|accepts?|has|gets|must|for)$`).MatchString(verb):
		return rest
	}
	return k.meaning
}

// keyTable is the table of a README.
func keyTable(keys []key, sections ...string) string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	meaning := ""
	for _, k := range keys {
		if k.words() != "" {
			meaning = k.words()
		}
		for _, s := range sections {
			if k.path[0] != s {
				continue
			}
			path := k.path
			if len(sections) == 1 {
				path = path[1:]
			}
			standard := "`" + k.standard + "`"
			if k.standard == `""` || k.element {
				standard = ""
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.ReplaceAll(strings.Join(path, "."), ".[]", "[]"), standard, strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(meaning))
		}
	}
	return b.String()
}

// TestReadmesDocumentEveryKey: the README of each service has all its keys with their defaults and what they mean, as the
// sources say; those that all share are in that of deploy.
func TestReadmesDocumentEveryKey(t *testing.T) {
	keys := readDocs(t)
	require.Greater(t, len(keys), 300)
	tables := map[string]string{}
	var shared []string
	for _, k := range keys {
		section := k.path[0]
		if target := strings.Join(names(), " "); !strings.Contains(" "+target+" ", " "+section+" ") {
			if len(shared) == 0 || shared[len(shared)-1] != section {
				shared = append(shared, section)
			}
			continue
		}
		tables[filepath.Join("services", section, "README.md")] = keyTable(keys, section)
	}
	require.Len(t, tables, len(names()), "every target has keys")
	tables[filepath.Join("deploy", "README.md")] = keyTable(keys, shared...)
	const begin, end = "<!-- keys of config docs: cd services && go test ./cmd/ceralaccad -run TestReadmes -update -->\n\n", "\n<!-- end of keys -->"
	for name, table := range tables {
		path := filepath.Join("..", "..", "..", name)
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		head, rest, ok := strings.Cut(string(raw), begin)
		require.True(t, ok, "%s has no place for its keys", name)
		have, tail, ok := strings.Cut(rest, end)
		require.True(t, ok, name)
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(head+begin+table+end+tail), 0o644)) //nolint:gosec // a document
			continue
		}
		for i, line := range strings.Split(table, "\n") { // line by line: a difference of whole tables cannot be read
			rest, _, _ := strings.Cut(have, "\n")
			require.Equal(t, line, rest, "%s, line %d of its table: cd services && go test ./cmd/ceralaccad -run TestReadmes -update writes it", name, i+1)
			have = strings.TrimPrefix(strings.TrimPrefix(have, rest), "\n")
		}
		require.Empty(t, have, name)
	}
}

// TestNumbersHaveUnits: who reads of a key that is a number knows what is counted; durations are written with their unit.
func TestNumbersHaveUnits(t *testing.T) {
	number := regexp.MustCompile(`^-?[0-9.]+$`)
	unit := regexp.MustCompile(`(?i)\bbytes\b|\bhow many\b|size of the pool|\bnumber\b|files a second|failures in a row|replicas of each|\b0 to 1\b|at this many|at most so many|per ?cent|instead of`)
	numbers := 0
	meaning := ""
	for _, k := range readDocs(t) {
		if k.meaning != "" {
			meaning = k.meaning
		}
		if number.MatchString(k.standard) {
			numbers++
			require.Regexp(t, unit, meaning, "of what is %s?", strings.Join(k.path, "."))
		}
	}
	require.Greater(t, numbers, 30)
}

// TestEveryKeyIsStrict: each key, with a letter missing, is refused with its place and the word that was meant.
func TestEveryKeyIsStrict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ceralacca.yaml")
	needed := []string{"CERALACCA_NATS_URL=nats://127.0.0.1:1", "CERALACCA_BLOB_FS_DIR=/b", "CERALACCA_RPC_TLS_CERT_FILE=c", "CERALACCA_RPC_TLS_KEY_FILE=k", "CERALACCA_RPC_TLS_CA_FILE=a"}
	for _, k := range readDocs(t) {
		misspelt := k.name()[:len(k.name())-1]
		var text strings.Builder
		for depth, word := range k.path {
			switch {
			case word == "[]" && strings.HasPrefix(lastWord(k.path[:depth]), "targets"):
				text.WriteString(strings.Repeat("  ", depth) + "invoice:\n")
				continue
			case word == "[]":
				text.WriteString(strings.Repeat("  ", depth) + "-\n")
				continue
			case depth == len(k.path)-1:
				fmt.Fprintf(&text, "%s%s: %s\n", strings.Repeat("  ", depth), misspelt, k.standard)
			default:
				fmt.Fprintf(&text, "%s%s:\n", strings.Repeat("  ", depth), word)
			}
		}
		require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))
		var out, errOut bytes.Buffer
		code := run.Execute(t.Context(), targets, []string{"config", "check", "--config", file}, needed, &out, &errOut)
		require.Equal(t, 2, code, text.String())
		require.Contains(t, errOut.String(), fmt.Sprintf("%s:%d:", file, len(k.path)), "%s\n%s", text.String(), errOut.String())
		require.Regexp(t, fmt.Sprintf(`unknown (key|section) %q: did you mean "[a-z0-9_-]+"`, misspelt), errOut.String(), text.String())
	}
}

func lastWord(path []string) string { return path[len(path)-1] }
