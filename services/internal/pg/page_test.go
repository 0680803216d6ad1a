package pg_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

func TestPageTokenRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(0, 1<<50).Draw(r, "at")).UTC()
		name := rapid.String().Draw(r, "name")
		n := rapid.Int64().Draw(r, "n")
		id := uuid.New()
		hash := pg.FilterHash(rapid.String().Draw(r, "filter"))
		token, err := pg.EncodePageToken(hash, at, name, n, id)
		require.NoError(r, err)
		var at2 time.Time
		var name2 string
		var n2 int64
		var id2 uuid.UUID
		found, err := pg.DecodePageToken(token, hash, &at2, &name2, &n2, &id2)
		require.NoError(r, err)
		require.True(r, found)
		require.True(r, at.Equal(at2))
		require.Equal(r, n, n2)
		require.Equal(r, id, id2)
		if name2 != name {
			require.NotEqual(r, []rune(name), []rune(name2), "only invalid UTF-8 may change")
		}
	})
}

func TestPagesShowEveryRowOnceInItsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		all := make([]int, rapid.IntRange(0, 40).Draw(r, "rows"))
		for i := range all {
			all[i] = i
		}
		size := rapid.IntRange(1, 12).Draw(r, "size")
		hash := pg.FilterHash("list")
		var shown []int
		for token := ""; ; {
			after := -1
			_, err := pg.DecodePageToken(token, hash, &after)
			require.NoError(r, err)
			read := all[after+1:]
			page, next, err := pg.Page(read[:min(len(read), size+1)], size, hash, func(n int) []any { return []any{n} })
			require.NoError(r, err)
			require.LessOrEqual(r, len(page), size)
			shown = append(shown, page...)
			if next == "" {
				break
			}
			require.NotEmpty(r, page, "a page with a successor shows something")
			token = next
		}
		require.Equal(r, all, append([]int{}, shown...))
	})
}

func TestAForeignOrDamagedPageTokenIsRefused(t *testing.T) {
	t.Parallel()
	hash := pg.FilterHash("tenants/a", "")
	token, err := pg.EncodePageToken(hash, "x")
	require.NoError(t, err)
	flipped := []byte(token)
	flipped[len(flipped)-3] ^= 1
	var s, s2 string
	for name, bad := range map[string]string{"not base64": "!!", "short": "AQ", "damaged": string(flipped), "another version": "Ag" + token[2:]} {
		_, err := pg.DecodePageToken(bad, hash, &s)
		require.Equal(t, pg.CodePageToken, fault.Of(err).Code, name)
		require.Equal(t, "page_token", fault.Of(err).Fields[0].Path)
	}
	_, err = pg.DecodePageToken(token, pg.FilterHash("tenants/b", ""), &s)
	require.ErrorContains(t, err, "another filter")
	_, err = pg.DecodePageToken(token, hash, &s, &s2)
	require.Error(t, err)
	var n int
	_, err = pg.DecodePageToken(token, hash, &n)
	require.Error(t, err)
	found, err := pg.DecodePageToken("", hash, &s)
	require.NoError(t, err)
	require.False(t, found)
}

func TestFilterHashKeepsPartsApart(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, pg.FilterHash("ab", "c"), pg.FilterHash("a", "bc"))
	require.NotEqual(t, pg.FilterHash("a"), pg.FilterHash("a", ""))
}

func FuzzDecodePageToken(f *testing.F) {
	hash := pg.FilterHash("p")
	token, err := pg.EncodePageToken(hash, "k", 7)
	require.NoError(f, err)
	f.Add(token)
	f.Add("")
	f.Add("AQAAAAAA")
	f.Fuzz(func(t *testing.T, token string) {
		var k string
		var n int
		found, err := pg.DecodePageToken(token, hash, &k, &n)
		if err != nil {
			require.Equal(t, fault.KindInvalid, fault.Of(err).Kind)
			require.False(t, found)
		}
	})
}
