package pecgateway_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/devenv"
	"ceralacca.dev/services/internal/devenv/vault"
	"ceralacca.dev/services/internal/run/runtest"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/signer"
)

const archive = "tenants/platform/companies/archive"

// withSigner adds a real signer to the process, with a credential of kind ROLE, and gives its authority.
func withSigner(t *testing.T) (*house, *ca.CA) {
	t.Helper()
	server, _ := vaultOf(t)
	root, err := devenv.Root()
	require.NoError(t, err)
	roles, err := server.Provision(t.Context(), filepath.Join(root, "deploy", "vault"))
	require.NoError(t, err)
	dir := t.TempDir()
	for name, text := range map[string]string{"role": roles[vault.SignerRole].RoleID, "secret": roles[vault.SignerRole].SecretID} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	h := open(t, "  desk: {log_credential: "+archive+"/credentials/-}\n", func(o *runtest.Options) {
		o.Targets = append(o.Targets, signer.Target)
		o.Config = fmt.Sprintf("signer:\n  vault: {address: %q, role_id_file: %q, secret_id_file: %q}\n", server.Addr, filepath.Join(dir, "role"), filepath.Join(dir, "secret")) + o.Config
	})
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	sign := signv1.NewSignServiceClient(h.Operator("signer"))
	c, err := sign.CreateCredential(t.Context(), &signv1.CreateCredentialRequest{Parent: archive, Credential: &signv1.Credential{
		Kind: signv1.CredentialKind_CREDENTIAL_KIND_ROLE, KeyType: signv1.KeyType_KEY_TYPE_EC_P256, CommonName: "Responsabile",
	}})
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(c.GetCsrPem()))
	cert, err := authority.SignCSR(block.Bytes, ca.ProfileRole)
	require.NoError(t, err)
	_, err = sign.ImportCertificate(t.Context(), &signv1.ImportCertificateRequest{
		Name: c.GetName(), CertificatePem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})) + string(authority.CertPEM()),
	})
	require.NoError(t, err)
	return h, authority
}

// TestG8LogIsSigned: the log with a manifest that the platform's signer signed. openssl judges the signature, the manifest
// names the log by its hash, and the log has what was asked for. Without a credential the program says so.
func TestG8LogIsSigned(t *testing.T) {
	t.Parallel()
	h, authority := withSigner(t)
	h.believe()
	box := h.add(recipient)
	for i := range 3 {
		h.inject(recipient, plain(fmt.Sprintf("numero%d", i)))
	}
	h.send(recipient)
	h.kept(box)
	files := h.signedLog(t, &pecv1.ExportLogRequest{Parent: box.GetName(), Filter: &pecv1.LogFilter{Subject: "numero"}, Signed: true})
	var name string
	for n := range files {
		if strings.HasSuffix(n, ".csv") {
			name = n
		}
	}
	rows, err := csv.NewReader(bytes.NewReader(files[name])).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 4)
	var m struct {
		File, SHA256, Mailboxes string
		Size, Entries           int64
		Filter                  struct{ Subject string }
	}
	require.NoError(t, json.Unmarshal(files["manifest.json"], &m))
	sum := sha256.Sum256(files[name])
	require.Equal(t, []any{name, hex.EncodeToString(sum[:]), int64(len(files[name])), int64(3), box.GetName(), "numero"},
		[]any{m.File, m.SHA256, m.Size, m.Entries, m.Mailboxes, m.Filter.Subject})

	dir := t.TempDir()
	for n, data := range map[string][]byte{"manifest.json.p7m": files["manifest.json.p7m"], "roots.pem": authority.CertPEM()} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, n), data, 0o600))
	}
	cmd := exec.Command("openssl", "cms", "-verify", "-inform", "DER", "-in", "manifest.json.p7m", "-CAfile", "roots.pem", "-purpose", "any", "-out", "signed.json")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	signed, err := os.ReadFile(filepath.Join(dir, "signed.json"))
	require.NoError(t, err)
	require.Equal(t, string(files["manifest.json"]), string(signed))
	require.Contains(t, string(files["VERIFY.txt"]), "openssl cms -verify")
	h.invariants(box)
}

// TestG8LogIsNotSigned: nothing is signed without a credential, and the log as it is can be had all the same.
func TestG8LogIsNotSigned(t *testing.T) {
	t.Parallel()
	h := open(t, "")
	box := h.add(recipient)
	stream, err := h.desk().ExportLog(t.Context(), &pecv1.ExportLogRequest{Parent: box.GetName(), Signed: true})
	require.NoError(t, err)
	_, err = stream.Recv()
	requireFault(t, err, "LOG_NOT_SIGNED")
	stream, err = h.desk().ExportLog(t.Context(), &pecv1.ExportLogRequest{Parent: box.GetName()})
	require.NoError(t, err)
	first, err := stream.Recv()
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(first.GetFileName(), ".csv"))
	require.Contains(t, string(first.GetData()), "number,time,event")
}

func (h *house) signedLog(t *testing.T, req *pecv1.ExportLogRequest) map[string][]byte {
	t.Helper()
	stream, err := h.desk().ExportLog(t.Context(), req)
	require.NoError(t, err)
	raw := drain(t, func() ([]byte, error) {
		r, err := stream.Recv()
		return r.GetData(), err
	}).Bytes()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		files[f.Name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	return files
}
