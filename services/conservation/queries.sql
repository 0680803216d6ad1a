-- name: InsertUnits :many
-- Units with their files; those whose key is taken are left out of the answer.
WITH u AS (
    INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem,
                      correlation, causation, traceparent, created_at)
    SELECT n.id, @tenant_id, n.unit_key, n.subject, n.state, n.class, n.fiscal_year, NULLIF(n.integrates, '00000000-0000-0000-0000-000000000000'), n.facts, n.problem,
           n.correlation, n.causation, n.traceparent, @at
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@unit_keys::text[]) AS unit_key, unnest(@subjects::text[]) AS subject,
                 unnest(@states::text[]) AS state, unnest(@classes::text[]) AS class, unnest(@fiscal_years::int[]) AS fiscal_year,
                 unnest(@integrates::uuid[]) AS integrates,
                 unnest(@facts::jsonb[]) AS facts, unnest(@problems::text[]) AS problem, unnest(@correlations::text[]) AS correlation,
                 unnest(@causations::text[]) AS causation, unnest(@traceparents::text[]) AS traceparent) AS n
    ON CONFLICT (tenant_id, unit_key) DO NOTHING
    RETURNING unit.id, unit.tenant_id
), f AS (
    INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, receipt_type, file_name, media_type, sha256, size, content,
                           object_id, object_offset)
    SELECT u.id, f.ordinal, u.tenant_id, f.role, f.receipt_type, f.file_name, f.media_type, f.sha256, f.size, f.content,
           NULLIF(f.object, '00000000-0000-0000-0000-000000000000'), CASE WHEN f.object <> '00000000-0000-0000-0000-000000000000' THEN f.place END
    FROM u, (SELECT unnest(@units::uuid[]) AS unit, unnest(@ordinals::int[]) AS ordinal, unnest(@roles::text[]) AS role,
                    unnest(@receipt_types::text[]) AS receipt_type, unnest(@file_names::text[]) AS file_name,
                    unnest(@media_types::text[]) AS media_type, unnest(@hashes::bytea[]) AS sha256,
                    unnest(@sizes::bigint[]) AS size, unnest(@contents::bytea[]) AS content,
                    unnest(@objects::uuid[]) AS object, unnest(@offsets::bigint[]) AS place) AS f
    WHERE f.unit = u.id
)
SELECT u.id FROM u;

-- name: LockUnitByKey :one
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit WHERE tenant_id = @tenant_id AND unit_key = @unit_key FOR UPDATE;

-- name: LockFreeUnits :many
-- Units that nobody is writing to just now, and for the time being nobody can.
SELECT id FROM unit WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) ORDER BY id LIMIT @most FOR NO KEY UPDATE SKIP LOCKED;

-- name: GetUnit :one
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit WHERE id = @id;

-- name: ListUnits :many
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit
WHERE tenant_id = @tenant_id AND (@subject::text = '' OR subject = @subject)
  AND (sqlc.narg('package_id')::uuid IS NULL OR package_id = sqlc.narg('package_id')) AND id < @before
ORDER BY id DESC LIMIT @page;

-- name: FilesOf :many
SELECT unit_id, ordinal, tenant_id, role, receipt_type, file_name, media_type, sha256, size, content, object_id, object_offset
FROM unit_file WHERE unit_id = ANY(@units::uuid[]) ORDER BY unit_id, ordinal;

-- name: FilesOfStory :many
-- The files of a unit and of its integrations.
SELECT f.unit_id, f.ordinal, f.tenant_id, f.role, f.receipt_type, f.file_name, f.media_type, f.sha256, f.size, f.content,
       f.object_id, f.object_offset
FROM unit_file f JOIN unit u ON u.id = f.unit_id
WHERE u.id = @unit OR u.integrates = @unit::uuid ORDER BY f.unit_id, f.ordinal;

-- name: DropFiles :exec
DELETE FROM unit_file WHERE unit_id = @unit;

-- name: AddFiles :exec
INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, receipt_type, file_name, media_type, sha256, size, content, object_id, object_offset)
SELECT @unit, f.ordinal, @tenant_id, f.role, f.receipt_type, f.file_name, f.media_type, f.sha256, f.size, f.content,
       NULLIF(f.object, '00000000-0000-0000-0000-000000000000'), CASE WHEN f.object <> '00000000-0000-0000-0000-000000000000' THEN f.place END
