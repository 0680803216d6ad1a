package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// postSome binds documents of a company to a new message and asks the pec-gateway to send it, in one
// transaction. From here on a document is in this message and in no other, until the message is known to have
// reached nobody.
//
// A mailbox has one message at a time that its provider does not have yet: what comes meanwhile goes together in
// the next one, so that a provider who takes six messages a minute is no bottleneck. The very first message has
// one file, and nothing follows it until SdI has assigned an address.
// spec: AllA-1.9 §1.3.1
func (s *Service) postSome(ctx context.Context, p postState) error {
	now := pg.Time(s.now())
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		box, err := q.LockPecMailbox(ctx, p.mailbox)
		if err != nil || box.RetryAt != nil && box.RetryAt.After(now) {
			return err
		}
		known, err := q.PecMailboxFacts(ctx, p.mailbox)
		if err != nil || known.Leaving || known.Address == "" && known.Begun {
			return err
		}
		most := s.cfg.PEC.MessageFiles
		if known.Address == "" {
			known.Address, most = s.cfg.PEC.FirstAddress, 1
		}
		rows, err := s.pickForPost(ctx, q, p, most, now)
		if err != nil || len(rows) == 0 {
			return err
		}
		return s.mail(pg.WithTenant(ctx, p.tenant), tx, p.mailbox, known.Address, rows, now)
	})
}

// pickForPost takes what waits, oldest first, up to the size of a message. What somebody has paused is passed over.
func (s *Service) pickForPost(ctx context.Context, q *db.Queries, p postState, most int32, now time.Time) ([]db.PickForMailingRow, error) {
	pauses, err := q.OpenPauses(ctx)
	if err != nil {
		return nil, err
	}
	if pausedBy(pauses, p.company+"/invoices/-", now) != nil {
		return nil, nil // a pause covers a company as a whole
	}
	rows, err := q.PickForMailing(ctx, db.PickForMailingParams{TenantID: p.tenant, Company: p.company, N: most})
	var size int64
	for i, row := range rows {
		ref, err := blob.ParseURI(row.FileUri)
		if err != nil {
			return nil, err
		}
		size += ref.Size
		if i > 0 && size > s.cfg.PEC.MessageSize {
			return rows[:i], nil
		}
	}
	return rows, err
}

// mail writes one message down, with the documents in it, and asks for it.
func (s *Service) mail(ctx context.Context, tx pgx.Tx, mailbox, address string, rows []db.PickForMailingRow, now time.Time) error {
	id, err := pg.NewID()
	if err != nil {
		return err
	}
	var ids []uuid.UUID
	var names []string
	var files []*pecv1.Attachment
	for _, row := range rows {
		ref, err := blob.ParseURI(row.FileUri)
		if err != nil {
			return err
		}
		ids, names = append(ids, row.ID), append(names, row.FileName)
		files = append(files, &pecv1.Attachment{FileName: row.FileName, MediaType: mediaType(row.FileName),
			Content: &eventv1.Blob{Uri: row.FileUri, Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType(row.FileName)}})
	}
	q := db.New(tx)
	err = q.InsertMailing(ctx, db.InsertMailingParams{ID: id, TenantID: pg.Tenant(ctx), Mailbox: mailbox, Address: address, FileNames: names, Now: now})
	if err == nil {
		err = q.InsertMailingFiles(ctx, db.InsertMailingFilesParams{MailingID: id, TransmissionIds: ids, TenantID: pg.Tenant(ctx)})
	}
	if err == nil {
		err = q.BindToMailing(ctx, db.BindToMailingParams{MailingID: &id, Ids: ids, Now: &now})
	}
	if err != nil {
		return err
	}
	correlated := story(ctx, pg.Tenant(ctx), rows[0].Invoice, "", rows[0].Traceparent)
	s.log.InfoContext(ctx, "documents go to SdI by certified mail", "mailing", id, "mailbox", mailbox, "to", address, "documents", len(rows))
	return s.ask(correlated, tx, id, mailbox, address, names, files)
}

// ask has the pec-gateway send one message: once for each id, whoever asks again. The words in it mean nothing
// to SdI, which looks at the files alone.
// spec: AllA-1.9 §1.3.1
func (s *Service) ask(ctx context.Context, tx pgx.Tx, id uuid.UUID, mailbox, address string, names []string, files []*pecv1.Attachment) error {
	req := &pecv1.SendMessageRequest{
		Parent: mailbox, To: []string{address}, RequestId: id.String(), Attachments: files, ReceiptType: pecv1.ReceiptType_RECEIPT_TYPE_BRIEF,
		Subject: "Invio file " + names[0], Text: "In allegato:\n" + strings.Join(names, "\n") + "\n",
	}
	if len(names) > 1 {
		req.Subject = fmt.Sprintf("Invio di %d file", len(names))
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return err
	}
	ref, err := s.blobs.Put(ctx, pg.Tenant(ctx), raw) // before the event that names it
	if err != nil {
		return err
	}
	return s.bus.Emit(ctx, tx, &pecv1.MessageRequested{Mailbox: mailbox, RequestId: id.String(), Request: blobOf(ref, "application/protobuf")})
}

// mailFacts is the set of what is known of a message to SdI. The state is a function of the set, so events may
// come in any order.
type mailFacts int32

