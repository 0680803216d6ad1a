-- name: InsertDistribution :exec
INSERT INTO distribution (id, tenant_id, state, purpose, units, terms, asked_by, inspector, asked_at)
VALUES (@id, @tenant_id, 'BUILDING', @purpose, @units, @terms, @asked_by, sqlc.narg('inspector'), @asked_at);

-- name: GetDistribution :one
SELECT id, tenant_id, state, purpose, units, terms, asked_by, inspector, asked_at, ready_at, sha256, size, last_error, held_sha256, held_size, signed_sha256, signed_size
FROM distribution WHERE id = @id AND tenant_id = @tenant_id;

-- name: ListDistributions :many
SELECT id, tenant_id, state, purpose, units, terms, asked_by, inspector, asked_at, ready_at, sha256, size, last_error, held_sha256, held_size, signed_sha256, signed_size
FROM distribution WHERE tenant_id = @tenant_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: SetDistributionReady :execrows
UPDATE distribution SET state = 'READY', ready_at = @at, sha256 = @sha256, size = @size, last_error = '', held_sha256 = NULL, held_size = NULL, signed_sha256 = NULL, signed_size = NULL WHERE id = @id AND state = 'BUILDING';

-- name: HoldDistribution :exec
UPDATE distribution SET held_sha256 = @sha256, held_size = @size WHERE id = @id AND state = 'BUILDING' AND held_sha256 IS NULL;

-- name: HoldSignature :exec
UPDATE distribution SET signed_sha256 = @sha256, signed_size = @size WHERE id = @id AND state = 'BUILDING' AND signed_sha256 IS NULL;

-- name: NoteDistributionBlob :exec
INSERT INTO distribution_blob (distribution_id, sha256, tenant_id, size, noted_at) VALUES (@distribution, @sha256, @tenant_id, @size, @at)
ON CONFLICT (distribution_id, sha256) DO UPDATE SET noted_at = excluded.noted_at;

-- name: SpareBlobs :many
-- What was stored for distributions and is none, now that these are ready, were, or will not be.
SELECT b.distribution_id, b.sha256, b.tenant_id FROM distribution_blob b JOIN distribution d ON d.id = b.distribution_id
WHERE d.state <> 'BUILDING' AND (d.state = 'EXPIRED' OR b.sha256 IS DISTINCT FROM d.sha256) AND b.noted_at < @before AND (b.distribution_id, b.sha256) > (@distribution::uuid, @after::bytea)
ORDER BY b.distribution_id, b.sha256 LIMIT @page;

-- name: AgedDistributions :many
SELECT id, tenant_id, sha256, size FROM distribution WHERE state = 'READY' AND ready_at < @before::timestamptz ORDER BY ready_at LIMIT @page;

-- name: ExpireDistribution :execrows
UPDATE distribution SET state = 'EXPIRED' WHERE id = @id AND state = 'READY';

-- name: DropSpareBlob :exec
DELETE FROM distribution_blob WHERE distribution_id = @distribution AND sha256 = @sha256;

-- name: DistributionBlobsOf :many
SELECT sha256, size FROM distribution_blob WHERE distribution_id = ANY(@ids::uuid[]);

-- name: DropDistributionBlobs :exec
DELETE FROM distribution_blob WHERE distribution_id = ANY(@ids::uuid[]);

-- name: SetDistributionTrouble :exec
UPDATE distribution SET state = @state, last_error = @last_error WHERE id = @id AND state = 'BUILDING';

-- name: InsertInspector :exec
INSERT INTO inspector (id, tenant_id, full_name, body, reason, filter, token, granted_by, granted_at, begins_at, ends_at)
VALUES (@id, @tenant_id, @full_name, @body, @reason, @filter, @token, @granted_by, @granted_at, @begins_at, @ends_at);

-- name: InspectorByToken :one
SELECT id, tenant_id, full_name, body, reason, filter, token, granted_by, granted_at, begins_at, ends_at, revoked_at
FROM inspector WHERE token = @token;

-- name: GetInspector :one
SELECT id, tenant_id, full_name, body, reason, filter, token, granted_by, granted_at, begins_at, ends_at, revoked_at
FROM inspector WHERE id = @id AND tenant_id = @tenant_id;

-- name: ListInspectors :many
SELECT id, tenant_id, full_name, body, reason, filter, token, granted_by, granted_at, begins_at, ends_at, revoked_at
FROM inspector WHERE tenant_id = @tenant_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: RevokeInspector :execrows
UPDATE inspector SET revoked_at = @at WHERE id = @id AND tenant_id = @tenant_id AND revoked_at IS NULL;

-- name: InsertInspection :exec
INSERT INTO inspection (id, tenant_id, inspector, at, action, resource, detail)
VALUES (@id, @tenant_id, @inspector, @at, @action, @resource, @detail);

-- name: ListInspections :many
SELECT i.id, i.tenant_id, i.inspector, i.at, i.action, i.resource, i.detail, p.full_name, p.body
FROM inspection i JOIN inspector p ON p.id = i.inspector
WHERE i.tenant_id = @tenant_id AND i.id < @before AND (sqlc.narg('inspector')::uuid IS NULL OR i.inspector = sqlc.narg('inspector'))
ORDER BY i.id DESC LIMIT @page;
