package validation_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/xades"
)

var now = cmstest.Now

// world is an authority with one signer and one time-stamp authority.
type world struct {
	t         *testing.T
	pki       *cmstest.PKI
	pair, tsa cmstest.Pair
}

func newWorld(t *testing.T, change ...func(*x509.Certificate)) world {
	t.Helper()
	pki := cmstest.New(t)
	return world{t, pki, pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t), change...), pki.Issue(t, "Marca", cmstest.NewECDSA(t), cmstest.TimeStamping)}
}

func (w world) signer() cades.Signer { return cades.Signer{Chain: w.pair.Chain, Key: w.pair.Key} }

// stamp is a time-stamp authority whose clock stands at a time.
func (w world) stamp(at time.Time) cades.Stamp {
	serial := big.NewInt(100)
	a := &tsp.Authority{Certificate: w.tsa.Cert, Chain: w.tsa.Chain[1:], Key: w.tsa.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return at }, Serial: func() *big.Int { return serial.Add(serial, big.NewInt(1)) }}
	return func(ctx context.Context, sum []byte) ([]byte, error) {
		der, err := (&tsp.Request{Hash: crypto.SHA256, Digest: sum, CertReq: true}).Marshal()
		if err != nil {
			return nil, err
		}
		answer, err := a.Respond(ctx, der)
		if err != nil {
			return nil, err
		}
		r, err := tsp.ParseResponse(answer)
		if err != nil {
			return nil, err
		}
		return r.Token, r.Err()
	}
}

func (w world) token(at time.Time, data []byte) []byte {
	w.t.Helper()
	h := crypto.SHA256.New()
	h.Write(data)
	raw, err := w.stamp(at)(w.t.Context(), h.Sum(nil))
	require.NoError(w.t, err)
	return raw
}

func (w world) p7m(content []byte, stamped ...time.Time) []byte {
	w.t.Helper()
	o := cades.Options{SigningTime: now}
	if len(stamped) > 0 {
		o.Timestamp = w.stamp(stamped[0])
	}
	out, err := cades.Sign(w.t.Context(), content, w.signer(), o)
	require.NoError(w.t, err)
	return out
}

func (w world) xml(content []byte) []byte {
	w.t.Helper()
	out, err := xades.Sign(w.t.Context(), content, xades.Signer{Chain: w.pair.Chain, Key: w.pair.Key}, xades.Options{SigningTime: now})
	require.NoError(w.t, err)
	return out
}

func (w world) pdf(stamped ...time.Time) []byte {
	w.t.Helper()
	o := pades.Options{SigningTime: now}
	if len(stamped) > 0 {
		o.Timestamp = w.stamp(stamped[0])
	}
	var out bytes.Buffer
	src := plainPDF()
	require.NoError(w.t, pades.Sign(w.t.Context(), &out, bytes.NewReader(src), int64(len(src)), w.signer(), o))
	return out.Bytes()
}

// plainPDF is one page with a line of text.
func plainPDF() []byte {
	b := bytes.NewBufferString("%PDF-1.7\n")
	text := "BT /F1 24 Tf 72 720 Td (Pay 100 euro) Tj ET"
	var offsets []int
	for i, o := range []string{"<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
		"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
		fmt.Sprintf("<</Length %d>>\nstream\n%s\nendstream", len(text), text), "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"} {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	start := b.Len()
	fmt.Fprintf(b, "xref\n0 6\n0000000000 65535 f \n")
	for _, o := range offsets {
		fmt.Fprintf(b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(b, "trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n", start)
	return b.Bytes()
}

// crl is a list of a time, in force for 30 days, with what was revoked when and why.
func (w world) crl(at time.Time, revoked ...x509.RevocationListEntry) *x509.RevocationList {
	w.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(at.Unix()), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 30),
		RevokedCertificateEntries: revoked}, w.pki.Root, w.pki.Key)
	require.NoError(w.t, err)
	list, err := validation.ParseCRL(der)
	require.NoError(w.t, err)
	return list
}

func entry(c *x509.Certificate, at time.Time, reason int) x509.RevocationListEntry {
	return x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: at, ReasonCode: reason}
}

// ocspFor is the issuer's own answer about a certificate.
func (w world) ocspFor(c *x509.Certificate, status int, at, revokedAt time.Time) []byte {
	w.t.Helper()
	der, err := ocsp.CreateResponse(w.pki.Root, w.pki.Root, ocsp.Response{Status: status, SerialNumber: c.SerialNumber, ThisUpdate: at,
		NextUpdate: at.AddDate(0, 0, 7), RevokedAt: revokedAt}, w.pki.Key)
	require.NoError(w.t, err)
	return der
}

// options trusts the world, at a time, with a list of that time that revokes nothing.
func (w world) options(at time.Time) validation.Options {
	return validation.Options{At: at, Roots: []*x509.Certificate{w.pki.Root}, CRLs: []*x509.RevocationList{w.crl(at.Add(-time.Hour))}}
}

func changed(t *testing.T, raw []byte, from, to string) []byte {
	t.Helper()
	require.Contains(t, string(raw), from)
	return bytes.Replace(raw, []byte(from), []byte(to), 1)
}

func lastByte(raw []byte) []byte {
	out := bytes.Clone(raw)
	out[len(out)-1] ^= 1
	return out
}
