-- +goose NO TRANSACTION
-- Addresses of the entries that were there before, page by page, each in a transaction: the log is written to meanwhile, and what was
-- entered stays when this is ended in the middle and begun anew. The shared lock keeps an entry from losing its addresses, as those of
-- destroyed messages do, between being read and being entered.

-- +goose Up
SET lock_timeout = '5s';

-- +goose StatementBegin
DO $$
DECLARE
    tenant text := '';
    last   bigint := 0;
    page   record;
BEGIN
    LOOP
        PERFORM set_config('ceralacca.scope', 'system', true);
        WITH entries AS MATERIALIZED (
            SELECT l.tenant_id, l.number, l.mailbox_id, l.at, l.sender, l.recipients FROM log_entry l
            WHERE (l.tenant_id, l.number) > (tenant, last) ORDER BY l.tenant_id, l.number LIMIT 10000 FOR SHARE
        ), entered AS (
            INSERT INTO log_address (tenant_id, mailbox_id, address, at, number)
            SELECT DISTINCT e.tenant_id, e.mailbox_id, left(lower(x), 320), e.at, e.number FROM entries e, unnest(e.recipients || e.sender) x WHERE x <> ''
            ON CONFLICT DO NOTHING
        )
        SELECT e.tenant_id, e.number INTO page FROM entries e ORDER BY e.tenant_id DESC, e.number DESC LIMIT 1;
        EXIT WHEN NOT FOUND;
        tenant := page.tenant_id;
        last := page.number;
        COMMIT;
    END LOOP;
END $$;
-- +goose StatementEnd
ANALYZE log_entry;
ANALYZE log_address;
