-- Signature requests. Whoever changes one holds its row (LockSignatureRequest): what happens to a request
-- happens one after the other.

-- name: InsertSignatureRequest :exec
INSERT INTO signing_request (id, tenant_id, title, requester, state, step, needs, deadline, remind_seconds, stamped, seal_mandate, head, created_at)
VALUES (@id, @tenant_id, @title, @requester, 'OPEN', 0, @needs::integer[], @deadline, @remind_seconds, @stamped, @seal_mandate, @head, @created_at);

-- name: InsertRequestDocument :exec
INSERT INTO signing_request_document (request_id, position, tenant_id, name, form, original_sha256, original_size)
VALUES (@request_id, @position, @tenant_id, @name, @form, @original_sha256, @original_size);

-- name: InsertRequestParticipant :exec
INSERT INTO signing_request_participant (id, request_id, tenant_id, step, ordinal, role, standing, holder, email, credential, language, require_link)
VALUES (@id, @request_id, @tenant_id, @step, @ordinal, @role, @standing, @holder, @email, @credential, @language, @require_link);

-- name: GetSignatureRequest :one
SELECT * FROM signing_request WHERE id = @id AND tenant_id = @tenant_id;

-- name: LockSignatureRequest :one
SELECT * FROM signing_request WHERE id = @id AND tenant_id = @tenant_id FOR UPDATE;

-- name: RequestDocuments :many
SELECT * FROM signing_request_document WHERE request_id = ANY(@requests::uuid[]) ORDER BY request_id, position;

-- name: RequestParticipants :many
SELECT * FROM signing_request_participant WHERE request_id = ANY(@requests::uuid[]) ORDER BY request_id, ordinal;

-- name: ListSignatureRequests :many
SELECT * FROM signing_request r
WHERE r.tenant_id = @tenant_id AND r.id < @before AND (@state::text = '' OR r.state = @state)
  AND (@person::text = '' OR EXISTS (
        SELECT 1 FROM signing_request_participant p
        WHERE p.request_id = r.id AND p.tenant_id = r.tenant_id AND p.standing <> 'REPLACED'
          AND (p.holder = @person OR p.email = @person
               OR (p.delegate_until > @now::timestamptz AND (p.delegate_holder = @person OR p.delegate_email = @person)))
          AND (NOT @waiting::boolean OR p.standing = 'ASKED')))
  AND (NOT @waiting::boolean OR (r.state = 'OPEN' AND r.deadline > @now::timestamptz))
ORDER BY r.id DESC LIMIT @page;

-- name: SaveSignatureRequest :exec
UPDATE signing_request SET state = @state, step = @step, sequence = @sequence, head = @head, hand = sqlc.narg(hand), hand_request = @hand_request,
    hand_until = sqlc.narg(hand_until), closed_at = sqlc.narg(closed_at), close_reason = @close_reason, reminded_at = sqlc.narg(reminded_at)
WHERE id = @id;

-- name: SaveRequestParticipant :exec
UPDATE signing_request_participant SET standing = @standing, delegate_holder = @delegate_holder, delegate_email = @delegate_email,
    delegate_may_approve = @delegate_may_approve, delegate_until = sqlc.narg(delegate_until), seen = @seen, seen_by_delegate = @seen_by_delegate,
    viewed_at = sqlc.narg(viewed_at), acted_at = sqlc.narg(acted_at), reason = @reason, challenge_id = sqlc.narg(challenge_id)
WHERE id = @id;

-- name: SaveRequestDocument :exec
UPDATE signing_request_document SET signed_sha256 = @signed_sha256, signed_size = @signed_size
WHERE request_id = @request_id AND position = @position;

-- name: InsertRequestEvent :exec
INSERT INTO signing_request_event (request_id, sequence, tenant_id, body, sha256) VALUES (@request_id, @sequence, @tenant_id, @body, @sha256);

-- name: RequestEvents :many
SELECT sequence, body, sha256 FROM signing_request_event
WHERE request_id = @request_id AND sequence > @after ORDER BY sequence LIMIT @page;

-- name: NotifyRequest :exec
SELECT pg_notify(@channel::text, @request::text);

-- name: PutRequestLink :execrows
-- The last code that was sent is the one that holds; another within a minute is refused.
INSERT INTO signing_request_link (participant_id, for_delegate, tenant_id, sha256, sent_at, expires_at)
VALUES (@participant_id, @for_delegate, @tenant_id, @sha256, @at, @expires_at)
ON CONFLICT (participant_id, for_delegate) DO UPDATE SET sha256 = excluded.sha256, sent_at = excluded.sent_at, expires_at = excluded.expires_at, used_at = NULL
WHERE signing_request_link.sent_at <= @sent_before;

-- name: DropRequestLink :exec
-- One that could not be sent.
DELETE FROM signing_request_link WHERE participant_id = @participant_id AND for_delegate = @for_delegate AND sha256 = @sha256;

-- name: UseRequestLink :execrows
UPDATE signing_request_link SET used_at = @at
WHERE participant_id = @participant_id AND for_delegate = @for_delegate AND sha256 = @sha256 AND used_at IS NULL AND expires_at > @at;

-- name: SaveBundle :execrows
UPDATE signing_request SET bundle_sha256 = @bundle_sha256, bundle_size = @bundle_size, bundled_at = @at, bundle_note = @note,
    sequence = @sequence, head = @head
WHERE id = @id AND bundled_at IS NULL;

-- name: SaveHand :exec
UPDATE signing_request SET hand = sqlc.narg(hand), hand_request = @hand_request, hand_until = sqlc.narg(hand_until) WHERE id = @id;

-- name: LetGo :exec
UPDATE signing_request SET hand = NULL, hand_request = '', hand_until = NULL WHERE id = @id AND hand_request = @hand_request;

-- name: SaveHead :exec
UPDATE signing_request SET sequence = @sequence, head = @head WHERE id = @id;
