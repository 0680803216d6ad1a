package pecgateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"google.golang.org/protobuf/types/known/timestamppb"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// Codes of deliveries that are not where they should be. They are permanent.
const (
	stalledAcceptance = "ACCEPTANCE_MISSING"
	stalledDelivery   = "DELIVERY_OVERDUE"
	stalledNotice     = "NOTICE_MISSING"

	// silentSending is what a mailbox suffers from whose messages are taken and then not heard of.
	silentSending = "SENDING_SILENT"
)

// implicitPatience is how long the acceptance may come after a receipt about a recipient, which shows that there is one.
const implicitPatience = time.Hour

// stall is what is amiss with a sent message although no receipt says so.
type stall struct {
	code       string
	since      time.Time
	recipients int
	implicit   bool // the acceptance is missing of a message that was accepted
}

// stallOf says what time alone says of a message, and when it says more; zero: never. It invents no state.
// spec: RFC6109 §3.1.6
func stallOf(state pec.State, known []pec.Fact, patience time.Duration, now time.Time) (stall, time.Time) {
	submitted, accepted := moments(known)
	switch state.State {
	case pec.SendSubmitted:
		if due := submitted.Add(patience); now.Before(due) {
			return stall{}, due
		}
		return stall{code: stalledAcceptance, since: submitted, recipients: len(state.Recipients)}, time.Time{}
	case pec.SendAccepted, pec.SendDelivered, pec.SendPartly, pec.SendNotDelivered:
	default:
		return stall{}, time.Time{}
	}
	next := state.Next(accepted, now)
	overdue := stall{code: stalledDelivery}
	for _, r := range state.Recipients {
		if r.State == pec.RecipientOverdue && !r.Final {
			overdue.recipients++
			overdue.since = sooner(overdue.since, r.At)
		}
	}
	missing := state.MissingNotices(accepted, now)
	switch due := accepted.Add(min(patience, implicitPatience)); {
	case overdue.recipients > 0:
		return overdue, next
	case len(missing) > 0:
		return stall{code: stalledNotice, since: accepted, recipients: len(missing)}, next
	case state.Implicit && now.Before(due):
		return stall{}, sooner(next, due)
	case state.Implicit:
		return stall{code: stalledAcceptance, since: accepted, recipients: len(state.Recipients), implicit: true}, next
	}
	return stall{}, next
}

// sooner is the earlier of two moments; zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// moments finds when a message was handed over and when it was accepted; where the acceptance itself is
// missing, the first receipt shows that there was one.
func moments(known []pec.Fact) (submitted, accepted time.Time) {
	var receipt time.Time
	for _, f := range known {
		switch f.Kind {
		case pec.FactSubmitted:
			submitted = sooner(submitted, f.At)
		case pec.FactAccepted:
			accepted = sooner(accepted, f.At)
		case pec.FactNotice, pec.FactDelivered, pec.FactFailed:
			receipt = sooner(receipt, f.At)
		}
	}
	if accepted.IsZero() {
		accepted = receipt
	}
	return submitted, accepted
}

// stallAdvice is what a person does about it.
var stallAdvice = map[string]string{
	stalledAcceptance: "The provider's server took the message, and neither an acceptance nor a refusal has come. Look whether the mailbox is read and into the " +
		"provider's own log; do not send it again before: it may be on its way.",
	stalledDelivery: "The provider gave notice that the message could not be delivered within 24 hours. It may still be delivered later, and that would count. When a " +
		"term depends on it use another way now: without a delivery receipt nothing was served.",
	stalledNotice: "The message was accepted, and neither a delivery receipt nor a notice of missing delivery has come, which is due within 24 hours. Ask the provider " +
		"by the identifier of the acceptance; when a term depends on it use another way.",
}

// implicitAdvice takes the place of that for ACCEPTANCE_MISSING when there is a receipt about a recipient.
const implicitAdvice = "A receipt shows that the provider accepted the message, and the acceptance itself has not come: it is the proof of when it was sent. Look for it in the " +
	"mailbox, a rule there may have moved or deleted it, and ask the provider for its log by our Message-ID. Do not send it again."

// adviceOn says what a person does about a code.
func adviceOn(code string, implicit bool) string {
	if code == stalledAcceptance && implicit {
		return implicitAdvice
	}
	return stallAdvice[code]
}

// watch keeps what is amiss with a message and when to look again, and tells what is new. The caller has
// locked the row.
func (s *Service) watch(ctx context.Context, tx pgx.Tx, row db.Message, state pec.State, known []pec.Fact) error {
	now := pg.Time(s.now())
	st, next := stallOf(state, known, s.cfg.Sending.AcceptanceAfter, now)
	look := moment(next)
	if st.code == row.StallCode && sameMoment(look, row.LookAt) {
		return nil
	}
	at := row.StallAt
	if st.code != row.StallCode {
		at = nil
		if st.code != "" {
			at = &now
		}
	}
	err := q(tx).SetLook(ctx, db.SetLookParams{TenantID: row.TenantID, ID: row.ID, LookAt: look, StallCode: st.code, StallAt: at})
	if err != nil || st.code == "" || st.code == row.StallCode {
		return err
	}
	return s.tellStall(ctx, tx, row, st)
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = pg.Time(t)
	return &t
}

