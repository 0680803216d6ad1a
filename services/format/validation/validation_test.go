package validation_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
)

var doc = []byte("<doc><sum>Pay 100 euro</sum></doc>")

const (
	pass   = validation.Passed
	unsure = validation.Indeterminate
	fail   = validation.Failed
)

// TestForms: every form passes whole, and fails by name when what was signed or the value changes.
func TestForms(t *testing.T) {
	w := newWorld(t)
	detached := func() []byte {
		sum := sha256.Sum256(doc)
		out, err := cades.SignDetached(t.Context(), sum[:], w.signer(), cades.Options{SigningTime: now})
		require.NoError(t, err)
		return out
	}()
	for name, c := range map[string]struct {
		raw     []byte
		content []byte
		verdict validation.Verdict
		sub     validation.Sub
		level   string
		count   int
	}{
		"p7m":                    {w.p7m(doc), nil, pass, "", "CAdES-BES", 1},
		"p7m in Base64":          {[]byte(base64.StdEncoding.EncodeToString(w.p7m(doc))), nil, pass, "", "CAdES-BES", 1},
		"p7m with a stamp":       {w.p7m(doc, now), nil, pass, "", "CAdES-T", 1},
		"p7m in p7m":             {w.p7m(w.p7m(doc)), nil, pass, "", "CAdES-BES", 2},
		"p7m around XAdES":       {w.p7m(w.xml(doc)), nil, pass, "", "CAdES-BES", 2},
		"p7m around PAdES":       {w.p7m(w.pdf()), nil, pass, "", "CAdES-BES", 2},
		"p7m, other content":     {changed(t, w.p7m(doc), "100 euro", "900 euro"), nil, fail, validation.HashFailure, "CAdES-BES", 1},
		"p7m, other value":       {lastByte(w.p7m(doc)), nil, fail, validation.SigCryptoFailure, "CAdES-BES", 1},
		"inner p7m changed":      {w.p7m(changed(t, w.p7m(doc), "100 euro", "900 euro")), nil, fail, validation.HashFailure, "CAdES-BES", 2},
		"p7m cut":                {w.p7m(doc)[:900], nil, fail, validation.FormatFailure, "", 0},
		"p7m in a cut p7m":       {w.p7m(w.p7m(doc)[:900]), nil, fail, validation.FormatFailure, "CAdES-BES", 2},
		"detached":               {detached, doc, pass, "", "CAdES-BES", 1},
		"detached, other file":   {detached, []byte("another"), fail, validation.HashFailure, "CAdES-BES", 1},
		"detached, alone":        {detached, nil, unsure, validation.SignedDataNotFound, "CAdES-BES", 1},
		"XAdES":                  {w.xml(doc), nil, pass, "", "XAdES-BES", 1},
		"XAdES, other content":   {changed(t, w.xml(doc), "100 euro", "900 euro"), nil, fail, validation.HashFailure, "XMLDSig", 1},
		"XAdES, other time":      {changed(t, w.xml(doc), "2026-03-02", "2026-03-01"), nil, fail, validation.HashFailure, "XMLDSig", 1},
		"XAdES, not well formed": {changed(t, w.xml(doc), "</sum>", "</sun>"), nil, fail, validation.FormatFailure, "", 0},
		"PAdES":                  {w.pdf(), nil, pass, "", "PAdES-B-B", 1},
		"PAdES with a stamp":     {w.pdf(now), nil, pass, "", "PAdES-B-T", 1},
		"PAdES, other content":   {changed(t, w.pdf(), "100 euro", "900 euro"), nil, fail, validation.HashFailure, "PAdES-B-B", 1},
		"PAdES, bytes after it":  {append(w.pdf(), bytes.Repeat([]byte("% something else\n"), 9)...), nil, fail, validation.FormatFailure, "PAdES-B-B", 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options(now.Add(time.Hour))
			o.Content = c.content
			r, err := validation.Validate(t.Context(), c.raw, o)
			require.NoError(t, err)
			require.Equal(t, c.verdict, r.Verdict, r.Reason)
			require.Equal(t, c.sub, r.Sub, r.Reason)
			require.Len(t, r.Signatures, c.count)
			if c.verdict != pass {
				require.NotEmpty(t, r.Reason)
			}
			require.NotEmpty(t, r.Text().IT)
			require.NotEmpty(t, r.Text().EN)
			if c.count > 0 && c.level != "" {
				s := r.Signatures[0]
				require.Equal(t, c.level, s.Level)
				require.Equal(t, "Maria Rossi", s.Signer.Name)
				require.Equal(t, "undetermined", s.Qualification.Result)
			}
			if c.verdict == pass {
				for _, s := range r.Signatures {
					require.True(t, s.Integrity)
					require.Len(t, s.Chain, 2)
					require.Equal(t, "good", s.Chain[0].Revocation)
					require.True(t, s.Chain[1].Anchor)
				}
			}
		})
	}
}

