-- +goose Up
-- A distribution that is signed and not stamped yet: its ZIP with index and signature, in the platform's store. What is tried again is the stamp;
-- built anew it would hold later proofs of the log, under another signature.
SET lock_timeout = '5s';

ALTER TABLE distribution ADD COLUMN held_sha256 bytea CHECK (length(held_sha256) = 32), ADD COLUMN held_size bigint;
