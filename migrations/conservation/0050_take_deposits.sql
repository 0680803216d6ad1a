-- +goose Up
-- What producers hand over themselves: each attempt with its parts, the judgement, and the report of what was taken.
SET lock_timeout = '5s';

CREATE TABLE deposit (
    id           uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    client_key   text        NOT NULL,
    attempt      integer     NOT NULL CHECK (attempt > 0),
    kind         text        NOT NULL CHECK (kind IN ('DOCUMENT', 'PACKAGE')),
    state        text        NOT NULL CHECK (state IN ('RECEIVING', 'ACCEPTED', 'REFUSED', 'CONFLICT')),
    file_name    text        NOT NULL,
    size         bigint      NOT NULL CHECK (size > 0),
    sha256       bytea       NOT NULL CHECK (length(sha256) = 32), -- as declared; what arrives has it or is refused
    received     bigint      NOT NULL DEFAULT 0 CHECK (received BETWEEN 0 AND size),
    class        text        NOT NULL,
    fiscal_year  integer     NOT NULL,
    head         jsonb       NOT NULL, -- document's metadata as they were given
    format       text        NOT NULL DEFAULT '',
    problems     jsonb       NOT NULL DEFAULT '[]',
    verification bytea,                -- of a package
    unit_id      uuid        REFERENCES unit (id),
    deposited_by text        NOT NULL,
    created_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    resolution   text        NOT NULL DEFAULT '' CHECK (resolution IN ('', 'KEEP_HELD', 'KEEP_BOTH')),
    resolved_by  text        NOT NULL DEFAULT '',
    reason       text        NOT NULL DEFAULT '',
    report_id    uuid, -- object of the signed report
    stamp_id     uuid, -- object of its time stamp
    report       bytea,
    stamp        bytea,
    stamped_at   timestamptz,
    UNIQUE (tenant_id, client_key, attempt),
    CHECK ((state = 'RECEIVING') = (ended_at IS NULL)),
    CHECK (state <> 'ACCEPTED' OR unit_id IS NOT NULL),
    CHECK ((report IS NULL) = (stamped_at IS NULL))
);
CREATE UNIQUE INDEX deposit_under_way ON deposit (tenant_id, client_key) WHERE state = 'RECEIVING';
CREATE INDEX deposit_list ON deposit (tenant_id, id);
CREATE INDEX deposit_unit ON deposit (unit_id) WHERE unit_id IS NOT NULL;
CREATE INDEX deposit_conflict ON deposit (tenant_id, id) WHERE state = 'CONFLICT' OR resolution <> '';
ALTER TABLE deposit ENABLE ROW LEVEL SECURITY;
ALTER TABLE deposit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON deposit
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE deposit_part (
    deposit_id uuid   NOT NULL REFERENCES deposit (id),
    place      bigint NOT NULL CHECK (place >= 0), -- of its first byte in the file
    tenant_id  text   NOT NULL,
    sha256     bytea  NOT NULL CHECK (length(sha256) = 32),
    size       bigint NOT NULL CHECK (size > 0),
    PRIMARY KEY (deposit_id, place)
);
ALTER TABLE deposit_part ENABLE ROW LEVEL SECURITY;
ALTER TABLE deposit_part FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON deposit_part
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
