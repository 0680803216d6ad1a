package pec

import (
	"bytes"
	"fmt"
	"strings"
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

// TestC14OddOriginalHidesNothing: however much is odd about an original, which its sender writes as he likes, what is odd or doubtful
// around it is found and counts.
func TestC14OddOriginalHidesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	head := "From: mittente@alfa.test\r\nTo: protocollo@beta.test\r\nSubject: x\r\nDate: Mon, 14 Sep 2026 10:30:05 +0200\r\nMessage-ID: <c0ffee.1@alfa.test>\r\nMIME-Version: 1.0\r\n"
	var fields, parts strings.Builder
	for i := range 2 * maxFindings {
		fmt.Fprintf(&fields, "X field %d: y\r\n", i)
		fmt.Fprintf(&parts, "--B\r\nContent-Type: multipart/mixed; boundary=I%d.\r\n\r\n--I%d.\r\n\r\nx\r\n", i, i) // none of them is closed
	}
	for what, original := range map[string]string{
		"notices":     head + fields.String() + "\r\nx\r\n",
		"ambiguities": head + "Content-Type: multipart/mixed; boundary=B\r\n\r\n" + parts.String() + "--B--\r\n",
	} {
		m, err := ParseBytes([]byte(original))
		require.NoError(t, err)
		e := Envelope{MailFrom: "mittente@alfa.test", Recipients: []string{"protocollo@beta.test"}}
		raw, r := written(t, w.alfa, NewTransito(m, e, "0001.20260914103005@pec.alfa.test", nil).Busta(at))
		require.True(t, r.Proven(verified(t, w, r)), "%s: %s", what, codes(r.Findings))

		after := append(bytes.Clone(raw), "\r\n--"+r.Root.Params["boundary"]+"\r\n\r\nmore\r\n"...)
		r = readAll(t, after)
		require.Equal(t, StatusUnparsable, verified(t, w, r).Status, "%s: a part after the end", what)
		require.True(t, r.Findings.Has(CodeAfterClose), "%s: %s", what, codes(r.Findings))
		require.LessOrEqual(t, len(r.Findings), maxFindings)

		other := bytes.Replace(raw, []byte(HeaderRiferimento+": <c0ffee.1@"), []byte(HeaderRiferimento+": <another@"), 1)
		require.NotEqual(t, raw, other)
		r = readAll(t, other)
		rep := verified(t, w, r)
		require.Equal(t, StatusValid, rep.Status)
		require.True(t, r.Findings.Has(CodeMsgID), "%s: %s", what, codes(r.Findings))
		require.False(t, r.Proven(rep), "%s: header and daticert name different messages", what)
	}
}
