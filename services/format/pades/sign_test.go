package pades_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// pdfsig asks poppler about every signature of a file.
func pdfsig(t *testing.T, file []byte, signatures int) {
	t.Helper()
	out, _ := cmstest.Run(t, "poppler-utils", "pdfsig", cmstest.File(t, "signed.pdf", file)) // exits 1 for an unknown root
	require.Equal(t, signatures, strings.Count(out, "- Signature Validation: Signature is Valid."), out)
	require.Contains(t, out, "- Total document signed", out)
}

func qpdf(t *testing.T, file []byte) {
	t.Helper()
	out, err := cmstest.Run(t, "qpdf", "qpdf", "--check", cmstest.File(t, "signed.pdf", file))
	require.NoError(t, err, out)
	require.NotContains(t, out, "WARNING")
}

// Every form of file, both kinds of key, both levels, seen and unseen.
func TestSignVerifies(t *testing.T) {
	k := newDesk(t)
	rsa := k.pki.Issue(t, "Mario Bianchi", cmstest.RSA(t))
	for form, file := range forms() {
		for _, stamped := range []bool{false, true} {
			for _, boxed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s stamped=%v boxed=%v", form, stamped, boxed), func(t *testing.T) {
					k := *k
					k.t = t
					o := pades.Options{Name: "Maria Rossi", Reason: "Approvo è vero", Location: "Milano", SigningTime: cmstest.Now.In(time.FixedZone("", 3600))}
					want := pades.LevelBB
					if stamped {
						o.Timestamp, want = k.stamp, pades.LevelBT
						k.pair = rsa
					}
					if boxed {
						o.Box = &pades.Box{X: 40, Y: 40, Width: 200, Height: 60, Border: true}
					}
					out := k.sign(file, o)
					require.Equal(t, file, out[:len(file)], "the original bytes stay")
					r := k.verify(out)
					require.NoError(t, r.Err())
					require.Empty(t, r.Warnings)
					s := r.Signatures[0]
					require.Empty(t, s.Warnings)
					require.Equal(t, want, s.Level)
					require.Equal(t, "Signature1", s.Field)
					require.True(t, s.WholeFile)
					require.Equal(t, pades.Unchanged, s.Modification)
					require.Equal(t, "Approvo è vero", s.Reason)
					require.True(t, s.Claimed.Equal(cmstest.Now))
					require.True(t, s.Signature.SigningTime.IsZero(), "PAdES has no signing-time attribute")
					require.True(t, s.Signature.Certificate.Equal(k.pair.Cert))
					when, ok := s.Time()
					require.Equal(t, stamped, ok)
					if stamped {
						require.Equal(t, cmstest.Now.Add(time.Second), when)
					}
					pdfsig(t, out, 1)
					qpdf(t, out)
				})
			}
		}
	}
}

// A second and a third signature leave the earlier ones as they were.
func TestFurtherSignatures(t *testing.T) {
	for form, file := range forms() {
		t.Run(form, func(t *testing.T) {
			k := newDesk(t)
			one := k.sign(file, pades.Options{Box: &pades.Box{X: 40, Y: 40, Width: 150, Height: 50, Lines: []string{"Maria Rossi"}}})
			two := k.sign(one, pades.Options{Timestamp: k.stamp})
			three := k.sign(two, pades.Options{Box: &pades.Box{Page: -1, X: 40, Y: 40, Width: 150, Height: 50, Lines: []string{"third"}}})
			require.Equal(t, two, three[:len(two)])
			r := k.verify(three)
			require.NoError(t, r.Err())
			require.Len(t, r.Signatures, 3)
			require.Equal(t, 4, r.Revisions)
			for i, s := range r.Signatures {
				require.Equal(t, fmt.Sprintf("Signature%d", i+1), s.Field)
				require.Equal(t, 2-i, s.Later)
				require.Equal(t, i == 2, s.WholeFile)
				want := pades.Signing
				if i == 2 {
					want = pades.Unchanged
				}
				require.Equal(t, want, s.Modification, "%v", s.Changes)
			}
			require.Contains(t, r.Signatures[0].Warnings[0], "visible boxes")
			pdfsig(t, three, 3)
			qpdf(t, three)
		})
	}
}

