package signer_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
	"ceralacca.dev/services/signer/internal/db"
)

// stampSection is an authority for time-stamps in this process, which lives on.
func stampSection(t *testing.T) string {
	t.Helper()
	authority, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stamps, err := tsa.New(tsa.Options{CA: authority, Name: "first"})
	require.NoError(t, err)
	web, roots := httptest.NewServer(stamps), filepath.Join(t.TempDir(), "tsa.pem")
	t.Cleanup(web.Close)
	require.NoError(t, os.WriteFile(roots, authority.CertPEM(), 0o600))
	return fmt.Sprintf("  tsa: [{name: first, url: %q, ca_file: %q, timeout: 2s}]\n", web.URL, roots)
}

// file is where the store has a blob.
func (w *ward) file(sum []byte) string {
	name := hex.EncodeToString(sum)
	return filepath.Join(w.store, "tenants", "acme", name[:2], name)
}

func (w *ward) bundlesOf(t *testing.T, document []byte) (rows []db.BundlesOfRow) {
	t.Helper()
	require.NoError(t, w.db.Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) (err error) {
		rows, err = db.New(tx).BundlesOf(ctx, db.BundlesOfParams{TenantID: "acme", Sums: [][]byte{hashOf(document)}})
		return err
	}))
	return rows
}

// closed is a request that one approver has completed; until is where the signer is killed while it makes the bundle.
func (w *ward) closed(t *testing.T, until boundary, documents ...*signv1.RequestDocument) string {
	t.Helper()
	r, err := w.asks.CreateSignatureRequest(t.Context(), createOf(draft(documents, step(0, &signv1.RequestParticipant{Role: asApprover, Holder: user(1)}))))
	require.NoError(t, err)
	v, err := w.asks.ViewSignatureRequest(t.Context(), &signv1.ViewSignatureRequestRequest{Participant: at(r, 0, 0)})
	require.NoError(t, err)
	w.killAt(t, until, func() error {
		_, err := w.asks.ApproveSignatureRequest(t.Context(), &signv1.ApproveSignatureRequestRequest{Participant: at(r, 0, 0), DocumentSha256: seen(v), RequestId: uuid.NewString()})
		if err == nil {
			err = errors.New("the bundle is made later")
		}
		return err
	})
	return r.GetName()
}

// recorded waits for the bundle of a request, which is whole in the store, and gives its digest.
func (w *ward) recorded(t *testing.T, name string) (sum []byte) {
	t.Helper()
	eventually(t, "the bundle is made", func() bool {
		return w.admin.QueryRow(t.Context(), "SELECT bundle_sha256 FROM signing_request WHERE id = $1 AND bundled_at IS NOT NULL", last(name)).Scan(&sum) == nil
	})
	raw, err := os.ReadFile(w.file(sum))
	require.NoError(t, err)
	require.Equal(t, sum, hashOf(raw))
	_, err = zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	return sum
}

// bundled is recorded for one that needs no note any more.
func (w *ward) bundled(t *testing.T, name string) []byte {
	t.Helper()
	sum := w.recorded(t, name)
	require.Zero(t, w.counted(t, "SELECT count(*) FROM made_bundle WHERE request_id = $1", last(name)), "what a row names need not be noted")
	return sum
}

// spoil flips a bit of a stored file.
func (w *ward) spoil(t *testing.T, sum []byte) {
	t.Helper()
	raw, err := os.ReadFile(w.file(sum))
	require.NoError(t, err)
	raw[len(raw)/2] ^= 1
	require.NoError(t, os.Chmod(w.file(sum), 0o600))
	require.NoError(t, os.WriteFile(w.file(sum), raw, 0o600))
}

// TestDamagedBundleIsMadeAgain: the bundle that a killed process has left is damaged when the next one comes. Without a time-stamp the
// new one has the same bytes, and takes its place.
func TestDamagedBundleIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWard(t, "")
	content := []byte("a contract on a bad disk")
	name := w.closed(t, boundary{"signing_request", "UPDATE", "NEW.bundled_at IS NOT NULL AND OLD.bundled_at IS NULL"}, document("contract", attached, content))
	found := w.bundlesOf(t, content)
	require.Len(t, found, 1)
	w.spoil(t, found[0].BundleSha256)
	w.start(t)
	require.Equal(t, found[0].BundleSha256, w.bundled(t, name))
}

