package conservation

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
)

// shelf is a corpus of documents in a schema of its own, with what was entered beside it.
type shelf struct {
	db   *pg.DB
	docs map[string][]listed // by tenant
}

// Names with everything that people write differently. The second of each pair is how it is looked for.
var shelfNames = []string{
	"Rossi Mario", "Mario Rossi S.r.l.", "D'Angelo Niccolò", "D’ANGELO & Figli", "De Luca Anna", "DeLuca Impianti SpA", "Käufer <GmbH>",
	"Straße & Söhne AG", "Łukasz Żółć", "Società Agricola l'Oro", "ROSSINI Gioachino", "Ó Briain", "東京株式会社", "3M Italia", "A.B.C. di C. Bianchi",
}

func fillShelf(t testing.TB, n int) *shelf {
	t.Helper()
	s := &shelf{db: pgtest.Schema(t, "conservation"), docs: map[string][]listed{}}
	r := rand.New(rand.NewPCG(7, 7))
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	parties := make([]party, 0, 2*len(shelfNames))
	for i, name := range shelfNames {
		parties = append(parties, party{name, fmt.Sprintf("IT%011d", 12345678900+i), fmt.Sprintf("%011d", 12345678900+i)},
			party{name, pick([]string{"", "DE129273398", "FR40303265045"}), pick([]string{"", "RSSMRA80A01H501U"})})
	}
	for _, tenant := range []string{"acme", "beta"} {
		for range n {
			f := facts{
				SdiID: fmt.Sprint(500 + r.IntN(n)), FileName: fmt.Sprintf("IT01234567897_%05d.xml", r.IntN(n)),
				State:  pick([]string{"DELIVERED", "AVAILABLE_IN_RESERVED_AREA", "PA_REFUSED"}),
				Seller: parties[r.IntN(len(parties))], Buyer: parties[r.IntN(len(parties))],
			}
			for range 1 + r.IntN(3) {
				day := time.Date(2024, 1, 1+r.IntN(900), 0, 0, 0, 0, time.UTC)
				f.Bodies = append(f.Bodies, body{Type: pick([]string{"TD01", "TD04", "TD24"}), Number: fmt.Sprintf("%d/%s", r.IntN(20), pick([]string{"A", "b", "È 1"})), Date: day.Format(time.DateOnly)})
			}
			s.docs[tenant] = append(s.docs[tenant], listed{uuid.New(), pick([]string{classPrivate, classPublic}), int32(2024 + r.IntN(3)), f})
		}
		s.enter(t, tenant, s.docs[tenant])
	}
	return s
}

func (s *shelf) enter(t testing.TB, tenant string, list []listed) {
	t.Helper()
	require.NoError(t, s.db.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
		for _, u := range list {
			raw, err := u.facts.encode()
			require.NoError(t, err)
			_, err = tx.Exec(ctx, `INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, facts, created_at)
				VALUES ($1, $2, $3, 's', 'TAKEN_IN_CHARGE', $4, $5, $6, now())`, u.unit, tenant, u.unit.String(), u.class, u.year, raw)
			require.NoError(t, err)
		}
		return enter(ctx, tx, tenant, list)
	}))
}

func (s *shelf) find(t require.TestingT, tenant string, q query, page int) []place {
	var all []place
	for {
		var got []place
		require.NoError(t, s.db.Tx(context.Background(), tenant, func(ctx context.Context, tx pgx.Tx) error {
			var after *place
			if len(all) > 0 {
				after = &all[len(all)-1]
			}
			var err error
			got, err = find(ctx, tx, tenant, q, after, page)
			return err
		}))
		require.LessOrEqual(t, len(got), page)
		all = append(all, got...)
		if len(got) < page {
			return all
		}
	}
}

// scan is the same search by looking at every document, with its own idea of what is alike.
func (s *shelf) scan(tenant string, m *conservationv1.SearchQuery) []place {
	var all []place
	for _, u := range s.docs[tenant] {
		for i, b := range u.facts.Bodies {
			hit := len(m.GetAnyOf()) == 0
			for _, a := range m.GetAnyOf() {
				hit = hit || !slices.ContainsFunc(a.GetAllOf(), func(c *conservationv1.SearchCondition) bool { return !holds(c, tenant, u, b) })
			}
			if hit {
				day, _ := time.Parse(time.DateOnly, b.Date)
				all = append(all, place{day, u.unit, int32(i + 1)})
			}
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		return -cmp.Or(a.Issued.Compare(b.Issued), bytes.Compare(a.Unit[:], b.Unit[:]), cmp.Compare(a.Body, b.Body))
	})
	return all
}

