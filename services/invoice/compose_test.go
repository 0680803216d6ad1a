package invoice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/compose"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

// draft is a valid one of acme; the company fills in who sells.
func draft(number string) *invoicev1.Draft {
	return &invoicev1.Draft{
		Seller: &invoicev1.DraftParty{Address: &invoicev1.Address{Street: "Via del Sigillo", Number: "1", PostCode: "20121", City: "Milano", Province: "MI"}},
		Buyer: &invoicev1.DraftParty{Name: "Cooperativa Il Timbro", VatNumber: fatturapatest.VATNumber(77),
			Address: &invoicev1.Address{Street: "Piazza della Bolla", PostCode: "00187", City: "Roma", Province: "RM"}},
		Document: &invoicev1.DraftDocument{Date: "2026-03-16", Number: number},
		Lines:    []*invoicev1.Line{{Description: "Consulenza", Quantity: "2", UnitPrice: "50.00", VatRate: "22.00"}},
	}
}

func (w *world) createDraft(d *invoicev1.Draft, series string) (*invoicev1.Invoice, error) {
	return w.api.CreateInvoice(w.t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: d, Series: series, RequestId: uuid.NewString()})
}

func (w *world) original(inv *invoicev1.Invoice) string {
	w.t.Helper()
	doc, err := w.api.GetDocument(w.t.Context(), &invoicev1.GetDocumentRequest{Name: inv.GetName() + "/documents/original"})
	require.NoError(w.t, err)
	return string(doc.GetContent())
}

var progressivo = regexp.MustCompile(`<ProgressivoInvio>([A-Z0-9]{10})</ProgressivoInvio>`)

// A draft becomes a file that the whole path takes as if it had been sent as one.
func TestDraftBecomesAnInvoice(t *testing.T) {
	w := start(t)
	inv, err := w.createDraft(draft("7/A"), "")
	require.NoError(t, err)
	require.Equal(t, "FPR12 IT"+acmeVAT()+" Acme S.r.l.", inv.GetFormat()+" "+inv.GetSeller().GetVatNumber()+" "+inv.GetSeller().GetDisplayName())
	require.Equal(t, "7/A 122.00 EUR", inv.GetBodies()[0].GetNumber()+" "+inv.GetBodies()[0].GetTotalAmount()+" "+inv.GetBodies()[0].GetCurrency())
	require.Equal(t, "2026-03-28 art. 21 c. 4 DPR 633/72", inv.GetBodies()[0].GetIssueTerm().GetDate()+" "+inv.GetBodies()[0].GetIssueTerm().GetClause())
	require.True(t, proto.Equal(inv, w.get(inv.GetName())), "read back as answered")

	second, err := w.createDraft(draft("8/A"), "")
	require.NoError(t, err)
	a, b := progressivo.FindStringSubmatch(w.original(inv)), progressivo.FindStringSubmatch(w.original(second))
	require.NotNil(t, a)
	require.NotEqual(t, a[1], b[1], "each file has its own progressive")

	_, err = w.createDraft(draft("7/A"), "")
	requireFault(t, err, "INVOICE_DUPLICATE", "draft.document.number", "00404")
}

func TestRepeatedDraftMakesOneInvoice(t *testing.T) {
	w := start(t)
	req := &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: draft("1"), RequestId: uuid.NewString()}
	first, err := w.api.CreateInvoice(t.Context(), req)
	require.NoError(t, err)
	again, err := w.api.CreateInvoice(t.Context(), req)
	require.NoError(t, err)
	require.True(t, proto.Equal(first, again))
	req.Draft.Lines[0].UnitPrice = "51.00"
	_, err = w.api.CreateInvoice(t.Context(), req)
	requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")
	require.Equal(t, 1, w.count(`SELECT count(*) FROM invoice`))
}

