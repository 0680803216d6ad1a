package invoice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// seriesName is the resource name of a series in parts.
type seriesName struct{ tenant, company, id string }

func (n seriesName) String() string {
	return "tenants/" + n.tenant + "/companies/" + n.company + "/series/" + n.id
}

// parseSeries reads tenants/{tenant}/companies/{company}/series/{series}. Invalid NAME_INVALID.
func parseSeries(s, field string) (seriesName, error) {
	p := strings.Split(s, "/")
	if len(p) != 6 || p[0] != "tenants" || p[2] != "companies" || p[4] != "series" || p[1] == "" || p[3] == "" || p[5] == "" {
		return seriesName{}, fault.Invalid("NAME_INVALID", "%s: %q is not tenants/{tenant}/companies/{company}/series/{series}", field, s).
			WithField(field, "NAME_INVALID", "is no name of a series")
	}
	return seriesName{p[1], p[3], p[5]}, nil
}

func seriesMissing(n seriesName) error {
	return fault.NotFound("SERIES_NOT_FOUND", "there is no series %s", n)
}

// CreateSeries adds a series to a company. Conflict SERIES_EXISTS; Invalid PATTERN_INVALID; NotFound
// COMPANY_NOT_FOUND.
func (s *Service) CreateSeries(ctx context.Context, req *invoicev1.CreateSeriesRequest) (*invoicev1.Series, error) {
	parent, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	if _, err := s.companies.get(ctx, req.GetParent()); err != nil {
		return nil, err
	}
	n, in := seriesName{parent.tenant, parent.company, req.GetSeriesId()}, req.GetSeries()
	p, err := parsePattern(in.GetPattern(), "series.pattern")
	if err != nil {
		return nil, err
	}
	if err := checkYears(n, p, in.GetYears()); err != nil {
		return nil, err
	}
	resp := &invoicev1.Series{}
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.SeriesService_CreateSeries_FullMethodName, req.GetRequestId(), req, resp, func() error {
			err := q(tx).InsertSeries(ctx, db.InsertSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id,
				DisplayName: in.GetDisplayName(), Pattern: in.GetPattern(), Now: pg.Time(s.now())})
			if pg.Constraint(err) == "series_pkey" {
				return fault.Conflict("SERIES_EXISTS", "there is a series %s already: use it, or choose another series_id", n).
					WithField("series_id", "SERIES_EXISTS", "is taken").With(err)
			}
			if err != nil {
				return fmt.Errorf("invoice: insert series: %w", err)
			}
			if err := setYears(ctx, tx, n, in.GetYears()); err != nil {
				return err
			}
			if err := audit(ctx, tx, "series.create", n.String(), map[string]string{"pattern": in.GetPattern()}); err != nil {
				return err
			}
			return readSeries(ctx, tx, n, resp)
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetSeries reads one series with its years.
func (s *Service) GetSeries(ctx context.Context, req *invoicev1.GetSeriesRequest) (*invoicev1.Series, error) {
	n, err := parseSeries(req.GetName(), "name")
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.Series{}
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error { return readSeries(ctx, tx, n, resp) })
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListSeries reads the series of a company by id.
func (s *Service) ListSeries(ctx context.Context, req *invoicev1.ListSeriesRequest) (*invoicev1.ListSeriesResponse, error) {
	parent, err := parentName(req.GetParent())
	if err != nil {
		return nil, err
	}
	hash, after := pg.FilterHash("series", req.GetParent()), ""
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &after); err != nil {
		return nil, err
	}
	size := int(pageSize(req.GetPageSize()))
	resp := &invoicev1.ListSeriesResponse{}
	err = s.db.Tx(ctx, parent.tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListSeries(ctx, db.ListSeriesParams{TenantID: parent.tenant, CompanyID: parent.company, After: after, PageSize: int32(size + 1)})
		if err != nil {
			return fmt.Errorf("invoice: list series: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, hash, func(r db.Series) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		ids := make([]string, len(rows))
		for i := range rows {
			ids[i] = rows[i].ID
		}
		years, err := q(tx).ListSeriesYears(ctx, db.ListSeriesYearsParams{TenantID: parent.tenant, CompanyID: parent.company, SeriesIds: ids})
		if err != nil {
			return fmt.Errorf("invoice: years of series: %w", err)
		}
		for i := range rows {
			one := &invoicev1.Series{}
			fillSeries(one, &rows[i], years)
			resp.Series = append(resp.Series, one)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// UpdateSeries changes what the mask names, or all that is set without one. Aborted ETAG_MISMATCH;
// Precondition SERIES_STARTED for a pattern or a next number that cannot change any more.
func (s *Service) UpdateSeries(ctx context.Context, req *invoicev1.UpdateSeriesRequest) (*invoicev1.Series, error) {
	in := req.GetSeries()
	n, err := parseSeries(in.GetName(), "series.name")
	if err != nil {
		return nil, err
	}
	paths, err := seriesPaths(in, req.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.Series{}
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.SeriesService_UpdateSeries_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, years, err := lockSeries(ctx, tx, n, in.GetEtag(), "series.etag")
			if err != nil {
				return err
			}
			if err := applySeries(ctx, tx, n, &row, years, in, paths); err != nil {
				return err
			}
			err = q(tx).UpdateSeries(ctx, db.UpdateSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id,
				DisplayName: row.DisplayName, Pattern: row.Pattern, Version: row.Version + 1, UpdateTime: pg.Time(s.now())})
			if err != nil {
				return fmt.Errorf("invoice: update series: %w", err)
			}
			if err := audit(ctx, tx, "series.update", n.String(), map[string]string{"fields": strings.Join(paths, ",")}); err != nil {
				return err
			}
			return readSeries(ctx, tx, n, resp)
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// DeleteSeries removes a series that gave no number. Precondition SERIES_STARTED: one that did is part of
// the books, and a new one of the same id would give the same numbers again.
func (s *Service) DeleteSeries(ctx context.Context, req *invoicev1.DeleteSeriesRequest) (*invoicev1.DeleteSeriesResponse, error) {
	n, err := parseSeries(req.GetName(), "name")
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, n.tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, years, err := lockSeries(ctx, tx, n, req.GetEtag(), "etag")
		if err != nil {
			return err
		}
		for _, y := range years {
			if y.Given > 0 {
				return fault.Precondition("SERIES_STARTED", "%s gave %d numbers in %d and is kept: without it they could be given again", n, y.Given, y.Year).
					WithField("name", "SERIES_STARTED", "has given numbers")
			}
		}
		if err := q(tx).DeleteSeries(ctx, db.DeleteSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id}); err != nil {
			return fmt.Errorf("invoice: delete series: %w", err)
		}
		return audit(ctx, tx, "series.delete", n.String(), nil)
	})
	if err != nil {
		return nil, err
	}
	return &invoicev1.DeleteSeriesResponse{}, nil
}

// lockSeries reads a series for a change. NotFound SERIES_NOT_FOUND; Aborted ETAG_MISMATCH.
func lockSeries(ctx context.Context, tx pgx.Tx, n seriesName, tag, field string) (db.Series, []db.ListSeriesYearsRow, error) {
	row, err := q(tx).LockSeries(ctx, db.LockSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, nil, seriesMissing(n)
	}
	if err != nil {
		return row, nil, fmt.Errorf("invoice: lock series: %w", err)
	}
	if tag != "" && tag != etag(row.Version) {
		return row, nil, fault.Aborted("ETAG_MISMATCH", "%s was changed meanwhile: read it again and repeat the change", n).
			WithField(field, "ETAG_MISMATCH", "is not the current one")
	}
	years, err := yearsOf(ctx, tx, n)
	return row, years, err
}

func etag(version int32) string { return strconv.Quote(strconv.Itoa(int(version))) }

func yearsOf(ctx context.Context, tx pgx.Tx, n seriesName) ([]db.ListSeriesYearsRow, error) {
	years, err := q(tx).ListSeriesYears(ctx, db.ListSeriesYearsParams{TenantID: n.tenant, CompanyID: n.company, SeriesIds: []string{n.id}})
	if err != nil {
		return nil, fmt.Errorf("invoice: years of series: %w", err)
	}
	return years, nil
}

// seriesPaths is the list of fields to change. spec: AIP-134 "update_mask", AIP-161
func seriesPaths(in *invoicev1.Series, mask []string) ([]string, error) {
	all := []string{"display_name", "pattern", "years"}
	if len(mask) == 1 && mask[0] == "*" {
		return all, nil
	}
	if len(mask) == 0 {
		set := map[string]bool{"display_name": in.GetDisplayName() != "", "pattern": in.GetPattern() != "", "years": len(in.GetYears()) > 0}
		return slices.DeleteFunc(all, func(p string) bool { return !set[p] }), nil
	}
	for _, p := range mask {
		if !slices.Contains(all, p) {
			return nil, fault.Invalid("UPDATE_MASK_INVALID", "update_mask: %q cannot be changed; these can: %s", p, strings.Join(all, ", ")).
				WithField("update_mask", "UPDATE_MASK_INVALID", p+" cannot be changed")
		}
	}
	return mask, nil
}

// applySeries makes the changes to a locked series and its years.
func applySeries(ctx context.Context, tx pgx.Tx, n seriesName, row *db.Series, years []db.ListSeriesYearsRow, in *invoicev1.Series, paths []string) error {
	if slices.Contains(paths, "display_name") {
		row.DisplayName = in.GetDisplayName()
	}
	if slices.Contains(paths, "pattern") && in.GetPattern() != row.Pattern {
		for _, y := range years {
			if y.Given > 0 {
				return fault.Precondition("SERIES_STARTED", "series.pattern: %s gave numbers written as %q already: create another series for another pattern", n, row.Pattern).
					WithField("series.pattern", "SERIES_STARTED", "cannot change once a number was given")
			}
		}
		row.Pattern = in.GetPattern()
	}
	p, err := parsePattern(row.Pattern, "series.pattern")
	if err != nil {
		return err
	}
	if !slices.Contains(paths, "years") {
		return nil
	}
	if err := checkYears(n, p, in.GetYears()); err != nil {
		return err
	}
	var change []*invoicev1.SeriesYear
	for i, want := range in.GetYears() {
		at := slices.IndexFunc(years, func(y db.ListSeriesYearsRow) bool { return int32(y.Year) == want.GetYear() })
		if at >= 0 && years[at].Next == want.GetNext() {
			continue
		}
		if at >= 0 && years[at].Given > 0 {
			field := fmt.Sprintf("series.years[%d].next", i)
			return fault.Precondition("SERIES_STARTED", "%s: %s gave %d numbers in %d and goes on with %d: only a year without numbers can begin elsewhere",
				field, n, years[at].Given, want.GetYear(), years[at].Next).WithField(field, "SERIES_STARTED", "cannot change once a number was given")
		}
		change = append(change, want)
	}
	return setYears(ctx, tx, n, change)
}

// checkYears refuses years that are there twice or whose numbers cannot be written.
func checkYears(n seriesName, p pattern, years []*invoicev1.SeriesYear) error {
	seen := map[int32]bool{}
	for i, y := range years {
		field := fmt.Sprintf("series.years[%d]", i)
		if seen[y.GetYear()] {
			return fault.Invalid("YEAR_REPEATED", "%s: year %d is there twice", field, y.GetYear()).WithField(field+".year", "YEAR_REPEATED", "is there twice")
		}
		seen[y.GetYear()] = true
		if written := p.write(y.GetNext(), int(y.GetYear())); len(written) > maxNumber {
			return fault.Invalid("NUMBER_TOO_LONG", "%s.next: %s would write it as %q, which has more than %d characters", field, n, written, maxNumber).
				WithField(field+".next", "NUMBER_TOO_LONG", "cannot be written")
		}
	}
	return nil
}

func setYears(ctx context.Context, tx pgx.Tx, n seriesName, years []*invoicev1.SeriesYear) error {
	for _, y := range years {
		err := q(tx).SetSeriesNext(ctx, db.SetSeriesNextParams{TenantID: n.tenant, CompanyID: n.company, SeriesID: n.id, Year: int16(y.GetYear()), Next: y.GetNext()})
		if err != nil {
			return fmt.Errorf("invoice: next number of %s: %w", n, err)
		}
	}
	return nil
}

func readSeries(ctx context.Context, tx pgx.Tx, n seriesName, resp *invoicev1.Series) error {
	row, err := q(tx).GetSeries(ctx, db.GetSeriesParams{TenantID: n.tenant, CompanyID: n.company, ID: n.id})
	if errors.Is(err, pgx.ErrNoRows) {
		return seriesMissing(n)
	}
	if err != nil {
		return fmt.Errorf("invoice: read series: %w", err)
	}
	years, err := yearsOf(ctx, tx, n)
	if err != nil {
		return err
	}
	fillSeries(resp, &row, years)
	return nil
}

func fillSeries(out *invoicev1.Series, row *db.Series, years []db.ListSeriesYearsRow) {
	out.Name = seriesName{row.TenantID, row.CompanyID, row.ID}.String()
	out.DisplayName, out.Pattern, out.Etag = row.DisplayName, row.Pattern, etag(row.Version)
	out.CreateTime, out.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
	for _, y := range years {
		if y.SeriesID == row.ID {
			out.Years = append(out.Years, &invoicev1.SeriesYear{Year: int32(y.Year), Next: y.Next, Given: y.Given, LastDate: y.LastDate})
		}
	}
}

// audit records who changed a setting, in the same transaction.
func audit(ctx context.Context, tx pgx.Tx, action, resource string, detail map[string]string) error {
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: resource, Detail: detail})
}
