package conservation

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/revocation"
	"ceralacca.dev/services/format/tsp"
)

// withLists verifies an unpacked package with openssl and the lists that are in it.
func withLists(t *testing.T, roots, dir string) error {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	trust := func(name string) string {
		list, err := os.ReadFile(at(revocationDir + name + revocation.Lists))
		require.NoError(t, err)
		root, err := os.ReadFile(roots)
		require.NoError(t, err)
		file := filepath.Join(t.TempDir(), "trust.pem")
		require.NoError(t, os.WriteFile(file, append(root, list...), 0o600))
		return file
	}
	err := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", at(signedFile), "-CAfile", trust("PIndex.xml.p7m"), "-crl_check", "-purpose", "any", "-no_check_time", "-out", os.DevNull).Run()
	if err != nil {
		return err
	}
	return exec.Command("openssl", "ts", "-verify", "-in", at(stampFile), "-data", at(signedFile), "-CAfile", trust("PIndex.xml.p7m.tsr"), "-crl_check", "-no_check_time").Run()
}

func (h *house) sealOne(t *testing.T, n int) *conservationv1.Package {
	t.Helper()
	h.settle(t, context.Background(), h.invoice(t, n))
	h.await(t, "taken", func() bool { return h.counted(t, "unit WHERE state = 'TAKEN_IN_CHARGE'") == 1 })
	return h.closePackage(t)
}

// askedEachTime is for tests in which the issuer changes its mind.
const askedEachTime = "  revocation: {allow_networks: [127.0.0.0/8], timeout: 2s, reuse: 0s}\n"

// TestOneListForManyPackages: the issuer is asked for its list once, by signatures and stamps of packages alike, and each package brings it.
func TestOneListForManyPackages(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	var lists [][]byte
	for n := range 3 {
		p := h.awaitSealed(t, h.sealOne(t, n).GetName())
		_, files := unzip(t, h.download(t, p.GetName(), archiveFile), path.Base(p.GetName()))
		lists = append(lists, files[revocationDir+"PIndex.xml.p7m.crl"], files[revocationDir+"PIndex.xml.p7m.tsr.crl"])
	}
	require.NotEmpty(t, lists[0])
	for _, list := range lists {
		require.Equal(t, string(lists[0]), string(list))
	}
	require.Equal(t, int32(1), h.listed.Load(), "nine questions, of three packages")
}

