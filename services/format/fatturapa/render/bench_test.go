package render_test

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/fatturapa/render"
)

// picture is a logo of the size that tenants have: 600 by 180 points, with a
// transparent part.
func picture(t testing.TB) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, 600, 180))
	for y := range 180 {
		for x := range 600 {
			img.SetNRGBA(x, y, color.NRGBA{R: 140, G: uint8(x / 3), B: uint8(y), A: uint8(min(255, x))})
		}
	}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, img))
	return b.Bytes()
}

func benchmark(b *testing.B, paint func(io.Writer, *fatturapa.File, render.Options) error) {
	for _, c := range []struct {
		name string
		raw  []byte
		o    render.Options
	}{
		{"one_page", fatturapatest.Invoice(fatturapatest.Options{}), render.Options{}},
		{"one_page_with_logo", fatturapatest.Invoice(fatturapatest.Options{}), render.Options{Logo: picture(b), Accent: "#004488", Courtesy: true}},
		{"completa", read(b, "../testdata/fpa12_completa.xml"), render.Options{}},
		{"10kB", fatturapatest.Invoice(fatturapatest.Options{Size: 10_000}), render.Options{}},
		{"4.6MB", fatturapatest.Invoice(fatturapatest.Options{Lines: 10_000, Size: 4_600_000}), render.Options{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := parse(b, c.raw)
			b.ReportAllocs()
			for b.Loop() {
				if err := paint(io.Discard, f, c.o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHTML(b *testing.B) { benchmark(b, render.HTML) }

func BenchmarkPDF(b *testing.B) { benchmark(b, render.PDF) }
