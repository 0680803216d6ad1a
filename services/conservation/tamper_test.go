package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/ca"
)

// published is the log as the service shows it, read as conserve monitor reads it.
type published struct {
	api conservationv1.EvidenceServiceClient
}

func (p published) Checkpoint(ctx context.Context) ([]byte, error) {
	point, err := p.api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	return point.GetNote(), err
}

func (p published) Stamped(context.Context) (*custody.Stamped, error) { return nil, nil } // nobody asks for it

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
	round, err := custody.Follow(context.Background(), published{api}, seen, append([]custody.Receipt{o.sealed}, o.receipts...), o.policy, custody.Freshness{})
	require.NoError(t, err)
	return round
}

// resigned is a forged package with everything made again that an operator can make: the signature with the archive's own key, the
// time stamp when stamp says so, and the manifests once more.
func (o *owner) resigned(t *testing.T, h *house, stamp bool, forged []byte) []byte {
	t.Helper()
	ctx, b := context.Background(), unbag(t, forged)
	var err error
	b.files[signedFile], err = h.service.signContent(ctx, "acme", "packages/forged", mimeXML, uuid.New(), b.files[indexFile])
	require.NoError(t, err)
	digest := sha256.Sum256(b.files[signedFile])
	if stamp {
		b.files[stampFile], _, err = h.service.stampDigest(ctx, digest[:])
		require.NoError(t, err)
	}
	token, err := tsp.ParseToken(b.files[stampFile])
	require.NoError(t, err)
	sd, verdict, err := cades.Verify(b.files[signedFile], cades.VerifyOptions{Roots: o.roots})
	require.NoError(t, err)
	require.NoError(t, verdict.Err(), "the signature is a good one")
	require.Equal(t, b.files[indexFile], sd.Content())
	require.Equal(t, stamp, token.Verify(tsp.VerifyOptions{Digest: digest[:], Roots: o.roots}) == nil, "a kept stamp does not cover a new signature")
	return b.manifests().pack(t)
}

// alone is what the deep check finds in a package itself, by its own rows, which an operator would have changed too.
func (h *house) alone(t *testing.T, raw []byte) (problems []string) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	id := uuid.MustParse(unbag(t, raw).folder)
	p, err := h.service.pack(context.Background(), "acme", SealArgs{Tenant: "acme", Package: id})
	require.NoError(t, err)
	if token, err := tsp.ParseToken(unbag(t, raw).files[stampFile]); err == nil {
		at := pg.Time(token.Info.Time)
		p.StampTime = &at
	}
	count := int32(0)
	if _, err = sincro.Read(bytes.NewReader(unbag(t, raw).files[indexFile]), func(sincro.FileGroup) error { count++; return nil }); err == nil {
		p.UnitCount = count
	}
	j := &judge{s: h.service, p: p, sums: map[string]string{}, kept: map[string][]byte{}, bad: func(format string, a ...any) {
		problems = append(problems, fmt.Sprintf(format, a...))
	}}
	j.itself(z)
	return problems
}

