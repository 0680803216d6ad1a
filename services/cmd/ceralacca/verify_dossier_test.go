package main

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/xades"
)

// bundleOf is the bundle of a request in which two persons signed an XML and a p7m that a third had signed before.
func bundleOf(t *testing.T, pki *cmstest.PKI) []byte {
	t.Helper()
	opts := cades.Options{SigningTime: cmstest.Now}
	var people []cades.Signer
	for _, name := range []string{"Maria Rossi", "Ugo Bianchi", "Notary elsewhere", "Alfa Srl"} {
		pair := pki.Issue(t, name, cmstest.NewECDSA(t))
		people = append(people, cades.Signer{Chain: pair.Chain, Key: pair.Key})
	}
	lease, err := xades.Sign(t.Context(), []byte("<lease><rent>1000.00</rent></lease>"), xades.Signer(people[0]), xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	both, err := xades.Sign(t.Context(), lease, xades.Signer(people[1]), xades.Options{SigningTime: cmstest.Now})
	require.NoError(t, err)
	p7m := make([][]byte, 3)
	p7m[0], err = cades.Sign(t.Context(), []byte("contract"), people[2], opts)
	require.NoError(t, err)
	for i, who := range people[:2] {
		p7m[i+1], err = cades.AddSigner(t.Context(), p7m[i], who, opts)
		require.NoError(t, err)
	}
	sum := func(b []byte) string { s := sha256.Sum256(b); return hex.EncodeToString(s[:]) }
	const request = "tenants/acme/signatureRequests/r"
	original, when, content := []byte("<lease><rent>1000.00</rent></lease>"), cmstest.Now.Format(time.RFC3339Nano), map[string][]byte{}
	trail := dossier.Trail{Version: dossier.Version, Request: dossier.Request{Name: request, Title: "Lease", Requester: "key:k", State: "COMPLETED", Created: when, Deadline: when, Closed: when}}
	for i, d := range []struct {
		name, form    string
		first, signed []byte
	}{{"lease.xml", "XADES_ENVELOPED", original, both}, {"contract.p7m", "CADES_PARALLEL", p7m[0], p7m[2]}} {
		content[sum(d.first)], content[sum(d.signed)] = d.first, d.signed
		trail.Documents = append(trail.Documents, dossier.Document{Position: i + 1, Name: d.name, Form: d.form,
			Original: dossier.File{Path: dossier.Path("originals", i+1, d.name, ""), SHA256: sum(d.first), Size: int64(len(d.first))},
			Signed:   &dossier.File{Path: dossier.Path("signed", i+1, d.name, ""), SHA256: sum(d.signed), Size: int64(len(d.signed))}})
	}
	events := []dossier.Event{{Action: "CREATED", State: "OPEN", Detail: map[string]string{"title_sha256": sum([]byte("Lease"))},
		Documents: []dossier.Digest{{Position: 1, Seen: sum(original)}, {Position: 2, Seen: sum(p7m[0])}}}}
	xmls := [][]byte{original, lease, both}
	for i := range 2 {
		who := request + "/participants/" + []string{"a", "b"}[i]
		trail.Participants = append(trail.Participants, dossier.Participant{Name: who, Role: "SIGNER", Step: i + 1, Standing: "DONE"})
		events = append(events, dossier.Event{Action: "VIEWED", State: "OPEN", Participant: who},
			dossier.Event{Action: "SIGNED", State: []string{"OPEN", "COMPLETED"}[i], Participant: who, Detail: map[string]string{"certificate_sha256": sum(people[i].Chain[0].Raw)},
				Documents: []dossier.Digest{{Position: 1, Seen: sum(xmls[i]), Signed: sum(xmls[i+1])}, {Position: 2, Seen: sum(p7m[i]), Signed: sum(p7m[i+1])}}})
	}
	previous := dossier.Beginning
	for i, e := range events {
		e.Request, e.Sequence, e.Time, e.Actor = request, int64(i+1), when, "key:k"
		body, hash, err := e.Encode(previous)
		require.NoError(t, err)
		trail.Events = append(trail.Events, dossier.Line{Body: body, SHA256: hex.EncodeToString(hash)})
		previous = hash
	}
	trail.Head = hex.EncodeToString(previous)
	raw, err := dossier.Canonical(trail)
	require.NoError(t, err)
	digest := sha256.Sum256(raw)
	seal, err := cades.SignDetached(t.Context(), digest[:], people[3], opts)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, dossier.Write(&out, dossier.Dossier{Trail: raw, Documents: trail.Documents, Seal: seal, Time: cmstest.Now, Certificates: []*x509.Certificate{pki.Root},
		Open: func(f dossier.File) ([]byte, error) { return content[f.SHA256], nil }}))
	return out.Bytes()
}

