package pec

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite golden files")

// at is the moment of most tests: summer time in Rome.
var at = time.Date(2026, 9, 14, 8, 30, 5, 0, time.UTC)

func rome(t testing.TB) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	return loc
}

// seeded is a random source that gives the same bytes each time.
func seeded(seed byte) io.Reader {
	var key [32]byte
	key[0] = seed
	return mathrand.NewChaCha8(key)
}

// world is two providers under two authorities, and a person with a certificate of her own.
type world struct {
	alfa, beta  *Gestore
	person      *Gestore // signs as a person: no provider at all
	trust       *TrustList
	caAlfa      *x509.Certificate
	caBeta      *x509.Certificate
	caKey       *ecdsa.PrivateKey
	certificate func(t testing.TB, from, to time.Time, addresses ...string) (*x509.Certificate, *rsa.PrivateKey)
}

var (
	worldOnce sync.Once
	theWorld  *world
)

func newWorld(t testing.TB) *world {
	t.Helper()
	worldOnce.Do(func() { theWorld = makeWorld(t) })
	w := *theWorld
	a, b, p := *theWorld.alfa, *theWorld.beta, *theWorld.person
	w.alfa, w.beta, w.person = &a, &b, &p
	list := *theWorld.trust
	list.Providers = append([]Provider(nil), theWorld.trust.Providers...)
	w.trust = &list
	return &w
}

func makeWorld(t testing.TB) *world {
	t.Helper()
	w := &world{}
	var err error
	w.caKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := func(name string) *x509.Certificate {
		tpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"NOT VALID"}},
			NotBefore: at.AddDate(-3, 0, 0), NotAfter: at.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &w.caKey.PublicKey, w.caKey)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	w.caAlfa, w.caBeta = authority("Test authority A"), authority("Test authority B")
	issue := func(ca *x509.Certificate, o string, from, to time.Time, addresses ...string) (*x509.Certificate, *rsa.PrivateKey) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		require.NoError(t, err)
		tpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: o, Organization: []string{o}}, NotBefore: from, NotAfter: to,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, EmailAddresses: addresses}
		der, err := x509.CreateCertificate(rand.Reader, tpl, ca, &key.PublicKey, w.caKey)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return c, key
	}
	provider := func(ca *x509.Certificate, name, addr string) *Gestore {
		c, key := issue(ca, name, at.AddDate(-1, 0, 0), at.AddDate(2, 0, 0), addr)
		return &Gestore{Name: name, Address: addr, Certificate: c, Chain: []*x509.Certificate{ca}, Key: key, Location: rome(t)}
	}
	w.alfa = provider(w.caAlfa, "Gestore Alfa S.p.A.", "posta-certificata@pec.alfa.test")
	w.beta = provider(w.caBeta, "Gestore Beta S.p.A.", "posta-certificata@pec.beta.test")
	w.person = provider(w.caAlfa, "Una Persona", "una.persona@example.test")
	w.certificate = func(t testing.TB, from, to time.Time, addresses ...string) (*x509.Certificate, *rsa.PrivateKey) {
		return issue(w.caAlfa, "Gestore Alfa S.p.A.", from, to, addresses...)
	}
	roots := x509.NewCertPool()
	roots.AddCert(w.caAlfa)
	roots.AddCert(w.caBeta)
	w.trust = &TrustList{Version: "test-1", Roots: roots, Providers: []Provider{
		{Name: w.alfa.Name, Signers: []string{w.alfa.Address}, Domains: []string{"alfa.test"}, Certificates: []string{fingerprint(w.alfa.Certificate)}},
		{Name: w.beta.Name, Signers: []string{w.beta.Address}, Domains: []string{"beta.test"}, Certificates: []string{fingerprint(w.beta.Certificate)}},
	}}
	return w
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// draft is a message with accents everywhere and two attachments.
func draft() *Draft {
	return &Draft{
		From: Address{Name: "Società Esempio", Addr: "mittente@alfa.test"},
		To:   []Address{{Name: "Comune", Addr: "protocollo@beta.test"}}, Cc: []Address{{Addr: "copia@beta.test"}},
		Subject: "Contratto n. 12/2026 – perché «così» 📎", Date: at, MessageID: "c0ffee.1@alfa.test", Ricevuta: Completa,
		Text:   "Gentili Signori,\n\nin allegato il contratto.\n.\nFrom qui in poi però è tutto città.\n",
		Random: seeded(7),
		Attachments: []File{
			BytesFile("contratto – così.pdf", "application/pdf", bytes.Repeat([]byte("%PDF-1.7 \x00\x01\x02"), 30)),
			BytesFile("fattura.xml", "application/xml", []byte("<a>\r\n</a>")),
		},
	}
}

