package pec

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ceralacca.dev/services/format/cms"
	"crypto/x509"
	"encoding/pem"

	"github.com/stretchr/testify/require"
)

// TestE12Breve: hashes of every profile are found again in the message as sent, and nothing else
// is. TESTPLAN E12.
func TestE12Breve(t *testing.T) {
	w := newWorld(t)
	d := draft()
	sent, err := ParseBytes(composed(t, d))
	require.NoError(t, err)
	d.Ricevuta = Breve
	act, err := arrived(t, w, d).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	raw, r := written(t, w.beta, act)
	require.Equal(t, Breve, r.Ricevuta())
	p, err := r.OriginalMessage()
	require.NoError(t, err)
	rep, err := CheckBreve(p, sent.Root)
	require.NoError(t, err)
	require.True(t, rep.Proven())
	require.Len(t, rep.Checks, 2)
	require.Equal(t, BreveCheck{Name: "fattura.xml", Hash: rep.Checks[1].Hash, Match: true, Variant: "encoded"}, rep.Checks[1])

	other := draft()
	other.Attachments[1] = BytesFile("fattura.xml", "application/xml", []byte("<b>\r\n</b>"))
	changed, err := ParseBytes(composed(t, other))
	require.NoError(t, err)
	rep, err = CheckBreve(p, changed.Root)
	require.NoError(t, err)
	require.False(t, rep.Proven())
	require.Equal(t, []string{"fattura.xml"}, rep.Missing)

	body, err := sent.Root.Attachments()[1].Part.rawBody()
	require.NoError(t, err)
	decoded, err := sent.Root.Attachments()[1].Part.Bytes(0)
	require.NoError(t, err)
	for variant, data := range map[string][]byte{"encoded-final-crlf": append(bytes.Clone(body), "\r\n"...), "decoded": decoded, "encoded-lf": bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))} {
		alt := readAll(t, bytes.Replace(raw, []byte(sha1Hex(body)), []byte(sha1Hex(data)), 1))
		q, err := alt.OriginalMessage()
		require.NoError(t, err)
		rep, err := CheckBreve(q, sent.Root)
		require.NoError(t, err)
		require.True(t, rep.Proven(), variant)
		require.Equal(t, variant, rep.Checks[1].Variant)
	}
	rep, err = CheckBreve(sent.Root, sent.Root)
	require.NoError(t, err)
	require.True(t, rep.Whole && rep.Proven())
	stripped, err := ParseBytes([]byte("Subject: x\r\n\r\nno files\r\n"))
	require.NoError(t, err)
	rep, err = CheckBreve(stripped.Root, sent.Root)
	require.NoError(t, err)
	require.False(t, rep.Proven())
}

// TestE12BreveEncodedAnew: a provider that hashes base64 in lines of another length than ours is recognised; a part in
// quoted-printable and an attached message are hashed as they stand, and in other lines they are others. TESTPLAN E12.
func TestE12BreveEncodedAnew(t *testing.T) {
	data := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("%PDF-1.7 \x00\x01\x02"), 30))
	lines := func(columns int) string {
		var out []string
		for rest := data; rest != ""; rest = rest[min(columns, len(rest)):] {
			out = append(out, rest[:min(columns, len(rest))])
		}
		return strings.Join(out, "\r\n")
	}
	quoted, attached := "una riga che continua =\r\nqui, citt=C3=A0\r\nfine", "Subject: dentro\r\n\r\nciao"
	message := func(columns int) *Part {
		m, err := ParseBytes([]byte("Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines(columns) +
			"\r\n--B\r\nContent-Type: text/plain; name=nota.txt\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted +
			"\r\n--B\r\nContent-Type: message/rfc822; name=dentro.eml\r\n\r\n" + attached + "\r\n--B--\r\n"))
		require.NoError(t, err)
		return m.Root
	}
	for _, ours := range []int{64, 76} {
		sent := message(ours)
		for name, c := range map[string]struct {
			of, as, variant string // what stands in the message, what the provider hashed
		}{
			"as it stands":             {"", "", "encoded"},
			"64 columns":               {lines(ours), lines(64), map[int]string{64: "encoded", 76: "encoded-64"}[ours]},
			"76 columns":               {lines(ours), lines(76), map[int]string{64: "encoded-76", 76: "encoded"}[ours]},
			"76 columns, its last end": {lines(ours), lines(76) + "\r\n", map[int]string{64: "encoded-76", 76: "encoded-final-crlf"}[ours]},
			"no lines at all":          {lines(ours), data, ""},
			"another text":             {quoted, strings.ReplaceAll(quoted, "=\r\n", ""), ""},
			"another message":          {attached, attached + "!", ""},
		} {
			t.Run(fmt.Sprint(ours, " columns, hashed ", name), func(t *testing.T) {
				var out bytes.Buffer
				require.NoError(t, WriteBreve(&out, sent))
				raw := out.String()
				if c.of != "" {
					require.Contains(t, raw, sha1Hex([]byte(c.of)))
					raw = strings.Replace(raw, sha1Hex([]byte(c.of)), sha1Hex([]byte(c.as)), 1)
				}
				receipt, err := ParseBytes([]byte(raw))
				require.NoError(t, err)
				rep, err := CheckBreve(receipt.Root, sent)
				require.NoError(t, err)
				require.Len(t, rep.Checks, 3)
				require.Equal(t, c.variant != "", rep.Proven(), rep)
				if c.variant != "" {
					require.Equal(t, []string{c.variant, "encoded", "encoded"}, []string{rep.Checks[0].Variant, rep.Checks[1].Variant, rep.Checks[2].Variant})
				}
			})
		}
	}
}

