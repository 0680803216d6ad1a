package pades_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// rich has a text field (13), a comment (15), and a page content of two streams of which the
// second is not there yet (60): a shadow.
func rich(o objects) {
	o[1] = "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R>>"
	o[3] = "<</Type/Page/Parent 2 0 R/Contents[4 0 R 60 0 R]/Annots 11 0 R>>"
	o[10] = "<</Fields[13 0 R]>>"
	o[11] = "[13 0 R 15 0 R]"
	o[13] = "<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[40 140 240 160]/P 3 0 R/V(x)/AP<</N 14 0 R>>>>"
	o[14] = streamText("/Type/XObject/Subtype/Form/BBox[0 0 200 20]", "BT ET")
	o[15] = "<</Type/Annot/Subtype/Text/Rect[300 300 320 320]/P 3 0 R/Contents(nota)>>"
}

// handmade is an increment with a signature written by hand, so that it can be wrong.
type handmade struct {
	subFilter string
	extra     string // further keys of the signature dictionary
	before    string // keys before ByteRange
	byteRange func(gap, end, total int) string
	padding   string // hexadecimal digits after the CMS
	contents  func(covered []byte) []byte
	catalog   string // further keys of the catalog
	field     string
	prev      string // fields that are there already
}

func (h handmade) build(file []byte) []byte {
	const room = 16000
	if h.field == "" {
		h.field = "<</FT/Sig/T(Hand)/Type/Annot/Subtype/Widget/Rect[0 0 0 0]/P 3 0 R/F 132/V 90 0 R>>"
	}
	out := appendTo(file, objects{
		1: "<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[" + h.prev + "91 0 R]/SigFlags 3>>" + h.catalog + ">>",
		3: "<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[" + h.prev + "91 0 R]>>",
		90: "<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/" + h.subFilter + h.before + "/ByteRange" + strings.Repeat(" ", 64) +
			"/Contents <" + strings.Repeat("0", room) + ">" + h.extra + ">>",
		91: h.field,
	}, "")
	gap := bytes.Index(out, []byte("<"+strings.Repeat("0", room)))
	end := gap + room + 2
	text := fmt.Sprintf("[0 %d %d %d]", gap, end, len(out)-end)
	if h.byteRange != nil {
		text = h.byteRange(gap, end, len(out))
	}
	copy(out[bytes.LastIndex(out, []byte("/ByteRange"))+len("/ByteRange"):], text)
	var a [4]int
	if n, _ := fmt.Sscanf(text, "[%d %d %d %d]", &a[0], &a[1], &a[2], &a[3]); n == 4 && a[0]+a[1] <= len(out) && a[2]+a[3] <= len(out) {
		covered := append(bytes.Clone(out[a[0]:a[0]+a[1]]), out[a[2]:a[2]+a[3]]...)
		copy(out[gap+1:], fmt.Sprintf("%x", h.contents(covered))+h.padding)
	}
	return out
}

// seal signs by cms, as ETSI.CAdES.detached or without its attribute.
func (k *desk) seal(ess bool) func([]byte) []byte {
	return func(covered []byte) []byte {
		o := cms.Options{Certificate: k.pair.Cert, Chain: k.pair.Chain[1:]}
		if ess {
			a, err := cms.SigningCertificateV2(k.pair.Cert)
			require.NoError(k.t, err)
			o.Signed = append(o.Signed, a)
		}
		sum := sha256.Sum256(covered)
		der, err := cms.SignDetached(k.t.Context(), sum[:], k.pair.Key, o)
		require.NoError(k.t, err)
		return der
	}
}

func (k *desk) token(covered []byte) []byte {
	sum := sha256.Sum256(covered)
	out, err := k.stamp(k.t.Context(), sum[:])
	require.NoError(k.t, err)
	return out
}

const etsi = "ETSI.CAdES.detached"

