-- name: InsertEndpoint :exec
INSERT INTO webhook_endpoint (tenant_id, id, url, event_types, disabled, secret, create_time, update_time)
VALUES (@tenant_id, @id, @url, @event_types, @disabled, @secret, @create_time, @create_time);

-- name: GetEndpoint :one
SELECT * FROM webhook_endpoint WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockEndpoint :one
SELECT * FROM webhook_endpoint WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: CountEndpoints :one
SELECT count(*) FROM webhook_endpoint WHERE tenant_id = @tenant_id;

-- name: ListEndpoints :many
SELECT * FROM webhook_endpoint WHERE tenant_id = @tenant_id AND (sqlc.narg(after)::uuid IS NULL OR id > sqlc.narg(after))
ORDER BY id LIMIT @page_size;

-- name: UpdateEndpoint :exec
UPDATE webhook_endpoint SET url = @url, event_types = @event_types, disabled = @disabled, disable_reason = @disable_reason,
    failing_since = sqlc.narg(failing_since), version = version + 1, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: RotateSecret :exec
UPDATE webhook_endpoint SET secret = @secret, previous_secret = @previous_secret, previous_until = @previous_until,
    version = version + 1, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id;

-- name: DeleteEndpoint :execrows
DELETE FROM webhook_endpoint WHERE tenant_id = @tenant_id AND id = @id;

-- name: EndpointAnswered :exec
UPDATE webhook_endpoint SET failing_since = NULL
WHERE tenant_id = @tenant_id AND id = @id AND failing_since IS NOT NULL;

-- name: EndpointFailed :one
UPDATE webhook_endpoint SET failing_since = coalesce(failing_since, @now::timestamptz)
WHERE tenant_id = @tenant_id AND id = @id
RETURNING failing_since, disabled;

-- name: DisableEndpoint :execrows
UPDATE webhook_endpoint SET disabled = true, disable_reason = @reason, version = version + 1, update_time = @update_time
WHERE tenant_id = @tenant_id AND id = @id AND NOT disabled;

-- name: InsertSubscription :exec
INSERT INTO email_subscription (tenant_id, id, address, event_types, language, create_time)
VALUES (@tenant_id, @id, @address, @event_types, @language, @create_time);

-- name: GetSubscription :one
SELECT * FROM email_subscription WHERE tenant_id = @tenant_id AND id = @id;

-- name: CountSubscriptions :one
SELECT count(*) FROM email_subscription WHERE tenant_id = @tenant_id;

-- name: ListSubscriptions :many
SELECT * FROM email_subscription WHERE tenant_id = @tenant_id AND (sqlc.narg(after)::uuid IS NULL OR id > sqlc.narg(after))
ORDER BY id LIMIT @page_size;

-- name: DeleteSubscription :execrows
DELETE FROM email_subscription WHERE tenant_id = @tenant_id AND id = @id;

-- Who in the tenant wants to be told.
-- name: ListTargets :many
SELECT id, 'webhook'::text AS channel, event_types FROM webhook_endpoint w WHERE w.tenant_id = @tenant_id AND NOT disabled
UNION ALL
SELECT id, 'email'::text, event_types FROM email_subscription e WHERE e.tenant_id = @tenant_id;

-- name: TenantsWithTargets :many
SELECT tenant_id FROM webhook_endpoint WHERE tenant_id = ANY(@tenants::text[]) AND NOT disabled
UNION
SELECT tenant_id FROM email_subscription WHERE tenant_id = ANY(@tenants::text[]);

-- A repeat of an event makes no second delivery; only new ones come back, to be promised as jobs.
-- name: InsertDeliveries :many
INSERT INTO delivery (tenant_id, id, channel, target_id, event_id, event_type, event_time, invoice, payload, state, next_attempt_time, create_time)
SELECT @tenant_id::text, unnest(@ids::uuid[]), unnest(@channels::text[]), unnest(@target_ids::uuid[]), unnest(@event_ids::uuid[]),
       unnest(@event_types::text[]), unnest(@event_times::timestamptz[]), unnest(@invoices::text[]), unnest(@payloads::bytea[]),
       @state::smallint, @create_time::timestamptz, @create_time::timestamptz
