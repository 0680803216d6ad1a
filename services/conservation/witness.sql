-- name: AddCosignature :exec
INSERT INTO log_cosignature (size, witness, line, cosigned_at) VALUES (@size, @witness, @line, @at)
ON CONFLICT (size, witness) DO UPDATE SET line = excluded.line, cosigned_at = excluded.cosigned_at;

-- name: CosignaturesOf :many
SELECT size, witness, line FROM log_cosignature WHERE size = ANY(@sizes::bigint[]) ORDER BY size, witness;

-- name: SetWitness :exec
INSERT INTO log_witness (witness, size, cosigned_at, trouble) VALUES (@witness, @size, sqlc.narg('at'), @trouble)
ON CONFLICT (witness) DO UPDATE SET size = greatest(log_witness.size, excluded.size),
    cosigned_at = COALESCE(excluded.cosigned_at, log_witness.cosigned_at), trouble = excluded.trouble;

-- name: Witnesses :many
SELECT witness, size, cosigned_at, trouble FROM log_witness ORDER BY witness;

-- name: LastWithQuorum :one
-- The last checkpoint that enough of these witnesses cosigned.
SELECT c.size, c.note, c.signed_at, c.stamp, c.stamp_time, c.stamp_by FROM log_checkpoint c
JOIN log_cosignature s ON s.size = c.size AND s.witness = ANY(@witnesses::text[])
GROUP BY c.size HAVING count(*) >= @quorum::bigint ORDER BY c.size DESC LIMIT 1;

-- name: Unwitnessed :one
SELECT since, reason FROM log_unwitnessed;

-- name: BeginUnwitnessed :execrows
INSERT INTO log_unwitnessed (since, reason) VALUES (@since, @reason) ON CONFLICT DO NOTHING;

-- name: EndUnwitnessed :many
DELETE FROM log_unwitnessed RETURNING since;

-- name: UntoldTenants :many
-- Tenants with leaves in a checkpoint who were not told of it, with the number of their last leaf in it.
SELECT t.tenant_id, l.sequence FROM log_tenant t
CROSS JOIN LATERAL (SELECT sequence FROM log_leaf WHERE tenant_id = t.tenant_id AND idx < @size::bigint ORDER BY sequence DESC LIMIT 1) AS l
WHERE NOT EXISTS (SELECT 1 FROM log_statement s WHERE s.tenant_id = t.tenant_id AND s.size >= @size::bigint)
ORDER BY t.tenant_id LIMIT @page;

-- name: SetTold :exec
INSERT INTO log_statement (tenant_id, size, told_at) SELECT unnest(@tenants::text[]), @size, @at
ON CONFLICT (tenant_id) DO UPDATE SET size = excluded.size, told_at = excluded.told_at;
