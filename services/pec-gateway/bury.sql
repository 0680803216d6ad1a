-- What is left of a message that was destroyed: ids, digests, times, what kind it was, and by which disposal.
-- name: BuryMessages :many
UPDATE message
SET destroyed_by = @destroyed_by, destroy_time = @destroy_time, message_id = CASE WHEN direction = 2 THEN 'gone:' || id ELSE '' END,
    reference = '', identificativo = '', from_address = '', certified_sender = '', recipients = '{}', subject = '', folder = '', report = NULL,
    doubts = '{}', quarantine_code = '', quarantine = '', contradictions = '{}', attachments = '{}', look_at = NULL, stall_code = '', stall_at = NULL
WHERE tenant_id = @tenant_id AND id = ANY(@ids::uuid[]) AND destroyed_by = ''
RETURNING id, mailbox_id;

-- name: BuryReports :exec
DELETE FROM report WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryRecipients :exec
UPDATE recipient SET address = '', cause = '' WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryFacts :exec
UPDATE fact SET recipient = '', identificativo = '', external = '{}', cause = '', remark = '', struck_reason = '',
    doubt = CASE WHEN vouched <> '' AND doubt <> '' THEN 'destroyed' ELSE '' END, vouched = CASE WHEN vouched <> '' THEN 'destroyed' ELSE '' END
WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryWords :exec
DELETE FROM message_word WHERE tenant_id = @tenant_id AND mailbox_id = ANY(@mailboxes::uuid[]) AND message_id = ANY(@ids::uuid[]);

-- name: BuryOwedWords :exec
DELETE FROM word_owed WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryNotices :exec
DELETE FROM notice_owed WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryAttempts :exec
UPDATE sending_attempt SET cause = '', reply = '', refused = '{}' WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- name: BuryRequests :exec
UPDATE sending SET request_id = '' WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);

-- The log is final but for this: see the trigger.
-- name: BuryLog :exec
UPDATE log_entry SET msgid = '', reference = '', identificativo = '', sender = '', recipients = '{}', subject = '', detail = 'destroyed by ' || @destroyed_by::text
WHERE tenant_id = @tenant_id AND message_id = ANY(@ids::uuid[]);
