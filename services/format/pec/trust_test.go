package pec

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"github.com/stretchr/testify/require"
)

// signedWith builds a message around a content and a signature of any kind, for what no
// provider would write.
func signedWith(header, content string, p7s []byte) []byte {
	return []byte(header + "MIME-Version: 1.0\r\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=\"OUT\"\r\n\r\n--OUT\r\n" +
		content + "\r\n--OUT\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(p7s) + "\r\n--OUT--\r\n")
}

func readAll(t testing.TB, raw []byte) *Reading {
	t.Helper()
	r, err := ReadBytes(raw)
	require.NoError(t, err)
	return r
}

// TestC3AlteredBytes: wherever a byte changes, no receipt is proven, and openssl refuses it too. A byte of the text, of daticert or of
// the original makes the digest wrong, one of the signed attributes or of the value makes the signature wrong. TESTPLAN C3.
func TestC3AlteredBytes(t *testing.T) {
	w := newWorld(t)
	act, err := arrived(t, w, draft()).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	raw, r := written(t, w.beta, act)
	require.True(t, r.Proven(verified(t, w, r)))
	said, ok := cmstest.OpenSSLSays(t, raw)
	require.True(t, ok, said)
	refused := func(what string, mutant []byte) *Report {
		t.Helper()
		m, err := ReadBytes(mutant)
		require.NoError(t, err)
		rep := verified(t, w, m)
		require.False(t, m.Proven(rep), what)
		require.NotEqual(t, StatusValid, rep.Status, what)
		said, ok := cmstest.OpenSSLSays(t, mutant)
		require.False(t, ok, "%s: openssl takes what is refused here: %s", what, rep.Reason)
		if rep.Status != StatusUnparsable {
			require.Contains(t, said, "Verification failure", what)
		}
		return rep
	}
	require.Len(t, r.Signed.Parts, 3)
	within := func(i int64) string {
		for n, p := range r.Signed.Parts {
			if i >= p.BodyStart && i < p.End {
				return []string{"the text", "daticert", "the original"}[n]
			}
		}
		return ""
	}
	seen := map[string]int{}
	for i := r.Signed.Start; i < r.Signed.End; i += 97 {
		mutant := bytes.Clone(raw)
		mutant[i] ^= 1
		part := within(i)
		rep := refused(fmt.Sprintf("byte %d of %d, in %q", i, len(raw), part), mutant)
		if seen[part]++; part != "" {
			require.Equal(t, StatusInvalidDigest, rep.Status, "byte %d, in %s: %s", i, part, rep.Reason)
		}
	}
	for _, part := range []string{"", "the text", "daticert", "the original"} {
		require.NotZero(t, seen[part], "no byte of %q was changed", part)
	}
	p7s, err := r.P7S.Bytes(0)
	require.NoError(t, err)
	signed := func(p7s []byte) []byte { // the same message with another signature, in lines as openssl wants them
		var b bytes.Buffer
		lines := &base64Lines{w: &b, width: 57}
		_, err := lines.Write(p7s)
		require.NoError(t, err)
		require.NoError(t, lines.Close())
		return slices.Concat(raw[:r.P7S.BodyStart], bytes.TrimSuffix(b.Bytes(), []byte("\r\n")), raw[r.P7S.End:])
	}
	said, ok = cmstest.OpenSSLSays(t, signed(p7s))
	require.True(t, ok, said)
	require.True(t, r.Proven(verified(t, w, readAll(t, signed(p7s)))))
	attribute := func(oid byte, value int) int { // of PKCS #9, and a byte of its value behind two tags and lengths
		return bytes.Index(p7s, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, oid}) + 9 + 4 + value
	}
	for what, c := range map[string]struct {
		at   int
		want Status
	}{
		"the digest among the signed attributes": {attribute(4, 3), StatusInvalidDigest},
		"the signing time":                       {attribute(5, 3), StatusInvalidSignature},
		"the content type that was signed":       {attribute(3, 8), StatusInvalidSignature},
		"the value of the signature":             {len(p7s) - 1, StatusInvalidSignature},
	} {
		other := bytes.Clone(p7s)
		other[c.at] ^= 1
		require.Equal(t, c.want, refused(what, signed(other)).Status, what)
	}
}

