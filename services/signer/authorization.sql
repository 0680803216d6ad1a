-- Authorization of signatures by PIN and one-time password. Each step that must happen once is one
-- statement with its whole condition in it: two that race, or that come after a restart, find it taken.

-- name: GetPin :one
SELECT credential_id, tenant_id, holder, salt, memory_kib, passes, mac, version, set_at, lanes
FROM credential_pin WHERE credential_id = @credential_id;

-- name: GetAsked :one
-- A personal credential with its PIN and its active device, and from when that may be used, in one look. Nothing when one
-- of the three is not there: who wants to know which, reads them one by one.
SELECT sqlc.embed(c), sqlc.embed(p), sqlc.embed(d), k.usable_from
FROM credential c
JOIN credential_pin p ON p.credential_id = c.id
JOIN otp_device d ON d.credential_id = c.id AND d.state = 'ACTIVE'
LEFT JOIN otp_device_cooling k ON k.device_id = d.id
WHERE c.id = @credential_id;

-- name: InsertPin :execrows
-- The first PIN of a credential that is not revoked. There is no second first one.
INSERT INTO credential_pin (credential_id, tenant_id, holder, salt, memory_kib, passes, lanes, mac, set_at)
SELECT c.id, c.tenant_id, @holder, @salt, @memory_kib, @passes, @lanes, @mac, @at
FROM credential c WHERE c.id = @credential_id AND c.kind = 'PERSON' AND c.state <> 'REVOKED'
ON CONFLICT (credential_id) DO NOTHING;

-- name: RehashPin :exec
-- The same PIN under newer parameters. Its version stays: what is being judged by the older ones is not wrong.
UPDATE credential_pin p SET salt = @salt, memory_kib = @memory_kib, passes = @passes, lanes = @lanes, mac = @mac
WHERE p.credential_id = @credential_id AND p.version = @version AND p.mac = @old_mac;

-- name: InsertGuard :exec
INSERT INTO authentication_guard (tenant_id, subject, allowed, window_end) VALUES (@tenant_id, @subject, @allowed, @at)
ON CONFLICT (tenant_id, subject) DO NOTHING;

-- name: ChangePin :execrows
UPDATE credential_pin p SET salt = @salt, memory_kib = @memory_kib, passes = @passes, lanes = @lanes, mac = @mac, version = p.version + 1, set_at = @at
WHERE p.credential_id = @credential_id AND p.version = @version
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = p.credential_id AND c.state <> 'REVOKED');

-- name: CountAttempt :many
-- Counts an attempt on every subject that is not locked, and locks those that have no more: twice as
-- long each time, up to 64 times. The rows are taken in one order, so that attempts at the same time
-- wait for each other and do not entangle; what is read here is what the one before left.
WITH held AS MATERIALIZED (
    SELECT h.subject, h.allowed, h.locks,
           CASE WHEN h.window_end <= @at OR h.locked_until IS NOT NULL THEN 1 ELSE h.failures + 1 END AS failures,
           CASE WHEN h.window_end <= @at OR h.locked_until IS NOT NULL THEN @next_window ELSE h.window_end END AS window_end
    FROM authentication_guard h
    WHERE h.tenant_id = @tenant_id AND h.subject = ANY(@subjects::text[]) AND (h.locked_until IS NULL OR h.locked_until <= @at)
    ORDER BY h.subject FOR UPDATE
)
UPDATE authentication_guard g SET
    failures = held.failures,
    window_end = held.window_end,
    locks = CASE WHEN held.failures >= held.allowed THEN held.locks + 1 ELSE held.locks END,
    locked_until = CASE WHEN held.failures >= held.allowed
                        THEN (@at::timestamptz) + interval '1 second' * (@lock_seconds::float8) * power(2, CASE WHEN held.locks > 6 THEN 6 ELSE held.locks END) END
FROM held
WHERE g.tenant_id = @tenant_id AND g.subject = held.subject
RETURNING g.subject;

-- name: LockedUntil :one
SELECT coalesce(max(locked_until), (@at::timestamptz))::timestamptz FROM authentication_guard
WHERE tenant_id = @tenant_id AND subject = ANY(@subjects::text[]) AND locked_until > (@at::timestamptz);

-- name: ForgiveAttempt :exec
-- Takes an attempt back that was not judged, or was right: on the credential nothing is held against
-- it any more after a success, on the holder only this attempt is forgiven.
UPDATE authentication_guard g SET
    failures = CASE WHEN g.subject = @cleared THEN 0 ELSE greatest(g.failures - 1, 0) END,
    locks = CASE WHEN g.subject = @cleared THEN 0 WHEN g.locked_until IS NOT NULL AND g.failures <= g.allowed THEN greatest(g.locks - 1, 0) ELSE g.locks END,
    locked_until = CASE WHEN g.subject = @cleared OR g.failures <= g.allowed THEN NULL ELSE g.locked_until END
