-- +goose Up
-- When the archive has destroyed a message by the rules, what is left of its rows tells of nobody. The log of mailboxes stays what
-- it is, but for one change that it lets through: a line about a message that was destroyed loses who and what about, and says so.
SET lock_timeout = '5s';

ALTER TABLE message
    ADD COLUMN destroyed_by text NOT NULL DEFAULT '', -- tenants/{tenant}/disposals/{disposal}
    ADD COLUMN destroy_time timestamptz;

CREATE INDEX log_message ON log_entry (tenant_id, message_id);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION log_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    disposal text;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        SELECT m.destroyed_by INTO disposal FROM message m
        WHERE m.tenant_id = OLD.tenant_id AND m.id = OLD.message_id AND m.destroyed_by <> '';
        IF disposal IS NOT NULL AND NEW.detail = 'destroyed by ' || disposal
            AND NEW.msgid = '' AND NEW.reference = '' AND NEW.identificativo = '' AND NEW.sender = '' AND NEW.recipients = '{}' AND NEW.subject = ''
            AND (NEW.number, NEW.tenant_id, NEW.mailbox_id, NEW.at, NEW.event, NEW.message_id, NEW.receipt_id, NEW.tipo, NEW.certified_time, NEW.proof)
                IS NOT DISTINCT FROM
                (OLD.number, OLD.tenant_id, OLD.mailbox_id, OLD.at, OLD.event, OLD.message_id, OLD.receipt_id, OLD.tipo, OLD.certified_time, OLD.proof)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'log_entry: what happened is not changed';
END $$;
-- +goose StatementEnd
