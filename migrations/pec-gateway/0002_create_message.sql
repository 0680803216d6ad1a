-- Messages received and sent, kept as they came, what was proven about each, and the facts that the
-- state of a sent message follows from.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE message (
    tenant_id         text        NOT NULL,
    id                uuid        NOT NULL,
    mailbox_id        uuid        NOT NULL,
    direction         smallint    NOT NULL CHECK (direction IN (1, 2)), -- received, sent
    kind              smallint    NOT NULL,
    tipo              text        NOT NULL DEFAULT '', -- in the words of the law
    state             smallint    NOT NULL,
    message_id        text        NOT NULL DEFAULT '', -- Message-ID without brackets; of a sent message ours
    reference         text        NOT NULL DEFAULT '', -- msgid: the Message-ID of the original that it is about
    identificativo    text        NOT NULL DEFAULT '', -- the provider's
    from_address      text        NOT NULL DEFAULT '', -- as the header claims
    certified_sender  text        NOT NULL DEFAULT '', -- as a proven message says
    recipients        text[]      NOT NULL DEFAULT '{}',
    subject           text        NOT NULL DEFAULT '',
    folder            text        NOT NULL DEFAULT '',
    proven            boolean     NOT NULL DEFAULT false,
    verification      text        NOT NULL DEFAULT '', -- status of the newest report
    report            jsonb,                           -- the newest report
    doubts            text[]      NOT NULL DEFAULT '{}',
    quarantine_code   text        NOT NULL DEFAULT '',
    quarantine        text        NOT NULL DEFAULT '',
    about_id          uuid,                            -- the sent message that this receipt is about
    contradictions    text[]      NOT NULL DEFAULT '{}',
    content_uri       text        NOT NULL,
    sha256            bytea       NOT NULL CHECK (octet_length(sha256) = 32),
    size              bigint      NOT NULL,
    certified_time    timestamptz,
    receive_time      timestamptz NOT NULL, -- fetched, or handed to us to be sent
    create_time       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
-- The same bytes are one message, in however many folders and under however many numbers they stand.
CREATE UNIQUE INDEX message_content ON message (tenant_id, mailbox_id, sha256) WHERE direction = 1;
CREATE UNIQUE INDEX message_sent ON message (tenant_id, mailbox_id, message_id) WHERE direction = 2;
CREATE INDEX message_list ON message (tenant_id, mailbox_id, id DESC);
CREATE INDEX message_reference ON message (tenant_id, mailbox_id, reference) WHERE reference <> '';
CREATE INDEX message_identificativo ON message (tenant_id, mailbox_id, identificativo) WHERE identificativo <> '';
CREATE INDEX message_about ON message (tenant_id, about_id) WHERE about_id IS NOT NULL;
CREATE INDEX message_quarantine ON message (tenant_id, mailbox_id, id) WHERE quarantine_code <> '';
ALTER TABLE message ENABLE ROW LEVEL SECURITY;
ALTER TABLE message FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON message
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Where the provider keeps it, as seen: one message may stand in several places.
CREATE TABLE location (
    tenant_id    text   NOT NULL,
    mailbox_id   uuid   NOT NULL,
    folder       text   NOT NULL,
    uid_validity bigint NOT NULL, -- 0 over POP3
    uid          text   NOT NULL, -- a number, over POP3 the unique id
    message_id   uuid   NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, folder, uid_validity, uid),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
);
CREATE INDEX location_message ON location (tenant_id, message_id);
ALTER TABLE location ENABLE ROW LEVEL SECURITY;
ALTER TABLE location FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON location
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Every report ever made about a message: a later one stands beside the earlier.
CREATE TABLE report (
    tenant_id  text        NOT NULL,
    message_id uuid        NOT NULL,
    id         uuid        NOT NULL,
    status     text        NOT NULL,
    proven     boolean     NOT NULL,
    report     jsonb       NOT NULL,
    check_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, message_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
);
ALTER TABLE report ENABLE ROW LEVEL SECURITY;
ALTER TABLE report FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON report
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Whom a sent message is for, with the outcome that its facts add up to.
CREATE TABLE recipient (
    tenant_id  text        NOT NULL,
    message_id uuid        NOT NULL,
    position   integer     NOT NULL,
    address    text        NOT NULL,
    field      text        NOT NULL CHECK (field IN ('to', 'cc')),
    state      text        NOT NULL DEFAULT 'waiting',
    final      boolean     NOT NULL DEFAULT false,
    late       boolean     NOT NULL DEFAULT false,
    at         timestamptz,
    cause      text        NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, message_id, position),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
) WITH (fillfactor = 70);
ALTER TABLE recipient ENABLE ROW LEVEL SECURITY;
ALTER TABLE recipient FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON recipient
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What is known of a sent message: hand-over and proven receipts. Rows are only added; the state is a
-- function of their set, so order and repetition change nothing.
CREATE TABLE fact (
    tenant_id      text        NOT NULL,
    message_id     uuid        NOT NULL,
    id             uuid        NOT NULL,
    kind           smallint    NOT NULL, -- pec.FactKind
    at             timestamptz NOT NULL,
    recipient      text        NOT NULL DEFAULT '',
    identificativo text        NOT NULL DEFAULT '',
    external       text[]      NOT NULL DEFAULT '{}', -- recipients without certified mail
    cause          text        NOT NULL DEFAULT '',
    receipt_id     uuid,                              -- the message that says so; null for what we did
    create_time    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, message_id, id),
    FOREIGN KEY (tenant_id, message_id) REFERENCES message (tenant_id, id)
);
CREATE UNIQUE INDEX fact_receipt ON fact (tenant_id, message_id, receipt_id) WHERE receipt_id IS NOT NULL;
ALTER TABLE fact ENABLE ROW LEVEL SECURITY;
ALTER TABLE fact FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON fact
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
