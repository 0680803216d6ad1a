package vault

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Folders are new every day, and what a process remembers of them has a bound; it goes on storing in those that it forgot.
func TestFolderRemembersABoundedNumber(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFolder(dir, time.Now)
	require.NoError(t, err)
	put := func(day int) {
		data := fmt.Appendf(nil, "object of day %d", day)
		o := Object{Key: fmt.Sprintf("tenants/acme/intake/%d/x", day), SHA256: sha256.Sum256(data), Size: int64(len(data))}
		require.NoError(t, f.Put(t.Context(), o, bytes.NewReader(data), Lock{}))
	}
	put(0)
	for day := range maxKnown + 100 {
		require.NoError(t, f.makeDir(fmt.Sprintf("%s/objects/tenants/t%d", dir, day)))
		require.LessOrEqual(t, len(f.known), maxKnown+3)
	}
	require.Less(t, len(f.known), maxKnown, "old ones were forgotten")
	require.NoError(t, os.RemoveAll(dir+"/objects/tenants/acme"))
	put(0)
	put(1)
}