// What the form, the fields and the annotations look like in files of others.
func TestFitsIntoTheFormThatIsThere(t *testing.T) {
	empty := "<</FT/Sig/T(Firma)/Type/Annot/Subtype/Widget/Rect[40 40 240 100]/P 3 0 R/F 4>>"
	for label, c := range map[string]struct {
		change func(objects)
		o      pades.Options
	}{
		"annotations and fields stand apart": {func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R>>"
			o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots 11 0 R>>"
			o[10] = "<</Fields 12 0 R/DA(/Helv 0 Tf 0 g)>>"
			o[11] = "[13 0 R]"
			o[12] = "[13 0 R]"
			o[13] = "<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[40 140 240 160]/P 3 0 R/V(x)>>"
		}, pades.Options{}},
		"form in the catalog, annotations on the page": {func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[13 0 R]>>>>"
			o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[13 0 R]>>"
			o[13] = "<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[40 140 240 160]/P 3 0 R/V(x)>>"
		}, pades.Options{Field: "Firma del presidente"}},
		"an empty field is filled": {func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R>>"
			o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[13 0 R]>>"
			o[10] = "<</Fields[13 0 R]/SigFlags 1>>"
			o[13] = empty
		}, pades.Options{Field: "Firma", Box: &pades.Box{Lines: []string{"Maria Rossi"}}}},
		"an empty field with a lock, inside a group": {func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[14 0 R]/SigFlags 3>>>>"
			o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[13 0 R]>>"
			o[13] = strings.Replace(empty, "/FT/Sig", "/Parent 14 0 R/Lock<</Type/SigFieldLock/Action/All>>", 1)
			o[14] = "<</T(Gruppo)/FT/Sig/Kids[13 0 R]>>"
		}, pades.Options{Field: "Gruppo.Firma"}},
		"the annotations are a reference to nothing": {func(o objects) {
			o[3] = "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots 50 0 R>>"
		}, pades.Options{}},
		"certified": {func(objects) {}, pades.Options{Certify: pades.FormsAndSigning, Box: &pades.Box{X: 1, Y: 1, Width: 100, Height: 40, Lines: []string{"author"}}}},
	} {
		for form, file := range forms(c.change) {
			t.Run(label+", "+form, func(t *testing.T) {
				k := newDesk(t)
				out := k.sign(file, c.o)
				r := k.verify(out)
				require.NoError(t, r.Err())
				require.True(t, r.Signatures[0].WholeFile)
				require.Equal(t, c.o.Certify, r.Certified)
				require.Equal(t, c.o.Certify, r.Signatures[0].Certification)
				if c.o.Field != "" {
					require.Equal(t, c.o.Field, r.Signatures[0].Field)
				}
				pdfsig(t, out, 1)
				qpdf(t, out)
				again := k.sign(out, pades.Options{})
				r = k.verify(again)
				require.NoError(t, r.Err())
				require.Equal(t, pades.Signing, r.Signatures[0].Modification)
				pdfsig(t, again, 2)
			})
		}
	}
}

func TestRefusesToSign(t *testing.T) {
	k := newDesk(t)
	file := plain().table("")
	certified := k.sign(file, pades.Options{Certify: pades.NoChanges})
	forms := k.sign(file, pades.Options{Certify: pades.FormsAndSigning})
	box := &pades.Box{X: 10, Y: 10, Width: 100, Height: 50}
	withField := func(text string) []byte {
		return plain(func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[13 0 R]>>>>"
			o[13] = text
		}).table("")
	}
	var forbidden *pades.ForbiddenError
	for label, c := range map[string]struct {
		file []byte
		o    pades.Options
		want string
	}{
		"encrypted":              {plain().table("/Encrypt 9 0 R"), pades.Options{}, "encrypted"},
		"no PDF":                 {[]byte("<html>"), pades.Options{}, "%PDF-"},
		"not at the start":       {append([]byte("x\n"), file...), pades.Options{}, "not at the start"},
		"numbers used up":        {appendTo(file, objects{8388600: "1"}, ""), pades.Options{}, "no number left"},
		"empty":                  {nil, pades.Options{}, "%PDF-"},
		"certified against":      {certified, pades.Options{}, "allows no changes"},
		"certified, new box":     {forms, pades.Options{Box: box}, "no new visible field"},
		"certified twice":        {forms, pades.Options{Certify: pades.NoChanges}, "certified already"},
		"certified after":        {k.sign(file, pades.Options{}), pades.Options{Certify: pades.NoChanges}, "has to be the first"},
		"unknown certification":  {file, pades.Options{Certify: 4}, "certification 4"},
		"no such page":           {file, pades.Options{Box: &pades.Box{Page: 3, X: 1, Y: 1, Width: 50, Height: 50}}, "there is no page 3"},
		"negative page":          {file, pades.Options{Box: &pades.Box{Page: -2, X: 1, Y: 1, Width: 50, Height: 50}}, "page -2"},
		"box off the page":       {file, pades.Options{Box: &pades.Box{X: 590, Y: 10, Width: 100, Height: 50}}, "not inside the page"},
		"box too small":          {file, pades.Options{Box: &pades.Box{X: 10, Y: 10, Width: 20, Height: 8, Lines: []string{"a long text that has no room"}}}, "too small"},
		"field signed":           {k.sign(file, pades.Options{Field: "A"}), pades.Options{Field: "A"}, "signed already"},
		"field of text":          {withField("<</FT/Tx/T(A)>>"), pades.Options{Field: "A"}, "not for signatures"},
		"field with seed values": {withField("<</FT/Sig/T(A)/SV<<>>>>"), pades.Options{Field: "A"}, "seed values"},
		"field without a place":  {withField("<</FT/Sig/T(A)/Rect[0 0 0 0]>>"), pades.Options{Field: "A", Box: box}, "no place of its own"},
		"new field with a stop":  {file, pades.Options{Field: "A.B"}, "full stop"},
		"dynamic form": {plain(func(o objects) {
			o[1] = "<</Type/Catalog/Pages 2 0 R/NeedsRendering true/AcroForm<</Fields[]/XFA 5 0 R>>>>"
		}).table(""), pades.Options{}, "XFA"},
		"signing time after the certificate": {file, pades.Options{SigningTime: cmstest.Now.AddDate(30, 0, 0)}, "valid from"},
		"too large":                          {file, pades.Options{Limits: pades.Limits{Size: 100}}, "the limit is 100"},
	} {
		t.Run(label, func(t *testing.T) {
			out, err := k.try(c.file, c.o)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, out, "nothing is written")
			if strings.HasPrefix(label, "certified") {
				require.ErrorAs(t, err, &forbidden)
			}
		})
	}
	_, err := k.try(plain().table("/Encrypt 9 0 R"), pades.Options{})
	require.ErrorIs(t, err, pades.ErrEncrypted)
	var out bytes.Buffer
	require.ErrorContains(t, pades.Sign(t.Context(), &out, bytes.NewReader(file), int64(len(file)), cades.Signer{}, pades.Options{SigningTime: cmstest.Now}), "no certificate")
	require.ErrorContains(t, pades.Sign(t.Context(), &out, bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{}), "signing time is required")
	wrong := k.signer()
	wrong.Key = cmstest.NewECDSA(t)
	require.ErrorIs(t, pades.Sign(t.Context(), &out, bytes.NewReader(file), int64(len(file)), wrong, pades.Options{SigningTime: cmstest.Now}), cms.ErrKeyMismatch)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, pades.Sign(ended, &out, bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now}), context.Canceled)
	require.Zero(t, out.Len())
}

