-- +goose Up
-- Signed reports of checks and of disposals are leaves of the log too. Kinds are the program's matter: a list here would have to be changed
-- with each.
SET lock_timeout = '5s';

ALTER TABLE log_pending DROP CONSTRAINT log_pending_kind_check;
ALTER TABLE log_pending ADD CONSTRAINT log_pending_kind_check CHECK (kind ~ '^[a-z_]+$');
