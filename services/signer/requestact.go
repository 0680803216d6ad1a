package signer

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// ViewSignatureRequest shows a participant, or their delegate, what is before them, and writes down that it did.
// A view of what was viewed already adds no line.
func (s *Service) ViewSignatureRequest(ctx context.Context, req *signv1.ViewSignatureRequestRequest) (*signv1.ViewSignatureRequestResponse, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	resp := &signv1.ViewSignatureRequestResponse{}
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := lockRequest(ctx, db.New(tx), name)
		if err != nil {
			return err
		}
		p := r.person(name.participant)
		seen := p.Seen
		if req.GetAsDelegate() {
			seen = p.SeenByDelegate
		}
		act := request.Act{Verb: request.View, Person: p.ID.String(), ByDeputy: req.GetAsDelegate(), At: pg.Time(s.now())}
		if hex.EncodeToString(seen) == r.digest() {
			_, _, err = request.Next(r.machine(), act)
			err = refusal(err)
		} else {
			err = s.perform(ctx, tx, r, deed{Act: act, action: "VIEWED", detail: who(p, req.GetAsDelegate(), nil), documents: r.digests()})
		}
		if err != nil {
			return err
		}
		resp.SignatureRequest, resp.Digest = requestMessage(r), digestOf(r.hashes())
		for i := range r.docs {
			sum, size := shown(&r.docs[i])
			resp.Documents = append(resp.Documents, &signv1.ViewedDocument{Position: r.docs[i].Position, DisplayName: r.docs[i].Name, Sha256: sum, Size: size})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// chunk is how many bytes one message of a download holds.
const chunk = 256 << 10

// DownloadRequestDocument gives the bytes that were viewed.
func (s *Service) DownloadRequestDocument(req *signv1.DownloadRequestDocumentRequest, stream grpc.ServerStreamingServer[signv1.DownloadRequestDocumentResponse]) error {
	ctx := stream.Context()
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return err
	}
	var ref blob.Ref
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := readRequest(ctx, db.New(tx), name)
		if err != nil {
			return err
		}
		p := r.person(name.participant)
		_, _, err = request.Next(r.machine(), request.Act{Verb: request.View, Person: p.ID.String(), ByDeputy: req.GetAsDelegate(), At: pg.Time(s.now())})
		if err != nil {
			return refusal(err)
		}
		seen := p.Seen
		if req.GetAsDelegate() {
			seen = p.SeenByDelegate
		}
		switch {
		case seen == nil:
			return fault.Precondition(request.CodeNotViewed, "the documents were not viewed: view them first")
		case hex.EncodeToString(seen) != r.digest():
			return fault.Precondition(request.CodeChanged, "the documents are not what was viewed: view them again")
		case int(req.GetPosition()) > len(r.docs):
			return fault.NotFound("DOCUMENT_NOT_FOUND", "the request has %d documents", len(r.docs))
		}
		sum, size := shown(&r.docs[req.GetPosition()-1])
		ref = refOf(name.tenant, sum, size)
		return nil
	})
	if err != nil {
		return err
	}
	content, err := s.blobs.Get(ctx, ref) // checks the digest
	if err != nil {
		return err
	}
	for len(content) > 0 {
		n := min(len(content), chunk)
		if err := stream.Send(&signv1.DownloadRequestDocumentResponse{Data: content[:n]}); err != nil {
			return err
		}
		content = content[n:]
	}
	return nil
}

// ApproveSignatureRequest approves what was viewed.
func (s *Service) ApproveSignatureRequest(ctx context.Context, req *signv1.ApproveSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	hashes, err := sortedHashes(req.GetDocumentSha256())
	if err != nil {
		return nil, err
	}
	method := signv1.SignatureRequestService_ApproveSignatureRequest_FullMethodName
	return s.onRequest(ctx, name, method, req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant) error {
		more := map[string]string{"proof": "caller"}
		if p.RequireLink || req.GetLinkToken() != "" {
			more["proof"] = "link"
			if err := s.useLink(ctx, tx, p, req.GetAsDelegate(), req.GetLinkToken()); err != nil {
				return err
			}
		}
		return s.perform(ctx, tx, r, deed{
			Act:    request.Act{Verb: request.Approve, Person: p.ID.String(), ByDeputy: req.GetAsDelegate(), Seen: hex.EncodeToString(digestOf(hashes))},
			action: "APPROVED", detail: who(p, req.GetAsDelegate(), more), documents: r.digests(),
		})
	})
}

// RefuseSignatureRequest refuses, with a reason.
func (s *Service) RefuseSignatureRequest(ctx context.Context, req *signv1.RefuseSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	method := signv1.SignatureRequestService_RefuseSignatureRequest_FullMethodName
	return s.onRequest(ctx, name, method, req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant) error {
		p.Reason, r.row.CloseReason = req.GetReason(), req.GetReason()
		d := deed{Act: request.Act{Verb: request.Refuse, Person: p.ID.String()}, action: "REFUSED", detail: who(p, false, map[string]string{"reason": req.GetReason()})}
		if next, _, err := request.Next(r.machine(), request.Act{Verb: request.Refuse, Person: p.ID.String(), At: pg.Time(s.now())}); err == nil && next.State == request.Open {
			r.row.CloseReason = "" // others of the step are enough
		}
		return s.perform(ctx, tx, r, d)
	})
}

