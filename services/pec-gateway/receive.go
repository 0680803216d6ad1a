package pecgateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// found is one message on its way in: where it stood and what its bytes are.
type found struct {
	uid  string
	date time.Time // of the server; zero when it does not say
	sp   *spool

	ref    blob.Ref
	judged *judged
}

// place is where messages were found.
type place struct {
	folder   string // as the server names it
	shown    string
	validity uint32
	sent     bool // the folder of what was sent: nothing in it was received
}

// errFenced: another replica presides over the mailbox, or its owner changed it.
var errFenced = fault.Aborted("MAILBOX_CHANGED_HANDS", "another replica presides over the mailbox, or it was changed")

// receive archives messages, reads them and records them in one transaction. First the bytes are safe,
// then they are understood: a crash in between costs a second reading.
func (v *visit) receive(ctx context.Context, at place, items []*found) error {
	release, err := v.s.slot(ctx)
	if err != nil {
		return err
	}
	defer release()
	trust, err := v.s.trustNow(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(items))
	var reading sync.WaitGroup
	for i, f := range items {
		reading.Go(func() { errs[i] = v.read(ctx, trust, f) })
	}
	reading.Wait()
	err = errors.Join(errs...)
	if err != nil {
		return err
	}
	return v.s.db.Tx(ctx, v.box.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		err := v.hold(ctx, tx)
		if err != nil {
			return err
		}
		fresh := 0
		for _, f := range items {
			isNew, err := v.record(ctx, tx, at, f)
			if err != nil {
				return err
			}
			if isNew {
				fresh++
			}
		}
		if fresh == 0 {
			return nil
		}
		now := pg.Time(v.s.now())
		return q(tx).RecordFetched(ctx, db.RecordFetchedParams{TenantID: v.box.TenantID, ID: v.box.ID, Fetched: int64(fresh), ReceiveTime: &now})
	})
}

// hold makes sure that the mailbox is still ours until the end of the transaction.
func (v *visit) hold(ctx context.Context, tx pgx.Tx) error {
	fence, err := q(tx).HoldFence(ctx, db.HoldFenceParams{TenantID: v.box.TenantID, ID: v.box.ID})
	if err == nil && fence != v.box.Fence {
		err = errFenced
	}
	return err
}

func (v *visit) read(ctx context.Context, trust *trusted, f *found) error {
	var err error
	f.ref, err = v.s.archive(ctx, v.box.TenantID, f.sp)
	if err != nil {
		return err
	}
	f.judged, err = v.s.judge(ctx, f.sp, trust.verification(v.box, f.date, v.s.now()))
	if err == nil {
		err = v.s.compare(ctx, v.box, f.judged)
	}
	return err
}

// record writes a message down; false when its bytes are known already.
func (v *visit) record(ctx context.Context, tx pgx.Tx, at place, f *found) (bool, error) {
	tenant, j := v.box.TenantID, f.judged
	id, err := pg.NewID()
	if err != nil {
		return false, err
	}
	folder := at.shown
	if !at.sent {
		folder = v.ordinary(j, folder)
	}
	about, err := v.s.correlate(ctx, tx, v.box, j)
	if err != nil {
		return false, err
	}
	now := pg.Time(v.s.now())
	p := received(v.box, id, j, f.ref)
	p.Folder, p.ReceiveTime = trim(folder, 300), now
	if about != nil {
		p.AboutID, p.Doubts = &about.sent.ID, append(p.Doubts, about.doubts...)
	}
	_, err = q(tx).InsertReceived(ctx, p)
	known := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !known {
		return false, err
	}
	if known {
		id, err = q(tx).MessageOfContent(ctx, db.MessageOfContentParams{TenantID: tenant, MailboxID: v.box.ID, Sha256: f.ref.SHA256[:]})
		if err != nil {
			return false, err
		}
	}
	err = q(tx).InsertLocation(ctx, db.InsertLocationParams{TenantID: tenant, MailboxID: v.box.ID, Folder: at.folder,
		UidValidity: int64(at.validity), Uid: f.uid, MessageID: id})
	if err != nil || known {
		return false, err
	}
	if !at.sent && j.code != codeRejected {
		err = v.s.bus.Emit(bus.WithCorrelation(ctx, id.String()), tx, &pecv1.MessageReceived{
			Message: messageName(tenant, v.box.ID, id), Kind: j.kind.String(), Content: content(f.ref), ReceiveTime: timestamppb.New(now),
			Initial: v.box.SyncEndTime == nil, Verdict: j.verdict(),
		})
		if err != nil {
			return false, err
		}
	}
	return true, v.s.believe(ctx, tx, v.box, id, j, about, f.ref)
}

