-- Signatures on whole documents, mandates for those without a person, and time-stamps by quota.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE credential ADD CONSTRAINT credential_kind_check CHECK (kind IN ('AUTOMATIC', 'ROLE', 'PERSON', 'SEAL'));

-- How the documents of a challenge were signed; '' is what SignHashes makes. The request that used
-- the authorization gets the same again, and nothing else.
ALTER TABLE challenge ADD COLUMN output text NOT NULL DEFAULT '';

-- What a credential may sign without a person. Each use is counted before anything is signed.
CREATE TABLE mandate (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    credential_id uuid        NOT NULL REFERENCES credential (id),
    description   text        NOT NULL,
    forms         text[]      NOT NULL CHECK (cardinality(forms) BETWEEN 1 AND 5),
    max_documents bigint      NOT NULL CHECK (max_documents > 0),
    max_per_day   integer     NOT NULL CHECK (max_per_day > 0),
    valid_from    timestamptz NOT NULL,
    valid_until   timestamptz NOT NULL,
    used          bigint      NOT NULL DEFAULT 0,
    day           text        NOT NULL DEFAULT '', -- YYYY-MM-DD, UTC, of used_today
    used_today    integer     NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    CHECK (used <= max_documents AND used_today <= max_per_day AND valid_until > valid_from)
);
CREATE INDEX mandate_list ON mandate (credential_id, id);
ALTER TABLE mandate ENABLE ROW LEVEL SECURITY;
ALTER TABLE mandate FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mandate
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One request under a mandate: first the intent, then the result.
CREATE TABLE document_signing (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    mandate_id    uuid        NOT NULL REFERENCES mandate (id),
    credential_id uuid        NOT NULL REFERENCES credential (id),
    request_id    text        NOT NULL,
    output        text        NOT NULL,
    hashes        bytea[]     NOT NULL CHECK (cardinality(hashes) BETWEEN 1 AND 500), -- sorted
    state         text        NOT NULL CHECK (state IN ('SIGNING', 'SIGNED')),
    -- In the order of hashes; the bytes are in the blob store.
    signed_sha256 bytea[],
    signed_sizes  bigint[],
    signing_time  timestamptz,
    created_at    timestamptz NOT NULL,
    signed_at     timestamptz,
    CONSTRAINT document_signing_request UNIQUE (tenant_id, request_id),
    CHECK (state <> 'SIGNED' OR (cardinality(signed_sha256) = cardinality(hashes) AND cardinality(signed_sizes) = cardinality(hashes) AND signing_time IS NOT NULL))
);
CREATE INDEX document_signing_mandate ON document_signing (mandate_id, id);
ALTER TABLE document_signing ENABLE ROW LEVEL SECURITY;
ALTER TABLE document_signing FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON document_signing
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- How many time-stamps a tenant may have in a month, where that is not what the configuration says.
CREATE TABLE stamp_quota (
    tenant_id text    PRIMARY KEY,
    per_month integer NOT NULL CHECK (per_month >= 0)
);
ALTER TABLE stamp_quota ENABLE ROW LEVEL SECURITY;
ALTER TABLE stamp_quota FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON stamp_quota
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE stamp_use (
    tenant_id text    NOT NULL,
    month     text    NOT NULL, -- YYYY-MM, UTC
    used      integer NOT NULL CHECK (used >= 0),
    PRIMARY KEY (tenant_id, month)
);
ALTER TABLE stamp_use ENABLE ROW LEVEL SECURITY;
ALTER TABLE stamp_use FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON stamp_use
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
