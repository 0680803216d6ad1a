package main

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
)

func (c *cli) addresses() (invoicev1.BookServiceClient, error) {
	conn, err := c.dial()
	return invoicev1.NewBookServiceClient(conn), err
}

// fill reads a message from a file of JSON; a field that does not exist is an error.
func (c *cli) fill(file string, m proto.Message) error {
	raw, err := c.read(file)
	if err != nil {
		return err
	}
	err = protojson.Unmarshal(raw, m)
	if err != nil {
		return usage("%s is no %s: %s", file, strings.ToLower(string(m.ProtoReflect().Descriptor().Name())), notThisJSON(raw, err))
	}
	return nil
}

// notThisJSON says why a file is not the JSON that is wanted: none at all, or of something else.
func notThisJSON(raw []byte, err error) string {
	var any any
	if syntax := json.Unmarshal(raw, &any); syntax != nil {
		return jsonInWords(raw, syntax)
	}
	return plainError(err)
}

// plainError is an error of protojson without the name of the package, and with ordinary spaces.
func plainError(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	return strings.TrimSpace(strings.TrimPrefix(text, "proto:"))
}

// flags of commands that change something.
type changes struct {
	requestID string
	fields    []string
}

func (f *changes) id() (string, error) {
	if f.requestID == "" {
		return uuid.NewString(), nil
	}
	if _, err := uuid.Parse(f.requestID); err != nil {
		return "", usage("--request-id: %q is no UUID", f.requestID)
	}
	return f.requestID, nil
}

func (f *changes) mask() *fieldmaskpb.FieldMask {
	if len(f.fields) == 0 {
		return nil
	}
	return &fieldmaskpb.FieldMask{Paths: f.fields}
}

func (f *changes) add(cmd *cobra.Command, example string) *cobra.Command {
	cmd.Flags().StringVar(&f.requestID, "request-id", "", "UUID of this request; repeat it to repeat the request safely")
	if example != "" {
		cmd.Flags().StringSliceVar(&f.fields, "fields", nil, "fields to change, such as "+example+"; * is all; those that the file has when empty")
	}
	return cmd
}

func (c *cli) contactsCommand() *cobra.Command {
	cmd := group("contacts", "Address book of the tenant", c.contactCreate(), c.contactGet(), c.contactList(), c.contactUpdate(), c.contactDelete())
	cmd.Aliases = []string{"contact"}
	return cmd
}

func (c *cli) contactCreate() *cobra.Command {
	f := &changes{}
	cmd := verb("create ID FILE", "Add a contact from a file of JSON; - reads standard input", args("ID", "FILE"), func(ctx context.Context, given []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		req := &invoicev1.CreateContactRequest{Parent: parent, ContactId: given[0], Contact: &invoicev1.Contact{}}
		if req.RequestId, err = f.id(); err != nil {
			return err
		}
		if err := c.fill(given[1], req.GetContact()); err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		made, err := api.CreateContact(ctx, req)
		if err != nil {
			return repeatError{err, req.GetRequestId()}
		}
		return c.print(made, func() { c.showContact(made) })
	})
	cmd.Long = cmd.Short + `.

FILE holds a contact as ceralacca contacts get --format json shows it, for example
  {"party": {"name": "Ferro S.r.l.", "vat_number": "01234567897", "address": {"street": "Via del Ferro 3",
   "post_code": "20121", "city": "Milano", "province": "MI"}}, "recipient_code": "ABC1234", "external_id": "crm-17"}`
	return f.add(cmd, "")
}

func (c *cli) contactGet() *cobra.Command {
	return verb("get CONTACT", "Show a contact", args("CONTACT"), func(ctx context.Context, given []string) error {
		name, err := c.within("contacts", given[0])
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		found, err := api.GetContact(ctx, &invoicev1.GetContactRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(found, func() { c.showContact(found) })
	})
}

func (c *cli) contactList() *cobra.Command {
	var filter string
	cmd := c.lister(verb("ls", "List contacts by id", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListContactsResponse, error) {
			return api.ListContacts(ctx, &invoicev1.ListContactsRequest{Parent: parent, Filter: filter, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, k := range all.GetContacts() {
				p := k.GetParty()
				rows = append(rows, []string{last(k.GetName()), partyName(p), p.GetVatNumber(), p.GetTaxCode(), p.GetAddress().GetCity(), k.GetExternalId()})
			}
			c.table([]string{"CONTACT", "NAME", "VAT NUMBER", "TAX CODE", "CITY", "EXTERNAL ID"}, rows)
		})
	}))
	cmd.Flags().StringVar(&filter, "filter", "", `for example: display_name:"ferro" AND vat_number = "01234567897"`)
	return cmd
}

