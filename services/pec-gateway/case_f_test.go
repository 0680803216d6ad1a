package pecgateway_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
)

// TestF2F3F5F7WhatIsInAMessage: attachments of every odd kind are listed under safe names, dangerous ones with the reason,
// the text is words alone, and the bytes stay as they came. EICAR outside is found by the provider, inside by us.
func TestF2F3F5F7WhatIsInAMessage(t *testing.T) {
	t.Parallel()
	p := openPost(t, "")
	p.believe()
	in := p.add(recipient)
	eicar := "X5O!P%@AP[4\\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-" + "ANTIVIRUS-TEST-FILE!$H+H*"
	part := func(head, body string) string { return "--M\n" + head + "\n\n" + body + "\n" }
	odd := "From: =?utf-8?Q?Mario_=E2=80=AErossi?= <mario@example.test>\nTo: " + recipient + "\nSubject: strano\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=M\n\n" +
		part("Content-Type: text/html", `<p>Apri <a href="http://evil.test/">la banca</a><img src="http://x.test/p.gif"></p><script>alert(1)</script><form action="http://x.test">`) +
		part("Content-Type: application/octet-stream; name=\"../../etc/passwd\"\nContent-Disposition: attachment", "a") +
		part("Content-Type: application/pdf; name=\"fattura\u202efdp.exe\"\nContent-Disposition: attachment", "MZ") +
		part("Content-Type: text/plain; name=\"prova.txt\"\nContent-Disposition: attachment", eicar) +
		part("Content-Type: text/plain; name=\"prova.txt\"\nContent-Disposition: attachment", "di nuovo lo stesso nome") +
		part("Content-Type: application/pkcs7-mime; name=\"f.xml.p7m.p7m\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment", "MIAGCSqGSIb3DQEHAqCA") +
		part("Content-Type: application/ms-tnef; name=\"winmail.dat\"\nContent-Disposition: attachment", "x") +
		part("Content-Type: application/pdf; name*=utf-8''con%00nullo.pdf\nContent-Disposition: attachment", "%PDF") +
		part("Content-Type: application/pdf; name=\"nullo\x00vero.pdf\"\nContent-Disposition: attachment", "%PDF") +
		part("Content-Type: application/pdf; name=\"=?utf-8?Q?perch=C3=83=C2=A8=0Dfine.pdf?=\"\nContent-Disposition: attachment", "%PDF") +
		part("Content-Type: message/rfc822; name=\"dentro.eml\"", "Subject: dentro\n\nciao") +
		part("Content-Type: message/rfc822; name=\"scatola.eml\"", strings.Repeat("Subject: scatola\nContent-Type: message/rfc822\n\n", 5)+"Subject: fondo\n\nciao") +
		part("Content-Type: message/partial; id=\"x@example.test\"; number=1; total=2; name=\"pezzo.eml\"", "Subject: a meta\n\nmeta") +
		part("Content-Type: message/external-body; access-type=URL; URL=\"http://x.test/altrove.pdf\"; name=\"altrove.pdf\"", "Content-Type: application/pdf\n\n") +
		part("Content-Type: multipart/appledouble; boundary=A", "--A\nContent-Type: application/applefile; name=\"._foglio.pdf\"\n\nrisorse\n--A\nContent-Type: application/pdf; name=\"foglio.pdf\"\n\n%PDF\n--A--") +
		part("Content-Type: application/zip; name=\""+strings.Repeat("n", 500)+".zip\"\nContent-Disposition: attachment", "PK\x03\x04\x14\x00\x01\x00segreto") + "--M--\n"
	p.inject(recipient, odd)
	p.kept(in)
	m := p.get(p.receipts(in)[0].GetName())
	danger, seen, sent := map[string]string{}, map[string]bool{}, map[string]string{}
	for _, f := range m.GetParts() {
		require.NotContains(t, f.GetFileName(), "/")
		require.NotContains(t, f.GetFileName(), "\u202e")
		require.LessOrEqual(t, len(f.GetFileName()), 200)
		require.False(t, seen[f.GetFileName()], "two files of one name: %s", f.GetFileName())
		require.False(t, strings.ContainsFunc(f.GetFileName(), unicode.IsControl), "%q", f.GetFileName())
		seen[f.GetFileName()], danger[f.GetFileName()] = true, f.GetDanger()
		sent[f.GetFileName()] = f.GetSentName()
	}
	for safe, name := range map[string]string{
		"passwd": "../../etc/passwd", "fatturafdp.exe": "fattura\u202efdp.exe", "connullo.pdf": "con\x00nullo.pdf", "nullovero.pdf": "nullo\x00vero.pdf",
		"perchÃ¨ fine.pdf": "perchÃ¨\rfine.pdf", "prova.txt": "prova.txt", "prova (2).txt": "prova.txt", strings.Repeat("n", 196) + ".zip": strings.Repeat("n", 500) + ".zip",
	} {
		require.True(t, seen[safe], "%q: %v", safe, sent)
		require.Equal(t, name, sent[safe])
	}
	require.True(t, seen["passwd"] && seen["f.xml.p7m.p7m"] && seen["winmail.dat"] && seen["dentro.eml"], fmt.Sprint(seen))
	require.True(t, seen["scatola.eml"] && seen["pezzo.eml"] && seen["altrove.pdf"] && seen["foglio.pdf"], fmt.Sprint(seen))
	require.Empty(t, danger["f.xml.p7m.p7m"])
	require.Contains(t, danger["prova.txt"], "virus scanners")
	n := 0
	for _, why := range danger {
		if why != "" {
			n++
		}
	}
	require.Equal(t, 3, n, fmt.Sprint(danger))
	text := p.content(&pecv1.GetMessageContentRequest{Name: m.GetName(), What: &pecv1.GetMessageContentRequest_Text{Text: true}}).String()
	require.Equal(t, "Apri la banca <http://evil.test/> [image]\n", text)
	whole := p.content(&pecv1.GetMessageContentRequest{Name: m.GetName()}).String()
	require.Equal(t, strings.ReplaceAll(odd, "\n", "\r\n"), whole)

	// Outbound the provider refuses it, for good.
	req := p.request(recipient)
	req.Attachments[0].Data = []byte(eicar)
	out, err := p.api.SendMessage(t.Context(), req)
	require.NoError(t, err)
	require.NotEmpty(t, p.state(out, pecv1.MessageState_MESSAGE_STATE_REFUSED).GetRefusal())
	require.Len(t, p.receipts(in), 1, "nobody got it")
	log, err := p.sandbox.PECSubmissions(t.Context(), sender)
	require.NoError(t, err)
	require.Equal(t, []string{out.GetMessageId()}, msgids(log))
	p.invariants()
	p.house.invariants(in, p.mailbox())
}

