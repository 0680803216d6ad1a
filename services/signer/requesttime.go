package signer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	signv1 "ceralacca.dev/proto/gen/ceralacca/sign/v1"
	"ceralacca.dev/services/format/dossier"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/signer/internal/db"
	"ceralacca.dev/services/signer/internal/request"
)

// RequestTimeArgs watches the time of one request: reminders and the deadline.
type RequestTimeArgs struct {
	Tenant  string    `json:"tenant"`
	Request uuid.UUID `json:"request"`
}

// Kind names the job.
func (RequestTimeArgs) Kind() string { return "request-time" }

// due is when something is to be done next.
func (r *requestRows) due() (at time.Time, expires bool) {
	if r.row.RemindSeconds == 0 {
		return r.row.Deadline, true
	}
	last := r.row.CreatedAt
	if r.row.RemindedAt != nil {
		last = *r.row.RemindedAt
	}
	at = last.Add(time.Duration(r.row.RemindSeconds) * time.Second)
	if !at.Before(r.row.Deadline) {
		return r.row.Deadline, true
	}
	return at, false
}

// watchTime promises the job, with the request.
func (s *Service) watchTime(ctx context.Context, tx pgx.Tx, r *requestRows) error {
	at, _ := r.due()
	return s.jobs.InsertTx(ctx, tx, RequestTimeArgs{Tenant: r.row.TenantID, Request: r.row.ID}, &river.InsertOpts{ScheduledAt: at})
}

// workTime does what is due, and comes back for the next. What it does is decided by our clock, not by the
// queue's. While the tenant is suspended nobody is reminded of what they cannot do; a deadline passes all the same.
func (s *Service) workTime(ctx context.Context, job *river.Job[RequestTimeArgs]) error {
	name := requestName{tenant: job.Args.Tenant, id: job.Args.Request, full: nameOfRequest(job.Args.Tenant, job.Args.Request)}
	wait, err := s.passTime(ctx, name, false)
	if errors.Is(err, errReminderDue) {
		held, asked := s.suspension(ctx, name.tenant) // outside the transaction: it may be a call
		if asked != nil {
			return asked
		}
		if held != nil {
			return river.JobSnooze(min(suspendedPause, wait))
		}
		wait, err = s.passTime(ctx, name, true)
	}
	if err != nil || wait == 0 {
		return err
	}
	return river.JobSnooze(wait)
}

// errReminderDue: somebody is to be reminded, if they may be.
var errReminderDue = errors.New("signer: a reminder is due")

// suspendedPause is how often a reminder that is due is thought of again while the tenant is suspended.
const suspendedPause = time.Hour

// passTime does what is due, reminds only if it may, and says when to come back at the latest.
func (s *Service) passTime(ctx context.Context, name requestName, mayRemind bool) (wait time.Duration, err error) {
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		r, err := lockRequest(ctx, db.New(tx), name)
		if err != nil || r.row.State != string(request.Open) {
			return err
		}
		now := pg.Time(s.now())
		at, _ := r.due()
		switch {
		case !now.Before(r.row.Deadline):
			return s.perform(ctx, tx, r, deed{Act: request.Act{Verb: request.Expire}, action: "EXPIRED"})
		case !now.Before(at) && !mayRemind:
			wait = r.row.Deadline.Sub(now)
			return errReminderDue
		case !now.Before(at):
			if err := s.remind(ctx, tx, r); err != nil {
				return err
			}
			at, _ = r.due()
		}
		wait = at.Sub(now)
		return nil
	})
	return wait, err
}

// note writes a line about something that changes nothing else.
func (s *Service) note(ctx context.Context, tx pgx.Tx, r *requestRows, d deed) error {
	if err := s.writeLine(ctx, tx, r, d); err != nil {
		return err
	}
	err := db.New(tx).SaveHead(ctx, db.SaveHeadParams{ID: r.row.ID, Sequence: r.row.Sequence, Head: r.row.Head})
	if err != nil {
		return fmt.Errorf("signer: save signature request: %w", err)
	}
	return nil
}

const (
	watchPage  = 200
	watchBeat  = 15 * time.Second
	watchAgain = time.Second // after the connection that listens was lost
)

