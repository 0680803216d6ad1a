package tenancy

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/tenancy/internal/db"
)

// CreateCompany adds a fiscal identity to a tenant and states the fact CompanyCreated. Conflict
// COMPANY_EXISTS (the id) or COMPANY_IDENTITY_EXISTS (VAT number and tax code); Invalid with the
// field when a check digit is wrong.
func (s *Service) CreateCompany(ctx context.Context, req *tenancyv1.CreateCompanyRequest) (*tenancyv1.Company, error) {
	in := req.GetCompany()
	if err := checkIdentity(in.GetVatNumber(), in.GetTaxCode()); err != nil {
		return nil, err
	}
	tenant := segment(req.GetParent(), 1)
	policy := in.GetSignaturePolicy()
	if policy == tenancyv1.SignaturePolicy_SIGNATURE_POLICY_UNSPECIFIED {
		policy = tenancyv1.SignaturePolicy_SIGNATURE_POLICY_AUTO
	}
	now := pg.Time(s.now())
	row := db.Company{TenantID: tenant, ID: req.GetCompanyId(), DisplayName: in.GetDisplayName(),
		VatNumber: normalVAT(in.GetVatNumber()), TaxCode: in.GetTaxCode(), RecipientCode: in.GetRecipientCode(),
		RecipientCodes: codes(in.GetRecipientCodes()), PecAddresses: addresses(in.GetPecAddresses()), SignaturePolicy: int16(policy), Version: 1, CreateTime: now, UpdateTime: now}
	resp := &tenancyv1.Company{}
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayBegin(ctx, tx, tenant); err != nil {
			return err
		}
		return rpc.Once(ctx, tx, tenancyv1.TenancyService_CreateCompany_FullMethodName, req.GetRequestId(), req, resp, func() error {
			err := q(tx).InsertCompany(ctx, db.InsertCompanyParams{TenantID: row.TenantID, ID: row.ID, DisplayName: row.DisplayName,
				VatNumber: row.VatNumber, TaxCode: row.TaxCode, RecipientCode: row.RecipientCode, RecipientCodes: row.RecipientCodes,
				PecAddresses: row.PecAddresses, SignaturePolicy: row.SignaturePolicy, CreateTime: row.CreateTime})
			if err != nil {
				return companyTaken(err, row)
			}
			fillCompany(resp, row)
			if err := s.bus.Emit(ctx, tx, &tenancyv1.CompanyCreated{Company: resp.GetName()}); err != nil {
				return err
			}
			return audit(ctx, tx, "company.create", resp.GetName(), map[string]string{"signature_policy": policy.String()})
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func companyTaken(err error, row db.Company) error {
	if pg.Constraint(err) != "company_identity" {
		return existing(err, "COMPANY_EXISTS", "company_id", companyName(row))
	}
	return fault.Conflict("COMPANY_IDENTITY_EXISTS",
		"another company of tenants/%s has VAT number %q and tax code %q: use that one", row.TenantID, row.VatNumber, row.TaxCode).
		WithField("company.vat_number", "COMPANY_IDENTITY_EXISTS", "is registered already, with the same tax code").With(err)
}

// GetCompany reads one company.
func (s *Service) GetCompany(ctx context.Context, req *tenancyv1.GetCompanyRequest) (*tenancyv1.Company, error) {
	resp, tenant := &tenancyv1.Company{}, segment(req.GetName(), 1)
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mayActFor(ctx, tx, tenant); err != nil {
			return err
		}
		row, err := q(tx).GetCompany(ctx, db.GetCompanyParams{TenantID: tenant, ID: segment(req.GetName(), 3)})
		if err != nil {
			return companyMissing(err, req.GetName())
		}
		fillCompany(resp, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func companyMissing(err error, name string) error {
	if isNoRows(err) {
		return fault.NotFound("COMPANY_NOT_FOUND", "there is no company %s", name)
	}
	return fmt.Errorf("tenancy: read company %s: %w", name, err)
}

// ListCompanies reads the companies of a tenant by id.
func (s *Service) ListCompanies(ctx context.Context, req *tenancyv1.ListCompaniesRequest) (*tenancyv1.ListCompaniesResponse, error) {
	tenant := segment(req.GetParent(), 1)
	hash, after := pg.FilterHash("companies", tenant), ""
	_, err := pg.DecodePageToken(req.GetPageToken(), hash, &after)
	if err != nil {
		return nil, err
	}
	resp := &tenancyv1.ListCompaniesResponse{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.mayActFor(ctx, tx, tenant); err != nil {
			return err
		}
		size := pageSize(req.GetPageSize())
		rows, err := q(tx).ListCompanies(ctx, db.ListCompaniesParams{TenantID: tenant, After: after, PageSize: size + 1})
		if err != nil {
			return fmt.Errorf("tenancy: list companies of %s: %w", tenant, err)
		}
		rows, resp.NextPageToken, err = pg.Page(rows, size, hash, func(r db.Company) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		for _, row := range rows {
			c := &tenancyv1.Company{}
			fillCompany(c, row)
			resp.Companies = append(resp.Companies, c)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// UpdateCompany changes what the mask names, or all that is set without one. An etag that is not the
// current one: Aborted ETAG_MISMATCH. VAT number and tax code can be added, never changed: invoices
// were issued under them.
func (s *Service) UpdateCompany(ctx context.Context, req *tenancyv1.UpdateCompanyRequest) (*tenancyv1.Company, error) {
	in := req.GetCompany()
	name := in.GetName()
	if strings.Count(name, "/") != 3 || segment(name, 0) != "tenants" || segment(name, 2) != "companies" {
		return nil, fault.Invalid("NAME_INVALID", "company.name: %q is not tenants/{tenant}/companies/{company}", name).
			WithField("company.name", "NAME_INVALID", "is no name of a company")
	}
	paths, err := companyPaths(in, req.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	resp, tenant := &tenancyv1.Company{}, segment(name, 1)
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.mayBegin(ctx, tx, tenant); err != nil {
			return err
		}
		return rpc.Once(ctx, tx, tenancyv1.TenancyService_UpdateCompany_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, err := q(tx).LockCompany(ctx, db.LockCompanyParams{TenantID: tenant, ID: segment(name, 3)})
			if err != nil {
				return companyMissing(err, name)
			}
			if in.GetEtag() != "" && in.GetEtag() != etag(row.Version) {
				return fault.Aborted("ETAG_MISMATCH", "%s was changed meanwhile: read it again and repeat the change", name).
					WithField("company.etag", "ETAG_MISMATCH", "is not the current one")
			}
			if err := applyCompany(&row, in, paths); err != nil {
				return err
			}
			row.Version++
			row.UpdateTime = pg.Time(s.now())
			err = q(tx).UpdateCompany(ctx, db.UpdateCompanyParams{DisplayName: row.DisplayName, VatNumber: row.VatNumber, TaxCode: row.TaxCode,
				RecipientCode: row.RecipientCode, RecipientCodes: row.RecipientCodes, PecAddresses: row.PecAddresses,
				SignaturePolicy: row.SignaturePolicy, Version: row.Version, UpdateTime: row.UpdateTime, TenantID: row.TenantID, ID: row.ID})
			if err != nil {
				return companyTaken(err, row)
			}
			fillCompany(resp, row)
			return audit(ctx, tx, "company.update", name, map[string]string{"fields": strings.Join(paths, ",")})
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// companyPaths is the list of fields to change. spec: AIP-134 "update_mask", AIP-161
func companyPaths(in *tenancyv1.Company, mask []string) ([]string, error) {
	all := []string{"display_name", "vat_number", "tax_code", "recipient_code", "recipient_codes", "pec_addresses", "signature_policy"}
	set := map[string]bool{
		"display_name": in.GetDisplayName() != "", "vat_number": in.GetVatNumber() != "", "tax_code": in.GetTaxCode() != "",
		"recipient_code":   in.GetRecipientCode() != "",
		"recipient_codes":  len(in.GetRecipientCodes()) > 0,
		"pec_addresses":    len(in.GetPecAddresses()) > 0,
		"signature_policy": in.GetSignaturePolicy() != tenancyv1.SignaturePolicy_SIGNATURE_POLICY_UNSPECIFIED,
	}
	if len(mask) == 1 && mask[0] == "*" {
		return all, nil
	}
	var paths []string
	if len(mask) == 0 {
		for _, p := range all {
			if set[p] {
				paths = append(paths, p)
			}
		}
		return paths, nil
	}
	for _, p := range mask {
		if _, ok := set[p]; !ok {
			return nil, fault.Invalid("UPDATE_MASK_INVALID", "update_mask: %q cannot be changed; these can: %s", p, strings.Join(all, ", ")).
				WithField("update_mask", "UPDATE_MASK_INVALID", p+" cannot be changed")
		}
		paths = append(paths, p)
	}
	return paths, nil
}

func applyCompany(row *db.Company, in *tenancyv1.Company, paths []string) error {
	for _, p := range paths {
		switch p {
		case "display_name":
			row.DisplayName = in.GetDisplayName() // never empty: its rule in the contract
		case "recipient_code":
			row.RecipientCode = in.GetRecipientCode()
		case "recipient_codes":
			row.RecipientCodes = codes(in.GetRecipientCodes())
		case "pec_addresses":
			row.PecAddresses = addresses(in.GetPecAddresses())
		case "signature_policy":
			if in.GetSignaturePolicy() == tenancyv1.SignaturePolicy_SIGNATURE_POLICY_UNSPECIFIED {
				return fault.Invalid("FIELD_REQUIRED", "company.signature_policy: name NONE, AUTO or ALWAYS").
					WithField("company.signature_policy", "FIELD_REQUIRED", "is not set")
			}
			row.SignaturePolicy = int16(in.GetSignaturePolicy())
		case "vat_number":
			if err := addIdentity(&row.VatNumber, normalVAT(in.GetVatNumber()), "company.vat_number"); err != nil {
				return err
			}
		case "tax_code":
			if err := addIdentity(&row.TaxCode, in.GetTaxCode(), "company.tax_code"); err != nil {
				return err
			}
		}
	}
	return checkIdentity(row.VatNumber, row.TaxCode)
}

func addIdentity(have *string, want, field string) error {
	if *have != "" && *have != want {
		return fault.Precondition("COMPANY_IDENTITY_FIXED",
			"%s: is %q and cannot become %q, because invoices were issued under it: create another company", field, *have, want).
			WithField(field, "COMPANY_IDENTITY_FIXED", "cannot be changed once set")
	}
	*have = want
	return nil
}

func companyName(row db.Company) string { return "tenants/" + row.TenantID + "/companies/" + row.ID }

func fillCompany(c *tenancyv1.Company, row db.Company) {
	c.Name, c.DisplayName = companyName(row), row.DisplayName
	c.VatNumber, c.TaxCode, c.RecipientCode = row.VatNumber, row.TaxCode, row.RecipientCode
	c.RecipientCodes, c.PecAddresses = row.RecipientCodes, row.PecAddresses
	c.SignaturePolicy = tenancyv1.SignaturePolicy(row.SignaturePolicy)
	c.CreateTime, c.UpdateTime, c.Etag = timestamppb.New(row.CreateTime), timestamppb.New(row.UpdateTime), etag(row.Version)
}
