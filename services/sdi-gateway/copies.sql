-- name: CopiesOfSent :many
-- What the platform's store has of invoices that were sent: the files, SdI's messages about them, and the supports that carried either.
SELECT t.file_uri::text AS uri, 'sent'::text AS what FROM transmission t WHERE t.tenant_id = @tenant_id AND t.invoice = ANY(@invoices::text[])
UNION
SELECT m.content_uri, 'receipt' FROM transmission t JOIN message m ON m.transmission_id = t.id
WHERE t.tenant_id = @tenant_id AND t.invoice = ANY(@invoices::text[]) AND m.content_uri <> ''
UNION
SELECT s.file_uri, 'support' FROM transmission t JOIN support_file f ON f.transmission_id = t.id JOIN support s ON s.id = f.support_id
WHERE t.tenant_id = @tenant_id AND t.invoice = ANY(@invoices::text[]) AND s.file_uri <> ''
UNION
SELECT s.file_uri, 'support' FROM transmission t JOIN message m ON m.transmission_id = t.id JOIN support_message c ON c.sha256 = m.sha256 JOIN support s ON s.id = c.support_id
WHERE t.tenant_id = @tenant_id AND t.invoice = ANY(@invoices::text[]) AND s.file_uri <> '';

-- name: CopiesOfReceived :many
-- The same of files that were received: file, metadata, SdI's answers, the supports that brought them or carried the outcome.
SELECT f.file_uri::text AS uri, 'received'::text AS what FROM inbound_file f WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[])
UNION
SELECT f.metadata_uri, 'metadata' FROM inbound_file f WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[]) AND f.metadata_uri <> ''
UNION
SELECT d.metadata_uri, 'metadata' FROM inbound_file f JOIN inbound_delivery d ON d.file_id = f.id WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[]) AND d.metadata_uri <> ''
UNION
SELECT o.answer_uri, 'answer' FROM inbound_file f JOIN inbound_outcome o ON o.file_id = f.id WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[]) AND o.answer_uri <> ''
UNION
SELECT s.file_uri, 'support' FROM inbound_file f JOIN inbound_outcome o ON o.file_id = f.id JOIN support_outcome c ON c.outcome_id = o.id JOIN support s ON s.id = c.support_id
WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[]) AND s.file_uri <> ''
UNION
SELECT s.file_uri, 'support' FROM inbound_file f JOIN support_document d ON d.sha256 = f.sha256 JOIN support s ON s.id = d.support_id
WHERE f.tenant_id = @tenant_id AND f.id = ANY(@ids::uuid[]) AND s.file_uri <> '';

-- name: NeedsOf :many
-- How many documents that stand need these bytes. A support needs what it carries; one under way needs itself.
SELECT n.uri::text AS uri, count(DISTINCT n.holder) AS others FROM (
    SELECT t.file_uri AS uri, t.id AS holder FROM transmission t WHERE t.file_uri = ANY(@uris::text[]) AND t.destroyed_by = ''
    UNION ALL
    SELECT m.content_uri, m.id FROM message m LEFT JOIN transmission t ON t.id = m.transmission_id
    WHERE m.content_uri <> '' AND m.content_uri = ANY(@uris::text[]) AND coalesce(t.destroyed_by, '') = ''
    UNION ALL
    SELECT f.file_uri, f.id FROM inbound_file f WHERE f.file_uri = ANY(@uris::text[]) AND f.destroyed_by = ''
    UNION ALL
    SELECT f.metadata_uri, f.id FROM inbound_file f WHERE f.metadata_uri <> '' AND f.metadata_uri = ANY(@uris::text[]) AND f.destroyed_by = ''
    UNION ALL
    SELECT s.file_uri, s.id FROM support s
    WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND s.state IN ('GATHERED', 'SHOWN', 'ARRIVING', 'RECEIVED')
    UNION ALL
    SELECT s.file_uri, t.id FROM support s JOIN support_file c ON c.support_id = s.id JOIN transmission t ON t.id = c.transmission_id
    WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND t.destroyed_by = ''
    UNION ALL
    SELECT s.file_uri, f.id FROM support s JOIN support_outcome c ON c.support_id = s.id JOIN inbound_outcome o ON o.id = c.outcome_id JOIN inbound_file f ON f.id = o.file_id
    WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND f.destroyed_by = ''
    UNION ALL
    SELECT s.file_uri, t.id FROM support s JOIN support_message c ON c.support_id = s.id JOIN message m ON m.sha256 = c.sha256 JOIN transmission t ON t.id = m.transmission_id
    WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND t.destroyed_by = ''
    UNION ALL
    SELECT s.file_uri, f.id FROM support s JOIN support_document c ON c.support_id = s.id JOIN inbound_file f ON f.sha256 = c.sha256
    WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND f.destroyed_by = ''
    UNION ALL
    SELECT s.file_uri, d.id FROM support s JOIN support_document d ON d.support_id = s.id WHERE s.file_uri <> '' AND s.file_uri = ANY(@uris::text[]) AND d.handed_at IS NULL
) AS n GROUP BY n.uri;

-- name: NoteSupportMessages :exec
INSERT INTO support_message (support_id, sha256) SELECT @support_id, unnest(@sums::bytea[]) ON CONFLICT DO NOTHING;