// alike is a table, not the code that is tested: letters of the corpus without what does not count.
var alike = strings.NewReplacer("ò", "o", "ó", "o", "ö", "o", "ä", "a", "à", "a", "è", "e", "ż", "z", "ł", "l", "ć", "c", "ß", "ss", "'", "", "’", "", " ", "")

func squash(s string) string { return alike.Replace(strings.ToLower(s)) }

func squashName(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(".,&<>/-", r) {
			return -1
		}
		return r
	}, squash(s))
}

// named: the name has the value at the beginning of one of its words, or each of the value's words.
func named(name, value string) bool {
	begins := func(v string) bool {
		rest := name
		for rest != "" {
			if strings.HasPrefix(squashName(rest), v) {
				return true
			}
			rest = strings.TrimLeft(strings.TrimLeftFunc(rest, func(r rune) bool { return !strings.ContainsRune(" .'’&<>-", r) }), " .'’&<>-")
		}
		return false
	}
	all := true
	for _, w := range strings.Fields(value) {
		all = all && begins(squashName(w))
	}
	return all || begins(squashName(value))
}

func holds(c *conservationv1.SearchCondition, tenant string, u listed, b body) bool {
	either := func(is func(party) bool) bool {
		return c.GetSide() != conservationv1.PartySide_PARTY_SIDE_BUYER && is(u.facts.Seller) || c.GetSide() != conservationv1.PartySide_PARTY_SIDE_SELLER && is(u.facts.Buyer)
	}
	v := squash(c.GetValue())
	switch c.GetField() {
	case conservationv1.SearchField_SEARCH_FIELD_NAME:
		return either(func(p party) bool { return named(p.Name, c.GetValue()) })
	case conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER:
		return either(func(p party) bool { return p.VAT != "" && (squash(p.VAT) == v || squash(p.VAT[2:]) == v) })
	case conservationv1.SearchField_SEARCH_FIELD_TAX_CODE:
		return either(func(p party) bool { return p.TaxCode != "" && squash(p.TaxCode) == v })
	case conservationv1.SearchField_SEARCH_FIELD_DATE:
		from, to := cmp.Or(c.GetFrom(), c.GetValue(), "0"), cmp.Or(c.GetTo(), c.GetValue(), "9")
		return from <= b.Date && b.Date <= to
	case conservationv1.SearchField_SEARCH_FIELD_NUMBER:
		return squash(b.Number) == v
	case conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE:
		return strings.EqualFold(b.Type, c.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_SDI_ID:
		return u.facts.SdiID == c.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_CLASS:
		return u.class == c.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR:
		return fmt.Sprint(u.year) == c.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_FILE_NAME:
		return squash(u.facts.FileName) == v
	case conservationv1.SearchField_SEARCH_FIELD_STATE:
		return u.facts.State == c.GetValue()
	case conservationv1.SearchField_SEARCH_FIELD_UNIT:
		return unitName(tenant, u.unit) == c.GetValue()
	}
	return false
}

// draw makes a condition, mostly one that something of the corpus fulfils, written as people would.
func (s *shelf) draw(rt *rapid.T) *conservationv1.SearchCondition {
	u := rapid.SampledFrom(s.docs["acme"]).Draw(rt, "unit")
	b := u.facts.Bodies[0]
	p := rapid.SampledFrom([]party{u.facts.Seller, u.facts.Buyer}).Draw(rt, "party")
	c := &conservationv1.SearchCondition{Field: conservationv1.SearchField(rapid.Int32Range(1, 12).Draw(rt, "field"))}
	if (condition{field: c.GetField()}).isParty() {
		c.Side = conservationv1.PartySide(rapid.Int32Range(0, 2).Draw(rt, "side"))
	}
	written := func(v string) string {
		return rapid.SampledFrom([]string{v, strings.ToUpper(v), strings.ToLower(v), " " + v + " "}).Draw(rt, "written")
	}
	switch c.GetField() {
	case conservationv1.SearchField_SEARCH_FIELD_NAME:
		words := strings.Fields(p.Name)
		part := rapid.SampledFrom([]string{p.Name, words[0], words[len(words)-1], words[len(words)-1] + " " + words[0], strings.Join(words, ""), "dangelo", "d angelo", "de luca", "deluca", "strasse", "rossi", "niccolo", "nessuno", "r"}).Draw(rt, "part")
		c.Value = written(part)
	case conservationv1.SearchField_SEARCH_FIELD_VAT_NUMBER:
		c.Value = written(cmp.Or(rapid.SampledFrom([]string{p.VAT, p.TaxCode}).Draw(rt, "vat"), "IT00000000000"))
	case conservationv1.SearchField_SEARCH_FIELD_TAX_CODE:
		c.Value = written(cmp.Or(p.TaxCode, "VRDLGU70A01F205X"))
	case conservationv1.SearchField_SEARCH_FIELD_DATE:
		other := rapid.SampledFrom(s.docs["acme"]).Draw(rt, "other").facts.Bodies[0].Date
		switch rapid.IntRange(0, 3).Draw(rt, "dates") {
		case 0:
			c.Value = b.Date
		case 1:
			c.From = b.Date
		case 2:
			c.To = b.Date
		default:
			c.From, c.To = min(b.Date, other), max(b.Date, other)
		}
	case conservationv1.SearchField_SEARCH_FIELD_NUMBER:
		c.Value = written(b.Number)
	case conservationv1.SearchField_SEARCH_FIELD_DOCUMENT_TYPE:
		c.Value = written(b.Type)
		c.Value = strings.TrimSpace(c.GetValue())
	case conservationv1.SearchField_SEARCH_FIELD_SDI_ID:
		c.Value = u.facts.SdiID
	case conservationv1.SearchField_SEARCH_FIELD_CLASS:
		c.Value = u.class
	case conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR:
		c.Value = fmt.Sprint(u.year)
	case conservationv1.SearchField_SEARCH_FIELD_FILE_NAME:
		c.Value = written(u.facts.FileName)
	case conservationv1.SearchField_SEARCH_FIELD_STATE:
		c.Value = u.facts.State
	case conservationv1.SearchField_SEARCH_FIELD_UNIT:
		c.Value = unitName("acme", u.unit)
	}
	return c
}

// Test42_SearchEqualsAScan: by every key of the decree and by combinations of them, with AND and OR and whatever the size of
// pages, the search finds what looking at every document finds, in the same order.
func Test42_SearchEqualsAScan(t *testing.T) {
	t.Parallel()
	s := fillShelf(t, 150)
	hits, most, held := 0, mostParties, mostHeld
	t.Cleanup(func() { mostParties, mostHeld = most, held })
	rapid.Check(t, func(rt *rapid.T) {
		mostParties = rapid.SampledFrom([]int{most, 1, 0}).Draw(rt, "parties written into the statement")
		mostHeld = rapid.SampledFrom([]int{held, 2, 0}).Draw(rt, "parties held as a set")
		m := &conservationv1.SearchQuery{}
		for range rapid.IntRange(0, 3).Draw(rt, "alternatives") {
			a := &conservationv1.SearchAlternative{}
			for range rapid.SampledFrom([]int{0, 1, 1, 1, 2, 2, 3, 5}).Draw(rt, "conditions") {
				a.AllOf = append(a.AllOf, s.draw(rt))
			}
			m.AnyOf = append(m.AnyOf, a)
		}
		q, err := readQuery(m)
		require.NoError(rt, err)
		want := s.scan("acme", m)
		hits += len(want)
		got := s.find(rt, "acme", q, rapid.SampledFrom([]int{7, 100, 1000}).Draw(rt, "page"))
		require.Equal(rt, want, got, "%v", m)
	})
	require.NotZero(t, hits, "nothing was ever found")
}

// TestSearchAlike: what people write differently is the same.
func TestSearchAlike(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"D'Angelo Niccolò":        {"dangelo", "D ANGELO", "d’angelo", "niccolo", "NICCOLO' D'ANGELO", "angelo", "D'Ang"},
		"De Luca Anna":            {"deluca", "De Luca", "luca anna", "anna de luca"},
		"DeLuca Impianti SpA":     {"de luca", "deluca impianti s.p.a."},
		"Alfa & \"Figli\" S.r.l.": {"alfa figli srl", "ALFA", "figli", "alfa & figli s.r.l.", "srl"},
		"Straße AG":               {"strasse", "STRASSE AG"},
		"Łukasz Żółć":             {"lukasz zolc"},
	} {
		keys := nameKeys(name)
		for _, v := range values {
			whole, words := wanted(v)
			has := func(w string) bool {
				return slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, w) })
			}
			require.True(t, has(whole) || !slices.ContainsFunc(words, func(w string) bool { return !has(w) }), "%s should be found by %q: %q", name, v, keys)
		}
	}
	require.NotEqual(t, foldCode("1/2"), foldCode("12"))
	require.Equal(t, foldCode("12/a"), foldCode(" 12 / A"))
	require.LessOrEqual(t, len(foldName(strings.Repeat("è東", 1000))), longestKey)
}

