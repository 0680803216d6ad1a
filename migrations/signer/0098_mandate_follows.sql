-- +goose Up
-- Whether a mandate is also for the credential that takes the place of the one it was given for. Those of before are not.
SET lock_timeout = '5s';

ALTER TABLE mandate ADD COLUMN follows_successor boolean NOT NULL DEFAULT false;
