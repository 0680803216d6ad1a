-- Keys at providers. What must happen once is one statement with its whole condition in it.

-- name: InsertHeldCredential :execrows
INSERT INTO credential (id, tenant_id, company_id, kind, key_type, common_name, state, key_name, public_key, chain, not_before, not_after,
                        provider, qualified, created_at, updated_at)
VALUES (@id, @tenant_id, @company_id, @kind, @key_type, @common_name, 'ACTIVE', @key_name, @public_key, @chain::bytea[], @not_before, @not_after,
        @provider, @qualified, @at, @at)
ON CONFLICT (id) DO NOTHING;

-- name: InsertHolding :execrows
INSERT INTO credential_holding (id, tenant_id, credential_id, provider, remote_id, remote_user, key_type, chain, not_before, not_after, scal,
                                multisign, otp_id, otp_kind, qualified, effective_from, created_at, secret)
SELECT @id, c.tenant_id, c.id, @provider, @remote_id, @remote_user, @key_type, @chain::bytea[], @not_before, @not_after, @scal,
       @multisign, @otp_id, @otp_kind, @qualified, @effective_from, @at, @secret
FROM credential c WHERE c.id = @credential_id AND c.provider <> '' AND c.state = 'ACTIVE';

-- name: HoldingAt :one
-- The latest whose date has come.
SELECT id, tenant_id, credential_id, provider, remote_id, remote_user, key_type, chain, not_before, not_after, scal,
       multisign, otp_id, otp_kind, qualified, effective_from, created_at, secret
FROM credential_holding WHERE credential_id = @credential_id AND effective_from <= @at ORDER BY effective_from DESC LIMIT 1;

-- name: GetHolding :one
SELECT id, tenant_id, credential_id, provider, remote_id, remote_user, key_type, chain, not_before, not_after, scal,
       multisign, otp_id, otp_kind, qualified, effective_from, created_at, secret
FROM credential_holding WHERE id = @id;

-- name: ListHoldings :many
SELECT id, tenant_id, credential_id, provider, remote_id, remote_user, key_type, chain, not_before, not_after, scal,
       multisign, otp_id, otp_kind, qualified, effective_from, created_at, secret
FROM credential_holding WHERE credential_id = @credential_id ORDER BY effective_from DESC LIMIT 100;

-- name: AdoptHoldings :many
-- Credentials show the holding whose date has come: their certificate and level are its. one: of one credential alone.
UPDATE credential c SET provider = h.provider, key_type = h.key_type, chain = h.chain, not_before = h.not_before, not_after = h.not_after,
       qualified = h.qualified, version = c.version + 1, updated_at = @at
FROM (SELECT DISTINCT ON (l.credential_id) l.credential_id, l.provider, l.key_type, l.chain, l.not_before, l.not_after, l.qualified
      FROM credential_holding l WHERE l.effective_from <= @at ORDER BY l.credential_id, l.effective_from DESC) AS h
WHERE c.id = h.credential_id AND c.state = 'ACTIVE' AND (sqlc.narg(one)::uuid IS NULL OR c.id = sqlc.narg(one)::uuid)
  AND (c.provider, c.chain) IS DISTINCT FROM (h.provider, h.chain)
RETURNING c.id, c.tenant_id, c.company_id, c.provider;

-- name: InsertHeldChallenge :execrows
INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at, holding_id)
SELECT @id, c.tenant_id, c.id, @caller, @hashes::bytea[], @digest, 'OPEN', @expires_at, @at, h.id
FROM credential c JOIN credential_holding h ON h.credential_id = c.id
WHERE h.id = @holding_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE' AND h.not_before <= @at AND h.not_after > @at
  AND NOT EXISTS (SELECT 1 FROM credential_successor x WHERE x.credential_id = c.id AND x.effective_from <= @at);

-- name: InsertSession :exec
INSERT INTO provider_session (challenge_id, tenant_id, holding_id, signing_time, authorized, otp_id, otp_kind)
SELECT ch.id, ch.tenant_id, ch.holding_id, @signing_time, @authorized::bytea[], @otp_id, @otp_kind FROM challenge ch WHERE ch.id = @challenge_id;

-- name: GetSession :one
SELECT challenge_id, tenant_id, holding_id, signing_time, authorized, sealed, grant_expires_at, otp_sent_at, otp_id, otp_kind FROM provider_session WHERE challenge_id = @challenge_id;

-- name: SealGrant :exec
UPDATE provider_session SET sealed = @sealed, grant_expires_at = @grant_expires_at WHERE challenge_id = @challenge_id;

-- name: ForgetGrant :exec
UPDATE provider_session SET sealed = NULL WHERE challenge_id = @challenge_id;

-- name: ForgetSpentGrants :execrows
-- What nobody can sign with any more is not kept: the provider's session is over, or the challenge has long been.
UPDATE provider_session se SET sealed = NULL FROM challenge ch
WHERE se.sealed IS NOT NULL AND ch.id = se.challenge_id
  AND coalesce(se.grant_expires_at, ch.expires_at + interval '1 hour') < @at::timestamptz;

-- name: AuthorizeHeld :execrows
UPDATE challenge ch SET state = 'AUTHORIZED', authorization_sha256 = @authorization_sha256, authorized_at = @at, expires_at = @expires_at
WHERE ch.id = @id AND ch.state = 'OPEN' AND ch.caller = @caller AND ch.holding_id IS NOT NULL
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = ch.credential_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE');

