package render

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // a picture that may be a logo
	_ "image/jpeg" // likewise
	"image/png"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // a picture that may be a logo
)

// picture is what is known of a logo before it is decoded.
type picture struct {
	mime          string // "" when there is none
	width, height int
}

const (
	largestLogo = 512 << 10
	// mostPixels keeps a small file from unfolding to a picture of gigabytes, here and
	// in the browser of whoever reads the page.
	mostPixels = 4 << 20
)

// readPicture knows a logo by its content, never by a name.
func readPicture(logo []byte) (picture, error) {
	if len(logo) == 0 {
		return picture{}, nil
	}
	if len(logo) > largestLogo {
		return picture{}, fmt.Errorf("render: the logo has %d bytes, at most %d are allowed: use a smaller picture", len(logo), largestLogo)
	}
	c, format, err := image.DecodeConfig(bytes.NewReader(logo))
	if errors.Is(err, image.ErrFormat) {
		return picture{}, errors.New("render: the logo is no picture that can be shown: give a PNG, JPEG, GIF or WebP file")
	}
	if err != nil {
		return picture{}, fmt.Errorf("render: the logo cannot be read: %w", err)
	}
	if c.Width <= 0 || c.Height <= 0 || c.Width > mostPixels/c.Height {
		return picture{}, fmt.Errorf("render: the logo has %d × %d points, at most %d in all are allowed: use a smaller picture", c.Width, c.Height, mostPixels)
	}
	return picture{mime: "image/" + format, width: c.Width, height: c.Height}, nil
}

// logoBox is a logo as it stands on a page, in millimetres.
type logoBox struct {
	name, kind string
	w, h       float64
}

const (
	logoWidth, logoHeight = 60.0, 18.0
	// logoPoints is as many points as print needs over the widest logo.
	logoPoints = 720
)

// printable makes a logo into what every PDF reader shows: colours without
// transparency on white, no larger than print needs. The picture is decoded here, by
// the standard library, so that the PDF library meets only what we wrote.
func printable(logo []byte) ([]byte, error) {
	src, _, err := image.Decode(bytes.NewReader(logo))
	if err != nil {
		return nil, fmt.Errorf("render: the logo cannot be read: %w", err)
	}
	b := src.Bounds()
	w, h := b.Dx(), b.Dy()
	if w > logoPoints {
		w, h = logoPoints, max(1, h*logoPoints/w)
	}
	if h > logoPoints {
		w, h = max(1, w*logoPoints/h), logoPoints
	}
	dst := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(dst, dst.Bounds(), image.White, image.Point{}, draw.Src)
	if w == b.Dx() && h == b.Dy() {
		draw.Draw(dst, dst.Bounds(), src, b.Min, draw.Over)
	} else {
		draw.ApproxBiLinear.Scale(dst, dst.Bounds(), src, b, draw.Over, nil)
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out, dst); err != nil {
		return nil, fmt.Errorf("render: the logo cannot be written: %w", err)
	}
	return out.Bytes(), nil
}

// fit is the size of a picture in the place for the logo.
func (p picture) fit() (w, h float64) {
	w, h = logoWidth, logoWidth*float64(p.height)/float64(p.width)
	if h > logoHeight {
		w, h = logoHeight*float64(p.width)/float64(p.height), logoHeight
	}
	return max(w, 0.5), max(h, 0.5)
}
