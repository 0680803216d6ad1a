package conservation

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/run"
)

const (
	submissionLeaves = 500 // of a chain at most in one report, so that it stays small enough to be answered whole
	submissionPage   = 200 // tenants looked at in one statement
)

// wireSubmissions has documents that came by event reported like those that were deposited. The report holds the proof of the
// log: where no log is kept there is none, and what came meanwhile is reported once there is one.
func (s *Service) wireSubmissions(h *run.Host) {
	run.Work(h, run.WorkOptions{Queue: "rdv", Workers: 2, Timeout: time.Minute}, s.reportSubmission)
	if s.book != nil && s.cfg.Deposits.EventReports > 0 {
		h.Go("submissions", s.submissions)
	}
}

// submissions gathers what the log has stated since it looked last. Several processes may: a tenant's chain is cut by who holds
// the row of its cursor.
func (s *Service) submissions(ctx context.Context) error {
	var seen int64
	for ctx.Err() == nil {
		heard := s.book.stated.heard()
		size, err := s.submitStated(ctx, seen)
		switch {
		case err == nil && size == seen: // nothing is due: the next stroke of the log makes it so
			s.book.stated.await(ctx, heard, s.cfg.Deposits.EventReports)
			continue
		case err == nil:
			seen = size
		case ctx.Err() == nil:
			s.log.WarnContext(ctx, "documents that came by event wait for their report: it is tried again", "error", err)
		}
		pause(ctx, s.cfg.Deposits.EventReports)
	}
	return nil
}

// submitStated cuts the chains of all tenants up to the last checkpoint, unless that was seen already, and gives its size.
func (s *Service) submitStated(ctx context.Context, seen int64) (int64, error) {
	var size int64
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		point, err := db.New(tx).LastCheckpoint(ctx)
		size = point.Size
		return notFoundIsNothing(err)
	})
	if err != nil || size == seen {
		return seen, err
	}
	for after := ""; ; {
		var tenants []string
		err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			tenants, err = db.New(tx).UnreportedTenants(ctx, db.UnreportedTenantsParams{After: after, Size: size, Page: submissionPage})
			return err
		})
		if err != nil {
			return seen, err
		}
		for _, t := range tenants {
			for more := true; more; {
				more, err = s.submit(ctx, t, size)
				if err != nil {
					return seen, err
				}
			}
			after = t
		}
		if len(tenants) < submissionPage {
			return size, nil
		}
	}
}

// submit makes one submission of what comes next in a tenant's chain, and the order for its report. What is no document, and
// what was deposited and has a report of its own, is passed over.
func (s *Service) submit(ctx context.Context, tenant string, size int64) (more bool, err error) {
	id, err := pg.NewID()
	if err != nil {
		return false, err
	}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := s.bearings.mayBegin(ctx, q)
		if err == nil {
			err = q.BeginSubmissions(ctx, tenant)
		}
		if err != nil {
			return err
		}
		done, err := q.LockSubmissions(ctx, tenant)
		if err != nil {
			return err
		}
		chain, err := q.ChainOf(ctx, db.ChainOfParams{TenantID: tenant, After: done, Last: math.MaxInt64, Size: size, Page: submissionLeaves})
		if err != nil || len(chain) == 0 {
			return err
		}
		more = len(chain) == submissionLeaves
		err = q.SetSubmissions(ctx, db.SetSubmissionsParams{TenantID: tenant, Sequence: chain[len(chain)-1].Sequence})
		if err != nil {
			return err
		}
		p := db.InsertSubmissionParams{ID: id, TenantID: tenant, FirstSequence: chain[0].Sequence, LastSequence: chain[len(chain)-1].Sequence, Years: retentionYears, CreatedAt: pg.Time(s.now())}
		for _, l := range chain {
			if l.Came {
				p.UnitCount++
				p.FiscalYear, p.Years = max(p.FiscalYear, l.FiscalYear), max(p.Years, yearsOf(l.Class))
			}
		}
		if p.UnitCount == 0 {
			return nil
		}
		err = q.InsertSubmission(ctx, p)
		if err != nil {
			return err
		}
		return s.jobs.InsertTx(ctx, tx, submissionArgs{Tenant: tenant, Submission: id}, nil)
	})
	return more, err
}

