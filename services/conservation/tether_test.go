package conservation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
)

// owing is a package to be destroyed whose copy the second replica owes, and a time at which it is tried again; the service itself passes it
// over until then.
func (h *house) owing(t testing.TB) (pkg, disposal string, o db.ArchiveObject, at time.Time) {
	t.Helper()
	pkg, _ = h.ended(t, 1)
	disposal = h.release(t, pkg)
	row := packageRow(t, h, h.pack(t, pkg))
	o, err := h.service.object(context.Background(), "acme", *row.ObjectID)
	require.NoError(t, err)
	require.NoError(t, os.Remove(h.objectPath(1, o.Key)))
	h.admin(t, `UPDATE archive_copy SET state = 'OWED', tried_at = now() WHERE replica = 'second' AND object_id = '`+o.ID.String()+`'`)
	return pkg, disposal, o, h.service.now().Add(2 * debtAgain)
}

// pays is another process that makes what the second replica owes, as of a time.
func (h *house) pays(second vault.Vault, at time.Time) <-chan error {
	other, done := h.another(h.service.replicas.all[0].Vault, second), make(chan error, 1)
	other.replicas.now = func() time.Time { return at }
	go func() {
		_, _, err := other.replicas.settleDebt(context.Background(), other.replicas.all[1], at)
		done <- err
	}()
	return done
}

// nowhere wants no copy of an object on any disk.
func (h *house) nowhere(t testing.TB, key string) {
	t.Helper()
	for _, disk := range h.disks {
		require.NotContains(t, objectsOn(t, disk), key)
	}
}

// TestEraserWaitsForALongCopy: a copy may take hours. As long as who makes it lives, nothing of it is destroyed, since it would be there
// again.
func TestEraserWaitsForALongCopy(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	pkg, name, o, at := h.owing(t)
	reached, leave := make(chan struct{}), make(chan struct{})
	paid := h.pays(&slow{Vault: h.service.replicas.all[1].Vault, during: func(string) {
		close(reached)
		<-leave
	}}, at)
	<-reached
	e := h.eraser(t)
	e.Now = func() time.Time { return at.Add(5 * time.Hour) }
	_, err := e.Run(context.Background())
	close(leave)
	require.NoError(t, err)
	require.NoError(t, <-paid)
	require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_SEALED, h.pack(t, pkg).GetState())
	d, err := h.retainer().GetDisposal(context.Background(), &conservationv1.GetDisposalRequest{Name: name})
	require.NoError(t, err)
	require.Contains(t, d.GetLastError(), "a copy of it is being made in the second replica")
	require.FileExists(t, h.objectPath(1, o.Key))
	h.destroy(t, name)
	h.nowhere(t, o.Key)
}

// TestClaimsOfTheDead: who was killed while he made a copy holds nobody up, neither the eraser nor who makes it instead.
func TestClaimsOfTheDead(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	_, name, o, at := h.owing(t)
	h.admin(t, `UPDATE archive_copy SET claimed_at = now(), claimed_by = 4711 WHERE replica = 'second' AND object_id = '`+o.ID.String()+`'`)
	h.await(t, "it is made by another, who does not wait until the claim is old", func() bool {
		// Who looks at the same moment as the service itself finds the row locked, and passes it over.
		require.NoError(t, <-h.pays(h.service.replicas.all[1].Vault, at))
		return h.counted(t, "archive_copy WHERE claimed_at IS NOT NULL OR claimed_by IS NOT NULL OR state <> 'GOOD'") == 0
	})
	require.FileExists(t, h.objectPath(1, o.Key))

	h.admin(t, `UPDATE archive_copy SET claimed_at = now(), claimed_by = 4712 WHERE replica = 'second' AND object_id = '`+o.ID.String()+`'`)
	h.destroy(t, name)
	h.nowhere(t, o.Key)
}

// stopped is a vault whose repairs last until they are broken off.
type stopped struct {
	vault.Vault
	reached chan struct{}
}

func (s *stopped) Replace(ctx context.Context, _ vault.Object, _ io.ReaderAt, _ vault.Lock) (string, error) {
	close(s.reached)
	<-ctx.Done()
	return "", ctx.Err()
}

// TestWorkEndsWithItsLock: when the database ends the connection that says who is at work, the work is broken off: others may begin.
func TestWorkEndsWithItsLock(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	_, name, o, at := h.owing(t)
	second := &stopped{Vault: h.service.replicas.all[1].Vault, reached: make(chan struct{})}
	paid := h.pays(second, at)
	<-second.reached
	var by int64
	h.rowsOf(t, `SELECT claimed_by FROM archive_copy WHERE claimed_by IS NOT NULL`, &by)
	h.admin(t, fmt.Sprintf(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = %d`, by))
	select {
	case err := <-paid:
		require.True(t, errors.Is(err, fault.Unavailable("LOCK_LOST", "")), "%v", err)
	case <-time.After(time.Minute):
		require.Fail(t, "it goes on without its lock")
	}
	require.NoFileExists(t, h.objectPath(1, o.Key))
	h.destroy(t, name)
	h.nowhere(t, o.Key)
}
