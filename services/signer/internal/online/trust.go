package online

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// ListsConfig says which trusted lists count.
type ListsConfig struct {
	// Sources are files and addresses: the list of the lists, or national lists.
	Sources []string
	// Signers sign the list of the lists (the Official Journal names them), or national lists that are
	// used without one.
	Signers []*x509.Certificate
	// Territories are the national lists that are followed from the list of the lists; none: all.
	Territories []string
	// Dir keeps the last good copies over a restart; "": memory only.
	Dir string
}

// Lists holds the verified trusted lists. A list that cannot be had or verified is not there, and
// a last good copy counts until its next update: it fails closed, list by list.
type Lists struct {
	cfg    ListsConfig
	client *Client
	log    *slog.Logger

	mu       sync.RWMutex
	national map[string]*trustlist.List // by source
	lotl     *trustlist.List
	problems map[string]string // by source
	loaded   bool
}

// NewLists makes an empty holder; Refresh fills it.
func NewLists(c *Client, cfg ListsConfig, log *slog.Logger) *Lists {
	return &Lists{cfg: cfg, client: c, log: log, national: map[string]*trustlist.List{}, problems: map[string]string{}}
}

// Configured says whether there is any list to judge by.
func (l *Lists) Configured() bool { return len(l.cfg.Sources) > 0 }

// Trust is what the lists that are in force at a time say together, and what the reader of a
// report must know of those that are missing. nil: no list is configured.
func (l *Lists) Trust(at time.Time) (*trustlist.Trust, []string) {
	if !l.Configured() {
		return nil, nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	t := &trustlist.Trust{}
	var notes []string
	if !l.loaded {
		notes = append(notes, "the trusted lists are still being loaded: try again")
	}
	var names []string
	for source := range l.national {
		names = append(names, source)
	}
	slices.Sort(names)
	for _, source := range names {
		list := l.national[source]
		if err := list.Current(at); err != nil {
			notes = append(notes, err.Error())
			continue
		}
		t.Lists = append(t.Lists, list)
		t.Services = append(t.Services, list.Services...)
	}
	for source, why := range l.problems {
		if l.national[source] == nil {
			notes = append(notes, fmt.Sprintf("trusted list %s is missing: %s", source, why))
		}
	}
	slices.Sort(notes)
	return t, notes
}

// Run refreshes at once and then again and again, until ctx ends.
func (l *Lists) Run(ctx context.Context, every time.Duration) error {
	if !l.Configured() {
		<-ctx.Done()
		return nil
	}
	for {
		l.Refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}

// Refresh gets all lists anew. What fails is logged, and shown by Trust when no good copy is left.
func (l *Lists) Refresh(ctx context.Context) {
	now := l.client.cfg.Now()
	var lotls, singles []string
	raws := map[string][]byte{}
	for _, source := range l.cfg.Sources {
		raw, err := l.read(ctx, source)
		if err == nil {
			var list *trustlist.List
			if list, err = trustlist.Parse(raw); err == nil {
				raws[source] = raw
				if list.LOTL {
					lotls = append(lotls, source)
				} else {
					singles = append(singles, source)
				}
			}
		}
		l.outcome(ctx, source, err)
	}
	top := l.refreshLOTL(ctx, lotls, raws, now)
	var wait errgroup.Group
	wait.SetLimit(atOnce)
	for _, source := range singles {
		wait.Go(func() error {
			var list *trustlist.List
			var err error
			if top != nil {
				list, err = top.Admit(raws[source], now)
			} else {
				list, err = trustlist.Single(raws[source], l.cfg.Signers, now)
			}
			l.keep(ctx, source, list, raws[source], err)
			return nil
		})
	}
	for _, p := range l.wanted(top) {
		wait.Go(func() error {
			raw, err := l.read(ctx, p.Location)
			var list *trustlist.List
			if err == nil {
				list, err = top.Admit(raw, now)
			}
			if err == nil && list.Territory != p.Territory {
				err = fmt.Errorf("it is the list of %s, and the one of %s was expected", list.Territory, p.Territory)
			}
			l.keep(ctx, p.Location, list, raw, err)
			return nil
		})
	}
	_ = wait.Wait() // each keeps its own error
	l.mu.Lock()
	l.loaded = true
	l.mu.Unlock()
}

// refreshLOTL verifies the list of the lists, with its pivots; the last good one stays when that
// fails, while it is in force.
func (l *Lists) refreshLOTL(ctx context.Context, sources []string, raws map[string][]byte, now time.Time) *trustlist.List {
	if len(sources) == 0 {
		return nil
	}
	var all [][]byte
	for _, source := range sources {
		all = append(all, raws[source])
	}
	newest, err := newestOf(all)
	if err == nil {
		all, err = l.pivots(ctx, newest, all)
	}
	var top *trustlist.List
	if err == nil {
		top, err = trustlist.Follow(all, l.cfg.Signers, now)
	}
	l.mu.Lock()
	held := l.lotl
	if err == nil && held != nil && top.Sequence < held.Sequence {
		err = older(top, held)
	}
	if err == nil {
		l.lotl, held = top, top
	}
	l.mu.Unlock()
	l.outcome(ctx, sources[0], err)
	if err == nil {
		l.store(sources[0], raws[sources[0]])
	}
	if held != nil && held.Current(now) != nil {
		return nil
	}
	return held
}

func older(fresh, held *trustlist.List) error {
	return fmt.Errorf("the list of %s has sequence number %d, which is older than %d that is held", fresh.Territory, fresh.Sequence, held.Sequence)
}

func newestOf(raws [][]byte) (*trustlist.List, error) {
	var newest *trustlist.List
	for _, raw := range raws {
		list, err := trustlist.Parse(raw)
		if err != nil {
			return nil, err
		}
		if newest == nil || list.Sequence > newest.Sequence {
			newest = list
		}
	}
	return newest, nil
}

// pivots adds those that the list names and that were not given. What is named here is not yet
// verified: a wrong pivot makes Follow fail.
func (l *Lists) pivots(ctx context.Context, newest *trustlist.List, have [][]byte) ([][]byte, error) {
	known := map[int]bool{}
	for _, raw := range have {
		if list, err := trustlist.Parse(raw); err == nil {
			known[list.Sequence] = true
		}
	}
	addresses := newest.Pivots()
	if len(addresses) > maxPivots {
		return nil, fmt.Errorf("the list of the lists names %d pivots, the limit is %d", len(addresses), maxPivots)
	}
	for _, address := range addresses {
		raw, err := l.read(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("pivot %s: %w", address, err)
		}
		list, err := trustlist.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("pivot %s: %w", address, err)
		}
		if !known[list.Sequence] {
			known[list.Sequence] = true
			have = append(have, raw)
		}
		l.store(address, raw)
	}
	return have, nil
}

func (l *Lists) wanted(top *trustlist.List) []trustlist.Pointer {
	if top == nil {
		return nil
	}
	var out []trustlist.Pointer
	for _, p := range top.Pointers {
		if p.LOTL || p.Location == "" || (p.MIME != "" && p.MIME != tslXML) {
			continue // PDF copies for people are pointed to as well
		}
		if len(l.cfg.Territories) == 0 || slices.Contains(l.cfg.Territories, p.Territory) {
			out = append(out, p)
		}
	}
	return out
}

// keep takes over a verified list, or tells why there is none.
func (l *Lists) keep(ctx context.Context, source string, list *trustlist.List, raw []byte, err error) {
	if err == nil {
		l.mu.Lock()
		if held := l.national[source]; held != nil && list.Sequence < held.Sequence {
			err = older(list, held)
		} else {
			l.national[source] = list
		}
		l.mu.Unlock()
	}
	if err == nil {
		l.store(source, raw)
	}
	l.outcome(ctx, source, err)
}

func (l *Lists) outcome(ctx context.Context, source string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.problems, source)
		return
	}
	if ctx.Err() == nil {
		l.problems[source] = strings.TrimPrefix(err.Error(), "trustlist: ")
		l.log.WarnContext(ctx, "trusted list not refreshed", "list", source, "error", err.Error())
	}
}

