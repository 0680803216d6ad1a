package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/xades"
)

// TestVerify: verdicts, exit codes, both formats and both languages, on files made here.
func TestVerify(t *testing.T) {
	t.Chdir(t.TempDir())
	pki := cmstest.New(t)
	pair := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	who := cades.Signer{Chain: pair.Chain, Key: pair.Key}
	o := cades.Options{SigningTime: cmstest.Now}
	content := []byte("<doc>Pay 100 euro</doc>")
	p7m, err := cades.Sign(t.Context(), content, who, o)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	p7s, err := cades.SignDetached(t.Context(), sum[:], who, o)
	require.NoError(t, err)
	xml, err := xades.Sign(t.Context(), content, xades.Signer{Chain: pair.Chain, Key: pair.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	list := func(revoked ...x509.RevocationListEntry) []byte {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: day.Add(-time.Hour), NextUpdate: day.Add(240 * time.Hour),
			RevokedCertificateEntries: revoked}, pki.Root, pki.Key)
		require.NoError(t, err)
		return der
	}
	revoked := list(x509.RevocationListEntry{SerialNumber: pair.Cert.SerialNumber, RevocationTime: day.Add(-48 * time.Hour)})
	for name, raw := range map[string][]byte{
		"good.xml.p7m": p7m, "good.xml": xml, "good.p7s": p7s, "content": content, "plain.txt": []byte("ciao"),
		"bad.xml.p7m": bytes.Replace(p7m, []byte("100"), []byte("900"), 1), "cut.p7m": p7m[:500],
		"roots.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pki.Root.Raw}),
		"crl.der":   list(), "crl.pem": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list()}), "revoked.der": revoked,
	} {
		require.NoError(t, os.WriteFile(name, raw, 0o600))
	}
	const trusted = " --roots roots.pem --crl crl.der"
	for name, c := range map[string]struct {
		words string
		code  int
		want  string // in the text
	}{
		"passed":                {"good.xml.p7m" + trusted, exitOK, "good.xml.p7m: total-passed\n"},
		"list in PEM":           {"good.xml.p7m --roots roots.pem --crl crl.pem", exitOK, ": total-passed\n"},
		"XAdES":                 {"good.xml" + trusted, exitOK, "level: XAdES-BES\n"},
		"two":                   {"good.xml good.xml.p7m" + trusted, exitOK, "good.xml.p7m: total-passed\n"},
		"detached":              {"good.p7s --content content" + trusted, exitOK, "good.p7s: total-passed\n"},
		"detached alone":        {"good.p7s" + trusted, exitIndeterminate, "SIGNED_DATA_NOT_FOUND"},
		"no anchors":            {"good.xml.p7m", exitIndeterminate, "NO_CERTIFICATE_CHAIN_FOUND"},
		"no revocation data":    {"good.xml.p7m --roots roots.pem", exitIndeterminate, "TRY_LATER"},
		"revoked":               {"good.xml.p7m --roots roots.pem --crl revoked.der", exitIndeterminate, "REVOKED_NO_POE"},
		"expired":               {"good.xml.p7m --at 2045-01-01" + trusted, exitIndeterminate, "OUT_OF_BOUNDS_NO_POE"},
		"altered":               {"bad.xml.p7m" + trusted, exitRefused, "HASH_FAILURE"},
		"cut off":               {"cut.p7m", exitRefused, "FORMAT_FAILURE"},
		"not signed":            {"plain.txt", exitUsage, "plain.txt: the file holds no signature and no time-stamp"},
		"not there":             {"nothing.p7m", exitUsage, "nothing.p7m"},
		"altered, no report":    {"bad.xml.p7m --report nowhere/report.pdf" + trusted, exitRefused, "--report"},
		"altered, extracted":    {"bad.xml.p7m --extract ." + trusted, exitRefused, "nothing was written"},
		"passed, no report":     {"good.xml.p7m --report nowhere/report.pdf" + trusted, exitUsage, "--report"},
		"failed counts most":    {"plain.txt bad.xml.p7m good.xml", exitRefused, "bad.xml.p7m: total-failed\n"},
		"not judged counts too": {"plain.txt good.xml", exitUsage, "good.xml: indeterminate\n"},
		"in Italian":            {"bad.xml.p7m --lang it", exitRefused, "HASH_FAILURE: Il contenuto non è quello che è stato firmato\n"},
		"Italian, not signed":   {"plain.txt --lang it", exitUsage, "né firme né marche"},
		"language":              {"good.xml --lang fr", exitUsage, "--lang is it or en"},
		"content of two":        {"good.xml good.p7s --content content", exitUsage, "--content is for one FILE"},
		"report":                {"good.xml.p7m --report report.pdf" + trusted, exitOK, ": total-passed\n"},
		"report of two":         {"good.xml good.p7s --report a.html", exitUsage, "--report is for one FILE"},
		"report as what":        {"good.xml --report a.doc", exitUsage, ".html, .pdf or .json"},
		"online, own roots":     {"good.xml --online --roots roots.pem", exitUsage, "leave --roots"},
		"online, no server":     {"good.xml --online", exitUsage, "no server"},
		"list that is none":     {"good.xml --crl content", exitUsage, "--crl: content"},
		"signer, no list":       {"good.xml --list-signer roots.pem", exitUsage, "without --trust-list"},
		"trusted list unsigned": {"good.xml --list-signer roots.pem --trust-list content", exitUsage, "not a trusted list"},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, "", append([]string{"verify"}, strings.Fields(c.words)...)...)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out+got.errOut, c.want)
			require.Equal(t, c.code, command(t, "", append([]string{"verify", "--format", "json"}, strings.Fields(c.words)...)...).code)
		})
	}
	pdf, err := os.ReadFile("report.pdf")
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(pdf, []byte("%PDF-")))
	got := command(t, "", "verify", "--format", "json", "good.xml.p7m", "bad.xml.p7m", "plain.txt", "--roots", "roots.pem", "--crl", "crl.der")
	decoder := json.NewDecoder(strings.NewReader(got.out))
	var verdicts []string
	for {
		var j struct {
			File, Verdict, Error string
			Sub                  string `json:"sub_indication"`
			Content              struct{ Size int }
			Signatures           []struct {
				Integrity bool
				Signer    struct{ Name string }
			}
		}
		err := decoder.Decode(&j)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		verdicts = append(verdicts, j.File+" "+j.Verdict+j.Sub+j.Error)
		if j.Error == "" {
			require.Equal(t, len(content), j.Content.Size)
			require.Equal(t, "Maria Rossi", j.Signatures[0].Signer.Name)
			require.Equal(t, j.Verdict == "total-passed", j.Signatures[0].Integrity)
		}
	}
	require.Equal(t, []string{"good.xml.p7m total-passed", "bad.xml.p7m total-failedHASH_FAILURE", "plain.txt the file holds no signature and no time-stamp"}, verdicts)
}

