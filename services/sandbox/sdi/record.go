package sdi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"ceralacca.dev/services/format/sdi"
	"ceralacca.dev/services/sandbox/client"
)

var errNoCallback = errors.New("the transmitter has no callback address; accredit it again with callback_url")

const defaultLimit = 100

// Received answers a query, in order of reception.
func (e *Exchange) Received(q client.Query) client.ReceivedPage {
	e.mu.Lock()
	defer e.mu.Unlock()
	candidates := e.files
	switch {
	case q.ID != "":
		candidates = nil
		if f := e.byID[q.ID]; f != nil {
			candidates = []*file{f}
		}
	case q.Name != "":
		candidates = e.byName[sdi.NameKey(q.Name)]
	case q.SHA256 != "":
		candidates = e.byHash[strings.ToLower(q.SHA256)]
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	page := client.ReceivedPage{Files: []client.Received{}}
	for _, f := range candidates {
		if !f.matches(&q) {
			continue
		}
		page.Total++
		if len(page.Files) < limit {
			page.Files = append(page.Files, f.view())
		}
	}
	return page
}

func (f *file) matches(q *client.Query) bool {
	if q.Name != "" && !strings.EqualFold(q.Name, f.name) ||
		q.SHA256 != "" && !strings.EqualFold(q.SHA256, f.hash) ||
		q.Transmitter != "" && q.Transmitter != f.tx.fiscalID ||
		q.State != "" && q.State != f.state {
		return false
	}
	if q.Number == "" {
		return true
	}
	for _, inv := range f.doc.invoices {
		if inv.Number == q.Number {
			return true
		}
	}
	return false
}

func (f *file) view() client.Received {
	v := client.Received{
		ID: f.id, Name: f.name, SHA256: f.hash, Size: f.size, At: f.at, Transmitter: f.tx.fiscalID,
		Format: f.doc.format, CodiceDestinatario: f.doc.code, Signed: f.doc.signed, Invoices: f.doc.invoices, State: f.state,
	}
	if f.archive != nil {
		v.Archive = f.archive.IdentificativoSdI
	}
	for _, er := range f.errors {
		v.Errors = append(v.Errors, er.Codice)
	}
	for _, r := range f.receipts {
		v.Receipts = append(v.Receipts, client.Receipt{
			Name: r.name, Type: string(r.tipo), Attempts: r.attempts, DeliveredAt: r.deliveredAt, GivenUp: r.givenUp,
			Fault: r.order.Kind, LastError: r.lastError,
		})
	}
	return v
}

// File gives the bytes of a received file, while they are kept.
func (e *Exchange) File(id string) (name string, raw []byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.byID[id]
	if f == nil {
		return "", nil, fmt.Errorf("no file has IdentificativoSdI %q", id)
	}
	if f.raw == nil {
		return "", nil, fmt.Errorf("the bytes of file %s are no longer kept; raise keep-files (now %d)", id, e.cfg.KeepFiles)
	}
	return f.name, f.raw, nil
}

// Resend delivers every receipt of a file once more, as SdI's redelivery service may do months
// later. It returns how many will go.
func (e *Exchange) Resend(id string) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.byID[id]
	if f == nil {
		return 0, fmt.Errorf("no file has IdentificativoSdI %q", id)
	}
	n := 0
	for _, r := range f.receipts {
		if r.data == nil {
			continue
		}
		n++
		e.couriers.do(func(ctx context.Context) { e.attempt(ctx, r) })
	}
	if n == 0 && len(f.receipts) > 0 {
		return 0, fmt.Errorf("the receipts of file %s are no longer kept; raise keep-files (now %d)", id, e.cfg.KeepFiles)
	}
	return n, nil
}

// Counts sums up.
func (e *Exchange) Counts() client.Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.counts
	c.States = maps.Clone(c.States)
	c.Names, c.Contents, c.Invoices = len(e.byName), len(e.byHash), len(e.invoices)
	c.RepeatedInvoices = len(e.repeated)
	return c
}

// names counts the distinct names among files of equal content.
func names(same []*file) int {
	if len(same) < 2 {
		return len(same)
	}
	set := map[string]bool{}
	for _, f := range same {
		set[sdi.NameKey(f.name)] = true
	}
	return len(set)
}

// Duplicates lists what was submitted more than once.
func (e *Exchange) Duplicates() client.Duplicates {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := client.Duplicates{Names: []client.Duplicate{}, Contents: []client.Duplicate{}, Invoices: append([]client.Duplicate{}, e.repeated...)}
	for key, same := range e.byName {
		if len(same) > 1 {
			d.Names = append(d.Names, client.Duplicate{Key: key, IDs: ids(same)})
		}
	}
	for key, same := range e.byHash {
		if names(same) > 1 {
			d.Contents = append(d.Contents, client.Duplicate{Key: key, IDs: ids(same)})
		}
	}
	return d
}

func ids(files []*file) []string {
	out := make([]string, 0, len(files))
	for _, f := range files {
		out = append(out, f.id)
	}
	return out
}
