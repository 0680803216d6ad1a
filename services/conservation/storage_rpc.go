package conservation

import (
	"context"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// storage answers StorageService.
type storage struct {
	conservationv1.UnimplementedStorageServiceServer

	s *Service
}

// GetStorage says in how many copies documents are taken in now, and what the replicas owe.
func (a storage) GetStorage(ctx context.Context, _ *conservationv1.GetStorageRequest) (*conservationv1.Storage, error) {
	stopped, err := a.s.outages.list(ctx)
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.Storage{State: conservationv1.StorageState_STORAGE_STATE_TWOFOLD}
	for _, o := range stopped {
		resp.SigningOutages = append(resp.SigningOutages, &conservationv1.SigningOutage{Since: timestamppb.New(o.Since), Code: o.Code, Reason: o.Reason})
	}
	if a.s.replicas == nil {
		resp.State = conservationv1.StorageState_STORAGE_STATE_SINGLE
		return resp, nil
	}
	var outages []db.ArchiveOutage
	var counts []db.CountCopiesRow
	var at db.GetPositionRow
	err = a.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		outages, err = q.Outages(ctx)
		if err == nil {
			counts, err = q.CountCopies(ctx)
		}
		if err == nil {
			at, err = q.GetPosition(ctx)
			err = notFoundIsNothing(err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	resp.BehindSince = timeMessage(at.BehindAt)
	for _, x := range a.s.replicas.all {
		m := &conservationv1.Replica{Name: x.name, Place: x.String()}
		x.mu.Lock()
		m.Trouble = x.why
		x.mu.Unlock()
		for _, o := range outages {
			if o.Replica == x.name {
				m.OutSince, resp.State = timestamppb.New(o.Since), conservationv1.StorageState_STORAGE_STATE_DEGRADED
			}
		}
		for _, c := range counts {
			switch {
			case c.Replica == x.name && c.State == copyOwed:
				m.OwedCopies = c.Copies
			case c.Replica == x.name && c.State == copyDamaged:
				m.DamagedCopies = c.Copies
			}
		}
		resp.Replicas = append(resp.Replicas, m)
	}
	return resp, nil
}

// ListDamages lists copies that were found damaged.
func (a storage) ListDamages(ctx context.Context, req *conservationv1.ListDamagesRequest) (*conservationv1.ListDamagesResponse, error) {
	which := "all"
	if req.GetOpen() {
		which = "open"
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("damages", which)
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.ListDamagesRow
	err = a.s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListDamages(ctx, db.ListDamagesParams{Before: before, Open: req.GetOpen(), Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListDamagesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.ListDamagesRow) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, d := range rows {
		resp.Damages = append(resp.Damages, &conservationv1.Damage{
			Object: d.Key, Kind: d.Kind, Replica: d.Replica, Problem: d.Problem, FindTime: timestamppb.New(d.FoundAt),
			RepairTime: timeMessage(d.RepairedAt), Quarantine: d.Quarantine, Sha256: d.Sha256, Size: d.Size,
		})
	}
	return resp, nil
}

// observe publishes ceralacca_conservation_replica_out (0, 1) and _replica_trouble_seconds by replica.
func (r *replicas) observe() error {
	out, err := telemetry.Meter().Int64ObservableGauge("ceralacca_conservation_replica_out",
		metric.WithDescription("1 while documents are taken in without this replica"))
	if err != nil {
		return err
	}
	trouble, err := telemetry.Meter().Float64ObservableGauge("ceralacca_conservation_replica_trouble_seconds", metric.WithUnit("s"),
		metric.WithDescription("for how long this replica has not answered; 0 while it does"))
	if err != nil {
		return err
	}
	_, err = telemetry.Meter().RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, x := range r.all {
			x.mu.Lock()
			isOut, since := int64(0), 0.0
			if x.out {
				isOut = 1
			}
			if !x.failing.IsZero() {
				since = r.now().Sub(x.failing).Seconds()
			}
			x.mu.Unlock()
			o.ObserveInt64(out, isOut, metric.WithAttributes(attribute.String("replica", x.name)))
			o.ObserveFloat64(trouble, since, metric.WithAttributes(attribute.String("replica", x.name)))
		}
		return nil
	}, out, trouble)
	return err
}
