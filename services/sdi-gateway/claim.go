package sdigateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// ClaimMessage attaches an unmatched message to a transmission because a person says so.
func (s *Service) ClaimMessage(ctx context.Context, req *sdiv1.ClaimMessageRequest) (*sdiv1.Transmission, error) {
	message, err := uuid.Parse(strings.TrimPrefix(req.GetName(), "messages/"))
	if err != nil {
		return nil, notFound(req.GetName())
	}
	r, err := s.readClaimed(ctx, message, req)
	if err != nil {
		return nil, err
	}
	r.ref, err = s.blobs.Put(ctx, r.match.TenantID, r.Raw)
	if err != nil {
		return nil, err
	}
	r.claim = fmt.Sprintf("SDI_CLAIMED: attached by %s: %s", telemetry.Actor(ctx), req.GetReason())
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		err := s.apply(ctx, tx, []reading{*r})
		if err != nil {
			return err
		}
		return telemetry.Audit(pg.WithTenant(ctx, r.match.TenantID), tx, telemetry.Act{
			Action: "message.claim", Resource: req.GetTransmission(),
			Detail: map[string]string{"message": req.GetName(), "type": string(r.message.Type()), "file": r.FileName, "sdi_id": r.SdiID, "reason": req.GetReason()},
		})
	})
	if err != nil {
		return nil, err
	}
	return s.GetTransmission(ctx, &sdiv1.GetTransmissionRequest{Name: req.GetTransmission()})
}

// readClaimed reads an unmatched message and the transmission that it is said to be about.
func (s *Service) readClaimed(ctx context.Context, message uuid.UUID, req *sdiv1.ClaimMessageRequest) (*reading, error) {
	parts := strings.Split(req.GetTransmission(), "/")
	id, err := uuid.Parse(parts[3])
	if err != nil {
		return nil, notFound(req.GetTransmission())
	}
	r := &reading{}
	err = s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		rows, err := q.ReadMessages(ctx, []uuid.UUID{message})
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			return fault.NotFound("NOT_FOUND", "%s does not exist, or belongs to a transmission already", req.GetName())
		}
		r.ReadMessagesRow = rows[0]
		t, err := q.GetForClaim(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && t.TenantID != parts[1] {
			return notFound(req.GetTransmission())
		}
		r.match = db.MatchTransmissionsRow{MessageID: message, ID: t.ID, TenantID: t.TenantID, FileSha256: t.FileSha256}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.parse()
	if r.fault != nil {
		return nil, fault.Precondition("SDI_MESSAGE_UNREADABLE", "the message proves nothing as it is, so it cannot be attached: %s", r.fault.Message)
	}
	r.seal = checkSeal(r.message, s.receipts, s.now())
	return r, nil
}

// Days of SdI's service of re-delivery.
// spec: SDICoop-T-3.2 §3 (quadratura e reinoltro)
const (
	redeliverySpan = 15 // of one request, at most
	redeliveryAge  = 15 // the last days, which the service leaves out
	reconcileDays  = 90 // looked at unless told otherwise
	reconcileMost  = 5000
)

