package conservation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// cursor is where a check that is longer than a round goes on. It is written down with the report of the round: one that a crash ended
// is made again from where it began, so that nothing that it found is lost.
type cursor struct {
	Stage  string      `json:"stage,omitempty"`  // of restore
	Key    string      `json:"key,omitempty"`    // the last object of the replica's list that was looked at
	Tenant string      `json:"tenant,omitempty"` // whose objects are gone through
	Kind   string      `json:"kind,omitempty"`   // of them
	After  uuid.UUID   `json:"after"`            // the last of that kind
	Again  []uuid.UUID `json:"again,omitempty"`  // those to read once more
	Run    uuid.UUID   `json:"run"`              // of the search that is made again: who asked last has the place

	// Of all rounds so far.
	Rounds  int       `json:"rounds"`
	Checked int64     `json:"checked"`
	Bytes   int64     `json:"bytes"`
	Began   time.Time `json:"began"`

	subject string
	more    bool      // the time of the round was over before the end
	until   time.Time // of the round
}

// resume gives the cursor of a halted check, or a new one. Whichever subject: the check was asked for none, and takes one by lot.
func (s *Service) resume(ctx context.Context, f *findings, subject string, whichever bool) (*cursor, error) {
	c := &cursor{Began: f.Began, subject: subject}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		row, err := db.New(tx).CursorOf(ctx, db.CursorOfParams{Kind: f.Kind, Subject: subject, AnySubject: whichever})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		c.subject = row.Subject
		return json.Unmarshal(row.Place, c)
	})
	if err != nil {
		return nil, fmt.Errorf("conservation: cursor: %w", err)
	}
	if c.Rounds > 0 {
		f.note("it goes on where round %d of what began on %s ended", c.Rounds, c.Began.UTC().Format(time.RFC3339))
	}
	c.until = s.now().Add(s.round)
	f.cursor = c
	return c, nil
}

// over says that the round has to end, and that there is more to do.
func (s *Service) over(c *cursor) bool {
	c.more = !s.now().Before(c.until)
	return c.more
}

// keepCursor writes down where a round ended, and has the next one begin; at the end of all rounds the cursor goes. A check that could
// not be made to its end is not begun anew by itself: whoever asks for it again has it go on.
func (s *Service) keepCursor(ctx context.Context, tx pgx.Tx, row db.ArchiveReport, f *findings) error {
	c := f.cursor
	if c == nil {
		return nil
	}
	if !c.more && f.Verdict != "FAILED" {
		return db.New(tx).DropCursor(ctx, db.DropCursorParams{Kind: row.Kind, Subject: c.subject})
	}
	c.Rounds++
	c.Checked += f.Checked
	c.Bytes += f.Bytes
	place, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("conservation: cursor: %w", err)
	}
	err = db.New(tx).KeepCursor(ctx, db.KeepCursorParams{Kind: row.Kind, Subject: c.subject, Place: place, At: pg.Time(s.now())})
	if err != nil || !c.more {
		return err
	}
	_, err = s.startCheck(telemetry.WithActor(ctx, "service:conservation"), tx, row.Kind, c.subject, row.AskedBy)
	return err
}

// halted tells where things stand when a round ends.
func (c *cursor) halted(f *findings) {
	switch {
	case c.more:
		f.note("the time of a round was over: the next report goes on from here")
	case c.Rounds > 0:
		f.note("that was the last of %d rounds: together they checked %d, and read %d bytes", c.Rounds+1, c.Checked+f.Checked, c.Bytes+f.Bytes)
	}
}

// tourKinds are the objects that hold units, in the order in which they are gone through: what was taken in first, then what was sealed.
var tourKinds = []string{kindIntake, kindPackage}

// tour goes on through a tenant's objects until visit has had the last of them, or the round is over.
func (s *Service) tour(ctx context.Context, c *cursor, visit func(context.Context, db.ArchiveObject) error) error {
	for _, kind := range tourKinds[max(slices.Index(tourKinds, c.Kind), 0):] {
		if c.Kind != kind {
			c.Kind, c.After = kind, uuid.Nil
		}
		for more := true; more; {
			var page []db.ArchiveObject
			err := s.db.Tx(ctx, c.Tenant, func(ctx context.Context, tx pgx.Tx) error {
				var err error
				page, err = db.New(tx).ObjectsAfter(ctx, db.ObjectsAfterParams{Tenant: c.Tenant, Kind: kind, After: c.After, Page: completePage})
				return err
			})
			if err != nil {
				return err
			}
			more = len(page) == completePage
			for _, o := range page {
				err = visit(ctx, o)
				if err != nil {
					return err
				}
				c.After = o.ID
				if s.over(c) {
					return nil
				}
			}
		}
	}
	return nil
}

// openCopy reads a copy whole. nil: it is damaged, which is noted and told.
func (s *Service) openCopy(ctx context.Context, f *findings, o db.ArchiveObject, from *replica) (*os.File, error) {
	file, err := s.replicas.fetch(ctx, o, from)
	if vault.Damaged(err) {
		f.bad(o.Key, "%s replica: %s", from.name, fault.Of(err).Message)
		return nil, s.replicas.damaged(ctx, o, from.name, fault.Of(err).Message)
	}
	return file, err
}