// bare runs the commands that the README gives to whoever has a package and no program of ours, in the unpacked package, with
// nothing in the environment.
func bare(t *testing.T, raw, roots []byte) (string, bool) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(readme), "Verify with what every system has.")
	require.True(t, ok)
	_, rest, ok = strings.Cut(rest, "```sh\n")
	require.True(t, ok)
	commands, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "roots.pem"), roots, 0o600))
	for name, content := range unbag(t, raw).files {
		require.True(t, filepath.IsLocal(name))
		target := filepath.Join(dir, "package", filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(t, os.WriteFile(target, content, 0o600))
	}
	for _, need := range []string{"sh", "openssl", "xmllint", "sha256sum"} {
		_, err = exec.LookPath(need)
		require.NoError(t, err, "%s judges the packages: install it", need)
	}
	cmd := outside(t, []string{dir}, filepath.Join(dir, "package"), "sh", "-c", commands)
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

// attack is a package that was tampered with, and what finds it.
type attack struct {
	name    string
	archive []byte
	// shows is what the package itself shows, as our verifier says it: the bare tools must come to the same verdict. Empty: nothing
	// does, and both must say that it is good.
	shows []string
	// owner is what the receipts show, those of the units and that of the package.
	owner []string
}

// attacks are the rows of the table that are about the bytes of a package.
func (o *owner) attacks(t *testing.T, h *house) []attack {
	edit := func(change func(files map[string][]byte, document string)) *bag {
		b := unbag(t, o.archive)
		document := ""
		for _, name := range slices.Sorted(maps.Keys(b.files)) {
			if strings.HasSuffix(name, "/doc.xml") {
				document = name
			}
		}
		change(b.files, document)
		return b
	}
	rewrite := func(files map[string][]byte, document string) {
		files[document] = []byte("<FatturaElettronica n='999'/>")
	}
	altered := o.forge(t, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
		files["data/"+groups[2].Files[0].Path] = []byte("<FatturaElettronica n='999'/>")
		return groups
	})
	inserted := o.forge(t, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
		g := groups[0]
		g.ID.Value = uuid.NewString()
		g.Files = []sincro.File{g.Files[0]}
		g.Files[0].Path = "units/u000000/doc.xml"
		g.Metadata = nil
		files["data/units/u000000/doc.xml"] = []byte("<FatturaElettronica data='2020-01-01'/>")
		return append([]sincro.FileGroup{g}, groups...)
	})
	removed := o.forge(t, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
		for name := range files {
			if strings.HasPrefix(name, "data/"+path.Dir(groups[4].Files[0].Path)+"/") {
				delete(files, name)
			}
		}
		return slices.Delete(groups, 4, 5)
	})
	const sum, named, signed, stamped = "does not have the SHA-256", "is not the file that the index names", "another index is signed", "the time stamp does not hold"
	return []attack{
		{"a bit rots", edit(func(f map[string][]byte, d string) { f[d] = bytes.Clone(f[d]); f[d][3] ^= 0x40 }).pack(t), []string{sum, named}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"an outsider edits a file", edit(rewrite).pack(t), []string{sum, named}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"an outsider edits the index", edit(func(f map[string][]byte, _ string) {
			f[indexFile] = bytes.Replace(f[indexFile], []byte("Maria"), []byte("Mario"), 1)
		}).pack(t), []string{sum, signed}, []string{custody.PackageChanged}},
		{"an outsider takes a file away", edit(func(f map[string][]byte, d string) { delete(f, d) }).pack(t), []string{sum, named}, []string{custody.FileMissing, custody.UnitChanged, custody.PackageChanged}},
		{"an outsider puts a file in", edit(func(f map[string][]byte, d string) { f[path.Dir(d)+"/r99_RC.xml"] = []byte("<RC/>") }).pack(t), []string{"is not in the index", "is not in manifest"}, []string{custody.PackageChanged}},
		{"a database administrator edits and makes the manifests again", edit(rewrite).manifests().pack(t), []string{named}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"and puts a file in", edit(func(f map[string][]byte, d string) { f[path.Dir(d)+"/r99_RC.xml"] = []byte("<RC/>") }).manifests().pack(t), []string{"is not in the index"}, []string{custody.PackageChanged}},
		{"and puts a file beside the units", edit(func(f map[string][]byte, _ string) { f["data/extra.xml"] = []byte("<x/>") }).manifests().pack(t), []string{"is not in the index"}, []string{custody.PackageChanged}},
		{"and edits a metadata file", edit(func(f map[string][]byte, d string) {
			name := path.Dir(d) + "/metadati.xml"
			f[name] = bytes.Replace(f[name], []byte("2026-10-05"), []byte("2020-10-05"), 1)
		}).manifests().pack(t), []string{named}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"a folder of tag files is put in", edit(func(f map[string][]byte, _ string) { f["tags/x.txt"] = []byte("x") }).pack(t), []string{"is not in tagmanifest"}, []string{custody.PackageChanged}},
		{"and the index", altered, []string{signed}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"and puts a unit in", inserted, []string{signed}, []string{custody.UnitInserted, custody.PackageChanged}},
		{"and takes a unit away", removed, []string{signed}, []string{custody.UnitMissing, custody.PackageChanged}},
		{"the operator signs again and keeps the stamp", o.resigned(t, h, false, altered), []string{stamped}, []string{custody.UnitChanged, custody.PackageChanged}},
		{"the operator signs and stamps again", o.resigned(t, h, true, altered), nil, []string{custody.UnitChanged, custody.PackageChanged}},
		{"the operator inserts a unit, signs and stamps again", o.resigned(t, h, true, inserted), nil, []string{custody.UnitInserted, custody.PackageChanged}},
		{"the operator removes a unit, signs and stamps again", o.resigned(t, h, true, removed), nil, []string{custody.UnitMissing, custody.PackageChanged}},
	}
}

