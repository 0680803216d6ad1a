package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// invoiceFiles writes what a folder of a real accountant may hold, and gives its path.
func invoiceFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
	}
	good := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-05-20"})
	bad := bytes.Replace(good, []byte("<PrezzoTotale>21.74<"), []byte("<PrezzoTotale>99.99<"), 1)
	require.NotEqual(t, good, bad)
	pair := cmstest.New(t).Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	signed, err := cms.Sign(t.Context(), good, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	badSigned, err := cms.Sign(t.Context(), bad, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)

	write("good.xml", good)
	write("bad.xml", bad)
	write("fsm.xml", fatturapatest.Invoice(fatturapatest.Options{Formato: "FSM10", Data: "2026-05-20"}))
	write("lot.xml", fatturapatest.Invoice(fatturapatest.Options{Bodies: 3, Data: "2026-05-20"}))
	write("IT01234567890_00001.xml.p7m", signed)
	write("bad.xml.p7m", badSigned)
	write("base64.xml.p7m", []byte(base64.StdEncoding.EncodeToString(signed)))
	write("broken.xml.p7m", signed[:len(signed)/2])
	write("cut.xml", good[:len(good)-40])
	write("empty.xml", nil)
	write("huge.xml", append(bytes.Clone(good), bytes.Repeat([]byte(" "), 16<<20)...))
	write("other.xml", []byte("<html/>"))
	write("notes.txt", []byte("nothing"))
	write("control.xml", bytes.Replace(bad, []byte("<Numero>1<"), []byte("<Numero>\u009b31m<"), 1))
	write("tree/a/one.xml", good)
	write("tree/b/two.XML", good)
	write("tree/b/readme.md", []byte("#"))
	write("tree/three.zip", archive(t, member{"x/IT01234567890_00002.xml", good}, member{"x/", nil}, member{"list.csv", []byte("a")}))
	require.NoError(t, os.Symlink("one.xml", filepath.Join(dir, "tree/a/link.xml")))
	write("empty/notes.txt", []byte("nothing"))
	write("some.zip", archive(t, member{"1.xml", good}, member{"2.xml", bad}, member{"3.xml.p7m", signed}, member{"4.zip", archive(t)}, member{"5.xml", []byte("no XML")}))
	write("good.zip", archive(t, member{"1.xml", good}, member{"2.xml.p7m", signed}))
	write("none.zip", archive(t))
	write("damaged.zip", damaged(t, good))
	write("cut.zip", archive(t, member{"1.xml", good})[:200])
	return dir
}

type member struct {
	name    string
	content []byte
}

