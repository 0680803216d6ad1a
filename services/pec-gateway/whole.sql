-- name: RecordReadOnly :execrows
UPDATE mailbox SET read_only = @read_only WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence;

-- name: AskWhole :exec
INSERT INTO whole_reading (tenant_id, mailbox_id, reason, ask_time) VALUES (@tenant_id, @mailbox_id, @reason, @ask_time)
ON CONFLICT (tenant_id, mailbox_id) DO UPDATE SET reason = excluded.reason, ask_time = excluded.ask_time, end_time = NULL;

-- name: HurryUnfetched :exec
UPDATE unfetched SET next_time = @now::timestamptz WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND next_time > @now::timestamptz;

-- name: WholeOwed :many
SELECT ask_time FROM whole_reading WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND end_time IS NULL;

-- It is owed still when it was asked for once more in the meantime.
-- name: EndWhole :exec
UPDATE whole_reading SET end_time = @now::timestamptz WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND ask_time = @ask_time;

-- name: LocatedUids :many
SELECT uid FROM location WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND folder = @folder AND uid_validity = @uid_validity;

-- What the rows of mailboxes do not say of how their providers treat them.
-- name: Standings :many
SELECT m.id, coalesce(s.held_code, '')::text AS held_code, coalesce(s.held, '')::text AS held, s.held_at, w.end_time AS whole_time
FROM mailbox m
LEFT JOIN sending_queue s ON s.tenant_id = m.tenant_id AND s.mailbox_id = m.id
LEFT JOIN whole_reading w ON w.tenant_id = m.tenant_id AND w.mailbox_id = m.id
WHERE m.tenant_id = @tenant_id AND m.id = ANY(@ids::uuid[]);
