-- Reception and answers by way of supports, and SdI's own times.

-- +goose Up
SET lock_timeout = '5s';

-- When SdI says that it received the file: terms run from there. Empty when it has not said so.
ALTER TABLE transmission ADD COLUMN taken_at timestamptz;

-- Each support states what was in it: the same file in another support is one more delivery.
ALTER TABLE support_document DROP CONSTRAINT support_document_once;
ALTER TABLE support_document
    ADD CONSTRAINT support_document_once UNIQUE (support_id, file_name, sha256),
    -- The file that a document is about, as names are compared.
    ADD COLUMN file_key text NOT NULL DEFAULT '';
CREATE INDEX support_document_key ON support_document (file_key) WHERE handed_at IS NULL;

ALTER TABLE inbound_outcome
    -- The channel by which the file came: its answer goes the same way.
    ADD COLUMN channel    text NOT NULL DEFAULT 'SDICOOP',
    -- SDIFTP: the support that carries it, until that support is known to have been refused as a whole.
    ADD COLUMN support_id uuid;
CREATE INDEX inbound_outcome_gather ON inbound_outcome (created_at, id) WHERE channel = 'SDIFTP' AND support_id IS NULL AND state = 'PENDING';
CREATE INDEX inbound_outcome_support ON inbound_outcome (support_id) WHERE support_id IS NOT NULL;

-- The answers that each support carries, for good.
CREATE TABLE support_outcome (
    support_id uuid NOT NULL REFERENCES support (id),
    outcome_id uuid NOT NULL REFERENCES inbound_outcome (id),
    tenant_id  text NOT NULL,
    PRIMARY KEY (support_id, outcome_id)
);
ALTER TABLE support_outcome ENABLE ROW LEVEL SECURITY;
ALTER TABLE support_outcome FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON support_outcome
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
