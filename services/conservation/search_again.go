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
	"github.com/riverqueue/river"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

// searchArgs asks for the search of a tenant to be made again.
type searchArgs struct {
	Tenant string    `json:"tenant"`
	Run    uuid.UUID `json:"run"` // whose place the cursor is; zero: asked for by a release that kept none
}

// Kind names the job.
func (searchArgs) Kind() string { return "search" }

// searchCursor is the kind under which the place of a run is kept, beside those of the checks.
const searchCursor = "SEARCH"

// placeEvery is how often the place is written down in the middle of a round: what a crash has made again is less.
const placeEvery = 10 * time.Second

// askSearch has the search of a tenant made again from the beginning. A run that is under way gives way to it.
func (s *Service) askSearch(ctx context.Context, tx pgx.Tx, tenant string) error {
	run, err := pg.NewID()
	if err != nil {
		return err
	}
	err = keepPlace(ctx, db.New(tx), tenant, &cursor{Tenant: tenant, Run: run, Began: s.now()}, s.now())
	if err != nil {
		return err
	}
	return s.jobs.InsertTx(ctx, tx, searchArgs{Tenant: tenant, Run: run}, nil)
}

func keepPlace(ctx context.Context, q *db.Queries, tenant string, c *cursor, at time.Time) error {
	place, err := json.Marshal(c)
	if err == nil {
		err = q.KeepCursor(ctx, db.KeepCursorParams{Kind: searchCursor, Subject: tenant, Place: place, At: pg.Time(at)})
	}
	if err != nil {
		return fmt.Errorf("conservation: cursor: %w", err)
	}
	return nil
}

// searchAgain makes the search of a tenant again from the primary replica alone, object by object: no more than a page of units is in
// memory. The rows of units say only which of them are in custody, and which object or later unit has the last word on one.
type searchAgain struct {
	s      *Service
	from   *replica
	tenant string
	f      *findings
	c      *cursor
	kept   time.Time // when the place was last written down
}

// rebuildSearch goes through a tenant's objects until a round is over, and is called again then. What is made twice is the same.
func (s *Service) rebuildSearch(ctx context.Context, job *river.Job[searchArgs]) error {
	c, err := s.searchPlace(ctx, job.Args)
	if err != nil || c == nil {
		return err
	}
	r := &searchAgain{s: s, from: s.replicas.named(primaryReplica), tenant: job.Args.Tenant, f: &findings{}, c: c, kept: s.now()}
	err = s.tour(ctx, c, r.object)
	switch {
	case errors.Is(err, errGivesWay):
		return nil
	case err != nil:
		_ = r.keep(context.WithoutCancel(ctx)) // the next attempt goes on from here, or from where it was last written down
		return err
	case !c.more:
		return r.end(ctx)
	}
	c.Rounds++
	err = r.keep(ctx)
	if errors.Is(err, errGivesWay) {
		return nil
	}
	if err != nil {
		return err
	}
	return river.JobSnooze(0) // the next round
}

// errGivesWay ends a run whose place another has taken.
var errGivesWay = errors.New("conservation: the search is made again from the beginning by who asked later")

// searchPlace is where a run goes on; nil: it has ended, or gives way to one that was asked for later.
func (s *Service) searchPlace(ctx context.Context, args searchArgs) (*cursor, error) {
	c := &cursor{}
	err := s.db.Tx(ctx, args.Tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		row, err := q.CursorOf(ctx, db.CursorOfParams{Kind: searchCursor, Subject: args.Tenant})
		if errors.Is(err, pgx.ErrNoRows) && args.Run == uuid.Nil {
			*c = cursor{Tenant: args.Tenant, Began: s.now()}
			return keepPlace(ctx, q, args.Tenant, c, s.now())
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(row.Place, c)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil //nolint:nilnil // it has ended
	case err != nil:
		return nil, fmt.Errorf("conservation: cursor: %w", err)
	case c.Run != args.Run:
		return nil, nil //nolint:nilnil // it gives way
	}
	c.until = s.now().Add(s.round)
	return c, nil
}

// keep writes down which object was the last.
func (r *searchAgain) keep(ctx context.Context) error {
	r.c.Checked, r.c.Bytes = r.c.Checked+r.f.Checked, r.c.Bytes+r.f.Bytes
	r.f.Checked, r.f.Bytes, r.kept = 0, 0, r.s.now()
	place, err := json.Marshal(r.c)
	if err != nil {
		return fmt.Errorf("conservation: cursor: %w", err)
	}
	return r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).MoveCursor(ctx, db.MoveCursorParams{Kind: searchCursor, Subject: r.tenant, Run: r.c.Run.String(), Place: place, At: pg.Time(r.kept)})
		if err == nil && n == 0 {
			err = errGivesWay
		}
		return err
	})
}