// WatchSignatureRequest sends the lines of the trail after a sequence, and then each as it is written.
func (s *Service) WatchSignatureRequest(req *signv1.WatchSignatureRequestRequest, stream grpc.ServerStreamingServer[signv1.WatchSignatureRequestResponse]) error {
	ctx := stream.Context()
	name, err := parseRequestName(req.GetName())
	if err != nil {
		return err
	}
	after := req.GetAfterSequence()
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	for {
		grown := s.requests.wait(name.id) // before reading, so that nothing falls between
		lines, r, err := s.readLines(ctx, name, after)
		if err != nil {
			return err
		}
		for i, row := range lines {
			resp := &signv1.WatchSignatureRequestResponse{Sequence: row.Sequence}
			if resp.Event, err = lineMessage(row); err != nil {
				return err
			}
			if i == len(lines)-1 {
				resp.SignatureRequest = requestMessage(r)
			}
			if err := stream.Send(resp); err != nil {
				return err
			}
			after = row.Sequence
		}
		if r.row.BundledAt != nil && after >= r.row.Sequence {
			return nil
		}
		if len(lines) == watchPage {
			continue
		}
		select {
		case <-grown:
		case <-beat.C:
			if err := stream.Send(&signv1.WatchSignatureRequestResponse{Sequence: after}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) readLines(ctx context.Context, name requestName, after int64) (lines []db.RequestEventsRow, r *requestRows, err error) {
	err = s.db.Tx(ctx, name.tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		// The request first: a line that is written between is read with the next page.
		if r, err = readRequest(ctx, q, name); err != nil {
			return err
		}
		if lines, err = q.RequestEvents(ctx, db.RequestEventsParams{RequestID: name.id, After: after, Page: watchPage}); err != nil {
			return fmt.Errorf("signer: read the trail: %w", err)
		}
		return nil
	})
	return lines, r, err
}

func lineMessage(row db.RequestEventsRow) (*signv1.SignatureRequestEvent, error) {
	e, err := dossier.ParseEvent(row.Body)
	if err != nil {
		return nil, fault.Internal("TRAIL_BROKEN", "line %d of the audit trail cannot be read", row.Sequence).With(err)
	}
	at, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		return nil, fault.Internal("TRAIL_BROKEN", "line %d of the audit trail has no time", row.Sequence).With(err)
	}
	return &signv1.SignatureRequestEvent{
		Sequence: row.Sequence, Time: timestamppb.New(at), Action: e.Action, Actor: e.Actor, Participant: e.Participant, Body: string(row.Body), Sha256: row.Sha256,
	}, nil
}

// requestChannel is where lines are told. Channels belong to the whole database: the name carries the schema.
func (s *Service) requestChannel() string { return s.db.Schema() + "_requests" }

// listenForRequests wakes those who watch in this process, whichever process wrote the line.
func (s *Service) listenForRequests(ctx context.Context) error {
	for ctx.Err() == nil {
		err := s.listenOnce(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.log.WarnContext(ctx, "who watches a request waits for the next heartbeat", "error", err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
	return nil
}

func (s *Service) listenOnce(ctx context.Context) error {
	conn, err := s.db.Dedicated(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{s.requestChannel()}.Sanitize())
	if err != nil {
		return fmt.Errorf("signer: listen: %w", err)
	}
	s.requests.wake(uuid.Nil) // what was said while nobody listened
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("signer: wait for requests: %w", err)
		}
		id, err := uuid.Parse(n.Payload)
		if err != nil {
			return errors.Join(errors.New("signer: notification"), err)
		}
		s.requests.wake(id)
	}
}

// requestWakes lets streams wait for the next line of a request.
type requestWakes struct {
	mu      sync.Mutex
	waiting map[uuid.UUID]chan struct{}
}

// wait gives a channel that is closed with the next line after this call.
func (w *requestWakes) wait(id uuid.UUID) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch, ok := w.waiting[id]
	if !ok {
		if w.waiting == nil {
			w.waiting = map[uuid.UUID]chan struct{}{}
		}
		ch = make(chan struct{})
		w.waiting[id] = ch
	}
	return ch
}

// wake wakes who waits for a request; the zero id: everybody.
func (w *requestWakes) wake(id uuid.UUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for waits, ch := range w.waiting {
		if id == uuid.Nil || waits == id {
			close(ch)
			delete(w.waiting, waits)
		}
	}
}
