package pecgateway

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// ListMessages lists what is kept of a mailbox, newest first. What is in quarantine is not among it.
func (s *Service) ListMessages(ctx context.Context, req *pecv1.ListMessagesRequest) (*pecv1.ListMessagesResponse, error) {
	if req.GetFilter() != "" {
		return nil, fault.Invalid("FILTER_NOT_TAKEN", "filter: expressions are not taken; use the fields of the request").WithField("filter", "FILTER_NOT_TAKEN", "is not taken")
	}
	p := db.ListMessagesParams{
		Folder: req.GetFolder(), FromText: req.GetFrom(), ToText: req.GetTo(), SubjectText: req.GetSubject(), Kind: int16(req.GetKind()),
		State: int16(req.GetState()), Direction: int16(req.GetDirection()), Identifier: pec.TrimID(req.GetMessageId()),
	}
	if t := req.GetStartTime(); t != nil {
		at := t.AsTime()
		p.StartTime = &at
	}
	if t := req.GetEndTime(); t != nil {
		at := t.AsTime()
		p.EndTime = &at
	}
	if req.GetAbout() != "" {
		_, _, id, err := splitMessage(req.GetAbout())
		if err != nil {
			return nil, err
		}
		p.AboutID = &id
	}
	shown, _ := json.Marshal(p)
	out := &pecv1.ListMessagesResponse{}
	next, err := s.listMessages(ctx, req.GetParent(), req.GetPageToken(), req.GetPageSize(), string(shown), p, func(ctx context.Context, tx pgx.Tx, rows []db.Message) error {
		ids := make([]uuid.UUID, len(rows))
		for i, r := range rows {
			ids[i] = r.ID
		}
		outcomes, err := outcomesOf(ctx, tx, ids)
		if err != nil {
			return err
		}
		for _, r := range rows {
			m, err := showMessage(r, outcomes[r.ID])
			if err != nil {
				return err
			}
			out.Messages = append(out.Messages, m)
		}
		return nil
	})
	out.NextPageToken = next
	return out, err
}

// listMessages reads one page of the mailbox parent names.
func (s *Service) listMessages(ctx context.Context, parent, token string, size int32, filter string, p db.ListMessagesParams,
	fn func(ctx context.Context, tx pgx.Tx, rows []db.Message) error,
) (next string, err error) {
	tenant, box, err := splitMailbox(parent)
	if err != nil {
		return "", err
	}
	hash := pg.FilterHash("messages", parent, filter)
	var last uuid.UUID
	found, err := pg.DecodePageToken(token, hash, &last)
	if err != nil {
		return "", err
	}
	if found {
		p.Before = &last
	}
	size = pageSize(size)
	p.TenantID, p.MailboxID, p.PageSize = tenant, box, size+1
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.mailbox(ctx, tx, tenant, box, false)
		if err != nil {
			return err
		}
		rows, err := q(tx).ListMessages(ctx, p)
		if err != nil {
			return err
		}
		if len(rows) > int(size) {
			rows = rows[:size]
			next, err = pg.EncodePageToken(hash, rows[size-1].ID)
			if err != nil {
				return err
			}
		}
		return fn(ctx, tx, rows)
	})
	return next, err
}

// ListQuarantinedMessages lists what could not be read or is kept away, with the reason.
func (s *Service) ListQuarantinedMessages(ctx context.Context, req *pecv1.ListQuarantinedMessagesRequest) (*pecv1.ListQuarantinedMessagesResponse, error) {
	out := &pecv1.ListQuarantinedMessagesResponse{}
	next, err := s.listMessages(ctx, req.GetParent(), req.GetPageToken(), req.GetPageSize(), "quarantine", db.ListMessagesParams{Quarantined: true},
		func(_ context.Context, _ pgx.Tx, rows []db.Message) error {
			for _, r := range rows {
				out.Messages = append(out.Messages, &pecv1.QuarantinedMessage{Name: messageName(r.TenantID, r.MailboxID, r.ID), Code: r.QuarantineCode,
					Reason: r.Quarantine, Content: rowContent(r), ReceiveTime: timestamppb.New(r.ReceiveTime)})
			}
			return nil
		})
	out.NextPageToken = next
	return out, err
}

func rowContent(r db.Message) *eventv1.Blob {
	return &eventv1.Blob{Uri: r.ContentUri, Sha256: r.Sha256, Size: r.Size, MediaType: "message/rfc822"}
}

