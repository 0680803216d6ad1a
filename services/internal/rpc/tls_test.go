package rpc_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/rpc"
)

// TestDevCertificates: what is good is kept, what is missing is made, and a new
// CA renews everything under it.
func TestDevCertificates(t *testing.T) {
	dir := t.TempDir()
	files, err := rpc.DevCertificates(dir, "invoice")
	require.NoError(t, err)
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(data)
	}
	ca, invoice := read("ca.crt"), read("invoice.crt")
	_, err = rpc.DevCertificates(dir, "invoice", "signer")
	require.NoError(t, err)
	require.Equal(t, ca, read("ca.crt"))
	require.Equal(t, invoice, read("invoice.crt"))
	pair, err := tls.LoadX509KeyPair(files.For("signer").Cert, files.For("signer").Key)
	require.NoError(t, err)
	require.Equal(t, "signer", pair.Leaf.Subject.CommonName)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(ca)))
	for _, name := range []string{"signer", "localhost", "127.0.0.1"} {
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
		require.NoError(t, err, name)
	}
	info, err := os.Stat(filepath.Join(dir, "invoice.key"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())

	require.NoError(t, os.Remove(filepath.Join(dir, "ca.key")))
	_, err = rpc.DevCertificates(dir, "invoice")
	require.NoError(t, err)
	require.NotEqual(t, ca, read("ca.crt"))
	require.NotEqual(t, invoice, read("invoice.crt"))
}

func TestTLSErrorsNameTheFile(t *testing.T) {
	files, err := rpc.DevCertificates(t.TempDir(), "invoice")
	require.NoError(t, err)
	for name, change := range map[string]func(f *rpc.Files){
		"no certificate": func(f *rpc.Files) { f.Cert = "/nowhere/{target}.crt" },
		"no CA":          func(f *rpc.Files) { f.CA = "/nowhere/ca.crt" },
		"CA is a key":    func(f *rpc.Files) { f.CA = f.For("invoice").Key },
	} {
		t.Run(name, func(t *testing.T) {
			bad := files
			change(&bad)
			_, err := rpc.ServerTLS(bad, "invoice")
			require.Error(t, err)
			require.Regexp(t, `/nowhere/|invoice\.key`, err.Error())
			require.Error(t, bad.Ready("invoice"))
		})
	}
	require.NoError(t, files.Ready("invoice"))
}
