package conservation

import (
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/vault"
)

const (
	inventoryKind = conservationv1.CheckKind_CHECK_KIND_INVENTORY
	restoreKind   = conservationv1.CheckKind_CHECK_KIND_RESTORE
)

// Test53_RebuiltFromTheSecondReplica: the primary replica is lost, and the rows of units, packages, objects and search
// with it; what is made again from the second replica alone is what there was. Test 55 is the same without escrowed keys,
// since nothing is encrypted by us.
func Test53_RebuiltFromTheSecondReplica(t *testing.T) {
	h := open(t, true)
	_, err := h.retainer().SetRetentionRule(context.Background(), &conservationv1.SetRetentionRuleRequest{Parent: "tenants/acme", Class: "FISC", Years: 20})
	require.NoError(t, err)
	h.intake(t, 4)
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	h.renewTwice(t)
	h.settle(t, context.Background(), h.invoice(t, 100))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 5 })
	require.Equal(t, 1, h.counted(t, "package_revocation"))
	before, entries := h.state(t), h.entries(t)
	_, f := h.runCheck(t, inventoryKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)

	h.admin(t, `SET session_replication_role = replica`)
	for _, table := range []string{"search_entry", "search_word", "search_party", "log_pending", "package_term", "package_evidence", "unit_file", "unit", "package_revocation", "package", "package_line"} {
		h.admin(t, `DELETE FROM `+table)
	}
	h.admin(t, `DELETE FROM retention_rule`) // the term was agreed for packages closed then: they say it themselves
	h.admin(t, `DELETE FROM archive_copy WHERE tenant_id = 'acme'`)
	h.admin(t, `DELETE FROM archive_object WHERE tenant_id = 'acme'`)
	require.NoError(t, os.RemoveAll(filepath.Join(h.disks[0], "objects", "tenants", "acme")))

	_, f = h.runCheck(t, inventoryKind, "tenants/acme")
	require.NotEqual(t, "GOOD", f.Verdict, "what is lost is said")
	_, f = h.runCheck(t, restoreKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Equal(t, before, h.state(t))
	require.Equal(t, entries, h.entries(t), "the search is the same")
	h.sameOnBoth(t)
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, p.GetName()).GetState())
	require.NotEmpty(t, h.download(t, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE))
	_, f = h.runCheck(t, drillKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	_, f = h.runCheck(t, restoreKind, "tenants/acme")
	require.Equal(t, "GOOD", f.Verdict, "again it finds nothing to do: %+v", f)
	require.Equal(t, before, h.state(t))

	// The archive goes on where it was: the next package has the next number.
	next := h.awaitSealed(t, h.closePackage(t).GetName())
	require.EqualValues(t, 1, next.GetUnitCount())
}

// state is what the rows say of units, their files and packages, but for what only the platform's events told.
func (h *house) state(t testing.TB) (lines []string) {
	t.Helper()
	for _, query := range []string{
		`SELECT coalesce(string_agg(concat_ws('|', id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, package_id, position, created_at), E'\n' ORDER BY id), '') FROM unit`,
		`SELECT coalesce(string_agg(concat_ws('|', unit_id, ordinal, role, receipt_type, file_name, media_type, encode(sha256, 'hex'), size, object_id, object_offset), E'\n' ORDER BY unit_id, ordinal), '') FROM unit_file`,
		`SELECT coalesce(string_agg(concat_ws('|', id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, encode(index_sha256, 'hex'), index_size, encode(signed_sha256, 'hex'),
			encode(stamp_sha256, 'hex'), stamp_time, encode(archive_sha256, 'hex'), archive_size, object_id, retain_until), E'\n' ORDER BY id), '') FROM package`,
		`SELECT coalesce(string_agg(concat_ws('|', id, kind, key, encode(sha256, 'hex'), size, CASE WHEN kind <> 'intake' THEN retain_until END), E'\n' ORDER BY id), '') FROM archive_object WHERE kind IN ('intake', 'package', 'evidence')`,
		`SELECT coalesce(string_agg(concat_ws('|', e.package_id, number, object_id, renewal, hash, stamped_at, e.until_at, t.until_at), E'\n' ORDER BY number), '') FROM package_evidence e JOIN package_term t USING (package_id)`,
		`SELECT coalesce(string_agg(concat_ws('|', package_id, tenant_id, encode(sha256, 'hex'), size, asked_at), E'\n' ORDER BY package_id), '') FROM package_revocation`,
	} {
		var text string
		h.rowsOf(t, query, &text)
		lines = append(lines, strings.Split(text, "\n")...)
	}
	return lines
}

// renewTwice has the evidence of what is sealed renewed as if its stamps ended soon.
func (h *house) renewTwice(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	h.service.cfg.Renewal.Ahead = 0
	require.NoError(t, h.service.renew(ctx, &findings{})) // reads until when they last
	var until time.Time
	h.rowsOf(t, `SELECT max(until_at) FROM package_term`, &until)
	h.service.cfg.Renewal.Ahead = time.Until(until) + time.Hour
	for range 2 {
		f := &findings{}
		require.NoError(t, h.service.renew(ctx, f))
		require.Empty(t, f.Problems)
	}
	h.service.cfg.Renewal.Ahead = 0
	var kinds string
	h.rowsOf(t, `SELECT string_agg(renewal, ' ' ORDER BY number) FROM package_evidence`, &kinds)
	require.Equal(t, "INITIAL TIME_STAMP", kinds)
}

// TestInventory: what is missing is found and repaired, what an attempt left behind is told from what was lost.
func TestInventory(t *testing.T) {
	h := open(t, true)
	h.intake(t, 2)
	keys := objectsOn(t, h.disks[0])
	require.Len(t, keys, len(objectsOn(t, h.disks[1])))
	var gone string
	for key := range keys {
		gone = key
	}
	require.NoError(t, os.Remove(filepath.Join(h.disks[0], "objects", gone)))
	_, f := h.runCheck(t, inventoryKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Equal(t, gone, f.Problems[0].What)
	h.await(t, "repaired", func() bool { return len(objectsOn(t, h.disks[0])) >= len(keys) })
	h.await(t, "no damage is open", func() bool {
		var open int
		h.rowsOf(t, `SELECT count(*) FROM archive_damage WHERE repaired_at IS NULL`, &open)
		return open == 0
	})

	// The same object under another, older name, as an attempt leaves it that failed between the replicas; and bytes
	// of nobody.
	older, err := uuid.Parse("01900000-0000-7000-8000-000000000001")
	require.NoError(t, err)
	put := func(disk int, key string, raw []byte) {
		require.NoError(t, h.service.replicas.all[disk].Put(context.Background(), vault.Object{Key: key, Size: int64(len(raw)), SHA256: sha256.Sum256(raw)}, strings.NewReader(string(raw)), vault.Lock{Until: time.Now()}))
	}
	put(1, "tenants/acme/intake/2024-06-01/"+older.String()+".zip", keys[gone])
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	require.Contains(t, strings.Join(f.Notes, "\n"), "left of an attempt that was made again")
	put(0, "tenants/acme/packages/"+older.String()+".zip", []byte("x"))
	_, f = h.runCheck(t, inventoryKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict)
	require.Contains(t, f.Problems[0].Problem, "no row knows this package")
}
