package signer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// requestRows is a signature request with all that belongs to it.
type requestRows struct {
	row    db.SigningRequest
	docs   []db.SigningRequestDocument
	people []db.SigningRequestParticipant
}

func nameOfRequest(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/signatureRequests/" + id.String()
}

func (r *requestRows) name() string { return nameOfRequest(r.row.TenantID, r.row.ID) }

func (r *requestRows) nameOf(p *db.SigningRequestParticipant) string {
	return r.name() + "/participants/" + p.ID.String()
}

func noRequest(name string) error {
	return fault.NotFound("SIGNATURE_REQUEST_NOT_FOUND", "there is no signature request %s", name)
}

func noParticipant(name string) error {
	return fault.NotFound(request.CodeNobody, "there is no participant %s", name)
}

// requestName is the parsed name of a request, or of a participant of one.
type requestName struct {
	tenant          string
	id, participant uuid.UUID
	full            string
}

func parseRequestName(name string) (requestName, error) {
	ids, ok := cut(name, "tenants", "signatureRequests")
	if !ok {
		return requestName{}, fault.Invalid("NAME_INVALID", "name: %q is not tenants/{tenant}/signatureRequests/{signature_request}", name)
	}
	id, err := uuid.Parse(ids[1])
	if err != nil {
		return requestName{}, noRequest(name)
	}
	return requestName{tenant: ids[0], id: id, full: name}, nil
}

func parseParticipantName(name string) (requestName, error) {
	ids, ok := cut(name, "tenants", "signatureRequests", "participants")
	if !ok {
		return requestName{}, fault.Invalid("NAME_INVALID", "participant: %q is not tenants/{tenant}/signatureRequests/{signature_request}/participants/{participant}", name)
	}
	id, err := uuid.Parse(ids[1])
	if err != nil {
		return requestName{}, noParticipant(name)
	}
	participant, err := uuid.Parse(ids[2])
	if err != nil {
		return requestName{}, noParticipant(name)
	}
	return requestName{tenant: ids[0], id: id, participant: participant, full: name}, nil
}

// lockRequest reads a request and holds it: whatever else is to happen to it waits.
func lockRequest(ctx context.Context, q *db.Queries, name requestName) (*requestRows, error) {
	row, err := q.LockSignatureRequest(ctx, db.LockSignatureRequestParams{ID: name.id, TenantID: name.tenant})
	return withParts(ctx, q, name, row, err)
}

// readRequest reads a request as it is now.
func readRequest(ctx context.Context, q *db.Queries, name requestName) (*requestRows, error) {
	row, err := q.GetSignatureRequest(ctx, db.GetSignatureRequestParams{ID: name.id, TenantID: name.tenant})
	return withParts(ctx, q, name, row, err)
}

func withParts(ctx context.Context, q *db.Queries, name requestName, row db.SigningRequest, err error) (*requestRows, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noRequest(name.full)
	}
	if err != nil {
		return nil, fmt.Errorf("signer: read signature request: %w", err)
	}
	r := &requestRows{row: row}
	if r.docs, err = q.RequestDocuments(ctx, []uuid.UUID{row.ID}); err != nil {
		return nil, fmt.Errorf("signer: read documents of a request: %w", err)
	}
	if r.people, err = q.RequestParticipants(ctx, []uuid.UUID{row.ID}); err != nil {
		return nil, fmt.Errorf("signer: read participants: %w", err)
	}
	if name.participant != uuid.Nil && r.person(name.participant) == nil {
		return nil, noParticipant(name.full)
	}
	return r, nil
}

