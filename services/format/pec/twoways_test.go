package pec

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestC14ReadInTwoWays: what ends a line, or is the boundary, for one reader and not for another proves nothing.
func TestC14ReadInTwoWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := acts(t, w, draft())[0]
	raw, r := written(t, a.by, a.act)
	require.Equal(t, StatusValid, verified(t, w, r).Status)
	delimiter := "--" + r.Root.Params["boundary"]
	for what, changed := range map[string][]byte{
		"quote not closed":      bytes.Replace(raw, []byte(`protocol="`), []byte("protocol=x"), 1),
		"two boundaries":        bytes.Replace(raw, []byte("boundary="), []byte("boundary=x; boundary="), 1),
		"boundary in pieces":    bytes.Replace(raw, []byte("boundary="), []byte("boundary*0=x; boundary="), 1),
		"boundary in a comment": bytes.Replace(raw, []byte("boundary="), []byte("(boundary=x) boundary="), 1),
		"comment":               bytes.Replace(raw, []byte("multipart/signed;"), []byte("multipart/signed (signed);"), 1),
		"comment not closed":    bytes.Replace(raw, []byte("boundary="), []byte("(x=y; boundary="), 1),
		"in a field":            bytes.Replace(raw, []byte("\r\nDate: "), []byte("\r\nDate: \r"), 1),
		"before a field":        bytes.Replace(raw, []byte("\r\nDate: "), []byte("\r\nX: y\rDate: "), 1),
		"before a delimiter":    bytes.Replace(raw, []byte("\r\n"+delimiter), []byte("\r\nx\r"+delimiter+"\r\n"+delimiter), 1),
	} {
		require.NotEqual(t, raw, changed, what)
		r, err := ReadBytes(changed)
		require.NoError(t, err, what)
		require.Equal(t, StatusUnparsable, verified(t, w, r).Status, what)
	}
}
