-- Messages that are being written, and the room of mailboxes whose servers do not say it.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE draft (
    tenant_id   text        NOT NULL,
    id          uuid        NOT NULL,
    mailbox_id  uuid        NOT NULL,
    content     bytea       NOT NULL, -- ceralacca.pec.v1.Draft without its texts; files are in the store
    texts       bytea       NOT NULL, -- ceralacca.pec.v1.Draft with text and html alone, which lists do not read
    version     integer     NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
CREATE INDEX draft_list ON draft (tenant_id, mailbox_id, update_time DESC, id DESC);
ALTER TABLE draft ENABLE ROW LEVEL SECURITY;
ALTER TABLE draft FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON draft
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

ALTER TABLE mailbox ADD COLUMN capacity bigint NOT NULL DEFAULT 0; -- of the contract, in bytes; 0: not told
