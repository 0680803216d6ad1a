package invoice

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func TestItemLife(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	made := w.addItem("hour", hour())
	require.Equal(t, "tenants/acme/items/hour", made.GetName())
	got, err := api.GetItem(ctx, &invoicev1.GetItemRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(made, got))
	_, err = api.CreateItem(ctx, &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: "hour", Item: hour()})
	requireFault(t, err, "ITEM_EXISTS", "item_id", "ITEM_EXISTS")
	_, err = api.CreateItem(ctx, &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: "twin", Item: hour()})
	requireFault(t, err, "EXTERNAL_ID_TAKEN", "item.external_id", "EXTERNAL_ID_TAKEN")
	require.ErrorContains(t, err, "tenants/acme/items/hour")

	dearer := &invoicev1.Item{Name: made.GetName(), Etag: made.GetEtag(), Line: &invoicev1.Line{UnitPrice: "95.50"}}
	changed, err := api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: dearer, UpdateMask: mask("line.unit_price", "line.codes")})
	require.NoError(t, err)
	require.Equal(t, "95.50", changed.GetLine().GetUnitPrice())
	require.Equal(t, "Ora di consulenza", changed.GetLine().GetDescription())
	require.Empty(t, changed.GetLine().GetCodes(), "a list is replaced as a whole")
	_, err = api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: dearer, UpdateMask: mask("line.unit_price")})
	requireFault(t, err, "ETAG_MISMATCH", "item.etag", "ETAG_MISMATCH")
	_, err = api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: &invoicev1.Item{Name: made.GetName(), Line: &invoicev1.Line{}}, UpdateMask: mask("line.description")})
	requireFault(t, err, "ITEM_INVALID", "item.line.description", "FIELD_INVALID")
	_, err = api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: changed, UpdateMask: mask("name")})
	requireFault(t, err, "UPDATE_MASK_INVALID", "update_mask", "UPDATE_MASK_INVALID")

	_, err = api.DeleteItem(ctx, &invoicev1.DeleteItemRequest{Name: made.GetName(), Etag: made.GetEtag()})
	requireFault(t, err, "ETAG_MISMATCH", "etag", "ETAG_MISMATCH")
	_, err = api.DeleteItem(ctx, &invoicev1.DeleteItemRequest{Name: made.GetName()})
	require.NoError(t, err)
	_, err = api.GetItem(ctx, &invoicev1.GetItemRequest{Name: made.GetName()})
	requireFault(t, err, "ITEM_NOT_FOUND", "", "")
	_, err = api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: changed})
	requireFault(t, err, "ITEM_NOT_FOUND", "", "")
	for action, n := range map[string]int{"item.create": 1, "item.update": 1, "item.delete": 1} {
		require.Equal(t, n, w.audited(action, made.GetName()), action)
	}
}

func TestListItems(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	w.addItem("hour", hour())
	for _, id := range []string{"a", "b", "c"} {
		w.addItem(id, &invoicev1.Item{ExternalId: id, Line: &invoicev1.Line{Description: "Vite  ØÀ " + strings.ToUpper(id), UnitPrice: "0.05", VatRate: "22.00"}})
	}
	list := func(filter, token string, size int32) (ids string, next string) {
		t.Helper()
		r, err := api.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: "tenants/acme", Filter: filter, PageToken: token, PageSize: size})
		require.NoError(t, err, filter)
		for _, i := range r.GetItems() {
			ids += strings.TrimPrefix(i.GetName(), "tenants/acme/items/") + " "
		}
		return ids, r.GetNextPageToken()
	}
	for filter, want := range map[string]string{"": "a b c hour ", `description:"VITE øà"`: "a b c ", `external_id = sku-1`: "hour ", `description:"vite øà b"`: "b ", `description:nothing`: ""} {
		got, next := list(filter, "", 0)
		require.Equal(t, want, got, filter)
		require.Empty(t, next)
	}
	first, token := list("description:vite", "", 2)
	require.Equal(t, "a b ", first)
	second, end := list("description:vite", token, 2)
	require.Equal(t, "c ", second)
	require.Empty(t, end)
	_, err := api.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: "tenants/acme", PageToken: token})
	requireFault(t, err, "PAGE_TOKEN_INVALID", "page_token", "PAGE_TOKEN_INVALID")
	_, err = api.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: "tenants/acme", Filter: "unit_price = 1"})
	requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
	_, err = api.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: "tenants/acme", Filter: "description = vite"})
	requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
}

