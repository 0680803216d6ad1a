-- +goose Up
-- When the archive has destroyed a document by the rules, what is left of its rows tells of nobody.
SET lock_timeout = '5s';

ALTER TABLE transmission
    ADD COLUMN destroyed_by text NOT NULL DEFAULT '', -- tenants/{tenant}/disposals/{disposal}
    ADD COLUMN destroy_time timestamptz;
ALTER TABLE inbound_file
    ADD COLUMN destroyed_by text NOT NULL DEFAULT '',
    ADD COLUMN destroy_time timestamptz;

-- What came in supports lies there too, known by its digest.
CREATE INDEX support_document_sha256 ON support_document (sha256);
-- The message that a company's mail brought, and those that carry its files.
CREATE INDEX pec_mailing_message ON pec_mailing (tenant_id, message) WHERE message <> '';
CREATE INDEX pec_mailing_file_transmission ON pec_mailing_file (transmission_id);
CREATE INDEX inbound_notice_file ON inbound_notice (file_id) WHERE file_id IS NOT NULL;
