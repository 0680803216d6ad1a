package invoice

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	invoicev1 "ceralacca.dev/proto/gen/ceralacca/invoice/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/invoice/internal/db"
)

// CreateContact adds a party to the address book. Invalid CONTACT_INVALID with each field that no draft
// could use; Conflict CONTACT_EXISTS (the id), EXTERNAL_ID_TAKEN (names the other contact),
// REQUEST_ID_REUSED.
func (s *Service) CreateContact(ctx context.Context, req *invoicev1.CreateContactRequest) (*invoicev1.Contact, error) {
	in := proto.CloneOf(req.GetContact())
	in.Name = req.GetParent() + "/contacts/" + req.GetContactId()
	tenant, _ := entryName(in.GetName())
	if err := checkContact(in); err != nil {
		return nil, err
	}
	row, err := contactRow(in)
	if err != nil {
		return nil, err
	}
	row.Version, row.CreateTime = 1, pg.Time(s.now())
	row.UpdateTime = row.CreateTime
	resp := &invoicev1.Contact{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.BookService_CreateContact_FullMethodName, req.GetRequestId(), req, resp, func() error {
			err := q(tx).InsertContact(ctx, db.InsertContactParams{TenantID: row.TenantID, ID: row.ID, Party: row.Party,
				RecipientCode: row.RecipientCode, CertifiedMail: row.CertifiedMail, ExternalID: row.ExternalID,
				VatNumber: row.VatNumber, TaxCode: row.TaxCode, SearchName: row.SearchName, CreateTime: row.CreateTime})
			if err != nil {
				return contactTaken(err, in.GetName())
			}
			if err := fillContact(resp, &row); err != nil {
				return err
			}
			return auditEntry(ctx, tx, "contact.create", resp.GetName(), nil)
		})
	})
	return s.contactWritten(ctx, resp, err, in)
}

func contactTaken(err error, name string) error {
	switch pg.Constraint(err) {
	case "contact_pkey":
		return fault.Conflict("CONTACT_EXISTS", "%s exists already: choose another contact_id, or update that one", name).
			WithField("contact_id", "CONTACT_EXISTS", "is taken").With(err)
	case "contact_external_id":
		return errExternalIDTaken
	}
	return fmt.Errorf("invoice: write %s: %w", name, err)
}