// TestE12CheckOriginal: the original in a complete receipt is compared with what was sent.
func TestE12CheckOriginal(t *testing.T) {
	w := newWorld(t)
	raw := composed(t, draft())
	sent, err := ParseBytes(raw)
	require.NoError(t, err)
	act, err := arrived(t, w, draft()).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	_, r := written(t, w.beta, act)
	p, err := r.OriginalMessage()
	require.NoError(t, err)
	c, err := CheckOriginal(p, sent.Root)
	require.NoError(t, err)
	require.True(t, c.Same())
	require.Equal(t, "exact", c.Variant)
	for name, x := range map[string]struct {
		edit    func(string) string
		variant string
		changed []string
	}{
		"one line end less": {func(s string) string { return strings.TrimSuffix(s, "\r\n") }, "final-line-end", nil},
		"LF alone":          {func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }, "line-ends", nil},
		"other subject":     {func(s string) string { return strings.Replace(s, "Subject: ", "Subject: x", 1) }, "exact", []string{"Subject"}},
		"other text":        {func(s string) string { return strings.Replace(s, "Gentili", "Gentile", 1) }, "", nil},
		"a line more":       {func(s string) string { return s + "x" }, "", nil},
		"trace added":       {func(s string) string { return "Received: by x\r\n" + s }, "exact", nil},
		"folded otherwise":  {func(s string) string { return strings.Replace(s, "=?=\r\n =?", "=?= =?", 1) }, "exact", nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseBytes([]byte(x.edit(string(raw))))
			require.NoError(t, err)
			c, err := CheckOriginal(m.Root, sent.Root)
			require.NoError(t, err)
			require.Equal(t, x.variant, c.Variant)
			require.Equal(t, x.variant != "", c.Body)
			require.Equal(t, x.changed, c.Changed)
		})
	}
}

// TestE12BreveOfSigned: an original with a signature of its own keeps it; an attached .p7m is a file. Both are found again in what was
// sent, by the hash or whole, and not in what is another. TESTPLAN E12.
func TestE12BreveOfSigned(t *testing.T) {
	raw := "Content-Type: multipart/signed; boundary=S\r\n\r\n--S\r\nContent-Type: multipart/mixed; boundary=M\r\n\r\n--M\r\nContent-Type: application/pkcs7-mime; name=f.xml.p7m\r\n\r\nMIIB\r\n--M--\r\n\r\n--S\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n\r\nMIIC\r\n--S--\r\n"
	m, err := ParseBytes([]byte(raw))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, WriteBreve(&out, m.Root))
	require.Contains(t, out.String(), "f.xml.p7m.hash")
	require.Contains(t, out.String(), sha1Hex([]byte("MIIB")))
	require.NotContains(t, out.String(), "smime.p7s.hash")
	check := func(receipt, sent string) *BreveReport {
		r, err := ParseBytes([]byte(receipt))
		require.NoError(t, err)
		s, err := ParseBytes([]byte(sent))
		require.NoError(t, err)
		rep, err := CheckBreve(r.Root, s.Root)
		require.NoError(t, err)
		return rep
	}
	rep := check(out.String(), raw)
	require.True(t, rep.Proven(), rep)
	require.False(t, rep.Whole)
	require.Equal(t, []BreveCheck{{Name: "f.xml.p7m", Hash: sha1Hex([]byte("MIIB")), Match: true, Variant: "encoded"}}, rep.Checks)
	require.False(t, check(out.String(), strings.Replace(raw, "MIIB", "MIIX", 1)).Proven(), "another file")
	opaque := "Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nMIIB\r\n"
	m, err = ParseBytes([]byte(opaque))
	require.NoError(t, err)
	out.Reset()
	require.NoError(t, WriteBreve(&out, m.Root))
	require.Equal(t, opaque, out.String())
	rep = check(out.String(), opaque)
	require.True(t, rep.Whole, "there is no hash: it is for CheckOriginal to compare")
	same, err := CheckOriginal(m.Root, m.Root)
	require.NoError(t, err)
	require.True(t, same.Same())
	other, err := ParseBytes([]byte(strings.Replace(opaque, "MIIB", "MIIX", 1)))
	require.NoError(t, err)
	same, err = CheckOriginal(other.Root, m.Root)
	require.NoError(t, err)
	require.False(t, same.Same())
}

