-- name: DestroyedDigests :many
-- Bytes of documents of a package that no document has which stands.
SELECT DISTINCT f.sha256 FROM unit u JOIN unit_file f ON f.unit_id = u.id
WHERE u.package_id = @package::uuid AND u.subject = ANY(@subjects::text[]) AND f.role <> 'metadata' AND NOT EXISTS (
    SELECT 1 FROM unit_file o JOIN unit v ON v.id = o.unit_id
    WHERE o.sha256 = f.sha256 AND o.tenant_id = u.tenant_id AND v.state NOT IN ('DESTROYED', 'REFUSED'));

-- name: SeekCopies :execrows
UPDATE disposal_item SET copies = @copies, parts = @parts WHERE disposal_id = @disposal AND package_id = @package AND copies = '';

-- name: LockDisposalItem :one
SELECT * FROM disposal_item WHERE disposal_id = @disposal AND package_id = @package FOR UPDATE;

-- name: InsertAnswer :execrows
INSERT INTO disposal_answer (disposal_id, package_id, tenant_id, round, part, service, answered_at)
VALUES (@disposal, @package, @tenant_id, @round, @part, @service, @at) ON CONFLICT DO NOTHING;

-- name: Answers :many
SELECT service, count(*) AS parts FROM disposal_answer WHERE disposal_id = @disposal AND package_id = @package AND round = @round AND part <= @parts GROUP BY service;

-- name: InsertFoundCopies :exec
INSERT INTO disposal_object AS o (disposal_id, package_id, tenant_id, kind, key, sha256, size, what, found_by)
SELECT @disposal, @package, @tenant_id, 'blob', x.key, x.sha256, x.size, x.what, ARRAY[@service::text]
FROM (SELECT unnest(@keys::text[]) AS key, unnest(@sums::bytea[]) AS sha256, unnest(@sizes::bigint[]) AS size, unnest(@whats::text[]) AS what) x
ON CONFLICT (disposal_id, package_id, kind, key) DO UPDATE
SET what = CASE WHEN o.what = '' THEN excluded.what ELSE o.what END,
    found_by = CASE WHEN @service::text = ANY(o.found_by) THEN o.found_by ELSE o.found_by || @service::text END;

-- name: CopiesToAskFor :many
SELECT * FROM disposal_object WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND state = '' AND NOT gone ORDER BY key;

-- name: SetCopiesAbsent :exec
UPDATE disposal_object SET state = 'ABSENT', gone = true WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND state = '' AND key = ANY(@keys::text[]);

-- name: SetCopyMarks :exec
UPDATE disposal_object o SET mark = x.mark
FROM (SELECT unnest(@keys::text[]) AS key, unnest(@marks::text[]) AS mark) x
WHERE o.disposal_id = @disposal AND o.package_id = @package AND o.kind = 'blob' AND o.state = '' AND o.key = x.key;

-- name: AskForCopies :execrows
UPDATE disposal_item SET copies = @copies, round = round + 1, parts = @parts
WHERE disposal_id = @disposal AND package_id = @package AND copies = ANY('{FINDING,FOUND}'::text[]) AND round = @round;

-- name: InsertNeeds :exec
INSERT INTO disposal_need (disposal_id, package_id, tenant_id, round, key, service, others)
SELECT @disposal, @package, @tenant_id, @round, unnest(@keys::text[]), @service, unnest(@others::bigint[]) ON CONFLICT DO NOTHING;

-- name: Needs :many
SELECT key, service, others FROM disposal_need WHERE disposal_id = @disposal AND package_id = @package AND round = @round ORDER BY key, service;

-- name: StandingBytes :many
-- What in the archive stands and has the same bytes in the platform's store.
SELECT s.sha256::bytea AS sha256, count(*) AS others FROM (
    SELECT f.sha256 FROM unit_file f JOIN unit u ON u.id = f.unit_id
    WHERE f.sha256 = ANY(@sums::bytea[]) AND f.tenant_id = @tenant_id AND u.state NOT IN ('DESTROYED', 'REFUSED')
    UNION ALL
    SELECT b.sha256 FROM package p, LATERAL (VALUES (p.index_sha256), (p.signed_sha256), (p.stamp_sha256), (p.archive_sha256)) AS b (sha256)
    WHERE p.tenant_id = @tenant_id AND p.state NOT IN ('ERASING', 'DESTROYED') AND b.sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT r.sha256 FROM package_revocation r JOIN package p ON p.id = r.package_id
    WHERE r.tenant_id = @tenant_id AND p.state NOT IN ('ERASING', 'DESTROYED') AND r.sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT d.sha256 FROM distribution d WHERE d.tenant_id = @tenant_id AND d.state = 'READY' AND d.sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT b.sha256 FROM distribution_blob b WHERE b.tenant_id = @tenant_id AND b.sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT e.sha256 FROM export_file e JOIN export x ON x.id = e.export_id
    WHERE e.tenant_id = @tenant_id AND e.object_id IS NULL AND x.state <> 'FAILED' AND e.sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT p.sha256 FROM deposit_part p WHERE p.tenant_id = @tenant_id AND p.sha256 = ANY(@sums::bytea[])
) AS s GROUP BY s.sha256;

-- name: SetCopyNeeded :exec
UPDATE disposal_object o SET state = 'NEEDED', note = x.note
FROM (SELECT unnest(@keys::text[]) AS key, unnest(@notes::text[]) AS note) x
WHERE o.disposal_id = @disposal AND o.package_id = @package AND o.kind = 'blob' AND o.state = '' AND o.key = x.key;

-- name: ClearCopies :execrows
UPDATE disposal_object SET state = 'CLEARED' WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND state = '' AND NOT gone;

-- name: SetCopies :execrows
UPDATE disposal_item SET copies = @copies WHERE disposal_id = @disposal AND package_id = @package AND copies = @was;

-- name: ClearedCopies :many
SELECT * FROM disposal_object WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND state = 'CLEARED' AND NOT gone ORDER BY key;

-- name: AskForCopyAgain :exec
UPDATE disposal_object SET state = '', mark = '' WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND key = @key AND NOT gone;

-- name: OpenCopies :one
SELECT count(*) FILTER (WHERE state = '') AS to_ask, count(*) FILTER (WHERE state = 'CLEARED') AS to_erase
FROM disposal_object WHERE disposal_id = @disposal AND package_id = @package AND kind = 'blob' AND NOT gone;

-- name: ExportsOf :many
-- Exports that hold a package, or hold documents of it that waited for it when they were made.
SELECT x.id FROM export x WHERE x.tenant_id = @tenant_id
  AND (@package::uuid = ANY(x.packages) OR x.waiting && ARRAY(SELECT u.id FROM unit u WHERE u.package_id = @package::uuid)) ORDER BY x.id;

-- name: ExportBlobsOf :many
-- What exports have in the platform's store.
SELECT e.sha256, e.size FROM export_file e WHERE e.tenant_id = @tenant_id AND e.export_id = ANY(@exports::uuid[]) AND e.object_id IS NULL;

-- name: BuryExports :exec
-- An export that held what was destroyed is no export of what there is: a new one is made of the rest.
UPDATE export SET state = 'FAILED', ready_at = NULL, last_error = @said WHERE tenant_id = @tenant_id AND id = ANY(@exports::uuid[]);

-- name: DropExportFiles :exec
DELETE FROM export_file e WHERE e.tenant_id = @tenant_id AND e.export_id = ANY(@exports::uuid[]);
