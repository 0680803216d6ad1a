package pec_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// TestC17EnvelopesThatComeBack: a transport envelope that is whole comes to the point of reception again. To the one it is
// certified for it is what it was. Whoever else it is carried to, the sender, a stranger, and by whomever, gets it as it came in an
// anomaly envelope, and no provider certifies anything about that. TESTPLAN C17.
func TestC17EnvelopesThatComeBack(t *testing.T) {
	n := start(t)
	const stranger = "terzo@beta.test"
	_, err := n.c.SetPECMailbox(t.Context(), client.PECMailbox{Address: stranger})
	require.NoError(t, err)
	d := n.draft(recipient)
	n.send(d)
	n.settle()
	raw, _ := n.read(n.about(recipient, d.MessageID)[0])
	issued := func() int { return len(n.about("ricevute@pec.alfa.test", "")) + len(n.types(sender, d.MessageID)) }
	before := issued()
	carry := func(from string, to ...string) {
		t.Helper()
		c, err := gosmtp.DialStartTLS(n.e.MXAddr, n.tls)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SendMail(from, to, bytes.NewReader(raw)))
		n.settle()
	}
	wrapped := func(box string) {
		t.Helper()
		list := n.about(box, "")
		last := list[len(list)-1]
		require.Equal(t, anom, last.Tipo)
		r, rep := n.verify(last)
		require.True(t, r.Proven(rep), "%s %v", rep.Reason, r.Findings)
		require.Nil(t, r.Daticert)
		inner, err := r.OriginalMessage()
		require.NoError(t, err)
		got, err := io.ReadAll(inner.Raw())
		require.NoError(t, err)
		require.Equal(t, string(raw), string(got), "as it came")
		envelope, err := rfc.ReadBytes(got)
		require.NoError(t, err)
		rep, err = envelope.Verify(rfc.Verification{Trust: n.trust(), At: last.At, Now: last.At})
		require.NoError(t, err)
		require.True(t, envelope.Proven(rep), "what is inside holds still, and that decides nothing")
		require.Contains(t, r.Root.Header.Text("Subject"), "ANOMALIA MESSAGGIO: POSTA CERTIFICATA: ")
	}
	carry("", sender) // a server gives it back
	wrapped(sender)
	carry("x@example.test", stranger) // somebody passes it on
	wrapped(stranger)
	carry(sender, stranger) // in its sender's name
	wrapped(stranger)
	carry("x@example.test", recipient) // to its recipient, and not from its sender
	wrapped(recipient)
	require.Equal(t, before, issued(), "nothing was certified")

	// Both in one transaction: who is named is given a receipt of his own, the other one is not.
	carry(sender, recipient, stranger)
	wrapped(stranger)
	require.Equal(t, []string{env, anom, env}, n.types(recipient, ""))
	require.Equal(t, before+2, issued(), "taken in charge and delivered once more")
	for _, m := range n.about("ricevute@pec.alfa.test", "") {
		_, r := n.read(m)
		require.Equal(t, []string{recipient}, r.Daticert.Ricezione)
	}
	for _, m := range n.about(sender, d.MessageID) {
		require.NotContains(t, strings.ToLower(m.Consegna), stranger)
	}
}
