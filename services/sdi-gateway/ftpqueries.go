package sdigateway

import (
	"context"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// ListChannels tells operators where new documents go.
func (s *Service) ListChannels(ctx context.Context, _ *sdiv1.ListChannelsRequest) (*sdiv1.ListChannelsResponse, error) {
	waiting := map[string]int64{}
	err := s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).CountWaiting(ctx)
		for _, row := range rows {
			waiting[row.Channel] = row.N
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &sdiv1.ListChannelsResponse{}
	for _, h := range s.health.now() {
		c := &sdiv1.Channel{Name: h.name, Healthy: h.reason == "", Reason: h.reason, Waiting: waiting[h.name]}
		if !h.contact.IsZero() {
			c.ContactTime = timestamppb.New(h.contact)
		}
		out.Channels = append(out.Channels, c)
	}
	if c := s.postChannel(); c != nil {
		c.Waiting = waiting[channelPEC]
		out.Channels = append(out.Channels, c)
	}
	return out, nil
}

// ListSupports lists the files of the SDIFTP channel, newest first.
func (s *Service) ListSupports(ctx context.Context, req *sdiv1.ListSupportsRequest) (*sdiv1.ListSupportsResponse, error) {
	filter := pg.FilterHash("supports", req.GetKind(), req.GetState())
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListSupportsResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListSupports(ctx, db.ListSupportsParams{Kind: req.GetKind(), State: req.GetState(), Before: before, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListSupportsRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			out.Supports = append(out.Supports, &sdiv1.Support{
				Id: row.ID.String(), Kind: row.Kind, Name: row.Name, State: row.State, Size: row.Size, Documents: row.Documents,
				CreateTime: timestamppb.New(row.CreatedAt), ShowTime: stamp(row.ShownAt), OpenTime: stamp(row.OpenedAt),
				TakeTime: stamp(row.TakenAt), SettleTime: stamp(row.SettledAt), Outcome: row.Outcome, Problem: row.Problem, Duplicates: row.Duplicates,
			})
		}
		return nil
	})
	return out, err
}

// ListSupportDifferences lists where SdI's counts and reports do not agree with our books.
func (s *Service) ListSupportDifferences(ctx context.Context, req *sdiv1.ListSupportDifferencesRequest) (*sdiv1.ListSupportDifferencesResponse, error) {
	filter := pg.FilterHash("support differences")
	before, err := pageStart(req.GetPageToken(), filter)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	out := &sdiv1.ListSupportDifferencesResponse{}
	err = s.db.SystemView(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListSupportDifferences(ctx, db.ListSupportDifferencesParams{Before: before, N: size + 1})
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListSupportDifferencesRow) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			out.Differences = append(out.Differences, &sdiv1.SupportDifference{
				Name: row.Name, Problem: row.Problem, Source: row.Source, FindTime: timestamppb.New(row.FoundAt),
			})
		}
		return nil
	})
	return out, err
}
