-- name: CopiesOf :many
SELECT id, content_uri FROM message WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) ORDER BY id;

-- name: BuryDays :exec
UPDATE preserved_day SET destroyed_by = @destroyed_by
WHERE tenant_id = @tenant_id AND destroyed_by = '' AND (mailbox_id::text || '/' || day::text) = ANY(@days::text[]) AND mailbox_id = ANY(@mailboxes::uuid[]);

-- name: RegistersOf :many
SELECT register_uri FROM preserved_day
WHERE tenant_id = @tenant_id AND register_uri <> '' AND (mailbox_id::text || '/' || day::text) = ANY(@days::text[]) AND mailbox_id = ANY(@mailboxes::uuid[]);

-- name: ArchivesOf :many
-- Exported mailboxes that these messages were restored from.
SELECT DISTINCT archive_uri FROM restored WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]) ORDER BY archive_uri;

-- name: NeedsOf :many
-- How many messages, days and drafts that stand need these bytes. An exported mailbox is needed by what was restored from it.
SELECT n.uri::text AS uri, count(*) AS others FROM (
    SELECT m.content_uri AS uri FROM message m WHERE m.tenant_id = @tenant_id AND m.content_uri = ANY(@uris::text[]) AND m.destroyed_by = ''
    UNION ALL
    SELECT d.register_uri FROM preserved_day d WHERE d.tenant_id = @tenant_id AND d.register_uri <> '' AND d.register_uri = ANY(@uris::text[]) AND d.destroyed_by = ''
    UNION ALL
    SELECT r.archive_uri FROM restored r JOIN message m ON m.tenant_id = r.tenant_id AND m.id = r.message_id
    WHERE r.tenant_id = @tenant_id AND r.archive_uri = ANY(@uris::text[]) AND m.destroyed_by = ''
    UNION ALL
    SELECT f.uri FROM draft d, LATERAL (SELECT unnest(@uris::text[]) AS uri) AS f WHERE d.tenant_id = @tenant_id AND position(convert_to(f.uri, 'UTF8') IN d.content) > 0
) AS n GROUP BY n.uri;
