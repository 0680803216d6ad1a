-- Messages that the provider did not hand out: they are tried again at growing intervals, and keep nothing back.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE unfetched (
    tenant_id    text        NOT NULL,
    mailbox_id   uuid        NOT NULL,
    folder       text        NOT NULL,
    uid_validity bigint      NOT NULL, -- 0 over POP3
    uid          text        NOT NULL,
    times        integer     NOT NULL DEFAULT 1,
    next_time    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, folder, uid_validity, uid),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
ALTER TABLE unfetched ENABLE ROW LEVEL SECURITY;
ALTER TABLE unfetched FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON unfetched
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Over POP3: what the header and the size of the message were, since servers give its unique id to others.
ALTER TABLE location ADD COLUMN mark bytea;
