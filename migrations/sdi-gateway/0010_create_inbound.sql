-- Files that SdI delivers to the tenants' companies, and what public bodies answer.

-- +goose Up
SET lock_timeout = '5s';

-- One row for each file that SdI has, however often it comes. Without a company it waits in quarantine and
-- only the system scope sees it.
CREATE TABLE inbound_file (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL DEFAULT '',
    company_id     text        NOT NULL DEFAULT '',
    channel        text        NOT NULL,
    sdi_id         text        NOT NULL,
    file_name      text        NOT NULL,
    sha256         bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    file_uri       text        NOT NULL,
    -- Of the delivery that was understood, or of the first one.
    metadata_name  text        NOT NULL DEFAULT '',
    metadata_uri   text        NOT NULL DEFAULT '',
    -- TAKEN: durable, not looked at yet.
    state          text        NOT NULL DEFAULT 'TAKEN'
                   CHECK (state IN ('TAKEN', 'QUARANTINED', 'RECEIVED', 'AWAITING_OUTCOME', 'ANSWERED', 'TERM_EXPIRED')),
    routed_by      text        NOT NULL DEFAULT '',
    reason_code    text        NOT NULL DEFAULT '',
    reason         text        NOT NULL DEFAULT '',
    format         text        NOT NULL DEFAULT '',
    recipient_code text        NOT NULL DEFAULT '',
    signed         boolean     NOT NULL DEFAULT false,
    seller_name    text        NOT NULL DEFAULT '',
    seller_vat     text        NOT NULL DEFAULT '',
    seller_tax     text        NOT NULL DEFAULT '',
    buyer_name     text        NOT NULL DEFAULT '',
    buyer_vat      text        NOT NULL DEFAULT '',
    buyer_tax      text        NOT NULL DEFAULT '',
    received_at    timestamptz NOT NULL,
    answer_by      timestamptz,
    expired_at     timestamptz,
    updated_at     timestamptz NOT NULL,
    -- The same identifier, name and bytes are one file; the same identifier with others is a conflict, and both stay.
    CONSTRAINT inbound_file_once UNIQUE (sdi_id, file_name, sha256),
    CHECK ((tenant_id = '') = (state IN ('TAKEN', 'QUARANTINED')))
);
CREATE INDEX inbound_file_list ON inbound_file (tenant_id, id DESC) WHERE tenant_id <> '';
CREATE INDEX inbound_file_quarantine ON inbound_file (id) WHERE state = 'QUARANTINED';
ALTER TABLE inbound_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inbound_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Every time that SdI handed a file over, as it came.
CREATE TABLE inbound_delivery (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL DEFAULT '',
    file_id       uuid        NOT NULL REFERENCES inbound_file (id),
    metadata_name text        NOT NULL,
    metadata_uri  text        NOT NULL DEFAULT '',
    attempt       integer     NOT NULL DEFAULT 0,
    problem       text        NOT NULL DEFAULT '',
    received_at   timestamptz NOT NULL,
    read_at       timestamptz
);
CREATE INDEX inbound_delivery_file ON inbound_delivery (file_id, id);
ALTER TABLE inbound_delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inbound_delivery
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The documents of a file: one, or those of a lot.
CREATE TABLE inbound_body (
    file_id       uuid    NOT NULL REFERENCES inbound_file (id),
    position      integer NOT NULL CHECK (position > 0),
    tenant_id     text    NOT NULL DEFAULT '',
    document_type text    NOT NULL,
    number        text    NOT NULL,
    date          text    NOT NULL,
    currency      text    NOT NULL,
    total         text    NOT NULL,
    PRIMARY KEY (file_id, position)
);
ALTER TABLE inbound_body ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_body FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inbound_body
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What a public body answers. The message is written once and kept for every repeat.
CREATE TABLE inbound_outcome (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    file_id     uuid        NOT NULL REFERENCES inbound_file (id),
    position    integer     NOT NULL CHECK (position >= 0), -- 0: the whole file
    outcome     text        NOT NULL CHECK (outcome IN ('EC01', 'EC02')),
    cause       integer     NOT NULL DEFAULT 0,
    description text        NOT NULL DEFAULT '',
    state       text        NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'UNKNOWN', 'TAKEN', 'REFUSED')),
    sdi_id      text        NOT NULL,
    file_name   text        NOT NULL,
    content     bytea       NOT NULL, -- the EC, a few hundred bytes
    answer_uri  text        NOT NULL DEFAULT '', -- the SE, when SdI sent one
    code        text        NOT NULL DEFAULT '',
    message     text        NOT NULL DEFAULT '',
    attempts    integer     NOT NULL DEFAULT 0,
    -- Calls whose end nobody knows.
    unknown     integer     NOT NULL DEFAULT 0,
    attempt_at  timestamptz,
    created_at  timestamptz NOT NULL,
    settled_at  timestamptz,
    CONSTRAINT inbound_outcome_name UNIQUE (file_id, file_name)
);
-- At most one outcome of a document stands or is on its way.
CREATE UNIQUE INDEX inbound_outcome_standing ON inbound_outcome (file_id, position) WHERE state <> 'REFUSED';
ALTER TABLE inbound_outcome ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_outcome FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inbound_outcome
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Notices to the receiver (DT), raw first. One may come before the file that it is about is understood.
CREATE TABLE inbound_notice (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL DEFAULT '',
    file_id     uuid        REFERENCES inbound_file (id),
    sdi_id      text        NOT NULL,
    file_name   text        NOT NULL,
    sha256      bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    raw         bytea       NOT NULL,
    duplicates  integer     NOT NULL DEFAULT 0,
    problem     text        NOT NULL DEFAULT '',
    received_at timestamptz NOT NULL,
    applied_at  timestamptz,
    CONSTRAINT inbound_notice_once UNIQUE (sdi_id, file_name, sha256)
);
CREATE INDEX inbound_notice_waiting ON inbound_notice (sdi_id) WHERE applied_at IS NULL;
ALTER TABLE inbound_notice ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_notice FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON inbound_notice
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
