-- name: InsertParties :exec
INSERT INTO search_party (id, tenant_id) SELECT n.id, @tenant_id FROM (SELECT unnest(@ids::uuid[]) AS id) AS n
ON CONFLICT (id) DO NOTHING;

-- name: InsertWords :exec
INSERT INTO search_word (tenant_id, word, party_id)
SELECT @tenant_id, n.word, n.party FROM (SELECT unnest(@words::text[]) AS word, unnest(@parties::uuid[]) AS party) AS n
ON CONFLICT DO NOTHING;

-- name: KnownParties :many
SELECT id FROM search_party WHERE id = ANY(@ids::uuid[]);

-- name: InsertEntries :exec
INSERT INTO search_entry (unit_id, body, tenant_id, issued_on, fiscal_year, class, state, document_type, number, sdi_id, file_name, seller, buyer)
SELECT n.unit, n.body, @tenant_id, n.issued_on::date, n.fiscal_year, n.class, n.state, n.document_type, n.number, n.sdi_id, n.file_name, n.seller, n.buyer
FROM (SELECT unnest(@units::uuid[]) AS unit, unnest(@bodies::int[]) AS body, unnest(@dates::text[]) AS issued_on,
             unnest(@fiscal_years::int[]) AS fiscal_year, unnest(@classes::text[]) AS class, unnest(@states::text[]) AS state,
             unnest(@types::text[]) AS document_type, unnest(@numbers::text[]) AS number, unnest(@sdi_ids::text[]) AS sdi_id,
             unnest(@file_names::text[]) AS file_name, unnest(@sellers::uuid[]) AS seller, unnest(@buyers::uuid[]) AS buyer) AS n
ON CONFLICT (unit_id, body) DO UPDATE SET
    issued_on = excluded.issued_on, fiscal_year = excluded.fiscal_year, class = excluded.class, state = excluded.state,
    document_type = excluded.document_type, number = excluded.number, sdi_id = excluded.sdi_id, file_name = excluded.file_name,
    seller = excluded.seller, buyer = excluded.buyer;

-- name: OwedEntries :many
SELECT u.id, u.tenant_id, u.class, u.fiscal_year, u.integrates, u.facts
FROM search_owed o JOIN unit u ON u.id = o.unit_id ORDER BY o.unit_id LIMIT @page FOR UPDATE OF o SKIP LOCKED;

-- name: SettleEntries :exec
DELETE FROM search_owed WHERE unit_id = ANY(@units::uuid[]);

-- name: DropEntries :exec
DELETE FROM search_entry WHERE unit_id = ANY(@units::uuid[]);

-- name: UnitsByID :many
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) ORDER BY id;

-- name: IntegrationsOf :many
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit WHERE tenant_id = @tenant_id AND integrates = ANY(@ids::uuid[]) ORDER BY id;

-- name: HoldUnits :many
-- Units that are in custody, held against whoever changes them; in one order, so that two that hold never wait for each other.
SELECT id FROM unit WHERE tenant_id = @tenant AND id = ANY(@ids::uuid[]) AND state NOT IN ('REFUSED', 'DESTROYED') ORDER BY id FOR SHARE;

-- name: LastIntegrations :many
-- Of units with later receipts the unit that brought the last of them.
SELECT DISTINCT ON (integrates) integrates::uuid AS integrates, id FROM unit
WHERE tenant_id = @tenant AND integrates = ANY(@ids::uuid[]) AND state NOT IN ('REFUSED', 'DESTROYED') ORDER BY integrates, id DESC;

-- name: EnteredOf :many
SELECT unit_id FROM search_entry WHERE unit_id = ANY(@units::uuid[]) AND body = 1;
