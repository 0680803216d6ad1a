package conservation

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

// era is an archive on a clock of its own, whose time-stamp authorities live five years each.
type era struct {
	*Service

	t     *testing.T
	clock time.Time
}

func newEra(t *testing.T) *era {
	t.Helper()
	e := &era{t: t, clock: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)}
	cfg := DefaultConfig()
	cfg.Credential = platform + "/credentials/-"
	cfg.Storage.Primary.FS.Dir, cfg.Storage.Second.FS.Dir = t.TempDir(), t.TempDir()
	cfg.Renewal.Algorithms = []AlgorithmConfig{{"SHA-256", "2041-06-30"}}
	e.Service = &Service{
		db: pgtest.Schema(t, "conservation"), cfg: cfg, log: slog.New(slog.DiscardHandler), roots: x509.NewCertPool(),
		now: func() time.Time { return e.clock },
	}
	var err error
	e.outages = &outages{s: e.Service}
	e.replicas, err = newReplicas(e.Service)
	require.NoError(t, err)
	e.authority()
	return e
}

// authority founds a new time-stamp authority in the place of the old one, whose root stays trusted.
func (e *era) authority() {
	e.t.Helper()
	house, err := ca.New(ca.Options{Now: e.now, Validity: 5 * 365 * aDay})
	require.NoError(e.t, err)
	server, err := tsa.New(tsa.Options{CA: house, Now: e.now, Name: fmt.Sprint("TSA ", e.clock.Year())})
	require.NoError(e.t, err)
	srv := httptest.NewServer(server)
	e.t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(house.CertPEM())
	e.roots.AppendCertsFromPEM(house.CertPEM())
	e.stamps = []*authority{newAuthority(TSAConfig{Name: "tsa", URL: srv.URL, Timeout: time.Minute}, roots, time.Minute, run.NewBreaker("tsa", run.BreakerConfig{Failures: 5, Open: time.Second}, e.now), e.now)}
}

// seal puts a package into the archive whose signed index was stamped now.
func (e *era) seal() (db.Package, []byte) {
	e.t.Helper()
	ctx, id := context.Background(), uuid.New()
	signed := []byte("index of " + id.String())
	digest := sha256.Sum256(signed)
	reply, at, err := e.stampDigest(ctx, digest[:])
	require.NoError(e.t, err)
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for name, content := range map[string][]byte{signedFile: signed, stampFile: reply} {
		w, err := z.Create(id.String() + "/" + name)
		require.NoError(e.t, err)
		_, err = w.Write(content)
		require.NoError(e.t, err)
	}
	require.NoError(e.t, z.Close())
	p := db.Package{ID: id, TenantID: "acme", FiscalYear: 2026}
	o := packageObject(p, sha256.Sum256(out.Bytes()), int64(out.Len()))
	e.replicas.place(o)
	require.NoError(e.t, e.replicas.write(ctx, o, bytes.NewReader(out.Bytes())))
	sum := sha256.Sum256(reply)
	size := int64(1)
	require.NoError(e.t, e.db.Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		err := e.replicas.record(ctx, tx, "acme", []*object{o})
		if err != nil {
			return err
		}
		stampTime := pg.Time(at)
		n, err := db.New(tx).RestorePackage(ctx, db.RestorePackageParams{
			ID: id, TenantID: "acme", FiscalYear: 2026, Class: "FISC", Number: int32(id.ID() >> 1), UnitCount: 1, Terms: []byte("{}"), ClosedAt: pg.Time(e.now()), //nolint:gosec // any number
			IndexSha256: sum[:], IndexSize: &size, SignedSha256: digest[:], SignedSize: &size, StampSha256: sum[:], StampSize: &size,
			StampTime: &stampTime, ArchiveSha256: o.SHA256[:], ArchiveSize: &o.Size, Object: &o.id,
		})
		require.EqualValues(e.t, 1, n)
		return err
	}))
	p, err = e.pack(ctx, "acme", SealArgs{Tenant: "acme", Package: id})
	require.NoError(e.t, err)
	return p, out.Bytes()
}

func (e *era) round() *findings {
	e.t.Helper()
	f := &findings{}
	require.NoError(e.t, e.renew(context.Background(), f))
	return f
}

// judged verifies the last record over the package's bytes at the time that it is.
func (e *era) judged(p db.Package, raw []byte) (*ers.Report, error) {
	e.t.Helper()
	record, _, err := e.evidence(context.Background(), "acme", p.ID, 0)
	require.NoError(e.t, err)
	return record.Verify([]ers.Object{ers.Bytes(raw)}, ers.VerifyOptions{Roots: e.roots, At: e.now(), Horizon: e.cfg.Renewal.horizon()})
}

