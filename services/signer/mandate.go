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
)

func nameOfMandate(c db.Credential, id uuid.UUID) string {
	return nameOfCredential(c) + "/mandates/" + id.String()
}

func parseMandateName(name string) (credentialName, uuid.UUID, error) {
	return parseBelow(name, "mandates", "MANDATE_NOT_FOUND", "mandate")
}

// CreateMandate lets a credential sign documents without a person, within limits.
func (s *Service) CreateMandate(ctx context.Context, req *signv1.CreateMandateRequest) (*signv1.Mandate, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	m := req.GetMandate()
	want := db.InsertMandateParams{
		CredentialID: name.id, Description: m.GetDescription(), MaxDocuments: m.GetMaxDocuments(), MaxPerDay: m.GetMaxPerDay(),
		ValidFrom: pg.Time(m.GetStartTime().AsTime()), ValidUntil: pg.Time(m.GetEndTime().AsTime()), At: pg.Time(s.now()),
		FollowsSuccessor: m.GetFollowSuccessor(),
	}
	if !want.ValidUntil.After(want.ValidFrom) || !want.ValidUntil.After(want.At) {
		return nil, fault.Invalid("MANDATE_TERM", "mandate.end_time: must be after start_time and after now").
			WithField("mandate.end_time", "MANDATE_TERM", "is before start_time, or over")
	}
	for i, f := range m.GetForms() {
		if _, known := signv1.SignatureForm_name[int32(f)]; !known || f == 0 {
			return nil, fault.Invalid("MANDATE_FORM", "mandate.forms[%d]: %d is no form of signature", i, f)
		}
		want.Forms = append(want.Forms, f.String()[len(formPrefix):])
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(req.GetParent())
	}
	if want.ID, err = pg.NewID(); err != nil {
		return nil, err
	}
	var row db.Mandate
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.InsertMandate(ctx, want)
		if err != nil {
			return fmt.Errorf("signer: insert mandate: %w", err)
		}
		if n == 0 {
			return fault.Precondition("CREDENTIAL_WRONG_KIND", "credential %s is %s and %s: mandates are for kinds AUTOMATIC and SEAL that are not revoked", req.GetParent(), c.Kind, c.State)
		}
		row, err = q.GetMandate(ctx, db.GetMandateParams{ID: want.ID, CredentialID: c.ID})
		if err != nil {
			return fmt.Errorf("signer: read mandate: %w", err)
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "mandate.create", Resource: nameOfMandate(c, row.ID),
			Detail: map[string]string{
				"forms": strings.Join(row.Forms, " "), "max_documents": fmt.Sprint(row.MaxDocuments), "max_per_day": fmt.Sprint(row.MaxPerDay),
				"until": row.ValidUntil.UTC().Format(time.RFC3339), "follow_successor": fmt.Sprint(row.FollowsSuccessor),
			},
		})
	})
	if err != nil {
		return nil, err
	}
	return s.mandateMessage(c, row), nil
}

func (s *Service) mandateMessage(c db.Credential, m db.Mandate) *signv1.Mandate {
	out := &signv1.Mandate{
		Name: nameOfMandate(c, m.ID), Description: m.Description, MaxDocuments: m.MaxDocuments, MaxPerDay: m.MaxPerDay, UsedDocuments: m.Used,
		StartTime: timestamppb.New(m.ValidFrom), EndTime: timestamppb.New(m.ValidUntil), CreateTime: timestamppb.New(m.CreatedAt),
		FollowSuccessor: m.FollowsSuccessor,
	}
	for _, f := range m.Forms {
		out.Forms = append(out.Forms, signv1.SignatureForm(signv1.SignatureForm_value[formPrefix+f]))
	}
	if m.Day == s.now().UTC().Format(time.DateOnly) {
		out.UsedToday = m.UsedToday
	}
	if m.RevokedAt != nil {
		out.RevokeTime = timestamppb.New(*m.RevokedAt)
	}
	return out
}

// mandateOf reads a mandate and its credential.
func (s *Service) mandateOf(ctx context.Context, full string) (db.Credential, db.Mandate, error) {
	name, id, err := parseMandateName(full)
	if err != nil {
		return db.Credential{}, db.Mandate{}, err
	}
	missing := fault.NotFound("MANDATE_NOT_FOUND", "there is no mandate %s", full)
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return c, db.Mandate{}, err
	}
	if c.CompanyID != name.company {
		return c, db.Mandate{}, missing
	}
	var row db.Mandate
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).GetMandate(ctx, db.GetMandateParams{ID: id, CredentialID: c.ID})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return c, row, missing
	}
	return c, row, err
}