// contactWritten is the answer to a write that may have met another contact's external_id.
func (s *Service) contactWritten(ctx context.Context, resp *invoicev1.Contact, err error, in *invoicev1.Contact) (*invoicev1.Contact, error) {
	if errors.Is(err, errExternalIDTaken) {
		tenant, _ := entryName(in.GetName())
		return nil, s.externalIDTaken(ctx, tenant, "contacts", "contact.external_id", in.GetExternalId(), func(ctx context.Context, tx pgx.Tx) (string, error) {
			return q(tx).FindContactByExternalID(ctx, db.FindContactByExternalIDParams{TenantID: tenant, ExternalID: in.GetExternalId()})
		})
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetContact reads one contact. NotFound CONTACT_NOT_FOUND.
func (s *Service) GetContact(ctx context.Context, req *invoicev1.GetContactRequest) (resp *invoicev1.Contact, err error) {
	tenant, _ := entryName(req.GetName())
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		resp, err = entries{}.Contact(ctx, tx, req.GetName())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func contactMissing(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.NotFound("CONTACT_NOT_FOUND", "there is no contact %s", name)
	}
	return fmt.Errorf("invoice: read contact %s: %w", name, err)
}

// ListContacts reads the contacts that the filter selects, by id. Invalid FILTER_INVALID,
// PAGE_TOKEN_INVALID.
func (s *Service) ListContacts(ctx context.Context, req *invoicev1.ListContactsRequest) (*invoicev1.ListContactsResponse, error) {
	p, err := contactFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	p.TenantID, p.PageSize = strings.TrimPrefix(req.GetParent(), "tenants/"), pageSize(req.GetPageSize())+1
	hash := pg.FilterHash("contacts", req.GetParent(), req.GetFilter())
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &p.After); err != nil {
		return nil, err
	}
	resp := &invoicev1.ListContactsResponse{}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListContacts(ctx, p)
		if err != nil {
			return fmt.Errorf("invoice: list contacts: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.Contact) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for i := range rows {
			c := &invoicev1.Contact{}
			if err := fillContact(c, &rows[i]); err != nil {
				return err
			}
			resp.Contacts = append(resp.Contacts, c)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// contactFilter turns a filter of ListContacts into the conditions of its query.
func contactFilter(filter string) (db.ListContactsParams, error) {
	var p db.ListContactsParams
	conditions, err := parseFilter(filter)
	if err != nil {
		return p, err
	}
	for _, c := range conditions {
		switch c.field {
		case "vat_number":
			c.value = plainVAT("IT", c.value)
			err = equals(&p.VatNumber, c)
		case "tax_code":
			c.value = strings.ToUpper(c.value)
			err = equals(&p.TaxCode, c)
		case "external_id":
			err = equals(&p.ExternalID, c)
		case "display_name":
			p.Names, err = within(p.Names, c)
		default:
			err = filterFault(c.at, "there is no field %q; there are vat_number, tax_code, external_id and display_name", c.field)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// within adds the pattern of a part that a text must have, in any case.
func within(patterns []string, c condition) ([]string, error) {
	if c.op != ":" {
		return nil, filterFault(c.at, "%s can be compared with : only, as in %s:\"part of it\"", c.field, c.field)
	}
	return append(patterns, "%"+plainPattern.Replace(searchable(c.value))+"%"), nil
}

// plainPattern makes LIKE take every character for itself.
var plainPattern = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// searchable is a text as lists search it: in lower case, with single spaces.
func searchable(s string) string { return strings.Join(strings.Fields(strings.ToLower(s)), " ") }

var changeableOfContact = []string{"party", "recipient_code", "certified_mail", "external_id"}

// UpdateContact changes what the mask names, or all that is set without one; a party without mask is
// replaced as a whole. Aborted ETAG_MISMATCH; NotFound CONTACT_NOT_FOUND; Invalid UPDATE_MASK_INVALID,
// CONTACT_INVALID; Conflict EXTERNAL_ID_TAKEN.
func (s *Service) UpdateContact(ctx context.Context, req *invoicev1.UpdateContactRequest) (*invoicev1.Contact, error) {
	in := req.GetContact()
	tenant, id, err := ownEntry("contact.name", in.GetName(), "contacts")
	if err != nil {
		return nil, err
	}
	paths, err := changedPaths(in, req.GetUpdateMask().GetPaths(), changeableOfContact)
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.Contact{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.BookService_UpdateContact_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, err := q(tx).LockContact(ctx, db.LockContactParams{TenantID: tenant, ID: id})
			if err != nil {
				return contactMissing(err, in.GetName())
			}
			if err := sameEtag(in.GetEtag(), entryEtag(row.Version, row.CreateTime), "contact.etag", in.GetName()); err != nil {
				return err
			}
			if err := changeContact(&row, in, paths); err != nil {
				return err
			}
			row.Version++
			row.UpdateTime = pg.Time(s.now())
			err = q(tx).UpdateContact(ctx, db.UpdateContactParams{Party: row.Party, RecipientCode: row.RecipientCode,
				CertifiedMail: row.CertifiedMail, ExternalID: row.ExternalID, VatNumber: row.VatNumber, TaxCode: row.TaxCode,
				SearchName: row.SearchName, Version: row.Version, UpdateTime: row.UpdateTime, TenantID: tenant, ID: id})
			if err != nil {
				return contactTaken(err, in.GetName())
			}
			if err := fillContact(resp, &row); err != nil {
				return err
			}
			return auditEntry(ctx, tx, "contact.update", in.GetName(), paths)
		})
	})
	return s.contactWritten(ctx, resp, err, in)
}

// changeContact applies a change to a row that is locked; the contact that comes out is judged whole.
func changeContact(row *db.Contact, in *invoicev1.Contact, paths []string) error {
	c := &invoicev1.Contact{}
	if err := fillContact(c, row); err != nil {
		return err
	}
	copyPaths(c, in, paths)
	if err := checkContact(c); err != nil {
		return err
	}
	changed, err := contactRow(c)
	if err != nil {
		return err
	}
	changed.Version, changed.CreateTime = row.Version, row.CreateTime
	*row = changed
	return nil
}

// DeleteContact forgets a contact. Invoices that were composed from it stay as they are. NotFound
// CONTACT_NOT_FOUND, Aborted ETAG_MISMATCH.
func (s *Service) DeleteContact(ctx context.Context, req *invoicev1.DeleteContactRequest) (*invoicev1.DeleteContactResponse, error) {
	tenant, id := entryName(req.GetName())
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockContact(ctx, db.LockContactParams{TenantID: tenant, ID: id})
		if err != nil {
			return contactMissing(err, req.GetName())
		}
		if err := sameEtag(req.GetEtag(), entryEtag(row.Version, row.CreateTime), "etag", req.GetName()); err != nil {
			return err
		}
		if err := q(tx).DeleteContact(ctx, db.DeleteContactParams{TenantID: tenant, ID: id}); err != nil {
			return fmt.Errorf("invoice: delete %s: %w", req.GetName(), err)
		}
		return auditEntry(ctx, tx, "contact.delete", req.GetName(), nil)
	})
	if err != nil {
		return nil, err
	}
	return &invoicev1.DeleteContactResponse{}, nil
}

// contactRow writes a contact as its row, times and version apart.
func contactRow(c *invoicev1.Contact) (db.Contact, error) {
	party, err := wire(c.GetParty())
	if err != nil {
		return db.Contact{}, err
	}
	tenant, id := entryName(c.GetName())
	p := c.GetParty()
	return db.Contact{TenantID: tenant, ID: id, Party: party, RecipientCode: c.GetRecipientCode(),
		CertifiedMail: c.GetCertifiedMail(), ExternalID: c.GetExternalId(), VatNumber: p.GetVatNumber(), TaxCode: p.GetTaxCode(),
		SearchName: searchable(p.GetName() + " " + p.GetFirstName() + " " + p.GetLastName())}, nil
}

func fillContact(c *invoicev1.Contact, row *db.Contact) error {
	c.Party = &invoicev1.DraftParty{}
	if err := proto.Unmarshal(row.Party, c.GetParty()); err != nil {
		return fmt.Errorf("invoice: party of contact %s: %w", row.ID, err)
	}
	c.Name = "tenants/" + row.TenantID + "/contacts/" + row.ID
	c.RecipientCode, c.CertifiedMail, c.ExternalId = row.RecipientCode, row.CertifiedMail, row.ExternalID
	c.CreateTime, c.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
	c.Etag = entryEtag(row.Version, row.CreateTime)
	return nil
}