func (c *cli) contactUpdate() *cobra.Command {
	f := &changes{}
	cmd := verb("update CONTACT FILE", "Change a contact to what a file of JSON says; - reads standard input", args("CONTACT", "FILE"), func(ctx context.Context, given []string) error {
		name, err := c.within("contacts", given[0])
		if err != nil {
			return err
		}
		req := &invoicev1.UpdateContactRequest{Contact: &invoicev1.Contact{}, UpdateMask: f.mask()}
		if req.RequestId, err = f.id(); err != nil {
			return err
		}
		if err := c.fill(given[1], req.GetContact()); err != nil {
			return err
		}
		req.Contact.Name = name
		if req.GetContact().GetParty() == nil {
			req.Contact.Party = &invoicev1.DraftParty{} // present as the contract wants it, and empty: unchanged
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		changed, err := api.UpdateContact(ctx, req)
		if err != nil {
			return repeatError{err, req.GetRequestId()}
		}
		return c.print(changed, func() { c.showContact(changed) })
	})
	cmd.Long = cmd.Short + `.

With an etag in the file, as ceralacca contacts get --format json writes it, the change is refused when somebody else
was faster. Without --fields the party is replaced as a whole when the file has one.`
	return f.add(cmd, "external_id,party.address.city")
}

func (c *cli) contactDelete() *cobra.Command {
	var etag string
	cmd := verb("delete CONTACT", "Delete a contact; invoices made from it stay", args("CONTACT"), func(ctx context.Context, given []string) error {
		name, err := c.within("contacts", given[0])
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		gone, err := api.DeleteContact(ctx, &invoicev1.DeleteContactRequest{Name: name, Etag: etag})
		if err != nil {
			return err
		}
		return c.print(gone, func() { c.fields("deleted", name) })
	})
	cmd.Flags().StringVar(&etag, "etag", "", "delete only this version")
	return cmd
}

func partyName(p *invoicev1.DraftParty) string {
	return strings.TrimSpace(strings.Join([]string{p.GetName(), p.GetFirstName(), p.GetLastName()}, " "))
}

func (c *cli) showContact(k *invoicev1.Contact) {
	p := k.GetParty()
	a := p.GetAddress()
	address := strings.Join(strings.Fields(strings.Join([]string{a.GetStreet(), a.GetNumber(), a.GetPostCode(), a.GetCity(), a.GetProvince(), a.GetCountry()}, " ")), " ")
	c.fields("name", k.GetName(), "display name", partyName(p), "kind", p.GetKind(), "VAT number", strings.TrimSpace(p.GetVatCountry()+" "+p.GetVatNumber()),
		"tax code", p.GetTaxCode(), "address", address, "recipient code", k.GetRecipientCode(), "certified mail", k.GetCertifiedMail(),
		"external id", k.GetExternalId(), "created", when(k.GetCreateTime()), "updated", when(k.GetUpdateTime()), "etag", k.GetEtag())
}

func (c *cli) itemsCommand() *cobra.Command {
	cmd := group("items", "Price list of the tenant", c.itemCreate(), c.itemGet(), c.itemList(), c.itemUpdate(), c.itemDelete())
	cmd.Aliases = []string{"item"}
	return cmd
}

func (c *cli) itemCreate() *cobra.Command {
	f := &changes{}
	cmd := verb("create ID FILE", "Add an item from a file of JSON; - reads standard input", args("ID", "FILE"), func(ctx context.Context, given []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		req := &invoicev1.CreateItemRequest{Parent: parent, ItemId: given[0], Item: &invoicev1.Item{}}
		if req.RequestId, err = f.id(); err != nil {
			return err
		}
		if err := c.fill(given[1], req.GetItem()); err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		made, err := api.CreateItem(ctx, req)
		if err != nil {
			return repeatError{err, req.GetRequestId()}
		}
		return c.print(made, func() { c.showItem(made) })
	})
	cmd.Long = cmd.Short + `.

FILE holds an item as ceralacca items get --format json shows it, for example
  {"line": {"description": "Consulenza", "unit": "h", "unit_price": "80.00", "vat_rate": "22.00"}, "external_id": "sku-1"}`
	return f.add(cmd, "")
}

func (c *cli) itemGet() *cobra.Command {
	return verb("get ITEM", "Show an item", args("ITEM"), func(ctx context.Context, given []string) error {
		name, err := c.within("items", given[0])
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		found, err := api.GetItem(ctx, &invoicev1.GetItemRequest{Name: name})
		if err != nil {
			return err
		}
		return c.print(found, func() { c.showItem(found) })
	})
}

func (c *cli) itemList() *cobra.Command {
	var filter string
	cmd := c.lister(verb("ls", "List items by id", args(), func(ctx context.Context, _ []string) error {
		parent, err := c.tenantName()
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		all, err := collect(c, func(token string, size int32) (*invoicev1.ListItemsResponse, error) {
			return api.ListItems(ctx, &invoicev1.ListItemsRequest{Parent: parent, Filter: filter, PageToken: token, PageSize: size})
		})
		if err != nil {
			return err
		}
		return c.print(all, func() {
			var rows [][]string
			for _, i := range all.GetItems() {
				l := i.GetLine()
				rows = append(rows, []string{last(i.GetName()), l.GetDescription(), l.GetUnitPrice(), l.GetUnit(), vat(l), i.GetExternalId()})
			}
			c.table([]string{"ITEM", "DESCRIPTION", "PRICE", "UNIT", "VAT", "EXTERNAL ID"}, rows)
		})
	}))
	cmd.Flags().StringVar(&filter, "filter", "", `for example: description:"consulenza"`)
	return cmd
}

// vat is the rate of a line, or why there is none.
func vat(l *invoicev1.Line) string { return strings.TrimSpace(l.GetVatRate() + " " + l.GetNature()) }

func (c *cli) itemUpdate() *cobra.Command {
	f := &changes{}
	cmd := verb("update ITEM FILE", "Change an item to what a file of JSON says; - reads standard input", args("ITEM", "FILE"), func(ctx context.Context, given []string) error {
		name, err := c.within("items", given[0])
		if err != nil {
			return err
		}
		req := &invoicev1.UpdateItemRequest{Item: &invoicev1.Item{}, UpdateMask: f.mask()}
		if req.RequestId, err = f.id(); err != nil {
			return err
		}
		if err := c.fill(given[1], req.GetItem()); err != nil {
			return err
		}
		req.Item.Name = name
		if req.GetItem().GetLine() == nil {
			req.Item.Line = &invoicev1.Line{} // present as the contract wants it, and empty: unchanged
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		changed, err := api.UpdateItem(ctx, req)
		if err != nil {
			return repeatError{err, req.GetRequestId()}
		}
		return c.print(changed, func() { c.showItem(changed) })
	})
	cmd.Long = cmd.Short + `.

With an etag in the file, as ceralacca items get --format json writes it, the change is refused when somebody else was
faster. Without --fields the line is replaced as a whole when the file has one.`
	return f.add(cmd, "line.unit_price,external_id")
}

func (c *cli) itemDelete() *cobra.Command {
	var etag string
	cmd := verb("delete ITEM", "Delete an item; invoices made from it stay", args("ITEM"), func(ctx context.Context, given []string) error {
		name, err := c.within("items", given[0])
		if err != nil {
			return err
		}
		api, err := c.addresses()
		if err != nil {
			return err
		}
		gone, err := api.DeleteItem(ctx, &invoicev1.DeleteItemRequest{Name: name, Etag: etag})
		if err != nil {
			return err
		}
		return c.print(gone, func() { c.fields("deleted", name) })
	})
	cmd.Flags().StringVar(&etag, "etag", "", "delete only this version")
	return cmd
}

func (c *cli) showItem(i *invoicev1.Item) {
	l := i.GetLine()
	c.fields("name", i.GetName(), "description", l.GetDescription(), "price", l.GetUnitPrice(), "unit", l.GetUnit(), "VAT", vat(l),
		"external id", i.GetExternalId(), "created", when(i.GetCreateTime()), "updated", when(i.GetUpdateTime()), "etag", i.GetEtag())
}
