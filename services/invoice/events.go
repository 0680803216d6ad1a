package invoice

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// streamPage is how many events a stream reads at a time.
const streamPage = 500

// ListEvents reads the log of a tenant from a place on. The token of the answer is always set and
// stays valid for ever.
func (s *Service) ListEvents(ctx context.Context, req *invoicev1.ListEventsRequest) (*invoicev1.ListEventsResponse, error) {
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	p, err := eventFilter(req.GetFilter(), tenant)
	if err != nil {
		return nil, err
	}
	hash := pg.FilterHash("events", req.GetParent(), req.GetFilter())
	_, err = pg.DecodePageToken(req.GetPageToken(), hash, &p.After)
	if err != nil {
		return nil, err
	}
	p.TenantID, p.PageSize = tenant, pageSize(req.GetPageSize())
	events, position, err := s.readEvents(ctx, p)
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.ListEventsResponse{Events: events}
	resp.NextPageToken, err = pg.EncodePageToken(hash, position)
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// readEvents reads one page and tells up to which position everything was read: the head of the log
// when the page is not full, since the filter left out the rest.
func (s *Service) readEvents(ctx context.Context, p db.ListEventsParams) (events []*invoicev1.Event, position int64, err error) {
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		head, err := q(tx).EventHead(ctx, p.TenantID) // before the page: what comes in between is read next time
		if err != nil {
			return fmt.Errorf("invoice: head of the log: %w", err)
		}
		position = max(p.After, head)
		if head <= p.After {
			position = p.After
			return nil
		}
		rows, err := q(tx).ListEvents(ctx, p)
		if err != nil {
			return fmt.Errorf("invoice: list events: %w", err)
		}
		for i := range rows {
			e, err := presentEvent(p.TenantID, &rows[i])
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		if n := len(rows); n == int(p.PageSize) || (n > 0 && rows[n-1].Position > position) {
			position = rows[n-1].Position
		}
		return nil
	})
	return events, position, err
}

func presentEvent(tenant string, row *db.ListEventsRow) (*invoicev1.Event, error) {
	data := &structpb.Struct{}
	if err := data.UnmarshalJSON(row.Data); err != nil {
		return nil, fmt.Errorf("invoice: data of event %s: %w", row.ID, err)
	}
	return &invoicev1.Event{
		Name: "tenants/" + tenant + "/events/" + row.ID.String(), Position: row.Position, Type: row.Type,
		Time: timestamppb.New(row.Time), Invoice: subjectOf(tenant, row), Data: data, TraceId: row.TraceID,
	}, nil
}

// StreamEvents sends what is in the log after a position and then what is added, at once. When nothing
// happens for a while a message without an event says that the stream lives. When the process drains
// rpc ends the stream with Unavailable DRAINING: the client resumes at the last position.
func (s *Service) StreamEvents(req *invoicev1.StreamEventsRequest, stream grpc.ServerStreamingServer[invoicev1.StreamEventsResponse]) error {
	ctx := stream.Context()
	tenant := strings.TrimPrefix(req.GetParent(), "tenants/")
	p, err := eventFilter(req.GetFilter(), tenant)
	if err != nil {
		return err
	}
	p.TenantID, p.PageSize, p.After = tenant, streamPage, req.GetAfterPosition()
	beat := time.NewTimer(s.heartbeat)
	defer beat.Stop()
	for {
		grown := s.wakes.wait(tenant) // before reading, so that nothing falls between
		events, position, err := s.readEvents(ctx, p)
		if err != nil {
			return err
		}
		for _, e := range events {
			err := stream.Send(&invoicev1.StreamEventsResponse{Event: e, Position: e.GetPosition(), Time: timestamppb.New(s.now())})
			if err != nil {
				return err
			}
		}
		p.After = position
		if len(events) == streamPage {
			continue
		}
		if len(events) > 0 {
			beat.Reset(s.heartbeat)
		}
		select {
		case <-grown:
		case <-beat.C:
			err := stream.Send(&invoicev1.StreamEventsResponse{Position: p.After, Time: timestamppb.New(s.now())})
			if err != nil {
				return err
			}
			beat.Reset(s.heartbeat)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
