package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// requests are those of the library's own tests.
const requests = "../../format/fatturapa/compose/testdata/"

func composedOf(t *testing.T, text string) composed {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	var r composed
	require.NoError(t, decoder.Decode(&r), text)
	require.False(t, decoder.More())
	for _, list := range []any{r.Changes, r.Advice, r.Findings, r.Problems} {
		require.NotNil(t, list)
	}
	return r
}

// TestNew: every request of the library gives, by the command, the document of the library, which the command
// then checks and converts there and back.
func TestNew(t *testing.T) {
	names, err := filepath.Glob(requests + "*.report.json")
	require.NoError(t, err)
	require.Greater(t, len(names), 20)
	for _, name := range names {
		stem := strings.TrimSuffix(name, ".report.json")
		want, err := os.ReadFile(stem + ".xml")
		require.NoError(t, err)
		got := command(t, "", "invoice", "new", "--at", "2027-01-01", stem+".json")
		require.Equal(t, exitOK, got.code, got.errOut)
		require.Equal(t, string(want), got.out)
		require.Contains(t, got.errOut, "total ")

		out := filepath.Join(t.TempDir(), "out.xml")
		quiet := command(t, "", "invoice", "new", "--at", "2027-01-01", "--format", "json", "-o", out, stem+".json")
		r := composedOf(t, quiet.out)
		require.True(t, r.Valid)
		require.Equal(t, out, r.Output)
		require.Empty(t, r.XML)
		require.NotEmpty(t, r.Totals.Document)
		written, err := os.ReadFile(out)
		require.NoError(t, err)
		require.Equal(t, string(want), string(written))

		require.Equal(t, exitOK, command(t, "", "invoice", "check", "--at", "2027-01-01", out).code)
		there := command(t, got.out, "invoice", "convert", "-")
		back := command(t, there.out, "invoice", "convert", "-")
		again := command(t, back.out, "invoice", "convert", "-")
		require.Equal(t, there, again)
		require.Equal(t, exitOK, there.code)
		require.Empty(t, there.errOut)
	}
}

func request(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(requests + name + ".json")
	require.NoError(t, err)
	return string(raw)
}

// TestNewTellsWhatItDid: transliterations, suggestions and findings are told, and none stops the document.
func TestNewTellsWhatItDid(t *testing.T) {
	text := strings.Replace(request(t, "stamp_suggested_only"), `"description": "`, `"description": "Caffè – “extra” € `, 1)
	got := command(t, text, "invoice", "new", "--at", "2027-01-01", "-")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.errOut, "changed $.lines[0].description: ")
	require.Contains(t, got.errOut, "advice $.stampDuty: stamp duty of 2.00 seems due")
	require.Contains(t, got.out, `Caffè - "extra" EUR`)

	r := composedOf(t, command(t, text, "invoice", "new", "--at", "2027-01-01", "--format", "json", "-").out)
	require.Equal(t, "$.lines[0].description", r.Changes[0].Path)
	require.Equal(t, "2.00", r.StampDuty.Suggested)
	require.Contains(t, r.XML, `Caffè - "extra" EUR`)
	require.Equal(t, "-", r.File)

	early := command(t, request(t, "minimal"), "invoice", "new", "--at", "2026-01-01", "-")
	require.Equal(t, exitRefused, early.code, "dated after the day of sending")
	require.Contains(t, early.errOut, "error 00403 $.FatturaElettronicaBody[0].DatiGenerali.DatiGeneraliDocumento.Data")
	require.Contains(t, early.out, "<p:FatturaElettronica", "the document is written all the same")
}

// TestNewRefuses: a request with a problem gives the place, the reason and the remedy, and no document.
func TestNewRefuses(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.xml")
	bad := strings.Replace(request(t, "minimal"), `"lines"`, `"payments": [{"instalments": []}], "lines"`, 1)
	got := command(t, bad, "invoice", "new", "-o", out, "-")
	require.Equal(t, exitRefused, got.code)
	require.Contains(t, got.errOut, "error $.payments[0].instalments: ")
	require.Contains(t, got.errOut, "  mend: ")
	require.Empty(t, got.out)
	require.NoFileExists(t, out)
	r := composedOf(t, command(t, bad, "invoice", "new", "--format", "json", "-o", out, "-").out)
	require.False(t, r.Valid)
	require.Empty(t, r.Output)
	require.Equal(t, "$.payments[0].instalments", r.Problems[0].Path)

	for text, want := range map[string]string{
		``:               "unexpected end",
		`{`:              "the JSON ends in the middle",
		`{"sellr": {}}`:  `unknown field "sellr"`,
		`{} {}`:          "something follows",
		"<p:Fattura/>":   "invalid character",
		`{"lines": [1]}`: "line 1: lines cannot be a number",
	} {
		got := command(t, text, "invoice", "new", "-")
		require.Equal(t, exitUsage, got.code, text)
		if text != "" {
			require.Contains(t, got.errOut, want, text)
		}
		require.Contains(t, got.errOut, "see ceralacca invoice new --help")
		require.Empty(t, got.out)
	}
	for words, want := range map[string]string{
		"invoice new":                       "FILE is missing",
		"invoice new --at soon x.json":      `"soon" is neither a date`,
		"invoice new away.json":             "there is no file away.json",
		"invoice convert":                   "FILE is missing",
		"invoice convert away.xml":          "there is no file away.xml",
		"invoice new -o away/x minimal":     "--output: there is no folder away",
		"invoice convert -o away/x minimal": "--output: there is no folder away",
	} {
		t.Run(words, func(t *testing.T) {
			input := request(t, "minimal")
			if strings.Contains(words, "convert") {
				input = string(fatturapatest.Invoice(fatturapatest.Options{}))
			}
			got := command(t, input, strings.Fields(strings.Replace(words, "minimal", "-", 1))...)
			require.Equal(t, exitUsage, got.code)
			require.Contains(t, got.errOut, want)
		})
	}
}