// TestA15A17A18CheckSubmission: the formal checks of the access point. TESTPLAN A15, A17, A18.
func TestA15A17A18CheckSubmission(t *testing.T) {
	good := string(composed(t, draft()))
	env := envelopeOf(draft())
	for _, c := range []struct {
		name string
		edit func(string) string
		env  func(*Envelope)
		lim  SubmissionLimits
		code string
	}{
		{"good", nil, nil, SubmissionLimits{}, ""},
		{"no From", func(s string) string { return strings.Replace(s, "From:", "X-From:", 1) }, nil, SubmissionLimits{}, "FROM_COUNT"},
		{"two From", func(s string) string { return "From: x@y.test\r\n" + s }, nil, SubmissionLimits{}, "FROM_COUNT"},
		{"two addresses in From", func(s string) string {
			return strings.Replace(s, "<mittente@alfa.test>", "<mittente@alfa.test>, x@y.test", 1)
		}, nil, SubmissionLimits{}, "FROM_INVALID"},
		{"other reverse path", nil, func(e *Envelope) { e.MailFrom = "x@alfa.test" }, SubmissionLimits{}, "FROM_MISMATCH"},
		{"Cc only", func(s string) string { return strings.Replace(s, "\r\nTo:", "\r\nX-To:", 1) }, nil, SubmissionLimits{}, "TO_MISSING"},
		{"Bcc", func(s string) string { return "Bcc: x@y.test\r\n" + s }, nil, SubmissionLimits{}, "BCC_PRESENT"},
		{"empty Bcc", func(s string) string { return "Bcc: \r\n" + s }, nil, SubmissionLimits{}, ""},
		{"hidden recipient", nil, func(e *Envelope) { e.Recipients = append(e.Recipients, "x@y.test") }, SubmissionLimits{}, "RECIPIENT_NOT_NAMED"},
		{"nobody", nil, func(e *Envelope) { e.Recipients = nil }, SubmissionLimits{}, "RECIPIENTS_MISSING"},
		{"no address", func(s string) string { return strings.Replace(s, "copia@beta.test", "copia@beta test", 1) }, nil, SubmissionLimits{}, "RECIPIENT_INVALID"},
		{"too many", nil, nil, SubmissionLimits{Recipients: 1}, "TOO_MANY_RECIPIENTS"},
		{"exactly the volume", nil, nil, SubmissionLimits{Volume: int64(len(good)) * 2}, ""},
		{"a byte less", nil, nil, SubmissionLimits{Volume: int64(len(good))*2 - 1}, "TOO_LARGE"},
		{"reserve", nil, nil, SubmissionLimits{Volume: int64(len(good)) * 2, Reserve: 1}, "TOO_LARGE"},
		{"odd receipt", func(s string) string { return strings.Replace(s, "completa", "enorme", 1) }, nil, SubmissionLimits{}, "RECEIPT_TYPE_INVALID"},
		{"To twice", func(s string) string { return "To: protocollo@beta.test\r\n" + s }, nil, SubmissionLimits{}, "FIELD_TWICE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, e := good, Envelope{MailFrom: env.MailFrom, Recipients: append([]string(nil), env.Recipients...)}
			if c.edit != nil {
				raw = c.edit(raw)
			}
			if c.env != nil {
				c.env(&e)
			}
			m, err := ParseBytes([]byte(raw))
			require.NoError(t, err)
			vs := CheckSubmission(m, e, c.lim)
			if c.code == "" {
				require.Empty(t, vs)
				return
			}
			found := false
			for _, v := range vs {
				found = found || v.Code == c.code
			}
			require.True(t, found, "%v", vs)
		})
	}
	bad := Draft{From: Address{Addr: "x"}, Cc: []Address{{Addr: "a@b\r\nRCPT"}}, MessageID: "no blanks here", Ricevuta: "x", InReplyTo: "y\r\nBcc: z", Attachments: []File{{}}}
	n, err := Compose(io.Discard, &bad)
	require.Zero(t, n)
	var vs Violations
	require.ErrorAs(t, err, &vs)
	require.Len(t, vs, 8)
}

