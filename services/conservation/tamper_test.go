package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// published is the log as the service shows it, read as conserve monitor reads it.
type published struct {
	api conservationv1.EvidenceServiceClient
}

func (p published) Checkpoint(ctx context.Context) ([]byte, error) {
	point, err := p.api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	return point.GetNote(), err
}

func (p published) Get(ctx context.Context, path string) ([]byte, error) {
	tile, err := p.api.GetTile(ctx, &conservationv1.GetTileRequest{Path: path})
	if errors.Is(err, fault.NotFound("TILE_NOT_FOUND", "")) {
		return nil, tlog.ErrNotFound
	}
	return tile.GetData(), err
}

// monitored is one round of the monitor with what the owner kept.
func (o *owner) monitored(t testing.TB, api conservationv1.EvidenceServiceClient, seen []byte) *custody.Round {
	t.Helper()
	round, err := custody.Follow(context.Background(), published{api}, seen, append([]custody.Receipt{o.sealed}, o.receipts...), o.policy)
	require.NoError(t, err)
	return round
}

// resigned is the package with a document changed and everything made again that an operator can make: manifests and
// index by forge, the signature with the archive's own key, and the time stamp when stamp says so.
func (o *owner) resigned(t *testing.T, h *house, stamp bool) []byte {
	t.Helper()
	ctx := context.Background()
	forged := o.forge(t, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
		name := "data/" + groups[0].Files[0].Path
		files[name] = append(bytes.Clone(files[name]), ' ')
		return groups
	})
	files := map[string][]byte{}
	z, err := zip.NewReader(bytes.NewReader(forged), int64(len(forged)))
	require.NoError(t, err)
	folder := ""
	for _, f := range z.File {
		r, err := f.Open()
		require.NoError(t, err)
		var name string
		folder, name, _ = strings.Cut(f.Name, "/")
		files[name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	files[signedFile], err = h.service.signContent(ctx, "acme", "packages/forged", mimeXML, uuid.New(), files[indexFile])
	require.NoError(t, err)
	if stamp {
		digest := sha256.Sum256(files[signedFile])
		files[stampFile], _, err = h.service.stampDigest(ctx, digest[:])
		require.NoError(t, err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for name, content := range files {
		f, err := w.Create(folder + "/" + name)
		require.NoError(t, err)
		_, err = f.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	token, err := tsp.ParseToken(files[stampFile])
	require.NoError(t, err)
	digest := sha256.Sum256(files[signedFile])
	sd, verdict, err := cades.Verify(files[signedFile], cades.VerifyOptions{Roots: o.roots})
	require.NoError(t, err)
	require.NoError(t, verdict.Err(), "the signature is a good one")
	require.Equal(t, files[indexFile], sd.Content())
	require.Equal(t, stamp, token.Verify(tsp.VerifyOptions{Digest: digest[:], Roots: o.roots}) == nil, "a kept stamp does not cover a new signature")
	return out.Bytes()
}

// Test28_TamperTable acts the table of attacks out, row by row, by an operator who has the database, both replicas and
// all keys. What finds each is in the owner's hands: receipts, the log's key, a checkpoint of an earlier day, and a
// witness. Bit rot is Test37, split views Test33, and all witnesses together with the authority are out of scope.
func Test28_TamperTable(t *testing.T) {
	ctx := context.Background()
	h, o := keepEvidence(t)
	api := conservationv1.NewEvidenceServiceClient(h.Operator("conservation"))
	admin := pgtest.Admin(t, h.DB("conservation"))
	all := append([]custody.Receipt{o.sealed}, o.receipts...)
	id := strings.TrimSuffix(h.packageKeys(t)[0], ".zip")
	seen := o.monitored(t, api, nil)
	require.Empty(t, seen.Problems)
	require.Equal(t, units+1, seen.Receipts)

	t.Run("an outsider edits a file", func(t *testing.T) {
		raw := bytes.Clone(o.archive)
		raw[bytes.Index(raw, []byte("PIndex.xml"))+400]++
		p, err := custody.ReadPackage(raw)
		if err == nil { // else it is no package any more
			r, err := custody.Verify(custody.Input{Package: p, Receipts: all, Policy: o.policy})
			require.NoError(t, err)
			require.True(t, r.Has(custody.PackageChanged))
		}
	})
	t.Run("a database administrator edits and makes the manifests again", func(t *testing.T) {
		forged := o.forge(t, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
			files["data/"+groups[2].Files[0].Path] = []byte("<FatturaElettronica n='999'/>")
			return groups
		})
		r := o.judge(t, forged, all)
		require.True(t, r.Has(custody.UnitChanged) && r.Has(custody.PackageChanged), "%v", r.Problems)
	})
	t.Run("the operator signs again and keeps the stamp", func(t *testing.T) {
		r := o.judge(t, o.resigned(t, h, false), all)
		require.True(t, r.Has(custody.UnitChanged) && r.Has(custody.PackageChanged), "%v", r.Problems)
	})
	t.Run("the operator signs and stamps again", func(t *testing.T) {
		forged := o.resigned(t, h, true)
		r := o.judge(t, forged, all)
		require.True(t, r.Has(custody.UnitChanged) && r.Has(custody.PackageChanged), "%v", r.Problems)
		r = o.judge(t, forged, o.receipts)
		require.True(t, r.Has(custody.UnitChanged), "the receipts of the taking in charge are enough: %v", r.Problems)
	})
	t.Run("a back-dated document is inserted", func(t *testing.T) {
		forged := o.forge(t, func(groups []sincro.FileGroup, _ map[string][]byte) []sincro.FileGroup {
			g := groups[0]
			g.ID.Value = uuid.NewString()
			return append(groups, g)
		})
		require.True(t, o.judge(t, forged, all).Has(custody.UnitInserted))
		// Into the log it comes at the end, whatever its row says of its date.
		h.settle(t, ctx, h.invoice(t, 500))
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == units+1 })
		h.admin(t, `UPDATE unit SET created_at = '2020-01-01' WHERE unit_key = (SELECT max(unit_key) FROM unit)`)
		late := h.units(t, "")[0].GetName()
		r := receiptOf(t, h, api, late)
		require.EqualValues(t, units+1, r.GetIndex())
		require.EqualValues(t, units+2, r.GetTenantSequence(), "after all that the owner has receipts of")
	})
	t.Run("a document is refused", func(t *testing.T) {
		_, err := api.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: unitName("acme", uuid.New())})
		require.Equal(t, "UNIT_NOT_FOUND", code(err), "whoever has no receipt sees it")
	})
	last := o.monitored(t, api, seen.Note)
	require.Empty(t, last.Problems)
	require.Equal(t, tlog.Grown, last.Relation)
	t.Run("a whole package is removed", func(t *testing.T) {
		for _, statement := range []string{`SET session_replication_role = replica`, `DELETE FROM unit_file`, `DELETE FROM unit`, `DELETE FROM package`, `SET session_replication_role = origin`} {
			_, err := admin.Exec(ctx, statement)
			require.NoError(t, err)
		}
		for _, disk := range h.disks {
			require.NoError(t, os.Remove(filepath.Join(disk, "objects", "tenants", "acme", "packages", id+".zip")))
		}
		list, err := h.client.ListPackages(ctx, &conservationv1.ListPackagesRequest{Parent: "tenants/acme"})
		require.NoError(t, err)
		require.Empty(t, list.GetPackages())
		require.Len(t, custody.PackageReceipts(all), 1, "the owner's receipt says that there was one")
		_, f := h.runCheck(t, sumKind, "")
		require.Equal(t, "PROBLEMS", f.Verdict, "and the archive's own check does")
	})
	t.Run("an old backup is put back", func(t *testing.T) {
		for _, statement := range []string{
			`SET session_replication_role = replica`, `DELETE FROM log_leaf WHERE idx >= 5`, `DELETE FROM log_checkpoint WHERE size > 5`,
			`DELETE FROM log_pending`, `SET session_replication_role = origin`,
		} {
			_, err := admin.Exec(ctx, statement)
			require.NoError(t, err)
		}
		var left int
		require.NoError(t, admin.QueryRow(ctx, `SELECT count(*) FROM log_checkpoint`).Scan(&left))
		if left == 0 {
			t.Log("no checkpoint was that old: the log shows none at all")
			_, err := custody.Follow(ctx, published{api}, last.Note, nil, o.policy)
			require.Equal(t, "CHECKPOINT_NOT_FOUND", code(err))
			return
		}
		round := o.monitored(t, api, last.Note)
		require.True(t, round.Has(custody.LogRolledBack), "%v", round.Problems)
		require.True(t, round.Has(custody.ReceiptGone), "%v", round.Problems)
	})
}

// packageKeys are the names of the packages on the primary disk.
func (h *house) packageKeys(t testing.TB) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.disks[0], "objects", "tenants", "acme", "packages", "*.zip"))
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	require.NotEmpty(t, names)
	return names
}
