package signer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/signer/internal/db"
)

// SignBlob signs a document of another service with a credential of kind ROLE. The intent is
// written before anything is signed: a caller that lost the answer repeats the request and gets the same signature.
// The same subject and bytes are signed once, whatever the request_id; what was signed and stored by a process that did not
// live to record it is taken up. While the credential cannot sign no intent is written, however often and for whatever bytes it is
// asked; what was signed before is still given.
func (s *Service) SignBlob(ctx context.Context, req *signv1.SignBlobRequest) (*signv1.Signature, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	ref, err := refFrom(ids[0], "content", req.GetContent())
	if err != nil {
		return nil, err
	}
	name, err := parseCredentialName("credential", req.GetCredential())
	if err != nil {
		return nil, err
	}
	by, cannot := s.roleCredential(ctx, name, req.GetRefusedCertificates())
	var row db.Signature
	var left *leftFile
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		if cannot != nil {
			row, err = promisedBlob(ctx, db.New(tx), ids[0], ref, req)
			if errors.Is(err, pgx.ErrNoRows) {
				return cannot
			}
			return err
		}
		row, left, err = s.intendBlob(ctx, tx, ids[0], ref, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if row.State == "DONE" {
		return s.signatureOfRole(ctx, row)
	}
	if cannot != nil {
		return nil, cannot
	}
	hand := []outcome{{row: row, by: by, left: left}}
	o := &hand[0]
	s.signOne(ctx, o)
	s.store(ctx, row.TenantID, hand)
	if o.err != nil {
		return nil, o.err
	}
	return s.recordBlob(ctx, o)
}

// intendBlob promises the signature, or finds the promise, with what an earlier call has left of it.
func (s *Service) intendBlob(ctx context.Context, tx pgx.Tx, tenant string, ref blob.Ref, req *signv1.SignBlobRequest) (db.Signature, *leftFile, error) {
	q := db.New(tx)
	id, err := pg.NewID()
	if err != nil {
		return db.Signature{}, nil, err
	}
	n, err := q.InsertBlobIntent(ctx, db.InsertBlobIntentParams{
		ID: id, TenantID: tenant, Subject: req.GetSubject(), OriginalSha256: ref.SHA256[:], OriginalSize: ref.Size,
		OriginalType: req.GetContent().GetMediaType(), RequestID: req.GetRequestId(), Credential: req.GetCredential(),
		Correlation: bus.Correlation(ctx), Causation: bus.Meta(ctx).ID, Traceparent: telemetry.Inject(ctx), At: pg.Time(s.now()),
	})
	if err != nil {
		return db.Signature{}, nil, fmt.Errorf("signer: intent: %w", err)
	}
	if n > 0 {
		row, err := q.GetSignature(ctx, id)
		return row, nil, err
	}
	row, err := promisedBlob(ctx, q, tenant, ref, req)
	if errors.Is(err, pgx.ErrNoRows) {
		// The row that was in the way is not visible yet: the repeat will see it.
		return row, nil, fault.Unavailable("SIGNATURE_IN_HAND", "another request signs this document just now: try again")
	}
	if err != nil || row.State == "DONE" {
		return row, nil, err
	}
	made, err := q.SignedFileOf(ctx, row.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return row, nil, nil
	}
	if err != nil {
		return row, nil, fmt.Errorf("signer: read what was made: %w", err)
	}
	return row, &leftFile{refOf(tenant, made.Sha256, made.Size), *made.CredentialID, *made.SigningTime}, nil
}

// promisedBlob is what the request, or an earlier one for the same subject and bytes, was promised; pgx.ErrNoRows: nothing.
func promisedBlob(ctx context.Context, q *db.Queries, tenant string, ref blob.Ref, req *signv1.SignBlobRequest) (db.Signature, error) {
	row, err := q.GetSignatureByRequest(ctx, db.GetSignatureByRequestParams{TenantID: tenant, RequestID: req.GetRequestId()})
	if errors.Is(err, pgx.ErrNoRows) {
		row, err = q.GetSignatureOf(ctx, db.GetSignatureOfParams{TenantID: tenant, Subject: req.GetSubject(), OriginalSha256: ref.SHA256[:]})
	}
	if err != nil {
		return row, fmt.Errorf("signer: intent: %w", err)
	}
	if row.Subject != req.GetSubject() || string(row.OriginalSha256) != string(ref.SHA256[:]) {
		return row, fault.Conflict("REQUEST_ID_REUSED", "request_id was used for another document: use a new one").
			WithField("request_id", "REQUEST_ID_REUSED", "was used for another document")
	}
	return row, nil
}

// roleCredential loads the credential named by the caller. Only a role's may sign for others than
// its own tenant's invoices. A certificate among refused (SHA-256) may not sign.
func (s *Service) roleCredential(ctx context.Context, name credentialName, refused [][]byte) (*readyCredential, error) {
	if name.id == uuid.Nil {
		return s.anyRole(ctx, name, refused)
	}
	row, err := s.credential(ctx, name.tenant, name.id)
	if err != nil {
		return nil, err
	}
	if row.CompanyID != name.company {
		return nil, noCredential(nameOfCredential(row))
	}
	next, err := s.successorNow(ctx, name)
	if err != nil {
		return nil, err
	}
	if next != nil {
		row = *next
	}
	if row.Kind != "ROLE" {
		return nil, fault.Precondition("CREDENTIAL_WRONG_KIND", "credential %s is for a company's invoices: use one of kind ROLE", nameOfCredential(row))
	}
	if row.State != "ACTIVE" {
		return nil, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s is %s: import its certificate, or name another", nameOfCredential(row), row.State)
	}
	if now := s.now(); now.Before(*row.NotBefore) || !now.Before(*row.NotAfter) {
		return nil, fault.Precondition("CERTIFICATE_EXPIRED", "the certificate of %s is valid until %s: import a new one", nameOfCredential(row), row.NotAfter.Format("2006-01-02"))
	}
	if sum := sha256.Sum256(row.Chain[0]); slices.ContainsFunc(refused, func(r []byte) bool { return bytes.Equal(r, sum[:]) }) {
		return nil, fault.Precondition("CERTIFICATE_REFUSED", "the certificate of %s is one that may not sign this: import another", nameOfCredential(row))
	}
	return s.readyRole(ctx, row)
}

func (s *Service) readyRole(ctx context.Context, c db.Credential) (*readyCredential, error) {
	if c.Provider != "" {
		return toLend(c), nil
	}
	return s.ready.load(ctx, c)
}

// anyRole chooses among the credentials of a company that hold a role.
func (s *Service) anyRole(ctx context.Context, name credentialName, refused [][]byte) (*readyCredential, error) {
	if refused == nil {
		refused = [][]byte{}
	}
	var row db.Credential
	err := s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		row, err = db.New(tx).ChooseRole(ctx, db.ChooseRoleParams{TenantID: name.tenant, CompanyID: name.company, Now: ptr(pg.Time(s.now())), Refused: refused})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		except := ""
		if len(refused) > 0 {
			except = ", and is none of those that may not sign this"
		}
		return nil, fault.Precondition(codeNoCredential,
			"tenants/%s/companies/%s has no credential of kind ROLE with a certificate that is valid now%s: create one and import its certificate", name.tenant, name.company, except)
	}
	if err != nil {
		return nil, err
	}
	return s.readyRole(ctx, row)
}

