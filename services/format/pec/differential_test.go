package pec

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

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

// TestC19AgainstOtherParsers: over damaged messages of every kind, whenever this package takes a message for proven, Python's
// parser reads the same daticert.xml out of it, and so does Go's own if it finds one. TESTPLAN C19.
func TestC19AgainstOtherParsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rng := rand.New(rand.NewPCG(1, 2))
	seeds := samples(t, w)
	d := differential{t: t, w: w}
	d.compare(seeds)
	for done := 0; done < mutants; {
		var batch [][]byte
		for len(batch) < min(2_500, mutants-done) {
			batch = append(batch, damage(rng, seeds[rng.IntN(len(seeds))]))
		}
		d.compare(batch)
		done += len(batch)
	}
	t.Logf("%d samples and %d damaged ones; %d read without ambiguity, of these the same in Python %d, in Go %d; %d proven", len(seeds), mutants, d.read, d.python, d.golang, d.valid)
	require.Greater(t, d.python, mutants/20)
	require.Greater(t, d.golang, mutants/20)
	require.Greater(t, d.valid, mutants/100)
}

// TestC14ReadInTwoWays: what ends a line, or is the boundary, for one reader and not for another proves nothing.
func TestC14ReadInTwoWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := acts(t, w, draft())[0]
	raw, r := written(t, a.by, a.act)
	require.Equal(t, StatusValid, verified(t, w, r).Status)
	delimiter := "--" + r.Root.Params["boundary"]
	for what, changed := range map[string][]byte{
		"quote not closed":   bytes.Replace(raw, []byte(`protocol="`), []byte("protocol=x"), 1),
		"two boundaries":     bytes.Replace(raw, []byte("boundary="), []byte("boundary=x; boundary="), 1),
		"boundary in pieces": bytes.Replace(raw, []byte("boundary="), []byte("boundary*0=x; boundary="), 1),
		"in a field":         bytes.Replace(raw, []byte("\r\nDate: "), []byte("\r\nDate: \r"), 1),
		"before a field":     bytes.Replace(raw, []byte("\r\nDate: "), []byte("\r\nX: y\rDate: "), 1),
		"before a delimiter": bytes.Replace(raw, []byte("\r\n"+delimiter), []byte("\r\nx\r"+delimiter+"\r\n"+delimiter), 1),
	} {
		require.NotEqual(t, raw, changed, what)
		r, err := ReadBytes(changed)
		require.NoError(t, err, what)
		require.Equal(t, StatusUnparsable, verified(t, w, r).Status, what)
	}
}

// samples are all messages at hand: each act of a provider, the golden ones, and public ones where they are.
func samples(t *testing.T, w *world) [][]byte {
	t.Helper()
	var out [][]byte
	for _, c := range acts(t, w, draft()) {
		raw, _ := written(t, c.by, c.act)
		out = append(out, raw)
	}
	for _, dir := range []string{filepath.Join("testdata", "golden"), filepath.Join("..", "..", "..", "..", "shared", "reference", "pec", "samples")} {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".eml" {
				raw, err := os.ReadFile(path)
				require.NoError(t, err)
				out = append(out, bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
			}
			return nil
		})
	}
	return out
}

type differential struct {
	t                           *testing.T
	w                           *world
	read, python, golang, valid int
}

// compare holds this package's reading of each message to those of the others.
func (d *differential) compare(messages [][]byte) {
	d.t.Helper()
	answers := inPython(d.t, messages)
	for i, m := range messages {
		r, err := ReadBytes(m)
		if err != nil || r.Signed == nil || r.DaticertXML == nil || r.structureFindings().Worst() >= Ambiguous {
			continue
		}
		d.read++
		sum := sha256.Sum256(r.DaticertXML)
		ours := hex.EncodeToString(sum[:])
		other, legible := inGo(m)
		if answers[i] == ours {
			d.python++
		}
		if other == ours {
			d.golang++
		}
		valid := verified(d.t, d.w, r).Status == StatusValid
		if valid {
			d.valid++
		}
		// Decoders treat damaged base64 differently; the signature is over the bytes as they stand, so what matters is
		// that a difference is never proven.
		if valid && (answers[i] != ours || legible && other != "" && other != ours) { // Go loses its way at a delimiter that ends in LF alone
			require.Fail(d.t, "a proven message is read in two ways", "ours %s, Python's %s, Go's %s\n%s", ours, answers[i], other, m)
		}
	}
}

func inPython(t *testing.T, messages [][]byte) []string {
	t.Helper()
	bin, err := exec.LookPath("python3")
	require.NoError(t, err, "run make prepare, or apt-get install -y python3")
	var input bytes.Buffer
	for _, m := range messages {
		input.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m)))) //nolint:gosec // some kilobytes
		input.Write(m)
	}
	cmd := exec.CommandContext(t.Context(), bin, "-c", pythonSplitter)
	cmd.Stdin = &input
	out, err := cmd.Output()
	require.NoError(t, err)
	answers := strings.Split(strings.TrimSpace(string(out)), "\n")
	require.Len(t, answers, len(messages))
	return answers
}

// inGo tells the same as pythonSplitter by net/mail and mime/multipart; legible: they had no complaint.
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
		if !strings.EqualFold(p.name, "daticert.xml") {
			continue
		}
		body, decodeErr := decoded(p)
		sum := sha256.Sum256(body)
		found, err = append(found, hex.EncodeToString(sum[:])), errors.Join(err, decodeErr)
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
