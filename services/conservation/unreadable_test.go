package conservation

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/telemetry"
)

// unopenable puts a link in the place of a stored file that cannot be opened, and unreadable a folder, which opens and cannot be
// read: as a disk answers for one file of which a sector is gone, while all others are well.
func unopenable(t testing.TB, path string) {
	t.Helper()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(filepath.Base(path), path))
}

func unreadable(t testing.TB, path string) {
	t.Helper()
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o750))
}

func (h *house) objectPath(disk int, key string) string {
	return filepath.Join(h.disks[disk], "objects", filepath.FromSlash(key))
}

// apart takes documents in one transaction each, and gives the keys of their objects.
func (h *house) apart(t testing.TB, n int) (keys []string) {
	t.Helper()
	for i := range n {
		before, _, _ := h.counts()
		h.settle(t, context.Background(), h.invoice(t, 300+i))
		h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken > before })
	}
	var list string
	h.rowsOf(t, `SELECT string_agg(key, ' ' ORDER BY id) FROM archive_object WHERE kind = 'intake'`, &list)
	keys = strings.Fields(list)
	require.GreaterOrEqual(t, len(keys), n)
	return keys
}

func (h *house) awaitRepairs(t testing.TB, n int) {
	t.Helper()
	h.await(t, "repaired", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.repairs) == n })
}

// Test37_UnreadableCopy: one file of a replica that cannot be read is damage of that file, and no replica that is away: the checks go
// on past it, and it is made again from the other.
func Test37_UnreadableCopy(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  checks: {scrub: 0s, restore_drill: 0s, inventory: 0s, deep: 0s}\n")
	ctx := context.Background()
	keys := h.apart(t, 4)
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	unopenable(t, h.objectPath(1, keys[0]))
	unreadable(t, h.objectPath(1, keys[2]))
	h.admin(t, `UPDATE archive_copy SET check_due = now()`)
	f := &findings{}
	require.NoError(t, h.service.scrub(ctx, f))
	require.EqualValues(t, h.counted(t, "archive_copy"), f.Checked, "%+v", f)
	require.Len(t, f.Problems, 2, "%+v", f)
	for _, found := range f.Problems {
		require.Contains(t, found.Problem, "second replica: object "+found.What+" is damaged: it cannot be read, and folder ")
	}
	h.awaitRepairs(t, 2)
	h.sameOnBoth(t)
	require.Equal(t, conservationv1.StorageState_STORAGE_STATE_TWOFOLD, h.storageState(t).GetState())

	pkg := packageRow(t, h, p)
	o, err := h.service.object(ctx, "acme", *pkg.ObjectID)
	require.NoError(t, err)
	unreadable(t, h.objectPath(int(pkg.ID[15])%2, o.Key))
	f = &findings{AskedBy: "me"}
	require.NoError(t, h.service.deep(ctx, f))
	require.Len(t, f.Problems, 1, "%+v", f)
	require.Equal(t, p.GetName(), f.Problems[0].What)
	h.awaitRepairs(t, 3)
	f = &findings{AskedBy: "me"}
	require.NoError(t, h.service.deep(ctx, f))
	require.Empty(t, f.Problems)

	away := h.disks[int(pkg.ID[15])%2]
	require.NoError(t, os.Rename(away, away+".away"))
	f = &findings{AskedBy: "me"}
	require.NoError(t, h.service.deep(ctx, f), "packages that are read from the other replica do not wait for this one")
	require.Contains(t, strings.Join(f.Notes, "\n"), "packages wait for the next round: ")
	require.NoError(t, os.Rename(away+".away", away))
	require.Equal(t, 3, h.counted(t, "archive_damage"))

	// Whoever reads gets the other copy at once.
	for i, spoil := range []func(testing.TB, string){unopenable, unreadable} {
		o = h.objectOf(t, keys[i])
		want, err := os.ReadFile(h.objectPath(0, o.Key))
		require.NoError(t, err)
		spoil(t, h.objectPath(0, o.Key))
		got, err := h.service.replicas.read(ctx, o)
		require.NoError(t, err)
		require.Equal(t, want, got)
		h.awaitRepairs(t, 4+i)
	}
	h.sameOnBoth(t)
}

func (h *house) objectOf(t testing.TB, key string) db.ArchiveObject {
	t.Helper()
	var id uuid.UUID
	h.rowsOf(t, `SELECT id FROM archive_object WHERE key = '`+key+`'`, &id)
	o, err := h.service.object(context.Background(), "acme", id)
	require.NoError(t, err)
	return o
}

// broken is a vault whose objects end in an error of the disk after some bytes, while it can be used otherwise.
type broken struct {
	vault.Vault
	key string
	mu  sync.Mutex
	n   int // of readings
}

