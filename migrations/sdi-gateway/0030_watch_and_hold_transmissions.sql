-- Deadlines of transmissions, the backlog that waits while nothing can be sent, and who has paused sending.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE transmission
    -- When the messages that terms run from came; the terms themselves are computed.
    ADD COLUMN rc_at        timestamptz,
    ADD COLUMN mc_at        timestamptz,
    ADD COLUMN ns_at        timestamptz,
    -- The one term that runs now, and what was told about it: 0 nothing, 1 that it is near, 2 that it has passed.
    ADD COLUMN due_kind     text        NOT NULL DEFAULT '',
    ADD COLUMN due_at       timestamptz,
    ADD COLUMN due_told     smallint    NOT NULL DEFAULT 0,
    -- The invoice that was sent in the place of this discarded one.
    ADD COLUMN corrected_by text        NOT NULL DEFAULT '',
    -- Why the file waits, in words; empty when it does not wait in the backlog.
    ADD COLUMN held         text        NOT NULL DEFAULT '',
    -- The pause that holds it; without one it waits for its turn.
    ADD COLUMN held_by      uuid,
    -- Not to be sent before.
    ADD COLUMN next_at      timestamptz,
    -- The day by which the law wants it sent: the order of the backlog.
    ADD COLUMN send_by      timestamptz;
CREATE INDEX transmission_due ON transmission (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX transmission_backlog ON transmission (send_by, id) WHERE held <> '' AND held_by IS NULL;
CREATE INDEX transmission_corrected ON transmission (tenant_id, corrected_by) WHERE corrected_by <> '';
CREATE INDEX transmission_held_by ON transmission (held_by) WHERE held_by IS NOT NULL;

-- What is on its way already has its term too.
SET LOCAL ceralacca.scope = 'system';
UPDATE transmission SET due_kind = 'RECEIPT', due_at = sent_at + interval '6 days' WHERE state = 'SENT' AND sent_at IS NOT NULL;

-- What the check of a message's signature found, as JSON; empty for messages older than the check.
ALTER TABLE message ADD COLUMN signature text NOT NULL DEFAULT '';

-- What all replicas share about the way to SdI: the tokens of the drain, and an outage that lasts.
CREATE TABLE endpoint (
    name         text             PRIMARY KEY, -- the transmitter whose files go there
    tokens       double precision NOT NULL DEFAULT 0,
    tokens_at    timestamptz      NOT NULL,
    outage_since timestamptz,
    failures     integer          NOT NULL DEFAULT 0, -- trials in a row that failed during the outage
    retry_at     timestamptz,
    last_error   text             NOT NULL DEFAULT ''
);

-- Sending stopped by a person: of the whole transmitter (tenant_id empty), a tenant, or one of its companies.
CREATE TABLE pause (
    id         uuid        PRIMARY KEY,
    tenant_id  text        NOT NULL DEFAULT '',
    company    text        NOT NULL DEFAULT '', -- tenants/{tenant}/companies/{company}
    reason     text        NOT NULL,
    created_by text        NOT NULL,
    -- Then only operators may end it.
    by_operator boolean    NOT NULL,
    created_at timestamptz NOT NULL,
    starts_at  timestamptz NOT NULL,
    ends_at    timestamptz, -- resumes by itself
    ended_at   timestamptz, -- resumed; what it held has gone back to the backlog
    ended_by   text        NOT NULL DEFAULT '',
    CHECK (ends_at IS NULL OR ends_at > starts_at)
);
CREATE INDEX pause_open ON pause (starts_at) WHERE ended_at IS NULL;
CREATE INDEX pause_list ON pause (tenant_id, id DESC);
ALTER TABLE pause ENABLE ROW LEVEL SECURITY;
ALTER TABLE pause FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pause
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