// broken is a source that cannot be read to its end.
type broken struct{ *bytes.Reader }

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off >= 4 {
		return 0, errors.New("the disk is gone")
	}
	return b.Reader.ReadAt(p[:min(len(p), 4)], off)
}

// TestVerifyExtractsAllOrNothing: of what cannot be read to its end no file is left.
func TestVerifyExtractsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	_, err := save(dir, "a.p7m", broken{bytes.NewReader([]byte("Pay 100 euro"))})
	require.ErrorContains(t, err, "the disk is gone")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestVerifyExtracts: what was signed is written out unless the signature does not hold, and over
// nothing.
func TestVerifyExtracts(t *testing.T) {
	raw, err := os.ReadFile(fixtures + "/invoice.xml.p7m")
	require.NoError(t, err)
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("invoice.xml.p7m", raw, 0o600))
	require.NoError(t, os.Mkdir("into", 0o700))
	got := command(t, "", "verify", "invoice.xml.p7m", "--extract", "into")
	require.Equal(t, exitIndeterminate, got.code, got.errOut)
	require.Contains(t, got.out, "saved: into/invoice.xml\n")
	written, err := os.ReadFile("into/invoice.xml")
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(written, []byte("<?xml")))
	got = command(t, "", "verify", "invoice.xml.p7m", "--extract", "into")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.errOut, "is there already")
	again, err := os.ReadFile("into/invoice.xml")
	require.NoError(t, err)
	require.Equal(t, written, again)
	got = command(t, string(raw), "verify", "-", "--extract", "into")
	require.Contains(t, got.out, "saved: into/-.content\n")
}

