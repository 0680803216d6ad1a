package pec

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ceralacca.dev/services/format/cms"
	"github.com/stretchr/testify/require"
)

// TestSMIMEOfPeople: what openssl signs, both ways, verifies here; an altered one does not.
func TestSMIMEOfPeople(t *testing.T) {
	w := newWorld(t)
	o := cms.VerifyOptions{Roots: w.trust.Roots, At: at}
	plain := readAll(t, []byte("Subject: x\r\n\r\ny"))
	s, err := plain.Root.VerifySMIME(o)
	require.NoError(t, err)
	require.Nil(t, s)
	for _, raw := range []string{"Content-Type: application/pkcs7-mime\r\n\r\nMII", "Content-Type: multipart/signed; boundary=b\r\n\r\n--b--\r\n"} {
		_, err = readAll(t, []byte(raw)).Root.VerifySMIME(o)
		require.ErrorIs(t, err, ErrSMIME)
	}
	s, err = readAll(t, []byte("Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nMII")).Root.VerifySMIME(o)
	require.NoError(t, err)
	require.Nil(t, s)

	content := "Content-Type: text/plain\r\n\r\nciao\r\n"
	own, err := cms.Sign(t.Context(), []byte(content), w.person.Key, cms.Options{Certificate: w.person.Certificate, Chain: w.person.Chain, SigningTime: at})
	require.NoError(t, err)
	var b bytes.Buffer
	b.WriteString("Content-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	lines := &base64Lines{w: &b, width: 48}
	_, err = lines.Write(own)
	require.NoError(t, err)
	require.NoError(t, lines.Close())
	checkSMIME(t, b.Bytes(), o, true)

	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "run make prepare, or apt-get install -y openssl")
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(w.person.Key)
	require.NoError(t, err)
	for name, data := range map[string][]byte{
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "in": []byte(strings.ReplaceAll(content, "\r\n", "\n")),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.person.Certificate.Raw}),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	for _, args := range []string{
		"smime -sign -signer cert.pem -inkey key.pem -in in -out out", "cms -sign -signer cert.pem -inkey key.pem -in in -out out",
		"cms -sign -nodetach -signer cert.pem -inkey key.pem -in in -out out", "cms -sign -md sha512 -signer cert.pem -inkey key.pem -keyopt rsa_padding_mode:pss -in in -out out",
	} {
		cmd := exec.CommandContext(t.Context(), bin, strings.Fields(args)...)
		cmd.Dir = dir
		msg, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", args, msg)
		raw, err := os.ReadFile(filepath.Join(dir, "out"))
		require.NoError(t, err)
		// openssl signs with the clock of the machine, so the time is not judged
		checkSMIME(t, raw, cms.VerifyOptions{}, strings.Contains(args, "nodetach"))
	}
}

func checkSMIME(t *testing.T, raw []byte, o cms.VerifyOptions, opaque bool) {
	t.Helper()
	s, err := readAll(t, raw).Root.VerifySMIME(o)
	require.NoError(t, err)
	require.Equal(t, opaque, s.Opaque)
	require.True(t, s.Report.Signers[0].Intact(), "%+v", s.Report)
	require.Equal(t, "ciao", strings.TrimSpace(text(t, s.Content)))
	if !opaque {
		s, err = readAll(t, bytes.Replace(raw, []byte("ciao"), []byte("addi"), 1)).Root.VerifySMIME(o)
		require.NoError(t, err)
		require.False(t, s.Report.Signers[0].Intact())
	}
}
