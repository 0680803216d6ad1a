package conservation

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
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
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 1, 2010)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 1 })
	h.settleAll(t, []*invoicev1.InvoiceSettled{h.old(t, 2, 2011)})
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
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