// The two steps: the digest goes away, the value comes back.
func TestTwoSteps(t *testing.T) {
	k := newDesk(t)
	file := plain().table("")
	p, err := pades.Prepare(t.Context(), bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	digest := p.Digest()
	sig, err := k.pair.Key.Sign(rand.Reader, digest[:], crypto.SHA256)
	require.NoError(t, err)
	require.NoError(t, p.Check(sig))
	attr, err := pades.StampAttribute(t.Context(), sig, k.stamp)
	require.NoError(t, err)
	var out bytes.Buffer
	require.ErrorIs(t, p.Write(t.Context(), &out, sig[:len(sig)-1]), cms.ErrBadSignature)
	require.Zero(t, out.Len())
	require.NoError(t, p.Write(t.Context(), &out, sig, attr))
	require.EqualValues(t, p.Size(), out.Len())
	r := k.verify(out.Bytes())
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelBT, r.Signatures[0].Level)
	require.Equal(t, p.Field(), r.Signatures[0].Field)

	// a file that changes between the steps does not go out as signed
	moving := bytes.Clone(file)
	p, err = pades.Prepare(t.Context(), bytes.NewReader(moving), int64(len(moving)), k.signer(), pades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	if sig, err = p.Sign(t.Context(), k.pair.Key); err != nil {
		t.Fatal(err)
	}
	moving[200] ^= 1
	require.ErrorContains(t, p.Write(t.Context(), &bytes.Buffer{}, sig), "changed while it was being signed")
}

func TestLostStampKeepsTheSignature(t *testing.T) {
	k := newDesk(t)
	down := errors.New("authority is down")
	fail := func(context.Context, []byte) ([]byte, error) { return nil, down }
	out, err := k.try(plain().streamed(), pades.Options{Timestamp: fail})
	var lost *cades.TimestampError
	require.ErrorAs(t, err, &lost)
	require.ErrorIs(t, err, down)
	r := k.verify(out)
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelBB, r.Signatures[0].Level)

	var later bytes.Buffer
	require.NoError(t, pades.AddTimestamp(t.Context(), &later, bytes.NewReader(out), int64(len(out)), k.stamp, pades.Limits{}))
	require.Equal(t, len(out), later.Len())
	r = k.verify(later.Bytes())
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelBT, r.Signatures[0].Level)
	pdfsig(t, later.Bytes(), 1)
	var none bytes.Buffer
	again := pades.AddTimestamp(t.Context(), &none, bytes.NewReader(later.Bytes()), int64(later.Len()), k.stamp, pades.Limits{})
	require.ErrorIs(t, again, pades.ErrNothingToStamp)
	require.Zero(t, none.Len())

	// no room: the signature goes out without its stamp, and says so
	out, err = k.try(plain().table(""), pades.Options{Timestamp: k.stamp, StampRoom: 100})
	require.ErrorAs(t, err, &lost)
	var room *pades.RoomError
	require.ErrorAs(t, err, &room)
	require.NoError(t, k.verify(out).Err())
	require.ErrorAs(t, pades.AddTimestamp(t.Context(), &none, bytes.NewReader(out), int64(len(out)), k.stamp, pades.Limits{}), &room)
}
