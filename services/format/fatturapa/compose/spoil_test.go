package compose_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/compose"
)

// spoilt are values that somebody might put into any field.
var spoilt = []any{"", " ", "\t\n", "€", "è", "ZZ", "it", "IT", "0", "-1", "0.5", "100.01", "1,5", "99999999999.99999999", "12345678901234567890",
	"2026-02-30", "1969-12-31", "2026-12-31", "N2", "N4", "S", "TD04", "x@y", "\u0000", "😀", strings.Repeat("w", 1100), strings.Repeat("é ", 40), 7, -7}

// leaves calls f for each value of a document with a function that replaces it;
// the value is put back afterwards.
func leaves(v any, path string, f func(path string, set func(any))) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			child := v[k]
			if isContainer(child) {
				leaves(child, path+"."+k, f)
				continue
			}
			f(path+"."+k, func(x any) { v[k] = x })
			v[k] = child
		}
	case []any:
		for i, child := range v {
			if isContainer(child) {
				leaves(child, path, f)
				continue
			}
			f(path, func(x any) { v[i] = x })
			v[i] = child
		}
	}
}

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// Whatever stands in one field of a good request, either the document is right or
// the error names a place in the request: nothing is left to the checker to find.
func TestSpoiltFieldsAreFoundInTheRequest(t *testing.T) {
	composed, refused := 0, 0
	var late []string
	times := map[string]int{} // the same field of a third request teaches nothing new
	for _, path := range requests(t) {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var doc any
		require.NoError(t, json.Unmarshal(raw, &doc))
		leaves(doc, "$", func(field string, set func(any)) {
			if times[field]++; times[field] > 2 && !strings.Contains(path, "simplified") {
				return
			}
			for _, x := range spoilt {
				set(x)
				text, err := json.Marshal(doc)
				require.NoError(t, err)
				r, err := compose.ReadRequest(text)
				if err != nil {
					continue // a value of another kind: JSON itself says so
				}
				_, _, err = compose.Compose(r)
				if err == nil {
					composed++
					continue
				}
				refused++
				var wrong *compose.Error
				require.ErrorAs(t, err, &wrong, "%s %s = %q", filepath.Base(path), field, x)
				for _, p := range wrong.Problems {
					if !strings.HasPrefix(p.Path, "$.") {
						late = append(late, fmt.Sprintf("%s %s = %q: %v", filepath.Base(path), field, x, p))
					}
				}
			}
		})
	}
	require.Empty(t, late, "found by the checker only")
	t.Logf("%d documents composed, %d requests refused", composed, refused)
	require.Greater(t, refused, 1000)
	require.Greater(t, composed, 1000)
}
