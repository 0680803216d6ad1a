package pdd

import (
	"io/fs"
	"runtime"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// swollen is a package one file of which goes on for ever, as one that a few bytes of a ZIP unpack to.
type swollen struct {
	fstest.MapFS
	name string
}

func (s swollen) Open(name string) (fs.File, error) {
	f, err := s.MapFS.Open(name)
	if err == nil && name == s.name {
		return zeros{f}, nil
	}
	return f, err
}

type zeros struct{ fs.File }

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestFileWithoutAnEnd: whoever checks a package that another hands them does not run out of memory by it.
func TestFileWithoutAnEnd(t *testing.T) {
	t.Parallel()
	before, after := runtime.MemStats{}, runtime.MemStats{}
	runtime.ReadMemStats(&before)
	report := Verify(swollen{fstest.MapFS{IndexFile: {}, SignedFile: {}, StampFile: {}}, IndexFile}, Options{})
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<30))
	var said []string
	for _, p := range report.Problems {
		said = append(said, p.Message)
	}
	require.True(t, slices.Contains(said, "cannot be read: larger than 1 GiB"), said)
	require.True(t, slices.Contains(said, IndexFile+" was not read to its end"), said)
}
