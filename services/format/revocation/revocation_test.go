package revocation_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/validation"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// issue makes a certificate; by nobody: its own.
func issue(t *testing.T, name string, ca bool, by *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(int64(len(name))), NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{cert, key}
}

func (a *authority) list(t *testing.T, revoked ...x509.RevocationListEntry) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(24 * time.Hour), RevokedCertificateEntries: revoked}, a.cert, a.key)
	require.NoError(t, err)
	return der
}

func (a *authority) answer(t *testing.T, of *authority, status int) []byte {
	t.Helper()
	der, err := ocsp.CreateResponse(a.cert, a.cert, ocsp.Response{Status: status, SerialNumber: of.cert.SerialNumber, ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(time.Hour), RevokedAt: noon.Add(-time.Minute)}, a.key)
	require.NoError(t, err)
	return der
}

// TestBeside: a chain is judged by what lies beside a signature, link by link, for the time that is asked for; silence is no good word.
func TestBeside(t *testing.T) {
	root := issue(t, "root", true, nil)
	middle := issue(t, "middle", true, root)
	leaf := issue(t, "the leaf", false, middle)
	roots := x509.NewCertPool()
	roots.AddCert(root.cert)
	others := []*x509.Certificate{root.cert, middle.cert, leaf.cert}
	chain := revocation.Chain(leaf.cert, others, roots, noon)
	require.Len(t, chain, 3)
	require.Len(t, revocation.Chain(leaf.cert, others, nil, noon), 3, "the same by what came with the signature")
	require.Len(t, revocation.Chain(leaf.cert, nil, nil, noon), 1)
	stranger := x509.NewCertPool()
	stranger.AddCert(issue(t, "stranger", true, nil).cert)
	require.Len(t, revocation.Chain(leaf.cert, others, stranger, noon), 3, "whom it leads to is another's question")

	gone := x509.RevocationListEntry{SerialNumber: leaf.cert.SerialNumber, RevocationTime: noon.Add(-time.Minute)}
	partly := "what issuers said of its certificates is there and does not say of all of them that they were not revoked"
	good := "none of its 2 certificates was revoked at 2026-11-23T12:00:00Z"
	for name, c := range map[string]struct {
		said           revocation.Said
		at             time.Time
		holds, problem string
	}{
		"nothing":                      {revocation.Said{Lacks: []string{"nobody answered"}}, noon, "", ""},
		"lists":                        {revocation.Said{CRLs: [][]byte{middle.list(t), root.list(t)}}, noon, good, ""},
		"one of two":                   {revocation.Said{CRLs: [][]byte{middle.list(t)}}, noon, partly, ""},
		"lists that had ended by then": {revocation.Said{CRLs: [][]byte{middle.list(t), root.list(t)}}, noon.Add(48 * time.Hour), partly, ""},
		"another's list":               {revocation.Said{CRLs: [][]byte{issue(t, "middle", true, root).list(t), root.list(t)}}, noon, partly, ""},
		"list and answer":              {revocation.Said{CRLs: [][]byte{root.list(t)}, OCSPs: [][]byte{middle.answer(t, leaf, ocsp.Good)}}, noon, good, ""},
		"revoked by list":              {revocation.Said{CRLs: [][]byte{middle.list(t, gone), root.list(t)}}, noon, "", "CN=the leaf was revoked on 2026-11-23T11:59:00Z (CRL of 2026-11-23T11:00:00Z)"},
		"revoked later":                {revocation.Said{CRLs: [][]byte{middle.list(t, gone), root.list(t)}}, noon.Add(-2 * time.Minute), "none of its 2 certificates was revoked at 2026-11-23T11:58:00Z", ""},
		"revoked by answer":            {revocation.Said{OCSPs: [][]byte{middle.answer(t, leaf, ocsp.Revoked)}}, noon, "", "CN=the leaf was revoked on 2026-11-23T11:59:00Z (OCSP of 2026-11-23T11:00:00Z)"},
	} {
		t.Run(name, func(t *testing.T) {
			files := c.said.Files()
			holds, problem := revocation.Beside(files[revocation.Lists], files[revocation.Answers], chain, c.at)
			require.Equal(t, c.holds, holds)
			require.Equal(t, c.problem, problem)
		})
	}
	short := revocation.Chain(leaf.cert, []*x509.Certificate{middle.cert}, nil, noon)
	require.Len(t, short, 2)
	lists := revocation.Said{CRLs: [][]byte{middle.list(t), root.list(t)}}.Files()[revocation.Lists]
	holds, problem := revocation.Beside(lists, nil, short, noon)
	require.Equal(t, partly, holds, "nobody can tell of the last one whose list that is")
	require.Empty(t, problem)
	_, problem = revocation.Beside([]byte("-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"), nil, chain, noon)
	require.NotEmpty(t, problem)
	_, err := revocation.Read([]byte("none"), nil)
	require.ErrorContains(t, err, "something else")
	e, err := revocation.Read(nil, nil)
	require.NoError(t, err)
	require.False(t, revocation.Known(revocation.Judge(chain, e, noon)))
	require.False(t, revocation.Known(nil))
	link, revoked := revocation.Revoked([]validation.Link{{Revocation: validation.StateGood}}, noon)
	require.False(t, revoked, "%v", link)
}