// Signature dictionaries that lie about what they cover. The first cases are good, so that the
// rest fails for its own reason.
func TestSignatureDictionaries(t *testing.T) {
	k := newDesk(t)
	file := plain().table("")
	good := k.seal(true)
	for label, c := range map[string]struct {
		h     handmade
		want  string // part of the error; empty: it holds
		level pades.Level
	}{
		"good":                       {handmade{subFilter: etsi, contents: good}, "", pades.LevelBB},
		"plain PDF signature":        {handmade{subFilter: "adbe.pkcs7.detached", contents: k.seal(false)}, "", pades.LevelCMS},
		"document time-stamp":        {handmade{subFilter: "ETSI.RFC3161", contents: k.token}, "", ""},
		"no signing certificate":     {handmade{subFilter: etsi, contents: k.seal(false)}, "signing-certificate attribute is missing", pades.LevelCMS},
		"another format":             {handmade{subFilter: "adbe.x509.rsa_sha1", contents: good}, "not supported", ""},
		"no CMS":                     {handmade{subFilter: etsi, contents: func([]byte) []byte { return []byte("ciao") }}, "format", ""},
		"text":                       {handmade{subFilter: etsi, contents: func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(good(b))) }}, "base64", ""},
		"no token":                   {handmade{subFilter: "ETSI.RFC3161", contents: good}, "format", ""},
		"token over something else":  {handmade{subFilter: "ETSI.RFC3161", contents: func([]byte) []byte { return k.token([]byte("x")) }}, "stamps other bytes", ""},
		"content of its own":         {handmade{subFilter: etsi, contents: func(b []byte) []byte { return k.attached(b) }}, "content of its own", pades.LevelCMS},
		"hidden after the CMS":       {handmade{subFilter: etsi, contents: good, padding: "00ff"}, "hidden after the CMS", pades.LevelBB},
		"hidden after the token":     {handmade{subFilter: "ETSI.RFC3161", contents: k.token, padding: "00ff"}, "hidden after the token", ""},
		"gap before the value":       {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return fmt.Sprintf("[0 %d %d %d]", g-10, e, n-e) }}, "are not signed", ""},
		"gap after the value":        {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return fmt.Sprintf("[0 %d %d %d]", g, e+10, n-e-10) }}, "are not signed", ""},
		"value outside the gap":      {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return fmt.Sprintf("[0 %d %d %d]", 100, 120, n-120) }}, "are not signed", ""},
		"starts later":               {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return fmt.Sprintf("[9 %d %d %d]", g-9, e, n-e) }}, "not at the start", ""},
		"two members":                {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return "[0 10]" }}, "2 members", ""},
		"not numbers":                {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return "[0 /a 1 2]" }}, "not made of places", ""},
		"no byte range":              {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return " null" }}, "0 members", ""},
		"beyond the end":             {handmade{subFilter: etsi, contents: good, byteRange: func(g, e, n int) string { return fmt.Sprintf("[0 %d %d %d]/X[0 0 0 0]", g, n-5, n) }}, "beyond the end", ""},
		"Contents twice":             {handmade{subFilter: etsi, contents: good, extra: "/Contents<00>"}, "more than once", ""},
		"Contents twice, the first":  {handmade{subFilter: etsi, contents: good, before: "/Contents<00>"}, "more than once", ""},
		"ByteRange twice":            {handmade{subFilter: etsi, contents: good, before: "/ByteRange[0 1 2 3]"}, "more than once", ""},
		"no dictionary":              {handmade{subFilter: etsi, contents: good, field: "<</FT/Sig/T(Hand)/V[1 2]>>"}, "not a dictionary", ""},
		"another field in the bytes": {handmade{subFilter: etsi, contents: good, field: "<</FT/Tx/T(Hand)/V 90 0 R>>"}, "no signature", ""},
	} {
		t.Run(label, func(t *testing.T) {
			out := c.h.build(file)
			r := k.verify(out)
			if c.want == "" {
				require.NoError(t, r.Err())
			} else {
				require.ErrorContains(t, r.Err(), c.want)
			}
			if len(r.Signatures) > 0 {
				require.Equal(t, c.level, r.Signatures[0].Level)
			} else {
				require.Contains(t, r.Warnings[0], "no field of the form refers to")
			}
		})
	}
}

func (k *desk) attached(covered []byte) []byte {
	a, err := cms.SigningCertificateV2(k.pair.Cert)
	require.NoError(k.t, err)
	der, err := cms.Sign(k.t.Context(), covered[:100], k.pair.Key, cms.Options{Certificate: k.pair.Cert, Signed: []cms.Attribute{a}})
	require.NoError(k.t, err)
	return der
}

