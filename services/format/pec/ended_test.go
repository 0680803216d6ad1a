package pec

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestC10SignedBeforeTheCertificateEnded: a message that came after the end of its signer's certificate, as all old mail does where
// it was copied to another provider, is no forgery when everything held at the moment that its signature states. It is not proven
// either. What does not hold besides is told as before. TESTPLAN C10.
func TestC10SignedBeforeTheCertificateEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tr := transit(t, draft())
	plain, err := ParseBytes(composed(t, draft()))
	require.NoError(t, err)
	ends := at.Add(time.Hour)
	listed := w.renewed(t, at.AddDate(-2, 0, 0), ends)
	w.trust.Providers[0].Certificates = append(w.trust.Providers[0].Certificates, fingerprint(listed.Certificate))
	unlisted := w.renewed(t, at.AddDate(-2, 0, 0), ends)
	person := *w.person
	person.Certificate, person.Key = w.certificate(t, at.AddDate(-2, 0, 0), ends, person.Address)
	impostor := person
	impostor.Address = w.alfa.Address
	revoked := func(when time.Time) []*x509.RevocationList {
		tpl := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: ends, NextUpdate: ends.AddDate(5, 0, 0),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: listed.Certificate.SerialNumber, RevocationTime: when}}}
		der, err := x509.CreateRevocationList(rand.Reader, tpl, w.caAlfa, w.caKey)
		require.NoError(t, err)
		l, err := x509.ParseRevocationList(der)
		require.NoError(t, err)
		return []*x509.RevocationList{l}
	}
	gone := *w.trust
	gone.Providers = append([]Provider(nil), w.trust.Providers...)
	gone.Providers[0].Withdrawals = []Withdrawal{{Certificate: fingerprint(listed.Certificate), From: at.Add(time.Minute)}}
	copied := at.AddDate(3, 0, 0)
	v := Verification{Trust: w.trust, At: copied, Home: w.alfa.Name}
	with := func(change func(v *Verification)) Verification { c := v; change(&c); return c }
	for _, c := range []struct {
		name string
		g    *Gestore
		a    Atto
		v    Verification
		want Status
		says string
	}{
		{"copied after the end", listed, tr.Accettazione(at), v, StatusEnded, "only the signature itself says"},
		{"with a memory of chains", listed, tr.Accettazione(at), with(func(v *Verification) { v.Chains = &ChainCache{} }), StatusEnded, "only the signature itself says"},
		{"of a provider that is in no list yet", unlisted, tr.Accettazione(at), v, StatusEnded, "is not in the trust list"},
		{"an anomaly, which has no daticert", listed, Anomalia(plain, at, "not certified"), v, StatusEnded, "only the signature itself says"},
		{"signed just before the end", listed, tr.Accettazione(ends), v, StatusEnded, "only the signature itself says"},
		{"signed after the end", listed, tr.Accettazione(ends.Add(time.Second)), v, StatusUntrusted, "was not valid"},
		{"signed before the beginning", listed, tr.Accettazione(at.AddDate(-3, 0, 0)), v, StatusUntrusted, "was not valid"},
		{"came before the end", listed, tr.Accettazione(at), with(func(v *Verification) { v.At = ends }), StatusValid, ""},
		{"a person", &person, tr.Accettazione(at), v, StatusUntrusted, "was not valid"},
		{"a person as the provider", &impostor, tr.Accettazione(at), v, StatusUntrusted, "the certificate is for"},
		{"no list and no roots", listed, tr.Accettazione(at), Verification{At: copied}, StatusUntrusted, "was not valid"},
		{"another provider accepts", listed, tr.Accettazione(at), with(func(v *Verification) { v.Home = w.beta.Name }), StatusUntrusted, "was not valid"},
		{"revoked between its signature and its end", listed, tr.Accettazione(at), with(func(v *Verification) { v.Revocations = revoked(at.Add(time.Minute)) }), StatusUntrusted, "was not valid"},
		{"withdrawn between its signature and its end", listed, tr.Accettazione(at), with(func(v *Verification) { v.Trust = &gone }), StatusUntrusted, "was not valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, r := written(t, c.g, c.a)
			rep, err := r.Verify(c.v)
			require.NoError(t, err)
			require.Equal(t, c.want, rep.Status, rep.Reason)
			require.Contains(t, rep.Reason, c.says)
			require.Equal(t, c.want == StatusValid, r.Proven(rep))
			require.True(t, rep.JudgedAt.Equal(c.v.At), "the moment of judgement stays that of the receipt")
		})
	}
	for apart, want := range map[time.Duration]Status{clockSlack: StatusEnded, -clockSlack: StatusEnded, clockSlack + time.Second: StatusUntrusted, -clockSlack - time.Second: StatusUntrusted} {
		_, r := written(t, listed, tr.Accettazione(at))
		r.Daticert.Ora = at.In(rome(t)).Add(apart).Format("15:04:05")
		rep, err := r.Verify(v)
		require.NoError(t, err)
		require.Equal(t, want, rep.Status, "daticert and signature are %s apart", apart)
	}
	t.Run("an altered byte", func(t *testing.T) {
		raw, r := written(t, listed, tr.Accettazione(at))
		raw[r.Signed.TextParts()[0].BodyStart+3] ^= 1
		rep, err := readAll(t, raw).Verify(v)
		require.NoError(t, err)
		require.Equal(t, StatusInvalidDigest, rep.Status)
	})
}