// TestSearchIsATenantsOwn: the same documents, names and numbers of another tenant are not found, and its tokens not taken.
func TestSearchIsATenantsOwn(t *testing.T) {
	t.Parallel()
	s := fillShelf(t, 20)
	own := map[uuid.UUID]bool{}
	for _, u := range s.docs["beta"] {
		own[u.unit] = true
	}
	name := condition{field: conservationv1.SearchField_SEARCH_FIELD_NAME, value: "rossi", words: []string{"rossi"}}
	for _, q := range []query{nil, {{name}}} {
		for _, p := range s.find(t, "beta", q, 100) {
			require.True(t, own[p.Unit])
		}
	}
	require.Len(t, s.find(t, "gamma", nil, 100), 0)
	// A statement that forgets the tenant sees nothing of others all the same.
	var n int
	require.NoError(t, s.db.Tx(context.Background(), "beta", func(ctx context.Context, tx pgx.Tx) error {
		for _, table := range []string{"search_entry", "search_word", "search_party", "search_owed", "distribution", "inspector", "inspection"} {
			err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table+` WHERE tenant_id <> 'beta'`).Scan(&n)
			require.NoError(t, err)
			require.Zero(t, n, table)
		}
		return nil
	}))
}

func TestSearchConditionsAreRead(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]*conservationv1.SearchCondition{
		"nothing in it":   {Field: conservationv1.SearchField_SEARCH_FIELD_NAME, Value: "..."},
		"no year":         {Field: conservationv1.SearchField_SEARCH_FIELD_FISCAL_YEAR, Value: "MMXXVI"},
		"is no date":      {Field: conservationv1.SearchField_SEARCH_FIELD_DATE, From: "2026-02-30"},
		"wants value":     {Field: conservationv1.SearchField_SEARCH_FIELD_DATE},
		"one day":         {Field: conservationv1.SearchField_SEARCH_FIELD_DATE, Value: "2026-02-01", To: "2026-02-02"},
		"are for dates":   {Field: conservationv1.SearchField_SEARCH_FIELD_NUMBER, Value: "1", To: "2026-02-02"},
		"side is for":     {Field: conservationv1.SearchField_SEARCH_FIELD_NUMBER, Value: "1", Side: conservationv1.PartySide_PARTY_SIDE_BUYER},
		"is not tenants/": {Field: conservationv1.SearchField_SEARCH_FIELD_UNIT, Value: "x"},
	} {
		_, err := readQuery(&conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{AllOf: []*conservationv1.SearchCondition{c}}}})
		require.ErrorContains(t, err, want)
		require.Equal(t, "SEARCH_CONDITION_INVALID", fault.Of(err).Code)
		require.Equal(t, "query.any_of[0].all_of[0]", fault.Of(err).Fields[0].Path)
	}
	wide := make(query, 9)
	_, err := wide.and(wide)
	require.Equal(t, "SEARCH_TOO_WIDE", fault.Of(err).Code)
}

