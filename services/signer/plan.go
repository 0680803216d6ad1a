package signer

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/cades"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/signer/internal/db"
)

// toAuthorize are the digests that a provider with SCAL 2 is asked to authorize: what the key will sign, which is known
// when form, documents and signing time are. Without a plan they are those of CAdES over the documents, which SignHashes
// makes, and SignDocuments attached and detached. One with SCAL 1 authorizes none in particular.
func (s *Service) toAuthorize(ctx context.Context, h *held, name credentialName, plan *signv1.SigningPlan) ([][]byte, error) {
	if plan == nil || h.holding.Scal != 2 {
		return h.toAuthorizeCAdES()
	}
	sign, release, err := s.planned(ctx, name, h.challenge.Hashes, plan)
	if err != nil {
		return nil, err
	}
	defer release()
	wanted, err := h.collect(ctx, sign)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(wanted))
	for i := range wanted {
		out[i] = wanted[i][:]
	}
	return out, nil
}

func (h *held) toAuthorizeCAdES() ([][]byte, error) {
	out := make([][]byte, len(h.challenge.Hashes))
	for i, hash := range h.challenge.Hashes {
		p, err := cades.Prepare(hash, cades.Signer{Chain: h.chain}, cades.Options{SigningTime: h.session.SigningTime.UTC()})
		if err != nil {
			return nil, fmt.Errorf("signer: %w", err)
		}
		digest := p.Digest()
		out[i] = digest[:]
	}
	return out, nil
}

// planned makes the files that a plan names, until release. hashes are the challenge's, sorted.
func (s *Service) planned(ctx context.Context, name credentialName, hashes [][]byte, plan *signv1.SigningPlan) (sign signFunc, release func(), err error) {
	if plan.GetParticipant() != "" {
		sign, err = s.plannedRequest(ctx, name, hashes, plan.GetParticipant())
		return sign, func() {}, err
	}
	in := plan.GetDocuments()
	req := &signv1.SignDocumentsRequest{Credential: name.full(), Documents: in.GetDocuments(), Form: in.GetForm(), Timestamp: in.GetTimestamp(), Pdf: in.GetPdf()}
	out, err := outputOf(req)
	if err != nil {
		return nil, nil, err
	}
	d, err := s.documentsOf(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	if !slices.EqualFunc(d.hashes, hashes, bytes.Equal) {
		d.release()
		return nil, nil, fault.Invalid("PLAN_MISMATCH", "plan: its documents are not those of document_sha256: name the same in both").
			WithField("plan", "PLAN_MISMATCH", "its documents are others")
	}
	return func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
		return s.makeOne(ctx, hash, d.bytes[[32]byte(hash)], by, at, out, s.stamper(name.tenant))
	}, d.release, nil
}

// plannedRequest makes the files of a signature request as its documents are now.
func (s *Service) plannedRequest(ctx context.Context, name credentialName, hashes [][]byte, participant string) (signFunc, error) {
	of, err := parseParticipantName(participant)
	if err != nil {
		return nil, err
	}
	if of.tenant != name.tenant {
		return nil, noParticipant(participant)
	}
	var r *requestRows
	err = s.db.Tx(ctx, of.tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		r, err = readRequest(ctx, db.New(tx), of)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !slices.EqualFunc(r.hashes(), hashes, bytes.Equal) {
		return nil, fault.Precondition("CHALLENGE_MISMATCH", "plan: the documents of the request are not those of document_sha256: view them, and name the digests of the view")
	}
	return func(ctx context.Context, hash []byte, by *readyCredential, at time.Time) ([]byte, error) {
		return s.signRequestDocument(ctx, r, hash, by, at)
	}, nil
}