func composed(t testing.TB, d *Draft) []byte {
	t.Helper()
	d.Random = seeded(7)
	var b bytes.Buffer
	n, err := Compose(&b, d)
	require.NoError(t, err)
	require.Equal(t, int64(b.Len()), n)
	return b.Bytes()
}

func envelopeOf(d *Draft) Envelope {
	return Envelope{MailFrom: d.From.Addr, Recipients: d.Recipients()}
}

// written issues an act and reads it again.
func written(t testing.TB, g *Gestore, a Atto) ([]byte, *Reading) {
	t.Helper()
	var b bytes.Buffer
	_, err := g.Write(context.Background(), &b, a)
	require.NoError(t, err)
	r, err := ReadBytes(b.Bytes())
	require.NoError(t, err)
	return b.Bytes(), r
}

func transit(t testing.TB, d *Draft) *Transito {
	t.Helper()
	m, err := ParseBytes(composed(t, d))
	require.NoError(t, err)
	require.Empty(t, CheckSubmission(m, envelopeOf(d), SubmissionLimits{Volume: 100 << 20}))
	return NewTransito(m, envelopeOf(d), "0001.20260914103005@pec.alfa.test", func(a string) bool { return strings.HasSuffix(a, "@example.test") })
}

// arrived is the transit on the recipient's side.
func arrived(t testing.TB, w *world, d *Draft) *Transito {
	t.Helper()
	_, r := written(t, w.alfa, transit(t, d).Busta(at))
	tr, err := TransitoOf(r)
	require.NoError(t, err)
	return tr
}

func verified(t testing.TB, w *world, r *Reading) *Report {
	t.Helper()
	rep, err := r.Verify(Verification{Trust: w.trust, At: at.Add(time.Hour), Now: at.Add(2 * time.Hour)})
	require.NoError(t, err)
	return rep
}

// openssl checks a message with the command line, when it is there: as S/MIME, and the signature
// over the bytes that this package takes for signed. (-binary with -inform SMIME is left out: it
// adds a line end to the content in OpenSSL 3.0.)
func openssl(t *testing.T, raw []byte, r *Reading) {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "run make prepare, or apt-get install -y openssl")
	dir := t.TempDir()
	content, err := io.ReadAll(r.Signed.Raw())
	require.NoError(t, err)
	p7s, err := r.P7S.Bytes(0)
	require.NoError(t, err)
	files := map[string][]byte{"m.eml": raw, "content": content, "p7s": p7s}
	for name, data := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	// two processes for each message are slow enough: the older tool sees one profile only
	older := strings.Contains(t.Name(), "plain")
	for _, args := range []string{
		"cms -verify -noverify -inform SMIME -in m.eml -out out",
		"smime -verify -noverify -inform SMIME -in m.eml -out out",
		"cms -verify -noverify -binary -inform DER -in p7s -content content -out out",
	} {
		if strings.HasPrefix(args, "smime") && !older {
			continue
		}
		cmd := exec.CommandContext(t.Context(), bin, strings.Fields(args)...)
		cmd.Dir = dir
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", args, err, msg)
		}
		got, err := os.ReadFile(filepath.Join(dir, "out"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, got), "openssl %s read other content", args)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, got, 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err, "run the test with -update")
	require.Equal(t, string(want), string(got))
}

// codes lists findings for messages of tests.
func codes(fs Findings) string {
	var b strings.Builder
	for _, f := range fs {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}
