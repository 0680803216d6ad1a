package signer

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
)

// mediaTypes are those of the documents of a request, before and after a signature.
var mediaTypes = map[string][2]string{
	"CADES_ATTACHED": {"application/octet-stream", mimeSigned}, "CADES_PARALLEL": {mimeSigned, mimeSigned},
	"XADES_ENVELOPED": {"application/xml", "application/xml"}, "PADES": {"application/pdf", "application/pdf"},
}

func stampOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

func requestMessage(r *requestRows) *signv1.SignatureRequest {
	row := &r.row
	m := &signv1.SignatureRequest{
		Name: r.name(), Title: row.Title, Deadline: timestamppb.New(row.Deadline), Timestamp: row.Stamped, SealMandate: row.SealMandate,
		State: signv1.RequestState(signv1.RequestState_value["REQUEST_STATE_"+row.State]), CurrentStep: row.Step + 1, Requester: row.Requester,
		CreateTime: timestamppb.New(row.CreatedAt), CloseTime: stampOf(row.ClosedAt), CloseReason: row.CloseReason,
		Sequence: row.Sequence, HeadSha256: row.Head, BundleTime: stampOf(row.BundledAt), BundleNote: row.BundleNote,
	}
	if row.RemindSeconds > 0 {
		m.RemindInterval = durationpb.New(time.Duration(row.RemindSeconds) * time.Second)
	}
	for i := range r.docs {
		d := &r.docs[i]
		one := &signv1.RequestDocument{
			Position: d.Position, DisplayName: d.Name, Form: signv1.SignatureForm(signv1.SignatureForm_value[formPrefix+d.Form]),
			Original: blobMessage(refOf(row.TenantID, d.OriginalSha256, d.OriginalSize), mediaTypes[d.Form][0]),
		}
		if d.SignedSha256 != nil {
			one.Signed = blobMessage(refOf(row.TenantID, d.SignedSha256, *d.SignedSize), mediaTypes[d.Form][1])
		}
		m.Documents = append(m.Documents, one)
	}
	for _, n := range row.Needs {
		m.Steps = append(m.Steps, &signv1.RequestStep{Required: n})
	}
	for i := range r.people {
		step := m.Steps[r.people[i].Step]
		step.Participants = append(step.Participants, participantMessage(r, &r.people[i]))
	}
	return m
}

func participantMessage(r *requestRows, p *db.SigningRequestParticipant) *signv1.RequestParticipant {
	m := &signv1.RequestParticipant{
		Name: r.nameOf(p), Role: signv1.ParticipantRole(signv1.ParticipantRole_value["PARTICIPANT_ROLE_"+p.Role]), Holder: p.Holder, Email: p.Email,
		Credential: p.Credential, Language: p.Language, RequireLink: p.RequireLink,
		State:    signv1.ParticipantState(signv1.ParticipantState_value["PARTICIPANT_STATE_"+p.Standing]),
		ViewTime: stampOf(p.ViewedAt), ActTime: stampOf(p.ActedAt), Reason: p.Reason,
	}
	if p.DelegateUntil != nil {
		m.Delegate = &signv1.RequestDelegate{Holder: p.DelegateHolder, Email: p.DelegateEmail, MayApprove: p.DelegateMayApprove, ExpireTime: timestamppb.New(*p.DelegateUntil)}
	}
	return m
}

// GetSignatureRequest reads a request.
func (s *Service) GetSignatureRequest(ctx context.Context, req *signv1.GetSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseRequestName(req.GetName())
	if err != nil {
		return nil, err
	}
	var r *requestRows
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err = readRequest(ctx, db.New(tx), name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return requestMessage(r), nil
}

// ListSignatureRequests lists a tenant's requests, or those that concern one person, newest first.
func (s *Service) ListSignatureRequests(ctx context.Context, req *signv1.ListSignatureRequestsRequest) (*signv1.ListSignatureRequestsResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	if req.GetWaiting() && req.GetPerson() == "" {
		return nil, fault.Invalid("PERSON_MISSING", "person: say for whom requests are to wait: a holder or an address").
			WithField("person", "PERSON_MISSING", "is missing")
	}
	state := ""
	if req.GetState() != 0 {
		state = req.GetState().String()[len("REQUEST_STATE_"):]
	}
	p := db.ListSignatureRequestsParams{
		TenantID: ids[0], Before: lastID, State: state, Person: req.GetPerson(), Waiting: req.GetWaiting(), Now: pg.Time(s.now()),
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = defaultPage
	}
	p.Page = int32(size + 1) //nolint:gosec // at most 1001
	filter := pg.FilterHash("signatureRequests", ids[0], state, p.Person, fmt.Sprint(p.Waiting))
	if _, err := pg.DecodePageToken(req.GetPageToken(), filter, &p.Before); err != nil {
		return nil, err
	}
	resp := &signv1.ListSignatureRequestsResponse{}
	err := s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.ListSignatureRequests(ctx, p)
		if err != nil {
			return fmt.Errorf("signer: list signature requests: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.SigningRequest) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		resp.SignatureRequests, err = presentRequests(ctx, q, rows)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// presentRequests reads the parts of a page in two statements.
func presentRequests(ctx context.Context, q *db.Queries, rows []db.SigningRequest) ([]*signv1.SignatureRequest, error) {
	byID := map[uuid.UUID]*requestRows{}
	var ids []uuid.UUID
	for _, row := range rows {
		byID[row.ID] = &requestRows{row: row}
		ids = append(ids, row.ID)
	}
	docs, err := q.RequestDocuments(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("signer: read documents of requests: %w", err)
	}
	for _, d := range docs {
		byID[d.RequestID].docs = append(byID[d.RequestID].docs, d)
	}
	people, err := q.RequestParticipants(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("signer: read participants: %w", err)
	}
	for _, p := range people {
		byID[p.RequestID].people = append(byID[p.RequestID].people, p)
	}
	var out []*signv1.SignatureRequest
	for _, id := range ids {
		out = append(out, requestMessage(byID[id]))
	}
	return out, nil
}
