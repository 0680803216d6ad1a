package conservation

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// checks answers CheckService.
type checks struct {
	conservationv1.UnimplementedCheckServiceServer

	s *Service
}

// RunCheck starts a check.
func (a checks) RunCheck(ctx context.Context, req *conservationv1.RunCheckRequest) (*conservationv1.CheckReport, error) {
	if a.s.replicas == nil {
		return nil, errStorageOff()
	}
	by := "operator"
	if caller, ok := auth.From(ctx); ok {
		by = caller.Actor()
	}
	var row db.ArchiveReport
	err := a.s.db.Tx(ctx, a.s.keeper(), func(ctx context.Context, tx pgx.Tx) error {
		kind := strings.TrimPrefix(req.GetKind().String(), "CHECK_KIND_")
		id, err := a.s.startCheck(ctx, tx, kind, strings.TrimPrefix(req.GetTenant(), "tenants/"), by)
		if err == nil {
			row, err = db.New(tx).GetReport(ctx, id)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reportMessage(row), nil
}

// GetReport reads a report, with its signed form once there is one.
func (a checks) GetReport(ctx context.Context, req *conservationv1.GetReportRequest) (*conservationv1.CheckReport, error) {
	missing := fault.NotFound("REPORT_NOT_FOUND", "there is no report %s", req.GetName())
	id, err := uuid.Parse(strings.TrimPrefix(req.GetName(), "reports/"))
	if err != nil {
		return nil, missing
	}
	row, err := a.s.report(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	m := reportMessage(row)
	if row.ObjectID != nil {
		if a.s.replicas == nil {
			return nil, errStorageOff()
		}
		o, err := a.s.object(ctx, row.TenantID, *row.ObjectID)
		if err != nil {
			return nil, err
		}
		m.Signed, err = a.s.replicas.read(ctx, o)
		if err != nil {
			return nil, err
		}
		m.Receipt, err = a.s.reportReceipt(ctx, row.TenantID, "reports/"+row.ID.String(), *row.ObjectID)
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// reportReceipt proves a signed report where a log is kept; empty until it is stated.
func (s *Service) reportReceipt(ctx context.Context, tenant, name string, object uuid.UUID) ([]byte, error) {
	if s.book == nil {
		return nil, nil
	}
	r, err := evidence{s: s}.receipt(ctx, tenant, name, object, 0, false, func(context.Context, *db.Queries) error { return nil })
	if err != nil && fault.Of(err).Code == "RECEIPT_NOT_READY" {
		return nil, nil
	}
	return r.GetReceipt(), err
}

// ListReports lists reports, newest first.
func (a checks) ListReports(ctx context.Context, req *conservationv1.ListReportsRequest) (*conservationv1.ListReportsResponse, error) {
	kind := ""
	if req.GetKind() != conservationv1.CheckKind_CHECK_KIND_UNSPECIFIED {
		kind = strings.TrimPrefix(req.GetKind().String(), "CHECK_KIND_")
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("reports", kind)
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.ArchiveReport
	err = a.s.db.Tx(ctx, a.s.keeper(), func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListReports(ctx, db.ListReportsParams{Before: before, Kind: kind, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListReportsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ArchiveReport) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		resp.Reports = append(resp.Reports, reportMessage(row))
	}
	return resp, nil
}

func reportMessage(row db.ArchiveReport) *conservationv1.CheckReport {
	m := &conservationv1.CheckReport{
		Name:      "reports/" + row.ID.String(),
		Kind:      conservationv1.CheckKind(conservationv1.CheckKind_value["CHECK_KIND_"+row.Kind]),
		State:     conservationv1.CheckState(conservationv1.CheckState_value["CHECK_STATE_"+row.State]),
		BeginTime: timestamppb.New(row.BeganAt), EndTime: timeMessage(row.EndedAt), Content: row.Content,
	}
	if row.Subject != "" {
		m.Tenant = "tenants/" + row.Subject
	}
	return m
}