func sdiEnvelope(t *testing.T, w *world, from, text string, files ...string) (*Reading, *Report) {
	t.Helper()
	d := draft()
	d.From, d.Subject, d.Text, d.Attachments = Address{Addr: from}, "Ricevuta di consegna 123 (SIMULAZIONE)", text, nil
	for _, f := range files {
		d.Attachments = append(d.Attachments, BytesFile(f, "text/xml", []byte("<x/>")))
	}
	_, r := written(t, w.alfa, transit(t, d).Busta(at))
	return r, verified(t, w, r)
}

// TestSdI: what the exchange sends is told apart by its files, and only a proven envelope counts.
// TESTPLAN E16.
func TestSdI(t *testing.T) {
	w := newWorld(t)
	r, rep := sdiEnvelope(t, w, "sdi48@pec.fatturapa.it", "Il nuovo indirizzo da utilizzare per inviare le prossime fatture e' sdi48@pec.fatturapa.it", "IT01234567890_00001_RC_001.xml", "logo.png")
	require.True(t, r.FromSdI(rep), codes(r.Findings))
	m, err := r.ReadSdI()
	require.NoError(t, err)
	require.Equal(t, SdINotice, m.Kind)
	require.Len(t, m.Files, 1)
	require.Equal(t, "RC", m.Files[0].Code)
	require.Equal(t, "sdi48@pec.fatturapa.it", m.Assigned)
	require.True(t, m.Simulation)

	r, _ = sdiEnvelope(t, w, "sdi07@pec.fatturapa.it", "fattura", "IT01234567890_00001.xml.p7m", "IT01234567890_00001_MT_001.xml")
	m, err = r.ReadSdI()
	require.NoError(t, err)
	require.Equal(t, SdIInvoice, m.Kind)
	require.Len(t, m.Files, 2)
	require.Empty(t, m.Assigned)

	r, _ = sdiEnvelope(t, w, "sdi01@pec.fatturapa.it", "nuovo indirizzo: sdi02@pec.fatturapa.it o sdi03@pec.fatturapa.it")
	m, err = r.ReadSdI()
	require.NoError(t, err)
	require.Equal(t, SdICourtesy, m.Kind)
	require.Empty(t, m.Assigned, "two addresses assign nothing")
	require.Len(t, m.Named, 2, "and are told")

	r, rep = sdiEnvelope(t, w, "sdi48@pec.fatturapa.it.example.test", "nuovo indirizzo sdi66@pec.fatturapa.it")
	require.False(t, r.FromSdI(rep))
	m, err = r.ReadSdI()
	require.NoError(t, err)
	require.Nil(t, m)

	for addr, want := range map[string]int{SdIFirst: 1, "SDI48@PEC.fatturapa.it": 48, "sdi@pec.fatturapa.it": -1, "xsdi01@pec.fatturapa.it": -1, "sdi01@fatturapa.it": -1} {
		n, ok := SdIAddress(addr)
		require.Equal(t, want > 0, ok, addr)
		if ok {
			require.Equal(t, want, n)
		}
	}
}