func remote(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// read gets a file or an address; a copy on disk stands in for an address that cannot be had. It
// is verified like what comes from the network, so a copy that was changed is no danger. Only the
// configuration can name files.
func (l *Lists) read(ctx context.Context, source string) ([]byte, error) {
	if !remote(source) && slices.Contains(l.cfg.Sources, source) {
		return l.file(source)
	}
	raw, err := l.client.get(ctx, request{address: source, limit: l.client.cfg.MaxList})
	if err == nil || l.cfg.Dir == "" {
		return raw, err
	}
	if copied, fileErr := l.file(l.copyOf(source)); fileErr == nil {
		l.log.WarnContext(ctx, "trusted list read from its last copy", "list", source, "error", err.Error())
		return copied, nil
	}
	return nil, err
}

func (l *Lists) file(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limit := l.client.cfg.MaxList
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s is longer than the limit of %d bytes", name, limit)
	}
	return raw, err
}

func (l *Lists) copyOf(source string) string {
	return filepath.Join(l.cfg.Dir, digest([]byte(source))+".xml")
}

// store keeps a verified copy. A copy that cannot be kept is no reason to do without the list.
func (l *Lists) store(source string, raw []byte) {
	if l.cfg.Dir == "" || !remote(source) {
		return
	}
	err := os.MkdirAll(l.cfg.Dir, 0o700)
	if err == nil {
		name := l.copyOf(source)
		if err = os.WriteFile(name+".new", raw, 0o600); err == nil {
			err = os.Rename(name+".new", name)
		}
	}
	if err != nil {
		l.log.Warn("copy of a trusted list not kept", "list", source, "error", err.Error())
	}
}
