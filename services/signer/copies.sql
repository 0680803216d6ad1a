-- name: BurySignatures :exec
INSERT INTO destroyed_signature (signature_id, tenant_id, destroyed_by)
SELECT s.id, s.tenant_id, @destroyed_by FROM signature s WHERE s.tenant_id = @tenant_id AND s.subject = ANY(@subjects::text[]) AND s.state <> 'PENDING'
ON CONFLICT DO NOTHING;

-- name: SignaturesOf :many
-- What was signed for documents by their names.
SELECT original_sha256, original_size, signed_sha256, signed_size FROM signature
WHERE tenant_id = @tenant_id AND subject = ANY(@subjects::text[]) AND state <> 'PENDING';

-- name: SignedOf :many
-- Both forms, unsigned and signed, of documents of which one form was destroyed: of requests that are closed and signings that are
-- done, and of files that were made and are nobody's.
SELECT d.original_sha256::bytea AS original_sha256, d.original_size::bigint AS original_size, d.signed_sha256, coalesce(d.signed_size, 0)::bigint AS signed_size
FROM signing_request_document d JOIN signing_request r ON r.id = d.request_id
WHERE d.tenant_id = @tenant_id AND r.state <> 'OPEN' AND (d.original_sha256 = ANY(@sums::bytea[]) OR d.signed_sha256 = ANY(@sums::bytea[]))
UNION
SELECT p.original::bytea, 0::bigint, p.signed::bytea, coalesce(p.size, 0)::bigint FROM document_signing s, LATERAL (SELECT s.hashes[i] AS original, s.signed_sha256[i] AS signed, s.signed_sizes[i] AS size FROM generate_subscripts(s.hashes, 1) AS i) AS p
WHERE s.tenant_id = @tenant_id AND s.state = 'SIGNED' AND (s.hashes && @sums::bytea[] OR s.signed_sha256 && @sums::bytea[]) AND (p.original = ANY(@sums::bytea[]) OR p.signed = ANY(@sums::bytea[]))
UNION
SELECT p.original::bytea, 0::bigint, p.signed::bytea, coalesce(p.size, 0)::bigint FROM challenge c, LATERAL (SELECT c.hashes[i] AS original, c.signed_sha256[i] AS signed, c.signed_sizes[i] AS size FROM generate_subscripts(c.hashes, 1) AS i) AS p
WHERE c.tenant_id = @tenant_id AND c.state = 'SIGNED' AND (c.hashes && @sums::bytea[] OR c.signed_sha256 && @sums::bytea[]) AND (p.original = ANY(@sums::bytea[]) OR p.signed = ANY(@sums::bytea[]))
UNION
SELECT m.original_sha256, 0::bigint, m.sha256, m.size FROM made_file m
WHERE m.tenant_id = @tenant_id AND (m.original_sha256 = ANY(@sums::bytea[]) OR m.sha256 = ANY(@sums::bytea[]));

-- name: NoteMadeFiles :exec
-- What is about to be in the store: files in the order of their documents. A document that is kept is its own.
INSERT INTO made_file (tenant_id, original_sha256, sha256, size, made_at)
SELECT @tenant_id, unnest(@originals::bytea[]), unnest(@files::bytea[]), unnest(@sizes::bigint[]), @at
ON CONFLICT (tenant_id, sha256) DO UPDATE SET made_at = excluded.made_at;

-- name: NoteSignedFiles :exec
-- The same for signatures that have rows of their own, with what recording them takes: whoever comes after a process that died
-- need not sign anew.
INSERT INTO made_file (tenant_id, original_sha256, sha256, size, made_at, signature_id, credential_id, signing_time)
SELECT @tenant_id, unnest(@originals::bytea[]), unnest(@files::bytea[]), unnest(@sizes::bigint[]), @at,
       unnest(@signatures::uuid[]), unnest(@credentials::uuid[]), unnest(@times::timestamptz[])
ON CONFLICT (tenant_id, sha256) DO UPDATE SET made_at = excluded.made_at;

-- name: SignedFileOf :one
-- The latest that a run before made for a signature and did not live to record.
SELECT m.sha256, m.size, m.credential_id, m.signing_time FROM signature s JOIN made_file m ON m.tenant_id = s.tenant_id AND m.original_sha256 = s.original_sha256 AND m.signature_id = s.id
WHERE s.id = @signature_id ORDER BY m.made_at DESC LIMIT 1;

-- name: ForgetMadeFiles :exec
-- What a row names now.
DELETE FROM made_file WHERE tenant_id = @tenant_id AND sha256 = ANY(@files::bytea[]);

