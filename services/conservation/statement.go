package conservation

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/pg"
)

// statementPage is how many tenants one transaction tells.
const statementPage = 200

// toStamp is the checkpoint that the stamp of the day belongs to: the last one that a quorum cosigned, so that
// receipts against it carry both. While no quorum can be had, which is said openly, the last one there is.
func (l *logbook) toStamp(ctx context.Context, q *db.Queries) (db.LogCheckpoint, error) {
	if l.watchers.quorum == 0 {
		return q.LastCheckpoint(ctx)
	}
	_, err := q.Unwitnessed(ctx)
	if err == nil {
		return q.LastCheckpoint(ctx)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return db.LogCheckpoint{}, err
	}
	return q.LastWithQuorum(ctx, db.LastWithQuorumParams{Witnesses: l.watchers.names(), Quorum: int64(l.watchers.quorum)})
}

// tell states the last stamped checkpoint to every tenant who has leaves in it, each once.
func (l *logbook) tell(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			q := db.New(tx)
			point, err := q.LastStamped(ctx)
			if err != nil {
				more = false
				return notFoundIsNothing(err)
			}
			tenants, err := q.UntoldTenants(ctx, db.UntoldTenantsParams{Size: point.Size, Page: statementPage})
			if err != nil {
				return err
			}
			more = len(tenants) == statementPage
			points := []db.LogCheckpoint{point}
			names, err := cosigned(ctx, q, points)
			if err != nil || len(tenants) == 0 {
				return err
			}
			err = l.post(ctx, tx, points[0], names[point.Size], tenants)
			if err != nil {
				return err
			}
			told := db.SetToldParams{Size: point.Size, At: pg.Time(l.now())}
			for _, t := range tenants {
				err = l.watchers.bus.Emit(pg.WithTenant(ctx, t.TenantID), tx, &conservationv1.LogStated{
					Tenant: "tenants/" + t.TenantID, Origin: l.cfg.Origin, Size: point.Size, Note: string(points[0].Note),
					StampTime: timestamppb.New(*point.StampTime), TenantSequence: t.Sequence, Witnesses: names[point.Size],
				})
				if err != nil {
					return err
				}
				told.Tenants = append(told.Tenants, t.TenantID)
			}
			return q.SetTold(ctx, told)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
