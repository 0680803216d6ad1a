-- name: InsertRevocationList :execrows
INSERT INTO trust_revocation (sha256, issuer, list, this_update, next_update, create_time)
VALUES (@sha256, @issuer, @list, @this_update, sqlc.narg(next_update), @create_time)
ON CONFLICT DO NOTHING;

-- name: ListRevocationLists :many
SELECT * FROM trust_revocation ORDER BY this_update DESC LIMIT @most;
