-- What the log is searched by, each with an index in the order in which entries are shown (at, number), so that a page costs its
-- own length wherever it begins and however rare what was asked for is.

-- +goose Up
SET lock_timeout = '5s';

-- Whom entries tell of: senders and recipients, in small letters. Operators of arrays may not be asked before row-level security is,
-- nor may lower() of a column: an index that needs them is not used. Comparisons of text may.
CREATE TABLE log_address (
    tenant_id  text        NOT NULL,
    mailbox_id uuid        NOT NULL,
    address    text        COLLATE "C" NOT NULL,
    at         timestamptz NOT NULL,
    number     bigint      NOT NULL,
    PRIMARY KEY (tenant_id, mailbox_id, address, at, number)
);
ALTER TABLE log_address ENABLE ROW LEVEL SECURITY;
ALTER TABLE log_address FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_isolation ON log_address
    USING (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system')
    WITH CHECK (tenant_id = current_setting('ceralacca.tenant', true) OR current_setting('ceralacca.scope', true) = 'system');

-- An entry is found by its addresses as soon as it is there, whichever release wrote it. Rows of an index have a longest size.
-- +goose StatementBegin
CREATE FUNCTION log_addresses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_address (tenant_id, mailbox_id, address, at, number)
    SELECT DISTINCT NEW.tenant_id, NEW.mailbox_id, left(lower(x), 320), NEW.at, NEW.number FROM unnest(NEW.recipients || NEW.sender) x WHERE x <> ''
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER log_addresses AFTER INSERT ON log_entry FOR EACH ROW EXECUTE FUNCTION log_addresses();

-- The one change that an entry may have, when its message is destroyed, takes its addresses from it.
-- +goose StatementBegin
CREATE FUNCTION log_addresses_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM log_address a
    WHERE a.tenant_id = OLD.tenant_id AND a.mailbox_id = OLD.mailbox_id AND a.at = OLD.at AND a.number = OLD.number
        AND a.address = ANY (SELECT left(lower(x), 320) FROM unnest(OLD.recipients || OLD.sender) x);
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER log_addresses_gone AFTER UPDATE ON log_entry FOR EACH ROW EXECUTE FUNCTION log_addresses_gone();

CREATE INDEX log_at ON log_entry (tenant_id, mailbox_id, at, number);
CREATE INDEX log_at_all ON log_entry (tenant_id, at, number); -- of all mailboxes together
CREATE INDEX log_event ON log_entry (tenant_id, mailbox_id, event, at, number);
CREATE INDEX log_tipo ON log_entry (tenant_id, mailbox_id, tipo, at, number) WHERE tipo <> '';
DROP INDEX log_time;   -- log_at begins with it
DROP INDEX log_sender; -- of lower(sender): row-level security never let it be used
-- log_mailbox is in the order that the release before this one shows entries in; it goes with the next one.
