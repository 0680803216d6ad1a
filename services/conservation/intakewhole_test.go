package conservation

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
)

// TestListsOfObjectsThatLie: the list in an object of what was taken in is judged as the files are, whatever it says of where they lie:
// what it says of files of this object has to be so, and one such object holds up the restoring of no other.
func TestListsOfObjectsThatLie(t *testing.T) {
	t.Parallel()
	object, other := uuid.New(), uuid.New()
	content := []byte("<FatturaElettronica/>")
	sum := sha256.Sum256(content)
	const tenant = "acme"
	judge := func(of uuid.UUID, place func(int64) int64, size int64) error {
		var out bytes.Buffer
		z := zip.NewWriter(&out)
		w, err := z.CreateHeader(&zip.FileHeader{Name: "file", Method: zip.Store})
		require.NoError(t, err)
		_, err = w.Write(content)
		require.NoError(t, err)
		require.NoError(t, z.Flush())
		at := place(int64(bytes.Index(out.Bytes(), content)))
		w, err = z.Create(intakeList)
		require.NoError(t, err)
		u := record{Unit: uuid.New(), Tenant: tenant, Files: []recordFile{{FileName: "x.xml", SHA256: hex.EncodeToString(sum[:]), Size: size, Object: &of, Offset: &at}}}
		require.NoError(t, json.NewEncoder(w).Encode(u))
		require.NoError(t, z.Close())
		file, err := os.Create(filepath.Join(t.TempDir(), "object"))
		require.NoError(t, err)
		defer file.Close()
		_, err = file.Write(out.Bytes())
		require.NoError(t, err)
		return intakeWhole(file, vault.Entry{Key: "tenants/" + tenant + "/intake/2026-11-23/" + object.String() + ".zip", Size: int64(out.Len())}, tenant)
	}
	there := func(at int64) int64 { return at }
	n := int64(len(content))
	require.NoError(t, judge(object, there, n))
	require.NoError(t, judge(other, func(int64) int64 { return math.MaxInt64 }, math.MaxInt64), "what lies in another object is that one's matter")
	require.ErrorContains(t, judge(object, func(at int64) int64 { return at + 1 }, n), "is not the file that was taken in")
	for _, lie := range []struct{ at, size int64 }{{math.MaxInt64, math.MaxInt64}, {1, math.MaxInt64}, {math.MaxInt64, 1}, {0, -1}, {-1, n}, {0, 1 << 40}} {
		require.ErrorContains(t, judge(object, func(int64) int64 { return lie.at }, lie.size), "is to lie at", "%+v", lie)
	}
}