func sameMoment(a, b *time.Time) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Equal(*b))
}

// tellStall tells of a message that is late. When no acceptance comes and nothing else it is the mailbox that somebody has to look
// after, and that is told once, not for every message; a mailbox whose messages are delivered sends.
func (s *Service) tellStall(ctx context.Context, tx pgx.Tx, row db.Message, st stall) error {
	request, err := requestOf(ctx, tx, row)
	if err != nil {
		return err
	}
	err = s.bus.Emit(bus.WithCorrelation(ctx, row.ID.String()), tx, &pecv1.DeliveryStalled{
		Message: messageName(row.TenantID, row.MailboxID, row.ID), Code: st.code, Since: timestamppb.New(st.since),
		Recipients: int32(min(st.recipients, 1<<30)), Advice: adviceOn(st.code, st.implicit), RequestId: request, //nolint:gosec // bounded
	})
	if err != nil || st.code != stalledAcceptance || st.implicit {
		return err
	}
	others, err := q(tx).StalledInMailbox(ctx, db.StalledInMailboxParams{
		TenantID: row.TenantID, MailboxID: row.MailboxID, Code: st.code, State: int16(pecv1.MessageState_MESSAGE_STATE_SUBMITTED), ID: row.ID,
	})
	if err != nil || others > 0 {
		return err
	}
	return s.tellMailbox(ctx, tx, row.TenantID, row.MailboxID, silentSending,
		fmt.Sprintf("a message was handed over at %s and no acceptance has come", st.since.UTC().Format(time.RFC3339)))
}

// lookArgs is the promise to look at messages of which time says something new, again and again: one job for
// all processes.
type lookArgs struct{}

// Kind names the job in the database.
func (lookArgs) Kind() string { return "pec_look" }

// looksTogether is how many messages are fetched at a time.
const looksTogether = 200

// promiseLooks makes sure that the job exists; it was promised long ago unless this is the first start.
func (s *Service) promiseLooks(ctx context.Context) error {
	once := &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
	}}}
	for {
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.jobs.InsertTx(ctx, tx, lookArgs{}, once) })
		if err == nil {
			<-ctx.Done()
			return nil
		}
		s.quiet(ctx, "overdue messages are not looked at yet", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.cfg.RetryEvery):
		}
	}
}

// lookAtTime looks at every message that is due, then waits for the next turn. A failure waits for it too: this
// job is never given up.
func (s *Service) lookAtTime(ctx context.Context, _ *river.Job[lookArgs]) error {
	for ctx.Err() == nil {
		n, err := s.lookOnce(ctx)
		s.quiet(ctx, "overdue messages could not be looked at; they are at the next turn", err)
		if err != nil || n < looksTogether {
			break
		}
	}
	return river.JobSnooze(s.cfg.Sending.LookEvery)
}

func (s *Service) lookOnce(ctx context.Context) (int, error) {
	var due []db.DueLooksRow
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		due, err = q(tx).DueLooks(ctx, db.DueLooksParams{Now: pg.Time(s.now()), Most: looksTogether})
		return err
	})
	for _, r := range due {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err := s.lookAt(ctx, r); err != nil {
			return 0, err
		}
	}
	return len(due), err
}

// lookAt derives the state of one message anew. One that cannot be derived waits an hour and holds up nobody.
func (s *Service) lookAt(ctx context.Context, r db.DueLooksRow) error {
	err := s.db.Tx(ctx, r.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.advance(ctx, tx, r.ID)
		return err
	})
	if err == nil || pg.Away(err) {
		return err
	}
	s.quiet(ctx, "the state of message "+r.ID.String()+" could not be derived", err)
	later := pg.Time(s.now().Add(time.Hour))
	return s.db.Tx(ctx, r.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).DelayLook(ctx, db.DelayLookParams{TenantID: r.TenantID, ID: r.ID, LookAt: &later})
	})
}

// requestOf is the request that a message was made for; empty when it was none.
func requestOf(ctx context.Context, tx pgx.Tx, row db.Message) (string, error) {
	request, err := q(tx).RequestOf(ctx, db.RequestOfParams{TenantID: row.TenantID, MessageID: row.ID})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", err
	}
	return request, nil
}

// stallShown puts what is amiss with a message into its way.
func stallShown(m db.Message, out *pecv1.Delivery) {
	if m.StallCode == "" {
		return
	}
	out.StallCode, out.StallTime = m.StallCode, stamp(m.StallAt)
	if out.GetAdvice() == "" {
		out.Advice = adviceOn(m.StallCode, pecv1.MessageState(m.State) != pecv1.MessageState_MESSAGE_STATE_SUBMITTED)
	}
}

// followArgs is the promise of former versions to look at the state of a message again; look_at took its place.
type followArgs struct {
	Message uuid.UUID `json:"message"`
}

// Kind names the job in the database.
func (followArgs) Kind() string { return "pec_follow" }

// followState makes the state what the facts add up to now.
func (s *Service) followState(ctx context.Context, job *river.Job[followArgs]) error {
	return s.db.Tx(ctx, pg.Tenant(ctx), func(ctx context.Context, tx pgx.Tx) error {
		_, err := s.advance(ctx, tx, job.Args.Message)
		return err
	})
}