func TestDraftsThatAreRefused(t *testing.T) {
	w := start(t)
	w.series("fe", "{number}")
	for name, c := range map[string]struct {
		change      func(*invoicev1.CreateInvoiceRequest)
		code, field string
		reason      string
	}{
		"content too": {func(r *invoicev1.CreateInvoiceRequest) { r.Content = file("1") }, "REQUEST_INVALID", "draft", "EXCLUSIVE"},
		"neither":     {func(r *invoicev1.CreateInvoiceRequest) { r.Draft = nil }, "REQUEST_INVALID", "content", "REQUIRED"},
		"content with series": {func(r *invoicev1.CreateInvoiceRequest) {
			r.Draft, r.Content, r.Series = nil, file("1"), acmeMain+"/series/fe"
		}, "REQUEST_INVALID", "series", "EXCLUSIVE"},
		"rate":              {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Lines[0].VatRate = "a lot" }, "DRAFT_INVALID", "draft.lines[0].vat_rate", "DRAFT_INVALID"},
		"no lines":          {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Lines = nil }, "DRAFT_INVALID", "draft.lines", "DRAFT_INVALID"},
		"no address":        {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Seller = nil }, "DRAFT_INVALID", "draft.seller.address.street", "DRAFT_INVALID"},
		"no number":         {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Document.Number = "" }, "DRAFT_INVALID", "draft.document.number", ""},
		"future":            {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Document.Date = "2099-01-01" }, "INVOICE_INVALID", "draft.document.date", "00403"},
		"other seller":      {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Seller.VatNumber = fatturapatest.VATNumber(55) }, "SELLER_MISMATCH", "draft.seller", "SELLER_MISMATCH"},
		"series and number": {func(r *invoicev1.CreateInvoiceRequest) { r.Series = acmeMain + "/series/fe" }, "NUMBER_AND_SERIES", "draft.document.number", "NUMBER_AND_SERIES"},
		"series, no date":   {func(r *invoicev1.CreateInvoiceRequest) { r.Series, r.Draft.Document = acmeMain+"/series/fe", nil }, "DRAFT_INVALID", "draft.document.date", "00200"},
		"no such series": {func(r *invoicev1.CreateInvoiceRequest) {
			r.Series, r.Draft.Document.Number = acmeMain+"/series/none", ""
		}, "SERIES_NOT_FOUND", "series", "SERIES_NOT_FOUND"},
		"series of another": {func(r *invoicev1.CreateInvoiceRequest) {
			r.Series, r.Draft.Document.Number = "tenants/acme/companies/twin/series/fe", ""
		}, "SERIES_OF_ANOTHER", "series", "SERIES_OF_ANOTHER"},
		"contact of another": {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Buyer.Contact = "contacts/x" }, "NAME_INVALID", "draft.buyer.contact", "NAME_INVALID"},
		"unknown contact":    {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Buyer.Contact = "tenants/acme/contacts/nobody" }, "CONTACT_NOT_FOUND", "draft.buyer.contact", "CONTACT_NOT_FOUND"},
		"unknown item":       {func(r *invoicev1.CreateInvoiceRequest) { r.Draft.Lines[0].Item = "tenants/acme/items/nothing" }, "ITEM_NOT_FOUND", "draft.lines[0].item", "ITEM_NOT_FOUND"},
	} {
		req := &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: draft("1"), RequestId: uuid.NewString()}
		c.change(req)
		_, err := w.api.CreateInvoice(t.Context(), req)
		f := fault.Of(err)
		require.NotNil(t, f, name)
		require.Equal(t, c.code, f.Code, "%s: %v", name, err)
		found := false
		for _, x := range f.Fields {
			found = found || x.Path == c.field && (c.reason == "" || x.Code == c.reason)
		}
		require.True(t, found, "%s: %+v", name, f.Fields)
	}
	require.Zero(t, w.count(`SELECT count(*) FROM invoice`))
	require.Zero(t, w.count(`SELECT count(*) FROM series_year`), "what is refused uses no number")
}