// TestC8C10Signers: who signed decides, not that somebody did. TESTPLAN C8 to C11.
func TestC8C10Signers(t *testing.T) {
	w := newWorld(t)
	tr := transit(t, draft())
	receipt := func(g *Gestore) *Reading { _, r := written(t, g, tr.Accettazione(at)); return r }
	asAlfa := func(from, to time.Time) *Gestore { return w.renewed(t, from, to) }
	signing := func(address string) *Gestore { // under an authority of the list, and not in the list
		g := w.renewed(t, at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0), address)
		g.Address = address
		return g
	}
	otherwise := &TrustList{Roots: w.trust.Roots, Providers: []Provider{w.trust.Providers[0], {Name: w.beta.Name, Signers: []string{"Ricevute@pec.beta.test"}, Domains: []string{"beta.test"}}}}
	impostor := *w.person
	impostor.Address = w.alfa.Address // the certificate still says the person
	other := *w.beta
	other.Name = w.alfa.Name
	two := w.renewed(t, at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0), w.alfa.Address, "una.persona@example.test")
	w.trust.Providers[0].Certificates = append(w.trust.Providers[0].Certificates, fingerprint(two.Certificate))
	for _, c := range []struct {
		name string
		g    *Gestore
		v    Verification
		want Status
	}{
		{"the provider", w.alfa, Verification{Trust: w.trust, At: at, Home: w.alfa.Name}, StatusValid},
		{"a person's certificate", w.person, Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"a provider that is in no list yet", signing("posta-certificata@pec.nuovo.test"), Verification{Trust: w.trust, At: at}, StatusUnlisted},
		{"a name that only ends as a provider's does", signing("non.posta-certificata@alfa.test"), Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"a listed provider that signs by another name, renewed", signing("ricevute@pec.beta.test"), Verification{Trust: otherwise, At: at}, StatusUnlisted},
		{"a person as the provider", &impostor, Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"two addresses in a certificate that is listed", two, Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"another provider accepts", &other, Verification{Trust: w.trust, At: at, Home: w.alfa.Name}, StatusUntrusted},
		{"new certificate, not in the list", asAlfa(at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0)), Verification{Trust: w.trust, At: at}, StatusUnlisted},
		{"expired at receipt", asAlfa(at.AddDate(-2, 0, 0), at.AddDate(0, 0, -1)), Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"not yet valid", asAlfa(at.AddDate(0, 0, 1), at.AddDate(1, 0, 0)), Verification{Trust: w.trust, At: at}, StatusUntrusted},
		{"no list and no roots", w.alfa, Verification{At: at}, StatusUntrusted},
		{"long after", w.alfa, Verification{Trust: w.trust, At: at.AddDate(5, 0, 0)}, StatusEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := receipt(c.g)
			rep, err := r.Verify(c.v)
			require.NoError(t, err)
			require.Equal(t, c.want, rep.Status, rep.Reason)
			require.Equal(t, c.want == StatusValid, r.Proven(rep))
			require.Equal(t, "unknown", rep.Revocation)
		})
	}
}

// renewed is the first provider under another certificate of its own.
func (w *world) renewed(t testing.TB, from, to time.Time, addresses ...string) *Gestore {
	t.Helper()
	g := *w.alfa
	if len(addresses) == 0 {
		addresses = []string{g.Address}
	}
	c, key := w.certificate(t, from, to, addresses...)
	g.Certificate, g.Key = c, key
	return &g
}

