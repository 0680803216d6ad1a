-- Folders of our own, and what messages are searched by.

-- +goose Up
SET lock_timeout = '5s';

-- A message stands in the folder that message.folder names: one of the provider's, or one of these.
CREATE TABLE own_folder (
    tenant_id   text        NOT NULL,
    mailbox_id  uuid        NOT NULL,
    name        text        NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, name),
    FOREIGN KEY (tenant_id, mailbox_id) REFERENCES mailbox (tenant_id, id)
);
ALTER TABLE own_folder ENABLE ROW LEVEL SECURITY;
ALTER TABLE own_folder FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON own_folder
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

ALTER TABLE message ADD COLUMN attachments text[] NOT NULL DEFAULT '{}';
CREATE INDEX message_folder ON message (tenant_id, mailbox_id, folder, id DESC);
CREATE INDEX message_time ON message (tenant_id, mailbox_id, receive_time);
CREATE INDEX message_of_state ON message (tenant_id, mailbox_id, state, id DESC) WHERE direction = 2;

-- Words of messages, folded. They are looked up with comparisons of text alone, which the planner may do
-- before it checks whose rows they are; operators of full-text indexes it may not.
CREATE TABLE message_word (
    tenant_id  text NOT NULL,
    mailbox_id uuid NOT NULL,
    word       text COLLATE "C" NOT NULL,
    message_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, word, message_id)
);
ALTER TABLE message_word ENABLE ROW LEVEL SECURITY;
ALTER TABLE message_word FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON message_word
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- Words that wait to be entered: receiving is not held up by them.
CREATE TABLE word_owed (
    tenant_id  text   NOT NULL,
    mailbox_id uuid   NOT NULL,
    message_id uuid   NOT NULL,
    words      text[] NOT NULL,
    PRIMARY KEY (tenant_id, message_id)
);
ALTER TABLE word_owed ENABLE ROW LEVEL SECURITY;
ALTER TABLE word_owed FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON word_owed
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');
