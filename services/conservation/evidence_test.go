package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/custody"
	"ceralacca.dev/services/format/sincro"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/sandbox/tsa"
)

// openLogged is a house that keeps a log.
func openLogged(t testing.TB) (*house, conservationv1.EvidenceServiceClient) {
	return openLoggedWith(t, "")
}

// openLoggedWith adds lines to the section of conservation.
func openLoggedWith(t testing.TB, section string) (*house, conservationv1.EvidenceServiceClient) {
	t.Helper()
	text, err := x509.MarshalPKCS8PrivateKey(logSeed())
	require.NoError(t, err)
	key := filepath.Join(t.TempDir(), "log.key")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), 0o600))
	h := openWith(t, true, fmt.Sprintf("  log: {origin: %s, key_file: %q, every: 20ms}\n", origin, key)+section)
	return h, conservationv1.NewEvidenceServiceClient(h.Operator("conservation"))
}

// code is the permanent code of an error, empty for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	return fault.Of(err).Code
}

// receiptOf waits until the log has a unit.
func receiptOf(t testing.TB, h *house, api conservationv1.EvidenceServiceClient, unit string) *conservationv1.Receipt {
	t.Helper()
	var r *conservationv1.Receipt
	h.await(t, "receipt", func() bool {
		var err error
		r, err = api.GetUnitReceipt(context.Background(), &conservationv1.GetUnitReceiptRequest{Name: unit})
		if err != nil {
			require.Equal(t, "RECEIPT_NOT_READY", code(err))
		}
		return err == nil
	})
	return r
}

// owner is what a customer keeps: nothing of it comes from the service any more.
type owner struct {
	archive  []byte
	receipts []custody.Receipt // of the units
	sealed   custody.Receipt   // of the package
	old      custody.Seen      // the checkpoint of the first day
	policy   tlog.Policy
	roots    *x509.CertPool
	entries  [][]byte // of the log, as its operator has them
}

const units = 9

// keepEvidence takes a package through its life and keeps what an owner would.
func keepEvidence(t *testing.T) (*house, *owner) {
	ctx := context.Background()
	h, api := openLogged(t)
	_, err := api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	require.Equal(t, "CHECKPOINT_NOT_FOUND", code(err))
	h.intake(t, units)
	o := &owner{roots: x509.NewCertPool()}
	o.roots.AppendCertsFromPEM(h.ca.CertPEM())
	named, err := api.GetLog(ctx, &conservationv1.GetLogRequest{})
	require.NoError(t, err)
	key, err := tlog.ParseVerifier(named.GetVerifierKey())
	require.NoError(t, err)
	o.policy = tlog.Policy{Origin: named.GetOrigin(), LogKeys: []*tlog.Verifier{key}}
	for _, u := range h.units(t, "") {
		r := receiptOf(t, h, api, u.GetName())
		parsed, err := tlog.ParseReceipt(r.GetReceipt())
		require.NoError(t, err)
		require.Equal(t, r.GetIndex(), parsed.Index)
		require.EqualValues(t, 1, r.GetRevision())
		o.receipts = append(o.receipts, custody.Receipt{Name: u.GetName(), Receipt: parsed})
	}
	point, err := api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
	require.NoError(t, err)
	require.EqualValues(t, units, point.GetSize())
	o.old = custody.Seen{Name: "old", Note: point.GetNote()}

	p := h.awaitSealed(t, h.closePackage(t).GetName())
	o.archive = h.download(t, p.GetName(), conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE)
	h.await(t, "receipt of the package", func() bool {
		r, err := api.GetPackageReceipt(ctx, &conservationv1.GetPackageReceiptRequest{Name: p.GetName()})
		if err != nil {
			require.Equal(t, "RECEIPT_NOT_READY", code(err))
			return false
		}
		o.sealed.Name = "package"
		o.sealed.Receipt, err = tlog.ParseReceipt(r.GetReceipt())
		require.NoError(t, err)
		return true
	})
	leaves, err := db.New(pgtest.Admin(t, h.DB("conservation"))).SettledFrom(ctx, db.SettledFromParams{Batch: 1000})
	require.NoError(t, err)
	for _, l := range leaves {
		o.entries = append(o.entries, l.Entry)
	}
	require.Len(t, o.entries, units+1)
	return h, o
}