// TestC9C10C11SignersOverTime: renewals, remembered chains, the index's hashes. TESTPLAN C9 to C11.
func TestC9C10C11SignersOverTime(t *testing.T) {
	w := newWorld(t)
	tr := transit(t, draft())
	receipt := func(g *Gestore) *Reading { _, r := written(t, g, tr.Accettazione(at)); return r }
	asAlfa := func(from, to time.Time) *Gestore { return w.renewed(t, from, to) }
	t.Run("a remembered chain is no older than its certificates", func(t *testing.T) {
		chains := &ChainCache{}
		g := asAlfa(at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0))
		r := receipt(g)
		for _, c := range []struct {
			when time.Time
			want string
		}{{at, "passed"}, {at.AddDate(0, 6, 0), "passed"}, {at.AddDate(2, 0, 0), "failed"}, {at, "passed"}} {
			rep, err := r.Verify(Verification{Trust: w.trust, At: c.when, Chains: chains})
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(rep.Chain, c.want), rep.Chain)
		}
		require.Len(t, chains.held, 1)
	})
	t.Run("without a time the signature's own counts", func(t *testing.T) {
		rep, err := receipt(w.alfa).Verify(Verification{Trust: w.trust, Now: at.AddDate(20, 0, 0)})
		require.NoError(t, err)
		require.Equal(t, StatusValid, rep.Status, rep.Reason)
		require.True(t, rep.JudgedAt.Equal(at))
	})
	t.Run("renewal: two certificates in the list", func(t *testing.T) {
		g := asAlfa(at.AddDate(-1, 0, 0), at.AddDate(1, 0, 0))
		list := *w.trust
		list.Providers = append([]Provider(nil), list.Providers...)
		list.Providers[0].Certificates = append([]string{fingerprint(g.Certificate)}, list.Providers[0].Certificates...)
		for _, who := range []*Gestore{g, w.alfa} {
			rep, err := receipt(who).Verify(Verification{Trust: &list, At: at})
			require.NoError(t, err)
			require.Equal(t, StatusValid, rep.Status, rep.Reason)
		}
	})
	t.Run("by SHA-1 of the index, without roots", func(t *testing.T) {
		sum := sha1.Sum(w.alfa.Certificate.Raw)
		list := &TrustList{Providers: []Provider{{Name: w.alfa.Name, CertificatesSHA1: []string{strings.ToUpper(hexOf(sum[:]))}}}}
		rep, err := receipt(w.alfa).Verify(Verification{Trust: list, At: at})
		require.NoError(t, err)
		require.Equal(t, StatusValid, rep.Status, rep.Reason)
	})
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}

// TestC10Revocation: by the lists that the caller has, as of the moment of judgement. TESTPLAN C10.
func TestC10Revocation(t *testing.T) {
	w := newWorld(t)
	_, r := written(t, w.alfa, transit(t, draft()).Accettazione(at))
	list := func(key crypto.Signer, ca *x509.Certificate, from time.Time, revoked *time.Time) *x509.RevocationList {
		tpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, 7)}
		if revoked != nil {
			tpl.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: w.alfa.Certificate.SerialNumber, RevocationTime: *revoked}}
		}
		der, err := x509.CreateRevocationList(rand.Reader, tpl, ca, key)
		require.NoError(t, err)
		l, err := x509.ParseRevocationList(der)
		require.NoError(t, err)
		return l
	}
	before, after, ended := at.AddDate(0, 0, -2), at.AddDate(0, 0, 2), w.alfa.Certificate.NotAfter.AddDate(0, 1, 0)
	with := func(from time.Time, critical bool, id int, value any, params string, revoked ...x509.RevocationListEntry) *x509.RevocationList {
		raw, err := asn1.MarshalWithParams(value, params)
		require.NoError(t, err)
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(2), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, 7), RevokedCertificateEntries: revoked,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, id}, Critical: critical, Value: raw}}}, w.caAlfa, w.caKey)
		require.NoError(t, err)
		l, err := x509.ParseRevocationList(der)
		require.NoError(t, err)
		return l
	}
	keeping := func(from, since time.Time) *x509.RevocationList { // spec: X.509 §9.5.2.8 (expiredCertsOnCRL)
		return with(from, false, 60, since.UTC(), "generalized")
	}
	delta := func(from time.Time, revoked ...x509.RevocationListEntry) *x509.RevocationList {
		return with(from, true, 27, 1, "", revoked...)
	} // spec: RFC5280 §5.2.4
	forger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	tpl := *w.caAlfa
	tpl.PublicKey = nil
	der, err := x509.CreateCertificate(rand.Reader, &tpl, &tpl, &forger.PublicKey, forger)
	require.NoError(t, err)
	fake, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	for _, c := range []struct {
		name  string
		lists []*x509.RevocationList
		state string
		want  Status
	}{
		{"no list", nil, RevocationUnknown, StatusValid},
		{"current list without it", []*x509.RevocationList{list(w.caKey, w.caAlfa, before, nil)}, RevocationGood, StatusValid},
		{"list from before, run out", []*x509.RevocationList{list(w.caKey, w.caAlfa, at.AddDate(0, -1, 0), nil)}, RevocationUnknown, StatusValid},
		{"revoked before", []*x509.RevocationList{list(w.caKey, w.caAlfa, after, &before)}, RevocationRevoked, StatusUntrusted},
		{"revoked after", []*x509.RevocationList{list(w.caKey, w.caAlfa, after.AddDate(0, 1, 0), &after)}, RevocationGood, StatusValid},
		{"another authority's list", []*x509.RevocationList{list(w.caKey, w.caBeta, before, &before)}, RevocationUnknown, StatusValid},
		{"a forged list", []*x509.RevocationList{list(forger, fake, before, &before)}, RevocationUnknown, StatusValid},
		{"list of after the certificate's end, which need not name it any more", []*x509.RevocationList{list(w.caKey, w.caAlfa, ended, nil)}, RevocationUnknown, StatusValid},
		{"list of after its end that names it", []*x509.RevocationList{list(w.caKey, w.caAlfa, ended, &before)}, RevocationRevoked, StatusUntrusted},
		{"list of after its end that keeps what has ended", []*x509.RevocationList{keeping(ended, at.AddDate(-9, 0, 0))}, RevocationGood, StatusValid},
		{"delta without it", []*x509.RevocationList{delta(after)}, RevocationUnknown, StatusValid},
		{"delta that names it", []*x509.RevocationList{delta(after, x509.RevocationListEntry{SerialNumber: w.alfa.Certificate.SerialNumber, RevocationTime: before})}, RevocationRevoked, StatusUntrusted},
		{"list that keeps what ended later", []*x509.RevocationList{keeping(ended, ended)}, RevocationUnknown, StatusValid},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep, err := r.Verify(Verification{Trust: w.trust, At: at, Revocations: c.lists})
			require.NoError(t, err)
			require.Equal(t, c.state, rep.Revocation)
			require.Equal(t, c.want, rep.Status, rep.Reason)
			chains := &ChainCache{}
			for range 2 { // remembered, it says the same
				again, err := r.Verify(Verification{Trust: w.trust, At: at, Revocations: c.lists, Chains: chains})
				require.NoError(t, err)
				require.Equal(t, []any{c.state, c.want}, []any{again.Revocation, again.Status}, again.Reason)
			}
		})
	}
}

