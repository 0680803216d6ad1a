package pecgateway_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/sandbox/client"
)

// words is a text that takes so many bytes on its way.
func words(n int) string {
	var b strings.Builder
	for ; n >= 130; n -= 64 {
		b.WriteString(strings.Repeat("x", 62) + "\n")
	}
	b.WriteString(strings.Repeat("y", n/2-2) + "\n" + strings.Repeat("z", n-n/2-2) + "\n")
	return b.String()
}

// file keeps one of so many bytes that will be attached.
func (p *post) file(n int) *eventv1.Blob {
	p.t.Helper()
	up, err := p.delivery.UploadAttachment(p.t.Context())
	require.NoError(p.t, err)
	part := &pecv1.UploadAttachmentRequest{Parent: parent}
	for ; n > 0; n -= len(part.Data) {
		part.Data = bytes.Repeat([]byte{byte(n)}, min(n, 1<<20))
		require.NoError(p.t, up.Send(part))
		part.Parent = ""
	}
	kept, err := up.CloseAndRecv()
	require.NoError(p.t, err)
	return kept.GetContent()
}

const spare = 10_000 // bytes of text beside the file, to come to a size exactly

// fileOf is how large a file is that makes a message somewhat smaller than so many bytes: 57 bytes of it take 78.
func fileOf(size int) int { return (size - spare + 2_000) / 78 * 57 }

// sized is a request for a message of so many bytes on its way; one that is a little larger is refused, and the refusal tells how
// large that would be.
func (p *post) sized(size int, to ...string) *pecv1.SendMessageRequest {
	p.t.Helper()
	req := p.request(to...)
	req.Attachments = []*pecv1.Attachment{{FileName: "grande.bin", Content: p.file(fileOf(size))}}
	req.ReceiptType, req.Text = pecv1.ReceiptType_RECEIPT_TYPE_SYNTHETIC, words(spare)
	_, err := p.api.SendMessage(p.t.Context(), req)
	requireFault(p.t, err, "MESSAGE_NOT_ACCEPTABLE")
	refused := fault.Of(err).Fields[0].Message
	var larger int
	_, err = fmt.Sscanf(refused, "%d bytes", &larger)
	require.NoError(p.t, err, refused)
	require.Greater(p.t, larger, size)
	req.Text, req.RequestId = words(spare-(larger-size)), uuid.NewString()
	return req
}

// ends waits for the state of a large message: by its way, since whoever shows the message reads it.
func (p *post) ends(m *pecv1.Message, want pecv1.MessageState) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("the message of %d bytes is %s", m.GetContent().GetSize(), want), func() bool { return p.way(m).GetState() == want })
}

// direct submits a message of so many bytes as another program of the owner would, and says whether the provider accepts it.
func (p *post) direct(size int, to ...string) (*client.PECSubmission, error) {
	p.t.Helper()
	d := &pec.Draft{From: pec.Address{Addr: sender}, Subject: "diretta", Date: time.Now(), MessageID: uuid.NewString() + "@alfa.test", Ricevuta: pec.Sintetica,
		Text: words(spare), Attachments: []pec.File{pec.BytesFile("grande.bin", "application/octet-stream", make([]byte, fileOf(size)))}}
	for _, a := range to {
		d.To = append(d.To, pec.Address{Addr: a})
	}
	is, err := d.Size()
	require.NoError(p.t, err)
	d.Text = words(spare - (int(is) - size))
	var raw bytes.Buffer
	_, err = pec.Compose(&raw, d)
	require.NoError(p.t, err)
	require.Equal(p.t, size, raw.Len())
	pool := x509.NewCertPool()
	require.True(p.t, pool.AppendCertsFromPEM(p.world.CAPEM()))
	c, err := gosmtp.DialTLS(p.world.Endpoints().PEC.SMTPSAddr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	require.NoError(p.t, err)
	defer c.Close()
	require.NoError(p.t, c.Auth(sasl.NewPlainClient("", sender, p.secretOf(sender))))
	err = c.SendMail(sender, d.Recipients(), &raw)
	if err != nil {
		return nil, err
	}
	for range 10 { // one step of the provider's clock waits half a minute, and under the race detector such a message takes longer
		_, err = p.sandbox.Advance(p.t.Context(), time.Millisecond)
		if err == nil {
			break
		}
	}
	require.NoError(p.t, err)
	list := p.submissions()
	for i := range list {
		if list[i].MsgID == d.MessageID {
			return &list[i], nil
		}
	}
	require.Fail(p.t, "the provider does not know the message")
	return nil, nil //nolint:nilnil // it has failed
}

// TestA15TrueSizes: messages of 30 MB, to the byte, to one and to two recipients: what the pre-flight lets pass the provider takes,
// and what it refuses the provider refuses too when another program submits it. TESTPLAN A15.
func TestA15TrueSizes(t *testing.T) {
	t.Parallel()
	p := openPost(t, strings.Replace(quickly, "answer_timeout: 5s, lease: 6s", "answer_timeout: 30s, lease: 1m", 1))
	p.believe()
	for _, c := range []struct {
		size, recipients int
		fits             bool
	}{{30_000_000, 1, true}, {30_000_001, 1, false}, {25_000_000, 2, false}, {15_000_000, 2, true}, {15_000_001, 2, false}} {
		to := []string{recipient, "destinatario@alfa.test"}[:c.recipients]
		req := p.sized(c.size, to...)
		m, err := p.api.SendMessage(t.Context(), req)
		if c.fits {
			require.NoError(t, err, c)
			require.EqualValues(t, c.size, m.GetContent().GetSize())
			p.ends(m, pecv1.MessageState_MESSAGE_STATE_DELIVERED)
			continue
		}
		requireFault(t, err, "MESSAGE_NOT_ACCEPTABLE")
		require.Equal(t, "TOO_LARGE", fault.Of(err).Fields[0].Code)
		require.True(t, strings.HasPrefix(fault.Of(err).Fields[0].Message, fmt.Sprint(c.size, " bytes for ", c.recipients, " recipients")), fault.Of(err).Fields[0].Message)
		provider, err := p.direct(c.size, to...)
		require.NoError(t, err)
		require.Equal(t, c.size, provider.Size)
		require.False(t, provider.Accepted, "the provider would have taken it: %v", provider)
	}
	for _, fits := range [][]string{{recipient}, {recipient, "destinatario@alfa.test"}} {
		provider, err := p.direct(30_000_000/len(fits), fits...)
		require.NoError(t, err)
		require.True(t, provider.Accepted, "%v", provider.Events)
	}
	p.house.invariants(p.mailbox()) // not I3: another program sends too
}
