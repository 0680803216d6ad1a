package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// readInbound understands one delivery. The first of a file finds its company, or the reason why it has
// none; the others are written down. Metadata that could not be read are the one trouble that a further
// delivery may mend.
func (s *Service) readInbound(ctx context.Context, job *river.Job[readInboundArgs]) error {
	var d db.ReadInboundDeliveryRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		d, err = db.New(tx).ReadInboundDelivery(ctx, job.Args.Delivery)
		return err
	})
	if err != nil || d.ReadAt != nil {
		return err
	}
	file, err := s.inboundBytes(ctx, d.FileUri)
	if err != nil {
		return err
	}
	metadata, err := s.inboundBytes(ctx, d.MetadataUri)
	if err != nil {
		return err
	}
	u := s.openInbound(ctx, d.FileName, d.SdiID, d.MetadataName, file, metadata)
	company, by := "", ""
	open := stillOpen(d.State, d.ReasonCode)
	if open && u.why.code == "" {
		found, err := s.lookUp(ctx, u.address())
		if err != nil {
			return err
		}
		company, by, u.why = route(found)
	}
	var kept keptBlobs
	if open && company != "" {
		kept, err = s.keepFor(ctx, tenantOf(company), file, metadata)
		if err != nil {
			return err
		}
	}
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return s.applyInbound(ctx, tx, job.Args.Delivery, &d, &u, placing{company: company, by: by, blobs: kept})
	})
}

// stillOpen says whether a delivery may still decide whose its file is.
func stillOpen(state, reasonCode string) bool {
	return state == inboundTaken || state == inboundQuarantined && strings.HasPrefix(reasonCode, metadataReasonPrefix)
}

// placing is the company that was found for a file, and its own copies of the bytes.
type placing struct {
	company string // tenants/{tenant}/companies/{company}; empty: none
	by      string
	blobs   keptBlobs
}

// keptBlobs are the bytes under the tenant that they belong to.
type keptBlobs struct{ file, metadata blob.Ref }

// keepFor stores the bytes for a tenant: blobs are never shared, so that a tenant's data can leave as a whole.
func (s *Service) keepFor(ctx context.Context, tenant string, file, metadata []byte) (k keptBlobs, err error) {
	k.file, err = s.blobs.Put(ctx, tenant, file)
	if err == nil && len(metadata) > 0 {
		k.metadata, err = s.blobs.Put(ctx, tenant, metadata)
	}
	return k, err
}

// inboundBytes reads a blob; none for an empty reference.
func (s *Service) inboundBytes(ctx context.Context, uri string) ([]byte, error) {
	if uri == "" {
		return nil, nil
	}
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	return s.blobs.Get(ctx, ref)
}

// applyInbound writes down what a delivery was found to mean, in one transaction with its events.
func (s *Service) applyInbound(ctx context.Context, tx pgx.Tx, delivery uuid.UUID, d *db.ReadInboundDeliveryRow, u *understanding, p placing) error {
	q := db.New(tx)
	err := q.LockSdiID(ctx, d.SdiID)
	if err != nil {
		return err
	}
	attempt := int32(0)
	if u.metadata != nil {
		attempt = int32(min(max(u.metadata.TentativiInvio, 0), 1_000_000))
	}
	problem, err := s.attemptProblem(ctx, q, d.FileID, delivery, attempt, u)
	if err != nil {
		return err
	}
	now := pg.Time(s.now())
	fresh, err := q.MarkInboundDelivery(ctx, db.MarkInboundDeliveryParams{ID: delivery, Attempt: attempt, Problem: problem, ReadAt: now})
	if err != nil || fresh == 0 {
		return err
	}
	row, err := q.LockInboundFile(ctx, d.FileID)
	if err != nil || !stillOpen(row.State, row.ReasonCode) {
		return err
	}
	row.MetadataName, row.MetadataUri = d.MetadataName, d.MetadataUri
	u.describe(&row)
	other, err := q.OtherInboundFile(ctx, db.OtherInboundFileParams{SdiID: row.SdiID, ID: row.ID})
	switch {
	case err == nil:
		p, u.why = placing{}, reason{reasonConflict, fmt.Sprintf("IdentificativoSdI %s came before with the file %s (SHA-256 %s): compare both (inboundFiles/%s)",
			row.SdiID, other.FileName, hexOf(other.Sha256), other.ID)}
	case !errors.Is(err, pgx.ErrNoRows):
		return err
	}
	row.ReasonCode, row.Reason = u.why.code, u.why.text
	if p.company != "" {
		return s.place(ctx, tx, &row, u, p)
	}
	row.State, row.AnswerBy = inboundQuarantined, answerBy(row.Format, row.ReceivedAt)
	s.log.WarnContext(ctx, "a file of SdI belongs to nobody yet; it is kept in quarantine", "file", row.FileName, "sdi_id", row.SdiID, "inbound_file", row.ID, "code", row.ReasonCode)
	err = s.storeInbound(ctx, tx, &row)
	if err == nil {
		err = q.InsertInboundBodies(ctx, u.bodies(&row))
	}
	return err
}

