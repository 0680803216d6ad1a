-- Changes of the trust list go one by one, and what was judged by an earlier list is not written down after a later one stands.
-- name: LockTrust :exec
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.trust', 0));

-- name: HoldTrust :exec
SELECT pg_advisory_xact_lock_shared(hashtextextended(current_schema() || '.trust', 0));

-- name: ListStandingWithdrawals :many
SELECT * FROM trust_withdrawal WHERE end_time IS NULL ORDER BY provider, id;

-- name: ListWithdrawals :many
SELECT * FROM trust_withdrawal WHERE sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before) ORDER BY id DESC LIMIT @page_size;

-- name: InsertWithdrawal :exec
INSERT INTO trust_withdrawal (id, provider, certificate, effective_time, reason, decided_by, decide_time, version)
VALUES (@id, @provider, @certificate, sqlc.narg(effective_time), @reason, @decided_by, @decide_time, @version);

-- name: LockWithdrawal :one
SELECT * FROM trust_withdrawal WHERE id = @id FOR UPDATE;

-- name: EndWithdrawal :exec
UPDATE trust_withdrawal SET end_time = @end_time, ended_by = @ended_by, end_reason = @end_reason WHERE id = @id;

-- name: GetWithdrawal :one
SELECT * FROM trust_withdrawal WHERE id = @id;

-- Messages in the order of their key, whatever they are: a page costs the same wherever those lie that are looked for.
-- name: MessagesAfter :many
SELECT tenant_id, mailbox_id, id, (direction = 1 AND proven AND destroyed_by = '')::boolean AS proven,
    coalesce(report->>'provider', '')::text AS provider, coalesce(report->>'certificate_sha256', '')::text AS certificate,
    coalesce(report->>'judged_at', '')::text AS judged_at
FROM message WHERE (tenant_id, id) > (@tenant_id::text, @id::uuid) ORDER BY tenant_id, id LIMIT @most;

-- name: KeepJudging :exec
UPDATE trust_withdrawal SET at_tenant = @at_tenant, at_message = @at_message, unproven = unproven + @unproven, doubted = doubted + @doubted,
    failed = failed + @failed, judge_time = sqlc.narg(judge_time)
WHERE id = @id;

-- Why the receipt behind a fact is not proven any more; empty: it is again, by itself or by a person's word.
-- name: DoubtFact :many
UPDATE fact SET doubt = @doubt::text, vouched = CASE WHEN @doubt::text = '' THEN @vouched::text ELSE vouched END
WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id = @receipt_id::uuid
  AND (doubt <> @doubt::text OR @doubt::text = '' AND vouched <> @vouched::text)
RETURNING vouched;

-- name: CountDoubts :one
SELECT count(*) FROM fact WHERE tenant_id = @tenant_id AND message_id = @message_id AND doubt <> '' AND vouched = '';

-- name: FactOfReceipt :one
SELECT * FROM fact WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id = @receipt_id::uuid;

-- name: StrikeFact :exec
UPDATE fact SET struck_time = sqlc.narg(struck_time), struck_by = @struck_by, struck_reason = @struck_reason
WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id = @receipt_id::uuid;

-- Providers that an index named once and the newest does not.
-- name: MarkAbsentProviders :exec
UPDATE trust_provider SET absent_since = @now::timestamptz WHERE index_time IS NOT NULL AND absent_since IS NULL AND NOT name = ANY(@named::text[]);

-- name: MarkNamedProviders :exec
UPDATE trust_provider SET index_time = @now::timestamptz, absent_since = NULL WHERE name = ANY(@named::text[]);
