-- Terms.

-- name: DueTransmissions :many
-- Terms of which something is to be told: that they have passed, or that one which the customer must keep is near.
SELECT t.id, t.tenant_id, t.invoice, t.format, t.state, t.file_name, t.sdi_id, t.due_kind, t.due_at, t.due_told, t.corrected_by, t.traceparent,
       EXISTS (SELECT 1 FROM transmission c WHERE c.tenant_id = t.tenant_id AND c.invoice = t.corrected_by AND c.facts <> 0) AS corrected
FROM transmission t
WHERE t.due_at IS NOT NULL AND t.due_at <= sqlc.arg(near)::timestamptz
  AND ((t.due_told < 2 AND t.due_at <= sqlc.arg(now)::timestamptz) OR (t.due_told = 0 AND t.due_kind = 'RESEND'))
ORDER BY t.due_at, t.id LIMIT @n
FOR UPDATE SKIP LOCKED;

-- name: SetTold :exec
UPDATE transmission SET due_told = @told WHERE id = ANY(@ids::uuid[]);

-- name: EndTerms :exec
UPDATE transmission SET due_kind = '', due_at = NULL, due_told = 0 WHERE id = ANY(@ids::uuid[]);

-- name: ListDeadlines :many
-- The tenant's, or everybody's for the empty one; a term that was kept by a correction is none.
SELECT t.id, t.tenant_id, t.invoice, t.format, t.state, t.file_name, t.sdi_id, t.due_kind, t.due_at, t.due_told, t.corrected_by
FROM transmission t
WHERE t.due_at IS NOT NULL AND (@tenant_id::text = '' OR t.tenant_id = @tenant_id)
  AND (@kind::text = '' OR t.due_kind = @kind)
  AND t.due_at < sqlc.arg(before)::timestamptz
  AND (t.due_at, t.id) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_id)::uuid)
  AND NOT EXISTS (SELECT 1 FROM transmission c WHERE t.corrected_by <> '' AND c.tenant_id = t.tenant_id AND c.invoice = t.corrected_by AND c.facts <> 0)
ORDER BY t.due_at, t.id
LIMIT @n;

-- name: SetCorrected :exec
UPDATE transmission SET corrected_by = @corrected_by WHERE tenant_id = @tenant_id AND invoice = @invoice;

-- The backlog.

-- name: AddEndpoint :exec
INSERT INTO endpoint (name, tokens_at) VALUES (@name, clock_timestamp()) ON CONFLICT DO NOTHING;

-- name: GetEndpoint :one
SELECT name, tokens, tokens_at, outage_since, failures, retry_at, last_error,
       (SELECT count(*) FROM (SELECT 1 FROM transmission WHERE held <> '' AND held_by IS NULL AND channel = 'SDICOOP' AND next_at <= sqlc.arg(now)::timestamptz LIMIT sqlc.arg(many)::int) r)::bigint AS ready
FROM endpoint WHERE name = @name;

-- name: LockEndpoint :one
-- One replica at a time decides what leaves the backlog.
SELECT name, tokens, tokens_at, outage_since, failures, retry_at, last_error FROM endpoint WHERE name = @name FOR UPDATE;

-- name: DatabaseTime :one
-- The clock that all replicas share; not that of the transaction's beginning, which was before it had the lock.
SELECT clock_timestamp()::timestamptz;

-- name: SetTokens :exec
UPDATE endpoint SET tokens = @tokens, tokens_at = @tokens_at WHERE name = @name;

-- name: SetOutage :exec
UPDATE endpoint SET outage_since = coalesce(outage_since, @now), failures = failures + 1, retry_at = @retry_at, last_error = @last_error
WHERE name = @name;

-- name: SetRetry :exec
UPDATE endpoint SET retry_at = @retry_at WHERE name = @name;

-- name: EndOutage :execrows
UPDATE endpoint SET outage_since = NULL, failures = 0, retry_at = NULL, last_error = '' WHERE name = @name AND outage_since IS NOT NULL;

-- name: PickBacklog :many
SELECT id, tenant_id, invoice, coalesce(send_by, created_at)::timestamptz AS send_by FROM transmission
WHERE held <> '' AND held_by IS NULL AND next_at <= sqlc.arg(now)::timestamptz AND facts = 0
  AND (attempt_at IS NULL OR attempt_at < sqlc.arg(stale)::timestamptz)
ORDER BY transmission.send_by, id LIMIT @n
FOR UPDATE SKIP LOCKED;

-- name: PostponeHeld :exec
-- While a call is under way nobody else takes the file out of the backlog.
UPDATE transmission SET next_at = @next_at WHERE id = ANY(@ids::uuid[]);

-- name: ReadUnsent :many
SELECT id, tenant_id, invoice, file_uri, created_at, send_by FROM transmission WHERE id = ANY(@ids::uuid[]) AND facts = 0;

