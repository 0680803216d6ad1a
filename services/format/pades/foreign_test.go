package pades_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/format/cms/cmstest"
	"ceralacca.dev/services/format/pades"
)

// pdfbox runs commands of testdata/pdfbox/PdfBox.java.
func pdfbox(t *testing.T, commands ...[]string) string {
	t.Helper()
	var jars []string
	for _, j := range []string{"pdfbox2", "fontbox2", "bcprov", "bcpkix", "bcutil", "commons-logging"} {
		p := "/usr/share/java/" + j + ".jar"
		if _, err := os.Stat(p); err != nil {
			if j == "bcutil" { // older packages have it inside
				continue
			}
			t.Fatalf("%s is not there: run make prepare, or apt-get install -y libpdfbox2-java libbcpkix-java", p)
		}
		jars = append(jars, p)
	}
	args := []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dpdfbox.fontcache=" + t.TempDir(), "-cp", strings.Join(jars, ":"), "testdata/pdfbox/PdfBox.java"}
	for i, c := range commands {
		if i > 0 {
			args = append(args, "--")
		}
		args = append(args, c...)
	}
	cmd := exec.Command("java", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	raw, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return string(raw)
}

// store writes a PKCS #12 file for Java.
func (k *desk) store(t *testing.T) string {
	p12 := filepath.Join(t.TempDir(), "key.p12")
	cmstest.OpenSSL(t, "pkcs12", "-export", "-in", cmstest.CertFile(t, k.pair.Cert), "-inkey", cmstest.KeyFile(t, k.pair.Key),
		"-out", p12, "-passout", "pass:x", "-name", "k")
	return p12
}

// PDFBox and BouncyCastle find our signatures valid, stamps and signing certificate included.
func TestPDFBoxReadsOurs(t *testing.T) {
	k := newDesk(t)
	rsa := *k
	rsa.pair = k.pki.Issue(t, "Mario Bianchi", cmstest.RSA(t))
	var commands [][]string
	for _, file := range forms(rich) {
		one := k.sign(file, pades.Options{Timestamp: k.stamp, Box: &pades.Box{X: 10, Y: 10, Width: 100, Height: 40, Lines: []string{"x"}}})
		two := rsa.sign(one, pades.Options{})
		commands = append(commands, []string{"verify", cmstest.File(t, "two.pdf", two)})
	}
	out := pdfbox(t, commands...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 6)
	require.Equal(t, 3, strings.Count(out, "valid=true ess=true signingTime=false stamp=holds sub=ETSI.CAdES.detached"), out)
	require.Equal(t, 3, strings.Count(out, "valid=true ess=true signingTime=false stamp=none sub=ETSI.CAdES.detached"), out)
}

// What PDFBox signs and changes is judged as it should be, before and after our own signatures.
func TestReadsPDFBox(t *testing.T) {
	k := newDesk(t)
	ours := k.sign(plain(rich).table(""), pades.Options{})
	certified := k.sign(plain(rich).table(""), pades.Options{Certify: pades.NoChanges})
	dir := t.TempDir()
	at := func(n string) string { return filepath.Join(dir, n+".pdf") }
	for n, raw := range map[string][]byte{"plain": plain(rich).table(""), "stream": plain(rich).streamed(), "ours": ours, "certified": certified} {
		require.NoError(t, os.WriteFile(at(n), raw, 0o600))
	}
	p12 := k.store(t)
	pdfbox(t,
		[]string{"sign", at("plain"), at("etsi"), p12, "etsi"}, []string{"sign", at("plain"), at("pkcs7"), p12, "pkcs7"},
		[]string{"sign", at("stream"), at("streamed"), p12, "etsi"}, []string{"sign", at("ours"), at("second"), p12, "etsi"},
		[]string{"fill", at("ours"), at("filled")}, []string{"note", at("ours"), at("noted")}, []string{"write", at("ours"), at("written")},
		[]string{"fill", at("certified"), at("certified-filled")}, []string{"fill", at("etsi"), at("etsi-filled")})
	for _, c := range []struct {
		file   string
		levels string
		kinds  string // of the changes after each
		bad    string
	}{
		{"etsi", "PAdES-B-B", "none", ""},
		{"pkcs7", "PDF-CMS", "none", ""},
		{"streamed", "PAdES-B-B", "none", ""},
		{"second", "PAdES-B-B PAdES-B-B", "signing none", ""},
		{"filled", "PAdES-B-B", "form-filling", ""},
		{"noted", "PAdES-B-B", "annotations", "later changes"},
		{"written", "PAdES-B-B", "content", "later changes"},
		{"certified-filled", "PAdES-B-B", "form-filling", "forbids changes"},
		{"etsi-filled", "PAdES-B-B", "form-filling", ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw, err := os.ReadFile(at(c.file))
			require.NoError(t, err)
			o := k.options()
			o.At = time.Now() // the clock of BouncyCastle
			r, err := pades.Verify(t.Context(), bytes.NewReader(raw), int64(len(raw)), o)
			require.NoError(t, err)
			var levels, kinds []string
			for _, s := range r.Signatures {
				levels, kinds = append(levels, string(s.Level)), append(kinds, s.Modification.String())
				for _, x := range s.Changes {
					t.Logf("%s: object %d: %s (%s)", s.Field, x.Object, x.What, x.Kind)
				}
			}
			require.Equal(t, c.levels, strings.Join(levels, " "))
			require.Equal(t, c.kinds, strings.Join(kinds, " "))
			if c.bad == "" {
				require.NoError(t, r.Err())
				again := k.sign(raw, pades.Options{Timestamp: k.stamp})
				r, err := pades.Verify(t.Context(), bytes.NewReader(again), int64(len(again)), o)
				require.NoError(t, err)
				require.NoError(t, r.Err())
				pdfsig(t, again, len(r.Signatures))
			} else {
				require.ErrorContains(t, r.Err(), c.bad)
			}
		})
	}
}

