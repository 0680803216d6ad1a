package invoice

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/render"
)

func picture(w, h int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for x := range w {
		for y := range h {
			img.Set(x, y, color.RGBA{uint8(x * 7), uint8(y * 5), 90, 255})
		}
	}
	return img
}

func pngOf(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, picture(w, h)))
	return b.Bytes()
}

func jpegOf(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, picture(w, h), nil))
	return b.Bytes()
}

// hugePNG says that it is 60000 x 60000 points, in a few bytes.
func hugePNG(t testing.TB) []byte {
	t.Helper()
	raw := bytes.Clone(pngOf(t, 8, 8))
	ihdr := raw[len(pngHead):]
	binary.BigEndian.PutUint32(ihdr[8:], 60000)
	binary.BigEndian.PutUint32(ihdr[12:], 60000)
	binary.BigEndian.PutUint32(ihdr[21:], crc32.ChecksumIEEE(ihdr[4:21]))
	return raw
}

// manyScans repeats the only scan of a picture, as an attack on progressive decoders does.
func manyScans(t testing.TB) []byte {
	t.Helper()
	raw := jpegOf(t, 8, 8)
	sos := bytes.Index(raw, []byte{0xff, 0xda})
	scan := raw[sos : len(raw)-2]
	out := bytes.Clone(raw[:sos])
	for range mostScans + 1 {
		out = append(out, scan...)
	}
	return append(out, 0xff, 0xd9)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestLogos(t *testing.T) {
	goodPNG, goodJPEG := pngOf(t, 200, 60), jpegOf(t, 200, 60)
	var animated bytes.Buffer
	require.NoError(t, gif.Encode(&animated, picture(10, 10), nil))
	bad := bytes.Clone(goodPNG)
	bad[len(bad)/2] ^= 0x55
	zip := []byte("PK\x05\x06" + strings.Repeat("\x00", 18))
	for name, c := range map[string]struct {
		logo []byte
		says string
	}{
		"png":                  {goodPNG, ""},
		"jpeg":                 {goodJPEG, ""},
		"svg":                  {[]byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), "neither PNG nor JPEG"},
		"svg with declaration": {[]byte(`<?xml version="1.0"?><svg/>`), "SVG is refused"},
		"html":                 {[]byte("<html>"), "neither PNG nor JPEG"},
		"gif":                  {animated.Bytes(), "neither PNG nor JPEG"},
		"one byte":             {[]byte{0x89}, "neither PNG nor JPEG"},
		"head of png":          {[]byte(pngHead), "cut off"},
		"head of jpeg":         {[]byte("\xff\xd8\xff"), "cut off"},
		"half a png":           {goodPNG[:len(goodPNG)/2], "cut off"},
		"half a jpeg":          {goodJPEG[:len(goodJPEG)/2], "cut off"},
		"damaged png":          {bad, "damaged"},
		"png and zip":          {join(goodPNG, zip), "after the end of the picture"},
		"png and script":       {join(goodPNG, []byte("<script>")), "8 bytes after the end"},
		"jpeg and zip":         {join(goodJPEG, zip), "22 bytes after the end"},
		"jpeg and jpeg":        {join(goodJPEG, goodJPEG), "after the end"},
		"jpeg, zip, EOI":       {join(goodJPEG, zip, []byte{0xff, 0xd9}), "after the end"},
		"jpeg of no markers":   {[]byte("\xff\xd8\xffAAAAAAAAAAAAAA"), "damaged"},
		"jpeg of nothing":      {[]byte("\xff\xd8\xff\xd9"), "damaged"},
		"png of 60000 points":  {hugePNG(t), "60000 x 60000 points"},
		"jpeg of many scans":   {manyScans(t), "more than 64 scans"},
		"png too wide":         {pngOf(t, 5000, 1000), "points"},
		"chunk of 4 GiB":       {join([]byte(pngHead), []byte("\xff\xff\xff\xffIHDR"), make([]byte, 40)), "cut off"},
		"too large":            {join(goodPNG, make([]byte, largestLogo)), "at most 524288"},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			err := checkLook(&invoicev1.Look{Logo: c.logo})
			require.Less(t, time.Since(begin), 5*time.Second)
			if c.says == "" {
				require.NoError(t, err)
				return
			}
			requireFault(t, err, "LOOK_INVALID", "look.logo", "LOGO_INVALID")
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestAccentColors(t *testing.T) {
	for color, says := range map[string]string{
		"": "", "#000000": "", "#8c1c13": "", "#767676": "", "#0044FF": "",
		"#777777": "contrast of 4.47:1 on white",
		"#ffffff": "contrast of 1.00:1 on white, and text needs 4.5:1",
		"#FFff00": "contrast of 1.07:1",
		"#12345":  "is no colour", "red": "is no colour", "#zzzzzz": "is no colour", "1234567": "is no colour", "#+12345": "is no colour",
	} {
		err := checkLook(&invoicev1.Look{AccentColor: color})
		if says == "" {
			require.NoError(t, err, color)
			continue
		}
		requireFault(t, err, "LOOK_INVALID", "look.accent_color", map[bool]string{true: "COLOR_INVALID", false: "COLOR_TOO_PALE"}[strings.Contains(says, "no colour")])
		require.ErrorContains(t, err, says)
	}
	// What is offered instead is taken, and what is taken is shown as it is.
	err := checkLook(&invoicev1.Look{AccentColor: "#ffaa00"})
	offered := err.Error()[strings.LastIndex(err.Error(), "#"):][:7]
	require.NoError(t, checkLook(&invoicev1.Look{AccentColor: offered}))
	shown, err := render.Readable(offered)
	require.NoError(t, err)
	require.Equal(t, offered, shown)
}

func TestLookLife(t *testing.T) {
	w := start(t)
	api, ctx, name := w.book("acme"), t.Context(), acmeMain+"/look"
	get := func() *invoicev1.Look {
		t.Helper()
		l, err := api.GetLook(ctx, &invoicev1.GetLookRequest{Name: name})
		require.NoError(t, err)
		return l
	}
	house, err := render.Readable("")
	require.NoError(t, err)
	fresh := get()
	require.Equal(t, name, fresh.GetName())
	require.Equal(t, "it", fresh.GetLanguageCode())
	require.Equal(t, house, fresh.GetAccentColor())
	require.Empty(t, fresh.GetLogo())
	require.NotEmpty(t, fresh.GetEtag())
	require.Nil(t, fresh.GetUpdateTime())

	logo := pngOf(t, 200, 60)
	set, err := api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: name, Logo: logo, AccentColor: "#004488", Etag: fresh.GetEtag()}})
	require.NoError(t, err)
	require.Equal(t, logo, set.GetLogo())
	require.Equal(t, "it", set.GetLanguageCode())
	require.True(t, proto.Equal(set, get()))
	_, err = api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: name, LanguageCode: "en", Etag: fresh.GetEtag()}})
	requireFault(t, err, "ETAG_MISMATCH", "look.etag", "ETAG_MISMATCH")
	set, err = api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: name, LanguageCode: "en"}, UpdateMask: mask("logo", "language_code")})
	require.NoError(t, err)
	require.Empty(t, set.GetLogo(), "a field of the mask that is not set is cleared")
	require.Equal(t, "en", set.GetLanguageCode())
	require.Equal(t, "#004488", set.GetAccentColor())
	require.Equal(t, 2, w.audited("look.update", name))

	for want, change := range map[string]*invoicev1.UpdateLookRequest{
		"LOOK_INVALID":        {Look: &invoicev1.Look{Name: name, AccentColor: "#ffffff"}},
		"UPDATE_MASK_INVALID": {Look: &invoicev1.Look{Name: name}, UpdateMask: mask("update_time")},
		"NAME_INVALID":        {Look: &invoicev1.Look{Name: acmeMain, LanguageCode: "en"}},
		"COMPANY_NOT_FOUND":   {Look: &invoicev1.Look{Name: "tenants/acme/companies/none/look", LanguageCode: "en"}},
	} {
		_, err := api.UpdateLook(ctx, change)
		requireFault(t, err, want, "", "")
	}
	_, err = api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: name, LanguageCode: "de"}})
	require.Error(t, err)
	_, err = api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: name, Logo: make([]byte, largestLogo+1)}})
	require.Error(t, err)
	_, err = api.GetLook(ctx, &invoicev1.GetLookRequest{Name: "tenants/acme/companies/none/look"})
	requireFault(t, err, "COMPANY_NOT_FOUND", "", "")
	require.True(t, proto.Equal(set, get()), "what was refused changed nothing")
}

// FuzzLogo: no bytes break the check, and what it takes decodes.
func FuzzLogo(f *testing.F) {
	f.Add(pngOf(f, 5, 5))
	f.Add(jpegOf(f, 5, 5))
	f.Add(hugePNG(f))
	f.Add([]byte("\xff\xd8\xff\xda\x00\x00\xff\xd9"))
	f.Add([]byte("<svg/>"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if checkLogo(raw) != nil {
			return
		}
		img, kind, err := image.Decode(bytes.NewReader(raw))
		require.NoError(t, err)
		require.Contains(t, []string{"png", "jpeg"}, kind)
		require.LessOrEqual(t, img.Bounds().Dx()*img.Bounds().Dy(), mostPoints)
		require.Error(t, checkLogo(append(bytes.Clone(raw), 0)), "nothing may follow a picture")
	})
}
