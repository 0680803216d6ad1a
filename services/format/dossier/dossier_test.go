package dossier_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/validation"
)

const name = "tenants/acme/signatureRequests/r"

// world is an authority with two signers, a seal and a time-stamp authority.
type world struct {
	t        testing.TB
	pki      *cmstest.PKI
	signers  []cmstest.Pair
	seal     cmstest.Pair
	tsa      cmstest.Pair
	contract []byte
}

func newWorld(t testing.TB) *world {
	pki := cmstest.New(t)
	w := &world{t: t, pki: pki, contract: []byte("the contract")}
	for _, cn := range []string{"Maria Rossi", "Ugo Bianchi"} {
		w.signers = append(w.signers, pki.Issue(t, cn, cmstest.NewECDSA(t)))
	}
	w.seal = pki.Issue(t, "Alfa Srl", cmstest.NewECDSA(t))
	w.tsa = pki.Issue(t, "Marca", cmstest.NewECDSA(t), cmstest.TimeStamping)
	return w
}

func (w *world) options() validation.Options {
	at := cmstest.Now.Add(2 * time.Hour)
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: at.Add(-time.Hour), NextUpdate: at.AddDate(0, 0, 7)}, w.pki.Root, w.pki.Key)
	require.NoError(w.t, err)
	crl, err := validation.ParseCRL(der)
	require.NoError(w.t, err)
	return validation.Options{At: at, Roots: []*x509.Certificate{w.pki.Root}, CRLs: []*x509.RevocationList{crl}}
}

func (w *world) signer(p cmstest.Pair) cades.Signer { return cades.Signer{Chain: p.Chain, Key: p.Key} }

func (w *world) stamp(data []byte) []byte {
	serial := big.NewInt(100)
	a := &tsp.Authority{Certificate: w.tsa.Cert, Chain: w.tsa.Chain[1:], Key: w.tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return cmstest.Now.Add(time.Hour) }, Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) }}
	sum := sha256.Sum256(data)
	der, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum[:], CertReq: true}).Marshal()
	require.NoError(w.t, err)
	answer, err := a.Respond(context.Background(), der)
	require.NoError(w.t, err)
	return answer
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// story is a dossier before it is packed: what a test may change.
type story struct {
	trail   dossier.Trail
	events  []dossier.Event
	content map[string][]byte
}

// tell is a request with one document and two signers, in order, that was completed.
func (w *world) tell() *story {
	ctx, opts := context.Background(), cades.Options{SigningTime: cmstest.Now}
	one, err := cades.Sign(ctx, w.contract, w.signer(w.signers[0]), opts)
	require.NoError(w.t, err)
	two, err := cades.AddSigner(ctx, one, w.signer(w.signers[1]), opts)
	require.NoError(w.t, err)
	when := cmstest.Now.Format(time.RFC3339Nano)
	s := &story{content: map[string][]byte{digest(w.contract): w.contract, digest(two): two}}
	s.trail = dossier.Trail{Version: 1, Request: dossier.Request{Name: name, Title: "Lease – è \u2028 <b>", Requester: "key:k", State: "COMPLETED", Created: when, Deadline: when, Closed: when}}
	s.trail.Documents = []dossier.Document{{Position: 1, Name: "it's.txt", Form: "CADES_ATTACHED",
		Original: dossier.File{Path: dossier.Path("originals", 1, "it's.txt", ""), SHA256: digest(w.contract), Size: int64(len(w.contract))},
		Signed:   &dossier.File{Path: dossier.Path("signed", 1, "it's.txt", ".p7m"), SHA256: digest(two), Size: int64(len(two))}}}
	s.events = []dossier.Event{{Action: "CREATED", State: "OPEN", Detail: map[string]string{"title_sha256": digest([]byte(s.trail.Request.Title))},
		Documents: []dossier.Digest{{Position: 1, Seen: digest(w.contract)}}}}
	for i, file := range [][]byte{one, two} {
		who := fmt.Sprintf("%s/participants/%d", name, i)
		s.trail.Participants = append(s.trail.Participants, dossier.Participant{Name: who, Role: "SIGNER", Step: i + 1, Standing: "DONE"})
		s.events = append(s.events, dossier.Event{Action: "VIEWED", State: "OPEN", Participant: who},
			dossier.Event{Action: "SIGNED", State: []string{"OPEN", "COMPLETED"}[i], Participant: who, Detail: map[string]string{"certificate_sha256": digest(w.signers[i].Cert.Raw)},
				Documents: []dossier.Digest{{Position: 1, Seen: digest(w.contract), Signed: digest(file)}}})
	}
	return s
}

