-- A person vouches for mail that was copied into a mailbox after the certificates of its signers had ended: for what came within a period.
-- A row is written once; later only its end, and how far judging anew is.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE vouching (
    tenant_id    text        NOT NULL,
    id           uuid        NOT NULL,
    mailbox_id   uuid        NOT NULL,
    arrive_from  timestamptz NOT NULL, -- as the provider's server says when the copies came; both ends belong to it
    arrive_until timestamptz NOT NULL,
    reason       text        NOT NULL,
    vouched_by   text        NOT NULL,
    vouch_time   timestamptz NOT NULL,
    end_time     timestamptz,
    ended_by     text        NOT NULL DEFAULT '',
    end_reason   text        NOT NULL DEFAULT '',
    -- Messages are gone through in the order of their ids: once when it begins, once more when it ends.
    at_message   uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    failed       bigint      NOT NULL DEFAULT 0,
    judge_time   timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
CREATE INDEX vouching_mailbox ON vouching (tenant_id, mailbox_id, id);
ALTER TABLE vouching ENABLE ROW LEVEL SECURITY;
ALTER TABLE vouching FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON vouching
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE INDEX message_cert_ended ON message (tenant_id, mailbox_id, id) WHERE verification = 'valid-cert-ended';

ALTER TABLE fact ADD COLUMN vouched text NOT NULL DEFAULT ''; -- by whose word its receipt counts, and why; empty: it is proven by itself
