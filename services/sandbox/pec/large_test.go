package pec_test

import (
	"bytes"
	"fmt"
	"testing"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// TestSizeLimit: a provider's limit to the byte, a tenth of the legal one (which it has unless told
// otherwise) to spare time. What passes comes back whole in the receipt.
func TestSizeLimit(t *testing.T) {
	const limit = rfc.LegalVolume / 10
	n := start(t)
	list, err := n.c.PECProviders(t.Context())
	require.NoError(t, err)
	require.Equal(t, int64(rfc.LegalVolume), list[0].Volume)
	_, err = n.c.SetPECProvider(t.Context(), client.PECProvider{ID: "alfa", Volume: limit})
	require.NoError(t, err)
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
	most := message("most@alfa.test", limit)
	require.Len(t, most, limit)
	require.NoError(t, n.submit(sender, []string{recipient}, most))
	require.NoError(t, n.submit(sender, []string{recipient}, message("more@alfa.test", limit+1)))
	n.settle()
	require.ElementsMatch(t, []string{acc, cons}, n.types(sender, "most@alfa.test"))
	require.Equal(t, []string{nacc}, n.types(sender, "more@alfa.test"))
	got, err := n.c.PECSubmitted(t.Context(), n.submissions()[0].Identificativo)
	require.NoError(t, err)
	require.True(t, bytes.Equal(most, got), "the bytes submitted are kept as they came")
	n.proven(sender)
	c := n.dial()
	require.NoError(t, c.Auth(sasl.NewPlainClient("", sender, pec.DefaultPassword)))
	require.Equal(t, 552, code(t, c.Mail(sender, &gosmtp.MailOptions{Size: 65 << 20})), "more than SMTP takes")
}
