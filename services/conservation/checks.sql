-- name: PlanTimer :exec
INSERT INTO archive_timer (kind, due) VALUES (@kind, @due) ON CONFLICT (kind) DO NOTHING;

-- name: MoveTimer :execrows
UPDATE archive_timer SET due = @next WHERE kind = @kind AND due <= @now;

-- name: InsertReport :exec
INSERT INTO archive_report (id, tenant_id, kind, subject, asked_by, state, began_at)
VALUES (@id, @tenant_id, @kind, @subject, @asked_by, 'RUNNING', @at);

-- name: KeepCursor :exec
-- Where the next round of a check goes on.
INSERT INTO archive_cursor (kind, subject, place, kept_at) VALUES (@kind, @subject, @place, @at)
ON CONFLICT (kind, subject) DO UPDATE SET place = excluded.place, kept_at = excluded.kept_at;

-- name: MoveCursor :execrows
-- The same of a run, unless another has taken its place.
UPDATE archive_cursor SET place = @place, kept_at = @at WHERE kind = @kind AND subject = @subject AND place->>'run' = @run::text;

-- name: EndCursor :execrows
DELETE FROM archive_cursor WHERE kind = @kind AND subject = @subject AND place->>'run' = @run::text;

-- name: DropCursor :exec
DELETE FROM archive_cursor WHERE kind = @kind AND subject = @subject;

-- name: CursorOf :one
-- The round of a subject that was halted; of any, when none is named: the oldest.
SELECT subject, place FROM archive_cursor WHERE kind = @kind AND (subject = @subject OR @any_subject::boolean) ORDER BY kept_at, subject LIMIT 1;

-- name: GetReport :one
SELECT id, tenant_id, kind, subject, asked_by, state, began_at, ended_at, content, object_id FROM archive_report WHERE id = @id;

-- name: EndReport :execrows
UPDATE archive_report SET state = @state, ended_at = @at, content = @content WHERE id = @id AND state = 'RUNNING';

-- name: SetReportObject :execrows
UPDATE archive_report SET object_id = @object WHERE id = @id AND object_id IS NULL;

-- name: ListReports :many
SELECT id, tenant_id, kind, subject, asked_by, state, began_at, ended_at, content, object_id FROM archive_report
WHERE id < @before AND (@kind::text = '' OR kind = @kind) ORDER BY id DESC LIMIT @page;

-- name: DueCopies :many
-- Good copies whose check is due, in the order of the cursor, of the replicas that answer.
SELECT c.replica, c.check_due, o.id, o.tenant_id, o.kind, o.key, o.sha256, o.size, o.retain_until, o.created_at
FROM archive_copy c JOIN archive_object o ON o.id = c.object_id
WHERE c.state = 'GOOD' AND c.check_due <= @now AND c.replica = ANY(@replicas::text[])
ORDER BY c.check_due, c.object_id, c.replica LIMIT @page;

-- name: DuePackages :many
SELECT id, tenant_id FROM package
WHERE state = 'SEALED' AND object_id IS NOT NULL AND (deep_checked_at IS NULL OR deep_checked_at < @before)
  AND (@tenant::text = '' OR tenant_id = @tenant)
ORDER BY deep_checked_at NULLS FIRST, id LIMIT @page;

-- name: SetDeepChecked :exec
UPDATE package SET deep_checked_at = @at WHERE id = @id;

-- name: TenantsAfter :many
-- Tenants of whom the archive holds something, a page at a time.
SELECT DISTINCT tenant_id FROM archive_object WHERE tenant_id > @after AND kind <> 'report' ORDER BY tenant_id LIMIT @page;

-- name: ObjectsAfter :many
SELECT id, tenant_id, kind, key, sha256, size, retain_until, created_at FROM archive_object
WHERE tenant_id = @tenant AND kind = @kind AND id > @after ORDER BY id LIMIT @page;

-- name: UnitsDescribedIn :many
-- Units whose metadata file, which is written anew whenever a unit grows, lies in an object: what is listed there is the last word on them.
SELECT unit_id FROM unit_file WHERE object_id = @object::uuid AND role = 'metadata' ORDER BY unit_id;

-- name: UnitsNowhere :many
-- Units that no object is said to hold: neither that of their metadata, nor of the package that they are preserved in.
SELECT u.id, EXISTS (SELECT 1 FROM unit_file f WHERE f.unit_id = u.id AND f.role = 'metadata' AND f.object_id IS NULL) AS before_replicas FROM unit u
WHERE u.tenant_id = @tenant AND u.state NOT IN ('REFUSED', 'DESTROYED') AND u.id > @after
  AND NOT EXISTS (SELECT 1 FROM unit_file f JOIN archive_object o ON o.id = f.object_id WHERE f.unit_id = u.id AND f.role = 'metadata')
  AND NOT EXISTS (SELECT 1 FROM package p JOIN archive_object o ON o.id = p.object_id WHERE p.id = u.package_id)
ORDER BY u.id LIMIT @page;

-- name: SubjectsKept :many
-- Which of these documents the archive keeps.
SELECT DISTINCT subject FROM unit WHERE tenant_id = @tenant AND subject = ANY(@subjects::text[]) AND state NOT IN ('REFUSED', 'DESTROYED');

-- name: SubjectsHeld :many
-- How the archive has these documents: each state of a unit of theirs, and whether SdI's notice that the term is over is among what it keeps.
SELECT u.subject, u.state, EXISTS (SELECT 1 FROM unit_file f WHERE f.unit_id = u.id AND f.receipt_type = 'DT') AS expiry
FROM unit u WHERE u.tenant_id = @tenant AND u.subject = ANY(@subjects::text[]);

-- name: BrokenChains :many
-- Tenants whose numbers in the log have a gap.
SELECT tenant_id, max(sequence)::bigint AS last, count(*) AS leaves FROM log_leaf
WHERE @tenant::text = '' OR tenant_id = @tenant GROUP BY tenant_id HAVING max(sequence) <> count(*) OR min(sequence) <> 1;

-- name: UnitsWithoutLeaf :many
-- Units that were taken in charge before a moment and are not in the log.
SELECT u.tenant_id, u.id FROM unit u LEFT JOIN log_leaf l ON l.subject_id = u.id AND l.revision = 1
WHERE u.state <> 'REFUSED' AND u.created_at < @before AND l.idx IS NULL AND (@tenant::text = '' OR u.tenant_id = @tenant) ORDER BY u.id LIMIT @page;

-- name: LeavesWithoutUnit :many
-- Leaves of the log whose unit, package or report is gone.
SELECT l.tenant_id, l.subject_id, l.idx FROM log_leaf l
WHERE NOT EXISTS (SELECT 1 FROM unit u WHERE u.id = l.subject_id) AND NOT EXISTS (SELECT 1 FROM package p WHERE p.id = l.subject_id)
  AND NOT EXISTS (SELECT 1 FROM archive_object o WHERE o.id = l.subject_id AND o.kind = 'report')
  AND (@tenant::text = '' OR l.tenant_id = @tenant) ORDER BY l.idx LIMIT @page;
