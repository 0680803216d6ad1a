package conservation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
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

// TestCalendar: known answers; and every day is in one year, whose end is not before it and the former's is.
func TestCalendar(t *testing.T) {
	t.Parallel()
	c := calendar{2026: day0("2027-06-30"), 2029: day0("2029-12-31"), 2031: day0("2032-02-28")}
	for day, want := range map[string]int32{
		"2025-12-31": 2025, "2026-01-01": 2026, "2026-12-31": 2026, "2027-06-30": 2026, "2027-07-01": 2027, "2028-06-30": 2027, "2028-07-01": 2028,
		"2029-06-30": 2028, "2029-07-01": 2029, "2029-12-31": 2029, "2030-12-31": 2030, "2031-01-01": 2031, "2032-02-28": 2031, "2032-02-29": 2032, "2033-02-28": 2032,
	} {
		require.Equal(t, want, c.yearOf(day0(day)), day)
	}
	for year, want := range map[int32]string{2020: "2020-12-31", 2027: "2028-06-30", 2028: "2029-06-30", 2030: "2030-12-31", 2032: "2033-02-28"} {
		require.Equal(t, want, c.end(year).Format(time.DateOnly))
	}
	require.Equal(t, "2028-02-29", calendar{2025: day0("2026-02-28")}.end(2027).Format(time.DateOnly), "the last of the month")
	require.Equal(t, "2028-04-05", calendar{2025: day0("2026-04-05")}.end(2027).Format(time.DateOnly))
	rapid.Check(t, func(r *rapid.T) {
		c := calendar{}
		for range rapid.IntRange(0, 4).Draw(r, "years") {
			year := rapid.Int32Range(2020, 2030).Draw(r, "year")
			c[year] = time.Date(int(year), time.January, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, rapid.IntRange(0, 729).Draw(r, "end"))
		}
		day := day0("2018-01-01").AddDate(0, 0, rapid.IntRange(0, 6000).Draw(r, "day"))
		year := c.yearOf(day)
		require.False(r, day.After(c.end(year)))
		require.True(r, day.After(c.end(year-1)) || year == int32(day.Year()-1))
		require.LessOrEqual(r, year, int32(day.Year()+1))
	})
}

