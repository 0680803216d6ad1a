package invoice

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/fault"
)

func (w *world) book(tenant string, scopes ...string) invoicev1.BookServiceClient {
	return invoicev1.NewBookServiceClient(w.Tenant("invoice", tenant, scopes...))
}

// rossi is a consumer, ferro a company, comune a public body, meier a business abroad.
func rossi() *invoicev1.Contact {
	return &invoicev1.Contact{ExternalId: "crm-1", Party: &invoicev1.DraftParty{FirstName: "Mario", LastName: "Rossi", TaxCode: "RSSMRA85T10A562S",
		Address: &invoicev1.Address{Street: "Via Roma", Number: "1", PostCode: "56017", City: "San Giuliano Terme", Province: "PI"}}}
}

func ferro() *invoicev1.Contact {
	return &invoicev1.Contact{RecipientCode: "ABC1234", Party: &invoicev1.DraftParty{Name: "Ferro & Figli S.r.l.", VatNumber: fatturapatest.VATNumber(7),
		Address: &invoicev1.Address{Street: "Via del Ferro 3", PostCode: "20121", City: "Milano", Province: "MI", Country: "IT"}}}
}

func comune() *invoicev1.Contact {
	return &invoicev1.Contact{RecipientCode: "UFABCD", Party: &invoicev1.DraftParty{Kind: "publicBody", Name: "Comune di Esempio", TaxCode: fatturapatest.VATNumber(8),
		Address: &invoicev1.Address{Street: "Piazza Municipio 1", PostCode: "00100", City: "Roma"}}}
}

func meier() *invoicev1.Contact {
	return &invoicev1.Contact{Party: &invoicev1.DraftParty{Name: "Meier GmbH", VatCountry: "DE", VatNumber: "129273398",
		Address: &invoicev1.Address{Street: "Hauptstr. 1", PostCode: "10115", City: "Berlin", Country: "DE"}}}
}

func hour() *invoicev1.Item {
	return &invoicev1.Item{ExternalId: "sku-1", Line: &invoicev1.Line{Description: "Ora di consulenza", Unit: "h", UnitPrice: "80.00", VatRate: "22.00",
		Codes: []*invoicev1.ItemCode{{Type: "SKU", Value: "H-1"}}}}
}

func (w *world) addContact(id string, c *invoicev1.Contact) *invoicev1.Contact {
	w.t.Helper()
	made, err := w.book("acme").CreateContact(w.t.Context(), &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: id, Contact: c})
	require.NoError(w.t, err)
	return made
}

func (w *world) addItem(id string, i *invoicev1.Item) *invoicev1.Item {
	w.t.Helper()
	made, err := w.book("acme").CreateItem(w.t.Context(), &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: id, Item: i})
	require.NoError(w.t, err)
	return made
}

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

// audited counts the acts that were recorded.
func (w *world) audited(action, resource string) int {
	w.t.Helper()
	return w.count(`SELECT count(*) FROM audit_entry WHERE action = $1 AND resource = $2 AND tenant_id = 'acme' AND actor <> ''`, action, resource)
}

