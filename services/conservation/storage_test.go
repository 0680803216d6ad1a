package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
)

func (h *house) storageClient() conservationv1.StorageServiceClient {
	return conservationv1.NewStorageServiceClient(h.Operator("conservation"))
}

func (h *house) storageState(t testing.TB) *conservationv1.Storage {
	t.Helper()
	got, err := h.storageClient().GetStorage(context.Background(), &conservationv1.GetStorageRequest{})
	require.NoError(t, err)
	return got
}

// objectsOn are the objects of a replica, by key.
func objectsOn(t testing.TB, disk string) map[string][]byte {
	t.Helper()
	found := map[string][]byte{}
	root := filepath.Join(disk, "objects")
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		key, _ := filepath.Rel(root, path)
		if err != nil || d.IsDir() || strings.HasPrefix(key, "position") { // marks, of which no row tells
			return err
		}
		raw, err := os.ReadFile(path)
		found[key] = raw
		return err
	}))
	return found
}

// sameOnBoth: what the archive knows of is in both replicas with its bytes.
func (h *house) sameOnBoth(t testing.TB) {
	t.Helper()
	var known map[string]int
	h.rowsOf(t, `SELECT jsonb_object_agg(key, size) FROM archive_object`, &known)
	require.NotEmpty(t, known)
	first, second := objectsOn(t, h.disks[0]), objectsOn(t, h.disks[1])
	for key, size := range known {
		require.Len(t, first[key], size, key)
		require.Equal(t, sha256.Sum256(first[key]), sha256.Sum256(second[key]), key)
	}
}

// spoil overwrites a stored file in place.
func spoil(t testing.TB, path string, change func([]byte)) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	change(raw)
	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

func flip(raw []byte) { raw[len(raw)/2] ^= 0x40 }

// rowsOf reads rows through the walls between tenants.
func (h *house) rowsOf(t testing.TB, query string, dst ...any) {
	t.Helper()
	require.NoError(t, pgtest.Admin(t, h.DB("conservation")).QueryRow(context.Background(), query).Scan(dst...))
}

// TestTwoCopiesBeforeTakenInCharge: when the archive says that it took a document, both replicas hold its
// bytes, its receipts and its metadata file, and the archive needs the platform's store no more.
func TestTwoCopiesBeforeTakenInCharge(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	const n = 12
	var events []*invoicev1.InvoiceSettled
	for i := range n {
		events = append(events, h.invoice(t, i))
	}
	h.settleAll(t, events)
	h.await(t, "taken in charge", func() bool { taken, _, _ := h.counts(); return taken == n })
	h.mu.Lock()
	for _, ev := range h.taken {
		require.EqualValues(t, 2, ev.GetCopies())
	}
	h.mu.Unlock()
	first, second := objectsOn(t, h.disks[0]), objectsOn(t, h.disks[1])
	require.NotEmpty(t, first)
	require.Equal(t, first, second)
	var files []db.UnitFile
	require.NoError(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		var ids []uuid.UUID
		units, err := db.New(tx).ListUnits(ctx, db.ListUnitsParams{TenantID: "acme", Before: lastID, Page: 100})
		for _, u := range units {
			ids = append(ids, u.ID)
		}
		require.NoError(t, err)
		files, err = db.New(tx).FilesOf(ctx, ids)
		return err
	}))
	require.Len(t, files, 3*n)
	for _, f := range files {
		o, err := h.service.object(context.Background(), "acme", *f.ObjectID)
		require.NoError(t, err)
		raw := first[o.Key]
		require.Equal(t, [32]byte(f.Sha256), sha256.Sum256(raw[*f.ObjectOffset:*f.ObjectOffset+f.Size]), f.FileName)
	}
	units := 0
	for key, raw := range first {
		require.True(t, strings.HasPrefix(key, "tenants/acme/intake/"), key)
		z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw))) // any ZIP program opens it
		require.NoError(t, err)
		for _, f := range z.File {
			if f.Name == intakeList {
				units += bytes.Count(raw, []byte(`{"unit":`))
			}
		}
	}
	require.Equal(t, n, units, "each unit is listed once")
	require.Less(t, len(first), n, "units that come together share an object")

	gone := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(h.dir, "process", "blobs", "tenants", "acme"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			gone++
			err = os.Remove(path)
		}
		return err
	}))
	require.Equal(t, 2*n, gone, "documents and receipts in the platform's store")
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	require.EqualValues(t, n, p.GetUnitCount())
	require.Empty(t, p.GetArchive().GetUri())
	h.judge(t, p)
	h.await(t, "told", func() bool { _, _, sealed := h.counts(); return sealed == 1 })
	require.EqualValues(t, 2, h.sealed[0].GetCopies())
	require.Equal(t, objectsOn(t, h.disks[0]), objectsOn(t, h.disks[1]))
	require.Equal(t, conservationv1.StorageState_STORAGE_STATE_TWOFOLD, h.storageState(t).GetState())
}

