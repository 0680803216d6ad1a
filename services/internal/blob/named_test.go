package blob

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Where files need a name while they are written, what is stored is the same, and incoming ends empty.
func TestPutWithAndWithoutNames(t *testing.T) {
	t.Parallel()
	for _, linkable := range []bool{false, true} {
		t.Run(fmt.Sprintf("linkable=%t", linkable), func(t *testing.T) {
			t.Parallel()
			s, err := OpenFS(t.TempDir())
			require.NoError(t, err)
			s.linkable = linkable
			var wg sync.WaitGroup
			for n := range 40 {
				wg.Go(func() { // each content twice, at the same time
					data := fmt.Appendf(nil, "document %d", n/2)
					ref, err := s.Put(t.Context(), "t1", data)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := s.Get(t.Context(), ref)
					if err != nil || string(got) != string(data) {
						t.Errorf("%q: %v", got, err)
					}
				})
			}
			wg.Wait()
			left, err := os.ReadDir(s.incoming())
			require.NoError(t, err)
			require.Empty(t, left)
			info, err := os.Stat(s.path(Of("t1", []byte("document 3"))))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o440), info.Mode().Perm())
		})
	}
}

// What a process remembers of its folders is small for each tenant, however many blobs there are.
func TestFoldersOfManyTenants(t *testing.T) {
	t.Parallel()
	s, err := OpenFS(t.TempDir())
	require.NoError(t, err)
	const tenants = 20
	for n := range 2000 {
		tenant := fmt.Sprintf("t%d", n%tenants)
		data := fmt.Appendf(nil, "document %d", n)
		_, err := s.Put(t.Context(), tenant, data)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, len(s.known), 3+tenants, "the store, incoming, tenants and one for each")
	require.Len(t, s.leaves, tenants)
}
