-- name: ListOwnFolders :many
SELECT name FROM own_folder WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id ORDER BY name;

-- name: CountFolders :many
SELECT folder, count(*) AS messages FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND quarantine_code = '' GROUP BY folder ORDER BY folder LIMIT 2000;

-- name: FolderExists :one
SELECT EXISTS (SELECT 1 FROM own_folder o WHERE o.tenant_id = @tenant_id AND o.mailbox_id = @mailbox_id AND o.name = @name)
    OR EXISTS (SELECT 1 FROM message m WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.folder = @name);

-- name: InsertFolder :execrows
INSERT INTO own_folder (tenant_id, mailbox_id, name, create_time) VALUES (@tenant_id, @mailbox_id, @name, @create_time) ON CONFLICT DO NOTHING;

-- name: DropFolder :execrows
DELETE FROM own_folder WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND name = @name;

-- name: EmptyFolder :execrows
UPDATE message SET folder = @new_name WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND folder = @name;

-- name: MessagesIn :one
SELECT count(*) FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND id = ANY(@ids::uuid[]) AND quarantine_code = '';

-- name: MoveMessages :execrows
UPDATE message SET folder = @folder WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND id = ANY(@ids::uuid[]) AND folder <> @folder;

-- name: MessagesByID :many
SELECT * FROM message WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) ORDER BY receive_time DESC, id DESC;

-- name: NameFiles :batchexec
UPDATE message SET attachments = @attachments WHERE tenant_id = @tenant_id AND id = @id;

-- name: OweWords :batchexec
INSERT INTO word_owed (tenant_id, mailbox_id, message_id, words) VALUES (@tenant_id, @mailbox_id, @message_id, @words)
ON CONFLICT (tenant_id, message_id) DO UPDATE SET words = excluded.words;