func (o *owner) judge(t require.TestingT, archive []byte, receipts []custody.Receipt, points ...custody.Seen) *custody.Report {
	p, err := custody.ReadPackage(archive)
	require.NoError(t, err)
	report, err := custody.Verify(custody.Input{
		Package: p, Receipts: receipts, Checkpoints: points, Complete: true, Policy: o.policy, Stamps: tlog.StampPolicy{Roots: o.roots},
	})
	require.NoError(t, err)
	return report
}

// bag is a package unpacked: its folder in the ZIP, and its files by their names in it.
type bag struct {
	folder string
	files  map[string][]byte
}

func unbag(t require.TestingT, raw []byte) *bag {
	archive, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	b := &bag{files: map[string][]byte{}}
	for _, f := range archive.File {
		r, err := f.Open()
		require.NoError(t, err)
		var name string
		b.folder, name, _ = strings.Cut(f.Name, "/")
		b.files[name], err = io.ReadAll(r)
		require.NoError(t, err)
	}
	return b
}

func (b *bag) pack(t require.TestingT) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		f, err := w.Create(b.folder + "/" + name)
		require.NoError(t, err)
		_, err = f.Write(b.files[name])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

// manifests makes what a bag says of itself again, so that it is a good bag whatever is in it.
func (b *bag) manifests() *bag {
	list := func(of func(string) bool) []byte {
		var out bytes.Buffer
		for _, name := range slices.Sorted(maps.Keys(b.files)) {
			if of(name) {
				fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(b.files[name]), name)
			}
		}
		return out.Bytes()
	}
	size, count := 0, 0
	for name, content := range b.files {
		if strings.HasPrefix(name, "data/") {
			size, count = size+len(content), count+1
		}
	}
	b.files["bag-info.txt"] = regexp.MustCompile(`(?m)^Payload-Oxum: .*$`).ReplaceAll(b.files["bag-info.txt"], fmt.Appendf(nil, "Payload-Oxum: %d.%d", size, count))
	b.files["manifest-sha256.txt"] = list(func(name string) bool { return strings.HasPrefix(name, "data/") })
	b.files["tagmanifest-sha256.txt"] = list(func(name string) bool { return !strings.HasPrefix(name, "data/") && name != "tagmanifest-sha256.txt" })
	return b
}

// forge writes the package anew with its index and its manifests changed: the bag is a good one, every file is the one that the
// index names, and who signs and stamps that index again has a package in which nothing contradicts anything else.
func (o *owner) forge(t require.TestingT, change func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup) []byte {
	b := unbag(t, o.archive)
	var groups []sincro.FileGroup
	head, err := sincro.Read(bytes.NewReader(b.files[indexFile]), func(g sincro.FileGroup) error {
		groups = append(groups, g)
		return nil
	})
	require.NoError(t, err)
	groups = change(groups, b.files)
	var index bytes.Buffer
	require.NoError(t, sincro.Write(&index, head, func(yield func(sincro.FileGroup, error) bool) {
		for _, g := range groups {
			for i, f := range g.Files {
				g.Files[i].Hash = sincro.HashOf(sha256.Sum256(b.files["data/"+f.Path]))
			}
			if !yield(g, nil) {
				return
			}
		}
	}))
	b.files[indexFile] = index.Bytes()
	counted := fmt.Appendf(nil, `"units":%d`, len(groups))
	b.files[packageFile] = regexp.MustCompile(`"units":\d+`).ReplaceAll(b.files[packageFile], counted)
	return b.manifests().pack(t)
}