FROM (SELECT h.subject FROM authentication_guard h
      WHERE h.tenant_id = @tenant_id AND h.subject = ANY(@subjects::text[]) ORDER BY h.subject FOR UPDATE) AS held
WHERE g.tenant_id = @tenant_id AND g.subject = held.subject;

-- name: SpendPassword :execrows
-- A right password is spent, once and for all: whoever inserts the row has it. It is asked for a wrong
-- one too, so that both take as long. Rows are kept long beyond the time in which Vault could find the password right;
-- after that the same digits are another password, whose row takes the place of the older one's.
WITH old AS (
    DELETE FROM otp_spent o WHERE o.device_id = @device_id AND o.spent_at < @forget AND o.mac <> @mac
)
INSERT INTO otp_spent (tenant_id, device_id, mac, spent_at)
SELECT d.tenant_id, d.id, @mac, @at FROM otp_device d WHERE d.id = @device_id AND d.state <> 'REMOVED' AND (@otp_right::boolean)
ON CONFLICT (device_id, mac) DO UPDATE SET spent_at = excluded.spent_at WHERE otp_spent.spent_at < @forget;

-- name: GetDevice :one
SELECT id, tenant_id, credential_id, type, display_name, state, replaces, created_at, confirmed_at, removed_at, address
FROM otp_device WHERE id = @id;

-- name: ActiveDevice :one
SELECT id, tenant_id, credential_id, type, display_name, state, replaces, created_at, confirmed_at, removed_at, address
FROM otp_device WHERE credential_id = @credential_id AND state = 'ACTIVE';

-- name: ListDevices :many
SELECT id, tenant_id, credential_id, type, display_name, state, replaces, created_at, confirmed_at, removed_at, address
FROM otp_device WHERE credential_id = @credential_id AND id < @before ORDER BY id DESC LIMIT @page;

-- name: DropPendingDevice :many
-- An enrolment that begins ends the one that was not finished.
UPDATE otp_device SET state = 'REMOVED', removed_at = @at WHERE credential_id = @credential_id AND state = 'PENDING' RETURNING id;

-- name: InsertDevice :execrows
-- Beside no other active device than the one that it replaces.
INSERT INTO otp_device (id, tenant_id, credential_id, type, display_name, state, replaces, created_at, address)
SELECT @id, c.tenant_id, c.id, @type, @display_name, 'PENDING', sqlc.narg(replaces)::uuid, @at, @address
FROM credential c
WHERE c.id = @credential_id AND c.kind = 'PERSON' AND c.state <> 'REVOKED'
  AND (SELECT d.id FROM otp_device d WHERE d.credential_id = c.id AND d.state = 'ACTIVE') IS NOT DISTINCT FROM sqlc.narg(replaces)::uuid;

-- name: RemoveDevice :execrows
UPDATE otp_device SET state = 'REMOVED', removed_at = @at WHERE id = @id AND state = @state;

-- name: RemoveDevices :many
-- With the credential its devices end.
UPDATE otp_device SET state = 'REMOVED', removed_at = @at WHERE credential_id = @credential_id AND state <> 'REMOVED' RETURNING id;

-- name: ConfirmDevice :execrows
-- Only while no other device is active: the one that it replaces was removed a statement before.
UPDATE otp_device d SET state = 'ACTIVE', confirmed_at = @at
WHERE d.id = @id AND d.state = 'PENDING'
  AND NOT EXISTS (SELECT 1 FROM otp_device a WHERE a.credential_id = d.credential_id AND a.state = 'ACTIVE')
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = d.credential_id AND c.state <> 'REVOKED');

-- name: InsertChallenge :one
INSERT INTO challenge (id, tenant_id, credential_id, caller, hashes, digest, state, expires_at, created_at)
SELECT @id, c.tenant_id, c.id, @caller, @hashes::bytea[], @digest, 'OPEN', @expires_at, @at
FROM credential c WHERE c.id = @credential_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE' AND c.not_before <= @at AND c.not_after > @at
  AND NOT EXISTS (SELECT 1 FROM credential_successor x WHERE x.credential_id = c.id AND x.effective_from <= @at)
RETURNING id, tenant_id, credential_id, caller, hashes, digest, state, attempts, expires_at, device_id, authorization_sha256, request_id,
       signed_sha256, signed_sizes, signing_time, created_at, authorized_at, used_at, signed_at, output, holding_id, signing_id, signature_id;

-- name: GetChallenge :one
SELECT id, tenant_id, credential_id, caller, hashes, digest, state, attempts, expires_at, device_id, authorization_sha256, request_id,
       signed_sha256, signed_sizes, signing_time, created_at, authorized_at, used_at, signed_at, output, holding_id, signing_id, signature_id