// attemptProblem says what is remarkable about a delivery: metadata that cannot be read, and a TentativiInvio
// that came before, which SdI's counting does not explain.
// spec: SDICoop-R-3.2 §2
func (s *Service) attemptProblem(ctx context.Context, q *db.Queries, file, delivery uuid.UUID, attempt int32, u *understanding) (string, error) {
	if strings.HasPrefix(u.why.code, metadataReasonPrefix) {
		return u.why.code + ": " + u.why.text, nil
	}
	before, err := q.CountInboundAttempts(ctx, db.CountInboundAttemptsParams{FileID: file, Attempt: attempt, ID: delivery})
	if err != nil || before == 0 || attempt == 0 {
		return "", err
	}
	return fmt.Sprintf("%s: TentativiInvio %d came with another delivery; a repeated one counts further", problemAttemptTwice, attempt), nil
}

// place gives a file to a company: the row, its documents, its notices, and the event.
func (s *Service) place(ctx context.Context, tx pgx.Tx, row *db.InboundFile, u *understanding, p placing) error {
	row.TenantID, row.CompanyID, row.RoutedBy = tenantOf(p.company), companyOf(p.company), p.by
	row.FileUri, row.MetadataUri = p.blobs.file.URI(), ""
	if !p.blobs.metadata.IsZero() {
		row.MetadataUri = p.blobs.metadata.URI()
	}
	bodies := u.bodies(row)
	row.AnswerBy = answerBy(row.Format, row.ReceivedAt)
	row.State = inboundStateOf(row.Format, len(bodies.Positions), false, nil)
	ctx = pg.WithTenant(bus.WithCorrelation(ctx, row.ID.String()), row.TenantID)
	err := s.storeInbound(ctx, tx, row)
	if err == nil {
		err = db.New(tx).AdoptInboundDeliveries(ctx, db.AdoptInboundDeliveriesParams{TenantID: row.TenantID, FileID: row.ID})
	}
	if err == nil {
		err = db.New(tx).InsertInboundBodies(ctx, bodies)
	}
	if err == nil {
		err = s.bus.Emit(ctx, tx, receivedEvent(row, &bodies, p.blobs))
	}
	if err == nil {
		err = s.applyNotices(ctx, tx, row)
	}
	return err
}

func (s *Service) storeInbound(ctx context.Context, tx pgx.Tx, r *db.InboundFile) error {
	r.UpdatedAt = pg.Time(s.now())
	return db.New(tx).StoreInboundFile(ctx, db.StoreInboundFileParams{
		ID: r.ID, TenantID: r.TenantID, CompanyID: r.CompanyID, FileUri: r.FileUri, MetadataName: r.MetadataName, MetadataUri: r.MetadataUri,
		State: r.State, RoutedBy: r.RoutedBy, ReasonCode: r.ReasonCode, Reason: r.Reason, Format: r.Format,
		RecipientCode: r.RecipientCode, Signed: r.Signed, SellerName: r.SellerName, SellerVat: r.SellerVat, SellerTax: r.SellerTax,
		BuyerName: r.BuyerName, BuyerVat: r.BuyerVat, BuyerTax: r.BuyerTax, AnswerBy: r.AnswerBy, ExpiredAt: r.ExpiredAt, UpdatedAt: r.UpdatedAt,
	})
}

func receivedEvent(row *db.InboundFile, bodies *db.InsertInboundBodiesParams, kept keptBlobs) *sdiv1.InboundInvoiceReceived {
	ev := &sdiv1.InboundInvoiceReceived{
		InboundInvoice: inboundName(row), SdiId: row.SdiID, FileName: row.FileName, Format: row.Format, RecipientCode: row.RecipientCode,
		RoutedBy: row.RoutedBy, Original: blobOf(kept.file, mediaType(row.FileName)), ReceiveTime: timestamppb.New(row.ReceivedAt),
	}
	if !kept.metadata.IsZero() {
		ev.Metadata = blobOf(kept.metadata, "application/xml")
	}
	if row.AnswerBy != nil {
		ev.AnswerBy = timestamppb.New(*row.AnswerBy)
	}
	// An event is no place for ten thousand documents: who needs them all reads the invoice.
	for i := range min(len(bodies.Positions), 100) {
		ev.Documents = append(ev.Documents, &sdiv1.InboundDocument{
			Position: bodies.Positions[i], DocumentType: bodies.Types[i], Number: bodies.Numbers[i], Date: bodies.Dates[i],
		})
	}
	return ev
}

