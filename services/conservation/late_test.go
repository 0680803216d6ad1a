package conservation

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// condemn writes down that an object is to be destroyed with what a disposal destroys, as a restore does.
func (h *house) condemn(t testing.TB, key string) {
	t.Helper()
	h.admin(t, `INSERT INTO disposal_object (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, found_by)
		SELECT i.disposal_id, i.package_id, 'acme', 'object', '`+key+`', sha256('x'), 1, 'found', '{conservation}' FROM disposal_item i
		ON CONFLICT (disposal_id, package_id, kind, key) DO UPDATE SET gone = false, state = ''`)
}

// TestOneObjectHoldsUpNoDisposal: documents that are to be moved out of an object cannot be read. Other disposals go on meanwhile.
func TestOneObjectHoldsUpNoDisposal(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.oneEach(t, 2010, 2011)
	name := h.release(t, h.closed(t, 2010, "FISC"))
	lost := h.holding(t, 0, textOf("2"))
	require.Len(t, lost, 1)
	for i := range h.disks {
		require.NoError(t, os.Remove(h.objectPath(i, lost[0])))
	}
	h.condemn(t, lost[0])
	h.destroy(t, name)
	h.nowhereText(t, textOf("1"))
	require.Equal(t, 1, h.counted(t, "disposal_object WHERE NOT gone AND key = '"+lost[0]+"'"), "the object waits")
}

// TestTroubleOfOthersIsSaid: an object that came to light is destroyed. What the disposal says of it is over, and what it says of another stays.
func TestTroubleOfOthersIsSaid(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	pkg, _ := h.ended(t, 1)
	h.destroy(t, h.release(t, pkg))
	key := strayKey(7)
	for _, tc := range []struct{ said, left string }{
		{"another package waits", "another package waits"},
		{lastOf(pkg) + ": " + key + " holds 1 documents that stand: the service moves them first", ""},
	} {
		h.lay(t, key, []byte("x"), 0, 1)
		h.condemn(t, key)
		h.admin(t, `UPDATE disposal SET last_error = '`+tc.said+`'`)
		done, err := h.eraser(t).Run(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, done.Late)
		h.nowhere(t, key)
		var left string
		h.rowsOf(t, `SELECT last_error FROM disposal`, &left)
		require.Equal(t, tc.left, left)
	}
}

// TestWhatWaitsStarvesNothing: of objects that have to go more wait than are read at a time, for documents in them that cannot be read. Neither
// the service nor the eraser ends there: what comes after them is emptied, and goes.
func TestWhatWaitsStarvesNothing(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.oneEach(t, 2010, 2011)
	h.destroy(t, h.release(t, h.closed(t, 2010, "FISC")))
	last := h.holding(t, 0, textOf("2"))
	require.Len(t, last, 1)
	const many = sweepPage + 1
	h.admin(t, `INSERT INTO archive_object (id, tenant_id, kind, key, sha256, size, retain_until, created_at)
		SELECT lpad(n::text, 32, '0')::uuid, 'acme', 'intake', 'tenants/acme/intake/0000-00-00/' || lpad(n::text, 32, '0')::uuid || '.zip', sha256('x'), 1, now(), now() FROM generate_series(1, $1::int) n`, many)
	h.admin(t, `INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, receipt_type, file_name, sha256, size, object_id, object_offset)
		SELECT u.id, 1000 + n, 'acme', 'receipt', 'AT', 'x', sha256('x'), 1, lpad(n::text, 32, '0')::uuid, 0 FROM generate_series(1, $1::int) n, unit u WHERE u.fiscal_year = 2011`, many)
	h.admin(t, `INSERT INTO disposal_object (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, found_by)
		SELECT i.disposal_id, i.package_id, 'acme', 'object', o.key, o.sha256, o.size, 'found', '{conservation}' FROM disposal_item i, archive_object o WHERE o.key LIKE 'tenants/acme/intake/0000%'`)
	h.condemn(t, last[0])
	h.eraseUntil(t, "it is gone", func() bool {
		return len(h.holding(t, 1, textOf("2"))) == 1 && h.holding(t, 1, textOf("2"))[0] != last[0]
	})
	h.nowhere(t, last[0])
	require.Equal(t, many, h.counted(t, "disposal_object WHERE kind = 'object' AND NOT gone"), "the others wait")
}