// TestTimes: expiry, revocation and stamps against the time of judgement.
func TestTimes(t *testing.T) {
	year := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	later := now.AddDate(2, 0, 0)
	stamped := year.p7m(doc, now.Add(time.Hour))
	late := year.p7m(doc, now.Add(72*time.Hour))
	revoked := entry(year.pair.Cert, now.Add(48*time.Hour), 1)
	soon := now.Add(96 * time.Hour)
	with := func(o validation.Options, lists ...*x509.RevocationList) validation.Options {
		o.CRLs = lists
		return o
	}
	current := year.crl(now.Add(90 * time.Hour))
	ocsps := func(o validation.Options, list ...[]byte) validation.Options {
		o.CRLs, o.OCSPs = nil, list
		return o
	}
	signer, tsa := year.pair.Cert, year.tsa.Cert
	foreign := newWorld(t)
	for name, c := range map[string]struct {
		raw     []byte
		o       validation.Options
		verdict validation.Verdict
		sub     validation.Sub
		proven  bool
	}{
		"no stamp, in time":                   {year.p7m(doc), year.options(soon), pass, "", false},
		"no stamp, expired":                   {year.p7m(doc), year.options(later), unsure, validation.OutOfBoundsNoPOE, false},
		"stamp, expired, list of then":        {stamped, with(year.options(later), year.crl(later), year.crl(now.Add(2*time.Hour))), pass, "", true},
		"stamp, expired, list too new":        {stamped, year.options(later), unsure, validation.TryLater, true},
		"not valid yet":                       {year.p7m(doc), year.options(now.AddDate(0, 0, -2)), unsure, validation.OutOfBoundsNotRevoked, false},
		"no list":                             {year.p7m(doc), with(year.options(soon)), unsure, validation.TryLater, false},
		"old list":                            {year.p7m(doc), with(year.options(soon), year.crl(now.AddDate(0, -3, 0))), unsure, validation.TryLater, false},
		"list of another authority":           {year.p7m(doc), with(year.options(soon), foreign.crl(soon)), unsure, validation.TryLater, false},
		"revoked, no stamp":                   {year.p7m(doc), with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE, false},
		"revoked after the stamp":             {stamped, with(year.options(soon), year.crl(soon, revoked)), pass, "", true},
		"revoked before the stamp":            {late, with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE, true},
		"one list says revoked, another good": {year.p7m(doc), with(year.options(soon), current, year.crl(soon, revoked)), unsure, validation.RevokedNoPOE, false},
		"suspended":                           {year.p7m(doc), with(year.options(soon), year.crl(soon, entry(signer, now, 6))), unsure, validation.TryLater, false},
		"stamp whose authority was revoked":   {stamped, with(year.options(soon), year.crl(soon, entry(tsa, now, 1))), pass, "", false},
		"OCSP good":                           {year.p7m(doc), ocsps(year.options(soon), year.ocspFor(signer, ocsp.Good, soon, time.Time{})), pass, "", false},
		"OCSP revoked":                        {year.p7m(doc), ocsps(year.options(soon), year.ocspFor(signer, ocsp.Revoked, soon, now)), unsure, validation.RevokedNoPOE, false},
		"OCSP unknown":                        {year.p7m(doc), ocsps(year.options(soon), year.ocspFor(signer, ocsp.Unknown, soon, time.Time{})), unsure, validation.TryLater, false},
		"OCSP about another":                  {year.p7m(doc), ocsps(year.options(soon), year.ocspFor(tsa, ocsp.Good, soon, time.Time{})), unsure, validation.TryLater, false},
		"OCSP too old":                        {year.p7m(doc), ocsps(year.options(soon), year.ocspFor(signer, ocsp.Good, now.AddDate(0, 0, -20), time.Time{})), unsure, validation.TryLater, false},
		"OCSP by another authority":           {year.p7m(doc), ocsps(year.options(soon), foreign.ocspFor(signer, ocsp.Good, soon, time.Time{})), unsure, validation.TryLater, false},
		"OCSP, stamped before the revocation": {stamped, ocsps(year.options(soon), year.ocspFor(signer, ocsp.Revoked, soon, now.Add(48*time.Hour)), year.ocspFor(tsa, ocsp.Good, soon, time.Time{})), pass, "", true},
		"stamp from after the judgement":      {late, year.options(now.Add(time.Hour)), pass, "", false},
		"unknown authority":                   {year.p7m(doc), foreign.options(soon), unsure, validation.NoChain, false},
		"no anchors":                          {year.p7m(doc), validation.Options{At: soon}, unsure, validation.NoChain, false},
		"PAdES, stamp, revoked later":         {year.pdf(now.Add(time.Hour)), with(year.options(soon), year.crl(soon, revoked)), pass, "", true},
		"PAdES, revoked":                      {year.pdf(), with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE, false},
		"XAdES, revoked":                      {year.xml(doc), with(year.options(soon), year.crl(soon, revoked)), unsure, validation.RevokedNoPOE, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := validation.Validate(t.Context(), c.raw, c.o)
			require.NoError(t, err)
			require.Equal(t, c.verdict, r.Verdict, "%s %s %v", r.Sub, r.Reason, r.Signatures[0].Warnings)
			require.Equal(t, c.sub, r.Sub, r.Reason)
			require.Equal(t, c.proven, r.Signatures[0].Proven)
			require.True(t, r.Signatures[0].Integrity)
		})
	}
}

