package sdi

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/xades"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"github.com/stretchr/testify/require"
)

func receiptXML(t testing.TB) []byte {
	t.Helper()
	doc, err := sdi.WriteMessage(&sdi.RicevutaConsegna{
		Intestazione: sdi.Intestazione{
			IdentificativoSdI: "30000000001", NomeFile: "IT01234567890_00001.xml", Hash: strings.Repeat("a", 64),
			DataOraRicezione: time.Unix(1.8e9, 0), MessageID: "1", Note: `è "<&>" \r`,
		},
		DataOraConsegna: time.Unix(1.8e9, 0), Destinatario: sdi.Destinatario{Codice: "ABC1234", Descrizione: "€"},
	}, sdi.SchemaPrivati)
	require.NoError(t, err)
	return doc
}

// TestSignatureHoldsForXmlsec asks a program that shares no line with ours.
func TestSignatureHoldsForXmlsec(t *testing.T) {
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	dir := t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(caFile, authority.CertPEM(), 0o600))
	xmlsec, err := exec.LookPath("xmlsec1")
	require.NoError(t, err, "run make prepare, or apt-get install -y xmlsec1")
	for name, useECDSA := range map[string]bool{"rsa": false, "ecdsa": true} {
		s, err := newReceiptSigner(authority, useECDSA)
		require.NoError(t, err)
		signed, err := s.sign(receiptXML(t), time.Now())
		require.NoError(t, err)
		m, err := sdi.ParseMessage("IT01234567890_00001_RC_001.xml", signed)
		require.NoError(t, err)
		require.True(t, m.Signed)
		require.Empty(t, m.Warnings)
		report, err := xades.Verify(signed, xades.VerifyOptions{Roots: authority.Pool(), At: time.Now()})
		require.NoError(t, err)
		require.NoError(t, report.Err(), "our own verifier, which shares no code with the signer")
		verify := func(doc []byte) (string, error) {
			path := filepath.Join(dir, name+".xml")
			require.NoError(t, os.WriteFile(path, doc, 0o600))
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, xmlsec, "--verify", "--trusted-pem", caFile, "--id-attr:Id", "SignedProperties", path).CombinedOutput()
			return string(out), err
		}
		out, err := verify(signed)
		require.NoError(t, err, out)
		_, err = verify(spoil(signed, client.FaultBadSig))
		require.Error(t, err, "a spoiled signature must not verify")
		_, err = verify([]byte(strings.Replace(string(signed), "30000000001", "30000000002", 1)))
		require.Error(t, err, "a changed document must not verify")
		_, err = verify([]byte(strings.Replace(string(signed), "<xades:SigningTime>2", "<xades:SigningTime>1", 1)))
		require.Error(t, err, "a changed signing time must not verify")
	}
}

func BenchmarkSign(b *testing.B) {
	authority, err := ca.New(ca.Options{})
	require.NoError(b, err)
	for name, useECDSA := range map[string]bool{"rsa2048": false, "p256": true} {
		s, err := newReceiptSigner(authority, useECDSA)
		require.NoError(b, err)
		doc := receiptXML(b)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := s.sign(doc, time.Unix(1.8e9, 0))
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
