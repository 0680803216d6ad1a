package invoice

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/format/fatturapa/fatturapatest"
	"ceralacca.dev/services/internal/bus"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/run/runtest"
)

func TestContactLife(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	made := w.addContact("rossi", rossi())
	require.Equal(t, "tenants/acme/contacts/rossi", made.GetName())
	require.NotEmpty(t, made.GetEtag())
	require.NotNil(t, made.GetCreateTime())
	got, err := api.GetContact(ctx, &invoicev1.GetContactRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(made, got))
	_, err = api.CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "rossi", Contact: ferro()})
	requireFault(t, err, "CONTACT_EXISTS", "contact_id", "CONTACT_EXISTS")
	require.Equal(t, fault.KindConflict, fault.Of(err).Kind)

	// Within the party, by mask; the rest stays.
	change := &invoicev1.Contact{Name: made.GetName(), Etag: made.GetEtag(), Party: &invoicev1.DraftParty{Address: &invoicev1.Address{Street: "Via Milano"}}}
	changed, err := api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: change, UpdateMask: mask("party.address.street", "external_id")})
	require.NoError(t, err)
	require.Equal(t, "Via Milano", changed.GetParty().GetAddress().GetStreet())
	require.Equal(t, "1", changed.GetParty().GetAddress().GetNumber())
	require.Equal(t, "Rossi", changed.GetParty().GetLastName())
	require.Empty(t, changed.GetExternalId())
	require.NotEqual(t, made.GetEtag(), changed.GetEtag())
	require.Equal(t, made.GetCreateTime().AsTime(), changed.GetCreateTime().AsTime())

	// Without mask the party is replaced as a whole, and what is not set stays.
	whole, err := api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: &invoicev1.Contact{Name: made.GetName(), Party: ferro().GetParty()}})
	require.NoError(t, err)
	require.Empty(t, whole.GetParty().GetLastName())
	require.Equal(t, fatturapatest.VATNumber(7), whole.GetParty().GetVatNumber())

	// A change that makes an impossible contact is refused as a creation would be, and changes nothing.
	broken := &invoicev1.Contact{Name: made.GetName(), Party: &invoicev1.DraftParty{}}
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: broken, UpdateMask: mask("party.vat_number")})
	requireFault(t, err, "CONTACT_INVALID", "contact.party", "00417")
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: change, UpdateMask: mask("external_id")})
	requireFault(t, err, "ETAG_MISMATCH", "contact.etag", "ETAG_MISMATCH")
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: broken, UpdateMask: mask("create_time")})
	requireFault(t, err, "UPDATE_MASK_INVALID", "update_mask", "UPDATE_MASK_INVALID")
	got, err = api.GetContact(ctx, &invoicev1.GetContactRequest{Name: made.GetName()})
	require.NoError(t, err)
	require.True(t, proto.Equal(whole, got))

	_, err = api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: made.GetName(), Etag: made.GetEtag()})
	requireFault(t, err, "ETAG_MISMATCH", "etag", "ETAG_MISMATCH")
	_, err = api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: made.GetName(), Etag: got.GetEtag()})
	require.NoError(t, err)
	for _, err := range []error{
		func() error {
			_, err := api.GetContact(ctx, &invoicev1.GetContactRequest{Name: made.GetName()})
			return err
		}(),
		func() error {
			_, err := api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: made})
			return err
		}(),
		func() error {
			_, err := api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: made.GetName()})
			return err
		}(),
	} {
		requireFault(t, err, "CONTACT_NOT_FOUND", "", "")
	}
	require.Equal(t, 1, w.audited("contact.create", made.GetName()))
	require.Equal(t, 2, w.audited("contact.update", made.GetName()))
	require.Equal(t, 1, w.audited("contact.delete", made.GetName()))
	require.Equal(t, 1, w.count(`SELECT count(*) FROM audit_entry WHERE action = 'contact.update' AND detail->>'fields' = 'party.address.street,external_id'`))
	require.Zero(t, w.count(`SELECT count(*) FROM audit_entry WHERE detail::text ~ 'Rossi|Milano|RSSMRA'`), "the record says which fields, never what is in them")
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: &invoicev1.Contact{Name: "contacts/rossi", Party: rossi().GetParty()}})
	requireFault(t, err, "NAME_INVALID", "contact.name", "NAME_INVALID")
}

