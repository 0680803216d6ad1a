package pec

import (
	"crypto/sha1" // the index of providers names certificates by SHA-1
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestIndexFindsWhatASearchFinds: the first provider in the list, whatever the case and the blanks, and the first that is not
// withdrawn by then.
func TestIndexFindsWhatASearchFinds(t *testing.T) {
	w := newWorld(t)
	slow := &TrustList{Providers: []Provider{
		{Name: "uno", Domains: []string{" Uno.test", "comune.test"}, Certificates: []string{strings.ToUpper(fingerprint(w.alfa.Certificate))}},
		{Name: "due", Domains: []string{"due.test", "COMUNE.test"}, Certificates: []string{fingerprint(w.alfa.Certificate)}},
	}}
	sum := sha1.Sum(w.beta.Certificate.Raw)
	slow.Providers = append(slow.Providers, Provider{Name: "tre", CertificatesSHA1: []string{" " + hexOf(sum[:])}})
	slow.Providers[0].Withdrawals = []Withdrawal{{Certificate: fingerprint(w.alfa.Certificate), From: at}}
	slow.Providers = append(slow.Providers, Provider{Name: "quattro", Domains: []string{"due.test"}})
	slow.Providers[1].Withdrawals = []Withdrawal{{From: at.AddDate(0, 6, 0)}}
	fast := &TrustList{Providers: slow.Providers}
	fast.Index()
	for _, d := range []string{"uno.test", "UNO.test", "due.test", "comune.test", "altro.test", ""} {
		require.Equal(t, slow.Manager(d), fast.Manager(d), d)
	}
	for _, g := range []*Gestore{w.alfa, w.beta, w.person} {
		for _, moment := range []time.Time{{}, at, at.AddDate(1, 0, 0)} {
			one, w1 := slow.find(g.Certificate, moment)
			other, w2 := fast.find(g.Certificate, moment)
			require.Equal(t, one, other, g.Name)
			require.Equal(t, w1, w2, g.Name)
		}
	}
	require.Equal(t, "uno", fast.Manager("comune.test").Name)
	require.Equal(t, "quattro", fast.Manager("due.test").Name, "who is withdrawn gives way")
	p, _ := fast.find(w.beta.Certificate, time.Time{})
	require.Equal(t, "tre", p.Name)
}

// TestBase64AtOnceIsBase64AsAStream: whatever stands between the letters, and however it ends.
func TestBase64AtOnceIsBase64AsAStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.OneOf(
			rapid.StringMatching(`[A-Za-z0-9+/=\r\n !-]{0,200}`),
			rapid.Custom(func(t *rapid.T) string {
				return base64.StdEncoding.EncodeToString(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
			}),
		).Draw(t, "body")
		m, err := ParseBytes([]byte("Content-Transfer-Encoding: base64\r\n\r\n" + body))
		require.NoError(t, err)
		stream, err := io.ReadAll(m.Root.Open())
		require.NoError(t, err)
		once, err := m.Root.Bytes(0)
		require.NoError(t, err)
		require.Equal(t, string(stream), string(once), fmt.Sprintf("%q", body))
		if len(once) > 1 {
			_, err = m.Root.Bytes(len(once) - 1)
			require.True(t, isLimit(err))
			again, err := m.Root.Bytes(len(once))
			require.NoError(t, err)
			require.Equal(t, once, again)
		}
	})
}