// recordBlob keeps the signature, or gives the one that another call recorded first.
func (s *Service) recordBlob(ctx context.Context, o *outcome) (*signv1.Signature, error) {
	var row db.Signature
	// The credential may be another tenant's (the platform's): both rows are seen in system scope.
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		ctx = pg.WithTenant(ctx, o.row.TenantID)
		q := db.New(tx)
		ids, err := q.RecordSigned(ctx, db.RecordSignedParams{
			At: ptr(pg.Time(s.now())), Ids: []uuid.UUID{o.row.ID}, CredentialIds: []uuid.UUID{o.by.id}, Names: []string{o.by.name},
			Hashes: [][]byte{o.ref.SHA256[:]}, Sizes: []int64{o.ref.Size}, Times: []time.Time{o.at},
		})
		if err != nil {
			return err
		}
		row, err = q.GetSignature(ctx, o.row.ID)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		if o.by.lent {
			err = q.EndOneChallenges(ctx, db.EndOneChallengesParams{Ids: ids, At: row.DoneAt})
			if err != nil {
				return err
			}
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{
			Action: "document.sign", Resource: nameOfSignature(row),
			Detail: map[string]string{"subject": row.Subject, "credential": row.Credential},
		})
	})
	if err != nil {
		return nil, fmt.Errorf("signer: record: %w", err)
	}
	if row.State != "DONE" {
		s.ready.forget(o.by.id)
		return nil, fault.Precondition("CREDENTIAL_NOT_ACTIVE", "credential %s was revoked while it signed: name another", o.by.name)
	}
	return s.signatureOfRole(ctx, row)
}