func archive(t *testing.T, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.Create(m.name)
		require.NoError(t, err)
		_, err = f.Write(m.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// damaged is an archive of two stored invoices; a byte of the first is another.
func damaged(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"first.xml", "second.xml"} {
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	raw := b.Bytes()
	raw[300] ^= 1
	return raw
}

// outcomes reads the lines of JSON; every one must hold the promised members and no others.
func outcomes(t *testing.T, text string) []checked {
	t.Helper()
	var all []checked
	for line := range strings.Lines(text) {
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		var r checked
		require.NoError(t, decoder.Decode(&r), line)
		require.NotNil(t, r.Findings, "findings is an array, never null")
		all = append(all, r)
	}
	return all
}

// verdict is one word for an outcome.
func verdict(r checked) string {
	switch {
	case r.Skipped != "":
		return "skipped"
	case r.Valid == nil:
		return "unjudged"
	case *r.Valid:
		return "valid"
	}
	for _, f := range r.Findings {
		if f.Severity == "error" {
			return f.Code
		}
	}
	return "invalid without error"
}

func TestCheck(t *testing.T) {
	dir := invoiceFiles(t)
	for name, c := range map[string]struct {
		args string
		code int
		want string // file and verdict of each outcome, in order
	}{
		"valid":             {"good.xml", exitOK, "good.xml valid"},
		"simplified":        {"fsm.xml", exitOK, "fsm.xml valid"},
		"lot":               {"lot.xml", exitOK, "lot.xml valid"},
		"error":             {"bad.xml", exitRefused, "bad.xml 00423"},
		"signed":            {"IT01234567890_00001.xml.p7m", exitOK, "IT01234567890_00001.xml.p7m valid"},
		"signed error":      {"bad.xml.p7m", exitRefused, "bad.xml.p7m 00423"},
		"signed in Base64":  {"base64.xml.p7m", exitOK, "base64.xml.p7m valid"},
		"broken envelope":   {"broken.xml.p7m", exitRefused, "broken.xml.p7m 00106"},
		"cut":               {"cut.xml", exitRefused, "cut.xml 00200"},
		"empty file":        {"empty.xml", exitRefused, "empty.xml 00106"},
		"too large":         {"huge.xml", exitRefused, "huge.xml 00003"},
		"no invoice":        {"other.xml", exitRefused, "other.xml 00200"},
		"named text":        {"notes.txt", exitRefused, "notes.txt 00200"},
		"two":               {"good.xml bad.xml", exitRefused, "good.xml valid, bad.xml 00423"},
		"missing":           {"good.xml away.xml bad.xml", exitUsage, "good.xml valid, away.xml unjudged, bad.xml 00423"},
		"folder":            {"tree", exitOK, "tree/a/link.xml skipped, tree/a/one.xml valid, tree/b/readme.md skipped, tree/b/two.XML valid, tree/three.zip/x/IT01234567890_00002.xml valid, tree/three.zip/list.csv skipped"},
		"folder of nothing": {"empty", exitUsage, "empty/notes.txt skipped"},
		"archive":           {"good.zip", exitOK, "good.zip/1.xml valid, good.zip/2.xml.p7m valid"},
		"mixed archive":     {"some.zip", exitUsage, "some.zip/1.xml valid, some.zip/2.xml 00423, some.zip/3.xml.p7m valid, some.zip/4.zip unjudged, some.zip/5.xml 00200"},
		"archive of none":   {"none.zip", exitUsage, "none.zip unjudged"},
		"damaged archive":   {"damaged.zip", exitUsage, "damaged.zip/first.xml unjudged, damaged.zip/second.xml valid"},
		"cut archive":       {"cut.zip", exitUsage, "cut.zip unjudged"},
		"names":             {"--names good.xml IT01234567890_00001.xml.p7m", exitRefused, "good.xml 00001, IT01234567890_00001.xml.p7m valid"},
		"earlier rules":     {"--at 2026-05-01 good.xml", exitRefused, "good.xml 00403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(dir)
			args := append([]string{"invoice", "check", "--at", "2026-06-01"}, strings.Fields(c.args)...)
			got := command(t, "", append(args, "--format", "json")...)
			var have []string
			for _, r := range outcomes(t, got.out) {
				have = append(have, filepath.ToSlash(r.File)+" "+verdict(r))
			}
			require.Equal(t, c.want, strings.Join(have, ", "))
			require.Equal(t, c.code, got.code, got.errOut)

			text := command(t, "", args...)
			require.Equal(t, c.code, text.code)
			for _, r := range outcomes(t, got.out) {
				require.Contains(t, text.out, r.File+": ", "text leaves nothing out either")
			}
		})
	}
}

func TestCheckStandardInput(t *testing.T) {
	good := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-05-20"})
	got := command(t, string(good), "invoice", "check", "--names", "--at", "2026-06-01", "-")
	require.Equal(t, answer{code: exitOK, out: "-: valid\n"}, got)
}

// TestCheckFindings: a finding says what, where, what was there and how to mend it, in both languages.
func TestCheckFindings(t *testing.T) {
	t.Chdir(invoiceFiles(t))
	got := command(t, "", "invoice", "check", "--at", "2026-06-01", "--format", "json", "bad.xml")
	r := outcomes(t, got.out)[0]
	require.Equal(t, "FPR12", r.Format)
	require.Equal(t, 1, r.Documents)
	require.NotEmpty(t, r.Rules)
	codes := map[string]checkFinding{}
	for _, f := range r.Findings {
		codes[f.Code] = f
	}
	f := codes["00423"]
	require.Equal(t, "error", f.Severity)
	require.Contains(t, f.XPath, "/FatturaElettronica/FatturaElettronicaBody/DatiBeniServizi/DettaglioLinee")
	require.Equal(t, "99.99", f.Actual)
	require.Contains(t, f.Expected, "21.74")
	require.Positive(t, f.Line)
	require.NotEmpty(t, f.Hint)

	english := command(t, "", "invoice", "check", "--at", "2026-06-01", "bad.xml")
	require.Contains(t, english.out, "bad.xml: not valid\n")
	require.Contains(t, english.out, fmt.Sprintf("  error 00423 line %d %s\n    %s\n    found: 99.99\n", f.Line, f.XPath, f.Message))
	italian := command(t, "", "invoice", "check", "--at", "2026-06-01", "--lang", "it", "bad.xml", "good.xml")
	require.Contains(t, italian.out, "bad.xml: non valido\n  errore ")
	require.Contains(t, italian.out, "good.xml: valido\n")
	require.Contains(t, italian.out, "file: 2; validi: 1; con errori: 1; non giudicati: 0; tralasciati: 0\n")
	require.NotContains(t, italian.out, f.Message)
}

// TestCheckKeepsTheTerminal: what a file says cannot command the terminal that shows it.
func TestCheckKeepsTheTerminal(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x.zip")
	bad := bytes.Replace(fatturapatest.Invoice(fatturapatest.Options{}), []byte("<Numero>1<"), []byte("<Numero>\u009b31m\u202e<"), 1)
	require.NoError(t, os.WriteFile(name, archive(t, member{"\x1b]0;title\a.xml", bad}), 0o600))
	got := command(t, "", "invoice", "check", "--at", "2026-06-01", name)
	require.Equal(t, exitRefused, got.code)
	require.NotContains(t, got.out, "\x1b")
	require.NotContains(t, got.out, "\u009b")
	require.NotContains(t, got.out, "\u202e")
	require.Contains(t, got.out, "x.zip/?]0;title?.xml: not valid")
}

// TestCheckManyStaysInOrder: outcomes come in the order of the archive, though several are judged at a time.
func TestCheckManyStaysInOrder(t *testing.T) {
	const many = 500
	var members []member
	for i := range many {
		members = append(members, member{fmt.Sprintf("%04d.xml", i), fatturapatest.Invoice(fatturapatest.Options{Numero: fmt.Sprint(i + 1), Lines: 1 + i%7, Data: "2026-05-20"})})
	}
	name := filepath.Join(t.TempDir(), "many.zip")
	require.NoError(t, os.WriteFile(name, archive(t, members...), 0o600))
	got := command(t, "", "invoice", "check", "--at", "2026-06-01", "--format", "json", name)
	require.Equal(t, exitOK, got.code)
	all := outcomes(t, got.out)
	require.Len(t, all, many)
	for i, r := range all {
		require.Equal(t, fmt.Sprintf("%s/%04d.xml", name, i), r.File)
	}
}

// TestCheckRefusesEndlessLists: an archive whose list of members would not fit in memory is not opened.
func TestCheckRefusesEndlessLists(t *testing.T) {
	raw := archive(t, member{"1.xml", []byte("<a/>")})
	at := bytes.LastIndex(raw, []byte("PK\x05\x06"))
	copy(raw[at+12:], []byte{0, 0, 0, 0x40}) // the list has a gigabyte, it says
	name := filepath.Join(t.TempDir(), "x.zip")
	require.NoError(t, os.WriteFile(name, raw, 0o600))
	got := command(t, "", "invoice", "check", name)
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.out, "its list of members has 1073741824 bytes")
}

