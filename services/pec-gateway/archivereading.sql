-- One replica reads at a time: the turn is its own until the time that is promised here.
-- name: TakeReading :many
UPDATE archive_reading SET next_time = @until::timestamptz, start_time = coalesce(start_time, @now::timestamptz)
WHERE id = 1 AND next_time <= @now::timestamptz
RETURNING *;

-- name: GetReading :one
SELECT * FROM archive_reading WHERE id = 1;

-- Messages in the order of their key. Those that were destroyed are passed over by who reads, so that a page costs the same
-- wherever they lie.
-- name: MessagesToRead :many
SELECT m.tenant_id, m.mailbox_id, m.id, m.content_uri, m.size, (m.destroyed_by <> '')::boolean AS destroyed, d.repair_time
FROM message m LEFT JOIN damaged_message d ON d.tenant_id = m.tenant_id AND d.message_id = m.id
WHERE (m.tenant_id, m.id) > (@tenant_id::text, @id::uuid) ORDER BY m.tenant_id, m.id LIMIT @most;

-- Nothing is written when another has read on from there.
-- name: KeepReading :execrows
UPDATE archive_reading SET at_tenant = @at_tenant, at_message = @at_message, messages = messages + @messages, bytes = bytes + @bytes,
    damaged = damaged + @damaged
WHERE id = 1 AND round = @round AND at_tenant = @from_tenant AND at_message = @from_message;

-- name: EndReading :exec
UPDATE archive_reading SET round = round + 1, last_start_time = start_time, last_end_time = @now::timestamptz, start_time = NULL,
    at_tenant = '', at_message = '00000000-0000-0000-0000-000000000000', messages = 0, bytes = 0, damaged = 0, next_time = @next_time
WHERE id = 1 AND round = @round AND at_tenant = @from_tenant AND at_message = @from_message;

-- name: EndReadingTurn :exec
UPDATE archive_reading SET next_time = @next_time WHERE id = 1 AND round = @round;

-- A message that is damaged already stays as it was found; one that was whole again is found anew.
-- name: InsertDamage :execrows
INSERT INTO damaged_message (tenant_id, message_id, mailbox_id, code, reason, find_time, look_time)
VALUES (@tenant_id, @message_id, @mailbox_id, @code, @reason, @now, @now)
ON CONFLICT (tenant_id, message_id) DO UPDATE SET code = excluded.code, reason = excluded.reason, find_time = excluded.find_time,
    look_time = excluded.look_time, ask_time = NULL, repair_time = NULL, repaired_from = ''
WHERE damaged_message.repair_time IS NOT NULL;

-- When the archive gave a damaged message back again; null: it does not yet. No row: it was never damaged.
-- name: RepairTime :many
SELECT repair_time FROM damaged_message WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: CountDamages :one
SELECT count(*) FROM damaged_message d JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
WHERE d.tenant_id = @tenant_id AND d.mailbox_id = @mailbox_id AND d.repair_time IS NULL AND m.destroyed_by = '';

-- name: CountAllDamages :one
SELECT count(*) FROM damaged_message d JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
WHERE d.repair_time IS NULL AND m.destroyed_by = '';

-- Damaged messages that nobody has looked at for the longest.
-- name: DamagesToLookAt :many
SELECT d.tenant_id, d.mailbox_id, d.message_id, m.content_uri, m.size FROM damaged_message d
JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
WHERE d.repair_time IS NULL AND m.destroyed_by = ''
ORDER BY d.look_time LIMIT @most;

-- name: LookedAtDamage :exec
UPDATE damaged_message SET look_time = @now::timestamptz WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: EndDamage :execrows
UPDATE damaged_message SET repair_time = @now::timestamptz, repaired_from = @repaired_from
WHERE tenant_id = @tenant_id AND message_id = @message_id AND repair_time IS NULL;

-- What stayed at the provider because the archive did not give it back may be removed again.
-- name: ForgetKeptRemovals :exec
DELETE FROM removal WHERE tenant_id = @tenant_id AND message_id = @message_id AND outcome = 'kept';

-- Where damaged messages stand at the provider, by the numbers of now.
-- name: DamagesAtProvider :many
SELECT d.message_id, l.folder, l.uid_validity, l.uid, m.sha256, m.size, m.content_uri
FROM damaged_message d
JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
JOIN location l ON l.tenant_id = d.tenant_id AND l.mailbox_id = d.mailbox_id AND l.message_id = d.message_id
LEFT JOIN folder f ON f.tenant_id = l.tenant_id AND f.mailbox_id = l.mailbox_id AND f.name = l.folder
WHERE d.tenant_id = @tenant_id AND d.mailbox_id = @mailbox_id AND d.repair_time IS NULL AND m.destroyed_by = ''
  AND (d.ask_time IS NULL OR d.ask_time < @before::timestamptz)
  AND l.uid_validity = coalesce(f.uid_validity, 0)
ORDER BY l.folder, d.message_id, l.uid LIMIT @most;

-- name: AskForDamages :exec
UPDATE damaged_message SET ask_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND message_id = ANY(@message_ids::uuid[]);

-- name: ListDamages :many
SELECT sqlc.embed(d), m.direction FROM damaged_message d JOIN message m ON m.tenant_id = d.tenant_id AND m.id = d.message_id
WHERE d.tenant_id = @tenant_id AND d.mailbox_id = ANY(@mailbox_ids::uuid[]) AND m.destroyed_by = ''
  AND (@repaired_too::boolean OR d.repair_time IS NULL) AND (sqlc.narg(before)::uuid IS NULL OR d.message_id < sqlc.narg(before))
ORDER BY d.message_id DESC LIMIT @page_size;