// TestC8ForeignDelivery: a provider that does not manage the recipient's domain cannot prove a delivery.
func TestC8ForeignDelivery(t *testing.T) {
	w := newWorld(t)
	act, err := arrived(t, w, draft()).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	_, r := written(t, w.alfa, act)
	rep := verified(t, w, r)
	require.Equal(t, StatusValid, rep.Status)
	require.True(t, rep.Findings.Has(CodeForeignDomain))
	require.False(t, r.Proven(rep))
}

// TestC8ForeignNotice: that a delivery takes long is told by the provider of the sender. The recipient's is taken too, since the RFC
// can be read so, and it is said; another one's notice makes no recipient late.
func TestC8ForeignNotice(t *testing.T) {
	w := newWorld(t)
	act := transit(t, draft()).Preavviso(at, "protocollo@beta.test", false, "dodici ore")
	for _, c := range []struct {
		name   string
		by     *Gestore
		home   string
		odd    bool
		proven bool
	}{
		{"the sender's", w.alfa, "", false, true},
		{"the mailbox's", w.alfa, w.alfa.Name, false, true},
		{"the recipient's", w.beta, "", true, true},
		{"the recipient's, the mailbox's being known", w.beta, w.alfa.Name, true, true},
	} {
		_, r := written(t, c.by, act)
		rep, err := r.Verify(Verification{Trust: w.trust, At: at, Home: c.home})
		require.NoError(t, err)
		require.Equal(t, []any{StatusValid, c.odd, c.proven}, []any{rep.Status, rep.Findings.Has(CodeForeignDomain), r.Proven(rep)}, c.name)
	}
	// To a domain that the one who signed does not manage.
	third := draft()
	third.To = []Address{{Addr: "ufficio@gamma.test"}}
	_, r := written(t, w.beta, transit(t, third).Preavviso(at, "ufficio@gamma.test", true, "ventiquattro ore"))
	rep, err := r.Verify(Verification{Trust: w.trust, At: at})
	require.NoError(t, err)
	require.Equal(t, []any{StatusValid, true, false}, []any{rep.Status, rep.Findings.Has(CodeForeignDomain), r.Proven(rep)})
}

