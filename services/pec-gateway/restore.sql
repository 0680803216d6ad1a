-- name: MessagesToExport :many
SELECT * FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = @direction AND id > @after AND destroyed_by = '' ORDER BY id LIMIT @most;

-- What we did ourselves: no receipt says it.
-- name: OwnFacts :many
SELECT message_id, kind, at FROM fact WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]) AND receipt_id IS NULL ORDER BY message_id, id;

-- name: SentBefore :one
-- By its bytes too: of a message that was destroyed they are all that is left to know it by.
SELECT id FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 2 AND (message_id = @message_id OR sha256 = @sha256::bytea) LIMIT 1;

-- name: NoteRestored :exec
INSERT INTO restored (tenant_id, message_id, archive_uri) VALUES (@tenant_id, @message_id, @archive_uri) ON CONFLICT DO NOTHING;

-- name: NoteRestoredContents :exec
INSERT INTO restored (tenant_id, message_id, archive_uri)
SELECT m.tenant_id, m.id, @archive_uri FROM message m
WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.direction = 1 AND m.sha256 = ANY(@sums::bytea[])
ON CONFLICT DO NOTHING;

-- name: RestoreTimes :exec
UPDATE message SET receive_time = x.at, quarantine_code = CASE WHEN message.quarantine_code = '' THEN x.code ELSE message.quarantine_code END,
    quarantine = CASE WHEN message.quarantine_code = '' THEN x.why ELSE message.quarantine END
FROM (SELECT unnest(@sums::bytea[]) AS sum, unnest(@times::timestamptz[]) AS at, unnest(@codes::text[]) AS code, unnest(@whys::text[]) AS why) x
WHERE message.tenant_id = @tenant_id AND message.mailbox_id = @mailbox_id AND message.direction = 1 AND message.sha256 = x.sum;
