-- Mailboxes of certified mail, where each was read up to, and who presides over it now.

-- +goose Up
SET lock_timeout = '5s';

-- Credentials are in Vault. Numbers of state, access, action and level are those of the contract.
CREATE TABLE mailbox (
    tenant_id         text        NOT NULL,
    id                uuid        NOT NULL,
    address           text        NOT NULL,
    address_key       text        NOT NULL, -- lower case
    provider          text        NOT NULL, -- preset
    username          text        NOT NULL,
    imap              text        NOT NULL DEFAULT '', -- host:port; empty: of the preset
    pop3              text        NOT NULL DEFAULT '',
    smtp              text        NOT NULL DEFAULT '',
    access            smallint    NOT NULL,
    label             text        NOT NULL DEFAULT '',
    home_provider     text        NOT NULL DEFAULT '',
    ordinary_action   smallint    NOT NULL DEFAULT 1,
    ordinary_folder   text        NOT NULL DEFAULT '',
    paused            boolean     NOT NULL DEFAULT false,
    state             smallint    NOT NULL,
    problem_code      text        NOT NULL DEFAULT '',
    problem           text        NOT NULL DEFAULT '',
    problem_time      timestamptz,
    last_poll_time    timestamptz,
    last_receive_time timestamptz,
    sync_total        bigint      NOT NULL DEFAULT 0,
    sync_fetched      bigint      NOT NULL DEFAULT 0,
    sync_start_time   timestamptz,
    sync_end_time     timestamptz,
    quota_used        bigint      NOT NULL DEFAULT 0,
    quota_limit       bigint      NOT NULL DEFAULT 0, -- 0: not known
    quota_level       smallint    NOT NULL DEFAULT 0,
    failures          integer     NOT NULL DEFAULT 0, -- visits that failed since the last good one
    next_poll_time    timestamptz NOT NULL,
    -- Who presides over it, until when. The fence grows with every change of hands: what a holder writes
    -- under an old one is refused.
    lease_holder      uuid,
    lease_until       timestamptz,
    fence             bigint      NOT NULL DEFAULT 0,
    version           integer     NOT NULL DEFAULT 1,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT mailbox_address UNIQUE (tenant_id, address_key)
) WITH (fillfactor = 70);
CREATE INDEX mailbox_due ON mailbox (next_poll_time) WHERE NOT paused;
ALTER TABLE mailbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE mailbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mailbox
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Where a folder was read up to. Another uid_validity means that all numbers are new.
CREATE TABLE folder (
    tenant_id    text   NOT NULL,
    mailbox_id   uuid   NOT NULL,
    name         text   NOT NULL,
    uid_validity bigint NOT NULL,
    next_uid     bigint NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, name),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
) WITH (fillfactor = 70);
ALTER TABLE folder ENABLE ROW LEVEL SECURITY;
ALTER TABLE folder FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON folder
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
