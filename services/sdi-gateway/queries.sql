-- name: TakeNames :one
-- Takes the next progressives of a transmitter; the answer is the one after the last that was taken.
INSERT INTO name_series AS s (transmitter, next)
VALUES (sqlc.arg(transmitter), sqlc.arg(after)::bigint)
ON CONFLICT (transmitter) DO UPDATE SET next = s.next + sqlc.arg(count)::bigint
RETURNING s.next;

-- name: InsertTransmission :execrows
INSERT INTO transmission (id, tenant_id, invoice, format, file_name, file_key, file_uri, file_sha256, traceparent, created_at, updated_at)
VALUES (@id, @tenant_id, @invoice, @format, @file_name, @file_key, @file_uri, @file_sha256, @traceparent, @created_at, @created_at)
ON CONFLICT (tenant_id, invoice) DO NOTHING;

-- name: BeginAttempt :one
-- Counts the call before it is made: whether a call was made at all decides what control 00002 means later.
-- attempt_at is a lease too: while a call may be under way anywhere, nobody begins another.
UPDATE transmission
SET attempts = attempts + 1, attempt_at = @now, updated_at = @now
WHERE id = @id AND facts = 0 AND (attempt_at IS NULL OR attempt_at < sqlc.arg(stale)::timestamptz)
RETURNING id, tenant_id, invoice, format, file_name, file_uri, file_sha256, attempts;

-- name: RecordFailure :exec
-- A call that surely left nothing at SdI does not count as an attempt.
UPDATE transmission
SET last_error = @last_error, updated_at = @now, attempts = attempts - sqlc.arg(uncount)::int, attempt_at = NULL
WHERE id = @id;

-- name: AttemptSince :one
-- When a call was begun whose end nobody recorded.
SELECT attempt_at FROM transmission WHERE id = @id AND facts = 0;

-- name: LockTransmission :one
SELECT id, tenant_id, invoice, format, facts, state, file_name, file_uri, file_sha256, sdi_id, attempts, sent_at, traceparent
FROM transmission WHERE id = @id FOR UPDATE;

-- name: UpdateTransmission :exec
UPDATE transmission
SET facts = @facts, state = @state, sdi_id = @sdi_id, sent_at = @sent_at, last_error = '', updated_at = @now
WHERE id = @id;

-- name: MatchTransmission :one
-- By SdI's identifier, or by the name that was reserved before sending; the identifier wins.
SELECT id, tenant_id, file_sha256, (sdi_id <> '' AND sdi_id = @sdi_id)::bool AS by_id
FROM transmission
WHERE (sdi_id = @sdi_id AND sdi_id <> '') OR file_key = @file_key
ORDER BY by_id DESC
LIMIT 1;

-- name: SaveMessage :one
-- Raw first. The same message again only counts.
INSERT INTO message (id, operation, file_name, sdi_id, sha256, raw, received_at)
VALUES (@id, @operation, @file_name, @sdi_id, @sha256, @raw, @received_at)
ON CONFLICT (sdi_id, file_name, sha256) DO UPDATE SET duplicates = message.duplicates + 1
RETURNING id, (duplicates = 0)::bool AS first;

-- name: ReadMessage :one
SELECT id, file_name, sdi_id, raw, received_at, applied_at FROM message WHERE id = @id;

-- name: LockMessage :one
SELECT applied_at FROM message WHERE id = @id FOR UPDATE;

-- name: AssignMessage :exec
UPDATE message
SET tenant_id = @tenant_id, transmission_id = @transmission_id, type = @type, content_uri = @content_uri,
    raw = NULL, applied_at = @applied_at, problem = @problem
WHERE id = @id;

-- name: SetMessageProblem :exec
UPDATE message SET problem = @problem, type = @type WHERE id = @id;

-- name: GetTransmission :one
SELECT id, tenant_id, invoice, format, facts, state, file_name, sdi_id, attempts, last_error, created_at, sent_at, updated_at
FROM transmission WHERE id = @id;

-- name: ListTransmissions :many
SELECT id, tenant_id, invoice, format, facts, state, file_name, sdi_id, attempts, last_error, created_at, sent_at, updated_at
FROM transmission
WHERE tenant_id = @tenant_id
  AND (@invoice::text = '' OR invoice = @invoice)
  AND (@state::text = '' OR state = @state)
  AND id < @before
ORDER BY id DESC
LIMIT @n;

-- name: ListMessages :many
SELECT id, tenant_id, transmission_id, type, file_name, sdi_id, sha256, content_uri, received_at, duplicates, problem
FROM message WHERE transmission_id = ANY(@transmission_ids::uuid[])
ORDER BY received_at, id;

-- name: ListUnmatchedMessages :many
SELECT id, type, file_name, sdi_id, sha256, octet_length(raw)::bigint AS size, received_at, duplicates, problem
FROM message
WHERE transmission_id IS NULL AND id < @before
ORDER BY id DESC
LIMIT @n;

-- name: GetUnmatchedMessage :one
SELECT id, type, file_name, sdi_id, sha256, raw, received_at, duplicates, problem
FROM message
WHERE id = @id AND transmission_id IS NULL;
