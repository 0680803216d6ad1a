package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/tenancy/internal/db"
)

// LookUpRecipients tells which companies a document that came in may be for, over all tenants. It only
// answers what is registered: which answer counts is the gateway's business.
func (s *Service) LookUpRecipients(ctx context.Context, req *tenancyv1.LookUpRecipientsRequest) (*tenancyv1.LookUpRecipientsResponse, error) {
	resp := &tenancyv1.LookUpRecipientsResponse{}
	err := s.db.System(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := q(tx).LookUpRecipients(ctx, db.LookUpRecipientsParams{
			Code: req.GetRecipientCode(), Pec: strings.ToLower(req.GetPecAddress()),
			Vat: normalVAT(req.GetVatNumber()), Tax: strings.ToUpper(req.GetTaxCode()),
		})
		if err != nil {
			return fmt.Errorf("tenancy: look up recipients: %w", err)
		}
		for _, r := range rows {
			name := "tenants/" + r.TenantID + "/companies/" + r.ID
			for _, hit := range []struct {
				by   bool
				list *[]string
			}{{r.ByCode, &resp.ByRecipientCode}, {r.ByPec, &resp.ByPecAddress}, {r.ByVat, &resp.ByVatNumber}, {r.ByTax, &resp.ByTaxCode}} {
				if hit.by {
					*hit.list = append(*hit.list, name)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// codes are the further recipient codes in one order.
func codes(given []string) []string {
	out := slices.Sorted(slices.Values(given))
	if out == nil {
		out = []string{}
	}
	return out
}

// addresses are the certified addresses in lower case, in one order, each once.
func addresses(given []string) []string {
	out := make([]string, 0, len(given))
	for _, a := range given {
		out = append(out, strings.ToLower(a))
	}
	slices.Sort(out)
	return slices.Compact(out)
}
