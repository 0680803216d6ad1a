package pecgateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/format/pec"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/pec-gateway/internal/db"
)

// RevocationConfig says how lists of revoked certificates are fetched.
type RevocationConfig struct {
	// Fetch is whether they are fetched from where the certificates of listed providers say; without, they are those that
	// a person imports.
	Fetch bool `yaml:"fetch"`
	// Every is how often it is looked which are due. Each is fetched when the last one ends, once a day at least and once an
	// hour at most.
	Every time.Duration `yaml:"every"`
	// MaxList is the largest list in bytes.
	MaxList int64 `yaml:"max_list"`
}

func defaultRevocation() RevocationConfig {
	return RevocationConfig{Fetch: true, Every: time.Minute, MaxList: 16 << 20}
}

func (c RevocationConfig) check(bad func(when bool, path, format string, a ...any)) {
	bad(c.Every < 10*time.Millisecond, "revocation.every", "%s is too short: use 10s to 1h, for example 1m", c.Every)
	bad(c.MaxList < 1<<10 || c.MaxList > 256<<20, "revocation.max_list", "must be between 1024 and 268435456 bytes")
}

const (
	mostPoints    = 1000 // places that are fetched from
	pointsOfACert = 4
	keptLists     = 30 // of each place; earlier ones know more about certificates that have ended
	fetchSoonest  = time.Hour
	fetchLatest   = 24 * time.Hour
	fetchRetry    = 15 * time.Minute
)

// points remembers which places were written down by this replica.
type points struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (p *points) fresh(url string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen[url] || len(p.seen) >= 2*mostPoints {
		return false
	}
	if p.seen == nil {
		p.seen = map[string]bool{}
	}
	p.seen[url] = true
	return true
}

// notePoints writes down where a list is about the certificate of a listed provider of which nothing is known. Places that
// strangers name are not: nobody makes this machine ask somewhere by a message alone.
func (s *Service) notePoints(ctx context.Context, tx pgx.Tx, rep *pec.Report) error {
	if !s.cfg.Revocation.Fetch || rep.Status != pec.StatusValid || rep.Certificate == nil || rep.Revocation != pec.RevocationUnknown {
		return nil
	}
	for i, at := range rep.Certificate.CRLDistributionPoints {
		u, err := url.Parse(at)
		if i >= pointsOfACert || err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(at) > 1000 || !s.points.fresh(at) {
			continue
		}
		err = q(tx).SeeRevocationPoint(ctx, db.SeeRevocationPointParams{Url: at, Now: pg.Time(s.now()), Most: mostPoints})
		if err != nil {
			return err
		}
	}
	return nil
}

// fetchRevocationLists fetches what is due until ctx ends. Replicas share the work: each takes what is due for itself.
func (s *Service) fetchRevocationLists(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Revocation.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for more := true; more && ctx.Err() == nil; {
			var err error
			more, err = s.fetchNextList(ctx)
			s.quiet(ctx, "a revocation list was not looked after", err)
			more = more && err == nil
		}
	}
}

// fetchNextList fetches one list. Whatever goes wrong leaves what is known as it is: without a list that covers the moment
// revocation is unknown, never good.
func (s *Service) fetchNextList(ctx context.Context) (bool, error) {
	now := pg.Time(s.now())
	var point db.RevocationPoint
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		point, err = q(tx).TakeRevocationPoint(ctx, db.TakeRevocationPointParams{Now: now, Until: now.Add(fetchRetry)})
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	list, problem := s.fetchList(ctx, point.Url)
	if ctx.Err() != nil {
		return false, nil
	}
	return true, s.changeTrust(ctx, func(ctx context.Context, tx pgx.Tx) error {
		end := db.EndRevocationFetchParams{Url: point.Url, FetchTime: &now, NextTime: nextFetch(list, now)}
		if problem == nil {
			problem = s.keepFetched(ctx, tx, point.Url, list)
			if pg.Away(problem) {
				return problem
			}
		}
		if problem != nil {
			end.Failures, end.Problem, end.FetchTime = point.Failures+1, trim(problem.Error(), 1000), nil
			end.NextTime = now.Add(min(fetchRetry<<min(point.Failures, 10), fetchLatest))
			s.log.WarnContext(ctx, "a revocation list was not fetched", "url", point.Url, "failures", end.Failures, "error", problem)
		}
		return q(tx).EndRevocationFetch(ctx, end)
	})
}

// nextFetch is when the next list is to be had: at the end of this one, within bounds, and not with everybody else.
func nextFetch(list *x509.RevocationList, now time.Time) time.Time {
	next := now.Add(fetchLatest)
	if list != nil && !list.NextUpdate.IsZero() && list.NextUpdate.Before(next) {
		next = list.NextUpdate
	}
	if next.Before(now.Add(fetchSoonest)) {
		next = now.Add(fetchSoonest)
	}
	return pg.Time(next.Add(rand.N(10 * time.Minute)))
}

func (s *Service) fetchList(ctx context.Context, from string) (*x509.RevocationList, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, s.cfg.Revocation.MaxList+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > s.cfg.Revocation.MaxList {
		return nil, fmt.Errorf("the list has more than %d bytes (revocation.max_list)", s.cfg.Revocation.MaxList)
	}
	lists, err := revocationLists([][]byte{raw})
	if err != nil {
		return nil, err
	}
	return lists[0], nil
}

// keepFetched keeps a list that an authority of the trust list signed. A new one is a new version of the trust list: what is
// judged from then on is judged by it. What was judged before stands as it is, until a person has it read again.
func (s *Service) keepFetched(ctx context.Context, tx pgx.Tx, from string, list *x509.RevocationList) error {
	if list.ThisUpdate.After(s.now().Add(time.Hour)) {
		return fmt.Errorf("the list is of %s, which is to come", list.ThisUpdate.UTC().Format(time.RFC3339))
	}
	added, err := s.keepListsFrom(ctx, tx, from, []*x509.RevocationList{list})
	if err != nil || added == 0 {
		return err
	}
	err = q(tx).TrimRevocationLists(ctx, db.TrimRevocationListsParams{Source: from, Most: keptLists})
	if err != nil {
		return err
	}
	_, err = s.trustChanged(telemetry.WithActor(ctx, actor), tx, "fetched: a revocation list of "+list.Issuer.String()+" from "+from)
	return err
}