// TestNewHelpComposes: the request in the help is one that works.
func TestNewHelpComposes(t *testing.T) {
	help := command(t, "", "invoice", "new", "--help").out
	from, to := strings.Index(help, "  {"), strings.Index(help, "\n\nExit code")
	got := command(t, help[from:to], "invoice", "new", "--at", "2026-12-01", "-")
	require.Equal(t, exitOK, got.code, got.errOut)
	require.Contains(t, got.errOut, "total 244.00")
}

// TestConvert: what goes to JSON comes back with the same data, from every kind of file.
func TestConvert(t *testing.T) {
	t.Chdir(invoiceFiles(t))
	good, err := os.ReadFile("good.xml")
	require.NoError(t, err)
	plainJSON := command(t, "", "invoice", "convert", "good.xml")
	require.Equal(t, exitOK, plainJSON.code)
	require.Empty(t, plainJSON.errOut)
	for _, name := range []string{"IT01234567890_00001.xml.p7m", "base64.xml.p7m"} {
		got := command(t, "", "invoice", "convert", name)
		require.Equal(t, exitOK, got.code)
		require.Equal(t, plainJSON.out, got.out)
		require.Contains(t, got.errOut, "the signature is left out")
	}
	require.Equal(t, answer{}, command(t, "", "invoice", "convert", "-o", "out.json", "lot.xml"))
	require.Equal(t, answer{}, command(t, "", "invoice", "convert", "-o", "out.xml", "out.json"))
	before, err := os.ReadFile("lot.xml")
	require.NoError(t, err)
	after, err := os.ReadFile("out.xml")
	require.NoError(t, err)
	f, err := fatturapa.Parse(before)
	require.NoError(t, err)
	g, err := fatturapa.Parse(after)
	require.NoError(t, err)
	require.Len(t, g.Bodies, 3)
	require.Equal(t, string(f.JSON()), string(g.JSON()))

	marked := command(t, "\uFEFF \n"+plainJSON.out, "invoice", "convert", "-")
	require.Equal(t, exitOK, marked.code)
	g, err = fatturapa.Parse([]byte(marked.out))
	require.NoError(t, err)
	f, err = fatturapa.Parse(good)
	require.NoError(t, err)
	require.Equal(t, string(f.JSON()), string(g.JSON()))
}

func TestConvertLosesNothingInSilence(t *testing.T) {
	raw := bytes.Replace(fatturapatest.Invoice(fatturapatest.Options{}), []byte("<DatiGenerali>"), []byte(`<Nota>x</Nota><DatiGenerali id="7">`), 1)
	got := command(t, string(raw), "invoice", "convert", "-")
	require.Equal(t, exitRefused, got.code)
	require.Empty(t, got.out)
	require.Contains(t, got.errOut, "/FatturaElettronica/FatturaElettronicaBody/Nota has no place in the JSON form")
	require.Contains(t, got.errOut, "/FatturaElettronica/FatturaElettronicaBody/DatiGenerali/@id has no place")
	require.Contains(t, got.errOut, "--lossy leaves it out")
	lossy := command(t, string(raw), "invoice", "convert", "--lossy", "-")
	require.Equal(t, exitOK, lossy.code)
	require.True(t, json.Valid([]byte(lossy.out)))
	require.Contains(t, lossy.errOut, "Nota has no place")
}

func TestConvertRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "empty",
		"ciao":               "an XML document starts with '<'",
		"<html/>":            "the root element is <html>",
		"[]":                 "must be an object",
		"{":                  "JSON at byte 1",
		`{"@versione": "X"}`: "$.@versione must be FPA12, FPR12 or FSM10",
		`{"@versione": "FPR12", "Intestazione": {}}`:                       "$.Intestazione is not in the schema",
		`{"@versione": "FPR12", "FatturaElettronicaHeader": 7}`:            "$.FatturaElettronicaHeader must be an object",
		`{"@versione": "FPR12", "FatturaElettronicaBody": [{"Foo": "x"}]}`: "$.FatturaElettronicaBody[0].Foo",
	} {
		got := command(t, text, "invoice", "convert", "-")
		require.Equal(t, exitUsage, got.code, text)
		require.Contains(t, got.errOut, want, text)
		require.Empty(t, got.out)
	}
}
