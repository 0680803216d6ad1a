-- Which credential takes another's place, and from when. A key in Vault and one at a provider are two credentials, each with its
-- certificate, PIN and devices; who names the first means the second from the date on.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE credential_successor (
    credential_id  uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id      text        NOT NULL,
    successor_id   uuid        NOT NULL REFERENCES credential (id) CHECK (successor_id <> credential_id),
    effective_from timestamptz NOT NULL,
    created_at     timestamptz NOT NULL
);
CREATE INDEX credential_successor_of ON credential_successor (successor_id);
ALTER TABLE credential_successor ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_successor FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_successor
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
