package conservation

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
)

// partySpace makes the id of a party from what it is: the same party has one row, whoever writes it.
var partySpace = uuid.MustParse("3a0f6a0e-8d0f-4b3c-9b39-6d1f7be5d9c2")

func (p party) id(tenant string) uuid.UUID {
	return uuid.NewSHA1(partySpace, []byte(strings.Join([]string{tenant, p.Name, p.VAT, p.TaxCode}, "\x00")))
}

// listed is a unit as the search knows it: one entry for each of its documents.
type listed struct {
	unit  uuid.UUID
	class string
	year  int32
	facts facts
}

// enter writes units of one tenant into the search, in the transaction that takes them in. The last word on a unit counts.
func enter(ctx context.Context, tx pgx.Tx, tenant string, list []listed) error {
	p := db.InsertEntriesParams{TenantID: tenant}
	parties, last := map[uuid.UUID]party{}, map[uuid.UUID]int{}
	for i, u := range list {
		last[u.unit] = i
	}
	for i, u := range list {
		if last[u.unit] != i {
			continue
		}
		for n, b := range u.facts.Bodies {
			in := u.facts.of(b, u.class, u.year)
			seller, buyer := in.Seller.id(tenant), in.Buyer.id(tenant)
			parties[seller], parties[buyer] = in.Seller, in.Buyer
			p.Units, p.Bodies, p.Dates = append(p.Units, u.unit), append(p.Bodies, int32(n+1)), append(p.Dates, b.Date) //nolint:gosec // bodies of one file
			p.FiscalYears, p.Classes = append(p.FiscalYears, in.Year), append(p.Classes, in.Class)
			p.States, p.Types = append(p.States, in.State), append(p.Types, foldType(b.Type))
			p.Numbers, p.SdiIds = append(p.Numbers, foldCode(b.Number)), append(p.SdiIds, foldCode(in.SdiID))
			p.FileNames = append(p.FileNames, foldCode(in.FileName))
			p.Sellers, p.Buyers = append(p.Sellers, seller), append(p.Buyers, buyer)
		}
	}
	if len(p.Units) == 0 {
		return nil
	}
	q := db.New(tx)
	err := meet(ctx, q, tenant, parties)
	if err == nil {
		err = q.InsertEntries(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("conservation: enter %d documents into the search: %w", len(p.Units), err)
	}
	return nil
}

// meet writes the parties that the search does not know, in one order, so that two transactions never wait for each other.
func meet(ctx context.Context, q *db.Queries, tenant string, parties map[uuid.UUID]party) error {
	ids := slices.SortedFunc(maps.Keys(parties), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	known, err := q.KnownParties(ctx, ids)
	if err != nil {
		return err
	}
	ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return slices.Contains(known, id) })
	if len(ids) == 0 {
		return nil
	}
	w := db.InsertWordsParams{TenantID: tenant}
	for _, id := range ids {
		for _, key := range parties[id].keys() {
			w.Words, w.Parties = append(w.Words, key), append(w.Parties, id)
		}
	}
	err = q.InsertParties(ctx, db.InsertPartiesParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return err
	}
	return q.InsertWords(ctx, w)
}

func foldType(s string) string { return strings.ToUpper(strings.TrimSpace(s)) }

// listedOf are the entries of units that were just written. Later receipts change what is said of the first unit.
func listedOf(arrivals []arrival, written []uuid.UUID) []listed {
	var list []listed
	for _, e := range arrivals {
		if e.problem != "" || !slices.Contains(written, e.id) {
			continue
		}
		u := listed{e.id, e.class, e.year, e.facts}
		if e.integrates != nil {
			u.unit = *e.integrates
		}
		list = append(list, u)
	}
	return list
}

const searchPage = 500

// catchUp enters what was in custody before there was a search. Several processes share the work.
func (s *Service) catchUp(ctx context.Context) error {
	for more := true; more && ctx.Err() == nil; {
		err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
			q := db.New(tx)
			owed, err := q.OwedEntries(ctx, searchPage)
			if err != nil {
				return err
			}
			more = len(owed) == searchPage
			ids, of := make([]uuid.UUID, len(owed)), map[string][]listed{}
			for i, o := range owed {
				var f facts
				err = json.Unmarshal(o.Facts, &f)
				if err != nil {
					return fmt.Errorf("conservation: facts of unit %s: %w", o.ID, err)
				}
				ids[i] = o.ID
				u := listed{o.ID, o.Class, o.FiscalYear, f}
				if o.Integrates != nil {
					u.unit = *o.Integrates
				}
				of[o.TenantID] = append(of[o.TenantID], u)
			}
			for _, tenant := range slices.Sorted(maps.Keys(of)) {
				err = enter(ctx, tx, tenant, of[tenant])
				if err != nil {
					return err
				}
			}
			return q.SettleEntries(ctx, ids)
		})
		if err != nil {
			s.log.WarnContext(ctx, "what is in custody could not be entered into the search: it is tried again", "error", err)
			more = true
			pause(ctx, s.cfg.Storage.Probe)
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
