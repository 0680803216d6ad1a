-- Signatures at providers without a person.

-- name: InsertMandatedChallenge :execrows
-- The intent of one request under a mandate, in the transaction that counts its documents.
INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at, holding_id, authorization_sha256,
                       authorized_at, request_id, used_at, output, signing_id)
SELECT @id, d.tenant_id, d.credential_id, @caller, d.hashes, @digest, 'SIGNING', @expires_at, @at, h.id, @nobody, @at, d.request_id, @at, d.output, d.id
FROM document_signing d JOIN credential_holding h ON h.credential_id = d.credential_id
WHERE d.id = @signing_id AND h.id = @holding_id AND h.not_before <= @at AND h.not_after > @at;

-- name: InsertOneChallenge :execrows
-- The intent of one document's signature, once; the next only after one whose outcome was not known and that somebody
-- has looked at. It is of the credential's tenant: a role signs for others too.
INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at, holding_id, authorization_sha256,
                       authorized_at, request_id, used_at, output, signature_id)
SELECT @id, c.tenant_id, c.id, @caller, ARRAY[s.original_sha256], @digest, 'SIGNING', @expires_at, @at, h.id, @nobody, @at, s.id::text, @at, '', s.id
FROM signature s, credential c JOIN credential_holding h ON h.credential_id = c.id
WHERE s.id = @signature_id AND s.state = 'PENDING' AND c.id = @credential_id AND (c.tenant_id = s.tenant_id OR c.kind = 'ROLE') AND c.state = 'ACTIVE'
  AND h.id = @holding_id AND h.not_before <= @at AND h.not_after > @at
  AND NOT EXISTS (SELECT 1 FROM provider_call p JOIN challenge o ON o.id = p.challenge_id WHERE o.signature_id = s.id AND p.state IN ('SENT', 'UNKNOWN'))
ON CONFLICT DO NOTHING;

-- name: ChallengeOfSigning :one
SELECT id, tenant_id, credential_id, caller, hashes, digest, state, attempts, expires_at, device_id, authorization_sha256, request_id,
       signed_sha256, signed_sizes, signing_time, created_at, authorized_at, used_at, signed_at, output, holding_id, signing_id, signature_id
FROM challenge WHERE signing_id = @signing_id;

-- name: ChallengeOfSignature :one
SELECT id, tenant_id, credential_id, caller, hashes, digest, state, attempts, expires_at, device_id, authorization_sha256, request_id,
       signed_sha256, signed_sizes, signing_time, created_at, authorized_at, used_at, signed_at, output, holding_id, signing_id, signature_id
FROM challenge WHERE signature_id = @signature_id ORDER BY id DESC LIMIT 1;

-- name: EndMandatedChallenges :exec
-- With what was signed under them.
UPDATE challenge ch SET state = 'SIGNED', signed_sha256 = d.signed_sha256, signed_sizes = d.signed_sizes, signing_time = d.signing_time, signed_at = @at
FROM document_signing d WHERE d.id = ch.signing_id AND d.id = @signing_id AND d.state = 'SIGNED' AND ch.state = 'SIGNING';

-- name: EndOneChallenges :exec
UPDATE challenge ch SET state = 'SIGNED', signed_sha256 = ARRAY[s.signed_sha256], signed_sizes = ARRAY[s.signed_size], signing_time = s.signing_time, signed_at = @at
FROM signature s WHERE s.id = ch.signature_id AND s.id = ANY(@ids::uuid[]) AND s.state = 'DONE' AND ch.state = 'SIGNING';

-- name: ResumeUnknown :many
-- The invoice whose signature's outcome was not known, once somebody has looked.
UPDATE signature s SET state = 'PENDING', failure_code = '', failure = ''
FROM challenge ch, provider_call p
WHERE p.id = @call_id AND p.state = 'RESOLVED' AND ch.id = p.challenge_id AND s.id = ch.signature_id AND s.state = 'FAILED' AND s.failure_code = 'PROVIDER_OUTCOME_UNKNOWN'
RETURNING s.id;

-- name: QualifiedSignatures :many
SELECT ch.signature_id FROM challenge ch JOIN credential_holding h ON h.id = ch.holding_id
WHERE ch.signature_id = ANY(@ids::uuid[]) AND ch.state = 'SIGNED' AND h.qualified;