ON CONFLICT (tenant_id, target_id, event_id) DO NOTHING
RETURNING id;

-- name: GetDelivery :one
SELECT * FROM delivery WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockDelivery :one
SELECT * FROM delivery WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: ListDeliveries :many
SELECT * FROM delivery
WHERE tenant_id = @tenant_id
  AND (sqlc.narg(before_id)::uuid IS NULL OR id < sqlc.narg(before_id))
  AND (sqlc.narg(invoice)::text IS NULL OR invoice = sqlc.narg(invoice))
  AND (sqlc.narg(target_id)::uuid IS NULL OR target_id = sqlc.narg(target_id))
  AND (sqlc.narg(state)::smallint IS NULL OR state = sqlc.narg(state))
ORDER BY id DESC LIMIT @page_size;

-- name: RecordAttempt :exec
UPDATE delivery SET state = @state, tries = @tries, attempts = @attempts, next_attempt_time = sqlc.narg(next_attempt_time)
WHERE tenant_id = @tenant_id AND id = @id;

-- name: ForgetDeliveries :execrows
DELETE FROM delivery WHERE create_time < @before::timestamptz AND state <> @pending::smallint;

-- name: InsertParticipantDelivery :execrows
INSERT INTO delivery (tenant_id, id, channel, target_id, event_id, event_type, event_time, invoice, payload, state, next_attempt_time, create_time, address, language)
VALUES (@tenant_id, @id, 'participant', @target_id, @event_id, @event_type, @event_time, @subject, @payload, @state, @create_time::timestamptz, @create_time::timestamptz, @address, @language)
ON CONFLICT (tenant_id, target_id, event_id) DO NOTHING;

-- name: InsertMailboxDelivery :execrows
INSERT INTO delivery (tenant_id, id, channel, target_id, event_id, event_type, event_time, invoice, payload, state, next_attempt_time, create_time, address, language, content_uri)
VALUES (@tenant_id, @id, @channel, @target_id, @event_id, @event_type, @event_time, @subject, @payload, @state, @create_time::timestamptz, @create_time::timestamptz, @address, @language, @content_uri)
ON CONFLICT (tenant_id, target_id, event_id) DO NOTHING;

-- What is left of what was told about documents that were destroyed: of which type, when, to whom it went, and by which disposal.
-- name: BuryDeliveries :execrows
UPDATE delivery SET destroyed_by = @destroyed_by, payload = @payload, address = '', content_uri = '', next_attempt_time = NULL,
    state = CASE WHEN state = @pending::smallint THEN @failed::smallint ELSE state END,
    attempts = coalesce((SELECT jsonb_agg(a - 'error') FROM jsonb_array_elements(attempts) a), '[]')
WHERE tenant_id = @tenant_id AND invoice = ANY(@subjects::text[]) AND destroyed_by = '';

-- name: NoticesOf :many
-- Notices of mail that came into mailboxes; each may name several messages.
SELECT id, payload FROM delivery WHERE tenant_id = @tenant_id AND invoice = ANY(@mailboxes::text[]) AND channel = 'notice' FOR UPDATE;

-- name: SetPayload :exec
UPDATE delivery SET payload = @payload WHERE tenant_id = @tenant_id AND id = @id;

-- name: NeedsOf :many
-- Mail that is still to be sent on.
SELECT content_uri AS uri, count(*) AS others FROM delivery
WHERE tenant_id = @tenant_id AND content_uri <> '' AND content_uri = ANY(@uris::text[]) AND state = @pending::smallint AND destroyed_by = ''
GROUP BY content_uri;
