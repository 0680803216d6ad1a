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

// CreateItem adds a good or service to the price list. Invalid ITEM_INVALID with each field that no
// draft could use; Conflict ITEM_EXISTS (the id), EXTERNAL_ID_TAKEN (names the other item),
// REQUEST_ID_REUSED.
func (s *Service) CreateItem(ctx context.Context, req *invoicev1.CreateItemRequest) (*invoicev1.Item, error) {
	in := proto.CloneOf(req.GetItem())
	in.Name = req.GetParent() + "/items/" + req.GetItemId()
	tenant, _ := entryName(in.GetName())
	if err := checkItem(in); err != nil {
		return nil, err
	}
	row, err := itemRow(in)
	if err != nil {
		return nil, err
	}
	row.Version, row.CreateTime = 1, pg.Time(s.now())
	row.UpdateTime = row.CreateTime
	resp := &invoicev1.Item{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.BookService_CreateItem_FullMethodName, req.GetRequestId(), req, resp, func() error {
			err := q(tx).InsertItem(ctx, db.InsertItemParams{TenantID: row.TenantID, ID: row.ID, Line: row.Line,
				ExternalID: row.ExternalID, SearchDescription: row.SearchDescription, CreateTime: row.CreateTime})
			if err != nil {
				return itemTaken(err, in.GetName())
			}
			if err := fillItem(resp, &row); err != nil {
				return err
			}
			return auditEntry(ctx, tx, "item.create", resp.GetName(), nil)
		})
	})
	return s.itemWritten(ctx, resp, err, in)
}

func itemTaken(err error, name string) error {
	switch pg.Constraint(err) {
	case "item_pkey":
		return fault.Conflict("ITEM_EXISTS", "%s exists already: choose another item_id, or update that one", name).
			WithField("item_id", "ITEM_EXISTS", "is taken").With(err)
	case "item_external_id":
		return errExternalIDTaken
	}
	return fmt.Errorf("invoice: write %s: %w", name, err)
}

