-- How sent messages leave: the queue of each mailbox, and every attempt to hand a message over.

-- +goose Up
SET lock_timeout = '5s';

-- One row for each mailbox that sends. It is locked by whoever chooses what leaves next, so the limits of
-- the provider hold over all replicas.
CREATE TABLE sending_queue (
    tenant_id   text          NOT NULL,
    mailbox_id  uuid          NOT NULL,
    -- The job that hands over now; another takes over when it has been silent for too long.
    lease_job   bigint,
    lease_until timestamptz,
    -- The job that looks again at wake_at; others need not.
    wake_job    bigint,
    wake_at     timestamptz,
    -- When messages left lately, for the limit of a minute.
    recent      timestamptz[] NOT NULL DEFAULT '{}',
    per_minute  integer       NOT NULL DEFAULT 0, -- learned from the provider's answers; 0: that of the preset
    learned_at  timestamptz,
    not_before  timestamptz,
    failures    integer       NOT NULL DEFAULT 0, -- in a row, before a message was offered at all
    held_code   text          NOT NULL DEFAULT '',
    held        text          NOT NULL DEFAULT '',
    held_at     timestamptz,
    PRIMARY KEY (tenant_id, mailbox_id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
) WITH (fillfactor = 70);
ALTER TABLE sending_queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE sending_queue FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON sending_queue
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE sending (
    tenant_id   text        NOT NULL,
    message_id  uuid        NOT NULL,
    mailbox_id  uuid        NOT NULL,
    position    bigint      NOT NULL GENERATED ALWAYS AS IDENTITY, -- order of leaving
    step        text        NOT NULL CHECK (step IN ('queued', 'leaving', 'unknown', 'decide', 'done', 'cancelled')),
    attempts    integer     NOT NULL DEFAULT 0,
    next_at     timestamptz NOT NULL,
    unknown_at  timestamptz,
    decide_at   timestamptz,
    split       uuid[]      NOT NULL DEFAULT '{}', -- messages of the same request
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, message_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
) WITH (fillfactor = 70);
CREATE INDEX sending_open ON sending (tenant_id, mailbox_id, position) WHERE step IN ('queued', 'leaving', 'unknown', 'decide');
ALTER TABLE sending ENABLE ROW LEVEL SECURITY;
ALTER TABLE sending FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON sending
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Written before the first byte leaves. dot_at is written before the end of the content leaves, and only
-- while end_at is empty: a process that was given up cannot end a message any more.
CREATE TABLE sending_attempt (
    tenant_id  text        NOT NULL,
    message_id uuid        NOT NULL,
    number     integer     NOT NULL,
    start_at   timestamptz NOT NULL,
    dot_at     timestamptz,
    end_at     timestamptz,
    outcome    text        NOT NULL DEFAULT '',
    phase      text        NOT NULL DEFAULT '',
    cause      text        NOT NULL DEFAULT '',
    code       integer     NOT NULL DEFAULT 0,
    reply      text        NOT NULL DEFAULT '',
    tls        text        NOT NULL DEFAULT '',
    refused    text[]      NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, message_id, number),
    FOREIGN KEY (tenant_id, message_id) REFERENCES sending (tenant_id, message_id)
);
ALTER TABLE sending_attempt ENABLE ROW LEVEL SECURITY;
ALTER TABLE sending_attempt FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON sending_attempt
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
