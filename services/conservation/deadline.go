package conservation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// alarms are how many days before a deadline its tenant is warned, while something is not sealed.
var alarms = []int{90, 60, 30, 7}

// Months from the end of a fiscal year to its tax return, and from there to the deadline of preservation.
// spec: DPR-322-1998 art. 2; DMEF-2014 art. 3 c. 3
const (
	monthsToReturn  = 10
	monthsToArchive = 3
)

// endOfYear is the end of a calendar year, which is what a fiscal year is unless its tenant says otherwise.
func endOfYear(year int32) time.Time {
	return time.Date(int(year), time.December, 31, 0, 0, 0, 0, time.UTC)
}

// calendar is when the fiscal years of a tenant end, where it said so.
type calendar map[int32]time.Time

// end is the last day of a fiscal year. One of which nothing is said ends on the day of the last one before it of which something is: who
// changed goes on so.
func (c calendar) end(year int32) time.Time {
	if end, ok := c[year]; ok {
		return end
	}
	last := int32(0)
	for y := range c {
		if y < year {
			last = max(last, y)
		}
	}
	if last == 0 {
		return endOfYear(year)
	}
	end, later := c[last], int(year-last)
	if end.AddDate(0, 0, 1).Day() == 1 { // the last of its month, whatever that is then
		return time.Date(end.Year()+later, end.Month()+1, 0, 0, 0, 0, 0, time.UTC)
	}
	return end.AddDate(later, 0, 0)
}

// yearOf is the fiscal year that a day belongs to: the first that has not ended before it. A year ends within its number or the next.
func (c calendar) yearOf(day time.Time) int32 {
	year := int32(day.Year() - 1) //nolint:gosec // a year
	for day.After(c.end(year)) {
		year++
	}
	return year
}

// calendars reads what tenants said, of one or of all ("").
func calendars(ctx context.Context, q *db.Queries, tenant string) (map[string]calendar, error) {
	rows, err := q.FiscalYears(ctx, tenant)
	if err != nil {
		return nil, fmt.Errorf("conservation: fiscal years: %w", err)
	}
	all := map[string]calendar{}
	for _, row := range rows {
		if all[row.TenantID] == nil {
			all[row.TenantID] = calendar{}
		}
		all[row.TenantID][row.FiscalYear] = row.EndsOn.Time
	}
	return all, nil
}

// inTheirYear gives documents that come by event the fiscal year of their date, where their tenant's years are not those of the calendar. Whose
// date is not in the year that was said of it (nobody could read it, or it cannot be true) keeps that one; a deposit says its year itself.
func inTheirYear(ctx context.Context, tx pgx.Tx, tenant string, arrivals []arrival) error {
	all, err := calendars(ctx, db.New(tx), tenant)
	if err != nil || all[tenant] == nil {
		return err
	}
	for _, a := range arrivals {
		if a.facts.Deposit != nil || len(a.facts.Bodies) == 0 {
			continue
		}
		day, err := time.Parse(time.DateOnly, a.facts.Bodies[0].Date)
		if err == nil && day.Year() == int(a.year) {
			a.year = all[tenant].yearOf(day)
		}
	}
	return nil
}

// deadlineOf is the last day on which the documents of a fiscal year that ended on that day may be sealed: the
// last of the month, thirteen months on.
func deadlineOf(end time.Time) time.Time {
	return time.Date(end.Year(), end.Month()+monthsToReturn+monthsToArchive+1, 0, 0, 0, 0, 0, time.UTC)
}

// today is the date in Rome, where the law counts days.
func (s *Service) today() time.Time {
	y, m, d := s.now().In(s.rome).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}

// fiscalYear is how a tenant's year stands.
type fiscalYear struct {
	tenant                 string
	year                   int32
	end, deadline          time.Time
	units, sealed, waiting int64
}

func (y fiscalYear) daysLeft(today time.Time) int { return int(y.deadline.Sub(today) / aDay) }

// percent is rounded down: 100 is all.
func (y fiscalYear) percent() int32 {
	if y.units == 0 {
		return 100
	}
	return int32(100 * y.sealed / y.units) //nolint:gosec // at most 100
}