// TestOwnerDetectsTampering: what the operator may do to packages and log, the owner sees with what he kept.
func TestOwnerDetectsTampering(t *testing.T) {
	t.Parallel()
	h, o := keepEvidence(t)
	h.Stop() // from here on there is no service
	all := append(slices.Clone(o.receipts), o.sealed)

	good := o.judge(t, o.archive, all, o.old)
	require.Empty(t, good.Problems)
	require.Contains(t, strings.Join(good.Holds, "\n"), "9 of 9 units")
	require.Contains(t, strings.Join(good.Holds, "\n"), "byte for byte")

	t.Run("Test35_LeavesOfARealLog", func(t *testing.T) {
		for _, entry := range o.entries {
			leaf := map[string]any{}
			require.NoError(t, json.Unmarshal(entry, &leaf))
			require.Subset(t, []string{"v", "type", "time", "tenant", "tseq", "tprev", "obj", "note"}, slices.Collect(maps.Keys(leaf)), "nothing else is stated")
			for _, word := range []string{"acme", "platform", "main", "01234567897", "DE123456789", "Alfa", "Figli", "Käufer", "GmbH", "/A", ".xml", "metadati", "2026-10-05", "FISC"} {
				require.NotContains(t, string(entry), word)
				if len(word) >= 8 { // shorter ones could be in a digest by chance
					require.NotContains(t, string(entry), hex.EncodeToString([]byte(word)))
				}
			}
		}
	})
	t.Run("package", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			at := rapid.IntRange(0, units-1).Draw(rt, "unit")
			want := ""
			forged := o.forge(rt, func(groups []sincro.FileGroup, files map[string][]byte) []sincro.FileGroup {
				kind := rapid.SampledFrom([]string{"remove", "alter", "insert", "reorder", "swap"}).Draw(rt, "kind")
				g := groups[at]
				switch kind {
				case "remove":
					want = custody.UnitMissing
					return slices.Delete(groups, at, at+1)
				case "alter":
					want = custody.UnitChanged
					name := "data/" + g.Files[rapid.IntRange(0, len(g.Files)-1).Draw(rt, "file")].Path
					raw := bytes.Clone(files[name])
					raw[rapid.IntRange(0, len(raw)-1).Draw(rt, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
					files[name] = raw
				case "insert":
					want = custody.UnitInserted
					g.ID.Value = "0199d2f0-0000-7000-8000-00000000beef"
					return slices.Insert(slices.Clone(groups), at, g)
				case "reorder":
					want = custody.PackageChanged
					other := (at + rapid.IntRange(1, units-1).Draw(rt, "other")) % units
					groups[at], groups[other] = groups[other], groups[at]
				case "swap": // the document of one unit under the name of another
					want = custody.UnitChanged
					other := groups[(at+1)%units]
					files["data/"+g.Files[0].Path] = files["data/"+other.Files[0].Path]
				}
				return groups
			})
			report := o.judge(rt, forged, all)
			require.True(rt, report.Has(want), "%s: %v", want, report.Problems)
			require.True(rt, report.Has(custody.PackageChanged))
			if want != custody.PackageChanged { // the receipts of the units alone are enough
				require.True(rt, o.judge(rt, forged, o.receipts).Has(want))
			}
		})
	})
	t.Run("log", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			at := rapid.IntRange(0, units-1).Draw(rt, "entry")
			entries := slices.Clone(o.entries)
			switch rapid.SampledFrom([]string{"remove", "alter", "insert", "reorder", "roll back"}).Draw(rt, "kind") {
			case "remove":
				entries = slices.Delete(entries, at, at+1)
			case "alter":
				entries[at] = bytes.Replace(entries[at], []byte(`"obj":["`), []byte(`"obj":["00`), 1)
			case "insert":
				entries = slices.Insert(entries, at, []byte("back-dated"))
			case "reorder":
				other := (at + rapid.IntRange(1, units-1).Draw(rt, "other")) % units
				entries[at], entries[other] = entries[other], entries[at]
			case "roll back":
				entries = entries[:at+1]
				if len(entries) == units {
					entries = entries[:units-1]
				}
			}
			shown := o.operatorShows(rt, entries, units)
			report := o.judge(rt, o.archive, o.receipts, o.old, shown)
			require.True(rt, report.Has(custody.LogForked) || report.Has(custody.LogRolledBack) || report.Has(custody.LogUnproven),
				"%d entries: %v %v", len(entries), report.Problems, report.Unshown)
		})
	})
	t.Run("honest growth", func(t *testing.T) {
		// Units that entered the log in several rounds have receipts of several sizes: the checkpoints of all of them are
		// one chain, each with its proof from the one before.
		sizes := []int64{units, int64(len(o.entries))}
		for _, r := range o.receipts {
			point, err := tlog.OpenCheckpoint(r.Receipt.Checkpoint, o.policy)
			require.NoError(t, err)
			sizes = append(sizes, point.Size)
		}
		slices.Sort(sizes)
		var points []custody.Seen
		before := sizes[0]
		for _, size := range slices.Compact(sizes) {
			seen := o.operatorShows(t, o.entries[:size], before)
			if size == units {
				seen.Note = o.old.Note
			}
			points, before = append(points, seen), size
		}
		report := o.judge(t, o.archive, o.receipts, points...)
		require.Empty(t, report.Problems)
		require.Empty(t, report.Unshown)
		bare := o.operatorShows(t, o.entries, units)
		bare.Proof = nil
		require.NotEmpty(t, o.judge(t, o.archive, o.receipts, o.old, bare).Unshown, "without a proof nothing is claimed")
	})
	t.Run("another log's key", func(t *testing.T) {
		stranger := *o
		stranger.policy.LogKeys = nil
		other, err := tlog.NewSigner(origin, strangerKey())
		require.NoError(t, err)
		stranger.policy.LogKeys = []*tlog.Verifier{&other.Verifier}
		require.True(t, stranger.judge(t, o.archive, o.receipts).Has(custody.ReceiptInvalid))
	})
}

