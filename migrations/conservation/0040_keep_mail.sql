-- What mailboxes of certified mail hand over: which messages of a day are in custody, and how many it should be.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE mail_day (
    tenant_id       text        NOT NULL,
    mailbox         text        NOT NULL, -- tenants/{tenant}/mailboxes/{mailbox}
    day             date        NOT NULL,
    messages        bigint      NOT NULL, -- that the gateway counted when it closed the set
    register_sha256 bytea       NOT NULL CHECK (octet_length(register_sha256) = 32),
    close_time      timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, mailbox, day)
);
ALTER TABLE mail_day ENABLE ROW LEVEL SECURITY;
ALTER TABLE mail_day FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mail_day
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Written in the transaction that takes the message into custody.
CREATE TABLE mail_item (
    tenant_id text NOT NULL,
    mailbox   text NOT NULL,
    day       date NOT NULL,
    message   text NOT NULL,
    PRIMARY KEY (tenant_id, mailbox, day, message)
);
ALTER TABLE mail_item ENABLE ROW LEVEL SECURITY;
ALTER TABLE mail_item FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mail_item
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
