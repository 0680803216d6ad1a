-- +goose Up
-- What the issuers of certificates said when a package was sealed. Its bytes are in the platform's store until they are in the package.
SET lock_timeout = '5s';

CREATE TABLE package_revocation (
    package_id uuid        PRIMARY KEY, -- no reference: the row of a package that was lost is made again from its bytes
    tenant_id  text        NOT NULL,
    sha256     bytea       NOT NULL CHECK (length(sha256) = 32),
    size       bigint      NOT NULL,
    asked_at   timestamptz NOT NULL
);
ALTER TABLE package_revocation ENABLE ROW LEVEL SECURITY;
ALTER TABLE package_revocation FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON package_revocation
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