// TestSigners: what the certificate is for, and whether it is there.
func TestSigners(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		sub    validation.Sub
	}{
		"for ciphering": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, validation.ChainConstraints},
		"authority":     {func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage = x509.KeyUsageCertSign }, validation.ChainConstraints},
	} {
		w := newWorld(t, c.change)
		raw, err := cms.Sign(t.Context(), doc, w.pair.Key, cms.Options{Certificate: w.pair.Cert, SigningTime: now})
		require.NoError(t, err)
		r, err := validation.Validate(t.Context(), raw, w.options(now))
		require.NoError(t, err, name)
		require.Equal(t, c.sub, r.Sub, name)
	}
	w := newWorld(t)
	out := filepath.Join(t.TempDir(), "out")
	cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-nodetach", "-nocerts", "-outform", "DER", "-in", cmstest.File(t, "in", doc),
		"-signer", cmstest.CertFile(t, w.pair.Cert), "-inkey", cmstest.KeyFile(t, w.pair.Key), "-md", "sha256", "-out", out)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	r, err := validation.Validate(t.Context(), raw, w.options(now))
	require.NoError(t, err)
	require.Equal(t, validation.NoSigningCertificate, r.Sub)
}

// TestAlgorithmsByDate: SHA-1 was relied on until a date; a stamp from before it helps, and a
// policy of the caller's counts.
func TestAlgorithmsByDate(t *testing.T) {
	w := newWorld(t)
	out := filepath.Join(t.TempDir(), "out")
	cmstest.OpenSSL(t, "cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", cmstest.File(t, "in", doc),
		"-signer", cmstest.CertFile(t, w.pair.Cert), "-inkey", cmstest.KeyFile(t, w.pair.Key), "-md", "sha1", "-out", out)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	o := w.options(now.Add(72 * time.Hour))
	r, err := validation.Validate(t.Context(), raw, o)
	require.NoError(t, err)
	require.Equal(t, validation.CryptoConstraintsNoPOE, r.Sub, r.Reason)
	require.Contains(t, r.Reason, "SHA-1")

	never := append([]validation.Limit{{Name: "SHA-1", Until: time.Unix(0, 0)}}, validation.DefaultPolicy()...)
	o.Policy = never
	r, err = validation.Validate(t.Context(), raw, o)
	require.NoError(t, err)
	require.Equal(t, validation.CryptoConstraints, r.Sub)

	// The same file passes under a policy in which SHA-1 ends after the stamp, and not without one.
	o.Policy = append([]validation.Limit{{Name: "SHA-1", Until: now.Add(48 * time.Hour)}}, validation.DefaultPolicy()...)
	r, err = validation.Validate(t.Context(), raw, o)
	require.NoError(t, err)
	require.Equal(t, validation.CryptoConstraintsNoPOE, r.Sub)
	stamped, err := cades.AddTimestamp(t.Context(), raw, w.stamp(now.Add(time.Hour)))
	require.NoError(t, err)
	r, err = validation.Validate(t.Context(), stamped, o)
	require.NoError(t, err)
	require.Equal(t, pass, r.Verdict, r.Reason)
	require.True(t, r.Signatures[0].Proven)
}

