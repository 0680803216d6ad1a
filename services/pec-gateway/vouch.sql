-- Decisions about a mailbox go one by one, and what was judged before one of them is not written down after it.
-- name: LockVouchings :exec
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || '.vouching.' || @mailbox::text, 0));

-- name: HoldVouchings :exec
SELECT pg_advisory_xact_lock_shared(hashtextextended(current_schema() || '.vouching.' || @mailbox::text, 0));

-- name: StandingVouchings :many
SELECT * FROM vouching WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND end_time IS NULL ORDER BY id;

-- name: ListVouchings :many
SELECT * FROM vouching
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before))
ORDER BY id DESC LIMIT @page_size;

-- name: GetVouching :one
SELECT * FROM vouching WHERE tenant_id = @tenant_id AND id = @id;

-- name: InsertVouching :exec
INSERT INTO vouching (tenant_id, id, mailbox_id, arrive_from, arrive_until, reason, vouched_by, vouch_time)
VALUES (@tenant_id, @id, @mailbox_id, @arrive_from, @arrive_until, @reason, @vouched_by, @vouch_time);

-- name: EndVouching :exec
UPDATE vouching SET end_time = @end_time, ended_by = @ended_by, end_reason = @end_reason,
    at_message = '00000000-0000-0000-0000-000000000000', failed = 0, judge_time = NULL
WHERE tenant_id = @tenant_id AND id = @id;

-- How far the going through is, unless it was begun anew meanwhile since a person took the word back.
-- name: KeepVouching :exec
UPDATE vouching SET at_message = @at_message, failed = failed + @failed, judge_time = sqlc.narg(judge_time)
WHERE tenant_id = @tenant_id AND id = @id AND (end_time IS NULL) = @standing::boolean;

-- name: CopiesAfter :many
SELECT id FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND verification = 'valid-cert-ended' AND destroyed_by = '' AND id > @after
  AND (report->>'judged_at')::timestamptz BETWEEN @arrive_from::timestamptz AND @arrive_until::timestamptz
ORDER BY id LIMIT @most;

-- name: CountVouched :many
SELECT coalesce(report->'vouched'->>'vouching', '')::text AS vouching, count(*) AS messages,
    count(*) FILTER (WHERE about_id IS NOT NULL) AS receipts
FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND verification = 'valid-cert-ended' AND destroyed_by = '' AND proven
GROUP BY 1;

-- name: VouchFact :exec
UPDATE fact SET vouched = @vouched WHERE tenant_id = @tenant_id AND message_id = @message_id AND receipt_id = @receipt_id::uuid;

-- What a word that was taken back leaves of a message that cannot be judged anew.
-- name: KeepWord :exec
UPDATE message SET proven = @proven, report = @report WHERE tenant_id = @tenant_id AND id = @id;

-- Receipts that were destroyed and count by a word: their reports, which name it, are gone.
-- name: DestroyedCopies :many
SELECT m.* FROM message m
JOIN fact f ON f.tenant_id = m.tenant_id AND f.message_id = m.about_id AND f.receipt_id = m.id
JOIN message sent ON sent.tenant_id = m.tenant_id AND sent.id = m.about_id
WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.verification = 'valid-cert-ended' AND m.destroyed_by <> '' AND sent.destroyed_by = ''
  AND f.vouched = @vouched AND f.doubt = ''
ORDER BY m.id LIMIT @most;
