-- +goose Up
-- When the archive has destroyed a document by the rules, what is left of its invoice tells of nobody.
SET lock_timeout = '5s';

ALTER TABLE invoice
    ADD COLUMN destroyed_by text NOT NULL DEFAULT '', -- tenants/{tenant}/disposals/{disposal}
    ADD COLUMN destroy_time timestamptz;
