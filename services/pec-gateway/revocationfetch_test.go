package pecgateway_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/sandbox/client"
)

// TestC10RevocationListsAreFetched: the certificate of a listed provider says where the list of revoked ones is. It is
// fetched, kept when its authority signed it, and fetched again when it ends. What is no list, too large, somebody else's or
// not there leaves revocation unknown. Nobody who is not listed makes the gateway ask anywhere.
func TestC10RevocationListsAreFetched(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[[]byte]
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if body := answer.Load(); body != nil {
			_, _ = w.Write(*body)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	h := open(t, "  revocation: {every: 20ms, max_list: 4096}\n")
	h.believe()
	r := newRegistrar(t)
	gestore := r.provider(t, server.URL+"/list.crl", 7)
	box := h.add(sender)
	receipt := func(g *pec.Gestore, id string) string {
		var b bytes.Buffer
		_, err := g.Write(t.Context(), &b, pec.Atto{Tipo: pec.AvvenutaConsegna, Istante: time.Now(), To: sender, Dati: pec.Daticert{
			Mittente: sender, Risposte: sender, Oggetto: "x", HasOggetto: true, Identificativo: id, Errore: pec.Nessuno, Ricevuta: pec.Sintetica,
			Destinatari: []pec.Destinatario{{Indirizzo: "a@gamma.test"}}, Consegna: "a@gamma.test"}})
		require.NoError(t, err)
		before := len(h.receipts(box))
		require.NoError(t, h.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: b.Bytes()}))
		h.eventually("it is here", func() bool { return len(h.receipts(box)) == before+1 })
		return h.receipts(box)[0].GetName()
	}
	receipt(gestore, "0@pec.gamma.test")
	require.Zero(t, h.query(`SELECT count(*) FROM revocation_point`), "its provider is not listed")

	_, err := h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{
		AuthoritiesPem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.root.Raw})),
		Index: pec.WriteIndice([]pec.IndiceEntry{{Name: gestore.Name, Receipts: "ricevute@pec.gamma.test", Domains: []string{"gamma.test"},
			Certificates: []*x509.Certificate{gestore.Certificate}}}),
	})
	require.NoError(t, err)
	name := receipt(gestore, "1@pec.gamma.test")
	check := func() *pecv1.Verification {
		m, err := h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: name})
		require.NoError(t, err)
		return m.GetVerification()
	}
	problem := func(want string, next func()) {
		t.Helper()
		h.eventually("the problem is "+want, func() bool {
			return h.query(`SELECT count(*) FROM revocation_point WHERE problem LIKE '%' || $1 || '%'`, want) == 1
		})
		v := check()
		require.Equal(t, []string{"valid", "unknown"}, []string{v.GetStatus(), v.GetRevocation()})
		next()
		h.ahead.Add(int64(25 * time.Hour))
	}
	list := func(by *registrar, revoked ...x509.RevocationListEntry) {
		at := time.Now().Add(time.Duration(h.ahead.Load()))
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(at.Unix()), ThisUpdate: at.Add(-time.Minute), NextUpdate: at.Add(2 * time.Hour),
			RevokedCertificateEntries: revoked}, by.root, by.rootKey)
		require.NoError(t, err)
		answer.Store(&der)
	}
	large := make([]byte, 5000)
	problem("404", func() { answer.Store(&[]byte{'<', 'h', 't', 'm', 'l', '>'}) })
	problem("revocation_lists[0]", func() { answer.Store(&large) })
	problem("max_list", func() { list(newRegistrar(t)) })
	problem("no authority of the list signed it", func() { list(r) })
	h.eventually("it is known to be good", func() bool { return check().GetRevocation() == "good" })
	require.Equal(t, 1, h.query(`SELECT count(*) FROM trust_revocation WHERE source = $1`, server.URL+"/list.crl"))
	require.Zero(t, h.query(`SELECT failures FROM revocation_point`))
	n := asked.Load()
	h.lookedAgain(box)
	require.Equal(t, n, asked.Load(), "it is not asked for again while the list holds")
	list(r, x509.RevocationListEntry{SerialNumber: gestore.Certificate.SerialNumber, RevocationTime: time.Now().Add(-30 * time.Minute)})
	h.ahead.Add(int64(3 * time.Hour))
	h.eventually("it is revoked", func() bool {
		v := check()
		return v.GetRevocation() == "revoked" && v.GetStatus() == "untrusted-signer"
	})
	require.Equal(t, 2, h.query(`SELECT count(*) FROM trust_revocation WHERE source <> ''`))
	h.invariants(box)
}

// provider is one of certified mail under the same authority, whose certificate says where the list of revoked ones is.
func (r *registrar) provider(t *testing.T, point string, serial int64) *pec.Gestore {
	t.Helper()
	const address = "posta-certificata@pec.gamma.test"
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "Gestore Gamma", Organization: []string{"Gestore Gamma"}},
		NotBefore: r.root.NotBefore, NotAfter: r.root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		EmailAddresses: []string{address}, CRLDistributionPoints: []string{"ldap://ldap.invalid/cn=x", point}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, r.root, key.Public(), r.rootKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &pec.Gestore{Name: "Gestore Gamma", Address: address, Certificate: cert, Chain: []*x509.Certificate{r.root}, Key: key}
}
