package signer_test

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/sandbox/client"
	"ceralacca.dev/services/sandbox/remotesign"
)

// strays are the files of the store that no row names.
func (w *ward) strays(t *testing.T) (out []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(w.store, "tenants", "acme"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sum, err := hex.DecodeString(d.Name())
		require.NoError(t, err)
		if w.counted(t, `SELECT count(*) FROM (
			SELECT 1 FROM signature WHERE $1::bytea IN (original_sha256, signed_sha256)
			UNION ALL SELECT 1 FROM made_file WHERE sha256 = $1
			UNION ALL SELECT 1 FROM made_bundle WHERE sha256 = $1
			UNION ALL SELECT 1 FROM signing_request WHERE bundle_sha256 = $1
			UNION ALL SELECT 1 FROM signing_request_document WHERE $1 IN (original_sha256, signed_sha256)
			UNION ALL SELECT 1 FROM challenge WHERE $1 = ANY(signed_sha256)
			UNION ALL SELECT 1 FROM document_signing WHERE $1 = ANY(signed_sha256)) AS named`, sum) == 0 {
			out = append(out, d.Name())
		}
		return nil
	})
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	return out
}

// notes are the files that were written down and that no row has taken.
func (w *ward) notes(t *testing.T, original []byte) int {
	t.Helper()
	return w.counted(t, "SELECT count(*) FROM made_file WHERE original_sha256 = $1", hashOf(original))
}

// killedBeforeTheRecord: what was signed without a person is in the store, and the process dies. The next run records that
// file; it asks no key again, and leaves none behind that nobody finds.
func (w *ward) killedBeforeTheRecord(t *testing.T, world *remotesign.World) {
	atRecord := boundary{"signature", "UPDATE", "NEW.state = 'DONE' AND OLD.state = 'PENDING'"}
	signed := func(before int) int {
		b, _ := w.batches(t, before)
		return b.signed
	}
	asArchive := func(content []byte, of string) (*signv1.SignBlobRequest, func() error) {
		ref, err := w.probe.host.Blobs.Put(t.Context(), "acme", content)
		require.NoError(t, err)
		req := &signv1.SignBlobRequest{Parent: "tenants/acme", Credential: of + "/credentials/-", Subject: "tenants/acme/packages/" + uuid.NewString(), Content: blobOf(ref), RequestId: uuid.NewString()}
		return req, func() error {
			_, err := w.others.SignBlob(t.Context(), req)
			return err
		}
	}
	const archive = "tenants/acme/companies/archive"
	keeper := w.credential(t, archive, role, p256)
	strays := w.strays(t)

	t.Run("for another service", func(t *testing.T) {
		content := []byte("an index of the archive")
		req, ask := asArchive(content, archive)
		_, before := w.batches(t, 0)
		w.cutAt(t, atRecord, ask)
		require.Equal(t, 1, w.notes(t, content))
		got, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		w.opensslAccepts(t, w.get(t, got.GetSigned()), content)
		require.Equal(t, 1, signed(before), "it was signed once")
		require.Zero(t, w.notes(t, content), "what a row names need not be noted")
		again, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, got.GetSigned().GetSha256(), again.GetSigned().GetSha256())
		require.Equal(t, 1, w.counted(t, "SELECT count(*) FROM audit_entry WHERE action = 'document.sign' AND resource = $1", got.GetName()))
	})
	t.Run("written down, not stored", func(t *testing.T) {
		content := []byte("another index of the archive")
		req, ask := asArchive(content, archive)
		w.cutAt(t, atRecord, ask)
		var sum []byte
		require.NoError(t, w.admin.QueryRow(t.Context(), "SELECT sha256 FROM made_file WHERE original_sha256 = $1", hashOf(content)).Scan(&sum))
		name := hex.EncodeToString(sum)
		require.NoError(t, os.Remove(filepath.Join(w.store, "tenants", "acme", name[:2], name)))
		got, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		w.opensslAccepts(t, w.get(t, got.GetSigned()), content)
	})
	t.Run("signed, not written down", func(t *testing.T) {
		content := []byte("a third index of the archive")
		req, ask := asArchive(content, archive)
		w.cutAt(t, boundary{"made_file", "INSERT", "NEW.signature_id IS NOT NULL"}, ask)
		require.Equal(t, strays, w.strays(t), "it is not in the store either")
		got, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		w.opensslAccepts(t, w.get(t, got.GetSigned()), content)
	})
	t.Run("an invoice", func(t *testing.T) {
		content := []byte("<f n='alone'/>")
		var subject string
		_, before := w.batches(t, 0)
		w.cutAt(t, atRecord, func() error {
			subject = w.probe.accept(t, true, content, 1)
			return errors.New("events are answered by events")
		})
		eventually(t, "it is signed", func() bool { return len(w.probe.signedOf(subject)) > 0 })
		w.opensslAccepts(t, w.get(t, w.probe.signedOf(subject)[0].GetSigned()), content)
		require.Equal(t, 1, signed(before), "once")
		require.Zero(t, w.notes(t, content))
	})
	t.Run("at a provider", func(t *testing.T) {
		const user, afar = "AHI7000001", "tenants/acme/companies/afar"
		_, err := world.Enrol(client.RemoteHolderRequest{User: user, PIN: remotePIN, CommonName: "Alfa Srl", Automatic: true})
		require.NoError(t, err)
		_, err = w.remote.CreateProviderCredential(t.Context(), &signv1.CreateProviderCredentialRequest{
			Parent: afar, Kind: role, RequestId: uuid.NewString(), Key: &signv1.RemoteKey{Provider: "namirial", Id: user, Secret: "pin"},
		})
		require.NoError(t, err)
		content := []byte("an index that is signed elsewhere")
		req, ask := asArchive(content, afar)
		w.cutAt(t, atRecord, ask)
		got, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		h, err := world.Holder(user)
		require.NoError(t, err)
		require.Len(t, h.Signed, 1, "the provider was asked once")
		require.NotEmpty(t, w.get(t, got.GetSigned()))
		require.Zero(t, w.notes(t, content), "it is the same file")
	})
	t.Run("by a credential that is revoked", func(t *testing.T) {
		content := []byte("a last index of the archive")
		req, ask := asArchive(content, archive)
		w.cutAt(t, atRecord, ask)
		_, err := w.client.RevokeCredential(t.Context(), &signv1.RevokeCredentialRequest{Name: keeper.GetName()})
		require.NoError(t, err)
		_, err = w.others.SignBlob(t.Context(), req)
		requireCode(t, "NO_ACTIVE_CREDENTIAL", err)
		next := w.credential(t, archive, role, p256)
		got, err := w.others.SignBlob(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, next.GetName(), got.GetCredential())
		w.opensslAccepts(t, w.get(t, got.GetSigned()), content)
		require.Equal(t, 1, w.notes(t, content), "the file of the other is found when the document is destroyed")
	})
	require.Equal(t, strays, w.strays(t), "no file is in the store that no row names")
}
