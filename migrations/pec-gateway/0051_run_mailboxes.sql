-- How a mailbox is run, who may do what with it, and whom a notice is owed.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE mailbox_policy (
    tenant_id         text        NOT NULL,
    mailbox_id        uuid        NOT NULL,
    policy            jsonb       NOT NULL, -- MailboxPolicy
    daily             boolean     NOT NULL DEFAULT false,
    since             timestamptz, -- what came before is not handed over by itself; null: everything is
    expire_on         date,
    password_days     integer     NOT NULL DEFAULT 0,
    password_time     timestamptz, -- when the password was last given
    sending_suspended boolean     NOT NULL DEFAULT false,
    warned_mailbox    integer, -- days before the end at which somebody was told last
    warned_password   integer,
    notice_time       timestamptz, -- of the last notice
    version           integer     NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, mailbox_id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
ALTER TABLE mailbox_policy ENABLE ROW LEVEL SECURITY;
ALTER TABLE mailbox_policy FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mailbox_policy
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE mailbox_grant (
    tenant_id  text     NOT NULL,
    mailbox_id uuid     NOT NULL,
    caller     text     NOT NULL, -- key:... or oidc:...
    entitled   smallint NOT NULL, -- MailboxRight
    PRIMARY KEY (tenant_id, mailbox_id, caller),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
ALTER TABLE mailbox_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE mailbox_grant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON mailbox_grant
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE notice_owed (
    tenant_id    text        NOT NULL,
    mailbox_id   uuid        NOT NULL,
    message_id   uuid        NOT NULL,
    sender       text        NOT NULL,
    subject      text        NOT NULL,
    certified    boolean     NOT NULL,
    receive_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, message_id)
);
ALTER TABLE notice_owed ENABLE ROW LEVEL SECURITY;
ALTER TABLE notice_owed FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON notice_owed
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
