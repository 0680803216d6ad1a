-- name: CopiesOf :many
-- What the platform's store has of invoices: their files, what was uploaded, and the pieces of the archives that they came in.
SELECT d.uri, d.id AS what FROM document d WHERE d.tenant_id = @tenant_id AND d.invoice_id = ANY(@ids::uuid[])
UNION
SELECT f.uri, 'upload' FROM invoice i JOIN batch_file f ON f.tenant_id = i.tenant_id AND f.batch_id = i.batch_id AND f.invoice_id = i.id
WHERE i.tenant_id = @tenant_id AND i.id = ANY(@ids::uuid[]) AND f.uri <> ''
UNION
SELECT p.uri, 'batch' FROM invoice i JOIN batch_part p ON p.tenant_id = i.tenant_id AND p.batch_id = i.batch_id
WHERE i.tenant_id = @tenant_id AND i.id = ANY(@ids::uuid[]);

-- name: NeedsOf :many
-- How many invoices that stand need these bytes. A file that became no invoice needs none; a batch under way needs all of its own.
SELECT n.uri::text AS uri, count(DISTINCT n.holder) AS others FROM (
    SELECT d.uri, i.id AS holder FROM document d JOIN invoice i ON i.tenant_id = d.tenant_id AND i.id = d.invoice_id
    WHERE d.tenant_id = @tenant_id AND d.uri = ANY(@uris::text[]) AND i.destroyed_by = ''
    UNION ALL
    SELECT f.uri, coalesce(i.id, b.id) FROM batch_file f JOIN batch b ON b.tenant_id = f.tenant_id AND b.id = f.batch_id
    LEFT JOIN invoice i ON i.tenant_id = f.tenant_id AND i.id = f.invoice_id AND i.destroyed_by = ''
    WHERE f.tenant_id = @tenant_id AND f.uri <> '' AND f.uri = ANY(@uris::text[]) AND (i.id IS NOT NULL OR b.working)
    UNION ALL
    SELECT p.uri, i.id FROM batch_part p JOIN batch_file f ON f.tenant_id = p.tenant_id AND f.batch_id = p.batch_id
    JOIN invoice i ON i.tenant_id = f.tenant_id AND i.id = f.invoice_id AND i.batch_id = p.batch_id AND i.destroyed_by = ''
    WHERE p.tenant_id = @tenant_id AND p.uri = ANY(@uris::text[])
    UNION ALL
    SELECT p.uri, b.id FROM batch_part p JOIN batch b ON b.tenant_id = p.tenant_id AND b.id = p.batch_id
    WHERE p.tenant_id = @tenant_id AND p.uri = ANY(@uris::text[]) AND b.working
) AS n GROUP BY n.uri;
