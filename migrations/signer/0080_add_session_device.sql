-- The device at the provider that a challenge's password comes from.

-- +goose Up
SET lock_timeout = '5s';

-- '' for both: the device of the holding.
ALTER TABLE provider_session ADD COLUMN otp_id text NOT NULL DEFAULT '';
ALTER TABLE provider_session ADD COLUMN otp_kind text NOT NULL DEFAULT '';
