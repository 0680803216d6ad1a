package sdigateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/format/signature"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// inbound answers InboundService. It is the service under another name, since two gRPC services cannot
// be one type's embedded default.
type inbound struct {
	sdiv1.UnimplementedInboundServiceServer
	*Service
}

// ListInboundInvoices returns what a company, or all of a tenant's, received; newest first.
func (s *inbound) ListInboundInvoices(ctx context.Context, req *sdiv1.ListInboundInvoicesRequest) (*sdiv1.ListInboundInvoicesResponse, error) {
	tenant, company := tenantOf(req.GetParent()), companyOf(req.GetParent())
	if company == "-" {
		company = ""
	}
	filter := pg.FilterHash("inbound", req.GetParent(), req.GetState().String(), req.GetSdiId(), req.GetReceivedSince().String())
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListInboundFilesParams{TenantID: tenant, CompanyID: company, SdiID: req.GetSdiId(), Before: before, N: size + 1}
	if req.GetState() != sdiv1.InboundState_INBOUND_STATE_UNSPECIFIED {
		p.State = strings.TrimPrefix(req.GetState().String(), "INBOUND_STATE_")
	}
	if req.GetReceivedSince() != nil {
		since := req.GetReceivedSince().AsTime()
		p.Since = &since
	}
	out := &sdiv1.ListInboundInvoicesResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListInboundFiles(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.InboundFile) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		out.InboundInvoices, err = presentInbound(ctx, tx, rows)
		return err
	})
	return out, err
}

// GetInboundInvoice returns one file with its documents, deliveries and outcomes.
func (s *inbound) GetInboundInvoice(ctx context.Context, req *sdiv1.GetInboundInvoiceRequest) (out *sdiv1.InboundInvoice, err error) {
	err = s.withInbound(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, row *db.InboundFile) error {
		out, err = presentOne(ctx, tx, row)
		return err
	})
	return out, err
}

// GetInboundDocument returns bytes of a file: as received, SdI's metadata, or the invoice inside.
func (s *inbound) GetInboundDocument(ctx context.Context, req *sdiv1.GetInboundDocumentRequest) (*sdiv1.GetInboundDocumentResponse, error) {
	var uri string
	out := &sdiv1.GetInboundDocumentResponse{}
	err := s.withInbound(ctx, req.GetName(), func(_ context.Context, _ pgx.Tx, row *db.InboundFile) error {
		err := notDestroyed(req.GetName(), destruction(row.DestroyedBy, row.DestroyTime))
		if err != nil {
			return err
		}
		uri, out.FileName, out.MediaType = row.FileUri, row.FileName, mediaType(row.FileName)
		switch req.GetKind() {
		case sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_METADATA:
			uri, out.FileName, out.MediaType = row.MetadataUri, row.MetadataName, "application/xml"
			if uri == "" {
				return fault.NotFound("INBOUND_NO_METADATA", "SdI sent no metadata with %s", req.GetName())
			}
		case sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_CONTENT:
			out.FileName, out.MediaType = xmlName(row.FileName), "application/xml"
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ref, err := blob.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	out.Content, err = s.blobs.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	if req.GetKind() == sdiv1.InboundDocumentKind_INBOUND_DOCUMENT_KIND_CONTENT {
		out.Content, _, err = signature.Unwrap(out.Content)
		if err != nil {
			return nil, fault.Precondition("INBOUND_UNREADABLE", "%s cannot be opened: %s; ask for the original", req.GetName(), sentence(err))
		}
	}
	sum := sha256.Sum256(out.Content)
	out.Sha256 = sum[:]
	return out, nil
}

// xmlName is the name of the invoice inside an envelope.
func xmlName(fileName string) string {
	name, err := sdi.ParseFileName(fileName)
	if err != nil {
		return fileName + ".xml"
	}
	name.Ext = sdi.ExtXML
	return name.String()
}

// ListQuarantine returns the files that found no company, oldest first: those with the least time left.
func (s *inbound) ListQuarantine(ctx context.Context, req *sdiv1.ListQuarantineRequest) (*sdiv1.ListQuarantineResponse, error) {
	filter := pg.FilterHash("inbound-quarantine")
	after := uuid.Nil
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &after)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListQuarantineResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListQuarantined(ctx, db.ListQuarantinedParams{After: after, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.InboundFile) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		out.InboundFiles, err = presentInbound(ctx, tx, rows)
		return err
	})
	return out, err
}

// ClaimInboundDocument gives a file in quarantine to a company, once and for ever, and says so in the audit.
func (s *inbound) ClaimInboundDocument(ctx context.Context, req *sdiv1.ClaimInboundDocumentRequest) (out *sdiv1.InboundInvoice, err error) {
	id, err := uuid.Parse(strings.TrimPrefix(req.GetName(), "inboundFiles/"))
	if err != nil {
		return nil, notFound(req.GetName())
	}
	if s.tenancy == nil {
		return nil, errNotReceiving()
	}
	_, err = s.tenancy.GetCompany(ctx, &tenancyv1.GetCompanyRequest{Name: req.GetCompany()})
	if err != nil {
		return nil, err
	}
	row, err := s.quarantined(ctx, id, req.GetName())
	if err != nil {
		return nil, err
	}
	file, err := s.inboundBytes(ctx, row.FileUri)
	if err != nil {
		return nil, err
	}
	metadata, err := s.inboundBytes(ctx, row.MetadataUri)
	if err != nil {
		return nil, err
	}
	u := s.openInbound(ctx, row.FileName, row.SdiID, row.MetadataName, file, metadata)
	kept, err := s.keepFor(ctx, tenantOf(req.GetCompany()), file, metadata)
	if err != nil {
		return nil, err
	}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := db.New(tx).LockSdiID(ctx, row.SdiID)
		if err != nil {
			return err
		}
		locked, err := db.New(tx).LockInboundFile(ctx, id)
		if err != nil {
			return err
		}
		if locked.State != inboundQuarantined {
			return alreadyClaimed(&locked)
		}
		u.describe(&locked)
		detail := map[string]string{"company": req.GetCompany(), "reason": req.GetReason(), "was": locked.ReasonCode, "sdi_id": locked.SdiID}
		err = s.place(ctx, tx, &locked, &u, placing{company: req.GetCompany(), by: byClaim, blobs: kept})
		if err != nil {
			return err
		}
		ctx = pg.WithTenant(ctx, locked.TenantID)
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "inbound.claim", Resource: inboundName(&locked), Detail: detail})
		if err != nil {
			return err
		}
		out, err = presentOne(ctx, tx, &locked)
		return err
	})
	return out, err
}