// What is appended to a signed file, and what it counts as.
func TestLaterChanges(t *testing.T) {
	k := newDesk(t)
	page := "<</Type/Page/Parent 2 0 R/Contents[4 0 R 60 0 R]/Annots 11 0 R%s>>"
	for label, c := range map[string]struct {
		changes objects
		kind    pades.Modification
		allowed [4]bool // no certification, NoChanges, FormsAndSigning, AnnotationsAsWell
	}{
		"page content":             {objects{4: streamText("", "BT /F1 24 Tf 72 720 Td (Pay 900 euro) Tj ET")}, pades.Content, [4]bool{}},
		"a shadow is defined":      {objects{60: streamText("", "0 0 600 900 re f")}, pades.Content, [4]bool{}},
		"font":                     {objects{5: "<</Type/Font/Subtype/Type3/BaseFont/Helvetica>>"}, pades.Content, [4]bool{}},
		"size of the pages":        {objects{2: "<</Type/Pages/Kids[3 0 R 6 0 R]/Count 2/MediaBox[0 0 100 100]/Resources<</Font<</F1 5 0 R>>>>>>"}, pades.Content, [4]bool{}},
		"a page less":              {objects{2: "<</Type/Pages/Kids[3 0 R]/Count 1/MediaBox[0 0 595 842]/Resources<</Font<</F1 5 0 R>>>>>>"}, pades.Content, [4]bool{}},
		"rotation of a page":       {objects{3: fmt.Sprintf(page, "/Rotate 180")}, pades.Content, [4]bool{}},
		"script":                   {objects{2: "<</Type/Pages/Kids[3 0 R 6 0 R]/Count 2/MediaBox[0 0 595 842]/Resources<</Font<</F1 5 0 R>>>>/AA<</O<</S/JavaScript/JS(x)>>>>>>"}, pades.Content, [4]bool{}},
		"same page written again":  {objects{6: "<</Type /Page /Parent 2 0 R /Contents 7 0 R>>"}, pades.Unchanged, [4]bool{true, true, true, true}},
		"nothing of importance":    {objects{80: "(x)"}, pades.Unchanged, [4]bool{true, true, true, true}},
		"date of a page":           {objects{3: fmt.Sprintf(page, "/LastModified(D:2026)")}, pades.LongTerm, [4]bool{true, true, true, true}},
		"value of a field":         {objects{13: "<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[40 140 240 160]/P 3 0 R/V(y)/AP<</N 16 0 R>>>>", 16: streamText("", "")}, pades.FormFilling, [4]bool{true, false, true, true}},
		"look of a field":          {objects{14: streamText("/Type/XObject/Subtype/Form/BBox[0 0 200 20]", "BT (y) ET")}, pades.FormFilling, [4]bool{true, false, true, true}},
		"place of a field":         {objects{13: "<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[0 0 600 900]/P 3 0 R/V(x)/AP<</N 14 0 R>>>>"}, pades.Content, [4]bool{}},
		"words of a comment":       {objects{15: "<</Type/Annot/Subtype/Text/Rect[300 300 320 320]/P 3 0 R/Contents(altro)>>"}, pades.Annotations, [4]bool{false, false, false, true}},
		"a comment becomes a page": {objects{15: "<</Type/Page/Subtype/Text/Rect[300 300 320 320]/P 3 0 R/Contents(nota)>>"}, pades.Annotations, [4]bool{false, false, false, true}},
		"key twice":                {objects{6: "<</Type/Page/Parent 2 0 R/Contents 7 0 R/Contents 4 0 R>>"}, pades.Content, [4]bool{}},
	} {
		for certification := range 4 {
			t.Run(fmt.Sprintf("%s, certification %d", label, certification), func(t *testing.T) {
				file := plain(rich).table("")
				signed := k.sign(file, pades.Options{Certify: pades.Certification(certification)})
				r := k.verify(appendTo(signed, c.changes, ""))
				s := r.Signatures[0]
				require.Equal(t, c.kind, s.Modification, "%v", s.Changes)
				require.False(t, s.WholeFile)
				require.Equal(t, 1, s.Later)
				require.True(t, s.Signature.Intact(), "the signed bytes are as they were")
				if c.allowed[certification] {
					require.NoError(t, r.Err())
				} else {
					require.ErrorContains(t, r.Err(), "later changes")
					require.NotEmpty(t, s.Changes)
				}
			})
		}
	}
}