const receiptHeader = "X-Ricevuta: accettazione\r\nFrom: posta-certificata@pec.alfa.test\r\nTo: mittente@alfa.test\r\nSubject: ACCETTAZIONE: x\r\n" +
	"Date: Mon, 14 Sep 2026 10:30:05 +0200\r\nMessage-ID: <r1@pec.alfa.test>\r\nX-Riferimento-Message-ID: <c0ffee.1@alfa.test>\r\n"

func mixedContent(t testing.TB, extra string) string {
	t.Helper()
	a := transit(t, draft()).Accettazione(at)
	a.Dati.Tipo, a.Dati.Gestore = "accettazione", "Gestore Alfa S.p.A."
	a.Dati.SetIstante(at, rome(t))
	return "Content-Type: multipart/mixed; boundary=IN\r\n\r\n--IN\r\nContent-Type: text/plain\r\n\r\ntesto\r\n--IN\r\n" +
		"Content-Type: application/xml; name=daticert.xml\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(a.Dati.XML()) + "\r\n" + extra + "--IN--\r\n"
}

// TestC2C7C12C13SignatureRules: what a lax verifier takes and this one must not. TESTPLAN C12.
func TestC2C7C12C13SignatureRules(t *testing.T) {
	w := newWorld(t)
	content := mixedContent(t, "")
	sum := sha256Of(content)
	opts := cms.Options{Certificate: w.alfa.Certificate, SigningTime: at}
	good, err := cms.SignDetached(t.Context(), sum, w.alfa.Key, opts)
	require.NoError(t, err)
	attached, err := cms.Sign(t.Context(), []byte(content), w.alfa.Key, opts)
	require.NoError(t, err)
	sd, err := cms.Parse(good)
	require.NoError(t, err)
	two, err := sd.AddSigner(context.Background(), sum, w.beta.Key, cms.Options{Certificate: w.beta.Certificate, SigningTime: at})
	require.NoError(t, err)
	odd := opts
	odd.ContentType = cms.OIDTSTInfo
	other, err := cms.SignDetached(t.Context(), sum, w.alfa.Key, odd)
	require.NoError(t, err)
	for _, c := range []struct {
		name string
		p7s  []byte
		want Status
	}{
		{"good", good, StatusValid},
		{"indefinite lengths", indefinite(good, 3), StatusValid},
		{"own content inside", attached, StatusInvalidSignature},
		{"two signatures", two, StatusInvalidSignature},
		{"other content type", other, StatusInvalidSignature},
		{"bytes after the end", append(bytes.Clone(good), 0), StatusInvalidSignature},
		{"signature value changed", append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), StatusInvalidSignature},
		{"cut off", good[:len(good)/2], StatusUnparsable},
		{"placeholder", []byte("MII...njA=="), StatusUnparsable},
		{"empty", nil, StatusUnparsable},
		{"too large", append(bytes.Clone(good), make([]byte, maxP7S)...), StatusUnparsable},
		{"a bomb of lengths", bytes.Repeat([]byte{0x30, 0x80}, 20_000), StatusUnparsable},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readAll(t, signedWith(receiptHeader, content, c.p7s))
			rep := verified(t, w, r)
			require.Equal(t, c.want, rep.Status, rep.Reason)
			require.Equal(t, c.want == StatusValid, r.Proven(rep), codes(r.Findings))
		})
	}
}

