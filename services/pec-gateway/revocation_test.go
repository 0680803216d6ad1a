package pecgateway_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/sandbox/client"
)

// TestC10RevocationListsAreImported: a list of a known authority decides what is known of a certificate at the moment of
// the message; without one it is unknown, and a list of anybody else is refused. Earlier reports stand beside later ones.
func TestC10RevocationListsAreImported(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	h.believe()
	r := newRegistrar(t)
	list := func(by *registrar, revoked *time.Time) []byte {
		tpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
		if revoked != nil {
			tpl.Number = big.NewInt(2)
			tpl.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: r.cert.SerialNumber, RevocationTime: *revoked}}
		}
		der, err := x509.CreateRevocationList(rand.Reader, tpl, by.root, by.rootKey)
		require.NoError(t, err)
		return der
	}
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.root.Raw}))
	imported := func(lists ...[]byte) (*pecv1.ImportTrustListResponse, error) {
		return h.trust.ImportTrustList(t.Context(), &pecv1.ImportTrustListRequest{AuthoritiesPem: authority, RevocationLists: lists})
	}
	_, err := imported()
	require.NoError(t, err)
	box := h.add(sender)
	require.NoError(t, h.sandbox.InjectPEC(t.Context(), sender, client.PECInject{Data: r.write(t, "ContentConsignment", "Subject: x\r\n\r\ny\r\n", func(s string) string { return s })}))
	h.kept(box)
	name := h.receipts(box)[0].GetName()
	check := func() *pecv1.Verification {
		m, err := h.api.ReadMessageAgain(t.Context(), &pecv1.ReadMessageAgainRequest{Name: name})
		require.NoError(t, err)
		return m.GetVerification()
	}
	require.Equal(t, "unknown", check().GetRevocation())
	for _, bad := range [][]byte{[]byte("no list"), list(newRegistrar(t), nil)} {
		_, err = imported(bad)
		requireFault(t, err, "REVOCATION_LIST_INVALID")
	}
	got, err := imported(list(r, nil), pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list(r, nil)}))
	require.NoError(t, err)
	require.Positive(t, got.GetRevocationListsAdded())
	require.Equal(t, "good", check().GetRevocation())
	before := time.Now().Add(-30 * time.Minute)
	_, err = imported(list(r, &before))
	require.NoError(t, err)
	v := check()
	require.Equal(t, []string{"revoked", "untrusted-signer"}, []string{v.GetRevocation(), v.GetStatus()})
	require.GreaterOrEqual(t, h.query(`SELECT count(*) FROM report`), 4, "every report stands")
	h.invariants(box)
}
