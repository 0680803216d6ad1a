-- name: InsertCredential :execrows
INSERT INTO credential (id, tenant_id, company_id, kind, key_type, common_name, state, key_name, created_at, updated_at)
VALUES (@id, @tenant_id, @company_id, @kind, @key_type, @common_name, 'PENDING_CERTIFICATE', @key_name, @at, @at)
ON CONFLICT (id) DO NOTHING;

-- name: GetCredential :one
SELECT id, tenant_id, company_id, kind, key_type, common_name, state, key_name, key_version, public_key, csr_pem, chain,
       not_before, not_after, version, created_at, updated_at, provider, qualified
FROM credential WHERE id = @id;

-- name: LockCredential :one
SELECT id, tenant_id, company_id, kind, key_type, common_name, state, key_name, key_version, public_key, csr_pem, chain,
       not_before, not_after, version, created_at, updated_at, provider, qualified
FROM credential WHERE id = @id FOR UPDATE;

-- name: ListCredentials :many
SELECT id, tenant_id, company_id, kind, key_type, common_name, state, key_name, key_version, public_key, csr_pem, chain,
       not_before, not_after, version, created_at, updated_at, provider, qualified
FROM credential
WHERE tenant_id = @tenant_id AND (@company_id::text = '' OR company_id = @company_id) AND id < @before
ORDER BY id DESC LIMIT @page;

-- name: SetKey :execrows
-- The key exists in Vault: its version, public half and request are kept. The first to say so wins.
UPDATE credential SET key_version = @key_version, public_key = @public_key, csr_pem = @csr_pem,
       version = version + 1, updated_at = @at
WHERE id = @id AND key_version = 0;

-- name: SetCertificate :exec
-- Of a credential that is suspended the certificate changes, and it stays suspended.
UPDATE credential SET state = CASE WHEN state = 'SUSPENDED' THEN state ELSE 'ACTIVE' END, chain = @chain, not_before = @not_before, not_after = @not_after,
       key_version = @key_version, public_key = @public_key, csr_pem = @csr_pem, version = version + 1, updated_at = @at
WHERE id = @id;

-- name: RevokeCredential :exec
UPDATE credential SET state = 'REVOKED', version = version + 1, updated_at = @at WHERE id = @id;

-- name: ChooseCredentials :many
-- By rule, not by order of a list: valid now, for automatic signatures, the latest certificate. One that takes another's
-- place does so from its date on, or when there is no other any more.
SELECT DISTINCT ON (c.company_id) c.id, c.company_id, c.version
FROM credential c
WHERE c.tenant_id = @tenant_id AND c.company_id = ANY(@companies::text[]) AND c.kind = 'AUTOMATIC' AND c.state = 'ACTIVE'
  AND c.not_before <= @now AND c.not_after > @now
  AND NOT EXISTS (SELECT 1 FROM credential_successor x WHERE x.credential_id = c.id AND x.effective_from <= @now)
  AND NOT EXISTS (SELECT 1 FROM credential_successor x JOIN credential p ON p.id = x.credential_id
                  WHERE x.successor_id = c.id AND x.effective_from > @now AND p.state = 'ACTIVE' AND p.not_before <= @now AND p.not_after > @now)
ORDER BY c.company_id, c.not_before DESC, c.id DESC;

-- name: ChooseRole :one
-- The credential of a company that holds a role, by the same rule, and with none of the certificates that may not sign.
SELECT c.id, c.tenant_id, c.company_id, c.kind, c.key_type, c.common_name, c.state, c.key_name, c.key_version, c.public_key, c.csr_pem, c.chain,
       c.not_before, c.not_after, c.version, c.created_at, c.updated_at, c.provider, c.qualified
FROM credential c
WHERE c.tenant_id = @tenant_id AND c.company_id = @company_id AND c.kind = 'ROLE' AND c.state = 'ACTIVE'
  AND c.not_before <= @now AND c.not_after > @now
  AND NOT EXISTS (SELECT 1 FROM credential_successor x WHERE x.credential_id = c.id AND x.effective_from <= @now)
  AND NOT EXISTS (SELECT 1 FROM credential_successor x JOIN credential p ON p.id = x.credential_id
                  WHERE x.successor_id = c.id AND x.effective_from > @now AND p.state = 'ACTIVE' AND p.not_before <= @now AND p.not_after > @now)
  AND NOT (sha256(c.chain[1]) = ANY(@refused::bytea[]))
ORDER BY c.not_before DESC, c.id DESC LIMIT 1;

-- name: InsertIntents :many
INSERT INTO signature (id, tenant_id, company_id, purpose, subject, format, original_sha256, original_size, original_type,
                       correlation, causation, traceparent, created_at)