// Test28_TamperTable acts the table of attacks out, row by row, by an operator who has the database, both replicas and
// all keys. What finds each is in the owner's hands: the package itself, by our verifier and by the commands of the README with the same
// verdict; receipts, the log's key, a checkpoint of an earlier day. Split views are Test33, and all witnesses together with the authority
// are out of scope.
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

	require.Empty(t, h.alone(t, o.archive))
	require.Empty(t, h.alone(t, unbag(t, o.archive).manifests().pack(t)), "manifests made again are good ones")
	out, good := bare(t, o.archive, h.ca.CertPEM())
	require.True(t, good, out)
	require.Empty(t, o.judge(t, o.archive, all).Problems)
	stranger, err := ca.New(ca.Options{})
	require.NoError(t, err)
	out, good = bare(t, o.archive, stranger.CertPEM())
	require.False(t, good, "another's roots: %s", out)
	for _, a := range o.attacks(t, h) {
		t.Run(a.name, func(t *testing.T) {
			found := h.alone(t, a.archive)
			for _, want := range a.shows {
				require.Contains(t, strings.Join(found, "\n"), want)
			}
			for _, problem := range found { // and nothing else: what an attack made again is good
				require.True(t, slices.ContainsFunc(a.shows, func(s string) bool { return strings.Contains(problem, s) }), problem)
			}
			out, good := bare(t, a.archive, h.ca.CertPEM())
			require.Equal(t, len(a.shows) == 0, good, "the same verdict: %q, %s", found, out)
			report, few := o.judge(t, a.archive, all), o.judge(t, a.archive, o.receipts)
			for _, want := range a.owner {
				require.True(t, report.Has(want), "%s: %v", want, report.Problems)
				require.Equal(t, want != custody.PackageChanged, few.Has(want), "the receipts of the taking in charge are enough: %v", few.Problems)
			}
		})
	}
	t.Run("a byte of a file", func(t *testing.T) { flipPackage(t, h, o) })
	t.Run("a byte of the ZIP", func(t *testing.T) {
		r := rand.New(rand.NewPCG(28, 1)) //nolint:gosec // a test's choice
		unreadable := 0
		for range 300 {
			raw, at := bytes.Clone(o.archive), r.IntN(len(o.archive))
			raw[at] ^= byte(1 + r.IntN(255))
			p, err := custody.ReadPackage(raw)
			if err != nil {
				unreadable++
				continue
			}
			report, err := custody.Verify(custody.Input{Package: p, Receipts: all, Policy: o.policy})
			require.NoError(t, err)
			require.True(t, report.Has(custody.PackageChanged), "byte %d: %v", at, report.Problems)
		}
		require.Less(t, unreadable, 300, "what stays readable is judged too")
	})
	t.Run("a back-dated document is inserted", func(t *testing.T) {
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
		// Its event never comes: there is no unit, so no receipt can be had, and the archive's own check names it.
		refused, old := company+"/invoices/"+uuid.NewString(), timestamppb.New(time.Now().Add(-2*time.Hour))
		for _, name := range []string{h.units(t, "")[0].GetSubject(), refused} {
			h.ledger.list = append(h.ledger.list, &invoicev1.Invoice{Name: name, State: invoicev1.InvoiceState_INVOICE_STATE_DELIVERED, Format: "FPR12", UpdateTime: old})
		}
		require.Empty(t, h.units(t, refused))
		_, f := h.runCheck(t, sumKind, "")
		require.Len(t, f.Problems, 1)
		require.Equal(t, refused, f.Problems[0].What)
		require.Contains(t, f.Problems[0].Problem, "has no unit")
		h.ledger.list = nil
	})
	last := o.monitored(t, api, seen.Note)
	require.Empty(t, last.Problems)
	require.Equal(t, tlog.Grown, last.Relation)
	t.Run("a whole package is removed", func(t *testing.T) {
		for _, statement := range []string{`SET session_replication_role = replica`, `DELETE FROM unit_file WHERE unit_id IN (SELECT id FROM unit WHERE package_id IS NOT NULL)`,
			`DELETE FROM unit WHERE package_id IS NOT NULL`, `DELETE FROM package`, `SET session_replication_role = origin`} {
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
		var named []string
		for _, p := range f.Problems {
			require.Contains(t, p.Problem, "of the log states it, and it is not there")
			named = append(named, path.Base(p.What))
		}
		want := []string{id}
		for _, r := range o.receipts {
			want = append(want, path.Base(r.Name))
		}
		require.ElementsMatch(t, want, named, "the archive's own check names the package and each of its units")
	})
	t.Run("an old backup is put back", func(t *testing.T) {
		// Nobody appends while a backup is put back: the reports of the checks above are in the log, and the tables are held.
		h.await(t, "the log rests", func() bool {
			var waits bool
			const rest = `SELECT EXISTS (SELECT 1 FROM log_pending) OR (SELECT max(idx) + 1 FROM log_leaf) <> (SELECT max(size) FROM log_checkpoint)`
			return admin.QueryRow(ctx, rest).Scan(&waits) == nil && !waits
		})
		h.admin(t, fmt.Sprintf(`BEGIN; LOCK TABLE log_pending, log_leaf, log_checkpoint; SET LOCAL session_replication_role = replica;
			DELETE FROM log_leaf WHERE idx >= %d; DELETE FROM log_checkpoint WHERE size > %[1]d; DELETE FROM log_pending; COMMIT`, units))
		round := o.monitored(t, api, last.Note)
		require.True(t, round.Has(custody.LogRolledBack), "%v", round.Problems)
		require.True(t, round.Has(custody.ReceiptGone), "%v", round.Problems)
		require.EqualValues(t, units, round.Tree.Size)
	})
}