-- name: NoteDestroyedBytes :exec
INSERT INTO destroyed_bytes (tenant_id, sha256, destroyed_by, destroyed_at)
SELECT @tenant_id, unnest(@sums::bytea[]), @destroyed_by, @at
ON CONFLICT (tenant_id, sha256) DO UPDATE SET destroyed_by = excluded.destroyed_by, destroyed_at = excluded.destroyed_at WHERE destroyed_bytes.destroyed_at < excluded.destroyed_at;

-- name: NoteMadeBundle :exec
-- The same for the bundle of a request.
INSERT INTO made_bundle (tenant_id, sha256, size, request_id, head, sealed, stamped, note, made_at)
VALUES (@tenant_id, @sha256, @size, @request_id, @head, @sealed, @stamped, @note, @at)
ON CONFLICT (tenant_id, sha256) DO UPDATE SET made_at = excluded.made_at;

-- name: MadeBundle :one
-- The latest that a run before made of the same trail and did not live to record.
SELECT m.sha256, m.size, m.sealed, m.stamped, m.note FROM made_bundle m
WHERE m.request_id = @request_id AND m.head = @head ORDER BY m.made_at DESC LIMIT 1;

-- name: ForgetMadeBundle :exec
DELETE FROM made_bundle WHERE tenant_id = @tenant_id AND sha256 = @sha256;

-- name: BundlesOf :many
-- Bundles of requests that had these documents, recorded or not.
SELECT r.bundle_sha256::bytea AS bundle_sha256, r.bundle_size::bigint AS bundle_size FROM signing_request_document d JOIN signing_request r ON r.id = d.request_id
WHERE d.tenant_id = @tenant_id AND r.bundle_sha256 IS NOT NULL AND r.bundle_size IS NOT NULL AND (d.original_sha256 = ANY(@sums::bytea[]) OR d.signed_sha256 = ANY(@sums::bytea[]))
UNION
SELECT m.sha256, m.size FROM signing_request_document d JOIN made_bundle m ON m.request_id = d.request_id
WHERE d.tenant_id = @tenant_id AND (d.original_sha256 = ANY(@sums::bytea[]) OR d.signed_sha256 = ANY(@sums::bytea[]));

-- name: NeedsOf :many
-- How much that stands needs these bytes: signatures for documents that stand, requests and signings that are open and may still
-- be finished, and closed ones of documents that were not destroyed since.
SELECT n.sha256::bytea AS sha256, count(*) AS others FROM (
    SELECT s.original_sha256 AS sha256 FROM signature s WHERE s.tenant_id = @tenant_id AND NOT EXISTS (SELECT 1 FROM destroyed_signature g WHERE g.signature_id = s.id) AND s.original_sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT s.signed_sha256 FROM signature s WHERE s.tenant_id = @tenant_id AND NOT EXISTS (SELECT 1 FROM destroyed_signature g WHERE g.signature_id = s.id) AND s.signed_sha256 = ANY(@sums::bytea[])
    UNION ALL
    SELECT x.sha256 FROM signing_request_document d JOIN signing_request r ON r.id = d.request_id, LATERAL (VALUES (d.original_sha256), (d.signed_sha256)) AS x (sha256)
    WHERE d.tenant_id = @tenant_id AND (d.original_sha256 = ANY(@sums::bytea[]) OR d.signed_sha256 = ANY(@sums::bytea[])) AND x.sha256 = ANY(@sums::bytea[])
      AND (r.state = 'OPEN' OR NOT EXISTS (SELECT 1 FROM destroyed_bytes g WHERE g.tenant_id = d.tenant_id AND g.sha256 = x.sha256 AND g.destroyed_at >= r.created_at))
    UNION ALL
    SELECT r.bundle_sha256 FROM signing_request r JOIN signing_request_document d ON d.request_id = r.id
    WHERE r.tenant_id = @tenant_id AND r.bundle_sha256 = ANY(@sums::bytea[])
      AND NOT EXISTS (SELECT 1 FROM destroyed_bytes g WHERE g.tenant_id = d.tenant_id AND g.sha256 IN (d.original_sha256, d.signed_sha256) AND g.destroyed_at >= r.created_at)
    UNION ALL
    SELECT x.sha256 FROM document_signing s, LATERAL (SELECT unnest(s.hashes || coalesce(s.signed_sha256, '{}'::bytea[])) AS sha256) AS x
    WHERE s.tenant_id = @tenant_id AND (s.hashes && @sums::bytea[] OR s.signed_sha256 && @sums::bytea[]) AND x.sha256 = ANY(@sums::bytea[])
      AND (s.state = 'SIGNING' AND s.created_at > @begun_after::timestamptz OR s.state = 'SIGNED' AND NOT EXISTS (SELECT 1 FROM destroyed_bytes g WHERE g.tenant_id = s.tenant_id AND g.sha256 = x.sha256 AND g.destroyed_at >= s.created_at))
    UNION ALL
    SELECT x.sha256 FROM challenge c, LATERAL (SELECT unnest(c.hashes || coalesce(c.signed_sha256, '{}'::bytea[])) AS sha256) AS x
    WHERE c.tenant_id = @tenant_id AND (c.hashes && @sums::bytea[] OR c.signed_sha256 && @sums::bytea[]) AND x.sha256 = ANY(@sums::bytea[])
      AND (c.state IN ('OPEN', 'AUTHORIZED', 'SIGNING') AND c.expires_at > @now::timestamptz
        OR c.state = 'SIGNED' AND NOT EXISTS (SELECT 1 FROM destroyed_bytes g WHERE g.tenant_id = c.tenant_id AND g.sha256 = x.sha256 AND g.destroyed_at >= c.created_at))
    UNION ALL
    SELECT m.sha256 FROM made_file m WHERE m.tenant_id = @tenant_id AND m.sha256 = ANY(@sums::bytea[]) AND m.made_at > @begun_after::timestamptz
    UNION ALL
    SELECT b.sha256 FROM made_bundle b WHERE b.tenant_id = @tenant_id AND b.sha256 = ANY(@sums::bytea[]) AND b.made_at > @begun_after::timestamptz
) AS n GROUP BY n.sha256;

