package notification

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	notificationv1 "ceralacca.dev/proto/gen/ceralacca/notification/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
)

const boxName = "tenants/acme/mailboxes/0198c0de-0000-7000-8000-000000000004"

// TestNoticeOfIncomingMail: sender, recipient and subject reach each address, marked as made by a program; a subject
// cannot add lines, and many messages are one mail.
func TestNoticeOfIncomingMail(t *testing.T) {
	w := start(t, "")
	ev := &pecv1.IncomingNoticeDue{Mailbox: boxName, Addresses: []string{"maria@example.com", "ufficio@example.com"}, Language: "it", More: 7}
	for i := range 3 {
		ev.Messages = append(ev.Messages, &pecv1.NoticedMessage{Message: fmt.Sprintf("%s/messages/m%d", boxName, i), Sender: "mario@pec.example", Recipient: "box@pec.example",
			Title: "Offerta\r\nBcc: tutti@example.com", ReceiveTime: timestamppb.Now(), Certified: i == 0})
	}
	w.state("acme", ev)
	w.eventually(func() bool { return len(w.mail.got()) == 2 }, "one mail to each")
	got := map[string]bool{}
	for _, l := range w.mail.got() {
		got[l.to] = true
		m, err := mail.ReadMessage(strings.NewReader(string(l.raw)))
		require.NoError(t, err)
		require.Equal(t, "auto-generated", m.Header.Get("Auto-Submitted"))
		require.NotEmpty(t, m.Header.Get(fieldNotice))
		require.Empty(t, m.Header.Get("Bcc"))
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		require.NoError(t, err)
		require.Equal(t, "Posta nella casella PEC (10)", subject)
		text := plainText(t, m)
		require.Contains(t, text, "Oggetto: Offerta Bcc: tutti@example.com")
		require.Equal(t, 1, strings.Count(text, "(posta certificata)"))
		require.Contains(t, text, "E altri 7 messaggi.")
	}
	require.Equal(t, map[string]bool{"maria@example.com": true, "ufficio@example.com": true}, got)
}

func plainText(t *testing.T, m *mail.Message) string {
	t.Helper()
	raw, err := io.ReadAll(decoded(m.Body, m.Header.Get("Content-Transfer-Encoding")))
	require.NoError(t, err)
	return string(raw)
}

func decoded(r io.Reader, encoding string) io.Reader {
	switch strings.ToLower(encoding) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	}
	return r
}

// TestForwardedMail: what a rule sends on is an attachment byte for byte, in a mail that says that it is not certified
// and whose sender is the platform.
func TestForwardedMail(t *testing.T) {
	w := start(t, "")
	original := "From: mario@example.test\r\nSubject: ciao\r\n\r\ntesto\r\n"
	ref, err := w.Host("notification").Blobs.Put(context.Background(), "acme", []byte(original))
	require.NoError(t, err)
	w.state("acme", &pecv1.ForwardDue{Message: boxName + "/messages/m1", Address: "maria@example.com", Language: "en", Sender: "mario@example.test", Recipient: "box@pec.example",
		Title: "ciao", Content: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size}})
	w.eventually(func() bool { return len(w.mail.got()) == 1 }, "it is sent on")
	l := w.mail.got()[0]
	m, err := mail.ReadMessage(strings.NewReader(string(l.raw)))
	require.NoError(t, err)
	require.Equal(t, "[not certified] ciao", m.Header.Get("Subject"))
	require.Contains(t, m.Header.Get("From"), "no-reply@ceralacca.example")
	require.NotEmpty(t, m.Header.Get(fieldForward))
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	parts := multipart.NewReader(m.Body, params["boundary"])
	var attached string
	for {
		p, err := parts.NextRawPart()
		if err != nil {
			break
		}
		raw, err := io.ReadAll(decoded(p, p.Header.Get("Content-Transfer-Encoding")))
		require.NoError(t, err)
		if strings.HasPrefix(p.Header.Get("Content-Type"), "message/rfc822") {
			attached = string(raw)
		}
	}
	require.Equal(t, original, attached)
	list, err := w.api.ListDeliveries(t.Context(), &notificationv1.ListDeliveriesRequest{Parent: "tenants/acme", Invoice: boxName + "/messages/m1"})
	require.NoError(t, err)
	require.Len(t, list.GetDeliveries(), 1)
	require.Equal(t, typeForward, list.GetDeliveries()[0].GetEventType())
}
