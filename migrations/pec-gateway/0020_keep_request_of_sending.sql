-- What asked for a message, so that its states can be told to who asked.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE sending ADD COLUMN request_id text NOT NULL DEFAULT '';