// GetSubmissionReport gives the RdV of a deposit, of a submission, or of a unit.
func (a deposits) GetSubmissionReport(ctx context.Context, req *conservationv1.GetSubmissionReportRequest) (*conservationv1.SubmissionReport, error) {
	name := req.GetName()
	if _, ok := cut(name, "tenants", "deposits"); ok {
		row, err := a.s.depositByName(ctx, name)
		if err != nil {
			return nil, err
		}
		return a.s.depositReport(ctx, row)
	}
	if _, ok := cut(name, "tenants", "units"); ok {
		return a.s.unitReport(ctx, name)
	}
	tenant, id, err := parseName("name", name, "submissions", noSubmission(name))
	if err != nil {
		return nil, err
	}
	var row db.Submission
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).GetSubmission(ctx, db.GetSubmissionParams{TenantID: tenant, ID: id})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noSubmission(name)
	}
	if err != nil {
		return nil, err
	}
	return a.s.reportOf(ctx, row)
}

// unitReport is the report of what a unit came with: its deposit, or the submission that has its first leaf.
func (s *Service) unitReport(ctx context.Context, name string) (*conservationv1.SubmissionReport, error) {
	tenant, id, err := parseName("name", name, "units", noUnit(name))
	if err != nil {
		return nil, err
	}
	var deposit *db.Deposit
	var row db.Submission
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		u, err := q.GetUnit(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return noUnit(name)
		case err != nil:
			return err
		case u.State == "REFUSED":
			return fault.Precondition("UNIT_REFUSED", "the unit was refused and never taken in charge: %s", u.Problem)
		}
		d, err := q.DepositOfUnit(ctx, &id)
		if err == nil {
			deposit = &d
			return nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if s.book == nil {
			return (evidence{s: s}).on()
		}
		leaf, err := q.LeafOf(ctx, db.LeafOfParams{Subject: id, Revision: 1})
		if err == nil {
			row, err = q.SubmissionAt(ctx, db.SubmissionAtParams{TenantID: tenant, Sequence: leaf.Sequence})
		}
		if err == nil && row.FirstSequence > leaf.Sequence {
			err = pgx.ErrNoRows
		}
		return notFoundIsNothing(err) // its report is not ready then
	})
	if err != nil {
		return nil, err
	}
	if deposit != nil {
		return s.depositReport(ctx, *deposit)
	}
	return s.reportOf(ctx, row)
}

func (s *Service) reportOf(ctx context.Context, row db.Submission) (*conservationv1.SubmissionReport, error) {
	m, err := s.submissionReport(ctx, reported{tenant: row.TenantID, report: row.Report, stamp: row.Stamp, reportID: row.ReportID, stampID: row.StampID, at: row.StampedAt})
	if err == nil {
		m.Submission = submissionName(row.TenantID, row.ID)
	}
	return m, err
}

// ListSubmissions lists them, newest first.
func (a deposits) ListSubmissions(ctx context.Context, req *conservationv1.ListSubmissionsRequest) (*conservationv1.ListSubmissionsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	size, before, filter := pageSize(req.GetPageSize()), uuid.Max, pg.FilterHash("submissions", tenant)
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.ListSubmissionsRow
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListSubmissions(ctx, db.ListSubmissionsParams{TenantID: tenant, Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListSubmissionsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListSubmissionsRow) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		resp.Submissions = append(resp.Submissions, &conservationv1.Submission{
			Name: submissionName(tenant, r.ID), FirstSequence: r.FirstSequence, LastSequence: r.LastSequence, UnitCount: r.UnitCount,
			CreateTime: timestamppb.New(r.CreatedAt), ReportTime: timeMessage(r.StampedAt),
		})
	}
	return resp, nil
}

func submissionName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/submissions/" + id.String()
}

func noSubmission(name string) *fault.Fault {
	return fault.NotFound("SUBMISSION_NOT_FOUND", "there is no submission %s", name)
}
