-- Messages that are removed at the provider to make room, as the policy of the mailbox says: written before they are
-- removed, ended afterwards. What the archive has stays.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE removal (
    tenant_id    text        NOT NULL,
    mailbox_id   uuid        NOT NULL,
    folder       text        NOT NULL,
    uid_validity bigint      NOT NULL,
    uid          text        NOT NULL,
    message_id   uuid        NOT NULL,
    size         bigint      NOT NULL,
    -- gone: it was not there any more; differs: the provider has other bytes there; kept: the archive cannot give it back
    outcome      text        NOT NULL DEFAULT 'intended' CHECK (outcome IN ('intended', 'removed', 'gone', 'differs', 'kept')),
    intend_time  timestamptz NOT NULL,
    end_time     timestamptz,
    PRIMARY KEY (tenant_id, mailbox_id, folder, uid_validity, uid),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
) WITH (fillfactor = 70);
CREATE INDEX removal_message ON removal (tenant_id, message_id);
ALTER TABLE removal ENABLE ROW LEVEL SECURITY;
ALTER TABLE removal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON removal
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
