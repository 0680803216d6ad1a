-- name: DepositUnderWay :one
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND client_key = @client_key AND state = 'RECEIVING' FOR UPDATE;

-- name: LastDeposit :one
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND client_key = @client_key ORDER BY attempt DESC LIMIT 1;

-- name: HeldDeposit :one
-- The deposit that holds a key.
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND client_key = @client_key AND state = 'ACCEPTED' ORDER BY attempt LIMIT 1;

-- name: SameDeposit :one
-- A deposit of that key that ended with these bytes taken in.
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND client_key = @client_key AND sha256 = @sha256 AND state = 'ACCEPTED' ORDER BY attempt LIMIT 1;

-- name: CountRefusals :one
SELECT count(*) FROM deposit WHERE tenant_id = @tenant_id AND client_key = @client_key AND state = 'REFUSED' AND resolution = '';

-- name: InsertDeposit :exec
INSERT INTO deposit (id, tenant_id, client_key, attempt, kind, state, file_name, size, sha256, class, fiscal_year, head, deposited_by, created_at)
VALUES (@id, @tenant_id, @client_key, @attempt, @kind, 'RECEIVING', @file_name, @size, @sha256, @class, @fiscal_year, @head, @deposited_by, @created_at);

-- name: GetDeposit :one
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND id = @id;

-- name: LockDeposit :one
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND id = @id FOR UPDATE;

-- name: ListDeposits :many
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND id < @before AND (@state::text = '' OR state = @state) ORDER BY id DESC LIMIT @page;

-- name: ListConflictDeposits :many
SELECT * FROM deposit WHERE tenant_id = @tenant_id AND (state = 'CONFLICT' OR resolution <> '') ORDER BY id DESC LIMIT 1000;

-- name: ReceiveDepositPart :execrows
-- Adds a part where the upload stands; none when another call was there first.
WITH d AS (
    UPDATE deposit SET received = received + @size::bigint WHERE id = @deposit AND state = 'RECEIVING' AND received = @place
    RETURNING id, tenant_id
)
INSERT INTO deposit_part (deposit_id, place, tenant_id, sha256, size) SELECT d.id, @place, d.tenant_id, @sha256, @size FROM d;

-- name: DepositParts :many
SELECT * FROM deposit_part WHERE deposit_id = @deposit ORDER BY place;

-- name: AcceptDeposit :execrows
UPDATE deposit SET state = 'ACCEPTED', unit_id = @unit, format = @format, verification = @verification, ended_at = @at,
    resolution = @resolution, resolved_by = @resolved_by, reason = @reason
WHERE id = @id AND state IN ('RECEIVING', 'CONFLICT');

-- name: RefuseDeposit :execrows
UPDATE deposit SET state = 'REFUSED', format = @format, problems = @problems, verification = @verification, ended_at = @at,
    resolution = @resolution, resolved_by = @resolved_by, reason = @reason
WHERE id = @id AND state IN ('RECEIVING', 'CONFLICT');

-- name: ContestDeposit :execrows
UPDATE deposit SET state = 'CONFLICT', format = @format, verification = @verification, ended_at = @at, reason = @reason WHERE id = @id AND state = 'RECEIVING';

-- name: SetDepositReport :execrows
UPDATE deposit SET report = @report, stamp = @stamp, stamped_at = @at, report_id = sqlc.narg('report_object'), stamp_id = sqlc.narg('stamp_object'), written = NULL, unstamped = NULL
WHERE id = @id AND report IS NULL;

-- name: KeepWrittenDeposit :one
-- The report as it was written first; no row: it is made already.
UPDATE deposit SET written = COALESCE(written, @content::bytea) WHERE id = @id AND report IS NULL RETURNING written;

-- name: KeepUnstampedDeposit :exec
UPDATE deposit SET unstamped = @signed WHERE id = @id AND report IS NULL AND unstamped IS NULL;

-- name: UnitOfKey :one
SELECT id, state FROM unit WHERE tenant_id = @tenant_id AND unit_key = @unit_key;

-- name: FateOfKey :one
-- The unit that holds a key, if there is one, and whether a document of that key was destroyed.
SELECT coalesce(u.id, '00000000-0000-0000-0000-000000000000')::uuid AS id, coalesce(u.state, '')::text AS state,
       EXISTS (SELECT 1 FROM destroyed_key d WHERE d.tenant_id = k.tenant_id AND d.key_sha256 = sha256(convert_to(k.tenant_id || E'\n' || k.unit_key, 'UTF8'))) AS destroyed
FROM (SELECT @tenant_id::text AS tenant_id, @unit_key::text AS unit_key) AS k LEFT JOIN unit u ON u.tenant_id = k.tenant_id AND u.unit_key = k.unit_key;
