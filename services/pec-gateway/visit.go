package pecgateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	pecv1 "ceralacca.dev/proto/gen/ceralacca/pec/v1"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// presidency is what one replica presides over: a goroutine and a connection for each mailbox, and few
// slots in which messages are worked on. Who waits for a server holds no slot, so a mailbox that hangs
// costs nothing; slots are given in the order of asking, one batch at a time, so one that floods waits
// behind the others.
type presidency struct {
	mu    sync.Mutex
	held  map[uuid.UUID]*tenure
	wake  chan struct{} // a mailbox may be due
	slots chan struct{}
}

type tenure struct {
	fence  int64
	cancel context.CancelFunc
}

func newPresidency(workers int) *presidency {
	return &presidency{held: map[uuid.UUID]*tenure{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, workers)}
}

// slot waits for the right to work on messages.
func (s *Service) slot(ctx context.Context) (release func(), err error) {
	select {
	case s.boxes.slots <- struct{}{}:
		return func() { <-s.boxes.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// knock has mailboxes looked for at once.
func (s *Service) knock() {
	select {
	case s.boxes.wake <- struct{}{}:
	default:
	}
}

// dismiss ends what this replica does with a mailbox that was changed; others find out by the fence.
func (s *Service) dismiss(id uuid.UUID) {
	s.boxes.mu.Lock()
	if t := s.boxes.held[id]; t != nil {
		t.cancel()
	}
	s.boxes.mu.Unlock()
	s.knock()
}

// preside takes mailboxes that nobody presides over, as many as one replica may have, until ctx ends.
func (s *Service) preside(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	renew := time.NewTicker(s.cfg.Lease / 4)
	defer renew.Stop()
	look := time.NewTicker(min(time.Second, s.cfg.PollEvery, s.cfg.RetryEvery))
	defer look.Stop()
	renewed := s.now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
			err := s.renewLeases(ctx)
			switch {
			case err == nil:
				renewed = s.now()
			case s.now().Sub(renewed) > s.cfg.Lease:
				s.dismissAll() // others may preside by now
			}
			s.quiet(ctx, "leases not renewed", err)
		case <-look.C:
			s.quiet(ctx, "mailboxes not claimed", s.claim(ctx, &all))
		case <-s.boxes.wake:
			s.quiet(ctx, "mailboxes not claimed", s.claim(ctx, &all))
		}
	}
}

func (s *Service) quiet(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, what, "error", err)
	}
}

func (s *Service) dismissAll() {
	s.boxes.mu.Lock()
	defer s.boxes.mu.Unlock()
	for _, t := range s.boxes.held {
		t.cancel()
	}
}

// claim takes mailboxes that are due.
func (s *Service) claim(ctx context.Context, all *sync.WaitGroup) error {
	s.boxes.mu.Lock()
	room := s.cfg.Mailboxes - len(s.boxes.held)
	s.boxes.mu.Unlock()
	if room <= 0 {
		return nil
	}
	var rows []db.Mailbox
	now := pg.Time(s.now())
	until := now.Add(s.cfg.Lease)
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = q(tx).ClaimMailboxes(ctx, db.ClaimMailboxesParams{Holder: &s.instance, Until: &until, Now: now, Most: int32(room)})
		return err
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		inner, cancel := context.WithCancel(ctx)
		t := &tenure{fence: row.Fence, cancel: cancel}
		s.boxes.mu.Lock()
		if old := s.boxes.held[row.ID]; old != nil {
			old.cancel() // its lease was lost
		}
		s.boxes.held[row.ID] = t
		s.boxes.mu.Unlock()
		all.Go(func() {
			defer cancel()
			s.presideOver(inner, row)
			s.boxes.mu.Lock()
			if s.boxes.held[row.ID] == t {
				delete(s.boxes.held, row.ID)
			}
			s.boxes.mu.Unlock()
		})
	}
	return nil
}

// renewLeases lives on, and lets go what is not ours any more.
func (s *Service) renewLeases(ctx context.Context) error {
	s.boxes.mu.Lock()
	ids := make([]uuid.UUID, 0, len(s.boxes.held))
	for id := range s.boxes.held {
		ids = append(ids, id)
	}
	s.boxes.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	var rows []db.RenewLeasesRow
	until := pg.Time(s.now().Add(s.cfg.Lease))
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		rows, err = q(tx).RenewLeases(ctx, db.RenewLeasesParams{Until: &until, Holder: &s.instance, Ids: ids})
		return err
	})
	if err != nil {
		return err
	}
	fences := map[uuid.UUID]int64{}
	for _, r := range rows {
		fences[r.ID] = r.Fence
	}
	s.boxes.mu.Lock()
	defer s.boxes.mu.Unlock()
	for _, id := range ids {
		t := s.boxes.held[id]
		if t != nil && fences[id] != t.fence {
			t.cancel()
		}
	}
	return nil
}

