package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

// fixtures are documents of one run of the demo: made by this platform, certified by a sandbox.
const fixtures = "testdata/inspect"

// day is when the tests look at the fixtures.
var day = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

// answer is what a command left behind.
type answer struct {
	out, errOut string
	code        int
}

// command runs the tool in this process, as main does.
func command(t *testing.T, in string, args ...string) answer {
	t.Helper()
	var out, errOut bytes.Buffer
	c := &cli{in: strings.NewReader(in), out: &out, errOut: &errOut, now: func() time.Time { return day }}
	code := c.run(context.Background(), args)
	return answer{out.String(), errOut.String(), code}
}

// TestInspect compares what is said of each kind of file, good and bad, with golden files.
func TestInspect(t *testing.T) {
	changed := t.TempDir()
	file := func(name string) string { return filepath.Join(fixtures, name) }
	message := func(name string) string { return filepath.Join("../../format/sdi/testdata/messages", name) }
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"invoice":           {[]string{file("invoice.xml")}, exitOK},
		"invoice-bad":       {[]string{edited(t, changed, "bad.xml", "ABC1234", "AB")}, exitRefused},
		"invoice-lot":       {[]string{"../../format/fatturapa/testdata/lotto.xml"}, exitOK},
		"signed":            {[]string{file("invoice.xml.p7m")}, exitOK},
		"signed-trusted":    {[]string{file("invoice.xml.p7m"), "--roots", file("roots.pem")}, exitOK},
		"signed-tampered":   {[]string{edited(t, changed, "tampered.xml.p7m", "124.32", "924.32")}, exitRefused},
		"signed-cut-off":    {[]string{cut(t, changed)}, exitRefused},
		"stamp":             {[]string{file("PIndex.xml.p7m.tsr")}, exitOK},
		"stamp-data":        {[]string{file("PIndex.xml.p7m.tsr"), "--data", file("PIndex.xml.p7m"), "--roots", file("roots.pem")}, exitOK},
		"stamp-other-data":  {[]string{file("PIndex.xml.p7m.tsr"), "--data", file("invoice.xml")}, exitRefused},
		"index":             {[]string{file("PIndex.xml")}, exitOK},
		"signed-index":      {[]string{file("PIndex.xml.p7m")}, exitOK},
		"package":           {[]string{file("package.zip"), "--roots", file("roots.pem")}, exitOK},
		"package-changed":   {[]string{rezipped(t, changed, "changed.zip", "r01_RC.xml", "RC", "XX")}, exitRefused},
		"package-less":      {[]string{rezipped(t, changed, "less.zip", "metadati.xml", "", "")}, exitRefused},
		"message-rc":        {[]string{file("IT02345678904_00000_RC_001.xml")}, exitOK},
		"message-ns":        {[]string{message("pr_ns.xml")}, exitOK},
		"message-ne":        {[]string{message("pa_ne.xml")}, exitOK},
		"neither":           {[]string{file("neither.txt")}, exitRefused},
		"signed-as-json":    {[]string{file("invoice.xml.p7m"), "--format", "json"}, exitOK},
		"tampered-as-json":  {[]string{edited(t, changed, "tampered.p7m", "124.32", "924.32"), "--format", "json"}, exitRefused},
		"stamp-other-roots": {[]string{file("PIndex.xml.p7m.tsr"), "--data", file("PIndex.xml.p7m"), "--roots", file("foreign.pem")}, exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, "", append([]string{"inspect"}, c.args...)...)
			require.Equal(t, c.code, got.code, "%s%s", got.out, got.errOut)
			golden(t, name, got.out+"--- standard error\n"+got.errOut)
		})
	}
	require.Equal(t, command(t, "", "inspect", file("invoice.xml")).code, exitOK)
	raw, err := os.ReadFile(file("invoice.xml"))
	require.NoError(t, err)
	require.Contains(t, command(t, string(raw), "inspect", "-").out, "invoice FPR12", "standard input")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".txt")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run with -update to write it")
	require.Equal(t, string(want), got)
}

// edited writes a fixture with one piece of text changed to another of its length or not.
func edited(t *testing.T, dir, name, from, to string) string {
	t.Helper()
	source := "invoice.xml"
	if strings.HasSuffix(name, ".p7m") {
		source += ".p7m"
	}
	raw, err := os.ReadFile(filepath.Join(fixtures, source))
	require.NoError(t, err)
	require.Contains(t, string(raw), from)
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(raw, []byte(from), []byte(to)), 0o600))
	return path
}

func cut(t *testing.T, dir string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(fixtures, "invoice.xml.p7m"))
	require.NoError(t, err)
	path := filepath.Join(dir, "cut.xml.p7m")
	require.NoError(t, os.WriteFile(path, raw[:1000], 0o600))
	return path
}

// rezipped writes the package with one file changed, or left out when from is empty.
func rezipped(t *testing.T, dir, name, file, from, to string) string {
	t.Helper()
	source, err := zip.OpenReader(filepath.Join(fixtures, "package.zip"))
	require.NoError(t, err)
	defer source.Close()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, entry := range source.File {
		f, err := entry.Open()
		require.NoError(t, err)
		var content bytes.Buffer
		_, err = content.ReadFrom(f)
		require.NoError(t, err)
		raw := content.Bytes()
		if strings.HasSuffix(entry.Name, file) {
			if from == "" {
				continue
			}
			raw = bytes.Replace(raw, []byte(from), []byte(to), 1)
		}
		// Stored: what a compressor writes may change with the Go release, and golden files hold the size.
		into, err := w.CreateHeader(&zip.FileHeader{Name: entry.Name, Method: zip.Store})
		require.NoError(t, err)
		_, err = into.Write(raw)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

// TestInspectJSONIsWhole: both formats say the same of a tampered file, and JSON decodes into the same description.
func TestInspectJSONIsWhole(t *testing.T) {
	got := command(t, "", "inspect", "--format", "json", edited(t, t.TempDir(), "tampered.p7m", "124.32", "924.32"))
	require.Equal(t, exitRefused, got.code)
	var d description
	require.NoError(t, json.Unmarshal([]byte(got.out), &d))
	require.Len(t, d.Signatures, 1)
	require.False(t, d.Signatures[0].Holds)
	require.Contains(t, d.Signatures[0].Checks["digest"], "failed")
	require.Equal(t, "924.32 EUR", d.Invoice.Bodies[0].Total)
}