// tsd wraps content with tokens, each over what came before.
func tsd(t *testing.T, content []byte, tokens ...[]byte) []byte {
	t.Helper()
	wrap := func(v any, params string) []byte {
		der, err := asn1.MarshalWithParams(v, params)
		require.NoError(t, err)
		return der
	}
	seq := func(tag byte, parts ...[]byte) []byte {
		class := asn1.ClassUniversal
		number := int(tag)
		if tag >= 0xa0 {
			class, number = asn1.ClassContextSpecific, int(tag&0x1f)
		}
		return wrap(asn1.RawValue{Class: class, Tag: number, IsCompound: true, Bytes: bytes.Join(parts, nil)}, "")
	}
	var evidence [][]byte
	for _, token := range tokens {
		evidence = append(evidence, seq(asn1.TagSequence, token))
	}
	body := seq(asn1.TagSequence, wrap(1, ""), wrap(content, ""), seq(0xa0, evidence...))
	return seq(asn1.TagSequence, wrap(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 31}, ""), seq(0xa0, body))
}

// TestStampedFiles: time-stamps by themselves, around data, and around signatures whose age they prove.
func TestStampedFiles(t *testing.T) {
	w := newWorld(t, func(c *x509.Certificate) { c.NotAfter = now.AddDate(1, 0, 0) })
	later := now.AddDate(2, 0, 0)
	then := now.Add(time.Hour)
	p7m := w.p7m(doc)
	token := w.token(then, p7m)
	m7m := []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\nContent-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(p7m) + "\r\n--B\r\nContent-Type: application/timestamp-reply\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		base64.StdEncoding.EncodeToString(token) + "\r\n--B--\r\n")
	o := w.options(later)
	o.CRLs = append(o.CRLs, w.crl(then.Add(time.Hour)))
	for name, c := range map[string]struct {
		raw, content []byte
		kind         string
		verdict      validation.Verdict
		sub          validation.Sub
		signatures   int
	}{
		"tsr":                      {token, p7m, validation.KindTSR, pass, "", 0},
		"tsr, other data":          {token, doc, validation.KindTSR, fail, validation.HashFailure, 0},
		"tsr, no data":             {token, nil, validation.KindTSR, unsure, validation.SignedDataNotFound, 0},
		"tsr, other value":         {lastByte(token), p7m, validation.KindTSR, fail, validation.SigCryptoFailure, 0},
		"tsd of text":              {tsd(t, []byte("text"), w.token(then, []byte("text"))), nil, validation.KindTSD, pass, "", 0},
		"tsd of other text":        {tsd(t, []byte("text"), w.token(then, []byte("test"))), nil, validation.KindTSD, fail, validation.HashFailure, 0},
		"tsd of an expired p7m":    {tsd(t, p7m, token), nil, validation.KindTSD, pass, "", 1},
		"tsd cut":                  {tsd(t, p7m, token)[:800], nil, validation.KindTSD, fail, validation.FormatFailure, 0},
		"tsd without a stamp":      {tsd(t, p7m), nil, validation.KindTSD, fail, validation.FormatFailure, 0},
		"m7m":                      {m7m, nil, validation.KindM7M, pass, "", 1},
		"m7m with another stamp":   {bytes.Replace(m7m, []byte(base64.StdEncoding.EncodeToString(token)), []byte(base64.StdEncoding.EncodeToString(w.token(then, doc))), 1), nil, validation.KindM7M, fail, validation.HashFailure, 1},
		"the p7m alone is expired": {p7m, nil, validation.KindCAdES, unsure, validation.OutOfBoundsNoPOE, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Content = c.content
			r, err := validation.Validate(t.Context(), c.raw, o)
			require.NoError(t, err)
			require.Equal(t, c.kind, r.Kind)
			require.Equal(t, c.verdict, r.Verdict, "%s %s", r.Sub, r.Reason)
			require.Equal(t, c.sub, r.Sub, r.Reason)
			require.Len(t, r.Signatures, c.signatures)
		})
	}
	// A second stamp over the first one keeps it after its authority has ended.
	short := newWorld(t)
	short.tsa = short.pki.Issue(t, "Breve", cmstest.NewECDSA(t), cmstest.TimeStamping, func(c *x509.Certificate) { c.NotAfter = now.AddDate(0, 1, 0) })
	first := short.token(then, doc)
	whole, err := asn1.Marshal(asn1.RawValue{Class: 0, Tag: asn1.TagSequence, IsCompound: true, Bytes: first})
	require.NoError(t, err)
	long := short
	long.tsa = short.pki.Issue(t, "Lunga", cmstest.NewECDSA(t), cmstest.TimeStamping)
	second := long.token(now.AddDate(0, 0, 20), whole)
	so := short.options(later)
	so.CRLs = append(so.CRLs, short.crl(now.AddDate(0, 0, 21)))
	r, err := validation.Validate(t.Context(), tsd(t, doc, first), so)
	require.NoError(t, err)
	require.Equal(t, unsure, r.Verdict)
	r, err = validation.Validate(t.Context(), tsd(t, doc, first, second), so)
	require.NoError(t, err)
	require.Equal(t, pass, r.Verdict, r.Reason)
}

