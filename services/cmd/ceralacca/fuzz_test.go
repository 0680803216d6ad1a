package main

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/fatturapa/fatturapatest"
)

// FuzzCheckZIP: whatever an archive holds, the check ends with one of its three codes, and with an outcome for
// the archive or for its members.
func FuzzCheckZIP(f *testing.F) {
	seed := func(members ...member) {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		for _, m := range members {
			part, err := w.Create(m.name)
			require.NoError(f, err)
			_, err = part.Write(m.content)
			require.NoError(f, err)
		}
		require.NoError(f, w.Close())
		f.Add(b.Bytes())
	}
	good := fatturapatest.Invoice(fatturapatest.Options{})
	seed()
	seed(member{"IT01234567890_00001.xml", good})
	seed(member{"a/", nil}, member{"a/1.xml", []byte("<a/>")}, member{"2.xml.p7m", []byte("MIIG")}, member{"3.txt", nil}, member{"4.zip", []byte("PK\x03\x04")})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !isZIP(raw[:min(len(raw), 4)]) || len(raw) > 1<<20 {
			return
		}
		name := filepath.Join(t.TempDir(), "x.zip")
		require.NoError(t, os.WriteFile(name, raw, 0o600))
		var out, errOut bytes.Buffer
		c := &cli{out: &out, errOut: &errOut, format: formatJSON}
		code := exitOK
		if err := c.checkAll(t.Context(), &checker{lang: "en", names: true, at: time.Unix(1_800_000_000, 0)}, []string{name}); err != nil {
			code = c.fail(err)
		}
		require.Contains(t, []int{exitOK, exitRefused, exitUsage}, code)
		all := outcomes(t, out.String())
		require.Equal(t, code == exitRefused, anyInvalid(all) && !anyUnjudged(all), out.String())
		for _, r := range all {
			require.True(t, strings.HasPrefix(r.File, name))
		}
		if len(all) == 0 { // an archive of folders only
			require.Equal(t, exitUsage, code)
			require.NotEmpty(t, errOut.String())
		}
	})
}

func anyInvalid(all []checked) bool {
	for _, r := range all {
		if r.Skipped == "" && r.Valid != nil && !*r.Valid {
			return true
		}
	}
	return false
}

func anyUnjudged(all []checked) bool {
	for _, r := range all {
		if r.Skipped == "" && r.Valid == nil {
			return true
		}
	}
	return false
}

// FuzzNew: whatever a request holds, the command ends with one of its three codes, and with a document exactly
// when it composed one.
func FuzzNew(f *testing.F) {
	for _, name := range []string{"minimal", "public_split_payment", "simplified", "td17_services_abroad"} {
		raw, err := os.ReadFile(requests + name + ".json")
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var out, errOut bytes.Buffer
		c := &cli{in: bytes.NewReader(raw), out: &out, errOut: &errOut, now: func() time.Time { return time.Unix(1_800_000_000, 0) }}
		code := c.run(t.Context(), []string{"invoice", "new", "-"})
		require.Contains(t, []int{exitOK, exitRefused, exitUsage}, code)
		if code == exitOK {
			require.Contains(t, out.String(), "</p:FatturaElettronica")
		}
		if code == exitUsage {
			require.Empty(t, out.String())
			require.NotEmpty(t, errOut.String())
		}
		require.NotContains(t, errOut.String(), "\x1b")
	})
}
