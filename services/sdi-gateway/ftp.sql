-- name: MovableTransmissions :many
-- Those of a channel of which surely nothing has reached SdI: no call begun, in no support.
SELECT t.id, t.tenant_id, t.invoice, t.traceparent FROM transmission t
WHERE t.channel = @channel AND t.facts = 0 AND t.attempts = 0 AND t.attempt_at IS NULL AND t.support_id IS NULL AND t.mailing_id IS NULL
  AND t.state = 'RESERVED' AND t.held_by IS NULL AND t.id > @after
ORDER BY t.id LIMIT @n FOR UPDATE SKIP LOCKED;

-- name: SetChannel :exec
UPDATE transmission SET channel = @channel, held = '', held_by = NULL, next_at = NULL, updated_at = @now WHERE id = ANY(@ids::uuid[]);

-- name: WaitingForSupport :one
-- What a support could be made of.
SELECT count(*)::bigint AS files, coalesce(sum(split_part(file_uri, 'size=', 2)::bigint), 0)::bigint AS bytes,
       coalesce(min(created_at), now())::timestamptz AS oldest
FROM transmission WHERE channel = 'SDIFTP' AND support_id IS NULL AND facts = 0 AND state = 'RESERVED';

-- name: PickForSupport :many
SELECT id, tenant_id, invoice, file_uri, created_at FROM transmission
WHERE channel = 'SDIFTP' AND support_id IS NULL AND facts = 0 AND state = 'RESERVED'
  AND (created_at, id) > (sqlc.arg(after_time)::timestamptz, sqlc.arg(after_id)::uuid)
ORDER BY created_at, id
LIMIT @n
FOR UPDATE SKIP LOCKED;

-- name: TakeSupportNumber :one
INSERT INTO support_number AS s (node, minute, next) VALUES (@node, @minute, sqlc.arg(first)::int + 1)
ON CONFLICT (node, minute) DO UPDATE SET next = s.next + 1
RETURNING (next - 1)::int;

-- name: InsertSupport :exec
INSERT INTO support (id, node, kind, name, state, documents, created_at)
VALUES (@id, @node, 'FI', @name, 'GATHERED', @documents, @now);

-- name: InsertSupportFiles :exec
INSERT INTO support_file (support_id, transmission_id, tenant_id)
SELECT @support_id, unnest(@transmission_ids::uuid[]), unnest(@tenant_ids::text[]);

-- name: BindToSupport :exec
UPDATE transmission SET support_id = @support_id, updated_at = @now WHERE id = ANY(@ids::uuid[]);

-- name: SupportFiles :many
SELECT t.id, t.tenant_id, t.invoice, t.file_name, t.file_uri, t.traceparent
FROM support_file f JOIN transmission t ON t.id = f.transmission_id
WHERE f.support_id = @support_id
ORDER BY t.file_name;

-- name: LockSupport :one
SELECT id, node, kind, name, state, file_uri, sha256, size, documents, created_at, opened_at, outcome
FROM support WHERE id = @id FOR UPDATE;

-- name: FindSupport :one
SELECT id, state FROM support WHERE kind = 'FI' AND name = @name FOR UPDATE;

-- name: ShowSupport :execrows
UPDATE support SET state = 'SHOWN', file_uri = @file_uri, sha256 = @sha256, size = @size, documents = @documents, shown_at = @now
WHERE id = @id AND state = 'GATHERED';

-- name: CountAttempts :exec
-- Shown to SdI it may be taken at any moment: from here on the attempt counts, as one before a call does.
UPDATE transmission SET attempts = attempts + 1, attempt_at = @now, updated_at = @now
WHERE support_id = @support_id AND facts = 0;

-- name: DropFromSupport :exec
-- The file cannot be had: it leaves the support and is not gathered again by itself.
UPDATE transmission SET last_error = @last_error, updated_at = @now WHERE id = @id;

-- name: DeleteSupportFile :exec
DELETE FROM support_file WHERE support_id = @support_id AND transmission_id = @transmission_id;

-- name: FreeFromSupport :execrows
-- The support is known to have left nothing at SdI.
UPDATE transmission SET support_id = NULL, attempts = greatest(attempts - 1, 0), attempt_at = NULL, last_error = @last_error, updated_at = @now
WHERE support_id = @support_id AND facts = 0;

-- name: SettleSupport :exec
UPDATE support SET state = @state, outcome = @outcome, problem = @problem, settled_at = @now WHERE id = @id;

-- name: WithdrawSupports :many
-- Shown and never opened. An open that is under way holds the row, and wins.
UPDATE support SET state = 'WITHDRAWN', settled_at = @now, problem = @problem
WHERE id IN (SELECT s.id FROM support s WHERE s.kind = 'FI' AND s.state = 'SHOWN' AND s.opened_at IS NULL FOR UPDATE SKIP LOCKED)
  AND opened_at IS NULL AND state = 'SHOWN'
RETURNING id, name;

-- name: OpenSupport :one
-- Before the first byte: from here on SdI may have it.
UPDATE support SET opened_at = coalesce(opened_at, @now) WHERE kind = 'FI' AND name = @name AND state = 'SHOWN'
RETURNING file_uri;

-- name: TakeSupport :one
-- SdI removes what it has. A repeat of the removal, and one after the outcome, are well.
UPDATE support SET taken_at = coalesce(taken_at, @now),
    state = CASE WHEN state = 'SHOWN' THEN 'TAKEN' ELSE state END,
    problem = CASE WHEN state = 'SHOWN' AND opened_at IS NULL THEN 'SDIFTP_NOT_READ: removed without having been opened' ELSE problem END
