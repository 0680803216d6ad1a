-- name: InsertExport :exec
INSERT INTO export (id, tenant_id, state, packages, waiting, unit_count, asked_by, asked_at) VALUES (@id, @tenant_id, 'BUILDING', @packages, @waiting, @unit_count, @asked_by, @asked_at);

-- name: SealedPackages :many
SELECT id, unit_count FROM package WHERE tenant_id = @tenant_id AND state = 'SEALED' ORDER BY id;

-- name: UnsealedUnits :many
-- Units that no sealed package holds.
SELECT id FROM unit WHERE tenant_id = @tenant_id AND state IN ('TAKEN_IN_CHARGE', 'ASSIGNED') ORDER BY id;

-- name: GetExport :one
SELECT * FROM export WHERE tenant_id = @tenant_id AND id = @id;

-- name: ListExports :many
SELECT * FROM export WHERE tenant_id = @tenant_id ORDER BY id DESC LIMIT 1000;

-- name: ExportTotals :one
SELECT count(*) AS files, COALESCE(sum(size), 0)::bigint AS bytes FROM export_file WHERE export_id = @export;

-- name: AddExportFile :exec
INSERT INTO export_file (export_id, path, tenant_id, sha256, size, object_id) VALUES (@export, @path, @tenant_id, @sha256, @size, sqlc.narg('object'))
ON CONFLICT (export_id, path) DO UPDATE SET sha256 = excluded.sha256, size = excluded.size, object_id = excluded.object_id;

-- name: ExportFiles :many
SELECT * FROM export_file WHERE export_id = @export AND path > @after ORDER BY path LIMIT @page;

-- name: ExportFile :one
SELECT * FROM export_file WHERE export_id = @export AND path = @path;

-- name: SetExportReady :execrows
UPDATE export SET state = 'READY', ready_at = @at, last_error = '' WHERE id = @id AND state = 'BUILDING';

-- name: SetExportTrouble :exec
UPDATE export SET state = @state, last_error = @last_error WHERE id = @id AND state = 'BUILDING';

-- name: ReportedDeposits :many
SELECT id, report, stamp, report_id, stamp_id FROM deposit WHERE tenant_id = @tenant_id AND report IS NOT NULL ORDER BY id;

-- name: ReportedDisposals :many
SELECT id, report_id FROM disposal WHERE tenant_id = @tenant_id AND report_id IS NOT NULL ORDER BY id;
