-- Messages that another program removed before they were fetched were a line of the log alone: nobody who looks at a mailbox saw that
-- something had been there. Their numbers are kept, each once however often a look is repeated, and the mailbox counts them.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE gone (
    tenant_id    text        NOT NULL,
    mailbox_id   uuid        NOT NULL,
    folder       text        NOT NULL,
    uid_validity bigint      NOT NULL,
    uid          bigint      NOT NULL,
    missed_time  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, folder, uid_validity, uid),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
ALTER TABLE gone ENABLE ROW LEVEL SECURITY;
ALTER TABLE gone FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON gone
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

ALTER TABLE mailbox ADD COLUMN gone bigint NOT NULL DEFAULT 0;
ALTER TABLE mailbox ADD COLUMN gone_time timestamptz;
