package online

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"ceralacca.dev/services/format/trustlist"
)

const (
	maxPivots = 32
	// atOnce is how many lists are fetched and verified at the same time.
	atOnce = 2
	tslXML = "application/vnd.etsi.tsl+xml"
)

// Refresh gets all lists anew. What fails is logged and told by Trust; the list that was held before
// stays, unless the list of the lists names it no more.
func (l *Lists) Refresh(ctx context.Context) {
	l.recall(ctx)
	now := l.client.cfg.Now()
	var lotls, singles []string
	raws := map[string][]byte{}
	for _, source := range l.cfg.Sources {
		list, raw, err := l.look(ctx, source)
		switch {
		case list == nil:
			l.outcome(ctx, source, problem{lotl: l.lotls[source]}, err)
			continue
		case list.LOTL:
			lotls = append(lotls, source)
		default:
			singles = append(singles, source)
		}
		raws[source], l.lotls[source] = raw, list.LOTL
		l.outcome(ctx, source, problem{lotl: list.LOTL}, err)
	}
	top := l.refreshLOTL(ctx, lotls, raws, now)
	var wait errgroup.Group
	wait.SetLimit(atOnce)
	for _, source := range singles {
		wait.Go(func() error {
			l.refreshOwn(ctx, top, source, raws[source], now)
			return nil
		})
	}
	for territory, locations := range l.wanted(top) {
		wait.Go(func() error {
			l.refreshNamed(ctx, top, territory, locations, now)
			return nil
		})
	}
	_ = wait.Wait() // each keeps its own error
	l.mu.Lock()
	l.loaded = true
	l.mu.Unlock()
}

// look reads what a source of the configuration has, or its last copy where that is no list. The
// error is about the source, also when the copy is there.
func (l *Lists) look(ctx context.Context, source string) (*trustlist.List, []byte, error) {
	raw, err := l.fetch(ctx, source)
	var list *trustlist.List
	if err == nil {
		if list, err = trustlist.Parse(raw); err == nil {
			return list, raw, nil
		}
	}
	if copied := l.copied(ctx, source); copied != nil {
		if list, wrong := trustlist.Parse(copied); wrong == nil {
			return list, copied, err
		}
	}
	return nil, nil, err
}

// fetch gets a file or an address. Only the configuration can name files.
func (l *Lists) fetch(ctx context.Context, source string) ([]byte, error) {
	if !remote(source) && slices.Contains(l.cfg.Sources, source) {
		return l.file(source)
	}
	return l.client.get(ctx, request{address: source, limit: l.client.cfg.MaxList})
}