// Reconcile compares what was sent with what came back.
func (s *Service) Reconcile(ctx context.Context, req *sdiv1.ReconcileRequest) (*sdiv1.ReconcileResponse, error) {
	now := pg.Time(s.now())
	since, until := now.AddDate(0, 0, -reconcileDays), now
	if req.GetFromTime() != nil {
		since = req.GetFromTime().AsTime()
	}
	if req.GetToTime() != nil {
		until = req.GetToTime().AsTime()
	}
	if !since.Before(until) {
		return nil, fault.Invalid("SDI_PERIOD", "from_time %s is not before to_time %s", since.Format(time.RFC3339), until.Format(time.RFC3339)).
			WithField("from_time", "SDI_PERIOD", "must be before to_time")
	}
	out := &sdiv1.ReconcileResponse{}
	err := s.matchAgain(ctx, out)
	if err != nil {
		return nil, err
	}
	return out, s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).Unsettled(ctx, db.UnsettledParams{Now: &now, Since: since, Until: until, N: reconcileMost + 1})
		if err != nil {
			return err
		}
		if out.More = len(rows) > reconcileMost; out.GetMore() {
			rows = rows[:reconcileMost]
		}
		var files []sentFile
		for _, t := range rows {
			out.Missing = append(out.Missing, &sdiv1.ReconcileResponse_MissingMessage{
				Transmission: transmissionName(t.TenantID, t.ID), Invoice: t.Invoice, FileName: t.FileName, SdiId: t.SdiID, FileSha256: t.FileSha256,
				SendTime: stamp(t.SentAt), Kind: kindEnum(t.DueKind), DueTime: stamp(t.DueAt),
			})
			files = append(files, sentFile{*t.SentAt, t.SdiID})
		}
		requests, tooRecent := redeliveries(files, now)
		out.TooRecent = int32(tooRecent)
		for _, r := range requests {
			out.Requests = append(out.Requests, &sdiv1.ReconcileResponse_RedeliveryRequest{
				FirstDay: r.first.Format(time.DateOnly), LastDay: r.last.Format(time.DateOnly), SdiIds: r.sdiIDs,
			})
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "sdi.reconcile", Resource: "transmitters/" + s.cfg.Transmitter, Detail: map[string]string{
			"from": since.Format(time.RFC3339), "to": until.Format(time.RFC3339), "matched": fmt.Sprint(out.GetMatched()), "missing": fmt.Sprint(len(out.GetMissing())),
		}})
	})
}

// matchAgain tries every unmatched message once more: what it is about may be known by now.
func (s *Service) matchAgain(ctx context.Context, out *sdiv1.ReconcileResponse) error {
	const together = 100
	after := uuid.Nil
	for {
		var ids []uuid.UUID
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			ids, err = db.New(tx).UnmatchedIDs(ctx, db.UnmatchedIDsParams{After: after, N: together})
			return err
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		list, err := s.read(ctx, ids)
		if err != nil {
			return err
		}
		for i := range list {
			if list[i].fault == nil && list[i].problem == "" {
				out.Matched++
				continue
			}
			out.Unmatched++
		}
	}
}

// sentFile is what a request of re-delivery needs of a file.
type sentFile struct {
	sent  time.Time
	sdiID string
}

// redelivery is one request that the service takes.
type redelivery struct {
	first, last time.Time // days, in Italy
	sdiIDs      []string
}

// redeliveries groups files, in the order of sending, into requests of at most 15 days, and counts those that are
// too recent for the service.
func redeliveries(files []sentFile, now time.Time) (requests []redelivery, tooRecent int) {
	newest := day(now).AddDate(0, 0, -redeliveryAge) // the first day that is left out
	for _, f := range files {
		d := day(f.sent)
		if !d.Before(newest) {
			tooRecent++
			continue
		}
		n := len(requests)
		if n == 0 || !d.Before(requests[n-1].first.AddDate(0, 0, redeliverySpan)) {
			requests = append(requests, redelivery{first: d})
			n++
		}
		requests[n-1].last = d
		requests[n-1].sdiIDs = append(requests[n-1].sdiIDs, f.sdiID)
	}
	return requests, tooRecent
}

// day is the calendar day of t in Italy.
func day(t time.Time) time.Time {
	y, m, d := t.In(sdi.Roma()).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, sdi.Roma())
}

// unmatchedMessage is a message of the API that belongs to nothing of ours.
func unmatchedMessage(m db.ListUnmatchedMessagesRow) *sdiv1.Message {
	return &sdiv1.Message{
		Name: "messages/" + m.ID.String(), Type: m.Type, FileName: m.FileName, SdiId: m.SdiID,
		ReceiveTime: timestamppb.New(m.ReceivedAt), Duplicates: m.Duplicates, Problem: m.Problem, Signature: sealMessage(m.Signature),
	}
}
