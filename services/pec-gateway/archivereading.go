package pecgateway

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// ArchiveConfig is how kept messages are read again, to find those that the store does not give back as they came.
type ArchiveConfig struct {
	// Every is the pause between two turns of reading.
	Every time.Duration `yaml:"every"`
	// Bytes is how much one turn reads; a message that is begun is read to its end.
	Bytes int64 `yaml:"bytes"`
	// RoundEvery is how long after the beginning of one round through all messages the next begins, at the earliest.
	RoundEvery time.Duration `yaml:"round_every"`
	// AskEvery is the pause before a provider is asked again for a damaged message that it did not give whole.
	AskEvery time.Duration `yaml:"ask_every"`
}

func defaultArchive() ArchiveConfig {
	return ArchiveConfig{Every: time.Minute, Bytes: 64 << 20, RoundEvery: 30 * 24 * time.Hour, AskEvery: 6 * time.Hour}
}

func (c ArchiveConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Every < 10*time.Millisecond, "archive.every", "%s is too short: use 10s to 10m, for example 1m", c.Every)
	bad(c.Bytes < 1, "archive.bytes", "must be more than 0, for example 67108864")
	bad(c.RoundEvery <= 0, "archive.round_every", "must be more than 0s, for example 720h")
	bad(c.AskEvery <= 0, "archive.ask_every", "must be more than 0s, for example 6h")
}

const (
	readPage     = 200              // messages between two notes of how far the reading is
	readTurn     = 10 * time.Minute // until another replica may take over a turn
	looksInATurn = 50               // damaged messages that are looked at again in one turn

	repairedFromProvider = "PROVIDER"
	repairedFromStore    = "STORE"
)

// codeDamaged tells of a mailbox of which the archive does not give back everything.
const codeDamaged = "ARCHIVE_DAMAGED"

// countDamage lets the operator's monitoring see how many messages the archive does not give back. It is counted with each turn.
func (s *Service) countDamage() error {
	gauge, err := telemetry.Meter().Int64ObservableGauge("ceralacca_pec_archive_damaged",
		metric.WithDescription("messages that the archive does not give back as they came"))
	if err == nil {
		_, err = telemetry.Meter().RegisterCallback(func(_ context.Context, o metric.Observer) error {
			o.ObserveInt64(gauge, s.damaged.Load())
			return nil
		}, gauge)
	}
	if err == nil {
		s.readBytes, err = telemetry.Meter().Int64Counter("ceralacca_pec_archive_read_bytes", metric.WithUnit("By"),
			metric.WithDescription("bytes of kept messages that were read and held to their hash"))
	}
	if err != nil {
		return fmt.Errorf("pec-gateway: %w", err)
	}
	return nil
}

// readArchive reads what is kept, message after message and round after round, until ctx ends. Whoever looks for a message by
// itself would find a flipped bit on the day that the message is needed.
func (s *Service) readArchive(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Archive.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.quiet(ctx, "kept messages were not read again", s.readSome(ctx))
	}
}

// readSome is one turn. Where it ends is written down: the next turn, of this replica or of another, begins there.
func (s *Service) readSome(ctx context.Context) error {
	var taken []db.ArchiveReading
	now := pg.Time(s.now())
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		n, err := q(tx).CountAllDamages(ctx)
		if err == nil {
			s.damaged.Store(n)
			taken, err = q(tx).TakeReading(ctx, db.TakeReadingParams{Now: now, Until: now.Add(readTurn)})
		}
		return err
	})
	if err != nil || len(taken) == 0 {
		return err
	}
	left := s.cfg.Archive.Bytes
	err = s.lookAgain(ctx)
	for r := &taken[0]; err == nil && r != nil && left > 0; {
		r, err = s.readKeptPage(ctx, r, &left)
		if r == nil {
			return err // the round is over, or another has the turn
		}
	}
	end := db.EndReadingTurnParams{Round: taken[0].Round, NextTime: pg.Time(s.now().Add(s.cfg.Archive.Every))}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	endErr := s.db.System(after, func(ctx context.Context, tx pgx.Tx) error { return q(tx).EndReadingTurn(ctx, end) })
	if err == nil {
		err = endErr
	}
	return err
}