func (r *searchAgain) end(ctx context.Context) error {
	units := r.c.Checked + r.f.Checked
	r.s.log.InfoContext(ctx, "the search was made again from the replicas", "tenant", r.tenant, "units", units, "rounds", r.c.Rounds+1)
	return r.s.db.Tx(telemetry.WithActor(ctx, "service:conservation"), r.tenant, func(ctx context.Context, tx pgx.Tx) error {
		n, err := db.New(tx).EndCursor(ctx, db.EndCursorParams{Kind: searchCursor, Subject: r.tenant, Run: r.c.Run.String()})
		if err != nil || n == 0 {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "search.rebuilt", Resource: "tenants/" + r.tenant, Detail: map[string]string{"units": fmt.Sprint(units)}})
	})
}

// object enters the units again that an object lists.
func (r *searchAgain) object(ctx context.Context, o db.ArchiveObject) error {
	if r.s.now().Sub(r.kept) >= placeEvery {
		err := r.keep(ctx)
		if err != nil {
			return err
		}
	}
	file, err := r.s.openCopy(ctx, r.f, o, r.from)
	if err != nil {
		return err
	}
	if file == nil { // it is being repaired: then it can be read
		return r.unreadable(o, r.f.Problems[len(r.f.Problems)-1].Problem)
	}
	defer drop(file)
	return r.list(ctx, o, file)
}

func (r *searchAgain) unreadable(o db.ArchiveObject, why string) error {
	return fault.Unavailable("REPLICA_DAMAGED", "the search cannot be made again yet: %s: %s", o.Key, why)
}

func (r *searchAgain) list(ctx context.Context, o db.ArchiveObject, file *os.File) error {
	r.f.Bytes += o.Size
	missed := error(nil)
	listed, err := recordPages(o, file, r.tenant, func(page []record) error {
		missed = r.s.db.Tx(ctx, r.tenant, func(ctx context.Context, tx pgx.Tx) error { return r.page(ctx, tx, o, page) })
		return missed
	})
	switch {
	case missed != nil:
		return missed
	case err != nil:
		return r.unreadable(o, err.Error())
	case !listed && o.Kind == kindIntake:
		return r.unreadable(o, "it has no "+intakeList)
	}
	return nil // packages of layout 1 list nothing: their units are found in what was taken in
}

// page enters those units again that this object has the last word on. Their rows are held meanwhile, so that what comes in beside it
// is entered before or after, and never in between.
func (r *searchAgain) page(ctx context.Context, tx pgx.Tx, o db.ArchiveObject, page []record) error {
	slices.SortStableFunc(page, func(a, b record) int { return boolInt(a.Integrates != nil) - boolInt(b.Integrates != nil) })
	ids, targets := make([]uuid.UUID, len(page)), make([]uuid.UUID, len(page))
	for i, u := range page {
		ids[i], targets[i] = u.Unit, listedUnit(u).unit
	}
	q := db.New(tx)
	held, err := q.HoldUnits(ctx, db.HoldUnitsParams{Tenant: r.tenant, Ids: slices.Concat(ids, targets)})
	if err != nil {
		return fmt.Errorf("conservation: make the search again: %w", err)
	}
	if o.Kind == kindIntake { // a unit that grew since is listed in a later one
		described, err := q.UnitsDescribedIn(ctx, o.ID)
		if err != nil {
			return fmt.Errorf("conservation: make the search again: %w", err)
		}
		its := setOf(described)
		held = slices.DeleteFunc(held, func(id uuid.UUID) bool { return !its[id] })
	}
	last, err := lastWords(ctx, q, r.tenant, targets)
	if err != nil {
		return err
	}
	entered, err := q.EnteredOf(ctx, targets)
	if err != nil {
		return fmt.Errorf("conservation: make the search again: %w", err)
	}
	var list []listed
	var again []uuid.UUID
	ours, there := setOf(held), setOf(entered)
	for _, u := range page {
		l := listedUnit(u)
		if !ours[u.Unit] {
			continue
		}
		r.f.Checked++
		word, later := last[l.unit]
		if later && word != u.Unit && (u.Integrates != nil || there[l.unit]) {
			continue // later receipts say what is so
		}
		list, again = append(list, l), append(again, l.unit)
	}
	err = q.DropEntries(ctx, again)
	if err != nil {
		return fmt.Errorf("conservation: make the search again: %w", err)
	}
	return enter(pg.WithTenant(ctx, r.tenant), tx, r.tenant, list)
}

// lastWords gives of units that have later receipts the one that brought the last of them.
func lastWords(ctx context.Context, q *db.Queries, tenant string, targets []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	rows, err := q.LastIntegrations(ctx, db.LastIntegrationsParams{Tenant: tenant, Ids: targets})
	if err != nil {
		return nil, fmt.Errorf("conservation: make the search again: %w", err)
	}
	last := map[uuid.UUID]uuid.UUID{}
	for _, row := range rows {
		last[row.Integrates] = row.ID
	}
	return last, nil
}

func setOf(ids []uuid.UUID) map[uuid.UUID]bool {
	set := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		set[id] = true
	}
	return set
}
