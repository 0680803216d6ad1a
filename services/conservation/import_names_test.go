package conservation

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImportedNames: a package of another preserver with files that come to lie over each other where it is unpacked is refused; odd names
// alone are not.
func TestImportedNames(t *testing.T) {
	t.Parallel()
	const text = "Verbale del 2 maggio\n"
	with := func(more ...string) []byte {
		files := map[string]string{"pkg/IdC.xml": idc2010(text, oldMetadata, ""), "pkg/doc uno.txt": text, "pkg/meta.xml": oldMetadata}
		for _, name := range more {
			files[name] = ""
			if !strings.HasSuffix(name, "/") {
				files[name] = "altro"
			}
		}
		return zipped(t, files)
	}
	for _, more := range [][]string{
		{"pkg/./doc uno.txt"}, {"./pkg/doc uno.txt"}, {"pkg//doc uno.txt"}, {"PKG/doc uno.txt"}, {"pkg/DOC UNO.TXT"}, {"pkg/doc uno.txt."}, {"pkg /doc uno.txt"},
		{"pkg/città.txt", "pkg/citta\u0300.txt"}, {"pkg/doc uno.txt/"}, {"pkg/doc uno.txt/x"}, {"pkg/META.xml/x"},
	} {
		_, err := openForeign(with(more...))
		require.ErrorContains(t, err, "cannot be kept apart", more)
	}
	_, err := openForeign(with("pkg/" + strings.Repeat("a/", 101)))
	require.ErrorContains(t, err, "folders deep")
	_, err = openForeign(with("."))
	require.ErrorContains(t, err, "no name of a file")

	f, err := openForeign(with("./pkg/altro.txt", "pkg/", "pkg/b/", "pkg/B/c.txt", "./", "pkg/..."))
	require.NoError(t, err)
	require.Empty(t, f.v.Notes)
	f.files()
	require.Empty(t, f.v.Problems)
}

// TestImportedStream: that a foreign ZIP is another one for who reads it from its beginning is told, and does not keep it out.
func TestImportedStream(t *testing.T) {
	t.Parallel()
	raw := zipped(t, map[string]string{"IdC.xml": idc2010("x", oldMetadata, "")})
	f, err := openForeign(raw)
	require.NoError(t, err)
	require.Empty(t, f.v.Notes)
	f, err = openForeign(append([]byte("MZ"), raw...))
	require.NoError(t, err)
	require.Contains(t, strings.Join(f.v.Notes, "\n"), "from its beginning")
}