-- name: OldMadeFiles :many
-- Notes of files that nobody is about to record any more, in pages. named: a row has the same pair of document and file since, by
-- which the file is found without its note.
SELECT m.tenant_id, m.sha256, (
    EXISTS (SELECT 1 FROM signature s WHERE s.tenant_id = m.tenant_id AND s.signed_sha256 = m.sha256 AND s.original_sha256 = m.original_sha256 AND s.state = 'DONE')
    OR EXISTS (SELECT 1 FROM signing_request_document d WHERE d.tenant_id = m.tenant_id AND d.original_sha256 = m.original_sha256 AND m.sha256 IN (d.original_sha256, d.signed_sha256))
    OR EXISTS (SELECT 1 FROM document_signing s, generate_subscripts(s.hashes, 1) AS i
               WHERE s.tenant_id = m.tenant_id AND s.signed_sha256 @> ARRAY[m.sha256] AND s.state = 'SIGNED' AND s.signed_sha256[i] = m.sha256 AND s.hashes[i] = m.original_sha256)
    OR EXISTS (SELECT 1 FROM challenge c, generate_subscripts(c.hashes, 1) AS i
               WHERE c.tenant_id = m.tenant_id AND c.signed_sha256 @> ARRAY[m.sha256] AND c.state = 'SIGNED' AND c.signed_sha256[i] = m.sha256 AND c.hashes[i] = m.original_sha256)
)::boolean AS named
FROM made_file m
WHERE (m.tenant_id, m.sha256) > (@after_tenant::text, @after_sha256::bytea) AND m.made_at <= @before
ORDER BY m.tenant_id, m.sha256 LIMIT @page;

-- name: OldMadeBundles :many
-- The same of bundles.
SELECT b.tenant_id, b.sha256, (r.bundle_sha256 IS NOT DISTINCT FROM b.sha256)::boolean AS named
FROM made_bundle b JOIN signing_request r ON r.id = b.request_id
WHERE (b.tenant_id, b.sha256) > (@after_tenant::text, @after_sha256::bytea) AND b.made_at <= @before
ORDER BY b.tenant_id, b.sha256 LIMIT @page;

-- name: ForgetOldFiles :exec
-- One that was written down anew a moment ago stays.
DELETE FROM made_file m USING (SELECT unnest(@tenants::text[]) AS tenant_id, unnest(@sums::bytea[]) AS sha256) AS x
WHERE m.tenant_id = x.tenant_id AND m.sha256 = x.sha256 AND m.made_at <= @before;

-- name: ForgetOldBundles :exec
DELETE FROM made_bundle b USING (SELECT unnest(@tenants::text[]) AS tenant_id, unnest(@sums::bytea[]) AS sha256) AS x
WHERE b.tenant_id = x.tenant_id AND b.sha256 = x.sha256 AND b.made_at <= @before;
