-- name: TakeNames :one
-- Takes the next progressives of a transmitter; the answer is the one after the last that was taken.
INSERT INTO name_series AS s (transmitter, next)
VALUES (sqlc.arg(transmitter), sqlc.arg(after)::bigint)
ON CONFLICT (transmitter) DO UPDATE SET next = s.next + sqlc.arg(count)::bigint
RETURNING s.next;

-- name: InsertTransmissions :many
INSERT INTO transmission (id, tenant_id, invoice, format, file_name, file_key, file_uri, file_sha256, traceparent, channel, created_at, updated_at)
SELECT unnest(@ids::uuid[]), @tenant_id, unnest(@invoices::text[]), unnest(@formats::text[]), unnest(@file_names::text[]),
       unnest(@file_keys::text[]), unnest(@file_uris::text[]), unnest(@file_hashes::bytea[]), unnest(@traceparents::text[]),
       unnest(@channels::text[]), @created_at, @created_at
ON CONFLICT (tenant_id, invoice) DO NOTHING
RETURNING id, channel;

-- name: BeginAttempts :many
-- Counts the call before it is made: whether a call was made at all decides what control 00002 means later.
-- attempt_at is a lease too: while a call may be under way anywhere, nobody begins another.
UPDATE transmission
SET attempts = attempts + 1, attempt_at = @now, updated_at = @now
WHERE id = ANY(@ids::uuid[]) AND facts = 0 AND channel = 'SDICOOP' AND (attempt_at IS NULL OR attempt_at < sqlc.arg(stale)::timestamptz)
RETURNING id, tenant_id, invoice, format, file_name, file_uri, file_sha256, attempts, traceparent;

-- name: RecordFailure :exec
-- A call that surely left nothing at SdI does not count as an attempt. The file goes to the backlog when held says why.
UPDATE transmission
SET last_error = @last_error, updated_at = @now, attempts = attempts - sqlc.arg(uncount)::int, attempt_at = NULL,
    held = @held, held_by = NULL, next_at = sqlc.narg(next_at),
    send_by = LEAST(coalesce(sqlc.narg(send_by), send_by, created_at + interval '12 days'),
                    (SELECT c.due_at FROM transmission c WHERE c.tenant_id = transmission.tenant_id AND c.corrected_by = transmission.invoice
                                                          AND c.corrected_by <> '' AND c.due_kind = 'RESEND' LIMIT 1))
WHERE transmission.id = @id;

-- name: AttemptSince :one
-- When a call was begun whose end nobody recorded.
SELECT attempt_at FROM transmission WHERE id = @id AND facts = 0 AND channel = 'SDICOOP';

-- name: LockTransmissions :many
-- In the order of ids, whoever asks: two transactions that hold the same ones never wait in a circle.
SELECT id, tenant_id, invoice, format, facts, state, file_name, file_uri, file_sha256, sdi_id, attempts, sent_at, traceparent,
       rc_at, mc_at, ns_at, due_kind, due_at, due_told, created_at, taken_at
FROM transmission WHERE id = ANY(@ids::uuid[]) ORDER BY id FOR UPDATE;

-- name: UpdateTransmissions :exec
-- A file that SdI has waits no longer.
UPDATE transmission t
SET facts = u.facts, state = u.state, sdi_id = u.sdi_id, sent_at = nullif(u.sent_at, '-infinity'), last_error = '', updated_at = @now,
    taken_at = nullif(u.taken_at, '-infinity'),
    rc_at = nullif(u.rc_at, '-infinity'), mc_at = nullif(u.mc_at, '-infinity'), ns_at = nullif(u.ns_at, '-infinity'),
    due_kind = u.due_kind, due_at = nullif(u.due_at, '-infinity'), due_told = u.due_told, held = '', held_by = NULL, next_at = NULL
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@facts::integer[]) AS facts, unnest(@states::text[]) AS state,
             unnest(@sdi_ids::text[]) AS sdi_id, CAST(unnest(@sent_ats::text[]) AS timestamptz) AS sent_at,
             CAST(unnest(@taken_ats::text[]) AS timestamptz) AS taken_at,
             CAST(unnest(@rc_ats::text[]) AS timestamptz) AS rc_at, CAST(unnest(@mc_ats::text[]) AS timestamptz) AS mc_at,
             CAST(unnest(@ns_ats::text[]) AS timestamptz) AS ns_at, unnest(@due_kinds::text[]) AS due_kind,
             CAST(unnest(@due_ats::text[]) AS timestamptz) AS due_at, unnest(@due_tolds::smallint[]) AS due_told) u
