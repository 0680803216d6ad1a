-- name: PendingFacts :many
SELECT id, tenant_id, kind, subject_id FROM log_pending ORDER BY id LIMIT @batch;

-- name: DropPending :exec
DELETE FROM log_pending WHERE id = ANY(@ids::bigint[]);

-- name: CountPending :one
SELECT count(*) FROM log_pending;

-- name: NextIndex :one
SELECT COALESCE(max(idx) + 1, 0)::bigint FROM log_leaf;

-- name: DigestsOf :many
SELECT unit_id, sha256 FROM unit_file WHERE unit_id = ANY(@units::uuid[]) ORDER BY unit_id, ordinal;

-- name: SealedOf :many
SELECT id, archive_sha256, signed_sha256, stamp_sha256 FROM package WHERE id = ANY(@packages::uuid[]);

-- name: SumsOf :many
SELECT id, sha256 FROM archive_object WHERE id = ANY(@objects::uuid[]);

-- name: LogReport :exec
INSERT INTO log_pending (tenant_id, kind, subject_id) VALUES (@tenant_id, 'report', @object);

-- name: OweReports :execrows
-- Signed reports that the log does not know and that do not wait for it: those of before it knew reports.
INSERT INTO log_pending (tenant_id, kind, subject_id)
SELECT r.tenant_id, 'report', r.object_id FROM (
    SELECT tenant_id, object_id FROM archive_report WHERE object_id IS NOT NULL
    UNION ALL SELECT tenant_id, report_id FROM disposal WHERE report_id IS NOT NULL) AS r
WHERE NOT EXISTS (SELECT 1 FROM log_leaf l WHERE l.subject_id = r.object_id) AND NOT EXISTS (SELECT 1 FROM log_pending p WHERE p.subject_id = r.object_id)
ORDER BY r.object_id;

-- name: LastLeaves :many
-- The last leaf of each subject.
SELECT DISTINCT ON (subject_id) subject_id, revision, entry FROM log_leaf
WHERE subject_id = ANY(@subjects::uuid[]) ORDER BY subject_id, revision DESC;

-- name: Tails :many
-- The last leaf of each tenant.
SELECT l.tenant_id, l.sequence, l.idx, l.entry
FROM unnest(@tenants::text[]) AS t(tenant)
CROSS JOIN LATERAL (SELECT tenant_id, sequence, idx, entry FROM log_leaf WHERE tenant_id = t.tenant ORDER BY sequence DESC LIMIT 1) AS l;

-- name: AddTagKeys :exec
INSERT INTO log_tenant (tenant_id, tag_key) SELECT unnest(@tenants::text[]), unnest(@keys::bytea[])
ON CONFLICT (tenant_id) DO NOTHING;

-- name: TagKeys :many
SELECT tenant_id, tag_key FROM log_tenant WHERE tenant_id = ANY(@tenants::text[]);

-- name: SettleLeaves :exec
INSERT INTO log_leaf (idx, tenant_id, sequence, subject_id, revision, entry, settled_at)
SELECT unnest(@indexes::bigint[]), unnest(@tenants::text[]), unnest(@sequences::bigint[]), unnest(@subjects::uuid[]),
       unnest(@revisions::int[]), unnest(@entries::bytea[]), @at;

-- name: SettledFrom :many
SELECT idx, entry FROM log_leaf WHERE idx >= @first ORDER BY idx LIMIT @batch;

-- name: LeafOf :one
-- The last leaf of a subject, or the one of a revision.
SELECT idx, tenant_id, sequence, subject_id, revision, entry, settled_at FROM log_leaf
WHERE subject_id = @subject AND (@revision::int = 0 OR revision = @revision) ORDER BY revision DESC LIMIT 1;

-- name: PutTile :execrows
INSERT INTO log_tile (path, data) VALUES (@path, @data) ON CONFLICT (path) DO NOTHING;

-- name: GetTile :one
SELECT data FROM log_tile WHERE path = @path;

-- name: DropPartials :exec
DELETE FROM log_tile WHERE path >= @full_path::text || '.p/' AND path < @full_path::text || '.p0';

-- name: InsertCheckpoint :exec
INSERT INTO log_checkpoint (size, note, signed_at) VALUES (@size, @note, @at);

-- name: LastCheckpoint :one
SELECT size, note, signed_at, stamp, stamp_time, stamp_by FROM log_checkpoint ORDER BY size DESC LIMIT 1;

-- name: CheckpointAt :one
SELECT size, note, signed_at, stamp, stamp_time, stamp_by FROM log_checkpoint WHERE size = @size;

-- name: StampedFrom :one
-- The first stamped checkpoint that has an index in it.
SELECT size, note, signed_at, stamp, stamp_time, stamp_by FROM log_checkpoint
WHERE size > @idx AND stamp IS NOT NULL ORDER BY size LIMIT 1;

-- name: LastStamped :one
SELECT size, note, signed_at, stamp, stamp_time, stamp_by FROM log_checkpoint WHERE stamp IS NOT NULL ORDER BY size DESC LIMIT 1;

-- name: SetStamp :execrows
UPDATE log_checkpoint SET stamp = @stamp::bytea, stamp_time = @stamp_time::timestamptz, stamp_by = @stamp_by WHERE size = @size AND stamp IS NULL;

-- name: LockStamps :exec
-- One process at a time notes a stamp.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.log stamps', 0));

-- name: StampAgain :exec
INSERT INTO log_restamp (size, stamp, stamp_time, stamp_by) VALUES (@size, @stamp, @stamp_time, @stamp_by);

-- name: LastRestamp :one
SELECT size, stamp_time FROM log_restamp ORDER BY stamp_time DESC LIMIT 1;

-- name: RestampsOf :many
-- The last stamp of each checkpoint that was stamped again.
SELECT DISTINCT ON (size) size, stamp, stamp_time, stamp_by FROM log_restamp WHERE size = ANY(@sizes::bigint[]) ORDER BY size, stamp_time DESC;

-- name: ListCheckpoints :many
SELECT size, note, signed_at, stamp, stamp_time, stamp_by FROM log_checkpoint
WHERE size < @before AND (NOT @stamped::bool OR stamp IS NOT NULL) ORDER BY size DESC LIMIT @page;
