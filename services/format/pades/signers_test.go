package pades_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// withField has an empty signature field "Firma".
func withField(o objects) {
	o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[13 0 R]>>>>"
	o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[13 0 R]>>"
	o[13] = "<</FT/Sig/T(Firma)/Type/Annot/Subtype/Widget/Rect[40 40 240 100]/P 3 0 R/F 4>>"
}

// judged verifies what a program with a clock of its own signed, wants the levels and kinds of
// later change, and signs it once more.
func (k *desk) judged(t *testing.T, path, levels, kinds string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	o := k.options()
	o.At = time.Now()
	verify := func(raw []byte) (*pades.Report, string, string) {
		r, err := pades.Verify(t.Context(), bytes.NewReader(raw), int64(len(raw)), o)
		require.NoError(t, err)
		require.NoError(t, r.Err())
		var levels, kinds []string
		for _, s := range r.Signatures {
			levels, kinds = append(levels, string(s.Level)), append(kinds, s.Modification.String())
		}
		return r, strings.Join(levels, " "), strings.Join(kinds, " ")
	}
	_, gotLevels, gotKinds := verify(raw)
	require.Equal(t, levels, gotLevels)
	require.Equal(t, kinds, gotKinds)
	again := k.sign(raw, pades.Options{})
	r, gotLevels, _ := verify(again)
	require.Equal(t, levels+" PAdES-B-B", gotLevels)
	pdfsig(t, again, len(r.Signatures))
}

// Poppler (with NSS) signs an empty field and a new one; ours comes before.
func TestReadsPoppler(t *testing.T) {
	k := newDesk(t)
	k.pair = k.pki.Issue(t, "Mario Bianchi", cmstest.RSA(t)) // this release does not sign with ECDSA
	db := "sql:" + t.TempDir()
	for _, args := range [][]string{{"certutil", "-N", "-d", db, "--empty-password"}, {"pk12util", "-i", k.store(t), "-d", db, "-W", "x"}} {
		msg, err := cmstest.Run(t, "libnss3-tools", args[0], args[1:]...)
		require.NoError(t, err, msg)
	}
	dir := t.TempDir()
	in, bare, ours := filepath.Join(dir, "in.pdf"), filepath.Join(dir, "bare.pdf"), filepath.Join(dir, "ours.pdf")
	for path, raw := range map[string][]byte{in: plain(withField).table(""), bare: plain().table("")} {
		// poppler is strict about the size that a trailer states
		msg, err := cmstest.Run(t, "qpdf", "qpdf", "--warning-exit-0", cmstest.File(t, "in.pdf", raw), path)
		require.NoError(t, err, msg)
	}
	raw, err := os.ReadFile(in)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(ours, k.sign(raw, pades.Options{}), 0o600))
	for label, c := range map[string]struct {
		args   []string
		levels string
		kinds  string
	}{
		"new":           {[]string{"-add-signature", bare}, "PDF-CMS", "none"},
		"field":         {[]string{"-sign", "Firma", in}, "PDF-CMS", "none"},
		"field, second": {[]string{"-sign", "Firma", ours}, "PAdES-B-B PDF-CMS", "signing none"},
	} {
		t.Run(label, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.pdf")
			msg, err := cmstest.Run(t, "poppler-utils", "pdfsig", append(append([]string{"-nssdir", db, "-nick", "k"}, c.args...), out)...)
			require.NoError(t, err, msg)
			k := *k
			k.t = t
			k.judged(t, out, c.levels, c.kinds)
		})
	}
}
