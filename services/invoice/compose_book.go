package invoice

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
)

// book is the address book and the price list of the tenant of tx, as a draft refers to them. Names are
// tenants/{tenant}/contacts/{contact} and tenants/{tenant}/items/{item}. NotFound when there is none.
type book interface {
	Contact(ctx context.Context, tx pgx.Tx, name string) (*invoicev1.Contact, error)
	Item(ctx context.Context, tx pgx.Tx, name string) (*invoicev1.Item, error)
}

// lookUp fills what is empty in parties and lines from the book, and the address of the file from the
// contact of the buyer. Each entry is read once, however many lines name it. NotFound with the path in
// the draft as field.
func lookUp(ctx context.Context, tx pgx.Tx, b book, tenant string, d *invoicev1.Draft) error {
	for _, p := range []struct {
		path  string
		party *invoicev1.DraftParty
	}{{"draft.seller.contact", d.GetSeller()}, {"draft.buyer.contact", d.GetBuyer()}} {
		name := p.party.GetContact()
		if name == "" {
			continue
		}
		if err := ownName(name, tenant, "contacts", p.path); err != nil {
			return err
		}
		contact, err := b.Contact(ctx, tx, name)
		if err != nil {
			return atField(err, p.path)
		}
		fillEmpty(p.party.ProtoReflect(), contact.GetParty().ProtoReflect())
		p.party.Contact = ""
		if p.party == d.GetBuyer() {
			addressFile(d, contact)
		}
	}
	items := map[string]*invoicev1.Item{}
	for i, l := range d.GetLines() {
		name := l.GetItem()
		if name == "" {
			continue
		}
		path := linePath(i) + ".item"
		if err := ownName(name, tenant, "items", path); err != nil {
			return err
		}
		item := items[name]
		if item == nil {
			var err error
			if item, err = b.Item(ctx, tx, name); err != nil {
				return atField(err, path)
			}
			items[name] = item
		}
		fillEmpty(l.ProtoReflect(), item.GetLine().ProtoReflect())
		l.Item = ""
	}
	return nil
}

// addressFile sends the file where the contact receives, unless the draft says where.
func addressFile(d *invoicev1.Draft, c *invoicev1.Contact) {
	if d.GetTransmission().GetRecipientCode() != "" || d.GetTransmission().GetCertifiedMail() != "" {
		return
	}
	if d.Transmission == nil {
		d.Transmission = &invoicev1.Transmission{}
	}
	d.Transmission.RecipientCode, d.Transmission.CertifiedMail = c.GetRecipientCode(), c.GetCertifiedMail()
}

// ownName checks that a name is one of this tenant and collection.
func ownName(name, tenant, collection, path string) error {
	p := strings.Split(name, "/")
	if len(p) == 4 && p[0] == "tenants" && p[1] == tenant && p[2] == collection && p[3] != "" {
		return nil
	}
	return fault.Invalid("NAME_INVALID", "%s: %q is not of the form tenants/%s/%s/{id}", path, name, tenant, collection).
		WithField(path, "NAME_INVALID", "is no name of this tenant's "+collection)
}

// atField says which place of the request an error is about.
func atField(err error, path string) error {
	f := fault.Of(err)
	if f.Kind == fault.KindInternal || f.Kind == fault.KindUnavailable {
		return err
	}
	return f.WithField(path, f.Code, f.Message)
}

// fillEmpty takes from src what dst does not have, in messages within too. Two ways to say the same
// belong together: who gives one of them gets none of the others.
func fillEmpty(dst, src protoreflect.Message) {
	kept := map[protoreflect.Name]bool{}
	for _, group := range alternatives {
		for _, name := range group {
			if f := dst.Descriptor().Fields().ByName(name); f != nil && dst.Has(f) {
				for _, other := range group {
					kept[other] = true
				}
			}
		}
	}
	src.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case !dst.Has(f) && !kept[f.Name()]:
			dst.Set(f, cloned(f, v))
		case dst.Has(f) && f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap() && f.Name() != "address":
			fillEmpty(dst.Mutable(f).Message(), v.Message())
		}
		return true
	})
}

// alternatives are fields of which an entry's are taken together or not at all: a draft that names a
// person must not get the name of a company too, nor a rate besides a reason why there is none. An
// address is one thing as well.
var alternatives = [][]protoreflect.Name{
	{"name", "first_name", "last_name"},
	{"vat_country", "vat_number"},
	{"vat_rate", "vat_amount", "nature"},
}

// linePath is where a line stands in the draft.
func linePath(i int) string { return "draft.lines[" + strconv.Itoa(i) + "]" }

func cloned(f protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
	if f.Kind() != protoreflect.MessageKind {
		return v
	}
	if !f.IsList() {
		return protoreflect.ValueOfMessage(proto.Clone(v.Message().Interface()).ProtoReflect())
	}
	return v // lists of an entry that is read for one draft are nobody else's
}
