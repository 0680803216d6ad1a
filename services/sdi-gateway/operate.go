package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// endOfTime stands for no bound.
var endOfTime = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// scopeOf is the tenant whose rows a list shows: all of them for an operator who asks for tenants/-.
func scopeOf(ctx context.Context, parent string) (string, error) {
	tenant := strings.TrimPrefix(parent, "tenants/")
	if tenant != "-" {
		return tenant, nil
	}
	caller, _ := auth.From(ctx)
	if caller.Role != auth.RoleOperator {
		return "", fault.Denied("SDI_ALL_TENANTS", "only operators see all tenants: name tenants/{tenant}")
	}
	return "", nil
}

// position is where a page of a list by time begins.
type position struct {
	at time.Time
	id uuid.UUID
}

func (p *position) read(token, filter string) error {
	_, err := pg.DecodePageToken(token, filter, &p.at, &p.id)
	return err
}

// ListDeadlines returns terms, the nearest first.
func (s *Service) ListDeadlines(ctx context.Context, req *sdiv1.ListDeadlinesRequest) (*sdiv1.ListDeadlinesResponse, error) {
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
	filter := pg.FilterHash("deadlines", tenant, req.GetKind().String(), fmt.Sprint(req.GetOverdue()), req.GetDueBefore().String())
	var from position
	err = from.read(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListDeadlinesResponse{}
	err = s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListDeadlines(ctx, db.ListDeadlinesParams{
			TenantID: tenant, Kind: kindName(req.GetKind()), Before: before, AfterAt: from.at, AfterID: from.id, N: size + 1,
		})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListDeadlinesRow) []any { return []any{*r.DueAt, r.ID} })
		if err != nil {
			return err
		}
		for _, t := range rows {
			d := deadline(t.DueKind, t.DueAt, now)
			d.Transmission, d.Invoice, d.FileName, d.SdiId, d.CorrectedBy = transmissionName(t.TenantID, t.ID), t.Invoice, t.FileName, t.SdiID, t.CorrectedBy
			out.Deadlines = append(out.Deadlines, d)
		}
		return err
	})
	return out, err
}

// deadline is a term of the API; absent when none runs.
func deadline(kind string, at *time.Time, now time.Time) *sdiv1.Deadline {
	if at == nil {
		return nil
	}
	overdue := at.Before(now)
	return &sdiv1.Deadline{Kind: kindEnum(kind), DueTime: timestamppb.New(*at), Overdue: overdue, Advice: advice(kind, overdue)}
}

// ListPending returns what has not reached SdI, in the order in which it should leave.
func (s *Service) ListPending(ctx context.Context, req *sdiv1.ListPendingRequest) (*sdiv1.ListPendingResponse, error) {
	tenant, err := scopeOf(ctx, req.GetParent())
	if err != nil {
		return nil, err
	}
	before := endOfTime
	if req.GetCreatedBefore() != nil {
		before = req.GetCreatedBefore().AsTime()
	}
	filter := pg.FilterHash("pending", tenant, req.GetReason(), req.GetCreatedBefore().String())
	var from position
	err = from.read(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListPendingResponse{}
	err = s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListPending(ctx, db.ListPendingParams{
			TenantID: tenant, Reason: req.GetReason(), Before: before, AfterAt: from.at, AfterID: from.id, N: size + 1,
		})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListPendingRow) []any {
			if r.SendBy == nil {
				return []any{endOfTime, r.ID}
			}
			return []any{*r.SendBy, r.ID}
		})
		if err != nil {
			return err
		}
		list := make([]db.ListTransmissionsRow, len(rows))
		for i, row := range rows {
			list[i] = db.ListTransmissionsRow(row)
		}
		out.Transmissions, err = s.withMessages(ctx, tx, list)
		return err
	})
	return out, err
}