// readKeptPage reads messages until the page or the budget ends. It gives where the reading is now; nil: this turn is over.
func (s *Service) readKeptPage(ctx context.Context, r *db.ArchiveReading, left *int64) (*db.ArchiveReading, error) {
	var page []db.MessagesToReadRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		page, err = q(tx).MessagesToRead(ctx, db.MessagesToReadParams{TenantID: r.AtTenant, ID: r.AtMessage, Most: readPage})
		return err
	})
	if err != nil {
		return r, err
	}
	p := db.KeepReadingParams{Round: r.Round, FromTenant: r.AtTenant, FromMessage: r.AtMessage, AtTenant: r.AtTenant, AtMessage: r.AtMessage}
	read := 0
	for _, m := range page {
		if *left <= 0 {
			break
		}
		if !m.Destroyed {
			var found bool
			found, err = s.readOne(ctx, m)
			if err != nil {
				break // the store is away: nothing is known of this message and of those behind it
			}
			p.Messages, p.Bytes, p.Damaged = p.Messages+1, p.Bytes+m.Size, p.Damaged+int64(boolInt(found))
			*left -= m.Size
			s.readBytes.Add(ctx, m.Size)
		}
		p.AtTenant, p.AtMessage = m.TenantID, m.ID
		read++
	}
	over := err == nil && read == len(page) && len(page) < readPage
	after := context.WithoutCancel(ctx)
	var mine int64
	keepErr := s.db.System(after, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		mine, err = q(tx).KeepReading(ctx, p)
		if err != nil || mine == 0 || !over {
			return err
		}
		now := pg.Time(s.now())
		next := now
		if r.StartTime != nil && r.StartTime.Add(s.cfg.Archive.RoundEvery).After(now) {
			next = pg.Time(r.StartTime.Add(s.cfg.Archive.RoundEvery))
		}
		return q(tx).EndReading(ctx, db.EndReadingParams{Now: now, NextTime: next, Round: r.Round, FromTenant: p.AtTenant, FromMessage: p.AtMessage})
	})
	if err == nil {
		err = keepErr
	}
	if err != nil {
		return r, err
	}
	if mine == 0 || over {
		return nil, nil //nolint:nilnil // there is nothing to go on with
	}
	r.AtTenant, r.AtMessage = p.AtTenant, p.AtMessage
	return r, nil
}

// readOne reads a message and notes when it is damaged. What was put back since its state was read is read once more: the bytes
// that were found bad may be those of before.
func (s *Service) readOne(ctx context.Context, m db.MessagesToReadRow) (found bool, err error) {
	for {
		bad, err := s.spoiled(ctx, m.ContentUri)
		if err != nil || bad == nil {
			return false, err
		}
		mended, err := s.noteDamage(pg.WithTenant(telemetry.WithActor(ctx, actor), m.TenantID), m, bad)
		if err != nil || mended == nil {
			return err == nil, err
		}
		m.RepairTime = mended
	}
}

// spoiled reads a message to its end and says what is wrong with it; nil when it is whole. An error tells of the store as a
// whole: nothing is known of the message then.
func (s *Service) spoiled(ctx context.Context, uri string) (*fault.Fault, error) {
	err := s.checkKept(ctx, uri)
	if err == nil {
		return nil, nil //nolint:nilnil // it is whole
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if f := fault.Of(err); f.Code == "BLOB_CORRUPT" {
		return f, nil
	}
	if s.blobs.Check(ctx) != nil { // nothing is found on a disk that is not mounted
		return nil, err
	}
	err = s.checkKept(ctx, uri) // it may have come back in between
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		return nil, nil //nolint:nilnil // it is whole
	}
	return fault.Of(err), nil // the store answers, and not for this message: as a disk does that cannot read a sector
}

// noteDamage notes what was read of a message. When somebody has put it back in the meantime it notes nothing and says when.
func (s *Service) noteDamage(ctx context.Context, m db.MessagesToReadRow, bad *fault.Fault) (mended *time.Time, err error) {
	name := messageName(m.TenantID, m.MailboxID, m.ID)
	err = s.db.Tx(ctx, m.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		mended = nil // of an attempt before this one
		row, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: m.TenantID, ID: m.ID})
		if err != nil || row.DestroyedBy != "" {
			return err
		}
		repairs, err := q(tx).RepairTime(ctx, db.RepairTimeParams{TenantID: m.TenantID, MessageID: m.ID})
		if err != nil {
			return err
		}
		if len(repairs) == 1 && repairs[0] != nil && (m.RepairTime == nil || !repairs[0].Equal(*m.RepairTime)) {
			mended = repairs[0]
			return nil
		}
		before, err := q(tx).CountDamages(ctx, db.CountDamagesParams{TenantID: m.TenantID, MailboxID: m.MailboxID})
		if err != nil {
			return err
		}
		n, err := q(tx).InsertDamage(ctx, db.InsertDamageParams{TenantID: m.TenantID, MessageID: m.ID, MailboxID: m.MailboxID, Code: bad.Code,
			Reason: trim(bad.Message, 500), Now: pg.Time(s.now())})
		if err != nil || n == 0 {
			return err
		}
		s.log.ErrorContext(ctx, "the archive does not give back a message as it came", "message", name, "code", bad.Code, "reason", bad.Message)
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "message.damaged", Resource: name, Detail: map[string]string{"code": bad.Code, "reason": trim(bad.Message, 500)}})
		if err != nil || before > 0 {
			return err
		}
		return s.tellMailbox(ctx, tx, m.TenantID, m.MailboxID, codeDamaged,
			"the archive does not give back a message as it came (and perhaps more: ceralacca pec damaged). What its provider still has is fetched again; for the rest restore the store")
	})
	return mended, err
}