-- Words of mailboxes that are being read for the first time wait for the end of it.
-- name: EnterWords :one
WITH due AS (
    SELECT o.tenant_id, o.message_id FROM word_owed o JOIN mailbox m ON m.tenant_id = o.tenant_id AND m.id = o.mailbox_id
    WHERE m.sync_end_time IS NOT NULL ORDER BY o.message_id LIMIT @most FOR UPDATE OF o SKIP LOCKED
), gone AS (
    DELETE FROM word_owed o USING due WHERE o.tenant_id = due.tenant_id AND o.message_id = due.message_id
    RETURNING o.tenant_id, o.mailbox_id, o.message_id, o.words
), entered AS (
    INSERT INTO message_word (tenant_id, mailbox_id, word, message_id)
    SELECT g.tenant_id, g.mailbox_id, unnest(g.words), g.message_id FROM gone g
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone;

-- name: GetPolicy :one
SELECT * FROM mailbox_policy WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: LockPolicy :one
SELECT * FROM mailbox_policy WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id FOR UPDATE;

-- name: PutPolicy :exec
INSERT INTO mailbox_policy (tenant_id, mailbox_id, policy, daily, since, expire_on, password_days, password_time, sending_suspended)
VALUES (@tenant_id, @mailbox_id, @policy, @daily, sqlc.narg(since), sqlc.narg(expire_on), @password_days, sqlc.narg(password_time), @sending_suspended)
ON CONFLICT (tenant_id, mailbox_id) DO UPDATE SET policy = excluded.policy, daily = excluded.daily, since = excluded.since,
    expire_on = excluded.expire_on, password_days = excluded.password_days, password_time = excluded.password_time,
    sending_suspended = excluded.sending_suspended, version = mailbox_policy.version + 1,
    warned_mailbox = CASE WHEN mailbox_policy.expire_on IS NOT DISTINCT FROM excluded.expire_on THEN mailbox_policy.warned_mailbox END,
    warned_password = CASE WHEN mailbox_policy.password_days = excluded.password_days AND mailbox_policy.password_time IS NOT DISTINCT FROM excluded.password_time
        THEN mailbox_policy.warned_password END;

-- name: PasswordGiven :exec
WITH given AS (
    UPDATE mailbox m SET password_time = @at::timestamptz WHERE m.tenant_id = @tenant_id AND m.id = @mailbox_id
)
UPDATE mailbox_policy p SET password_time = @at::timestamptz, warned_password = NULL WHERE p.tenant_id = @tenant_id AND p.mailbox_id = @mailbox_id;

-- name: PoliciesWithTerms :many
SELECT p.*, m.address FROM mailbox_policy p JOIN mailbox m ON m.tenant_id = p.tenant_id AND m.id = p.mailbox_id
WHERE (p.expire_on IS NOT NULL AND p.expire_on <= @near::date AND (p.warned_mailbox IS NULL OR p.warned_mailbox >= 0))
   OR (p.password_days > 0 AND p.password_time IS NOT NULL AND (p.warned_password IS NULL OR p.warned_password >= 0)
       AND (p.password_time + p.password_days * interval '1 day')::date <= @near::date)
FOR UPDATE OF p SKIP LOCKED;

-- name: TermsTold :exec
UPDATE mailbox_policy SET warned_mailbox = sqlc.narg(warned_mailbox), warned_password = sqlc.narg(warned_password)
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: ListGrants :many
SELECT caller, entitled FROM mailbox_grant WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id ORDER BY caller;

-- name: DropGrants :exec
DELETE FROM mailbox_grant WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: InsertGrants :exec
INSERT INTO mailbox_grant (tenant_id, mailbox_id, caller, entitled)
SELECT @tenant_id::text, @mailbox_id::uuid, unnest(@callers::text[]), unnest(@entitled::smallint[]);

-- name: ReachableMailboxes :many
SELECT m.id FROM mailbox m
WHERE m.tenant_id = @tenant_id AND (@all_labels::boolean OR m.label = '' OR m.label = ANY(@labels::text[]))
  AND (@caller::text = '' OR NOT EXISTS (SELECT 1 FROM mailbox_grant g WHERE g.tenant_id = m.tenant_id AND g.mailbox_id = m.id)
       OR EXISTS (SELECT 1 FROM mailbox_grant g WHERE g.tenant_id = m.tenant_id AND g.mailbox_id = m.id AND g.caller IN (@caller, @by_id::text)))
ORDER BY m.address_key LIMIT 10000;

-- name: AddressesInKeeping :many
SELECT DISTINCT address_key FROM mailbox WHERE address_key = ANY(@addresses::text[]);

-- name: OweNotice :exec
INSERT INTO notice_owed (tenant_id, mailbox_id, message_id, sender, subject, certified, receive_time)
VALUES (@tenant_id, @mailbox_id, @message_id, @sender, @subject, @certified, @receive_time) ON CONFLICT DO NOTHING;

-- name: DueNotices :many
SELECT DISTINCT o.tenant_id, o.mailbox_id FROM notice_owed o JOIN mailbox_policy p ON p.tenant_id = o.tenant_id AND p.mailbox_id = o.mailbox_id
WHERE p.notice_time IS NULL OR p.notice_time <= @before::timestamptz LIMIT 500;

-- name: TakeNotices :many
DELETE FROM notice_owed WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id RETURNING *;

-- name: NoticeMade :exec
UPDATE mailbox_policy SET notice_time = @at::timestamptz WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id;

-- name: HubRows :many
SELECT sqlc.embed(m),
    (SELECT count(*) FROM sending s WHERE s.tenant_id = m.tenant_id AND s.mailbox_id = m.id AND s.step IN ('queued', 'leaving')) AS waiting,
    coalesce((SELECT s.create_time FROM sending s WHERE s.tenant_id = m.tenant_id AND s.mailbox_id = m.id AND s.step IN ('queued', 'leaving') ORDER BY s.position LIMIT 1), 'epoch')::timestamptz AS waiting_since,
    (SELECT count(*) FROM sending s WHERE s.tenant_id = m.tenant_id AND s.mailbox_id = m.id AND s.step = 'decide') AS undecided,
    (SELECT count(*) FROM message x WHERE x.tenant_id = m.tenant_id AND x.mailbox_id = m.id AND x.quarantine_code <> '') AS quarantined,
    (SELECT count(*) FROM damaged_message d JOIN message x ON x.tenant_id = d.tenant_id AND x.id = d.message_id
        WHERE d.tenant_id = m.tenant_id AND d.mailbox_id = m.id AND d.repair_time IS NULL AND x.destroyed_by = '') AS damaged,
    coalesce((SELECT l.at FROM log_entry l WHERE l.tenant_id = m.tenant_id AND l.mailbox_id = m.id AND l.event = 2 ORDER BY l.number DESC LIMIT 1), 'epoch')::timestamptz AS last_send_time,
    coalesce(w.held_code, '') AS held_code, coalesce(p.sending_suspended, false) AS sending_suspended, p.expire_on, coalesce(p.password_days, 0) AS password_days, p.password_time
FROM mailbox m
LEFT JOIN sending_queue w ON w.tenant_id = m.tenant_id AND w.mailbox_id = m.id
LEFT JOIN mailbox_policy p ON p.tenant_id = m.tenant_id AND p.mailbox_id = m.id
WHERE m.tenant_id = @tenant_id AND m.id = ANY(@ids::uuid[])
ORDER BY m.address_key;

-- name: DaysToClose :many
SELECT p.tenant_id, p.mailbox_id, p.since, m.address,
    (SELECT max(d.day) FROM preserved_day d WHERE d.tenant_id = p.tenant_id AND d.mailbox_id = p.mailbox_id AND d.close_time IS NOT NULL)::date AS last_day
FROM mailbox_policy p JOIN mailbox m ON m.tenant_id = p.tenant_id AND m.id = p.mailbox_id
WHERE p.daily AND NOT EXISTS (SELECT 1 FROM preserved_day d
    WHERE d.tenant_id = p.tenant_id AND d.mailbox_id = p.mailbox_id AND d.day >= @yesterday::date AND d.close_time IS NOT NULL)
LIMIT 500;

-- name: OpenDay :exec
INSERT INTO preserved_day (tenant_id, mailbox_id, day) VALUES (@tenant_id, @mailbox_id, @day) ON CONFLICT DO NOTHING;

-- name: LockDay :one
SELECT * FROM preserved_day WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND day = @day FOR UPDATE;

-- What belongs to a set and was not handed over: everything that came in, and what left.
-- name: TakeForDay :many
INSERT INTO preserved_message (tenant_id, message_id, mailbox_id, day, hand_over_time)
SELECT m.tenant_id, m.id, m.mailbox_id, @day::date, @now::timestamptz FROM message m
WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.receive_time < @until::timestamptz
  AND (sqlc.narg(since)::timestamptz IS NULL OR m.receive_time >= sqlc.narg(since))
  AND (m.direction = 1 OR m.state = ANY(@left_states::smallint[]))
  AND NOT EXISTS (SELECT 1 FROM preserved_message p WHERE p.tenant_id = m.tenant_id AND p.message_id = m.id)
ORDER BY m.id LIMIT @most
ON CONFLICT DO NOTHING
RETURNING message_id;

-- name: TakeChosen :many
INSERT INTO preserved_message (tenant_id, message_id, mailbox_id, hand_over_time)
SELECT m.tenant_id, m.id, m.mailbox_id, @now::timestamptz FROM message m
WHERE m.tenant_id = @tenant_id AND m.mailbox_id = @mailbox_id AND m.id = ANY(@ids::uuid[])
ON CONFLICT DO NOTHING
RETURNING message_id;

-- name: DigestsOfMessages :many
SELECT id, sha256 FROM message WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]);