// TestC14C15C16D6Structures: messages that two parsers could read differently are never proven, even when
// the signature holds over the bytes. TESTPLAN C14 to C16.
func TestC14C15C16D6Structures(t *testing.T) {
	w := newWorld(t)
	forge := func(header, content string) []byte {
		p7s, err := cms.SignDetached(t.Context(), sha256Of(content), w.alfa.Key, cms.Options{Certificate: w.alfa.Certificate, SigningTime: at})
		require.NoError(t, err)
		return signedWith(header, content, p7s)
	}
	fine := mixedContent(t, "")
	second := mixedContent(t, "--IN\r\nContent-Type: application/xml; name=daticert.xml\r\n\r\n<postacert/>\r\n")
	nested := mixedContent(t, "--IN\r\nContent-Type: message/rfc822; name=postacert.eml\r\n\r\nSubject: dentro\r\nContent-Type: multipart/mixed; boundary=X\r\n\r\n--X\r\nContent-Type: application/xml; name=daticert.xml\r\n\r\n<postacert/>\r\n--X--\r\n\r\n")
	for _, c := range []struct {
		name   string
		raw    []byte
		proven bool
		code   string
	}{
		{"fine", forge(receiptHeader, fine), true, ""},
		{"another daticert inside the attached message", forge(receiptHeader, nested), true, ""},
		{"two daticert side by side", forge(receiptHeader, second), false, CodeSeveralDaticert},
		{"unclosed outer boundary", bytes.Replace(forge(receiptHeader, fine), []byte("--OUT--\r\n"), nil, 1), false, CodeUnclosed},
		{"unclosed inner boundary", forge(receiptHeader, strings.Replace(fine, "--IN--\r\n", "", 1)), false, CodeUnclosed},
		{"a third part", bytes.Replace(forge(receiptHeader, fine), []byte("--OUT--\r\n"), []byte("--OUT\r\n\r\nx\r\n--OUT--\r\n"), 1), false, CodeShape},
		{"part after the end", append(forge(receiptHeader, fine), "--OUT\r\nContent-Type: text/plain\r\n\r\nx\r\n--OUT--\r\n"...), false, CodeAfterClose},
		{"prefix of the boundary", forge(receiptHeader, strings.Replace(fine, "testo\r\n", "testo\r\n--OUTX\r\n", 1)), false, CodeBoundaryAmbiguous},
		{"type twice in the header", forge("X-Ricevuta: avvenuta-consegna\r\n"+receiptHeader, fine), false, CodeHeaderDuplicate},
		{"both kinds of header", forge("X-Trasporto: posta-certificata\r\n"+receiptHeader, fine), false, CodeBothHeaders},
		{"another type in the header", forge(strings.Replace(receiptHeader, "accettazione", "avvenuta-consegna", 1), fine), false, CodeTipo},
		{"another original in the header", forge(strings.Replace(receiptHeader, "c0ffee.1", "c0ffee.2", 1), fine), false, CodeMsgID},
		{"unknown type", forge(strings.Replace(receiptHeader, "accettazione", "mancata-consegna", 1), fine), false, CodeUnknownTipo},
		{"two senders", forge(strings.Replace(receiptHeader, "From: ", "From: a@b.test, ", 1), fine), false, ""},
		{"no signature", []byte(receiptHeader + "MIME-Version: 1.0\r\n" + fine), false, ""},
		{"certdata.xml, as the RFC once calls it", forge(receiptHeader, strings.Replace(fine, "name=daticert.xml", "name=certdata.xml", 1)), false, ""},
		{"daticert inside the attached message alone", forge(receiptHeader, strings.Replace(nested, "name=daticert.xml", "name=x.xml", 1)), false, ""},
		{"its name in Content-Disposition alone", forge(receiptHeader, strings.Replace(fine, "application/xml; name=daticert.xml", "application/xml\r\nContent-Disposition: inline; filename=daticert.xml", 1)), true, ""},
		{"preamble and epilogue", append(bytes.Replace(forge(receiptHeader, fine), []byte("\r\n--OUT\r\n"), []byte("\r\nThis is signed\r\n--OUT\r\n"), 1), "bye\r\n"...), true, ""},
		{"boundary with blanks", bytes.Replace(forge(receiptHeader, fine), []byte("--OUT--"), []byte("--OUT-- \t"), 1), true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readAll(t, c.raw)
			rep := verified(t, w, r)
			require.Equal(t, c.proven, r.Proven(rep), "%s %s\n%s", rep.Status, rep.Reason, codes(r.Findings))
			if c.code != "" {
				require.True(t, r.Findings.Has(c.code), codes(r.Findings))
			}
		})
	}
}

func sha256Of(s string) []byte {
	h := sha256.New()
	h.Write([]byte(s))
	return h.Sum(nil)
}

