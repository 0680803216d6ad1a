package vault_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

// damage replaces the stored bytes of an object behind the vault's back; nil removes it.
type damage func(t *testing.T, key string, bytes []byte)

// suite is what a vault is. Both implementations pass it.
func suite(t *testing.T, v vault.Vault, spoil damage) {
	t.Run("round trip", func(t *testing.T) { roundTrip(t, v) })
	t.Run("write once", func(t *testing.T) { writeOnce(t, v) })
	t.Run("bad keys", func(t *testing.T) { badKeys(t, v) })
	t.Run("not what it is said to be", func(t *testing.T) { liar(t, v) })
	t.Run("race", func(t *testing.T) { race(t, v) })
	t.Run("damage and repair", func(t *testing.T) { repair(t, v, spoil) })
	t.Run("list", func(t *testing.T) { list(t, v) })
	t.Run("check", func(t *testing.T) { require.NoError(t, v.Check(t.Context())) })
}

func object(key string, data []byte) vault.Object {
	return vault.Object{Key: key, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

func noise(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rand.Uint32())
	}
	return out
}

func code(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Code
}

func read(t *testing.T, v vault.Vault, o vault.Object) []byte {
	t.Helper()
	r, err := v.Open(t.Context(), o)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return got
}

func roundTrip(t *testing.T, v vault.Vault) {
	for key, n := range map[string]int{"a": 0, "b/c": 1, "b/d.zip": 70_000, "t/2026/x_y-z": 3 << 20} {
		data := noise(n)
		o := object("round/"+key, data)
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{}))
		require.True(t, bytes.Equal(data, read(t, v, o)), key)
	}
	_, err := v.Open(t.Context(), object("round/absent", nil))
	require.Equal(t, "OBJECT_NOT_FOUND", code(err))
}

func writeOnce(t *testing.T, v vault.Vault) {
	data := noise(1000)
	o := object("once/x", data)
	for range 3 {
		require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{}))
	}
	for _, other := range [][]byte{noise(1000), noise(10), nil} {
		err := v.Put(t.Context(), object(o.Key, other), bytes.NewReader(other), vault.Lock{})
		require.Equal(t, "OBJECT_CONFLICT", code(err))
	}
	require.True(t, bytes.Equal(data, read(t, v, o)))
}

func badKeys(t *testing.T, v vault.Vault) {
	for _, key := range []string{"", "/", "a/", "/a", "a//b", "../a", "a/..", "a/.hidden", "a\x00b", "a b", "é", "a\\b", "-a", string(make([]byte, 600))} {
		o := object(key, nil)
		require.Equal(t, "KEY_INVALID", code(v.Put(t.Context(), o, bytes.NewReader(nil), vault.Lock{})), "%q", key)
		_, err := v.Open(t.Context(), o)
		require.Equal(t, "KEY_INVALID", code(err), "%q", key)
		_, err = v.Replace(t.Context(), o, bytes.NewReader(nil), vault.Lock{})
		require.Equal(t, "KEY_INVALID", code(err), "%q", key)
	}
}

// liar: bytes that are not those that the object names never count as stored.
func liar(t *testing.T, v vault.Vault) {
	data := noise(5000)
	o := object("liar/x", data)
	other := bytes.Clone(data)
	other[17] ^= 1
	require.Error(t, v.Put(t.Context(), o, bytes.NewReader(other), vault.Lock{}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, v.Put(ctx, object("liar/y", data), bytes.NewReader(data), vault.Lock{}), context.Canceled)
}

// race: of many that write a key at once with different bytes, one is stored and whole.
func race(t *testing.T, v vault.Vault) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []vault.Object
	for i := range 16 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte(i)}, 20_000+i)
			o := object("race/x", data)
			err := v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, o)
			} else if code(err) != "OBJECT_CONFLICT" {
				won = append(won, vault.Object{Key: err.Error()})
			}
		})
	}
	wg.Wait()
	require.Len(t, won, 1, "%v", won)
	read(t, v, won[0])
}

func repair(t *testing.T, v vault.Vault, spoil damage) {
	for name, change := range map[string]func(b []byte) []byte{
		"changed":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"empty":     func([]byte) []byte { return []byte{} },
		"gone":      func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			data := noise(10_000)
			o := object("repair/"+name, data)
			require.NoError(t, v.Put(t.Context(), o, bytes.NewReader(data), vault.Lock{}))
			where, err := v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{})
			require.NoError(t, err)
			require.Empty(t, where, "a good copy stays where it is")
			spoil(t, o.Key, change(bytes.Clone(data)))
			err = vault.Verify(t.Context(), v, o)
			require.True(t, vault.Damaged(err), "%v", err)
			where, err = v.Replace(t.Context(), o, bytes.NewReader(data), vault.Lock{})
			require.NoError(t, err)
			require.Equal(t, name == "gone", where == "", "the damaged copy is kept: %q", where)
			require.True(t, bytes.Equal(data, read(t, v, o)))
		})
	}
	require.False(t, vault.Damaged(errors.New("x")))
	require.False(t, vault.Damaged(nil))
}

func list(t *testing.T, v vault.Vault) {
	want := []string{"list/a-b/c", "list/a.zip", "list/a/b", "list/a0", "list/a1", "list/b/c/d"}
	for i, key := range want {
		data := noise(i)
		require.NoError(t, v.Put(t.Context(), object(key, data), bytes.NewReader(data), vault.Lock{}))
	}
	for prefix, n := range map[string]int{"list/": 6, "list/a": 5, "list/a/": 1, "list/z": 0, "list/b/c/d": 1} {
		var got []string
		for e, err := range v.List(t.Context(), prefix) {
			require.NoError(t, err)
			got = append(got, e.Key)
		}
		require.Len(t, got, n, prefix)
		require.IsIncreasing(t, append([]string{""}, append(got, "~")...), prefix)
	}
	for e, err := range v.List(t.Context(), "list/b") {
		require.NoError(t, err)
		require.Equal(t, vault.Entry{Key: "list/b/c/d", Size: 5}, e)
		break
	}
}

var someday = time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)