// Test27_YearsThatAreNotCalendar: a company whose year ends in June. Its documents, certified mail too, are of the year of their date, that year
// has the deadline of its end, and the term of its packages runs from the end of the year after that.
func Test27_YearsThatAreNotCalendar(t *testing.T) {
	t.Parallel()
	h, ctx := open(t, true), context.Background()
	set := func(end string) {
		_, err := h.deadlineClient().SetFiscalYear(ctx, &conservationv1.SetFiscalYearRequest{Parent: "tenants/acme", FiscalYear: 2026, EndDate: end})
		require.NoError(t, err)
	}
	settled := func(n int, date string) *invoicev1.InvoiceSettled {
		ev := h.invoice(t, n)
		ev.Bodies[0].IssueDate, ev.FiscalYear = date, int32(day0(date).Year())
		return ev
	}
	before := settled(1, "2027-02-01") // taken in before the tenant said so: what was reported of it stays true
	h.settle(t, ctx, before)
	h.await(t, "taken", func() bool { return len(h.units(t, before.GetInvoice())) == 1 })
	set("2027-06-30")
	want := map[*invoicev1.InvoiceSettled]int32{before: 2027}
	for n, year := range map[string]int32{"2025-12-31": 2025, "2026-01-01": 2026, "2026-12-31": 2026, "2027-06-30": 2026, "2027-07-01": 2027, "2028-06-30": 2027, "2028-07-01": 2028} {
		want[settled(10+len(want), n)] = year
	}
	h.settleAll(t, slices.Collect(maps.Keys(want)))
	rome, err := time.LoadLocation("Europe/Rome")
	require.NoError(t, err)
	box := "tenants/acme/mailboxes/" + uuid.NewString()
	mail := map[string]int32{}
	for at, year := range map[time.Time]int32{time.Date(2027, 6, 30, 23, 59, 0, 0, rome): 2026, time.Date(2027, 7, 1, 0, 1, 0, 0, rome): 2027} {
		m := &pecv1.MessageHandedOver{
			Message: box + "/messages/" + uuid.NewString(), Content: h.blob(t, "From: a@b.test\r\n\r\n"+at.String(), "message/rfc822"), Direction: "RECEIVED", Type: "posta-certificata", MessageId: uuid.NewString() + "@b.test",
			MailboxAddress: "ufficio@alfa.test", Sender: "a@b.test", Recipients: []string{"ufficio@alfa.test"}, ReceiveTime: timestamppb.New(at), CertifiedTime: timestamppb.New(at), Proven: true,
		}
		mail[m.GetMessage()] = year
		h.deliver(t, m)
	}
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken == len(want)+len(mail) })
	for ev, year := range want {
		require.Equal(t, year, h.units(t, ev.GetInvoice())[0].GetFiscalYear(), ev.GetBodies()[0].GetIssueDate())
	}
	for name, year := range mail {
		require.Equal(t, year, h.unitOf(t, name).GetFiscalYear())
	}
	// Who hands a document over says its year.
	head := headOf("verbale", "verbale.pdf", aPDF)
	head.FiscalYear, head.Document.Date = 2027, "2027-03-31"
	require.Equal(t, accepted, hand(t, h.producer(), head, aPDF).GetState())

	list, err := h.deadlineClient().ListDeadlines(ctx, &conservationv1.ListDeadlinesRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	var board []string
	for _, y := range list.GetFiscalYears() {
		board = append(board, fmt.Sprint(y.GetFiscalYear(), " ends ", y.GetEndDate(), ", sealed until ", y.GetDeadline(), ": ", y.GetUnits()))
	}
	require.Equal(t, []string{
		"2025 ends 2025-12-31, sealed until 2027-01-31: 1", "2026 ends 2027-06-30, sealed until 2028-07-31: 4",
		"2027 ends 2028-06-30, sealed until 2029-07-31: 5", "2028 ends 2029-06-30, sealed until 2030-07-31: 1",
	}, board)

	closed := map[string]string{}
	for _, c := range []struct {
		year  int32
		class string
	}{{2025, "FISC"}, {2026, "FISC"}, {2026, "PEC"}, {2027, "FISC"}} {
		p, err := h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: c.year, Class: c.class})
		require.NoError(t, err)
		p = h.awaitSealed(t, p.GetName())
		h.judge(t, p)
		until := packageRow(t, h, p).RetainUntil
		require.NotNil(t, until)
		closed[fmt.Sprint(c.class, " ", c.year)] = until.UTC().Format(time.DateOnly)
	}
	require.Equal(t, map[string]string{"FISC 2025": "2036-12-31", "FISC 2026": "2038-12-31", "PEC 2026": "2038-12-31", "FISC 2027": "2039-12-31"}, closed)

	// What comes to a document later is of its year, whatever the calendar is then.
	set("2026-12-31")
	for ev, year := range want {
		if year == 2026 {
			late := proto.CloneOf(ev)
			late.Receipts = append(late.Receipts, h.receipt(t, "AT", 900))
			h.settle(t, ctx, late)
			h.await(t, "integration", func() bool { return len(h.units(t, ev.GetInvoice())) == 2 })
			require.EqualValues(t, 2026, h.units(t, ev.GetInvoice())[0].GetFiscalYear())
		}
	}
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
	moved, err = set("2027-08-31", "") // each of the four on its day, and not on the day before
	require.NoError(t, err)
	require.Equal(t, "2028-09-30", moved.GetDeadline())
	for _, days := range []int{90, 60, 30, 7} {
		h.admin(t, `DELETE FROM deadline_alarm WHERE deadline <> '2028-09-30'`)
		before := len(given())
		*clock = day0("2028-09-30").AddDate(0, 0, -days-1).Add(12 * time.Hour)
		require.NoError(t, s.warn(ctx))
		require.Len(t, given(), before, "%d days and one", days)
		*clock = clock.AddDate(0, 0, 1)
		for range 2 {
			require.NoError(t, s.warn(ctx))
		}
		require.Len(t, given(), before+1)
		require.EqualValues(t, days, given()[before])
		h.await(t, "told", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return slices.ContainsFunc(h.alarms, func(a *conservationv1.DeadlineAtRisk) bool {
				return a.GetDaysLeft() == int32(days) && a.GetDeadline().AsTime().Equal(day0("2028-09-30"))
			})
		})
	}
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
