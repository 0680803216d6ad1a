-- Finds invoices by the name of their file at SdI, whatever its case: for control 00002 and for lists.

-- +goose Up
SET lock_timeout = '5s';

CREATE INDEX invoice_file_name ON invoice (tenant_id, upper(file_name)) WHERE file_name <> '';
