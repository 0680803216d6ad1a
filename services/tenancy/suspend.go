package tenancy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/tenancy/internal/db"
)

// hold is a suspension in force and who put it.
type hold struct {
	auth.Suspension
	actor string
}

// holds are the suspensions of a tenant, the one to be told first first: that of the operators, that of its
// reseller as a whole, that which its reseller put. A tenant without an id is none: what is left is the reseller's.
func holds(t db.Tenant, r db.Reseller) []hold {
	var in []hold
	add := func(subject, party, reason, actor string, since *time.Time) {
		if since != nil {
			in = append(in, hold{auth.Suspension{Subject: subject, Party: party, Reason: reason, Since: *since}, actor})
		}
	}
	tenant := "tenants/" + t.TenantID
	add(tenant, auth.RoleOperator, t.OperatorSuspendReason, t.OperatorSuspendActor, t.OperatorSuspendTime)
	add("resellers/"+r.ID, auth.RoleOperator, r.SuspendReason, r.SuspendActor, r.SuspendTime)
	add(tenant, auth.RoleReseller, t.ResellerSuspendReason, t.ResellerSuspendActor, t.ResellerSuspendTime)
	return in
}

// first is what a caller is told, nil when nothing holds.
func first(in []hold) *auth.Suspension {
	if len(in) == 0 {
		return nil
	}
	return &in[0].Suspension
}

func stateOf(suspended bool) tenancyv1.TenancyState {
	if suspended {
		return tenancyv1.TenancyState_TENANCY_STATE_SUSPENDED
	}
	return tenancyv1.TenancyState_TENANCY_STATE_ACTIVE
}

func partyOf(role string) tenancyv1.SuspensionParty {
	if role == auth.RoleReseller {
		return tenancyv1.SuspensionParty_SUSPENSION_PARTY_RESELLER
	}
	return tenancyv1.SuspensionParty_SUSPENSION_PARTY_OPERATOR
}

// suspensionMessage is nil for nil.
func suspensionMessage(s *auth.Suspension) *tenancyv1.Suspension {
	if s == nil {
		return nil
	}
	return &tenancyv1.Suspension{Subject: s.Subject, Party: partyOf(s.Party), Reason: s.Reason, SuspendTime: timestamppb.New(s.Since)}
}

// shown is a suspension as the caller may read it: who exactly did it is for the operators, and for a
// reseller where it was the reseller.
func (h hold) shown(ctx context.Context) *tenancyv1.Suspension {
	m := suspensionMessage(&h.Suspension)
	c, _ := auth.From(ctx)
	if c.Role == auth.RoleOperator || c.Role == auth.RoleReseller && h.Party == auth.RoleReseller {
		m.Actor = h.actor
	}
	return m
}

// mayBegin is mayActFor for what is new: refused with TENANT_SUSPENDED while the tenant is suspended, unless
// an operator does it. The interceptor knows the caller's own tenant only, and for a few seconds what was.
func (s *Service) mayBegin(ctx context.Context, tx pgx.Tx, tenant string) error {
	row, err := s.mayActFor(ctx, tx, tenant)
	if err != nil {
		return err
	}
	return open(ctx, holds(row.Tenant, row.Reseller))
}

// open refuses what is new while a suspension holds; operators are not bound by it.
func open(ctx context.Context, in []hold) error {
	c, err := caller(ctx)
	if err != nil || len(in) == 0 || c.Role == auth.RoleOperator {
		return err
	}
	return in[0].Refusal()
}

// SuspendTenant lets a tenant begin nothing new. Operators and its reseller suspend independently of each
// other; a repeat changes nothing. States the fact TenantSuspended.
func (s *Service) SuspendTenant(ctx context.Context, req *tenancyv1.SuspendTenantRequest) (*tenancyv1.Tenant, error) {
	method := tenancyv1.TenancyService_SuspendTenant_FullMethodName
	return s.changeTenant(ctx, method, req.GetName(), req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.LockTenantRow) (bool, error) {
		t, now := &row.Tenant, pg.Time(s.now())
		if err := sameEtag(req.GetEtag(), t.Version, req.GetName()); err != nil {
			return false, err
		}
		at, reason, actor := slot(t, c.Role)
		if *at != nil {
			return false, nil
		}
		*at, *reason, *actor = &now, strings.TrimSpace(req.GetReason()), c.Actor()
		err := s.bus.Emit(ctx, tx, &tenancyv1.TenantSuspended{Tenant: req.GetName(), Party: partyOf(c.Role), SuspendTime: timestamppb.New(now)})
		if err != nil {
			return false, err
		}
		return true, audit(ctx, tx, "tenant.suspend", req.GetName(), map[string]string{"party": c.Role, "reason": *reason})
	})
}

