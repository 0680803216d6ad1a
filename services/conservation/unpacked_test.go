package conservation

import (
	"archive/zip"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSizesOfMembersThatWrap: members of a ZIP whose sizes together are beyond what a number holds are too large, and not small.
func TestSizesOfMembersThatWrap(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i, size := range []uint64{1 << 63, 1<<63 - 1, 2} {
		w, err := z.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf("%d.xml", i), Method: zip.Deflate, CompressedSize64: 1, UncompressedSize64: size})
		require.NoError(t, err)
		_, err = w.Write([]byte{3})
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	said := strings.Join(recogniseZIP(out.Bytes(), 0).inside, " ")
	require.Contains(t, said, "are not opened")
	_, err := openForeign(out.Bytes())
	require.ErrorContains(t, err, "are not opened")
}
