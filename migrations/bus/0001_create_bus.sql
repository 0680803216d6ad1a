-- What the kit needs in every schema: events out, events in, events parked, requests remembered,
-- acts recorded. Unqualified names: the schema is the search_path of whoever migrates.

-- +goose Up
SET lock_timeout = '5s';

-- Facts that are committed and not yet published. seq is the order of publishing.
CREATE TABLE outbox (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid        NOT NULL,
    tenant_id   text        NOT NULL,
    created_at  timestamptz NOT NULL,
    subject     text        NOT NULL,
    correlation text        NOT NULL,
    causation   text        NOT NULL DEFAULT '',
    traceparent text        NOT NULL DEFAULT '',
    payload     bytea       NOT NULL
) WITH (
    -- Rows live for milliseconds: without frequent vacuum the head of the index fills with the dead.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000
);
ALTER TABLE outbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON outbox
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Which event each consumer has handled. Event ids are UUIDv7, so the primary key is also the order
-- of time and retention is one range delete. No tenant: a row says nothing but "seen".
CREATE TABLE inbox (
    event_id uuid NOT NULL,
    consumer text NOT NULL,
    PRIMARY KEY (event_id, consumer)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.5);

-- Events and jobs that nobody could handle: kept, shown, retried or dropped by an operator.
CREATE TABLE parked_event (
    id          uuid        PRIMARY KEY,
    kind        text        NOT NULL CHECK (kind IN ('event', 'job')),
    consumer    text        NOT NULL,
    event_id    uuid        NOT NULL,
    tenant_id   text        NOT NULL,
    subject     text        NOT NULL,
    event_time  timestamptz NOT NULL,
    correlation text        NOT NULL,
    causation   text        NOT NULL DEFAULT '',
    traceparent text        NOT NULL DEFAULT '',
    payload     bytea       NOT NULL,
    code        text        NOT NULL,
    reason      text        NOT NULL,
    attempts    integer     NOT NULL,
    parked_at   timestamptz NOT NULL,
    retried_at  timestamptz,
    UNIQUE (consumer, event_id)
);
CREATE INDEX parked_event_correlation ON parked_event (correlation);
ALTER TABLE parked_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE parked_event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON parked_event
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Answers already given, so that a repeated request_id gets the same one.
CREATE TABLE request_log (
    tenant_id    text        NOT NULL,
    method       text        NOT NULL,
    request_id   text        NOT NULL,
    request_hash bytea       NOT NULL,
    response     bytea       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, method, request_id)
);
-- Only retention reads by time, and rows arrive in that order: a block range index costs almost nothing.
CREATE INDEX request_log_created_at ON request_log USING brin (created_at) WITH (pages_per_range = 16);
ALTER TABLE request_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE request_log FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON request_log
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Who did what. Rows are only ever added: the service's role is granted SELECT and INSERT.
CREATE TABLE audit_entry (
    id        uuid        PRIMARY KEY,
    tenant_id text        NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    actor     text        NOT NULL,
    action    text        NOT NULL,
    resource  text        NOT NULL,
    outcome   text        NOT NULL,
    detail    jsonb       NOT NULL DEFAULT '{}',
    trace_id  text        NOT NULL DEFAULT ''
);
CREATE INDEX audit_entry_tenant ON audit_entry (tenant_id, id);
ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON audit_entry
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
