-- Messages are searched as the log is: each field has an index in the order in which they are shown, so that no page has to look for
-- what is rare among all that came since.

-- +goose Up
SET lock_timeout = '5s';

CREATE INDEX message_at ON message (tenant_id, mailbox_id, receive_time, id);
CREATE INDEX message_at_all ON message (tenant_id, receive_time, id); -- of all mailboxes together
CREATE INDEX message_folder_at ON message (tenant_id, mailbox_id, folder, receive_time, id);
CREATE INDEX message_state_at ON message (tenant_id, mailbox_id, state, receive_time, id) WHERE direction = 2;
CREATE INDEX message_kind_at ON message (tenant_id, mailbox_id, kind, receive_time, id);
CREATE INDEX message_tipo_at ON message (tenant_id, mailbox_id, tipo, receive_time, id) WHERE tipo <> '';
CREATE INDEX message_named ON message (tenant_id, mailbox_id, message_id) WHERE message_id <> '';
CREATE INDEX message_word_of ON message_word (tenant_id, message_id, word); -- whether a message has a word that many have; and what goes with it
DROP INDEX message_time; -- message_at begins with it
-- message_folder and message_of_state are in the order that the release before this one shows messages in; they go with the next one.
