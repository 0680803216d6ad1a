package validation_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
)

var (
	deltaOf  = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	indirect = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}}
	unheard  = pkix.Extension{Id: asn1.ObjectIdentifier{2, 999, 7}, Critical: true, Value: []byte{5, 0}}
)

// about adds the issuer that an entry of an indirect list is about.
func about(e x509.RevocationListEntry, name []byte) x509.RevocationListEntry {
	inner := append([]byte{0xa4, byte(len(name))}, name...)
	e.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: append([]byte{0x30, byte(len(inner))}, inner...)}}
	return e
}

// listed is crl with extensions.
func (w world) listed(at time.Time, extensions []pkix.Extension, revoked ...x509.RevocationListEntry) *x509.RevocationList {
	w.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(at.Unix()), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 30),
		RevokedCertificateEntries: revoked, ExtraExtensions: extensions}, w.pki.Root, w.pki.Key)
	require.NoError(w.t, err)
	list, err := validation.ParseCRL(der)
	require.NoError(w.t, err)
	return list
}

// TestWhatSourcesSayTogether: lists that are about changes, or about several issuers, and sources that say
// different things of different times.
func TestWhatSourcesSayTogether(t *testing.T) {
	w := newWorld(t)
	stranger, err := asn1.Marshal(pkix.Name{CommonName: "Another authority"}.ToRDNSequence())
	require.NoError(t, err)
	at := func(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }
	mine := w.pair.Cert
	hold := func(hours int) x509.RevocationListEntry { return entry(mine, at(hours), 6) }
	other := x509.RevocationListEntry{SerialNumber: big.NewInt(77), RevocationTime: at(1), ReasonCode: 1}
	unheardEntry := other
	unheardEntry.ExtraExtensions = []pkix.Extension{unheard}
	type lists = []*x509.RevocationList
	for name, c := range map[string]struct {
		lists   lists
		ocsps   [][]byte
		stamped int // hours after the signature; 0: not
		want    validation.Verdict
		sub     validation.Sub
	}{
		"a delta lifts":                        {lists{w.listed(at(3), []pkix.Extension{deltaOf}, entry(mine, at(1), 8))}, nil, 0, unsure, validation.TryLater},
		"a delta lifts, and the next has none": {lists{w.listed(at(3), []pkix.Extension{deltaOf}, entry(mine, at(1), 8)), w.crl(at(4))}, nil, 0, pass, ""},
		"a delta revokes":                      {lists{w.crl(at(2)), w.listed(at(3), []pkix.Extension{deltaOf}, entry(mine, at(1), 1))}, nil, 0, unsure, validation.RevokedNoPOE},

		"after the entry of another's":                   {lists{w.crl(at(4)), w.listed(at(3), []pkix.Extension{indirect}, about(other, stranger), entry(mine, at(1), 1))}, nil, 0, pass, ""},
		"before the entry of another's":                  {lists{w.crl(at(4)), w.listed(at(3), []pkix.Extension{indirect}, entry(mine, at(1), 1), about(other, stranger))}, nil, 0, unsure, validation.RevokedNoPOE},
		"after the entry of another's, and its own name": {lists{w.crl(at(4)), w.listed(at(3), []pkix.Extension{indirect}, about(other, stranger), about(entry(mine, at(1), 1), mine.RawIssuer))}, nil, 0, unsure, validation.RevokedNoPOE},
		"after an entry under its own name":              {lists{w.crl(at(4)), w.listed(at(3), []pkix.Extension{indirect}, about(other, mine.RawIssuer), entry(mine, at(1), 1))}, nil, 0, unsure, validation.RevokedNoPOE},
		"an issuer that cannot be read":                  {lists{w.crl(at(4)), w.listed(at(3), []pkix.Extension{indirect}, about(other, []byte{0x30, 9}), entry(mine, at(1), 1))}, nil, 0, pass, ""},

		"an extension that nobody knows":             {lists{w.listed(at(3), []pkix.Extension{unheard})}, nil, 0, unsure, validation.TryLater},
		"an extension of an entry that nobody knows": {lists{w.listed(at(3), nil, unheardEntry)}, nil, 0, unsure, validation.TryLater},
		"the same, and it is revoked":                {lists{w.listed(at(3), []pkix.Extension{unheard}, entry(mine, at(1), 1))}, nil, 0, unsure, validation.RevokedNoPOE},

		"held, then good":                         {lists{w.crl(at(2), hold(1)), w.crl(at(3))}, nil, 0, pass, ""},
		"held, then good by OCSP":                 {lists{w.crl(at(2), hold(1))}, [][]byte{w.ocspFor(mine, ocsp.Good, at(3), time.Time{})}, 0, pass, ""},
		"good, then held":                         {lists{w.crl(at(2)), w.crl(at(3), hold(1))}, nil, 0, unsure, validation.TryLater},
		"held, good, held again":                  {lists{w.crl(at(2), hold(1)), w.crl(at(3)), w.crl(at(4), hold(4))}, nil, 0, unsure, validation.TryLater},
		"stamped while it was held, good since":   {lists{w.crl(at(3), hold(1)), w.crl(at(4))}, nil, 2, unsure, validation.TryLater},
		"stamped before it was held":              {lists{w.crl(at(3), hold(3))}, nil, 2, pass, ""},
		"stamped while it was held, then revoked": {lists{w.crl(at(2), hold(1)), w.crl(at(4), entry(mine, at(4), 1))}, nil, 3, unsure, validation.TryLater},
		"stamped before it was revoked":           {lists{w.crl(at(4), entry(mine, at(4), 1))}, nil, 3, pass, ""},
		"revoked, the older date counts":          {lists{w.crl(at(4), entry(mine, at(4), 1)), w.crl(at(5), entry(mine, at(2), 1))}, nil, 3, unsure, validation.RevokedNoPOE},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options(at(6))
			o.CRLs, o.OCSPs = c.lists, c.ocsps
			file := w.p7m(doc)
			if c.stamped > 0 {
				file = w.p7m(doc, at(c.stamped))
			}
			r, err := validation.Validate(t.Context(), file, o)
			require.NoError(t, err)
			require.Equal(t, c.sub, r.Sub, r.Reason)
			require.Equal(t, c.want, r.Verdict, r.Reason)
		})
	}
}