// TestF4HeadersThatCannotBeRead: of certified mail the recipients are those that the provider certifies, whatever the
// header says; of other mail the header stays as text.
func TestF4HeadersThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	many := strings.Repeat("x@y.test, ", 2000)
	for i, to := range []string{"pct@pec. dom.it", "Mario mario@b.test>", "Gruppo: a@b.test, c@d.test;", many, "perch\xe9 <a@b.test>", ""} {
		h.inject(recipient, fmt.Sprintf("From: a@b.test\nTo: %s\nSubject: n%d\n\nx\n", to, i))
	}
	h.kept(box)
	require.Len(t, h.receipts(box), 6)
	for _, m := range h.receipts(box) {
		require.LessOrEqual(t, len(m.GetTo()), 5000)
		require.NotEmpty(t, h.get(m.GetName()).GetHeaders())
	}
	h.send(recipient)
	h.kept(box)
	got := h.list(box, func(r *pecv1.ListMessagesRequest) { r.Kind = pecv1.MessageKind_MESSAGE_KIND_ENVELOPE })
	require.Equal(t, []string{recipient}, got[0].GetTo())
	h.invariants(box)
}

// TestF6BombsAndDepth: a message nested a thousand times, and one with an archive that is a gigabyte when it is unpacked, are received
// as they came, without taking the memory for it; the first with the finding that what is deeper was left unopened. Others come before
// and after them. TESTPLAN F6 (more parts than the limit: TestI4OddMessagesGoAlone).
func TestF6BombsAndDepth(t *testing.T) { // alone: what the process asks for is counted
	h := open(t, "")
	h.believe()
	box := h.add(recipient)
	deep := "From: a@b.test\nTo: " + recipient + "\nSubject: profondo\n" + strings.Repeat("Content-Type: message/rfc822\n\n", 1000) + "Subject: fondo\n\nx\n"
	var file bytes.Buffer
	z := zip.NewWriter(&file)
	w, err := z.Create("zeri.txt")
	require.NoError(t, err)
	zeros := make([]byte, 1<<20)
	for range 1 << 10 {
		_, err = w.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	bomb := "From: a@b.test\nTo: " + recipient + "\nSubject: bomba\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=M\n\n--M\nContent-Type: application/zip; name=\"zeri.zip\"\n" +
		"Content-Disposition: attachment\nContent-Transfer-Encoding: base64\n\n" + folded(base64.StdEncoding.EncodeToString(file.Bytes())) + "--M--\n"
	require.Less(t, len(bomb), 4<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, raw := range []string{plain("prima"), deep, bomb, plain("dopo")} {
		h.inject(recipient, raw)
	}
	h.kept(box)
	runtime.ReadMemStats(&after)
	require.Less(t, float64(after.TotalAlloc-before.TotalAlloc)/1e6, 512.0, "MB that were asked for, sandbox and test included")
	found := map[string]*pecv1.Message{}
	for _, m := range h.receipts(box) {
		found[m.GetSubject()] = h.get(m.GetName())
	}
	require.Len(t, found, 4)
	require.Zero(t, h.box(box).GetCounts().GetQuarantined())
	var codes []string
	for _, f := range found["profondo"].GetVerification().GetFindings() {
		codes = append(codes, f.GetCode())
	}
	require.Contains(t, codes, pec.CodeTooDeep)
	require.Len(t, found["bomba"].GetParts(), 1)
	require.Equal(t, "zeri.zip", found["bomba"].GetParts()[0].GetFileName())
	for subject, raw := range map[string]string{"profondo": deep, "bomba": bomb} {
		require.Equal(t, strings.ReplaceAll(raw, "\n", "\r\n"), h.content(&pecv1.GetMessageContentRequest{Name: found[subject].GetName()}).String())
	}
	part := h.content(&pecv1.GetMessageContentRequest{Name: found["bomba"].GetName(), What: &pecv1.GetMessageContentRequest_Part{Part: found["bomba"].GetParts()[0].GetNumber()}})
	require.Equal(t, file.Len(), part.Len(), "the archive as it is")
	h.invariants(box)
}

// folded is base64 in lines.
func folded(text string) string {
	var out strings.Builder
	for ; len(text) > 76; text = text[76:] {
		out.WriteString(text[:76] + "\n")
	}
	return out.String() + text + "\n"
}
