-- +goose Up
-- Bundles of requests, written down before they are in the store, with what recording them takes. A process that died between has
-- left one there: the next run records it, and until then it is found with the documents that are in it.
SET lock_timeout = '5s';

CREATE TABLE made_bundle (
    tenant_id  text        NOT NULL,
    sha256     bytea       NOT NULL CHECK (length(sha256) = 32),
    size       bigint      NOT NULL,
    request_id uuid        NOT NULL REFERENCES signing_request (id),
    head       bytea       NOT NULL CHECK (length(head) = 32), -- of the audit trail that is in it
    sealed     boolean     NOT NULL,
    stamped    boolean     NOT NULL,
    note       text        NOT NULL,
    made_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX made_bundle_request ON made_bundle (request_id);
ALTER TABLE made_bundle ENABLE ROW LEVEL SECURITY;
ALTER TABLE made_bundle FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON made_bundle
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
