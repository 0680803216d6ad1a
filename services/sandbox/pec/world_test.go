package pec_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ceralacca.dev/services/sandbox"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/clock"
	"ceralacca.dev/services/sandbox/fault"
	"ceralacca.dev/services/sandbox/pec"
	"github.com/stretchr/testify/require"
)

// TestCertificatesAreKept: with a directory the providers sign with the same certificates after a
// restart; a damaged file is said, an expiring certificate is replaced under the same authority.
func TestCertificatesAreKept(t *testing.T) {
	dir := t.TempDir()
	providers := func(now func() time.Time) []client.PECProvider {
		t.Helper()
		srv, err := sandbox.Start(context.Background(), sandbox.Config{Dir: dir, Now: now})
		require.NoError(t, err)
		defer srv.Close()
		list, err := client.New(srv.Endpoints().ControlURL).PECProviders(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 2)
		for _, p := range list {
			require.Contains(t, p.CertPEM, "BEGIN CERTIFICATE")
			require.Contains(t, p.Name, "SANDBOX")
		}
		return list
	}
	first, again := providers(nil), providers(nil)
	require.Equal(t, first, again)
	later := providers(func() time.Time { return time.Now().Add(ca.DefaultValidity - 24*time.Hour) })
	require.Equal(t, first[0].CAPEM, later[0].CAPEM)
	require.NotEqual(t, first[0].CertSHA256, later[0].CertSHA256)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pec-beta", "signer.pem"), []byte("x"), 0o600))
	_, err := sandbox.Start(context.Background(), sandbox.Config{Dir: dir})
	require.ErrorContains(t, err, "delete the file")
}

// TestProvidersAreChecked: what New refuses.
func TestProvidersAreChecked(t *testing.T) {
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	k := clock.New(nil)
	defer k.Close()
	for want, list := range map[string][]pec.Provider{
		"needs id":          {{Name: "x", Domains: []string{"a.test"}}},
		"needs id, name":    {{ID: "x", Domains: []string{"a.test"}}},
		"has two providers": {{ID: "a", Name: "A", Domains: []string{"a.test"}}, {ID: "b", Name: "B", Domains: []string{"A.test"}}},
	} {
		_, err := pec.New(t.Context(), pec.Config{CA: authority, Clock: k, Faults: &fault.Registry{}, Providers: list})
		require.ErrorContains(t, err, want)
	}
}
