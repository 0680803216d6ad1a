package cms_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// chunked writes an attached file anew in BER: indefinite lengths, and the content in pieces of the
// given sizes in turn, some of them nested.
func chunked(t testing.TB, der, content []byte, sizes ...int) []byte {
	t.Helper()
	octets := bytes.Index(der, content)
	require.Positive(t, octets)
	var b bytes.Buffer
	b.Write([]byte{0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 2, 0xa0, 0x80, 0x30, 0x80, 2, 1, 1,
		0x31, 0xd, 0x30, 0xb, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 0x30, 0x80, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0xd, 1, 7, 1, 0xa0, 0x80, 0x24, 0x80})
	rest := content
	for i := 0; len(rest) > 0; i++ {
		n := min(len(rest), sizes[i%len(sizes)])
		piece := append(header(4, n), rest[:n]...)
		if i%7 == 3 { // a chunk of one chunk
			piece = append(append([]byte{0x24, 0x80}, piece...), 0, 0)
		}
		b.Write(piece)
		rest = rest[n:]
	}
	b.Write(make([]byte, 6)) // end of the octets, of their tag, of encapContentInfo
	b.Write(der[octets+len(content):])
	b.Write(make([]byte, 6)) // end of SignedData, of its tag, of ContentInfo
	return b.Bytes()
}

func header(tag byte, n int) []byte {
	return []byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

func same(t require.TestingT, whole, stream *cms.SignedData) {
	require.Equal(t, whole.Detached, stream.Detached)
	require.Equal(t, whole.BER, stream.BER)
	require.Equal(t, whole.Trailing, stream.Trailing)
	require.Equal(t, whole.Signers, stream.Signers)
	require.Equal(t, whole.Certificates, stream.Certificates)
	if whole.Detached {
		require.Nil(t, stream.Body())
		return
	}
	got, err := io.ReadAll(io.NewSectionReader(stream.Body(), 0, stream.Body().Size()))
	require.NoError(t, err)
	require.True(t, bytes.Equal(whole.Content(), got))
	require.Nil(t, stream.Content())
}

func TestStreamReadsWhatParseReads(t *testing.T) {
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := make([]byte, 150_000)
	for i := range content {
		content[i] = byte(i * i >> 3)
	}
	der, err := cms.Sign(t.Context(), content, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	detached, err := cms.SignDetached(t.Context(), sum[:], pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	for name, file := range map[string][]byte{
		"DER": der, "detached": detached, "trailing": append(bytes.Clone(der), 1, 2, 3), "1000": chunked(t, der, content, 1000), "4096": chunked(t, der, content, 4096),
		"one": chunked(t, der, content, len(content)), "uneven": chunked(t, der, content, 5, 4000, 1, 70_000, 64, 64, 64), "bytes": chunked(t, der, content, 1, 1, 1, 1, 1, 1, 1, 1, 1, 20_000),
		"openssl": openSSLStream(t, pki, pair, content),
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := cms.Parse(file)
			require.NoError(t, err)
			stream, err := cms.ParseStream(bytes.NewReader(file), cms.Limits{})
			require.NoError(t, err)
			same(t, whole, stream)
			o := cms.VerifyOptions{Roots: pki.Pool(), At: time.Now()} // openssl signs at the machine's time
			if whole.Detached {
				o.Content = bytes.NewReader(content)
			}
			report := stream.Verify(o)
			require.NoError(t, report.Err())
			require.Equal(t, cms.Passed, report.Signers[0].Trust.Verdict)
			for range 50 { // anywhere in it
				if whole.Detached {
					break
				}
				from := rand.IntN(len(content)) //nolint:gosec // any place will do
				p := make([]byte, min(rand.IntN(9000), len(content)-from))
				_, err := stream.Body().ReadAt(p, int64(from))
				require.NoError(t, err)
				require.Equal(t, content[from:from+len(p)], p)
			}
			var again bytes.Buffer
			require.NoError(t, stream.Write(&again))
			rewritten, err := cms.Parse(again.Bytes())
			require.NoError(t, err)
			require.False(t, rewritten.BER)
			if !whole.Detached {
				require.NoError(t, rewritten.Verify(cms.VerifyOptions{}).Err())
			}

			changed := bytes.Clone(file)
			if at := bytes.Index(changed, content[70_000:70_060]); at > 0 {
				changed[at+20] ^= 1
				stream, err = cms.ParseStream(bytes.NewReader(changed), cms.Limits{})
				require.NoError(t, err)
				require.ErrorContains(t, stream.Verify(cms.VerifyOptions{}).Err(), "digest")
			}
		})
	}
}

func openSSLStream(t *testing.T, pki *cmstest.PKI, pair cmstest.Pair, content []byte) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.p7m")
	said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-sign", "-binary", "-nodetach", "-stream", "-indef", "-outform", "DER", "-md", "sha256", "-nosmimecap",
		"-signer", cmstest.CertFile(t, pair.Cert), "-inkey", cmstest.KeyFile(t, pair.Key), "-certfile", cmstest.CertFile(t, pki.Root),
		"-in", cmstest.File(t, "content", content), "-out", out)
	require.NoError(t, err, said)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	return raw
}

