package pec_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// BenchmarkMessage is one message of 20 kB to one recipient of the other provider, until its
// receipts are in the mailbox: an envelope and three receipts signed with RSA-2048, four signatures
// checked, five SMTP transactions with TLS.
func BenchmarkMessage(b *testing.B) {
	srv, err := sandbox.Start(context.Background(), sandbox.Config{})
	require.NoError(b, err)
	defer srv.Close()
	pool := x509.NewCertPool()
	require.True(b, pool.AppendCertsFromPEM(srv.CAPEM()))
	c, err := gosmtp.DialTLS(srv.Endpoints().PEC.SMTPSAddr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	require.NoError(b, err)
	defer c.Close()
	require.NoError(b, c.Auth(sasl.NewPlainClient("", sender, pec.DefaultPassword)))
	control := client.New(srv.Endpoints().ControlURL)
	n := 0
	for b.Loop() {
		d := &rfc.Draft{
			From: rfc.Address{Addr: sender}, To: []rfc.Address{{Addr: recipient}}, Subject: "misura", Date: time.Now(), Text: "x",
			MessageID: fmt.Sprintf("b%d@alfa.test", n), Attachments: []rfc.File{rfc.BytesFile("a.bin", "application/octet-stream", bytes.Repeat([]byte{7}, 14_000))},
		}
		var raw bytes.Buffer
		_, err := rfc.Compose(&raw, d)
		require.NoError(b, err)
		require.NoError(b, c.SendMail(sender, []string{recipient}, &raw))
		_, err = control.Advance(b.Context(), time.Millisecond) // waits until all has arrived
		require.NoError(b, err)
		n++
	}
	list, err := control.PECMessages(b.Context(), sender)
	require.NoError(b, err)
	require.Len(b, list, 2*n)
}
