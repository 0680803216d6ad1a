package invoice

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

const (
	gatherLanes = 2  // transactions of one company at a time; who comes while all are under way is gathered
	gatherMost  = 64 // files of one transaction
	gatherTime  = 30 * time.Second
	gatherPuts  = 8 // files written at a time
)

// A transaction that waits for the disk costs nearly the same for one invoice as for fifty. Nobody waits for
// company, though: a file that finds a lane free goes alone and at once, and only files that would have to
// queue for the disk travel together.
type gatherer struct {
	mu      sync.Mutex
	lanes   map[laneKey]*lane
	alone   func(ctx context.Context, in *intake, a *admission) (*invoicev1.Invoice, error)
	several func(ctx context.Context, group []*joined)
}

type laneKey struct{ tenant, company string }

type lane struct {
	busy    int
	waiting []*joined
}

// joined is a request that travels with others.
type joined struct {
	ctx  context.Context //nolint:containedctx // of the request: its trace, and whether anybody still waits
	in   *intake
	a    *admission
	inv  *invoicev1.Invoice
	err  error
	done chan struct{}
}

func newGatherer(s *Service) *gatherer {
	return &gatherer{lanes: map[laneKey]*lane{}, alone: s.putAlone, several: s.putSeveral}
}

// put stores one file, alone or with those that came while others were being stored. When the request ends
// before its group, the file may be stored nevertheless, as with any answer that is lost on its way.
func (g *gatherer) put(ctx context.Context, in *intake, a *admission) (*invoicev1.Invoice, error) {
	key := laneKey{in.parent.tenant, in.parent.company}
	g.mu.Lock()
	l := g.lanes[key]
	if l == nil {
		l = &lane{}
		g.lanes[key] = l
	}
	if l.busy < gatherLanes {
		l.busy++
		g.mu.Unlock()
		defer g.next(key, l)
		return g.alone(ctx, in, a)
	}
	j := &joined{ctx: ctx, in: in, a: a, done: make(chan struct{})}
	l.waiting = append(l.waiting, j)
	g.mu.Unlock()
	select {
	case <-j.done:
		return j.inv, j.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// next gives the place in the lane to those who wait, or back.
func (g *gatherer) next(key laneKey, l *lane) {
	g.mu.Lock()
	n := min(len(l.waiting), gatherMost)
	group := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	if n == 0 {
		l.busy--
		if l.busy == 0 {
			delete(g.lanes, key)
		}
	}
	g.mu.Unlock()
	if n == 0 {
		return
	}
	go func() {
		defer g.next(key, l)
		g.several(group[0].ctx, group)
		for _, j := range group {
			close(j.done)
		}
	}()
}

// putSeveral stores a group in one transaction. Whatever keeps it from being stored whole (a request id that
// another process took in the same moment, a blob that cannot be written) sends each on alone, so that one
// never suffers for another.
func (s *Service) putSeveral(ctx context.Context, group []*joined) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), gatherTime)
	defer cancel()
	if len(group) == 1 || s.storeGroup(ctx, group) != nil {
		var wg sync.WaitGroup
		for _, j := range group {
			wg.Go(func() { j.inv, j.err = s.putAlone(j.ctx, j.in, j.a) })
		}
		wg.Wait()
	}
}

// storeGroup gives each of the group its answer, or none of them when it returns an error.
func (s *Service) storeGroup(ctx context.Context, group []*joined) error {
	first := group[0].in.parent
	in := &arrivals{tenant: first.tenant, company: first.company, now: pg.Time(s.now())}
	files := map[*arrival]*joined{}
	for _, j := range group {
		if j.ctx.Err() != nil {
			j.err = j.ctx.Err() // nobody waits any more, and nothing was promised
			continue
		}
		id, err := pg.NewID()
		if err != nil {
			return err
		}
		j.a.row.TenantID, j.a.row.CompanyID = first.tenant, first.company
		j.a.ref = blob.Of(first.tenant, j.a.content)
		r := &arrival{a: j.a, id: id, requestID: j.in.requestID, requestHash: j.in.hash, externalID: j.in.externalID,
			ref: j.a.ref, span: trace.SpanContextFromContext(j.ctx)}
		in.list, files[r] = append(in.list, r), j
	}
	fresh := map[*arrival]bool{}
	err := s.db.Tx(ctx, first.tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		in.list, err = unheard(ctx, tx, first.tenant, in.list)
		if err != nil {
			return err
		}
		for _, r := range in.list {
			fresh[r] = true
		}
		err = s.storeMany(ctx, tx, in)
		if err != nil {
			return err
		}
		return s.putFiles(ctx, in)
	})
	if err != nil {
		return err
	}
	for r, j := range files {
		switch {
		case !fresh[r]:
			j.inv, j.err = s.earlier(j.ctx, j.in)
		case r.lost:
			j.err = errNumberTaken
		default:
			j.inv, j.err = present(&r.a.row, []db.ListDocumentsRow{r.a.original()})
		}
	}
	return nil
}

// unheard leaves out the files whose request id was used before, or is another one's of the same group.
func unheard(ctx context.Context, tx pgx.Tx, tenant string, list []*arrival) ([]*arrival, error) {
	var ids []string
	for _, r := range list {
		if r.requestID != "" {
			ids = append(ids, r.requestID)
		}
	}
	if len(ids) == 0 {
		return list, nil
	}
	known, err := q(tx).KnownRequests(ctx, db.KnownRequestsParams{TenantID: tenant, RequestIds: ids})
	if err != nil {
		return nil, fmt.Errorf("invoice: known requests: %w", err)
	}
	heard := map[string]bool{}
	for _, id := range known {
		heard[id] = true
	}
	var fresh []*arrival
	for _, r := range list {
		if r.requestID != "" && heard[r.requestID] {
			continue
		}
		heard[r.requestID] = true
		fresh = append(fresh, r)
	}
	return fresh, nil
}

// putFiles makes the bytes of what was stored durable. After the rows, so that a file that turns out to be a
// duplicate is never stored; before the commit, so that a row never refers to bytes that a crash could take.
func (s *Service) putFiles(ctx context.Context, in *arrivals) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(gatherPuts)
	for _, r := range in.list {
		if r.lost {
			continue
		}
		g.Go(func() error {
			_, err := s.blobs.Put(ctx, in.tenant, r.a.content)
			return err
		})
	}
	return g.Wait()
}
