-- Documents in custody, and the packages that seal them.

-- +goose Up
SET lock_timeout = '5s';

-- One number line per tenant, fiscal year and class. Its row is the lock under which packages are
-- closed: two closings of the same line never see the same units.
CREATE TABLE package_line (
    tenant_id   text    NOT NULL,
    fiscal_year integer NOT NULL,
    class       text    NOT NULL,
    last_number integer NOT NULL,
    PRIMARY KEY (tenant_id, fiscal_year, class)
);
ALTER TABLE package_line ENABLE ROW LEVEL SECURITY;
ALTER TABLE package_line FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON package_line
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A package. What decides its bytes is fixed when it is closed (number, terms, times, membership);
-- each later state adds one stored output and never changes an earlier one.
CREATE TABLE package (
    id               uuid        PRIMARY KEY,
    tenant_id        text        NOT NULL,
    fiscal_year      integer     NOT NULL,
    class            text        NOT NULL,
    number           integer     NOT NULL,
    state            text        NOT NULL CHECK (state IN ('CLOSED', 'INDEXED', 'SIGNED', 'STAMPED', 'SEALED')),
    unit_count       integer     NOT NULL CHECK (unit_count > 0),
    terms            jsonb       NOT NULL, -- layout, application, signer, credential: as they were at closing
    closed_at        timestamptz NOT NULL,
    index_sha256     bytea,
    index_size       bigint,
    signed_sha256    bytea,
    signed_size      bigint,
    stamp_sha256     bytea,
    stamp_size       bigint,
    stamp_time       timestamptz,
    archive_sha256   bytea,
    archive_size     bigint,
    sealed_at        timestamptz,
    last_error       text        NOT NULL DEFAULT '',
    attempts         integer     NOT NULL DEFAULT 0, -- failures of the step in hand
    correlation      text        NOT NULL DEFAULT '',
    traceparent      text        NOT NULL DEFAULT '',
    UNIQUE (tenant_id, fiscal_year, class, number),
    CHECK (state = 'CLOSED' OR index_sha256 IS NOT NULL),
    CHECK (state IN ('CLOSED', 'INDEXED') OR signed_sha256 IS NOT NULL),
    CHECK (state IN ('CLOSED', 'INDEXED', 'SIGNED') OR (stamp_sha256 IS NOT NULL AND stamp_time IS NOT NULL)),
    CHECK (state <> 'SEALED' OR (archive_sha256 IS NOT NULL AND sealed_at IS NOT NULL))
);
CREATE INDEX package_list ON package (tenant_id, id);
CREATE INDEX package_unfinished ON package (id) WHERE state <> 'SEALED';
ALTER TABLE package ENABLE ROW LEVEL SECURITY;
ALTER TABLE package FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON package
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Unità documentaria: a document with its receipts and its metadata file, or later receipts of one.
CREATE TABLE unit (
    id           uuid        PRIMARY KEY,
    tenant_id    text        NOT NULL,
    unit_key     text        NOT NULL, -- SDI|<IdentificativoSdI>, OUT|<file name>; +|<digest> added for an integration
    subject      text        NOT NULL,
    state        text        NOT NULL CHECK (state IN ('TAKEN_IN_CHARGE', 'ASSIGNED', 'PRESERVED', 'REFUSED')),
    class        text        NOT NULL,
    fiscal_year  integer     NOT NULL,
    integrates   uuid        REFERENCES unit (id), -- the unit that these later receipts belong to
    facts        jsonb       NOT NULL, -- what the metadata file was made from
    problem      text        NOT NULL DEFAULT '',
    package_id   uuid        REFERENCES package (id),
    position     integer,
    correlation  text        NOT NULL DEFAULT '',
    causation    text        NOT NULL DEFAULT '',
    traceparent  text        NOT NULL DEFAULT '',
    created_at   timestamptz NOT NULL,
    CONSTRAINT unit_once UNIQUE (tenant_id, unit_key),
    CHECK ((package_id IS NULL) = (position IS NULL)),
    CHECK ((package_id IS NULL) = (state IN ('TAKEN_IN_CHARGE', 'REFUSED')))
);
CREATE INDEX unit_waiting ON unit (tenant_id, fiscal_year, class, id) WHERE state = 'TAKEN_IN_CHARGE';
CREATE UNIQUE INDEX unit_member ON unit (package_id, position) WHERE package_id IS NOT NULL;
CREATE INDEX unit_subject ON unit (tenant_id, subject, id);
CREATE INDEX unit_list ON unit (tenant_id, id);
CREATE INDEX unit_integrations ON unit (integrates) WHERE integrates IS NOT NULL;
ALTER TABLE unit ENABLE ROW LEVEL SECURITY;
ALTER TABLE unit FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON unit
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- The files of a unit, by reference. Bytes are in the blob store under (tenant, sha256).
CREATE TABLE unit_file (
    unit_id      uuid    NOT NULL REFERENCES unit (id),
    ordinal      integer NOT NULL, -- 0 the document, then receipts; the metadata file is last
    tenant_id    text    NOT NULL,
    role         text    NOT NULL CHECK (role IN ('transmitted', 'receipt', 'metadata')),
    receipt_type text    NOT NULL DEFAULT '',
    file_name    text    NOT NULL,
    media_type   text    NOT NULL DEFAULT '',
    sha256       bytea   NOT NULL CHECK (length(sha256) = 32),
    size         bigint  NOT NULL CHECK (size >= 0),
    PRIMARY KEY (unit_id, ordinal)
);
ALTER TABLE unit_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE unit_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON unit_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
