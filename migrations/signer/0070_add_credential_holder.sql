-- Whose a person's credential is, when the key is at a provider: keys in Vault have it with their PIN.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE credential_holder (
    credential_id uuid        PRIMARY KEY REFERENCES credential (id),
    tenant_id     text        NOT NULL,
    holder        text        NOT NULL CHECK (holder <> ''),
    created_at    timestamptz NOT NULL
);
ALTER TABLE credential_holder ENABLE ROW LEVEL SECURITY;
ALTER TABLE credential_holder FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON credential_holder
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
