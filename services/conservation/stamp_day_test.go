package conservation

import (
	"context"
	"fmt"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/sandbox/ca"
	"ceralacca.dev/services/sandbox/tsa"
)

// stamping is a log that two processes keep, with an authority and a clock.
type stamping struct {
	t     *testing.T
	books [2]*logbook
	admin *pgx.Conn
	tsa   *tsa.Server
	clock atomic.Pointer[time.Time]
	late  atomic.Int64 // how far the authority's clock is behind
}

func newStamping(t *testing.T, on *pg.DB, begin time.Time) *stamping {
	t.Helper()
	s := &stamping{t: t, admin: pgtest.Admin(t, on)}
	s.clock.Store(&begin)
	now := func() time.Time { return *s.clock.Load() }
	issuer, err := ca.New(ca.Options{Now: now})
	require.NoError(t, err)
	s.tsa, err = tsa.New(tsa.Options{CA: issuer, Now: func() time.Time { return now().Add(-time.Duration(s.late.Load())) }})
	require.NoError(t, err)
	srv := httptest.NewServer(s.tsa)
	t.Cleanup(srv.Close)
	for i := range s.books {
		s.books[i] = bookOn(t, on, 1000)
		s.books[i].now = now
		s.books[i].stamps = []*authority{newAuthority(TSAConfig{Name: "tsa", URL: srv.URL, Timeout: time.Minute}, issuer.Pool(), time.Minute,
			run.NewBreaker("tsa", run.BreakerConfig{Failures: 100, Open: time.Second}, now), now)}
	}
	return s
}

// due is the moment at which both processes look whether a stamp is due, both at a time.
func (s *stamping) due(at time.Time) {
	s.t.Helper()
	s.clock.Store(&at)
	var wg sync.WaitGroup
	var errs [2]error
	for i, l := range s.books {
		wg.Go(func() { errs[i] = l.stampDue(context.Background()) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(s.t, err)
	}
}

// stamps are the days of all stamps, with the size of what was stamped.
func (s *stamping) stamps() (list []string) {
	s.t.Helper()
	rows, err := s.admin.Query(context.Background(), `SELECT size, stamp_time FROM log_checkpoint WHERE stamp IS NOT NULL UNION ALL SELECT size, stamp_time FROM log_restamp ORDER BY stamp_time`)
	require.NoError(s.t, err)
	var size int64
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&size, &at}, func() error { list = append(list, fmt.Sprint(day(at), " ", size)); return nil })
	require.NoError(s.t, err)
	return list
}

// TestRestingLogIsStampedDaily: a log without new leaves has its checkpoint stamped anew each day, in the evening, so that a document of that
// day still gets the day's stamp at once. There is one stamp for each day, whoever asks for it beside another.
func TestRestingLogIsStampedDaily(t *testing.T) {
	t.Parallel()
	on := pgtest.Schema(t, "conservation")
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC) }
	s := newStamping(t, on, at(2, 9, 0))
	s.due(at(2, 8, 0)) // nothing was taken in charge
	addUnits(t, on, "acme", 2)
	require.NoError(t, append1(t, s.books[0]))
	want := []string{"2026-11-02 2"}
	s.due(at(2, 9, 0))
	s.due(at(2, 20, 0))
	s.due(at(3, 0, 1))
	s.due(at(3, 17, 59))
	require.Equal(t, want, s.stamps(), "a document may still come")
	for d := 3; d < 6; d++ {
		s.due(at(d, 18, 0))
		s.due(at(d, 23, 59))
		want = append(want, fmt.Sprintf("2026-11-%02d 2", d))
		require.Equal(t, want, s.stamps())
	}
	asked := s.tsa.Granted()
	s.due(at(5, 23, 59))
	require.Equal(t, asked, s.tsa.Granted(), "nobody is asked twice a day")

	addUnits(t, on, "acme", 1)
	require.NoError(t, append1(t, s.books[1]))
	s.due(at(5, 23, 59))
	s.due(at(6, 0, 0))
	want = append(want, "2026-11-06 3")
	require.Equal(t, want, s.stamps(), "what is new is stamped with the day")
	s.due(at(8, 0, 1))
	want = append(want, "2026-11-08 3")
	require.Equal(t, want, s.stamps(), "when a day was missed, the next one does not wait for its evening")

	s.late.Store(int64(20 * time.Second))
	addUnits(t, on, "acme", 1)
	require.NoError(t, append1(t, s.books[0]))
	s.clock.Store(new(at(9, 0, 0)))
	require.ErrorContains(t, s.books[0].stampDue(context.Background()), "2026-11-08")
	require.Equal(t, want, s.stamps(), "an authority whose clock is behind makes no second stamp of a day")
	s.due(at(9, 0, 1))
	require.Equal(t, append(want, "2026-11-09 4"), s.stamps())
}

// TestRestingStampThroughDeath kills the archive with SIGKILL when the authority has stamped a log that rests and nothing is noted yet: there is one stamp of that
// day afterwards, it is what the archive shows as the newest, and nobody is told of the same state twice.
func TestRestingStampThroughDeath(t *testing.T) {
	t.Parallel()
	ctx, w := context.Background(), newWard(t)
	w.settleAll(t, []*invoicev1.InvoiceSettled{w.invoice(t, 1)})
	w.await(t, "the log is stamped and rests", func() bool {
		return w.count("SELECT count(*) FROM log_checkpoint WHERE stamp IS NOT NULL") == 1 && w.count("SELECT count(*) FROM log_pending") == 0
	})
	w.await(t, "it is told", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.stated) == 1 })
	b := boundary{"the resting log is stamped", "log_restamp", "INSERT", ""}
	w.stopAt(b)
	w.sql("UPDATE log_checkpoint SET stamp_time = stamp_time - interval '3 days'")
	w.await(t, "it waits with the stamp", w.reached)
	w.die(b)
	w.await(t, "it is stamped again", func() bool { return w.count("SELECT count(*) FROM log_restamp") > 0 })
	api := conservationv1.NewEvidenceServiceClient(w.operator)
	list, err := api.ListCheckpoints(ctx, &conservationv1.ListCheckpointsRequest{Stamped: true, PageSize: 1})
	require.NoError(t, err)
	point := list.GetCheckpoints()[0]
	require.Less(t, point.GetStampTime().AsTime(), point.GetNewestStampTime().AsTime())
	require.NotEmpty(t, point.GetNewestStampAuthority())
	signed, err := tlog.OpenCheckpoint(point.GetNote(), tlog.Policy{Origin: origin, LogKeys: []*tlog.Verifier{logVerifier(t)}})
	require.NoError(t, err)
	for _, stamp := range [][]byte{point.GetStamp(), point.GetNewestStamp()} {
		_, err = tlog.CheckStamp(stamp, signed.Signed, tlog.StampPolicy{Roots: w.ca.Pool()})
		require.NoError(t, err)
	}
	require.NotEqual(t, point.GetStamp(), point.GetNewestStamp())
	require.Zero(t, w.count("SELECT count(*) FROM log_restamp r JOIN log_checkpoint c ON (c.stamp_time AT TIME ZONE 'UTC')::date = (r.stamp_time AT TIME ZONE 'UTC')::date"), "one of each day")
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.stated, 1, "the same state is told once")
}

func logVerifier(t *testing.T) *tlog.Verifier {
	t.Helper()
	signer, err := tlog.NewSigner(origin, logSeed())
	require.NoError(t, err)
	return &signer.Verifier
}
