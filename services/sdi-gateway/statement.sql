-- Lists of files that operators bring, compared with our books.

-- name: StatementTransmissions :many
SELECT id, tenant_id, invoice, file_name, file_key, sdi_id, state, facts FROM transmission
WHERE file_key = ANY(@keys::text[]) OR (sdi_id <> '' AND sdi_id = ANY(@sdi_ids::text[]));

-- name: StatementReceived :many
SELECT sdi_id, file_name FROM inbound_file WHERE sdi_id = ANY(@sdi_ids::text[]) OR file_name = ANY(@names::text[]);

-- name: StatementLacks :many
SELECT id, tenant_id, invoice, file_name, file_key, sdi_id, state, facts FROM transmission
WHERE sent_at >= sqlc.arg(since)::timestamptz AND sent_at < sqlc.arg(until)::timestamptz AND facts <> 0
  AND NOT file_key = ANY(@keys::text[]) AND NOT sdi_id = ANY(@sdi_ids::text[])
ORDER BY sent_at LIMIT @n;

-- name: SaveStatementDifferences :many
-- Gives those that were not known.
INSERT INTO support_difference (id, source, name, problem, found_at)
SELECT unnest(@ids::uuid[]), @source, unnest(@names::text[]), unnest(@problems::text[]), @found_at
ON CONFLICT (name, problem) DO NOTHING
RETURNING id;
