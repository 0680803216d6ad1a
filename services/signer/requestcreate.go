package signer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cms"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

const (
	longestRequest  = 366 * 24 * time.Hour
	shortestRemind  = time.Hour
	detachedForm    = "CADES_DETACHED"
	italianLanguage = "it"
)

// CreateSignatureRequest keeps the documents, opens the request and asks the first step.
func (s *Service) CreateSignatureRequest(ctx context.Context, req *signv1.CreateSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	in, tenant := req.GetSignatureRequest(), ids[0]
	if err := s.checkRequest(in); err != nil {
		return nil, err
	}
	r := &requestRows{}
	kept, err := s.keepDocuments(ctx, tenant, in, r)
	if err != nil {
		return nil, err
	}
	if err := s.draftRequest(ctx, tenant, in, r); err != nil {
		return nil, err
	}
	resp := &signv1.SignatureRequest{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := rpc.Once(ctx, tx, signv1.SignatureRequestService_CreateSignatureRequest_FullMethodName, req.GetRequestId(), req, resp, func() error {
			if err := s.checkAuthorities(ctx, q, r); err != nil {
				return err
			}
			if err := s.insertRequest(ctx, tx, r); err != nil {
				return err
			}
			proto.Merge(resp, requestMessage(r))
			return nil
		})
		if err != nil {
			return err
		}
		return forgetMade(ctx, q, tenant, kept)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func badRequest(field, code, format string, a ...any) error {
	why := fmt.Sprintf(format, a...)
	field = "signature_request." + field
	return fault.Invalid(code, "%s: %s", field, why).WithField(field, code, why)
}

// checkRequest says what cannot be, as far as the request alone tells.
func (s *Service) checkRequest(in *signv1.SignatureRequest) error {
	now := s.now()
	if deadline := in.GetDeadline().AsTime(); !deadline.After(now) || deadline.Sub(now) > longestRequest {
		return badRequest("deadline", "DEADLINE_RANGE", "%s is not within the next 366 days", deadline.Format(time.RFC3339))
	}
	if d := in.GetRemindInterval(); d != nil && d.AsDuration() < shortestRemind {
		return badRequest("remind_interval", "REMIND_INTERVAL", "%s is less than an hour", d.AsDuration())
	}
	if in.GetTimestamp() && len(s.stamps) == 0 {
		return noAuthorities()
	}
	for i, d := range in.GetDocuments() {
		if d.GetSource().GetContent() == nil && d.GetSource().GetBlob() == nil {
			return badRequest(fmt.Sprintf("documents[%d].source", i), "DOCUMENT_EMPTY", "has no bytes and no blob: who signs has to see the document")
		}
	}
	for i, step := range in.GetSteps() {
		if int(step.GetRequired()) > len(step.GetParticipants()) {
			return badRequest(fmt.Sprintf("steps[%d].required", i), "STEP_REQUIRED", "%d of %d participants cannot be", step.GetRequired(), len(step.GetParticipants()))
		}
		for j, p := range step.GetParticipants() {
			if err := checkParticipant(fmt.Sprintf("steps[%d].participants[%d]", i, j), p); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkParticipant(field string, p *signv1.RequestParticipant) error {
	signer := p.GetRole() == signv1.ParticipantRole_PARTICIPANT_ROLE_SIGNER
	switch {
	case signer && p.GetHolder() == "" && p.GetCredential() == "":
		return badRequest(field, "SIGNER_UNKNOWN", "a signer is a holder or a credential: an address alone has no key")
	case signer && p.GetRequireLink():
		return badRequest(field, "LINK_FOR_APPROVER", "require_link is for approvers: a signature needs PIN and password")
	case !signer && p.GetCredential() != "":
		return badRequest(field, "CREDENTIAL_FOR_SIGNER", "an approver has no credential")
	case !signer && p.GetHolder() == "" && p.GetEmail() == "":
		return badRequest(field, "APPROVER_UNKNOWN", "an approver is a holder or an address")
	case p.GetRequireLink() && p.GetEmail() == "":
		return badRequest(field, "EMAIL_MISSING", "require_link needs the address that the code goes to")
	}
	return nil
}

// keepDocuments stores the documents of a request, each digest once, and gives their digests. They are written down first: of a
// request that is refused, or whose process dies before there are rows, they are found all the same when they are to be destroyed.
func (s *Service) keepDocuments(ctx context.Context, tenant string, in *signv1.SignatureRequest, r *requestRows) ([][]byte, error) {
	refs, total := make([]blob.Ref, len(in.GetDocuments())), int64(0)
	hashes := make([][]byte, len(refs))
	for i, d := range in.GetDocuments() {
		refs[i] = blob.Of(tenant, d.GetSource().GetContent())
		var err error
		if b := d.GetSource().GetBlob(); b != nil {
			if refs[i], err = refFrom(tenant, fmt.Sprintf("signature_request.documents[%d].source.blob", i), b); err != nil {
				return nil, err
			}
		}
		if total, err = s.withSize(total, refs[i].Size); err != nil {
			return nil, err
		}
		hashes[i] = refs[i].SHA256[:]
	}
	if _, err := sortedHashes(hashes); err != nil {
		return nil, err
	}
	release, err := s.held.hold(ctx, total)
	if err != nil {
		return nil, err
	}
	defer release()
	contents := make([][]byte, len(refs))
	for i, d := range in.GetDocuments() {
		contents[i] = d.GetSource().GetContent()
		if d.GetSource().GetBlob() != nil {
			if contents[i], err = s.blobs.Get(ctx, refs[i]); err != nil {
				return nil, err
			}
		}
		if err := signable(fmt.Sprintf("documents[%d].source", i), d.GetForm(), contents[i]); err != nil {
			return nil, err
		}
		r.docs = append(r.docs, db.SigningRequestDocument{
			Position: int32(i + 1), TenantID: tenant, Name: d.GetDisplayName(), Form: output{form: d.GetForm()}.name(), //nolint:gosec // at most 50
			OriginalSha256: hashes[i], OriginalSize: refs[i].Size,
		})
	}
	if err := s.noteMade(ctx, tenant, hashes, contents); err != nil {
		return nil, err
	}
	_, err = blob.PutAll(ctx, s.blobs, tenant, contents)
	return hashes, err
}

// signable looks at what a document begins with: whoever asks for signatures is told, not the last signer.
func signable(field string, form signv1.SignatureForm, content []byte) error {
	var err error
	switch {
	case len(content) == 0:
		return badRequest(field, "DOCUMENT_EMPTY", "has no bytes")
	case form == signv1.SignatureForm_SIGNATURE_FORM_PADES && !bytes.HasPrefix(content, []byte("%PDF-")):
		err = errors.New("it is no PDF")
	case form == signv1.SignatureForm_SIGNATURE_FORM_CADES_PARALLEL:
		_, err = cms.Parse(content)
	case form == signv1.SignatureForm_SIGNATURE_FORM_XADES_ENVELOPED && !bytes.Contains(content[:min(len(content), 1024)], []byte("<")):
		err = errors.New("it is no XML")
	}
	if err != nil {
		return badRequest(field, "DOCUMENT_NOT_SIGNABLE", "a document cannot be signed in this form: %v", err)
	}
	return nil
}

// draftRequest makes the rows of a new request.
func (s *Service) draftRequest(ctx context.Context, tenant string, in *signv1.SignatureRequest, r *requestRows) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	r.row = db.SigningRequest{
		ID: id, TenantID: tenant, Title: in.GetTitle(), Requester: callerOf(ctx), Deadline: pg.Time(in.GetDeadline().AsTime()), Stamped: in.GetTimestamp(),
		RemindSeconds: int64(in.GetRemindInterval().AsDuration() / time.Second), SealMandate: in.GetSealMandate(), Head: dossier.Beginning, CreatedAt: pg.Time(s.now()),
	}
	for i := range r.docs {
		r.docs[i].RequestID = id
	}
	var people []request.Person
	var needs []int
	for i, step := range in.GetSteps() {
		needs = append(needs, int(step.GetRequired()))
		for _, p := range step.GetParticipants() {
			row, err := draftParticipant(r, i, p)
			if err != nil {
				return err
			}
			r.people = append(r.people, *row)
			people = append(people, request.Person{ID: row.ID.String(), Role: request.Role(row.Role), Step: i})
		}
	}
	m, _ := request.New(people, needs, r.digest(), r.row.Deadline)
	r.row.State = string(m.State)
	for _, n := range m.Needs {
		r.row.Needs = append(r.row.Needs, int32(n)) //nolint:gosec // at most 50
	}
	for i, p := range m.People {
		r.people[i].Standing = string(p.Standing)
	}
	return nil
}

func draftParticipant(r *requestRows, step int, p *signv1.RequestParticipant) (*db.SigningRequestParticipant, error) {
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	return &db.SigningRequestParticipant{
		ID: id, RequestID: r.row.ID, TenantID: r.row.TenantID, Step: int32(step), Ordinal: int32(len(r.people)), //nolint:gosec // at most 1000
		Role: p.GetRole().String()[len("PARTICIPANT_ROLE_"):], Holder: p.GetHolder(), Email: p.GetEmail(), Credential: p.GetCredential(),
		Language: cmp.Or(p.GetLanguage(), italianLanguage), RequireLink: p.GetRequireLink(),
	}, nil
}

// checkAuthorities looks whether the credentials are persons', and whether the mandate of the seal seals.
func (s *Service) checkAuthorities(ctx context.Context, q *db.Queries, r *requestRows) error {
	for i := range r.people {
		if err := checkCredential(ctx, q, r.people[i].Credential); err != nil {
			return err
		}
	}
	if r.row.SealMandate == "" {
		return nil
	}
	name, id, err := parseMandateName(r.row.SealMandate)
	if err != nil {
		return err
	}
	m, err := q.GetMandate(ctx, db.GetMandateParams{ID: id, CredentialID: name.id})
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.NotFound("MANDATE_NOT_FOUND", "there is no mandate %s", r.row.SealMandate)
	}
	if err != nil {
		return fmt.Errorf("signer: read mandate: %w", err)
	}
	if !slices.Contains(m.Forms, detachedForm) || m.RevokedAt != nil || !m.ValidUntil.After(r.row.CreatedAt) {
		return badRequest("seal_mandate", "MANDATE_REFUSED", "the mandate does not allow %s now: make one that does", detachedForm)
	}
	c, err := q.GetCredential(ctx, m.CredentialID)
	if err != nil {
		return fmt.Errorf("signer: read credential: %w", err)
	}
	_, err = s.heirUnder(ctx, q, c, m)
	return err
}

func checkCredential(ctx context.Context, q *db.Queries, credential string) error {
	if credential == "" {
		return nil
	}
	name, err := parseCredentialName("name", credential)
	if err != nil {
		return err
	}
	_, err = personal(ctx, q, name)
	return err
}

// insertRequest writes a new request, its first line, and the job that watches its time.
func (s *Service) insertRequest(ctx context.Context, tx pgx.Tx, r *requestRows) error {
	q, row := db.New(tx), &r.row
	err := q.InsertSignatureRequest(ctx, db.InsertSignatureRequestParams{
		ID: row.ID, TenantID: row.TenantID, Title: row.Title, Requester: row.Requester, Needs: row.Needs, Deadline: row.Deadline,
		RemindSeconds: row.RemindSeconds, Stamped: row.Stamped, SealMandate: row.SealMandate, Head: row.Head, CreatedAt: row.CreatedAt,
	})
	if err != nil {
		return fmt.Errorf("signer: insert signature request: %w", err)
	}
	for i := range r.docs {
		d := &r.docs[i]
		err := q.InsertRequestDocument(ctx, db.InsertRequestDocumentParams{
			RequestID: d.RequestID, Position: d.Position, TenantID: d.TenantID, Name: d.Name, Form: d.Form, OriginalSha256: d.OriginalSha256, OriginalSize: d.OriginalSize,
		})
		if err != nil {
			return fmt.Errorf("signer: insert document of a request: %w", err)
		}
	}
	for i := range r.people {
		if err := insertParticipant(ctx, q, &r.people[i]); err != nil {
			return err
		}
	}
	title := sha256.Sum256([]byte(row.Title))
	first := deed{Act: request.Act{At: row.CreatedAt}, action: "CREATED", documents: r.digests(), detail: map[string]string{
		"title_sha256": fmt.Sprintf("%x", title), "deadline": row.Deadline.UTC().Format(time.RFC3339), "participants": stepsText(r),
	}}
	if err := s.writeLine(ctx, tx, r, first); err != nil {
		return err
	}
	err = q.SaveSignatureRequest(ctx, db.SaveSignatureRequestParams{ID: row.ID, State: row.State, Step: row.Step, Sequence: row.Sequence, Head: row.Head})
	if err != nil {
		return fmt.Errorf("signer: save signature request: %w", err)
	}
	for i := range r.people {
		if r.people[i].Standing != string(request.Asked) {
			continue
		}
		if err := s.call(storyOfRequest(ctx, r), tx, r, &r.people[i], false); err != nil {
			return err
		}
	}
	return s.watchTime(ctx, tx, r)
}

// stepsText is who is asked, in order, as the first line has it: step:role:participant, with spaces.
func stepsText(r *requestRows) string {
	var all []string
	for i := range r.people {
		all = append(all, fmt.Sprintf("%d:%s:%s", r.people[i].Step+1, r.people[i].Role, r.people[i].ID))
	}
	return strings.Join(all, " ")
}
