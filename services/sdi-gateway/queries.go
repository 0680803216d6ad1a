package sdigateway

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// GetTransmission returns one transmission with its messages.
func (s *Service) GetTransmission(ctx context.Context, req *sdiv1.GetTransmissionRequest) (*sdiv1.Transmission, error) {
	parts := strings.Split(req.GetName(), "/")
	id, err := uuid.Parse(parts[len(parts)-1])
	if err != nil {
		return nil, notFound(req.GetName())
	}
	tenant := parts[1]
	var out *sdiv1.Transmission
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).GetTransmission(ctx, id)
		if err != nil {
			return err
		}
		list, err := s.withMessages(ctx, tx, []db.ListTransmissionsRow{db.ListTransmissionsRow(row)})
		if err != nil {
			return err
		}
		out = list[0]
		return nil
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound(req.GetName())
	}
	return out, err
}

// ListTransmissions returns the transmissions of a tenant, newest first.
func (s *Service) ListTransmissions(ctx context.Context, req *sdiv1.ListTransmissionsRequest) (*sdiv1.ListTransmissionsResponse, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	filter := pg.FilterHash("transmissions", tenant, req.GetInvoice(), req.GetState().String())
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListTransmissionsResponse{}
	err = s.db.View(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListTransmissions(ctx, db.ListTransmissionsParams{
			TenantID: tenant, Invoice: req.GetInvoice(), State: stateName(req.GetState()), Before: before, N: size + 1,
		})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListTransmissionsRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		out.Transmissions, err = s.withMessages(ctx, tx, rows)
		return err
	})
	return out, err
}

func (s *Service) withMessages(ctx context.Context, tx pgx.Tx, rows []db.ListTransmissionsRow) ([]*sdiv1.Transmission, error) {
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	messages, err := db.New(tx).ListMessages(ctx, ids)
	if err != nil {
		return nil, err
	}
	byTransmission := map[uuid.UUID][]*sdiv1.Message{}
	for _, m := range messages {
		out, err := matchedMessage(m)
		if err != nil {
			return nil, err
		}
		byTransmission[*m.TransmissionID] = append(byTransmission[*m.TransmissionID], out)
	}
	list := make([]*sdiv1.Transmission, len(rows))
	for i, row := range rows {
		t := &sdiv1.Transmission{
			Name: transmissionName(row.TenantID, row.ID), Invoice: row.Invoice, State: stateEnum(row.State),
			FileName: row.FileName, SdiId: row.SdiID, Attempts: row.Attempts, LastError: row.LastError,
			Messages: byTransmission[row.ID], CreateTime: timestamppb.New(row.CreatedAt), UpdateTime: timestamppb.New(row.UpdatedAt),
			SendTime: stamp(row.SentAt), Held: row.Held, NextAttemptTime: stamp(row.NextAt), SendByTime: stamp(row.SendBy),
			Deadline: deadline(row.DueKind, row.DueAt, s.now()), Destruction: destruction(row.DestroyedBy, row.DestroyTime),
		}
		if t.GetDeadline() != nil {
			t.Deadline.Transmission, t.Deadline.Invoice, t.Deadline.CorrectedBy = t.GetName(), t.GetInvoice(), row.CorrectedBy
			t.Deadline.FileName, t.Deadline.SdiId = t.GetFileName(), t.GetSdiId()
		}
		light := sdi.SegnaleDi(sdi.Stato(row.State), row.Format == formatPublic)
		t.Light, t.LightReason, t.LightReasonIt = sdiv1.TrafficLight(light.Luce), light.English, light.Italiano
		list[i] = t
	}
	return list, nil
}

func matchedMessage(m db.ListMessagesRow) (*sdiv1.Message, error) {
	ref, err := blob.ParseURI(m.ContentUri)
	if err != nil {
		return nil, err
	}
	return &sdiv1.Message{
		Name: transmissionName(m.TenantID, *m.TransmissionID) + "/messages/" + m.ID.String(),
		Type: m.Type, FileName: nameLeft(m.FileName), SdiId: m.SdiID,
		Content:     &eventv1.Blob{Uri: m.ContentUri, Sha256: m.Sha256, Size: ref.Size, MediaType: messageMediaType(m.FileName)},
		ReceiveTime: timestamppb.New(m.ReceivedAt), Duplicates: m.Duplicates, Problem: m.Problem, Signature: sealMessage(m.Signature),
	}, nil
}

// ListUnmatchedMessages returns what came from SdI and belongs to no transmission, newest first.
func (s *Service) ListUnmatchedMessages(ctx context.Context, req *sdiv1.ListUnmatchedMessagesRequest) (*sdiv1.ListUnmatchedMessagesResponse, error) {
	filter := pg.FilterHash("unmatched")
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListUnmatchedMessagesResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListUnmatchedMessages(ctx, db.ListUnmatchedMessagesParams{Before: before, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListUnmatchedMessagesRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, m := range rows {
			out.Messages = append(out.Messages, unmatchedMessage(m))
		}
		return nil
	})
	return out, err
}

// GetUnmatchedMessage returns one such message with its bytes, as received.
func (s *Service) GetUnmatchedMessage(ctx context.Context, req *sdiv1.GetUnmatchedMessageRequest) (*sdiv1.GetUnmatchedMessageResponse, error) {
	id, err := uuid.Parse(strings.TrimPrefix(req.GetName(), "messages/"))
	if err != nil {
		return nil, notFound(req.GetName())
	}
	var m db.GetUnmatchedMessageRow
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		m, err = db.New(tx).GetUnmatchedMessage(ctx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notFound(req.GetName())
	}
	if err != nil {
		return nil, err
	}
	return &sdiv1.GetUnmatchedMessageResponse{
		Message: &sdiv1.Message{
			Name: req.GetName(), Type: m.Type, FileName: m.FileName, SdiId: m.SdiID,
			ReceiveTime: timestamppb.New(m.ReceivedAt), Duplicates: m.Duplicates, Problem: m.Problem, Signature: sealMessage(m.Signature),
		},
		Content: m.Raw,
	}, nil
}

func notFound(name string) error {
	return fault.NotFound("NOT_FOUND", "%s does not exist", name)
}

func pageStart(token, filter string) (uuid.UUID, error) {
	before := uuid.Max
	_, err := pg.DecodePageToken(token, filter, &before)
	return before, err
}

// pageSize is what was asked, or AIP-158's freedom to choose.
func pageSize(asked int32) int32 {
	if asked == 0 {
		return 50
	}
	return asked
}
