-- How far the reading of all kept messages is, which finds those that the archive does not give back as they came, and what
-- became of each of these.

-- +goose Up
SET lock_timeout = '5s';

-- One row. Messages are read in the order of their primary key, a turn at a time; then the next round begins.
CREATE TABLE archive_reading (
    id              smallint    PRIMARY KEY CHECK (id = 1),
    round           bigint      NOT NULL DEFAULT 1,
    start_time      timestamptz,                    -- of the round; null: it waits to begin
    at_tenant       text        NOT NULL DEFAULT '',
    at_message      uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    messages        bigint      NOT NULL DEFAULT 0, -- read in this round
    bytes           bigint      NOT NULL DEFAULT 0,
    damaged         bigint      NOT NULL DEFAULT 0, -- found in this round
    next_time       timestamptz NOT NULL DEFAULT 'epoch', -- of the next turn
    last_start_time timestamptz,
    last_end_time   timestamptz
);
INSERT INTO archive_reading (id) VALUES (1);

CREATE TABLE damaged_message (
    tenant_id     text        NOT NULL,
    message_id    uuid        NOT NULL,
    mailbox_id    uuid        NOT NULL,
    code          text        NOT NULL, -- of the store: BLOB_CORRUPT, BLOB_NOT_FOUND
    reason        text        NOT NULL,
    find_time     timestamptz NOT NULL,
    look_time     timestamptz NOT NULL, -- when the archive was last asked for it
    ask_time      timestamptz,          -- when the provider was
    repair_time   timestamptz,
    repaired_from text        NOT NULL DEFAULT '' CHECK (repaired_from IN ('', 'PROVIDER', 'STORE')),
    PRIMARY KEY (tenant_id, message_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
);
CREATE INDEX damaged_open ON damaged_message (tenant_id, mailbox_id) WHERE repair_time IS NULL;
CREATE INDEX damaged_look ON damaged_message (look_time) WHERE repair_time IS NULL;
ALTER TABLE damaged_message ENABLE ROW LEVEL SECURITY;
ALTER TABLE damaged_message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON damaged_message
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