// interrupter cancels a context at the first byte that is written to it.
type interrupter struct {
	cancel context.CancelFunc
	bytes.Buffer
}

func (i *interrupter) Write(p []byte) (int, error) {
	i.cancel()
	return i.Buffer.Write(p)
}

// TestCheckInterrupted: a run over many files ends at once, and says so.
func TestCheckInterrupted(t *testing.T) {
	const many = 2000
	good := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-05-20"})
	var members []member
	for i := range many {
		members = append(members, member{fmt.Sprintf("%04d.xml", i), good})
	}
	name := filepath.Join(t.TempDir(), "many.zip")
	require.NoError(t, os.WriteFile(name, archive(t, members...), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &interrupter{cancel: cancel}
	c := &cli{in: strings.NewReader(""), out: out, errOut: io.Discard, now: func() time.Time { return day }}
	require.Equal(t, exitInterrupted, c.run(ctx, []string{"invoice", "check", name}))
	require.Less(t, strings.Count(out.String(), ": valid\n"), many/2)
}

func TestCheckWrongWords(t *testing.T) {
	for args, want := range map[string]string{
		"invoice check":                           "FILE|DIR|ZIP is missing",
		"invoice check --lang de x.xml":           `--lang is it or en, not "de"`,
		"invoice check --at tomorrow x.xml":       `"tomorrow" is neither a date`,
		"invoice render":                          "FILE is missing",
		"invoice render a b":                      `"b" is one argument too many`,
		"invoice render /nonexistent/x.xml":       "there is no folder /nonexistent",
		"invoice render --lang de good.xml":       `language "de"`,
		"invoice render --color red good.xml":     "--color: render: accent \"red\" is no colour: give #rrggbb",
		"invoice render --format doc good.xml":    "give html or pdf",
		"invoice render --logo away.png good.xml": "--logo: there is no file away.png",
		"invoice render cut.xml":                  "truncated",
		"invoice render broken.xml.p7m":           "broken.xml.p7m: byte 0: element of",
		"invoice render -o away/x.html good.xml":  "--output: there is no folder away",
		"invoice render --logo bad.xml good.xml":  "give a PNG, JPEG, GIF or WebP file",
	} {
		t.Run(args, func(t *testing.T) {
			t.Chdir(invoiceFiles(t))
			got := command(t, "", strings.Fields(args)...)
			require.Equal(t, exitUsage, got.code)
			require.Contains(t, got.errOut, want)
			require.Empty(t, got.out)
		})
	}
}

func TestRender(t *testing.T) {
	t.Chdir(invoiceFiles(t))
	got := command(t, "", "invoice", "render", "-o", "out.html", "--courtesy", "--lang", "en", "--color", "#004488", "IT01234567890_00001.xml.p7m")
	require.Equal(t, answer{}, got)
	page, err := os.ReadFile("out.html")
	require.NoError(t, err)
	for _, want := range []string{`<html lang="en">`, "Courtesy copy", "--accent:#004488", "IT01234567890_00001.xml.p7m", "20 May 2026"} {
		require.Contains(t, string(page), want)
	}
	good, err := os.ReadFile("good.xml")
	require.NoError(t, err)
	onOut := command(t, string(good), "invoice", "render", "-")
	require.Equal(t, exitOK, onOut.code)
	require.True(t, strings.HasPrefix(onOut.out, "<!DOCTYPE html>\n<html lang=\"it\">"))
	require.NotContains(t, onOut.out, "Copia di cortesia")
}

func TestRenderPDF(t *testing.T) {
	t.Chdir(invoiceFiles(t))
	got := command(t, "", "invoice", "render", "-o", "out.pdf", "--lang", "en", "--color", "#ffcc00", "IT01234567890_00001.xml.p7m")
	require.Equal(t, exitOK, got.code)
	require.Empty(t, got.out)
	require.Regexp(t, `^note: #ffcc00 cannot be read on white; #[0-9a-f]{6} is used`, got.errOut)
	pdf, err := os.ReadFile("out.pdf")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(pdf), "%PDF-"))
	require.Contains(t, string(pdf), "/Lang (en)")

	onOut := command(t, "", "invoice", "render", "--format", "pdf", "--courtesy", "good.xml")
	require.Equal(t, exitOK, onOut.code)
	require.True(t, strings.HasPrefix(onOut.out, "%PDF-"))
	page := command(t, "", "invoice", "render", "--format", "html", "-o", "odd.pdf", "good.xml")
	require.Equal(t, answer{}, page, "the format that is given wins over the ending")
	text, err := os.ReadFile("odd.pdf")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), "<!DOCTYPE html>"))
}
