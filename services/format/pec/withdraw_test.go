package pec

import (
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestG7Withdrawals: what was signed before the moment stays proven, what comes after is not, whichever hash names the
// certificate; another provider that lists it, and one that took over the domains, are not touched. TESTPLAN G7.
func TestG7Withdrawals(t *testing.T) {
	w := newWorld(t)
	in := arrived(t, w, draft())
	act, err := in.Consegna(at, "protocollo@beta.test")
	require.NoError(t, err)
	_, r := written(t, w.beta, act)
	i := 1
	require.Equal(t, w.beta.Name, w.trust.Providers[i].Name)
	require.NotEmpty(t, w.trust.Providers[i].Domains)
	sum := sha1.Sum(w.beta.Certificate.Raw)
	long, short := fingerprint(w.beta.Certificate), hexOf(sum[:])
	hour := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
	for _, c := range []struct {
		name   string
		ends   []Withdrawal
		others []Provider
		want   Status
		proven bool
	}{
		{"none", nil, nil, StatusValid, true},
		{"later, the whole provider", []Withdrawal{{From: hour(1)}}, nil, StatusValid, true},
		{"later, and another took its domains over", []Withdrawal{{From: hour(1)}}, []Provider{{Name: "Nuovo", Domains: w.trust.Providers[i].Domains}}, StatusValid, true},
		{"not withdrawn, and another has its domains", nil, []Provider{{Name: "Nuovo", Domains: w.trust.Providers[i].Domains}}, StatusValid, false},
		{"at that moment", []Withdrawal{{From: at}}, nil, StatusUntrusted, false},
		{"before, the whole provider", []Withdrawal{{From: hour(-1)}}, nil, StatusUntrusted, false},
		{"from the beginning, by SHA-256", []Withdrawal{{Certificate: long}}, nil, StatusUntrusted, false},
		{"before, by SHA-1", []Withdrawal{{Certificate: short, From: hour(-1)}}, nil, StatusUntrusted, false},
		{"another certificate of it", []Withdrawal{{Certificate: fingerprint(w.alfa.Certificate)}}, nil, StatusValid, true},
		{"twice, the earlier decides", []Withdrawal{{Certificate: long, From: hour(1)}, {Certificate: long}}, nil, StatusUntrusted, false},
		{"here, and listed with another", []Withdrawal{{Certificate: long}}, []Provider{{Name: "Altro", Certificates: []string{long}}}, StatusValid, false},
	} {
		for _, index := range []bool{false, true} {
			list := *w.trust
			list.Providers = append([]Provider(nil), w.trust.Providers...)
			list.Providers[i].Withdrawals = c.ends
			list.Providers = append(c.others[:len(c.others):len(c.others)], list.Providers...)
			if index {
				list.Index()
			}
			rep, err := r.Verify(Verification{Trust: &list, At: at, Now: at})
			require.NoError(t, err)
			require.Equal(t, c.want, rep.Status, "%s: %s", c.name, rep.Reason)
			require.Equal(t, c.proven, r.Proven(rep), "%s: %v", c.name, rep.Findings)
			if c.want == StatusUntrusted {
				require.Contains(t, rep.Reason, "withdrew", c.name)
				require.Equal(t, w.beta.Name, rep.Provider, "who it was is said")
			}
		}
	}
}
