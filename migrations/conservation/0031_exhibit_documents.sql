-- Packages made for those who ask to see documents, and inspectors who see them for a time.

-- +goose Up
SET lock_timeout = '5s';

-- A pacchetto di distribuzione. What goes into it is fixed when it is asked for; its bytes are in the platform's store.
CREATE TABLE distribution (
    id         uuid        PRIMARY KEY,
    tenant_id  text        NOT NULL,
    state      text        NOT NULL CHECK (state IN ('BUILDING', 'READY', 'FAILED')),
    purpose    text        NOT NULL DEFAULT '',
    units      uuid[]      NOT NULL,
    terms      jsonb       NOT NULL,
    asked_by   text        NOT NULL,
    inspector  uuid,
    asked_at   timestamptz NOT NULL,
    ready_at   timestamptz,
    sha256     bytea,
    size       bigint,
    last_error text        NOT NULL DEFAULT '',
    CHECK ((state = 'READY') = (sha256 IS NOT NULL))
);
CREATE INDEX distribution_list ON distribution (tenant_id, id);
ALTER TABLE distribution ENABLE ROW LEVEL SECURITY;
ALTER TABLE distribution FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON distribution
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A person who may look, named, until a time, at what the filter lets through. Only the digest of the token is kept.
CREATE TABLE inspector (
    id         uuid        PRIMARY KEY,
    tenant_id  text        NOT NULL,
    full_name  text        NOT NULL CHECK (full_name <> ''),
    body       text        NOT NULL,
    reason     text        NOT NULL,
    filter     bytea       NOT NULL, -- a Query of exhibition.proto
    token      bytea       NOT NULL UNIQUE CHECK (length(token) = 32),
    granted_by text        NOT NULL,
    granted_at timestamptz NOT NULL,
    begins_at  timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL CHECK (ends_at > begins_at),
    revoked_at timestamptz
);
CREATE INDEX inspector_list ON inspector (tenant_id, id);
ALTER TABLE inspector ENABLE ROW LEVEL SECURITY;
ALTER TABLE inspector FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inspector
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What inspectors did, told to the tenant.
CREATE TABLE inspection (
    id        uuid        PRIMARY KEY,
    tenant_id text        NOT NULL,
    inspector uuid        NOT NULL REFERENCES inspector (id),
    at        timestamptz NOT NULL,
    action    text        NOT NULL,
    resource  text        NOT NULL,
    detail    text        NOT NULL
);
CREATE INDEX inspection_list ON inspection (tenant_id, id);
ALTER TABLE inspection ENABLE ROW LEVEL SECURITY;
ALTER TABLE inspection FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inspection
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
-- +goose StatementBegin
CREATE FUNCTION inspection_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what inspectors did stays written: % is refused', TG_OP USING ERRCODE = 'integrity_constraint_violation';
END $$;
-- +goose StatementEnd
CREATE TRIGGER inspection_kept BEFORE UPDATE OR DELETE ON inspection FOR EACH ROW EXECUTE FUNCTION inspection_refuse_change();
