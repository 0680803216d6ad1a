-- +goose Up
-- When the archive has destroyed a document by the rules, what is left of the mails and posts about it tells of nobody.
SET lock_timeout = '5s';

ALTER TABLE delivery ADD COLUMN destroyed_by text NOT NULL DEFAULT ''; -- tenants/{tenant}/disposals/{disposal}
CREATE INDEX delivery_content ON delivery USING hash (content_uri) WHERE content_uri <> '';