// fiscalYears reads how the years of one tenant or of all stand, the nearest deadline first.
func (s *Service) fiscalYears(ctx context.Context, tx pgx.Tx, tenant string) ([]*fiscalYear, error) {
	type key struct {
		tenant string
		year   int32
	}
	q := db.New(tx)
	said, err := calendars(ctx, q, tenant)
	if err != nil {
		return nil, err
	}
	found := map[key]*fiscalYear{}
	at := func(tenant string, year int32) *fiscalYear {
		k := key{tenant, year}
		if found[k] == nil {
			end := said[tenant].end(year)
			found[k] = &fiscalYear{tenant: tenant, year: year, end: end, deadline: deadlineOf(end)}
		}
		return found[k]
	}
	unsealed, err := q.Unsealed(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, row := range unsealed {
		y := at(row.TenantID, row.FiscalYear)
		y.units, y.waiting = y.units+row.Units, row.Waiting
	}
	sealed, err := q.SealedUnits(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, row := range sealed {
		y := at(row.TenantID, row.FiscalYear)
		y.units, y.sealed = y.units+row.Units, row.Units
	}
	own, err := q.FiscalYears(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, row := range own {
		y := at(row.TenantID, row.FiscalYear)
		y.end, y.deadline = row.EndsOn.Time, row.Deadline.Time
	}
	var all []*fiscalYear
	for _, y := range found {
		all = append(all, y)
	}
	slices.SortFunc(all, func(a, b *fiscalYear) int {
		return cmp.Or(a.deadline.Compare(b.deadline), strings.Compare(a.tenant, b.tenant), cmp.Compare(a.year, b.year))
	})
	return all, nil
}

// warn tells of years whose deadline comes near while something of them is not sealed; each alarm once.
func (s *Service) warn(ctx context.Context) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		years, err := s.fiscalYears(ctx, tx, "")
		if err != nil {
			return err
		}
		for _, y := range years {
			if y.sealed == y.units {
				continue
			}
			err = s.warnOf(ctx, tx, y)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// warnOf gives the alarm whose time has come; those before it that were missed are not made up for.
func (s *Service) warnOf(ctx context.Context, tx pgx.Tx, y *fiscalYear) error {
	left, due := y.daysLeft(s.today()), 0
	for _, days := range alarms {
		if left <= days {
			due = days
		}
	}
	if due == 0 {
		return nil
	}
	n, err := db.New(tx).GiveAlarm(ctx, db.GiveAlarmParams{
		TenantID: y.tenant, FiscalYear: y.year, Deadline: date(y.deadline), Days: int32(due), At: pg.Time(s.now()), //nolint:gosec // 90 at most
	})
	if err != nil || n == 0 {
		return err
	}
	s.log.WarnContext(ctx, "documents are not sealed and their deadline comes near", "tenant", y.tenant, "fiscal_year", y.year, "deadline", y.deadline.Format(time.DateOnly), "days_left", left, "percent_sealed", y.percent())
	return s.bus.Emit(pg.WithTenant(ctx, y.tenant), tx, &conservationv1.DeadlineAtRisk{
		Tenant: "tenants/" + y.tenant, FiscalYear: y.year, Deadline: timestamppb.New(y.deadline), DaysLeft: int32(left), //nolint:gosec // days
		UnsealedUnits: y.units - y.sealed, PercentSealed: y.percent(),
	})
}

// deadlines answers DeadlineService.
type deadlines struct {
	conservationv1.UnimplementedDeadlineServiceServer

	s *Service
}

// ListDeadlines lists how the years stand.
func (a deadlines) ListDeadlines(ctx context.Context, req *conservationv1.ListDeadlinesRequest) (*conservationv1.ListDeadlinesResponse, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	scope := tenant
	if tenant == "-" {
		tenant, scope = "", ""
	}
	resp := &conservationv1.ListDeadlinesResponse{}
	err := a.s.db.Scoped(ctx, scope, func(ctx context.Context, tx pgx.Tx) error {
		years, err := a.s.fiscalYears(ctx, tx, tenant)
		for _, y := range years {
			resp.FiscalYears = append(resp.FiscalYears, a.s.yearMessage(y))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Service) yearMessage(y *fiscalYear) *conservationv1.FiscalYear {
	return &conservationv1.FiscalYear{
		Tenant: "tenants/" + y.tenant, FiscalYear: y.year, EndDate: y.end.Format(time.DateOnly), Deadline: y.deadline.Format(time.DateOnly),
		DaysLeft: int32(y.daysLeft(s.today())), Units: y.units, SealedUnits: y.sealed, WaitingUnits: y.waiting, PercentSealed: y.percent(), //nolint:gosec // days
	}
}

// SetFiscalYear says when a year ends, and until when it must be sealed.
func (a deadlines) SetFiscalYear(ctx context.Context, req *conservationv1.SetFiscalYearRequest) (*conservationv1.FiscalYear, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok || ids[0] == "-" {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	end, err := parseDate("end_date", req.GetEndDate())
	if err != nil {
		return nil, err
	}
	if d := end.Year() - int(req.GetFiscalYear()); d < 0 || d > 1 {
		return nil, fault.Invalid("FISCAL_YEAR_INVALID", "end_date %s: fiscal year %d ends in that year or in the next", req.GetEndDate(), req.GetFiscalYear()).
			WithField("end_date", "FISCAL_YEAR_INVALID", "in another year")
	}
	deadline := deadlineOf(end)
	if req.GetDeadline() != "" {
		deadline, err = parseDate("deadline", req.GetDeadline())
		if err != nil {
			return nil, err
		}
		if !deadline.After(end) {
			return nil, fault.Invalid("DEADLINE_INVALID", "deadline %s is not after the end of the year, %s", req.GetDeadline(), req.GetEndDate()).
				WithField("deadline", "DEADLINE_INVALID", "not after end_date")
		}
	}
	var resp *conservationv1.FiscalYear
	err = a.s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).SetFiscalYear(ctx, db.SetFiscalYearParams{TenantID: ids[0], FiscalYear: req.GetFiscalYear(), EndsOn: date(end), Deadline: date(deadline)})
		if err != nil {
			return err
		}
		years, err := a.s.fiscalYears(ctx, tx, ids[0])
		for _, y := range years {
			if y.year == req.GetFiscalYear() {
				resp = a.s.yearMessage(y)
			}
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "fiscal_year.set", Resource: req.GetParent() + "/fiscalYears/" + strconv.Itoa(int(req.GetFiscalYear())),
			Detail: map[string]string{"end_date": req.GetEndDate(), "deadline": deadline.Format(time.DateOnly)},
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func parseDate(field, text string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return t, fault.Invalid("DATE_INVALID", "%s: %q is not a date such as 2026-12-31", field, text).WithField(field, "DATE_INVALID", "no such day")
	}
	return t, nil
}

func date(t time.Time) pgtype.Date { return pgtype.Date{Time: t, Valid: true} }

func loadRome() (*time.Location, error) {
	rome, err := time.LoadLocation("Europe/Rome")
	if err != nil {
		return nil, fmt.Errorf("conservation: time zone: %w", err)
	}
	return rome, nil
}