// Attacks that need the numbers of the signed file.
func TestLaterChangesToTheForm(t *testing.T) {
	k := newDesk(t)
	signed := k.sign(plain(rich).table(""), pades.Options{Box: &pades.Box{X: 10, Y: 10, Width: 100, Height: 40, Lines: []string{"Maria Rossi"}}})
	field := numberOf(t, signed, "/FT /Sig")
	sig := numberOf(t, signed, "/Type /Sig\n")
	look := numberOf(t, signed, "/XObject\n/Subtype /Form")
	widget := func(rest string) string {
		return fmt.Sprintf("<</FT/Sig/Type/Annot/Subtype/Widget/P 3 0 R/F 132/T(Altra)%s>>", rest)
	}
	lists := func(more string) objects {
		return objects{10: fmt.Sprintf("<</Fields[13 0 R %d 0 R %s]/SigFlags 3>>", field, more), 11: fmt.Sprintf("[13 0 R 15 0 R %d 0 R %s]", field, more)}
	}
	with := func(o objects, n int, text string) objects { o[n] = text; return o }
	for label, c := range map[string]struct {
		changes objects
		kind    pades.Modification
		want    string
	}{
		"look of the signature":      {objects{look: streamText("/Type/XObject/Subtype/Form/BBox[0 0 100 40]", "BT ET")}, pades.Content, "written anew"},
		"value of the signature":     {objects{sig: "<</Type/Sig>>"}, pades.Content, "Contents is missing"},
		"empty signature field":      {with(lists("70 0 R"), 70, widget("/Rect[0 0 600 900]")), pades.Annotations, "empty signature field"},
		"another kind of field":      {with(lists("70 0 R"), 70, "<</FT/Tx/T(B)/Type/Annot/Subtype/Widget/Rect[0 0 9 9]/P 3 0 R>>"), pades.Content, "form field was added"},
		"comment":                    {with(objects{11: fmt.Sprintf("[13 0 R 15 0 R %d 0 R 70 0 R]", field)}, 70, "<</Type/Annot/Subtype/FreeText/Rect[0 0 600 900]>>"), pades.Annotations, "annotation was added"},
		"comment taken away":         {objects{11: fmt.Sprintf("[13 0 R %d 0 R]", field)}, pades.Annotations, "taken out"},
		"box of the signature gone":  {objects{11: "[13 0 R 15 0 R]"}, pades.Content, "taken out"},
		"field taken away":           {objects{10: fmt.Sprintf("<</Fields[%d 0 R]/SigFlags 3>>", field)}, pades.Content, "taken out"},
		"security store":             {objects{1: "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R/DSS<</Certs[70 0 R]/CRLs[71 0 R]>>>>", 70: streamText("", "c"), 71: streamText("", "r")}, pades.LongTerm, ""},
		"security store with a page": {objects{1: "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R/DSS<</Certs[4 0 R]>>>>", 4: streamText("", "c")}, pades.Content, "written anew"},
		"script at opening":          {objects{1: "<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R/OpenAction<</S/JavaScript/JS(x)>>>>"}, pades.Content, "OpenAction was added"},
		"certification afterwards":   {objects{1: fmt.Sprintf("<</Type/Catalog/Pages 2 0 R/AcroForm 10 0 R/Perms<</DocMDP %d 0 R>>>>", sig)}, pades.Content, "Perms was added"},
	} {
		t.Run(label, func(t *testing.T) {
			r := k.verify(appendTo(signed, c.changes, ""))
			s := r.Signatures[0]
			if c.want == "" {
				require.NoError(t, r.Err())
				require.Equal(t, &pades.DSS{Certificates: 1, CRLs: 1}, r.DSS)
			} else {
				require.ErrorContains(t, r.Err(), c.want)
			}
			if s.Range.Verdict == cms.Passed {
				require.Equal(t, c.kind, s.Modification, "%v", s.Changes)
			}
		})
	}
	t.Run("another catalog", func(t *testing.T) {
		out := update(signed, objects{70: fmt.Sprintf("<</Type/Catalog/Pages 71 0 R/AcroForm<</Fields[%d 0 R]>>>>", field), 71: "<</Type/Pages/Kids[]/Count 0>>"}, "/Root 70 0 R", lastStart(signed))
		require.ErrorContains(t, k.verify(out).Err(), "another catalog")
	})
	t.Run("signature taken out of the form", func(t *testing.T) {
		r := k.verify(appendTo(signed, objects{10: "<</Fields[13 0 R]>>"}, ""))
		require.ErrorIs(t, r.Err(), pades.ErrUnsigned)
		require.Contains(t, r.Warnings[0], "no field of the form refers to")
	})
	t.Run("comments where they are allowed", func(t *testing.T) {
		out := appendTo(signed, objects{15: "<</Type/Annot/Subtype/Text/Rect[300 300 320 320]/P 3 0 R/Contents(altro)>>"}, "")
		o := k.options()
		o.AllowAnnotations = true
		r, err := pades.Verify(t.Context(), bytes.NewReader(out), int64(len(out)), o)
		require.NoError(t, err)
		require.NoError(t, r.Err())
	})
}

