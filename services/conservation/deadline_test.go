package conservation

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/telemetry"
)

func day0(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return t
}

// Test27_Deadlines: known answers, calendar and not, and the last days of months of every length.
func Test27_Deadlines(t *testing.T) {
	t.Parallel()
	for end, want := range map[string]string{
		"2023-12-31": "2025-01-31", "2024-12-31": "2026-01-31", "2025-12-31": "2027-01-31",
		"2026-06-30": "2027-07-31", "2026-01-31": "2027-02-28", "2027-01-31": "2028-02-29", "2026-03-31": "2027-04-30",
		"2026-08-31": "2027-09-30", "2026-10-31": "2027-11-30", "2026-11-30": "2027-12-31",
	} {
		require.Equal(t, want, deadlineOf(day0(end)).Format(time.DateOnly), end)
	}
	require.Equal(t, "2026-12-31", endOfYear(2026).Format(time.DateOnly))
	rapid.Check(t, func(t *rapid.T) {
		end := day0("2020-01-01").AddDate(0, 0, rapid.IntRange(0, 20_000).Draw(t, "day"))
		deadline := deadlineOf(end)
		require.Equal(t, 1, deadline.AddDate(0, 0, 1).Day(), "the last day of a month")
		months := (deadline.Year()-end.Year())*12 + int(deadline.Month()-end.Month())
		require.Equal(t, 13, months)
	})
}

// deadlineHouse has units of two years, one of them not sealed, and a clock of its own.
func deadlineHouse(t *testing.T) (*house, *Service, *time.Time) {
	t.Helper()
	h := open(t, true)
	s := *h.service
	clock := time.Now()
	s.now = func() time.Time { return clock }
	return h, &s, &clock
}

func (h *house) deadlineClient() conservationv1.DeadlineServiceClient {
	return conservationv1.NewDeadlineServiceClient(h.Operator("conservation"))
}

// Test27_AlarmsAndBoard: alarms at 90, 60, 30 and 7 days, each once, only while something is not sealed; a year
// that does not end in December, and one whose end is changed.
func Test27_AlarmsAndBoard(t *testing.T) {
	t.Parallel()
	h, s, clock := deadlineHouse(t)
	ctx := telemetry.WithActor(context.Background(), "service:conservation")
	h.intake(t, 2)
	h.awaitSealed(t, h.closePackage(t).GetName())
	h.settle(t, context.Background(), h.invoice(t, 50), h.invoice(t, 51))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 4 })
	board := func() *conservationv1.FiscalYear {
		list, err := h.deadlineClient().ListDeadlines(ctx, &conservationv1.ListDeadlinesRequest{Parent: "tenants/-"})
		require.NoError(t, err)
		require.Len(t, list.GetFiscalYears(), 1)
		return list.GetFiscalYears()[0]
	}
	y := board()
	require.Equal(t, []any{"tenants/acme", int32(year), "2026-12-31", "2028-01-31"}, []any{y.GetTenant(), y.GetFiscalYear(), y.GetEndDate(), y.GetDeadline()})
	require.Equal(t, []int64{4, 2, 2, 50}, []int64{y.GetUnits(), y.GetSealedUnits(), y.GetWaitingUnits(), int64(y.GetPercentSealed())})

	given := func() (days []int32) {
		h.rowsOf(t, `SELECT COALESCE(array_agg(days ORDER BY given_at, days DESC), '{}') FROM deadline_alarm`, &days)
		return days
	}
	for date, want := range map[string]int{"2027-11-01": 0} {
		*clock = day0(date).Add(12 * time.Hour)
		require.NoError(t, s.warn(ctx))
		require.Len(t, given(), want)
	}
	for _, step := range []struct {
		date string
		want []int32
	}{
		{"2027-11-02", []int32{}}, // 90 days before is 2 November: in Rome it is still the 1st at 22:30 UTC
		{"2027-11-03", []int32{90}},
		{"2027-11-20", []int32{90}},
		{"2027-12-03", []int32{90, 60}},
		{"2028-01-25", []int32{90, 60, 7}}, // a time in which nobody looked: the nearest counts
		{"2028-02-02", []int32{90, 60, 7}},
	} {
		*clock = day0(step.date).Add(-90 * time.Minute) // 22:30 UTC of the day before is 23:30 in Rome
		for range 2 {
			require.NoError(t, s.warn(ctx))
		}
		require.Equal(t, step.want, given(), step.date)
	}
	h.await(t, "events", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.alarms) == 3 })
	h.mu.Lock()
	require.EqualValues(t, 2, h.alarms[0].GetUnsealedUnits())
	require.EqualValues(t, 50, h.alarms[0].GetPercentSealed())
	require.Equal(t, "tenants/acme", h.alarms[0].GetTenant())
	h.mu.Unlock()

	set := func(end, deadline string) (*conservationv1.FiscalYear, error) {
		return h.deadlineClient().SetFiscalYear(ctx, &conservationv1.SetFiscalYearRequest{Parent: "tenants/acme", FiscalYear: year, EndDate: end, Deadline: deadline})
	}
	moved, err := set("2027-06-30", "")
	require.NoError(t, err)
	require.Equal(t, "2028-07-31", moved.GetDeadline())
	*clock = day0("2028-07-20")
	require.NoError(t, s.warn(ctx))
	require.Len(t, given(), 4, "another deadline warns anew")
	moved, err = set("2026-12-31", "2028-03-31")
	require.NoError(t, err)
	require.Equal(t, "2028-03-31", moved.GetDeadline())
	for want, bad := range map[string][2]string{
		"FISCAL_YEAR_INVALID": {"2025-12-31", ""}, "DEADLINE_INVALID": {"2026-12-31", "2026-12-31"}, "DATE_INVALID": {"2026-02-30", ""},
	} {
		_, err = set(bad[0], bad[1])
		require.Equal(t, want, code(err))
	}

	h.awaitSealed(t, h.closePackage(t).GetName())
	require.EqualValues(t, 100, board().GetPercentSealed())
	*clock = day0("2028-03-30")
	require.NoError(t, s.warn(ctx))
	require.Len(t, given(), 4, "what is sealed needs no warning")

	other := conservationv1.NewDeadlineServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "other", Scopes: []string{"archive.read"}})))
	for _, parent := range []string{"tenants/-", "tenants/acme"} {
		_, err = other.ListDeadlines(context.Background(), &conservationv1.ListDeadlinesRequest{Parent: parent})
		require.Error(t, err, "a tenant sees itself")
	}
	own, err := other.ListDeadlines(context.Background(), &conservationv1.ListDeadlinesRequest{Parent: "tenants/other"})
	require.NoError(t, err)
	require.Empty(t, own.GetFiscalYears())
}