// TestE16WhatSdISends: each file that it sends is told apart by its name, whatever the words around it are; the address in its words, in
// Italian and in English; words alone are a courtesy; what is no test of the exchange is not called one. A receipt of certified mail
// about what we sent it is not from it, though its subject may read like its notice. TESTPLAN E16.
func TestE16WhatSdISends(t *testing.T) {
	w := newWorld(t)
	const italian = "Il nuovo indirizzo da utilizzare per inviare le prossime fatture al Sistema di Interscambio e' sdi48@pec.fatturapa.it"
	for _, c := range []struct {
		subject, text string
		files         []string
		kind          SdIKind
		code          string // of the first file
		assigned      string
		simulation    bool
	}{
		{"Ricevuta di consegna 123", italian, []string{"IT01234567890_00001_RC_001.xml"}, SdINotice, "RC", "sdi48@pec.fatturapa.it", false},
		{"Notifica di scarto 123", "scartata", []string{"IT01234567890_00001_NS_001.xml"}, SdINotice, "NS", "", false},
		{"Notifica di mancata consegna 123 (SIMULAZIONE)", "x", []string{"IT01234567890_00001_MC_1.xml"}, SdINotice, "MC", "", true},
		{"Invio File 123", "x", []string{"IT01234567890_00001.xml.p7m", "IT01234567890_00001_MT_001.xml"}, SdIInvoice, "", "", false},
		{"Ricevuta di consegna 123", "metadati", []string{"IT01234567890_00001_MT_001.xml"}, SdIInvoice, "MT", "", false},
		{"Ricevuta di consegna 123", "nessun allegato nel messaggio", nil, SdICourtesy, "", "", false},
		{"Notifica di scarto 1", "The new address to be used for the next invoices is sdi07@pec.fatturapa.it", nil, SdICourtesy, "", "sdi07@pec.fatturapa.it", false},
		{"Risposta", "scrivere a sdi48@pec.fatturapa.it", nil, SdICourtesy, "", "", false},
	} {
		d := draft()
		d.From, d.Subject, d.Text, d.HTML, d.Attachments = Address{Addr: "sdi01@pec.fatturapa.it"}, c.subject, c.text, "", nil
		for _, f := range c.files {
			d.Attachments = append(d.Attachments, BytesFile(f, "text/xml", []byte("<x/>")))
		}
		_, r := written(t, w.alfa, transit(t, d).Busta(at))
		m, err := r.ReadSdI()
		require.NoError(t, err)
		require.Equal(t, c.kind, m.Kind, c.subject)
		require.Len(t, m.Files, len(c.files), c.subject)
		if len(c.files) > 0 {
			require.Equal(t, c.code, m.Files[0].Code, c.subject)
		}
		require.Equal(t, c.assigned, m.Assigned, c.subject)
		require.Equal(t, c.simulation, m.Simulation, c.subject)
	}
	d := draft()
	d.To, d.Subject = []Address{{Addr: SdIFirst}}, "Ricevuta di consegna 123"
	act, err := arrived(t, w, d).Consegna(at, SdIFirst)
	require.NoError(t, err)
	_, r := written(t, w.beta, act)
	require.False(t, r.FromSdI(verified(t, w, r)))
	m, err := r.ReadSdI()
	require.NoError(t, err)
	require.Nil(t, m)
}

func TestCheckToSdI(t *testing.T) {
	for _, c := range []struct {
		name  string
		to    []string
		files map[string]int
		codes []string
	}{
		{"an invoice", []string{SdIFirst}, map[string]int{"IT01234567890_00001.xml.p7m": 10}, nil},
		{"an invoice and an outcome", []string{"sdi48@pec.fatturapa.it"}, map[string]int{"IT01234567890_00001.xml": 10, "IT01234567890_11111_EC_001.xml": 5}, nil},
		{"another recipient too", []string{SdIFirst, "x@y.test"}, map[string]int{"IT01234567890_00001.xml": 10}, []string{"SDI_RECIPIENTS", "SDI_ADDRESS"}},
		{"no file", []string{SdIFirst}, nil, []string{"SDI_NO_FILE"}},
		{"a picture only", []string{SdIFirst}, map[string]int{"logo.png": 1}, []string{"SDI_FILE_NAME", "SDI_NO_FILE"}},
		{"a notice that only the exchange sends", []string{SdIFirst}, map[string]int{"IT01234567890_11111_RC_001.xml": 5}, []string{"SDI_FILE_NAME", "SDI_NO_FILE"}},
		{"exactly the limit", []string{SdIFirst}, map[string]int{"IT01234567890_00001.zip": SdIFileLimit}, nil},
		{"a byte more", []string{SdIFirst}, map[string]int{"IT01234567890_00001.zip": SdIFileLimit + 1}, []string{"SDI_FILE_TOO_LARGE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := draft()
			d.To, d.Cc, d.Attachments = nil, nil, nil
			for _, a := range c.to {
				d.To = append(d.To, Address{Addr: a})
			}
			for name, size := range c.files {
				d.Attachments = append(d.Attachments, BytesFile(name, "", make([]byte, size)))
			}
			m, err := ParseBytes(composed(t, d))
			require.NoError(t, err)
			vs, err := CheckToSdI(m)
			require.NoError(t, err)
			var got []string
			for _, v := range vs {
				got = append(got, v.Code)
			}
			require.Equal(t, c.codes, got)
		})
	}
	twice := strings.ReplaceAll("To: "+SdIFirst+"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nX\r\n--b\r\nX\r\n--b--\r\n", "X", "Content-Type: text/xml; name=IT01234567890_00001.xml\r\n\r\n<a/>")
	m, err := ParseBytes([]byte(twice))
	require.NoError(t, err)
	vs, err := CheckToSdI(m)
	require.NoError(t, err)
	require.Equal(t, "SDI_FILE_TWICE", vs[0].Code)
}