// chain makes the lines of the events.
func (s *story) chain(t testing.TB) {
	t.Helper()
	s.trail.Events = nil
	previous := dossier.Beginning
	for i, e := range s.events {
		e.Request, e.Sequence, e.Time, e.Actor = name, int64(i+1), cmstest.Now.Format(time.RFC3339Nano), "key:k"
		body, hash, err := e.Encode(previous)
		require.NoError(t, err)
		s.trail.Events = append(s.trail.Events, dossier.Line{Body: body, SHA256: hex.EncodeToString(hash)})
		previous = hash
	}
	s.trail.Head = hex.EncodeToString(previous)
}

// pack seals, stamps and packs.
func (w *world) pack(s *story, sealed bool) []byte {
	raw, err := dossier.Canonical(s.trail)
	require.NoError(w.t, err)
	d := dossier.Dossier{Trail: raw, Documents: s.trail.Documents, Time: cmstest.Now, Certificates: []*x509.Certificate{w.pki.Root, w.seal.Cert},
		Open: func(f dossier.File) ([]byte, error) { return s.content[f.SHA256], nil }}
	of := raw
	if sealed {
		sum := sha256.Sum256(raw)
		d.Seal, err = cades.SignDetached(context.Background(), sum[:], w.signer(w.seal), cades.Options{SigningTime: cmstest.Now})
		require.NoError(w.t, err)
		of = d.Seal
	}
	d.Stamp = w.stamp(of)
	var out bytes.Buffer
	require.NoError(w.t, dossier.Write(&out, d))
	return out.Bytes()
}

func verify(t testing.TB, raw []byte, o validation.Options) *dossier.Report {
	t.Helper()
	r, err := dossier.Verify(context.Background(), bytes.NewReader(raw), o)
	require.NoError(t, err)
	return r
}

func TestVerdicts(t *testing.T) {
	w := newWorld(t)
	s := w.tell()
	s.chain(t)
	whole := w.pack(s, true)
	require.True(t, dossier.Looks(bytes.NewReader(whole)))
	r := verify(t, whole, w.options())
	require.Empty(t, r.Faults)
	require.Equal(t, validation.Passed, r.Verdict, r.Reason)
	require.Len(t, r.Events, 5)

	blind := w.options()
	blind.CRLs = nil
	require.Equal(t, validation.Indeterminate, verify(t, whole, blind).Verdict, "nobody said that the certificates are not revoked")
	require.Equal(t, validation.Indeterminate, verify(t, w.pack(s, false), w.options()).Verdict, "nobody sealed the trail")
}

// TestLies: what somebody could write who has the ZIP, and even who can seal it anew.
func TestLies(t *testing.T) {
	w := newWorld(t)
	for want, lie := range map[string]func(s *story){
		"a line is missing": func(s *story) { s.trail.Events = slices.Delete(s.trail.Events, 1, 2) },
		"not that of its body": func(s *story) {
			s.trail.Events[1].Body = bytes.Replace(s.trail.Events[1].Body, []byte("VIEWED"), []byte("PEEKED"), 1)
		},
		"named as the last":        func(s *story) { s.trail.Events = s.trail.Events[:4] },
		"closing of the request":   func(s *story) { s.events = s.events[:4]; s.chain(t) },
		"closed before its last":   func(s *story) { s.events[2].State = "COMPLETED"; s.chain(t) },
		"begin with the creation":  func(s *story) { s.events = s.events[1:]; s.chain(t) },
		"title is not":             func(s *story) { s.trail.Request.Title = "Sale" },
		"said to stand as":         func(s *story) { s.trail.Participants[0].Standing = "NOT_NEEDED" },
		"is no participant":        func(s *story) { s.trail.Participants = s.trail.Participants[:1] },
		"acts twice":               func(s *story) { s.events[4].Participant = s.events[2].Participant; s.chain(t) },
		"no whole signature by":    func(s *story) { s.events[4].Detail["certificate_sha256"] = digest(nil); s.chain(t) },
		"is not what was there":    func(s *story) { s.events[4].Documents[0].Seen = digest(nil); s.chain(t) },
		"what was signed last":     func(s *story) { s.events[4].Documents[0].Signed = digest(nil); s.chain(t) },
		"document of the creation": func(s *story) { s.events[0].Documents[0].Seen = digest(nil); s.chain(t) },
		"file that the audit": func(s *story) {
			s.content[s.trail.Documents[0].Original.SHA256] = []byte("another contract")
		},
		"is about":                 func(s *story) { s.trail.Request.Name = "tenants/acme/signatureRequests/other" },
		"has the version":          func(s *story) { s.trail.Version = 2 },
		"signed file is not named": func(s *story) { s.trail.Documents[0].Signed = nil },
	} {
		s := w.tell()
		s.chain(t)
		lie(s)
		r := verify(t, w.pack(s, true), w.options())
		require.Equal(t, validation.Failed, r.Verdict, want)
		require.Contains(t, strings.Join(r.Faults, "\n"), want)
	}
}

