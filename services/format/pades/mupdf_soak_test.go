//go:build soak

package pades_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// MuPDF signs an empty field; ours comes before and after. Its package is large (mupdf-tools, 45 MB), and Poppler and
// PDFBox are asked in the quick run.
func TestReadsMuPDF(t *testing.T) {
	k := newDesk(t)
	k.pair = k.pki.Issue(t, "Mario Bianchi", cmstest.RSA(t)) // an ECDSA value may be longer than it expects
	p12 := k.store(t)
	for form, file := range forms(withField) {
		ours := k.sign(file, pades.Options{})
		for label, c := range map[string]struct {
			in     []byte
			levels string
			kinds  string
		}{"first": {file, "PDF-CMS", "none"}, "second": {ours, "PAdES-B-B PDF-CMS", "signing none"}} {
			t.Run(form+" "+label, func(t *testing.T) {
				out := filepath.Join(t.TempDir(), "out.pdf")
				msg, err := cmstest.Run(t, "mupdf-tools", "mutool", "sign", "-s", p12, "-P", "x", "-o", out, cmstest.File(t, "in.pdf", c.in), "13")
				require.NoError(t, err, msg)
				k := *k
				k.t = t
				k.judged(t, out, c.levels, c.kinds)
			})
		}
		msg, err := cmstest.Run(t, "mupdf-tools", "mutool", "sign", "-v", cmstest.File(t, "ours.pdf", ours))
		require.NoError(t, err, msg)
		require.Contains(t, msg, "The document is unchanged since signing.")
	}
}
