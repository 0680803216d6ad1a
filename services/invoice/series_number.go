package invoice

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/invoice/internal/db"
)

// takeDraft composes an invoice and stores it. All that can be refused is refused before a number is taken;
// the number is then taken in the transaction that stores the invoice, so that who fails gives it back.
func (s *Service) takeDraft(ctx context.Context, in *intake, draft *invoicev1.Draft, series string) (*invoicev1.Invoice, error) {
	var p *prepared
	var before *invoicev1.Invoice
	err := s.db.Tx(ctx, in.parent.tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		// A repeat must give the first answer also when the draft would be refused by now.
		before, err = in.answered(ctx, tx)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		p, err = s.prepare(ctx, tx, in.company, in.parent, draft, series)
		return err
	})
	if err != nil || before != nil {
		return before, err
	}
	a, _, err := p.compose(in.company, pg.Time(s.now()))
	if err != nil {
		return nil, err
	}
	if p.series == nil || in.preview {
		inv, err := s.take(ctx, in, a)
		return inv, inDraft(err)
	}
	return s.takeNumbered(ctx, in, p, a)
}

// maxHeld bounds how many numbers in a row may be held by other invoices before a series gives up.
const maxHeld = 1_000_000

// takeNumbered stores an invoice under the next number of its series. A number that another invoice of the
// issuer holds, sent with its own number, is passed over: it is used, so there is no gap.
func (s *Service) takeNumbered(ctx context.Context, in *intake, p *prepared, a *admission) (*invoicev1.Invoice, error) {
	// Whoever waits for the series waits here, where it costs no connection, rather than for the row.
	leave, err := s.gates.enter(ctx, p.series.String())
	if err != nil {
		return nil, err
	}
	defer leave()
	numbered, year, given := *in, yearOf(a.files[0].Date), int64(0)
	clean, atLeast := a.warnings, int64(1)
	numbered.first = func(ctx context.Context, tx pgx.Tx, a *admission) error {
		if in.first != nil {
			if err := in.first(ctx, tx, a); err != nil {
				return err
			}
		}
		taken, err := q(tx).TakeNumber(ctx, db.TakeNumberParams{TenantID: p.series.tenant, CompanyID: p.series.company, ID: p.series.id,
			Year: year, AtLeast: atLeast, Date: a.files[0].Date})
		if errors.Is(err, pgx.ErrNoRows) {
			return atField(seriesMissing(*p.series), "series")
		}
		if err != nil {
			return fmt.Errorf("invoice: take a number: %w", err)
		}
		given = taken.Number
		return p.number(a, taken, clean)
	}
	for {
		inv, err := s.put(ctx, &numbered, a)
		if !errors.Is(err, errNumberTaken) {
			return inv, inDraft(err)
		}
		if atLeast, err = s.firstFree(ctx, p, a, given+1); err != nil {
			return nil, err
		}
	}
}

// number gives a composed file the number that was taken, when it is not the one expected. Only the text of
// the one element changes; the pattern admits nothing that would need an escape in XML.
func (p *prepared) number(a *admission, taken db.TakeNumberRow, warnings []violation) error {
	date := a.files[0].Date
	pattern, err := parsePattern(taken.Pattern, "series")
	if err != nil {
		return err
	}
	written, err := pattern.fits(p.series.String(), taken.Number, int(yearOf(date)))
	if err != nil {
		return err
	}
	a.warnings = warnings
	var late []violation
	if taken.LastDate > date && p.lastDate <= date { // somebody else was faster
		late = append(late, backwards(p.series, date, taken.LastDate))
	}
	if err := a.warn(late...); err != nil {
		return err
	}
	if written == a.row.Number {
		return nil
	}
	if a.content, err = renumbered(a.content, a.row.Number, written); err != nil {
		return err
	}
	a.ref = blob.Of(a.row.TenantID, a.content)
	a.row.Number, a.files[0].Number, a.held[0].number = written, written, written
	if a.row.Bodies, err = json.Marshal(a.files); err != nil {
		return fmt.Errorf("invoice: bodies: %w", err)
	}
	return nil
}

// renumbered is a composed file with another number: that of DatiGeneraliDocumento, the first after its
// opening tag, which text cannot imitate as its signs are escaped.
func renumbered(xml []byte, from, to string) ([]byte, error) {
	head := bytes.Index(xml, []byte("<DatiGeneraliDocumento>"))
	element := []byte("<Numero>" + from + "</Numero>")
	at := -1
	if head >= 0 {
		at = bytes.Index(xml[head:], element)
	}
	if at < 0 {
		return nil, fmt.Errorf("invoice: the composed file has no number %q to replace", from)
	}
	at += head
	out := make([]byte, 0, len(xml)+len(to)-len(from))
	out = append(out, xml[:at]...)
	out = append(out, "<Numero>"+to+"</Numero>"...)
	return append(out, xml[at+len(element):]...), nil
}

// firstFree is the first number from one on that no invoice of the issuer holds.
func (s *Service) firstFree(ctx context.Context, p *prepared, a *admission, from int64) (int64, error) {
	const window = 1000
	for start := from; start < from+maxHeld; start += window {
		var written []string
		for n := start; n < start+window; n++ {
			text, err := p.pattern.fits(p.series.String(), n, int(a.held[0].year))
			if err != nil {
				break // the end of the series
			}
			written = append(written, text)
		}
		held := map[string]bool{}
		err := s.db.Tx(ctx, p.series.tenant, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := q(tx).ListHeld(ctx, db.ListHeldParams{TenantID: p.series.tenant, Issuer: a.held[0].issuer, Year: a.held[0].year,
				Series: a.held[0].series, Numbers: written})
			for _, r := range rows {
				held[r.Number] = true
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("invoice: numbers that are held: %w", err)
		}
		for i, text := range written {
			if !held[text] {
				return start + int64(i), nil
			}
		}
		if len(written) < window {
			_, err := p.pattern.fits(p.series.String(), start+int64(len(written)), int(a.held[0].year))
			return 0, err
		}
	}
	return 0, fault.Precondition("SERIES_EXHAUSTED", "other invoices hold the %d numbers of %s from %d on: use another series", maxHeld, p.series, from).
		WithField("series", "SERIES_EXHAUSTED", "has no free number in reach")
}

// gates lets one at a time through for each name. A process that composes many invoices of one series then
// holds one connection for them, not all. Gates stay: there are as many as series in use.
type gates struct {
	mu    sync.Mutex
	known map[string]chan struct{}
}

// enter waits for the gate of a name; leave opens it again.
func (g *gates) enter(ctx context.Context, name string) (leave func(), err error) {
	g.mu.Lock()
	if g.known == nil {
		g.known = map[string]chan struct{}{}
	}
	gate := g.known[name]
	if gate == nil {
		gate = make(chan struct{}, 1)
		g.known[name] = gate
	}
	g.mu.Unlock()
	select {
	case gate <- struct{}{}:
		return func() { <-gate }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