// zippedWith changes members of a ZIP.
func zippedWith(t *testing.T, raw []byte, change func(name string, content []byte) []byte) []byte {
	t.Helper()
	in, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, f := range in.File {
		r, err := f.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		w, err := z.Create(f.Name)
		require.NoError(t, err)
		_, err = w.Write(change(f.Name, content))
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

// TestVerifyDossier: the exit codes and both outputs of verify, for the bundle of a signature request, whole and changed.
func TestVerifyDossier(t *testing.T) {
	t.Chdir(t.TempDir())
	pki := cmstest.New(t)
	whole := bundleOf(t, pki)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: day.Add(-time.Hour), NextUpdate: day.Add(time.Hour)}, pki.Root, pki.Key)
	require.NoError(t, err)
	forged := func(name string, content []byte) []byte {
		if strings.HasPrefix(name, "signed/01") {
			return bytes.Replace(content, []byte("1000.00"), []byte("9000.00"), 1)
		}
		return content
	}
	for name, raw := range map[string][]byte{
		"whole.zip": whole, "changed.zip": zippedWith(t, whole, forged), "cut.zip": whole[:len(whole)/2], "crl.der": crl,
		"line.zip": zippedWith(t, whole, func(name string, content []byte) []byte {
			if name == dossier.TrailName {
				return bytes.Replace(content, []byte("VIEWED"), []byte("vIEWED"), 1)
			}
			return content
		}),
		"roots.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pki.Root.Raw}),
	} {
		require.NoError(t, os.WriteFile(name, raw, 0o600))
	}
	const trusted = " --roots roots.pem --crl crl.der"
	for name, c := range map[string]struct {
		words string
		code  int
		want  string
	}{
		"passed":             {"whole.zip" + trusted, exitOK, "whole.zip: total-passed\n"},
		"Italian":            {"whole.zip --lang it" + trusted, exitOK, "signed/02-contract.p7m: "},
		"nobody is trusted":  {"whole.zip", exitIndeterminate, "NO_CERTIFICATE_CHAIN_FOUND"},
		"nothing on revoked": {"whole.zip --roots roots.pem", exitIndeterminate, "TRY_LATER"},
		"a document changed": {"changed.zip" + trusted, exitRefused, "total-failed"},
		"a line changed":     {"line.zip" + trusted, exitRefused, "total-failed"},
		"cut off":            {"cut.zip" + trusted, exitUsage, "cut.zip"},
		"not there":          {"nothing.zip" + trusted, exitUsage, "nothing.zip"},
		"no report of it":    {"whole.zip --report r.pdf" + trusted, exitUsage, "of a bundle there is none"},
		"not online":         {"whole.zip --online", exitUsage, ""},
		"the worst counts":   {"whole.zip changed.zip" + trusted, exitRefused, "whole.zip: total-passed\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got := command(t, "", append([]string{"verify"}, strings.Fields(c.words)...)...)
			require.Equal(t, c.code, got.code, got.out+got.errOut)
			require.Contains(t, got.out+got.errOut, c.want)
			require.Equal(t, c.code, command(t, "", append([]string{"verify", "--format", "json"}, strings.Fields(c.words)...)...).code)
		})
	}
	got := command(t, "", "verify", "--format", "json", "whole.zip", "--roots", "roots.pem", "--crl", "crl.der")
	var told struct {
		File, Kind, Verdict string
		Dossier             struct {
			Verdict   string
			Documents []struct {
				Path, Verdict string
				Signatures    []struct {
					Integrity bool
					Signer    struct{ Name string }
				}
			}
			Events []struct{ Action string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.out), &told), got.out)
	require.Equal(t, "whole.zip dossier total-passed", told.File+" "+told.Kind+" "+told.Verdict)
	var lines []string
	for _, d := range told.Dossier.Documents {
		for _, s := range d.Signatures {
			lines = append(lines, d.Path+" "+d.Verdict+" "+s.Signer.Name)
			require.True(t, s.Integrity)
		}
	}
	require.ElementsMatch(t, []string{
		"signed/01-lease.xml total-passed Maria Rossi", "signed/01-lease.xml total-passed Ugo Bianchi", "signed/02-contract.p7m total-passed Notary elsewhere",
		"signed/02-contract.p7m total-passed Maria Rossi", "signed/02-contract.p7m total-passed Ugo Bianchi",
	}, lines)
	require.Len(t, told.Dossier.Events, 5)
}

// TestVerifyGolden keeps both outputs of verify as they are, for a file that does not change.
func TestVerifyGolden(t *testing.T) {
	for name, words := range map[string][]string{
		"verify-json": {"--format", "json"}, "verify-text": nil, "verify-italian": {"--lang", "it"}, "verify-trusted-json": {"--format", "json", "--roots", fixtures + "/roots.pem"},
	} {
		got := command(t, "", append([]string{"verify", fixtures + "/invoice.xml.p7m"}, words...)...)
		require.Equal(t, exitIndeterminate, got.code, got.errOut)
		golden(t, name, got.out+"--- standard error\n"+got.errOut)
	}
}
