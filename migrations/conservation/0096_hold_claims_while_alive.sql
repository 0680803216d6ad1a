-- +goose Up
-- A claim on a copy is true as long as who made it lives, and not for an hour.
SET lock_timeout = '5s';

-- The advisory lock that the writer holds on a connection of its own; NULL beside claimed_at: a release without such locks wrote it.
ALTER TABLE archive_copy ADD COLUMN claimed_by bigint;
CREATE INDEX archive_copy_claimed ON archive_copy (claimed_by) WHERE claimed_by IS NOT NULL;
