-- Further codes and certified addresses on which a company receives.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE company
    ADD COLUMN recipient_codes text[] NOT NULL DEFAULT '{}',
    -- Lower case: certified addresses are compared without regard to it.
    ADD COLUMN pec_addresses text[] NOT NULL DEFAULT '{}';
-- The gateway asks over all tenants whose a document is.
CREATE INDEX company_recipient_code ON company (recipient_code) WHERE recipient_code <> '';
CREATE INDEX company_recipient_codes ON company USING gin (recipient_codes);
CREATE INDEX company_pec_addresses ON company USING gin (pec_addresses);
CREATE INDEX company_vat_number ON company (vat_number) WHERE vat_number <> '';
CREATE INDEX company_tax_code ON company (tax_code) WHERE tax_code <> '';