func blobOf(ref blob.Ref, mediaType string) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType}
}

// readNotice applies a notice to the file that it is about, when that has found its company; else it waits.
func (s *Service) readNotice(ctx context.Context, job *river.Job[readNoticeArgs]) error {
	return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		sdiID, err := q.NoticeSdiID(ctx, job.Args.Notice)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // applied with its file
		}
		if err == nil {
			err = q.LockSdiID(ctx, sdiID)
		}
		if err != nil {
			return err
		}
		id, err := q.RoutedInboundFile(ctx, sdiID)
		if errors.Is(err, pgx.ErrNoRows) {
			s.log.WarnContext(ctx, "a notice of SdI is about no received file that has a company; it waits for one", "sdi_id", sdiID, "notice", job.Args.Notice)
			return q.SettleNotice(ctx, db.SettleNoticeParams{ID: job.Args.Notice, Problem: "SDI_UNKNOWN_FILE: no received file with this IdentificativoSdI has a company"})
		}
		if err != nil {
			return err
		}
		row, err := q.LockInboundFile(ctx, id)
		if err != nil {
			return err
		}
		return s.applyNotices(pg.WithTenant(bus.WithCorrelation(ctx, row.ID.String()), row.TenantID), tx, &row)
	})
}

// applyNotices closes the term of a file with the notices that wait for it.
func (s *Service) applyNotices(ctx context.Context, tx pgx.Tx, row *db.InboundFile) error {
	q := db.New(tx)
	waiting, err := q.WaitingNotices(ctx, row.SdiID)
	if err != nil {
		return err
	}
	for _, n := range waiting {
		now := pg.Time(s.now())
		settle := db.SettleNoticeParams{ID: n.ID, TenantID: row.TenantID, FileID: &row.ID, AppliedAt: &now}
		message, err := sdi.ParseMessage(n.FileName, n.Raw)
		if err == nil && message.Type() != sdi.DT {
			err = fault.Invalid("SDI_MESSAGE_UNEXPECTED", "a message of type %s is not for a receiver", message.Type())
		}
		if err != nil {
			settle.Problem = "SDI_MESSAGE_UNREADABLE: " + sentence(err)
			s.log.WarnContext(ctx, "a notice of SdI cannot be read; it is kept", "sdi_id", n.SdiID, "notice", n.ID, "error", err)
		} else {
			err = s.expire(ctx, tx, row, n)
		}
		if err == nil || settle.Problem != "" {
			err = q.SettleNotice(ctx, settle)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expire notes that SdI has ended the term, and tells the tenant once.
func (s *Service) expire(ctx context.Context, tx pgx.Tx, row *db.InboundFile, n db.WaitingNoticesRow) error {
	if row.ExpiredAt != nil {
		return nil
	}
	ref, err := s.blobs.Put(ctx, row.TenantID, n.Raw)
	if err != nil {
		return err
	}
	at := n.ReceivedAt
	row.ExpiredAt = &at
	err = s.refreshState(ctx, tx, row)
	if err != nil {
		return err
	}
	return s.bus.Emit(ctx, tx, &sdiv1.InboundTermExpired{
		InboundInvoice: inboundName(row), SdiId: row.SdiID, FileName: n.FileName, Content: blobOf(ref, "application/xml"), ReceiveTime: timestamppb.New(at),
	})
}

// refreshState computes the state of a locked file from its outcomes and stores it.
func (s *Service) refreshState(ctx context.Context, tx pgx.Tx, row *db.InboundFile) error {
	q := db.New(tx)
	outcomes, err := q.OutcomesOfFile(ctx, row.ID)
	if err != nil {
		return err
	}
	bodies, err := q.CountBodies(ctx, row.ID)
	if err != nil {
		return err
	}
	facts := make([]outcomeFact, len(outcomes))
	for i, o := range outcomes {
		facts[i] = outcomeFact{o.Position, o.State}
	}
	row.State = inboundStateOf(row.Format, int(bodies), row.ExpiredAt != nil, facts)
	return q.SetInboundState(ctx, db.SetInboundStateParams{ID: row.ID, State: row.State, ExpiredAt: row.ExpiredAt, UpdatedAt: pg.Time(s.now())})
}

func tenantOf(company string) string { return strings.Split(company, "/")[1] }

func companyOf(company string) string { return strings.Split(company, "/")[3] }

// inboundName is the resource name of a file: of its company, or of the quarantine.
func inboundName(row *db.InboundFile) string {
	if row.TenantID == "" {
		return "inboundFiles/" + row.ID.String()
	}
	return fmt.Sprintf("tenants/%s/companies/%s/inboundInvoices/%s", row.TenantID, row.CompanyID, row.ID)
}

func timestampOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
