package signer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/provider"
)

const (
	longestCalls = 10 * time.Minute // all the calls of one request together
)

var errInTheWay = errors.New("another call is in the way")

func outcomeUnknown() error {
	return fault.Precondition(provider.OutcomeUnknown,
		"the provider's answer was lost: the documents may have been signed there. Nothing is repeated: look at the provider's own list, and begin anew with another challenge and another password")
}

// tell is what the caller hears of a provider's answer. Wrong factors are told as those of keys in Vault.
func (s *Service) tell(answer error) error {
	var e *provider.Error
	if errors.As(answer, &e) && e.Code == provider.FactorsWrong {
		return wrong()
	}
	if provider.OutcomeOf(answer) == provider.Unknown {
		return fault.Of(outcomeUnknown()).With(answer)
	}
	return provider.Fault(answer)
}

// budget is how long n calls may take.
func (h *held) budget(n int) time.Duration {
	return min(time.Duration(n)*h.remote.cfg.Timeout, longestCalls)
}

// leave is the context of calls to a provider: the caller may go away, the calls go on to their end, for
// what they did has to be written down.
func (s *Service) leave(ctx context.Context, h *held, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), h.budget(n)+h.remote.cfg.Timeout/2)
}

// writeCall writes a call down, which is then made once. Error: errInTheWay.
func (s *Service) writeCall(ctx context.Context, q *db.Queries, h *held, step string, hashes int) (uuid.UUID, error) {
	id, err := pg.NewID()
	if err != nil {
		return id, err
	}
	now, calls := pg.Time(s.now()), 1
	if step == "SIGN" {
		calls = hashes
	}
	n, err := q.IntendCall(ctx, db.IntendCallParams{
		ID: id, ChallengeID: h.challenge.ID, Caller: h.challenge.Caller, Step: step, Hashes: int32(hashes), //nolint:gosec // at most 500
		At: now, AnswerBy: now.Add(h.budget(calls) + h.remote.cfg.Timeout),
	})
	if err != nil {
		return id, fmt.Errorf("signer: write call: %w", err)
	}
	if n == 0 {
		return id, errInTheWay
	}
	return id, nil
}

// inTheWay says what keeps a call from being made. One that nobody can answer any more becomes unknown here.
func (s *Service) inTheWay(ctx context.Context, tenant string, challenge uuid.UUID, step string, err error) error {
	if !errors.Is(err, errInTheWay) {
		return err
	}
	lost := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return s.loseCalls(ctx, tx, &challenge) })
	if lost != nil {
		return lost
	}
	var row db.ProviderCall
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).CallInTheWay(ctx, challenge)
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows) && step == "SIGN":
		return notAnswered() // it has ended in between: the repeated request sees how
	case errors.Is(err, pgx.ErrNoRows):
		return fault.Precondition("CHALLENGE_CLOSED", "the challenge is authorized already, or its time is over: make another")
	case err != nil:
		return fmt.Errorf("signer: read call: %w", err)
	case row.State == "SENT":
		return notAnswered()
	}
	return outcomeUnknown()
}

func notAnswered() error {
	f := fault.Unavailable("REQUEST_IN_HAND", "the provider was asked and has not answered yet: repeat the same request in a moment")
	f.RetryAfter = time.Second
	return f
}

// endCall writes down how a call ended. With an unknown outcome the challenge ends with it.
func (s *Service) endCall(ctx context.Context, tx pgx.Tx, h *held, call uuid.UUID, answer error, signed int) error {
	q := db.New(tx)
	outcome := provider.OutcomeOf(answer)
	code := ""
	if answer != nil {
		code = fault.Of(provider.Fault(answer)).Code
	}
	state := map[provider.Outcome]string{
		provider.Done: "DONE", provider.UserFault: "REFUSED", provider.Refused: "REFUSED", provider.Busy: "BUSY", provider.Unknown: "UNKNOWN",
	}[outcome]
	n, err := q.EndCall(ctx, db.EndCallParams{ID: call, State: state, Code: code, Signed: int32(signed), At: ptr(pg.Time(s.now()))}) //nolint:gosec // at most 500
	if err != nil {
		return fmt.Errorf("signer: end call: %w", err)
	}
	if n == 0 { // its time was over, and it was given up
		return outcomeUnknown()
	}
	if outcome != provider.Unknown {
		return nil
	}
	if err = q.LoseChallenge(ctx, h.challenge.ID); err != nil {
		return fmt.Errorf("signer: lose challenge: %w", err)
	}
	if err = q.ForgetGrant(ctx, h.challenge.ID); err != nil {
		return fmt.Errorf("signer: forget grant: %w", err)
	}
	s.log.WarnContext(ctx, "outcome at a provider is not known", "provider", h.holding.Provider, "call", call, "code", code)
	return telemetry.Audit(ctx, tx, telemetry.Act{
		Action: "provider.outcome_unknown", Resource: nameOfCall(h.credential.TenantID, call), Detail: map[string]string{"provider": h.holding.Provider, "challenge": h.name(), "code": code},
	})
}