func TestComposeShowsAndStoresNothing(t *testing.T) {
	w := start(t)
	w.series("fe", "FE/{year}/{number:04}")
	d := draft("")
	d.Lines[0].Description = "Perizia – “sigillo”"
	d.Lines = append(d.Lines, &invoicev1.Line{Description: "Fuori campo", UnitPrice: "100.00", Nature: "N2.2", LegalReference: "art. 7-ter"})
	shown, err := w.api.ComposeInvoice(t.Context(), &invoicev1.ComposeInvoiceRequest{Parent: acmeMain, Draft: d, Series: acmeMain + "/series/fe"})
	require.NoError(t, err)
	require.Contains(t, string(shown.GetContent()), "<Numero>FE/2026/0001</Numero>")
	require.Equal(t, "200.00 22.00 222.00 222.00", strings.Join([]string{shown.GetTotals().GetTaxable(), shown.GetTotals().GetTax(), shown.GetTotals().GetDocument(), shown.GetTotals().GetPayable()}, " "))
	require.Len(t, shown.GetTotals().GetSummaries(), 2)
	require.Equal(t, "$.lines[0].description", shown.GetChanges()[0].GetPath())
	require.NotEmpty(t, shown.GetAdvice(), "stamp duty is due")
	require.Equal(t, "2026-03-28", shown.GetIssueTerm().GetDate())
	require.Zero(t, w.count(`SELECT count(*) FROM series_year`))
	w.nothingBehind()

	valid, err := w.api.CreateInvoice(t.Context(), &invoicev1.CreateInvoiceRequest{Parent: acmeMain, Draft: d, Series: acmeMain + "/series/fe", ValidateOnly: true})
	require.NoError(t, err)
	require.Equal(t, "FE/2026/0001", valid.GetBodies()[0].GetNumber())
	require.Empty(t, valid.GetName())
	require.Zero(t, w.count(`SELECT count(*) FROM series_year`))
}

// Every field of a draft has its twin in the request of the composer, and the other way round.
func TestDraftIsTheRequestOfTheComposer(t *testing.T) {
	own := map[string]bool{"DraftParty.contact": true, "Line.item": true}
	seen := map[string]bool{}
	var compare func(m protoreflect.MessageDescriptor, s reflect.Type)
	compare = func(m protoreflect.MessageDescriptor, s reflect.Type) {
		if seen[string(m.Name())] {
			return
		}
		seen[string(m.Name())] = true
		twins := map[string]reflect.Type{}
		for i := range s.NumField() {
			name, _, _ := strings.Cut(s.Field(i).Tag.Get("json"), ",")
			twins[name] = s.Field(i).Type
		}
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			path := string(m.Name()) + "." + string(f.Name())
			if own[path] {
				delete(own, path)
				continue
			}
			twin, ok := twins[f.JSONName()]
			require.True(t, ok, "%s has no twin %s.%s", path, s, f.JSONName())
			delete(twins, f.JSONName())
			if f.IsList() {
				require.Equal(t, reflect.Slice, twin.Kind(), path)
				twin = twin.Elem()
			}
			for twin.Kind() == reflect.Pointer {
				twin = twin.Elem()
			}
			switch f.Kind() {
			case protoreflect.MessageKind:
				compare(f.Message(), twin)
			case protoreflect.StringKind:
				require.Equal(t, reflect.String, twin.Kind(), path)
			case protoreflect.BoolKind:
				require.Equal(t, reflect.Bool, twin.Kind(), path)
			case protoreflect.Int32Kind:
				require.Equal(t, reflect.Int, twin.Kind(), path)
			case protoreflect.BytesKind:
				require.Equal(t, reflect.TypeFor[[]byte](), twin, path)
			default:
				t.Fatalf("%s: kind %s is not compared", path, f.Kind())
			}
		}
		require.Empty(t, twins, "%s lacks fields of %s", m.Name(), s)
	}
	compare((&invoicev1.Draft{}).ProtoReflect().Descriptor(), reflect.TypeFor[compose.Request]())
	require.Empty(t, own)
	require.Greater(t, len(seen), 20)
}