// TestItemsThatNoDraftCouldUse: each is refused with the field that is wrong; what is right passes.
func TestItemsThatNoDraftCouldUse(t *testing.T) {
	for name, v := range map[string]struct {
		change      func(*invoicev1.Line)
		field, code string
	}{
		"no description":       {func(l *invoicev1.Line) { l.Description = " " }, "item.line.description", "FIELD_INVALID"},
		"description too long": {func(l *invoicev1.Line) { l.Description = strings.Repeat("x", 1001) }, "item.line.description", "FIELD_INVALID"},
		"price in words":       {func(l *invoicev1.Line) { l.UnitPrice = "ten" }, "item.line.unit_price", "FIELD_INVALID"},
		"price with comma":     {func(l *invoicev1.Line) { l.UnitPrice = "1,50" }, "item.line.unit_price", "FIELD_INVALID"},
		"rate below one":       {func(l *invoicev1.Line) { l.VatRate = "0.22" }, "item.line.vat_rate", "00424"},
		"rate and nature":      {func(l *invoicev1.Line) { l.Nature = "N4" }, "item.line.nature", "00401"},
		"generic nature":       {func(l *invoicev1.Line) { l.VatRate, l.Nature = "", "N2" }, "item.line.nature", "FIELD_INVALID"},
		"unit":                 {func(l *invoicev1.Line) { l.Unit = strings.Repeat("x", 11) }, "item.line.unit", "FIELD_INVALID"},
		"code without type":    {func(l *invoicev1.Line) { l.Codes[0].Type = "" }, "item.line.codes[0].type", "FIELD_INVALID"},
		"discount of nothing":  {func(l *invoicev1.Line) { l.Discounts = []*invoicev1.Discount{{}} }, "item.line.discounts[0]", "00438"},
		"kind":                 {func(l *invoicev1.Line) { l.Kind = "XX" }, "item.line.kind", "FIELD_INVALID"},
		"quantity":             {func(l *invoicev1.Line) { l.Quantity = "2" }, "item.line.quantity", "MUST_BE_EMPTY"},
		"refers to another":    {func(l *invoicev1.Line) { l.Item = "tenants/acme/items/x" }, "item.line.item", "MUST_BE_EMPTY"},
		"too large":            {func(l *invoicev1.Line) { l.LegalReference = strings.Repeat("x", 70_000) }, "item.line", "TOO_LARGE"},
		"fine: itself":         {func(*invoicev1.Line) {}, "", ""},
		"fine: exempt":         {func(l *invoicev1.Line) { l.VatRate, l.Nature, l.LegalReference = "", "N4", "art. 10 DPR 633/72" }, "", ""},
		"fine: price later":    {func(l *invoicev1.Line) { l.UnitPrice = "" }, "", ""},
		"fine: VAT later":      {func(l *invoicev1.Line) { l.VatRate = "" }, "", ""},
		"fine: gift":           {func(l *invoicev1.Line) { l.UnitPrice = "0.00" }, "", ""},
		"fine: credit":         {func(l *invoicev1.Line) { l.UnitPrice = "-10.00" }, "", ""},
		"fine: dear":           {func(l *invoicev1.Line) { l.UnitPrice = "99999999.12345678" }, "", ""},
		"fine: discount":       {func(l *invoicev1.Line) { l.Discounts = []*invoicev1.Discount{{Percent: "10.00"}} }, "", ""},
		"fine: simplified":     {func(l *invoicev1.Line) { l.VatRate, l.VatAmount, l.Codes, l.Unit = "", "14.43", nil, "" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := hour()
			v.change(i.GetLine())
			before := proto.CloneOf(i)
			err := checkItem(i)
			require.True(t, proto.Equal(before, i), "a trial changes nothing")
			if v.field == "" {
				require.NoError(t, err)
				return
			}
			requireFault(t, err, "ITEM_INVALID", v.field, v.code)
		})
	}
}
