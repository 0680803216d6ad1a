-- name: SetLook :exec
UPDATE message SET look_at = sqlc.narg(look_at), stall_code = @stall_code, stall_at = sqlc.narg(stall_at)
WHERE tenant_id = @tenant_id AND id = @id;

-- name: DueLooks :many
SELECT tenant_id, id FROM message WHERE look_at <= @now::timestamptz ORDER BY look_at LIMIT @most;

-- name: StalledInMailbox :one
SELECT count(*) FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND stall_code = @code AND state = @state AND id <> @id;

-- name: RemarkFact :exec
UPDATE fact SET remark = @remark WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id = @receipt_id::uuid;

-- name: DelayLook :exec
UPDATE message SET look_at = sqlc.narg(look_at) WHERE tenant_id = @tenant_id AND id = @id;
