package pec_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	rfc "ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/pec"
	"ceralacca.dev/services/sandbox/sandboxtest"
	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

const (
	sender    = "mittente@alfa.test"
	recipient = "destinatario@beta.test"
)

// net is a running sandbox as a stranger's program sees it: addresses, an authority, a control API.
type net struct {
	t    *testing.T
	srv  *sandbox.Server
	e    client.PEC
	c    *client.Client
	tls  *tls.Config
	ca   []byte
	next int
}

func start(t *testing.T) *net {
	t.Helper()
	srv := sandboxtest.Start(t, sandbox.Config{})
	n := &net{t: t, srv: srv, e: srv.Endpoints().PEC, c: client.New(srv.Endpoints().ControlURL), ca: srv.CAPEM()}
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(n.ca))
	n.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	return n
}

func (n *net) dial() *gosmtp.Client {
	n.t.Helper()
	c, err := gosmtp.DialTLS(n.e.SMTPSAddr, n.tls)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { _ = c.Close() })
	return c
}

// draft is a message with an attachment and letters outside ASCII.
func (n *net) draft(to ...string) *rfc.Draft {
	n.next++
	d := &rfc.Draft{
		From: rfc.Address{Name: "Società Esempio", Addr: sender}, Subject: fmt.Sprintf("Offerta n. %d – perché così", n.next),
		Date: time.Now(), MessageID: fmt.Sprintf("m%d.%d@alfa.test", n.next, time.Now().UnixNano()), Text: "Buongiorno,\n.\nÈ tutto.\n",
		Attachments: []rfc.File{rfc.BytesFile("offerta.pdf", "application/pdf", bytes.Repeat([]byte("%PDF \x00\x01"), 50))},
	}
	for _, a := range to {
		d.To = append(d.To, rfc.Address{Addr: a})
	}
	return d
}

func compose(t *testing.T, d *rfc.Draft) []byte {
	t.Helper()
	var b bytes.Buffer
	_, err := rfc.Compose(&b, d)
	require.NoError(t, err)
	return b.Bytes()
}

// submit sends bytes as a user does.
func (n *net) submit(from string, to []string, raw []byte) error {
	n.t.Helper()
	c := n.dial()
	require.NoError(n.t, c.Auth(sasl.NewPlainClient("", from, pec.DefaultPassword)))
	return c.SendMail(from, to, bytes.NewReader(raw))
}

// send composes and submits, and gives back what was sent.
func (n *net) send(d *rfc.Draft) []byte {
	n.t.Helper()
	raw := compose(n.t, d)
	require.NoError(n.t, n.submit(d.From.Addr, d.Recipients(), raw))
	return raw
}

// settle waits until everything has arrived: a step of the clock does.
func (n *net) settle() { n.advance(time.Millisecond) }

func (n *net) advance(d time.Duration) {
	n.t.Helper()
	_, err := n.c.Advance(n.t.Context(), d)
	require.NoError(n.t, err)
}

// types lists what a mailbox holds about a message ("" for everything), in order.
func (n *net) types(box, msgid string) []string {
	n.t.Helper()
	var out []string
	for _, m := range n.about(box, msgid) {
		out = append(out, m.Tipo)
	}
	return out
}

func (n *net) about(box, msgid string) []client.PECMessage {
	n.t.Helper()
	list, err := n.c.PECMessages(n.t.Context(), box)
	require.NoError(n.t, err)
	var out []client.PECMessage
	for _, m := range list {
		if msgid == "" || m.MsgID == msgid {
			out = append(out, m)
		}
	}
	return out
}

func (n *net) read(m client.PECMessage) ([]byte, *rfc.Reading) {
	n.t.Helper()
	raw, err := n.c.PECRaw(n.t.Context(), m.ID)
	require.NoError(n.t, err)
	r, err := rfc.ReadBytes(raw)
	require.NoError(n.t, err)
	return raw, r
}

// trust is the list of providers as a customer builds it: from what the sandbox publishes.
func (n *net) trust() *rfc.TrustList {
	n.t.Helper()
	list, err := n.c.PECProviders(n.t.Context())
	require.NoError(n.t, err)
	tl := &rfc.TrustList{Version: "test", Roots: x509.NewCertPool()}
	for _, p := range list {
		require.True(n.t, tl.Roots.AppendCertsFromPEM([]byte(p.CAPEM)))
		tl.Providers = append(tl.Providers, rfc.Provider{
			Name: p.Name, Signers: []string{p.Address}, Domains: p.Domains, Certificates: []string{p.CertSHA256},
		})
	}
	return tl
}

func (n *net) verify(m client.PECMessage) (*rfc.Reading, *rfc.Report) {
	n.t.Helper()
	_, r := n.read(m)
	rep, err := r.Verify(rfc.Verification{Trust: n.trust(), At: m.At, Now: m.At})
	require.NoError(n.t, err)
	return r, rep
}

// proven requires that everything in a mailbox is true.
func (n *net) proven(box string) {
	n.t.Helper()
	for _, m := range n.about(box, "") {
		r, rep := n.verify(m)
		require.True(n.t, r.Proven(rep), "%s %q: %s %s %v %v", m.Tipo, m.Subject, rep.Status, rep.Reason, rep.Findings, r.Findings)
	}
}

func at(local string) string { return strings.TrimSpace(local) + "@beta.test" }
