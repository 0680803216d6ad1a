-- name: InsertSent :exec
INSERT INTO message (tenant_id, id, mailbox_id, direction, kind, state, message_id, from_address, recipients, subject, proven,
    content_uri, sha256, size, receive_time, create_time)
VALUES (@tenant_id, @id, @mailbox_id, 2, 0, @state, @message_id, @from_address, @recipients, @subject, false,
    @content_uri, @sha256, @size, @now::timestamptz, @now::timestamptz);

-- name: InsertSending :exec
INSERT INTO sending (tenant_id, message_id, mailbox_id, step, next_at, split, request_id, create_time, update_time)
VALUES (@tenant_id, @message_id, @mailbox_id, 'queued', @now::timestamptz, @split, @request_id, @now::timestamptz, @now::timestamptz);

-- name: RequestOf :one
SELECT request_id FROM sending WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: OpenQueue :exec
INSERT INTO sending_queue (tenant_id, mailbox_id) VALUES (@tenant_id, @mailbox_id) ON CONFLICT DO NOTHING;

-- name: LockQueue :one
SELECT * FROM sending_queue WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id FOR UPDATE;

-- name: GetQueue :one
SELECT * FROM sending_queue WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: KeepQueue :exec
UPDATE sending_queue SET lease_job = sqlc.narg(lease_job), lease_until = sqlc.narg(lease_until), wake_job = sqlc.narg(wake_job),
    wake_at = sqlc.narg(wake_at), recent = @recent, per_minute = @per_minute, learned_at = sqlc.narg(learned_at), not_before = sqlc.narg(not_before),
    failures = @failures, held_code = @held_code, held = @held, held_at = sqlc.narg(held_at)
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: NextSending :one
SELECT * FROM sending WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND step = 'queued' AND next_at <= @now::timestamptz
ORDER BY position LIMIT 1 FOR UPDATE;

-- A receipt that counts shows that the provider has a message.
-- name: ReceiptCame :one
SELECT EXISTS (SELECT FROM fact WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id IS NOT NULL AND struck_time IS NULL
    AND (vouched = '' OR doubt = ''))::boolean;

-- name: NextSendingTime :one
SELECT next_at FROM sending WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND step = 'queued' ORDER BY next_at LIMIT 1;

-- name: ListLeaving :many
SELECT * FROM sending WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND step = 'leaving' ORDER BY position FOR UPDATE;

-- name: LockSending :one
SELECT * FROM sending WHERE tenant_id = @tenant_id AND message_id = @message_id FOR UPDATE;

-- name: GetSending :one
SELECT * FROM sending WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: ListSendings :many
SELECT * FROM sending s
WHERE s.tenant_id = @tenant_id AND s.mailbox_id = @mailbox_id AND s.position > @after
  AND (s.step IN ('queued', 'leaving', 'unknown', 'decide')
    OR s.message_id = ANY (ARRAY(SELECT m.id FROM message m WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.stall_code <> '')))
ORDER BY s.position LIMIT @page_size;

-- name: CountAhead :one
SELECT count(*) FROM sending
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND step IN ('queued', 'leaving') AND position < @position;

-- name: KeepSending :exec
UPDATE sending SET step = @step, attempts = @attempts, next_at = @next_at, unknown_at = sqlc.narg(unknown_at), decide_at = sqlc.narg(decide_at),
    update_time = @update_time
WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: HurrySendings :execrows
UPDATE sending SET next_at = @now::timestamptz, update_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND step = 'queued';

-- name: InsertAttempt :exec
INSERT INTO sending_attempt (tenant_id, message_id, number, start_at) VALUES (@tenant_id, @message_id, @number, @start_at);

-- name: MarkDot :execrows
UPDATE sending_attempt SET dot_at = @dot_at
WHERE tenant_id = @tenant_id AND message_id = @message_id AND number = @number AND end_at IS NULL AND dot_at IS NULL;

-- name: GetAttempt :one
SELECT * FROM sending_attempt WHERE tenant_id = @tenant_id AND message_id = @message_id AND number = @number;

-- Who closes an attempt waits for a mark that is being written, and sees it.
-- name: LockAttempt :one
SELECT * FROM sending_attempt WHERE tenant_id = @tenant_id AND message_id = @message_id AND number = @number FOR UPDATE;

-- name: ListAttempts :many
SELECT * FROM sending_attempt WHERE tenant_id = @tenant_id AND message_id = @message_id ORDER BY number;

-- name: EndAttempt :exec
UPDATE sending_attempt SET end_at = @end_at, outcome = @outcome, phase = @phase, cause = @cause, code = @code, reply = @reply, tls = @tls,
    refused = @refused
WHERE tenant_id = @tenant_id AND message_id = @message_id AND number = @number;