-- name: HoldTransmissions :exec
UPDATE transmission t
SET held = u.held, held_by = nullif(u.held_by, '00000000-0000-0000-0000-000000000000'), next_at = @next_at, updated_at = @now,
    -- A document in the place of a discarded one has the term of that one.
    send_by = LEAST(u.send_by, (SELECT c.due_at FROM transmission c WHERE c.tenant_id = t.tenant_id AND c.corrected_by = t.invoice
                                                                   AND c.corrected_by <> '' AND c.due_kind = 'RESEND' LIMIT 1))
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@helds::text[]) AS held, unnest(@held_bys::uuid[]) AS held_by,
             unnest(@send_bys::timestamptz[]) AS send_by) u
WHERE t.id = u.id AND t.facts = 0;

-- name: LeaveBacklog :exec
UPDATE transmission SET held = '', held_by = NULL, next_at = NULL WHERE id = ANY(@ids::uuid[]);

-- Pauses.

-- name: OpenPauses :many
SELECT id, tenant_id, company, reason, created_by, by_operator, created_at, starts_at, ends_at FROM pause WHERE ended_at IS NULL ORDER BY starts_at, id;

-- name: InsertPause :exec
INSERT INTO pause (id, tenant_id, company, reason, created_by, by_operator, created_at, starts_at, ends_at)
VALUES (@id, @tenant_id, @company, @reason, @created_by, @by_operator, @created_at, @starts_at, @ends_at);

-- name: EndPause :execrows
UPDATE pause SET ended_at = @now, ended_by = @ended_by WHERE id = @id AND ended_at IS NULL;

-- name: ReleaseHeld :execrows
UPDATE transmission SET held_by = NULL, next_at = @now, held = @held WHERE held_by = sqlc.arg(pause)::uuid;

-- name: ListPauses :many
SELECT p.id, p.tenant_id, p.company, p.reason, p.created_by, p.by_operator, p.created_at, p.starts_at, p.ends_at, p.ended_at, p.ended_by,
       (SELECT count(*) FROM transmission t WHERE t.held_by = p.id)::bigint AS waiting
FROM pause p
WHERE (@tenant_id::text = '*' OR p.tenant_id = @tenant_id)
  AND (@open::bool = false OR p.ended_at IS NULL)
  AND p.id < @before
ORDER BY p.id DESC LIMIT @n;

-- name: GetPause :one
SELECT p.id, p.tenant_id, p.company, p.reason, p.created_by, p.by_operator, p.created_at, p.starts_at, p.ends_at, p.ended_at, p.ended_by,
       (SELECT count(*) FROM transmission t WHERE t.held_by = p.id)::bigint AS waiting
FROM pause p WHERE p.id = @id;

-- Operators.

-- name: ListPending :many
-- What has not reached SdI for all we know, in the order in which it should leave.
SELECT id, tenant_id, invoice, format, facts, state, file_name, sdi_id, attempts, last_error, created_at, sent_at, updated_at,
       due_kind, due_at, due_told, corrected_by, held, next_at, send_by, destroyed_by, destroy_time
FROM transmission
WHERE state = 'RESERVED' AND (@tenant_id::text = '' OR tenant_id = @tenant_id)
  AND (@reason::text = '' OR held LIKE @reason || ':%')
  AND created_at < @before
  AND (coalesce(send_by, '9999-12-31 00:00:00+00'), id) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_id)::uuid)
ORDER BY coalesce(send_by, '9999-12-31 00:00:00+00'), id
LIMIT @n;

-- name: CountPending :many
-- Words before the colon say why.
SELECT split_part(held, ':', 1)::text AS reason, count(*) AS files, min(created_at)::timestamptz AS oldest
FROM transmission WHERE state = 'RESERVED' GROUP BY 1 ORDER BY 1;

-- name: LockForResend :one
SELECT t.id, t.tenant_id, t.invoice, t.facts, t.state, t.sdi_id, t.attempts, t.attempt_at, t.held, t.held_by, t.next_at, t.traceparent, t.channel,
       coalesce((SELECT m.state FROM pec_mailing m WHERE m.id = t.mailing_id), '')::text AS mailing_state
FROM transmission t WHERE t.id = @id FOR UPDATE OF t;

-- name: LastSuccess :one
SELECT coalesce(max(sent_at), 'epoch')::timestamptz FROM (SELECT sent_at FROM transmission WHERE sent_at IS NOT NULL ORDER BY id DESC LIMIT 200) t;

-- name: GetForClaim :one
SELECT id, tenant_id, file_sha256 FROM transmission WHERE id = @id;

-- name: UnmatchedIDs :many
SELECT id FROM message WHERE transmission_id IS NULL AND raw IS NOT NULL AND id > @after ORDER BY id LIMIT @n;

-- name: Unsettled :many
-- Files that SdI has and about which a message is missing: none at all, or the end of a public body's flow.
SELECT id, tenant_id, invoice, format, state, file_name, sdi_id, file_sha256, sent_at, due_kind, due_at
FROM transmission
WHERE due_at IS NOT NULL AND due_kind IN ('RECEIPT', 'OUTCOME', 'ATTESTATION') AND due_at < @now
  AND sent_at >= sqlc.arg(since)::timestamptz AND sent_at < sqlc.arg(until)::timestamptz
ORDER BY sent_at, id
LIMIT @n;
