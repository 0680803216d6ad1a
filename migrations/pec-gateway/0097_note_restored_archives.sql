-- Which messages came in an exported mailbox that was restored: the file lies in the platform's store, and goes when the last of
-- them is destroyed.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE restored (
    tenant_id   text NOT NULL,
    message_id  uuid NOT NULL,
    archive_uri text NOT NULL,
    PRIMARY KEY (tenant_id, message_id, archive_uri),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
);
CREATE INDEX restored_archive ON restored (tenant_id, archive_uri);
ALTER TABLE restored ENABLE ROW LEVEL SECURITY;
ALTER TABLE restored FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON restored
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
