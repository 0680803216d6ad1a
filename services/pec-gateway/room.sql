-- What may be removed at the provider, the oldest first: in a folder as it is numbered now, and not tried before.
-- name: RemovableMessages :many
SELECT l.folder, l.uid_validity, l.uid, m.id, m.sha256, m.size, m.content_uri
FROM location l
JOIN folder f ON f.tenant_id = l.tenant_id AND f.mailbox_id = l.mailbox_id AND f.name = l.folder AND f.uid_validity = l.uid_validity
JOIN message m ON m.tenant_id = l.tenant_id AND m.id = l.message_id
WHERE l.tenant_id = @tenant_id AND l.mailbox_id = @mailbox_id AND m.direction = 1
  AND least(m.receive_time, coalesce(m.certified_time, m.receive_time)) < @before::timestamptz
  AND (NOT @preserved_only::boolean OR EXISTS (
    SELECT FROM preserved_message p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id AND p.package <> ''))
  AND NOT EXISTS (SELECT FROM removal r WHERE r.tenant_id = l.tenant_id AND r.mailbox_id = l.mailbox_id AND r.folder = l.folder
    AND r.uid_validity = l.uid_validity AND r.uid = l.uid AND r.outcome <> 'intended')
ORDER BY least(m.receive_time, coalesce(m.certified_time, m.receive_time)), m.id LIMIT @most;

-- name: IntendRemovals :exec
INSERT INTO removal (tenant_id, mailbox_id, folder, uid_validity, uid, message_id, size, intend_time)
SELECT @tenant_id::text, @mailbox_id::uuid, @folder::text, @uid_validity::bigint, (@uids::text[])[p], (@message_ids::uuid[])[p], (@sizes::bigint[])[p], @now::timestamptz
FROM generate_series(1, cardinality(@uids::text[])) p
ON CONFLICT DO NOTHING;

-- name: EndRemovals :exec
UPDATE removal SET outcome = @outcome, end_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND folder = @folder AND uid_validity = @uid_validity AND uid = ANY(@uids::text[]);

-- name: RemovedAt :one
SELECT max(end_time)::timestamptz FROM removal WHERE tenant_id = @tenant_id AND message_id = @message_id AND outcome = 'removed'
HAVING count(*) > 0;
