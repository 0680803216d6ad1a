package fatturapa

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

// Every message that the parser can give has its Italian, with the same arguments
// in the same order, and the table holds no other.
func TestEveryParseMessageHasItsItalian(t *testing.T) {
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := goparser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !slices.Contains([]string{"fail", "newParseError", "newEncodingError"}, called(call)) {
				return true
			}
			for _, arg := range call.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					format, err := strconv.Unquote(lit.Value)
					require.NoError(t, err)
					used[format] = true
					break
				}
			}
			return true
		})
	}
	require.Greater(t, len(used), 50)
	verbs := func(s string) (out []string) {
		for i := range len(s) - 1 {
			if s[i] == '%' {
				out = append(out, s[i:i+2])
			}
		}
		return out
	}
	for format := range used {
		require.Contains(t, parseItalian, format)
		require.Equal(t, verbs(format), verbs(parseItalian[format]), format)
	}
	require.Len(t, parseItalian, len(used), "a message that nobody gives")
}

// called is the name of the function or method that is called.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}
