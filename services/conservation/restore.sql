-- name: ObjectsByKey :many
-- Objects with the state of one replica's copy, in the order of bytes of their keys.
SELECT o.id, o.tenant_id, o.kind, o.key, o.sha256, o.size, o.retain_until, o.created_at, c.state
FROM archive_object o JOIN archive_copy c ON c.object_id = o.id AND c.replica = @replica
WHERE o.key COLLATE "C" > @after::text AND o.key COLLATE "C" >= @prefix::text AND starts_with(o.key, @prefix::text)
ORDER BY o.key COLLATE "C" LIMIT @page;

-- name: KeysKnown :many
-- Which of these unit keys of a tenant the archive has.
SELECT unit_key FROM unit WHERE tenant_id = @tenant AND unit_key = ANY(@keys::text[]);

-- name: KeysInGoodHands :many
-- Which of these unit keys the archive has with a good copy of every file.
SELECT u.unit_key FROM unit u WHERE u.tenant_id = @tenant AND u.unit_key = ANY(@keys::text[]) AND NOT EXISTS (
    SELECT 1 FROM unit_file f WHERE f.unit_id = u.id AND f.object_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM archive_copy c WHERE c.object_id = f.object_id AND c.state = 'GOOD'));

-- name: PlacesOfKeys :many
-- Where the files of units of these keys lie: the object, and its key when it has a row.
SELECT u.id, u.unit_key, u.state, u.created_at, f.role, f.sha256, f.object_id::uuid AS object_id, COALESCE(o.key, '')::text AS key FROM unit u JOIN unit_file f ON f.unit_id = u.id LEFT JOIN archive_object o ON o.id = f.object_id
WHERE u.tenant_id = @tenant AND u.unit_key = ANY(@keys::text[]) AND f.object_id IS NOT NULL;

-- name: TakenFirst :exec
-- What a unit was when it was taken in first.
UPDATE unit SET facts = @facts, created_at = @taken WHERE id = @id;

-- name: WaitingDigests :many
-- The digests of what units of these keys have that can still grow.
SELECT u.unit_key, f.sha256 FROM unit u JOIN unit_file f ON f.unit_id = u.id
WHERE u.tenant_id = @tenant AND u.unit_key = ANY(@keys::text[]) AND u.state = 'TAKEN_IN_CHARGE' AND f.role <> 'metadata';

-- name: RestoreUnit :execrows
INSERT INTO unit (id, tenant_id, unit_key, subject, state, class, fiscal_year, integrates, facts, created_at)
VALUES (@id, @tenant_id, @unit_key, @subject, 'TAKEN_IN_CHARGE', @class, @fiscal_year, sqlc.narg('integrates'), @facts, @taken)
ON CONFLICT DO NOTHING;

-- name: RestoreFile :exec
INSERT INTO unit_file (unit_id, ordinal, tenant_id, role, receipt_type, file_name, media_type, sha256, size, object_id, object_offset)
VALUES (@unit_id, @ordinal, @tenant_id, @role, @receipt_type, @file_name, @media_type, @sha256, @size, sqlc.narg('object'), sqlc.narg('place'))
ON CONFLICT DO NOTHING;

-- name: RestorePackage :execrows
INSERT INTO package (id, tenant_id, fiscal_year, class, number, state, unit_count, terms, closed_at, index_sha256, index_size, signed_sha256, signed_size,
                     stamp_sha256, stamp_size, stamp_time, archive_sha256, archive_size, sealed_at, object_id, retain_until)
VALUES (@id, @tenant_id, @fiscal_year, @class, @number, 'SEALED', @unit_count, @terms, @closed_at, @index_sha256, @index_size, @signed_sha256, @signed_size,
        @stamp_sha256, @stamp_size, @stamp_time, @archive_sha256, @archive_size, @stamp_time, @object, @retain_until)
ON CONFLICT DO NOTHING;

-- name: PackageNumbered :many
-- The package that has a number of a year and a class.
SELECT id FROM package WHERE tenant_id = @tenant_id AND fiscal_year = @fiscal_year AND class = @class AND number = @number;

-- name: LeaveUnits :exec
-- What lies in an object of units that have rows, none of which leads there.
INSERT INTO bytes_left (object_id, unit_id, tenant_id) SELECT @object, u.id, u.tenant_id FROM unit u
WHERE u.tenant_id = @tenant AND u.id = ANY(@ids::uuid[]) AND u.state NOT IN ('REFUSED', 'DESTROYED') ON CONFLICT DO NOTHING;

-- name: SealAgain :execrows
UPDATE package SET state = 'SEALED', index_sha256 = @index_sha256, index_size = @index_size, signed_sha256 = @signed_sha256, signed_size = @signed_size,
    stamp_sha256 = @stamp_sha256, stamp_size = @stamp_size, stamp_time = @stamp_time, archive_sha256 = @archive_sha256, archive_size = @archive_size,
    sealed_at = @stamp_time, object_id = @object, last_error = '', attempts = 0
WHERE id = @id AND state IN ('CLOSED', 'INDEXED', 'SIGNED', 'STAMPED');

-- name: RestoreLine :exec
INSERT INTO package_line (tenant_id, fiscal_year, class, last_number) VALUES (@tenant_id, @fiscal_year, @class, @number)
ON CONFLICT (tenant_id, fiscal_year, class) DO UPDATE SET last_number = greatest(package_line.last_number, excluded.last_number);

-- name: RestoreMembers :execrows
UPDATE unit u SET package_id = @package::uuid, position = m.position, state = 'PRESERVED'
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@positions::integer[]) AS position) AS m
WHERE u.id = m.id AND u.tenant_id = @tenant AND u.package_id IS NULL AND u.state = 'TAKEN_IN_CHARGE';

-- name: CountMembers :one
SELECT count(*) FROM unit WHERE package_id = @package::uuid;

-- name: LogAgain :exec
-- The log passes over what it has said already.
INSERT INTO log_pending (tenant_id, kind, subject_id) VALUES (@tenant_id, 'package', @subject);

-- name: EvidenceWithoutRow :many
-- Evidence records whose object is known and of which no row says whose they are.
SELECT o.id, o.key, o.sha256, o.size, o.retain_until, o.created_at FROM archive_object o
WHERE o.tenant_id = @tenant AND o.kind = 'evidence' AND o.id > @after AND NOT EXISTS (SELECT 1 FROM package_evidence e WHERE e.object_id = o.id)
ORDER BY o.id LIMIT @page;