// TestClosesByItself by number, by bytes, by age and by deadline, and else not.
func TestClosesByItself(t *testing.T) {
	t.Parallel()
	h, s, clock := deadlineHouse(t)
	ctx := context.Background()
	h.intake(t, 7)
	var counts []int32
	closed := func() []int32 {
		require.NoError(t, s.closeDue(ctx))
		h.rowsOf(t, `SELECT COALESCE(array_agg(unit_count ORDER BY number), '{}') FROM package`, &counts)
		return counts
	}
	require.Empty(t, closed(), "nothing is due")
	s.cfg.MaxUnits = 3
	require.Equal(t, []int32{3, 3}, closed(), "as often as a package is full")
	require.Equal(t, []int32{3, 3}, closed())

	var bytes int64
	h.rowsOf(t, `SELECT sum(size) FROM unit_file f JOIN unit u ON u.id = f.unit_id WHERE u.state = 'TAKEN_IN_CHARGE'`, &bytes)
	h.settle(t, ctx, h.invoice(t, 60), h.invoice(t, 61))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 9 })
	s.cfg.MaxUnits, s.cfg.Closing.Bytes = 10_000, bytes+bytes/2
	require.Equal(t, []int32{3, 3, 1, 1}, closed(), "three units of that size are two packages too many, and the last waits")

	s.cfg.Closing.Bytes = 1 << 30
	*clock = clock.Add(s.cfg.Closing.Age - time.Hour)
	require.Len(t, closed(), 4)
	*clock = clock.Add(2 * time.Hour)
	require.Equal(t, []int32{3, 3, 1, 1, 1}, closed(), "what waits too long")

	*clock = time.Now()
	h.settle(t, ctx, h.invoice(t, 70))
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == 10 })
	s.cfg.Closing.Age = 10_000 * aDay
	*clock = day0("2027-12-16")
	require.Len(t, closed(), 5)
	*clock = day0("2027-12-17") // 45 days before 31 January 2028
	require.Len(t, closed(), 6)
	h.await(t, "sealed", func() bool { _, preserved, _ := h.counts(); return preserved == 10 })
}
