-- The channel of each transmission, and the supports of the SDIFTP channel.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE transmission
    -- By which channel it goes. It changes only while nothing can have reached SdI.
    ADD COLUMN channel    text NOT NULL DEFAULT 'SDICOOP' CHECK (channel IN ('SDICOOP', 'SDIFTP')),
    -- SDIFTP: the support that carries it, until that support is known to have been refused as a whole.
    ADD COLUMN support_id uuid;
-- Its conditions name no column that changes for the documents of another channel: their updates stay cheap.
CREATE INDEX transmission_gather ON transmission (created_at, id) WHERE channel = 'SDIFTP' AND support_id IS NULL;
CREATE INDEX transmission_support ON transmission (support_id) WHERE support_id IS NOT NULL;

-- Numbers of supports within their minute: given once, whatever becomes of the support.
CREATE TABLE support_number (
    node   text    NOT NULL,
    minute text    NOT NULL, -- yyyyddd.hhmm
    next   integer NOT NULL,
    PRIMARY KEY (node, minute)
);

-- Files of the SDIFTP channel. They carry documents of many tenants and belong to the transmitter, so only the
-- system scope sees them.
CREATE TABLE support (
    id         uuid        PRIMARY KEY,
    node       text        NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('FI', 'FO', 'EO', 'ER', 'ST')),
    name       text        NOT NULL,
    -- FI: GATHERED (named, not made yet), SHOWN, TAKEN (SdI removed it), ACCEPTED (ET01), REFUSED (ET02, ER),
    -- WITHDRAWN (never opened by SdI). Others: ARRIVING (not marked as whole), RECEIVED, READ, QUARANTINED.
    state      text        NOT NULL,
    file_uri   text        NOT NULL DEFAULT '',
    sha256     bytea,
    size       bigint      NOT NULL DEFAULT 0,
    documents  integer     NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    shown_at   timestamptz,
    opened_at  timestamptz, -- SdI began to read it
    taken_at   timestamptz, -- SdI removed it, which certifies that it has it
    settled_at timestamptz,
    outcome    text        NOT NULL DEFAULT '',
    problem    text        NOT NULL DEFAULT '',
    duplicates integer     NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX support_name ON support (name) WHERE kind = 'FI';
CREATE UNIQUE INDEX support_arriving ON support (name) WHERE state = 'ARRIVING';
CREATE UNIQUE INDEX support_received ON support (name, sha256) WHERE kind <> 'FI' AND state <> 'ARRIVING';
CREATE INDEX support_open ON support (state, created_at) WHERE state IN ('GATHERED', 'SHOWN', 'ARRIVING', 'RECEIVED');
CREATE INDEX support_settled ON support (settled_at DESC) WHERE kind = 'FI' AND settled_at IS NOT NULL;
ALTER TABLE support ENABLE ROW LEVEL SECURITY;
ALTER TABLE support FORCE ROW LEVEL SECURITY;
CREATE POLICY system_only ON support
    USING (current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (current_setting('ceralacca.scope', true) = 'system');

-- What each support carries, for good: transmission.support_id is only the present one.
CREATE TABLE support_file (
    support_id      uuid NOT NULL REFERENCES support (id),
    transmission_id uuid NOT NULL REFERENCES transmission (id),
    tenant_id       text NOT NULL,
    PRIMARY KEY (support_id, transmission_id)
);
CREATE INDEX support_file_transmission ON support_file (transmission_id);
ALTER TABLE support_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON support_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Documents of supports that are not about a transmission of ours: invoices received, their metadata, answers to
-- outcomes. Kept as they came until reception takes them.
CREATE TABLE support_document (
    id          uuid        PRIMARY KEY,
    support_id  uuid        NOT NULL REFERENCES support (id),
    type        text        NOT NULL, -- FA, MT, SE; empty for a file outside the patterns
    file_name   text        NOT NULL,
    sha256      bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    raw         bytea       NOT NULL,
    received_at timestamptz NOT NULL,
    handed_at   timestamptz,
    problem     text        NOT NULL DEFAULT '',
    CONSTRAINT support_document_once UNIQUE (file_name, sha256)
);
CREATE INDEX support_document_waiting ON support_document (id) WHERE handed_at IS NULL;
ALTER TABLE support_document ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_document FORCE ROW LEVEL SECURITY;
CREATE POLICY system_only ON support_document
    USING (current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (current_setting('ceralacca.scope', true) = 'system');

-- Where SdI's counts and reports do not agree with our books.
CREATE TABLE support_difference (
    id         uuid        PRIMARY KEY,
    support_id uuid        NOT NULL REFERENCES support (id), -- the file that says so
    name       text        NOT NULL,                         -- of the support or document that it is about
    problem    text        NOT NULL,
    found_at   timestamptz NOT NULL,
    CONSTRAINT support_difference_once UNIQUE (name, problem)
);
ALTER TABLE support_difference ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_difference FORCE ROW LEVEL SECURITY;
CREATE POLICY system_only ON support_difference
    USING (current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (current_setting('ceralacca.scope', true) = 'system');

-- When SdI's client was last seen, by node.
CREATE TABLE support_contact (
    node text        PRIMARY KEY,
    at   timestamptz NOT NULL
);
