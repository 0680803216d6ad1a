-- Invoices, their documents, the numbers they hold, and the log of what happened to them.

-- +goose Up
SET lock_timeout = '5s';

-- One row per file. facts is the set of what is known about it (bits, see journey.go); state is what
-- those facts mean and is always computed from them.
CREATE TABLE invoice (
    id                uuid        PRIMARY KEY,
    tenant_id         text        NOT NULL,
    company_id        text        NOT NULL,
    facts             integer     NOT NULL DEFAULT 0,
    state             smallint    NOT NULL,
    settled           boolean     NOT NULL DEFAULT false,
    version           integer     NOT NULL DEFAULT 1,
    request_id        text        NOT NULL,
    request_hash      bytea       NOT NULL,
    external_id       text        NOT NULL,
    format            text        NOT NULL,
    recipient_code    text        NOT NULL,
    number            text        NOT NULL,
    issue_date        date        NOT NULL,
    bodies            jsonb       NOT NULL,
    seller_vat_number text        NOT NULL,
    seller_tax_code   text        NOT NULL,
    seller_name       text        NOT NULL,
    buyer_vat_number  text        NOT NULL,
    buyer_tax_code    text        NOT NULL,
    buyer_name        text        NOT NULL,
    warnings          jsonb       NOT NULL,
    rejections        jsonb       NOT NULL DEFAULT '[]',
    failure           text        NOT NULL DEFAULT '',
    file_name         text        NOT NULL DEFAULT '',
    sdi_id            text        NOT NULL DEFAULT '',
    transmitted_uri   text        NOT NULL DEFAULT '',
    transmitted_type  text        NOT NULL DEFAULT '',
    preserve_time     timestamptz,
    package           text        NOT NULL DEFAULT '',
    trace_id          text        NOT NULL,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL
) WITH (
    -- A row is updated some six times within seconds of its birth; the room left on its page keeps
    -- those updates out of the indexes.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02
);
CREATE UNIQUE INDEX invoice_request ON invoice (tenant_id, request_id) WHERE request_id <> '';
CREATE INDEX invoice_tenant ON invoice (tenant_id, id);
CREATE INDEX invoice_company ON invoice (tenant_id, company_id, id);
CREATE INDEX invoice_external_id ON invoice (tenant_id, external_id) WHERE external_id <> '';
CREATE INDEX invoice_sdi_id ON invoice (tenant_id, sdi_id) WHERE sdi_id <> '';
CREATE INDEX invoice_number ON invoice (tenant_id, number);
ALTER TABLE invoice ENABLE ROW LEVEL SECURITY;
ALTER TABLE invoice FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON invoice
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The number that each document of a file holds: one issuer, one year, one series, one number. Given
-- back when SdI rejects the file or the public body refuses it.
CREATE TABLE held_number (
    tenant_id   text     NOT NULL,
    issuer      text     NOT NULL,
    fiscal_year smallint NOT NULL,
    series      text     NOT NULL,
    number      text     NOT NULL,
    invoice_id  uuid     NOT NULL,
    PRIMARY KEY (tenant_id, issuer, fiscal_year, series, number)
);
ALTER TABLE held_number ENABLE ROW LEVEL SECURITY;
ALTER TABLE held_number FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON held_number
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The files of an invoice, by reference. id is original, signed, or type and digest of a receipt.
CREATE TABLE document (
    tenant_id    text        NOT NULL,
    invoice_id   uuid        NOT NULL,
    id           text        NOT NULL,
    kind         smallint    NOT NULL,
    receipt_type text        NOT NULL,
    file_name    text        NOT NULL,
    media_type   text        NOT NULL,
    uri          text        NOT NULL,
    create_time  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, id)
);
ALTER TABLE document ENABLE ROW LEVEL SECURITY;
ALTER TABLE document FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON document
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Facts for the tenants' logs that are committed and have no position yet.
CREATE TABLE event_waiting (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  text        NOT NULL,
    id         uuid        NOT NULL,
    type       text        NOT NULL,
    time       timestamptz NOT NULL,
    company_id text        NOT NULL,
    invoice_id uuid        NOT NULL,
    data       jsonb       NOT NULL,
    trace_id   text        NOT NULL
) WITH (
    -- Rows live for milliseconds, as in the outbox.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 20000
);
ALTER TABLE event_waiting ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_waiting FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON event_waiting
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The log of each tenant: positions 1, 2, 3 ... given by the sequencer alone, so that a reader who
-- has seen position n never misses one below it.
CREATE TABLE event (
    tenant_id  text        NOT NULL,
    position   bigint      NOT NULL,
    id         uuid        NOT NULL,
    type       text        NOT NULL,
    time       timestamptz NOT NULL,
    company_id text        NOT NULL,
    invoice_id uuid        NOT NULL,
    data       jsonb       NOT NULL,
    trace_id   text        NOT NULL,
    PRIMARY KEY (tenant_id, position)
);
CREATE INDEX event_invoice ON event (tenant_id, invoice_id, position);
ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON event
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The last position given in each log.
CREATE TABLE event_head (
    tenant_id text   PRIMARY KEY,
    position  bigint NOT NULL
) WITH (fillfactor = 50);
ALTER TABLE event_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_head FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON event_head
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