SELECT unnest(@ids::uuid[]), @tenant_id, unnest(@companies::text[]), 'INVOICE', unnest(@subjects::text[]), unnest(@formats::text[]),
       unnest(@hashes::bytea[]), unnest(@sizes::bigint[]), unnest(@media_types::text[]),
       unnest(@correlations::text[]), unnest(@causations::text[]), unnest(@traces::text[]), @at
ON CONFLICT DO NOTHING
RETURNING id;

-- name: InsertBlobIntent :execrows
INSERT INTO signature (id, tenant_id, company_id, purpose, subject, original_sha256, original_size, original_type,
                       request_id, credential, correlation, causation, traceparent, created_at)
VALUES (@id, @tenant_id, '', 'BLOB', @subject, @original_sha256, @original_size, @original_type,
        @request_id::text, @credential, @correlation, @causation, @traceparent, @at)
ON CONFLICT DO NOTHING;

-- name: TakePending :many
-- With the latest file that a run before this one made for it and did not live to record.
SELECT DISTINCT ON (s.id) sqlc.embed(s), m.sha256 AS made_sha256, m.size AS made_size, m.credential_id AS made_by, m.signing_time AS made_time
FROM signature s LEFT JOIN made_file m ON m.tenant_id = s.tenant_id AND m.original_sha256 = s.original_sha256 AND m.signature_id = s.id
WHERE s.id = ANY(@ids::uuid[]) AND s.state = 'PENDING' ORDER BY s.id, m.made_at DESC NULLS LAST;

-- name: RecordSigned :many
-- Only what is still pending, and only by credentials that are still active: the row that loses a
-- race, or whose credential was revoked a moment ago, stays as it was. A file that a row names now need not be noted.
WITH done AS (
    UPDATE signature s SET state = 'DONE', credential = d.name, signed_sha256 = d.sha256, signed_size = d.size,
           signing_time = d.signed_at, done_at = @at, failure_code = '', failure = ''
    FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@credential_ids::uuid[]) AS credential_id, unnest(@names::text[]) AS name,
                 unnest(@hashes::bytea[]) AS sha256, unnest(@sizes::bigint[]) AS size,
                 unnest(@times::timestamptz[]) AS signed_at) AS d
    WHERE s.id = d.id AND s.state = 'PENDING'
      AND EXISTS (SELECT 1 FROM credential c WHERE c.id = d.credential_id AND c.state = 'ACTIVE')
    RETURNING s.id, s.tenant_id, s.signed_sha256
), named AS (
    DELETE FROM made_file m USING done WHERE m.tenant_id = done.tenant_id AND m.sha256 = done.signed_sha256
)
SELECT id FROM done;

-- name: FailPending :many
UPDATE signature s SET state = 'FAILED', failure_code = d.code, failure = d.reason
FROM (SELECT unnest(@ids::uuid[]) AS id, unnest(@codes::text[]) AS code, unnest(@reasons::text[]) AS reason) AS d
WHERE s.id = d.id AND s.state = 'PENDING'
RETURNING s.id;

-- name: ResumeFailed :many
-- What waited for a credential of this company goes on.
UPDATE signature SET state = 'PENDING', failure_code = '', failure = ''
WHERE tenant_id = @tenant_id AND company_id = @company_id AND state = 'FAILED' AND failure_code = ANY(@codes::text[])
RETURNING id;

-- name: GetSignature :one
SELECT id, tenant_id, company_id, purpose, subject, format, original_sha256, original_size, original_type, request_id, credential,
       state, failure_code, failure, signed_sha256, signed_size, signing_time, correlation, causation, traceparent, created_at, done_at
FROM signature WHERE id = @id;

-- name: GetSignatureByRequest :one
SELECT id, tenant_id, company_id, purpose, subject, format, original_sha256, original_size, original_type, request_id, credential,
       state, failure_code, failure, signed_sha256, signed_size, signing_time, correlation, causation, traceparent, created_at, done_at
FROM signature WHERE tenant_id = @tenant_id AND request_id = @request_id::text;

-- name: GetSignatureOf :one
SELECT id, tenant_id, company_id, purpose, subject, format, original_sha256, original_size, original_type, request_id, credential,
       state, failure_code, failure, signed_sha256, signed_size, signing_time, correlation, causation, traceparent, created_at, done_at
FROM signature WHERE tenant_id = @tenant_id AND subject = @subject AND original_sha256 = @original_sha256;

-- name: ListSignatures :many
SELECT id, tenant_id, company_id, purpose, subject, format, original_sha256, original_size, original_type, request_id, credential,
       state, failure_code, failure, signed_sha256, signed_size, signing_time, correlation, causation, traceparent, created_at, done_at
FROM signature
WHERE tenant_id = @tenant_id AND (@subject::text = '' OR subject = @subject) AND id < @before
ORDER BY id DESC LIMIT @page;
