package cms_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
)

// small is a signed file of a few hundred bytes.
func small(t testing.TB) ([]byte, cmstest.Pair, *cmstest.PKI) {
	t.Helper()
	pki := cmstest.New(t)
	p := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	ess, err := cms.SigningCertificateV2(p.Cert)
	require.NoError(t, err)
	out, err := cms.Sign(t.Context(), []byte("<a>contenuto</a>"), p.Key,
		cms.Options{Certificate: p.Cert, SigningTime: cmstest.Now, Signed: []cms.Attribute{ess}})
	require.NoError(t, err)
	return out, p, pki
}

func TestBombsAreRefusedQuickly(t *testing.T) {
	repeat := func(pattern string) []byte { return bytes.Repeat([]byte(pattern), 4_000_000/len(pattern)) }
	inside := func(pattern string) []byte {
		return append([]byte("\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80\x30\x80"), repeat(pattern)...)
	}
	for name, raw := range map[string][]byte{
		"indefinite sequences":    repeat("\x30\x80"),
		"indefinite octets":       inside("\x24\x80"),
		"definite sequences":      inside("\x30\x83\x3f\x00\x00"),
		"many nulls":              inside("\x05\x00"),
		"many empty sets":         inside("\x31\x00"),
		"long tags":               inside("\x3f\xff\xff\xff\x7f\x80"),
		"end-of-contents":         append([]byte("\x30\x83\x3d\x00\x00"), repeat("\x00\x00")...),
		"lengths beyond the file": repeat("\x30\x84\x7f\xff\xff\xff"),
		"huge length":             []byte("\x30\x89\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
		"armoured":                append([]byte("MIAG"), repeat("MIAw")...),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := cms.Parse(raw)
			require.Error(t, err)
			require.Less(t, time.Since(start), 2*time.Second)
			var syntax *cms.SyntaxError
			require.ErrorAs(t, err, &syntax)
			_, _, err = cms.Open(raw)
			require.Error(t, err)
		})
	}
}

func TestLimits(t *testing.T) {
	raw, _, _ := small(t)
	for name, c := range map[string]struct {
		lim  cms.Limits
		want string
	}{
		"size":     {cms.Limits{Size: 100}, "the limit is 100"},
		"depth":    {cms.Limits{Depth: 4}, "nested deeper than 4"},
		"elements": {cms.Limits{Elements: 20}, "more than 20 elements"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cms.ParseLimited(raw, c.lim)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestTruncatedAtEveryByte(t *testing.T) {
	raw, _, _ := small(t)
	for i := range raw {
		_, err := cms.Parse(raw[:i])
		require.Error(t, err, "%d of %d bytes", i, len(raw))
	}
	text := crlf(raw)
	for i := 0; i < len(text)-8; i++ {
		_, err := cms.Parse(text[:i])
		require.Error(t, err, "%d of %d letters", i, len(text))
	}
}

// Each byte changed in turn: never a panic, and never another content under a good signature.
func TestEveryByteTampered(t *testing.T) {
	raw, p, pki := small(t)
	good, err := cms.Parse(raw)
	require.NoError(t, err)
	opts := cms.VerifyOptions{Roots: pki.Pool(), At: cmstest.Now, RequireESS: true, RequireSigningTime: true, RequireContentCommitment: true}
	require.NoError(t, good.Verify(opts).Err())
	for i := range raw {
		for _, flip := range []byte{0x01, 0x80} {
			bad := bytes.Clone(raw)
			bad[i] ^= flip
			sd, err := cms.Parse(bad)
			if err != nil {
				continue
			}
			rep := sd.Verify(opts)
			if rep.Err() != nil {
				continue
			}
			// What passes all the same must say the same: version numbers and the like are unsigned.
			require.Equal(t, good.Content(), sd.Content(), "byte %d", i)
			require.True(t, rep.Signers[0].Certificate.Equal(p.Cert), "byte %d", i)
			require.Equal(t, cmstest.Now, rep.Signers[0].SigningTime, "byte %d", i)
		}
	}
}

func TestTrailingBytesAreTold(t *testing.T) {
	raw, _, _ := small(t)
	sd, err := cms.Parse(append(bytes.Clone(raw), "garbage"...))
	require.NoError(t, err)
	require.Equal(t, 7, sd.Trailing)
	rep := sd.Verify(cms.VerifyOptions{})
	require.NoError(t, rep.Err())
	require.Contains(t, rep.Warnings[0], "7 bytes")
}

func TestNotCMS(t *testing.T) {
	for name, raw := range map[string]string{
		"empty": "", "spaces": " \r\n", "xml": "<FatturaElettronica/>", "pdf": "%PDF-1.7", "zip": "PK\x03\x04",
		"certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		"pem cut off": "-----BEGIN PKCS7-----\nMIIB\n", "pem empty": "-----BEGIN PKCS7-----\n-----END PKCS7-----\n",
		"not base64": "M*******", "sequence": "\x30\x00", "other type": "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x00",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cms.Parse([]byte(raw))
			require.Error(t, err)
			require.Contains(t, err.Error(), "cms: ")
		})
	}
}

func FuzzParse(f *testing.F) {
	raw, _, _ := small(f)
	f.Add(raw)
	f.Add(crlf(raw))
	f.Add(bytes.Repeat([]byte{0x30, 0x80}, 200))
	lim := cms.Limits{Size: 1 << 20, Elements: 1 << 14}
	f.Fuzz(func(t *testing.T, raw []byte) {
		sd, err := cms.ParseLimited(raw, lim)
		if err != nil {
			return
		}
		sd.Verify(cms.VerifyOptions{At: cmstest.Now, Content: bytes.NewReader(raw)})
		// What was read can be written, and is the same when read again.
		if len(sd.Signers) == 0 {
			return
		}
		again, err := sd.AddUnsigned(0, cms.Attribute{Type: cms.OIDSignatureTimeStamp, Values: [][]byte{{5, 0}}})
		if err != nil {
			return
		}
		back, err := cms.ParseLimited(again, cms.Limits{Size: 4 << 20})
		if err != nil {
			t.Fatalf("own output is not read: %v", err)
		}
		if !bytes.Equal(back.Content(), sd.Content()) || len(back.Signers) != len(sd.Signers) {
			t.Fatal("own output says something else")
		}
	})
}