// TestDegradedOpenly: while a replica is away nothing is taken in without saying so, and afterwards it gets
// what it lacks.
func TestDegradedOpenly(t *testing.T) {
	t.Parallel()
	for i, name := range []string{primaryReplica, secondReplica} {
		t.Run(name, func(t *testing.T) {
			h := openWith(t, true, "", soonOut)
			h.intake(t, 1)
			require.NoError(t, os.Rename(h.disks[i], h.disks[i]+".away"))
			h.settle(t, context.Background(), h.invoice(t, 100))
			h.await(t, "taken with one copy", func() bool { taken, _, _ := h.counts(); return taken == 2 })
			h.await(t, "event", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.degraded) == 1 })
			h.mu.Lock()
			require.Equal(t, []int32{2, 1}, []int32{h.taken[0].GetCopies(), h.taken[1].GetCopies()})
			require.Equal(t, name, h.degraded[0].GetReplica())
			require.NotEmpty(t, h.degraded[0].GetReason())
			h.mu.Unlock()
			state := h.storageState(t)
			require.Equal(t, conservationv1.StorageState_STORAGE_STATE_DEGRADED, state.GetState())
			require.NotNil(t, state.GetReplicas()[i].GetOutSince())
			require.NotEmpty(t, state.GetReplicas()[i].GetTrouble())
			require.Nil(t, state.GetReplicas()[1-i].GetOutSince())
			require.EqualValues(t, 1, state.GetReplicas()[i].GetOwedCopies())
			h.awaitSealed(t, h.closePackage(t).GetName())
			require.EqualValues(t, 2, h.storageState(t).GetReplicas()[i].GetOwedCopies())

			require.NoError(t, os.Rename(h.disks[i]+".away", h.disks[i]))
			h.await(t, "copied", func() bool {
				s := h.storageState(t)
				return s.GetState() == conservationv1.StorageState_STORAGE_STATE_TWOFOLD && s.GetReplicas()[i].GetOwedCopies() == 0
			})
			h.sameOnBoth(t)
			h.await(t, "event", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.restored) == 1 })
			require.EqualValues(t, 2, h.restored[0].GetOwedCopies())
			h.settle(t, context.Background(), h.invoice(t, 101))
			h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 3 })
			require.EqualValues(t, 2, h.taken[2].GetCopies())
		})
	}
}

// TestAwayForAMoment: while a replica is away for less than it may be, documents wait for it and are taken in with both copies, and
// nobody is told.
func TestAwayForAMoment(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	h.intake(t, 1)
	require.NoError(t, os.Rename(h.disks[1], h.disks[1]+".away"))
	h.settle(t, context.Background(), h.invoice(t, 100))
	h.await(t, "it is seen, time and again", func() bool {
		h.service.replicas.all[1].mu.Lock()
		defer h.service.replicas.all[1].mu.Unlock()
		failing := h.service.replicas.all[1].failing
		return !failing.IsZero() && time.Since(failing) > 500*time.Millisecond
	})
	require.NoError(t, os.Rename(h.disks[1]+".away", h.disks[1]))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	h.mu.Lock()
	require.Equal(t, []int32{2, 2}, []int32{h.taken[0].GetCopies(), h.taken[1].GetCopies()})
	h.mu.Unlock()
	require.Zero(t, h.counted(t, "audit_entry WHERE action = 'storage.degrade'"))
}

