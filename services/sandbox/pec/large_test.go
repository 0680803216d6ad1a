package pec_test

import (
	"bytes"
	"fmt"
	"testing"

	rfc "ceralacca.dev/services/format/pec"
	"github.com/stretchr/testify/require"
)

// TestThirtyMegabytes: the legal limit to the byte. What passes comes back whole in the receipt.
func TestThirtyMegabytes(t *testing.T) {
	n := start(t)
	message := func(id string, size int) []byte {
		head := fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: grande\r\nMessage-ID: <%s>\r\nMIME-Version: 1.0\r\n"+
			"Content-Type: application/octet-stream; name=grande.bin\r\n\r\n", sender, recipient, id)
		line := bytes.Repeat([]byte("x"), 76)
		raw := append([]byte(head), bytes.Repeat(append(line, '\r', '\n'), size/78)...)
		raw = raw[:size-2]
		if raw[size-3] == '\r' {
			raw[size-3] = 'x' // no carriage return alone at the end
		}
		return append(raw, '\r', '\n')
	}
	most := message("most@alfa.test", rfc.LegalVolume)
	require.Len(t, most, rfc.LegalVolume)
	require.NoError(t, n.submit(sender, []string{recipient}, most))
	require.NoError(t, n.submit(sender, []string{recipient}, message("more@alfa.test", rfc.LegalVolume+1)))
	n.settle()
	require.ElementsMatch(t, []string{acc, cons}, n.types(sender, "most@alfa.test"))
	require.Equal(t, []string{nacc}, n.types(sender, "more@alfa.test"))
	got, err := n.c.PECSubmitted(t.Context(), n.submissions()[0].Identificativo)
	require.NoError(t, err)
	require.True(t, bytes.Equal(most, got), "the bytes submitted are kept as they came")
	n.proven(sender)
	require.Error(t, n.submit(sender, []string{recipient}, make([]byte, 65<<20)), "more than SMTP takes")
}