// visit is one time of presiding over a mailbox.
type visit struct {
	s      *Service
	box    db.Mailbox
	behind map[unfetchedKey]db.ListUnfetchedRow // what the provider did not hand out
	whole  *time.Time                           // since when everything there is to be compared with what is here; nil: it is not
	policy *pecv1.MailboxPolicy                 // as it was when the batch in hand was recorded
}

// presideOver reads a mailbox until ctx ends or something goes wrong, and leaves it for the next time.
func (s *Service) presideOver(ctx context.Context, box db.Mailbox) {
	v := &visit{s: s, box: box}
	ctx = pg.WithTenant(ctx, box.TenantID)
	err := v.run(ctx)
	// What is written now must be written although ctx may have ended.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if ctx.Err() != nil || errors.Is(err, errFenced) || err == nil {
		err = v.release(after, err)
	} else {
		err = v.fail(after, err)
	}
	s.quiet(ctx, "the state of a mailbox was not written", err)
}

func (v *visit) run(ctx context.Context) error {
	password, err := v.s.keys.get(ctx, v.box.TenantID, v.box.ID)
	if err != nil {
		return err
	}
	all, err := v.s.serversOf(v.box.Provider, servers{imap: v.box.Imap, pop3: v.box.Pop3, smtp: v.box.Smtp})
	if err != nil {
		return err
	}
	if isPOP3(v.box) {
		return v.overPOP3(ctx, all.pop3, password)
	}
	return v.overIMAP(ctx, all.imap, password)
}

// stay says whether the connection is kept for the next look: not while others wait for room.
func (v *visit) stay() bool {
	v.s.boxes.mu.Lock()
	defer v.s.boxes.mu.Unlock()
	return len(v.s.boxes.held) < v.s.cfg.Mailboxes
}

// tx runs fn in a transaction of the mailbox's tenant. When others hold the same rows it is run again: that is no trouble of the mailbox,
// and what lasts is told as any other.
func (v *visit) tx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) error {
	const most = 4
	for try := 1; ; try++ {
		err := v.s.db.Tx(ctx, v.box.TenantID, fn)
		if try == most || !pg.Contended(err) {
			return err
		}
		v.s.log.DebugContext(ctx, "others hold the rows of a mailbox", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "try", try, "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * (10*time.Millisecond + rand.N(20*time.Millisecond))):
		}
	}
}

// good records a look into the whole mailbox that went well.
func (v *visit) good(ctx context.Context) error {
	now := pg.Time(v.s.now())
	err := v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).VisitEnded(ctx, db.VisitEndedParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence,
			State: int16(pecv1.MailboxState_MAILBOX_STATE_ACTIVE), Now: now, SyncEndTime: &now})
	})
	if v.box.SyncEndTime == nil {
		v.box.SyncEndTime = &now
	}
	v.box.State, v.box.Failures, v.box.ProblemCode = int16(pecv1.MailboxState_MAILBOX_STATE_ACTIVE), 0, ""
	return err
}

// release gives the mailbox back in good order.
func (v *visit) release(ctx context.Context, err error) error {
	next := v.s.now()
	if err == nil {
		next = next.Add(v.s.cfg.PollEvery)
	}
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return q(tx).ReleaseMailbox(ctx, db.ReleaseMailboxParams{TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, NextPollTime: pg.Time(next)})
	})
}

// fail records what went wrong. A mailbox becomes degraded, once told, when it is its own fault at
// once, and after the third failure in a row otherwise.
func (v *visit) fail(ctx context.Context, err error) error {
	code, problem, grave := diagnose(err)
	failures := v.box.Failures + 1
	state := pecv1.MailboxState(v.box.State)
	degraded := grave || failures >= 3
	if degraded {
		state = pecv1.MailboxState_MAILBOX_STATE_DEGRADED
	}
	pause := v.s.cfg.RetryEvery << min(failures-1, 10)
	pause = min(pause, v.s.cfg.RetryMost)
	if code == codeAuth {
		pause = v.s.cfg.LoginRetry // a wrong password is not tried again and again: providers lock mailboxes
	}
	pause += time.Duration(rand.Int64N(int64(pause)/5 + 1))
	v.s.log.WarnContext(ctx, "mailbox not read", "mailbox", mailboxName(v.box.TenantID, v.box.ID), "code", code, "failures", failures, "error", err)
	return v.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := q(tx).VisitFailed(ctx, db.VisitFailedParams{
			TenantID: v.box.TenantID, ID: v.box.ID, Fence: v.box.Fence, State: int16(state), ProblemCode: code, Problem: trim(problem, 1000),
			Now: pg.Time(v.s.now()), NextPollTime: pg.Time(v.s.now().Add(pause)),
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // another presides by now
		}
		if err != nil {
			return err
		}
		if !degraded || v.box.State == int16(state) && v.box.ProblemCode == code {
			return nil
		}
		return v.tell(ctx, tx, code, problem)
	})
}

// tell says that somebody has to look after the mailbox.
func (v *visit) tell(ctx context.Context, tx pgx.Tx, code, problem string) error {
	return v.s.tellMailbox(ctx, tx, v.box.TenantID, v.box.ID, code, problem)
}