// TestNoReplicaNoCharge: with both replicas away nothing is taken in charge, and nothing is lost.
func TestNoReplicaNoCharge(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	h.intake(t, 1)
	for _, disk := range h.disks {
		require.NoError(t, os.Rename(disk, disk+".away"))
	}
	h.settle(t, context.Background(), h.invoice(t, 100))
	h.await(t, "both are in trouble", func() bool {
		s := h.storageState(t)
		return s.GetReplicas()[0].GetTrouble() != "" && s.GetReplicas()[1].GetTrouble() != ""
	})
	units := 0
	h.rowsOf(t, `SELECT count(*) FROM unit`, &units)
	require.Equal(t, 1, units)
	for _, disk := range h.disks {
		require.NoError(t, os.Rename(disk+".away", disk))
	}
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 2 })
	h.await(t, "both copies", func() bool {
		s := h.storageState(t)
		return s.GetState() == conservationv1.StorageState_STORAGE_STATE_TWOFOLD && s.GetReplicas()[0].GetOwedCopies()+s.GetReplicas()[1].GetOwedCopies() == 0
	})
	h.sameOnBoth(t)
}

// Test37_BitFlipIsRepairedFromTheOtherReplica, and a flip on both is an incident that no program mends.
func Test37_BitFlipIsRepairedFromTheOtherReplica(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.intake(t, 3)
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	good := h.download(t, p.GetName(), archiveFile)
	paths := [2]string{}
	for i := range paths {
		paths[i] = filepath.Join(h.disks[i], "objects", "tenants", "acme", "packages", p.GetName()[strings.LastIndexByte(p.GetName(), '/')+1:]+".zip")
	}
	spoil(t, paths[0], flip)
	client := conservationv1.NewConservationServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	stream, err := client.DownloadPackageFile(context.Background(), &conservationv1.DownloadPackageFileRequest{Name: p.GetName(), File: archiveFile})
	require.NoError(t, err)
	for err == nil {
		_, err = stream.Recv()
	}
	require.NotEqual(t, "EOF", err.Error(), "damaged bytes never end well")
	h.await(t, "repaired", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.repairs) == 1 })
	require.Equal(t, primaryReplica, h.repairs[0].GetReplica())
	kept, err := os.ReadFile(filepath.Join(h.disks[0], filepath.FromSlash(h.repairs[0].GetQuarantine())))
	require.NoError(t, err)
	flip(kept)
	require.Equal(t, good, kept, "the damaged copy is kept apart as it was")
	require.Equal(t, good, h.download(t, p.GetName(), archiveFile))
	list, err := h.storageClient().ListDamages(context.Background(), &conservationv1.ListDamagesRequest{})
	require.NoError(t, err)
	require.Len(t, list.GetDamages(), 1)
	require.NotNil(t, list.GetDamages()[0].GetRepairTime())
	require.Equal(t, "package", list.GetDamages()[0].GetKind())
	h.await(t, "the damage is told too", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.damages) == 1 })
	require.Equal(t, []string{primaryReplica, h.repairs[0].GetObject()}, []string{h.damages[0].GetReplica(), h.damages[0].GetObject()})

	// So it is the other way about, where nobody reads: the check finds it, its report names it, and the first replica mends it.
	spoil(t, paths[1], flip)
	h.admin(t, `UPDATE archive_copy SET check_due = now() - interval '1 day'`)
	_, f := h.runCheck(t, scrubKind, "")
	require.Equal(t, "PROBLEMS", f.Verdict, "%+v", f)
	require.Contains(t, fmt.Sprint(f.Problems), last(p.GetName()))
	h.await(t, "repaired", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.repairs) == 2 && len(h.damages) == 2 })
	require.Equal(t, secondReplica, h.repairs[1].GetReplica())
	kept, err = os.ReadFile(filepath.Join(h.disks[1], filepath.FromSlash(h.repairs[1].GetQuarantine())))
	require.NoError(t, err)
	flip(kept)
	require.Equal(t, good, kept)
	mended, err := os.ReadFile(paths[1])
	require.NoError(t, err)
	require.Equal(t, good, mended)

	for _, path := range paths {
		spoil(t, path, flip)
	}
	o, err := h.service.object(context.Background(), "acme", *packageRow(t, h, p).ObjectID)
	require.NoError(t, err)
	_, err = h.service.replicas.read(context.Background(), o)
	require.Equal(t, "OBJECT_UNREADABLE", code(err))
	h.await(t, "set aside for a person", func() bool { return h.parked(t, "NO_GOOD_COPY") >= 1 })
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		flip(raw)
		require.Equal(t, good, raw, "nothing was touched")
	}
	h.await(t, "both are told", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.damages) == 4 })
	h.mu.Lock()
	require.Len(t, h.repairs, 2, "and nothing is said to be mended")
	h.mu.Unlock()
	state := h.storageState(t)
	require.EqualValues(t, 1, state.GetReplicas()[0].GetDamagedCopies())
	require.EqualValues(t, 1, state.GetReplicas()[1].GetDamagedCopies())
	open, err := h.storageClient().ListDamages(context.Background(), &conservationv1.ListDamagesRequest{Open: true, PageSize: 1})
	require.NoError(t, err)
	require.Len(t, open.GetDamages(), 1)
	require.NotEmpty(t, open.GetNextPageToken())
	rest, err := h.storageClient().ListDamages(context.Background(), &conservationv1.ListDamagesRequest{Open: true, PageToken: open.GetNextPageToken()})
	require.NoError(t, err)
	require.Len(t, rest.GetDamages(), 1)
}

