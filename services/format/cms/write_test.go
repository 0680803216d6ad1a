package cms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

func TestAlgorithmIdentifiers(t *testing.T) {
	pki := cmstest.New(t)
	sha := []byte{0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01}
	for name, c := range map[string]struct {
		key  crypto.Signer
		want []byte
	}{
		"rsa":   {cmstest.RSA(t), []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}},
		"ecdsa": {cmstest.NewECDSA(t), []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}},
	} {
		t.Run(name, func(t *testing.T) {
			p := pki.Issue(t, "Maria Rossi", c.key)
			out, err := cms.Sign(t.Context(), content, p.Key, cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now})
			require.NoError(t, err)
			require.Equal(t, 2, bytes.Count(out, sha), "SHA-256 without parameters, in the envelope and in the signature")
			require.NotContains(t, string(out), string(append(bytes.Clone(sha[2:]), 5, 0)))
			// after the signed attributes the signature algorithm follows at once
			at := bytes.LastIndex(out, c.want)
			require.Positive(t, at)
			require.EqualValues(t, 0x04, out[at+len(c.want)])
		})
	}
}

func TestSigningTimeForms(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	for _, c := range []struct {
		when time.Time
		want string
	}{
		{time.Date(2026, 3, 2, 11, 30, 15, 999, time.FixedZone("CET", 3600)), "\x17\x0d260302103015Z"},
		{time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), "\x17\x0d491231235959Z"},
		{time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), "\x18\x0f20500101000000Z"},
	} {
		out, err := cms.Sign(t.Context(), content, p.Key, cms.Options{Certificate: p.Cert, SigningTime: c.when})
		require.NoError(t, err)
		require.Contains(t, string(out), c.want)
		sd, err := cms.Parse(out)
		require.NoError(t, err)
		got := sd.Verify(cms.VerifyOptions{}).Signers[0].SigningTime
		require.True(t, got.Equal(c.when.Truncate(time.Second)))
	}
	out, err := cms.Sign(t.Context(), content, p.Key, cms.Options{Certificate: p.Cert})
	require.NoError(t, err)
	sd, err := cms.Parse(out)
	require.NoError(t, err)
	require.Equal(t, cms.NotJudged, sd.Verify(cms.VerifyOptions{}).Signers[0].Time.Verdict, "PAdES leaves signing-time out")
	require.Equal(t, cms.Failed, sd.Verify(cms.VerifyOptions{RequireSigningTime: true}).Signers[0].Time.Verdict)
}

// Whatever the content's length, the file is DER that the standard library walks to its end
// and that says the same when read.
func TestRoundTripOfAnyContent(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(65_000, 66_000)).Draw(rt, "size")
		in := bytes.Repeat([]byte{rapid.Byte().Draw(rt, "fill")}, size)
		out, err := cms.Sign(context.Background(), in, p.Key, cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now})
		require.NoError(rt, err)
		var whole asn1.RawValue
		rest, err := asn1.Unmarshal(out, &whole)
		require.NoError(rt, err)
		require.Empty(rt, rest)
		sd, err := cms.Parse(out)
		require.NoError(rt, err)
		require.False(rt, sd.BER)
		require.Equal(rt, in, sd.Content())
		require.NoError(rt, sd.Verify(cms.VerifyOptions{}).Err())

		var streamed bytes.Buffer
		require.NoError(rt, cms.SignStream(context.Background(), &streamed, bytes.NewReader(in), p.Key, cms.Options{Certificate: p.Cert}))
		sd, err = cms.Parse(streamed.Bytes())
		require.NoError(rt, err)
		require.False(rt, sd.BER)
		require.NoError(rt, sd.Verify(cms.VerifyOptions{}).Err())
	})
}

// zeros is a content of any size that costs no memory.
type zeros struct{ size, at int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.at >= z.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.size-z.at)
	clear(p[:n])
	z.at += n
	return int(n), nil
}

func (z *zeros) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.New("zeros: only from the start")
	}
	z.at = offset
	return offset, nil
}

func TestStreamingKeepsMemoryFlat(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	const size = 200 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	counter := &counting{}
	require.NoError(t, cms.SignStream(t.Context(), counter, &zeros{size: size}, p.Key, cms.Options{Certificate: p.Cert}))
	runtime.ReadMemStats(&after)
	require.Greater(t, counter.n, int64(size))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "bytes allocated for 200 MB")
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

// growing has another content each time it is read from its start.
type growing struct{ zeros }

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.zeros.Read(p)
	for i := range p[:n] {
		p[i] = byte(g.size)
	}
	return n, err
}

func (g *growing) Seek(offset int64, whence int) (int64, error) {
	g.size++
	return g.zeros.Seek(offset, whence)
}

func TestStreamingNoticesAChangedFile(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	err := cms.SignStream(t.Context(), io.Discard, &growing{zeros{size: 1000}}, p.Key, cms.Options{Certificate: p.Cert})
	require.ErrorContains(t, err, "changed while it was being signed")

	prepared, err := cms.Prepare(make([]byte, sha256.Size), cms.Options{Certificate: p.Cert})
	require.NoError(t, err)
	sig, err := prepared.Sign(t.Context(), p.Key)
	require.NoError(t, err)
	require.ErrorIs(t, prepared.Write(io.Discard, bytes.NewReader([]byte("abc")), 4, sig), io.ErrUnexpectedEOF)
	require.Error(t, prepared.Write(io.Discard, bytes.NewReader(nil), -1, sig))
}

// remote is a key over a network: it wants the context.
type remote struct {
	crypto.Signer
	seen context.Context
}

func (r *remote) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	r.seen = ctx
	return r.Sign(rand.Reader, digest, opts)
}

func TestRemoteKeyGetsTheContext(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	key := &remote{Signer: p.Key}
	type mark struct{}
	ctx := context.WithValue(t.Context(), mark{}, "here")
	_, err := cms.Sign(ctx, content, key, cms.Options{Certificate: p.Cert})
	require.NoError(t, err)
	require.Equal(t, "here", key.seen.Value(mark{}))
}

func TestPrepareRefuses(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	_, err := cms.Prepare(make([]byte, 20), cms.Options{Certificate: p.Cert})
	require.ErrorContains(t, err, "20 bytes")
	_, err = cms.Prepare(make([]byte, 32), cms.Options{})
	require.ErrorContains(t, err, "no signing certificate")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, err = cms.Prepare(make([]byte, 32), cms.Options{Certificate: pki.Issue(t, "Ed", key).Cert})
	require.ErrorContains(t, err, "use RSA or ECDSA")
}

// A batch: digests go out together, signatures come back, files are put together afterwards.
func TestPreparedBatch(t *testing.T) {
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	docs := [][]byte{[]byte("uno"), []byte("due"), []byte("tre")}
	var prepared []*cms.Prepared
	for _, d := range docs {
		sum := sha256.Sum256(d)
		one, err := cms.Prepare(sum[:], cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now})
		require.NoError(t, err)
		prepared = append(prepared, one)
	}
	for i, one := range prepared {
		digest := one.Digest()
		sig, err := p.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
		require.NoError(t, err)
		require.NoError(t, one.Check(sig))
		require.ErrorIs(t, prepared[(i+1)%3].Check(sig), cms.ErrBadSignature, "signatures given back in another order are noticed")
		out, err := one.Assemble(docs[i], sig)
		require.NoError(t, err)
		sd, err := cms.Parse(out)
		require.NoError(t, err)
		require.NoError(t, sd.Verify(cms.VerifyOptions{}).Err())
	}
}