// TestVerifyByTrustedList: a national list by itself, with who signs it, is enough to trust by.
func TestVerifyByTrustedList(t *testing.T) {
	t.Chdir(t.TempDir())
	pki := cmstest.New(t)
	pair, agency := pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t)), pki.Issue(t, "Agency", cmstest.NewECDSA(t))
	p7m, err := cades.Sign(t.Context(), []byte("text"), cades.Signer{Chain: pair.Chain, Key: pair.Key}, cades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	const base = "http://uri.etsi.org/TrstSvc/"
	text := `<TrustServiceStatusList xmlns="http://uri.etsi.org/02231/v2#"><SchemeInformation><TSLSequenceNumber>7</TSLSequenceNumber><TSLType>` + base + `TrustedList/TSLType/EUgeneric</TSLType><SchemeTerritory>IT</SchemeTerritory><ListIssueDateTime>2026-01-01T00:00:00Z</ListIssueDateTime><NextUpdate><dateTime>2027-01-01T00:00:00Z</dateTime></NextUpdate></SchemeInformation><TrustServiceProviderList><TrustServiceProvider><TSPServices><TSPService><ServiceInformation><ServiceTypeIdentifier>` + base + `Svctype/CA/QC</ServiceTypeIdentifier><ServiceName><Name>CA</Name></ServiceName><ServiceDigitalIdentity><DigitalId><X509Certificate>` +
		base64.StdEncoding.EncodeToString(pki.Root.Raw) + `</X509Certificate></DigitalId></ServiceDigitalIdentity><ServiceStatus>` + base + `TrustedList/Svcstatus/granted</ServiceStatus><StatusStartingTime>2020-01-01T00:00:00Z</StatusStartingTime></ServiceInformation></TSPService></TSPServices></TrustServiceProvider></TrustServiceProviderList></TrustServiceStatusList>`
	list, err := xades.Sign(t.Context(), []byte(text), xades.Signer{Chain: agency.Chain[:1], Key: agency.Key}, xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: day.Add(-time.Hour), NextUpdate: day.Add(time.Hour)}, pki.Root, pki.Key)
	require.NoError(t, err)
	for name, raw := range map[string][]byte{"x.p7m": p7m, "IT.xml": list, "changed.xml": bytes.Replace(list, []byte("2020-01-01"), []byte("2019-01-01"), 1), "crl.der": crl,
		"agency.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: agency.Cert.Raw}), "other.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Cert.Raw})} {
		require.NoError(t, os.WriteFile(name, raw, 0o600))
	}
	for words, c := range map[string]struct {
		code int
		want string
	}{
		"--trust-list IT.xml --list-signer agency.pem":                 {exitOK, "qualification: not qualified (the certificate does not state that it is qualified)"},
		"--trust-list IT.xml --list-signer other.pem":                  {exitUsage, "nobody that is trusted signs this list"},
		"--trust-list IT.xml":                                          {exitUsage, "nobody that is trusted signs this list"},
		"--trust-list changed.xml --list-signer agency.pem":            {exitUsage, "does not hold"},
		"--trust-list IT.xml --list-signer agency.pem --at 2027-02-01": {exitUsage, "get the new one"},
	} {
		got := command(t, "", append([]string{"verify", "x.p7m", "--crl", "crl.der"}, strings.Fields(words)...)...)
		require.Equal(t, c.code, got.code, words+got.out+got.errOut)
		require.Contains(t, got.out+got.errOut, c.want, words)
	}
}
