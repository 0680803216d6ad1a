-- +goose Up
-- Files that were made of documents, written down before they are in the store: one whose request is not recorded, for its
-- credential was revoked or the process killed, would be there and named by no row, and nobody could have it destroyed.
SET lock_timeout = '5s';

CREATE TABLE made_file (
    tenant_id       text        NOT NULL,
    sha256          bytea       NOT NULL CHECK (length(sha256) = 32),
    original_sha256 bytea       NOT NULL CHECK (length(original_sha256) = 32),
    size            bigint      NOT NULL,
    made_at         timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX made_file_original ON made_file USING hash (original_sha256);
ALTER TABLE made_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE made_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON made_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
