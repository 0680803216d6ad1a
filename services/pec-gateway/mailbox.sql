-- name: InsertMailbox :exec
INSERT INTO mailbox (tenant_id, id, address, address_key, provider, username, imap, pop3, smtp, access, label, home_provider,
    ordinary_action, ordinary_folder, capacity, state, next_poll_time, create_time, update_time)
VALUES (@tenant_id, @id, @address, @address_key, @provider, @username, @imap, @pop3, @smtp, @access, @label, @home_provider,
    @ordinary_action, @ordinary_folder, @capacity, @state, @create_time, @create_time, @create_time);

-- name: GetMailbox :one
SELECT * FROM mailbox WHERE tenant_id = @tenant_id AND id = @id;

-- name: GetMailboxByAddress :one
SELECT * FROM mailbox WHERE tenant_id = @tenant_id AND address_key = @address_key;

-- name: LockMailbox :one
SELECT * FROM mailbox WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: ListMailboxes :many
SELECT m.* FROM mailbox m
WHERE m.tenant_id = @tenant_id AND (sqlc.narg(after)::text IS NULL OR m.address_key > sqlc.narg(after))
  AND (@all_labels::boolean OR m.label = '' OR m.label = ANY(@labels::text[]))
  AND (@caller::text = '' OR NOT EXISTS (SELECT 1 FROM mailbox_grant g WHERE g.tenant_id = m.tenant_id AND g.mailbox_id = m.id)
       OR EXISTS (SELECT 1 FROM mailbox_grant g WHERE g.tenant_id = m.tenant_id AND g.mailbox_id = m.id AND g.caller IN (@caller, @by_id::text)))
ORDER BY m.address_key LIMIT @page_size;

-- name: CountMessages :many
SELECT mailbox_id, count(*) AS messages, count(*) FILTER (WHERE quarantine_code <> '') AS quarantined,
    count(*) FILTER (WHERE NOT proven AND verification <> '' AND quarantine_code = '') AS unproven
FROM message WHERE tenant_id = @tenant_id AND mailbox_id = ANY(@mailbox_ids::uuid[])
GROUP BY mailbox_id;

-- name: UpdateMailbox :exec
UPDATE mailbox SET username = @username, imap = @imap, pop3 = @pop3, smtp = @smtp, access = @access, label = @label,
    home_provider = @home_provider, ordinary_action = @ordinary_action, ordinary_folder = @ordinary_folder, capacity = @capacity,
    lease_holder = NULL, lease_until = NULL, fence = fence + 1, next_poll_time = @now::timestamptz,
    version = version + 1, update_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND id = @id;

-- Whoever presides over it has to begin anew: the fence moves on.
-- name: PauseMailbox :exec
UPDATE mailbox SET paused = true, lease_holder = NULL, lease_until = NULL, fence = fence + 1, version = version + 1, update_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND id = @id;

-- name: ResumeMailbox :exec
UPDATE mailbox SET paused = false, failures = 0, next_poll_time = @now::timestamptz, lease_holder = NULL, lease_until = NULL, fence = fence + 1,
    version = version + 1, update_time = @now::timestamptz
WHERE tenant_id = @tenant_id AND id = @id;

-- Mailboxes that are due and that nobody presides over, the longest waiting first.
-- name: ClaimMailboxes :many
UPDATE mailbox m SET lease_holder = @holder, lease_until = @until, fence = m.fence + 1
FROM (SELECT c.tenant_id, c.id FROM mailbox c
      WHERE NOT c.paused AND c.next_poll_time <= @now::timestamptz AND (c.lease_until IS NULL OR c.lease_until <= @now::timestamptz)
      ORDER BY c.next_poll_time LIMIT @most FOR UPDATE SKIP LOCKED) due
WHERE m.tenant_id = due.tenant_id AND m.id = due.id
RETURNING m.*;

-- name: RenewLeases :many
UPDATE mailbox SET lease_until = @until
WHERE lease_holder = @holder AND id = ANY(@ids::uuid[])
RETURNING id, fence;

-- A look has two transactions at a time, which change the row afterwards: if both could have it, each would wait for the other.
-- name: HoldFence :one
SELECT fence FROM mailbox WHERE tenant_id = @tenant_id AND id = @id FOR NO KEY UPDATE;

-- name: ReleaseMailbox :exec
UPDATE mailbox SET lease_holder = NULL, lease_until = NULL, next_poll_time = @next_poll_time
WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence;

-- name: VisitEnded :exec
UPDATE mailbox SET state = @state, problem_code = '', problem = '', problem_time = NULL, failures = 0, last_poll_time = @now::timestamptz,
    sync_end_time = coalesce(sync_end_time, sqlc.narg(sync_end_time))
WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence;

-- name: VisitFailed :one
UPDATE mailbox SET state = @state, problem_code = @problem_code, problem = @problem,
    problem_time = CASE WHEN problem_code = @problem_code THEN problem_time ELSE @now::timestamptz END,
    failures = failures + 1, lease_holder = NULL, lease_until = NULL, next_poll_time = @next_poll_time
WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence
RETURNING failures;

-- name: RecordSync :exec
UPDATE mailbox SET sync_total = greatest(sync_total, @total::bigint), sync_start_time = coalesce(sync_start_time, @now::timestamptz)
WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence;

-- name: RecordFetched :exec
UPDATE mailbox SET sync_fetched = sync_fetched + @fetched, last_receive_time = coalesce(sqlc.narg(receive_time), last_receive_time)
WHERE tenant_id = @tenant_id AND id = @id;

-- name: RecordQuota :exec
UPDATE mailbox SET quota_used = @used, quota_limit = @quota_limit, quota_level = @level
WHERE tenant_id = @tenant_id AND id = @id AND fence = @fence;

-- name: GetFolder :one
SELECT * FROM folder WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND name = @name;

-- name: PutFolder :exec
INSERT INTO folder (tenant_id, mailbox_id, name, uid_validity, next_uid)
VALUES (@tenant_id, @mailbox_id, @name, @uid_validity, @next_uid)
ON CONFLICT (tenant_id, mailbox_id, name) DO UPDATE SET uid_validity = excluded.uid_validity, next_uid = excluded.next_uid;