// requests are those that the composer is tested with, as drafts.
func requests(t *testing.T) map[string]*invoicev1.Draft {
	t.Helper()
	files, err := filepath.Glob("../format/fatturapa/compose/testdata/*.json")
	require.NoError(t, err)
	out := map[string]*invoicev1.Draft{}
	for _, f := range files {
		if strings.HasSuffix(f, ".report.json") {
			continue
		}
		raw, err := os.ReadFile(f)
		require.NoError(t, err)
		r, err := compose.ReadRequest(raw)
		require.NoError(t, err)
		raw, err = json.Marshal(r) // with numbers as text
		require.NoError(t, err)
		d := &invoicev1.Draft{}
		require.NoError(t, protojson.Unmarshal(raw, d), f)
		out[filepath.Base(f)] = d
	}
	require.Greater(t, len(out), 25)
	return out
}

// What the composer was tested with goes through the contract unchanged, byte for byte.
func TestEveryRequestGoesThroughTheContract(t *testing.T) {
	for name, d := range requests(t) {
		raw, err := protojson.Marshal(d)
		require.NoError(t, err)
		got, err := compose.ReadRequest(raw)
		require.NoError(t, err, name)
		original, err := os.ReadFile("../format/fatturapa/compose/testdata/" + name)
		require.NoError(t, err)
		want, err := compose.ReadRequest(original)
		require.NoError(t, err)
		a, _, err := compose.Compose(want)
		require.NoError(t, err)
		b, _, err := compose.Compose(got)
		require.NoError(t, err, name)
		require.Equal(t, string(a), string(b), name)
	}
}

// Another number in a composed file is the file composed with that number.
func TestRenumberedIsComposedAgain(t *testing.T) {
	p, err := parsePattern("FE {yy}-{number:03}", "pattern")
	require.NoError(t, err)
	for name, d := range requests(t) {
		d.Document.Number = p.write(1, 2026)
		first := composed(t, name, d)
		d.Document.Number = p.write(1234, 2026)
		want := composed(t, name, d)
		got, err := renumbered(first, p.write(1, 2026), p.write(1234, 2026))
		require.NoError(t, err, name)
		require.Equal(t, string(want), string(got), name)
	}
	_, err = renumbered([]byte("<a/>"), "1", "2")
	require.Error(t, err)
}

func composed(t *testing.T, name string, d *invoicev1.Draft) []byte {
	t.Helper()
	raw, err := protojson.Marshal(d)
	require.NoError(t, err)
	r, err := compose.ReadRequest(raw)
	require.NoError(t, err)
	xml, _, err := compose.Compose(r)
	require.NoError(t, err, name)
	return xml
}

func TestPathsInTheDraft(t *testing.T) {
	for path, want := range map[string]string{
		"$.lines[3].vatRate": "draft.lines[3].vat_rate", "$.document.number": "draft.document.number", "$.lines": "draft.lines",
		"$.payments[0].instalments[1].dueDate": "draft.payments[0].instalments[1].due_date", "$": "draft", "$.stampDuty.amount": "draft.stamp_duty.amount",
		"$.seller.permanentEstablishment.city": "draft.seller.permanent_establishment.city", "$.document.article73": "draft.document.article73",
		"/FatturaElettronica/FatturaElettronicaBody": "draft", "$.lines[0].codes[1].value": "draft.lines[0].codes[1].value",
	} {
		require.Equal(t, want, draftPath(path), path)
	}
}

func TestProgressivesNeverRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(1, 1<<50).Draw(t, "from")
		seen := map[string]bool{}
		for n := from; n < from+200; n++ {
			p := progressive(n)
			if len(p) != 10 || seen[p] {
				t.Fatalf("%d gives %q", n, p)
			}
			seen[p] = true
		}
	})
}