func packageRow(t testing.TB, h *house, p *conservationv1.Package) db.Package {
	t.Helper()
	row, err := h.service.pack(context.Background(), "acme", sealArgs(t, p.GetName()))
	require.NoError(t, err)
	return row
}

// TestDamagedIntakeIsPassedOver: a package is sealed from the good copy of what was taken in.
func TestDamagedIntakeIsPassedOver(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	h.intake(t, 3)
	for key := range objectsOn(t, h.disks[0]) {
		spoil(t, filepath.Join(h.disks[0], "objects", filepath.FromSlash(key)), flip)
	}
	h.judge(t, h.awaitSealed(t, h.closePackage(t).GetName()))
	h.await(t, "repaired", func() bool { s := h.storageState(t); return s.GetReplicas()[0].GetDamagedCopies() == 0 })
	require.Equal(t, objectsOn(t, h.disks[0]), objectsOn(t, h.disks[1]))
}

// TestWithoutReplicas: an installation that configures none works as it did, says so, and its packages get
// their copies when it does.
func TestWithoutReplicas(t *testing.T) {
	t.Parallel()
	h := openWith(t, true, "  storage: {probe: 5s}\n")
	h.intake(t, 2)
	require.Zero(t, h.taken[0].GetCopies())
	p := h.awaitSealed(t, h.closePackage(t).GetName())
	h.judge(t, p)
	require.Equal(t, conservationv1.StorageState_STORAGE_STATE_SINGLE, h.storageState(t).GetState())
	require.NotEmpty(t, p.GetArchive().GetUri())
	_, err := conservationv1.NewCheckServiceClient(h.Operator("conservation")).RunCheck(context.Background(), &conservationv1.RunCheckRequest{Kind: scrubKind})
	require.Equal(t, "STORAGE_OFF", code(err), "checks need replicas")

	later := *h.service
	h.disks = [2]string{t.TempDir(), t.TempDir()}
	later.cfg.Storage.Primary.FS.Dir, later.cfg.Storage.Second.FS.Dir = h.disks[0], h.disks[1]
	later.replicas, err = newReplicas(&later)
	require.NoError(t, err)
	require.NoError(t, later.adopt(context.Background()))
	require.NoError(t, later.adopt(context.Background()), "again changes nothing")
	want := h.download(t, p.GetName(), indexOnly)
	require.NotEmpty(t, want)
	for _, disk := range h.disks {
		objects := objectsOn(t, disk)
		require.Len(t, objects, 1)
		for _, raw := range objects {
			require.Equal(t, [32]byte(p.GetArchive().GetSha256()), sha256.Sum256(raw))
		}
	}
	_, err = h.service.openFile(context.Background(), packageRow(t, h, p), archiveFile, refOf("acme", nil, nil))
	require.Equal(t, "STORAGE_OFF", code(err), "a service without the replicas says what is missing")
}