// TestBookIsTheTenantsOwn: nobody reads, changes or finds what belongs to another tenant, by any method.
func TestBookIsTheTenantsOwn(t *testing.T) {
	w := start(t)
	c, i := w.addContact("rossi", rossi()), w.addItem("hour", hour())
	look := acmeMain + "/look"
	brio := w.book("brio")
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"create contact": func() error {
			_, err := brio.CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "x", Contact: ferro()})
			return err
		},
		"get contact": func() error {
			_, err := brio.GetContact(ctx, &invoicev1.GetContactRequest{Name: c.GetName()})
			return err
		},
		"list contacts": func() error {
			_, err := brio.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme"})
			return err
		},
		"update contact": func() error {
			_, err := brio.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: c})
			return err
		},
		"delete contact": func() error {
			_, err := brio.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: c.GetName()})
			return err
		},
		"create item": func() error {
			_, err := brio.CreateItem(ctx, &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: "x", Item: hour()})
			return err
		},
		"get item": func() error { _, err := brio.GetItem(ctx, &invoicev1.GetItemRequest{Name: i.GetName()}); return err },
		"list items": func() error {
			_, err := brio.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: "tenants/acme"})
			return err
		},
		"update item": func() error { _, err := brio.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: i}); return err },
		"delete item": func() error {
			_, err := brio.DeleteItem(ctx, &invoicev1.DeleteItemRequest{Name: i.GetName()})
			return err
		},
		"get look": func() error { _, err := brio.GetLook(ctx, &invoicev1.GetLookRequest{Name: look}); return err },
		"update look": func() error {
			_, err := brio.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: look, LanguageCode: "en"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { requireFault(t, call(), "FOREIGN_RESOURCE", "", "") })
	}
	// Nor does the database show it to another tenant, whatever the code above it does.
	err := w.DB("invoice").Tx(ctx, "brio", func(ctx context.Context, tx pgx.Tx) error {
		_, err := entries{}.Contact(ctx, tx, c.GetName())
		requireFault(t, err, "CONTACT_NOT_FOUND", "", "")
		_, err = entries{}.Item(ctx, tx, i.GetName())
		requireFault(t, err, "ITEM_NOT_FOUND", "", "")
		tag, err := tx.Exec(ctx, `UPDATE contact SET external_id = 'stolen'`)
		require.NoError(t, err)
		require.Zero(t, tag.RowsAffected())
		_, err = tx.Exec(ctx, `INSERT INTO item (tenant_id, id, line, external_id, search_description, create_time, update_time) VALUES ('acme', 'x', '', '', '', now(), now())`)
		require.Error(t, err)
		return errors.New("roll back")
	})
	require.ErrorContains(t, err, "roll back")

	// What the scopes are for.
	reader := w.book("acme", "book.read")
	_, err = reader.GetContact(ctx, &invoicev1.GetContactRequest{Name: c.GetName()})
	require.NoError(t, err)
	_, err = reader.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: c.GetName()})
	requireFault(t, err, "SCOPE_MISSING", "", "")
	_, err = reader.GetLook(ctx, &invoicev1.GetLookRequest{Name: look})
	requireFault(t, err, "SCOPE_MISSING", "", "")
	_, err = invoicev1.NewBookServiceClient(w.Operator("invoice")).GetContact(ctx, &invoicev1.GetContactRequest{Name: c.GetName()})
	requireFault(t, err, "ROLE_NOT_ALLOWED", "", "")
}

// TestChangedPaths: masks as AIP-134 has them.
func TestChangedPaths(t *testing.T) {
	for name, c := range map[string]struct {
		in   *invoicev1.Contact
		mask []string
		want []string
	}{
		"no mask":               {&invoicev1.Contact{Name: "n", Etag: "e", Party: &invoicev1.DraftParty{Name: "A"}, ExternalId: "x"}, nil, []string{"party", "external_id"}},
		"no mask, empty party":  {&invoicev1.Contact{Party: &invoicev1.DraftParty{}, ExternalId: "x"}, nil, []string{"external_id"}},
		"nothing set":           {&invoicev1.Contact{}, nil, nil},
		"all":                   {&invoicev1.Contact{}, []string{"*"}, changeableOfContact},
		"clears":                {&invoicev1.Contact{}, []string{"external_id"}, []string{"external_id"}},
		"within":                {&invoicev1.Contact{}, []string{"party.address.city", "party.phone"}, []string{"party.address.city", "party.phone"}},
		"name cannot be":        {&invoicev1.Contact{}, []string{"name"}, nil},
		"times neither":         {&invoicev1.Contact{}, []string{"external_id", "update_time"}, nil},
		"nor etag":              {&invoicev1.Contact{}, []string{"etag"}, nil},
		"no such field":         {&invoicev1.Contact{}, []string{"colour"}, nil},
		"no such field within":  {&invoicev1.Contact{}, []string{"party.colour"}, nil},
		"nothing within a text": {&invoicev1.Contact{}, []string{"external_id.x"}, nil},
		"empty":                 {&invoicev1.Contact{}, []string{""}, nil},
		"dots":                  {&invoicev1.Contact{}, []string{"party..city"}, nil},
		"star among others":     {&invoicev1.Contact{}, []string{"*", "party"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			paths, err := changedPaths(c.in, c.mask, changeableOfContact)
			if len(c.mask) > 0 && c.want == nil {
				requireFault(t, err, "UPDATE_MASK_INVALID", "update_mask", "UPDATE_MASK_INVALID")
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, paths)
		})
	}
	_, err := changedPaths(&invoicev1.Item{}, []string{"line.codes.value"}, changeableOfItem)
	requireFault(t, err, "UPDATE_MASK_INVALID", "", "") // a list is changed as a whole
}

func TestCopyPaths(t *testing.T) {
	dst := ferro()
	src := &invoicev1.Contact{Party: &invoicev1.DraftParty{Phone: "0212345", Address: &invoicev1.Address{City: "Monza"}}}
	copyPaths(dst, src, []string{"party.phone", "party.address.city", "party.address.province", "party.representative.name", "recipient_code"})
	want := ferro()
	want.Party.Phone, want.Party.Address.City, want.Party.Address.Province, want.RecipientCode = "0212345", "Monza", "", ""
	require.True(t, proto.Equal(want, dst), "%v", dst)

	copyPaths(dst, src, []string{"party"})
	require.True(t, proto.Equal(src, &invoicev1.Contact{Party: dst.GetParty()}), "a message is replaced as a whole")
	dst.Party.Address.City = "Lodi"
	require.Equal(t, "Monza", src.GetParty().GetAddress().GetCity(), "the request is nobody's to change")
}

