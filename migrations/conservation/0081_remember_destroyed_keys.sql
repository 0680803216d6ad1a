-- +goose Up
-- What was destroyed does not come back from bytes that somebody left behind: its keys are known by their hash alone.
SET lock_timeout = '5s';

CREATE TABLE destroyed_key (
    tenant_id    text        NOT NULL,
    key_sha256   bytea       NOT NULL CHECK (length(key_sha256) = 32), -- of the tenant, a line feed and the unit's key
    unit_id      uuid        NOT NULL REFERENCES unit (id),
    destroyed_at timestamptz NOT NULL,                                  -- what was taken in later under the same key is another document
    PRIMARY KEY (tenant_id, key_sha256, unit_id)
);
ALTER TABLE destroyed_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE destroyed_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON destroyed_key
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Which disposal an object of the replicas was condemned by.
CREATE INDEX disposal_object_key ON disposal_object (key) WHERE kind = 'object';