WHERE t.id = u.id;

-- name: MatchTransmissions :many
-- By SdI's identifier, or by the name that was reserved before sending; the identifier wins.
SELECT m.message_id, t.id, t.tenant_id, t.file_sha256
FROM (SELECT unnest(@message_ids::uuid[])::uuid AS message_id, unnest(@sdi_ids::text[])::text AS sdi_id, unnest(@file_keys::text[])::text AS file_key) m
CROSS JOIN LATERAL (
    SELECT c.id, c.tenant_id, c.file_sha256 FROM transmission c
    WHERE (c.sdi_id = m.sdi_id AND c.sdi_id <> '') OR c.file_key = m.file_key
    ORDER BY (c.sdi_id <> '' AND c.sdi_id = m.sdi_id) DESC
    LIMIT 1) t;

-- name: SaveMessages :many
-- Raw first. The same message again only counts. Keys come in order and none twice.
INSERT INTO message (id, operation, file_name, sdi_id, sha256, raw, received_at)
SELECT unnest(@ids::uuid[]), unnest(@operations::text[]), unnest(@file_names::text[]), unnest(@sdi_ids::text[]),
       unnest(@hashes::bytea[]), unnest(@raws::bytea[]), unnest(@received_ats::timestamptz[])
ON CONFLICT (sdi_id, file_name, sha256) DO UPDATE SET duplicates = message.duplicates + 1
RETURNING id, (duplicates = 0)::bool AS first;

-- name: ReadMessages :many
SELECT id, file_name, sdi_id, raw, received_at FROM message WHERE id = ANY(@ids::uuid[]) AND applied_at IS NULL ORDER BY id;

-- name: LockMessages :many
SELECT id FROM message WHERE id = ANY(@ids::uuid[]) AND applied_at IS NULL ORDER BY id FOR UPDATE;

-- name: AssignMessages :exec
UPDATE message m
SET tenant_id = u.tenant_id, transmission_id = u.transmission_id, type = u.type, content_uri = u.content_uri,
    raw = NULL, applied_at = @applied_at, problem = u.problem, signature = u.signature
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@tenant_ids::text[]) AS tenant_id, unnest(@transmission_ids::uuid[]) AS transmission_id,
             unnest(@types::text[]) AS type, unnest(@content_uris::text[]) AS content_uri, unnest(@problems::text[]) AS problem,
             unnest(@signatures::text[]) AS signature) u
WHERE m.id = u.id;

-- name: SetMessageProblem :exec
UPDATE message SET problem = @problem, type = @type, signature = @signature WHERE id = @id;

-- name: GetTransmission :one
SELECT id, tenant_id, invoice, format, facts, state, file_name, sdi_id, attempts, last_error, created_at, sent_at, updated_at,
       due_kind, due_at, due_told, corrected_by, held, next_at, send_by, destroyed_by, destroy_time
FROM transmission WHERE id = @id;

-- name: ListTransmissions :many
SELECT id, tenant_id, invoice, format, facts, state, file_name, sdi_id, attempts, last_error, created_at, sent_at, updated_at,
       due_kind, due_at, due_told, corrected_by, held, next_at, send_by, destroyed_by, destroy_time
FROM transmission
WHERE tenant_id = @tenant_id
  AND (@invoice::text = '' OR invoice = @invoice)
  AND (@state::text = '' OR state = @state)
  AND id < @before
ORDER BY id DESC
LIMIT @n;

-- name: ListMessages :many
SELECT id, tenant_id, transmission_id, type, file_name, sdi_id, sha256, content_uri, received_at, duplicates, problem, signature
FROM message WHERE transmission_id = ANY(@transmission_ids::uuid[])
ORDER BY received_at, id;

-- name: ListUnmatchedMessages :many
SELECT id, type, file_name, sdi_id, sha256, octet_length(raw)::bigint AS size, received_at, duplicates, problem, signature
FROM message
WHERE transmission_id IS NULL AND id < @before
ORDER BY id DESC
LIMIT @n;

-- name: GetUnmatchedMessage :one
SELECT id, type, file_name, sdi_id, sha256, raw, received_at, duplicates, problem, signature
FROM message
WHERE id = @id AND transmission_id IS NULL;
