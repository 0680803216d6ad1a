package conservation

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// ClosingConfig says when packages are closed by themselves. They can be closed by hand at any time.
type ClosingConfig struct {
	// Every is how often the units that wait are looked at; 0s: packages are closed by hand only.
	Every time.Duration `yaml:"every"`
	// Bytes closes a package at this many bytes, before compression.
	Bytes int64 `yaml:"bytes"`
	// Age is how long a unit waits at most.
	Age time.Duration `yaml:"age"`
	// MailAge is how long certified mail waits at most: each day's set is sealed soon.
	MailAge time.Duration `yaml:"mail_age"`
	// BeforeDeadline is how long before the deadline of their fiscal year all units are sealed.
	BeforeDeadline time.Duration `yaml:"before_deadline"`
}

func defaultClosing() ClosingConfig {
	return ClosingConfig{Every: time.Hour, Bytes: 1 << 30, Age: 90 * aDay, MailAge: aDay, BeforeDeadline: 45 * aDay}
}

func (c ClosingConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Every < 0, "closing.every", "must not be negative; 0s closes by hand only")
	bad(c.Bytes < 1, "closing.bytes", "must be at least 1")
	bad(c.Age <= 0, "closing.age", "must be more than 0s")
	bad(c.MailAge <= 0, "closing.mail_age", "must be more than 0s")
	bad(c.BeforeDeadline <= 0, "closing.before_deadline", "must be more than 0s")
}

// closeDue closes what is full, what has waited long enough, and what must be sealed before its deadline.
func (s *Service) closeDue(ctx context.Context) error {
	var lines []db.WaitingLinesRow
	deadline := map[string]time.Time{}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		var err error
		lines, err = q.WaitingLines(ctx)
		if err != nil {
			return err
		}
		years, err := s.fiscalYears(ctx, tx, "")
		for _, y := range years {
			deadline[lineKey(y.tenant, y.year)] = y.deadline
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range lines {
		age := s.cfg.Closing.Age
		if l.Class == classMail {
			age = min(age, s.cfg.Closing.MailAge)
		}
		late := !s.now().Before(l.Oldest.Add(age)) ||
			!s.today().Before(deadline[lineKey(l.TenantID, l.FiscalYear)].Add(-s.cfg.Closing.BeforeDeadline))
		// A line that is late is closed to its last unit; one that is full as often as it fills a package.
		for l.Units > 0 && (late || l.Units >= int64(s.cfg.MaxUnits) || l.Bytes >= s.cfg.Closing.Bytes) {
			units, bytes, err := s.closeLine(ctx, l)
			if errors.Is(err, fault.Precondition("NO_UNITS_WAITING", "")) {
				break // somebody else was first
			}
			if err != nil {
				return err
			}
			l.Units, l.Bytes = l.Units-units, l.Bytes-bytes
		}
	}
	return nil
}

func lineKey(tenant string, year int32) string {
	return tenant + "/" + time.Date(int(year), 1, 1, 0, 0, 0, 0, time.UTC).Format("2006")
}

func (s *Service) closeLine(ctx context.Context, l db.WaitingLinesRow) (units, bytes int64, err error) {
	err = s.db.Tx(telemetry.WithActor(ctx, "service:conservation"), l.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		p, err := s.close(ctx, tx, l.TenantID, l.FiscalYear, l.Class)
		if err != nil {
			return err
		}
		_, id, err := parseName("name", p.GetName(), "packages", noPackage(p.GetName()))
		if err != nil {
			return err
		}
		units = int64(p.GetUnitCount())
		bytes, err = db.New(tx).BytesOf(ctx, id)
		return err
	})
	return units, bytes, err
}

// underCeiling cuts units where their bytes would be more than a package takes; the first is always in.
func (s *Service) underCeiling(ctx context.Context, q *db.Queries, ids []uuid.UUID) ([]uuid.UUID, error) {
	rows, err := q.SizesOf(ctx, ids)
	if err != nil {
		return nil, pg.Error(err)
	}
	size := map[uuid.UUID]int64{}
	for _, r := range rows {
		size[r.UnitID] = r.Bytes
	}
	total := int64(0)
	for i, id := range ids {
		total += size[id]
		if i > 0 && total > s.cfg.Closing.Bytes {
			return ids[:i], nil
		}
	}
	return ids, nil
}

// housekeeping closes what is due and warns of deadlines, until ctx ends. Processes that do it at the same time
// do no harm: the line's lock and the alarm's row let one through.
func (s *Service) housekeeping(ctx context.Context) error {
	for ctx.Err() == nil {
		pause(ctx, s.cfg.Closing.Every)
		if ctx.Err() != nil {
			break
		}
		err := s.closeDue(ctx)
		if err == nil {
			err = s.warn(telemetry.WithActor(ctx, "service:conservation"))
		}
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "packages could not be closed, or deadlines not looked at", "error", err)
		}
	}
	return nil
}
