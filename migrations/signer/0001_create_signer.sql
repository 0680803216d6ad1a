-- Keys (by reference: they are in Vault), certificates, and what was signed with them.

-- +goose Up
SET lock_timeout = '5s';

-- A key in Vault and its certificate. The key itself is never here.
CREATE TABLE credential (
    id            uuid        PRIMARY KEY,
    tenant_id     text        NOT NULL,
    company_id    text        NOT NULL,
    kind          text        NOT NULL CHECK (kind IN ('AUTOMATIC', 'ROLE')),
    key_type      text        NOT NULL CHECK (key_type IN ('EC_P256', 'RSA_3072')),
    common_name   text        NOT NULL,
    state         text        NOT NULL CHECK (state IN ('PENDING_CERTIFICATE', 'ACTIVE', 'REVOKED')),
    -- Name of the key in Vault's transit engine, and the one version of it that this certificate
    -- certifies: a rotated key must not change what is signed with. 0: the key is still to be made.
    key_name      text        NOT NULL UNIQUE,
    key_version   integer     NOT NULL DEFAULT 0,
    public_key    bytea       NOT NULL DEFAULT '', -- SubjectPublicKeyInfo, DER
    csr_pem       text        NOT NULL DEFAULT '',
    chain         bytea[]     NOT NULL DEFAULT '{}', -- certificates, DER, leaf first
    not_before    timestamptz,
    not_after     timestamptz,
    version       integer     NOT NULL DEFAULT 1, -- etag; changes with each update
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CHECK (state <> 'ACTIVE' OR (cardinality(chain) > 0 AND not_before IS NOT NULL AND not_after IS NOT NULL AND key_version > 0))
);
CREATE INDEX credential_choice ON credential (tenant_id, company_id, kind, not_before DESC) WHERE state = 'ACTIVE';
CREATE INDEX credential_list ON credential (tenant_id, company_id, id);
ALTER TABLE credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- One document to be signed for one subject: first the intent, then the result. One row per subject
-- and original, however often it is asked for.
CREATE TABLE signature (
    id              uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,
    company_id      text        NOT NULL, -- whose automatic credential signs; '' when the caller named a credential
    purpose         text        NOT NULL CHECK (purpose IN ('INVOICE', 'BLOB')),
    subject         text        NOT NULL,
    format          text        NOT NULL DEFAULT '',
    original_sha256 bytea       NOT NULL CHECK (length(original_sha256) = 32),
    original_size   bigint      NOT NULL,
    original_type   text        NOT NULL DEFAULT '',
    request_id      text,
    credential      text        NOT NULL DEFAULT '', -- resource name: the one asked for, then the one that signed
    state           text        NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DONE', 'FAILED')),
    failure_code    text        NOT NULL DEFAULT '',
    failure         text        NOT NULL DEFAULT '',
    signed_sha256   bytea,
    signed_size     bigint,
    signing_time    timestamptz,
    correlation     text        NOT NULL DEFAULT '',
    causation       text        NOT NULL DEFAULT '',
    traceparent     text        NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    done_at         timestamptz,
    CONSTRAINT signature_once UNIQUE (tenant_id, subject, original_sha256),
    CHECK (state <> 'DONE' OR (signed_sha256 IS NOT NULL AND signed_size IS NOT NULL AND signing_time IS NOT NULL))
);
CREATE UNIQUE INDEX signature_request ON signature (tenant_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX signature_list ON signature (tenant_id, id);
CREATE INDEX signature_waiting ON signature (tenant_id, company_id, id) WHERE state = 'FAILED';
ALTER TABLE signature ENABLE ROW LEVEL SECURITY;
ALTER TABLE signature FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON signature
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
