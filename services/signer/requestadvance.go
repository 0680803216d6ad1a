package signer

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// deed is an act with what the audit trail says of it.
type deed struct {
	request.Act
	action    string // in the trail, such as APPROVED
	detail    map[string]string
	documents []dossier.Digest
	heir      *db.SigningRequestParticipant // who takes the place (Reassign)
}

// perform does one deed to a request that is held, and writes all that follows from it: participants, the line
// of the trail, events and, when the request is over, the job of its bundle. On an error nothing may be kept.
func (s *Service) perform(ctx context.Context, tx pgx.Tx, r *requestRows, d deed) error {
	d.At = pg.Time(s.now())
	next, o, err := request.Next(r.machine(), d.Act)
	if err != nil {
		return refusal(err)
	}
	q := db.New(tx)
	for _, p := range r.take(next, d.Act, d.heir) {
		err := q.SaveRequestParticipant(ctx, db.SaveRequestParticipantParams{
			ID: p.ID, Standing: p.Standing, DelegateHolder: p.DelegateHolder, DelegateEmail: p.DelegateEmail, DelegateMayApprove: p.DelegateMayApprove,
			DelegateUntil: p.DelegateUntil, Seen: p.Seen, SeenByDelegate: p.SeenByDelegate, ViewedAt: p.ViewedAt, ActedAt: p.ActedAt, Reason: p.Reason, ChallengeID: p.ChallengeID,
		})
		if pg.Constraint(err) == "signing_request_participant_challenge" {
			return challengeElsewhere()
		}
		if err != nil {
			return fmt.Errorf("signer: save participant: %w", err)
		}
	}
	if d.heir != nil {
		if err := insertParticipant(ctx, q, d.heir); err != nil {
			return err
		}
		r.people = append(r.people, *d.heir)
	}
	if err := s.writeLine(ctx, tx, r, d); err != nil {
		return err
	}
	err = q.SaveSignatureRequest(ctx, db.SaveSignatureRequestParams{
		ID: r.row.ID, State: r.row.State, Step: r.row.Step, Sequence: r.row.Sequence, Head: r.row.Head, Hand: r.row.Hand, HandRequest: r.row.HandRequest,
		HandUntil: r.row.HandUntil, ClosedAt: r.row.ClosedAt, CloseReason: r.row.CloseReason, RemindedAt: r.row.RemindedAt,
	})
	if err != nil {
		return fmt.Errorf("signer: save signature request: %w", err)
	}
	if o.Closed {
		return s.jobs.InsertTx(ctx, tx, BundleArgs{Tenant: r.row.TenantID, Request: r.row.ID}, nil)
	}
	for _, id := range o.Asked {
		if err := s.call(storyOfRequest(ctx, r), tx, r, r.person(uuid.MustParse(id)), false); err != nil {
			return err
		}
	}
	return nil
}

func insertParticipant(ctx context.Context, q *db.Queries, p *db.SigningRequestParticipant) error {
	err := q.InsertRequestParticipant(ctx, db.InsertRequestParticipantParams{
		ID: p.ID, RequestID: p.RequestID, TenantID: p.TenantID, Step: p.Step, Ordinal: p.Ordinal, Role: p.Role, Standing: p.Standing,
		Holder: p.Holder, Email: p.Email, Credential: p.Credential, Language: p.Language, RequireLink: p.RequireLink,
	})
	if err != nil {
		return fmt.Errorf("signer: insert participant: %w", err)
	}
	return nil
}

// writeLine adds a line to the trail, and tells it: to the audit record, to the bus, and to who watches.
func (s *Service) writeLine(ctx context.Context, tx pgx.Tx, r *requestRows, d deed) error {
	if d.At.IsZero() {
		d.At = pg.Time(s.now())
	}
	participant := ""
	if d.Person != "" {
		participant = r.name() + "/participants/" + d.Person
	}
	r.row.Sequence++
	body, hash, err := dossier.Event{
		Request: r.name(), Sequence: r.row.Sequence, Time: d.At.UTC().Format(time.RFC3339Nano), Action: d.action, Actor: telemetry.Actor(ctx),
		Participant: participant, State: r.row.State, Detail: d.detail, Documents: d.documents,
	}.Encode(r.row.Head)
	if err != nil {
		return err
	}
	r.row.Head = hash
	q := db.New(tx)
	err = q.InsertRequestEvent(ctx, db.InsertRequestEventParams{RequestID: r.row.ID, Sequence: r.row.Sequence, TenantID: r.row.TenantID, Body: body, Sha256: hash})
	if err != nil {
		return fmt.Errorf("signer: write the trail: %w", err)
	}
	if err := q.NotifyRequest(ctx, db.NotifyRequestParams{Channel: s.requestChannel(), Request: r.row.ID.String()}); err != nil {
		return fmt.Errorf("signer: tell who watches: %w", err)
	}
	err = s.bus.Emit(storyOfRequest(ctx, r), tx, &signv1.SignatureRequestChanged{
		SignatureRequest: r.name(), Sequence: r.row.Sequence, Action: d.action, State: r.row.State, Participant: participant, Time: timestamppb.New(d.At),
	})
	if err != nil {
		return err
	}
	detail := map[string]string{"action": d.action, "sequence": fmt.Sprint(r.row.Sequence), "sha256": fmt.Sprintf("%x", hash)}
	if participant != "" {
		detail["participant"] = participant
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: "signature_request.advance", Resource: r.name(), Detail: detail})
}

// storyOfRequest puts all events of a request into one story.
func storyOfRequest(ctx context.Context, r *requestRows) context.Context {
	return bus.WithCorrelation(ctx, r.row.ID.String())
}

// call has a participant told by e-mail that it is their turn. Without an address the tenant's product does it.
func (s *Service) call(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant, reminder bool) error {
	if p.Email == "" {
		return nil
	}
	return s.bus.Emit(ctx, tx, &signv1.RequestParticipantCalled{
		SignatureRequest: r.name(), Participant: r.nameOf(p), Email: p.Email, Language: p.Language, Role: p.Role, Reminder: reminder,
		Deadline: timestamppb.New(r.row.Deadline),
	})
}

// onRequest does something to a request in one transaction, once for each request_id.
func (s *Service) onRequest(ctx context.Context, name requestName, method, requestID string, req proto.Message,
	do func(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant) error,
) (*signv1.SignatureRequest, error) {
	resp := &signv1.SignatureRequest{}
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, method, requestID, req, resp, func() error {
			r, err := lockRequest(ctx, db.New(tx), name)
			if err != nil {
				return err
			}
			if err := do(ctx, tx, r, r.person(name.participant)); err != nil {
				return err
			}
			proto.Merge(resp, requestMessage(r))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// who says in the trail in whose place somebody acted.
func who(p *db.SigningRequestParticipant, byDelegate bool, more map[string]string) map[string]string {
	d := map[string]string{}
	add := func(name, value string) {
		if value != "" {
			d[name] = value
		}
	}
	if byDelegate {
		d["by"] = "delegate"
		add("delegate_holder", p.DelegateHolder)
		add("delegate_email", p.DelegateEmail)
	} else {
		add("holder", p.Holder)
		add("email", p.Email)
	}
	maps.Copy(d, more)
	return d
}