// Test08_LotIsSearchedByEachBody: a file with many bodies is one unit and many documents; later receipts change what is said
// of it, and the search made again from the replicas says the same as the one that grew.
func Test08_LotIsSearchedByEachBody(t *testing.T) {
	t.Parallel()
	h := open(t, true)
	ctx := context.Background()
	lot := h.invoice(t, 1)
	for i := range 49 {
		lot.Bodies = append(lot.Bodies, &invoicev1.SettledBody{DocumentType: "TD01", Number: fmt.Sprintf("L%d", i), IssueDate: "2026-10-06"})
	}
	public := h.invoice(t, 2)
	public.State, public.Receipts[0].Type = "INVOICE_STATE_ATTESTED", "AT"
	h.settle(t, ctx, lot, public)
	h.await(t, "taken", func() bool { taken, _, _ := h.counts(); return taken >= 2 })
	api := conservationv1.NewExhibitionServiceClient(h.DialKey("conservation", h.Key(auth.Caller{Role: auth.RoleTenant, Tenant: "acme", Scopes: []string{"archive.read"}})))
	search := func(c ...*conservationv1.SearchCondition) []*conservationv1.FoundDocument {
		var all []*conservationv1.FoundDocument
		req := &conservationv1.SearchDocumentsRequest{Parent: "tenants/acme", PageSize: 20, Query: &conservationv1.SearchQuery{AnyOf: []*conservationv1.SearchAlternative{{AllOf: c}}}}
		for {
			page, err := api.SearchDocuments(ctx, req)
			require.NoError(t, err)
			all = append(all, page.GetDocuments()...)
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				return all
			}
		}
	}
	number := func(v string) *conservationv1.SearchCondition {
		return &conservationv1.SearchCondition{Field: conservationv1.SearchField_SEARCH_FIELD_NUMBER, Value: v}
	}
	require.Len(t, search(), 51)
	one := search(number("l48"))
	require.Len(t, one, 1)
	require.Equal(t, "L48", one[0].GetNumber())
	require.EqualValues(t, 50, one[0].GetBody())
	require.Equal(t, lot.GetFileName(), one[0].GetFileName())
	require.Equal(t, "Käufer <GmbH>", one[0].GetBuyer().GetName())

	h.awaitSealed(t, h.closePackage(t).GetName())
	h.client.ClosePackage(ctx, &conservationv1.ClosePackageRequest{Parent: "tenants/acme", FiscalYear: year, Class: classPublic})
	h.await(t, "sealed", func() bool { _, preserved, _ := h.counts(); return preserved >= 2 })
	public.State = "INVOICE_STATE_PA_ACCEPTED"
	public.Receipts = append(public.Receipts, h.receipt(t, "NE", 2))
	h.settle(t, ctx, public)
	accepted := &conservationv1.SearchCondition{Field: conservationv1.SearchField_SEARCH_FIELD_STATE, Value: "PA_ACCEPTED"}
	h.await(t, "said", func() bool { return len(search(accepted)) == 1 })
	require.Equal(t, "PA_ACCEPTED", search(accepted)[0].GetState())
	require.NotEmpty(t, search(accepted)[0].GetPackage())

	grown := h.entries(t)
	require.Len(t, grown, 51)
	h.admin(t, `UPDATE search_entry SET number = 'forged', state = 'DELIVERED', seller = gen_random_uuid()`)
	require.NotEqual(t, grown, h.entries(t))
	_, err := conservationv1.NewExhibitionServiceClient(h.Operator("conservation")).RebuildSearch(ctx, &conservationv1.RebuildSearchRequest{Parent: "tenants/acme"})
	require.NoError(t, err)
	// It goes on when all are there again: what is in packages comes after what was taken in.
	h.await(t, "made again", func() bool {
		return slices.Equal(grown, h.entries(t)) && h.counted(t, "archive_cursor WHERE kind = 'SEARCH'") == 0
	})

	// And what was there before there was a search.
	h.admin(t, `DELETE FROM search_entry; DELETE FROM search_word; DELETE FROM search_party; INSERT INTO search_owed (unit_id, tenant_id) SELECT id, tenant_id FROM unit`)
	require.NoError(t, h.service.catchUp(ctx))
	require.Equal(t, grown, h.entries(t))
	require.Len(t, search(number("L48")), 1)
}

func (h *house) entries(t testing.TB) []string {
	t.Helper()
	rows, err := pgtest.Admin(t, h.DB("conservation")).Query(context.Background(), `SELECT e::text FROM search_entry e ORDER BY 1`)
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}
