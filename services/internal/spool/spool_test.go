package spool_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/spool"
)

// TestGivesWhatItTook writes in pieces, below and above what is held in memory, and reads anywhere.
func TestGivesWhatItTook(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		f := spool.New(dir, 4<<20)
		var all []byte
		for range rapid.IntRange(0, 5).Draw(t, "writes") {
			piece := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(0, 600_000).Draw(t, "size"))
			n, err := f.Write(piece)
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
			all = append(all, piece...)
		}
		require.Equal(t, int64(len(all)), f.Size())
		require.Equal(t, sha256.Sum256(all), f.SHA256())
		held, ok := f.Bytes()
		require.Equal(t, len(all) <= 1<<20, ok)
		if ok {
			require.Equal(t, len(all), len(held))
		}
		from := rapid.IntRange(0, len(all)).Draw(t, "from")
		got, err := io.ReadAll(io.NewSectionReader(f, int64(from), int64(len(all)-from)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(all[from:], got))
		require.NoError(t, f.Close())
	})
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "a file has no name from its first byte on")
}

func TestRefusesMoreThanAllowed(t *testing.T) {
	f := spool.New(t.TempDir(), 10)
	_, err := f.Write(make([]byte, 10))
	require.NoError(t, err)
	_, err = f.Write([]byte{1})
	require.ErrorIs(t, err, spool.ErrTooLarge)
	require.Equal(t, int64(10), f.Size())
}

func TestSaysWhereItCannotWrite(t *testing.T) {
	f := spool.New("/nowhere/at/all", 4<<20)
	_, err := f.Write(make([]byte, 2<<20))
	require.ErrorIs(t, err, os.ErrNotExist)
}
