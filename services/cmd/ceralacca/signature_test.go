package main

import (
	"bytes"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/xades"
)

// TestCheckTellsSignaturesApart: what is true of a signature is told beside what is true of the invoice, and
// decides the outcome only where that is asked for.
func TestCheckTellsSignaturesApart(t *testing.T) {
	t.Chdir(t.TempDir())
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	good := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-03-01"})
	p7m, err := cms.Sign(t.Context(), good, pair.Key, cms.Options{Certificate: pair.Cert, SigningTime: cmstest.Now})
	require.NoError(t, err)
	signed, err := xades.Sign(t.Context(), good, xades.Signer{Chain: pair.Chain, Key: pair.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	write := func(name string, raw []byte) { require.NoError(t, os.WriteFile(name, raw, 0o600)) }
	write("plain.xml", good)
	write("good.xml.p7m", p7m)
	write("altered.xml.p7m", bytes.Replace(p7m, []byte("Cooperativa"), []byte("cooperativa"), 1))
	write("signed.xml", signed)
	write("altered.xml", bytes.Replace(signed, []byte("Cooperativa"), []byte("cooperativa"), 1))
	write("roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pki.Root.Raw}))
	write("others.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cmstest.New(t).Root.Raw}))

	for name, c := range map[string]struct {
		words, form, codes string
		code               int
	}{
		"no signature":                {"plain.xml --signatures", "", "", exitOK},
		"p7m":                         {"good.xml.p7m", "CAdES", "", exitOK},
		"p7m, trusted":                {"good.xml.p7m --signatures --roots roots.pem", "CAdES", "", exitOK},
		"p7m, unknown authority":      {"good.xml.p7m --roots others.pem", "CAdES", "00104", exitOK},
		"p7m, unknown, that counts":   {"good.xml.p7m --signatures --roots others.pem", "CAdES", "00104", exitRefused},
		"altered p7m":                 {"altered.xml.p7m", "CAdES", "00102", exitOK},
		"altered p7m, that counts":    {"altered.xml.p7m --signatures", "CAdES", "00102", exitRefused},
		"XAdES":                       {"signed.xml --signatures --roots roots.pem", "XAdES", "", exitOK},
		"altered XAdES":               {"altered.xml", "XAdES", "00102", exitOK},
		"altered XAdES, that counts":  {"altered.xml --signatures", "XAdES", "00102", exitRefused},
		"expired since":               {"good.xml.p7m --at 2037-01-01", "CAdES", "00100", exitOK},
		"signed after that, counting": {"good.xml.p7m --signatures --at 2026-03-01", "CAdES", "00105", exitRefused},
	} {
		t.Run(name, func(t *testing.T) {
			words := append([]string{"invoice", "check", "--at", "2026-06-01"}, strings.Fields(c.words)...)
			got := command(t, "", append(words, "--format", "json")...)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			r := outcomes(t, got.out)[0]
			require.Equal(t, c.code == exitOK, *r.Valid)
			require.Equal(t, c.form != "", len(r.Signatures) == 1)
			var codes []string
			for _, f := range r.SignatureFindings {
				codes = append(codes, f.Code)
			}
			require.Equal(t, c.codes, strings.Join(codes, " "))
			require.Equal(t, c.code == exitRefused, len(r.Findings) > 0)
			text := command(t, "", words...)
			require.Equal(t, c.code, text.code)
			if c.form != "" {
				require.Equal(t, c.form, r.Signatures[0].Form)
				require.Contains(t, r.Signatures[0].Signer, "Maria Rossi")
				state := " holds: "
				if !r.Signatures[0].Holds {
					state = " DOES NOT HOLD: "
				}
				require.Contains(t, text.out, "  signature "+c.form+state)
			}
			if c.codes != "" {
				require.Equal(t, 1, strings.Count(text.out, "error "+c.codes), "once, whether it counts or not")
			}
		})
	}
	italian := command(t, "", "invoice", "check", "--at", "2026-06-01", "--lang", "it", "altered.xml.p7m")
	require.Contains(t, italian.out, "altered.xml.p7m: valido\n  firma CAdES NON VALIDA: ")
	require.Contains(t, italian.out, "  errore 00102\n")
	require.Contains(t, italian.out, "    trovato: impronta del contenuto\n")

	write("longer.xml.p7m", append(bytes.Clone(p7m), "tail"...))
	longer := command(t, "", "invoice", "check", "--at", "2026-06-01", "longer.xml.p7m")
	require.Equal(t, exitOK, longer.code)
	require.Contains(t, longer.out, "  note on the signature: 4 bytes after the end of the structure are not signed\n")

	seen := command(t, "", "inspect", "signed.xml")
	require.Equal(t, exitOK, seen.code, seen.errOut)
	require.Contains(t, seen.out, "signature 1 holds\n")
	seen = command(t, "", "inspect", "altered.xml")
	require.Equal(t, exitRefused, seen.code)
	require.Contains(t, seen.out, "signature 1 DOES NOT HOLD\n")
}

// TestCheckDigitsAreWorthWhatIsAsked: a wrong check digit is a warning, an error, or nothing.
func TestCheckDigitsAreWorthWhatIsAsked(t *testing.T) {
	t.Chdir(t.TempDir())
	raw := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-03-01", Cessionario: fatturapatest.Party{Paese: "IT", Codice: "01234567890", Denominazione: "x"}})
	require.NoError(t, os.WriteFile("x.xml", raw, 0o600))
	for words, want := range map[string]string{"": "warning", "--check-digits warning": "warning", "--check-digits error": "error", "--check-digits off": ""} {
		got := command(t, "", append([]string{"invoice", "check", "--at", "2026-06-01", "--format", "json", "x.xml"}, strings.Fields(words)...)...)
		r := outcomes(t, got.out)[0]
		require.Equal(t, want == "error", got.code == exitRefused, words)
		if want == "" {
			require.Empty(t, r.Findings)
			continue
		}
		require.Equal(t, "00305", r.Findings[0].Code)
		require.Equal(t, want, r.Findings[0].Severity)
		require.True(t, r.Findings[0].NeedsAuthorityData)
	}
	got := command(t, "", "invoice", "check", "--check-digits", "yes", "x.xml")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.errOut, "--check-digits is off, warning or error")
}

// TestCheckSpeaksOneLanguage: no word of the other language is in what a finding says.
func TestCheckSpeaksOneLanguage(t *testing.T) {
	t.Chdir(t.TempDir())
	raw := fatturapatest.Invoice(fatturapatest.Options{Data: "2026-03-01"})
	raw = bytes.Replace(raw, []byte(">0000000<"), []byte(">ABC123<"), 1)
	raw = bytes.Replace(raw, []byte("<CAP>35122<"), []byte("<CAP>35<"), 1)
	require.NoError(t, os.WriteFile("bad.xml", raw, 0o600))
	require.NoError(t, os.WriteFile("cut.xml", raw[:len(raw)-30], 0o600))
	require.NoError(t, os.Mkdir("folder", 0o700))
	require.NoError(t, os.WriteFile("folder/notes.txt", raw, 0o600))
	files := []string{"--names", "--at", "2026-06-01", "bad.xml", "cut.xml", "folder"}
	english := command(t, "", append([]string{"invoice", "check"}, files...)...).out
	italian := command(t, "", append([]string{"invoice", "check", "--lang", "it"}, files...)...).out
	for _, pair := range [][2]string{
		{"atteso: 7 caratteri", "expected: 7 characters"}, {"atteso: 5 cifre", "expected: 5 digits"}, {"<paese><id>", "<country><id>"},
		{"il documento finisce dentro", "the document ends inside"}, {"il file è tagliato", "the file was cut"}, {"né .xml né .p7m", "neither .xml nor .p7m"},
	} {
		require.Contains(t, italian, pair[0])
		require.NotContains(t, italian, pair[1])
		require.Contains(t, english, pair[1])
		require.NotContains(t, english, pair[0])
	}
}
