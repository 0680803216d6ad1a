package pec

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestF2Archives: a password on any file of an archive, whatever its place, and programs by their names; archives of
// harmless files, and files that only look like one, are left alone. TESTPLAN F2.
func TestF2Archives(t *testing.T) {
	zipped := func(names ...string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range names {
			h := &zip.FileHeader{Name: strings.TrimPrefix(n, "!"), Method: zip.Store}
			if strings.HasPrefix(n, "!") {
				h.Flags |= 1
			}
			w, err := z.CreateRaw(h)
			require.NoError(t, err)
			_, err = io.WriteString(w, "")
			require.NoError(t, err)
		}
		require.NoError(t, z.Close())
		return b.Bytes()
	}
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprintf("cartella/%04d.pdf", i)
	}
	rar4 := func(main, file byte) []byte {
		return append([]byte("Rar!\x1a\x07\x00\x00\x00\x73"), main, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x74, file, 0, 0, 0, 0, 0)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"harmless":          {zipped("a.pdf", "b.xml.p7m"), ""},
		"the first":         {zipped("!a.pdf"), "password"},
		"the second":        {zipped("a.pdf", "!b.pdf"), "password"},
		"the last of many":  {zipped(append(many, "!z.pdf")...), "password"},
		"a program inside":  {zipped(append(many, "fattura.pdf.exe")...), "fattura.pdf.exe"},
		"long names":        {zipped(strings.Repeat("n", 60000) + ".txt"), ""},
		"cut off":           {zipped("a.pdf", "!b.pdf")[:60], ""},
		"entry without end": {append(zipped("a.pdf"), "PK\x01\x02"...), ""},
		"looks like one":    {[]byte("PK\x03\x04\x14\x00\x00\x00" + strings.Repeat("PK\x01\x02\xff\xff\xff\xff\xff\xff", 50)), ""},
		"rar":               {rar4(0, 0), ""},
		"rar, list locked":  {rar4(0x80, 0), "password"},
		"rar, file locked":  {rar4(0, 4), "password"},
		"rar 5":             {[]byte("Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x0a\x01\x05"), ""},
		"rar 5, locked":     {[]byte("Rar!\x1a\x07\x01\x00\x00\x00\x00\x00\x0a\x04\x05"), "password"},
		"7z":                {[]byte("7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("x", 90)), ""},
		"7z, locked":        {[]byte("7z\xbc\xaf\x27\x1c\x00\x04" + strings.Repeat("x", 90) + "\x24\x06\xf1\x07\x01"), "password"},
		"no archive":        {[]byte("%PDF-1.7"), ""},
		"empty":             {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := DangerInside(c.data[:min(80, len(c.data))], bytes.NewReader(c.data))
			require.Equal(t, c.want != "", got != "", got)
			require.Contains(t, got, c.want)
		})
	}
}