func (b *broken) Open(ctx context.Context, o vault.Object) (io.ReadCloser, error) {
	body, err := b.Vault.Open(ctx, o)
	if err != nil || o.Key != b.key {
		return body, err
	}
	b.mu.Lock()
	b.n++
	b.mu.Unlock()
	return &cutShort{body, io.LimitReader(body, 100)}, nil
}

type cutShort struct {
	io.Closer
	r io.Reader
}

func (c *cutShort) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.EOF) {
		err = fault.Unavailable("VAULT_UNAVAILABLE", "input/output error")
	}
	return n, err
}

// TestReadPastABadSector: an error in the middle of a copy ends the reading of that copy, not of the document.
func TestReadPastABadSector(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	o := h.objectOf(t, h.apart(t, 1)[0])
	want, err := os.ReadFile(h.objectPath(1, o.Key))
	require.NoError(t, err)
	r := *h.service.replicas
	bad := &broken{Vault: r.all[0].Vault, key: o.Key}
	r.all = []*replica{{Vault: bad, name: primaryReplica}, {Vault: r.all[1].Vault, name: secondReplica}}
	got, err := r.read(context.Background(), o)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, 2, bad.n, "it is tried again before it is called damaged")
	require.NoError(t, r.all[0].trouble(), "the replica is not away")
	var problem string
	h.rowsOf(t, `SELECT problem FROM archive_damage`, &problem)
	require.Contains(t, problem, "it cannot be read")
}

// slow is a vault that asks something while a copy is being put into it.
type slow struct {
	vault.Vault
	during func(key string)
}

func (s *slow) Replace(ctx context.Context, o vault.Object, r io.ReaderAt, lock vault.Lock) (string, error) {
	s.during(o.Key)
	return s.Vault.Replace(ctx, o, r, lock)
}

// TestDebtPassesOverWhatIsBad: of many copies that a replica owes after an outage, one whose source rotted meanwhile keeps no other
// waiting; it is told, tried again later, and made once a person put good bytes in the place of the bad ones. No transaction is
// open while a copy is made.
func TestDebtPassesOverWhatIsBad(t *testing.T) {
	t.Parallel()
	h := openWith(t, false, "", soonOut)
	ctx := context.Background()
	h.intake(t, 1)
	require.NoError(t, os.Rename(h.disks[1], h.disks[1]+".away"))
	keys := h.apart(t, 4)[1:] // the first one was there before
	require.Len(t, keys, 4)
	bad := h.objectPath(0, keys[0])
	spoil(t, bad, flip)
	require.NoError(t, os.Rename(h.disks[1]+".away", h.disks[1]))
	h.await(t, "the others are copied", func() bool {
		state := h.storageState(t)
		return state.GetState() == conservationv1.StorageState_STORAGE_STATE_TWOFOLD && state.GetReplicas()[1].GetOwedCopies() == 1
	})
	for _, key := range keys[1:] {
		require.FileExists(t, h.objectPath(1, key))
	}
	o := h.objectOf(t, keys[0])
	copies, err := h.service.replicas.copies(ctx, o)
	require.NoError(t, err)
	require.Equal(t, map[string]string{primaryReplica: copyDamaged, secondReplica: copyOwed}, copies, "the source is known to be damaged")
	h.await(t, "set aside for a person", func() bool { return h.parked(t, "NO_GOOD_COPY") == 1 })
	unpaid, _, err := h.service.replicas.settleDebt(ctx, h.service.replicas.all[1], h.service.now().Add(debtTurn))
	require.NoError(t, err)
	require.Empty(t, unpaid, "it is not tried at each look")

	spoil(t, bad, flip) // back
	require.NoError(t, h.service.mend(telemetry.WithActor(ctx, "service:conservation"), &river.Job[mendArgs]{Args: mendArgs{Tenant: "acme", Object: o.ID}}))
	admin, r := pgtest.Admin(t, h.DB("conservation")), *h.service.replicas
	locked := "not asked"
	second := &replica{Vault: &slow{Vault: r.all[1].Vault, during: func(string) {
		locked = ""
		var n int
		err := admin.QueryRow(ctx, `SELECT 1 FROM archive_copy WHERE object_id = $1 AND replica = 'second' FOR UPDATE NOWAIT`, o.ID).Scan(&n)
		if err != nil {
			locked = err.Error()
		}
	}}, name: secondReplica}
	r.all = []*replica{r.all[0], second}
	later := h.service.now().Add(2 * debtAgain)
	r.now = func() time.Time { return later }
	unpaid, more, err := r.settleDebt(ctx, second, later)
	require.NoError(t, err)
	require.Empty(t, unpaid)
	require.False(t, more)
	require.Empty(t, locked, "no transaction holds the row meanwhile")
	h.sameOnBoth(t)
	require.Zero(t, h.counted(t, "archive_copy WHERE state <> 'GOOD'"))
}
