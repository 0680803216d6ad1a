-- name: InsertManyReceived :batchone
INSERT INTO message (tenant_id, id, mailbox_id, direction, kind, tipo, state, message_id, reference, identificativo, from_address, certified_sender,
    recipients, subject, folder, proven, verification, report, doubts, quarantine_code, quarantine, about_id, content_uri, sha256, size,
    certified_time, receive_time, create_time)
VALUES (@tenant_id, @id, @mailbox_id, 1, @kind, @tipo, @state, @message_id, @reference, @identificativo, @from_address, @certified_sender,
    @recipients, @subject, @folder, @proven, @verification, @report, @doubts, @quarantine_code, @quarantine, @about_id, @content_uri, @sha256, @size,
    @certified_time, @receive_time, @receive_time)
ON CONFLICT (tenant_id, mailbox_id, sha256) WHERE direction = 1 DO NOTHING
RETURNING id;

-- name: MessagesOfContent :many
SELECT id, sha256 FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND sha256 = ANY(@sums::bytea[]) AND direction = 1;

-- Over POP3 an id may stand for another message than before. Over IMAP it never does.
-- name: InsertLocations :exec
INSERT INTO location (tenant_id, mailbox_id, folder, uid_validity, uid, message_id, mark)
SELECT @tenant_id::text, @mailbox_id::uuid, @folder::text, @uid_validity::bigint, (@uids::text[])[p], (@message_ids::uuid[])[p],
    nullif((@marks::bytea[])[p], ''::bytea)
FROM generate_series(1, cardinality(@uids::text[])) p
ON CONFLICT (tenant_id, mailbox_id, folder, uid_validity, uid) DO UPDATE SET message_id = excluded.message_id, mark = excluded.mark
    WHERE excluded.mark IS NOT NULL OR excluded.message_id <> location.message_id;

-- name: InsertReports :exec
INSERT INTO report (tenant_id, message_id, id, status, proven, report, check_time)
SELECT @tenant_id::text, (@message_ids::uuid[])[p], (@ids::uuid[])[p], (@statuses::text[])[p], (@provens::boolean[])[p], (@reports::text[])[p]::jsonb,
    @check_time::timestamptz
FROM generate_series(1, cardinality(@ids::uuid[])) p;

-- Messages of ours that receipts may speak of: what none of them names needs no further look.
-- name: SentAmong :many
SELECT id, message_id, identificativo FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 2
  AND (message_id = ANY(@msgids::text[]) OR (identificativo <> '' AND identificativo = ANY(@identificativi::text[])));

-- name: KnownMarks :many
SELECT uid, message_id, coalesce(mark, ''::bytea)::bytea AS mark FROM location
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND folder = @folder AND uid_validity = 0;

-- name: LeaveUnfetched :one
INSERT INTO unfetched (tenant_id, mailbox_id, folder, uid_validity, uid, next_time)
VALUES (@tenant_id, @mailbox_id, @folder, @uid_validity, @uid, @next_time)
ON CONFLICT (tenant_id, mailbox_id, folder, uid_validity, uid) DO UPDATE SET times = unfetched.times + 1, next_time = excluded.next_time
RETURNING times;

-- name: ListUnfetched :many
SELECT folder, uid_validity, uid, times, next_time FROM unfetched WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id ORDER BY next_time LIMIT 1000;

-- name: DropUnfetched :exec
DELETE FROM unfetched WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND folder = @folder AND uid_validity = @uid_validity AND uid = ANY(@uids::text[]);

-- name: InsertGone :many
INSERT INTO gone (tenant_id, mailbox_id, folder, uid_validity, uid, missed_time)
SELECT @tenant_id, @mailbox_id, @folder, @uid_validity, unnest(@uids::bigint[]), @now
ON CONFLICT DO NOTHING
RETURNING uid;

-- name: CountGone :exec
UPDATE mailbox SET gone = gone + @gone::bigint, gone_time = @now::timestamptz WHERE tenant_id = @tenant_id AND id = @id;
