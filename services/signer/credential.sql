-- Suspension, renewal and expiry of credentials.

-- name: SuspendCredential :execrows
UPDATE credential SET state = 'SUSPENDED', version = version + 1, updated_at = @at WHERE id = @id AND state = 'ACTIVE';

-- name: InsertSuspension :exec
INSERT INTO credential_suspension (credential_id, tenant_id, reason, suspended_at) VALUES (@credential_id, @tenant_id, @reason, @at);

-- name: ReactivateCredential :execrows
UPDATE credential SET state = 'ACTIVE', version = version + 1, updated_at = @at WHERE id = @id AND state = 'SUSPENDED';

-- name: EndSuspension :exec
DELETE FROM credential_suspension WHERE credential_id = @credential_id;

-- name: GetSuspension :one
SELECT credential_id, tenant_id, reason, suspended_at FROM credential_suspension WHERE credential_id = @credential_id;

-- name: PutRenewal :exec
INSERT INTO credential_renewal (credential_id, tenant_id, key_version, public_key, csr_pem, created_at)
VALUES (@credential_id, @tenant_id, @key_version, @public_key, @csr_pem, @at)
ON CONFLICT (credential_id) DO UPDATE SET key_version = excluded.key_version, public_key = excluded.public_key,
       csr_pem = excluded.csr_pem, created_at = excluded.created_at;

-- name: GetRenewal :one
SELECT credential_id, tenant_id, key_version, public_key, csr_pem, created_at FROM credential_renewal WHERE credential_id = @credential_id;

-- name: EndRenewal :exec
DELETE FROM credential_renewal WHERE credential_id = @credential_id;

-- name: DropNextCertificate :exec
UPDATE credential_certificate SET dropped_at = @at WHERE credential_id = @credential_id AND used_from IS NULL AND dropped_at IS NULL;

-- name: InsertCertificate :exec
INSERT INTO credential_certificate (id, tenant_id, credential_id, key_version, public_key, csr_pem, chain, not_before, not_after, imported_at, used_from)
VALUES (@id, @tenant_id, @credential_id, @key_version, @public_key, @csr_pem, @chain, @not_before, @not_after, @at, sqlc.narg(used_from)::timestamptz);

-- name: ListCertificates :many
SELECT id, tenant_id, credential_id, key_version, public_key, csr_pem, chain, not_before, not_after, imported_at, used_from, dropped_at
FROM credential_certificate WHERE credential_id = @credential_id ORDER BY imported_at DESC, id DESC;

-- name: DueCertificates :many
-- Those that have become valid and are to sign from now on.
SELECT id, tenant_id, credential_id, key_version, public_key, csr_pem, chain, not_before, not_after, imported_at, used_from, dropped_at
FROM credential_certificate WHERE used_from IS NULL AND dropped_at IS NULL AND not_before <= @at ORDER BY not_before LIMIT 100;

-- name: UseCertificate :execrows
UPDATE credential_certificate SET used_from = @at WHERE id = @id AND used_from IS NULL AND dropped_at IS NULL;

-- name: DueWarnings :many
-- Warnings not yet given, by the nearest of the marks that a certificate has passed, where no other one waits.
-- Marks further away are given with it, so that a house that was shut for a month hears once. None where another credential has
-- the place, or is to take it before the end and can.
SELECT c.id, c.tenant_id, c.company_id, c.common_name, c.not_after::timestamptz AS not_after, m.days::integer AS days
FROM credential c
CROSS JOIN LATERAL (SELECT min(d) AS days FROM unnest(@marks::integer[]) AS d WHERE c.not_after <= (@at::timestamptz) + d * interval '1 day') m
WHERE c.state IN ('ACTIVE', 'SUSPENDED') AND c.not_after > (@at::timestamptz) AND m.days IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM credential_certificate n WHERE n.credential_id = c.id AND n.used_from IS NULL AND n.dropped_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM credential_successor s JOIN credential n ON n.id = s.successor_id WHERE s.credential_id = c.id
                    AND (s.effective_from <= (@at::timestamptz) OR (s.effective_from <= c.not_after AND n.state = 'ACTIVE' AND n.not_after > c.not_after)))
  AND NOT EXISTS (SELECT 1 FROM credential_warning w WHERE w.credential_id = c.id AND w.not_after = c.not_after AND w.days <= m.days)
ORDER BY c.not_after, c.id LIMIT 200;

-- name: InsertWarning :execrows
INSERT INTO credential_warning (tenant_id, credential_id, not_after, days, warned_at)
VALUES (@tenant_id, @credential_id, @not_after, @days, @at)
ON CONFLICT DO NOTHING;

