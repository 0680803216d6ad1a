package conservation

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pdd"
)

// TestFormatsAreTold: names are one each, and an admitted format has an ending.
func TestFormatsAreTold(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range formats {
		require.False(t, seen[f.name], f.name)
		seen[f.name] = true
		require.True(t, !f.admitted || len(f.extensions) > 0, f.name)
		require.True(t, f.admitted || f.note != "", "%s: who is refused is told why", f.name)
		for _, ending := range f.extensions {
			if f.admitted {
				require.NotEqual(t, ".bin", path.Ext(new(pdd.Names).In("documenti", "a"+ending)), "%s: who is shown a document of an admitted format can open it", ending)
			}
		}
	}
	for name, want := range map[string]string{"%PDF-1.4": formatPDF, "a;b\n1;2\n": formatText, "<a/>": formatXML, "<p:FatturaElettronica xmlns:p='x'/>": formatFattura,
		"From: a@b.it\r\nDate: Mon, 2 Jan 2006 15:04:05 +0000\r\n\r\nx": formatMail, "\x00\x01": formatUnknown, "": formatUnknown, "\xFF\xD8\xFF\xE0": formatJPEG, "\xEF\xBB\xBF<a/>": formatXML} {
		require.Equal(t, want, recognise([]byte(name), 0).format.name, "%q", name)
	}
}

// FuzzRecognise: whatever comes is told apart, and a foreign package never makes the reader fall.
func FuzzRecognise(f *testing.F) {
	f.Add([]byte("%PDF-1.4 /Encrypt"))
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("<a><![CDATA[x]]></a>"))
	f.Add([]byte("0\x82\x01\x000\x03\x02\x01\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if recognise(raw, 0).format.name == "" {
			t.Fatal("it has no format")
		}
		if p, err := openForeign(raw); err == nil {
			p.files()
			p.signature()
			_ = p.bodies()
		}
	})
}
