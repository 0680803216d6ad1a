-- name: PackagesWithoutTerm :many
-- Sealed packages of whose stamp nobody looked at the end yet.
SELECT p.id, p.tenant_id FROM package p WHERE p.state = 'SEALED' AND p.object_id IS NOT NULL AND p.id > @after
  AND NOT EXISTS (SELECT 1 FROM package_term t WHERE t.package_id = p.id)
  AND (@tenant::text = '' OR p.tenant_id = @tenant) ORDER BY p.id LIMIT @page;

-- name: PackagesToRenew :many
SELECT t.package_id AS id, t.tenant_id FROM package_term t JOIN package p ON p.id = t.package_id
WHERE t.until_at < @before::timestamptz AND p.state = 'SEALED' AND p.object_id IS NOT NULL
  AND t.package_id <> ALL(@skip::uuid[]) AND (@tenant::text = '' OR t.tenant_id = @tenant) ORDER BY t.until_at, t.package_id LIMIT @page;

-- name: SetEvidenceUntil :exec
INSERT INTO package_term (package_id, tenant_id, until_at) VALUES (@id, @tenant_id, @until)
ON CONFLICT (package_id) DO UPDATE SET until_at = excluded.until_at;

-- name: EvidenceOf :one
-- A record of a package, the last one for 0.
SELECT package_id, number, tenant_id, object_id, renewal, hash, stamped_at, until_at FROM package_evidence
WHERE package_id = @package AND (@number::int = 0 OR number = @number) ORDER BY number DESC LIMIT 1;

-- name: InsertEvidence :exec
INSERT INTO package_evidence (package_id, number, tenant_id, object_id, renewal, hash, stamped_at, until_at)
VALUES (@package, @number, @tenant_id, @object, @renewal, @hash, @stamped_at, @until_at);