// TestRevocation: what the issuers say when a package is sealed is in it, and others verify by it; what they do not say is noted and
// holds nothing up; what was taken back seals nothing.
func TestRevocation(t *testing.T) {
	t.Parallel()
	h, ctx := openWith(t, true, askedEachTime), context.Background()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, h.ca.CertPEM(), 0o600))
	contents := func(p *conservationv1.Package) (string, map[string][]byte, revocations) {
		dir, files := unzip(t, h.download(t, p.GetName(), archiveFile), path.Base(p.GetName()))
		var note revocations
		require.NoError(t, json.Unmarshal(files[revocationNote], &note))
		return dir, files, note
	}
	first := h.awaitSealed(t, h.sealOne(t, 1).GetName())
	h.judge(t, first)
	dir, files0, note := contents(first)
	require.Empty(t, note.Signature.Lacks)
	require.Empty(t, note.Stamp.Lacks)
	require.WithinDuration(t, time.Now(), note.Asked, time.Minute)
	require.NoError(t, withLists(t, roots, dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, revocationDir, "PIndex.xml.p7m.crl"), nil, 0o600))
	require.Error(t, withLists(t, roots, dir), "openssl looks at the list, and misses it")
	_, f := h.runCheck(t, deepKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)

	t.Run("silence", func(t *testing.T) {
		h.unlisted.Store(true)
		defer h.unlisted.Store(false)
		p := h.awaitSealed(t, h.sealOne(t, 2).GetName())
		require.Less(t, time.Duration(h.waited.Load()), 20*time.Second, "a question lasts two seconds, and no answer holds nothing up")
		h.judge(t, p)
		_, files, note := contents(p)
		require.NotContains(t, files, revocationDir+"PIndex.xml.p7m.crl")
		require.Len(t, note.Signature.Lacks, 1)
		require.Len(t, note.Stamp.Lacks, 1)
		require.Contains(t, note.Stamp.Lacks[0], "list: ")
	})
	t.Run("credential", func(t *testing.T) {
		revoked := h.role
		h.ca.Revoke(revoked, time.Now())
		p := h.sealOne(t, 3)
		h.await(t, "says why", func() bool { return strings.Contains(h.pack(t, p.GetName()).GetLastError(), codeCredentialRevoked) })
		left := h.pack(t, p.GetName())
		require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_INDEXED, left.GetState())
		require.Empty(t, left.GetSignedIndex().GetSha256())
		list, err := h.sign.ListCredentials(ctx, &signv1.ListCredentialsRequest{Parent: platform})
		require.NoError(t, err)
		for _, c := range list.GetCredentials() {
			_, err = h.sign.RevokeCredential(ctx, &signv1.RevokeCredentialRequest{Name: c.GetName()})
			require.NoError(t, err)
		}
		h.certify(t)
		h.judge(t, h.awaitSealed(t, p.GetName())) // signed anew, by the other

		// In what was sealed before, the list of then says nothing; one of today would, and of a time before the revocation still nothing.
		token, err := tsp.ParseToken(files0[stampFile])
		require.NoError(t, err)
		chain, err := h.service.signerChain(files0[signedFile], token.Info.Time)
		require.NoError(t, err)
		require.True(t, chain[0].Equal(revoked))
		said, _ := h.service.issuers.chain(ctx, chain)
		holds, problem := revocation.Beside(said.Files()[revocation.Lists], nil, chain, token.Info.Time)
		require.Empty(t, problem)
		require.Contains(t, holds, "none of its 1 certificates was revoked")
		_, problem = revocation.Beside(said.Files()[revocation.Lists], nil, chain, time.Now().Add(time.Second))
		require.Contains(t, problem, "was revoked on")
	})
	t.Run("authority", func(t *testing.T) {
		h.ca.Revoke(h.tsa[0].Certificate(), time.Now().Add(-time.Hour))
		p := h.awaitSealed(t, h.sealOne(t, 4).GetName())
		dir, files, _ := contents(p)
		token, err := tsp.ParseToken(files[stampFile])
		require.NoError(t, err)
		by, err := h.service.stampChain(token)
		require.NoError(t, err)
		require.True(t, by[0].Equal(h.tsa[1].Certificate()), "the other was asked")
		require.NoError(t, withLists(t, roots, dir))

		// What the authority says today of the first package's stamp.
		old, err := tsp.ParseToken(files0[stampFile])
		require.NoError(t, err)
		chain, err := h.service.stampChain(old)
		require.NoError(t, err)
		list, err := h.ca.CRL()
		require.NoError(t, err)
		var said []string
		j := &judge{s: h.service, kept: map[string][]byte{}, bad: func(format string, _ ...any) { said = append(said, format) }}
		j.kept[signedFile], j.kept[stampFile] = files0[signedFile], files0[stampFile]
		j.kept[revocationDir+"PIndex.xml.p7m.tsr.crl"] = list
		_, problem := revocation.Beside(list, nil, chain, old.Info.Time)
		require.Contains(t, problem, "was revoked on")
		j.stamp()
		require.Contains(t, said, "the certificates of the %s: %s")
	})
}

// TestRevocationIsAskedOnce: an attempt to write the archive that is made again takes what the first was told.
func TestRevocationIsAskedOnce(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, askedEachTime)
	p := h.awaitSealed(t, h.sealOne(t, 1).GetName())
	tenant, id, err := parseName("name", p.GetName(), "packages", noPackage(p.GetName()))
	require.NoError(t, err)
	row, err := h.service.pack(context.Background(), tenant, SealArgs{Tenant: tenant, Package: id})
	require.NoError(t, err)
	h.ca.Revoke(h.role, time.Now())
	again, err := h.service.askRevocation(context.Background(), row)
	require.NoError(t, err)
	tags, err := again.tags()
	require.NoError(t, err)
	_, files := unzip(t, h.download(t, p.GetName(), archiveFile), path.Base(p.GetName()))
	for name, content := range tags {
		require.Equal(t, string(files[name]), string(content), name)
	}
	require.Len(t, tags, 3)
}