// lookAgain asks the store once more for what it did not give back: somebody may have restored it.
func (s *Service) lookAgain(ctx context.Context) error {
	left := s.cfg.Archive.Bytes // as much again: what is damaged does not keep the others from being read
	var rows []db.DamagesToLookAtRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = q(tx).DamagesToLookAt(ctx, looksInATurn)
		return err
	})
	for _, d := range rows {
		if err != nil || left <= 0 {
			return err
		}
		var bad *fault.Fault
		bad, err = s.spoiled(ctx, d.ContentUri)
		if err != nil {
			return err
		}
		left -= d.Size
		err = s.db.Tx(ctx, d.TenantID, func(ctx context.Context, tx pgx.Tx) error {
			if bad == nil {
				// Who is putting it back just now holds its row, and says so.
				_, err := q(tx).LockMessage(ctx, db.LockMessageParams{TenantID: d.TenantID, ID: d.MessageID})
				if err != nil {
					return err
				}
				return s.endDamage(ctx, tx, d.TenantID, d.MailboxID, d.MessageID, repairedFromStore)
			}
			return q(tx).LookedAtDamage(ctx, db.LookedAtDamageParams{TenantID: d.TenantID, MessageID: d.MessageID, Now: pg.Time(s.now())})
		})
	}
	return err
}

// endDamage notes that the archive gives a message back again.
func (s *Service) endDamage(ctx context.Context, tx pgx.Tx, tenant string, mailbox, message uuid.UUID, from string) error {
	n, err := q(tx).EndDamage(ctx, db.EndDamageParams{TenantID: tenant, MessageID: message, Now: pg.Time(s.now()), RepairedFrom: from})
	if err != nil || n == 0 {
		return err
	}
	err = q(tx).ForgetKeptRemovals(ctx, db.ForgetKeptRemovalsParams{TenantID: tenant, MessageID: message})
	if err != nil {
		return err
	}
	name := messageName(tenant, mailbox, message)
	s.log.WarnContext(ctx, "the archive gives back a message again that was damaged", "message", name, "from", from)
	return telemetry.Audit(telemetry.WithActor(ctx, actor), tx, telemetry.Act{Action: "message.repaired", Resource: name, Detail: map[string]string{"from": from}})
}

// ListDamagedMessages shows what the archive does not give back, and how far the reading of everything is.
func (s *Service) ListDamagedMessages(ctx context.Context, req *pecv1.ListDamagedMessagesRequest) (*pecv1.ListDamagedMessagesResponse, error) {
	hash := pg.FilterHash("damaged", req.GetParent(), fmt.Sprint(req.GetRepairedToo()))
	var last uuid.UUID
	found, err := pg.DecodePageToken(req.GetPageToken(), hash, &last)
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	p := db.ListDamagesParams{TenantID: strings.Split(req.GetParent(), "/")[1], RepairedToo: req.GetRepairedToo(), PageSize: size + 1}
	if found {
		p.Before = &last
	}
	out := &pecv1.ListDamagedMessagesResponse{}
	err = s.db.View(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		ids, err := s.reachable(ctx, tx, req.GetParent())
		if err != nil {
			return err
		}
		p.MailboxIds = ids
		reading, err := q(tx).GetReading(ctx)
		if err != nil {
			return err
		}
		out.Reading = &pecv1.ArchiveReading{Round: reading.Round, StartTime: stamp(reading.StartTime), LastStartTime: stamp(reading.LastStartTime), LastEndTime: stamp(reading.LastEndTime)}
		rows, err := q(tx).ListDamages(ctx, p)
		if err != nil {
			return err
		}
		rows, out.NextPageToken, err = pg.Page(rows, size, hash, func(r db.ListDamagesRow) []any { return []any{r.DamagedMessage.MessageID} })
		if err != nil {
			return err
		}
		for _, r := range rows {
			d := r.DamagedMessage
			out.Messages = append(out.Messages, &pecv1.DamagedMessage{
				Message: messageName(d.TenantID, d.MailboxID, d.MessageID), Code: d.Code, Reason: d.Reason, Direction: pecv1.MessageDirection(r.Direction),
				FindTime: timestamppb.New(d.FindTime), AskTime: stamp(d.AskTime), RepairTime: stamp(d.RepairTime), RepairedFrom: d.RepairedFrom,
			})
		}
		return err
	})
	return out, err
}