func TestE8DSN(t *testing.T) {
	raw := "From: MAILER-DAEMON@example.test\r\nTo: mittente@alfa.test\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nsorry\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.test\r\n\r\nFinal-Recipient: rfc822; altri@example.test\r\nAction: Failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 no such user\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <c0ffee.1@alfa.test>\r\n\r\n--b--\r\n"
	r := readAll(t, []byte(raw))
	require.Equal(t, TipoNotificaRecapito, r.Tipo())
	want := &DSN{ReportingMTA: "mx.example.test", Recipients: []DSNRecipient{{"altri@example.test", "failed", "5.1.1", "550 no such user"}}, OriginalID: "c0ffee.1@alfa.test"}
	got, err := r.ReadDSN()
	require.NoError(t, err)
	require.Equal(t, want, got)
	w := newWorld(t)
	_, wrapped := written(t, w.alfa, Anomalia(r.Message, at, "posta ordinaria"))
	got, err = wrapped.ReadDSN()
	require.NoError(t, err)
	require.Equal(t, want, got)
	plain := readAll(t, []byte("Subject: x\r\n\r\ny"))
	got, err = plain.ReadDSN()
	require.NoError(t, err)
	require.Nil(t, got)
	require.Equal(t, TipoOrdinaria, plain.Tipo())
}

func TestF2TNEF(t *testing.T) {
	attribute := func(id uint32, v string) string {
		b := []byte{2}
		b = binary.LittleEndian.AppendUint32(b, id)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(v)))
		return string(b) + v + "\x00\x00"
	}
	raw := "\x78\x9f\x3e\x22\x01\x00" + attribute(tnefRendering, "rrrr") + attribute(tnefTitle, "../conto.pdf\x00") + attribute(tnefData, "%PDF") + attribute(tnefRendering, "") + attribute(tnefTitle, "CONTO.PDF\x00")
	files, err := ReadTNEF([]byte(raw))
	require.NoError(t, err)
	require.Equal(t, []TNEFFile{{"conto.pdf", []byte("%PDF")}, {"CONTO (2).PDF", nil}}, files)
	files, err = ReadTNEF([]byte(raw[:len(raw)-4]))
	require.ErrorIs(t, err, ErrTNEF)
	require.Len(t, files, 2)
	_, err = ReadTNEF([]byte("nothing"))
	require.ErrorIs(t, err, ErrTNEF)
}

func TestIndice(t *testing.T) {
	w := newWorld(t)
	entries := []IndiceEntry{
		{Name: "Gestore Alfa S.p.A.", Receipts: "ricevute@alfa.test", Domains: []string{"alfa.test", "città.test"}, Certificates: []*x509.Certificate{w.alfa.Certificate}, Location: "https://alfa.test/x.ldif", Description: "prova, è"},
		{Name: "Gestore Beta, S.p.A.", Unit: "secondario", Receipts: "ricevute@beta.test", Domains: []string{"beta.test"}, Certificates: []*x509.Certificate{w.beta.Certificate}},
	}
	ldif := WriteIndice(entries)
	for _, l := range strings.Split(string(ldif), "\n") {
		require.LessOrEqual(t, len(l), lineLimit)
	}
	got, err := ParseIndice(bytes.ReplaceAll(ldif, []byte("\n"), []byte("\r\n")))
	require.NoError(t, err)
	require.Len(t, got, 2)
	for i := range got {
		require.Equal(t, []string{sha1Hex(entries[i].Certificates[0].Raw)}, got[i].Hashes)
		require.True(t, entries[i].Certificates[0].Equal(got[i].Certificates[0]))
		got[i].Hashes, got[i].Certificates = nil, entries[i].Certificates
	}
	require.Equal(t, entries, got)
	require.True(t, (&Provider{Domains: got[0].Domains}).Manages("ALFA.test"))

	p7m, err := cms.Sign(t.Context(), ldif, w.alfa.Key, cms.Options{Certificate: w.alfa.Certificate, SigningTime: at})
	require.NoError(t, err)
	opened, err := OpenIndice(p7m, w.trust.Roots, at)
	require.NoError(t, err)
	require.Len(t, opened, 2)
	_, err = OpenIndice(p7m, nil, at)
	require.Error(t, err)
	_, err = OpenIndice(p7m, w.trust.Roots, at.AddDate(9, 0, 0))
	require.Error(t, err)
	for _, bad := range []string{"dn: providerName=x\nproviderCertificateHash: zz\n", "dn: providerName=x\njpegPhoto:< file:///etc/passwd\n", "dn: providerName=x\nmailReceipt: y\n", "rubbish\n", "dn:: ***\n"} {
		_, err := ParseIndice([]byte(bad))
		require.Error(t, err, bad)
	}
}

