-- Mails to participants of signature requests: they subscribed to nothing, the event names them.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE delivery DROP CONSTRAINT delivery_channel_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_channel_check CHECK (channel IN ('webhook', 'email', 'participant'));
-- Of a participant; '' elsewhere.
ALTER TABLE delivery ADD COLUMN address  text NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN language text NOT NULL DEFAULT '';
