-- name: TakeInboundFile :one
-- Raw first. The same file again is one more delivery.
INSERT INTO inbound_file (id, channel, sdi_id, file_name, sha256, file_uri, metadata_name, metadata_uri, received_at, updated_at)
VALUES (@id, @channel, @sdi_id, @file_name, @sha256, @file_uri, @metadata_name, @metadata_uri, @received_at, @received_at)
ON CONFLICT (sdi_id, file_name, sha256) DO UPDATE SET updated_at = excluded.updated_at
RETURNING id, tenant_id;

-- name: InsertInboundDelivery :exec
INSERT INTO inbound_delivery (id, tenant_id, file_id, metadata_name, metadata_uri, received_at)
VALUES (@id, @tenant_id, @file_id, @metadata_name, @metadata_uri, @received_at)
ON CONFLICT (id) DO NOTHING;

-- name: ReadInboundDelivery :one
SELECT d.file_id, d.metadata_name, d.metadata_uri, d.received_at, d.read_at, f.state, f.reason_code, f.sdi_id, f.file_name, f.file_uri
FROM inbound_delivery d JOIN inbound_file f ON f.id = d.file_id
WHERE d.id = @id;

-- name: LockSdiID :exec
-- What belongs to one identifier is understood one after the other.
SELECT pg_advisory_xact_lock(hashtextextended('inbound:' || @sdi_id::text, 0));

-- name: LockInboundFile :one
SELECT * FROM inbound_file WHERE id = @id FOR UPDATE;

-- name: OtherInboundFile :one
-- A file that came earlier under the same identifier.
SELECT id, file_name, sha256 FROM inbound_file WHERE sdi_id = @sdi_id AND sdi_id <> '' AND id < @id ORDER BY id LIMIT 1;

-- name: MarkInboundDelivery :execrows
UPDATE inbound_delivery SET attempt = @attempt, problem = @problem, read_at = @read_at::timestamptz WHERE id = @id AND read_at IS NULL;

-- name: CountInboundAttempts :one
-- Deliveries are read in any order: the one that is read later sees the other.
SELECT count(*) FROM inbound_delivery WHERE file_id = @file_id AND attempt = @attempt AND id <> @id;

-- name: StoreInboundFile :exec
UPDATE inbound_file
SET tenant_id = @tenant_id, company_id = @company_id, file_uri = @file_uri, metadata_name = @metadata_name, metadata_uri = @metadata_uri,
    state = @state, routed_by = @routed_by, reason_code = @reason_code, reason = @reason, format = @format,
    recipient_code = @recipient_code, signed = @signed, seller_name = @seller_name, seller_vat = @seller_vat, seller_tax = @seller_tax,
    buyer_name = @buyer_name, buyer_vat = @buyer_vat, buyer_tax = @buyer_tax, answer_by = sqlc.narg(answer_by), expired_at = sqlc.narg(expired_at),
    updated_at = @updated_at
WHERE id = @id;

-- name: AdoptInboundDeliveries :exec
UPDATE inbound_delivery SET tenant_id = @tenant_id WHERE file_id = @file_id;

-- name: InsertInboundBodies :exec
INSERT INTO inbound_body (file_id, position, tenant_id, document_type, number, date, currency, total)
SELECT @file_id, unnest(@positions::integer[]), @tenant_id::text, unnest(@types::text[]), unnest(@numbers::text[]), unnest(@dates::text[]),
       unnest(@currencies::text[]), unnest(@totals::text[])
ON CONFLICT (file_id, position) DO UPDATE SET tenant_id = excluded.tenant_id;

-- name: AdoptInboundBodies :exec
UPDATE inbound_body SET tenant_id = @tenant_id WHERE file_id = @file_id;

-- name: ListInboundFiles :many
SELECT * FROM inbound_file
WHERE tenant_id = @tenant_id AND tenant_id <> ''
  AND (@company_id::text = '' OR company_id = @company_id)
  AND (@state::text = '' OR state = @state)
  AND (@sdi_id::text = '' OR sdi_id = @sdi_id)
  AND (sqlc.narg(since)::timestamptz IS NULL OR received_at >= sqlc.narg(since))
  AND id < @before
ORDER BY id DESC
LIMIT @n;

-- name: ListQuarantined :many
SELECT * FROM inbound_file WHERE state = 'QUARANTINED' AND id > @after ORDER BY id LIMIT @n;

-- name: GetInboundFile :one
SELECT * FROM inbound_file WHERE id = @id;

-- name: ListInboundDeliveries :many
SELECT file_id, metadata_name, attempt, problem, received_at FROM inbound_delivery WHERE file_id = ANY(@file_ids::uuid[]) ORDER BY id;