// quarantined reads a file that waits for a company.
func (s *Service) quarantined(ctx context.Context, id uuid.UUID, name string) (row db.InboundFile, err error) {
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err = db.New(tx).GetInboundFile(ctx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return row, notFound(name)
	}
	if err == nil && row.State != inboundQuarantined {
		return row, alreadyClaimed(&row)
	}
	return row, err
}

func alreadyClaimed(row *db.InboundFile) error {
	if row.State == inboundTaken {
		return fault.Unavailable("INBOUND_NOT_READ_YET", "the file %s has just come in and is being read: ask again in a moment", row.ID)
	}
	return fault.Precondition("INBOUND_HAS_COMPANY", "the file belongs to a company already: %s", inboundName(row))
}

// withInbound reads a file by its name: a tenant's own, or for operators one of the quarantine.
func (s *Service) withInbound(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx, row *db.InboundFile) error) error {
	parts := strings.Split(name, "/")
	id, err := uuid.Parse(parts[len(parts)-1])
	if err != nil {
		return notFound(name)
	}
	tenant := ""
	if parts[0] == "tenants" {
		tenant = parts[1]
	} else if caller, ok := auth.From(ctx); !ok || caller.Role != auth.RoleOperator {
		return fault.Denied("OPERATORS_ONLY", "files in quarantine belong to nobody yet: only operators see them")
	}
	err = s.db.ScopedView(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).GetInboundFile(ctx, id)
		if err != nil {
			return err
		}
		if tenant != "" && (row.TenantID != tenant || row.CompanyID != parts[3]) {
			return pgx.ErrNoRows
		}
		return fn(ctx, tx, &row)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(name)
	}
	return err
}