WHERE kind = 'FI' AND name = @name AND state IN ('SHOWN', 'TAKEN', 'ACCEPTED', 'REFUSED')
RETURNING state;

-- name: ShownSupports :many
SELECT name, size, shown_at FROM support WHERE kind = 'FI' AND state = 'SHOWN' ORDER BY name;

-- name: ArrivedFiles :many
SELECT name, size, created_at FROM support WHERE kind <> 'FI' AND state IN ('ARRIVING', 'RECEIVED') ORDER BY name;

-- name: SaveArriving :exec
INSERT INTO support (id, node, kind, name, state, file_uri, sha256, size, created_at)
VALUES (@id, @node, @kind, @name, 'ARRIVING', @file_uri, @sha256, @size, @now)
ON CONFLICT (name) WHERE state = 'ARRIVING' DO UPDATE
SET file_uri = excluded.file_uri, sha256 = excluded.sha256, size = excluded.size, created_at = excluded.created_at;

-- name: TakeArriving :one
DELETE FROM support WHERE name = @name AND state = 'ARRIVING'
RETURNING id, node, kind, file_uri, sha256, size, created_at;

-- name: SaveReceived :one
INSERT INTO support (id, node, kind, name, state, file_uri, sha256, size, created_at)
VALUES (@id, @node, @kind, @name, 'RECEIVED', @file_uri, @sha256, @size, @now)
ON CONFLICT (name, sha256) WHERE kind <> 'FI' AND state <> 'ARRIVING' DO UPDATE SET duplicates = support.duplicates + 1
RETURNING id, (duplicates = 0)::bool AS first;

-- name: StatReceived :one
SELECT size, created_at FROM support WHERE kind <> 'FI' AND name = @name ORDER BY created_at DESC LIMIT 1;

-- name: NoteContact :exec
INSERT INTO support_contact (node, at) VALUES (@node, @now)
ON CONFLICT (node) DO UPDATE SET at = greatest(support_contact.at, excluded.at);

-- name: ChannelFacts :one
-- What the health of the SDIFTP channel is judged by.
-- A time that never was is the epoch.
SELECT coalesce((SELECT c.at FROM support_contact c WHERE c.node = @node), 'epoch')::timestamptz AS contact_at,
       coalesce((SELECT min(s.shown_at) FROM support s WHERE s.kind = 'FI' AND s.state = 'SHOWN'), 'epoch')::timestamptz AS shown_at,
       coalesce((SELECT max(s.settled_at) FROM support s WHERE s.kind = 'FI' AND s.state = 'WITHDRAWN'), 'epoch')::timestamptz AS withdrawn_at,
       coalesce((SELECT max(s.settled_at) FROM support s WHERE s.kind = 'FI' AND s.state = 'REFUSED'), 'epoch')::timestamptz AS refused_at,
       coalesce((SELECT max(s.settled_at) FROM support s WHERE s.kind = 'FI' AND s.state = 'ACCEPTED'), 'epoch')::timestamptz AS accepted_at;

-- name: SettledFiles :many
-- Of an accepted support, those that nobody has written down yet.
SELECT t.id, t.tenant_id, t.invoice, t.traceparent
FROM support_file f JOIN transmission t ON t.id = f.transmission_id
WHERE f.support_id = @support_id AND (t.facts & 1) = 0
ORDER BY t.id LIMIT @n;

-- name: CountWaiting :many
SELECT channel, count(*)::bigint AS n FROM transmission WHERE state = 'RESERVED' AND facts = 0 AND attempts = 0 GROUP BY channel;

-- name: SaveDocuments :exec
INSERT INTO support_document (id, support_id, type, file_name, file_key, sha256, raw, received_at, problem)
SELECT unnest(@ids::uuid[]), @support_id, unnest(@types::text[]), unnest(@file_names::text[]), unnest(@file_keys::text[]),
       unnest(@hashes::bytea[]), unnest(@raws::bytea[]), @received_at, unnest(@problems::text[])
ON CONFLICT (support_id, file_name, sha256) DO NOTHING;

-- name: SaveDifferences :exec
INSERT INTO support_difference (id, support_id, name, problem, found_at)
SELECT unnest(@ids::uuid[]), sqlc.arg(support_id)::uuid, unnest(@names::text[]), unnest(@problems::text[]), @found_at
ON CONFLICT (name, problem) DO NOTHING;

-- name: SupportBooks :many
-- Our own books over some days: supports sent (FI) that SdI can have, or received (FO).
SELECT name, state, documents, coalesce(taken_at, settled_at, created_at)::timestamptz AS at
FROM support
WHERE kind = @kind AND state IN ('TAKEN', 'ACCEPTED', 'REFUSED', 'RECEIVED', 'READ', 'QUARANTINED', 'SHOWN', 'WITHDRAWN', 'GATHERED')
  AND (name = ANY(@names::text[]) OR coalesce(taken_at, settled_at, created_at) >= sqlc.arg(since)::timestamptz);

-- name: ListSupports :many
SELECT id, kind, name, state, size, documents, created_at, shown_at, opened_at, taken_at, settled_at, outcome, problem, duplicates
FROM support
WHERE (@kind::text = '' OR kind = @kind) AND (@state::text = '' OR state = @state) AND id < @before
ORDER BY id DESC LIMIT @n;

-- name: ListSupportDifferences :many
SELECT d.id, d.name, d.problem, d.found_at, coalesce(s.name, d.source)::text AS source
FROM support_difference d LEFT JOIN support s ON s.id = d.support_id
WHERE d.id < @before ORDER BY d.id DESC LIMIT @n;

-- name: FinishReading :exec
UPDATE support SET state = @state, outcome = @outcome, problem = @problem, documents = @documents, settled_at = @now WHERE id = @id;
