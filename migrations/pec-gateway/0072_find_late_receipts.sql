-- Receipts without msgid that came before the acceptance which tells the provider's identifier: few, so the index is small.

-- +goose Up
SET lock_timeout = '5s';

CREATE INDEX message_unlinked ON message (tenant_id, mailbox_id, identificativo)
    WHERE direction = 1 AND proven AND about_id IS NULL AND reference = '' AND identificativo <> '';
