-- +goose Up
-- A report of deposits as it is to be signed, kept before its signature is asked for: whoever dies in between, the next attempt asks for the
-- same, and written anew it would name another checkpoint of the log.
SET lock_timeout = '5s';

ALTER TABLE deposit ADD COLUMN written bytea;
ALTER TABLE submission ADD COLUMN written bytea;
