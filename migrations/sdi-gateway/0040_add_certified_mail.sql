-- Certified mail (PEC) as a channel: the mailbox of each company, the addresses that SdI assigned, the messages
-- sent and those that came.

-- +goose Up
SET lock_timeout = '5s';

ALTER TABLE transmission DROP CONSTRAINT transmission_channel_check;
ALTER TABLE transmission
    ADD CONSTRAINT transmission_channel_check CHECK (channel IN ('SDICOOP', 'SDIFTP', 'PEC')) NOT VALID,
    -- PEC: the message that carries it, until that message is known to have reached nobody.
    ADD COLUMN mailing_id uuid;
ALTER TABLE transmission VALIDATE CONSTRAINT transmission_channel_check;
-- Its conditions name no column that changes for the documents of another channel: their updates stay cheap.
CREATE INDEX transmission_post ON transmission (tenant_id, created_at, id) WHERE channel = 'PEC' AND mailing_id IS NULL;

-- Which mailbox a company sends from, and where that stands among its channels.
CREATE TABLE pec_channel (
    tenant_id  text        NOT NULL,
    company    text        PRIMARY KEY, -- tenants/{tenant}/companies/{company}
    mailbox    text        NOT NULL,    -- tenants/{tenant}/mailboxes/{mailbox}
    preference text        NOT NULL CHECK (preference IN ('ONLY', 'FIRST', 'LAST', 'NEVER')),
    updated_at timestamptz NOT NULL,
    updated_by text        NOT NULL
);
CREATE INDEX pec_channel_list ON pec_channel (tenant_id, company);
ALTER TABLE pec_channel ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_channel FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_channel
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A mailbox from which something is sent to SdI. Whoever sends from it locks its row.
CREATE TABLE pec_mailbox (
    tenant_id   text        NOT NULL,
    mailbox     text        PRIMARY KEY,
    failures    integer     NOT NULL DEFAULT 0, -- messages in a row that surely did not reach SdI
    retry_at    timestamptz,                    -- not to be sent from before
    problem     text        NOT NULL DEFAULT '',
    degraded_at timestamptz                     -- the pec-gateway said last that somebody has to look after it
);
ALTER TABLE pec_mailbox ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_mailbox FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_mailbox
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Every address that SdI ever assigned to a mailbox. The one with the latest certified time counts, in whatever
-- order the messages came.
CREATE TABLE pec_address (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    mailbox     text        NOT NULL,
    address     text        NOT NULL,
    assigned_at timestamptz NOT NULL, -- certified by SdI's provider
    message     text        NOT NULL, -- that says so
    learned_at  timestamptz NOT NULL,
    CONSTRAINT pec_address_once UNIQUE (mailbox, address, assigned_at)
);
CREATE INDEX pec_address_latest ON pec_address (mailbox, assigned_at DESC);
ALTER TABLE pec_address ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_address FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_address
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- A message to SdI. Its id is the request_id under which the pec-gateway makes one message and no other.
CREATE TABLE pec_mailing (
    id          uuid        PRIMARY KEY,
    tenant_id   text        NOT NULL,
    mailbox     text        NOT NULL,
    address     text        NOT NULL,
    file_names  text[]      NOT NULL,
    outcome_id  uuid,                 -- of a message that carries the answer of a public body
    -- What is known of it, as bits; the state follows from them.
    facts       integer     NOT NULL DEFAULT 0,
    state       text        NOT NULL DEFAULT 'REQUESTED',
    message     text        NOT NULL DEFAULT '', -- of the pec-gateway
    message_id  text        NOT NULL DEFAULT '', -- of the certified mail
    problem     text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    settled_at  timestamptz
) WITH (fillfactor = 80);
CREATE INDEX pec_mailing_list ON pec_mailing (tenant_id, id DESC);
CREATE INDEX pec_mailing_open ON pec_mailing (mailbox, created_at) WHERE state IN ('REQUESTED', 'QUEUED', 'UNKNOWN', 'SUBMITTED', 'ACCEPTED');
CREATE INDEX pec_mailing_first ON pec_mailing (mailbox) WHERE state <> 'FAILED';
ALTER TABLE pec_mailing ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_mailing FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_mailing
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- What each message carries, for good: transmission.mailing_id is only the present one.
CREATE TABLE pec_mailing_file (
    mailing_id      uuid NOT NULL REFERENCES pec_mailing (id),
    transmission_id uuid NOT NULL REFERENCES transmission (id),
    tenant_id       text NOT NULL,
    PRIMARY KEY (mailing_id, transmission_id)
);
ALTER TABLE pec_mailing_file ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_mailing_file FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_mailing_file
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Messages that are, or say that they are, from SdI. Their bytes are in the archive of the pec-gateway.
CREATE TABLE pec_arrival (
    id             uuid        PRIMARY KEY,
    tenant_id      text        NOT NULL,
    message        text        NOT NULL,
    content_uri    text        NOT NULL,
    state          text        NOT NULL DEFAULT 'TAKEN' CHECK (state IN ('TAKEN', 'READ', 'QUARANTINED')),
    problem        text        NOT NULL DEFAULT '',
    proven         boolean     NOT NULL, -- and its provider manages the domain of the sender
    doubts         text        NOT NULL DEFAULT '',
    sender         text        NOT NULL DEFAULT '', -- certified
    certified_at   timestamptz,
    received_at    timestamptz NOT NULL,
    file_names     text[]      NOT NULL DEFAULT '{}',
    sdi_ids        text[]      NOT NULL DEFAULT '{}', -- of the invoices in it: answers go back to its sender
    CONSTRAINT pec_arrival_once UNIQUE (message)
);
CREATE INDEX pec_arrival_list ON pec_arrival (tenant_id, id DESC);
CREATE INDEX pec_arrival_sdi_id ON pec_arrival USING gin (sdi_ids) WHERE sdi_ids <> '{}';
ALTER TABLE pec_arrival ENABLE ROW LEVEL SECURITY;
ALTER TABLE pec_arrival FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON pec_arrival
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
