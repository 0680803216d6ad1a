package pecdiff

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jhillyerd/enmime/v2"
	"github.com/stretchr/testify/require"
)

const daticert = "daticert.xml"

// sum names bytes that a reader found.
func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// pythonReader reads messages (length, bytes) and tells, for each in a line, the SHA-256 of every daticert.xml that is a direct
// child of the signed part.
const pythonReader = `
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
    print(' '.join(out), flush=True)
`

// python is one process of Python's email package, which reads all messages of a test.
type python struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startPython(t *testing.T) *python {
	t.Helper()
	bin, err := exec.LookPath("python3")
	require.NoError(t, err, "run make prepare, or apt-get install -y python3")
	cmd := exec.CommandContext(t.Context(), bin, "-c", pythonReader)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // the end of the test has killed it
	})
	return &python{in: in, out: bufio.NewReader(out)}
}

// read tells what Python finds in each message. They are written while answers come.
func (p *python) read(t *testing.T, messages [][]byte) []string {
	t.Helper()
	written := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(p.in)
		for _, m := range messages {
			_, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m)))) //nolint:gosec // some kilobytes
			if err == nil {
				_, err = w.Write(m)
			}
			if err != nil {
				written <- err
				return
			}
		}
		written <- w.Flush()
	}()
	out := make([]string, len(messages))
	for i := range out {
		line, err := p.out.ReadString('\n')
		require.NoError(t, err, "Python ended")
		out[i] = strings.TrimSpace(line)
	}
	require.NoError(t, <-written)
	return out
}

// inEnmime tells the same by enmime.
func inEnmime(raw []byte) string {
	root, err := enmime.NewParser(enmime.DisableTextConversion(true), enmime.DisableCharacterDetection(true)).ReadParts(bytes.NewReader(raw))
	if err != nil || root.ContentType != "multipart/signed" || root.FirstChild == nil {
		return ""
	}
	var found []string
	for p := root.FirstChild.FirstChild; p != nil; p = p.NextSibling {
		if strings.EqualFold(p.FileName, daticert) {
			found = append(found, sum(p.Content))
		}
	}
	return strings.Join(found, " ")
}

// inGo tells the same by net/mail and mime/multipart; legible: they had no complaint.
func inGo(raw []byte) (sums string, legible bool) {
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return "", false
	}
	box, err := childrenOf(m.Header.Get("Content-Type"), "multipart/signed", m.Body)
	if err != nil || len(box) == 0 {
		return "", err == nil
	}
	inner, err := childrenOf(box[0].header.Get("Content-Type"), "multipart/", bytes.NewReader(box[0].body))
	var found []string
	for _, p := range inner {
		if !strings.EqualFold(p.name, daticert) {
			continue
		}
		body, decodeErr := decoded(p)
		found, err = append(found, sum(body)), errors.Join(err, decodeErr)
	}
	return strings.Join(found, " "), err == nil
}

type goPart struct {
	header textproto.MIMEHeader
	name   string
	body   []byte
}

func childrenOf(contentType, want string, body io.Reader) ([]goPart, error) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || !strings.HasPrefix(mediaType, want) {
		return nil, err
	}
	var out []goPart
	r := multipart.NewReader(body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return out, err
		}
		name := p.FileName()
		if name == "" {
			if _, params, err := mime.ParseMediaType(p.Header.Get("Content-Type")); err == nil {
				name = params["name"]
			}
		}
		out = append(out, goPart{p.Header, name, data})
	}
}

func decoded(p goPart) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(p.header.Get("Content-Transfer-Encoding"))) {
	case "base64":
		return io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(p.body)))
	case "quoted-printable":
		return io.ReadAll(quotedprintable.NewReader(bytes.NewReader(p.body)))
	}
	return p.body, nil
}
