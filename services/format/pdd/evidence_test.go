package pdd

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
)

// respond gives the answer of an authority whose certificate was issued on a day and lasts some years from it.
func respond(t *testing.T, pki *cmstest.PKI, at time.Time, years int, h crypto.Hash, digest []byte, bare bool) []byte {
	t.Helper()
	p := pki.Issue(t, "TSA", cmstest.NewECDSA(t), cmstest.TimeStamping, func(x *x509.Certificate) {
		x.NotBefore, x.NotAfter = at.Add(-time.Hour), at.AddDate(years, 0, 0)
	})
	authority := &tsp.Authority{
		Certificate: p.Cert, Chain: p.Chain[1:], Key: p.Key, Policy: asn1.ObjectIdentifier{2, 999, 1},
		Now: func() time.Time { return at }, Serial: func() *big.Int { return big.NewInt(1) },
	}
	req, err := (&tsp.Request{Hash: h, Digest: digest, CertReq: !bare}).Marshal()
	require.NoError(t, err)
	answer, err := authority.Respond(context.Background(), req)
	require.NoError(t, err)
	return answer
}

// renewed is the evidence record of a package that was stamped anew on a day.
func renewed(t *testing.T, pki *cmstest.PKI, at time.Time, h crypto.Hash, archive []byte) []byte {
	t.Helper()
	b, err := ers.NewBatch(h, []ers.Subject{ers.Initial(ers.Bytes(archive))})
	require.NoError(t, err)
	answer, err := tsp.ParseResponse(respond(t, pki, at, 5, h, b.Root(), false))
	require.NoError(t, err)
	s, err := b.Seal(answer.Token)
	require.NoError(t, err)
	der, err := s.Record(0)
	require.NoError(t, err)
	return der
}

// TestEvidenceBeginsInTime: a stamp is renewed before its certificate ends; from a record that begins later nothing follows of the time
// between the two, in which whoever had the authority's key could have stamped anything.
func TestEvidenceBeginsInTime(t *testing.T) {
	t.Parallel()
	pki, archive := cmstest.New(t), []byte("the package of origin, which is not here")
	digest := sha256.Sum256(archive)
	judge := func(stamp, record []byte) *custody.Report {
		dir := Proofs + "/p"
		c := &check{fs: fstest.MapFS{dir + "/" + OriginStamp: {Data: stamp}, dir + "/" + OriginEvidence: {Data: record}}, sums: map[string][sha256.Size]byte{}}
		require.NoError(t, c.read())
		c.evidence(dir+"/"+OriginEvidence, digest[:])
		return &c.Report
	}
	stamp := respond(t, pki, cmstest.Now, 2, crypto.SHA256, digest[:], false)

	r := judge(stamp, renewed(t, pki, cmstest.Now.AddDate(2, 0, 0), crypto.SHA256, archive))
	require.Empty(t, r.Problems, "at the very end")
	require.Equal(t, []string{"the time stamp of package p was renewed: 1 stamps"}, r.Holds)

	r = judge(stamp, renewed(t, pki, cmstest.Now.AddDate(2, 0, 1), crypto.SHA256, archive))
	require.True(t, r.Has(ProofBad), "a day after it")
	require.Contains(t, r.Problems[0].Message, "ended on "+cmstest.Now.AddDate(2, 0, 0).Format(time.DateOnly))
	require.Empty(t, r.Holds)

	r = judge(stamp, renewed(t, pki, cmstest.Now.AddDate(1, 0, 0), crypto.SHA512, archive))
	require.Empty(t, r.Problems)
	require.Len(t, r.Unshown, 1, "over other digests than the log states")
	r = judge(stamp, renewed(t, pki, cmstest.Now.AddDate(3, 0, 0), crypto.SHA512, archive))
	require.True(t, r.Has(ProofBad), "it begins late, whatever it is over")

	r = judge(respond(t, pki, cmstest.Now, 2, crypto.SHA256, digest[:], true), renewed(t, pki, cmstest.Now, crypto.SHA256, archive))
	require.True(t, r.Has(ProofBad), "when it ended cannot be said of a stamp without its certificate")
	require.Empty(t, r.Holds)
}
