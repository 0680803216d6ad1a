-- Metadata files are ours, small, and one per document: they are kept in the row, where they cost one
-- commit together, and not a file with two fsyncs each.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE unit_file ADD COLUMN content bytea;
ALTER TABLE unit_file ADD CONSTRAINT unit_file_inline CHECK (content IS NULL OR (role = 'metadata' AND length(content) = size));
