-- +goose Up
-- Copies are made outside of transactions: who is at work with one says so, and one that failed is passed over for a while.
SET lock_timeout = '5s';

ALTER TABLE archive_copy
    ADD COLUMN claimed_at timestamptz, -- somebody is writing it since then; NULL: nobody is
    ADD COLUMN tried_at timestamptz;   -- the last time that it could not be made
CREATE INDEX archive_copy_owed ON archive_copy (replica, tried_at NULLS FIRST, object_id) WHERE state = 'OWED';