// TestOtherChains: of an authority that two roots certify, the chain that can be judged to its end is
// enough, whichever comes first; that one of the two is revoked or nothing is known of it says nothing of
// the other.
func TestOtherChains(t *testing.T) {
	w := newWorld(t)
	second := cmstest.New(t)
	second.Root = second.Issue(t, "Second root", second.Key, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}).Cert
	key := cmstest.NewECDSA(t)
	authority := func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.SubjectKeyId = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, []byte{1}
	}
	one, two := w.pki.Issue(t, "Authority", key, authority), second.Issue(t, "Authority", key, authority)
	under := w
	under.pki = &cmstest.PKI{Root: one.Cert, Key: key}
	under.pair = under.pki.Issue(t, "Maria Rossi", cmstest.NewECDSA(t))
	under.tsa = under.pki.Issue(t, "Marca", cmstest.NewECDSA(t), cmstest.TimeStamping)
	under.pair.Chain, under.tsa.Chain = []*x509.Certificate{under.pair.Cert}, []*x509.Certificate{under.tsa.Cert, one.Cert}
	bySecond := w
	bySecond.pki = second
	at := now.Add(6 * time.Hour)
	own := under.crl(at.Add(-time.Hour))
	for name, c := range map[string]struct {
		lists []*x509.RevocationList
		sub   validation.Sub
	}{
		"nothing known by the first":    {[]*x509.RevocationList{own, bySecond.crl(at.Add(-time.Hour))}, ""},
		"nothing known by the second":   {[]*x509.RevocationList{own, w.crl(at.Add(-time.Hour))}, ""},
		"revoked by the first":          {[]*x509.RevocationList{own, bySecond.crl(at.Add(-time.Hour)), w.crl(at.Add(-time.Hour), entry(one.Cert, now, 1))}, ""},
		"revoked by the second":         {[]*x509.RevocationList{own, w.crl(at.Add(-time.Hour)), bySecond.crl(at.Add(-time.Hour), entry(two.Cert, now, 1))}, ""},
		"revoked by both":               {[]*x509.RevocationList{own, w.crl(at.Add(-time.Hour), entry(one.Cert, now, 1)), bySecond.crl(at.Add(-time.Hour), entry(two.Cert, now, 1))}, validation.RevokedCANoPOE},
		"nothing known by either":       {[]*x509.RevocationList{own}, validation.TryLater},
		"the signer's revoked, in both": {[]*x509.RevocationList{under.crl(at.Add(-time.Hour), entry(under.pair.Cert, now, 1)), w.crl(at), bySecond.crl(at)}, validation.RevokedNoPOE},
	} {
		for _, stamped := range []bool{false, true} {
			o := validation.Options{At: at, Roots: []*x509.Certificate{w.pki.Root, second.Root}, Intermediates: []*x509.Certificate{one.Cert, two.Cert}, CRLs: c.lists}
			file := under.p7m(doc)
			if stamped {
				file = under.p7m(doc, at.Add(-time.Minute))
			}
			r, err := validation.Validate(t.Context(), file, o)
			require.NoError(t, err, name)
			require.Equal(t, c.sub, r.Sub, name+": "+r.Reason)
			require.Equal(t, stamped && c.sub != validation.RevokedCANoPOE && c.sub != validation.TryLater, r.Signatures[0].Proven, name)
		}
	}
}
