package pecdiff

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/pec"
)

var at = time.Date(2026, 9, 14, 8, 30, 5, 0, time.UTC)

// world is two providers that the trust list names.
type world struct {
	alfa, beta *pec.Gestore
	trust      *pec.TrustList
}

func newWorld(t *testing.T) *world {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	issue := func(tpl, parent *x509.Certificate, pub any) *x509.Certificate {
		tpl.NotBefore, tpl.NotAfter = at.AddDate(-1, 0, 0), at.AddDate(2, 0, 0)
		if parent == nil {
			parent = tpl
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, caKey)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	ca := issue(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority NOT VALID"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &caKey.PublicKey)
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	w := &world{trust: &pec.TrustList{Version: "test", Roots: roots}}
	provider := func(serial int64, name, address, domain string) *pec.Gestore {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		c := issue(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{name}},
			KeyUsage: x509.KeyUsageDigitalSignature, EmailAddresses: []string{address}}, ca, &key.PublicKey)
		sum := sha256.Sum256(c.Raw)
		w.trust.Providers = append(w.trust.Providers, pec.Provider{Name: name, Signers: []string{address}, Domains: []string{domain}, Certificates: []string{hex.EncodeToString(sum[:])}})
		return &pec.Gestore{Name: name, Address: address, Certificate: c, Chain: []*x509.Certificate{ca}, Key: key}
	}
	w.alfa = provider(2, "Gestore Alfa S.p.A.", "posta-certificata@pec.alfa.test", "alfa.test")
	w.beta = provider(3, "Gestore Beta S.p.A.", "posta-certificata@pec.beta.test", "beta.test")
	return w
}

// verified is how the reader under test judges a message.
func (w *world) verified(t *testing.T, r *pec.Reading) *pec.Report {
	t.Helper()
	rep, err := r.Verify(pec.Verification{Trust: w.trust, At: at.Add(time.Hour), Now: at.Add(2 * time.Hour)})
	require.NoError(t, err)
	return rep
}

// issued is every message that providers issue about one message to two recipients, as each profile writes it.
func (w *world) issued(t *testing.T) [][]byte {
	t.Helper()
	to, cc := "protocollo@beta.test", "copia@beta.test"
	d := &pec.Draft{
		From: pec.Address{Name: "Società Esempio", Addr: "mittente@alfa.test"}, To: []pec.Address{{Name: "Comune", Addr: to}}, Cc: []pec.Address{{Addr: cc}},
		Subject: "Contratto n. 12/2026 – perché «così»", Date: at, MessageID: "c0ffee.1@alfa.test", Ricevuta: pec.Completa, Text: "Gentili Signori,\n.\nè tutto.\n",
		Attachments: []pec.File{pec.BytesFile("contratto – così.pdf", "application/pdf", bytes.Repeat([]byte("%PDF-1.7 \x00\x01\x02"), 30))},
	}
	var original bytes.Buffer
	_, err := pec.Compose(&original, d)
	require.NoError(t, err)
	m, err := pec.ParseBytes(original.Bytes())
	require.NoError(t, err)
	write := func(g *pec.Gestore, a pec.Atto) []byte {
		var b bytes.Buffer
		_, err := g.Write(t.Context(), &b, a)
		require.NoError(t, err)
		return b.Bytes()
	}
	sent := pec.NewTransito(m, pec.Envelope{MailFrom: d.From.Addr, Recipients: d.Recipients()}, "0001.20260914103005@pec.alfa.test", func(string) bool { return false })
	r, err := pec.ReadBytes(write(w.alfa, sent.Busta(at)))
	require.NoError(t, err)
	came, err := pec.TransitoOf(r)
	require.NoError(t, err)
	full, err := came.Consegna(at, to)
	require.NoError(t, err)
	synthetic, err := came.Consegna(at, cc)
	require.NoError(t, err)
	came.Ricevuta = pec.Breve
	brief, err := came.Consegna(at, to)
	require.NoError(t, err)
	var out [][]byte
	for _, profile := range pec.Profiles() {
		alfa, beta := *w.alfa, *w.beta
		alfa.Profile, beta.Profile = profile, profile
		for _, a := range []pec.Atto{
			sent.Busta(at), sent.Accettazione(at), sent.NonAccettazione(at, pec.AltroErrore, "5.6.0 mittente diverso"),
			sent.Preavviso(at.Add(12*time.Hour), to, false, "4.4.7 nessuna presa in carico"), sent.ErroreConsegna(at, to, pec.VirusTrovato, "5.5.1 virus"),
		} {
			out = append(out, write(&alfa, a))
		}
		for _, a := range []pec.Atto{
			full, brief, synthetic, came.PresaInCarico(at, []string{to, cc}, "ricevute@alfa.test"),
			came.ErroreConsegna(at, to, pec.NoDest, "5.1.1 - Gestore Beta - indirizzo non valido"), came.RilevazioneVirus(at, to, "ricevute@alfa.test", "5.5.1 virus"),
			pec.Anomalia(m, at, "il messaggio non è certificato"),
		} {
			out = append(out, write(&beta, a))
		}
	}
	return out
}

// kept are the messages of a folder and of those in it, with line ends as they travel.
func kept(t *testing.T, dir string) [][]byte {
	t.Helper()
	var out [][]byte
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error { // a folder that is not there holds none
		if err == nil && filepath.Ext(path) == ".eml" {
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			out = append(out, bytes.ReplaceAll(bytes.ReplaceAll(raw, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n")))
		}
		return nil
	})
	return out
}
