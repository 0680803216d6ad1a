-- +goose Up
-- What was signed of documents that the archive has destroyed, and who still needs bytes of the platform's store.
SET lock_timeout = '5s';

-- Signatures for documents that were destroyed, by the documents' names.
CREATE TABLE destroyed_signature (
    signature_id uuid PRIMARY KEY REFERENCES signature (id),
    tenant_id    text NOT NULL,
    destroyed_by text NOT NULL -- tenants/{tenant}/disposals/{disposal}
);
ALTER TABLE destroyed_signature ENABLE ROW LEVEL SECURITY;
ALTER TABLE destroyed_signature FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON destroyed_signature
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE INDEX signature_original ON signature USING hash (original_sha256);
CREATE INDEX signature_signed ON signature USING hash (signed_sha256) WHERE signed_sha256 IS NOT NULL;
CREATE INDEX signing_request_document_original ON signing_request_document USING hash (original_sha256);
CREATE INDEX signing_request_document_signed ON signing_request_document USING hash (signed_sha256) WHERE signed_sha256 IS NOT NULL;
CREATE INDEX document_signing_original ON document_signing USING gin (hashes);
CREATE INDEX document_signing_signed ON document_signing USING gin (signed_sha256);
CREATE INDEX challenge_original ON challenge USING gin (hashes);
CREATE INDEX challenge_signed ON challenge USING gin (signed_sha256);

-- Documents that are known here by their bytes alone: what was signed before they were destroyed needs them no more.
CREATE TABLE destroyed_bytes (
    tenant_id    text        NOT NULL,
    sha256       bytea       NOT NULL CHECK (length(sha256) = 32),
    destroyed_by text        NOT NULL,
    destroyed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
ALTER TABLE destroyed_bytes ENABLE ROW LEVEL SECURITY;
ALTER TABLE destroyed_bytes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON destroyed_bytes
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
