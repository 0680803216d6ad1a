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
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// PauseSending stops sending, now or at a time.
func (s *Service) PauseSending(ctx context.Context, req *sdiv1.PauseSendingRequest) (*sdiv1.Pause, error) {
	caller, _ := auth.From(ctx)
	operator := caller.Role == auth.RoleOperator
	if req.GetParent() == "" && !operator {
		return nil, fault.Denied("SDI_PAUSE_SCOPE", "only operators pause the whole transmitter: name tenants/{tenant} or one of its companies")
	}
	now := pg.Time(s.now())
	row := db.InsertPauseParams{Reason: req.GetReason(), CreatedBy: telemetry.Actor(ctx), ByOperator: operator, CreatedAt: now, StartsAt: now}
	if parts := strings.Split(req.GetParent(), "/"); len(parts) > 1 {
		row.TenantID = parts[1]
		if len(parts) == 4 {
			row.Company = req.GetParent()
		}
	}
	if req.GetStartTime() != nil {
		row.StartsAt = pg.Time(req.GetStartTime().AsTime())
	}
	if req.GetEndTime() != nil {
		end := pg.Time(req.GetEndTime().AsTime())
		row.EndsAt = &end
		if !end.After(row.StartsAt) || !end.After(now) {
			return nil, fault.Invalid("SDI_PAUSE_TIMES", "end_time %s is not after the beginning of the pause and now: give a later one, or none",
				end.Format(time.RFC3339)).WithField("end_time", "SDI_PAUSE_TIMES", "must be later")
		}
	}
	var err error
	row.ID, err = pg.NewID()
	if err != nil {
		return nil, err
	}
	out := &sdiv1.Pause{}
	err = s.db.Scoped(ctx, row.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, "PauseSending", req.GetRequestId(), req, out, func() error {
			q := db.New(tx)
			err := q.InsertPause(ctx, row)
			if err != nil {
				return err
			}
			made, err := q.GetPause(ctx, row.ID)
			if err != nil {
				return err
			}
			fillPause(out, made)
			detail := map[string]string{"scope": scopeName(row.TenantID, row.Company), "reason": row.Reason, "starts": row.StartsAt.Format(time.RFC3339)}
			if row.EndsAt != nil {
				detail["ends"] = row.EndsAt.Format(time.RFC3339)
			}
			return telemetry.Audit(ctx, tx, telemetry.Act{Action: "sending.pause", Resource: out.GetName(), Detail: detail})
		})
	})
	if err != nil {
		return nil, err
	}
	_, err = s.look(ctx) // in force here once this is answered
	return out, err
}

// ResumeSending ends a pause or calls off a scheduled one.
func (s *Service) ResumeSending(ctx context.Context, req *sdiv1.ResumeSendingRequest) (*sdiv1.Pause, error) {
	parts := strings.Split(req.GetName(), "/")
	id, err := uuid.Parse(parts[len(parts)-1])
	if err != nil {
		return nil, notFound(req.GetName())
	}
	caller, _ := auth.From(ctx)
	operator := caller.Role == auth.RoleOperator
	tenant := ""
	if len(parts) == 4 {
		tenant = parts[1]
	} else if !operator {
		return nil, fault.Denied("SDI_PAUSE_SCOPE", "only operators resume the whole transmitter")
	}
	out := &sdiv1.Pause{}
	err = s.db.Scoped(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).GetPause(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && row.TenantID != tenant {
			return notFound(req.GetName())
		}
		if err != nil {
			return err
		}
		if row.ByOperator && !operator {
			return fault.Denied("SDI_PAUSE_OF_OPERATOR", "this pause was made by the operators, who alone may end it: %s", row.Reason)
		}
		_, err = s.endPause(ctx, tx, id, telemetry.Actor(ctx), pg.Time(s.now()))
		if err != nil {
			return err
		}
		row, err = db.New(tx).GetPause(ctx, id)
		fillPause(out, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.lookAgain()
	return out, nil
}

// endPause ends a pause once, lets what it held go back to the backlog, and records who did it. It gives how
// many files that were.
func (s *Service) endPause(ctx context.Context, tx pgx.Tx, id uuid.UUID, by string, now time.Time) (int64, error) {
	q := db.New(tx)
	ended, err := q.EndPause(ctx, db.EndPauseParams{ID: id, EndedBy: by, Now: &now})
	if err != nil || ended == 0 {
		return 0, err // somebody else did
	}
	released, err := q.ReleaseHeld(ctx, db.ReleaseHeldParams{Pause: id, Now: &now, Held: heldDraining + ": the pause has ended; files leave in the order of their terms"})
	if err != nil {
		return 0, err
	}
	return released, telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "sending.resume", Resource: pauseName(pg.Tenant(ctx), id), Detail: map[string]string{"by": by, "files": fmt.Sprint(released)},
	})
}

// ListPauses returns pauses, newest first.
func (s *Service) ListPauses(ctx context.Context, req *sdiv1.ListPausesRequest) (*sdiv1.ListPausesResponse, error) {
	caller, _ := auth.From(ctx)
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	all := tenant == "-"
	if caller.Role != auth.RoleOperator && (tenant == "" || all) {
		return nil, fault.Denied("SDI_PAUSE_SCOPE", "only operators see the pauses of others: name tenants/{tenant}")
	}
	filter := pg.FilterHash("pauses", tenant, fmt.Sprint(req.GetOpen()))
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListPausesParams{TenantID: tenant, Open: req.GetOpen(), Before: before, N: size + 1}
	scope := tenant
	if all {
		p.TenantID, scope = "*", ""
	}
	out := &sdiv1.ListPausesResponse{}
	err = s.db.ScopedView(ctx, scope, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListPauses(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListPausesRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			pause := &sdiv1.Pause{}
			fillPause(pause, db.GetPauseRow(row))
			out.Pauses = append(out.Pauses, pause)
		}
		return err
	})
	return out, err
}

func pauseName(tenant string, id uuid.UUID) string {
	if tenant == "" {
		return "pauses/" + id.String()
	}
	return "tenants/" + tenant + "/pauses/" + id.String()
}

func scopeName(tenant, company string) string {
	switch {
	case company != "":
		return company
	case tenant != "":
		return "tenants/" + tenant
	}
	return "transmitter"
}

func fillPause(out *sdiv1.Pause, row db.GetPauseRow) {
	out.Name, out.Company, out.Reason = pauseName(row.TenantID, row.ID), row.Company, row.Reason
	out.Creator, out.CreateTime, out.StartTime = row.CreatedBy, timestamppb.New(row.CreatedAt), timestamppb.New(row.StartsAt)
	out.Resumer, out.Waiting = row.EndedBy, row.Waiting
	out.EndTime, out.ResumeTime = stamp(row.EndsAt), stamp(row.EndedAt)
}

// stamp is a time of the API; absent when there is none.
func stamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