// TestLargeIntake: what one transaction takes in is split into objects that fit in memory.
func TestLargeIntake(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	r := &replicas{now: h0, all: []*replica{{Vault: nullVault{}, name: primaryReplica}}}
	var waits []func() error
	b := &satchel{r: r, tenant: "acme", ctx: context.Background(), wait: func(f func() error) { waits = append(waits, f) }}
	require.NoError(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, b.close(ctx, tx), "nothing to write")
		content := bytes.Repeat([]byte{7}, intakeFull)
		for range 3 {
			require.False(t, b.isFull())
			f := db.UnitFile{Role: "transmitted", Sha256: make([]byte, 32), Size: int64(len(content))}
			require.NoError(t, b.add(uuid.New(), &f, content))
			require.NoError(t, b.note(record{}))
			require.True(t, b.isFull())
			require.NoError(t, b.close(ctx, tx))
		}
		require.Len(t, b.full, 3)
		f := db.UnitFile{Sha256: make([]byte, 32)}
		require.NoError(t, b.add(uuid.New(), &f, content))
		require.NoError(t, b.close(ctx, tx))
		require.Len(t, b.full, 3, "an object of nothing new is not written")
		return nil
	}))
	for _, wait := range waits {
		require.NoError(t, wait())
	}
}

// TestFileWhereItIsNot: a row that says of a file what its object has not, whatever the numbers, is an error of that file.
func TestFileWhereItIsNot(t *testing.T) {
	t.Parallel()
	id, whole := uuid.New(), []byte("one object")
	c := cabinet{s: &Service{replicas: &replicas{}}, held: map[uuid.UUID][]byte{id: whole}}
	for _, at := range []struct{ offset, size int64 }{{-1, 1}, {0, 11}, {10, 1}, {11, 0}, {math.MaxInt64, 1}, {1, math.MaxInt64}, {math.MaxInt64, math.MaxInt64}, {5, -2}, {math.MaxInt64, math.MinInt64}} {
		_, err := c.file(context.Background(), db.UnitFile{ObjectID: &id, ObjectOffset: &at.offset, Size: at.size, Sha256: make([]byte, 32)})
		require.Equal(t, "FILE_CORRUPT", fault.Of(err).Code, "%+v", at)
	}
	sum, four := sha256.Sum256(whole[4:]), int64(4)
	raw, err := c.file(context.Background(), db.UnitFile{ObjectID: &id, ObjectOffset: &four, Size: 6, Sha256: sum[:]})
	require.NoError(t, err)
	require.Equal(t, "object", string(raw))
}

// TestNothingStaysInClear: a package that is read to be judged lies in a file that has no name, so that nothing of it is left when
// the process is killed.
func TestNothingStaysInClear(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	f, n, err := spool(strings.NewReader("a document"))
	require.NoError(t, err)
	defer drop(f)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	raw := make([]byte, n)
	_, err = f.ReadAt(raw, 0)
	require.NoError(t, err)
	require.Equal(t, "a document", string(raw))
}

func TestStorageConfig(t *testing.T) {
	t.Parallel()
	good := DefaultConfig()
	good.Storage.Primary.FS.Dir, good.Storage.Second.FS.Dir = "/a", "/b"
	says := func(c Config) string { return c.Validate().Error() }
	require.NotContains(t, says(good), "storage")
	for want, change := range map[string]func(c *StorageConfig){
		"storage.second: is missing":                    func(c *StorageConfig) { c.Second.FS.Dir = "" },
		"one disk is one copy":                          func(c *StorageConfig) { c.Second.FS.Dir = "/a" },
		"storage.primary: fs.dir and s3.bucket":         func(c *StorageConfig) { c.Primary.S3.Bucket = "x" },
		"endpoint, access_key_file and secret_key_file": func(c *StorageConfig) { c.Second = ReplicaConfig{S3: S3ReplicaConfig{Bucket: "x"}} },
		"storage.probe: must be more than 0s":           func(c *StorageConfig) { c.Probe = 0 },
		"storage.degrade_after: must be more than 0s":   func(c *StorageConfig) { c.DegradeAfter = -1 },
	} {
		bad := good
		change(&bad.Storage)
		require.Contains(t, says(bad), want)
	}
	_, err := (ReplicaConfig{S3: S3ReplicaConfig{Bucket: "x", AccessKeyFile: "/absent"}}).open("storage.second", h0)
	require.ErrorContains(t, err, "access_key_file")
	_, err = vault.OpenFolder("", h0)
	require.NoError(t, err)
}

func h0() time.Time { return time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC) }

// nullVault takes everything: for tests of what is handed to a vault.
type nullVault struct{ vault.Vault }

func (nullVault) Put(context.Context, vault.Object, io.ReaderAt, vault.Lock) error { return nil }