// GetMandate reads a mandate with what was used of it.
func (s *Service) GetMandate(ctx context.Context, req *signv1.GetMandateRequest) (*signv1.Mandate, error) {
	c, row, err := s.mandateOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return s.mandateMessage(c, row), nil
}

// ListMandates lists the mandates of a credential, newest first.
func (s *Service) ListMandates(ctx context.Context, req *signv1.ListMandatesRequest) (*signv1.ListMandatesResponse, error) {
	name, err := parseCredentialName("parent", req.GetParent())
	if err != nil {
		return nil, err
	}
	c, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if c.CompanyID != name.company {
		return nil, noCredential(req.GetParent())
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("mandates", c.ID.String())
	if size == 0 {
		size = defaultPage
	}
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Mandate
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListMandates(ctx, db.ListMandatesParams{CredentialID: c.ID, Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListMandatesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Mandate) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, m := range rows {
		resp.Mandates = append(resp.Mandates, s.mandateMessage(c, m))
	}
	return resp, nil
}

// RevokeMandate ends a mandate for good. What is being signed under it is not released.
func (s *Service) RevokeMandate(ctx context.Context, req *signv1.RevokeMandateRequest) (*signv1.Mandate, error) {
	c, row, err := s.mandateOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	err = s.db.Tx(ctx, c.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		n, err := q.RevokeMandate(ctx, db.RevokeMandateParams{ID: row.ID, At: ptr(pg.Time(s.now()))})
		if err != nil {
			return fmt.Errorf("signer: revoke mandate: %w", err)
		}
		row, err = q.GetMandate(ctx, db.GetMandateParams{ID: row.ID, CredentialID: c.ID})
		if err != nil || n == 0 {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "mandate.revoke", Resource: nameOfMandate(c, row.ID)})
	})
	if err != nil {
		return nil, err
	}
	return s.mandateMessage(c, row), nil
}

func mandateRefused(c db.Credential, id uuid.UUID, format string, a ...any) error {
	return fault.Precondition("MANDATE_REFUSED", "mandate %s: %s", nameOfMandate(c, id), fmt.Sprintf(format, a...))
}

// inForce says whether a mandate holds now.
func (s *Service) inForce(c db.Credential, m db.Mandate) error {
	now := s.now()
	switch {
	case m.RevokedAt != nil:
		return mandateRefused(c, m.ID, "it was revoked at %s", m.RevokedAt.UTC().Format(time.RFC3339))
	case now.Before(m.ValidFrom) || !now.Before(m.ValidUntil):
		return mandateRefused(c, m.ID, "it holds from %s to %s", m.ValidFrom.UTC().Format(time.RFC3339), m.ValidUntil.UTC().Format(time.RFC3339))
	}
	return nil
}

// heirUnder is the credential that signs under a mandate in the place of the one that it was given for, nil when nobody has that
// place. Who gave the mandate must have wanted it, and have been given the same owner's key: else CREDENTIAL_SUCCEEDED.
func (s *Service) heirUnder(ctx context.Context, q *db.Queries, c db.Credential, m db.Mandate) (*db.Credential, error) {
	next, err := successor(ctx, q, c.ID, pg.Time(s.now()))
	if err != nil || next == nil {
		return nil, err
	}
	why := "it was not given for a successor (follow_successor)"
	if m.FollowsSuccessor {
		same, err := sameOwner(c.Chain, next.Chain)
		if err != nil {
			return nil, err
		}
		if same {
			return next, nil
		}
		why = "the certificates do not name the same owner"
	}
	return nil, fault.Precondition(codeSucceeded, "mandate %s: %s has taken the place of %s, and the mandate does not follow: %s. Make another, of the one that has the place",
		nameOfMandate(c, m.ID), nameOfCredential(*next), nameOfCredential(c), why)
}

// refusedBy says which limit of a mandate a request broke, nil when it broke none.
func (s *Service) refusedBy(c db.Credential, m db.Mandate, documents int, out output) error {
	if err := s.inForce(c, m); err != nil {
		return err
	}
	refuse := func(format string, a ...any) error { return mandateRefused(c, m.ID, format, a...) }
	now := s.now()
	used := int32(0)
	if m.Day == now.UTC().Format(time.DateOnly) {
		used = m.UsedToday
	}
	switch {
	case !strings.Contains(" "+strings.Join(m.Forms, " ")+" ", " "+out.name()+" "):
		return refuse("it is for %s, not for %s", strings.Join(m.Forms, ", "), out.name())
	case m.Used+int64(documents) > m.MaxDocuments:
		return refuse("%d of %d documents are used, and %d more are asked for", m.Used, m.MaxDocuments, documents)
	case int64(used)+int64(documents) > int64(m.MaxPerDay):
		return refuse("%d of %d documents of today are used, and %d more are asked for", used, m.MaxPerDay, documents)
	}
	return nil
}
