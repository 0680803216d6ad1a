package pecgateway

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// ReadMessageAgain judges the kept bytes of a received message by the trust list of today. The new report
// stands beside the earlier ones; a receipt that is proven now counts now. Faults: Precondition
// MESSAGE_SENT for a message of ours, DOCUMENT_DESTROYED.
func (s *Service) ReadMessageAgain(ctx context.Context, req *pecv1.ReadMessageAgainRequest) (*pecv1.Message, error) {
	err := s.untilTrustRests(ctx, func() error { return s.readAgain(ctx, req.GetName()) })
	if err != nil {
		return nil, err
	}
	return s.GetMessage(ctx, &pecv1.GetMessageRequest{Name: req.GetName()})
}

func (s *Service) readAgain(ctx context.Context, name string) error {
	tenant := strings.Split(name, "/")[1]
	var box db.Mailbox
	var row db.Message
	err := s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		box, row, err = s.standing(ctx, tx, name)
		return err
	})
	if err != nil {
		return err
	}
	if row.Direction != int16(pecv1.MessageDirection_MESSAGE_DIRECTION_RECEIVED) {
		return fault.Precondition("MESSAGE_SENT", "the message was sent, not received: there is nothing to judge")
	}
	j, ref, err := s.judgeKept(ctx, box, row)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.recordAgain(ctx, tx, box, row, j, ref, name, "")
		return err
	})
}

func (s *Service) judgeKept(ctx context.Context, box db.Mailbox, row db.Message) (*judged, blob.Ref, error) {
	ref, err := blob.ParseURI(row.ContentUri)
	if err != nil {
		return nil, ref, err
	}
	sp, err := s.fromArchive(ctx, row.ContentUri)
	if err != nil {
		return nil, ref, err
	}
	defer sp.close()
	trust, err := s.trustNow(ctx)
	if err != nil {
		return nil, ref, err
	}
	v := trust.verification(box, time.Time{}, s.now())
	v.At = judgedAt(row)
	standing, err := s.standingVouchings(ctx, box)
	if err != nil {
		return nil, ref, err
	}
	j, err := s.judge(ctx, sp, v, standing)
	if err == nil {
		j.list = trust.version
		var sent sentBatch
		defer sent.close()
		err = s.compare(ctx, box, j, &sent)
	}
	return j, ref, err
}

// recordAgain writes a later judgement beside the earlier ones. because names the change of the trust list, or the word of a person, that
// asked for it, empty for a person who asked for this message. It says whether the state of a sent message stands on a receipt that is not proven any more.
func (s *Service) recordAgain(ctx context.Context, tx pgx.Tx, box db.Mailbox, row db.Message, j *judged, ref blob.Ref, name, because string) (bool, error) {
	err := s.holdTrust(ctx, tx, j.list)
	if err == nil {
		err = s.holdVouchings(ctx, tx, box, j)
	}
	if err == nil { // what became of it while it was judged
		row, err = q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: row.TenantID, ID: row.ID})
	}
	if err == nil {
		err = notDestroyed(row)
	}
	if err != nil {
		return false, err
	}
	about, err := s.correlate(ctx, tx, box, j)
	if err != nil {
		return false, err
	}
	if row.QuarantineCode == codeRejected && j.code == "" && j.isOrdinary() {
		j.code, j.reason = row.QuarantineCode, row.Quarantine // reading it again lets in nothing that a rule kept away
	}
	p := received(box, row.ID, j, ref)
	aboutID := row.AboutID // what it counted for is told also when it does not any more
	if about != nil {
		aboutID, p.Doubts = &about.sent.ID, append(p.Doubts, about.doubts...)
	}
	err = q(tx).UpdateReading(ctx, db.UpdateReadingParams{
		TenantID: row.TenantID, ID: row.ID, Kind: p.Kind, Tipo: p.Tipo, MessageID: p.MessageID, Reference: p.Reference, Identificativo: p.Identificativo,
		FromAddress: p.FromAddress, CertifiedSender: p.CertifiedSender, Recipients: p.Recipients, Subject: p.Subject, Proven: p.Proven,
		Verification: p.Verification, Report: p.Report, Doubts: p.Doubts, QuarantineCode: p.QuarantineCode, Quarantine: p.Quarantine,
		AboutID: aboutID, CertifiedTime: p.CertifiedTime,
	})
	if err != nil {
		return false, err
	}
	err = s.searchable(ctx, tx, box, noted{row.ID, j.words, j.files})
	if err != nil {
		return false, err
	}
	err = s.bus.Emit(bus.WithCorrelation(ctx, row.ID.String()), tx, &pecv1.MessageJudged{
		Message: name, Content: content(ref), ReceiveTime: timestamppb.New(row.ReceiveTime), Verdict: j.verdict(),
	})
	if err != nil {
		return false, err
	}
	doubted := false
	if row.AboutID != nil {
		about = nil // it was told and counted before
		doubted, err = s.doubt(ctx, tx, *row.AboutID, row, j)
	}
	if err == nil {
		err = s.believe(ctx, tx, box, row.ID, j, about, ref)
	}
	if err != nil {
		return false, err
	}
	detail := map[string]string{"verification": p.Verification}
	if because != "" {
		detail["because"] = because
	}
	return doubted, telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.read_again", Resource: name, Detail: detail})
}