-- name: IntendCall :execrows
-- The row without which no request leaves. A call in hand, or one whose outcome is not known, is in the way for good.
INSERT INTO provider_call (id, tenant_id, credential_id, challenge_id, provider, step, hashes, state, sent_at, answer_by)
SELECT @id, ch.tenant_id, ch.credential_id, ch.id, h.provider, @step, @hashes, 'SENT', @at, @answer_by
FROM challenge ch JOIN credential_holding h ON h.id = ch.holding_id
WHERE ch.id = @challenge_id AND ch.state = CASE WHEN @step::text = 'SIGN' THEN 'SIGNING' ELSE 'OPEN' END AND ch.caller = @caller
ON CONFLICT (challenge_id) WHERE state IN ('SENT', 'UNKNOWN', 'RESOLVED') DO NOTHING;

-- name: CallInTheWay :one
SELECT id, tenant_id, credential_id, challenge_id, provider, step, hashes, signed, state, code, sent_at, answer_by, ended_at, resolution, note, resolved_at
FROM provider_call WHERE challenge_id = @challenge_id AND state IN ('SENT', 'UNKNOWN', 'RESOLVED');

-- name: EndCall :execrows
UPDATE provider_call SET state = @state, code = @code, signed = @signed, ended_at = @at WHERE id = @id AND state = 'SENT';

-- name: LoseChallenge :exec
UPDATE challenge SET state = 'OUTCOME_UNKNOWN' WHERE id = @id AND state IN ('OPEN', 'SIGNING');

-- name: LoseCalls :many
-- Calls whose time is over without an answer: whoever made them is gone. one: of one challenge alone.
WITH lost AS (
    UPDATE provider_call SET state = 'UNKNOWN', code = 'PROVIDER_NO_ANSWER_RECORDED', ended_at = @at
    WHERE state = 'SENT' AND answer_by < @at AND (sqlc.narg(one)::uuid IS NULL OR challenge_id = sqlc.narg(one)::uuid)
    RETURNING id, tenant_id, challenge_id, provider, step
), challenges AS (
    UPDATE challenge ch SET state = 'OUTCOME_UNKNOWN' FROM lost WHERE ch.id = lost.challenge_id AND ch.state IN ('OPEN', 'SIGNING')
), sessions AS (
    UPDATE provider_session se SET sealed = NULL FROM lost WHERE se.challenge_id = lost.challenge_id
)
SELECT id, tenant_id, challenge_id, provider, step FROM lost;

-- name: KeepSignatures :exec
INSERT INTO provider_signature (challenge_id, tenant_id, hash, signature, made_at)
SELECT ch.id, ch.tenant_id, d.hash, d.signature, @at
FROM challenge ch, (SELECT unnest(@hashes::bytea[]) AS hash, unnest(@signatures::bytea[]) AS signature) AS d
WHERE ch.id = @challenge_id
ON CONFLICT (challenge_id, hash) DO NOTHING;

-- name: KeptSignatures :many
SELECT hash, signature FROM provider_signature WHERE challenge_id = @challenge_id;

-- name: GetCall :one
SELECT p.id, p.tenant_id, p.credential_id, p.challenge_id, p.provider, p.step, p.hashes, p.signed, p.state, p.code, p.sent_at, p.answer_by, p.ended_at,
       p.resolution, p.note, p.resolved_at, c.company_id
FROM provider_call p JOIN credential c ON c.id = p.credential_id WHERE p.id = @id;

-- name: ListCalls :many
SELECT p.id, p.tenant_id, p.credential_id, p.challenge_id, p.provider, p.step, p.hashes, p.signed, p.state, p.code, p.sent_at, p.answer_by, p.ended_at,
       p.resolution, p.note, p.resolved_at, c.company_id
FROM provider_call p JOIN credential c ON c.id = p.credential_id
WHERE p.tenant_id = @tenant_id AND p.id < @before AND (@state::text = '' OR p.state = @state)
ORDER BY p.id DESC LIMIT @page;

-- name: ResolveCall :execrows
UPDATE provider_call SET state = 'RESOLVED', resolution = @resolution, note = @note, resolved_at = @at WHERE id = @id AND state = 'UNKNOWN';

-- name: CountHashes :exec
UPDATE provider_call SET hashes = @hashes WHERE id = @id;

-- name: MarkOtpSent :execrows
-- Not twice in a short while for the same key, whatever the challenge.
UPDATE provider_session se SET otp_sent_at = @at WHERE se.challenge_id = @challenge_id
  AND NOT EXISTS (SELECT 1 FROM provider_session o WHERE o.holding_id = se.holding_id AND o.otp_sent_at > @before);

-- name: UnmarkOtpSent :exec
UPDATE provider_session SET otp_sent_at = NULL WHERE challenge_id = @challenge_id AND otp_sent_at = @at;

-- name: InsertHolder :exec
INSERT INTO credential_holder (credential_id, tenant_id, holder, created_at) VALUES (@credential_id, @tenant_id, @holder, @at);

-- name: HolderOfHeld :one
SELECT holder FROM credential_holder WHERE credential_id = @credential_id;
