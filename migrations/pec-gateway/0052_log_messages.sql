-- What happened to messages, one row for each thing, written by the database itself: no path of the program can
-- leave one out, and none changes one.

-- +goose Up
SET lock_timeout = '5s';

CREATE TABLE log_entry (
    number         bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    tenant_id      text        NOT NULL,
    mailbox_id     uuid        NOT NULL,
    at             timestamptz NOT NULL,
    event          smallint    NOT NULL, -- 0: received; otherwise the kind of the fact
    message_id     uuid        NOT NULL,
    receipt_id     uuid,
    tipo           text        NOT NULL DEFAULT '',
    msgid          text        NOT NULL DEFAULT '',
    reference      text        NOT NULL DEFAULT '',
    identificativo text        NOT NULL DEFAULT '',
    sender         text        NOT NULL DEFAULT '',
    recipients     text[]      NOT NULL DEFAULT '{}',
    subject        text        NOT NULL DEFAULT '',
    certified_time timestamptz,
    proof          text        NOT NULL DEFAULT '',
    detail         text        NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, number)
);
CREATE INDEX log_mailbox ON log_entry (tenant_id, mailbox_id, number DESC);
CREATE INDEX log_time ON log_entry (tenant_id, mailbox_id, at);
CREATE INDEX log_msgid ON log_entry (tenant_id, msgid) WHERE msgid <> '';
CREATE INDEX log_reference ON log_entry (tenant_id, reference) WHERE reference <> '';
CREATE INDEX log_identificativo ON log_entry (tenant_id, identificativo) WHERE identificativo <> '';
CREATE INDEX log_sender ON log_entry (tenant_id, lower(sender));
CREATE INDEX log_sent ON log_entry (tenant_id, mailbox_id, number DESC) WHERE event = 2; -- pec.FactSubmitted
ALTER TABLE log_entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_entry FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_entry
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- +goose StatementBegin
CREATE FUNCTION log_received() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_entry (tenant_id, mailbox_id, at, event, message_id, tipo, msgid, reference, identificativo, sender, recipients, subject,
        certified_time, proof, detail)
    VALUES (NEW.tenant_id, NEW.mailbox_id, NEW.receive_time, 0, NEW.id, NEW.tipo, NEW.message_id, NEW.reference, NEW.identificativo,
        CASE WHEN NEW.certified_sender <> '' THEN NEW.certified_sender ELSE NEW.from_address END, NEW.recipients, NEW.subject,
        NEW.certified_time, CASE WHEN NEW.proven THEN 'proven' ELSE 'unproven' END, NEW.quarantine_code);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER log_received AFTER INSERT ON message FOR EACH ROW WHEN (NEW.direction = 1) EXECUTE FUNCTION log_received();

-- +goose StatementBegin
CREATE FUNCTION log_fact() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_entry (tenant_id, mailbox_id, at, event, message_id, receipt_id, tipo, msgid, reference, identificativo, sender, recipients, subject,
        certified_time, proof, detail)
    SELECT NEW.tenant_id, m.mailbox_id, NEW.create_time, NEW.kind, m.id, NEW.receipt_id, coalesce(r.tipo, ''), m.message_id, '',
        CASE WHEN NEW.identificativo <> '' THEN NEW.identificativo ELSE m.identificativo END, m.from_address,
        CASE WHEN NEW.recipient <> '' THEN ARRAY[NEW.recipient] ELSE m.recipients END, m.subject,
        CASE WHEN NEW.receipt_id IS NOT NULL THEN NEW.at END, CASE WHEN NEW.receipt_id IS NOT NULL THEN 'proven' ELSE 'ours' END, NEW.cause
    FROM message m LEFT JOIN message r ON r.tenant_id = NEW.tenant_id AND r.id = NEW.receipt_id
    WHERE m.tenant_id = NEW.tenant_id AND m.id = NEW.message_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER log_fact AFTER INSERT ON fact FOR EACH ROW EXECUTE FUNCTION log_fact();

-- +goose StatementBegin
CREATE FUNCTION log_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'log_entry: what happened is not changed';
END $$;
-- +goose StatementEnd
CREATE TRIGGER log_is_final BEFORE UPDATE OR DELETE ON log_entry FOR EACH ROW EXECUTE FUNCTION log_is_final();
