package conservation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// post has the day's checkpoint sent by certified mail to the tenants who named a mailbox: the provider's receipts are an
// opposable date, and they and the message lie where the platform need not reach.
func (l *logbook) post(ctx context.Context, tx pgx.Tx, point db.LogCheckpoint, witnesses []string, tenants []db.UntoldTenantsRow) error {
	var names []string
	sequence := map[string]int64{}
	for _, t := range tenants {
		names = append(names, t.TenantID)
		sequence[t.TenantID] = t.Sequence
	}
	q := db.New(tx)
	boxes, err := q.StatementMails(ctx, db.StatementMailsParams{Tenants: names, Size: point.Size})
	if err != nil {
		return err
	}
	for _, box := range boxes {
		id := uuid.NewSHA1(rdvSpace, fmt.Appendf(nil, "statement %s %s %d", box.TenantID, box.Mailbox, point.Size))
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(l.letter(point, witnesses, box, sequence[box.TenantID], id))
		if err != nil {
			return err
		}
		ref, err := l.blobs.Put(ctx, box.TenantID, raw) // before the event that names it
		if err != nil {
			return err
		}
		err = l.watchers.bus.Emit(pg.WithTenant(ctx, box.TenantID), tx, &pecv1.MessageRequested{
			Mailbox: box.Mailbox, RequestId: id.String(),
			Request: &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: "application/protobuf"},
		})
		if err != nil {
			return err
		}
		at := pg.Time(l.now())
		err = q.SetStatementSent(ctx, db.SetStatementSentParams{TenantID: box.TenantID, Size: point.Size, At: &at, Request: &id})
		if err != nil {
			return err
		}
	}
	return nil
}

// letter is the statement: the signed checkpoint and its time stamp as files, and how to use them. It names nobody.
func (l *logbook) letter(point db.LogCheckpoint, witnesses []string, box db.StatementMail, sequence int64, id uuid.UUID) *pecv1.SendMessageRequest {
	day := point.StampTime.UTC().Format(time.DateOnly)
	cosigned := "nessuno"
	if len(witnesses) > 0 {
		cosigned = strings.Join(witnesses, ", ")
	}
	text := fmt.Sprintf(`Registro di evidenza %s
Elementi del registro: %d
Elementi che Vi riguardano: %d
Marca temporale: %s
Testimoni: %s

In allegato il checkpoint firmato e la sua marca temporale. Conservateli fuori dalla piattaforma: con essi
e con le ricevute dei documenti chiunque accerta, senza di noi, che nulla e' stato tolto, cambiato o aggiunto.
  ceralacca conserve verify PACCHETTO --log-key CHIAVE --receipt RICEVUTA --checkpoint %s.checkpoint
`, l.cfg.Origin, point.Size, sequence, point.StampTime.UTC().Format(time.RFC3339), cosigned, day)
	return &pecv1.SendMessageRequest{
		Parent: box.Mailbox, To: []string{box.Address}, RequestId: id.String(), ReceiptType: pecv1.ReceiptType_RECEIPT_TYPE_COMPLETE,
		Subject: fmt.Sprintf("Stato del registro di conservazione al %s", day), Text: text,
		Attachments: []*pecv1.Attachment{
			{FileName: day + ".checkpoint", MediaType: "text/plain", Data: point.Note},
			{FileName: day + ".tst", MediaType: "application/octet-stream", Data: point.Stamp},
		},
	}
}

// onMessageRequestRefused notes why a statement was not taken for sending; requests of others are not known here.
func (s *Service) onMessageRequestRefused(ctx context.Context, tx pgx.Tx, ev *pecv1.MessageRequestRefused) error {
	id, err := uuid.Parse(ev.GetRequestId())
	if err != nil {
		return nil //nolint:nilerr // none of ours
	}
	n, err := db.New(tx).SetStatementTrouble(ctx, db.SetStatementTroubleParams{TenantID: pg.Tenant(ctx), Request: &id, Trouble: ev.GetCode() + ": " + ev.GetReason()})
	if n > 0 {
		s.log.WarnContext(ctx, "the statement of the log was not taken for sending", "mailbox", ev.GetMailbox(), "code", ev.GetCode())
	}
	return err
}

// SetStatementMail names where a tenant is told by certified mail, or ends it.
func (e evidence) SetStatementMail(ctx context.Context, req *conservationv1.SetStatementMailRequest) (*conservationv1.StatementMail, error) {
	err := e.on()
	if err != nil {
		return nil, err
	}
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	box, address := req.GetMailbox(), req.GetAddress()
	if (box == "") != (address == "") || (address != "" && !strings.Contains(address, "@")) || strings.ContainsAny(address, " \t\r\n,;<>") {
		return nil, fault.Invalid("STATEMENT_MAIL_INCOMPLETE", "mailbox and address go together: the mailbox that sends, and one address of certified mail; both empty end it").
			WithField("address", "STATEMENT_MAIL_INCOMPLETE", "give one address, or neither")
	}
	if box != "" && !strings.HasPrefix(box, req.GetParent()+"/mailboxes/") {
		return nil, fault.Denied("FOREIGN_MAILBOX", "the mailbox %s is of another tenant", box)
	}
	err = e.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		if box == "" {
			err = q.DropStatementMail(ctx, tenant)
		} else {
			err = q.SetStatementMail(ctx, db.SetStatementMailParams{TenantID: tenant, Mailbox: box, Address: address})
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "statement.mail", Resource: req.GetParent(), Detail: map[string]string{"mailbox": box}})
	})
	if err != nil {
		return nil, err
	}
	return e.GetStatementMail(ctx, &conservationv1.GetStatementMailRequest{Parent: req.GetParent()})
}

// GetStatementMail reads it; empty when none was named.
func (e evidence) GetStatementMail(ctx context.Context, req *conservationv1.GetStatementMailRequest) (*conservationv1.StatementMail, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	var row db.StatementMail
	err = e.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).GetStatementMail(ctx, tenant)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return &conservationv1.StatementMail{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &conservationv1.StatementMail{Mailbox: row.Mailbox, Address: row.Address, SentSize: row.SentSize, SendTime: timeMessage(row.SentAt), Trouble: row.Trouble}, nil
}
