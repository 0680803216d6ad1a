package argon2id

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"
)

// TestSameAsTheOther compares with golang.org/x/crypto/argon2, whose own tests have the vectors of RFC 9106: any
// password and salt, memories that are no multiple of anything, lanes and passes of all kinds, keys of all lengths,
// and memory that another hash has left behind.
func TestSameAsTheOther(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		password := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "password")
		salt := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "salt")
		passes := rapid.Uint32Range(1, 4).Draw(t, "passes")
		memory := rapid.OneOf(rapid.Uint32Range(0, 80), rapid.Uint32Range(500, 1200)).Draw(t, "memory")
		lanes := rapid.Uint8Range(1, 5).Draw(t, "lanes")
		size := rapid.Uint32Range(4, 200).Draw(t, "size")
		require.Equal(t, argon2.IDKey(password, salt, passes, memory, lanes, size), Key(password, salt, passes, memory, lanes, size))
	})
}

// TestSideBySide: hashes at the same time do not share memory.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	want := argon2.IDKey([]byte("40718362"), []byte("sixteen bytes ok"), 3, 1024, 2, 32)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 4 {
				if got := Key([]byte("40718362"), []byte("sixteen bytes ok"), 3, 1024, 2, 32); string(got) != string(want) {
					t.Errorf("another hash: %x", got)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkKey says what a hash of a PIN costs, beside the other implementation.
func BenchmarkKey(b *testing.B) {
	password, salt := []byte("40718362"), []byte("sixteen bytes ok")
	for name, key := range map[string]func(password, salt []byte, passes, memoryKiB uint32, lanes uint8, size uint32) []byte{"ours": Key, "x/crypto": argon2.IDKey} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				key(password, salt, 5, 7*1024, 1, 32)
			}
		})
	}
}
