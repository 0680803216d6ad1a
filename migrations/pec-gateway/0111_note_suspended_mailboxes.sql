-- Mailboxes that their provider has suspended, and the comparison of everything there with what is kept that follows: providers
-- delete such mailboxes with all that is in them.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE mailbox ADD COLUMN read_only boolean NOT NULL DEFAULT false; -- the provider lets nothing be changed in it

-- No key of mailbox: it is asked for while the queue of the mailbox is locked, which others lock after the mailbox.
CREATE TABLE whole_reading (
    tenant_id  text        NOT NULL,
    mailbox_id uuid        NOT NULL,
    reason     text        NOT NULL, -- SENDING_SUSPENDED or MAILBOX_READ_ONLY
    ask_time   timestamptz NOT NULL,
    end_time   timestamptz,          -- null: it is owed
    PRIMARY KEY (tenant_id, mailbox_id)
);
ALTER TABLE whole_reading ENABLE ROW LEVEL SECURITY;
ALTER TABLE whole_reading FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON whole_reading
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
