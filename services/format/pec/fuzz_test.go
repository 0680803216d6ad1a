package pec

import (
	"bytes"
	"crypto/x509"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seeds are one message of each kind, and what breaks readers.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	w := newWorld(f)
	var out [][]byte
	for _, c := range acts(f, w, draft()) {
		for _, p := range []Profile{ProfileAruba, ProfileLegalmail} {
			g := *c.by
			g.Profile, g.Random = p, seeded(1)
			var b bytes.Buffer
			if _, err := g.Write(f.Context(), &b, c.act); err != nil {
				f.Fatal(err)
			}
			out = append(out, b.Bytes())
		}
	}
	return append(out,
		[]byte("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/digest; boundary=bb\n\n--bb\n\n--bb--\n--b--\n"),
		[]byte("Subject: =?utf-8?q?a?= =?utf-8?b?YQ==?=\nContent-Type: a/b; x*0*=utf-8''%41; x*1=b\nContent-Transfer-Encoding: quoted-printable\n\n=41=\n"),
		[]byte("Content-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n$8VEA;P``\n`\nend\n"),
		[]byte("REM-MessageType: x/dispatch\nContent-Type: multipart/mixed; boundary=b\n\n--b\nREM-Section-Type: rem_message/xml_evidence\n\n<Evidence/>\n--b--\n"))
}

// FuzzRead reads anything: no panic, ranges that nest, and nothing proven that nobody signed.
func FuzzRead(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	w := newWorld(f)
	stranger := &TrustList{Roots: w.trust.Roots, Providers: []Provider{{Name: "x", Certificates: []string{"00"}}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Read(bytes.NewReader(raw), int64(len(raw)), Limits{Parts: 500, Decoded: 1 << 20})
		if err != nil {
			return
		}
		r.Root.Walk(func(p *Part) bool {
			require.True(t, p.Start <= p.BodyStart && p.BodyStart <= p.End && p.End <= int64(len(raw)))
			if p.Parent != nil {
				require.True(t, p.Parent.BodyStart <= p.Start && p.End <= p.Parent.End)
			}
			_, err := io.Copy(io.Discard, p.Open())
			require.NoError(t, err)
			require.NotContains(t, p.FileName(), "\n")
			return true
		})
		for _, a := range r.Root.Attachments() {
			require.NotEmpty(t, a.Name)
			require.NotContains(t, a.Name, "/")
		}
		rep, err := r.Verify(Verification{Trust: stranger, At: at})
		require.NoError(t, err)
		require.False(t, r.Proven(rep))
		for _, read := range []func() error{
			func() error { _, err := r.ReadREM(); return err }, func() error { _, err := r.ReadDSN(); return err }, func() error { _, err := r.ReadSdI(); return err },
		} {
			require.NoError(t, read())
		}
		Match(r, Sent{MessageID: "c0ffee.1@alfa.test"})
		require.NoError(t, WriteBreve(io.Discard, r.Root))
	})
}