// ResumeTenant lifts the caller's own suspension of a tenant, for an operator on request the reseller's too. A
// repeat changes nothing. States the fact TenantResumed.
func (s *Service) ResumeTenant(ctx context.Context, req *tenancyv1.ResumeTenantRequest) (*tenancyv1.Tenant, error) {
	method := tenancyv1.TenancyService_ResumeTenant_FullMethodName
	return s.changeTenant(ctx, method, req.GetName(), req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.LockTenantRow) (bool, error) {
		t := &row.Tenant
		if err := sameEtag(req.GetEtag(), t.Version, req.GetName()); err != nil {
			return false, err
		}
		parties := []string{c.Role}
		if req.GetAlsoReseller() && c.Role == auth.RoleOperator {
			parties = append(parties, auth.RoleReseller)
		}
		var lifted []string
		for _, party := range parties {
			if at, reason, actor := slot(t, party); *at != nil {
				*at, *reason, *actor = nil, "", ""
				lifted = append(lifted, party)
			}
		}
		left := holds(row.Tenant, row.Reseller)
		if len(lifted) == 0 {
			return false, notYours(req.GetName(), left)
		}
		for _, party := range lifted {
			err := s.bus.Emit(ctx, tx, &tenancyv1.TenantResumed{Tenant: req.GetName(), Party: partyOf(party), StillSuspended: len(left) > 0})
			if err != nil {
				return false, err
			}
		}
		return true, audit(ctx, tx, "tenant.resume", req.GetName(), map[string]string{"party": strings.Join(lifted, " ")})
	})
}

// changeTenant runs one change of a tenant's suspensions, once, and forgets what this process knew of callers.
func (s *Service) changeTenant(ctx context.Context, method, name, requestID string, req proto.Message,
	change func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.LockTenantRow) (bool, error),
) (*tenancyv1.Tenant, error) {
	resp, id := &tenancyv1.Tenant{}, segment(name, 1)
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, id, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mayActFor(ctx, tx, id); err != nil {
			return err
		}
		return rpc.Once(ctx, tx, method, requestID, req, resp, func() error {
			row, err := q(tx).LockTenant(ctx, id)
			if err != nil {
				return fmt.Errorf("tenancy: lock %s: %w", name, err)
			}
			changed, err := change(ctx, tx, c, &row)
			if err != nil {
				return err
			}
			if t := &row.Tenant; changed {
				t.Version++
				err = q(tx).SetTenantSuspensions(ctx, db.SetTenantSuspensionsParams{TenantID: id, Version: t.Version,
					OperatorSuspendTime: t.OperatorSuspendTime, OperatorSuspendReason: t.OperatorSuspendReason, OperatorSuspendActor: t.OperatorSuspendActor,
					ResellerSuspendTime: t.ResellerSuspendTime, ResellerSuspendReason: t.ResellerSuspendReason, ResellerSuspendActor: t.ResellerSuspendActor})
				if err != nil {
					return fmt.Errorf("tenancy: change %s: %w", name, err)
				}
			}
			fillTenant(ctx, resp, db.GetTenantRow(row))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	s.forgetKeys()
	return resp, nil
}

// slot is where the suspension of a party is kept.
func slot(t *db.Tenant, party string) (at **time.Time, reason, actor *string) {
	if party == auth.RoleReseller {
		return &t.ResellerSuspendTime, &t.ResellerSuspendReason, &t.ResellerSuspendActor
	}
	return &t.OperatorSuspendTime, &t.OperatorSuspendReason, &t.OperatorSuspendActor
}

// notYours answers one who has nothing to lift: nothing when nothing holds, else who can.
func notYours(name string, left []hold) error {
	if len(left) == 0 {
		return nil
	}
	h := left[0]
	since := h.Since.UTC().Format(time.RFC3339)
	switch {
	case h.Party == auth.RoleReseller:
		return fault.Precondition("SUSPENDED_BY_RESELLER", "%s was suspended by its reseller on %s (%s): say also_reseller to lift that too", name, since, h.Reason)
	case h.Subject != name:
		return fault.Precondition("RESELLER_SUSPENDED", "%s, which %s belongs to, was suspended on %s (%s): an operator resumes the reseller", h.Subject, name, since, h.Reason)
	}
	return fault.Denied("SUSPENDED_BY_OPERATOR", "%s was suspended by an operator on %s (%s): an operator lifts it", name, since, h.Reason)
}

// sameEtag guards a change against another one meanwhile.
func sameEtag(given string, version int32, name string) error {
	if given == "" || given == etag(version) {
		return nil
	}
	return fault.Aborted("ETAG_MISMATCH", "%s was changed meanwhile: read it again and repeat the change", name).
		WithField("etag", "ETAG_MISMATCH", "is not the current one")
}

// SuspendReseller lets a reseller and all its tenants begin nothing new. A repeat changes nothing. States the
// fact ResellerSuspended.
func (s *Service) SuspendReseller(ctx context.Context, req *tenancyv1.SuspendResellerRequest) (*tenancyv1.Reseller, error) {
	method := tenancyv1.TenancyService_SuspendReseller_FullMethodName
	return s.changeReseller(ctx, method, req.GetName(), req.GetRequestId(), req.GetEtag(), req, func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.Reseller) (bool, error) {
		if row.SuspendTime != nil {
			return false, nil
		}
		now := pg.Time(s.now())
		row.SuspendTime, row.SuspendReason, row.SuspendActor = &now, strings.TrimSpace(req.GetReason()), c.Actor()
		err := s.bus.Emit(ctx, tx, &tenancyv1.ResellerSuspended{Reseller: req.GetName(), Party: partyOf(c.Role), SuspendTime: timestamppb.New(now)})
		if err != nil {
			return false, err
		}
		return true, audit(ctx, tx, "reseller.suspend", req.GetName(), map[string]string{"party": c.Role, "reason": row.SuspendReason})
	})
}

// ResumeReseller lifts it; suspensions of single tenants stay. A repeat changes nothing. States the fact
// ResellerResumed.
func (s *Service) ResumeReseller(ctx context.Context, req *tenancyv1.ResumeResellerRequest) (*tenancyv1.Reseller, error) {
	method := tenancyv1.TenancyService_ResumeReseller_FullMethodName
	return s.changeReseller(ctx, method, req.GetName(), req.GetRequestId(), req.GetEtag(), req, func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.Reseller) (bool, error) {
		if row.SuspendTime == nil {
			return false, nil
		}
		row.SuspendTime, row.SuspendReason, row.SuspendActor = nil, "", ""
		err := s.bus.Emit(ctx, tx, &tenancyv1.ResellerResumed{Reseller: req.GetName(), Party: partyOf(c.Role)})
		if err != nil {
			return false, err
		}
		return true, audit(ctx, tx, "reseller.resume", req.GetName(), map[string]string{"party": c.Role})
	})
}

