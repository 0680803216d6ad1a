package render

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/unicode/norm"
)

// weight is one of the two faces of a PDF: the Go fonts, which have all characters
// of WGL4 (Latin, Greek, Cyrillic, and the signs of code page 1252).
type weight uint8

const (
	regular weight = iota
	bold
	weights
)

// letters holds the width of each character of the basic plane in thousandths of
// the size of the font; 0 is a character that the fonts lack.
type letters [weights][1 << 16]uint16

// loadLetters measures the fonts once in the life of a process, which takes some
// milliseconds.
var loadLetters = sync.OnceValues(func() (*letters, error) {
	all := new(letters)
	for w, ttf := range [weights][]byte{goregular.TTF, gobold.TTF} {
		f, err := sfnt.Parse(ttf)
		if err != nil {
			return nil, fmt.Errorf("render: reading the font: %w", err)
		}
		var buf sfnt.Buffer
		em := f.UnitsPerEm()
		for r := rune(' '); r <= 0xffff; r++ {
			glyph, err := f.GlyphIndex(&buf, r)
			if err != nil || glyph == 0 {
				continue
			}
			advance, err := f.GlyphAdvance(&buf, glyph, fixed.I(int(em)), font.HintingNone)
			if err != nil {
				return nil, fmt.Errorf("render: measuring %q in the font: %w", r, err)
			}
			all[w][r] = uint16(advance.Round() * 1000 / int(em))
		}
	}
	return all, nil
})

// width measures a text that clean has returned, in millimetres.
func (l *letters) width(s string, w weight, size float64) float64 {
	sum := 0
	for _, r := range s {
		sum += int(l[w][uint16(r)])
	}
	return float64(sum) * size * millimetre / 1000
}

// millimetre is what a point is, in millimetres.
const millimetre = 25.4 / 72

// substitute stands where the fonts lack a character.
const substitute = '\ufffd'

// clean turns a text into one that the fonts can write: line ends and tabs become
// blanks, marks that have no look of their own go, a letter and its accent become
// one character, and what the fonts lack becomes the substitute; lost reports that
// there was such.
func (l *letters) clean(s string) (out string, lost bool) {
	plain, composed := true, true
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			plain = false
		}
		if s[i] >= 0xcc { // the first byte of combining marks and all that follow
			composed = false
		}
	}
	if plain {
		return s, false
	}
	if !composed {
		s = norm.NFC.String(s)
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029:
			r = ' '
		case r == 0xad || r == 0x200b || r == 0x2060 || r == 0xfeff:
			continue
		case r >= 0x2000 && r <= 0x200a || r == 0x202f || r == 0x205f:
			r = 0xa0
		case r == 0x2010 || r == 0x2011:
			r = '-'
		}
		if r > 0xffff || l[regular][r] == 0 || l[bold][r] == 0 {
			r, lost = substitute, true
		}
		b.WriteRune(r)
	}
	return b.String(), lost
}