-- name: CountOfDay :one
SELECT count(*) FROM preserved_message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND day = @day::date;

-- name: MessagesOfDay :many
SELECT m.* FROM preserved_message p JOIN message m ON m.tenant_id = p.tenant_id AND m.id = p.message_id
WHERE p.tenant_id = @tenant_id AND p.mailbox_id = @mailbox_id AND p.day = @day::date AND p.message_id > @after
ORDER BY p.message_id LIMIT @most;

-- name: RegisterBefore :one
SELECT day, register_sha256 FROM preserved_day
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND day < @day::date AND close_time IS NOT NULL ORDER BY day DESC LIMIT 1;

-- name: CloseDay :exec
UPDATE preserved_day SET close_time = @now::timestamptz, messages = @messages, register_uri = @register_uri, register_sha256 = @register_sha256
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND day = @day;

-- name: ListDays :many
SELECT d.*, (SELECT count(*) FROM preserved_message p WHERE p.tenant_id = d.tenant_id AND p.mailbox_id = d.mailbox_id AND p.day = d.day) AS handed,
    (SELECT count(*) FROM preserved_message p WHERE p.tenant_id = d.tenant_id AND p.mailbox_id = d.mailbox_id AND p.day = d.day AND p.unit <> '') AS kept,
    (SELECT count(*) FROM preserved_message p WHERE p.tenant_id = d.tenant_id AND p.mailbox_id = d.mailbox_id AND p.day = d.day AND p.package <> '') AS sealed
FROM preserved_day d
WHERE d.tenant_id = @tenant_id AND d.mailbox_id = @mailbox_id AND (sqlc.narg(before)::date IS NULL OR d.day < sqlc.narg(before))
ORDER BY d.day DESC LIMIT @page_size;

-- name: TenantsPreserving :many
SELECT t::text FROM unnest(@tenants::text[]) t
WHERE EXISTS (SELECT 1 FROM preserved_message p WHERE p.tenant_id = t) OR EXISTS (SELECT 1 FROM preserved_day d WHERE d.tenant_id = t);

-- name: MessageKept :exec
UPDATE preserved_message SET unit = @unit WHERE tenant_id = @tenant_id AND message_id = @message_id AND unit = '';

-- name: MessageSealed :exec
UPDATE preserved_message SET package = @package WHERE tenant_id = @tenant_id AND message_id = @message_id;

-- name: DayKept :exec
UPDATE preserved_day SET unit = @unit WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND day = @day AND unit = '';

-- name: PreservationOf :one
SELECT * FROM preserved_message WHERE tenant_id = @tenant_id AND message_id = @message_id;
