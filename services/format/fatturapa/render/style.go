package render

import (
	"crypto/sha256"
	_ "embed" // the style sheet
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
)

//go:embed style.css
var style string

var styleHash = hash(style)

func hash(css string) string {
	sum := sha256.Sum256([]byte(css))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// policy lets the browser use the two style sheets of the page and pictures that
// are inside it; scripts, forms, frames and every request are refused.
func policy(accent string) string {
	return "default-src 'none'; style-src " + styleHash + " " + hash(accentStyle(accent)) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

func accentStyle(accent string) string { return ":root{--accent:" + accent + "}" }

const houseAccent = "#8c1c13" // sealing wax

// Readable checks a colour, "#rrggbb", and darkens it until text in it can be read
// on white; "" gives the colour of the house. Callers that want to tell a tenant
// that the colour will look different compare it with what they gave.
//
// spec: WCAG 2.2, 1.4.3 Contrast (Minimum): 4.5 to 1
func Readable(s string) (string, error) {
	if s == "" {
		return houseAccent, nil
	}
	if len(s) != 7 || s[0] != '#' {
		return "", fmt.Errorf("render: accent %q is no colour: give #rrggbb, such as %s", s, houseAccent)
	}
	v, err := strconv.ParseUint(s[1:], 16, 32)
	if err != nil {
		return "", fmt.Errorf("render: accent %q is no colour: give #rrggbb, such as %s", s, houseAccent)
	}
	rgb := [3]float64{float64(v >> 16), float64(v >> 8 & 0xff), float64(v & 0xff)}
	for 1.05/(luminance(rgb)+0.05) < 4.5 {
		for i := range rgb {
			rgb[i] = math.Floor(rgb[i] * 0.95)
		}
	}
	return fmt.Sprintf("#%02x%02x%02x", int(rgb[0]), int(rgb[1]), int(rgb[2])), nil
}

// luminance is the relative luminance of a colour, 0 to 1.
func luminance(rgb [3]float64) float64 {
	weights := [3]float64{0.2126, 0.7152, 0.0722}
	sum := 0.0
	for i, c := range rgb {
		c /= 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += c * weights[i]
	}
	return sum
}

// channels splits a colour that Readable has returned.
func channels(accent string) [3]int {
	v, _ := strconv.ParseUint(strings.TrimPrefix(accent, "#"), 16, 32)
	return [3]int{int(v >> 16), int(v >> 8 & 0xff), int(v & 0xff)}
}