// Test36_ThirtyYears keeps the evidence of packages alive for thirty years: authorities come to their end every five years
// and SHA-256 does in 2041; at the end of each year the proof of the first day still holds, and every record is kept in both replicas.
func Test36_ThirtyYears(t *testing.T) {
	e := newEra(t)
	first, raw := e.seal()
	founded, kinds, others := e.clock, map[string]int{}, 0
	for year := 1; year <= 30; year++ {
		e.clock = e.clock.AddDate(1, 0, 0)
		if e.clock.Sub(founded) >= 3*365*aDay {
			e.authority()
			founded = e.clock
		}
		if year%10 == 5 {
			e.seal()
			others++
		}
		f := e.round()
		require.Empty(t, f.Problems, "in %d", e.clock.Year())
		require.Zero(t, e.round().Checked, "what was renewed is not due: in %d", e.clock.Year())
		token, err := tsp.ParseToken(mustRead(t, e, first, stampFile))
		require.NoError(t, err)
		if e.clock.After(token.Certificate().NotAfter.Add(-e.cfg.Renewal.Ahead)) {
			report, err := e.judged(first, raw)
			require.NoError(t, err, "in %d", e.clock.Year())
			require.False(t, report.Since.After(token.Certificate().NotAfter), "the chain of proof has no gap")
			require.True(t, report.Until.After(e.clock.Add(e.cfg.Renewal.Ahead)) || e.clock.Year() == founded.Year(), "in %d: until %s", e.clock.Year(), report.Until)
		}
	}
	record, last, err := e.evidence(context.Background(), "acme", first.ID, 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, last.Number, int32(6))
	require.Len(t, record.Chains, 2, "one chain with SHA-256, one with SHA-512")
	for i, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA512} {
		require.GreaterOrEqual(t, len(record.Chains[i].Stamps), 3, "each is renewed by stamps over stamps: chain %d", i)
		for _, stamp := range record.Chains[i].Stamps {
			require.Equal(t, hash, stamp.Hash, "chain %d", i)
		}
	}
	rows, err := pgtest.Admin(t, e.db).Query(context.Background(), `SELECT renewal, count(*) FROM package_evidence WHERE package_id = $1 GROUP BY renewal`, first.ID)
	require.NoError(t, err)
	var kind string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&kind, &n}, func() error { kinds[kind] = n; return nil })
	require.NoError(t, err)
	require.Equal(t, 1, kinds[renewInitial])
	require.Equal(t, 1, kinds[renewTree])
	require.GreaterOrEqual(t, kinds[renewStamp], 4)
	for _, dir := range []string{e.cfg.Storage.Primary.FS.Dir, e.cfg.Storage.Second.FS.Dir} {
		held := 0
		for key := range objectsOn(t, dir) {
			if strings.HasPrefix(key, "tenants/acme/packages/"+first.ID.String()+".evidence-") {
				held++
			}
		}
		require.EqualValues(t, last.Number, held, "every record is beside its package")
	}
	require.Equal(t, 3, others)

	changed := bytes.Clone(raw)
	changed[len(changed)/2]++
	_, err = e.judged(first, changed)
	require.Error(t, err, "another package has no proof")
	opensslReads(t, e, first)
}

func mustRead(t *testing.T, e *era, p db.Package, name string) []byte {
	t.Helper()
	raw, err := e.fromPackage(context.Background(), p, name)
	require.NoError(t, err)
	return raw
}

// opensslReads has another program read the last record: it is DER, and names both algorithms.
func opensslReads(t *testing.T, e *era, p db.Package) {
	t.Helper()
	raw, _, err := e.evidenceBytes(context.Background(), "acme", p.ID, 0)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "record.ers")
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	out, err := exec.Command("openssl", "asn1parse", "-inform", "DER", "-in", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "sha256")
	require.Contains(t, string(out), "sha512")
}

// TestRenewalIsHonest: what comes too late, without an authority, or with nothing stronger left, is said and not papered over.
func TestRenewalIsHonest(t *testing.T) {
	ctx := context.Background()
	t.Run("no authority", func(t *testing.T) {
		e := newEra(t)
		p, _ := e.seal()
		e.clock = e.clock.AddDate(4, 6, 0)
		e.stamps = nil
		require.Equal(t, "TSA_UNAVAILABLE", code(e.renew(ctx, &findings{})))
		_, _, err := e.evidence(ctx, "acme", p.ID, 0)
		require.Equal(t, evidenceMissing, code(err), "nothing was written")
	})
	t.Run("nothing stronger", func(t *testing.T) {
		e := newEra(t)
		e.cfg.Renewal.Algorithms = []AlgorithmConfig{{"SHA-256", "2027-01-31"}, {"SHA-512", "2027-03-31"}}
		e.seal()
		f := e.round()
		require.Len(t, f.Problems, 1)
		require.Contains(t, f.Problems[0].Problem, "ALGORITHM_ENDS")
	})
	t.Run("damaged", func(t *testing.T) {
		e := newEra(t)
		_, _ = e.seal()
		e.round()
		e.clock = e.clock.AddDate(4, 6, 0)
		e.authority()
		require.Empty(t, e.round().Problems)
		e.clock = e.clock.AddDate(10, 0, 0) // nobody looked for ten years
		e.authority()
		f := &findings{}
		err := e.renew(ctx, f)
		require.NoError(t, err)
		p, raw := db.Package{}, []byte(nil)
		require.NoError(t, e.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := db.New(tx).PackagesToRenew(ctx, db.PackagesToRenewParams{Before: e.clock.AddDate(100, 0, 0), Skip: []uuid.UUID{}, Page: 1})
			if err == nil {
				p.ID = rows[0].ID
			}
			return err
		}))
		p, err = e.pack(ctx, "acme", SealArgs{Tenant: "acme", Package: p.ID})
		require.NoError(t, err)
		o, err := e.object(ctx, "acme", *p.ObjectID)
		require.NoError(t, err)
		raw, err = e.replicas.read(ctx, o)
		require.NoError(t, err)
		_, err = e.judged(p, raw)
		require.ErrorContains(t, err, "late", "a gap stays a gap, whatever is stamped after it")
	})
}
