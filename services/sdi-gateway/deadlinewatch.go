package sdigateway

import (
	"context"
	"path"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"google.golang.org/protobuf/types/known/timestamppb"

	sdiv1 "ceralacca.dev/proto/gen/ceralacca/sdi/v1"
	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/sdi-gateway/internal/db"
)

// termsTogether is how many terms are told of in one transaction.
const termsTogether = 200

// termsArgs is the promise to look at terms, again and again: one job for all processes, kept by the queue.
type termsArgs struct{}

// Kind names the job in the database.
func (termsArgs) Kind() string { return "sdi_terms" }

// promiseTerms makes sure that the job exists; it was promised long ago unless this is the first start.
func (s *Service) promiseTerms(ctx context.Context) error {
	once := &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
		rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
	}}}
	err := s.untilDone(ctx, "terms are not looked at yet", func(ctx context.Context) error {
		return s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.jobs.InsertTx(ctx, tx, termsArgs{}, once) })
	})
	if err != nil {
		return nil // draining: ctx has ended
	}
	<-ctx.Done()
	return nil
}

// watchTerms tells of the terms that are near or have passed, then waits for the next turn. A failure waits for
// it too: this job is never given up.
func (s *Service) watchTerms(ctx context.Context, _ *river.Job[termsArgs]) error {
	for {
		n, err := s.tellTerms(ctx)
		if err == nil {
			var answers int
			answers, err = s.tellAnswers(ctx)
			n = max(n, answers)
		}
		if err != nil {
			s.log.WarnContext(ctx, "terms could not be looked at; they are at the next turn", "error", err)
		}
		if err != nil || n < termsTogether {
			return river.JobSnooze(s.cfg.DeadlineEvery)
		}
	}
}

// tellTerms emits what is to be told of terms now. It gives how many it looked at.
func (s *Service) tellTerms(ctx context.Context) (int, error) {
	count := 0
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		now := pg.Time(s.now())
		q := db.New(tx)
		rows, err := q.DueTransmissions(ctx, db.DueTransmissionsParams{Near: now.Add(s.cfg.DeadlineNotice), Now: now, N: termsTogether})
		if err != nil {
			return err
		}
		count = len(rows)
		told := map[int16][]uuid.UUID{}
		var kept []uuid.UUID
		for i := range rows {
			t := &rows[i]
			news := tell(t.DueKind, *t.DueAt, t.DueTold, now, s.cfg.DeadlineNotice)
			switch {
			case t.DueKind == dueResend && t.Corrected:
				kept = append(kept, t.ID) // SdI has the document that stands in its place
				continue
			case news == toldNothing:
				continue
			}
			told[news] = append(told[news], t.ID)
			err = s.bus.Emit(termStory(ctx, t), tx, &sdiv1.DeadlineReached{
				Invoice: t.Invoice, Transmission: transmissionName(t.TenantID, t.ID), SdiId: t.SdiID, Kind: kindEnum(t.DueKind),
				DueTime: timestamppb.New(*t.DueAt), Passed: news == toldPassed, Format: t.Format,
			})
			if err != nil {
				return err
			}
			if news == toldPassed {
				s.log.WarnContext(ctx, "a term has passed", "kind", t.DueKind, "file", t.FileName, "sdi_id", t.SdiID, "due", *t.DueAt)
			}
		}
		for news, ids := range told {
			err = q.SetTold(ctx, db.SetToldParams{Ids: ids, Told: news})
			if err != nil {
				return err
			}
		}
		if len(kept) > 0 {
			return q.EndTerms(ctx, kept)
		}
		return nil
	})
	return count, err
}

// termStory is ctx in the trace and the correlation of the invoice.
func termStory(ctx context.Context, t *db.DueTransmissionsRow) context.Context {
	ctx = telemetry.Extract(pg.WithTenant(ctx, t.TenantID), t.Traceparent)
	return bus.WithCorrelation(ctx, path.Base(t.Invoice))
}

