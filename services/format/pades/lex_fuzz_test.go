package pades

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A value that can be read is written so that it reads as the same value, through any window.
func FuzzObject(f *testing.F) {
	for _, s := range []string{"[1 2 0 R (a\\)b\\101) <4 8 6> /A#20 true null -1.5]", "<</A<</B[()]>>/C 1 0 R>>", "(((", "<<", "% x\n1", "12 34", "1 0 R"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := &lexer{b: raw, last: true, left: 1 << 12}
		v, err := l.object(0)
		if err != nil {
			return
		}
		out := appendObject(nil, v)
		again, err := (&lexer{b: out, last: true, left: 1 << 13}).object(0)
		require.NoError(t, err, "%q", out)
		require.Equal(t, string(out), string(appendObject(nil, again)))
		// a window that ends early asks for more or is wrong in the same way, and never differs
		for n := range min(l.pos, 64) {
			if got, err := (&lexer{b: raw[:n], left: 1 << 12}).object(0); err == nil {
				require.Equal(t, string(out), string(appendObject(nil, got)))
			}
		}
	})
}
