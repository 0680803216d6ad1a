-- Files on their way to SdI, their names, and the messages that came back.

-- +goose Up
SET lock_timeout = '5s';

-- The next progressive of each transmitter. Names are taken in blocks: gaps are allowed, repeats never.
CREATE TABLE name_series (
    transmitter text   PRIMARY KEY, -- country and fiscal id, upper case: the part of the name before _
    next        bigint NOT NULL CHECK (next >= 0)
);

CREATE TABLE transmission (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    invoice     text        NOT NULL,
    format      text        NOT NULL CHECK (format IN ('FPA12', 'FPR12', 'FSM10')),
    -- What is known of it, as a set: the state is a function of the set, so order does not matter.
    facts       integer     NOT NULL DEFAULT 0,
    state       text        NOT NULL DEFAULT 'RESERVED',
    file_name   text        NOT NULL,
    -- The name as SdI may compare it: case is not to be relied on.
    file_key    text        NOT NULL,
    file_uri    text        NOT NULL,
    file_sha256 bytea       NOT NULL CHECK (octet_length(file_sha256) = 32),
    sdi_id      text        NOT NULL DEFAULT '',
    attempts    integer     NOT NULL DEFAULT 0,
    last_error  text        NOT NULL DEFAULT '',
    -- Where the invoice's trace stood: SdI's messages bring none of their own.
    traceparent text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    attempt_at  timestamptz,
    sent_at     timestamptz,
    updated_at  timestamptz NOT NULL,
    -- One transmission for one invoice, however often its events come.
    CONSTRAINT transmission_invoice UNIQUE (tenant_id, invoice),
    -- spec: AllA-1.9 §1.2, control 00002: a name is new with respect to every file ever sent.
    CONSTRAINT transmission_file_key UNIQUE (file_key)
);
CREATE INDEX transmission_sdi_id ON transmission (sdi_id) WHERE sdi_id <> '';
CREATE INDEX transmission_list ON transmission (tenant_id, id DESC);
-- What is still to be sent, for operators and for the drain.
CREATE INDEX transmission_pending ON transmission (created_at) WHERE state = 'RESERVED';
ALTER TABLE transmission ENABLE ROW LEVEL SECURITY;
ALTER TABLE transmission FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON transmission
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Messages of SdI, raw first. Until a message is matched it has no tenant, and only the system scope sees it.
CREATE TABLE message (
    id              uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL DEFAULT '',
    transmission_id uuid        REFERENCES transmission (id),
    operation       text        NOT NULL,
    type            text        NOT NULL DEFAULT '',
    file_name       text        NOT NULL,
    sdi_id          text        NOT NULL,
    sha256          bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    -- The bytes as received; moved to the blob store once it is known whose they are.
    raw             bytea,
    content_uri     text        NOT NULL DEFAULT '',
    received_at     timestamptz NOT NULL,
    applied_at      timestamptz,
    duplicates      integer     NOT NULL DEFAULT 0,
    problem         text        NOT NULL DEFAULT '',
    CONSTRAINT message_once UNIQUE (sdi_id, file_name, sha256),
    CHECK (raw IS NOT NULL OR content_uri <> '')
);
CREATE INDEX message_transmission ON message (transmission_id);
CREATE INDEX message_unmatched ON message (id DESC) WHERE transmission_id IS NULL;
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
ALTER TABLE message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON message
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
