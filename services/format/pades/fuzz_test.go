package pades_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// fuzzLimits keep one try short.
var fuzzLimits = pades.Limits{Size: 1 << 20, Objects: 1 << 12, Sections: 64, Object: 1 << 18, Elements: 1 << 12, Stream: 1 << 18, Work: 16 << 20}

// Whatever the bytes: no panic, the same answer twice, and what can be signed verifies.
func FuzzPDF(f *testing.F) {
	k := newDesk(f)
	for _, file := range forms(rich) {
		f.Add(file)
	}
	signed := k.sign(plain().table(""), pades.Options{StampRoom: -1})
	f.Add(signed)
	f.Add(appendTo(signed, objects{4: streamText("", "x")}, ""))
	f.Add(k.sign(plain(rich).streamed(), pades.Options{StampRoom: -1, Certify: pades.FormsAndSigning}))
	f.Add(handmade{subFilter: "ETSI.RFC3161", contents: k.token}.build(plain().table("")))
	f.Add(plain().table("")[:500])
	f.Add(manySections(3))
	f.Add(selfStream())
	f.Fuzz(func(t *testing.T, file []byte) {
		o := pades.VerifyOptions{At: cmstest.Now, Limits: fuzzLimits}
		r, err := pades.Verify(context.Background(), bytes.NewReader(file), int64(len(file)), o)
		again, err2 := pades.Verify(context.Background(), bytes.NewReader(file), int64(len(file)), o)
		require.Equal(t, err == nil, err2 == nil)
		if err == nil {
			require.Equal(t, len(r.Signatures), len(again.Signatures))
			require.Equal(t, r.Err() == nil, again.Err() == nil)
		}
		var out bytes.Buffer
		s := k.signer()
		if err := pades.Sign(context.Background(), &out, bytes.NewReader(file), int64(len(file)), s, pades.Options{SigningTime: cmstest.Now, StampRoom: -1, Limits: fuzzLimits}); err != nil {
			require.Zero(t, out.Len())
			return
		}
		lim := fuzzLimits
		lim.Size, lim.Objects, lim.Sections, lim.Work = lim.Size*2, lim.Objects*4, lim.Sections+1, lim.Work*8
		r, err = pades.Verify(context.Background(), bytes.NewReader(out.Bytes()), int64(out.Len()), pades.VerifyOptions{At: cmstest.Now, Limits: lim})
		var limit *pades.LimitError
		if errors.As(err, &limit) {
			return
		}
		require.NoError(t, err)
		for i := range r.Signatures {
			if s := &r.Signatures[i]; s.ByteRange[2]+s.ByteRange[3] == int64(out.Len()) {
				require.NoError(t, s.Err())
				return
			}
		}
		t.Fatal("the signature that was just made is not found")
	})
}

// TestCorpusIsThere: the files that the fuzzer found interesting are kept.
func TestCorpusIsThere(t *testing.T) {
	found, err := filepath.Glob("testdata/fuzz/FuzzPDF/*")
	require.NoError(t, err)
	require.NotEmpty(t, found)
	for _, p := range found {
		info, err := os.Stat(p)
		require.NoError(t, err)
		require.Positive(t, info.Size())
	}
}