func TestExternalIDsAreUnique(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	w.addContact("rossi", rossi())
	twin := ferro()
	twin.ExternalId = "crm-1"
	_, err := api.CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "ferro", Contact: twin})
	requireFault(t, err, "EXTERNAL_ID_TAKEN", "contact.external_id", "EXTERNAL_ID_TAKEN")
	require.ErrorContains(t, err, "tenants/acme/contacts/rossi")
	require.Equal(t, fault.KindConflict, fault.Of(err).Kind)
	other := w.addContact("ferro", ferro())
	other.ExternalId = "crm-1"
	_, err = api.UpdateContact(ctx, &invoicev1.UpdateContactRequest{Contact: other})
	requireFault(t, err, "EXTERNAL_ID_TAKEN", "contact.external_id", "EXTERNAL_ID_TAKEN")
	require.ErrorContains(t, err, "tenants/acme/contacts/rossi")
	w.addContact("meier", meier()) // two without external_id are no twins
	_, err = w.book("brio").CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/brio", ContactId: "rossi", Contact: rossi()})
	require.NoError(t, err, "another tenant has ids of its own")
}

func TestListContacts(t *testing.T) {
	w := start(t)
	api, ctx := w.book("acme"), t.Context()
	list := func(filter, token string, size int32) ([]string, string) {
		t.Helper()
		r, err := api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme", Filter: filter, PageToken: token, PageSize: size})
		require.NoError(t, err, filter)
		var ids []string
		for _, c := range r.GetContacts() {
			ids = append(ids, strings.TrimPrefix(c.GetName(), "tenants/acme/contacts/"))
		}
		return ids, r.GetNextPageToken()
	}
	none, _ := list("", "", 0)
	require.Empty(t, none)
	w.addContact("rossi", rossi())
	w.addContact("ferro", ferro())
	w.addContact("comune", comune())
	w.addContact("meier", meier())
	caffe := ferro()
	caffe.Party.VatNumber, caffe.Party.Name = fatturapatest.VATNumber(9), "CAFFÈ  100% d'Oro_Srl"
	w.addContact("caffe", caffe)
	_, err := w.book("brio").CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/brio", ContactId: "rossi", Contact: rossi()})
	require.NoError(t, err)
	for filter, want := range map[string][]string{
		"": {"caffe", "comune", "ferro", "meier", "rossi"},
		`vat_number = "` + fatturapatest.VATNumber(7) + `"`:   {"ferro"},
		`vat_number = it` + fatturapatest.VATNumber(7):        {"ferro"},
		`vat_number = 129273398`:                              {"meier"},
		`tax_code = rssmra85t10a562s`:                         {"rossi"},
		`external_id = "crm-1"`:                               {"rossi"},
		`display_name:"caffè 100%"`:                           {"caffe"},
		`display_name:"O_S"`:                                  {"caffe"},
		`display_name:"o%s"`:                                  nil,
		`display_name:"%"`:                                    {"caffe"},
		`display_name:"\\\\"`:                                 nil,
		`display_name:""`:                                     {"caffe", "comune", "ferro", "meier", "rossi"},
		`display_name:MARIO AND display_name : "rossi"`:       {"rossi"},
		`display_name:"mario rossi" AND external_id = "none"`: nil,
		`display_name:e`:                                      {"comune", "ferro", "meier"},
	} {
		got, token := list(filter, "", 0)
		require.Equal(t, want, got, filter)
		require.Empty(t, token)
	}
	var all []string
	token := ""
	for page := 0; ; page++ {
		var ids []string
		ids, token = list("", token, 2)
		all = append(all, ids...)
		if token == "" {
			require.Equal(t, 2, page)
			break
		}
		_, err := api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme", Filter: "display_name:o", PageToken: token})
		requireFault(t, err, "PAGE_TOKEN_INVALID", "page_token", "PAGE_TOKEN_INVALID")
	}
	require.Equal(t, []string{"caffe", "comune", "ferro", "meier", "rossi"}, all)
	for filter, says := range map[string]string{
		`display_name = Rossi`: "compared with : only", `city:Roma`: "there are vat_number, tax_code, external_id and display_name",
		`vat_number:1`: "compared with = only", `tax_code = A AND tax_code = B`: "given twice",
	} {
		_, err := api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme", Filter: filter})
		requireFault(t, err, "FILTER_INVALID", "filter", "FILTER_INVALID")
		require.ErrorContains(t, err, says)
	}
	_, err = api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme", PageSize: 1001})
	require.Error(t, err)
}

