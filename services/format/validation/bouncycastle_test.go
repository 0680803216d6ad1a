package validation_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ocsp"

	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/validation"
	"ceralacca.dev/services/format/xades"
)

// bouncyCastle runs commands of testdata/bouncycastle/Peer.java. All go in one run: most of its time is
// the start of the virtual machine and the compiling of the file.
func bouncyCastle(t *testing.T, commands ...[]string) map[string]string {
	t.Helper()
	var jars []string
	for _, j := range []string{"bcprov", "bcpkix", "bcutil"} {
		p := "/usr/share/java/" + j + ".jar"
		_, err := os.Stat(p)
		if j == "bcutil" && err != nil {
			continue // older packages have it inside
		}
		require.NoError(t, err, "BouncyCastle is missing: apt-get install -y libbcpkix-java default-jdk-headless")
		jars = append(jars, p)
	}
	java, err := exec.LookPath("java")
	require.NoError(t, err, "Java is missing: apt-get install -y libbcpkix-java default-jdk-headless")
	args := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", strings.Join(jars, ":"), "testdata/bouncycastle/Peer.java"}
	for i, c := range commands {
		if i > 0 {
			args = append(args, "--")
		}
		args = append(args, c...)
	}
	cmd := exec.Command(java, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	said := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		name, words, ok := strings.Cut(strings.TrimSpace(line), ": ")
		require.True(t, ok, line)
		said[name] = words
	}
	return said
}

// forJava writes keys and certificates as DER files.
type forJava struct {
	t   *testing.T
	dir string
}

func (f forJava) file(name string, raw []byte) string {
	path := filepath.Join(f.dir, name)
	require.NoError(f.t, os.WriteFile(path, raw, 0o600))
	return path
}

func (f forJava) pair(name string, p cmstest.Pair) (key, cert string) {
	der, err := x509.MarshalPKCS8PrivateKey(p.Key)
	require.NoError(f.t, err)
	return f.file(name+".key", der), f.file(name+".cer", p.Cert.Raw)
}

func (f forJava) read(name string) []byte {
	raw, err := os.ReadFile(filepath.Join(f.dir, name))
	require.NoError(f.t, err)
	return raw
}