// TestBookRequestIDs: a repeat gives the first answer and does nothing.
func TestBookRequestIDs(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	create := &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "ferro", Contact: ferro(), RequestId: uuid.NewString()}
	first, err := api.CreateContact(ctx, create)
	require.NoError(t, err)
	again, err := api.CreateContact(ctx, create)
	require.NoError(t, err)
	require.True(t, proto.Equal(first, again))
	create.Contact.ExternalId = "other"
	_, err = api.CreateContact(ctx, create)
	requireFault(t, err, "REQUEST_ID_REUSED", "request_id", "REUSED")

	update := &invoicev1.UpdateContactRequest{Contact: first, UpdateMask: mask("external_id"), RequestId: uuid.NewString()}
	update.Contact.ExternalId = "crm-2"
	changed, err := api.UpdateContact(ctx, update)
	require.NoError(t, err)
	again, err = api.UpdateContact(ctx, update) // the etag in it is stale by now
	require.NoError(t, err)
	require.True(t, proto.Equal(changed, again))
	require.Equal(t, 1, w.audited("contact.create", first.GetName()))
	require.Equal(t, 1, w.audited("contact.update", first.GetName()))

	item := &invoicev1.CreateItemRequest{Parent: "tenants/acme", ItemId: "hour", Item: hour(), RequestId: uuid.NewString()}
	one, err := api.CreateItem(ctx, item)
	require.NoError(t, err)
	two, err := api.CreateItem(ctx, item)
	require.NoError(t, err)
	require.True(t, proto.Equal(one, two))
	look := &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: acmeMain + "/look", LanguageCode: "en"}, RequestId: uuid.NewString()}
	l1, err := api.UpdateLook(ctx, look)
	require.NoError(t, err)
	l2, err := api.UpdateLook(ctx, look)
	require.NoError(t, err)
	require.True(t, proto.Equal(l1, l2))
	require.Equal(t, 1, w.audited("look.update", l1.GetName()))
}

// TestConcurrentUpdates: of many that change the same version one wins, and the others are told.
func TestConcurrentUpdates(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	c := w.addContact("ferro", ferro())
	i := w.addItem("hour", hour())
	look := acmeMain + "/look"
	fresh, err := api.GetLook(ctx, &invoicev1.GetLookRequest{Name: look})
	require.NoError(t, err)
	for name, update := range map[string]func(n int) error{
		"contact": func(n int) error {
			in := proto.CloneOf(c)
			in.ExternalId = "n-" + string(rune('a'+n))
			_, err := api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: in})
			return err
		},
		"item": func(n int) error {
			in := proto.CloneOf(i)
			in.ExternalId = "n-" + string(rune('a'+n))
			_, err := api.UpdateItem(ctx, &invoicev1.UpdateItemRequest{Item: in})
			return err
		},
		"first look": func(n int) error {
			_, err := api.UpdateLook(ctx, &invoicev1.UpdateLookRequest{Look: &invoicev1.Look{Name: look, LanguageCode: "en", Etag: fresh.GetEtag()}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			const many = 8
			answers := make(chan error, many)
			for n := range many {
				go func() { answers <- update(n) }()
			}
			won := 0
			for range many {
				err := <-answers
				if err == nil {
					won++
					continue
				}
				require.Equal(t, fault.KindAborted, fault.Of(err).Kind, "%v", err)
				require.Equal(t, "ETAG_MISMATCH", fault.Of(err).Code)
			}
			require.Equal(t, 1, won)
		})
	}
}

// TestEtagOfAnEntryMadeAnew: a change that was prepared for an entry that is gone does not hit its successor.
func TestEtagOfAnEntryMadeAnew(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	old := w.addContact("ferro", ferro())
	_, err := api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: old.GetName(), Etag: old.GetEtag()})
	require.NoError(t, err)
	time.Sleep(time.Millisecond)
	w.addContact("ferro", rossi())
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: old})
	requireFault(t, err, "ETAG_MISMATCH", "contact.etag", "ETAG_MISMATCH")
	_, err = api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: old.GetName(), Etag: old.GetEtag()})
	requireFault(t, err, "ETAG_MISMATCH", "etag", "ETAG_MISMATCH")
}