// killedWithARequest: the documents of a request are in the store before its rows are there, and its bundle before it is
// recorded. A process that dies between leaves nothing that cannot be found with the documents, and the next one goes on with it.
func (w *ward) killedWithARequest(t *testing.T) {
	strays := w.strays(t)
	stamps := func() int { return w.counted(t, "SELECT coalesce(sum(used), 0) FROM stamp_use") }
	atBundle := boundary{"signing_request", "UPDATE", "NEW.bundled_at IS NOT NULL AND OLD.bundled_at IS NULL"}

	t.Run("documents stored, no request", func(t *testing.T) {
		first, second := []byte("a lease with names in it"), []byte("its annex")
		req := createOf(draft([]*signv1.RequestDocument{document("lease", attached, first), document("annex", attached, second)},
			step(0, &signv1.RequestParticipant{Role: asApprover, Holder: user(1)})))
		w.killAt(t, boundary{"signing_request", "INSERT", "true"}, func() error {
			_, err := w.asks.CreateSignatureRequest(context.Background(), req)
			return err
		})
		for _, content := range [][]byte{first, second} {
			require.FileExists(t, w.file(hashOf(content)))
			require.Equal(t, 1, w.notes(t, content))
		}
		require.Equal(t, strays, w.strays(t), "no file is in the store that no row names")
		w.start(t)
		made, err := w.asks.CreateSignatureRequest(t.Context(), req)
		require.NoError(t, err)
		again, err := w.asks.CreateSignatureRequest(t.Context(), req)
		require.NoError(t, err)
		require.Equal(t, made.GetName(), again.GetName())
		require.Zero(t, w.notes(t, first)+w.notes(t, second), "what a row names need not be noted")
	})
	t.Run("documents of a request that is refused", func(t *testing.T) {
		content := []byte("a lease that nobody signs")
		r := draft([]*signv1.RequestDocument{document("lease", attached, content)}, step(0, &signv1.RequestParticipant{Role: asApprover, Holder: user(1)}))
		r.SealMandate = company + "/credentials/" + uuid.NewString() + "/mandates/" + uuid.NewString()
		_, err := w.asks.CreateSignatureRequest(t.Context(), createOf(r))
		requireCode(t, "MANDATE_NOT_FOUND", err)
		require.Equal(t, 1, w.notes(t, content))
		require.Equal(t, strays, w.strays(t), "no file is in the store that no row names")
	})
	t.Run("bundle stored, not recorded", func(t *testing.T) {
		first, second := []byte("a contract with names in it"), []byte("its map")
		before := stamps()
		name := w.closed(t, atBundle, document("contract", attached, first), document("map", attached, second))
		found := w.bundlesOf(t, first)
		require.Len(t, found, 1)
		require.Equal(t, found, w.bundlesOf(t, second), "by each of its documents")
		require.FileExists(t, w.file(found[0].BundleSha256))
		require.Equal(t, strays, w.strays(t), "no file is in the store that no row names")
		w.start(t)
		require.Equal(t, found[0].BundleSha256, w.bundled(t, name), "the next run records it")
		require.Equal(t, before+1, stamps(), "and has no other time-stamp made")
	})
	t.Run("bundle written down, not stored", func(t *testing.T) {
		content := []byte("another contract")
		name := w.closed(t, atBundle, document("contract", attached, content))
		found := w.bundlesOf(t, content)
		require.Len(t, found, 1)
		require.NoError(t, os.Remove(w.file(found[0].BundleSha256)))
		w.start(t)
		require.NotEqual(t, found[0].BundleSha256, w.recorded(t, name), "it is made anew")
		require.Len(t, w.bundlesOf(t, content), 2)
	})
	t.Run("bundle stored, and damaged since", func(t *testing.T) {
		content := []byte("a contract on a bad disk")
		name := w.closed(t, atBundle, document("contract", attached, content))
		found := w.bundlesOf(t, content)
		require.Len(t, found, 1)
		w.spoil(t, found[0].BundleSha256)
		w.start(t)
		require.NotEqual(t, found[0].BundleSha256, w.recorded(t, name), "it is made anew")
	})
	t.Run("bundle made, not written down", func(t *testing.T) {
		content := []byte("a third contract")
		name := w.closed(t, boundary{"made_bundle", "INSERT", "true"}, document("contract", attached, content))
		require.Empty(t, w.bundlesOf(t, content))
		require.Equal(t, strays, w.strays(t), "it is not in the store either")
		w.start(t)
		require.Len(t, w.bundled(t, name), 32)
	})
	require.Equal(t, strays, w.strays(t), "no file is in the store that no row names")
}