// loseCalls gives up calls whose time is over: whoever made them ended before it could write an answer down.
func (s *Service) loseCalls(ctx context.Context, tx pgx.Tx, one *uuid.UUID) error {
	rows, err := db.New(tx).LoseCalls(ctx, db.LoseCallsParams{At: ptr(pg.Time(s.now())), One: one})
	if err != nil {
		return fmt.Errorf("signer: lose calls: %w", err)
	}
	for _, r := range rows {
		s.log.WarnContext(ctx, "outcome at a provider is not known: nobody wrote an answer down", "provider", r.Provider, "call", r.ID, "step", r.Step)
		actx := pg.WithTenant(ctx, r.TenantID)
		if one == nil {
			actx = telemetry.WithActor(actx, "service:signer")
		}
		err = telemetry.Audit(actx, tx, telemetry.Act{
			Action: "provider.outcome_unknown", Resource: nameOfCall(r.TenantID, r.ID), Detail: map[string]string{"provider": r.Provider, "step": r.Step},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func nameOfCall(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/providerCalls/" + id.String()
}

const callPrefix = "PROVIDER_CALL_STATE_"

func callMessage(r db.ListCallsRow) *signv1.ProviderCall {
	m := &signv1.ProviderCall{
		Name: nameOfCall(r.TenantID, r.ID), Provider: r.Provider, Step: r.Step, HashCount: r.Hashes, SignatureCount: r.Signed,
		Challenge: nameOfChallenge(db.Credential{TenantID: r.TenantID, CompanyID: r.CompanyID, ID: r.CredentialID}, r.ChallengeID),
		State:     signv1.ProviderCallState(signv1.ProviderCallState_value[callPrefix+r.State]), Code: r.Code, SendTime: timestamppb.New(r.SentAt),
		Resolution: signv1.ProviderCallResolution(signv1.ProviderCallResolution_value["PROVIDER_CALL_RESOLUTION_"+r.Resolution]), Note: r.Note,
	}
	if r.EndedAt != nil {
		m.EndTime = timestamppb.New(*r.EndedAt)
	}
	if r.ResolvedAt != nil {
		m.ResolveTime = timestamppb.New(*r.ResolvedAt)
	}
	return m
}

// ListProviderCalls lists a tenant's calls, newest first.
func (s *Service) ListProviderCalls(ctx context.Context, req *signv1.ListProviderCallsRequest) (*signv1.ListProviderCallsResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	state := ""
	if req.GetState() != signv1.ProviderCallState_PROVIDER_CALL_STATE_UNSPECIFIED {
		state = strings.TrimPrefix(req.GetState().String(), callPrefix)
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("providerCalls", ids[0], state)
	if size == 0 {
		size = defaultPage
	}
	if _, err := pg.DecodePageToken(req.GetPageToken(), filter, &before); err != nil {
		return nil, err
	}
	var rows []db.ListCallsRow
	err := s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = db.New(tx).ListCalls(ctx, db.ListCallsParams{TenantID: ids[0], Before: before, State: state, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListProviderCallsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListCallsRow) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		resp.ProviderCalls = append(resp.ProviderCalls, callMessage(r))
	}
	return resp, nil
}

// ResolveProviderCall writes down what somebody found out. It opens nothing again, but for an invoice, which goes on: what
// was signed there, if it was, is in nobody's hands.
func (s *Service) ResolveProviderCall(ctx context.Context, req *signv1.ResolveProviderCallRequest) (*signv1.ProviderCall, error) {
	missing := fault.NotFound("PROVIDER_CALL_NOT_FOUND", "there is no call %s", req.GetName())
	ids, ok := cut(req.GetName(), "tenants", "providerCalls")
	if !ok {
		return nil, missing
	}
	id, err := uuid.Parse(ids[1])
	if err != nil {
		return nil, missing
	}
	var row db.GetCallRow
	resolution := strings.TrimPrefix(req.GetResolution().String(), "PROVIDER_CALL_RESOLUTION_")
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.ResolveCall(ctx, db.ResolveCallParams{ID: id, Resolution: resolution, Note: req.GetNote(), At: ptr(pg.Time(s.now()))})
		if err != nil {
			return fmt.Errorf("signer: resolve call: %w", err)
		}
		row, err = q.GetCall(ctx, id)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return missing
		case err != nil:
			return fmt.Errorf("signer: read call: %w", err)
		case n == 0 && (row.State != "RESOLVED" || row.Resolution != resolution):
			return fault.Precondition("PROVIDER_CALL_STATE", "the call is %s: only one whose outcome is unknown is resolved, once", row.State)
		case n == 0:
			return nil
		}
		waiting, err := q.ResumeUnknown(ctx, id)
		if err != nil {
			return fmt.Errorf("signer: resume: %w", err)
		}
		if err := s.promise(ctx, tx, ids[0], waiting); err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "provider.resolve", Resource: req.GetName(), Detail: map[string]string{"resolution": resolution, "note": req.GetNote()},
		})
	})
	if err != nil {
		return nil, err
	}
	return callMessage(db.ListCallsRow(row)), nil
}