FROM (SELECT unnest(@ordinals::int[]) AS ordinal, unnest(@roles::text[]) AS role, unnest(@receipt_types::text[]) AS receipt_type,
             unnest(@file_names::text[]) AS file_name, unnest(@media_types::text[]) AS media_type, unnest(@hashes::bytea[]) AS sha256,
             unnest(@sizes::bigint[]) AS size, unnest(@contents::bytea[]) AS content,
             unnest(@objects::uuid[]) AS object, unnest(@offsets::bigint[]) AS place) AS f;

-- name: SetFacts :exec
UPDATE unit SET facts = @facts WHERE id = @id;

-- name: NextNumber :one
-- Takes the line's lock until the end of the transaction.
INSERT INTO package_line (tenant_id, fiscal_year, class, last_number) VALUES (@tenant_id, @fiscal_year, @class, 1)
ON CONFLICT (tenant_id, fiscal_year, class) DO UPDATE SET last_number = package_line.last_number + 1
RETURNING last_number;

-- name: InsertPackage :exec
INSERT INTO package (id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, correlation, traceparent, retain_until)
VALUES (@id, @tenant_id, @fiscal_year, @class, @number, 'CLOSED', @unit_count, @terms, @closed_at, @correlation, @traceparent, @retain_until);

-- name: WaitingUnits :many
SELECT id FROM unit
WHERE tenant_id = @tenant_id AND fiscal_year = @fiscal_year AND class = @class AND state = 'TAKEN_IN_CHARGE'
ORDER BY id LIMIT @ceiling FOR UPDATE;

-- name: AssignUnits :execrows
UPDATE unit SET state = 'ASSIGNED', package_id = @package_id, position = m.position
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@positions::int[]) AS position) AS m
WHERE unit.id = m.id AND unit.state = 'TAKEN_IN_CHARGE';

-- name: GetPackage :one
SELECT id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, index_sha256, index_size, signed_sha256,
       signed_size, stamp_sha256, stamp_size, stamp_time, archive_sha256, archive_size, sealed_at, last_error, attempts, correlation, traceparent, object_id, deep_checked_at, retain_until, disposal_id, destroyed_at
FROM package WHERE id = @id;

-- name: ListPackages :many
SELECT id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, index_sha256, index_size, signed_sha256,
       signed_size, stamp_sha256, stamp_size, stamp_time, archive_sha256, archive_size, sealed_at, last_error, attempts, correlation, traceparent, object_id, deep_checked_at, retain_until, disposal_id, destroyed_at
FROM package WHERE tenant_id = @tenant_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: Members :many
-- A page of the members of a package, in the order of the package.
SELECT id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, problem, package_id, position,
       correlation, causation, traceparent, created_at
FROM unit WHERE package_id = @package_id::uuid AND position > @after::int ORDER BY position LIMIT @page;

-- name: SetIndexed :execrows
UPDATE package SET state = 'INDEXED', index_sha256 = @sha256, index_size = @size, last_error = '', attempts = 0
WHERE id = @id AND state = 'CLOSED';

-- name: SetSigned :execrows
UPDATE package SET state = 'SIGNED', signed_sha256 = @sha256, signed_size = @size, last_error = '', attempts = 0
WHERE id = @id AND state = 'INDEXED';

-- name: SetStamped :execrows
UPDATE package SET state = 'STAMPED', stamp_sha256 = @sha256, stamp_size = @size, stamp_time = @stamp_time, last_error = '', attempts = 0
WHERE id = @id AND state = 'SIGNED';

-- name: SetSealed :execrows
UPDATE package SET state = 'SEALED', archive_sha256 = @sha256, archive_size = @size, sealed_at = @at, object_id = sqlc.narg('object'), last_error = '', attempts = 0
WHERE id = @id AND state = 'STAMPED';

-- name: SetTrouble :exec
UPDATE package SET last_error = @last_error, attempts = attempts + 1 WHERE id = @id AND state <> 'SEALED';

-- name: PreserveMembers :many
UPDATE unit SET state = 'PRESERVED' WHERE package_id = @package_id::uuid AND state = 'ASSIGNED'
RETURNING id, subject, position, correlation, causation, traceparent;

-- name: SellersOf :many
-- Whose the documents of a package are, each once.
SELECT DISTINCT COALESCE(facts->'holder', facts->'seller')::text AS seller FROM unit WHERE package_id = @package_id::uuid;

-- name: KeepRevocation :exec
INSERT INTO package_revocation (package_id, tenant_id, sha256, size, asked_at) VALUES (@package, @tenant_id, @sha256, @size, @at)
ON CONFLICT (package_id) DO NOTHING;

-- name: RevocationOf :one
SELECT sha256, size FROM package_revocation WHERE package_id = @package;