func outcomesOf(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (map[uuid.UUID][]*pecv1.RecipientOutcome, error) {
	rows, err := q(tx).ListRecipientsOf(ctx, db.ListRecipientsOfParams{TenantID: pg.Tenant(ctx), MessageIds: ids})
	out := map[uuid.UUID][]*pecv1.RecipientOutcome{}
	for _, r := range rows {
		out[r.MessageID] = append(out[r.MessageID], &pecv1.RecipientOutcome{Address: r.Address, State: r.State, Final: r.Final, Late: r.Late, Time: stamp(r.At), Cause: r.Cause})
	}
	return out, err
}

// showMessage is a row as the contract has it.
func showMessage(r db.Message, outcomes []*pecv1.RecipientOutcome) (*pecv1.Message, error) {
	m := &pecv1.Message{
		Name: messageName(r.TenantID, r.MailboxID, r.ID), Kind: pecv1.MessageKind(r.Kind), State: pecv1.MessageState(r.State), MessageId: r.MessageID,
		ProviderId: r.Identificativo, From: r.FromAddress, To: r.Recipients, Subject: r.Subject, Content: rowContent(r), CreateTime: timestamppb.New(r.CreateTime),
		Doubts: r.Doubts, Direction: pecv1.MessageDirection(r.Direction), Folder: r.Folder, Type: r.Tipo, Proven: r.Proven, CertifiedSender: r.CertifiedSender,
		CertifiedTime: stamp(r.CertifiedTime), ReceiveTime: timestamppb.New(r.ReceiveTime), Recipients: outcomes, Contradictions: r.Contradictions,
	}
	if r.AboutID != nil {
		m.About = messageName(r.TenantID, r.MailboxID, *r.AboutID)
	}
	if len(r.Report) == 0 {
		return m, nil
	}
	var rec record
	err := json.Unmarshal(r.Report, &rec)
	if err != nil || rec.Report == nil {
		return nil, errors.Join(errors.New("pec-gateway: a stored report cannot be read"), err)
	}
	m.Verification, m.ContentCheck, m.RegisteredMail = showReport(rec), showComparison(rec.Content), showRegistered(rec.Registered)
	return m, nil
}

func showReport(rec record) *pecv1.Verification {
	v := &pecv1.Verification{
		Status: string(rec.Status), Reason: rec.Reason, Provider: rec.Provider, SignerSubject: rec.Subject, SignerAddresses: rec.Addresses,
		CertificateSha256: rec.CertificateSHA256, DigestAlgorithm: rec.DigestAlgorithm, Chain: rec.Chain, Revocation: rec.Revocation,
		TrustList: rec.TrustList, CheckTime: timestamppb.New(rec.CheckedAt),
	}
	if !rec.JudgedAt.IsZero() {
		v.JudgeTime = timestamppb.New(rec.JudgedAt)
	}
	for _, fs := range []pec.Findings{rec.Report.Findings, rec.Reading} {
		for _, f := range fs {
			v.Findings = append(v.Findings, &pecv1.MessageFinding{Code: f.Code, Severity: f.Severity.String(), Message: strings.ToValidUTF8(f.Message, "?")})
		}
	}
	return v
}

// message reads a row that the caller may see.
func (s *Service) message(ctx context.Context, tx pgx.Tx, name string) (db.Mailbox, db.Message, error) {
	tenant, box, id, err := splitMessage(name)
	if err != nil {
		return db.Mailbox{}, db.Message{}, err
	}
	mailbox, err := s.mailbox(ctx, tx, tenant, box, false)
	if err != nil {
		return mailbox, db.Message{}, err
	}
	row, err := q(tx).GetMessage(ctx, db.GetMessageParams{TenantID: tenant, MailboxID: box, ID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return mailbox, row, noMessage(name)
	}
	return mailbox, row, err
}

// GetMessage answers with one message: what the envelope says, who sent it as far as that is proven, the
// report of the verification, its files and what is dangerous about them.
func (s *Service) GetMessage(ctx context.Context, req *pecv1.GetMessageRequest) (*pecv1.Message, error) {
	var out *pecv1.Message
	var row db.Message
	tenant := strings.Split(req.GetName(), "/")[1]
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		_, row, err = s.message(ctx, tx, req.GetName())
		if err != nil {
			return err
		}
		outcomes, err := outcomesOf(ctx, tx, []uuid.UUID{row.ID})
		if err != nil {
			return err
		}
		out, err = showMessage(row, outcomes[row.ID])
		if err != nil || len(out.GetRecipients()) == 0 {
			return err
		}
		known, err := q(tx).ListFacts(ctx, db.ListFactsParams{TenantID: row.TenantID, MessageID: row.ID})
		out.Refusal = explain(known, out.GetRecipients())
		return err
	})
	if err != nil || row.QuarantineCode == codeTooLarge || row.QuarantineCode == codeReadFailed {
		return out, err
	}
	sp, err := s.fromArchive(ctx, row.ContentUri)
	if err != nil {
		return nil, err
	}
	defer sp.close()
	r, err := pec.Read(sp, sp.size, pec.Limits{Size: s.cfg.MaxMessage})
	if err != nil {
		return out, nil // the quarantine says why
	}
	for _, f := range r.Root.Header {
		if len(out.Headers) < 500 {
			out.Headers = append(out.Headers, &pecv1.HeaderField{Name: trim(f.Name, 200), Value: trim(f.Value, 4000)})
		}
	}
	for _, p := range partsOf(r) {
		out.Parts = append(out.Parts, p.shown)
	}
	return out, nil
}
