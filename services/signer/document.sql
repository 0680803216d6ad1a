-- Documents signed by mandate, and the counting of time-stamps. What must hold at the moment of use is
-- in the one statement that counts the use.

-- name: InsertMandate :execrows
INSERT INTO mandate (id, tenant_id, credential_id, description, forms, max_documents, max_per_day, valid_from, valid_until, created_at, follows_successor)
SELECT @id, c.tenant_id, c.id, @description, @forms::text[], @max_documents, @max_per_day, @valid_from, @valid_until, @at, @follows_successor
FROM credential c WHERE c.id = @credential_id AND c.kind IN ('AUTOMATIC', 'SEAL') AND c.state <> 'REVOKED';

-- name: GetMandate :one
SELECT id, tenant_id, credential_id, description, forms, max_documents, max_per_day, valid_from, valid_until, used, day, used_today, created_at, revoked_at, follows_successor
FROM mandate WHERE id = @id AND credential_id = @credential_id;

-- name: ListMandates :many
SELECT id, tenant_id, credential_id, description, forms, max_documents, max_per_day, valid_from, valid_until, used, day, used_today, created_at, revoked_at, follows_successor
FROM mandate WHERE credential_id = @credential_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: RevokeMandate :execrows
UPDATE mandate SET revoked_at = @at WHERE id = @id AND revoked_at IS NULL;

-- name: UseMandate :execrows
-- Counts the documents of one request and writes down that they are to be signed. Requests at the same
-- time wait for each other on the mandate's row; a request that comes twice breaks on its request_id
-- and is not counted. Who signs has the place of the mandate's credential: it is that one, or in the end of those that took it
-- one after the other, where the mandate follows.
WITH RECURSIVE place AS (
    SELECT @credential_id::uuid AS id, 0 AS n
    UNION ALL
    SELECT x.successor_id, place.n + 1 FROM place JOIN credential_successor x ON x.credential_id = place.id WHERE x.effective_from <= @at AND place.n < 100
), used AS (
    UPDATE mandate m SET used = m.used + (@documents::integer), day = @today,
           used_today = CASE WHEN m.day = @today THEN m.used_today ELSE 0 END + (@documents::integer)
    WHERE m.id = @mandate_id AND m.credential_id = @credential_id AND m.revoked_at IS NULL AND m.valid_from <= @at AND m.valid_until > @at
      AND @form::text = ANY (m.forms)
      AND m.used + (@documents::integer) <= m.max_documents
      AND CASE WHEN m.day = @today THEN m.used_today ELSE 0 END + (@documents::integer) <= m.max_per_day
      AND (m.follows_successor OR m.credential_id = @signer_id)
      AND (SELECT place.id FROM place ORDER BY place.n DESC LIMIT 1) = @signer_id
      AND EXISTS (SELECT 1 FROM credential c WHERE c.id = @signer_id AND c.state = 'ACTIVE' AND c.not_before <= @at AND c.not_after > @at)
    RETURNING m.id, m.tenant_id
)
INSERT INTO document_signing (id, tenant_id, mandate_id, credential_id, request_id, output, hashes, state, created_at)
SELECT @id, used.tenant_id, used.id, @signer_id, @request_id, @output, @hashes::bytea[], 'SIGNING', @at FROM used;

-- name: GetDocumentSigning :one
SELECT id, tenant_id, mandate_id, credential_id, request_id, output, hashes, state, signed_sha256, signed_sizes, signing_time, created_at, signed_at
FROM document_signing WHERE tenant_id = @tenant_id AND request_id = @request_id;

-- name: RecordDocumentSigning :execrows
-- All the signatures of a request or none, only by a credential that is still active, under a mandate that still holds,
-- and only for as long as a request goes on.
UPDATE document_signing d SET state = 'SIGNED', signed_sha256 = @signed_sha256::bytea[], signed_sizes = @signed_sizes::bigint[],
       signing_time = @signing_time, signed_at = @at
WHERE d.id = @id AND d.state = 'SIGNING' AND d.created_at > @begun_after
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = d.credential_id AND c.state = 'ACTIVE')
  AND EXISTS (SELECT 1 FROM mandate m WHERE m.id = d.mandate_id AND m.revoked_at IS NULL AND m.valid_from <= @now::timestamptz AND m.valid_until > @now::timestamptz);

-- name: TakeStamps :execrows
-- Counts time-stamps before they are asked for, as far as the tenant's quota goes.
INSERT INTO stamp_use (tenant_id, month, used)
SELECT @tenant_id, @month, (@stamps::integer)
WHERE (@stamps::integer) <= coalesce((SELECT q.per_month FROM stamp_quota q WHERE q.tenant_id = @tenant_id), (@standard::integer))
ON CONFLICT (tenant_id, month) DO UPDATE SET used = stamp_use.used + excluded.used
WHERE stamp_use.used + excluded.used <= coalesce((SELECT q.per_month FROM stamp_quota q WHERE q.tenant_id = @tenant_id), (@standard::integer));

-- name: GiveStampsBack :exec
UPDATE stamp_use SET used = greatest(used - (@stamps::integer), 0) WHERE tenant_id = @tenant_id AND month = @month;

-- name: GetStampUse :one
SELECT coalesce((SELECT q.per_month FROM stamp_quota q WHERE q.tenant_id = @tenant_id), (@standard::integer))::integer AS per_month,
       coalesce((SELECT u.used FROM stamp_use u WHERE u.tenant_id = @tenant_id AND u.month = @month), 0)::integer AS used;

-- name: SetStampQuota :exec
INSERT INTO stamp_quota (tenant_id, per_month) VALUES (@tenant_id, @per_month)
ON CONFLICT (tenant_id) DO UPDATE SET per_month = excluded.per_month;