// setTerm computes the term that runs for a transmission in its state. A term that stays the same keeps what was
// told of it.
func setTerm(t *db.LockTransmissionsRow) {
	kind, due, ok := deadlineOf(t.Format, t.State, moments{sent: taken(t), rc: timeOf(t.RcAt), mc: timeOf(t.McAt), ns: timeOf(t.NsAt)})
	if !ok {
		t.DueKind, t.DueAt, t.DueTold = "", nil, toldNothing
		return
	}
	if kind != t.DueKind || t.DueAt == nil || !t.DueAt.Equal(due) {
		t.DueTold = toldNothing
	}
	t.DueKind, t.DueAt = kind, &due
}

// taken is when SdI received a file: by its own word, else when we learned that it has it.
// spec: AllA-1.9 §1.6 (terms run from the time that SdI states)
func taken(t *db.LockTransmissionsRow) time.Time {
	if t.TakenAt != nil {
		return *t.TakenAt
	}
	return timeOf(t.SentAt)
}

// clockDoubt is how far SdI's times may be from what is possible before they are not believed: a term must not run
// from a time that a broken message states.
const clockDoubt = 24 * time.Hour

// believed says whether a time that SdI states can be true of a file that was reserved and is known of by now.
func believed(said, reserved, now time.Time) bool {
	return !said.IsZero() && said.After(reserved.Add(-clockDoubt)) && said.Before(now.Add(clockDoubt))
}

// markTaken keeps when SdI says that it received a file: the earliest time that it ever states, so that the order in
// which answers, outcomes and messages come changes nothing.
func markTaken(t *db.LockTransmissionsRow, said, now time.Time) {
	if !believed(said, t.CreatedAt, now) {
		return
	}
	at := pg.Time(said)
	if t.TakenAt == nil || at.Before(*t.TakenAt) {
		t.TakenAt = &at
	}
}

// madeAt is when SdI made a message, as far as it says so under a signature that holds; else when it came.
func (r *reading) madeAt(reserved time.Time) time.Time {
	if signed := r.seal.SigningTime; r.seal.Verdict == "HOLDS" && signed != nil && signed.Before(r.ReceivedAt) && believed(*signed, reserved, r.ReceivedAt) {
		return pg.Time(*signed)
	}
	return pg.Time(r.ReceivedAt)
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// mark keeps when a message came that a term runs from: the first of its kind counts.
func mark(t *db.LockTransmissionsRow, r *reading) {
	at := r.madeAt(t.CreatedAt)
	switch c := r.message.Contenuto.(type) {
	case *sdi.RicevutaConsegna:
		if !c.DataOraConsegna.IsZero() && c.DataOraConsegna.Before(at) {
			at = pg.Time(c.DataOraConsegna)
		}
		setOnce(&t.RcAt, at)
	case *sdi.NotificaMancataConsegna:
		setOnce(&t.McAt, at)
	case *sdi.NotificaScarto:
		setOnce(&t.NsAt, at)
	}
}

func setOnce(to **time.Time, at time.Time) {
	if *to == nil {
		*to = &at
	}
}

func kindEnum(kind string) sdiv1.DeadlineKind {
	return sdiv1.DeadlineKind(sdiv1.DeadlineKind_value["DEADLINE_KIND_"+kind])
}

func kindName(e sdiv1.DeadlineKind) string {
	if e == sdiv1.DeadlineKind_DEADLINE_KIND_UNSPECIFIED {
		return ""
	}
	return e.String()[len("DEADLINE_KIND_"):]
}

// advice says what a term means for whoever looks at it.
func advice(kind string, overdue bool) string {
	switch kind {
	case dueReceipt:
		if overdue {
			return "SdI has said nothing in five days: look the file up in the portal, or ask for re-delivery; do not send it under another name"
		}
		return "SdI says within five days whether it takes the invoice"
	case dueResend:
		if overdue {
			return "the discarded invoice was not sent again within five days: it was never issued; correct and send it, a fine may be due"
		}
		return "correct the invoice and send it again within five days of the discard"
	case dueOutcome:
		if overdue {
			return "the public body has not answered in fifteen days: silence is neither acceptance nor refusal; SdI owes the DT"
		}
		return "the public body may accept or refuse until then"
	case dueAttestation:
		if overdue {
			return "SdI has tried for ten days: it owes an attestation (AT), or an RC"
		}
		return "SdI goes on trying to deliver"
	}
	return ""
}
