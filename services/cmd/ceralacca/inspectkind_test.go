package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/validation"
	reports "ceralacca.dev/services/format/validation/verdict"
	"ceralacca.dev/services/format/xades"
)

// TestInspectEveryKind: what each kind of file is called, what is told of it, and the exit code.
func TestInspectEveryKind(t *testing.T) {
	dir, pki := t.TempDir(), cmstest.New(t)
	pair, tsa := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t)), pki.Issue(t, "Marca", cmstest.NewECDSA(t), cmstest.TimeStamping)
	who := cades.Signer{Chain: pair.Chain, Key: pair.Key}
	authority := &tsp.Authority{Certificate: tsa.Cert, Chain: tsa.Chain[1:], Key: tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return cmstest.Now }, Serial: func() *big.Int { return big.NewInt(7) }}
	stamp := func(ctx context.Context, sum []byte) ([]byte, error) {
		req, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum, CertReq: true}).Marshal()
		require.NoError(t, err)
		raw, err := authority.Respond(ctx, req)
		require.NoError(t, err)
		resp, err := tsp.ParseResponse(raw)
		require.NoError(t, err)
		return resp.Token, resp.Err()
	}
	text := []byte("<doc>Pay 100 euro</doc>")
	p7m, err := cades.Sign(t.Context(), text, who, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	token := func(data []byte) []byte {
		h := crypto.SHA256.New()
		h.Write(data)
		raw, err := stamp(t.Context(), h.Sum(nil))
		require.NoError(t, err)
		return raw
	}
	report, err := validation.Validate(t.Context(), p7m, validation.Options{At: day})
	require.NoError(t, err)
	var plainPDF, signedPDF bytes.Buffer
	require.NoError(t, reports.PDF(&plainPDF, report, reports.File{Name: "x"}, reports.Options{}))
	require.NoError(t, pades.Sign(t.Context(), &signedPDF, bytes.NewReader(plainPDF.Bytes()), int64(plainPDF.Len()), who, pades.Options{SigningTime: cmstest.Now, Timestamp: stamp}))
	xml, err := xades.Sign(t.Context(), text, xades.Signer{Chain: pair.Chain, Key: pair.Key}, xades.Options{SigningTime: cmstest.Now, Timestamp: stamp})
	require.NoError(t, err)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: day, NextUpdate: day.Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(9), RevocationTime: day}}}, pki.Root, pki.Key)
	require.NoError(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alfa"}}, pair.Key)
	require.NoError(t, err)
	answer, err := ocsp.CreateResponse(pki.Root, pki.Root, ocsp.Response{Status: ocsp.Good, SerialNumber: big.NewInt(9), ThisUpdate: day, NextUpdate: day.Add(time.Hour)}, pki.Key)
	require.NoError(t, err)
	query, err := (&tsp.Request{Hash: crypto.SHA256, Digest: make([]byte, 32)}).Marshal()
	require.NoError(t, err)
	receiver := pki.Issue(t, "SdI", cmstest.RSA(t))
	sealed, err := cms.Encrypt(text, receiver.Cert)
	require.NoError(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(pair.Key)
	require.NoError(t, err)
	evidence, err := os.ReadFile("../../format/ers/testdata/initial.ers")
	require.NoError(t, err)
	receipt, err := os.ReadFile("../../format/tlog/testdata/entry.tlog-proof")
	require.NoError(t, err)
	mail, err := os.ReadFile("../../format/pec/testdata/golden/plain-accettazione.eml")
	require.NoError(t, err)
	m7m := func(over []byte) []byte {
		return []byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"B\"\r\n\r\n--B\r\nContent-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString(p7m) + "\r\n--B\r\nContent-Type: application/timestamp-reply\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString(token(over)) + "\r\n--B--\r\n")
	}
	for name, c := range map[string]struct {
		raw  []byte
		kind string
		told string
		code int
	}{
		"plain.pdf":   {plainPDF.Bytes(), "PDF without signatures", "", exitOK},
		"signed.pdf":  {signedPDF.Bytes(), "PDF with signatures", "PAdES-B-T", exitOK},
		"bad.pdf":     {bytes.Replace(signedPDF.Bytes(), []byte("/Type /Page\n"), []byte("/Type /Pagf\n"), 1), "PDF with signatures", "DOES NOT HOLD", exitRefused},
		"doc.tsd":     {timeStampedData(t, p7m, token(p7m)), "time-stamped data (.tsd)", "Maria Rossi", exitOK},
		"bad.tsd":     {timeStampedData(t, p7m, token(text)), "time-stamped data (.tsd)", "DOES NOT HOLD", exitRefused},
		"doc.m7m":     {m7m(p7m), "time-stamped message (.m7m)", "Maria Rossi", exitOK},
		"bad.m7m":     {m7m(text), "time-stamped message (.m7m)", "DOES NOT HOLD", exitRefused},
		"signed.xml":  {xml, "signed XML", "XAdES-T", exitOK},
		"changed.xml": {bytes.Replace(xml, []byte("100"), []byte("900"), 1), "signed XML", "DOES NOT HOLD", exitRefused},
		"cert.pem":    {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw}), "certificate", "nonRepudiation", exitOK},
		"ca.der":      {pki.Root.Raw, "certificate of an authority", "Test root", exitOK},
		"chain.pem":   {append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pki.Root.Raw})...), "2 certificates", "in force", exitOK},
		"list.crl":    {crl, "certificate revocation list", "revoked", exitOK},
		"csr.pem":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}), "certificate request (PKCS #10)", "Alfa", exitOK},
		"answer.ocsp": {answer, "OCSP response", "good", exitOK},
		"ask.tsq":     {query, "time stamp request (RFC 3161)", "SHA-256", exitOK},
		"file.enc":    {sealed, "encrypted file (CMS EnvelopedData)", "recipients", exitOK},
		"key.pem":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "private key (PRIVATE KEY): keep it to yourself", "", exitOK},
		"record.ers":  {evidence, "evidence record (RFC 4998)", "chains", exitOK},
		"entry.proof": {receipt, "receipt of a log (tlog-proof)", "leaf", exitOK},
		"mail.eml":    {mail, "message of certified mail that claims to be: accettazione", "provider", exitOK},
		"noise":       {[]byte("noise"), "unknown", "", exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			require.NoError(t, os.WriteFile(path, c.raw, 0o600))
			shown := command(t, "", "inspect", path)
			require.Equal(t, c.code, shown.code, shown.out+shown.errOut)
			require.Contains(t, shown.out, c.told)
			var d description
			require.NoError(t, json.Unmarshal([]byte(command(t, "", "inspect", "--format", "json", path).out), &d))
			require.Equal(t, c.kind, d.Kind)
		})
	}
}

// timeStampedData is a .tsd around content. spec: RFC5544 §2
func timeStampedData(t *testing.T, content, token []byte) []byte {
	t.Helper()
	wrap := func(class, tag int, parts ...[]byte) []byte {
		der, err := asn1.Marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: bytes.Join(parts, nil)})
		require.NoError(t, err)
		return der
	}
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		require.NoError(t, err)
		return der
	}
	body := wrap(0, asn1.TagSequence, marshal(1), marshal(content), wrap(2, 0, wrap(0, asn1.TagSequence, token)))
	return wrap(0, asn1.TagSequence, marshal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 31}), wrap(2, 0, body))
}
