package render

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestReadable: whatever colour a tenant has, text in it can be read on white, and a
// colour that could be read is not touched.
func TestReadable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rgb := [3]int{rapid.IntRange(0, 255).Draw(t, "r"), rapid.IntRange(0, 255).Draw(t, "g"), rapid.IntRange(0, 255).Draw(t, "b")}
		in := fmt.Sprintf("#%02x%02x%02x", rgb[0], rgb[1], rgb[2])
		out, err := Readable(in)
		require.NoError(t, err)
		require.GreaterOrEqual(t, contrast(channels(out)), 4.5)
		require.Equal(t, contrast(rgb) >= 4.5, in == out)
	})
}

func contrast(rgb [3]int) float64 {
	return 1.05 / (luminance([3]float64{float64(rgb[0]), float64(rgb[1]), float64(rgb[2])}) + 0.05)
}

// TestWrap: no line is wider than it may be, and no letter is lost.
func TestWrap(t *testing.T) {
	all, err := loadLetters()
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		var runs []run
		var want strings.Builder
		for range rapid.IntRange(0, 6).Draw(t, "runs") {
			text, _ := all.clean(rapid.StringMatching(`[ -~à-ü€ ]{0,60}`).Draw(t, "text"))
			runs = append(runs, run{text: text, weight: weight(rapid.IntRange(0, 1).Draw(t, "weight")), kind: runKind(rapid.IntRange(0, 2).Draw(t, "kind"))})
			if runs[len(runs)-1].kind == runText {
				want.WriteString(text)
			}
		}
		size, width := rapid.Float64Range(6, 14).Draw(t, "size"), rapid.Float64Range(6, 180).Draw(t, "width")
		var got strings.Builder
		for _, l := range all.wrap(runs, size, width) {
			require.LessOrEqual(t, l.w, width+1e-6)
			require.NotEmpty(t, l.pieces)
			for _, p := range l.pieces {
				require.LessOrEqual(t, p.x+p.w, l.w+1e-6)
				got.WriteString(p.text)
			}
		}
		require.Equal(t, strings.ReplaceAll(want.String(), " ", ""), strings.ReplaceAll(got.String(), " ", ""))
	})
}

// TestClean: what comes out can be written by both faces, and is told when something
// was lost.
func TestClean(t *testing.T) {
	all, err := loadLetters()
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.String().Draw(t, "in")
		out, lost := all.clean(in)
		require.True(t, utf8.ValidString(out))
		for _, r := range out {
			require.LessOrEqual(t, r, rune(0xffff))
			require.NotZero(t, all[regular][r])
			require.NotZero(t, all[bold][r])
		}
		require.Equal(t, lost || strings.ContainsRune(in, substitute), strings.ContainsRune(out, substitute))
	})
	for r := rune(0xa1); r <= 0xff; r++ { // what SdI accepts in texts
		if r != 0xad {
			out, lost := all.clean(string(r))
			require.False(t, lost, "%q", r)
			require.Equal(t, string(r), out)
		}
	}
}

// TestShare: columns fill the width, and none is left without.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 22).Draw(t, "columns")
		want, least := make([]float64, n), make([]float64, n)
		for i := range want {
			least[i] = rapid.Float64Range(0, 300).Draw(t, "least")
			want[i] = least[i] + rapid.Float64Range(0, 2000).Draw(t, "more")
		}
		long := rapid.IntRange(-1, n-1).Draw(t, "long")
		sum := 0.0
		for _, w := range share(want, least, contentWidth, func(i int) bool { return i == long }) {
			require.Greater(t, w, 2*cellPad)
			sum += w
		}
		require.InDelta(t, contentWidth, sum, 1e-6)
	})
}

// TestPrintable: each kind of picture comes out opaque, no larger than print needs,
// in its proportions.
func TestPrintable(t *testing.T) {
	img := image.NewPaletted(image.Rect(0, 0, 2000, 400), color.Palette{color.Transparent, color.NRGBA{R: 200, A: 255}})
	for i := range img.Pix {
		img.Pix[i] = uint8(i % 2)
	}
	var g, j bytes.Buffer
	require.NoError(t, gif.Encode(&g, img, nil))
	require.NoError(t, jpeg.Encode(&j, img, nil))
	for mime, raw := range map[string][]byte{"image/gif": g.Bytes(), "image/jpeg": j.Bytes()} {
		p, err := readPicture(raw)
		require.NoError(t, err)
		require.Equal(t, picture{mime, 2000, 400}, p)
		w, h := p.fit()
		require.InDelta(t, 60, w, 1e-9)
		require.InDelta(t, 12, h, 1e-9)
		out, err := printable(raw)
		require.NoError(t, err)
		small, kind, err := image.Decode(bytes.NewReader(out))
		require.NoError(t, err)
		require.Equal(t, "png", kind)
		require.Equal(t, image.Rect(0, 0, 720, 144), small.Bounds())
		require.True(t, small.(interface{ Opaque() bool }).Opaque())
	}
}

// TestUpdateRefusesOtherShapes: when the library changes what it writes, the caller
// learns of it, and no broken file is made.
func TestUpdateRefusesOtherShapes(t *testing.T) {
	for _, pdf := range []string{
		"", "%PDF-1.3\n", "startxref\n5\n%%EOF\n", "startxref\n99999\n%%EOF\n",
		"%PDF-1.3\ntrailer\n<</Size 3 /Root 1 0 R>>\nstartxref\n9\n%%EOF\n",
		"%PDF-1.3\n1 0 obj\n<<\n/Type /Catalog\n>>\nendobj\nxref\ntrailer\n<</Size 3 /Root 1 0 R /Info 2 0 R>>\nstartxref\n45\n%%EOF\n",
	} {
		var b bytes.Buffer
		require.ErrorIs(t, complete(&b, []byte(pdf), nil), errShape)
		require.Zero(t, b.Len())
	}
}