// signatureOfRole tells a signature with its level.
func (s *Service) signatureOfRole(ctx context.Context, row db.Signature) (*signv1.Signature, error) {
	level, err := s.qualifiedAnywhere(ctx, row.ID)
	if err != nil {
		return nil, err
	}
	return signatureMessage(row, level[row.ID]), nil
}

// qualifiedAnywhere is qualifiedOf in system scope: what a role's key did at its provider is of the credential's tenant,
// which need not be the signature's.
func (s *Service) qualifiedAnywhere(ctx context.Context, ids ...uuid.UUID) (out map[uuid.UUID]bool, err error) {
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		out, err = qualifiedOf(ctx, db.New(tx), ids...)
		return err
	})
	return out, err
}

// qualified are those of a tenant's signatures that were made with a key that is called qualified.
func (s *Service) qualified(ctx context.Context, q *db.Queries, rows ...db.Signature) (map[uuid.UUID]bool, error) {
	var own, of []uuid.UUID
	for i := range rows {
		if strings.HasPrefix(rows[i].Credential, "tenants/"+rows[i].TenantID+"/") {
			own = append(own, rows[i].ID)
		} else {
			of = append(of, rows[i].ID)
		}
	}
	out, err := qualifiedOf(ctx, q, own...)
	if err != nil || len(of) == 0 {
		return out, err
	}
	foreign, err := s.qualifiedAnywhere(ctx, of...)
	maps.Copy(out, foreign)
	return out, err
}

// GetSignature reads a signature.
func (s *Service) GetSignature(ctx context.Context, req *signv1.GetSignatureRequest) (*signv1.Signature, error) {
	ids, ok := cut(req.GetName(), "tenants", "signatures")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "name: %q is not tenants/{tenant}/signatures/{signature}", req.GetName())
	}
	missing := fault.NotFound("SIGNATURE_NOT_FOUND", "there is no signature %s", req.GetName())
	id, err := uuid.Parse(ids[1])
	if err != nil {
		return nil, missing
	}
	var row db.Signature
	var qualified map[uuid.UUID]bool
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		row, err = q.GetSignature(ctx, id)
		if err == nil {
			qualified, err = s.qualified(ctx, q, row)
		}
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	return signatureMessage(row, qualified[row.ID]), nil
}

// ListSignatures lists a tenant's signatures, or those of one subject, newest first.
func (s *Service) ListSignatures(ctx context.Context, req *signv1.ListSignaturesRequest) (*signv1.ListSignaturesResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	size, before, filter := int(req.GetPageSize()), lastID, pg.FilterHash("signatures", ids[0], req.GetSubject())
	if size == 0 {
		size = defaultPage
	}
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Signature
	var qualified map[uuid.UUID]bool
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListSignatures(ctx, db.ListSignaturesParams{
			TenantID: ids[0], Subject: req.GetSubject(), Before: before, Page: int32(size + 1), //nolint:gosec // at most 1001
		})
		if err != nil {
			return err
		}
		qualified, err = s.qualified(ctx, db.New(tx), rows...)
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &signv1.ListSignaturesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Signature) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		resp.Signatures = append(resp.Signatures, signatureMessage(r, qualified[r.ID]))
	}
	return resp, nil
}
