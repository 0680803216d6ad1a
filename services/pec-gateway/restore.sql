-- name: MessagesToExport :many
SELECT * FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = @direction AND id > @after AND destroyed_by = '' ORDER BY id LIMIT @most;

-- What we did ourselves: no receipt says it.
-- name: OwnFacts :many
SELECT message_id, kind, at FROM fact WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]) AND receipt_id IS NULL ORDER BY message_id, id;

-- name: SentByMessageID :one
SELECT id FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 2 AND message_id = @message_id;

-- name: RestoreTimes :exec
UPDATE message SET receive_time = x.at, quarantine_code = CASE WHEN message.quarantine_code = '' THEN x.code ELSE message.quarantine_code END,
    quarantine = CASE WHEN message.quarantine_code = '' THEN x.why ELSE message.quarantine END
FROM (SELECT unnest(@sums::bytea[]) AS sum, unnest(@times::timestamptz[]) AS at, unnest(@codes::text[]) AS code, unnest(@whys::text[]) AS why) x
WHERE message.tenant_id = @tenant_id AND message.mailbox_id = @mailbox_id AND message.direction = 1 AND message.sha256 = x.sum;