// TestContactsThatNoDraftCouldUse: each is refused with the field that is wrong; what is right passes.
func TestContactsThatNoDraftCouldUse(t *testing.T) {
	type c = invoicev1.Contact
	for name, v := range map[string]struct {
		from   *c
		change func(*c)
		field  string
		code   string
	}{
		"vat check digit":            {ferro(), func(c *c) { c.Party.VatNumber = "01234567890" }, "contact.party.vat_number", "VAT_NUMBER_INVALID"},
		"vat too short":              {ferro(), func(c *c) { c.Party.VatNumber = "123" }, "contact.party.vat_number", "VAT_NUMBER_INVALID"},
		"tax check letter":           {rossi(), func(c *c) { c.Party.TaxCode = "RSSMRA85T10A562T" }, "contact.party.tax_code", "TAX_CODE_INVALID"},
		"tax of company":             {comune(), func(c *c) { c.Party.TaxCode = "01234567890" }, "contact.party.tax_code", "TAX_CODE_INVALID"},
		"neither number":             {ferro(), func(c *c) { c.Party.VatNumber = "" }, "contact.party", "00417"},
		"no name":                    {ferro(), func(c *c) { c.Party.Name = "" }, "contact.party.name", "FIELD_INVALID"},
		"two kinds of name":          {ferro(), func(c *c) { c.Party.LastName = "Rossi" }, "contact.party.name", "FIELD_INVALID"},
		"half a person":              {rossi(), func(c *c) { c.Party.LastName = " " }, "contact.party.last_name", "FIELD_INVALID"},
		"kind":                       {ferro(), func(c *c) { c.Party.Kind = "friend" }, "contact.party.kind", "FIELD_INVALID"},
		"no address":                 {ferro(), func(c *c) { c.Party.Address = nil }, "contact.party.address.street", "FIELD_INVALID"},
		"no street":                  {ferro(), func(c *c) { c.Party.Address.Street = "" }, "contact.party.address.street", "FIELD_INVALID"},
		"no city":                    {ferro(), func(c *c) { c.Party.Address.City = "" }, "contact.party.address.city", "FIELD_INVALID"},
		"no post code":               {ferro(), func(c *c) { c.Party.Address.PostCode = "" }, "contact.party.address.post_code", "FIELD_INVALID"},
		"post code":                  {ferro(), func(c *c) { c.Party.Address.PostCode = "201" }, "contact.party.address.post_code", "FIELD_INVALID"},
		"province":                   {ferro(), func(c *c) { c.Party.Address.Province = "Milano" }, "contact.party.address.province", "FIELD_INVALID"},
		"country":                    {meier(), func(c *c) { c.Party.Address.Country = "Germany" }, "contact.party.address.country", "FIELD_INVALID"},
		"business of the EU":         {meier(), func(c *c) { c.Party.VatNumber = "" }, "contact.party.vat_number", "FIELD_INVALID"},
		"name too long":              {ferro(), func(c *c) { c.Party.Name = strings.Repeat("x", 81) }, "contact.party.name", "FIELD_INVALID"},
		"eori":                       {ferro(), func(c *c) { c.Party.Eori = "IT1" }, "contact.party.eori", "FIELD_INVALID"},
		"code of public body":        {comune(), func(c *c) { c.RecipientCode = "ABC1234" }, "contact.recipient_code", "00427"},
		"code of business":           {ferro(), func(c *c) { c.RecipientCode = "UFABCD" }, "contact.recipient_code", "00427"},
		"code of foreigners":         {ferro(), func(c *c) { c.RecipientCode = "XXXXXXX" }, "contact.recipient_code", "00313"},
		"certified mail":             {ferro(), func(c *c) { c.RecipientCode, c.CertifiedMail = "", "ferro at pec" }, "contact.certified_mail", "FIELD_INVALID"},
		"refers to another":          {ferro(), func(c *c) { c.Party.Contact = "tenants/acme/contacts/rossi" }, "contact.party.contact", "MUST_BE_EMPTY"},
		"representative":             {meier(), func(c *c) { c.Party.Representative = &invoicev1.Representative{VatNumber: "01234567890", Name: "X"} }, "contact.party.representative.vat_number", "VAT_NUMBER_INVALID"},
		"regime of seller":           {ferro(), func(c *c) { c.Party.TaxRegime = "RF99" }, "contact.party.tax_regime", "FIELD_INVALID"},
		"phone of seller":            {ferro(), func(c *c) { c.Party.Phone = "1" }, "contact.party.phone", "FIELD_INVALID"},
		"mail of seller":             {ferro(), func(c *c) { c.Party.Mail = "nobody" }, "contact.party.mail", "FIELD_INVALID"},
		"register of seller":         {ferro(), func(c *c) { c.Party.CompanyRegister = &invoicev1.CompanyRegister{Office: "Milano", Number: "1"} }, "contact.party.company_register.office", "FIELD_INVALID"},
		"establishment":              {meier(), func(c *c) { c.Party.PermanentEstablishment = &invoicev1.Address{Street: "Via X", City: "Roma"} }, "contact.party.permanent_establishment.post_code", "FIELD_INVALID"},
		"too large":                  {ferro(), func(c *c) { c.Party.Name = strings.Repeat("x", 70_000) }, "contact.party", "TOO_LARGE"},
		"fine: itself":               {ferro(), func(*c) {}, "", ""},
		"fine: person":               {rossi(), func(*c) {}, "", ""},
		"fine: public body":          {comune(), func(*c) {}, "", ""},
		"fine: its code is later":    {comune(), func(c *c) { c.RecipientCode = "" }, "", ""},
		"fine: abroad":               {meier(), func(*c) {}, "", ""},
		"fine: abroad, XXXXXXX":      {meier(), func(c *c) { c.RecipientCode = "XXXXXXX" }, "", ""},
		"fine: outside the EU":       {meier(), func(c *c) { c.Party.VatCountry, c.Party.Address.Country, c.Party.VatNumber = "US", "US", "" }, "", ""},
		"fine: country before it":    {ferro(), func(c *c) { c.Party.VatNumber = " it" + c.Party.VatNumber }, "", ""},
		"fine: small letters":        {rossi(), func(c *c) { c.Party.TaxCode = "rssmra85t10a562s" }, "", ""},
		"fine: certified mail":       {ferro(), func(c *c) { c.RecipientCode, c.CertifiedMail = "", "ferro@pec.example.it" }, "", ""},
		"fine: a seller too":         {ferro(), func(c *c) { c.Party.Phone, c.Party.Mail, c.Party.TaxRegime = "0212345", "a@example.it", "RF19" }, "", ""},
		"fine: consumer as seller":   {rossi(), func(c *c) { c.Party.Phone = "0501234" }, "", ""},
		"fine: who plays the seller": {ferro(), func(c *c) { c.Party.VatNumber = sampleParty().GetVatNumber() }, "", ""},
		"fine: letters of others":    {ferro(), func(c *c) { c.Party.Name = "Καφές “Ελλάς”" }, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v.change(v.from)
			err := checkContact(v.from)
			if v.field == "" {
				require.NoError(t, err)
				return
			}
			requireFault(t, err, "CONTACT_INVALID", v.field, v.code)
			require.ErrorContains(t, err, v.field+": ")
		})
	}
	several := ferro()
	several.Party.VatNumber, several.Party.Address = "1", &invoicev1.Address{}
	err := checkContact(several)
	require.ErrorContains(t, err, "more)")
	var paths []string
	for _, f := range fault.Of(err).Fields {
		paths = append(paths, f.Path)
	}
	require.ElementsMatch(t, []string{"contact.party.vat_number", "contact.party.address.street", "contact.party.address.post_code", "contact.party.address.city"}, paths)
	tidied := ferro()
	tidied.Party.VatNumber = " it" + tidied.Party.VatNumber + " "
	require.NoError(t, checkContact(tidied))
	require.Equal(t, fatturapatest.VATNumber(7), tidied.GetParty().GetVatNumber())
}

