package conservation

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/sincro"
)

// Test15_IndexOfAnySize: the index is a stream. Fifty thousand units take no more memory than one, and xmllint takes it, as it takes that
// of one unit and of ten thousand; each names every unit once, in order.
func Test15_IndexOfAnySize(t *testing.T) {
	const ceiling = 1 << 20 // bytes more than before, of the 200 MB that the whole may take
	s := &Service{cfg: DefaultConfig()}
	s.cfg.Responsible = ResponsibleConfig{FirstName: "Maria", LastName: "Rossi", ID: "TINIT-RSSMRA80A01H501U", Role: "Responsabile", Deed: "Atto"}
	raw, err := s.terms()
	require.NoError(t, err)
	fixed, err := decodeTerms(raw)
	require.NoError(t, err)
	p := db.Package{ID: uuid.New(), TenantID: "acme", FiscalYear: 2026, Class: classPrivate, Number: 1, ClosedAt: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}
	live := func() int64 { // what other tests left behind is no matter
		var now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		return int64(now.HeapAlloc) //nolint:gosec // bytes
	}
	dir, paths := t.TempDir(), []string{}
	for _, units := range []int32{1, 10_000, 50_000} {
		path := filepath.Join(dir, fmt.Sprint(units, ".xml"))
		paths = append(paths, path)
		file, err := os.Create(path)
		require.NoError(t, err)
		out := bufio.NewWriter(file)
		before, peak, looks := live(), int64(0), 0
		err = sincro.Write(out, indexHead(p, fixed, []party{{Name: "Alfa S.r.l.", VAT: "IT01234567897"}}), func(yield func(sincro.FileGroup, error) bool) {
			for i := range units {
				if i%10_000 == 0 {
					peak, looks = max(peak, live()-before), looks+1
				}
				if !yield(madeUpMember(p.ID, i+1).group(), nil) {
					return
				}
			}
		})
		require.NoError(t, err)
		require.NoError(t, out.Flush())
		require.NoError(t, file.Close())
		require.EqualValues(t, (units+9999)/10_000, looks)
		require.Less(t, peak, int64(ceiling), "with %d units", units)
		t.Logf("%d units: %d bytes more at most", units, peak)
		namesEachUnit(t, path, p.ID, units)
	}
	if reference(t, "sincro", "PIndex-2020_parer.xsd") == "" {
		lintAll(t, paths, "")
	}
	t.Run("schema", func(t *testing.T) { lintAll(t, paths, schema(t, "sincro", "PIndex-2020_parer.xsd")) })
}

// madeUpMember is a unit at its place in a package: its document, a receipt and its metadata.
func madeUpMember(pkg uuid.UUID, place int32) member {
	m := member{unit: db.Unit{ID: uuid.NewSHA1(pkg, fmt.Append(nil, place)), Class: classPrivate, Position: &place}}
	for n, role := range []string{"transmitted", "receipt", "metadata"} {
		sum := sha256.Sum256(fmt.Append(nil, place, n))
		m.files = append(m.files, db.UnitFile{Ordinal: int32(n), Role: role, ReceiptType: "RC", FileName: "IT01234567897_00001.xml", Sha256: sum[:]})
	}
	return m
}

// namesEachUnit reads an index back: every unit is in it with its files and their digests, in order, and nothing else.
func namesEachUnit(t *testing.T, path string, pkg uuid.UUID, units int32) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	place := int32(0)
	_, err = sincro.Read(bufio.NewReader(file), func(g sincro.FileGroup) error {
		place++
		want := madeUpMember(pkg, place).group()
		if g.ID != want.ID || len(g.Files) != len(want.Files) || g.Metadata == nil || g.Metadata.Path != want.Metadata.Path || g.Metadata.Hash != want.Metadata.Hash {
			return fmt.Errorf("place %d has %s", place, g.ID.Value)
		}
		for i, f := range g.Files {
			if f.Path != want.Files[i].Path || f.Hash != want.Files[i].Hash {
				return fmt.Errorf("place %d names %s", place, f.Path)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, units, place)
}

// Test16_KnownIndex: the index of a package that is fixed here is the same wherever and by whatever build of this program it is made.
func Test16_KnownIndex(t *testing.T) {
	t.Parallel()
	fixed, err := decodeTerms([]byte(`{"layout":2,"application":{"Name":"Ceralacca","Version":"2","Producer":"Archivio S.r.l."},"responsible":{"FirstName":"Maria","LastName":"Rossi","ID":"TINIT-RSSMRA80A01H501U","Role":"Responsabile","Deed":"Atto"},"contract":"Contratto 1/2026","laws":"UNI 11386:2020"}`))
	require.NoError(t, err)
	p := db.Package{ID: uuid.MustParse("01998c5e-0000-7000-8000-000000000001"), TenantID: "acme", FiscalYear: 2026, Class: classPrivate, Number: 7, ClosedAt: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}
	sum := sha256.New()
	require.NoError(t, sincro.Write(sum, indexHead(p, fixed, []party{{Name: "Alfa & \"Figli\" S.r.l.", VAT: "IT01234567897"}, {Name: "Rossi Mario", TaxCode: "RSSMRA80A01H501U"}}), func(yield func(sincro.FileGroup, error) bool) {
		for place := int32(1); place <= 3; place++ {
			if !yield(madeUpMember(p.ID, place).group(), nil) {
				return
			}
		}
	}))
	require.Equal(t, "9e3e908251ed51d904a7350024587fe7d5877d697018b4da2ff19cf55c9944f3", hex.EncodeToString(sum.Sum(nil)))
}
