package online

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ceralacca.dev/services/format/trustlist"
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
	// Dir keeps the last good copies, and the highest numbers that were held, over a restart; "":
	// memory only.
	Dir string
}

// Lists holds the verified trusted lists. A list that cannot be had or verified is not there, and
// a last good copy counts until its next update, as long as the list of the lists names it and who
// signed it: it fails closed, list by list. Of one country one list counts. What is missing or was
// not refreshed is told with every judgement.
type Lists struct {
	cfg    ListsConfig
	client *Client
	log    *slog.Logger

	mu       sync.RWMutex
	lotl     *trustlist.List
	named    map[string]held // by territory: those that the list of the lists points to
	own      map[string]held // by source: those of the configuration
	problems map[string]problem
	loaded   bool

	// floors are the highest sequence numbers that were ever held, by territory; written are those
	// that are on disk. Nothing below is taken, so that nobody can play an older list back.
	floors, written map[string]int
	recalled        bool            // the floors on disk were read
	lotls           map[string]bool // the sources of the configuration that gave a list, and whether it was the list of the lists
}

// held is a list that was verified.
type held struct {
	list *trustlist.List
	// byLOTL: the list of the lists says who signs it, so that it is worth nothing without that one.
	byLOTL bool
}

// problem is what is wrong with a source since the last refresh, and the list that it is about.
type problem struct {
	lotl      bool
	territory string // of a list that the list of the lists names; "": see source
	why       string
}

// lotlFloor is the list of the lists among the floors; territories are in upper case.
const lotlFloor = "lotl"

// NewLists makes an empty holder; Refresh fills it.
func NewLists(c *Client, cfg ListsConfig, log *slog.Logger) *Lists {
	return &Lists{
		cfg: cfg, client: c, log: log, named: map[string]held{}, own: map[string]held{}, problems: map[string]problem{},
		floors: map[string]int{}, written: map[string]int{}, lotls: map[string]bool{},
	}
}

// Configured says whether there is any list to judge by.
func (l *Lists) Configured() bool { return len(l.cfg.Sources) > 0 }

// Trust is what the lists that are in force at a time say together, and what the reader of a
// report must know of those that are missing or old. nil: no list is configured.
func (l *Lists) Trust(at time.Time) (*trustlist.Trust, []string) {
	if !l.Configured() {
		return nil, nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	var notes []string
	if !l.loaded {
		notes = append(notes, "the trusted lists are still being loaded: try again")
	}
	inForce := false
	if l.lotl != nil {
		err := l.lotl.Current(at)
		if inForce = err == nil; !inForce {
			notes = append(notes, err.Error())
		}
	}
	best := map[string]*trustlist.List{}
	for _, group := range []map[string]held{l.own, l.named} {
		for _, h := range group {
			if h.byLOTL && !inForce {
				continue // that was told above, once for all of them
			}
			if err := h.list.Current(at); err != nil {
				notes = append(notes, err.Error())
				continue
			}
			if b := best[h.list.Territory]; b == nil || h.list.Sequence > b.Sequence {
				best[h.list.Territory] = h.list
			}
		}
	}
	t := &trustlist.Trust{}
	for _, territory := range sorted(best) {
		t.Lists = append(t.Lists, best[territory])
		t.Services = append(t.Services, best[territory].Services...)
	}
	for source, p := range l.problems {
		notes = append(notes, l.note(source, p))
	}
	slices.Sort(notes)
	return t, slices.Compact(notes)
}

// note tells of a problem, and of the list that counts in spite of it.
func (l *Lists) note(source string, p problem) string {
	var list *trustlist.List
	switch {
	case source == l.cfg.Dir:
		return "the folder of the trusted lists cannot be used, so that an older list might be taken for the newest: " + p.why
	case p.lotl:
		list = l.lotl
	case p.territory != "":
		list = l.named[p.territory].list
	default:
		list = l.own[source].list
	}
	if list == nil {
		return fmt.Sprintf("trusted list %s is missing: %s", source, p.why)
	}
	return fmt.Sprintf("trusted list %s was not refreshed, and number %d, held before, counts until %s: %s", source, list.Sequence, list.Next.UTC().Format(time.RFC3339), p.why)
}

func sorted[T any](m map[string]T) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
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
