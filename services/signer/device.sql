-- Apps that approve, hardware tokens, holders' contacts. What happens once is one statement, as in
-- authorization.sql.

-- name: InsertPushKey :exec
INSERT INTO push_key (device_id, tenant_id, public_key) VALUES (@device_id, @tenant_id, @public_key);

-- name: GetPushKey :one
SELECT public_key FROM push_key WHERE device_id = @device_id;

-- name: SupersedePush :exec
-- A device has one question at a time: the next ends the one before, which stays a counted attempt.
UPDATE push_request SET state = 'SUPERSEDED' WHERE device_id = @device_id AND state = 'PENDING';

-- name: InsertPush :execrows
INSERT INTO push_request (id, tenant_id, credential_id, device_id, binding, number_mac, hashes, digest, state, created_at, expires_at)
SELECT @id, d.tenant_id, d.credential_id, d.id, @binding, @number_mac, @hashes::bytea[], @digest, 'PENDING', @at, @expires_at
FROM otp_device d WHERE d.id = @device_id AND d.type = 'PUSH' AND d.state = 'ACTIVE';

-- name: GetPush :one
SELECT id, tenant_id, credential_id, device_id, binding, number_mac, hashes, digest, state, signature, created_at, expires_at, answered_at, used_at
FROM push_request WHERE id = @id AND credential_id = @credential_id;

-- name: PendingPush :many
SELECT id, tenant_id, credential_id, device_id, binding, number_mac, hashes, digest, state, signature, created_at, expires_at, answered_at, used_at
FROM push_request WHERE device_id = @device_id AND state = 'PENDING' AND expires_at > @at;

-- name: AnswerPush :many
-- The one answer to a question, by a device that is still the active one of a credential that still is one.
UPDATE push_request p SET answered_at = @at, signature = @signature,
       state = CASE WHEN @refuse::boolean THEN 'REFUSED' WHEN p.number_mac = @number_mac THEN 'APPROVED' ELSE 'WRONG_NUMBER' END
WHERE p.id = @id AND p.state = 'PENDING' AND p.expires_at > @at
  AND EXISTS (SELECT 1 FROM otp_device d WHERE d.id = p.device_id AND d.state = 'ACTIVE')
  AND EXISTS (SELECT 1 FROM credential c WHERE c.id = p.credential_id AND c.state NOT IN ('REVOKED', 'SUSPENDED'))
RETURNING p.state;

-- name: UsePush :execrows
-- The one use of an approval, for what it was asked for.
UPDATE push_request SET state = 'USED', used_at = @at
WHERE id = @id AND device_id = @device_id AND binding = @binding AND state = 'APPROVED' AND expires_at > @at;

-- name: InsertToken :execrows
INSERT INTO oath_token (id, tenant_id, serial, kind, algorithm, digits, period, counter, imported_at)
VALUES (@id, @tenant_id, @serial, @kind, @algorithm, @digits, @period, @counter, @at)
ON CONFLICT (tenant_id, serial) DO NOTHING;

-- name: GetToken :one
SELECT id, tenant_id, serial, kind, algorithm, digits, period, counter, drift, device_id, imported_at, retired_at
FROM oath_token WHERE id = @id;

-- name: TokenOfDevice :one
SELECT id, tenant_id, serial, kind, algorithm, digits, period, counter, drift, device_id, imported_at, retired_at
FROM oath_token WHERE device_id = @device_id;

-- name: ListTokens :many
SELECT t.id, t.tenant_id, t.serial, t.kind, t.algorithm, t.digits, t.period, t.counter, t.drift, t.device_id, t.imported_at, t.retired_at,
       c.id AS credential_id, coalesce(c.company_id, '') AS company_id
FROM oath_token t LEFT JOIN otp_device d ON d.id = t.device_id AND d.state <> 'REMOVED' LEFT JOIN credential c ON c.id = d.credential_id
WHERE t.tenant_id = @tenant_id AND t.id < @before ORDER BY t.id DESC LIMIT @page;

-- name: AssignToken :execrows
-- A token is one device's at a time. Its counter stays: the next holder cannot be served codes of the last one.
UPDATE oath_token t SET device_id = @device_id
WHERE t.tenant_id = @tenant_id AND t.serial = @serial AND t.retired_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM otp_device d WHERE d.id = t.device_id AND d.state <> 'REMOVED');

-- name: AdvanceToken :execrows
-- The one acceptance of a code: whoever moves the counter past it has it, and nobody after.
UPDATE oath_token SET counter = @next, drift = @drift
WHERE id = @id AND counter <= @accepted AND retired_at IS NULL;

-- name: RetireToken :execrows
UPDATE oath_token t SET retired_at = @at
WHERE t.id = @id AND t.retired_at IS NULL
  AND NOT EXISTS (SELECT 1 FROM otp_device d WHERE d.id = t.device_id AND d.state <> 'REMOVED');

-- name: InsertCooling :exec
INSERT INTO otp_device_cooling (device_id, tenant_id, usable_from) VALUES (@device_id, @tenant_id, @usable_from);

-- name: GetCooling :one
SELECT usable_from FROM otp_device_cooling WHERE device_id = @device_id;

-- name: PutContact :exec
INSERT INTO holder_contact (credential_id, tenant_id, email, phone, updated_at)
VALUES (@credential_id, @tenant_id, @email, @phone, @at)
ON CONFLICT (credential_id) DO UPDATE SET email = excluded.email, phone = excluded.phone, updated_at = excluded.updated_at;

-- name: GetContact :one
SELECT credential_id, tenant_id, email, phone, updated_at FROM holder_contact WHERE credential_id = @credential_id;