// flipPackage changes single bytes of the unpacked package, with each of its files as likely as the others: our verifier finds each, and
// openssl, xmllint and sha256sum find each that they are asked about.
func flipPackage(t *testing.T, h *house, o *owner) {
	good := unbag(t, o.archive)
	names := slices.Sorted(maps.Keys(good.files))
	tried := map[string]bool{}
	var wg sync.WaitGroup
	turns := make(chan int)
	for w := range runtime.GOMAXPROCS(0) {
		r := rand.New(rand.NewPCG(44, uint64(w))) //nolint:gosec // a test's choice
		wg.Go(func() {
			for i := range turns {
				b := &bag{folder: good.folder, files: maps.Clone(good.files)}
				name := names[i%len(names)]
				content := bytes.Clone(b.files[name])
				at := r.IntN(len(content))
				content[at] ^= byte(1 + r.IntN(255))
				b.files[name] = content
				raw := b.pack(t)
				assert.NotEmpty(t, h.alone(t, raw), "flip %d: byte %d of %s", i, at, name)
				if i%(flips/scripted) == 0 {
					out, whole := bare(t, raw, h.ca.CertPEM())
					assert.False(t, whole, "flip %d: byte %d of %s: %s", i, at, name, out)
				}
			}
		})
	}
	for i := range flips {
		tried[names[i%len(names)]] = true
		turns <- i
	}
	close(turns)
	wg.Wait()
	require.Len(t, tried, len(names), "each file was spoiled")
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