// TestStreamIsAsStrictAsParse cuts and bends files: both readers take them or both refuse them, and a
// file that both take is the same to both.
func TestStreamIsAsStrictAsParse(t *testing.T) {
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := bytes.Repeat([]byte("Pay 100 euro. "), 40)
	der, err := cms.Sign(t.Context(), content, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	files := [][]byte{der, chunked(t, der, content, 100, 3), chunked(t, der, content, 64)}
	rapid.Check(t, func(t *rapid.T) {
		file := bytes.Clone(rapid.SampledFrom(files).Draw(t, "file"))
		if rapid.Bool().Draw(t, "cut") {
			file = file[:rapid.IntRange(0, len(file)).Draw(t, "at")]
		}
		for range rapid.IntRange(0, 3).Draw(t, "bends") {
			if len(file) > 0 {
				file[rapid.IntRange(0, len(file)-1).Draw(t, "byte")] = rapid.Byte().Draw(t, "to")
			}
		}
		compare(t, file)
	})
}

func compare(t require.TestingT, file []byte) {
	if len(file) == 0 || file[0] != 0x30 {
		return // armour: Parse alone reads it
	}
	whole, wholeErr := cms.Parse(file)
	stream, err := cms.ParseStream(bytes.NewReader(file), cms.Limits{})
	if wholeErr != nil {
		require.Error(t, err, "Parse: %v", wholeErr)
		return
	}
	if err != nil {
		// Parse passes over a third member of ContentInfo and the like, which the stream does not.
		require.Regexp(t, "more members|expected|indefinite", err.Error())
		return
	}
	same(t, whole, stream)
}

func FuzzStream(f *testing.F) {
	pki := cmstest.New(f)
	pair := pki.Issue(f, "Alfa", cmstest.NewECDSA(f))
	content := bytes.Repeat([]byte("0123456789"), 20)
	der, err := cms.Sign(f.Context(), content, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(f, err)
	f.Add(der)
	f.Add(chunked(f, der, content, 10, 1))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 200))
	f.Add(append(bytes.Clone(chunked(f, der, content, 10)[:52]), bytes.Repeat([]byte{0x24, 0x80}, 200)...))
	f.Fuzz(func(t *testing.T, file []byte) { compare(t, file) })
}

// TestStreamBombs: what makes other readers fall over is refused, in flat memory.
func TestStreamBombs(t *testing.T) {
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := []byte("content")
	der, err := cms.Sign(t.Context(), content, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	head := chunked(t, der, content, 7)[:52]
	for name, file := range map[string][]byte{
		"30 80":         bytes.Repeat([]byte{0x30, 0x80}, 2<<20),
		"24 80":         append(bytes.Clone(head), bytes.Repeat([]byte{0x24, 0x80}, 2<<20)...),
		"uneven pieces": append(bytes.Clone(head), bytes.Repeat([]byte{4, 1, 'a', 4, 2, 'b', 'c'}, 1<<20)...),
		"long tail":     append(append(bytes.Clone(head), make([]byte, 6)...), append(header(0xa0, 30<<20), make([]byte, 30<<20)...)...),
		"long length":   {0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"empty":         {},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := cms.ParseStream(bytes.NewReader(file), cms.Limits{})
			runtime.ReadMemStats(&after)
			var syntax *cms.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20))
		})
	}
}

// failing is a source whose disk breaks in the middle.
type failing struct {
	*bytes.Reader
	from int64
}

var errDisk = errors.New("the disk is gone")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from && off < f.from+100_000 {
		return 0, errDisk
	}
	return f.Reader.ReadAt(p, off)
}

// TestStreamTellsTheDiskFromTheSignature: what cannot be read is no broken signature.
func TestStreamTellsTheDiskFromTheSignature(t *testing.T) {
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Alfa", cmstest.NewECDSA(t))
	content := make([]byte, 1<<20)
	der, err := cms.Sign(t.Context(), content, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	sd, err := cms.ParseStream(failing{bytes.NewReader(der), 400_000}, cms.Limits{})
	require.NoError(t, err)
	require.ErrorIs(t, sd.Verify(cms.VerifyOptions{}).Err(), errDisk)
}

// TestJoin puts two detached signatures and their content together, and stamps one.
func TestJoin(t *testing.T) {
	pki := cmstest.New(t)
	content := bytes.Repeat([]byte("line\n"), 100_000)
	sum := sha256.Sum256(content)
	var parts []*cms.SignedData
	for _, key := range []crypto.Signer{cmstest.RSA(t), cmstest.NewECDSA(t)} {
		pair := pki.Issue(t, "Alfa", key)
		der, err := cms.SignDetached(t.Context(), sum[:], key, cms.Options{Certificate: pair.Cert, Chain: pair.Chain[1:], SigningTime: cmstest.Now})
		require.NoError(t, err)
		sd, err := cms.Parse(der)
		require.NoError(t, err)
		parts = append(parts, sd)
	}
	both, err := parts[0].Join(parts[1])
	require.NoError(t, err)
	both, err = both.Stamped(1, cms.Attribute{Type: asn1.ObjectIdentifier{2, 999, 7}, Values: [][]byte{{5, 0}}})
	require.NoError(t, err)
	both, err = both.With(bytes.NewReader(content))
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, both.Write(&out))
	read, err := cms.Parse(out.Bytes())
	require.NoError(t, err)
	require.False(t, read.BER)
	require.NoError(t, read.Verify(cms.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now}).Err())
	require.Len(t, read.Signers, 2)
	require.Len(t, read.Certificates, 3)
	require.Len(t, append(read.Signers[0].UnsignedAttributes, read.Signers[1].UnsignedAttributes...), 1)
	_, err = parts[0].Join(read)
	require.Error(t, err)
	_, err = read.With(bytes.NewReader(content))
	require.Error(t, err)
	said, err := cmstest.Run(t, "openssl", "openssl", "cms", "-verify", "-inform", "DER", "-binary", "-purpose", "any", "-CAfile", cmstest.CertFile(t, pki.Root),
		"-in", cmstest.File(t, "both.p7m", out.Bytes()), "-out", os.DevNull)
	require.NoError(t, err, said)
}
