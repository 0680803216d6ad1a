package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/conservation/internal/db"
)

func (h *house) blob(t testing.TB, content, media string) *eventv1.Blob {
	t.Helper()
	b := h.put(t, content)
	b.MediaType = media
	return b
}

// Certified mail is taken in message by message, each once however often its event comes, with the register of the day;
// completeness is what the register counts; the sealed package gives every byte back.
func TestCertifiedMailIsKept(t *testing.T) {
	h := open(t, true)
	box := "tenants/acme/mailboxes/" + uuid.NewString()
	at := time.Date(2026, 11, 20, 22, 30, 0, 0, time.UTC)
	message := func(kind, direction, content string) *pecv1.MessageHandedOver {
		return &pecv1.MessageHandedOver{
			Message: box + "/messages/" + uuid.NewString(), Content: h.blob(t, content, "message/rfc822"), Direction: direction, Type: kind, MessageId: uuid.NewString() + "@alfa.test",
			MailboxAddress: "ufficio@alfa.test", Sender: "mario@beta.test", Recipients: []string{"ufficio@alfa.test"}, Title: "Atto & <diffida>", ReceiveTime: timestamppb.New(at),
			CertifiedTime: timestamppb.New(at), Proven: direction != "SENT", Provider: "Gestore Beta", Day: "2026-11-20",
		}
	}
	sent := message("", "SENT", "From: ufficio@alfa.test\r\n\r\natto\r\n")
	receipt := message("accettazione", "RECEIVED", "X-Ricevuta: accettazione\r\n\r\n")
	receipt.About, receipt.AboutSha256 = sent.GetMessage(), sent.GetContent().GetSha256()
	envelope := message("posta-certificata", "RECEIVED", "X-Trasporto: posta-certificata\r\n\r\n")
	register := h.blob(t, "number,message\r\n1,...\r\n", "text/csv")
	closed := &pecv1.MailboxDayClosed{Mailbox: box, MailboxAddress: "ufficio@alfa.test", Day: "2026-11-20", MessageCount: 3, Register: register, CloseTime: timestamppb.New(at.Add(3 * time.Hour))}
	h.deliver(t, sent, receipt, closed, sent, closed, receipt)
	units := map[string]*conservationv1.Unit{}
	for _, subject := range []string{sent.GetMessage(), receipt.GetMessage(), box + "/days/2026-11-20"} {
		units[subject] = h.unitOf(t, subject)
		require.Equal(t, "PEC", units[subject].GetClass())
		require.EqualValues(t, 2026, units[subject].GetFiscalYear())
		require.Len(t, units[subject].GetFiles(), 2, "the message and its metadata")
	}
	days := func(incomplete bool) []*conservationv1.MailDay {
		list, err := conservationv1.NewMailServiceClient(h.Operator("conservation")).ListMailDays(t.Context(), &conservationv1.ListMailDaysRequest{Parent: "tenants/acme", Incomplete: incomplete})
		require.NoError(t, err)
		return list.GetDays()
	}
	require.Len(t, days(true), 1)
	require.Equal(t, "2 of 3 false", fmt.Sprint(days(true)[0].GetInCustody(), " of ", days(true)[0].GetMessages(), " ", days(true)[0].GetComplete()))
	f := &findings{}
	require.NoError(t, h.service.mailKept(t.Context(), f, "acme"))
	require.Len(t, f.Problems, 1, "the third message is missed")
	h.deliver(t, envelope)
	h.unitOf(t, envelope.GetMessage())
	require.Empty(t, days(true))
	require.True(t, days(false)[0].GetComplete())

	other := &pecv1.MailboxDayClosed{Mailbox: box, Day: "2026-11-20", MessageCount: 3, Register: h.blob(t, "another", "text/csv"), CloseTime: timestamppb.Now()}
	forged := message("posta-certificata", "RECEIVED", "x")
	forged.Message = strings.Replace(forged.GetMessage(), "acme", "rival", 1)
	h.deliver(t, other, forged)
	h.await(t, "both are parked", func() bool { return h.parked(t, codeConflict) == 1 && h.parked(t, "NAME_INVALID") == 1 })

	form := reference(t, "agid-allegato5", "DocumentoInformatico.xsd")
	for subject, wants := range map[string][]string{
		sent.GetMessage():        {"Messaggio PEC inviato", "<TipologiaDiFlusso>U<", "Atto &amp; &lt;diffida&gt;"},
		receipt.GetMessage():     {"Ricevuta PEC accettazione", "<IdIdentificativoDocumentoPrimario>", "pec:" + sent.GetMessage(), "<SigillatoElettronicamente>true<", "Gestore Beta"},
		box + "/days/2026-11-20": {"Registro giornaliero PEC", "3 messaggi", "<TipologiaDiFlusso>I<"},
		envelope.GetMessage():    {"Busta di trasporto PEC", "<TipologiaDiFlusso>E<", "2026-11-20T22:30:00Z"},
	} {
		text := h.metadata(t, subject)
		for _, want := range wants {
			require.Contains(t, text, want)
		}
		file := filepath.Join(t.TempDir(), "metadati.xml")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		lint(t, file, form)
	}
	p, err := h.client.ClosePackage(context.Background(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: "PEC"})
	require.NoError(t, err)
	require.EqualValues(t, 4, p.GetUnitCount())
	h.awaitSealed(t, p.GetName())
	raw := h.download(t, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE)
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	found := map[string]string{}
	for _, e := range z.File {
		r, err := e.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		found[filepath.Ext(e.Name)+string(content)] = e.Name
	}
	require.Contains(t, found, ".emlFrom: ufficio@alfa.test\r\n\r\natto\r\n", "byte by byte")
	require.Contains(t, found, ".csvnumber,message\r\n1,...\r\n")
	index := string(h.download(t, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_INDEX))
	require.Contains(t, index, "ufficio@alfa.test", "the owner of the mailbox is whose documents they are")
	require.NotContains(t, index, "mario@beta.test", "and not who wrote to it")

	// What counts is the unit: one that is gone from the rows is missed, one that a disposal destroyed is not.
	h.admin(t, `UPDATE unit SET state = 'DESTROYED', unit_key = 'GONE|' || id WHERE subject = $1`, sent.GetMessage())
	f = &findings{}
	require.NoError(t, h.service.mailKept(t.Context(), f, "acme"))
	require.Empty(t, f.Problems)
	h.admin(t, `DELETE FROM unit_file WHERE unit_id IN (SELECT id FROM unit WHERE subject = $1)`, envelope.GetMessage())
	h.admin(t, `DELETE FROM search_entry WHERE unit_id IN (SELECT id FROM unit WHERE subject = $1)`, envelope.GetMessage())
	h.admin(t, `DELETE FROM unit WHERE subject = $1`, envelope.GetMessage())
	require.NoError(t, h.service.mailKept(t.Context(), f, "acme"))
	require.Len(t, f.Problems, 1)
	require.Contains(t, f.Problems[0].Problem, "3 messages and 2 are in custody")
	require.Len(t, days(true), 1)
}

