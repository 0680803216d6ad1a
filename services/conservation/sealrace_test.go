package conservation

import (
	"bytes"
	"context"
	"io"
	"maps"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/riverqueue/river"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/telemetry"
)

// looked is a vault that shows what is to be put into it, and has it nowhere.
type looked struct {
	vault.Vault
	raw []byte
}

func (v *looked) Put(_ context.Context, o vault.Object, r io.ReaderAt, _ vault.Lock) (err error) {
	v.raw, err = io.ReadAll(io.NewSectionReader(r, 0, o.Size))
	return err
}

// archiveBytes is a package as the service writes it.
func (h *house) archiveBytes(t testing.TB, p db.Package) []byte {
	t.Helper()
	both := h.service.replicas.all
	first := &looked{Vault: both[0].Vault}
	_, err := h.another(first, &looked{Vault: both[1].Vault}).writeArchive(context.Background(), p)
	require.NoError(t, err)
	return first.raw
}

// TestSealedByTwo: a process seals a package by what a former attempt left in the primary replica, and is held before that takes the place of
// what is elsewhere, while another one, for which that replica is away, seals the package as it writes it itself. Whoever comes first, both
// replicas hold in the end what the record names. A process of a release before has no lock that tells it to wait.
func TestSealedByTwo(t *testing.T) {
	t.Parallel()
	ctx := telemetry.WithActor(context.Background(), "test")
	for name, locked := range map[string]bool{"both with the lock": true, "one of an earlier release": false} {
		t.Run(name, func(t *testing.T) {
			h := open(t, true)
			h.intake(t, 2)
			upTo := maps.Clone(steps)
			delete(upTo, "STAMPED")
			h.steps.set(upTo)
			pack := h.closePackage(t).GetName()
			job := &river.Job[SealArgs]{Args: sealArgs(t, pack)}
			var p db.Package
			h.await(t, "stamped", func() bool {
				var err error
				p, err = h.service.pack(ctx, "acme", job.Args)
				require.NoError(t, err)
				return p.State == "STAMPED"
			})
			ours := h.archiveBytes(t, p)
			former := deflatedAnew(t, ours, func(_ string, content []byte) []byte { return content })
			require.NotEqual(t, ours, former)
			key := "tenants/acme/packages/" + path.Base(pack) + ".zip"
			h.lay(t, key, former, 0)
			h.admin(t, `CREATE FUNCTION test_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tried_at = now(); RETURN NEW; END $$`) // the service itself pays no debt meanwhile
			h.admin(t, `CREATE TRIGGER test_later BEFORE INSERT ON archive_copy FOR EACH ROW WHEN (NEW.state = 'OWED') EXECUTE FUNCTION test_later()`)

			both := h.service.replicas.all
			other := h.another(both[0].Vault, both[1].Vault)
			other.replicas.all[0].out = true
			own := maps.Clone(steps)
			own["STAMPED"] = step{name: "archive", alone: locked, keep: steps["STAMPED"].keep, act: steps["STAMPED"].act}
			other.steps = among(own)
			sealed, once := make(chan error, 1), sync.Once{}
			held := h.another(&slow{Vault: both[0].Vault, during: func(string) {
				once.Do(func() {
					done := make(chan error, 1)
					go func() { done <- other.seal(ctx, job) }()
					turn := time.Minute // without the lock it comes through, however long that takes
					if locked {
						turn = time.Second // it waits for its turn
					}
					select {
					case err := <-done:
						sealed <- err
					case <-time.After(turn):
						go func() { sealed <- <-done }()
					}
				})
			}}, both[1].Vault)
			held.steps = stepFrom
			require.NoError(t, held.seal(ctx, job))
			require.NoError(t, <-sealed)

			h.judge(t, h.awaitSealed(t, pack)) // what the record names is to be had
			row := packageRow(t, h, h.pack(t, pack))
			require.Equal(t, locked, bytes.Equal(row.ArchiveSha256, sha256Of(former)), "who has the lock is first")
			require.Equal(t, !locked, bytes.Equal(row.ArchiveSha256, sha256Of(ours)))
			for _, disk := range h.disks {
				require.Equal(t, row.ArchiveSha256, sha256Of(objectsOn(t, disk)[key]))
			}
			h.admin(t, `UPDATE archive_copy SET tried_at = NULL`)
			h.await(t, "no copy is owed", func() bool { return h.counted(t, "archive_copy WHERE state <> 'GOOD'") == 0 })
			h.sameOnBoth(t)
		})
	}
}
