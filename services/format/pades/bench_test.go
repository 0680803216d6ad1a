package pades_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// BenchmarkSmall is one signature on a file of two pages; the key operation is apart.
func BenchmarkSmall(b *testing.B) {
	k := newDesk(b)
	file := plain(rich).table("")
	signed := k.sign(file, pades.Options{})
	p, err := pades.Prepare(b.Context(), bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now})
	require.NoError(b, err)
	sig, err := p.Sign(b.Context(), k.pair.Key)
	require.NoError(b, err)
	b.Run("all but the key", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pades.Prepare(b.Context(), bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now}); err != nil {
				b.Fatal(err)
			}
			if err := p.Write(b.Context(), io.Discard, sig); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := pades.Verify(b.Context(), bytes.NewReader(signed), int64(len(signed)), pades.VerifyOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLarge is 64 MB, beside the bare hash of as much.
func BenchmarkLarge(b *testing.B) {
	const size = 64 << 20
	k := newDesk(b)
	file := plain(func(o objects) { o[4] = streamText("", string(make([]byte, size))) }).table("")
	signed := k.sign(file, pades.Options{})
	for name, f := range map[string]func() error{
		"sha256": func() error { sha256.Sum256(file); return nil },
		"sign": func() error {
			return pades.Sign(b.Context(), io.Discard, bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now})
		},
		"verify": func() error {
			_, err := pades.Verify(b.Context(), bytes.NewReader(signed), int64(len(signed)), pades.VerifyOptions{})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