// Test12_CertifiedMail: a message of thirty megabytes, one whose certification data nobody could read, two that claim one Message-ID with
// other bytes, a receipt for each recipient, one of a delivery that failed, and a late anomaly: each is a unit with its bytes, and
// what comes after the sealing changes nothing that is sealed.
func Test12_CertifiedMail(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	box, at := "tenants/acme/mailboxes/"+uuid.NewString(), time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	message := func(kind, direction, content string) *pecv1.MessageHandedOver {
		return &pecv1.MessageHandedOver{
			Message: box + "/messages/" + uuid.NewString(), Content: h.blob(t, content, "message/rfc822"), Direction: direction, Type: kind, MessageId: uuid.NewString() + "@alfa.test",
			MailboxAddress: "ufficio@alfa.test", Sender: "mario@beta.test", Recipients: []string{"uno@x.test", "due@x.test", "tre@x.test"}, Title: kind,
			ReceiveTime: timestamppb.New(at), Proven: direction != "SENT", Day: "2026-11-20",
		}
	}
	sent := message("", "SENT", "From: ufficio@alfa.test\r\n\r\natto\r\n")
	about := func(kind, who string) *pecv1.MessageHandedOver {
		m := message(kind, "RECEIVED", "X-Ricevuta: "+kind+"\r\nX-Riferimento: "+who+"\r\n\r\n")
		m.About, m.AboutSha256 = sent.GetMessage(), sent.GetContent().GetSha256()
		return m
	}
	large := message("posta-certificata", "RECEIVED", "Subject: grande\r\n\r\n"+strings.Repeat(strings.Repeat("x", 76)+"\r\n", 30<<20/78))
	require.Greater(t, large.GetContent().GetSize(), int64(30<<20-200))
	mute := message("posta-certificata", "RECEIVED", "X-Trasporto: posta-certificata\r\n\r\nno daticert.xml\r\n")
	mute.Proven = false
	twin, other := message("posta-certificata", "RECEIVED", "uno\r\n"), message("posta-certificata", "RECEIVED", "due\r\n")
	other.MessageId = twin.GetMessageId()
	all := map[*pecv1.MessageHandedOver]string{
		sent: "Messaggio PEC inviato", large: "Busta di trasporto PEC", mute: "Busta di trasporto PEC", twin: "Busta di trasporto PEC", other: "Busta di trasporto PEC",
		about("accettazione", ""): "Ricevuta PEC accettazione", about("errore-consegna", "tre@x.test"): "Ricevuta PEC errore-consegna",
		about("avvenuta-consegna", "uno@x.test"): "Ricevuta PEC avvenuta-consegna", about("avvenuta-consegna", "due@x.test"): "Ricevuta PEC avvenuta-consegna",
	}
	for m := range all {
		h.deliver(t, m, m)
	}
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= len(all) })
	for m, kind := range all {
		u, text := h.unitOf(t, m.GetMessage()), h.metadata(t, m.GetMessage())
		require.Equal(t, m.GetContent().GetSha256(), u.GetFiles()[0].GetContent().GetSha256())
		require.Contains(t, text, ">"+kind+"<")
		require.Equal(t, m.GetAbout() != "", strings.Contains(text, "<IdIdentificativoDocumentoPrimario>"), "receipts name their message, and nothing else does")
		if m.GetAbout() != "" {
			require.Contains(t, text, "pec:"+sent.GetMessage())
		}
		require.Contains(t, text, fmt.Sprintf("<SigillatoElettronicamente>%t<", m.GetProven()))
	}
	forged := proto.CloneOf(twin)
	forged.Content = h.blob(t, "tre\r\n", "message/rfc822")
	h.deliver(t, forged)
	h.await(t, "the same message with other bytes is for a person", func() bool { return h.parked(t, codeConflict) == 1 })
	require.Equal(t, twin.GetContent().GetSha256(), h.unitOf(t, twin.GetMessage()).GetFiles()[0].GetContent().GetSha256(), "nothing was replaced")

	closeMail := func(units int) (*conservationv1.Package, map[string][]byte) {
		p, err := h.client.ClosePackage(t.Context(), &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: "PEC"})
		require.NoError(t, err)
		require.EqualValues(t, units, p.GetUnitCount())
		p = h.awaitSealed(t, p.GetName())
		return p, h.judge(t, p)
	}
	first, files := closeMail(len(all))
	held := map[[32]byte]bool{}
	for name, content := range files {
		if strings.HasSuffix(name, ".eml") {
			held[sha256.Sum256(content)] = true
		}
	}
	require.Len(t, held, len(all))
	for m := range all {
		require.True(t, held[[32]byte(m.GetContent().GetSha256())], "%s, byte by byte", m.GetType())
	}
	before := h.download(t, first.GetName(), archiveFile)
	anomaly := about("errore", "")
	h.deliver(t, anomaly)
	h.unitOf(t, anomaly.GetMessage())
	_, files = closeMail(1)
	require.Contains(t, string(files["data/units/u000001/metadati.xml"]), "Busta di anomalia PEC")
	require.Contains(t, string(files["data/units/u000001/metadati.xml"]), "pec:"+sent.GetMessage())
	require.True(t, bytes.Equal(before, h.download(t, first.GetName(), archiveFile)), "the first package is as it was")
}

// What the archive says of mail is well-formed and of the schema whatever strangers write.
func TestMailMetadataOfAnything(t *testing.T) {
	var files []string
	dir := t.TempDir()
	for i, m := range []mailFacts{
		{Mailbox: "b", Address: "a@x", Day: "2026-01-01"},
		{Message: "tenants/a/mailboxes/b/messages/c", Direction: "RECEIVED", Title: "\x00\x1f<&>\uFFFE"},
		{Message: "tenants/a/mailboxes/b/messages/c", Direction: "RECEIVED", Type: "errore", Sender: "\"x\" <y>", Recipients: make([]string, 150), AboutSum: "AAAA"},
	} {
		raw := mailMetadata(facts{Mail: &m, Bodies: []body{{Number: "n", Date: "2026-01-01"}}}, []db.UnitFile{{FileName: "c.eml", Sha256: make([]byte, 32)}})
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".xml")))
		require.NoError(t, os.WriteFile(files[i], raw, 0o600))
		lint(t, files[i], "")
	}
	lintAll(t, files, schema(t, "agid-allegato5", "DocumentoInformatico.xsd"))
}
