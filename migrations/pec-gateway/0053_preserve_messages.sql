-- What was handed over to preservation: each message once, and the sets of days.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE preserved_day (
    tenant_id       text        NOT NULL,
    mailbox_id      uuid        NOT NULL,
    day             date        NOT NULL, -- in Rome
    close_time      timestamptz, -- null: messages are still being handed over
    messages        bigint      NOT NULL DEFAULT 0,
    register_uri    text        NOT NULL DEFAULT '',
    register_sha256 bytea,
    unit            text        NOT NULL DEFAULT '', -- of the register, once it is in custody
    PRIMARY KEY (tenant_id, mailbox_id, day),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
CREATE INDEX preserved_day_open ON preserved_day (tenant_id, mailbox_id, day) WHERE close_time IS NULL;
ALTER TABLE preserved_day ENABLE ROW LEVEL SECURITY;
ALTER TABLE preserved_day FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON preserved_day
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

CREATE TABLE preserved_message (
    tenant_id      text        NOT NULL,
    message_id     uuid        NOT NULL,
    mailbox_id     uuid        NOT NULL,
    day            date, -- null: chosen by itself
    hand_over_time timestamptz NOT NULL,
    unit           text        NOT NULL DEFAULT '',
    package        text        NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, message_id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
) WITH (fillfactor = 70);
CREATE INDEX preserved_message_day ON preserved_message (tenant_id, mailbox_id, day, message_id);
ALTER TABLE preserved_message ENABLE ROW LEVEL SECURITY;
ALTER TABLE preserved_message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON preserved_message
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