// TestG11REM reads a message written here by the rules of the reference.
func TestG11REM(t *testing.T) {
	w := newWorld(t)
	original := "Subject: x\r\n\r\nciao\r\n"
	evidence := `<?xml version="1.0"?><t:Evidence xmlns:t="http://uri.etsi.org/19522/v1#"><t:EvidenceIdentifier>e1@alfa.test</t:EvidenceIdentifier><t:ERDSEventId>http://uri.etsi.org/19522/Event/SubmissionAcceptance</t:ERDSEventId><t:EventReasons><t:EventReason><Details>RA01</Details><Details>words</Details></t:EventReason></t:EventReasons><EventTime>2026-09-14T08:30:05Z</EventTime></t:Evidence>`
	content := "Content-Type: multipart/mixed; boundary=IN\r\n\r\n--IN\r\nREM-Section-Type: rem_message/introduction\r\n\r\ntesto\r\n--IN\r\nContent-Type: message/rfc822\r\nREM-Section-Type: rem_message/original\r\n\r\n" + original +
		"--IN\r\nContent-Type: application/xml\r\nREM-Section-Type: rem_message/xml_evidence\r\n\r\n" + evidence + "\r\n--IN--\r\n"
	header := func(digest []byte) string {
		return "From: \"On behalf of: a@alfa.test\" <posta-certificata@pec.alfa.test>\r\nREM-MessageType: http://uri.etsi.org/19522/v1#/ERDMessageType/dispatch\r\nREM-EventIdentifier: http://uri.etsi.org/19522/Event/SubmissionAcceptance\r\nREM-ReasonIdentifier: http://uri.etsi.org/19522/EventReason/MessageAccepted\r\nREM-Evidence-ID: <e1@alfa.test>\r\nREM-UAMessageIdentifier: <u1@alfa.test>\r\nREM-DigestAlgorithm: http://www.w3.org/2001/04/xmlenc#sha256\r\nREM-DigestValue: " + base64.StdEncoding.EncodeToString(digest) + "\r\n"
	}
	p7s, err := cms.SignDetached(t.Context(), sha256Of(content), w.alfa.Key, cms.Options{Certificate: w.alfa.Certificate, SigningTime: at})
	require.NoError(t, err)
	for _, c := range []struct {
		digest []byte
		match  string
	}{{sha256Of(strings.TrimSuffix(original, "\r\n")), "exact"}, {sha256Of(original), "final-crlf"}, {sha256Of("other"), ""}} {
		r := readAll(t, signedWith(header(c.digest), content, p7s))
		require.Equal(t, TipoREM, r.Tipo())
		m, err := r.ReadREM()
		require.NoError(t, err)
		require.Equal(t, c.match, m.DigestMatches)
		require.Equal(t, c.match == "", m.Findings.Has(CodeREMDigest))
		require.True(t, m.Dispatch)
		require.Equal(t, []string{"SubmissionAcceptance", "MessageAccepted", "u1@alfa.test"}, []string{m.Event, m.Reason, m.UAMessageID})
		require.Equal(t, []string{"RA01"}, m.Evidence[0].Reasons)
		require.True(t, m.Evidence[0].Time.Equal(at))
		rep := verified(t, w, r)
		require.Equal(t, StatusValid, rep.Status, rep.Reason)
		require.False(t, r.Proven(rep), "registered mail proves nothing of PEC")
	}
	spoilt := strings.Replace(content, "e1@alfa", "e2@alfa", 1)
	m, err := readAll(t, signedWith(header(nil), spoilt, p7s)).ReadREM()
	require.NoError(t, err)
	require.True(t, m.Findings.Has(CodeREMMismatch))
	m, err = readAll(t, signedWith(header(nil), strings.Replace(content, "<t:Evidence ", "<!DOCTYPE x><t:Evidence ", 1), p7s)).ReadREM()
	require.NoError(t, err)
	require.True(t, m.Findings.Has(CodeREMEvidence))
}

// reference is where samples of others are, when they are there; they are never copied.
func reference(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "..", "shared", "reference", "pec", "samples")
	if _, err := os.Stat(dir); err != nil {
		t.Log("no reference samples beside the repository: only fixtures of our own were read")
		return ""
	}
	return dir
}