// GetSendingHealth says how the way to SdI is.
func (s *Service) GetSendingHealth(ctx context.Context, _ *sdiv1.GetSendingHealthRequest) (*sdiv1.SendingHealth, error) {
	now := pg.Time(s.now())
	out := &sdiv1.SendingHealth{Transmitter: s.cfg.Transmitter, Endpoint: s.cfg.Endpoint, Breaker: s.breaker.State().State, DrainRate: s.cfg.DrainRate}
	return out, s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		e, err := q.GetEndpoint(ctx, db.GetEndpointParams{Name: s.cfg.Transmitter, Now: now, Many: drainTogether})
		if err != nil {
			return err
		}
		backlog, err := q.CountPending(ctx)
		if err != nil {
			return err
		}
		for _, b := range backlog {
			out.Backlog = append(out.Backlog, &sdiv1.SendingHealth_Backlog{Reason: b.Reason, Files: b.Files, OldestTime: timestamppb.New(b.Oldest)})
		}
		pauses, err := q.ListPauses(ctx, db.ListPausesParams{TenantID: "*", Open: true, Before: uuid.Max, N: 1000})
		if err != nil {
			return err
		}
		out.State = sdiv1.SendingHealth_STATE_OPEN
		if e.Ready >= drainTogether {
			out.State = sdiv1.SendingHealth_STATE_DRAINING
		}
		if e.OutageSince != nil {
			out.State = sdiv1.SendingHealth_STATE_OUTAGE
			out.OutageSinceTime, out.Failures, out.NextTrialTime, out.LastError = stamp(e.OutageSince), e.Failures, stamp(e.RetryAt), e.LastError
		}
		for _, row := range pauses {
			pause := &sdiv1.Pause{}
			fillPause(pause, db.GetPauseRow(row))
			out.Pauses = append(out.Pauses, pause)
			if row.TenantID == "" && !row.StartsAt.After(now) {
				out.State = sdiv1.SendingHealth_STATE_PAUSED
			}
		}
		at, err := q.LastSuccess(ctx)
		if at.Unix() > 0 {
			out.LastSuccessTime = timestamppb.New(at)
		}
		return err
	})
}

// ResendTransmission sends a file now that waits or was given up.
func (s *Service) ResendTransmission(ctx context.Context, req *sdiv1.ResendTransmissionRequest) (*sdiv1.Transmission, error) {
	parts := strings.Split(req.GetName(), "/")
	id, err := uuid.Parse(parts[3])
	if err != nil {
		return nil, notFound(req.GetName())
	}
	var refusal error
	err = s.db.Tx(ctx, parts[1], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		t, err := q.LockForResend(ctx, id)
		if err != nil {
			return err
		}
		act := telemetry.Act{Action: "transmission.resend", Resource: req.GetName(), Detail: map[string]string{"reason": req.GetReason()}}
		refusal = s.mayResend(&t)
		if refusal != nil {
			act.Outcome = fault.Of(refusal).Code
			return telemetry.Audit(ctx, tx, act)
		}
		err = q.LeaveBacklog(ctx, []uuid.UUID{id})
		if err != nil {
			return err
		}
		if t.Channel == channelPEC {
			err = q.LeaveMailing(ctx, db.LeaveMailingParams{ID: id, Now: pg.Time(s.now())})
		} else {
			err = s.jobs.InsertTx(story(ctx, t.TenantID, t.Invoice, bus.Meta(ctx).ID, t.Traceparent), tx, transmitArgs{Transmission: id, Forced: true}, nil)
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, act)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound(req.GetName())
	}
	if err = errors.Join(err, refusal); err != nil {
		return nil, fault.Of(err)
	}
	return s.GetTransmission(ctx, &sdiv1.GetTransmissionRequest{Name: req.GetName()})
}

// mayResend refuses a repeat that could make two submissions of one document, or that nobody needs.
func (s *Service) mayResend(t *db.LockForResendRow) error {
	now := s.now()
	lease := s.cfg.CallTimeout + s.cfg.ResendAfter
	switch {
	case t.Facts != 0:
		return fault.Precondition("SDI_OUTCOME_KNOWN", "SdI has the file under IdentificativoSdI %s, and its state is %s: it is not sent again", t.SdiID, t.State)
	case t.Channel == channelPEC:
		return mayPostAgain(t.MailingState)
	case t.Channel != channelCoop:
		return fault.Precondition("SDI_OTHER_CHANNEL", "the document goes by %s and leaves by itself: see ceralacca sdi supports", t.Channel)
	case t.AttemptAt != nil && t.AttemptAt.Add(lease).After(now):
		return fault.Precondition("SDI_CALL_UNDER_WAY", "a call was begun at %s and its outcome is open until %s: a receipt may still tell",
			t.AttemptAt.UTC().Format(time.RFC3339), t.AttemptAt.Add(lease).UTC().Format(time.RFC3339))
	case t.Attempts > 0 && t.NextAt != nil && t.NextAt.After(now):
		return fault.Precondition(codeUnknownOutcome, "a call ended without an answer and the file may have arrived: receipts are awaited until %s, then it is repeated by itself",
			t.NextAt.UTC().Format(time.RFC3339))
	case t.HeldBy != nil:
		return fault.Precondition("SDI_PAUSED", "%s; resume it first", t.Held)
	}
	return nil
}