// FuzzParseDaticert: what is read can be written, and reads again as the same.
func FuzzParseDaticert(f *testing.F) {
	f.Add([]byte(sampleDaticert))
	f.Add([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE postacert><postacert tipo="x"><dati><ricezione>a</ricezione><ricezione/><x/></dati></postacert>`))
	f.Add([]byte(`<postacert tipo="a" tipo="b"/>`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, _, err := ParseDaticert(raw)
		if err != nil {
			return
		}
		d.Ignoti = nil
		again, _, err := ParseDaticert(d.XML())
		if err != nil {
			return // texts at the limits grow by escaping
		}
		if !d.HasOggetto {
			again.HasOggetto = false
		}
		require.Equal(t, d, again)
	})
}

// FuzzVerify changes the signature of a receipt: either it is the same receipt or it is not proven.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	g := *w.alfa
	var b bytes.Buffer
	if _, err := g.Write(f.Context(), &b, transit(f, draft()).Accettazione(at)); err != nil {
		f.Fatal(err)
	}
	r := readAll(f, b.Bytes())
	p7s, err := r.P7S.Bytes(0)
	if err != nil {
		f.Fatal(err)
	}
	content, err := io.ReadAll(r.Signed.Raw())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p7s)
	f.Add(indefinite(p7s, 3))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 200))
	f.Add([]byte{})
	head := string(b.Bytes()[:bytes.Index(b.Bytes(), []byte("MIME-Version"))])
	other := bytes.Replace(content, []byte("Gestore"), []byte("Gestori"), 1)
	if bytes.Equal(other, content) {
		other = append(bytes.Clone(content), ' ')
	}
	f.Fuzz(func(t *testing.T, sig []byte) {
		m := readAll(t, signedWith(head, string(other), sig))
		rep := verified(t, w, m)
		require.NotEqual(t, StatusValid, rep.Status, "other content, same signature")
		_ = verified(t, w, readAll(t, signedWith(head, string(content), sig)))
	})
}

// FuzzHeaders: fields, parameters and addresses in any bytes.
func FuzzHeaders(f *testing.F) {
	f.Add("=?utf-8?Q?=C3?= =?utf-8?B?oA==?= x", "text/plain; a*0*=utf-8''%41; a*1=\"b\"; c=(d)", "A (b) <c@d>, e: f@g;")
	f.Fuzz(func(t *testing.T, word, params, list string) {
		text := DecodeText(word)
		require.NotContains(t, text, "\n")
		require.NotContains(t, text, "\r")
		again := DecodeText(encodeText(text))
		require.Equal(t, cleanText(text), again)
		parseParams(params)
		for _, a := range ParseAddresses(list) {
			require.NotContains(t, a.Addr+a.Name, "\n")
		}
		name := SafeName(word)
		require.Equal(t, name, SafeName(name))
		_, back := parseParams("a/b; " + formatParam(param{"x", text})[0])
		if len(formatParam(param{"x", text})) == 1 {
			require.Equal(t, cleanText(text), back["x"])
		}
	})
}

// FuzzIndice: the index of providers in any bytes; what is read can be written and reads again as the same.
func FuzzIndice(f *testing.F) {
	w := newWorld(f)
	f.Add(WriteIndice([]IndiceEntry{{Name: "Gestore È", Receipts: "ricevute@pec.alfa.test", Domains: []string{"alfa.test", "beta.test"}, Certificates: []*x509.Certificate{w.alfa.Certificate}}}))
	f.Add([]byte("version: 1\n\ndn: providerName=x,o=postacert\nproviderName:: eA==\nmanagedDomains: a\n b\n# c\n d\n\ndn: o=postacert\no: postacert\n"))
	f.Add([]byte("dn:: =\nproviderCertificate;binary:: MIIB\nproviderCertificateHash:< file:///etc/passwd\n-\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		entries, err := ParseIndice(raw)
		if err != nil {
			return
		}
		written := WriteIndice(entries)
		again, err := ParseIndice(written)
		require.NoError(t, err)
		require.Len(t, again, len(entries))
		require.Equal(t, string(written), string(WriteIndice(again)))
	})
}

// FuzzREM: evidence of registered mail in any bytes.
func FuzzREM(f *testing.F) {
	const ns = `xmlns="http://uri.etsi.org/19522/v1#"`
	f.Add([]byte(`<Evidence ` + ns + ` version="en319522v1.1.1"><EvidenceIdentifier>1</EvidenceIdentifier><ERDSEventId>http://uri.etsi.org/19522/Event/SubmissionAcceptance</ERDSEventId>` +
		`<EventReasons><EventReason><Code>1</Code><Details>x</Details></EventReason></EventReasons><EventTime>2024-02-29T23:59:60Z</EventTime></Evidence>`))
	f.Add([]byte(`<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE a [<!ENTITY b "c">]><Evidence ` + ns + `>&b;</Evidence>`))
	f.Add([]byte("<Evidence/>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := parseEvidence(raw)
		again, errAgain := parseEvidence(raw)
		require.Equal(t, err == nil, errAgain == nil)
		require.Equal(t, e, again)
	})
}

// FuzzFiles: winmail.dat, archives and the index of providers.
func FuzzFiles(f *testing.F) {
	f.Add([]byte("\x78\x9f\x3e\x22\x01\x00\x02\x02\x90\x06\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("version: 1\n\ndn: providerName=x,o=postacert\nproviderName:: eA==\nmanagedDomains: a\n b\n"))
	f.Add([]byte("PK\x03\x04\x14\x00\x00\x00PK\x01\x02\x14\x00\x14\x00\x00\x00\x00\x00" + strings.Repeat("\x00", 16) + "\x05\x00" + strings.Repeat("\x00", 16) + "a.exe"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = DangerInside(raw[:min(len(raw), 80)], bytes.NewReader(raw))
		files, err := ReadTNEF(raw)
		for _, file := range files {
			require.NotEmpty(t, file.Name)
		}
		_ = err
		entries, err := ParseIndice(raw)
		if err != nil {
			return
		}
		again, err := ParseIndice(WriteIndice(entries))
		require.NoError(t, err)
		require.Len(t, again, len(entries))
	})
}
