package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/format/pdd"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/sandbox/ca"
)

// reader answers ExhibitionService as a tenant sees it.
func (h *house) reader(scopes ...string) conservationv1.ExhibitionServiceClient {
	return conservationv1.NewExhibitionServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: append(scopes, "archive.read")})))
}

// hostile is what somebody could put wherever there is room for text.
const hostile = `"><script>alert(1)</script><img src=x onerror=alert(2)>` + "\u2028';--"

// shelve settles three documents of one seller and seals them: an invoice to Bianchi, one to Verdi, and one that is hostile in
// every field.
func shelve(t testing.TB, h *house) (units map[string]string) {
	t.Helper()
	invoice := func(n int, buyer string) *invoicev1.InvoiceSettled {
		ev := h.invoice(t, n)
		ev.Transmitted = h.put(t, string(fatturapatest.Invoice(fatturapatest.Options{Numero: ev.GetBodies()[0].GetNumber()})))
		ev.BuyerName = buyer
		return ev
	}
	bianchi, verdi, bad := invoice(1, "Bianchi Carla"), invoice(2, "Verdi Segreta"), invoice(3, "Nemico "+hostile)
	bad.FileName, bad.Receipts[0].FileName = `../..\`+hostile+`/CON.html`, bianchi.GetReceipts()[0].GetFileName()
	bad.Bodies[0].Number, bad.Bodies[0].DocumentType = "=cmd|' /C calc'!A0"+hostile, "TD01"
	raw := bytes.ReplaceAll(fatturapatest.Invoice(fatturapatest.Options{Numero: "X"}), []byte("<Numero>X</Numero>"), []byte("<Numero>&lt;script&gt;alert(3)&lt;/script&gt;</Numero>"))
	bad.Transmitted = h.put(t, string(raw))
	h.settle(t, context.Background(), bianchi, verdi, bad)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= 3 })
	h.awaitSealed(t, h.closePackage(t).GetName())
	units = map[string]string{}
	for who, ev := range map[string]*invoicev1.InvoiceSettled{"bianchi": bianchi, "verdi": verdi, "hostile": bad} {
		units[who] = h.units(t, ev.GetInvoice())[0].GetName()
	}
	return units
}

// exhibit orders a distribution, waits for it, and gives its ZIP.
func (h *house) exhibit(t testing.TB, req *conservationv1.CreateDistributionRequest) (*conservationv1.Distribution, []byte) {
	t.Helper()
	ctx, api := context.Background(), h.reader()
	req.Parent = "tenants/acme"
	d, err := api.CreateDistribution(ctx, req)
	require.NoError(t, err)
	h.await(t, "built", func() bool {
		d, err = api.GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: d.GetName()})
		require.NoError(t, err)
		return d.GetState() != conservationv1.DistributionState_DISTRIBUTION_STATE_BUILDING
	})
	require.Equal(t, conservationv1.DistributionState_DISTRIBUTION_STATE_READY, d.GetState(), d.GetLastError())
	stream, err := api.DownloadDistribution(ctx, &conservationv1.DownloadDistributionRequest{Name: d.GetName()})
	require.NoError(t, err)
	return d, drain(t, func() ([]byte, error) { m, err := stream.Recv(); return m.GetChunk(), err })
}

func drain(t testing.TB, next func() ([]byte, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	for {
		part, err := next()
		if errors.Is(err, io.EOF) {
			return out.Bytes()
		}
		require.NoError(t, err)
		out.Write(part)
	}
}

// unpack writes a distribution to a folder, as somebody would who got it.
func unpack(t testing.TB, raw []byte) (dir string, files map[string][]byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	require.NoError(t, err)
	dir, files = t.TempDir(), map[string][]byte{}
	for _, f := range z.File {
		_, name, ok := strings.Cut(f.Name, "/")
		require.True(t, ok && filepath.IsLocal(name), f.Name)
		r, err := f.Open()
		require.NoError(t, err)
		files[name], err = io.ReadAll(r)
		require.NoError(t, err)
		target := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(t, os.WriteFile(target, files[name], 0o600))
	}
	return dir, files
}

// script runs verifica.sh with nothing but a PATH.
func script(t testing.TB, dir string, roots ...string) (string, bool) {
	t.Helper()
	cmd := outside(t, append([]string{dir}, roots...), "", append([]string{"sh", filepath.Join(dir, "verifica.sh")}, roots...)...)
	out, err := cmd.CombinedOutput()
	said := strings.Contains(string(out), "VERIFICA RIUSCITA\n")
	assert.Equal(t, err == nil, said, "the exit code and the last line say the same: %v\n%s", err, out)
	return string(out), err == nil
}

// outside is a command with an empty environment, in a folder unless that is empty. Where CERALACCA_BARE_ROOT names the folder of
// another system (make test-bare), it runs there, with copies of the files that it needs and nothing else of this one.
func outside(t testing.TB, needs []string, folder string, words ...string) *exec.Cmd {
	t.Helper()
	words = append([]string{"env", "-i", "PATH=/usr/bin:/bin"}, words...)
	root := os.Getenv("CERALACCA_BARE_ROOT")
	if root == "" {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = folder
		return cmd
	}
	place, err := os.MkdirTemp(root, "copies-") // one of its own: others run beside it
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(place) })
	require.NoError(t, os.Chmod(place, 0o755))
	for i, path := range needs {
		inside := fmt.Sprintf("/%s/%d", filepath.Base(place), i)
		out, err := exec.Command("cp", "-a", path, filepath.Join(root, inside)).CombinedOutput()
		require.NoError(t, err, string(out))
		for k, word := range append(words, folder) {
			if rest, ok := strings.CutPrefix(word, path); ok && k < len(words) {
				words[k] = inside + rest
			} else if ok {
				folder = inside + rest
			}
		}
	}
	return exec.Command("chroot", append([]string{root, "sh", "-c", `cd "${0:-/}" && exec "$@"`, folder}, words...)...)
}

func (h *house) rootsFile(t testing.TB) (string, *x509.CertPool) {
	t.Helper()
	pool, file := x509.NewCertPool(), filepath.Join(t.TempDir(), "roots.pem")
	require.True(t, pool.AppendCertsFromPEM(h.ca.CertPEM()))
	require.NoError(t, os.WriteFile(file, h.ca.CertPEM(), 0o600))
	return file, pool
}

// TestDistributions has one archive for all that looks at packages: see below.
func TestDistributions(t *testing.T) {
	t.Parallel()
	h, _ := openLogged(t)
	units := shelve(t, h)
	t.Run("Test44_DistributionVerifiesWithoutUs", func(t *testing.T) { test44DistributionVerifiesWithoutUs(t, h) })
	t.Run("SmallSystems", func(t *testing.T) { testScriptOnSmallSystems(t, h) })
	t.Run("Test45_HostileTextIsInert", func(t *testing.T) { test45HostileTextIsInert(t, h, units) })
	t.Run("TheSameAgain", func(t *testing.T) { distributionIsTheSameAgain(t, h) })
	t.Run("Refused", func(t *testing.T) { distributionsAreRefused(t, h, units) })
	t.Run("Test46_DistributionTellsOfNobodyElse", func(t *testing.T) { test46DistributionTellsOfNobodyElse(t, h, units) })
	t.Run("Test56_SuspendedTenant", func(t *testing.T) { test56SuspendedTenant(t, h, units) })
}

// test44DistributionVerifiesWithoutUs: verifica.sh with bare tools and our verifier agree on a good package and on damaged
// ones. What flips a byte anywhere is found by both; the soak flips a thousand for verifica.sh too.
func test44DistributionVerifiesWithoutUs(t *testing.T, h *house) {
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Purpose: "Verifica della Guardia di Finanza"})
	dir, files := unpack(t, raw)
	roots, pool := h.rootsFile(t)
	for _, with := range [][]string{{roots}, nil} {
		out, good := script(t, dir, with...)
		require.True(t, good, out)
	}
	content, ok, err := pdd.Open(raw)
	require.NoError(t, err)
	require.True(t, ok)
	report := pdd.Verify(content, pdd.Options{Roots: pool, Policy: &h.service.book.policy})
	require.Empty(t, report.Problems)
	require.Contains(t, fmt.Sprint(report.Holds), "the log proves prove/unita/")
	lint(t, filepath.Join(dir, "PdD.xml"), reference(t, "sincro", "PIndex-2020_parer.xsd"))

	another, err := ca.New(ca.Options{})
	require.NoError(t, err)
	stranger := filepath.Join(t.TempDir(), "stranger.pem")
	require.NoError(t, os.WriteFile(stranger, another.CertPEM(), 0o600))
	out, good := script(t, dir, stranger)
	require.False(t, good, "another's roots: %s", out)

	names := slices.Sorted(maps.Keys(files))
	// verifica.sh starts some sixty programs each time, which is most of the time that this takes: workers share it, each
	// on a copy of its own.
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		own, held := unpack(t, raw)
		r := rand.New(rand.NewPCG(44, uint64(w))) //nolint:gosec // a test's choice
		wg.Go(func() {
			for i := w; i < flips && !t.Failed(); i += workers {
				flipOne(t, r, own, names, held, i)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}

	// What no flip does: a file more, a file less, and another's index.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "documenti", "in-piu.xml"), []byte("<x/>"), 0o600))
	out, good = script(t, dir)
	require.False(t, good, out)
	require.True(t, pdd.Verify(os.DirFS(dir), pdd.Options{}).Has(pdd.FileExtra))
	require.NoError(t, os.Remove(filepath.Join(dir, "documenti", "in-piu.xml")))
	for _, name := range names {
		if strings.HasPrefix(name, "documenti/") {
			require.NoError(t, os.Remove(filepath.Join(dir, name)))
			break
		}
	}
	out, good = script(t, dir)
	require.False(t, good, out)
	require.True(t, pdd.Verify(os.DirFS(dir), pdd.Options{}).Has(pdd.FileMissing))
}

// flipOne spoils one byte and wants it to be found, by our verifier and, each so often, by verifica.sh.
func flipOne(t *testing.T, r *rand.Rand, dir string, names []string, files map[string][]byte, i int) {
	t.Helper()
	name, at, old := spoilByte(t, r, dir, names, files)
	assert.NotEmpty(t, pdd.Verify(os.DirFS(dir), pdd.Options{}).Problems, "flip %d: byte %d of %s", i, at, name)
	if i%(flips/scripted) == 0 {
		out, good := script(t, dir)
		assert.False(t, good, "flip %d: byte %d of %s: %s", i, at, name, out)
	}
	assert.NoError(t, os.WriteFile(filepath.Join(dir, name), old, 0o600))
}

// spoilByte changes one byte of one file, each byte of the package with the same chance, but for small files, which come as often.
func spoilByte(t testing.TB, r *rand.Rand, dir string, names []string, files map[string][]byte) (name string, at int, old []byte) {
	t.Helper()
	name = names[r.IntN(len(names))]
	old = files[name]
	at = r.IntN(len(old))
	bad := bytes.Clone(old)
	bad[at] ^= byte(1 + r.IntN(255))
	assert.NoError(t, os.WriteFile(filepath.Join(dir, name), bad, 0o600))
	return name, at, old
}

// test46DistributionTellsOfNobodyElse: a package of one document has nothing of other customers, in clear or in what is signed.
// An index of origin that names somebody else is left out.
func test46DistributionTellsOfNobodyElse(t *testing.T, h *house, units map[string]string) {
	_, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{Units: []string{units["bianchi"]}})
	_, files := unpack(t, raw)
	silent(t, files, "Verdi", "Nemico")
	require.True(t, has(files, pdd.OriginSigned), "the signed index of the package of origin is there: it names one holder")

	other := h.invoice(t, 4)
	other.SellerName, other.SellerVatNumber = "Altra Ditta Segreta", "IT12345678903"
	fifth := h.invoice(t, 5)
	h.settle(t, context.Background(), fifth, other)
	h.await(t, "taken", func() bool {
		return len(h.units(t, fifth.GetInvoice())) == 1 && len(h.units(t, other.GetInvoice())) == 1
	})
	h.awaitSealed(t, h.closePackage(t).GetName())
	five := &conservationv1.SearchCondition{Field: conservationv1.SearchField_SEARCH_FIELD_NUMBER, Value: "5/A"}
	_, raw = h.exhibit(t, &conservationv1.CreateDistributionRequest{Query: &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{AllOf: []*conservationv1.SearchCondition{five}}}}})
	dir, files := unpack(t, raw)
	silent(t, files, "Altra Ditta", "12345678903")
	require.False(t, has(files, pdd.OriginSigned))
	require.True(t, has(files, "OMESSO.txt"))
	out, good := script(t, dir)
	require.True(t, good, out)
}

func has(files map[string][]byte, base string) bool {
	for name := range files {
		if strings.HasPrefix(name, "prove/") && path.Base(name) == base {
			return true
		}
	}
	return false
}

// silent wants no word anywhere, what is inside signatures included.
func silent(t testing.TB, files map[string][]byte, words ...string) {
	t.Helper()
	for name, content := range files {
		if inner, _, err := cms.Open(content); err == nil {
			content = append(bytes.Clone(content), inner...)
		}
		for _, w := range words {
			require.NotContains(t, string(content), w, name)
		}
	}
}

// distributionIsTheSameAgain: two buildings of one order differ in signature and time stamp alone.
func distributionIsTheSameAgain(t *testing.T, h *house) {
	h.await(t, "the log rests, of which proofs are in it", func() bool { return h.rests(t) })
	d, raw := h.exhibit(t, &conservationv1.CreateDistributionRequest{})
	_, first := unpack(t, raw)
	tenant, id, err := parseName("name", d.GetName(), "distributions", noDistribution(""))
	require.NoError(t, err)
	row, err := h.service.distribution(context.Background(), tenant, id)
	require.NoError(t, err)
	built, err := h.service.build(context.Background(), row)
	require.NoError(t, err)
	defer drop(built)
	size, err := built.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	file, err := h.service.bind(context.Background(), row, built, size)
	require.NoError(t, err)
	defer drop(file)
	_, err = file.Seek(0, io.SeekStart) // it has no name to open it by
	require.NoError(t, err)
	again, err := io.ReadAll(file)
	require.NoError(t, err)
	_, second := unpack(t, again)
	for name, content := range first {
		if name != pdd.StampFile && name != pdd.SumsFile {
			require.Equal(t, string(content), string(second[name]), name)
		}
	}
	require.Len(t, second, len(first))
}

func distributionsAreRefused(t *testing.T, h *house, units map[string]string) {
	ctx, api := context.Background(), h.reader()
	nothing := &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{AllOf: []*conservationv1.SearchCondition{{Field: conservationv1.SearchField_SEARCH_FIELD_NUMBER, Value: "none"}}}}}
	for want, req := range map[string]*conservationv1.CreateDistributionRequest{
		"DISTRIBUTION_EMPTY":     {Query: nothing},
		"DISTRIBUTION_AMBIGUOUS": {Query: nothing, Units: []string{units["verdi"]}},
		"UNIT_NOT_FOUND":         {Units: []string{"tenants/acme/units/0193b0a0-0000-7000-8000-000000000000"}},
		"FOREIGN_RESOURCE":       {Units: []string{"tenants/beta/units/0193b0a0-0000-7000-8000-000000000000"}},
	} {
		req.Parent = "tenants/acme"
		_, err := api.CreateDistribution(ctx, req)
		require.Equal(t, want, code(err))
	}
	_, err := api.GetDistribution(ctx, &conservationv1.GetDistributionRequest{Name: "tenants/acme/distributions/0193b0a0-0000-7000-8000-000000000000"})
	require.Equal(t, "DISTRIBUTION_NOT_FOUND", code(err))
}
