package pec

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// oldChain is an authority and a provider's certificate as they were in 2014: RSA, signed over SHA-1, both ended since.
func oldChain(t *testing.T, name, address string) (leaf, root *x509.Certificate, key *rsa.PrivateKey) {
	t.Helper()
	from := time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC)
	issue := func(tpl, parent *x509.Certificate, pub *rsa.PublicKey, by *rsa.PrivateKey) *x509.Certificate {
		tpl.SerialNumber, tpl.NotBefore, tpl.SignatureAlgorithm = big.NewInt(int64(len(tpl.Subject.CommonName))), from, x509.SHA1WithRSA
		if parent == nil {
			parent = tpl
		}
		der, err := x509.CreateCertificate(rand.Reader, tpl, parent, pub, by)
		require.NoError(t, err)
		c, err := x509.ParseCertificate(der)
		require.NoError(t, err)
		return c
	}
	rootKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	root = issue(&x509.Certificate{Subject: pkix.Name{CommonName: "Old authority NOT VALID"}, NotAfter: from.AddDate(6, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, &rootKey.PublicKey, rootKey)
	key, err = rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	leaf = issue(&x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{name}}, NotAfter: from.AddDate(3, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		EmailAddresses: []string{address}}, root, &key.PublicKey, rootKey)
	return leaf, root, key
}

// TestC5OldMailByLeafHash: mail as the providers wrote it, signed by openssl and not by us, over SHA-1 with a certificate
// whose chain is over SHA-1 and has ended. No chain can be judged; the certificate that the trust list names by its hash is
// believed at its time, and neither before nor after it, nor another one of the same chain. (A real mail with its signature
// intact is a private letter: none is kept here.) TESTPLAN C5.
func TestC5OldMailByLeafHash(t *testing.T) {
	bin, err := exec.LookPath("openssl")
	require.NoError(t, err, "run make prepare, or apt-get install -y openssl")
	w := newWorld(t)
	leaf, root, key := oldChain(t, w.alfa.Name, w.alfa.Address)
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	put := func(name, kind string, data []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
	}
	put("key.pem", "PRIVATE KEY", der)
	put("leaf.pem", "CERTIFICATE", leaf.Raw)
	put("root.pem", "CERTIFICATE", root.Raw)
	sum := sha256.Sum256(leaf.Raw)
	for _, profile := range []Profile{ProfileAruba, ProfileNamirial, ProfileSogei, ProfileLegalmail} {
		t.Run(profile.Name, func(t *testing.T) {
			w.alfa.Profile = profile
			raw, r := written(t, w.alfa, transit(t, draft()).Accettazione(at))
			signed := make([]byte, r.Signed.End-r.Signed.Start)
			_, err := r.Signed.Raw().ReadAt(signed, 0)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "content"), signed, 0o600))
			args := "cms -sign -binary -md sha1 -outform DER -signer leaf.pem -inkey key.pem -certfile root.pem -in content -out p7s"
			cmd := exec.CommandContext(t.Context(), bin, strings.Fields(args)...)
			cmd.Dir = dir
			msg, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", args, msg)
			p7s, err := os.ReadFile(filepath.Join(dir, "p7s"))
			require.NoError(t, err)
			if profile.BER { // openssl writes such lengths only around content that is inside
				p7s = indefinite(p7s, 3)
			}
			var out bytes.Buffer
			out.Write(raw[:r.P7S.BodyStart])
			lines := &base64Lines{w: &out, width: 48}
			_, err = lines.Write(p7s)
			require.NoError(t, err)
			require.NoError(t, lines.Close())
			out.Write(raw[r.P7S.End:])
			mail := readAll(t, out.Bytes())

			verify := func(at time.Time, list *TrustList) *Report {
				rep, err := mail.Verify(Verification{Trust: list, At: at, Now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)})
				require.NoError(t, err)
				return rep
			}
			pool := x509.NewCertPool()
			pool.AddCert(root)
			pinned := &TrustList{Roots: pool, Providers: []Provider{{Name: w.alfa.Name, Signers: []string{w.alfa.Address}, Certificates: []string{hex.EncodeToString(sum[:])}}}}
			in2014 := time.Date(2014, 5, 5, 0, 0, 0, 0, time.UTC)
			rep := verify(in2014, pinned)
			require.Equal(t, StatusValid, rep.Status, rep.Reason)
			require.Equal(t, "SHA-1", rep.DigestAlgorithm)
			require.NotEqual(t, "passed", rep.Chain, "nobody can judge a chain over SHA-1")
			require.Equal(t, StatusUntrusted, verify(in2014.AddDate(4, 0, 0), pinned).Status, "after its end")
			require.Equal(t, StatusUntrusted, verify(in2014.AddDate(-4, 0, 0), pinned).Status, "before its beginning")
			other := *pinned
			other.Providers = []Provider{{Name: w.alfa.Name, Certificates: []string{strings.Repeat("0", 64)}}}
			require.Equal(t, StatusUntrusted, verify(in2014, &other).Status, "the chain alone does not make it believed")
			out.Bytes()[mail.Signed.TextParts()[0].BodyStart+3] ^= 1
			mail = readAll(t, out.Bytes())
			require.Equal(t, StatusInvalidDigest, verify(in2014, pinned).Status)
		})
	}
}
