package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
)

// names of the targets.
func names() []string {
	var out []string
	for _, t := range targets {
		out = append(out, t.Name)
	}
	return out
}

// TestShippedConfigs loads every configuration file of the repository: each
// decodes strictly, for every target. (That files named in it exist is known
// on the machine where it is used only.)
func TestShippedConfigs(t *testing.T) {
	found := 0
	root := filepath.Join("..", "..", "..")
	mark := regexp.MustCompile(`(?m)^rpc:`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "templates" || d.Name() == "out") {
			return fs.SkipDir
		}
		if d.IsDir() || (filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !mark.Match(text) {
			return err
		}
		found++
		t.Run(filepath.ToSlash(path), func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := run.Execute(t.Context(), targets, []string{"config", "show", "--config", path}, nil, &out, &errOut)
			require.Zero(t, code, errOut.String())
		})
		return nil
	})
	require.NoError(t, err)
	require.NotZero(t, found, "no configuration file found: this test looks at nothing")
}

// TestDocs: the explanation of the configuration covers every target and every
// key of it.
func TestDocs(t *testing.T) {
	var out, errOut bytes.Buffer
	code := run.Execute(t.Context(), targets, []string{"config", "docs"}, nil, &out, &errOut)
	require.Zero(t, code, errOut.String())
	comment := ""
	for line := range strings.Lines(out.String()) {
		text := strings.TrimSpace(line)
		key, _, isKey := strings.Cut(text, ":")
		switch {
		case strings.HasPrefix(text, "#"):
			if comment != "" && !strings.HasSuffix(comment, "\n") {
				comment = "" // of an earlier key
			}
			comment += text + "\n"
		case isKey:
			// One comment may explain a key and the ones after it, by name.
			named := strings.Contains(strings.ToLower(comment), strings.ReplaceAll(key, "_", ""))
			if !strings.HasSuffix(comment, "\n") && !named {
				t.Errorf("no comment explains: %s", text)
			}
			comment = strings.TrimSuffix(comment, "\n")
		}
	}
	path := filepath.Join(t.TempDir(), "docs.yaml")
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	_, err := run.LoadFile(path, names(), nil)
	require.ErrorContains(t, err, "nats neither url nor embedded.dir is set", "the defaults alone are not a configuration, but they are well-formed")
}

// TestExampleIsWhole: on a machine that has the files which the example names, nothing is wrong with it.
func TestExampleIsWhole(t *testing.T) {
	text, err := os.ReadFile("ceralacca.example.yaml")
	require.NoError(t, err)
	machine := t.TempDir()
	moved := strings.NewReplacer("/etc/ceralacca", machine+"/etc", "/run/secrets", machine+"/secrets", "/srv/archive", machine+"/archive")
	config := filepath.Join(machine, "ceralacca.yaml")
	require.NoError(t, os.WriteFile(config, []byte(moved.Replace(string(text))), 0o600))
	check := func() (int, string) {
		var out, errOut bytes.Buffer
		code := run.Execute(t.Context(), targets, []string{"config", "check", "--config", config}, nil, &out, &errOut)
		return code, out.String() + errOut.String()
	}
	pair, err := rpc.DevCertificates(filepath.Join(machine, "pair"), "any")
	require.NoError(t, err)
	contents := map[string][]byte{"": []byte("content")}
	for suffix, file := range map[string]string{".crt": pair.For("any").Cert, ".key": pair.For("any").Key} {
		contents[suffix], err = os.ReadFile(file)
		require.NoError(t, err)
	}
	missing := regexp.MustCompile(`open (\S+): no such file`)
	code, said := check()
	require.Equal(t, 2, code)
	for _, found := range missing.FindAllStringSubmatch(said, -1) {
		require.True(t, strings.HasPrefix(found[1], machine), "the example does not name %s", found[1])
		require.NoError(t, os.MkdirAll(filepath.Dir(found[1]), 0o700))
		require.NoError(t, os.WriteFile(found[1], contents[filepath.Ext(found[1])], 0o600))
	}
	code, said = check()
	require.Zero(t, code, "all that is missing is told at once: %s", said)
}
