package pecgateway

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// denials are refusals on their way into the audit records. What refuses is rolled back with its transaction, so the record
// needs one of its own; and who is refused over and over must not fill the database: equal refusals within
// denialPause make one record with their number.
type denials struct {
	mu   sync.Mutex
	seen map[denial]int64
	lost int64 // beyond mostDenials
}

type denial struct{ tenant, mailbox, actor, method, code string }

const (
	denialPause = time.Second
	mostDenials = 10_000 // kinds of refusal in one pause
)

// noteDenial remembers that a caller was refused a mailbox.
func (s *Service) noteDenial(ctx context.Context, row db.Mailbox, err error) {
	if err == nil {
		return
	}
	f := fault.Of(err)
	if f.Code != "MAILBOX_NOT_FOUND" && f.Code != "MAILBOX_RIGHT_MISSING" {
		return
	}
	c, ok := auth.From(ctx)
	if !ok {
		return
	}
	method, _ := grpc.Method(ctx)
	s.denied.note(denial{tenant: row.TenantID, mailbox: mailboxName(row.TenantID, row.ID), actor: c.Actor(), method: method, code: f.Code}, 1)
}

// guessed is the answer to a caller who named what is not in a mailbox that he may read. When it is in another one that he may not,
// the refusal of that one is remembered. What he named is not there in any case.
func (s *Service) guessed(ctx context.Context, tx pgx.Tx, named db.Mailbox, answer error, ids ...uuid.UUID) error {
	others, err := q(tx).MailboxesOf(ctx, db.MailboxesOfParams{TenantID: named.TenantID, Ids: ids, MailboxID: named.ID})
	if err != nil {
		return err
	}
	for _, id := range others {
		_, err = s.mailbox(ctx, tx, named.TenantID, id, false)
		if err == nil {
			continue // it is his, and not where he looks for it
		}
		if kind := fault.Of(err).Kind; kind != fault.KindNotFound && kind != fault.KindDenied {
			return err
		}
	}
	return answer
}

func (d *denials) note(one denial, times int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil {
		d.seen = map[denial]int64{}
	}
	if _, known := d.seen[one]; !known && len(d.seen) >= mostDenials {
		d.lost += times
		return
	}
	d.seen[one] += times
}

func (d *denials) take() (map[denial]int64, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen, lost := d.seen, d.lost
	d.seen, d.lost = nil, 0
	return seen, lost
}

// writeDenials records refusals until ctx ends, and those of the end. What cannot be written is kept for the next time.
func (s *Service) writeDenials(ctx context.Context) error {
	tick := time.NewTicker(denialPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.recordDenials(last)
			return nil
		case <-tick.C:
			s.recordDenials(ctx)
		}
	}
}

func (s *Service) recordDenials(ctx context.Context) {
	seen, lost := s.denied.take()
	if lost > 0 {
		s.log.WarnContext(ctx, "refusals are only in the access log: there were too many kinds of them", "refusals", lost)
	}
	for one, times := range seen {
		err := s.db.Tx(ctx, one.tenant, func(ctx context.Context, tx pgx.Tx) error {
			return telemetry.Audit(telemetry.WithActor(ctx, one.actor), tx, telemetry.Act{Action: "mailbox.denied", Resource: one.mailbox, Outcome: "denied",
				Detail: map[string]string{"method": one.method, "code": one.code, "times": strconv.FormatInt(times, 10)}})
		})
		if err != nil {
			s.quiet(ctx, "a refusal was not recorded", err)
			s.denied.note(one, times)
		}
	}
}