// WithdrawSignatureRequest takes a request back.
func (s *Service) WithdrawSignatureRequest(ctx context.Context, req *signv1.WithdrawSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseRequestName(req.GetName())
	if err != nil {
		return nil, err
	}
	method := signv1.SignatureRequestService_WithdrawSignatureRequest_FullMethodName
	return s.onRequest(ctx, name, method, req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, r *requestRows, _ *db.SigningRequestParticipant) error {
		r.row.CloseReason = req.GetReason()
		d := deed{Act: request.Act{Verb: request.Withdraw}, action: "WITHDRAWN"}
		if req.GetReason() != "" {
			d.detail = map[string]string{"reason": req.GetReason()}
		}
		return s.perform(ctx, tx, r, d)
	})
}

// DelegateSignatureRequest names who stands in for a participant, or ends that.
func (s *Service) DelegateSignatureRequest(ctx context.Context, req *signv1.DelegateSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	to := req.GetDelegate()
	if to != nil && to.GetHolder() == "" && to.GetEmail() == "" {
		return nil, fault.Invalid("DELEGATE_UNKNOWN", "delegate: name a holder or an address").WithField("delegate", "DELEGATE_UNKNOWN", "is nobody")
	}
	method := signv1.SignatureRequestService_DelegateSignatureRequest_FullMethodName
	return s.onRequest(ctx, name, method, req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant) error {
		until := r.row.Deadline
		if t := to.GetExpireTime(); t != nil && t.AsTime().Before(until) {
			until = pg.Time(t.AsTime())
		}
		if to.GetMayApprove() && p.Role != string(request.Approver) {
			return fault.Invalid("DELEGATE_MAY_APPROVE", "delegate.may_approve: nobody acts in the place of a signer: the delegate of a signer may view").
				WithField("delegate.may_approve", "DELEGATE_MAY_APPROVE", "is for approvers")
		}
		p.DelegateHolder, p.DelegateEmail = to.GetHolder(), to.GetEmail()
		detail := map[string]string{"may_approve": fmt.Sprint(to.GetMayApprove()), "until": until.UTC().Format(time.RFC3339)}
		if to == nil {
			detail = map[string]string{"ended": "true"}
		} else {
			detail = who(p, true, detail)
			delete(detail, "by")
		}
		return s.perform(ctx, tx, r, deed{
			Act:    request.Act{Verb: request.Delegate, Person: p.ID.String(), Deputy: to != nil, Approves: to.GetMayApprove(), Until: until},
			action: "DELEGATED", detail: detail,
		})
	})
}

// ReassignSignatureRequest puts somebody else in the place of a participant.
func (s *Service) ReassignSignatureRequest(ctx context.Context, req *signv1.ReassignSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseParticipantName(req.GetParticipant())
	if err != nil {
		return nil, err
	}
	if err := checkParticipant("successor", req.GetSuccessor()); err != nil {
		return nil, err
	}
	method := signv1.SignatureRequestService_ReassignSignatureRequest_FullMethodName
	return s.onRequest(ctx, name, method, req.GetRequestId(), req, func(ctx context.Context, tx pgx.Tx, r *requestRows, p *db.SigningRequestParticipant) error {
		heir, err := draftParticipant(r, int(p.Step), req.GetSuccessor())
		if err != nil {
			return err
		}
		if heir.Role != p.Role {
			return fault.Invalid("SUCCESSOR_ROLE", "successor.role: the participant is there as %s, so is who takes the place", p.Role).
				WithField("successor.role", "SUCCESSOR_ROLE", "is another")
		}
		if err := checkCredential(ctx, db.New(tx), heir.Credential); err != nil {
			return err
		}
		return s.perform(ctx, tx, r, deed{
			Act:    request.Act{Verb: request.Reassign, Person: p.ID.String(), Successor: heir.ID.String()},
			action: "REASSIGNED", detail: who(heir, false, map[string]string{"successor": r.nameOf(heir)}), heir: heir,
		})
	})
}

// RemindSignatureRequest reminds those whose turn it is.
func (s *Service) RemindSignatureRequest(ctx context.Context, req *signv1.RemindSignatureRequestRequest) (*signv1.SignatureRequest, error) {
	name, err := parseRequestName(req.GetName())
	if err != nil {
		return nil, err
	}
	return s.onRequest(ctx, name, "", "", req, func(ctx context.Context, tx pgx.Tx, r *requestRows, _ *db.SigningRequestParticipant) error {
		if last, now := r.row.RemindedAt, s.now(); last != nil && now.Sub(*last) < shortestRemind {
			return fault.Exhausted(shortestRemind-now.Sub(*last), "REMINDED_TOO_OFTEN", "they were reminded at %s: at most once in an hour", last.UTC().Format(time.RFC3339))
		}
		return s.remind(ctx, tx, r)
	})
}

func (s *Service) remind(ctx context.Context, tx pgx.Tx, r *requestRows) error {
	now := pg.Time(s.now())
	r.row.RemindedAt = &now
	if err := s.perform(ctx, tx, r, deed{Act: request.Act{Verb: request.Remind}, action: "REMINDED"}); err != nil {
		return err
	}
	for i := range r.people {
		if r.people[i].Standing != string(request.Asked) {
			continue
		}
		if err := s.call(storyOfRequest(ctx, r), tx, r, &r.people[i], true); err != nil {
			return err
		}
	}
	return nil
}