// numberOf finds the last object that has a text.
func numberOf(t *testing.T, file []byte, text string) int {
	t.Helper()
	at := bytes.LastIndex(file, []byte(text))
	require.Positive(t, at, text)
	head := file[:at]
	head = head[:bytes.LastIndex(head, []byte(" 0 obj"))]
	var n int
	_, err := fmt.Sscan(string(head[bytes.LastIndexByte(head, '\n')+1:]), &n)
	require.NoError(t, err)
	return n
}

// An object that was there before the signature in another version is brought back, or hidden, by
// a table alone: every byte was signed.
func TestSwappedObjects(t *testing.T) {
	k := newDesk(t)
	first := plain().table("")
	oldAt := bytes.Index(first, []byte("4 0 obj"))
	second := appendTo(first, objects{4: streamText("", "BT /F1 24 Tf 72 720 Td (Pay 1 euro) Tj ET")}, "")
	signed := k.sign(second, pades.Options{})
	for label, row := range map[string]string{
		"brought back": fmt.Sprintf("%010d 00000 n ", oldAt), "hidden": "0000000000 00000 f ",
	} {
		t.Run(label, func(t *testing.T) {
			start := len(signed)
			out := append(bytes.Clone(signed), fmt.Sprintf("xref\n4 1\n%s\ntrailer\n<</Size 100/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n", row, lastStart(signed), start)...)
			r := k.verify(out)
			require.ErrorContains(t, r.Err(), "later changes")
			require.Equal(t, pades.Content, r.Signatures[0].Modification)
		})
	}
	r := k.verify(signed)
	require.NoError(t, r.Err())
}

// A locked field may not be filled, and another one may.
func TestLockedFields(t *testing.T) {
	k := newDesk(t)
	for lock, allowed := range map[string]bool{
		"/Action/All": false, "/Action/Include/Fields[(Nome)]": false, "/Action/Include/Fields[(Altro)]": true,
		"/Action/Exclude/Fields[(Nome)]": true, "/Action/Exclude/Fields[(Altro)]": false,
	} {
		file := plain(rich, func(o objects) {
			o[10] = "<</Fields[13 0 R 17 0 R]>>"
			o[11] = "[13 0 R 15 0 R 17 0 R]"
			o[17] = "<</FT/Sig/T(Firma)/Type/Annot/Subtype/Widget/Rect[0 0 0 0]/P 3 0 R/Lock<</Type/SigFieldLock" + lock + ">>>>"
		}).table("")
		signed := k.sign(file, pades.Options{Field: "Firma"})
		filled := strings.Replace("<</FT/Tx/T(Nome)/Type/Annot/Subtype/Widget/Rect[40 140 240 160]/P 3 0 R/V(x)/AP<</N 14 0 R>>>>", "V(x)", "V(y)", 1)
		r := k.verify(appendTo(signed, objects{13: filled}, ""))
		require.Equal(t, allowed, r.Err() == nil, "%s: %v", lock, r.Err())
	}
}

