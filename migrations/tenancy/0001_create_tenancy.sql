-- Who uses the platform: resellers, their tenants, the tenants' companies, and the keys that call.

-- +goose Up
SET lock_timeout = '5s';

-- Not owned by a tenant: resellers are read by operators and by the platform itself.
CREATE TABLE reseller (
    id           text        PRIMARY KEY,
    display_name text        NOT NULL,
    create_time  timestamptz NOT NULL
);

CREATE TABLE tenant (
    tenant_id    text        PRIMARY KEY,
    reseller_id  text        NOT NULL REFERENCES reseller (id),
    display_name text        NOT NULL,
    version      integer     NOT NULL DEFAULT 1,
    create_time  timestamptz NOT NULL
);
CREATE INDEX tenant_reseller ON tenant (reseller_id, tenant_id);
ALTER TABLE tenant ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON tenant
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE company (
    tenant_id        text        NOT NULL,
    id               text        NOT NULL,
    display_name     text        NOT NULL,
    vat_number       text        NOT NULL,
    tax_code         text        NOT NULL,
    recipient_code   text        NOT NULL,
    signature_policy smallint    NOT NULL CHECK (signature_policy BETWEEN 1 AND 3),
    version          integer     NOT NULL DEFAULT 1,
    create_time      timestamptz NOT NULL,
    update_time      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CHECK (vat_number <> '' OR tax_code <> '')
);
-- The members of a VAT group share the VAT number and differ by tax code; the same pair twice is one
-- company registered twice.
CREATE UNIQUE INDEX company_identity ON company (tenant_id, vat_number, tax_code);
ALTER TABLE company ENABLE ROW LEVEL SECURITY;
ALTER TABLE company FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON company
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Keys of tenants carry their tenant; those of resellers and operators carry none, so that only the
-- system scope sees them.
CREATE TABLE api_key (
    id            text        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    owner_kind    text        NOT NULL CHECK (owner_kind IN ('tenants', 'resellers', 'operators')),
    owner_id      text        NOT NULL,
    display_name  text        NOT NULL,
    prefix        text        NOT NULL,
    secret_sha256 bytea       NOT NULL UNIQUE CHECK (length(secret_sha256) = 32),
    live          boolean     NOT NULL,
    scopes        text[]      NOT NULL,
    create_time   timestamptz NOT NULL,
    expire_time   timestamptz,
    revoke_time   timestamptz,
    last_use_time timestamptz,
    CHECK (tenant_id = CASE owner_kind WHEN 'tenants' THEN owner_id ELSE '' END)
);
CREATE INDEX api_key_owner ON api_key (owner_kind, owner_id, id);
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON api_key
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