func (r *requestRows) person(id uuid.UUID) *db.SigningRequestParticipant {
	i := slices.IndexFunc(r.people, func(p db.SigningRequestParticipant) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return &r.people[i]
}

// shown is what is before a participant of one document: digest and size. In a p7m that is made here
// everybody signs the original; elsewhere it is the file with the signatures made so far.
func shown(d *db.SigningRequestDocument) ([]byte, int64) {
	if d.SignedSha256 == nil || d.Form == "CADES_ATTACHED" {
		return d.OriginalSha256, d.OriginalSize
	}
	return d.SignedSha256, *d.SignedSize
}

// hashes are the digests of what is before a participant now, sorted.
func (r *requestRows) hashes() [][]byte {
	var all [][]byte
	for i := range r.docs {
		sum, _ := shown(&r.docs[i])
		all = append(all, sum)
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

// digest stands for the documents in the state machine: it is that of a challenge over them.
func (r *requestRows) digest() string { return hex.EncodeToString(digestOf(r.hashes())) }

// digests are the documents as a line of the trail names them.
func (r *requestRows) digests() []dossier.Digest {
	var all []dossier.Digest
	for i := range r.docs {
		sum, _ := shown(&r.docs[i])
		all = append(all, dossier.Digest{Position: int(r.docs[i].Position), Seen: hex.EncodeToString(sum)})
	}
	return all
}

// machine is the request as its state machine sees it.
func (r *requestRows) machine() request.Request {
	m := request.Request{State: request.State(r.row.State), Step: int(r.row.Step), Deadline: r.row.Deadline, Documents: r.digest()}
	for _, n := range r.row.Needs {
		m.Needs = append(m.Needs, int(n))
	}
	for i := range r.people {
		p := &r.people[i]
		one := request.Person{
			ID: p.ID.String(), Role: request.Role(p.Role), Step: int(p.Step), Standing: request.Standing(p.Standing),
			Seen: hex.EncodeToString(p.Seen), SeenByDelegate: hex.EncodeToString(p.SeenByDelegate),
			Deputy: p.DelegateUntil != nil, DeputyApproves: p.DelegateMayApprove,
		}
		if p.DelegateUntil != nil {
			one.DeputyUntil = *p.DelegateUntil
		}
		m.People = append(m.People, one)
	}
	return m
}

// take writes what the state machine says into the rows, and gives those of the participants that changed.
func (r *requestRows) take(m request.Request, a request.Act, heir *db.SigningRequestParticipant) []*db.SigningRequestParticipant {
	var changed []*db.SigningRequestParticipant
	for i := range r.people {
		p, now := &r.people[i], m.People[i]
		own := p.ID.String() == a.Person
		if own && (now.Standing == request.Done || now.Standing == request.Declined) && p.Standing != string(now.Standing) {
			p.ActedAt = &a.At
		}
		if p.Standing != string(now.Standing) || own {
			changed = append(changed, p)
		}
		p.Standing, p.Seen, p.SeenByDelegate = string(now.Standing), fromHex(now.Seen), fromHex(now.SeenByDelegate)
		if own && a.Verb == request.View && !a.ByDeputy { // a challenge comes after the signer's own view
			p.ViewedAt = &a.At
		}
		if own && a.Verb == request.Delegate {
			p.DelegateMayApprove, p.DelegateUntil = now.DeputyApproves, nil
			if now.Deputy {
				p.DelegateUntil = &now.DeputyUntil
			}
		}
	}
	if heir != nil {
		heir.Standing = string(m.People[len(m.People)-1].Standing)
	}
	r.row.State, r.row.Step = string(m.State), int32(m.Step) //nolint:gosec // at most 20
	if m.State != request.Open {
		r.row.ClosedAt, r.row.Hand, r.row.HandRequest, r.row.HandUntil = &a.At, nil, "", nil
	}
	return changed
}

func fromHex(s string) []byte {
	raw, err := hex.DecodeString(s)
	if err != nil || s == "" {
		return nil
	}
	return raw
}

// refusal is a refusal of the state machine as callers see it.
func refusal(err error) error {
	var no *request.Refusal
	switch {
	case !errors.As(err, &no):
		return err
	case no.Code == request.CodeNobody:
		return fault.NotFound(no.Code, "%s", no.Text)
	}
	return fault.Precondition(no.Code, "%s", no.Text)
}