// operatorShows is the best that an operator can show of a history: a signed checkpoint, and the proof that
// his own tree gives.
func (o *owner) operatorShows(t require.TestingT, entries [][]byte, old int64) custody.Seen {
	ctx, store := context.Background(), &tlogtest.Memory{}
	log, err := tlog.Open(ctx, store, tlog.EmptyTree())
	require.NoError(t, err)
	for _, e := range entries {
		_, err = log.Append(ctx, e)
		require.NoError(t, err)
	}
	tree, err := log.Commit(ctx)
	require.NoError(t, err)
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	note, err := tlog.Checkpoint{Origin: origin, Tree: tree}.Sign(signer)
	require.NoError(t, err)
	seen := custody.Seen{Name: "new", Note: note, Old: old}
	if tree.Size > old {
		seen.Proof, err = tlog.Consistency(ctx, store, old, tree)
		require.NoError(t, err)
	}
	return seen
}

// TestEvidenceService asks for everything that there is, right and wrong.
func TestEvidenceService(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	h, api := openLogged(t)
	require.NoError(t, h.tsa[0].SetFault(tsa.Fault{Mode: tsa.FaultDown}))
	h.intake(t, 3)
	name := h.units(t, "")[0].GetName()
	receiptOf(t, h, api, name)
	var first *conservationv1.Checkpoint
	h.await(t, "the first checkpoint of the day is stamped, by the second authority", func() bool {
		list, err := api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{Stamped: true})
		require.NoError(t, err)
		if len(list.GetCheckpoints()) == 1 {
			first = list.GetCheckpoints()[0]
		}
		return first != nil
	})
	require.Equal(t, "tsa-1", first.GetStampAuthority())
	h.settle(t, ctx, h.invoice(t, 50))
	h.await(t, "four in the log", func() bool {
		point, err := api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{})
		require.NoError(t, err)
		return point.GetSize() == 4
	})
	list, err := api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{Stamped: true})
	require.NoError(t, err)
	require.Len(t, list.GetCheckpoints(), 1, "one stamp a day")
	page, err := api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{PageSize: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.GetNextPageToken())
	page, err = api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{PageSize: 1, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	require.Less(t, page.GetCheckpoints()[0].GetSize(), int64(4))

	proof, err := api.GetConsistencyProof(ctx, &conservationv1.GetConsistencyProofRequest{OldSize: first.GetSize()})
	require.NoError(t, err)
	require.EqualValues(t, 4, proof.GetCheckpoint().GetSize())
	_, err = api.GetConsistencyProof(ctx, &conservationv1.GetConsistencyProofRequest{OldSize: 5})
	require.Equal(t, "LOG_SMALLER", code(err))
	_, err = api.GetCheckpoint(ctx, &conservationv1.GetCheckpointRequest{Size: 1 << 40})
	require.Equal(t, "CHECKPOINT_NOT_FOUND", code(err))

	tenant := conservationv1.NewEvidenceServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	tile, err := tenant.GetTile(ctx, &conservationv1.GetTileRequest{Path: "tile/0/000.p/4"})
	require.NoError(t, err)
	require.Len(t, tile.GetData(), 4*32)
	_, err = tenant.GetTile(ctx, &conservationv1.GetTileRequest{Path: "tile/entries/000.p/4"})
	require.Equal(t, "TILE_DENIED", code(err), "other tenants' leaves are not shown")
	_, err = api.GetTile(ctx, &conservationv1.GetTileRequest{Path: "tile/entries/000.p/4"})
	require.NoError(t, err)
	for path, want := range map[string]string{"tile/0/1": "TILE_PATH_INVALID", "tile/0/001": "TILE_NOT_FOUND"} {
		_, err = api.GetTile(ctx, &conservationv1.GetTileRequest{Path: path})
		require.Equal(t, want, code(err))
	}
	_, err = tenant.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: name})
	require.NoError(t, err)
	other := conservationv1.NewEvidenceServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "beta", Scopes: []string{"archive.read"}})))
	_, err = other.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: name})
	require.Equal(t, "FOREIGN_RESOURCE", code(err))
	_, err = other.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: strings.Replace(name, "/acme/", "/beta/", 1)})
	require.Equal(t, "UNIT_NOT_FOUND", code(err))
	_, err = api.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: name, Revision: 2})
	require.Equal(t, "REVISION_NOT_FOUND", code(err))
	r, err := api.GetUnitReceipt(ctx, &conservationv1.GetUnitReceiptRequest{Name: name, Latest: true})
	require.NoError(t, err)
	require.EqualValues(t, 4, r.GetCheckpointSize())
	require.NoError(t, h.tsa[1].SetFault(tsa.Fault{Mode: tsa.FaultDown})) // nobody stamps: it is not sealed before it is asked for
	p := h.closePackage(t)
	_, err = api.GetPackageReceipt(ctx, &conservationv1.GetPackageReceiptRequest{Name: p.GetName()})
	require.Contains(t, []string{"PACKAGE_NOT_SEALED", "RECEIPT_NOT_READY"}, code(err))
}

// TestWithoutLog: the service does all else, and says what to set.
func TestWithoutLog(t *testing.T) {
	t.Parallel()
	h := open(t, false)
	h.intake(t, 1)
	_, err := conservationv1.NewEvidenceServiceClient(h.Operator("conservation")).GetUnitReceipt(context.Background(),
		&conservationv1.GetUnitReceiptRequest{Name: h.units(t, "")[0].GetName()})
	require.Equal(t, "LOG_OFF", code(err))
	_, err = readLogKey(filepath.Join(t.TempDir(), "missing"))
	require.ErrorContains(t, err, "openssl genpkey -algorithm ed25519")
}
