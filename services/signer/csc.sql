-- What the CSC API asks beside challenges and authorizations, which are those of every other way.

-- name: ListPersonal :many
-- Credentials of persons that have a certificate, with their holder, the device that is active, and whether another has their place.
SELECT sqlc.embed(c), coalesce(p.holder, '')::text AS holder, coalesce(d.type, '')::text AS device_type,
       EXISTS (SELECT 1 FROM credential_successor x WHERE x.credential_id = c.id AND x.effective_from <= @at) AS succeeded
FROM credential c
LEFT JOIN credential_pin p ON p.credential_id = c.id
LEFT JOIN otp_device d ON d.credential_id = c.id AND d.state = 'ACTIVE'
WHERE c.provider = '' AND c.tenant_id = @tenant_id AND c.kind = 'PERSON' AND cardinality(c.chain) > 0
  AND (sqlc.narg(id)::uuid IS NULL OR c.id = sqlc.narg(id)::uuid) AND (@holder::text = '' OR p.holder = @holder::text)
ORDER BY c.created_at DESC, c.id DESC LIMIT @page;

-- name: InsertTransaction :exec
INSERT INTO signing_transaction (challenge_id, tenant_id, signatures_left)
SELECT ch.id, ch.tenant_id, @signatures_left FROM challenge ch WHERE ch.id = @challenge_id;

-- name: FindOpenChallenge :one
-- The challenge for the same digests that the caller opened before, and that still waits.
SELECT ch.id
FROM challenge ch JOIN signing_transaction t ON t.challenge_id = ch.id
WHERE ch.credential_id = @credential_id AND ch.caller = @caller AND ch.digest = @digest AND ch.state = 'OPEN'
  AND ch.expires_at > @at AND ch.attempts < @allowed AND t.signatures_left = @signatures_left
ORDER BY ch.id DESC LIMIT 1;

-- name: MessageBinding :one
-- What the password was for that was sent last.
SELECT binding FROM otp_message WHERE device_id = @device_id AND expires_at > @at;

-- name: ExtendTransaction :execrows
-- The one step from an authorization to the next of its transaction, within the signatures that the signer was told of
-- beside the digests. Those of the authorization itself are for its digests and nothing else: used or not, they never go
-- over. The rows are held first: whoever comes second sees it done.
WITH held AS MATERIALIZED (
    SELECT ch.id, ch.tenant_id, ch.credential_id, ch.caller, ch.device_id, ch.authorized_at,
           t.signatures_left - cardinality(@hashes::bytea[]) AS signatures_left
    FROM challenge ch JOIN signing_transaction t ON t.challenge_id = ch.id
    WHERE ch.id = @challenge_id AND ch.credential_id = @credential_id AND ch.caller = @caller
      AND ch.authorization_sha256 = @authorization_sha256 AND t.extended_by IS NULL AND ch.authorized_at > @authorized_after
      AND ((ch.state = 'AUTHORIZED' AND ch.expires_at > @at) OR ch.state IN ('SIGNING', 'SIGNED'))
      AND EXISTS (SELECT 1 FROM credential c WHERE c.id = ch.credential_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE'
                    AND c.not_before <= @at AND c.not_after > @at)
    FOR UPDATE OF ch, t
), next AS (
    INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, device_id, authorization_sha256,
                           created_at, authorized_at)
    SELECT @id, h.tenant_id, h.credential_id, h.caller, @hashes::bytea[], @digest, 'AUTHORIZED', @expires_at, h.device_id,
           @next_authorization_sha256, @at, h.authorized_at
    FROM held h WHERE h.signatures_left >= 0
    RETURNING id
), taken AS (
    UPDATE signing_transaction t SET extended_by = next.id FROM held h, next WHERE t.challenge_id = h.id
)
INSERT INTO signing_transaction (challenge_id, tenant_id, signatures_left)
SELECT next.id, h.tenant_id, h.signatures_left FROM held h, next;

-- name: PromiseNumber :exec
-- The number of a question that the app is asked when PIN and digests have come. A client has one at a time for a credential.
INSERT INTO csc_approval (id, tenant_id, credential_id, caller, number_mac, expires_at)
SELECT @id, c.tenant_id, c.id, @caller, @number_mac, @expires_at FROM credential c WHERE c.id = @credential_id
ON CONFLICT (credential_id, caller) WHERE handle_sha256 IS NULL
DO UPDATE SET id = excluded.id, number_mac = excluded.number_mac, expires_at = excluded.expires_at;

-- name: DropApprovals :exec
-- Numbers that nobody used and answers that nobody fetched in time.
DELETE FROM csc_approval WHERE expires_at <= @at;

-- name: TakeNumber :one
-- The number that was promised, once.
DELETE FROM csc_approval WHERE credential_id = @credential_id AND caller = @caller AND handle_sha256 IS NULL AND expires_at > @at
RETURNING id, number_mac;

-- name: InsertApproval :exec
INSERT INTO csc_approval (id, tenant_id, credential_id, caller, number_mac, expires_at, challenge_id, handle_sha256, pin_right, pin_version, otp_mac)
SELECT @id, ch.tenant_id, ch.credential_id, ch.caller, @number_mac, @expires_at, ch.id, @handle_sha256, @pin_right::boolean, @pin_version::integer, @otp_mac
FROM challenge ch WHERE ch.id = @challenge_id;

-- name: WaitsForApproval :one
-- Whether a handle is one of the caller's whose app has not answered yet, and still may.
SELECT EXISTS (
    SELECT 1 FROM csc_approval a JOIN push_request p ON p.id = a.id
    WHERE a.handle_sha256 = @handle_sha256 AND a.caller = @caller AND p.state = 'PENDING' AND p.expires_at > @at
);

-- name: TakeApproval :one
-- The one look at what came of a question, after its answer or its time.
DELETE FROM csc_approval a USING push_request p
WHERE a.handle_sha256 = @handle_sha256 AND a.caller = @caller AND p.id = a.id AND NOT (p.state = 'PENDING' AND p.expires_at > @at)
RETURNING a.id, a.credential_id, (SELECT c.company_id FROM credential c WHERE c.id = a.credential_id)::text AS company_id, a.challenge_id, a.pin_right, a.pin_version, a.otp_mac;
