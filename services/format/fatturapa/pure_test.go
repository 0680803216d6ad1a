package fatturapa_test

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The libraries of invoices ask the operating system for nothing, so that they run in
// a browser too: no files, no network, no processes, no clock, no random numbers.
// `make build-alone` compiles them to WebAssembly.
func TestLibrariesMakeNoSystemCalls(t *testing.T) {
	forbidden := []string{"os", "net", "syscall", "runtime", "plugin", "log", "math/rand", "crypto/rand", "golang.org/x/sys"}
	files := 0
	for _, dir := range []string{".", "compose", "render", "../signature"} {
		names, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			file, err := goparser.ParseFile(token.NewFileSet(), name, nil, 0)
			require.NoError(t, err)
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				require.False(t, slices.ContainsFunc(forbidden, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") }), "%s imports %s", name, path)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
						require.NotContains(t, []string{"Now", "Since", "Until", "Sleep", "After", "Tick", "LoadLocation", "Local"}, sel.Sel.Name, name)
					}
				}
				return true
			})
		}
	}
	require.Greater(t, files, 50)
}