func remote(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// refreshLOTL verifies the list of the lists, with its pivots; the last good one stays when that
// fails, while it is in force. After a start there is none, and the copies are tried.
func (l *Lists) refreshLOTL(ctx context.Context, sources []string, raws map[string][]byte, now time.Time) *trustlist.List {
	if len(sources) > 0 {
		top, good, err := l.follow(ctx, sources, func(source string) ([]byte, error) { return raws[source], nil }, l.fetch, l.copy, now)
		if err == nil {
			l.follows(ctx, top, good)
		} else {
			l.outcome(ctx, sources[0], problem{lotl: true}, err)
			if l.current(now) == nil {
				top, good, err = l.follow(ctx, sources, func(source string) ([]byte, error) {
					if copied := l.copied(ctx, source); copied != nil {
						return copied, nil
					}
					return raws[source], nil
				}, l.copy, l.fetch, now)
				if err == nil {
					l.follows(ctx, top, good)
				}
			}
		}
	}
	return l.current(now)
}

// current is the list of the lists that is held, while it is in force.
func (l *Lists) current(now time.Time) *trustlist.List {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.lotl == nil || l.lotl.Current(now) != nil {
		return nil
	}
	return l.lotl
}

type reader func(ctx context.Context, source string) ([]byte, error)

// follow verifies the list of the lists out of what read gives of each source, and of its pivots what
// the first reader gives, or else the second. good is what was read, by its source, all of it verified.
func (l *Lists) follow(ctx context.Context, sources []string, read func(string) ([]byte, error), first, second reader, now time.Time) (top *trustlist.List, good map[string][]byte, err error) {
	good = map[string][]byte{}
	var all [][]byte
	var newest *trustlist.List
	known := map[int]bool{}
	add := func(source string, raw []byte) (*trustlist.List, error) {
		list, err := trustlist.Parse(raw)
		if err == nil && !known[list.Sequence] {
			known[list.Sequence] = true
			all = append(all, raw)
			good[source] = raw
		}
		return list, err
	}
	for _, source := range sources {
		raw, err := read(source)
		if err != nil {
			return nil, nil, err
		}
		list, err := add(source, raw)
		if err != nil {
			return nil, nil, err
		}
		if newest == nil || list.Sequence > newest.Sequence {
			newest = list
		}
	}
	addresses := newest.Pivots()
	if len(addresses) > maxPivots {
		return nil, nil, fmt.Errorf("the list of the lists names %d pivots, the limit is %d", len(addresses), maxPivots)
	}
	// What is named here is not yet verified: a wrong pivot makes Follow fail.
	for _, address := range addresses {
		var wrong error
		for _, get := range []reader{first, second} {
			raw, err := get(ctx, address)
			if err == nil {
				_, err = add(address, raw)
			}
			if err == nil {
				wrong = nil
				break
			}
			if wrong == nil {
				wrong = fmt.Errorf("pivot %s: %w", address, err)
			}
		}
		if wrong != nil {
			return nil, nil, wrong
		}
	}
	if top, err = trustlist.Follow(all, l.cfg.Signers, now); err != nil {
		return nil, nil, err
	}
	return top, good, l.newer(lotlFloor, top)
}

// follows takes over a list of the lists, and drops what it names no more: lists of countries that are
// gone, and such as somebody signed who may not any more.
func (l *Lists) follows(ctx context.Context, top *trustlist.List, good map[string][]byte) {
	wanted := l.wanted(top)
	l.mu.Lock()
	l.lotl = top
	l.raise(lotlFloor, top)
	for territory, h := range l.named {
		if wanted[territory] == nil || !top.Names(h.list) {
			delete(l.named, territory)
		}
	}
	for source, h := range l.own {
		if !top.Names(h.list) {
			delete(l.own, source)
		}
	}
	for source, p := range l.problems {
		if p.territory != "" && !slices.Contains(wanted[p.territory], source) {
			delete(l.problems, source)
		}
	}
	l.mu.Unlock()
	for source, raw := range good {
		l.store(ctx, source, raw)
	}
	l.record(ctx, lotlFloor)
}

// wanted are the addresses of the lists to follow, by territory.
func (l *Lists) wanted(top *trustlist.List) map[string][]string {
	out := map[string][]string{}
	if top == nil {
		return out
	}
	for _, p := range top.Pointers {
		if p.LOTL || p.Location == "" || (p.MIME != "" && p.MIME != tslXML) {
			continue // PDF copies for people are pointed to as well
		}
		if len(l.cfg.Territories) > 0 && !slices.Contains(l.cfg.Territories, p.Territory) || slices.Contains(out[p.Territory], p.Location) {
			continue
		}
		out[p.Territory] = append(out[p.Territory], p.Location)
	}
	return out
}

// refreshOwn verifies a national list of the configuration: by the list of the lists where there is
// one.
func (l *Lists) refreshOwn(ctx context.Context, top *trustlist.List, source string, raw []byte, now time.Time) {
	admit := func(raw []byte) error {
		var list *trustlist.List
		var err error
		if top != nil {
			list, err = top.Admit(raw, now)
		} else {
			list, err = trustlist.Single(raw, l.cfg.Signers, now)
		}
		if err != nil {
			return err
		}
		return l.keep(ctx, l.own, source, source, held{list, top != nil}, raw)
	}
	err := admit(raw)
	if err == nil {
		return // a problem of the source itself was told before
	}
	l.outcome(ctx, source, problem{}, err)
	if copied := l.copied(ctx, source); copied != nil {
		_ = admit(copied) // what is wrong with the source is told
	}
}

// refreshNamed gets the list of a country from the first of its addresses that has a good one, or else
// from the last copy of one.
func (l *Lists) refreshNamed(ctx context.Context, top *trustlist.List, territory string, locations []string, now time.Time) {
	admit := func(source string, raw []byte) error {
		list, err := top.Admit(raw, now)
		if err != nil {
			return err
		}
		if list.Territory != territory {
			return fmt.Errorf("it is the list of %s, and the one of %s was expected", list.Territory, territory)
		}
		return l.keep(ctx, l.named, territory, source, held{list, true}, raw)
	}
	problems := map[string]error{}
	for _, source := range locations {
		raw, err := l.fetch(ctx, source)
		if err == nil {
			err = admit(source, raw)
		}
		if err == nil {
			clear(problems)
			break
		}
		problems[source] = err
	}
	for _, source := range locations {
		l.outcome(ctx, source, problem{territory: territory}, problems[source])
	}
	for _, source := range locations {
		if copied := l.copied(ctx, source); len(problems) > 0 && copied != nil && admit(source, copied) == nil {
			break
		}
	}
}

// keep takes over a verified list, unless it is older than what was held.
func (l *Lists) keep(ctx context.Context, group map[string]held, key, source string, h held, raw []byte) error {
	if err := l.newer(h.list.Territory, h.list); err != nil {
		return err
	}
	l.mu.Lock()
	group[key] = h
	l.raise(h.list.Territory, h.list)
	l.mu.Unlock()
	l.store(ctx, source, raw)
	l.record(ctx, h.list.Territory)
	return nil
}

// newer refuses what is older than what was held, whenever that was. spec: TS119612 §5.3.2
func (l *Lists) newer(key string, list *trustlist.List) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if floor := l.floors[key]; list.Sequence < floor {
		return fmt.Errorf("the list of %s has sequence number %d, which is older than %d that was held", list.Territory, list.Sequence, floor)
	}
	return nil
}

// raise remembers a number; the caller holds the lock.
func (l *Lists) raise(key string, list *trustlist.List) {
	l.floors[key] = max(l.floors[key], list.Sequence)
}

func (l *Lists) outcome(ctx context.Context, source string, p problem, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.problems, source)
		return
	}
	if ctx.Err() == nil {
		p.why = strings.TrimPrefix(err.Error(), "trustlist: ")
		l.problems[source] = p
		l.log.WarnContext(ctx, "trusted list not refreshed", "list", source, "error", err.Error())
	}
}
