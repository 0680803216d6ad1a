package conservation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
)

// place is where a document stands in the order of what is found: newest first.
type place struct {
	Issued time.Time
	Unit   uuid.UUID
	Body   int32
}

// condition is one that was read and makes sense.
type condition struct {
	field    conservationv1.SearchField
	side     conservationv1.PartySide
	value    string // folded
	words    []string
	from, to *time.Time
	year     int32
	unit     uuid.UUID
}

// query is alternatives of conditions that hold together; nil finds everything.
type query [][]condition

// mostAlternatives bounds a query, also one that was joined with an inspector's filter.
const mostAlternatives = 64

func badCondition(path, format string, a ...any) *fault.Fault {
	text := fmt.Sprintf(format, a...)
	return fault.Invalid("SEARCH_CONDITION_INVALID", "%s: %s", path, text).WithField(path, "SEARCH_CONDITION_INVALID", text)
}

// readQuery reads a query. An alternative without conditions finds everything.
func readQuery(m *conservationv1.SearchQuery) (query, error) {
	var q query
	for i, a := range m.GetAnyOf() {
		all := []condition{}
		for j, c := range a.GetAllOf() {
			path := fmt.Sprintf("query.any_of[%d].all_of[%d]", i, j)
			got, err := readCondition(path, c)
			if err != nil {
				return nil, err
			}
			all = append(all, got)
		}
		q = append(q, all)
	}
	return q, nil
}

