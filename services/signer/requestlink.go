package signer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

const (
	linkTTL   = 24 * time.Hour
	linkPause = time.Minute // between two for the same
)

// SendRequestLink mails a code that proves an approval. It is sent by the provider that sends passwords, never
// by the bus; what stays here is its SHA-256.
func (s *Service) SendRequestLink(ctx context.Context, req *signv1.SendRequestLinkRequest) (*signv1.SendRequestLinkResponse, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	mail := s.messengers["EMAIL"]
	if mail == nil {
		return nil, fault.Precondition("EMAIL_NOT_CONFIGURED", "this installation sends no codes by e-mail: set signer.authorization.email")
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	token := base64.RawURLEncoding.EncodeToString(secret)
	sum, now := sha256.Sum256(secret), pg.Time(s.now())
	until := now.Add(linkTTL)
	var address, subject, text string
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := lockRequest(ctx, db.New(tx), name)
		if err != nil {
			return err
		}
		p := r.person(name.participant)
		if address, err = linkAddress(r, p, req.GetAsDelegate(), now); err != nil {
			return err
		}
		subject, text = linkText(s.cfg.Authorization.Issuer, p.Language, r.row.ID.String(), token)
		n, err := db.New(tx).PutRequestLink(ctx, db.PutRequestLinkParams{
			ParticipantID: p.ID, ForDelegate: req.GetAsDelegate(), TenantID: name.tenant, Sha256: sum[:], At: now, ExpiresAt: until, SentBefore: now.Add(-linkPause),
		})
		if err != nil {
			return fmt.Errorf("signer: put code: %w", err)
		}
		if n == 0 {
			return fault.Exhausted(linkPause, "LINK_SENT_TOO_OFTEN", "a code was sent less than %s ago: use it, or wait", linkPause)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := mail.send(ctx, address, subject, text); err != nil {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Vault.Timeout)
		defer cancel()
		undo := s.db.Tx(back, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
			return db.New(tx).DropRequestLink(ctx, db.DropRequestLinkParams{ParticipantID: name.participant, ForDelegate: req.GetAsDelegate(), Sha256: sum[:]})
		})
		if undo != nil {
			s.log.WarnContext(ctx, "a code that was not sent stays", "participant", name.participant, "error", undo.Error())
		}
		return nil, err
	}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := lockRequest(ctx, db.New(tx), name)
		if err != nil || r.row.State != string(request.Open) { // it was closed meanwhile: its trail is over
			return err
		}
		p := r.person(name.participant)
		return s.note(ctx, tx, r, deed{Act: request.Act{Person: p.ID.String()}, action: "LINK_SENT", detail: who(p, req.GetAsDelegate(), nil)})
	})
	if err != nil {
		return nil, err
	}
	return &signv1.SendRequestLinkResponse{Address: masked(address), ExpireTime: timestamppb.New(until)}, nil
}

// linkAddress is where a code goes; the refusals are those of an approval.
func linkAddress(r *requestRows, p *db.SigningRequestParticipant, delegate bool, now time.Time) (string, error) {
	_, _, err := request.Next(r.machine(), request.Act{Verb: request.View, Person: p.ID.String(), ByDeputy: delegate, At: now})
	if err != nil {
		return "", refusal(err)
	}
	address := p.Email
	if delegate {
		address = p.DelegateEmail
	}
	switch {
	case p.Standing != string(request.Asked):
		return "", fault.Precondition(request.CodeNotYourTurn, "the participant stands as %s: a code is for who is asked", p.Standing)
	case p.Role != string(request.Approver):
		return "", fault.Precondition(request.CodeRole, "a signer proves the signature with PIN and one-time password")
	case delegate && !p.DelegateMayApprove:
		return "", fault.Precondition(request.CodeMayNot, "the delegation does not cover approvals")
	case address == "":
		return "", fault.Precondition("EMAIL_MISSING", "there is no address to send a code to")
	}
	return address, nil
}

func linkText(issuer, language, id, token string) (subject, text string) {
	if language == "en" {
		return issuer + ": code to approve a request", fmt.Sprintf("Code to approve the request %s:\r\n\r\n%s\r\n\r\nIt works once, within 24 hours. Give it to nobody but the application in which you saw the documents.", id, token)
	}
	return issuer + ": codice per approvare una pratica", fmt.Sprintf("Codice per approvare la pratica %s:\r\n\r\n%s\r\n\r\nVale una volta sola, entro 24 ore. Non comunicarlo ad altri che all'applicazione in cui hai visto i documenti.", id, token)
}

// useLink uses a code, in the transaction of the approval that it proves.
func (s *Service) useLink(ctx context.Context, tx pgx.Tx, p *db.SigningRequestParticipant, delegate bool, token string) error {
	if token == "" {
		return fault.Precondition("LINK_REQUIRED", "this approval needs the code that is mailed to the participant: SendRequestLink")
	}
	secret, err := base64.RawURLEncoding.DecodeString(token)
	sum := sha256.Sum256(secret)
	n := int64(0)
	if err == nil {
		now := pg.Time(s.now())
		n, err = db.New(tx).UseRequestLink(ctx, db.UseRequestLinkParams{ParticipantID: p.ID, ForDelegate: delegate, Sha256: sum[:], At: &now})
		if err != nil {
			return fmt.Errorf("signer: use code: %w", err)
		}
	}
	if n == 0 {
		return fault.Denied("LINK_INVALID", "this is not the last code that was sent, or it was used, or a day has passed: have another sent")
	}
	return nil
}
