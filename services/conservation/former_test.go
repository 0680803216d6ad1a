package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
)

// TestStoredBeforeItDied: the process dies between storing a package and saying so, and when it is tried again the same package
// has other bytes. It is sealed all the same, with what is stored; but never with other content.
func TestStoredBeforeItDied(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	// between runs once for each package, when its archive is stored and no row says so.
	seal := func(t *testing.T, n int, between func(t *testing.T, p db.Package)) string {
		h.settle(t, context.Background(), h.invoice(t, n))
		h.await(t, "taken", func() bool { return len(h.waiting(t)) == 1 })
		died := false
		dying := maps.Clone(steps)
		real := steps["STAMPED"]
		dying["STAMPED"] = step{name: real.name, keep: real.keep, act: func(s *Service, ctx context.Context, p db.Package) (result, error) {
			r, err := real.act(s, ctx, p)
			if err == nil && !died {
				died = true
				between(t, p)
				return r, fault.Unavailable("KILLED", "killed after the act")
			}
			return r, err
		}}
		h.steps.set(dying)
		return h.closePackage(t).GetName()
	}
	stored := func(disk, name string) string {
		return filepath.Join(disk, "objects", "tenants", "acme", "packages", path.Base(name)+".zip")
	}
	overwrite := func(t *testing.T, file string, raw []byte) {
		require.NoError(t, os.Chmod(file, 0o600))
		require.NoError(t, os.WriteFile(file, raw, 0o600))
	}
	names := func(p db.Package) string { return packageName(p.TenantID, p.ID) }

	t.Run("files moved", func(t *testing.T) {
		var was []byte
		name := seal(t, 1, func(t *testing.T, p db.Package) {
			was = read(t, stored(h.disks[0], names(p)))
			h.moveMembers(t, p)
		})
		h.judge(t, h.awaitSealed(t, name))
		require.True(t, bytes.Equal(was, h.download(t, name, archiveFile)), "where files lie is not in the package")
	})
	t.Run("files moved, layout 2", func(t *testing.T) {
		var was []byte
		h.steps.set(nil) // it waits where it was closed
		h.settle(t, context.Background(), h.invoice(t, 2))
		h.await(t, "taken", func() bool { return len(h.waiting(t)) == 1 })
		name := h.closePackage(t).GetName()
		h.admin(t, `UPDATE package SET terms = jsonb_set(terms, '{layout}', '2') WHERE id = '`+path.Base(name)+`'`)
		died := false
		dying := maps.Clone(steps)
		real := steps["STAMPED"]
		dying["STAMPED"] = step{name: real.name, keep: real.keep, act: func(s *Service, ctx context.Context, p db.Package) (result, error) {
			r, err := real.act(s, ctx, p)
			if err == nil && !died {
				died = true
				was = read(t, stored(h.disks[0], names(p)))
				h.moveMembers(t, p)
				return r, fault.Unavailable("KILLED", "killed after the act")
			}
			return r, err
		}}
		h.steps.set(dying)
		require.NoError(t, h.service.db.Tx(context.Background(), "acme", func(ctx context.Context, tx pgx.Tx) error {
			return h.service.jobs.InsertTx(ctx, tx, sealArgs(t, name), nil)
		}))
		h.judge(t, h.awaitSealed(t, name))
		require.True(t, bytes.Equal(was, h.download(t, name, archiveFile)), "what is stored is the package")
	})
	t.Run("other compressor", func(t *testing.T) {
		var other []byte
		name := seal(t, 3, func(t *testing.T, p db.Package) {
			other = deflatedAnew(t, read(t, stored(h.disks[1], names(p))), func(_ string, content []byte) []byte { return content })
			overwrite(t, stored(h.disks[1], names(p)), other)
			require.NoError(t, os.Remove(stored(h.disks[0], names(p)))) // it died between the replicas
		})
		h.judge(t, h.awaitSealed(t, name))
		require.True(t, bytes.Equal(other, h.download(t, name, archiveFile)))
		require.True(t, bytes.Equal(other, read(t, stored(h.disks[0], name))), "both replicas hold the same")
		_, f := h.runCheck(t, deepKind, "")
		require.Equal(t, "GOOD", f.Verdict, "%+v", f)
	})
	t.Run("other content", func(t *testing.T) {
		var other []byte
		name := seal(t, 4, func(t *testing.T, p db.Package) {
			other = deflatedAnew(t, read(t, stored(h.disks[1], names(p))), func(name string, content []byte) []byte {
				if path.Base(name) != "bag-info.txt" {
					return content
				}
				return append(content, "Internal-Sender-Description: of somebody else\n"...)
			})
			overwrite(t, stored(h.disks[1], names(p)), other)
		})
		h.await(t, "it says so", func() bool {
			return strings.Contains(h.pack(t, name).GetLastError(), "is not this package")
		})
		require.True(t, bytes.Equal(other, read(t, stored(h.disks[1], name))), "nothing is replaced")
		require.Equal(t, conservationv1.PackageState_PACKAGE_STATE_STAMPED, h.pack(t, name).GetState())
	})
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	return raw
}

// waiting are the units that are in no package.
func (h *house) waiting(t testing.TB) (waiting []*conservationv1.Unit) {
	for _, u := range h.units(t, "") {
		if u.GetState() == conservationv1.UnitState_UNIT_STATE_TAKEN_IN_CHARGE {
			waiting = append(waiting, u)
		}
	}
	return waiting
}

// moveMembers moves the files of a package's units, as is done before a package is destroyed that was taken in with them.
func (h *house) moveMembers(t testing.TB, p db.Package) {
	t.Helper()
	ctx := context.Background()
	_, err := h.service.moveUnits(ctx, p.TenantID, func(ctx context.Context, q *db.Queries) (from, units []uuid.UUID, err error) {
		from, err = q.ObjectsOfPackage(ctx, p.ID)
		require.NoError(t, err)
		members, err := q.Members(ctx, db.MembersParams{PackageID: p.ID, Page: 100})
		for _, u := range members {
			units = append(units, u.ID)
		}
		return from, units, err
	})
	require.NoError(t, err)
}

// deflatedAnew is a ZIP with the same content in the same order that no other program would write with these bytes: what was
// compressed is stored, what was stored is compressed.
func deflatedAnew(t testing.TB, raw []byte, change func(name string, content []byte) []byte) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range z.File {
		head := zip.FileHeader{Name: e.Name, Method: zip.Deflate, Modified: e.Modified}
		if e.Method == zip.Deflate {
			head.Method = zip.Store
		}
		to, err := w.CreateHeader(&head)
		require.NoError(t, err)
		body, err := e.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(body)
		require.NoError(t, err)
		_, err = to.Write(change(e.Name, content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}