// openssl makes the CMS over the digest that Prepare gives; ours goes back to openssl.
func TestOpenSSL(t *testing.T) {
	k := newDesk(t)
	for form, file := range forms() {
		t.Run(form, func(t *testing.T) {
			p, err := pades.Prepare(t.Context(), bytes.NewReader(file), int64(len(file)), k.signer(), pades.Options{SigningTime: cmstest.Now})
			require.NoError(t, err)
			out := k.sign(file, pades.Options{Timestamp: k.stamp})
			b := k.verify(out).Signatures[0].ByteRange
			covered := append(bytes.Clone(out[:b[1]]), out[b[2]:]...)
			der := unhex(t, out[b[1]+1:b[2]-1])
			cmstest.OpenSSL(t, "cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", cmstest.File(t, "s.p7s", der),
				"-content", cmstest.File(t, "content", covered), "-CAfile", cmstest.CertFile(t, k.pki.Root), "-purpose", "any", "-attime", "1772447415", "-out", os.DevNull)

			// the other way: a provider that makes the whole CMS
			content := filepath.Join(t.TempDir(), "content")
			require.NoError(t, os.WriteFile(content, covered2(t, p, file, k), 0o600))
			made := filepath.Join(t.TempDir(), "made.p7s")
			cmstest.OpenSSL(t, "cms", "-sign", "-cades", "-binary", "-outform", "DER", "-md", "sha256", "-in", content,
				"-signer", cmstest.CertFile(t, k.pair.Cert), "-inkey", cmstest.KeyFile(t, k.pair.Key), "-out", made)
			foreign, err := os.ReadFile(made)
			require.NoError(t, err)
			var signed bytes.Buffer
			if err := p.WriteCMS(t.Context(), &signed, foreign); err != nil {
				require.ErrorContains(t, err, "outside the certificate's validity") // openssl signs "now"
				return
			}
			r := k.verify(signed.Bytes())
			require.Equal(t, pades.LevelBB, r.Signatures[0].Level)
			require.True(t, r.Signatures[0].Signature.Intact())
			require.Contains(t, r.Signatures[0].Warnings[0], "signing-time attribute")
			pdfsig(t, signed.Bytes(), 1)
			var none bytes.Buffer
			foreign[len(foreign)-1] ^= 1
			require.Error(t, p.WriteCMS(t.Context(), &none, foreign))
			require.ErrorContains(t, p.WriteCMS(t.Context(), &none, append(foreign, 0)), "one detached CMS")
			require.Zero(t, none.Len())
		})
	}
}

// covered2 gives the bytes that p will have signed: those of the file it writes.
func covered2(t *testing.T, p *pades.Prepared, file []byte, k *desk) []byte {
	t.Helper()
	sig, err := p.Sign(t.Context(), k.pair.Key)
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, p.Write(t.Context(), &out, sig))
	b := k.verify(out.Bytes()).Signatures[0].ByteRange
	return append(bytes.Clone(out.Bytes()[:b[1]]), out.Bytes()[b[2]:]...)
}

func unhex(t *testing.T, digits []byte) []byte {
	t.Helper()
	out := make([]byte, len(digits)/2)
	_, err := fmt.Sscanf(string(digits), "%x", &out)
	require.NoError(t, err)
	n := 4 + int(out[2])<<8 + int(out[3])
	require.Equal(t, []byte{0x30, 0x82}, out[:2])
	return out[:n]
}

// Files that qpdf writes in its own ways are read, signed and verified.
func TestQPDFFiles(t *testing.T) {
	k := newDesk(t)
	in := cmstest.File(t, "in.pdf", plain(rich, func(o objects) { o[3] = strings.Replace(o[3], "60 0 R", "", 1) }).table(""))
	for _, args := range [][]string{
		{"--linearize"}, {"--object-streams=generate"}, {"--linearize", "--object-streams=generate"}, {"--object-streams=disable", "--qdf"}, {"--newline-before-endstream"},
	} {
		out := filepath.Join(t.TempDir(), "out.pdf")
		msg, err := cmstest.Run(t, "qpdf", "qpdf", append([]string{"--warning-exit-0"}, append(args, in, out)...)...)
		require.NoError(t, err, msg)
		raw, err := os.ReadFile(out)
		require.NoError(t, err)
		signed := k.sign(raw, pades.Options{Box: &pades.Box{X: 10, Y: 10, Width: 100, Height: 40, Lines: []string{"x"}}})
		require.NoError(t, k.verify(signed).Err(), "%v", args)
		twice := k.sign(signed, pades.Options{})
		require.NoError(t, k.verify(twice).Err(), "%v", args)
		pdfsig(t, twice, 2)
		qpdf(t, twice)
	}
	locked := filepath.Join(t.TempDir(), "locked.pdf")
	msg, err := cmstest.Run(t, "qpdf", "qpdf", "--warning-exit-0", "--encrypt", "a", "b", "256", "--", in, locked)
	require.NoError(t, err, msg)
	raw, err := os.ReadFile(locked)
	require.NoError(t, err)
	_, err = k.try(raw, pades.Options{})
	require.ErrorIs(t, err, pades.ErrEncrypted)
	_, err = pades.Verify(t.Context(), bytes.NewReader(raw), int64(len(raw)), pades.VerifyOptions{})
	require.ErrorIs(t, err, pades.ErrEncrypted)
}
