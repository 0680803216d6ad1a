-- Whom a tenant sells to, what it sells, and how its documents look.

-- +goose Up
SET lock_timeout = '5s';

-- party is a ceralacca.invoice.v1.DraftParty in wire format; the columns beside it are what lists search.
-- search_name is in lower case, as Go makes it: that of a database depends on its locale.
CREATE TABLE contact (
    tenant_id      text        NOT NULL,
    id             text        NOT NULL,
    party          bytea       NOT NULL,
    recipient_code text        NOT NULL,
    certified_mail text        NOT NULL,
    external_id    text        NOT NULL,
    vat_number     text        NOT NULL,
    tax_code       text        NOT NULL,
    search_name    text        NOT NULL,
    version        integer     NOT NULL DEFAULT 1,
    create_time    timestamptz NOT NULL,
    update_time    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX contact_external_id ON contact (tenant_id, external_id) WHERE external_id <> '';
CREATE INDEX contact_vat_number ON contact (tenant_id, vat_number) WHERE vat_number <> '';
CREATE INDEX contact_tax_code ON contact (tenant_id, tax_code) WHERE tax_code <> '';
ALTER TABLE contact ENABLE ROW LEVEL SECURITY;
ALTER TABLE contact FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON contact
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- line is a ceralacca.invoice.v1.Line in wire format.
CREATE TABLE item (
    tenant_id          text        NOT NULL,
    id                 text        NOT NULL,
    line               bytea       NOT NULL,
    external_id        text        NOT NULL,
    search_description text        NOT NULL,
    version            integer     NOT NULL DEFAULT 1,
    create_time        timestamptz NOT NULL,
    update_time        timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX item_external_id ON item (tenant_id, external_id) WHERE external_id <> '';
ALTER TABLE item ENABLE ROW LEVEL SECURITY;
ALTER TABLE item FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON item
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- No row: the defaults, which are version 0.
CREATE TABLE look (
    tenant_id     text        NOT NULL,
    company_id    text        NOT NULL,
    logo          bytea       NOT NULL,
    accent_color  text        NOT NULL,
    language_code text        NOT NULL,
    version       integer     NOT NULL,
    update_time   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, company_id)
);
ALTER TABLE look ENABLE ROW LEVEL SECURITY;
ALTER TABLE look FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON look
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
