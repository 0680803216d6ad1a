package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what TOTP is made of
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/tests/harness"
)

const requestPIN = "40718362"

// totpAt is the code of a step. spec: RFC6238 §4.2, RFC4226 §5.3
func totpAt(t *testing.T, uri string, step int64) string {
	t.Helper()
	u, err := url.Parse(uri)
	require.NoError(t, err)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	require.NoError(t, err)
	mac := hmac.New(sha1.New, secret)
	require.NoError(t, binary.Write(mac, binary.BigEndian, step))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// round is a signature request of a customer, from the command line.
type round struct {
	terminal
	c     *harness.Customer
	dir   string
	roots string // of the sandbox's authority
}

func (r *round) file(name, content string) string {
	path := filepath.Join(r.dir, name)
	require.NoError(r.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// json is what a command prints with --format json.
func (r *round) json(into any, arguments ...string) {
	r.t.Helper()
	require.NoError(r.t, json.Unmarshal([]byte(r.does(append(arguments, "--format", "json")...)), into))
}

// certified makes a credential with its certificate.
func (r *round) certified(kind signv1.CredentialKind) string {
	r.t.Helper()
	ctx := r.c.Ctx(r.t.Context())
	made, err := r.c.Sign.CreateCredential(ctx, &signv1.CreateCredentialRequest{Parent: r.c.Company, RequestId: uuid.NewString(),
		Credential: &signv1.Credential{Kind: kind, KeyType: signv1.KeyType_KEY_TYPE_EC_P256, CommonName: "SANDBOX signer"}})
	require.NoError(r.t, err)
	block, _ := pem.Decode([]byte(made.GetCsrPem()))
	require.NotNil(r.t, block)
	issued, err := r.p.Sandbox.SignCSR(ctx, block.Bytes, "signing")
	require.NoError(r.t, err)
	require.NoError(r.t, os.WriteFile(r.roots, []byte(issued.CAPEM), 0o600))
	_, err = r.c.Sign.ImportCertificate(ctx, &signv1.ImportCertificateRequest{Name: made.GetName(), CertificatePem: issued.CertPEM + issued.CAPEM})
	require.NoError(r.t, err)
	return made.GetName()
}

// person is a holder with PIN and app, ready to sign: the credential, and the code of the next step.
func (r *round) person(holder string) (credential, code string) {
	r.t.Helper()
	credential = r.certified(signv1.CredentialKind_CREDENTIAL_KIND_PERSON)
	pin := r.file("pin", requestPIN)
	r.does("otp", "pin", "--credential", credential, "--holder", holder, "--new-pin-file", pin)
	var enrolled struct {
		Device struct {
			Name string `json:"name"`
		} `json:"otp_device"`
		URI string `json:"otpauth_uri"`
	}
	r.json(&enrolled, "otp", "enrol", "--credential", credential, "--pin-file", pin)
	step := time.Now().Unix() / 30
	r.does("otp", "confirm", enrolled.Device.Name, "--credential", credential, "--pin-file", pin, "--otp-file", r.file("otp", totpAt(r.t, enrolled.URI, step)))
	return credential, totpAt(r.t, enrolled.URI, step+1)
}

// TestSignatureRequest: an approver, then two signers in order, from the command line; and the bundle, judged by
// openssl and by the tool without a server.
func TestSignatureRequest(t *testing.T) {
	t.Parallel()
	p := harness.Share(t, harness.ManyProcesses)
	c, err := p.Onboard(t.Context(), 1)
	require.NoError(t, err)
	dir := t.TempDir()
	r := &round{terminal: terminal{t: t, p: p, key: c.Key, tenant: c.Tenant}, c: c, dir: dir, roots: filepath.Join(dir, "roots.pem")}
	seal := r.certified(signv1.CredentialKind_CREDENTIAL_KIND_SEAL)
	var mandate struct {
		Name string `json:"name"`
	}
	r.json(&mandate, "mandate", "create", seal, "--description", "Seals", "--forms", "p7s", "--until", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	one, code1 := r.person("u-1")
	two, code2 := r.person("u-2")

	contract := r.file("contract.txt", "the whole of the contract")
	var made struct {
		Name  string `json:"name"`
		Steps []struct {
			Participants []struct {
				Name string `json:"name"`
			} `json:"participants"`
		} `json:"steps"`
	}
	r.json(&made, "request", "create", contract, "--title", "Lease", "--deadline", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "--seal", mandate.Name,
		"--step", "approve:anna@example.com", "--step", "sign:u-1", "--step", "sign:u-2")
	who := func(i int) string { return made.Steps[i].Participants[0].Name }
	require.Contains(t, r.says("request", "ls", "--person", "anna@example.com", "--waiting"), "Lease")
	r.refused(1, "DOCUMENT_CHANGED", "request", "approve", who(0), r.file("other.txt", "another contract"))
	r.does("request", "approve", who(0), contract)
	for i, s := range []struct{ credential, code string }{{one, code1}, {two, code2}} {
		r.does("request", "sign", who(i+1), contract, "--credential", s.credential, "--pin-file", r.file("pin", requestPIN), "--otp-file", r.file("otp", s.code))
	}
	require.Contains(t, r.does("request", "watch", made.Name), "SEALED")

	zipped := filepath.Join(dir, "bundle.zip")
	r.does("request", "bundle", made.Name, "--output", zipped)
	files := r.unpack(zipped)
	r.openssl("cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", files["audit.json.p7s"], "-content", files["audit.json"], "-CAfile", r.roots, "-purpose", "any", "-out", filepath.Join(dir, "out"))
	r.openssl("cms", "-verify", "-cades", "-binary", "-inform", "DER", "-in", files["signed/01-contract.txt.p7m"], "-CAfile", r.roots, "-purpose", "any", "-out", filepath.Join(dir, "out"))
	signed, err := os.ReadFile(filepath.Join(dir, "out"))
	require.NoError(t, err)
	require.Equal(t, "the whole of the contract", string(signed))

	out, _, exit := r.run("verify", "--roots", r.roots, zipped)
	require.Equal(t, 3, exit, "whole, and nobody said that the certificates are not revoked: %s", out)
	require.Contains(t, out, "COMPLETED")
	raw, err := os.ReadFile(zipped)
	require.NoError(t, err)
	out, _, exit = r.run("verify", "--roots", r.roots, r.file("false.zip", string(r.withoutLine(raw))))
	require.Equal(t, 1, exit, out)
	require.Contains(t, out, "audit.json")
}

func (r *round) openssl(arguments ...string) {
	r.t.Helper()
	bin, err := exec.LookPath("openssl")
	require.NoError(r.t, err, "openssl is what judges the bundle: install it")
	said, err := exec.Command(bin, arguments...).CombinedOutput()
	require.NoError(r.t, err, "%s", said)
}

// unpack writes the members beside each other and says where.
func (r *round) unpack(zipped string) map[string]string {
	r.t.Helper()
	z, err := zip.OpenReader(zipped)
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, z.Close()) }()
	where := map[string]string{}
	for i, f := range z.File {
		in, err := f.Open()
		require.NoError(r.t, err)
		content, err := io.ReadAll(in)
		require.NoError(r.t, err)
		where[f.Name] = r.file(fmt.Sprintf("member-%d", i), string(content))
	}
	return where
}

// withoutLine is the bundle with a trail in which nobody approved.
func (r *round) withoutLine(raw []byte) []byte {
	r.t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(r.t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range z.File {
		in, err := f.Open()
		require.NoError(r.t, err)
		content, err := io.ReadAll(in)
		require.NoError(r.t, err)
		if f.Name == "audit.json" {
			content = []byte(strings.Replace(string(content), `"action":"APPROVED"`, `"action":"VIEWED"`, 1))
		}
		member, err := w.Create(f.Name)
		require.NoError(r.t, err)
		_, err = member.Write(content)
		require.NoError(r.t, err)
	}
	require.NoError(r.t, w.Close())
	return out.Bytes()
}