// TestRefuses: what holds nothing to judge is an error, and so is a judgement without a time.
func TestRefuses(t *testing.T) {
	for name, raw := range map[string][]byte{"nothing": nil, "text": []byte("ciao"), "XML": doc, "PDF": plainPDF(), "zip": []byte("PK\x03\x04"),
		"mail that is signed":        []byte("MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=\"B\"\r\n\r\n--B\r\n\r\ntext\r\n--B\r\nContent-Type: application/pkcs7-signature\r\n\r\nMIAG\r\n--B--\r\n"),
		"mail with an attachment":    []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\n\r\ntext\r\n--B--\r\n"),
		"mail with a cut attachment": []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\n\r\ntext")} {
		_, err := validation.Validate(t.Context(), raw, validation.Options{At: now})
		require.ErrorIs(t, err, validation.ErrUnsigned, name)
	}
	_, err := validation.Validate(t.Context(), doc, validation.Options{})
	require.ErrorIs(t, err, validation.ErrNoTime)
}

// TestOpenSSLAgrees: a program that is not ours says the same of integrity and chain.
func TestOpenSSLAgrees(t *testing.T) {
	w := newWorld(t)
	root := cmstest.CertFile(t, w.pki.Root)
	at := now.Add(time.Hour)
	for name, raw := range map[string][]byte{"whole": w.p7m(doc), "stamped": w.p7m(doc, now), "changed": changed(t, w.p7m(doc), "100 euro", "900 euro"), "value": lastByte(w.p7m(doc))} {
		r, err := validation.Validate(t.Context(), raw, w.options(at))
		require.NoError(t, err)
		_, theirs := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-inform", "DER", "-in", cmstest.File(t, "x.p7m", raw), "-CAfile", root, "-purpose", "any", "-out", os.DevNull)
		require.Equal(t, theirs == nil, r.Verdict == pass, name)
	}
	token := w.token(now, doc)
	for name, data := range map[string][]byte{"its data": doc, "other data": []byte("x")} {
		o := w.options(at)
		o.Content = data
		r, err := validation.Validate(t.Context(), token, o)
		require.NoError(t, err)
		_, theirs := cmstest.Run(t, "openssl", "openssl", "ts", "-verify", "-token_in", "-in", cmstest.File(t, "x.tst", token), "-data", cmstest.File(t, "data", data), "-CAfile", root)
		require.Equal(t, theirs == nil, r.Verdict == pass, name)
	}
	for name, raw := range map[string][]byte{"whole": w.xml(doc), "changed": changed(t, w.xml(doc), "100 euro", "900 euro")} {
		r, err := validation.Validate(t.Context(), raw, w.options(at))
		require.NoError(t, err)
		_, theirs := cmstest.Run(t, "xmlsec1", "xmlsec1", "--verify", "--trusted-pem", root, "--id-attr:Id", "http://uri.etsi.org/01903/v1.3.2#:SignedProperties", cmstest.File(t, "x.xml", raw))
		require.Equal(t, theirs == nil, r.Verdict == pass, name)
	}
}

// FuzzValidate: whatever the bytes, there is an answer, and the same one twice.
func FuzzValidate(f *testing.F) {
	f.Add([]byte("%PDF-1.7\n"))
	f.Add([]byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\r\nx\r\n--B--\r\n"))
	f.Add([]byte("0\x1e\x06\x0b*\x86H\x86\xf7\x0d\x01\x09\x10\x01\x1f\xa0\x0f0\x0d\x02\x01\x01\x04\x01x\xa0\x050\x030\x01\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o := validation.Options{At: now, Content: []byte("x")}
		a, errA := validation.Validate(t.Context(), raw, o)
		b, errB := validation.Validate(t.Context(), raw, o)
		require.Equal(t, errA == nil, errB == nil)
		if errA == nil {
			require.Equal(t, a.Conclusion, b.Conclusion)
			require.NotEqual(t, pass, a.Verdict, "nothing was given to trust")
		}
	})
}
