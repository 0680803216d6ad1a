package pdd_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"ceralacca.dev/services/format/pdd"
)

// TestNamesAreSafe: whatever the name, the path stays in its folder, holds plain characters, keeps no ending that a browser
// would run, and is like no other, also where case does not count.
func TestNamesAreSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var names pdd.Names
		seen := map[string]bool{}
		given := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"../../etc/passwd", `..\..\x.xml`, "CON", "nul.xml", "a.XML", "A.xml", "a-2.xml", ".hidden", "-rf", "x.html", "x.svg", "x.csv", "x.docx", "x.csv.exe", "x.xml.p7m", "x.P7M", "\u202Elmx.exe", "a\x00b.xml", strings.Repeat("é", 500) + ".xml", "",
		})), 1, 30).Draw(rt, "names")
		for _, name := range given {
			got := names.In("documenti", name)
			folder, base := path.Split(got)
			require.Equal(rt, "documenti/", folder)
			require.Regexp(rt, `^[A-Za-z0-9][A-Za-z0-9._-]*$`, base)
			require.NotContains(rt, base, "..")
			require.LessOrEqual(rt, len(base), 140)
			require.Contains(rt, []string{".xml", ".p7m", ".p7s", ".pdf", ".eml", ".zip", ".tsr", ".tst", ".txt", ".bin", ".png", ".jpg", ".jpeg", ".tif", ".tiff",
				".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".asice", ".asics", ".sce", ".scs"}, path.Ext(base))
			require.False(rt, seen[strings.ToLower(got)], got)
			seen[strings.ToLower(got)] = true
		}
	})
}

// TestNamesTellHowToOpen: what a system opens without running it keeps its ending, text is called text, and all the rest is not opened
// by a click.
func TestNamesTellHowToOpen(t *testing.T) {
	var names pdd.Names
	for given, want := range map[string]string{
		"Fattura 1.XML.P7M": "Fattura_1.xml.p7m", "foto.PNG": "foto.png", "atto.docx": "atto.docx", "busta.asice": "busta.asice", "firma.p7s": "firma.p7s", "marca.tst": "marca.tst",
		"registro-2026-11-22.csv": "registro-2026-11-22_csv.txt", "dati.json": "dati_json.txt",
		"a.csv.exe": "a_csv_exe.bin", "a.html": "a_html.bin", "a.svg": "a_svg.bin", "a.docm": "a_docm.bin", "a.url": "a_url.bin", "a": "a.bin",
	} {
		require.Equal(t, "documenti/"+want, names.In("documenti", given))
	}
}

// TestScriptCannotBeLeft: data.js is one assignment of JSON; no text in it ends the script or a line of it.
func TestScriptCannotBeLeft(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"</script>", "<!--", "]]>", "\u2028alert(1)", "\u2029", "\\\"};alert(1);//", "a\nb"})).Draw(rt, "text")
		raw, err := pdd.Catalog{Purpose: text, Documents: []pdd.Document{{Number: text, Seller: pdd.Party{Name: text}}}}.Script()
		require.NoError(rt, err)
		inner, ok := strings.CutPrefix(string(raw), "var PDD = ")
		require.True(rt, ok)
		inner, ok = strings.CutSuffix(inner, ";\n")
		require.True(rt, ok)
		require.NotContains(rt, inner, "<")
		require.False(rt, strings.ContainsAny(inner, "\n\r\u2028\u2029"))
		var back pdd.Catalog
		require.NoError(rt, json.Unmarshal([]byte(inner), &back))
		require.Equal(rt, strings.ToValidUTF8(text, "\uFFFD"), strings.ToValidUTF8(back.Purpose, "\uFFFD"))
	})
}

// TestViewerStandsAlone: nothing is fetched from anywhere, no script or style stands in the page itself, and the policy says so.
func TestViewerStandsAlone(t *testing.T) {
	fixed := pdd.Fixed()
	for name, content := range fixed {
		text := string(content)
		require.NotRegexp(t, `(?i)https?://|//[a-z0-9.-]+\.[a-z]{2,}/`, text, name)
		switch path.Ext(name) {
		case ".html":
			require.Contains(t, text, `http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self' file:; style-src 'self' file:;`)
			require.NotRegexp(t, `(?i)\son[a-z]+\s*=|<style|javascript:|<script>`, text)
		case ".js":
			require.NotRegexp(t, `innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|fetch\(|XMLHttpRequest|WebSocket|localStorage|import\(`, text)
		case ".css":
			require.NotRegexp(t, `url\(|@import`, text)
		}
	}
	require.Contains(t, fixed, "verifica.sh")
}

// TestVerifyOfNothing: what is no package gets a verdict, and never a crash.
func TestVerifyOfNothing(t *testing.T) {
	_, _, err := pdd.Open([]byte("no ZIP"))
	require.Error(t, err)
	var raw bytes.Buffer
	w := zip.NewWriter(&raw)
	_, err = w.Create("a/b/PdD.xml")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	_, ok, err := pdd.Open(raw.Bytes())
	require.NoError(t, err)
	require.False(t, ok, "it is too deep to be one")
	for _, content := range []fstest.MapFS{
		{}, {"PdD.xml": {Data: []byte("<x/>")}},
		{"PdD.xml": {}, "PdD.xml.p7m": {Data: []byte{0x30, 0x80}}, "PdD.xml.p7m.tsr": {Data: []byte("x")}, "prove/1/PIndex.xml.p7m": {Data: []byte("x")}},
	} {
		require.NotEmpty(t, pdd.Verify(content, pdd.Options{}).Problems)
	}
}

// FuzzVerify: no content makes the verifier crash, or pass without a signature.
func FuzzVerify(f *testing.F) {
	f.Add([]byte("<PIndex/>"), []byte{0x30, 0x03, 0x02, 0x01, 0x00}, []byte("x"))
	f.Fuzz(func(t *testing.T, index, p7m, tsr []byte) {
		got := pdd.Verify(fstest.MapFS{"PdD.xml": {Data: index}, "PdD.xml.p7m": {Data: p7m}, "PdD.xml.p7m.tsr": {Data: tsr}, "PdD.sha256": {Data: tsr}}, pdd.Options{})
		if len(got.Problems) == 0 {
			t.Fatal("it passed")
		}
	})
}
