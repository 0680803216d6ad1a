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
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// ListQuarantinedMessages lists what could not be read or is kept away, with the reason.
func (s *Service) ListQuarantinedMessages(ctx context.Context, req *pecv1.ListQuarantinedMessagesRequest) (*pecv1.ListQuarantinedMessagesResponse, error) {
	hash := pg.FilterHash("quarantine", req.GetParent())
	var last uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &last)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListQuarantineParams{PageSize: size + 1}
	if found {
		p.Before = &last
	}
	out := &pecv1.ListQuarantinedMessagesResponse{}
	err = s.look(ctx, req.GetParent(), func(ctx context.Context, tx pgx.Tx, box db.Mailbox) error {
		p.TenantID, p.MailboxID = box.TenantID, box.ID
		rows, err := q(tx).ListQuarantine(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, hash, func(r db.Message) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			out.Messages = append(out.Messages, &pecv1.QuarantinedMessage{Name: messageName(r.TenantID, r.MailboxID, r.ID), Code: r.QuarantineCode,
				Reason: r.Quarantine, Content: rowContent(r), ReceiveTime: timestamppb.New(r.ReceiveTime)})
		}
		return err
	})
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
		Name: messageName(r.TenantID, r.MailboxID, r.ID), Kind: pecv1.MessageKind(r.Kind), State: pecv1.MessageState(r.State), MessageId: nameLeft(r.MessageID),
		ProviderId: r.Identificativo, From: r.FromAddress, To: r.Recipients, Subject: r.Subject, Content: rowContent(r), CreateTime: timestamppb.New(r.CreateTime),
		Doubts: r.Doubts, Direction: pecv1.MessageDirection(r.Direction), Folder: r.Folder, Type: r.Tipo, Proven: r.Proven, CertifiedSender: r.CertifiedSender,
		CertifiedTime: stamp(r.CertifiedTime), ReceiveTime: timestamppb.New(r.ReceiveTime), Recipients: outcomes, Contradictions: r.Contradictions,
		Attachments: r.Attachments, Destruction: destruction(r),
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
		TrustList: rec.TrustList, CheckTime: timestamppb.New(rec.CheckedAt), Vouched: showVouched(rec.Vouched),
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
		return mailbox, row, s.guessed(ctx, tx, mailbox, noMessage(name), id)
	}
	return mailbox, row, err
}

// GetMessage answers with one message: what the envelope says, who sent it as far as that is proven, the
// report of the verification, its files and what is dangerous about them.
func (s *Service) GetMessage(ctx context.Context, req *pecv1.GetMessageRequest) (*pecv1.Message, error) {
	var out *pecv1.Message
	var row db.Message
	tenant := strings.Split(req.GetName(), "/")[1]
	err := s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
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
		if err != nil {
			return err
		}
		out.ProviderRemoveTime, err = removedAt(ctx, tx, row)
		if err != nil {
			return err
		}
		out.Preservation, err = preservationOf(ctx, tx, row)
		if err != nil || len(out.GetRecipients()) == 0 {
			return err
		}
		known, err := q(tx).ListFacts(ctx, db.ListFactsParams{TenantID: row.TenantID, MessageID: row.ID})
		out.Refusal = explain(counted(known), out.GetRecipients())
		return err
	})
	if err != nil || destruction(row) != nil || row.QuarantineCode == codeTooLarge || row.QuarantineCode == codeReadFailed {
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
