package invoice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"strconv"
	"strings"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/render"
)

// Bounds of a logo. Points bound the memory of whoever decodes it, here and in a browser; scans bound
// the time: a progressive JPEG of half a MiB can ask for ten thousand passes over a large picture.
const (
	largestLogo = 512 << 10
	mostPoints  = 4 << 20
	mostScans   = 64
)

// leastContrast is that of text on its ground. spec: WCAG 2.2, 1.4.3 Contrast (Minimum)
const leastContrast = 4.5

// checkLook refuses what would make documents unsafe or unreadable.
func checkLook(l *invoicev1.Look) error {
	f := &findings{}
	if len(l.GetLogo()) > 0 {
		if err := checkLogo(l.GetLogo()); err != nil {
			f.add("look.logo", "LOGO_INVALID", "%v", err)
		}
	}
	if color := l.GetAccentColor(); color != "" {
		ratio, err := contrastOnWhite(color)
		switch {
		case err != nil:
			f.add("look.accent_color", "COLOR_INVALID", "%v", err)
		case ratio < leastContrast:
			darker, err := render.Readable(color)
			if err != nil {
				return fmt.Errorf("invoice: darken %s: %w", color, err)
			}
			// Rounded down: 4.499 must not read as the 4.5 that it is not.
			f.add("look.accent_color", "COLOR_TOO_PALE", "%s has a contrast of %.2f:1 on white, and text needs %.1f:1 to be read: use a darker one, such as %s",
				color, math.Floor(ratio*100)/100, leastContrast, darker)
		}
	}
	return f.fault("LOOK_INVALID")
}

// contrastOnWhite is the contrast ratio of a colour #rrggbb. spec: WCAG 2.2, contrast ratio
func contrastOnWhite(color string) (float64, error) {
	v, err := strconv.ParseUint(strings.TrimPrefix(color, "#"), 16, 32)
	if err != nil || len(color) != 7 || color[0] != '#' {
		return 0, fmt.Errorf("%q is no colour: write it as #rrggbb", color)
	}
	luminance := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(v>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		luminance += weight * c
	}
	return 1.05 / (luminance + 0.05), nil
}

// checkLogo takes a PNG or JPEG picture that decodes to its end and ends with its last byte. What comes
// after a picture may be another file in disguise.
func checkLogo(raw []byte) error {
	if len(raw) > largestLogo {
		return fmt.Errorf("has %d bytes, at most %d are allowed: use a smaller picture", len(raw), largestLogo)
	}
	var end int
	var err error
	var config func() (image.Config, error)
	var decode func() (image.Image, error)
	switch {
	case bytes.HasPrefix(raw, []byte(pngHead)):
		end, err = pngEnd(raw)
		config = func() (image.Config, error) { return png.DecodeConfig(bytes.NewReader(raw)) }
		decode = func() (image.Image, error) { return png.Decode(bytes.NewReader(raw)) }
	case bytes.HasPrefix(raw, []byte("\xff\xd8\xff")):
		end, err = jpegEnd(raw)
		config = func() (image.Config, error) { return jpeg.DecodeConfig(bytes.NewReader(raw)) }
		decode = func() (image.Image, error) { return jpeg.Decode(bytes.NewReader(raw)) }
	default:
		return errors.New("is neither PNG nor JPEG, whatever its name says: export the picture as PNG (SVG is refused, it can hold scripts)")
	}
	if err != nil {
		return fmt.Errorf("is a damaged picture: %w: export it again", err)
	}
	if end != len(raw) {
		return fmt.Errorf("has %d bytes after the end of the picture: export it again, without anything attached", len(raw)-end)
	}
	c, err := config()
	if err != nil {
		return fmt.Errorf("is a damaged picture: %w: export it again", err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > mostPoints/c.Height {
		return fmt.Errorf("has %d x %d points, at most %d in all are allowed: use a smaller picture", c.Width, c.Height, mostPoints)
	}
	if _, err := decode(); err != nil {
		return fmt.Errorf("is a damaged picture: %w: export it again", err)
	}
	return nil
}

const pngHead = "\x89PNG\r\n\x1a\n"

// pngEnd is the place after the chunk IEND. spec: PNG (Third Edition) §5.3, §11.2.4
func pngEnd(raw []byte) (int, error) {
	for i := len(pngHead); i+12 <= len(raw); {
		size := binary.BigEndian.Uint32(raw[i:])
		if size > uint32(len(raw)-i-12) {
			break
		}
		kind := string(raw[i+4 : i+8])
		i += 12 + int(size)
		if kind == "IEND" {
			return i, nil
		}
	}
	return 0, errors.New("it is cut off")
}

// jpegEnd is the place after the marker EOI. spec: ITU-T T.81 Annex B
func jpegEnd(raw []byte) (int, error) {
	scans := 0
	for i := 2; i+1 < len(raw); {
		if raw[i] != 0xff {
			return 0, fmt.Errorf("no marker at byte %d", i)
		}
		marker := raw[i+1]
		switch {
		case marker == 0xff: // fill
			i++
			continue
		case marker == 0xd9:
			return i + 2, nil
		case marker == 0x01 || marker >= 0xd0 && marker <= 0xd8:
			i += 2
			continue
		}
		if i+4 > len(raw) {
			break
		}
		i += 2 + int(binary.BigEndian.Uint16(raw[i+2:]))
		if marker == 0xda {
			if scans++; scans > mostScans {
				return 0, fmt.Errorf("it has more than %d scans", mostScans)
			}
			i = afterScan(raw, i)
		}
	}
	return 0, errors.New("it is cut off")
}

// afterScan is the place of the first marker after entropy-coded data: FF that is neither stuffed nor a
// restart.
func afterScan(raw []byte, i int) int {
	for ; i+1 < len(raw); i++ {
		if raw[i] == 0xff && raw[i+1] != 0 && (raw[i+1] < 0xd0 || raw[i+1] > 0xd7) {
			return i
		}
	}
	return len(raw)
}
