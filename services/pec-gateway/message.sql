-- What a second reading of the same bytes changes.
-- name: UpdateReading :exec
UPDATE message SET kind = @kind, tipo = @tipo, message_id = @message_id, reference = @reference, identificativo = @identificativo,
    from_address = @from_address, certified_sender = @certified_sender, recipients = @recipients, subject = @subject, proven = @proven,
    verification = @verification, report = @report, doubts = @doubts, quarantine_code = @quarantine_code, quarantine = @quarantine,
    about_id = @about_id, certified_time = @certified_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: GetMessage :one
SELECT * FROM message WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND id = @id;

-- name: LockMessage :one
SELECT * FROM message WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- The message of ours that a receipt speaks of, by our identifier first, then by the provider's.
-- name: SentOf :one
SELECT * FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND direction = 2
  AND ((@msgid::text <> '' AND message_id = @msgid) OR (@identificativo::text <> '' AND identificativo = @identificativo))
ORDER BY (message_id = @msgid) DESC, id LIMIT 1;

-- name: ListQuarantine :many
SELECT * FROM message
WHERE tenant_id = @tenant_id AND mailbox_id = @mailbox_id AND quarantine_code <> '' AND (sqlc.narg(before)::uuid IS NULL OR id < sqlc.narg(before))
ORDER BY id DESC LIMIT @page_size;

-- name: ReceiptsOf :many
SELECT * FROM message WHERE tenant_id = @tenant_id AND about_id = @about_id ORDER BY id;

-- name: ListReports :many
SELECT * FROM report WHERE tenant_id = @tenant_id AND message_id = @message_id ORDER BY id;

-- name: InsertRecipients :exec
INSERT INTO recipient (tenant_id, message_id, position, address, field)
SELECT @tenant_id::text, @message_id::uuid, p - 1, (@addresses::text[])[p], (@fields::text[])[p]
FROM generate_series(1, cardinality(@addresses::text[])) p;

-- name: ListRecipients :many
SELECT * FROM recipient WHERE tenant_id = @tenant_id AND message_id = @message_id ORDER BY position;

-- name: ListRecipientsOf :many
SELECT * FROM recipient WHERE tenant_id = @tenant_id AND message_id = ANY(@message_ids::uuid[]) ORDER BY message_id, position;

-- name: UpdateRecipients :batchexec
UPDATE recipient SET state = @state, final = @final, late = @late, at = sqlc.narg(at), cause = @cause
WHERE tenant_id = @tenant_id AND message_id = @message_id AND position = @position;

-- name: InsertFact :execrows
INSERT INTO fact (tenant_id, message_id, id, kind, at, recipient, identificativo, external, cause, second_notice, receipt_id, create_time)
VALUES (@tenant_id, @message_id, @id, @kind, @at, @recipient, @identificativo, @external, @cause, @second_notice, sqlc.narg(receipt_id), @create_time)
ON CONFLICT (tenant_id, message_id, receipt_id) WHERE receipt_id IS NOT NULL DO NOTHING;

-- name: ListFacts :many
SELECT * FROM fact WHERE tenant_id = @tenant_id AND message_id = @message_id ORDER BY id;

-- name: AdvanceMessage :exec
UPDATE message SET state = @state, identificativo = @identificativo, contradictions = @contradictions
WHERE tenant_id = @tenant_id AND id = @id;
