-- +goose Up
-- Why nothing can be stamped stands beside why nothing can be signed. It is told only when it lasts: authorities are away for minutes.
SET lock_timeout = '5s';

ALTER TABLE signing_outage DROP CONSTRAINT signing_outage_source_check;
ALTER TABLE signing_outage ADD CONSTRAINT signing_outage_source_check CHECK (source IN ('SIGNER', 'ISSUER', 'AUTHORITY'));
ALTER TABLE signing_outage ADD COLUMN told boolean NOT NULL DEFAULT true;
