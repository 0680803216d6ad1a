package conservation

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

const (
	stampRetry = time.Minute
	// restHour is when a day (UTC) counts as one without leaves. Stamped in its first minute, the day's stamp would be gone for the
	// documents that come later; those that come after this hour wait for midnight.
	restHour = 18
)

// stampDaily has the last checkpoint of each day stamped, the first one of a day at once, and the one of a day without leaves in the evening. An
// authority that is away delays the stamp and nothing else.
func (l *logbook) stampDaily(ctx context.Context) {
	for ctx.Err() == nil {
		err := errors.Join(l.stampDue(ctx), l.tell(ctx))
		wait := l.cfg.Every
		if err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "the log's checkpoint waits for its time stamp", "error", err)
			wait = stampRetry
		}
		pause(ctx, max(wait, time.Second))
	}
}

// stampDue stamps the last checkpoint when none has been stamped today (UTC).
func (l *logbook) stampDue(ctx context.Context) error {
	var point db.LogCheckpoint
	due := false
	err := l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		point, due, err = l.unstamped(ctx, db.New(tx))
		return err
	})
	if err != nil || !due {
		return err
	}
	signed, err := tlog.OpenCheckpoint(point.Note, l.policy)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(signed.Signed)
	var said []string
	for _, a := range l.stamps {
		token, err := a.stamp(ctx, digest[:])
		if err == nil && day(token.Info.Time) < day(l.now()) {
			err = fault.Unavailable("TSA_UNAVAILABLE", "the clock of %s is behind: its stamp is still of %s", a.name, day(token.Info.Time))
		}
		if err != nil {
			said = append(said, fault.Of(err).Message)
			continue
		}
		return l.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return keepStamp(ctx, db.New(tx), point.Size, token, a.name)
		})
	}
	return fault.Unavailable("TSA_UNAVAILABLE", "no authority stamped: %s", strings.Join(said, "; "))
}

// newestStamp gives the last stamp that the log has, and the checkpoint that it is over; a zero time: there is none.
func newestStamp(ctx context.Context, q *db.Queries) (point db.LogCheckpoint, at time.Time, err error) {
	point, err = q.LastStamped(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		return point, at, nil
	}
	if err != nil {
		return point, at, err
	}
	at = *point.StampTime
	again, err := q.LastRestamp(ctx)
	if err == nil && again.StampTime.After(at) {
		at = again.StampTime
	}
	return point, at, notFoundIsNothing(err)
}

// unstamped gives the checkpoint that the stamp of today belongs to, when it is due.
func (l *logbook) unstamped(ctx context.Context, q *db.Queries) (point db.LogCheckpoint, due bool, err error) {
	newest, at, err := newestStamp(ctx, q)
	now := l.now().UTC()
	if err != nil || (!at.IsZero() && day(at) >= day(now)) {
		return point, false, err
	}
	point, err = l.toStamp(ctx, q)
	if err != nil {
		return point, false, notFoundIsNothing(err)
	}
	if point.Stamp == nil && point.Size > newest.Size {
		return point, true, nil
	}
	yesterday := day(now.AddDate(0, 0, -1))
	return newest, now.Hour() >= restHour || day(at) < yesterday, nil
}

// keepStamp notes a stamp, unless another process noted one of that day in the meantime: of each day there is one.
func keepStamp(ctx context.Context, q *db.Queries, size int64, token *tsp.Token, by string) error {
	err := q.LockStamps(ctx)
	if err != nil {
		return err
	}
	newest, at, err := newestStamp(ctx, q)
	if err != nil || (!at.IsZero() && day(at) >= day(token.Info.Time)) || size < newest.Size {
		return err
	}
	n, err := q.SetStamp(ctx, db.SetStampParams{Size: size, Stamp: token.Raw, StampTime: pg.Time(token.Info.Time), StampBy: by})
	if err != nil || n > 0 {
		return err
	}
	return q.StampAgain(ctx, db.StampAgainParams{Size: size, Stamp: token.Raw, StampTime: pg.Time(token.Info.Time), StampBy: by})
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
