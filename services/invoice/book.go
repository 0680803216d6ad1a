package invoice

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
	"ceralacca.dev/services/invoice/internal/db"
)

// entries reads contacts and items for drafts, in the transaction of who asks. It implements book.
type entries struct{}

// Contact reads tenants/{tenant}/contacts/{contact}. NotFound CONTACT_NOT_FOUND.
func (entries) Contact(ctx context.Context, tx pgx.Tx, name string) (*invoicev1.Contact, error) {
	tenant, id := entryName(name)
	row, err := q(tx).GetContact(ctx, db.GetContactParams{TenantID: tenant, ID: id})
	if err != nil {
		return nil, contactMissing(err, name)
	}
	c := &invoicev1.Contact{}
	return c, fillContact(c, &row)
}

// Item reads tenants/{tenant}/items/{item}. NotFound ITEM_NOT_FOUND.
func (entries) Item(ctx context.Context, tx pgx.Tx, name string) (*invoicev1.Item, error) {
	tenant, id := entryName(name)
	row, err := q(tx).GetItem(ctx, db.GetItemParams{TenantID: tenant, ID: id})
	if err != nil {
		return nil, itemMissing(err, name)
	}
	i := &invoicev1.Item{}
	return i, fillItem(i, &row)
}

var _ book = entries{}

// entryName takes tenants/{tenant}/{collection}/{id} apart; what is no such name has no id.
func entryName(name string) (tenant, id string) {
	p := strings.Split(name, "/")
	if len(p) != 4 {
		return "", ""
	}
	return p[1], p[3]
}

// ownEntry checks the name within a resource, which no pattern of the contract covers.
func ownEntry(field, name, collection string) (tenant, id string, err error) {
	tenant, id = entryName(name)
	if tenant == "" || id == "" || name != "tenants/"+tenant+"/"+collection+"/"+id {
		return "", "", fault.Invalid("NAME_INVALID", "%s: %q is not tenants/{tenant}/%s/{id}", field, name, collection).
			WithField(field, "NAME_INVALID", "is no name of one of the "+collection)
	}
	return tenant, id, nil
}

// errExternalIDTaken ends a transaction whose external_id is another entry's.
var errExternalIDTaken = errors.New("invoice: the external id is taken")

// externalIDTaken names the entry that has the external_id. It is read in a transaction of its own: the
// one that met it is gone. An entry that went away meanwhile leaves nothing to name: Aborted.
func (s *Service) externalIDTaken(ctx context.Context, tenant, collection, field, externalID string,
	find func(ctx context.Context, tx pgx.Tx) (id string, err error)) error {
	var id string
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		id, err = find(ctx, tx)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Aborted("EXTERNAL_ID_MOVED", "%s: the entry that had %q was changed a moment ago: repeat the request", field, externalID)
	}
	if err != nil {
		return fmt.Errorf("invoice: find who has the external id: %w", err)
	}
	other := "tenants/" + tenant + "/" + collection + "/" + id
	return fault.Conflict("EXTERNAL_ID_TAKEN", "%s: %q is that of %s: change that one, or give another external_id", field, externalID, other).
		WithField(field, "EXTERNAL_ID_TAKEN", "is that of "+other)
}

// entryEtag names a version of an entry. The time of creation is in it, for an entry that was deleted
// and made anew begins with version 1 again. spec: AIP-154
func entryEtag(version int32, created time.Time) string {
	return strconv.Quote(strconv.Itoa(int(version)) + "-" + strconv.FormatInt(created.UnixMicro(), 36))
}

// sameEtag refuses a change that was made from an older version.
func sameEtag(given, current, field, name string) error {
	if given == "" || given == current {
		return nil
	}
	return fault.Aborted("ETAG_MISMATCH", "%s was changed meanwhile: read it again and repeat the change", name).
		WithField(field, "ETAG_MISMATCH", "is not the current one")
}

// auditEntry records an act on settings or the book. detail holds names of fields, never what is in them.
func auditEntry(ctx context.Context, tx pgx.Tx, action, resource string, paths []string) error {
	detail := map[string]string{}
	if len(paths) > 0 {
		detail["fields"] = strings.Join(paths, ",")
	}
	return telemetry.Audit(ctx, tx, telemetry.Act{Action: action, Resource: resource, Detail: detail})
}

// changedPaths is the list of fields to change: those of the mask, all for *, and without a mask the
// changeable ones that are set. A mask may name a field within a message, party.phone for example; what
// cannot be changed is refused. spec: AIP-134 "update_mask", AIP-161
func changedPaths(in proto.Message, mask, changeable []string) ([]string, error) {
	if len(mask) == 1 && mask[0] == "*" {
		return changeable, nil
	}
	m := in.ProtoReflect()
	var paths []string
	for _, p := range changeable {
		f := m.Descriptor().Fields().ByName(protoreflect.Name(p))
		if len(mask) == 0 && m.Has(f) && (f.Message() == nil || proto.Size(m.Get(f).Message().Interface()) > 0) {
			paths = append(paths, p)
		}
	}
	for _, p := range mask {
		if !changeablePath(m.Descriptor(), p, changeable) {
			return nil, fault.Invalid("UPDATE_MASK_INVALID", "update_mask: %q cannot be changed; these can: %s", p, strings.Join(changeable, ", ")).
				WithField("update_mask", "UPDATE_MASK_INVALID", p+" cannot be changed")
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func changeablePath(d protoreflect.MessageDescriptor, path string, changeable []string) bool {
	for i, part := range strings.Split(path, ".") {
		if d == nil {
			return false
		}
		f := d.Fields().ByName(protoreflect.Name(part))
		if f == nil || i == 0 && !slices.Contains(changeable, part) {
			return false
		}
		d = f.Message()
		if f.IsList() || f.IsMap() {
			d = nil // a list is changed as a whole
		}
	}
	return true
}

// copyPaths sets in dst what the paths name to what src has; what src lacks is cleared.
func copyPaths(dst, src proto.Message, paths []string) {
	from := proto.Clone(src).ProtoReflect() // dst must not share messages with the request
	for _, p := range paths {
		copyPath(dst.ProtoReflect(), from, strings.Split(p, "."))
	}
}

func copyPath(dst, src protoreflect.Message, path []string) {
	f := dst.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case len(path) > 1 && !src.Has(f) && !dst.Has(f): // nothing to clear
	case len(path) > 1:
		copyPath(dst.Mutable(f).Message(), src.Get(f).Message(), path[1:])
	case src.Has(f):
		dst.Set(f, src.Get(f))
	default:
		dst.Clear(f)
	}
}

// wire writes a message for a column; the same message gives the same bytes.
func wire(m proto.Message) ([]byte, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("invoice: write %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if raw == nil {
		raw = []byte{} // an empty message is no null
	}
	return raw, nil
}
