-- +goose Up
-- Which messages and days need bytes of the platform's store: asked before copies of destroyed ones are erased.
SET lock_timeout = '5s';

ALTER TABLE preserved_day ADD COLUMN destroyed_by text NOT NULL DEFAULT ''; -- tenants/{tenant}/disposals/{disposal}
CREATE INDEX message_bytes ON message USING hash (content_uri);
