-- +goose Up
-- Everything of a tenant, handed over: what goes in, and the files as they are made.
SET lock_timeout = '5s';

CREATE TABLE export (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    state       text        NOT NULL CHECK (state IN ('BUILDING', 'READY', 'FAILED')),
    packages    uuid[]      NOT NULL,
    waiting     uuid[]      NOT NULL, -- units that no package had sealed
    unit_count  bigint      NOT NULL,
    asked_by    text        NOT NULL,
    asked_at    timestamptz NOT NULL,
    ready_at    timestamptz,
    last_error  text        NOT NULL DEFAULT ''
);
CREATE INDEX export_list ON export (tenant_id, id);
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
ALTER TABLE export FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON export
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE export_file (
    export_id uuid   NOT NULL REFERENCES export (id),
    path      text COLLATE "C" NOT NULL,
    tenant_id text   NOT NULL,
    sha256    bytea  NOT NULL CHECK (length(sha256) = 32),
    size      bigint NOT NULL CHECK (size >= 0),
    object_id uuid,  -- NULL: in the platform's store
    PRIMARY KEY (export_id, path)
);
ALTER TABLE export_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON export_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
