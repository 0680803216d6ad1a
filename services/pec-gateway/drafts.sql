-- name: InsertDraft :exec
INSERT INTO draft (tenant_id, id, mailbox_id, content, texts, create_time, update_time)
VALUES (@tenant_id, @id, @mailbox_id, @content, @texts, @now::timestamptz, @now::timestamptz);

-- name: GetDraft :one
SELECT * FROM draft WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND id = @id;

-- name: LockDraft :one
SELECT * FROM draft WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND id = @id FOR UPDATE;

-- name: CountDrafts :one
SELECT count(*) FROM draft WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: ListDrafts :many
SELECT id, content, version, create_time, update_time FROM draft
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id
  AND (sqlc.narg(before)::timestamptz IS NULL OR (update_time, id) < (sqlc.narg(before)::timestamptz, @before_id::uuid))
ORDER BY update_time DESC, id DESC LIMIT @page_size;

-- name: KeepDraft :exec
UPDATE draft SET content = @content, texts = @texts, version = version + 1, update_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND id = @id;

-- name: DropDraft :exec
DELETE FROM draft WHERE tenant_id = @tenant_id AND id = @id;