// The book fills what is empty and never mixes two ways to say the same.
func TestFillEmpty(t *testing.T) {
	d := &invoicev1.DraftParty{FirstName: "Ada", Address: &invoicev1.Address{City: "Roma"}, Representative: &invoicev1.Representative{VatNumber: "1"}}
	fillEmpty(d.ProtoReflect(), (&invoicev1.DraftParty{Name: "Ditta", VatCountry: "IT", VatNumber: "2", Phone: "06",
		Address: &invoicev1.Address{Street: "Via", City: "Milano"}, Representative: &invoicev1.Representative{Name: "R", VatCountry: "DE"}}).ProtoReflect())
	require.Equal(t, "Ada  IT 2 06", strings.Join([]string{d.GetFirstName(), d.GetName(), d.GetVatCountry(), d.GetVatNumber(), d.GetPhone()}, " "))
	require.Equal(t, "Roma", d.GetAddress().GetCity()+d.GetAddress().GetStreet(), "an address is one thing")
	require.Equal(t, "1 R", d.GetRepresentative().GetVatNumber()+d.GetRepresentative().GetVatCountry()+" "+d.GetRepresentative().GetName())

	l := &invoicev1.Line{Nature: "N4"}
	fillEmpty(l.ProtoReflect(), (&invoicev1.Line{Description: "Voce", UnitPrice: "1.00", VatRate: "22.00"}).ProtoReflect())
	require.Equal(t, "Voce 1.00 N4 ", fmt.Sprint(l.GetDescription(), " ", l.GetUnitPrice(), " ", l.GetNature(), " ", l.GetVatRate()))
}

// A draft takes parties and lines from the book.
func TestDraftFromTheBook(t *testing.T) {
	w := start(t)
	books := invoicev1.NewBookServiceClient(w.Tenant("invoice", "acme"))
	d := draft("1")
	party := proto.CloneOf(d.GetBuyer())
	_, err := books.CreateContact(t.Context(), &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "timbro",
		Contact: &invoicev1.Contact{Party: party, RecipientCode: "ABC1234"}})
	require.NoError(t, err)
	_, err = books.CreateItem(t.Context(), &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: "ora",
		Item: &invoicev1.Item{Line: &invoicev1.Line{Description: "Ora di lavoro", Unit: "h", UnitPrice: "80.00", VatRate: "22.00"}}})
	require.NoError(t, err)
	d.Buyer = &invoicev1.DraftParty{Contact: "tenants/acme/contacts/timbro"}
	d.Lines = []*invoicev1.Line{{Item: "tenants/acme/items/ora", Quantity: "3"}, {Item: "tenants/acme/items/ora", UnitPrice: "60.00"}}
	inv, err := w.createDraft(d, "")
	require.NoError(t, err)
	require.Equal(t, "ABC1234 Cooperativa Il Timbro 366.00", inv.GetRecipientCode()+" "+inv.GetBuyer().GetDisplayName()+" "+inv.GetBodies()[0].GetTotalAmount())
	require.Equal(t, 2, strings.Count(w.original(inv), "<Descrizione>Ora di lavoro</Descrizione>"))
}

func TestDraftOfThePurchaser(t *testing.T) {
	w := start(t)
	raw, err := os.ReadFile("../format/fatturapa/compose/testdata/td17_services_abroad.json")
	require.NoError(t, err)
	d := &invoicev1.Draft{}
	require.NoError(t, protojson.Unmarshal(raw, d))
	d.Buyer = &invoicev1.DraftParty{Address: d.GetBuyer().GetAddress(), Name: "Acme"}
	d.Transmission = nil
	w.n.mu.Lock()
	w.n.companies[acmeMain].RecipientCode = "ACME123"
	w.n.mu.Unlock()
	inv, err := w.createDraft(d, "")
	require.NoError(t, err)
	require.Equal(t, "IT"+acmeVAT()+" ACME123", inv.GetBuyer().GetVatNumber()+" "+inv.GetRecipientCode())
}

// Names of fields in JSON are those of the composer too.
func TestDraftInJSON(t *testing.T) {
	raw, err := protojson.Marshal(draft("1"))
	require.NoError(t, err)
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, raw))
	require.Contains(t, compact.String(), `"unitPrice":"50.00"`)
}