// TestNoPersonalDataInLogs: what a contact holds is in its row and in answers; the log does not have it,
// not even when something is wrong with the row.
func TestNoPersonalDataInLogs(t *testing.T) {
	var log bytes.Buffer
	n := &neighbours{companies: map[string]*tenancyv1.Company{}, accepted: map[string]*invoicev1.InvoiceAccepted{},
		settled: map[string][]*invoicev1.InvoiceSettled{}, envelopes: map[string]bus.Envelope{}}
	w := &world{t: t, n: n, Process: runtest.Start(t, runtest.Options{Targets: []run.Target{n.target(), Target}, LogOutput: &log})}
	api, ctx := w.book("acme"), t.Context()
	made := w.addContact("one", rossi())
	bad := rossi()
	bad.Party.TaxCode = "RSSMRA85T10A562T"
	_, err := api.CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "two", Contact: bad})
	requireFault(t, err, "CONTACT_INVALID", "", "")
	_, err = api.CreateContact(ctx, &invoicev1.CreateContactRequest{Parent: "tenants/acme", ContactId: "three", Contact: rossi()})
	requireFault(t, err, "EXTERNAL_ID_TAKEN", "", "")
	_, err = api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: "tenants/acme", Filter: `tax_code = RSSMRA85T10A562S`})
	require.NoError(t, err)
	err = w.DB("invoice").Tx(ctx, "acme", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE contact SET party = party || '\xff'`)
		return err
	})
	require.NoError(t, err)
	_, err = api.GetContact(ctx, &invoicev1.GetContactRequest{Name: made.GetName()})
	require.Equal(t, fault.KindInternal, fault.Of(err).Kind)
	require.NotContains(t, err.Error(), "wire", "what is inside stays inside")
	w.Stop()
	require.Contains(t, log.String(), "GetContact", "the log is there to be looked at")
	for _, secret := range []string{"Mario", "Rossi", "RSSMRA", "Via Roma", "crm-1"} {
		require.NotContains(t, log.String(), secret)
	}
}

// TestEntriesOfDrafts: what drafts ask the book.
func TestEntriesOfDrafts(t *testing.T) {
	w := start(t)
	made, item := w.addContact("ferro", ferro()), w.addItem("hour", hour())
	err := w.DB("invoice").Tx(t.Context(), "acme", func(ctx context.Context, tx pgx.Tx) error {
		c, err := entries{}.Contact(ctx, tx, made.GetName())
		require.NoError(t, err)
		require.True(t, proto.Equal(made, c))
		i, err := entries{}.Item(ctx, tx, item.GetName())
		require.NoError(t, err)
		require.True(t, proto.Equal(item, i))
		for _, name := range []string{"tenants/acme/contacts/none", "tenants/brio/contacts/ferro", "ferro", ""} {
			_, err = entries{}.Contact(ctx, tx, name)
			requireFault(t, err, "CONTACT_NOT_FOUND", "", "")
			_, err = entries{}.Item(ctx, tx, name)
			requireFault(t, err, "ITEM_NOT_FOUND", "", "")
		}
		return nil
	})
	require.NoError(t, err)
}

// FuzzContact: whatever a contact holds, it is taken or refused with fields of the contract.
func FuzzContact(f *testing.F) {
	for _, c := range []*invoicev1.Contact{rossi(), ferro(), comune(), meier()} {
		raw, err := proto.Marshal(c)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &invoicev1.Contact{}
		if proto.Unmarshal(raw, c) != nil || c.GetParty() == nil {
			return
		}
		err := checkContact(c)
		if err == nil {
			row, err := contactRow(c)
			require.NoError(t, err)
			back := &invoicev1.Contact{}
			require.NoError(t, fillContact(back, &row))
			require.True(t, proto.Equal(c.GetParty(), back.GetParty()))
			require.NoError(t, checkContact(c), "what was taken once is taken again")
			return
		}
		require.Equal(t, fault.KindInvalid, fault.Of(err).Kind, "%v", err)
		for _, field := range fault.Of(err).Fields {
			require.True(t, strings.HasPrefix(field.Path, "contact."), fmt.Sprint(field))
		}
	})
}