// Bytes after the end, a cut file, a broken table.
func TestWhatIsAfterTheEnd(t *testing.T) {
	k := newDesk(t)
	signed := k.sign(plain().table(""), pades.Options{})
	r := k.verify(append(bytes.Clone(signed), '\r', '\n'))
	require.NoError(t, r.Err())
	require.True(t, r.Signatures[0].WholeFile)
	require.Contains(t, r.Signatures[0].Warnings[0], "white space")
	r = k.verify(append(bytes.Clone(signed), "4 0 obj\n<</Length 0>>\nstream\n\nendstream\nendobj\n%%EOF\n"...))
	require.ErrorContains(t, r.Err(), "belong to no revision")
	r = k.verify(append(bytes.Clone(signed), "4 0 obj\n<</Length 0>>\nstream\n\nendstream\nendobj\nstartxref\n7\n%%EOF\n"...))
	require.ErrorContains(t, r.Err(), "broken cross-reference table")
	require.NotEmpty(t, r.Warnings)
}

// LT and LTA are recognised by their parts.
func TestLongTermLevels(t *testing.T) {
	k := newDesk(t)
	// a certification that allows no changes allows these
	signed := k.sign(plain().table(""), pades.Options{Timestamp: k.stamp, Certify: pades.NoChanges})
	field := numberOf(t, signed, "/FT /Sig")
	perms := fmt.Sprintf("/Perms<</DocMDP %d 0 R>>", numberOf(t, signed, "/Type /Sig\n"))
	store := fmt.Sprintf("<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[%d 0 R]/SigFlags 3>>/DSS<</Certs[70 0 R]/OCSPs[71 0 R]/VRI<</AA<<>>>>>>%s>>", field, perms)
	lt := appendTo(signed, objects{1: store, 70: streamText("", "c"), 71: streamText("", "o")}, "")
	r := k.verify(lt)
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelLT, r.Signatures[0].Level)
	require.Equal(t, 1, r.DSS.VRI)
	lta := handmade{subFilter: "ETSI.RFC3161", contents: k.token, prev: fmt.Sprintf("%d 0 R ", field),
		catalog: "/DSS<</Certs[70 0 R]/OCSPs[71 0 R]/VRI<</AA<<>>>>>>" + perms}.build(lt)
	r = k.verify(lta)
	require.NoError(t, r.Err())
	require.Equal(t, pades.LevelLTA, r.Signatures[0].Level)
	require.Equal(t, pades.LongTerm, r.Signatures[0].Modification)
	require.Equal(t, pades.KindTimestamp, r.Signatures[1].Kind)
	require.True(t, r.Signatures[1].WholeFile)
	pdfsig(t, signed, 1)
}

// Trust and time are judged when the caller gives what to judge by.
func TestTrust(t *testing.T) {
	k, other := newDesk(t), newDesk(t)
	out := k.sign(plain().table(""), pades.Options{Timestamp: k.stamp})
	require.ErrorContains(t, other.verify(out).Err(), "trust")
	r, err := pades.Verify(t.Context(), bytes.NewReader(out), int64(len(out)), pades.VerifyOptions{})
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Equal(t, cms.NotJudged, r.Signatures[0].Signature.Trust.Verdict)
	o := k.options()
	o.TSARoots = other.pki.Pool()
	r, err = pades.Verify(t.Context(), bytes.NewReader(out), int64(len(out)), o)
	require.NoError(t, err)
	require.ErrorContains(t, r.Err(), "time-stamp")
	require.Equal(t, pades.LevelBB, r.Signatures[0].Level)
}

// Every single byte of the signed range counts: each is changed once.
func TestEveryByteIsSigned(t *testing.T) {
	k := newDesk(t)
	for form, file := range map[string][]byte{"table": plain().table(""), "stream": plain().streamed()} {
		t.Run(form, func(t *testing.T) {
			k := *k
			k.t = t
			out := k.sign(file, pades.Options{StampRoom: -1, Reason: "ogni byte"})
			b := k.verify(out).Signatures[0].ByteRange
			require.Positive(t, b[3])
			for at := range out {
				if int64(at) >= b[1] && int64(at) < b[2] {
					continue
				}
				broken(t, &k, out, at, 1<<(at%8))
			}
		})
	}
}