func readCondition(path string, m *conservationv1.SearchCondition) (condition, error) {
	c := condition{field: m.GetField(), side: m.GetSide()}
	isDate := c.field == conservationv1.SearchField_SEARCH_FIELD_DATE
	if !isDate && (m.GetFrom() != "" || m.GetTo() != "") {
		return c, badCondition(path, "from and to are for dates")
	}
	if m.GetSide() != 0 && !c.isParty() {
		return c, badCondition(path, "side is for names, VAT numbers and tax codes")
	}
	switch c.field {
	case conservationv1.SearchField_SEARCH_FIELD_NAME:
		c.value, c.words = wanted(m.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER, conservationv1.SearchField_SEARCH_FIELD_TAX_CODE:
		c.value = foldName(m.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_NUMBER, conservationv1.SearchField_SEARCH_FIELD_FILE_NAME, conservationv1.SearchField_SEARCH_FIELD_SDI_ID:
		c.value = foldCode(m.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE, conservationv1.SearchField_SEARCH_FIELD_CLASS, conservationv1.SearchField_SEARCH_FIELD_STATE:
		c.value = foldType(m.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR:
		n, err := strconv.ParseInt(strings.TrimSpace(m.GetValue()), 10, 32)
		if err != nil {
			return c, badCondition(path, "%q is no year", m.GetValue())
		}
		c.year, c.value = int32(n), m.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_UNIT:
		ids, ok := cut(m.GetValue(), "tenants", "units")
		if !ok {
			return c, badCondition(path, "%q is not tenants/{tenant}/units/{unit}", m.GetValue())
		}
		c.unit, _ = uuid.Parse(ids[1]) // none has the zero id
		c.value = m.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_DATE:
		return readDates(path, m, c)
	}
	if c.value == "" {
		return c, badCondition(path, "%q has nothing in it that could be looked for", m.GetValue())
	}
	return c, nil
}

func readDates(path string, m *conservationv1.SearchCondition, c condition) (condition, error) {
	from, to := m.GetFrom(), m.GetTo()
	if m.GetValue() != "" {
		if from != "" || to != "" {
			return c, badCondition(path, "give value for one day, or from and to")
		}
		from, to = m.GetValue(), m.GetValue()
	}
	if from == "" && to == "" {
		return c, badCondition(path, "a date wants value, from or to")
	}
	var err error
	c.from, err = readDay(path, from)
	if err == nil {
		c.to, err = readDay(path, to)
	}
	return c, err
}

func readDay(path, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // that side is open
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return nil, badCondition(path, "%q is no date such as 2026-03-31", text)
	}
	return &day, nil
}

func (c condition) isParty() bool {
	switch c.field {
	case conservationv1.SearchField_SEARCH_FIELD_NAME, conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER, conservationv1.SearchField_SEARCH_FIELD_TAX_CODE:
		return true
	}
	return false
}

// and joins two queries: what both find.
func (q query) and(other query) (query, error) {
	if len(q) == 0 {
		return other, nil
	}
	if len(other) == 0 {
		return q, nil
	}
	if len(q)*len(other) > mostAlternatives {
		return nil, fault.Invalid("SEARCH_TOO_WIDE", "query: %d alternatives together with %d are too many: ask for fewer at a time", len(q), len(other))
	}
	var both query
	for _, a := range q {
		for _, b := range other {
			both = append(both, slices.Concat(a, b))
		}
	}
	return both, nil
}

// statement is one SELECT in the making.
type statement struct {
	args []any
	sets []string // of parties, each made once for all that ask whether somebody is in it
}

// set names a set that the statement makes before anything else.
func (s *statement) set(sql string) string {
	name := "named_" + strconv.Itoa(len(s.sets))
	s.sets = append(s.sets, name+" AS MATERIALIZED ("+sql+")")
	return name
}

// back takes away what was added since.
func (s *statement) back(args, sets int) { s.args, s.sets = s.args[:args], s.sets[:sets] }

func (s *statement) arg(v any) string {
	s.args = append(s.args, v)
	return "$" + strconv.Itoa(len(s.args))
}

// find gives the places of what a tenant's query finds, newest first, those behind after.
//
// Each alternative becomes a SELECT of its own with the order and the limit of the whole, so that each goes by its best
// index and none reads more than a page, wherever the index has the order. A condition on either party doubles its
// alternative for the same reason.
func find(ctx context.Context, tx pgx.Tx, tenant string, q query, after *place, limit int) ([]place, error) {
	if len(q) == 0 {
		q = query{nil}
	}
	st := &statement{}
	own := st.arg(tenant)
	tail := " ORDER BY issued_on DESC, unit_id DESC, body DESC LIMIT " + st.arg(limit)
	var selects []string
	for _, all := range q {
		wheres, err := alternative(ctx, tx, st, tenant, own, all)
		if err != nil {
			return nil, err
		}
		for _, where := range wheres {
			if after != nil {
				where += fmt.Sprintf(" AND (issued_on, unit_id, body) < (%s::date, %s::uuid, %s::int)", st.arg(after.Issued), st.arg(after.Unit), st.arg(after.Body))
			}
			selects = append(selects, "(SELECT issued_on, unit_id, body FROM search_entry WHERE tenant_id = "+own+where+tail+")")
		}
	}
	if len(selects) == 0 {
		return nil, nil
	}
	// Planned anew each time, with the values in sight: one name is rare, another stands in every document.
	sql := selects[0]
	if len(selects) > 1 {
		sql = "SELECT issued_on, unit_id, body FROM (" + strings.Join(selects, " UNION ") + ") AS found" + tail
	}
	if len(st.sets) > 0 {
		sql = "WITH " + strings.Join(st.sets, ", ") + " " + sql
	}
	rows, err := tx.Query(ctx, sql, append([]any{pgx.QueryExecModeCacheDescribe}, st.args...)...)
	if err != nil {
		return nil, fmt.Errorf("conservation: search: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[place])
	if err != nil {
		return nil, fmt.Errorf("conservation: search: %w", err)
	}
	return found, nil
}

// mostVariants of one alternative: beyond, a condition on either party is one OR.
const mostVariants = 8

// alternative gives the WHEREs of which any finds what the conditions want; none when nothing can.
func alternative(ctx context.Context, tx pgx.Tx, st *statement, tenant, own string, all []condition) ([]string, error) {
	variants, args, sets := []string{""}, len(st.args), len(st.sets)
	for _, c := range all {
		if c.field == conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR {
			more, err := yearDates(ctx, tx, st, tenant, c.year)
			if err != nil || more == "" {
				st.back(args, sets)
				return nil, err
			}
			variants = widen(variants, more)
		}
		if !c.isParty() {
			more := c.where(st)
			for i := range variants {
				variants[i] += " AND " + more
			}
			continue
		}
		named, err := parties(ctx, tx, st, tenant, own, c)
		if err != nil || named == nil {
			st.back(args, sets) // nothing names them
			return nil, err
		}
		switch {
		case c.side == conservationv1.PartySide_PARTY_SIDE_SELLER:
			variants = widen(variants, named.as("seller"))
		case c.side == conservationv1.PartySide_PARTY_SIDE_BUYER:
			variants = widen(variants, named.as("buyer"))
		case named.many || 2*len(variants) > mostVariants:
			variants = widen(variants, "("+named.as("seller")+" OR "+named.as("buyer")+")")
		default:
			variants = append(widen(variants, named.as("seller")), widen(variants, named.as("buyer"))...)
		}
	}
	return variants, nil
}

func widen(variants []string, more string) []string {
	out := make([]string, len(variants))
	for i, v := range variants {
		out[i] = v + " AND " + more
	}
	return out
}

func (c condition) where(st *statement) string {
	switch c.field {
	case conservationv1.SearchField_SEARCH_FIELD_DATE:
		var both []string
		if c.from != nil {
			both = append(both, "issued_on >= "+st.arg(*c.from)+"::date")
		}
		if c.to != nil {
			both = append(both, "issued_on <= "+st.arg(*c.to)+"::date")
		}
		return strings.Join(both, " AND ")
	case conservationv1.SearchField_SEARCH_FIELD_NUMBER:
		return "number = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_FILE_NAME:
		return "file_name = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_SDI_ID:
		return "sdi_id = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE:
		return "document_type = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_CLASS:
		return "class = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_STATE:
		return "state = " + st.arg(c.value)
	case conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR:
		return "fiscal_year = " + st.arg(c.year) + "::int"
	case conservationv1.SearchField_SEARCH_FIELD_UNIT:
		return "unit_id = " + st.arg(c.unit) + "::uuid"
	}
	return "false"
}

// show turns places into documents, in their order.
func show(ctx context.Context, tx pgx.Tx, tenant string, found []place) ([]*conservationv1.FoundDocument, error) {
	ids := make([]uuid.UUID, len(found))
	for i, p := range found {
		ids[i] = p.Unit
	}
	rows, err := db.New(tx).UnitsByID(ctx, db.UnitsByIDParams{TenantID: tenant, Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("conservation: search: %w", err)
	}
	units, said := map[uuid.UUID]db.Unit{}, map[uuid.UUID]facts{}
	for _, u := range rows {
		var f facts
		err = json.Unmarshal(u.Facts, &f)
		if err != nil {
			return nil, fmt.Errorf("conservation: facts of unit %s: %w", u.ID, err)
		}
		units[u.ID], said[u.ID] = u, f
	}
	states, err := statesOf(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]*conservationv1.FoundDocument, 0, len(found))
	for _, p := range found {
		u, ok := units[p.Unit]
		f := said[p.Unit]
		if !ok || int(p.Body) > len(f.Bodies) {
			return nil, fault.Internal("SEARCH_STALE", "the search names document %d of unit %s, which is not there: make it again with RebuildSearch", p.Body, p.Unit)
		}
		list = append(list, foundMessage(u, f, p, states[p.Unit]))
	}
	return list, nil
}

// statesOf is what SdI said last: later receipts do not change the facts of a unit that is in a package.
func statesOf(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) (map[uuid.UUID]string, error) {
	rows, err := tx.Query(ctx, `SELECT unit_id, state FROM search_entry WHERE unit_id = ANY($1::uuid[]) AND body = 1`, ids)
	if err != nil {
		return nil, fmt.Errorf("conservation: search: %w", err)
	}
	states, id, state := map[uuid.UUID]string{}, uuid.Nil, ""
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error { states[id] = state; return nil })
	if err != nil {
		return nil, fmt.Errorf("conservation: search: %w", err)
	}
	return states, nil
}

func foundMessage(u db.Unit, f facts, p place, state string) *conservationv1.FoundDocument {
	who := func(p party) *conservationv1.DocumentParty {
		return &conservationv1.DocumentParty{Name: p.Name, VatNumber: p.VAT, TaxCode: p.TaxCode}
	}
	b, unit := f.Bodies[p.Body-1], unitMessage(u, nil)
	in := f.of(b, u.Class, u.FiscalYear)
	if b.Inside != nil {
		state = in.State
	}
	return &conservationv1.FoundDocument{
		Unit: unit.GetName(), Body: p.Body, DocumentType: b.Type, Number: b.Number, Date: b.Date, Seller: who(in.Seller), Buyer: who(in.Buyer),
		SdiId: in.SdiID, FileName: in.FileName, Class: in.Class, FiscalYear: in.Year, State: state, UnitState: unit.GetState(), Package: unit.GetPackage(),
	}
}

func unitCondition(id uuid.UUID) condition {
	return condition{field: conservationv1.SearchField_SEARCH_FIELD_UNIT, unit: id}
}
