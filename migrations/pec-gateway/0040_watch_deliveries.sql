-- When time alone says something new about a sent message, what was said about it, and what a receipt shows of
-- the content that was delivered.

-- +goose Up
SET lock_timeout = '5s';

-- look_at: null when only a receipt can change anything. stall_code: empty while all goes as it should.
ALTER TABLE message
    ADD COLUMN look_at    timestamptz,
    ADD COLUMN stall_code text NOT NULL DEFAULT '',
    ADD COLUMN stall_at   timestamptz;
CREATE INDEX message_look ON message (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX message_stalled ON message (tenant_id, mailbox_id, id) WHERE stall_code <> '';

-- What of the content differs from what was sent, in words; the fact itself counts all the same.
ALTER TABLE fact ADD COLUMN remark text NOT NULL DEFAULT '';