-- name: ListInboundBodies :many
SELECT file_id, position, document_type, number, date, currency, total FROM inbound_body WHERE file_id = ANY(@file_ids::uuid[]) ORDER BY position;

-- name: ListInboundOutcomes :many
SELECT id, file_id, position, outcome, cause, description, state, file_name, code, message, attempts, created_at, settled_at
FROM inbound_outcome WHERE file_id = ANY(@file_ids::uuid[]) ORDER BY id;

-- name: SaveInboundNotice :one
INSERT INTO inbound_notice (id, sdi_id, file_name, sha256, raw, received_at)
VALUES (@id, @sdi_id, @file_name, @sha256, @raw, @received_at)
ON CONFLICT (sdi_id, file_name, sha256) DO UPDATE SET duplicates = inbound_notice.duplicates + 1
RETURNING id, (duplicates = 0)::bool AS first;

-- name: WaitingNotices :many
SELECT id, sdi_id, file_name, raw, received_at FROM inbound_notice WHERE sdi_id = @sdi_id AND applied_at IS NULL ORDER BY id;

-- name: NoticeSdiID :one
SELECT sdi_id FROM inbound_notice WHERE id = @id AND applied_at IS NULL;

-- name: RoutedInboundFile :one
-- The file of an identifier that has found its company.
SELECT id FROM inbound_file WHERE sdi_id = @sdi_id AND sdi_id <> '' AND tenant_id <> '' ORDER BY id LIMIT 1;

-- name: SettleNotice :exec
UPDATE inbound_notice SET tenant_id = @tenant_id, file_id = sqlc.narg(file_id), problem = @problem, applied_at = sqlc.narg(applied_at) WHERE id = @id;

-- name: InsertOutcome :exec
INSERT INTO inbound_outcome (id, tenant_id, file_id, position, outcome, cause, description, sdi_id, file_name, content, channel, created_at)
VALUES (@id, @tenant_id, @file_id, @position, @outcome, @cause, @description, @sdi_id, @file_name, @content, @channel, @created_at);

-- name: OutcomesOfFile :many
SELECT id, position, outcome, state FROM inbound_outcome WHERE file_id = @file_id ORDER BY id;

-- name: CountBodies :one
SELECT count(*) FROM inbound_body WHERE file_id = @file_id;

-- name: OutcomeFile :one
SELECT file_id FROM inbound_outcome WHERE id = @id;

-- name: LockOutcome :one
SELECT * FROM inbound_outcome WHERE id = @id FOR UPDATE;

-- name: StoreOutcome :exec
UPDATE inbound_outcome
SET state = @state, answer_uri = @answer_uri, code = @code, message = @message, attempts = @attempts, unknown = @unknown,
    attempt_at = sqlc.narg(attempt_at), settled_at = sqlc.narg(settled_at)
WHERE id = @id;

-- name: InboundExpiries :many
-- The notice that ended the term of each of these files: the first that was understood.
SELECT DISTINCT ON (n.file_id) n.file_id::uuid AS file_id, n.file_name, n.sha256, octet_length(n.raw)::bigint AS size
FROM inbound_notice n WHERE n.file_id = ANY(@file_ids::uuid[]) AND n.applied_at IS NOT NULL AND n.problem = '' ORDER BY n.file_id, n.applied_at, n.id;

-- name: SetInboundState :exec
UPDATE inbound_file SET state = @state, expired_at = sqlc.narg(expired_at), updated_at = @updated_at WHERE id = @id;

-- name: DueInboundFiles :many
-- Terms for an outcome of which something is to be told: that they are near, or have passed.
SELECT id, tenant_id, company_id, sdi_id, file_name, answer_by, due_told FROM inbound_file
WHERE state = 'AWAITING_OUTCOME' AND answer_by <= sqlc.arg(near)::timestamptz
  AND (due_told = 0 OR (due_told < 2 AND answer_by <= sqlc.arg(now)::timestamptz))
ORDER BY answer_by, id LIMIT @n
FOR UPDATE SKIP LOCKED;

-- name: SetInboundTold :exec
UPDATE inbound_file SET due_told = @told WHERE id = ANY(@ids::uuid[]);

-- name: ListInboundDeadlines :many
SELECT * FROM inbound_file
WHERE state = 'AWAITING_OUTCOME' AND (@tenant_id::text = '' OR tenant_id = @tenant_id)
  AND answer_by < sqlc.arg(before)::timestamptz
  AND (answer_by, id) > (sqlc.arg(after_at)::timestamptz, sqlc.arg(after_id)::uuid)
ORDER BY answer_by, id LIMIT @n;
