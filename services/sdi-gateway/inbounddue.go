package sdigateway

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// tellAnswers tells public bodies of the terms in which they may answer: before the end, and when they have passed
// without an outcome for every document. It gives how many it told of.
func (s *Service) tellAnswers(ctx context.Context) (int, error) {
	count := 0
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		q := db.New(tx)
		rows, err := q.DueInboundFiles(ctx, db.DueInboundFilesParams{Near: now.Add(s.cfg.DeadlineNotice), Now: now, N: termsTogether})
		if err != nil {
			return err
		}
		count = len(rows)
		told := map[int16][]uuid.UUID{}
		for _, row := range rows {
			news := int16(toldNear)
			if !now.Before(*row.AnswerBy) {
				news = toldPassed
				s.log.WarnContext(ctx, "the term for an answer has passed", "file", row.FileName, "sdi_id", row.SdiID, "due", *row.AnswerBy)
			}
			told[news] = append(told[news], row.ID)
			err = s.bus.Emit(pg.WithTenant(bus.WithCorrelation(ctx, row.ID.String()), row.TenantID), tx, &sdiv1.InboundDeadlineReached{
				InboundInvoice: inboundName(&db.InboundFile{ID: row.ID, TenantID: row.TenantID, CompanyID: row.CompanyID}),
				SdiId:          row.SdiID, DueTime: timestamppb.New(*row.AnswerBy), Passed: news == toldPassed,
			})
			if err != nil {
				return err
			}
		}
		for news, ids := range told {
			err = q.SetInboundTold(ctx, db.SetInboundToldParams{Ids: ids, Told: news})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return count, err
}

// ListInboundDeadlines returns files whose documents await an outcome, the nearest term first.
func (s *inbound) ListInboundDeadlines(ctx context.Context, req *sdiv1.ListInboundDeadlinesRequest) (*sdiv1.ListInboundDeadlinesResponse, error) {
	tenant, err := scopeOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	now := pg.Time(s.now())
	before := endOfTime
	if req.GetDueBefore() != nil {
		before = req.GetDueBefore().AsTime()
	}
	if req.GetOverdue() && now.Before(before) {
		before = now
	}
	filter := pg.FilterHash("inbound deadlines", tenant, fmt.Sprint(req.GetOverdue()), req.GetDueBefore().String())
	var from position
	err = from.read(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListInboundDeadlinesResponse{}
	err = s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListInboundDeadlines(ctx, db.ListInboundDeadlinesParams{
			TenantID: tenant, Before: before, AfterAt: from.at, AfterID: from.id, N: size + 1,
		})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.InboundFile) []any { return []any{*r.AnswerBy, r.ID} })
		if err != nil {
			return err
		}
		out.InboundInvoices, err = presentInbound(ctx, tx, rows)
		return err
	})
	return out, err
}
