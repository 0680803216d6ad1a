package tlog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/tlog"
)

// The functions of RFC 6962 §2.1 as the text defines them, over all entries in memory: slow,
// and with nothing in common with what they check.

func mth(d [][]byte) tlog.Hash {
	switch n := len(d); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	default:
		k := split(n)
		return inner(mth(d[:k]), mth(d[k:]))
	}
}

func inner(l, r tlog.Hash) tlog.Hash {
	return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
}

// split is the largest power of two smaller than n.
func split(n int) int {
	k := 1
	for k*2 < n {
		k *= 2
	}
	return k
}

func auditPath(m int, d [][]byte) []tlog.Hash {
	n := len(d)
	if n == 1 {
		return nil
	}
	if k := split(n); m < k {
		return append(auditPath(m, d[:k]), mth(d[k:]))
	} else {
		return append(auditPath(m-k, d[k:]), mth(d[:k]))
	}
}

func consistency(m int, d [][]byte, whole bool) []tlog.Hash {
	n := len(d)
	if m == n {
		if whole {
			return nil
		}
		return []tlog.Hash{mth(d)}
	}
	if k := split(n); m <= k {
		return append(consistency(m, d[:k], whole), mth(d[k:]))
	} else {
		return append(consistency(m-k, d[k:], false), mth(d[:k]))
	}
}

// Roots that implementations of Certificate Transparency agree on.
func TestOracleKnowsTheKnownRoots(t *testing.T) {
	var d [][]byte
	for i, c := range []struct{ leaf, root string }{
		{"", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
		{"00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
		{"10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
		{"2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
		{"3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
		{"40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
		{"5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
		{"606162636465666768696a6b6c6d6e6f", "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
	} {
		leaf, err := hex.DecodeString(c.leaf)
		require.NoError(t, err)
		d = append(d, leaf)
		root := mth(d)
		require.Equal(t, c.root, hex.EncodeToString(root[:]), i+1)
		require.Equal(t, mth([][]byte{leaf}), tlog.LeafHash(leaf))
	}
	require.Equal(t, mth(nil), tlog.EmptyTree().Root)
}

// entries makes n different entries.
func entries(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, "entry %d", i)
	}
	return out
}