// itemWritten is the answer to a write that may have met another item's external_id.
func (s *Service) itemWritten(ctx context.Context, resp *invoicev1.Item, err error, in *invoicev1.Item) (*invoicev1.Item, error) {
	if errors.Is(err, errExternalIDTaken) {
		tenant, _ := entryName(in.GetName())
		return nil, s.externalIDTaken(ctx, tenant, "items", "item.external_id", in.GetExternalId(), func(ctx context.Context, tx pgx.Tx) (string, error) {
			return q(tx).FindItemByExternalID(ctx, db.FindItemByExternalIDParams{TenantID: tenant, ExternalID: in.GetExternalId()})
		})
	}
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// GetItem reads one item. NotFound ITEM_NOT_FOUND.
func (s *Service) GetItem(ctx context.Context, req *invoicev1.GetItemRequest) (resp *invoicev1.Item, err error) {
	tenant, _ := entryName(req.GetName())
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) (err error) {
		resp, err = entries{}.Item(ctx, tx, req.GetName())
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func itemMissing(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.NotFound("ITEM_NOT_FOUND", "there is no item %s", name)
	}
	return fmt.Errorf("invoice: read item %s: %w", name, err)
}

// ListItems reads the items that the filter selects, by id. Invalid FILTER_INVALID, PAGE_TOKEN_INVALID.
func (s *Service) ListItems(ctx context.Context, req *invoicev1.ListItemsRequest) (*invoicev1.ListItemsResponse, error) {
	p, err := itemFilter(req.GetFilter())
	if err != nil {
		return nil, err
	}
	p.TenantID, p.PageSize = strings.TrimPrefix(req.GetParent(), "tenants/"), pageSize(req.GetPageSize())+1
	hash := pg.FilterHash("items", req.GetParent(), req.GetFilter())
	if _, err := pg.DecodePageToken(req.GetPageToken(), hash, &p.After); err != nil {
		return nil, err
	}
	resp := &invoicev1.ListItemsResponse{}
	err = s.db.Tx(ctx, p.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).ListItems(ctx, p)
		if err != nil {
			return fmt.Errorf("invoice: list items: %w", err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, p.PageSize-1, hash, func(r db.Item) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for i := range rows {
			item := &invoicev1.Item{}
			if err := fillItem(item, &rows[i]); err != nil {
				return err
			}
			resp.Items = append(resp.Items, item)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// itemFilter turns a filter of ListItems into the conditions of its query.
func itemFilter(filter string) (db.ListItemsParams, error) {
	var p db.ListItemsParams
	conditions, err := parseFilter(filter)
	if err != nil {
		return p, err
	}
	for _, c := range conditions {
		switch c.field {
		case "external_id":
			err = equals(&p.ExternalID, c)
		case "description":
			p.Descriptions, err = within(p.Descriptions, c)
		default:
			err = filterFault(c.at, "there is no field %q; there are external_id and description", c.field)
		}
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

var changeableOfItem = []string{"line", "external_id"}

// UpdateItem changes what the mask names, or all that is set without one; a line without mask is
// replaced as a whole. Aborted ETAG_MISMATCH; NotFound ITEM_NOT_FOUND; Invalid UPDATE_MASK_INVALID,
// ITEM_INVALID; Conflict EXTERNAL_ID_TAKEN.
func (s *Service) UpdateItem(ctx context.Context, req *invoicev1.UpdateItemRequest) (*invoicev1.Item, error) {
	in := req.GetItem()
	tenant, id, err := ownEntry("item.name", in.GetName(), "items")
	if err != nil {
		return nil, err
	}
	paths, err := changedPaths(in, req.GetUpdateMask().GetPaths(), changeableOfItem)
	if err != nil {
		return nil, err
	}
	resp := &invoicev1.Item{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, invoicev1.BookService_UpdateItem_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, err := q(tx).LockItem(ctx, db.LockItemParams{TenantID: tenant, ID: id})
			if err != nil {
				return itemMissing(err, in.GetName())
			}
			if err := sameEtag(in.GetEtag(), entryEtag(row.Version, row.CreateTime), "item.etag", in.GetName()); err != nil {
				return err
			}
			if err := changeItem(&row, in, paths); err != nil {
				return err
			}
			row.Version++
			row.UpdateTime = pg.Time(s.now())
			err = q(tx).UpdateItem(ctx, db.UpdateItemParams{Line: row.Line, ExternalID: row.ExternalID,
				SearchDescription: row.SearchDescription, Version: row.Version, UpdateTime: row.UpdateTime, TenantID: tenant, ID: id})
			if err != nil {
				return itemTaken(err, in.GetName())
			}
			if err := fillItem(resp, &row); err != nil {
				return err
			}
			return auditEntry(ctx, tx, "item.update", in.GetName(), paths)
		})
	})
	return s.itemWritten(ctx, resp, err, in)
}

// changeItem applies a change to a row that is locked; the item that comes out is judged whole.
func changeItem(row *db.Item, in *invoicev1.Item, paths []string) error {
	i := &invoicev1.Item{}
	if err := fillItem(i, row); err != nil {
		return err
	}
	copyPaths(i, in, paths)
	if err := checkItem(i); err != nil {
		return err
	}
	changed, err := itemRow(i)
	if err != nil {
		return err
	}
	changed.Version, changed.CreateTime = row.Version, row.CreateTime
	*row = changed
	return nil
}

// DeleteItem forgets an item. Invoices that were composed from it stay as they are. NotFound
// ITEM_NOT_FOUND, Aborted ETAG_MISMATCH.
func (s *Service) DeleteItem(ctx context.Context, req *invoicev1.DeleteItemRequest) (*invoicev1.DeleteItemResponse, error) {
	tenant, id := entryName(req.GetName())
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		row, err := q(tx).LockItem(ctx, db.LockItemParams{TenantID: tenant, ID: id})
		if err != nil {
			return itemMissing(err, req.GetName())
		}
		if err := sameEtag(req.GetEtag(), entryEtag(row.Version, row.CreateTime), "etag", req.GetName()); err != nil {
			return err
		}
		if err := q(tx).DeleteItem(ctx, db.DeleteItemParams{TenantID: tenant, ID: id}); err != nil {
			return fmt.Errorf("invoice: delete %s: %w", req.GetName(), err)
		}
		return auditEntry(ctx, tx, "item.delete", req.GetName(), nil)
	})
	if err != nil {
		return nil, err
	}
	return &invoicev1.DeleteItemResponse{}, nil
}

// itemRow writes an item as its row, times and version apart.
func itemRow(i *invoicev1.Item) (db.Item, error) {
	line, err := wire(i.GetLine())
	if err != nil {
		return db.Item{}, err
	}
	tenant, id := entryName(i.GetName())
	return db.Item{TenantID: tenant, ID: id, Line: line, ExternalID: i.GetExternalId(),
		SearchDescription: searchable(i.GetLine().GetDescription())}, nil
}

func fillItem(i *invoicev1.Item, row *db.Item) error {
	i.Line = &invoicev1.Line{}
	if err := proto.Unmarshal(row.Line, i.GetLine()); err != nil {
		return fmt.Errorf("invoice: line of item %s: %w", row.ID, err)
	}
	i.Name, i.ExternalId = "tenants/"+row.TenantID+"/items/"+row.ID, row.ExternalID
	i.CreateTime, i.UpdateTime = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime)
	i.Etag = entryEtag(row.Version, row.CreateTime)
	return nil
}