const (
	mailQueued    mailFacts = 1 << iota // the pec-gateway has it
	mailUnknown                         // handed over, and no answer came
	mailSubmitted                       // the provider took it
	mailAccepted
	mailDelivered // to SdI's mailbox: that is the transmission
	mailFailed    // nobody has it and nobody will get it
	mailOverdue   // not delivered in time, and it may be yet; or given up while unknown
	mailRefused   // the pec-gateway will not send it as it is
)

// States of a message to SdI.
const (
	mailStateFailed    = "FAILED"
	mailStateDelivered = "DELIVERED"
	mailStateOverdue   = "OVERDUE"
	mailStateUnknown   = "UNKNOWN"
)

// mailState is the state that follows from the facts. Delivered beats failed: a receipt of delivery is proven.
func mailState(f mailFacts) string {
	switch {
	case f&mailDelivered != 0:
		return mailStateDelivered
	case f&(mailFailed|mailRefused) != 0:
		return mailStateFailed
	case f&mailOverdue != 0:
		return mailStateOverdue
	case f&mailAccepted != 0:
		return "ACCEPTED"
	case f&mailSubmitted != 0:
		return "SUBMITTED"
	case f&mailUnknown != 0:
		return mailStateUnknown
	case f&mailQueued != 0:
		return "QUEUED"
	}
	return "REQUESTED"
}

// mailFactOf says what a state of the pec-gateway proves. surely: nobody has the message and nobody will get it.
func mailFactOf(state string, surely bool) mailFacts {
	if surely {
		return mailFailed
	}
	switch pecv1.MessageState(pecv1.MessageState_value[state]) {
	case pecv1.MessageState_MESSAGE_STATE_PENDING:
		return mailQueued
	case pecv1.MessageState_MESSAGE_STATE_OUTCOME_UNKNOWN:
		return mailUnknown
	case pecv1.MessageState_MESSAGE_STATE_SUBMITTED:
		return mailSubmitted
	case pecv1.MessageState_MESSAGE_STATE_ACCEPTED:
		return mailAccepted
	case pecv1.MessageState_MESSAGE_STATE_DELIVERED:
		return mailDelivered
	case pecv1.MessageState_MESSAGE_STATE_FAILED, pecv1.MessageState_MESSAGE_STATE_CANCELLED, pecv1.MessageState_MESSAGE_STATE_REJECTED,
		pecv1.MessageState_MESSAGE_STATE_REFUSED, pecv1.MessageState_MESSAGE_STATE_PARTLY_DELIVERED:
		return mailOverdue
	}
	return 0
}

func (s *Service) onMessageQueued(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageQueued) error {
	return s.learn(ctx, tx, ev.GetRequestId(), mailQueued, func(m *db.LockMailingRow) { m.Message, m.MessageID = ev.GetMessage(), ev.GetMessageId() }, nil)
}

func (s *Service) onMessageRequestRefused(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageRequestRefused) error {
	return s.learn(ctx, tx, ev.GetRequestId(), mailRefused, func(m *db.LockMailingRow) { m.Problem = ev.GetCode() + ": " + ev.GetReason() }, nil)
}

func (s *Service) onDeliveryStateChanged(ctx context.Context, tx pgx.Tx, ev *pecv1.DeliveryStateChanged) error {
	var at *time.Time
	if ev.GetCertifiedTime() != nil {
		t := pg.Time(ev.GetCertifiedTime().AsTime())
		at = &t
	}
	fact := mailFactOf(ev.GetState(), ev.GetSurelyNotSent())
	return s.learn(ctx, tx, ev.GetRequestId(), fact, func(m *db.LockMailingRow) {
		m.Message = ev.GetMessage()
		if fact == mailFailed {
			m.Problem = "PEC_" + strings.TrimPrefix(ev.GetState(), "MESSAGE_STATE_") + ": the message reached nobody; its receipts are at " + ev.GetMessage()
		}
	}, at)
}

// learn adds a fact about a message to SdI and does what follows. Messages that are not ours are other people's.
func (s *Service) learn(ctx context.Context, tx pgx.Tx, requestID string, fact mailFacts, note func(*db.LockMailingRow), at *time.Time) error {
	id, err := uuid.Parse(requestID)
	if err != nil {
		return nil // a message that nobody asked for by an event, from before requests were told
	}
	q := db.New(tx)
	m, err := q.LockMailing(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	now := pg.Time(s.now())
	before := mailFacts(m.Facts)
	note(&m)
	m.Facts |= int32(fact)
	m.State = mailState(mailFacts(m.Facts))
	fresh := before&fact == 0 && fact != 0
	settled := m.State == mailStateDelivered || m.State == mailStateFailed
	if settled && m.SettledAt == nil {
		m.SettledAt = &now
	}
	err = q.StoreMailing(ctx, db.StoreMailingParams{ID: m.ID, Facts: m.Facts, State: m.State, Message: m.Message, MessageID: m.MessageID,
		Problem: plainText(m.Problem, 1000), Now: now, SettledAt: m.SettledAt})
	switch {
	case err != nil || !fresh:
		return err
	case fact == mailDelivered:
		return s.mailArrived(ctx, tx, &m, before&(mailFailed|mailRefused) != 0, at, now)
	case m.State == mailStateFailed && before&(mailFailed|mailRefused) == 0:
		return s.mailLost(ctx, tx, &m, fact, now)
	case m.OutcomeID != nil && (m.State == mailStateUnknown || m.State == mailStateOverdue):
		return s.outcomeInDoubt(ctx, tx, &m)
	}
	return nil
}
