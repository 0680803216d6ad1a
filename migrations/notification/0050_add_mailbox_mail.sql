-- Notices of certified mail that came in, and mail that a rule sends on: the event names the address.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE delivery DROP CONSTRAINT delivery_channel_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_channel_check CHECK (channel IN ('webhook', 'email', 'participant', 'notice', 'forward'));
-- What is attached to a message that is sent on; '' elsewhere.
ALTER TABLE delivery ADD COLUMN content_uri text NOT NULL DEFAULT '';
