// Package blobtest is the conformance suite of blob stores: whatever implements
// blob.Store passes it.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// Damage replaces the stored bytes of a blob behind the store's back.
type Damage func(t *testing.T, ref blob.Ref, bytes []byte)

// Run checks a store.
func Run(t *testing.T, s blob.Store, damage Damage) {
	t.Run("round trip", func(t *testing.T) { roundTrip(t, s) })
	t.Run("write once", func(t *testing.T) { writeOnce(t, s) })
	t.Run("many at once", func(t *testing.T) { many(t, s) })
	t.Run("tenants are apart", func(t *testing.T) { tenants(t, s) })
	t.Run("absent", func(t *testing.T) { absent(t, s) })
	t.Run("failed reader", func(t *testing.T) { failedReader(t, s) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, s) })
	t.Run("bad tenants", func(t *testing.T) { badTenants(t, s) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, s) })
	t.Run("damage", func(t *testing.T) { damaged(t, s, damage) })
	t.Run("mend", func(t *testing.T) { mend(t, s, damage) })
	t.Run("mark", func(t *testing.T) { marks(t, s) })
	t.Run("check", func(t *testing.T) { require.NoError(t, s.Check(t.Context())) })
}

// data is n bytes that differ from test to test.
func data(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rand.Uint32())
	}
	return out
}

func roundTrip(t *testing.T, s blob.Store) {
	for _, n := range []int{0, 1, 4096, 100_000, 6 << 20} {
		want := data(n)
		ref, err := s.Put(t.Context(), "t1", want)
		require.NoError(t, err)
		require.Equal(t, blob.Of("t1", want), ref)
		again, err := s.PutReader(t.Context(), "t1", iotest.OneByteReader(io.LimitReader(bytes.NewReader(want), 50_000)))
		require.NoError(t, err)
		require.Equal(t, blob.Of("t1", want[:min(n, 50_000)]), again)

		got, err := s.Get(t.Context(), ref)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		r, err := s.Open(t.Context(), ref)
		require.NoError(t, err)
		streamed, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.True(t, bytes.Equal(want, streamed))
	}
}

func writeOnce(t *testing.T, s blob.Store) {
	want := data(1000)
	first, err := s.Put(t.Context(), "t1", want)
	require.NoError(t, err)
	second, err := s.Put(t.Context(), "t1", want)
	require.NoError(t, err)
	third, err := s.PutReader(t.Context(), "t1", bytes.NewReader(want))
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, first, third)
}

// many: in order, whatever was there before and whatever comes twice.
func many(t *testing.T, s blob.Store) {
	list := [][]byte{data(10), {}, data(70_000)}
	for range 200 {
		list = append(list, data(300))
	}
	list = append(list, list[0], list[100])
	_, err := s.Put(t.Context(), "t1", list[2])
	require.NoError(t, err)
	for range 2 {
		refs, err := blob.PutAll(t.Context(), s, "t1", list)
		require.NoError(t, err)
		require.Len(t, refs, len(list))
		for i, ref := range refs {
			require.Equal(t, blob.Of("t1", list[i]), ref)
			got, err := s.Get(t.Context(), ref)
			require.NoError(t, err)
			require.True(t, bytes.Equal(list[i], got))
		}
	}
	none, err := blob.PutAll(t.Context(), s, "t1", nil)
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = blob.PutAll(t.Context(), s, "../t1", list)
	require.Equal(t, fault.KindInvalid, fault.Of(err).Kind)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	fresh := [][]byte{data(20), data(21)}
	_, err = blob.PutAll(gone, s, "t1", fresh)
	require.Error(t, err)
	_, err = s.Get(t.Context(), blob.Of("t1", fresh[0]))
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
}