func presentOne(ctx context.Context, tx pgx.Tx, row *db.InboundFile) (*sdiv1.InboundInvoice, error) {
	list, err := presentInbound(ctx, tx, []db.InboundFile{*row})
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// presentInbound turns rows into what callers see, with what belongs to them.
func presentInbound(ctx context.Context, tx pgx.Tx, rows []db.InboundFile) ([]*sdiv1.InboundInvoice, error) {
	ids := make([]uuid.UUID, len(rows))
	byID := make(map[uuid.UUID]*sdiv1.InboundInvoice, len(rows))
	list := make([]*sdiv1.InboundInvoice, len(rows))
	for i := range rows {
		out, err := presentFile(&rows[i])
		if err != nil {
			return nil, err
		}
		ids[i], list[i], byID[rows[i].ID] = rows[i].ID, out, out
	}
	q := db.New(tx)
	deliveries, err := q.ListInboundDeliveries(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, d := range deliveries {
		byID[d.FileID].Deliveries = append(byID[d.FileID].Deliveries, &sdiv1.InboundDelivery{
			Attempt: d.Attempt, MetadataFileName: d.MetadataName, ReceiveTime: timestamppb.New(d.ReceivedAt), Problem: d.Problem})
	}
	bodies, err := q.ListInboundBodies(ctx, ids)
	if err != nil {
		return nil, err
	}
	for _, b := range bodies {
		byID[b.FileID].Bodies = append(byID[b.FileID].Bodies, &sdiv1.InboundBody{
			Position: b.Position, DocumentType: b.DocumentType, Number: b.Number, Date: b.Date, Currency: b.Currency, Total: b.Total})
	}
	outcomes, err := q.ListInboundOutcomes(ctx, ids)
	if err != nil {
		return nil, err
	}
	facts := map[uuid.UUID][]outcomeFact{}
	for _, o := range outcomes {
		presentOutcome(byID[o.FileID], o)
		facts[o.FileID] = append(facts[o.FileID], outcomeFact{o.Position, o.State})
	}
	err = presentExpiries(ctx, q, rows, byID)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		// In a transaction that changes outcomes the row may be older than they are: the state that is shown follows from them.
		if r := &rows[i]; r.TenantID != "" {
			list[i].State = inboundStateEnum(inboundStateOf(r.Format, len(list[i].GetBodies()), r.ExpiredAt != nil, facts[r.ID]))
		}
	}
	return list, nil
}

// presentExpiries adds SdI's notices that terms are over. Their bytes were stored when the tenant was told.
func presentExpiries(ctx context.Context, q *db.Queries, rows []db.InboundFile, byID map[uuid.UUID]*sdiv1.InboundInvoice) error {
	tenants := map[uuid.UUID]string{}
	var over []uuid.UUID
	for i := range rows {
		if r := &rows[i]; r.ExpiredAt != nil && r.DestroyedBy == "" {
			over, tenants[r.ID] = append(over, r.ID), r.TenantID
		}
	}
	if len(over) == 0 {
		return nil
	}
	notices, err := q.InboundExpiries(ctx, over)
	if err != nil {
		return err
	}
	for _, n := range notices {
		ref := blob.Ref{Tenant: tenants[n.FileID], SHA256: [32]byte(n.Sha256), Size: n.Size}
		byID[n.FileID].Expiry = &sdiv1.InboundNotice{FileName: n.FileName, Content: blobOf(ref, "application/xml")}
	}
	return nil
}

func presentFile(r *db.InboundFile) (*sdiv1.InboundInvoice, error) {
	ref, err := blob.ParseURI(r.FileUri)
	if err != nil {
		return nil, err
	}
	var metadata *eventv1.Blob
	if r.MetadataUri != "" {
		told, err := blob.ParseURI(r.MetadataUri)
		if err != nil {
			return nil, err
		}
		metadata = blobOf(told, "application/xml")
	}
	return &sdiv1.InboundInvoice{
		Metadata: metadata,
		Name:     inboundName(r), State: inboundStateEnum(r.State), SdiId: r.SdiID, FileName: nameLeft(r.FileName), Format: r.Format, RecipientCode: r.RecipientCode,
		Seller: &sdiv1.InboundParty{Name: r.SellerName, VatNumber: r.SellerVat, TaxCode: r.SellerTax},
		Buyer:  &sdiv1.InboundParty{Name: r.BuyerName, VatNumber: r.BuyerVat, TaxCode: r.BuyerTax},
		Signed: r.Signed, Channel: r.Channel, RoutedBy: r.RoutedBy, ReasonCode: r.ReasonCode, Reason: r.Reason,
		Original: blobOf(ref, mediaType(r.FileName)), ReceiveTime: timestamppb.New(r.ReceivedAt), AnswerBy: timestampOf(r.AnswerBy),
		ExpireTime: timestampOf(r.ExpiredAt), UpdateTime: timestamppb.New(r.UpdatedAt), Destruction: destruction(r.DestroyedBy, r.DestroyTime),
	}, nil
}

func inboundStateEnum(state string) sdiv1.InboundState {
	return sdiv1.InboundState(sdiv1.InboundState_value["INBOUND_STATE_"+state])
}

// presentOutcome adds an outcome to its file, and to the documents that it answers; the latest that stands
// wins over refused ones.
func presentOutcome(file *sdiv1.InboundInvoice, o db.ListInboundOutcomesRow) {
	out := &sdiv1.InboundOutcome{
		Position: o.Position, Kind: outcomeKind(o.Outcome), Cause: sdiv1.RefusalCause(o.Cause), Description: o.Description,
		State:    sdiv1.InboundOutcomeState(sdiv1.InboundOutcomeState_value["INBOUND_OUTCOME_STATE_"+o.State]),
		FileName: nameLeft(o.FileName), Code: o.Code, Message: o.Message, Attempts: o.Attempts,
		CreateTime: timestamppb.New(o.CreatedAt), SettleTime: timestampOf(o.SettledAt),
	}
	file.Outcomes = append(file.Outcomes, out)
	for _, b := range file.GetBodies() {
		stands := b.GetOutcome() != nil && b.GetOutcome().GetState() != sdiv1.InboundOutcomeState_INBOUND_OUTCOME_STATE_REFUSED
		if (o.Position == 0 || o.Position == b.GetPosition()) && !stands {
			b.Outcome = out
		}
	}
}

func outcomeKind(ec string) sdiv1.InboundOutcomeKind {
	if ec == string(sdi.EC02) {
		return sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_REFUSED
	}
	return sdiv1.InboundOutcomeKind_INBOUND_OUTCOME_KIND_ACCEPTED
}

// expired says whether the term for outcomes is over: SdI has said so, or its last day has passed.
func expired(row *db.InboundFile, now time.Time) bool {
	return row.ExpiredAt != nil || row.AnswerBy != nil && !now.Before(*row.AnswerBy)
}