// TestOddOriginal: whatever a sender sends, the provider's envelope around it stays proven, unless
// it looks like the envelope's own structure.
func TestOddOriginal(t *testing.T) {
	w := newWorld(t)
	head := "From: mittente@alfa.test\r\nTo: protocollo@beta.test\r\nTo: copia@beta.test\r\nSubject: strano\r\nMessage-ID: <c0ffee.1@alfa.test>\r\n"
	for name, tail := range map[string]string{
		"never closed":              "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx",
		"type twice":                "Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\nx\r\n",
		"no boundary":               "Content-Type: multipart/mixed\r\n\r\nx\r\n",
		"own boundary again":        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n",
		"prefix of its boundary":    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--bc\r\n--b--\r\n",
		"after its end":             "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n--b\r\n",
		"broken header":             "nonsense\r\n\r\nx\r\n",
		"zero bytes, no line end":   "\r\n\x00",
		"bare line ends":            "\r\na\nb\rc\r\n",
		"nested beyond the limit":   strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100),
		"a forwarded certified one": "Content-Type: message/rfc822\r\n\r\n" + string(signedWith(receiptHeader, mixedContent(t, ""), []byte("x"))),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseBytes([]byte(head + tail))
			require.NoError(t, err)
			for _, g := range []*Gestore{w.alfa, {Name: w.alfa.Name, Address: w.alfa.Address, Certificate: w.alfa.Certificate, Key: w.alfa.Key, Location: w.alfa.Location, Profile: ProfileLegalmail}} {
				raw, r := written(t, g, NewTransito(m, Envelope{"mittente@alfa.test", []string{"protocollo@beta.test", "copia@beta.test"}}, "1@pec.alfa.test", nil).Busta(at))
				rep := verified(t, w, r)
				require.True(t, r.Proven(rep), "%s %s\n%s", rep.Status, rep.Reason, codes(r.Findings))
				openssl(t, raw, r)
			}
		})
	}
}

// TestC6LineEnds: a copy kept with LF alone verifies after CRLF is put back, and after nothing else. TESTPLAN C6.
func TestC6LineEnds(t *testing.T) {
	w := newWorld(t)
	act, err := arrived(t, w, draft()).Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	for _, p := range []Profile{ProfilePlain, ProfileLegalmail} {
		g := *w.beta
		g.Profile = p
		raw, _ := written(t, &g, act)
		lf := bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n"))
		r := readAll(t, lf)
		rep := verified(t, w, r)
		require.Equal(t, StatusValid, rep.Status, rep.Reason)
		require.Equal(t, "crlf-restored", rep.LineEnds)
		require.True(t, r.Proven(rep))
		spoilt := bytes.Replace(lf, []byte("Gentili"), []byte("Gentile"), 1)
		require.NotEqual(t, lf, spoilt)
		require.Equal(t, StatusInvalidDigest, verified(t, w, readAll(t, spoilt)).Status)
	}
}

// TestC18RewrittenByList: a signed message inside another one is attributed to nobody. TESTPLAN C18.
func TestC18RewrittenByList(t *testing.T) {
	w := newWorld(t)
	raw, _ := written(t, w.alfa, transit(t, draft()).Accettazione(at))
	cut := bytes.Index(raw, []byte("MIME-Version"))
	outer := string(raw[:cut]) + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=LIST\r\n\r\n--LIST\r\n" + string(raw[cut:]) + "\r\n--LIST\r\nContent-Type: text/plain\r\n\r\nfooter\r\n--LIST--\r\n"
	r := readAll(t, []byte(outer))
	require.True(t, r.Nested)
	rep := verified(t, w, r)
	require.Equal(t, StatusUnparsable, rep.Status)
	require.False(t, r.Proven(rep))
	require.NotNil(t, r.Daticert, "it is still read, for display")
}

// TestC17AnomalyAroundPEC: a bounced envelope inside an anomaly is content. TESTPLAN C17.
func TestC17AnomalyAroundPEC(t *testing.T) {
	w := newWorld(t)
	raw, _ := written(t, w.alfa, transit(t, draft()).Busta(at))
	m, err := ParseBytes(raw)
	require.NoError(t, err)
	_, r := written(t, w.beta, Anomalia(m, at, "firma non valida"))
	require.Equal(t, BustaAnomalia, r.Tipo())
	require.Nil(t, r.Daticert)
	require.True(t, r.Proven(verified(t, w, r)), codes(r.Findings))
	inner, err := r.OriginalMessage()
	require.NoError(t, err)
	got, err := io.ReadAll(inner.Raw())
	require.NoError(t, err)
	require.Equal(t, string(raw), string(got))
	_, ok := FactOf(r)
	require.False(t, ok)
	require.False(t, Match(r, Sent{MessageID: "c0ffee.1@alfa.test"}).Ours)
}