func (s *Service) changeReseller(ctx context.Context, method, name, requestID, given string, req proto.Message,
	change func(ctx context.Context, tx pgx.Tx, c auth.Caller, row *db.Reseller) (bool, error),
) (*tenancyv1.Reseller, error) {
	c, err := caller(ctx)
	if err != nil {
		return nil, err
	}
	resp, id := &tenancyv1.Reseller{}, segment(name, 1)
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, method, requestID, req, resp, func() error {
			row, err := q(tx).LockReseller(ctx, id)
			if isNoRows(err) {
				return fault.NotFound("RESELLER_NOT_FOUND", "there is no reseller %s", name)
			}
			if err != nil {
				return fmt.Errorf("tenancy: lock %s: %w", name, err)
			}
			if err := sameEtag(given, row.Version, name); err != nil {
				return err
			}
			changed, err := change(ctx, tx, c, &row)
			if err != nil {
				return err
			}
			if changed {
				row.Version++
				err = q(tx).SetResellerSuspension(ctx, db.SetResellerSuspensionParams{ID: id, Version: row.Version,
					SuspendTime: row.SuspendTime, SuspendReason: row.SuspendReason, SuspendActor: row.SuspendActor})
				if err != nil {
					return fmt.Errorf("tenancy: change %s: %w", name, err)
				}
			}
			fillReseller(ctx, resp, row)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	s.forgetKeys()
	return resp, nil
}

// GetStanding answers the other services whether a tenant or reseller is suspended; what is not known is not.
func (s *Service) GetStanding(ctx context.Context, req *tenancyv1.GetStandingRequest) (*tenancyv1.GetStandingResponse, error) {
	held, err := s.standing(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &tenancyv1.GetStandingResponse{State: stateOf(held != nil), Suspension: suspensionMessage(held)}, nil
}

// standing is the suspension of tenants/{tenant} or resellers/{reseller} to be told, nil when there is none.
func (s *Service) standing(ctx context.Context, name string) (held *auth.Suspension, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var row db.GetTenantRow
		var err error
		if segment(name, 0) == ofTenants {
			row, err = q(tx).GetTenant(ctx, segment(name, 1))
		} else {
			row.Reseller, err = q(tx).GetReseller(ctx, segment(name, 1))
		}
		if isNoRows(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tenancy: read %s: %w", name, err)
		}
		held = first(holds(row.Tenant, row.Reseller))
		return nil
	})
	return held, err
}
