package services_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// checkout is the top of the tree, read once.
type checkout struct {
	documents map[string]string // by path from the top
	tests     map[string]string // sources of tests, by folder
	targets   map[string]bool   // of the Makefile
}

func readCheckout(t *testing.T) *checkout {
	t.Helper()
	c := &checkout{documents: map[string]string{}, tests: map[string]string{}, targets: map[string]bool{}}
	root := os.DirFS("..")
	require.NoError(t, fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "out" || strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(name, ".md"):
			text, err := fs.ReadFile(root, name)
			c.documents[name] = string(text)
			return err
		case strings.HasSuffix(name, "_test.go"):
			text, err := fs.ReadFile(root, name)
			c.tests[path.Dir(name)] += string(text)
			return err
		}
		return nil
	}))
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	for _, found := range regexp.MustCompile(`(?m)^([a-z0-9% -]+):`).FindAllStringSubmatch(string(makefile), -1) {
		for word := range strings.FieldsSeq(found[1]) {
			c.targets[word] = true
		}
	}
	require.Greater(t, len(c.documents), 15)
	require.True(t, c.targets["demo"] && c.targets["bench-%"])
	return c
}

var (
	span     = regexp.MustCompile("(?s)```[a-z]*\n(.*?)```|`([^`\n]+)`")
	testName = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z0-9]\w*`)
	runWords = regexp.MustCompile(`-(?:run|bench|fuzz)[ =]('[^']*'|\S+)`)
	makeWord = regexp.MustCompile(`(?m)(?:^|[;&(] ?|^\$ )make ([a-z][a-z0-9-]*)`)
)

// TestDocumentsNameRealTests: each test that a document names is there, in the words of `go test -run` at least one, and so
// are targets of the Makefile. The changelog and the dated decisions speak of their day.
func TestDocumentsNameRealTests(t *testing.T) {
	c := readCheckout(t)
	var all strings.Builder
	for _, source := range c.tests {
		all.WriteString(source)
	}
	named, commands, makes := 0, 0, 0
	for document, text := range c.documents {
		if document == "CHANGELOG.md" || document == "services/DESIGN.md" {
			continue
		}
		for _, found := range span.FindAllStringSubmatch(text, -1) {
			code := found[1] + found[2]
			for line := range strings.Lines(code) {
				if strings.Contains(line, "go test ") || strings.HasPrefix(code, "-run ") {
					commands++
					c.runnable(t, document, line)
					continue
				}
				for _, name := range testName.FindAllString(line, -1) {
					named++
					prefix := ""
					if strings.HasSuffix(name, "_") || strings.Contains(line, name+"…") || strings.Contains(line, name+"*") {
						prefix = `\w*` // of several
					}
					require.Regexp(t, `(?m)(^func |t\.Run\(")`+name+prefix+`[("]`, bareSource(all.String(), name), "%s names %s", document, name)
				}
			}
			for _, word := range makeWord.FindAllStringSubmatch(code, -1) {
				makes++
				require.True(t, c.targets[word[1]] || strings.HasPrefix(word[1], "bench-"), "%s: there is no make %s", document, word[1])
			}
		}
	}
	require.Greater(t, named, 300)
	require.Greater(t, commands, 5)
	require.Greater(t, makes, 20)
}

// bareSource is what of the sources may declare a test, so that a failure can be read.
func bareSource(source, name string) string {
	var lines strings.Builder
	for line := range strings.Lines(source) {
		if strings.Contains(line, name) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// runnable finds the packages that a line has tested, and looks there for what it has run.
func (c *checkout) runnable(t *testing.T, document, line string) {
	t.Helper()
	run := runWords.FindStringSubmatch(line)
	if run == nil || run[1] == "NAME" || run[1] == "'^$'" && !strings.Contains(line, "-fuzz") {
		return
	}
	folder := path.Dir(document)
	if cd := regexp.MustCompile(`cd (\S+) &&`).FindStringSubmatch(line); cd != nil {
		folder = cd[1]
	} else if strings.Contains(line, " ./") {
		folder = "services" // CONTRIBUTING.md: where tests are run
	}
	folders := []string{folder}
	if packages := regexp.MustCompile(` \./([\w/.-]*)`).FindAllStringSubmatch(line, -1); packages != nil {
		folders = nil
		for _, p := range packages {
			folders = append(folders, path.Join(folder, p[1]))
		}
	}
	words := strings.Trim(run[1], "'`")
	if f := regexp.MustCompile(`-fuzz[ =]('[^']*'|\S+)`).FindStringSubmatch(line); f != nil {
		words = strings.Trim(f[1], "'`")
	}
	first, _, _ := strings.Cut(words, "/")
	pattern := regexp.MustCompile(first)
	for _, f := range folders {
		for _, declared := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`).FindAllStringSubmatch(c.tests[f], -1) {
			if pattern.MatchString(declared[1]) {
				return
			}
		}
	}
	t.Errorf("%s: %s runs nothing in %v", document, strings.TrimSpace(line), folders)
}

// TestDocumentsNameRealFiles: a path of this tree in a document is there, from where the document lies, from the top, or
// from the folder of the services.
func TestDocumentsNameRealFiles(t *testing.T) {
	c := readCheckout(t)
	ours := regexp.MustCompile(`^(services|deploy|proto|migrations|tests|internal|format|cmd|sandbox|invoice|signer|sdi-gateway|pec-gateway|conservation|notification|tenancy)/[\w./*-]*[\w*]/?$`)
	source := regexp.MustCompile(`^[a-z][a-z0-9_]*\.(go|sql|proto|hcl|conf)$`)
	found := 0
	for document, text := range c.documents {
		if document == "CHANGELOG.md" || document == "services/DESIGN.md" {
			continue
		}
		here := filepath.Join("..", filepath.Dir(document))
		for _, code := range span.FindAllStringSubmatch(text, -1) {
			for word := range strings.FieldsSeq(code[2]) {
				word = strings.Trim(word, "'\"(),;:")
				switch {
				case source.MatchString(word) && strings.HasSuffix(document, "README.md"):
					matches, err := filepath.Glob(filepath.Join(here, word))
					require.NoError(t, err)
					require.NotEmpty(t, matches, "%s: there is no %s beside it", document, word)
				case ours.MatchString(word) && !strings.Contains(word, "..."):
					if _, method, ok := strings.Cut(filepath.Base(word), "."); ok && method != "" && method[0] >= 'A' && method[0] <= 'Z' {
						word = strings.TrimSuffix(word, "."+method) // a name in a package
					}
					some := false
					for _, from := range []string{here, "..", "../services"} {
						matches, err := filepath.Glob(filepath.Join(from, word))
						require.NoError(t, err)
						some = some || len(matches) > 0
					}
					require.True(t, some, "%s: there is no %s", document, word)
				default:
					continue
				}
				found++
			}
		}
	}
	require.Greater(t, found, 60)
}

// TestReadmeNamesEveryAPI: the table of the API in the first README has each service of the contracts.
func TestReadmeNamesEveryAPI(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	files, err := filepath.Glob("../proto/ceralacca/*/v1/*.proto")
	require.NoError(t, err)
	services := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, s := range regexp.MustCompile(`(?m)^service (\w+) \{`).FindAllStringSubmatch(string(text), -1) {
			services++
			require.Regexp(t, `(?m)^\| [\w, ]*\b`+s[1]+`\b[\w, ]* \| \[\w+/v1\]\(`, string(readme), "%s of %s has no row", s[1], file)
		}
	}
	require.Greater(t, services, 30)
}