FROM challenge WHERE id = @id AND credential_id = @credential_id AND caller = @caller;

-- name: GetSigning :one
-- A challenge of the caller's with its credential, in one look.
SELECT sqlc.embed(c), sqlc.embed(ch)
FROM credential c JOIN challenge ch ON ch.credential_id = c.id
WHERE c.id = @credential_id AND ch.id = @id AND ch.caller = @caller;

-- name: TryChallenge :one
-- One attempt on a challenge; each has a few.
UPDATE challenge SET attempts = attempts + 1
WHERE id = @id AND credential_id = @credential_id AND state = 'OPEN' AND expires_at > @at AND attempts < @allowed AND caller = @caller
RETURNING id, tenant_id, credential_id, caller, hashes, digest, state, attempts, expires_at, device_id, authorization_sha256, request_id,
       signed_sha256, signed_sizes, signing_time, created_at, authorized_at, used_at, signed_at, output, holding_id, signing_id, signature_id;

-- name: GiveBackTry :exec
UPDATE challenge SET attempts = attempts - 1 WHERE id = @id AND state = 'OPEN' AND attempts > 0;

-- name: Authorize :execrows
-- The one step from a right PIN and password to an authorization: the password is spent by this
-- statement or it was spent before, the challenge is open, and credential, PIN and device are the
-- ones that were judged and still hold.
WITH old AS (
    DELETE FROM otp_spent o WHERE o.device_id = @device_id AND o.spent_at < @forget AND o.mac <> @mac
), spent AS (
    INSERT INTO otp_spent (tenant_id, device_id, mac, spent_at)
    SELECT d.tenant_id, d.id, @mac, @at FROM otp_device d WHERE d.id = @device_id AND d.state = 'ACTIVE' AND (@otp_right::boolean)
    ON CONFLICT (device_id, mac) DO UPDATE SET spent_at = excluded.spent_at WHERE otp_spent.spent_at < @forget -- see SpendPassword
    RETURNING device_id
)
UPDATE challenge ch SET state = 'AUTHORIZED', authorization_sha256 = @authorization_sha256, device_id = spent.device_id,
       authorized_at = @at, expires_at = @expires_at
FROM spent
WHERE ch.id = @id AND ch.state = 'OPEN' AND ch.expires_at > @at AND ch.caller = @caller AND @pin_right::boolean
  AND EXISTS (SELECT 1 FROM otp_device d WHERE d.id = spent.device_id AND d.credential_id = ch.credential_id AND d.state = 'ACTIVE')
  AND EXISTS (SELECT 1 FROM credential_pin p WHERE p.credential_id = ch.credential_id AND p.version = @pin_version)
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = ch.credential_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE');

-- name: UseAuthorization :one
-- The one use of an authorization, by one request.
UPDATE challenge ch SET state = 'SIGNING', request_id = @request_id, output = @output, used_at = @at, expires_at = @expires_at
WHERE ch.id = @id AND ch.credential_id = @credential_id AND ch.caller = @caller
  AND ch.state = 'AUTHORIZED' AND ch.authorization_sha256 = @authorization_sha256 AND ch.expires_at > @at
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = ch.credential_id AND c.kind = 'PERSON' AND c.state = 'ACTIVE')
RETURNING ch.id, ch.tenant_id, ch.credential_id, ch.caller, ch.hashes, ch.digest, ch.state, ch.attempts, ch.expires_at, ch.device_id, ch.authorization_sha256, ch.request_id,
       ch.signed_sha256, ch.signed_sizes, ch.signing_time, ch.created_at, ch.authorized_at, ch.used_at, ch.signed_at, ch.output, ch.holding_id, ch.signing_id, ch.signature_id;

-- name: RecordChallenge :one
-- All the signatures of a challenge or none, and only by a credential that is still active.
UPDATE challenge ch SET state = 'SIGNED', signed_sha256 = @signed_sha256::bytea[], signed_sizes = @signed_sizes::bigint[],
       signing_time = @signing_time, signed_at = @at
WHERE ch.id = @id AND ch.state = 'SIGNING' AND ch.request_id = @request_id AND ch.expires_at > @at
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = ch.credential_id AND c.state = 'ACTIVE')
RETURNING ch.id, ch.tenant_id, ch.credential_id, ch.caller, ch.hashes, ch.digest, ch.state, ch.attempts, ch.expires_at, ch.device_id, ch.authorization_sha256, ch.request_id,
       ch.signed_sha256, ch.signed_sizes, ch.signing_time, ch.created_at, ch.authorized_at, ch.used_at, ch.signed_at, ch.output, ch.holding_id, ch.signing_id, ch.signature_id;