// TestBouncyCastle goes both ways in one run of the peer: it judges what we make, and we judge what it
// makes, sound and tampered with, whole and in pieces.
func TestBouncyCastle(t *testing.T) {
	w, j := newWorld(t), forJava{t, t.TempDir()}
	byRSA := w.pki.Issue(t, "Mario Bianchi", cmstest.RSA(t))
	content := bytes.Repeat([]byte("Pay 100 euro to the bearer.\n"), 500)
	data := j.file("content", content)

	// Ours.
	ecKey, ecCert := j.pair("ec", w.pair)
	rsaKey, rsaCert := j.pair("rsa", byRSA)
	tsaKey, tsaCert := j.pair("tsa", w.tsa)
	ours := w.p7m(content)
	stamped := w.p7m(content, now.Add(time.Minute))
	parallel, err := cades.AddSigner(t.Context(), stamped, cades.Signer{Chain: byRSA.Chain, Key: byRSA.Key}, cades.Options{SigningTime: now})
	require.NoError(t, err)
	sum := sha(content)
	beside, err := cades.SignDetached(t.Context(), sum, cades.Signer{Chain: byRSA.Chain, Key: byRSA.Key}, cades.Options{SigningTime: now})
	require.NoError(t, err)
	inXML, err := xades.Sign(t.Context(), []byte("<?xml version=\"1.0\"?>\n<?a b?><doc xmlns:p=\"urn:p\"><p:a>1</p:a></doc>"),
		xades.Signer{Chain: byRSA.Chain, Key: byRSA.Key}, xades.Options{SigningTime: now, Timestamp: xades.Stamp(w.stamp(now))})
	require.NoError(t, err)

	var commands [][]string
	theirs := map[string][2]string{
		"rsa": {rsaKey, rsaCert}, "sha512": {rsaKey, rsaCert}, "pss": {rsaKey, rsaCert}, "ecdsa": {ecKey, ecCert}, "ski": {rsaKey, rsaCert}, "stream": {ecKey, ecCert},
		"ber": {rsaKey, rsaCert}, "direct": {rsaKey, rsaCert}, "detached": {ecKey, ecCert},
	}
	for kind, who := range theirs {
		commands = append(commands, []string{"sign", kind, who[0], who[1], data, filepath.Join(j.dir, kind+".p7m")})
	}
	commands = append(commands,
		[]string{"add", j.file("ours.p7m", ours), rsaKey, rsaCert, filepath.Join(j.dir, "added.p7m")},
		[]string{"counter", j.file("ours-T.p7m", stamped), rsaKey, rsaCert, filepath.Join(j.dir, "counter.p7m")},
		[]string{"stamp", data, tsaKey, tsaCert, filepath.Join(j.dir, "content.tst")},
		[]string{"verify", j.file("ours.p7m", ours), "-"},
		[]string{"verify", j.file("ours-T.p7m", stamped), "-"},
		[]string{"verify", j.file("parallel.p7m", parallel), "-"},
		[]string{"verify", j.file("beside.p7s", beside), data},
		[]string{"verify", filepath.Join(j.dir, "counter.p7m"), "-"},
		[]string{"verify", j.file("changed.p7m", changed(t, ours, "Pay 100", "Pay 900")), "-"},
		[]string{"verifyxml", j.file("doc.xml", inXML), rsaCert},
		[]string{"verifyxml", j.file("changed.xml", changed(t, inXML, ">1<", ">2<")), rsaCert},
	)
	said := bouncyCastle(t, commands...)
	for file, want := range map[string]string{
		"ours.p7m": "valid=true ess=true", "ours-T.p7m": "valid=true ess=true stamp=true", "beside.p7s": "valid=true ess=true", "changed.p7m": "valid=false ess=true",
		"counter.p7m": "valid=true ess=true stamp=true counter( valid=true ess=true )", "doc.xml": "valid=true", "changed.xml": "valid=false",
	} {
		require.Equal(t, want, said[file], file)
	}
	require.Equal(t, 2, strings.Count(said["parallel.p7m"], "valid=true ess=true"), said["parallel.p7m"])
	require.Equal(t, 1, strings.Count(said["parallel.p7m"], "stamp=true"))

	// Theirs. They sign at the time of this machine.
	at := time.Now().Add(time.Minute)
	o := w.options(at)
	o.CRLs = append(o.CRLs, w.crl(at))
	for _, p := range []cmstest.Pair{w.pair, byRSA, w.tsa} {
		o.OCSPs = append(o.OCSPs, w.ocspFor(p.Cert, ocsp.Good, at, time.Time{}))
	}
	algorithm := map[string]string{"pss": "RSA-PSS", "ecdsa": "ECDSA", "stream": "ECDSA", "detached": "ECDSA"}
	for kind := range theirs {
		t.Run(kind, func(t *testing.T) {
			file := j.read(kind + ".p7m")
			sd, err := cms.Parse(file)
			require.NoError(t, err)
			require.Equal(t, kind == "stream" || kind == "ber", sd.BER)
			require.Equal(t, kind == "ski", sd.Signers[0].SubjectKeyID != nil)
			rep := cades.Judge(sd, cades.VerifyOptions{Content: bytes.NewReader(content)})
			want := "RSA"
			if algorithm[kind] != "" {
				want = algorithm[kind]
			}
			require.Equal(t, want, rep.Signers[0].Algorithm)
			for _, f := range []struct {
				raw     []byte
				verdict validation.Verdict
				sub     validation.Sub
			}{{file, validation.Passed, ""}, {bytes.Replace(file, []byte("Pay 100"), []byte("Pay 900"), 1), validation.Failed, validation.HashFailure}} {
				o := o
				if kind == "detached" {
					o.Content = bytes.Replace(content, []byte("Pay 100"), []byte("Pay 900"), map[validation.Verdict]int{validation.Failed: 1}[f.verdict])
				}
				if kind == "direct" && f.verdict == validation.Failed {
					f.sub = validation.SigCryptoFailure // without attributes there is no digest to compare
				}
				whole, err := validation.Validate(t.Context(), f.raw, o)
				require.NoError(t, err)
				require.Equal(t, f.verdict, whole.Verdict, whole.Reason)
				require.Equal(t, f.sub, whole.Sub)
				pieces, err := validation.ValidateSource(t.Context(), bytes.NewReader(f.raw), o)
				require.NoError(t, err)
				require.Equal(t, whole.Signatures, pieces.Signatures)
			}
		})
	}
	t.Run("added to ours", func(t *testing.T) {
		r, err := validation.Validate(t.Context(), j.read("added.p7m"), o)
		require.NoError(t, err)
		require.Equal(t, validation.Passed, r.Verdict, r.Reason)
		require.Len(t, r.Signatures, 2)
	})
	t.Run("counter-signed", func(t *testing.T) {
		file := j.read("counter.p7m")
		r, err := validation.Validate(t.Context(), file, o)
		require.NoError(t, err)
		require.Equal(t, validation.Passed, r.Verdict, r.Reason)
		require.Len(t, r.Signatures, 2)
		require.Equal(t, 0, r.Signatures[0].CounterSigns)
		require.Equal(t, 1, r.Signatures[1].CounterSigns)
		require.Equal(t, validation.Passed, r.Signatures[1].Verdict, r.Signatures[1].Reason)
		require.Equal(t, "Mario Bianchi", r.Signatures[1].Signer.Name)

		// A counter-signature that does not hold is told, and spoils nothing: anybody can add one.
		sd, err := cms.Parse(file)
		require.NoError(t, err)
		counters, err := sd.Signers[0].CounterSigners()
		require.NoError(t, err)
		bent := bytes.Clone(file)
		bent[bytes.Index(bent, counters[0].Signature)+9] ^= 1
		r, err = validation.Validate(t.Context(), bent, o)
		require.NoError(t, err)
		require.Equal(t, validation.Passed, r.Verdict, r.Reason)
		require.Equal(t, validation.SigCryptoFailure, r.Signatures[1].Sub)
	})
	t.Run("their stamp", func(t *testing.T) {
		o := o
		o.Content = content
		r, err := validation.Validate(t.Context(), j.read("content.tst"), o)
		require.NoError(t, err)
		require.Equal(t, validation.Passed, r.Verdict, r.Reason)
		require.Equal(t, validation.KindTSR, r.Kind)
	})
}

func sha(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}
