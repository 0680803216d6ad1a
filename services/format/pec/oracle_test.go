package pec

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"math/rand/v2"
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

// pythonSplitter reads messages (length, bytes) and tells, for each, the SHA-256 of every
// daticert.xml that is a direct child of the signed part, by Python's own parser.
const pythonSplitter = `
import sys, email, hashlib, struct
inp = sys.stdin.buffer
while True:
    head = inp.read(4)
    if len(head) < 4:
        break
    raw = inp.read(struct.unpack('>I', head)[0])
    out = []
    try:
        m = email.message_from_bytes(raw)
        if m.get_content_type() == 'multipart/signed' and m.is_multipart():
            box = m.get_payload()[0]
            if box.is_multipart():
                for p in box.get_payload():
                    if (p.get_filename() or '').lower() == 'daticert.xml':
                        body = p.get_payload(decode=True)
                        out.append(hashlib.sha256(body).hexdigest() if body is not None else 'none')
    except Exception as e:
        out = ['error']
    print(' '.join(out) or '-', flush=True)
`

// TestC19AgainstPython: over thousands of damaged messages, whenever this package reads a daticert.xml
// out of a structure that it finds unambiguous, Python's parser reads the same bytes. TESTPLAN C19.
func TestC19AgainstPython(t *testing.T) {
	bin, err := exec.LookPath("python3")
	require.NoError(t, err, "run make prepare, or apt-get install -y python3")
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 2))
	var input bytes.Buffer
	var messages [][]byte
	for _, c := range acts(t, w, draft()) {
		raw, _ := written(t, c.by, c.act)
		for range 300 {
			messages = append(messages, damage(rng, raw))
		}
	}
	for _, m := range messages {
		input.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m))))
		input.Write(m)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-c", pythonSplitter)
	cmd.Stdin = &input
	out, err := cmd.Output()
	require.NoError(t, err)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, answers, len(messages))
	read, same := 0, 0
	for i, m := range messages {
		r, err := ReadBytes(m)
		if err != nil || r.Signed == nil || r.DaticertXML == nil || r.structureFindings().Worst() >= Ambiguous {
			continue
		}
		read++
		sum := sha256.Sum256(r.DaticertXML)
		ours := hex.EncodeToString(sum[:])
		if answers[i] == ours {
			same++
			continue
		}
		// the two decoders treat damaged base64 differently; the signature is over the bytes as they
		// stand, so what matters is that a difference is never proven
		rep := verified(t, w, r)
		require.NotEqual(t, StatusValid, rep.Status, "message %d: Python reads %s\n%s", i, answers[i], m)
	}
	t.Logf("%d damaged messages, %d read without ambiguity, %d of them the same in Python", len(messages), read, same)
	require.Greater(t, same, len(messages)/10)
}

// damage changes a message as transports and attackers do: lines lost, doubled, moved, bytes
// changed, boundaries altered.
func damage(rng *rand.Rand, raw []byte) []byte {
	lines := strings.SplitAfter(string(raw), "\r\n")
	for range 1 + rng.IntN(3) {
		i, j := rng.IntN(len(lines)), rng.IntN(len(lines))
		switch rng.IntN(7) {
		case 0:
			lines[i] = ""
		case 1:
			lines[i] += lines[j]
		case 2:
			lines[i], lines[j] = lines[j], lines[i]
		case 3:
			if b := []byte(lines[i]); len(b) > 2 {
				b[rng.IntN(len(b)-2)] = byte(rng.IntN(256))
				lines[i] = string(b)
			}
		case 4:
			lines[i] = strings.TrimSuffix(lines[i], "\r\n") + " \r\n"
		case 5:
			for k, l := range lines {
				if strings.HasPrefix(l, "--") && rng.IntN(3) == 0 {
					lines[k] = strings.TrimSuffix(l, "\r\n") + []string{"x", "--", " ", "\t"}[rng.IntN(4)] + "\r\n"
					break
				}
			}
		case 6:
			lines[i] = strings.TrimSuffix(lines[i], "\r\n") + "\n"
		}
	}
	return []byte(strings.Join(lines, ""))
}