// members reads a ZIP; repack writes it as it is told.
func members(t testing.TB, raw []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	out := map[string][]byte{}
	for _, f := range z.File {
		in, err := f.Open()
		require.NoError(t, err)
		out[f.Name], err = io.ReadAll(in)
		require.NoError(t, err)
	}
	return out
}

func repack(t testing.TB, m map[string][]byte, twice ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for _, n := range append(slices.Sorted(maps.Keys(m)), twice...) {
		f, err := z.Create(n)
		require.NoError(t, err)
		_, err = f.Write(m[n])
		require.NoError(t, err)
	}
	require.NoError(t, z.Close())
	return out.Bytes()
}

func TestTamperedArchives(t *testing.T) {
	w := newWorld(t)
	s := w.tell()
	s.chain(t)
	whole := w.pack(s, true)
	signed := s.trail.Documents[0].Signed.Path
	for what, change := range map[string]func(m map[string][]byte){
		"a file that is not listed":  func(m map[string][]byte) { m["more.txt"] = []byte("x") },
		"a file that is not there":   func(m map[string][]byte) { delete(m, dossier.CertificatesName) },
		"a document that is another": func(m map[string][]byte) { m[s.trail.Documents[0].Original.Path] = []byte("the Contract") },
		"a signature that is none":   func(m map[string][]byte) { m[signed] = []byte("no p7m") },
		"no sums":                    func(m map[string][]byte) { delete(m, dossier.SumsName) },
		"a seal of something else": func(m map[string][]byte) {
			m[dossier.TrailName] = bytes.Replace(m[dossier.TrailName], []byte("key:k"), []byte("key:j"), 1)
		},
		"white space": func(m map[string][]byte) { m[dossier.TrailName] = append(m[dossier.TrailName], '\n') },
		"a field that nobody knows": func(m map[string][]byte) {
			m[dossier.TrailName] = bytes.Replace(m[dossier.TrailName], []byte(`"version":1`), []byte(`"version":1,"w":1`), 1)
		},
		"a field twice": func(m map[string][]byte) {
			m[dossier.TrailName] = bytes.Replace(m[dossier.TrailName], []byte(`"version":1`), []byte(`"version":1,"version":1`), 1)
		},
	} {
		m := members(t, whole)
		change(m)
		require.Equal(t, validation.Failed, verify(t, repack(t, m), w.options()).Verdict, what)
	}
	for what, raw := range map[string][]byte{
		"no ZIP": []byte("PK\x03\x04"), "cut off": whole[:len(whole)/2], "twice": repack(t, members(t, whole), dossier.TrailName),
		"leads out": repack(t, map[string][]byte{"../x": nil, dossier.TrailName: []byte("{}")}), "no trail": repack(t, map[string][]byte{"x": nil}),
	} {
		_, err := dossier.Verify(context.Background(), bytes.NewReader(raw), w.options())
		require.Error(t, err, what)
	}
}

// TestCanonical: the examples are ours; the rules are RFC 8785.
func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":1,"a":[true,null,"x"]}`:          `{"a":[true,null,"x"],"b":1}`,
		`"<\u0041\u2028\u000f\n\"\\\/>"`:       "\"<A\u2028\\u000f\\n\\\"\\\\/>\"",
		`{"\ud83d\ude00":1,"\ufb33":2,"a":-0}`: "{\"a\":0,\"\U0001F600\":1,\"\ufb33\":2}",
	} {
		got, err := dossier.Canonical(json.RawMessage(in))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, in := range []string{`1.5`, `1e3`, `9007199254740993`} {
		_, err := dossier.Canonical(json.RawMessage(in))
		require.Error(t, err, in)
	}
}

// FuzzVerify: whatever is in the archive, it is judged and never passed.
func FuzzVerify(f *testing.F) {
	w := newWorld(f)
	s := w.tell()
	s.chain(f)
	raw, err := dossier.Canonical(s.trail)
	require.NoError(f, err)
	f.Add(raw)
	f.Add([]byte(`{"version":1,"events":[{"body":{},"sha256":""}]}`))
	o := validation.Options{At: cmstest.Now}
	f.Fuzz(func(t *testing.T, trail []byte) {
		r, err := dossier.Verify(context.Background(), bytes.NewReader(repack(t, map[string][]byte{dossier.TrailName: trail})), o)
		if err == nil && r.Verdict == validation.Passed {
			t.Fatalf("passed: %q", trail)
		}
	})
}