func broken(t require.TestingT, k *desk, file []byte, at int, change byte) {
	bad := bytes.Clone(file)
	bad[at] ^= change
	r, err := pades.Verify(k.t.Context(), bytes.NewReader(bad), int64(len(bad)), k.options())
	if err == nil {
		err = r.Err()
	}
	require.Error(t, err, "byte %d with %#02x", at, change)
}

// Whatever the options, what was signed verifies, and stops doing so with one byte changed.
func TestSignVerifyProperty(t *testing.T) {
	k := newDesk(t)
	files := forms(rich)
	rapid.Check(t, func(rt *rapid.T) {
		file := files[rapid.SampledFrom([]string{"table", "stream", "hybrid"}).Draw(rt, "form")]
		o := pades.Options{
			SigningTime: cmstest.Now, Name: rapid.String().Draw(rt, "name"), Reason: rapid.String().Draw(rt, "reason"),
			Location: rapid.StringMatching(`[\x00-\x7f]{0,40}`).Draw(rt, "location"), Certify: pades.Certification(rapid.SampledFrom([]int{0, 2, 3}).Draw(rt, "certify")),
		}
		if rapid.Bool().Draw(rt, "boxed") {
			o.Box = &pades.Box{Page: rapid.SampledFrom([]int{0, 1, 2, -1}).Draw(rt, "page"), X: rapid.Float64Range(0, 200).Draw(rt, "x"),
				Y: rapid.Float64Range(0, 600).Draw(rt, "y"), Width: 300, Height: 200, Lines: []string{rapid.StringN(0, 60, -1).Draw(rt, "line")}, Border: true}
		}
		var out []byte
		for range rapid.IntRange(1, 3).Draw(rt, "signatures") {
			var err error
			if out, err = k.try(file, o); err != nil {
				rt.Fatal(err)
			}
			file = out
			o.Certify = 0
			if o.Box != nil {
				o.Box = nil
			}
		}
		r := k.verify(out)
		if err := r.Err(); err != nil {
			rt.Fatal(err)
		}
		if !strings.ContainsRune(o.Reason, '\uFFFD') && r.Signatures[0].Reason != o.Reason {
			rt.Fatalf("reason %q came back as %q", o.Reason, r.Signatures[0].Reason)
		}
		last := r.Signatures[len(r.Signatures)-1].ByteRange
		at := rapid.Int64Range(0, last[1]+last[3]-1).Draw(rt, "at")
		if at >= last[1] {
			at += last[2] - last[1]
		}
		broken(rt, k, out, int(at), byte(rapid.IntRange(1, 255).Draw(rt, "change")))
	})
}

// What was signed, the signature itself and the usage of its certificate are at hand.
func TestWhatTheReportGives(t *testing.T) {
	k := newDesk(t)
	first := k.sign(plain(rich).streamed(), pades.Options{Timestamp: k.stamp})
	k.pair = k.pki.Issue(t, "Server", cmstest.NewECDSA(t), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	second := k.sign(first, pades.Options{})
	o := k.options()
	o.RequireContentCommitment = true
	r, err := pades.Verify(t.Context(), bytes.NewReader(second), int64(len(second)), o)
	require.NoError(t, err)
	require.Equal(t, first, second[:r.Signatures[0].Revision()])
	require.NoError(t, r.Signatures[0].Err())
	require.ErrorContains(t, r.Signatures[1].Err(), "nonRepudiation")
	require.NoError(t, k.verify(second).Err(), "unless asked for")
	for _, s := range r.Signatures {
		sd, err := cms.Parse(s.CMS)
		require.NoError(t, err)
		require.Zero(t, sd.Trailing)
		require.False(t, sd.BER)
	}
	text, err := json.Marshal(r)
	require.NoError(t, err)
	for _, want := range []string{`"modification":"signing"`, `"level":"PAdES-B-T"`, `"wholeFile":true`, `"revisions":3`, `"structure":{"verdict":"passed"}`} {
		require.Contains(t, string(text), want)
	}
}