// received is the row of a message.
func received(box db.Mailbox, id uuid.UUID, j *judged, ref blob.Ref) db.InsertReceivedParams {
	p := db.InsertReceivedParams{
		TenantID: box.TenantID, ID: id, MailboxID: box.ID, Kind: int16(j.kind), Tipo: string(j.tipo), State: int16(pecv1.MessageState_MESSAGE_STATE_RECEIVED),
		MessageID: j.messageD, Reference: j.ref, Identificativo: j.ident, FromAddress: j.from, CertifiedSender: j.sender, Recipients: j.to,
		Subject: j.subject, Proven: j.proven, Report: j.stored, Doubts: j.doubts, QuarantineCode: j.code, Quarantine: trim(j.reason, 1000),
		ContentUri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, CertifiedTime: j.certTime,
	}
	if j.report != nil {
		p.Verification = string(j.report.Status)
	}
	return p
}

func content(ref blob.Ref) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "message/rfc822"}
}

// ordinary applies the rule for mail that is not certified: what is proven to be a transport envelope or
// a receipt is no such mail, what merely claims to be is.
func (v *visit) ordinary(j *judged, folder string) string {
	if j.code != "" || j.kind != pecv1.MessageKind_MESSAGE_KIND_ORDINARY && j.kind != pecv1.MessageKind_MESSAGE_KIND_ANOMALY {
		return folder
	}
	switch pecv1.OrdinaryAction(v.box.OrdinaryAction) {
	case pecv1.OrdinaryAction_ORDINARY_ACTION_MOVE:
		return v.box.OrdinaryFolder
	case pecv1.OrdinaryAction_ORDINARY_ACTION_REJECT:
		j.code, j.reason = codeRejected, "mail that is not certified is kept away by the rule of the mailbox"
	}
	return folder
}

// correlated is the sent message that a receipt is about.
type correlated struct {
	sent   db.Message
	doubts []string
	counts bool // the receipt may change its state
}

// correlate finds the sent message that a proven receipt is about: by our Message-ID, then by the
// provider's identifier. nil: it is about none of ours. spec: RFC6109 §2.2.1, §4.4
func (s *Service) correlate(ctx context.Context, tx pgx.Tx, box db.Mailbox, j *judged) (*correlated, error) {
	if !j.proven || !j.tipo.Receipt() || j.ref == "" && j.ident == "" {
		return nil, nil
	}
	row, err := q(tx).SentOf(ctx, db.SentOfParams{TenantID: box.TenantID, MailboxID: box.ID, Msgid: j.ref, Identificativo: j.ident})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	recipients, err := q(tx).ListRecipients(ctx, db.ListRecipientsParams{TenantID: box.TenantID, MessageID: row.ID})
	if err != nil {
		return nil, err
	}
	sent := pec.Sent{MessageID: row.MessageID, Identificativo: row.Identificativo}
	for _, r := range recipients {
		sent.Recipients = append(sent.Recipients, r.Address)
	}
	m := pec.Match(j.reading, sent)
	if !m.Ours {
		return nil, nil
	}
	c := &correlated{sent: row, counts: !m.Findings.Has(pec.CodeRecipient)}
	for _, f := range m.Findings {
		c.doubts = append(c.doubts, trim(f.Code+": "+f.Message, 500))
	}
	return c, nil
}

// believe keeps the report and draws the conclusions of a proven receipt.
func (s *Service) believe(ctx context.Context, tx pgx.Tx, box db.Mailbox, id uuid.UUID, j *judged, about *correlated, ref blob.Ref) error {
	if j.report == nil {
		return nil
	}
	reportID, err := pg.NewID()
	if err != nil {
		return err
	}
	err = q(tx).InsertReport(ctx, db.InsertReportParams{TenantID: box.TenantID, MessageID: id, ID: reportID, Status: string(j.report.Status),
		Proven: j.proven, Report: j.stored, CheckTime: pg.Time(s.now())})
	if err != nil {
		return err
	}
	if j.report.Status == pec.StatusUnlisted {
		err = s.seeCertificate(ctx, tx, j.report.Certificate, j.report.Addresses)
		if err != nil {
			return err
		}
	}
	if about == nil {
		return nil
	}
	ctx = bus.WithCorrelation(ctx, about.sent.ID.String())
	err = s.bus.Emit(ctx, tx, &pecv1.ReceiptVerified{
		Message: messageName(box.TenantID, box.ID, about.sent.ID), Kind: j.kind.String(), Content: content(ref), Receipt: messageName(box.TenantID, box.ID, id),
	})
	if err != nil || !about.counts {
		return err
	}
	fact, ok := pec.FactOf(j.reading)
	if !ok {
		return nil
	}
	isNew, err := s.know(ctx, tx, about.sent.ID, fact, &id)
	if err == nil && isNew && j.content.differs() {
		err = s.flagContent(ctx, tx, about.sent, db.RemarkFactParams{TenantID: box.TenantID, MessageID: about.sent.ID, ReceiptID: id}, j)
	}
	if err != nil || !isNew {
		return err
	}
	_, err = s.advance(ctx, tx, about.sent.ID)
	return err
}
