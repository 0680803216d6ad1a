package pades

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/unicode/norm"
)

// Box is the visible part of a signature. Sizes are points (1/72 inch) on the page as it is
// shown: the origin is its lower left corner, whatever the page's own rotation.
type Box struct {
	Page                int // 1 is the first, -1 the last; 0 counts as 1
	X, Y, Width, Height float64
	// Lines is the text. Empty: name, date and reason of the signature. Long lines are broken, and
	// the letters made as small as needed. Letters that Windows-1252 has not lose their marks, and
	// those that have no such form become "?".
	Lines  []string
	Border bool
}

const (
	boxPadding  = 3.0
	fontLargest = 12.0
	fontLeast   = 4.0
	leading     = 1.2
	oneThousand = 1000
)

// ErrBoxText: the text cannot be made to fit.
var ErrBoxText = errors.New("pades: the box is too small for its text: make it larger, or the text shorter")

// helvetica is the widths of the letters from space to tilde, in thousandths of the size.
var helvetica = [...]int16{
	278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
	556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
	1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
	667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
	333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
	556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
}

// barred are letters with a stroke, which Unicode does not take apart.
var barred = strings.NewReplacer("Ł", "L", "ł", "l", "Đ", "D", "đ", "d", "Ħ", "H", "ħ", "h", "Ŧ", "T", "ŧ", "t", "ı", "i")

// winAnsi encodes a line and tells its width at size 1.
func winAnsi(line string) (out []byte, width float64) {
	for _, r := range norm.NFC.String(barred.Replace(line)) {
		b, ok := charmap.Windows1252.EncodeRune(r)
		base := []rune(norm.NFD.String(string(r)))[0]
		if !ok {
			if b, ok = charmap.Windows1252.EncodeRune(base); !ok {
				b, base = '?', '?'
			}
		}
		if b < ' ' {
			b, base = ' ', ' '
		}
		w := 600 // letters outside the table: about as wide as the widest common ones
		if base >= ' ' && int(base-' ') < len(helvetica) {
			w = int(helvetica[base-' '])
		}
		out = append(out, b)
		width += float64(w) / oneThousand
	}
	return out, width
}

// wrap breaks the lines so that none is wider than limit at size 1; a word that is wider is cut.
func wrap(lines []string, limit float64) [][]byte {
	var out [][]byte
	for _, line := range lines {
		var now []byte
		used := 0.0
		flush := func() {
			out = append(out, now)
			now, used = nil, 0
		}
		for _, word := range strings.Fields(line) {
			b, w := winAnsi(word)
			const space = 0.278
			if len(now) > 0 && used+space+w > limit {
				flush()
			}
			if len(now) > 0 {
				now = append(now, ' ')
				used += space
			}
			for w > limit && len(b) > 1 {
				cut := 0
				for width := 0.0; cut < len(b); cut++ {
					_, one := winAnsi(string(charmap.Windows1252.DecodeByte(b[cut])))
					if width += one; width > limit && cut > 0 {
						break
					}
				}
				out = append(out, b[:cut])
				b = b[cut:]
				_, w = winAnsi(decodeWinAnsi(b))
			}
			now = append(now, b...)
			used += w
		}
		flush()
	}
	return out
}

func decodeWinAnsi(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(charmap.Windows1252.DecodeByte(c))
	}
	return s.String()
}

// draw gives the content of the appearance, width by height.
func draw(lines []string, width, height float64, border bool) ([]byte, error) {
	inner, room := width-2*boxPadding, height-2*boxPadding
	if inner <= 0 || room <= 0 {
		return nil, ErrBoxText
	}
	for size := fontLargest; size >= fontLeast; size -= 0.5 {
		broken := wrap(lines, inner/size)
		if float64(len(broken))*size*leading > room {
			continue
		}
		b := []byte("q\n")
		if border {
			b = fmt.Appendf(b, "0.5 w 0.25 0.25 %s %s re S\n", coordinate(width-0.5), coordinate(height-0.5))
		}
		b = fmt.Appendf(b, "BT\n/Helv %s Tf\n%s TL\n%s %s Td\n", coordinate(size), coordinate(size*leading),
			coordinate(boxPadding), coordinate(height-boxPadding-size*0.95))
		for _, line := range broken {
			b = appendLiteral(b, line)
			b = append(b, " Tj T*\n"...)
		}
		return append(b, "ET\nQ"...), nil
	}
	return nil, ErrBoxText
}

func coordinate(v float64) real {
	s := strings.TrimRight(fmt.Sprintf("%.3f", v), "0")
	return real(strings.TrimSuffix(s, "."))
}

// appearance makes the form XObject. turn is the page's rotation. spec: ISO32000-1 §12.5.5, §8.10
func (u *increment) appearance(content []byte, width, height float64, turn int) ref {
	font := newDict("Type", name("Font"), "Subtype", name("Type1"), "BaseFont", name("Helvetica"), "Encoding", name("WinAnsiEncoding"))
	w, h := coordinate(width), coordinate(height)
	zero, one, minus := int64(0), int64(1), int64(-1)
	d := newDict("Type", name("XObject"), "Subtype", name("Form"), "BBox", array{zero, zero, w, h},
		"Resources", newDict("Font", newDict("Helv", font)))
	switch turn {
	case 90:
		d.add("Matrix", array{zero, one, minus, zero, h, zero})
	case 180:
		d.add("Matrix", array{minus, zero, zero, minus, w, h})
	case 270:
		d.add("Matrix", array{zero, minus, one, zero, zero, w})
	}
	r := u.reserve()
	u.putStream(r, d, content)
	return r
}

// place turns the box into the page's own coordinates.
func (d *document) place(b *Box, p *page) (rect [4]float64, turn int, err error) {
	edge, ok, err := d.rectangle(p.box)
	if err != nil {
		return rect, 0, err
	}
	if !ok {
		return rect, 0, syntax(d.size, "page %d has no MediaBox", p.number)
	}
	v, err := d.resolve(p.rotate)
	if err != nil {
		return rect, 0, err
	}
	turn = int(((integer(v, 0) % 360) + 360) % 360)
	width, height := edge[2]-edge[0], edge[3]-edge[1]
	if turn == 90 || turn == 270 {
		width, height = height, width
	}
	const slack = 0.01
	if b.Width <= 0 || b.Height <= 0 || b.X < 0 || b.Y < 0 || b.X+b.Width > width+slack || b.Y+b.Height > height+slack {
		return rect, 0, fmt.Errorf("pades: the box (%g, %g, %g by %g points) is not inside the page, which is %g by %g points",
			b.X, b.Y, b.Width, b.Height, width, height)
	}
	switch turn {
	case 90:
		return [4]float64{edge[2] - b.Y - b.Height, edge[1] + b.X, edge[2] - b.Y, edge[1] + b.X + b.Width}, turn, nil
	case 180:
		return [4]float64{edge[2] - b.X - b.Width, edge[3] - b.Y - b.Height, edge[2] - b.X, edge[3] - b.Y}, turn, nil
	case 270:
		return [4]float64{edge[0] + b.Y, edge[3] - b.X - b.Width, edge[0] + b.Y + b.Height, edge[3] - b.X}, turn, nil
	}
	return [4]float64{edge[0] + b.X, edge[1] + b.Y, edge[0] + b.X + b.Width, edge[1] + b.Y + b.Height}, 0, nil
}