func tenants(t *testing.T, s blob.Store) {
	ref, err := s.Put(t.Context(), "t1", data(100))
	require.NoError(t, err)
	ref.Tenant = "t2"
	_, err = s.Get(t.Context(), ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
}

func absent(t *testing.T, s blob.Store) {
	ref := blob.Of("t1", data(64))
	_, err := s.Get(t.Context(), ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
	require.Equal(t, fault.KindNotFound, fault.Of(err).Kind)
	_, err = s.Open(t.Context(), ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
}

func failedReader(t *testing.T, s blob.Store) {
	broken, begin := errors.New("the line broke"), data(70_000)
	_, err := s.PutReader(t.Context(), "t1", io.MultiReader(bytes.NewReader(begin), iotest.ErrReader(broken)))
	require.ErrorIs(t, err, broken, "the reader's own error comes back")
	_, err = s.Get(t.Context(), blob.Of("t1", begin))
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code, "nothing is kept")
}

func cancelled(t *testing.T, s blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.PutReader(ctx, "t1", bytes.NewReader(data(10)))
	require.ErrorIs(t, err, context.Canceled)
}

func badTenants(t *testing.T, s blob.Store) {
	for _, tenant := range []string{"", "..", "a/b", ".hidden", "a\x00b", "-a", "é", string(data(64))} {
		_, err := s.Put(t.Context(), tenant, []byte("x"))
		require.Equal(t, "BLOB_TENANT_INVALID", fault.Of(err).Code, "%q", tenant)
		_, err = s.PutReader(t.Context(), tenant, bytes.NewReader(nil))
		require.Equal(t, "BLOB_TENANT_INVALID", fault.Of(err).Code, "%q", tenant)
		_, err = s.Get(t.Context(), blob.Ref{Tenant: tenant})
		require.Equal(t, "BLOB_TENANT_INVALID", fault.Of(err).Code, "%q", tenant)
	}
}

// concurrent: many writers of the same bytes and of others at once.
func concurrent(t *testing.T, s blob.Store) {
	same := data(20_000)
	var wg sync.WaitGroup
	errs := make([]error, 24)
	for i := range errs {
		wg.Go(func() {
			mine := same
			if i%3 == 0 {
				mine = append([]byte{byte(i)}, same...)
			}
			ref, err := s.PutReader(t.Context(), "t1", bytes.NewReader(mine))
			if err == nil {
				var got []byte
				got, err = s.Get(t.Context(), ref)
				if err == nil && !bytes.Equal(got, mine) {
					err = errors.New("other bytes came back")
				}
			}
			errs[i] = err
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
}

// damaged: bytes that were changed in the store are never handed out as good.
func damaged(t *testing.T, s blob.Store, damage Damage) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"changed":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			want := data(10_000)
			ref, err := s.Put(t.Context(), "t1", want)
			require.NoError(t, err)
			damage(t, ref, spoil(bytes.Clone(want)))
			_, err = s.Get(t.Context(), ref)
			require.Equal(t, "BLOB_CORRUPT", fault.Of(err).Code)
			r, err := s.Open(t.Context(), ref)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				require.NoError(t, r.Close())
			}
			require.Equal(t, "BLOB_CORRUPT", fault.Of(err).Code)
		})
	}
}

// mend: damaged bytes are replaced by those that their name promises, and by no others.
func mend(t *testing.T, s blob.Store, damage Damage) {
	want := data(10_000)
	ref, err := s.Put(t.Context(), "t1", want)
	require.NoError(t, err)
	corrupt := func(code string) {
		_, err := s.Get(t.Context(), ref)
		require.Equal(t, code, fault.Of(err).Code)
	}
	for _, spoiled := range [][]byte{append([]byte{want[0] ^ 1}, want[1:]...), want[:9_000], nil} {
		damage(t, ref, spoiled)
		for _, other := range [][]byte{spoiled, want[:9_999], append(bytes.Clone(want), 0)} {
			require.Equal(t, "BLOB_DIFFERS", fault.Of(s.Mend(t.Context(), ref, bytes.NewReader(other))).Code)
		}
		broken := errors.New("the line broke")
		require.ErrorIs(t, s.Mend(t.Context(), ref, io.MultiReader(bytes.NewReader(want[:100]), iotest.ErrReader(broken))), broken)
		corrupt("BLOB_CORRUPT")
		require.NoError(t, s.Mend(t.Context(), ref, bytes.NewReader(want)))
		got, err := s.Get(t.Context(), ref)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
	ref = blob.Of("t1", data(64)) // lost altogether
	corrupt("BLOB_NOT_FOUND")
	lost := data(700)
	ref = blob.Of("t1", lost)
	require.NoError(t, s.Mend(t.Context(), ref, bytes.NewReader(lost)))
	_, err = s.Get(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, "BLOB_TENANT_INVALID", fault.Of(s.Mend(t.Context(), blob.Ref{Tenant: "../x"}, bytes.NewReader(nil))).Code)
}

// marks: absent bytes have none; those that are there keep theirs while they are only read.
func marks(t *testing.T, s blob.Store) {
	want := data(500)
	ref := blob.Of("t1", want)
	_, err := s.Mark(t.Context(), ref)
	require.Equal(t, "BLOB_NOT_FOUND", fault.Of(err).Code)
	_, err = s.Put(t.Context(), "t1", want)
	require.NoError(t, err)
	first, err := s.Mark(t.Context(), ref)
	require.NoError(t, err)
	_, err = s.Get(t.Context(), ref)
	require.NoError(t, err)
	second, err := s.Mark(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, first.Text, second.Text)
	_, err = s.Mark(t.Context(), blob.Ref{Tenant: "../x"})
	require.Equal(t, "BLOB_TENANT_INVALID", fault.Of(err).Code)
}