-- name: ListExpiring :many
-- What DueWarnings may warn of.
SELECT c.id, c.not_after::timestamptz AS not_after, coalesce(w.days, 0)::integer AS warned_days, coalesce(w.warned_at, 'epoch')::timestamptz AS warned_at
FROM credential c
LEFT JOIN LATERAL (SELECT x.days, x.warned_at FROM credential_warning x WHERE x.credential_id = c.id AND x.not_after = c.not_after ORDER BY x.days LIMIT 1) w ON true
WHERE (@tenant_id::text = '' OR c.tenant_id = @tenant_id) AND c.state IN ('ACTIVE', 'SUSPENDED') AND c.not_after <= @until
  AND (c.not_after, c.id) > (@after_time::timestamptz, @after_id::uuid)
  AND NOT EXISTS (SELECT 1 FROM credential_successor s JOIN credential n ON n.id = s.successor_id WHERE s.credential_id = c.id
                    AND (s.effective_from <= (@at::timestamptz) OR (s.effective_from <= c.not_after AND n.state = 'ACTIVE' AND n.not_after > c.not_after)))
  AND NOT EXISTS (SELECT 1 FROM credential_certificate n WHERE n.credential_id = c.id AND n.used_from IS NULL AND n.dropped_at IS NULL)
ORDER BY c.not_after, c.id LIMIT @page;

-- name: KeysInUse :many
-- Credentials whose key in Vault is to be looked at.
SELECT id, tenant_id, company_id, kind, key_type, common_name, state, key_name, key_version, public_key, csr_pem, chain,
       not_before, not_after, version, created_at, updated_at, provider, qualified
FROM credential WHERE state = 'ACTIVE' AND provider = '' AND id > @after ORDER BY id LIMIT 200;

-- name: CertificatesInUse :many
-- Credentials whose certificate is to be asked about.
SELECT id, tenant_id, company_id, kind, key_type, common_name, state, key_name, key_version, public_key, csr_pem, chain,
       not_before, not_after, version, created_at, updated_at, provider, qualified
FROM credential WHERE state = 'ACTIVE' AND cardinality(chain) > 1 AND id > @after ORDER BY id LIMIT 200;

-- name: PutSuccessor :execrows
-- One that is in force stays.
INSERT INTO credential_successor (credential_id, tenant_id, successor_id, effective_from, created_at)
VALUES (@credential_id, @tenant_id, @successor_id, @effective_from, @at)
ON CONFLICT (credential_id) DO UPDATE SET successor_id = excluded.successor_id, effective_from = excluded.effective_from, created_at = excluded.created_at
WHERE credential_successor.effective_from > @at;

-- name: EndSuccessor :execrows
DELETE FROM credential_successor WHERE credential_id = @credential_id;

-- name: GetSuccessor :one
SELECT sqlc.embed(c), s.effective_from FROM credential_successor s JOIN credential c ON c.id = s.successor_id WHERE s.credential_id = @credential_id;

-- name: SuccessorAt :one
-- Who has taken its place in the end.
WITH RECURSIVE line AS (
    SELECT s.successor_id, 1 AS n FROM credential_successor s WHERE s.credential_id = @credential_id AND s.effective_from <= @at::timestamptz
    UNION ALL
    SELECT s.successor_id, line.n + 1 FROM line JOIN credential_successor s ON s.credential_id = line.successor_id WHERE s.effective_from <= @at::timestamptz AND line.n < 100
)
SELECT c.id, c.tenant_id, c.company_id, c.kind, c.key_type, c.common_name, c.state, c.key_name, c.key_version, c.public_key, c.csr_pem, c.chain,
       c.not_before, c.not_after, c.version, c.created_at, c.updated_at, c.provider, c.qualified
FROM line JOIN credential c ON c.id = line.successor_id ORDER BY line.n DESC LIMIT 1;

-- name: TookPlace :one
-- Whether a credential has taken another's place, now or before one that has it now.
WITH RECURSIVE line AS (
    SELECT s.successor_id, 1 AS n FROM credential_successor s WHERE s.credential_id = @credential_id AND s.effective_from <= @at::timestamptz
    UNION ALL
    SELECT s.successor_id, line.n + 1 FROM line JOIN credential_successor s ON s.credential_id = line.successor_id WHERE s.effective_from <= @at::timestamptz AND line.n < 100
)
SELECT EXISTS (SELECT 1 FROM line JOIN credential c ON c.id = line.successor_id WHERE c.id = @successor_id::uuid AND c.company_id = @company_id);

-- name: Follows :one
-- Whether a credential takes another's place, now or later.
WITH RECURSIVE line AS (
    SELECT s.successor_id, 1 AS n FROM credential_successor s WHERE s.credential_id = @credential_id
    UNION ALL
    SELECT s.successor_id, line.n + 1 FROM line JOIN credential_successor s ON s.credential_id = line.successor_id WHERE line.n < 100
)
SELECT EXISTS (SELECT 1 FROM line WHERE line.successor_id = @successor_id::uuid);
