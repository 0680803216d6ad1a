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

// Test15_FiftyThousandUnitsInOneIndex: the index is a stream. Fifty thousand units take no more memory than one, and xmllint takes it.
func Test15_FiftyThousandUnitsInOneIndex(t *testing.T) {
	const most, ceiling = 50_000, 1 << 20 // bytes more than before
	s := &Service{cfg: DefaultConfig()}
	s.cfg.Responsible = ResponsibleConfig{FirstName: "Maria", LastName: "Rossi", ID: "TINIT-RSSMRA80A01H501U", Role: "Responsabile", Deed: "Atto"}
	raw, err := s.terms()
	require.NoError(t, err)
	fixed, err := decodeTerms(raw)
	require.NoError(t, err)
	p := db.Package{ID: uuid.New(), TenantID: "acme", FiscalYear: 2026, Class: classPrivate, Number: 1, ClosedAt: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}
	path := filepath.Join(t.TempDir(), "PIndex.xml")
	file, err := os.Create(path)
	require.NoError(t, err)
	out := bufio.NewWriter(file)
	live := func() int64 { // what other tests left behind is no matter
		var now runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&now)
		return int64(now.HeapAlloc) //nolint:gosec // bytes
	}
	before, peak := live(), int64(0)
	err = sincro.Write(out, indexHead(p, fixed, []party{{Name: "Alfa S.r.l.", VAT: "IT01234567897"}}), func(yield func(sincro.FileGroup, error) bool) {
		for i := range int32(most) {
			place := i + 1
			m := member{unit: db.Unit{ID: uuid.NewSHA1(p.ID, fmt.Append(nil, i)), Class: classPrivate, Position: &place}}
			for n, role := range []string{"transmitted", "receipt", "metadata"} {
				sum := sha256.Sum256(fmt.Append(nil, i, n))
				m.files = append(m.files, db.UnitFile{Ordinal: int32(n), Role: role, ReceiptType: "RC", FileName: "IT01234567897_00001.xml", Sha256: sum[:]})
			}
			if i%5000 == 0 {
				peak = max(peak, live()-before)
			}
			if !yield(m.group(), nil) {
				return
			}
		}
	})
	require.NoError(t, err)
	require.NoError(t, out.Flush())
	require.NoError(t, file.Close())
	require.Less(t, peak, int64(ceiling))
	t.Logf("%d bytes more at most", peak)
	lint(t, path, "")
	t.Run("schema", func(t *testing.T) { lint(t, path, schema(t, "sincro", "PIndex-2020_parer.xsd")) })
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
			m := member{unit: db.Unit{ID: uuid.NewSHA1(p.ID, fmt.Append(nil, place)), Class: classPrivate, Position: &place}}
			for n, role := range []string{"transmitted", "receipt", "metadata"} {
				digest := sha256.Sum256(fmt.Append(nil, place, n))
				m.files = append(m.files, db.UnitFile{Ordinal: int32(n), Role: role, ReceiptType: "RC", FileName: "IT01234567897_00001.xml", Sha256: digest[:]})
			}
			if !yield(m.group(), nil) {
				return
			}
		}
	}))
	require.Equal(t, "9e3e908251ed51d904a7350024587fe7d5877d697018b4da2ff19cf55c9944f3", hex.EncodeToString(sum.Sum(nil)))
}