// TestG11ReferenceREM: every sample of the policy is registered mail with readable evidence, and
// its signature verifies with the sample authority. TESTPLAN G11.
func TestG11ReferenceREM(t *testing.T) {
	dir := reference(t)
	if dir == "" {
		return
	}
	list := &TrustList{Version: "samples", Roots: x509.NewCertPool()}
	files, err := filepath.Glob(filepath.Join(dir, "rem", "certificates", "*.crt"))
	require.NoError(t, err)
	for _, f := range files {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		block, _ := pem.Decode(raw)
		c, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		switch {
		case strings.Contains(f, "ROOT"):
			list.Roots.AddCert(c)
		case c.IsCA:
			list.Intermediates = append(list.Intermediates, c)
		default:
			list.Providers = append(list.Providers, Provider{Name: filepath.Base(f), Certificates: []string{fingerprint(c)}})
		}
	}
	messages, err := filepath.Glob(filepath.Join(dir, "rem", "*", "REM_*.eml"))
	require.NoError(t, err)
	require.Len(t, messages, 43)
	tally := map[string]int{}
	for _, f := range messages {
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		r := readAll(t, raw)
		require.Equal(t, TipoREM, r.Tipo(), f)
		m, err := r.ReadREM()
		require.NoError(t, err)
		require.NotEmpty(t, m.Evidence, f)
		require.NotEmpty(t, m.Event, f)
		rep, err := r.Verify(Verification{Trust: list, Now: at})
		require.NoError(t, err)
		require.False(t, r.Proven(rep))
		tally[fmt.Sprintf("signature %s (%s)", rep.Status, rep.Reason)]++
		if m.Original != nil {
			tally["original digest "+m.DigestMatches]++
		}
		for _, fd := range m.Findings {
			tally[fd.Code]++
			t.Logf("%s: %s", filepath.Base(f), fd)
		}
	}
	t.Log(tally)
}

// TestD1ReferencePEC: every public mail and every daticert.xml of certified mail that the list of samples names, each with the bytes
// that it was described by: all are read as what they are, and none is proven, since whoever made them public changed what was
// signed. TESTPLAN C2, C4, D1. (The private letters of the test plan, of Aruba, Namirial and of 2014, are not among them.)
func TestD1ReferencePEC(t *testing.T) {
	dir := reference(t)
	if dir == "" {
		return
	}
	list, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	require.NoError(t, err)
	w := newWorld(t)
	listed, read := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(string(list)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		name, kind, what := fields[0], fields[2], ""
		kind, what, _ = strings.Cut(kind, ":")
		switch kind {
		case "daticert", "x-ricevuta", "x-trasporto", "ordinary":
		default:
			continue // registered mail: TestG11ReferenceREM
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		sum := sha256.Sum256(raw)
		require.Equal(t, fields[4], hex.EncodeToString(sum[:]), name)
		listed[name] = true
		read[kind]++
		if kind == "daticert" {
			d, _, err := ParseDaticert(raw)
			require.NoError(t, err, name)
			require.Equal(t, what, d.Tipo+"/"+string(d.Errore), name)
			continue
		}
		tipo := TipoOrdinaria
		if kind != "ordinary" {
			tipo = Tipo(what)
		}
		r := readAll(t, raw)
		rep := verified(t, w, r)
		require.Equal(t, tipo, r.Tipo(), name)
		require.Equal(t, tipo.Certified(), r.Daticert != nil, name)
		require.False(t, r.Proven(rep), name)
		require.NotEqual(t, StatusValid, rep.Status, name)
		t.Logf("%s: %s %s\n%s", name, rep.Status, rep.Reason, codes(r.Findings))
	}
	for _, pattern := range []string{"daticert/*.xml", "*-pec/*.eml", "java-pec-parser/*.eml"} {
		files, err := filepath.Glob(filepath.Join(dir, filepath.FromSlash(pattern)))
		require.NoError(t, err)
		for _, f := range files {
			name, err := filepath.Rel(dir, f)
			require.NoError(t, err)
			require.True(t, listed[filepath.ToSlash(name)], "%s is not in the list of samples", name)
		}
	}
	require.Equal(t, map[string]int{"daticert": 6, "x-ricevuta": 5, "x-trasporto": 1, "ordinary": 4}, read)
	t.Logf("%d mails and %d daticert.xml of others, all that are public", read["x-ricevuta"]+read["x-trasporto"]+read["ordinary"], read["daticert"])
}
